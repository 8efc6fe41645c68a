"""A session read back from its events, to be gone on with: its state, and whether its events fit together.

Which events count is said in `lineage.py`. Everything that does not fit is refused in one sentence: what continues
from a transcript that is not the one that was sent does harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from agentkit_loop.child_spending import used_behind
from agentkit_loop.content import Item, ToolResultPart
from agentkit_loop.digest import MessageChain
from agentkit_loop.errors import ConfigurationError, ResumeError
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UnknownEvent,
    is_redacted,
)
from agentkit_loop.lineage import Chain, Entry, last_number, up_to
from agentkit_loop.state import LoopState
from agentkit_loop.transcript import item_number, ranges_rise
from agentkit_loop.usage import Usage
from agentkit_loop.values import safe_repr

LOST = "The call was interrupted: the session was forked before its result."
"""What a fork says of a call that had no result at that point."""

MASKED = "the log is redacted: the model is shown masks in place of what was taken out"
"""What a resume warns of, once, where something was masked in what it goes on from."""

_FORCE: dict[bool | None, str] = {None: "", False: ", or force it", True: ""}
"""What a sentence offers, by `force`."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of a session.

    state: the fold. notes: what was superseded, forced or masked, one sentence each. child_usage: by id of each call
    that has no result, what the agents behind it used so far, as `usage.child_usage` tells it; in `state` is only
    what results have told.
    """

    state: LoopState
    notes: tuple[str, ...] = ()
    child_usage: dict[str, Usage] = msgspec.field(default_factory=dict)


def read_history(
    events: Iterable[AgentEvent],
    *,
    session_id: str | None = None,
    at: int | None = None,
    force: bool | None = None,
    tell: Callable[[AgentEvent], object] | None = None,
) -> History:
    """Read a session back. Raises ResumeError, which says what does not fit and where; ConfigurationError.

    events: in the order of the log, of any number of sessions. session_id: which of them; left out, the only
    one that is no sub-agent's. at: the last `seq` that counts. force: go on in spite of a newer version, an
    edited transcript and two runs at once (the one that started last counts); None: no, and no sentence offers it,
    for whoever has nothing to force with. tell: is given every event that counts, in order, once all of them fit.
    """
    if isinstance(events, (str, bytes, os.PathLike)):
        raise ConfigurationError(f"{events!r} is a path; give its events, read_events({events!r})")
    chains = _chains(events, whole=tell is not None)
    newer, bad = getattr(events, "newer_version", None), _first_bad_line(events)
    if newer is not None and not force:
        raise ResumeError(f"the log is of a newer version ({newer}); use that version{_FORCE[force]}")
    chain = _chosen(chains, session_id, bad=bad)
    entries = chain.resolved(force=force, bad=bad)
    if at is not None:
        if type(at) is not int:
            raise ConfigurationError(f"at={safe_repr(at)} refused; give the seq of an event, an int")
        last = last_number(entries)
        if not 1 <= at <= last:
            raise ResumeError(f"at={at} refused; session {chain.session_id} has the events 1 to {last}")
        entries = up_to(entries, at)
    fold = _Fold(chain.session_id, force=force)
    for entry in entries:
        fold.take(entry)
    if tell is not None:
        for entry in entries:
            if not isinstance(entry, str):
                tell(entry)
    state = fold.state
    calls = [call_id for call_id, call in state.calls.items() if not call.answered]
    return History(
        state=state,
        notes=(*chain.notes, *fold.notes, *([MASKED] if fold.is_redacted else ())),
        child_usage=used_behind(calls, chain.session_id, chains),
    )


def _chains(events: Iterable[AgentEvent], *, whole: bool) -> dict[str, Chain]:
    """Return the sessions, in one pass."""
    chains: dict[str, Chain] = {}
    reader: Any = events if hasattr(events, "bad_count") else None  # of a log: it counts while it reads
    bad_count = 0
    for event in events:
        chain = chains.get(event.session_id)
        if chain is None:
            chain = chains[event.session_id] = Chain(event.session_id, whole=whole)
        if reader is not None:
            bad_count = reader.bad_count
        chain.add(event, bad_count)
    return chains


def forked_items(state: LoopState) -> tuple[Item, ...]:
    """Return the transcript that a fork begins with: open calls get a result that says that it was lost."""
    items = list(state.transcript.items)
    for call_id, result in state.transcript.open_calls.items():
        name = state.calls[call_id].part.name
        lost = ToolResultPart(call_id=call_id, name=name, output=LOST, is_error=True)
        items.append(Item(kind="tool", parts=(result or lost,)))
    return (*items, *state.transcript.waiting)


def awaits_answer(state: LoopState) -> bool:
    """Whether the model had still to answer, and nobody wanted the exchange to end."""
    if state.cancelling or state.exceeded:
        return False
    coming = bool(state.transcript.open_calls or state.transcript.waiting)
    return coming or state.input_unanswered or state.round_unanswered


def _first_bad_line(events: object) -> str:
    """Return where a log's reader met a line that is no event, as the end of a sentence; nothing without one."""
    bad: Any = getattr(events, "bad", ())
    return f"; line {bad[0].line} of {bad[0].path} is no event ({bad[0].reason})" if bad else ""


def _chosen(chains: dict[str, Chain], session_id: str | None, *, bad: str) -> Chain:
    if not chains:
        raise ResumeError(f"the log holds no event; give the log of the session{bad}")
    if session_id is not None:
        if session_id not in chains:
            raise ResumeError(f"the log holds no session {session_id!r}; it holds {_named(chains)}")
        return chains[session_id]
    roots = {name: chain for name, chain in chains.items() if chain.parent is None or len(chains) == 1}
    if len(roots) != 1:
        raise ResumeError(f"the log holds {_named(roots or chains)}; say which by session_id")
    return next(iter(roots.values()))


