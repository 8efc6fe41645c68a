"""A recorded session, read back for a replay: its events that count, run by run, and how two are compared.

A log that was written with `deltas="none"` lacks the previews of the answers, and only these (`lineage.py` sees
to that): in a recording, a gap stands for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import msgspec

from agentkit_loop.content import AppendText
from agentkit_loop.errors import ResumeError
from agentkit_loop.events import (
    PAYLOAD_FIELDS,
    AgentEvent,
    BudgetExceeded,
    BudgetWarning,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunStarted,
    ToolCallRequested,
    UsageUpdated,
    is_redacted,
)
from agentkit_loop.models.protocol import Answer
from agentkit_loop.resuming import read_history
from agentkit_loop.values import JSON

MAX_GAPS = 1_000_000
"""Previews of a session that a log may lack to be replayed: for each, the replay counts one event."""

_GAP = AppendText("", "")
_MAX_NAME = 60  # characters of a tool's name, or of a call's id, in a difference
_BLANK = frozenset({"duration_ms", "first_content_ms", "observers", "resumed_run"})
"""Payload fields that are times, durations, run ids or statistics of observers."""


@attrs.frozen(kw_only=True)
class Recording:
    """The events of one session, over all its runs, without what a resume superseded.

    starts: the places of each RunStarted among the events. is_redacted: whether something was masked.
    """

    session_id: str
    events: tuple[AgentEvent, ...]
    starts: tuple[int, ...]
    is_redacted: bool

    @property
    def told_count(self) -> int:
        """How many events the log holds of it."""
        return sum(not is_gap(event) for event in self.events)

    def run(self, number: int) -> RunStarted:
        """Return the event that opened a run, counted from 0."""
        started = self.events[self.starts[number]]
        assert isinstance(started, RunStarted)  # noqa: S101 - so `starts` was made
        return started

    def end_of(self, number: int) -> int:
        """Return the place after a run's last event; what a resume told of it is among them."""
        return self.starts[number + 1] if number + 1 < len(self.starts) else len(self.events)


def read_recording(events: Iterable[AgentEvent] | Recording, *, session_id: str | None = None) -> Recording:
    """Read a session back. Raises ResumeError for events that do not fit together.

    events: in the order of the log. session_id: which session, where they hold several.
    """
    if isinstance(events, Recording):
        return events
    counted: list[AgentEvent] = []
    read_history(events, session_id=session_id, tell=counted.append)
    told = _with_gaps(counted)
    return Recording(
        session_id=told[0].session_id,
        events=tuple(told),
        starts=tuple(place for place, event in enumerate(told) if isinstance(event, RunStarted)),
        is_redacted=any(map(is_redacted, told)),
    )


def is_gap(event: AgentEvent) -> bool:
    """Whether the event stands for a preview that the log lacks."""
    return isinstance(event, ContentDelta) and event.delta is _GAP


def named_event(event: AgentEvent, recorded: Iterable[AgentEvent]) -> str:
    """Return an event's type, with its tool and call: `approval_required (pay, call-1)`.

    recorded: the events in which the call was asked for, where the event itself does not name its tool.
    """
    call = event.call if isinstance(event, ToolCallRequested) else None
    call_id = getattr(event, "call_id", None) if call is None else call.id
    if not isinstance(call_id, str):
        return event.type
    asked = (each.call for each in recorded if isinstance(each, ToolCallRequested))
    name = next((each.name for each in asked if each.id == call_id), None) if call is None else call.name
    return f"{event.type} ({', '.join(text[:_MAX_NAME] for text in (name, call_id) if text)})"


def answer_at(events: tuple[AgentEvent, ...], place: int) -> Answer:
    """Return the answer whose last word on usage is told at a place; it may have been broken off after that."""
    usage = events[place]
    assert isinstance(usage, UsageUpdated)  # noqa: S101 - the caller looked
    for number in range(place + 1, len(events)):
        event = events[number]
        if isinstance(event, (ModelRequestFailed, ModelRequestStarted, RunStarted)):
            break
        if isinstance(event, ModelRequestFinished) and event.request_id == usage.request_id:
            return Answer(
                finish_reason=event.finish_reason,
                usage=usage.usage,
                response_id=event.response_id,
                response_model=event.response_model,
                stop_details=_stop_details(events, number, event.finish_reason),
            )
    return Answer(finish_reason="", usage=usage.usage)


def _stop_details(
    events: tuple[AgentEvent, ...], finished: int, finish_reason: str
) -> dict[str, JSON] | None:
    """Return what the provider said of its reason: the warning right after the request's end."""
    for event in events[finished + 1 :]:
        if event.type == "observer_failed":
            continue
        code, details = getattr(event, "code", None), getattr(event, "details", None)
        return details if event.type == "warning" and code == finish_reason and details else None
    return None


def comparable(event: AgentEvent) -> dict[str, Any]:
    """Return what of an event is the same in every replay, as JSON.

    Left out or blank: `run_id`, `resumed_run` and a parent's run; `timestamp`, a cost's `priced_at`, and what a
    limit of seconds `used`; `duration_ms` and `first_content_ms`; the statistics of observers; what a newer
    version wrote besides, or a redaction.
    """
    return {
        "type": event.type,
        "session_id": event.session_id,
        "turn_id": event.turn_id,
        "seq": event.seq,
        **comparable_payload(event),
    }


def comparable_payload(event: AgentEvent) -> dict[str, Any]:
    """Return the same without the header; of an event that may not be told yet."""
    told: dict[str, Any] = {
        name: None if name in _BLANK else msgspec.to_builtins(getattr(event, name))
        for name in PAYLOAD_FIELDS[type(event)]
    }
    if isinstance(event, RunStarted) and event.parent is not None:
        told["parent"]["run_id"] = None
    if isinstance(event, UsageUpdated) and event.cost is not None:
        told["cost"]["priced_at"] = None
    if isinstance(event, (BudgetWarning, BudgetExceeded)) and event.limit == "max_seconds":
        told["used"] = None
    return told


def _with_gaps(counted: list[AgentEvent]) -> list[AgentEvent]:
    """Return the events that count, and a gap for each preview that is missing between two of them."""
    missing = counted[-1].seq - len(counted)
    if not missing:
        return counted
    if missing > MAX_GAPS:
        raise ResumeError(
            f"session {counted[0].session_id}: {missing:,} previews are missing; a replay takes {MAX_GAPS:,} at most"
        )
    told: list[AgentEvent] = []
    request_id = ""
    for event in counted:
        while len(told) + 1 < event.seq:
            told.append(_gap_before(event, len(told) + 1, request_id))
        told.append(event)
        if isinstance(event, ModelRequestStarted):
            request_id = event.request_id
    return told


def _gap_before(event: AgentEvent, seq: int, request_id: str) -> ContentDelta:
    return ContentDelta(
        session_id=event.session_id,
        run_id=event.run_id,
        turn_id=event.turn_id,
        seq=seq,
        timestamp=event.timestamp,
        request_id=request_id,
        delta=_GAP,
    )
