"""The normal form of recorded events: what of a run is the same every time, as a log that can be read.

Fixed: timestamps, measured durations, the pause before a retry (it depends on chance), when a cost was priced and by
which table, what a limit of seconds used. Named by the order of their first appearance: sessions (`ses-1`), runs,
calls, the ids of answers. Left out: pieces of streamed text, reports on usage that a later one of
their request replaced, statistics of observers, frames of errors, in which trace a run stood, what a newer version
wrote besides. In one order: what ran at the same time (`call_order.py`). What is left is numbered anew. Costs, tokens
and digests stay.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import msgspec

from agentkit_loop.content import AppendBytes, AppendText, CommitPart, Item, ToolCallPart, ToolResultPart
from agentkit_loop.events import (
    PAYLOAD_FIELDS,
    AgentEvent,
    BudgetExceeded,
    BudgetWarning,
    ContentDelta,
    UnknownEvent,
    UsageUpdated,
)
from agentkit_loop.trace_context import TRACEPARENT, TRACESTATE
from agentkit_loop.usage import Cost, ErrorInfo
from agentkit_reporting.testing.call_order import in_call_order

__all__ = ["MARK_MS", "MARK_TIME", "normal_form"]

MARK_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""Stands for every moment."""

MARK_MS = 1.0
"""Stands for every duration that was measured, in milliseconds."""

_MEASURED = frozenset({"duration_ms", "first_content_ms", "delay_ms"})
_OF_THE_TRACE = frozenset({TRACEPARENT, TRACESTATE})


def normal_form(events: Iterable[AgentEvent]) -> list[AgentEvent]:
    """Return the events in normal form, valid events in their order; that of a normal form is itself."""
    told = in_call_order(_without_previews(events))
    names = _Names()
    numbers = _numbers(told)
    return [_normal(event, names, numbers) for event in told]


def _without_previews(events: Iterable[AgentEvent]) -> list[AgentEvent]:
    """Leave out pieces of streams, and reports on usage that were replaced."""
    kept = [
        event
        for event in events
        if not (isinstance(event, ContentDelta) and isinstance(event.delta, (AppendText, AppendBytes)))
    ]
    last = {
        (event.session_id, event.request_id): place
        for place, event in enumerate(kept)
        if isinstance(event, UsageUpdated)
    }
    return [
        event
        for place, event in enumerate(kept)
        if not isinstance(event, UsageUpdated) or last[event.session_id, event.request_id] == place
    ]


class _Numbers:
    """New numbers for the events that are left, of each session from 1 on."""

    def __init__(self) -> None:
        self._of: dict[str, dict[int, int]] = {}
        self._count: dict[str, int] = {}

    def give(self, event: AgentEvent) -> None:
        """Give the next event its number."""
        count = self._count[event.session_id] = self._count.get(event.session_id, 0) + 1
        self._of.setdefault(event.session_id, {}).setdefault(event.seq, count)

    def of(self, session_id: str, seq: int) -> int:
        """Return the new number of an event; of one that was left out, that of the last one before it."""
        found = self._of.get(session_id, {}).get(seq)
        return self.up_to(session_id, seq) if found is None else found

    def up_to(self, session_id: str, seq: int) -> int:
        """Return the highest new number of the events up to an old number; 0 before the first."""
        of_session = self._of.get(session_id, {})
        return max((new for old, new in of_session.items() if old <= seq), default=0)


def _numbers(events: Sequence[AgentEvent]) -> _Numbers:
    numbers = _Numbers()
    for event in events:
        numbers.give(event)
    return numbers


