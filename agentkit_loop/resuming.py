"""A session read back from its events, to be gone on with: which of them count, and whether they fit together.

The events of one session are a chain, `seq` 1, 2, 3 …, over all its runs. A resume says where it went on
(`resumed_run`, `resumed_after`, which is the number before its own); what the earlier run told after that,
because its process was not dead after all, is superseded, wherever in the log it stands. Everything else that
does not fit is refused in one sentence: what continues from a transcript that is not the one that was sent
does harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from agentkit_loop.closing import PROCESS_ENDED
from agentkit_loop.content import AppendBytes, AppendText, Item, ToolResultPart
from agentkit_loop.digest import MessageChain
from agentkit_loop.errors import ConfigurationError, ResumeError
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    ContentDelta,
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
)
from agentkit_loop.state import LoopState

LOST = "The call was interrupted: the session was forked before its result."
"""What a fork says of a call that had no result at that point."""

_PREVIEWS = (AppendText, AppendBytes)


@attrs.frozen(kw_only=True)
class History:
    """What a log says of a session. state: the fold. notes: what was superseded or forced, one sentence each."""

    state: LoopState
    notes: tuple[str, ...] = ()


def read_history(
    events: Iterable[AgentEvent],
    *,
    session_id: str | None = None,
    at: int | None = None,
    force: bool = False,
    tell: Callable[[AgentEvent], object] | None = None,
) -> History:
    """Read a session back. Raises ResumeError, which says what does not fit and where.

    events: in the order of the log, of any number of sessions. session_id: which of them; left out, the only
    one that is no sub-agent's. at: the last `seq` that counts. force: go on in spite of a newer version, an
    edited transcript and two runs at once (the one that started last counts). tell: is given every event that
    counts, in order, once all of them fit.
    """
    if isinstance(events, (str, bytes, os.PathLike)):
        raise ConfigurationError(f"{events!r} is a path; give its events, read_events({events!r})")
    chains: dict[str, _Chain] = {}
    for event in events:
        chain = chains.get(event.session_id)
        if chain is None:
            chain = chains[event.session_id] = _Chain(event.session_id, whole=tell is not None)
        chain.add(event)
    newer = getattr(events, "newer_version", None)
    if newer is not None and not force:
        raise ResumeError(
            f"the log is of a newer version ({newer}); resume it with that version, or force it"
        )
    chain = _chosen(chains, session_id, bad=_first_bad_line(events))
    fold = _Fold(chain.session_id, force=force)
    entries = chain.resolved(force=force, bad=_first_bad_line(events))
    if at is not None and not 1 <= at <= len(entries):
        raise ResumeError(f"at={at} refused; session {chain.session_id} has the events 1 to {len(entries)}")
    entries = entries[:at]
    for seq, entry in enumerate(entries, 1):
        fold.take(seq, entry)
    if tell is not None:
        for entry in entries:
            if not isinstance(entry, str):
                tell(entry)
    return History(state=fold.state, notes=(*chain.notes, *fold.notes))


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


def _chosen(chains: dict[str, _Chain], session_id: str | None, *, bad: str) -> _Chain:
    if not chains:
        raise ResumeError(f"the log holds no event; give the log of the session{bad}")
    if session_id is not None:
        if session_id not in chains:
            raise ResumeError(f"the log holds no session {session_id!r}; it holds {_named(chains)}")
        return chains[session_id]
    roots = {name: chain for name, chain in chains.items() if not chain.is_child or len(chains) == 1}
    if len(roots) != 1:
        raise ResumeError(f"the log holds {_named(roots or chains)}; say which by session_id")
    return next(iter(roots.values()))


def _named(chains: dict[str, _Chain]) -> str:
    shown = ", ".join(list(chains)[:5])
    more = len(chains) - 5
    word = "session" if len(chains) == 1 else "sessions"
    return f"the {word} {shown}" + (f" and {more} more" if more > 0 else "")


class _Chain:
    """The events of one session; which of them count is said at the end, by `resolved`.

    An entry is an event, or only the id of its run where it is a preview, unless they are wanted whole.
    """

    def __init__(self, session_id: str, *, whole: bool) -> None:
        self.session_id = session_id
        self.is_child = False
        self.notes: list[str] = []
        self._whole = whole
        self._run_id = ""  # of the last entry
        self._entries: list[AgentEvent | str] = []  # one after the other, as the log has them
        self._others: list[AgentEvent] = []  # whose number was there before, or that leave one out
        self._starts: dict[str, RunStarted] = {}  # by run, in the order of the log

    def add(self, event: AgentEvent) -> None:
        """Take the next event of the log."""
        started = type(event) is RunStarted
        if event.seq == len(self._entries) + 1 and (started or event.run_id == self._run_id):
            self._run_id = event.run_id
            preview = not self._whole and _is_preview(event)
            self._entries.append(event.run_id if preview else event)
        elif not self._is_known(event):
            self._others.append(event)
        if started and event.run_id not in self._starts:
            self._starts[event.run_id] = event  # type: ignore[assignment] # `started` says so
            self.is_child = self.is_child or event.parent is not None  # type: ignore[attr-defined] # the same

    def _is_known(self, event: AgentEvent) -> bool:
        """Whether the very event stands at its place: of a file that was given twice."""
        if not 1 <= event.seq <= len(self._entries):
            return False
        entry = self._entries[event.seq - 1]
        return entry == event or (entry == event.run_id and _is_preview(event))

    def resolved(self, *, force: bool, bad: str) -> list[AgentEvent | str]:
        """Return the entries that count; raises ResumeError where they are no whole chain."""
        entries = self._entries
        if self._others:
            entries = self._lineage(force=force, bad=bad)
            left_out = len(self._entries) + len(self._others) - len(entries)
            if left_out:
                self.notes.append(
                    f"{left_out} events of session {self.session_id} do not count: they were told by a run "
                    "that another one had gone on from"
                )
        if not isinstance(entries[0], RunStarted):
            raise ResumeError(f"session {self.session_id} does not begin with run_started; its log was cut")
        return entries

    def _lineage(self, *, force: bool, bad: str) -> list[AgentEvent | str]:
        """Return what the runs told that lead to the last one: of each, what it told before the next started."""
        told: dict[str, dict[int, list[AgentEvent | str]]] = {}
        for seq, entry in enumerate(self._entries, 1):
            run_id = entry if isinstance(entry, str) else entry.run_id
            told.setdefault(run_id, {}).setdefault(seq, []).append(entry)
        for event in self._others:
            found = told.setdefault(event.run_id, {}).setdefault(event.seq, [])
            if event not in found:
                found.append(event)
        self._refuse_strangers(told, bad)
        last = self._last_run(force=force)
        run: RunStarted | None = last
        reversed_entries: list[AgentEvent | str] = []
        end, following = max(told[last.run_id]), False
        while run is not None:
            of_run = told[run.run_id]
            reversed_entries += self._of_run(of_run, run.seq, end, recovered=following, bad=bad)
            end, following = run.seq - 1, True
            before = self._starts.get(run.resumed_run or "")
            if before is not None and (run.resumed_after != end or before.seq > end):
                raise self._unfit(run, f"goes on after event {run.resumed_after} of run {before.run_id}")
            run = before
        if end > 0:
            raise self._gap(1, end, bad)
        return reversed_entries[::-1]

    def _refuse_strangers(self, told: dict[str, dict[int, list[AgentEvent | str]]], bad: str) -> None:
        """Refuse what belongs to no run that the log has from its beginning."""
        for run_id, of_run in told.items():
            first = min(of_run)
            if first < 1:
                raise ResumeError(f"session {self.session_id}: an event without a number; it was never told")
            if run_id in self._starts:
                continue
            known = {seq for other in told.values() for seq in other if seq < first}
            missing = next((seq for seq in range(first - 1, 0, -1) if seq in known), 0) + 1
            if missing < first:
                raise self._gap(missing, first - 1, bad)
            raise ResumeError(
                f"session {self.session_id}: event {first} is of run {run_id}, whose run_started is not there; "
                f"only a whole log can be gone on with{bad}"
            )

    def _of_run(
        self,
        told: dict[int, list[AgentEvent | str]],
        first: int,
        end: int,
        *,
        recovered: bool,
        bad: str,
    ) -> list[AgentEvent | str]:
        """Return a run's entries, the last first. recovered: a resume told the end of them, in its place."""
        entries: list[AgentEvent | str] = []
        for seq in range(end, first - 1, -1):
            found = told.get(seq, [])
            if not found:
                missing = next((low for low in range(seq, first - 1, -1) if low in told), first - 1) + 1
                raise self._gap(missing, seq, bad)
            closing = [entry for entry in found if _is_of_recovery(entry)] if recovered else []
            recovered = bool(closing)
            if len(found) > 1 and not recovered:
                raise ResumeError(
                    f"session {self.session_id}: event {seq} stands in the log twice and says two things; "
                    "the log was edited after it was written"
                )
            entries.append((closing or found)[-1])
        return entries

    def _last_run(self, *, force: bool) -> RunStarted:
        """Return the run that no other went on from."""
        gone_on = {start.resumed_run for start in self._starts.values()}
        last = [start for start in self._starts.values() if start.run_id not in gone_on]
        if len(last) > 1 and not force:
            one, other = last[-2:]
            raise ResumeError(
                f"session {self.session_id}: two runs at once, {one.run_id} from event {one.seq} on and "
                f"{other.run_id} from event {other.seq} on; force it to go on with the one that started last"
            )
        return last[-1]

    def _gap(self, first: int, last: int, bad: str) -> ResumeError:
        missing = f"event {first} is" if first == last else f"events {first} to {last} are"
        before, after = self._neighbour(first - 1), self._neighbour(last + 1)
        previews = isinstance(before, ContentDelta) and isinstance(after, ContentDelta) and not bad
        why = " (previews, if it was written with deltas='none')" if previews else ""
        return ResumeError(
            f"session {self.session_id}: {missing} missing{why}; only a whole log can be gone on with{bad}"
        )

    def _neighbour(self, seq: int) -> AgentEvent | None:
        entry = self._entries[seq - 1] if 1 <= seq <= len(self._entries) else None
        if isinstance(entry, AgentEvent):
            return entry
        return next((event for event in self._others if event.seq == seq), None)

    def _unfit(self, event: AgentEvent, what: str) -> ResumeError:
        return ResumeError(
            f"session {self.session_id}: event {event.seq} ({event.type}) {what}, and that is not what stands "
            "before it; the log was edited or is not whole"
        )