def _named(chains: dict[str, Chain]) -> str:
    shown = ", ".join(list(chains)[:5])
    more = len(chains) - 5
    word = "session" if len(chains) == 1 else "sessions"
    return f"the {word} {shown}" + (f" and {more} more" if more > 0 else "")


class _Fold:
    """Folds a chain, and looks whether it says what was sent. is_redacted: whether something in it was masked."""

    def __init__(self, session_id: str, *, force: bool | None) -> None:
        self.state = LoopState()
        self.notes: list[str] = []
        self._session_id = session_id
        self._force = force
        self._chain = MessageChain()
        self.is_redacted = False
        self._item_ids = _ItemIds(self.state)

    def take(self, entry: Entry) -> None:
        state = self.state
        if isinstance(entry, str):
            state.seq += 1
            return
        if type(entry) is UnknownEvent:
            self._doubt(entry, "is of no kind that this version knows", "use the version that wrote it")
        if is_redacted(entry):
            self.is_redacted = True
        if not _follows(state, entry):
            raise self._refused(entry, "does not follow from those before it", "or is not whole")
        taken = self._item_ids.taken(entry)
        if taken is not None:
            raise self._refused(entry, f"brings a second item of the id {taken!r}", "after it was written")
        try:
            state.apply(entry)
        except (KeyError, IndexError, AttributeError, TypeError):
            raise self._refused(entry, "does not follow from those before it", "or is not whole") from None
        if type(entry) is ModelRequestStarted and entry.purpose == "turn" and not self.is_redacted:
            found = self._chain.of(state.transcript.items)
            if found != entry.digests.get("messages", found):
                self._doubt(
                    entry, "does not fit the transcript before it", "the log was edited after it was written"
                )

    def _refused(self, event: AgentEvent, what: str, why: str) -> ResumeError:
        return ResumeError(f"{self._named(event)} {what}; the log was edited {why}")

    def _named(self, event: AgentEvent) -> str:
        return f"session {self._session_id}: event {event.seq} ({event.type})"

    def _doubt(self, event: AgentEvent, what: str, then: str) -> None:
        text = f"{self._named(event)} {what}; {then}"
        if not self._force:
            raise ResumeError(f"{text}{_FORCE[self._force]}")
        if not self.notes:
            self.notes.append(text)


class _ItemIds:
    """The ids of the items of a transcript, for those that come in with one of their own."""

    def __init__(self, state: LoopState) -> None:
        self._state = state
        self._known: set[str] = set()
        self._count = 0  # of the items whose ids are known
        self._is_stale = False  # a compaction took some away

    def taken(self, event: AgentEvent) -> str | None:
        """Return the first id of an event's items that another item has; no run tells such an event."""
        match event:
            case RunStarted(items=items) | InputAccepted(items=items):
                return self._first_taken(items)
            case CompactionFinished(plan=plan) if plan is not None:
                found = self._first_taken([step for step in plan if isinstance(step, Item)])
                self._is_stale = True
                return found
            case _:
                return None

    def _first_taken(self, items: Iterable[Item]) -> str | None:
        number = self._state.transcript.numbered
        given: set[str] = set()
        for item in items:
            is_new = item_number(item) > number  # numbered by the session, as nearly all are
            if item.id in given or (item.id and not is_new and item.id in self._ids()):
                return item.id
            if item.id:
                given.add(item.id)
        self._known |= given
        return None

    def _ids(self) -> set[str]:
        transcript = self._state.transcript
        if self._is_stale:
            self._known = {item.id for item in transcript.waiting}
            self._count, self._is_stale = 0, False
        self._known.update(item.id for item in transcript.items[self._count :])
        self._count = len(transcript.items)
        return self._known


def _follows(state: LoopState, event: AgentEvent) -> bool:
    """Whether the event can stand here: what no run tells would leave a call unanswered or answered twice."""
    match event:
        case RunStarted():
            goes_on = (event.resumed_run, event.resumed_after) == (state.run_id, state.seq)
            return not state.run_is_open and (goes_on or state.seq == 0)
        case _ if event.run_id != state.run_id:
            return False
        case ObserverFailed() | UnknownEvent():
            return True  # an observer may fail on the closing event
        case _ if not state.run_is_open:
            return False
        case TurnStarted():
            return state.transcript.is_settled and event.index == state.turn_index + 1
        case TurnFinished():
            return state.exchange_is_open and state.transcript.is_settled
        case ModelRequestStarted():
            quiet = state.request is None and not state.transcript.open_calls
            return quiet and state.exchange_is_open
        case ContentDelta() | ModelRequestFinished() | ModelRequestFailed():
            return state.request is not None and state.request.id == event.request_id
        case CompactionStarted():
            return state.request is None and state.transcript.is_settled
        case CompactionFinished(plan=plan):
            fits = plan is None or ranges_rise(len(state.transcript.items), plan)
            return state.request is None and state.transcript.compacting and fits
        case ToolExecutionStarted():
            call = state.find_call(event.call_id)
            return call is not None and not call.answered and event.attempt == call.attempts + 1
        case ToolResultReceived():
            call = state.find_call(event.call_id)
            return call is not None and not call.answered
        case RunFinished() | RunFailed() | RunCancelled():
            return state.request is None and not state.transcript.compacting
        case _:
            return True