class _Names:
    """Names for ids, counted by the order of their first appearance."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, str]] = {}
        self.told: dict[str, int] = {}  # events of each session so far

    def name(self, prefix: str, found: str) -> str:
        """Return the name of an id; an empty one stays empty."""
        if not found:
            return found
        names = self._of.setdefault(prefix, {})
        return names.setdefault(found, f"{prefix}-{len(names) + 1}")

    def known(self, text: str) -> str:
        """Return the name of a session or a run that was told of; other text as it is."""
        for prefix in ("ses", "run"):
            found = self._of.get(prefix, {}).get(text)
            if found is not None:
                return found
        return text


def _normal(event: AgentEvent, names: _Names, numbers: _Numbers) -> AgentEvent:
    session_id = names.name("ses", event.session_id)
    seq = names.told[session_id] = names.told.get(session_id, 0) + 1
    values: dict[str, Any] = {
        "session_id": session_id,
        "run_id": names.name("run", event.run_id),
        "seq": seq,
        "timestamp": MARK_TIME,
        "unknown_fields": None,
    }
    if not isinstance(event, UnknownEvent):
        for name in PAYLOAD_FIELDS[type(event)]:
            values[name] = _value(name, getattr(event, name), names)
    old = getattr(event, "event_seq", None)
    if old is not None:
        values["event_seq"] = numbers.of(event.session_id, old)
    old = getattr(event, "resumed_after", None)
    if old is not None:
        values["resumed_after"] = numbers.up_to(event.session_id, old)
    if isinstance(event, (BudgetWarning, BudgetExceeded)) and event.limit == "max_seconds":
        values["used"] = event.allowed
    return attrs.evolve(event, **values)


def _value(name: str, value: Any, names: _Names) -> Any:
    if name in _MEASURED:
        return None if value is None else MARK_MS
    change = _BY_NAME.get(name)
    if change is not None:
        return None if value is None else change(value, names)
    if isinstance(value, ErrorInfo):
        return msgspec.structs.replace(value, frames=())
    if isinstance(value, Cost):
        return msgspec.structs.replace(value, priced_at=MARK_TIME, source="prices")
    return value


def _named(prefix: str) -> Callable[[Any, _Names], Any]:
    return lambda value, names: names.name(prefix, value)


def _parent(value: Any, names: _Names) -> Any:
    return msgspec.structs.replace(
        value,
        session_id=names.name("ses", value.session_id),
        run_id=names.name("run", value.run_id),
        call_id=names.name("call", value.call_id),
    )


def _delta(value: Any, names: _Names) -> Any:
    if isinstance(value, CommitPart):
        return msgspec.structs.replace(value, part=_part(value.part, names))
    return value


def _part(part: Any, names: _Names) -> Any:
    if isinstance(part, ToolCallPart):
        return msgspec.structs.replace(
            part,
            id=names.name("call", part.id),
            wire_id=None if part.wire_id is None else names.name("call", part.wire_id),
        )
    if isinstance(part, ToolResultPart):
        return msgspec.structs.replace(part, call_id=names.name("call", part.call_id))
    return part


def _items(value: Any, names: _Names) -> Any:
    return tuple(_item(item, names) if isinstance(item, Item) else item for item in value)


def _item(item: Item, names: _Names) -> Item:
    return msgspec.structs.replace(item, parts=tuple(_part(part, names) for part in item.parts))


def _metadata(value: Any, names: _Names) -> Any:
    """Rename what is just the id of a session or a run; it may stand a level deeper (`forked_from`).

    In which trace a run stands is made of ids, or of who started the process; it is left out.
    """
    if isinstance(value, str):
        return names.known(value)
    if not isinstance(value, dict):
        return value
    return {key: _metadata(member, names) for key, member in value.items() if key not in _OF_THE_TRACE}


def _open_auths(value: Any, names: _Names) -> Any:
    return tuple(sorted(names.name("auth", auth_id) for auth_id in value))


_BY_NAME: dict[str, Callable[[Any, _Names], Any]] = {
    "auth_id": _named("auth"),  # counted as they are asked for, which parallel calls do in any order
    "call": _part,
    "call_id": _named("call"),
    "delta": _delta,
    "items": _items,
    "metadata": _metadata,
    "open_auths": _open_auths,
    "observers": lambda _value, _names: (),
    "parent": _parent,
    "plan": _items,
    "response_id": _named("response"),
    "resumed_run": _named("run"),
}
"""What is done with a field, by its name; None stays None."""
