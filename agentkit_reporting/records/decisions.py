"""From events to decisions: what a session decided, on what evidence, and whether the reasons were seen.

An entry points at the event that is its evidence. Its reasons are *observed* where the model's thinking in that answer
was captured, and *inferred* where it was not: then the entry is no more than a proxy of them. A thinking block that
is redacted by the provider, or holds nothing but its signature, was not captured.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

import attrs
import msgspec

from agentkit_loop.content import CommitPart, ReasoningPart, TextPart
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ApprovalResolved,
    BudgetExceeded,
    CancelRequested,
    ContentDelta,
    CustomEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunStarted,
    ToolCallRequested,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    is_redacted,
)
from agentkit_loop.observers import EventKind
from agentkit_loop.values import JSON, compact_json
from agentkit_reporting.records.open_sessions import OpenSessions
from agentkit_reporting.records.step_fold import STOP_REASONS
from agentkit_reporting.timestamps import utc_text

__all__ = ["Basis", "DecisionEntry"]

Basis: TypeAlias = Literal["observed", "inferred"]
"""Whether the reasons of a decision were seen, or are guessed from what was done."""

MAX_DETAIL = 50_000
"""Characters of a detail that are kept."""

MAX_METADATA_VALUE = 20_000
"""Characters of JSON up to which a value of an entry's metadata is kept; of a longer one the first 2,000 are."""

_SHOWN_OF_LONG = 2_000
_GOES_ON = ("tool_call", "pause_turn")


class DecisionEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decision.

    step: the turn's number within its exchange, from 0. type: `reasoning` (the model's thinking, else its text before
    its calls), `tool_selection`, `final_response` (told as the exchange ends), `approval` (a person's answer), `denial`
    (by a rule), `limit`, `cancel`, or a word of the host's. detail: in words, at most 50,000 characters. metadata:
    facts, values of more than 20,000 characters cut. evidence_seq: number in the session of the event that shows it.
    basis: of approvals, denials, limits and cancels always `observed`: they are themselves what was told. timestamp:
    of that event, ISO 8601, UTC. amends: the host's own words on the entry with this evidence and type, which this
    one replaces.
    """

    session_id: str
    step: int
    type: str
    detail: str
    metadata: dict[str, JSON] | None
    evidence_seq: int
    basis: Basis
    timestamp: str
    run_id: str
    turn_id: str | None
    amends: bool = False


@attrs.define
class _Session:
    """What a session has decided lately, and what is open in it."""

    step: int = 0
    parts: list[ContentDelta] = attrs.Factory(list)  # committed by the open request
    is_compaction: bool = False
    is_observed: bool = False  # the thinking of the last answer
    is_paused: bool = False  # it is continued by the next one
    open_calls: dict[str, str] = attrs.Factory(dict)  # names by id, of those without a result
    decided: set[str] = attrs.Factory(set)  # open calls that a person decided about
    is_limited: bool = False  # the limit that ends the exchange was told
    unspoken: list[DecisionEntry] = attrs.Factory(list)  # of this exchange, of which the host said nothing
    final: tuple[DecisionEntry, bool] | None = None  # the answer, until the exchange has ended with it

    @property
    def basis(self) -> Basis:
        return "observed" if self.is_observed else "inferred"


class DecisionFold:
    """Makes entries of events, of any number of sessions. Not safe for threads."""

    wants: tuple[EventKind, ...] = (
        RunStarted, TurnStarted, ModelRequestStarted, CommitPart, ModelRequestFinished, ModelRequestFailed,
        ToolCallRequested, ToolResultReceived, ApprovalResolved, BudgetExceeded, CancelRequested, TurnFinished,
        CustomEvent, *RUN_ENDS,
    )  # fmt: skip

    def __init__(self) -> None:
        self._sessions = OpenSessions(_Session)

    def take(self, event: AgentEvent) -> list[tuple[DecisionEntry, bool]]:
        """Return the entries that the event makes, each with whether something was masked in its evidence."""
        session = self._sessions.of(event.session_id)
        made = list(self._made(event, session))
        if isinstance(event, RUN_ENDS):
            session.parts, session.unspoken = [], []
            if session.open_calls:
                self._sessions.suspend(event.session_id)
            else:
                self._sessions.drop(event.session_id)
        return made

    def forget(self, session_id: str) -> None:
        """Forget what is open in a session."""
        self._sessions.drop(session_id)

    def _made(self, event: AgentEvent, session: _Session) -> Iterator[tuple[DecisionEntry, bool]]:
        if session.final is not None and isinstance(event, (TurnStarted, TurnFinished, *RUN_ENDS)):
            yield session.final
            session.final = None
        match event:
            case TurnStarted():
                session.step = event.index - 1
                if event.index == 1:
                    session.is_observed = session.is_limited = session.is_paused = False
                    session.unspoken = []
            case ModelRequestStarted():
                session.parts, session.is_compaction = [], event.purpose == "compaction"
                session.is_observed = session.is_observed and (session.is_compaction or session.is_paused)
            case ContentDelta(delta=CommitPart()):
                session.parts.append(event)
            case ModelRequestFailed():
                session.parts = []
            case ModelRequestFinished():
                if not session.is_compaction:
                    yield from _answer(event, session)
                session.parts = []
            case CustomEvent(name="decision"):
                entry = _told(event, session)
                if entry is not None:
                    yield entry, is_redacted(event)
            case _:
                entry = _of_course(event, session)
                if entry is not None:
                    yield entry, is_redacted(event)


def _entry(
    event: AgentEvent,
    session: _Session,
    kind: str,
    detail: str,
    metadata: Mapping[str, JSON] | None,
    *,
    basis: Basis | None = None,
) -> DecisionEntry:
    """Return an entry whose evidence is the event."""
    return DecisionEntry(
        session_id=event.session_id,
        step=session.step,
        type=kind,
        detail=_bounded_text(detail),
        metadata=None if metadata is None else {key: _bounded(value) for key, value in metadata.items()},
        evidence_seq=event.seq,
        basis=basis or session.basis,
        timestamp=utc_text(event.timestamp),
        run_id=event.run_id,
        turn_id=event.turn_id,
    )


def _answer(event: ModelRequestFinished, session: _Session) -> Iterator[tuple[DecisionEntry, bool]]:
    """Yield the reasons that an answer gives; keep the answer itself where it may be the last."""
    thoughts, texts = [], []
    for told in session.parts:
        part = told.delta.part if isinstance(told.delta, CommitPart) else None
        if isinstance(part, ReasoningPart) and part.text.strip():
            thoughts.append((told, part.text))
        elif isinstance(part, TextPart) and part.text.strip():
            texts.append((told, part.text))
    session.is_observed = bool(thoughts) or session.is_observed  # in the part before a pause
    session.is_paused = event.finish_reason == "pause_turn"
    goes_on = event.finish_reason in _GOES_ON
    facts = {"stop_reason": STOP_REASONS.get(event.finish_reason, event.finish_reason)}
    for told, text in thoughts or (texts if goes_on else ()):
        entry = _entry(told, session, "reasoning", text, facts)
        session.unspoken.append(entry)
        yield entry, is_redacted(told)
    if not goes_on:
        entry = _entry(event, session, "final_response", "\n\n".join(text for _, text in texts), facts)
        session.unspoken.append(entry)
        session.final = entry, any(is_redacted(told) for told, _ in texts)


@functools.singledispatch
def _of_course(event: AgentEvent, session: _Session) -> DecisionEntry | None:
    """Return the entry that an event of the run's course makes, if it makes one."""
    del event, session
    return None


@_of_course.register
def _(event: ToolCallRequested, session: _Session) -> DecisionEntry | None:
    call = event.call
    session.open_calls[call.id] = call.name
    if not event.request_id:
        return None  # no model asked for it
    metadata = {"tool": call.name, "args": call.input, "call_id": call.id}
    entry = _entry(event, session, "tool_selection", f"Selected {call.name}", metadata)
    session.unspoken.append(entry)
    return entry


@_of_course.register
def _(event: ToolResultReceived, session: _Session) -> DecisionEntry | None:
    session.open_calls.pop(event.call_id, None)
    if event.call_id in session.decided or not event.denied:
        session.decided.discard(event.call_id)
        return None
    metadata = {"tool": event.name, "call_id": event.call_id}
    why = event.output if isinstance(event.output, str) else compact_json(event.output)
    return _entry(event, session, "denial", why, metadata, basis="observed")


@_of_course.register
def _(event: ApprovalResolved, session: _Session) -> DecisionEntry | None:
    session.decided.add(event.call_id)
    tool = session.open_calls.get(event.call_id)
    metadata: dict[str, JSON] = {
        "tool": tool,
        "call_id": event.call_id,
        "approval_id": event.approval_id,
        "approved": event.approved,
        "by": event.by,
        "reason": event.reason,
        "edited": event.edited,
    }
    if event.edited:
        metadata["args"] = event.input
    detail = f"{'Approved' if event.approved else 'Denied'} {tool or event.call_id}"
    detail += f" by {event.by}" if event.by else ""
    detail += ", edited" if event.edited else ""
    detail += f": {event.reason}" if event.reason else ""
    return _entry(event, session, "approval", detail, metadata, basis="observed")


@_of_course.register
def _(event: BudgetExceeded, session: _Session) -> DecisionEntry | None:
    session.is_limited = True
    metadata = {"limit": event.limit, "used": event.used, "allowed": event.allowed}
    detail = f"{event.limit}: {event.used} used of {event.allowed}"
    return _entry(event, session, "limit", detail, metadata, basis="observed")


@_of_course.register
def _(event: TurnFinished, session: _Session) -> DecisionEntry | None:
    was_told, session.is_limited = session.is_limited, False
    if event.finish_reason != "limit" or was_told:
        return None
    return _entry(event, session, "limit", "The exchange ended at a limit", None, basis="observed")


@_of_course.register
def _(event: CancelRequested, session: _Session) -> DecisionEntry | None:
    detail = "Cancelled" + (f" by {event.by}" if event.by else "")
    detail += f": {event.reason}" if event.reason else ""
    return _entry(
        event, session, "cancel", detail, {"by": event.by, "reason": event.reason}, basis="observed"
    )


def _told(event: CustomEvent, session: _Session) -> DecisionEntry | None:
    """Return the entry of a decision that the host told: its own, or its words on what the events said already."""
    told = event.data
    kind = told.get("type") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(kind, str):
        return None
    detail, metadata, step = told.get("detail"), told.get("metadata"), told.get("step")
    text = detail if isinstance(detail, str) else "" if detail is None else compact_json(detail)
    facts = metadata if isinstance(metadata, dict) or metadata is None else {"value": metadata}
    entry = _entry(event, session, kind, text, facts)
    if type(step) is int:
        entry = msgspec.structs.replace(entry, step=step)
    known = _meant(entry, session.unspoken)
    if known is None:
        return entry
    session.unspoken.remove(known)
    merged = {**(known.metadata or {}), **(entry.metadata or {})}
    if known.detail and known.detail != entry.detail:
        merged["evidence"] = _bounded(known.detail)
    is_new = session.final is not None and session.final[0] is known
    if is_new:
        session.final = None
    return msgspec.structs.replace(known, detail=entry.detail, metadata=merged, amends=not is_new)


def _meant(entry: DecisionEntry, unspoken: Iterable[DecisionEntry]) -> DecisionEntry | None:
    """Return the entry of the events that the host's words are about, if there is one of the same step and type."""
    alike = [each for each in unspoken if (each.step, each.type) == (entry.step, entry.type)]
    if entry.type != "tool_selection":
        return alike[0] if alike else None
    facts = entry.metadata or {}
    words = {*entry.detail.split(), facts.get("tool") if isinstance(facts.get("tool"), str) else None}
    named = [each for each in alike if (each.metadata or {}).get("tool") in words]
    same = [each for each in named if "args" in facts and (each.metadata or {}).get("args") == facts["args"]]
    return next(iter(same or named), None)


def _bounded_text(text: str) -> str:
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


def _bounded(value: JSON) -> JSON:
    """Return a value of metadata, or the beginning of its JSON where that is long."""
    if isinstance(value, (int, float)) or value is None:
        return value
    text = compact_json(value)
    if len(text) <= MAX_METADATA_VALUE:
        return value
    shown = value if isinstance(value, str) else text
    return f"{shown[:_SHOWN_OF_LONG]}… ({len(shown)} characters)"