def _is_preview(event: AgentEvent) -> bool:
    return type(event) is ContentDelta and type(event.delta) in _PREVIEWS


def _is_of_recovery(entry: AgentEvent | str) -> bool:
    """Whether a resume may have told the event under the old run's id."""
    match entry:
        case ModelRequestFailed():
            return entry.error_class == "process_ended"
        case CompactionFinished():
            return entry.error is not None and entry.error.type == PROCESS_ENDED.type
        case ToolResultReceived():
            return entry.interrupted
        case RunFailed():
            return entry.error.type == PROCESS_ENDED.type
        case _:
            return isinstance(entry, ObserverFailed)  # of one that failed on one of these


class _Fold:
    """Folds a chain, and looks whether it says what was sent."""

    def __init__(self, session_id: str, *, force: bool) -> None:
        self.state = LoopState()
        self.notes: list[str] = []
        self._session_id = session_id
        self._force = force
        self._chain = MessageChain()
        self._redacted = False

    def take(self, seq: int, entry: AgentEvent | str) -> None:
        state = self.state
        if isinstance(entry, str):
            state.seq = seq
            return
        if type(entry) is UnknownEvent:
            self._doubt(
                entry, "is of no kind that this version knows", "resume it with the version that wrote it"
            )
        if entry.unknown_fields is not None and "redactions" in entry.unknown_fields:
            self._redacted = True
        if not _follows(state, entry):
            raise self._unfit(entry)
        try:
            state.apply(entry)
        except (KeyError, IndexError, AttributeError, TypeError):
            raise self._unfit(entry) from None
        if type(entry) is ModelRequestStarted and entry.purpose == "turn" and not self._redacted:
            found = self._chain.of(state.transcript.items)
            if found != entry.digests.get("messages", found):
                self._doubt(
                    entry, "does not fit the transcript before it", "the log was edited after it was written"
                )

    def _unfit(self, event: AgentEvent) -> ResumeError:
        return ResumeError(
            f"session {self._session_id}: event {event.seq} ({event.type}) does not follow from those before "
            "it; the log was edited or is not whole"
        )

    def _doubt(self, event: AgentEvent, what: str, then: str) -> None:
        text = f"session {self._session_id}: event {event.seq} ({event.type}) {what}; {then}"
        if not self._force:
            raise ResumeError(f"{text}, or force it")
        if not self.notes:
            self.notes.append(text)


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
        case ToolExecutionStarted():
            call = state.calls.get(event.call_id)
            return call is not None and not call.answered and event.attempt == call.attempts + 1
        case ToolResultReceived():
            call = state.calls.get(event.call_id)
            return call is not None and not call.answered
        case RunFinished() | RunFailed() | RunCancelled():
            return state.request is None and not state.transcript.compacting
        case _:
            return True
