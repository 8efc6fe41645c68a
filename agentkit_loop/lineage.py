"""The events of one session, as a log has them, and which of them count.

The events of a session are a chain, `seq` 1, 2, 3 …, over all its runs. A resume says where it went on
(`resumed_run`, `resumed_after`, which is the number before its own); what the earlier run told after that,
because its process was not dead after all, is superseded, wherever in the log it stands.

A log may have been written without previews (`deltas="none"`); nothing in it says so. Its numbers have gaps then,
and only such gaps are taken: where a part of the open request has begun and is not committed, between events of
one run that shows no preview at all, and where no line of the log is broken.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import TypeAlias

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart, Parent
from agentkit_loop.errors import ResumeError
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    ObserverFailed,
    RunFailed,
    RunStarted,
    ToolResultReceived,
)
from agentkit_loop.usage import PROCESS_ENDED

Entry: TypeAlias = AgentEvent | str
"""An event; or of a preview, only the id of its run: then its `seq` is that of the entry before and one."""

_PREVIEWS = (AppendText, AppendBytes)


_MOST_TELLINGS = 64
"""Of one number by one run: by its process, and by as many resumes as took it for dead; more are not compared."""


class Chain:
    """The events of one session; which of them count is said at the end, by `resolved`.

    whole: keep previews as events, not only as entries. parent: who started it, None for no sub-agent. notes:
    what does not count, a sentence.
    """

    def __init__(self, session_id: str, *, whole: bool) -> None:
        self.session_id = session_id
        self.parent: Parent | None = None
        self.notes: list[str] = []
        self._whole = whole
        self._run_id = ""  # of the last entry
        self._entries: list[Entry] = []  # one after the other, as the log has them
        self._next = 1  # the number after that of the last entry
        self._gaps: list[tuple[int, int]] = []  # of each entry behind missing ones: its number and place
        self._bad_count = 0  # lines that were broken before the last entry
        self._torn: set[int] = set()  # numbers after which a broken line stands, and a gap
        self._others: list[AgentEvent] = []  # whose number was there before, or that are of another run
        self._starts: dict[str, RunStarted] = {}  # by run, in the order of the log

    def add(self, event: AgentEvent, bad_count: int = 0) -> None:
        """Take the next event of the log; bad_count: how many lines before it were no event."""
        started = type(event) is RunStarted
        if event.seq == self._next and (started or event.run_id == self._run_id):
            self._run_id = event.run_id
            preview = not self._whole and _is_preview(event)
            self._entries.append(event.run_id if preview else event)
            self._next += 1
            self._bad_count = bad_count
        elif event.seq > self._next and not started and event.run_id == self._run_id:
            if bad_count != self._bad_count:
                self._torn.add(self._next - 1)
            self._gaps.append((event.seq, len(self._entries)))
            self._entries.append(event)
            self._next = event.seq + 1
            self._bad_count = bad_count
        elif not self._is_known(event):
            self._others.append(event)
        if started and event.run_id not in self._starts:
            self._starts[event.run_id] = event  # type: ignore[assignment] # `started` says so
            self.parent = self.parent or event.parent  # type: ignore[attr-defined] # the same

    def told(self) -> Iterator[AgentEvent]:
        """Yield all events but previews, also those that do not count; in no certain order."""
        for entry in self._entries:
            if not isinstance(entry, str):
                yield entry
        yield from self._others

    def resolved(self, *, force: bool | None, bad: str) -> list[Entry]:
        """Return the entries that count; raises ResumeError where they are no whole chain.

        force: see `read_history`. bad: which line of the log is no event, as the end of a sentence.
        """
        entries = self._entries
        if self._others:
            entries = self._lineage(force=force, bad=bad)
            left_out = len(self._entries) + len(self._others) - len(entries)
            if left_out:
                self.notes.append(
                    f"{left_out} events of session {self.session_id} do not count: they were told by a run "
                    "that another one had gone on from"
                )
        if self._others or self._gaps:
            self._refuse_gaps(entries, bad)
        if not isinstance(entries[0], RunStarted):
            raise ResumeError(f"session {self.session_id} does not begin with run_started; its log was cut")
        return entries

    def _is_known(self, event: AgentEvent) -> bool:
        """Whether the very event stands at its place: of a file that was given twice."""
        if not 1 <= event.seq < self._next:
            return False
        after = bisect.bisect_right(self._gaps, (event.seq, len(self._entries)))
        seq, place = self._gaps[after - 1] if after else (1, 0)
        end = self._gaps[after][1] if after < len(self._gaps) else len(self._entries)
        place += event.seq - seq
        if place >= end:
            return False  # it is one of those that are missing
        entry = self._entries[place]
        return entry == event or (entry == event.run_id and _is_preview(event))

    # --- which run counts

    def _lineage(self, *, force: bool | None, bad: str) -> list[Entry]:
        """Return what the runs told that lead to the last one: of each, what it told before the next started."""
        told: dict[str, dict[int, list[Entry]]] = {}
        for seq, entry in _numbered(self._entries):
            run_id = entry if isinstance(entry, str) else entry.run_id
            told.setdefault(run_id, {}).setdefault(seq, []).append(entry)
        for event in self._others:
            found = told.setdefault(event.run_id, {}).setdefault(event.seq, [])
            if len(found) < _MOST_TELLINGS and event not in found:
                found.append(event)
        self._refuse_strangers(told, bad)
        last = self._last_run(force=force)
        run: RunStarted | None = last
        reversed_entries: list[Entry] = []
        end, following = max(told[last.run_id]), False
        while run is not None:
            of_run = told[run.run_id]
            reversed_entries += self._of_run(of_run, run.seq, end, recovered=following)
            end, following = run.seq - 1, True
            before = self._starts.get(run.resumed_run or "")
            if before is not None and (run.resumed_after != end or before.seq > end):
                raise self._unfit(run, f"goes on after event {run.resumed_after} of run {before.run_id}")
            run = before
        if end > 0:
            raise self._gap(1, end, bad)
        return reversed_entries[::-1]

    def _refuse_strangers(self, told: dict[str, dict[int, list[Entry]]], bad: str) -> None:
        """Refuse what belongs to no run that the log has from its beginning."""
        for run_id, of_run in told.items():
            first = min(of_run)
            if first < 1:
                raise ResumeError(f"session {self.session_id}: an event without a number; it was never told")
            if run_id in self._starts:
                continue
            missing = max((seq for other in told.values() for seq in other if seq < first), default=0) + 1
            if missing < first:
                raise self._gap(missing, first - 1, bad)
            raise ResumeError(
                f"session {self.session_id}: event {first} is of run {run_id}, whose run_started is not there; "
                f"only a whole log can be gone on with{bad}"
            )

    def _of_run(self, told: dict[int, list[Entry]], first: int, end: int, *, recovered: bool) -> list[Entry]:
        """Return a run's entries, the last first. recovered: a resume told the end of them, in its place."""
        entries: list[Entry] = []
        above = end + 1
        for seq in sorted((seq for seq in told if first <= seq <= end), reverse=True):
            found = told[seq]
            closing = [entry for entry in found if _is_of_recovery(entry)] if recovered else []
            recovered = bool(closing) and seq + 1 == above
            if len(found) > 1 and not recovered:
                raise ResumeError(
                    f"session {self.session_id}: event {seq} stands in the log twice and says two things; "
                    "the log was edited after it was written"
                )
            entries.append((closing or found)[-1])
            above = seq
        return entries

    def _last_run(self, *, force: bool | None) -> RunStarted:
        """Return the run that no other went on from."""
        gone_on = {start.resumed_run for start in self._starts.values()}
        last = [start for start in self._starts.values() if start.run_id not in gone_on]
        if len(last) > 1 and not force:
            one, other = last[-2:]
            remedy = "give the log of one of them"
            if force is not None:
                remedy = "force it to go on with the one that started last"
            raise ResumeError(
                f"session {self.session_id}: two runs at once, {one.run_id} from event {one.seq} on and "
                f"{other.run_id} from event {other.seq} on; {remedy}"
            )
        return last[-1]

    # --- what is missing

    def _refuse_gaps(self, entries: list[Entry], bad: str) -> None:
        """Refuse numbers that are missing where something else than previews may be."""
        previewed = {
            entry if isinstance(entry, str) else entry.run_id
            for entry in entries
            if isinstance(entry, str) or _is_preview(entry)
        }
        last, run_id = 0, ""
        begun: set[str] = set()  # parts of the open request that are not committed
        gap = (0, 0)  # the last one in the open request
        for seq, entry in _numbered(entries):
            if seq != last + 1:
                gap = (last + 1, seq - 1)
                same_run = not isinstance(entry, str) and entry.run_id == run_id
                if not (begun and same_run) or run_id in previewed or last in self._torn:
                    raise self._gap(*gap, bad)
            last = seq
            if isinstance(entry, str):
                continue
            run_id = entry.run_id
            if begun and gap != (0, 0) and _is_whole_answer(entry):
                raise self._gap(*gap, bad)  # a part that was never committed: its end is missing too
            _note_parts(entry, begun)
            if not begun:
                gap = (0, 0)

    def _gap(self, first: int, last: int, bad: str) -> ResumeError:
        missing = f"event {first} is" if first == last else f"events {first} to {last} are"
        return ResumeError(
            f"session {self.session_id}: {missing} missing; only a whole log can be gone on with{bad}"
        )

    def _unfit(self, event: AgentEvent, what: str) -> ResumeError:
        return ResumeError(
            f"session {self.session_id}: event {event.seq} ({event.type}) {what}, and that is not what stands "
            "before it; the log was edited or is not whole"
        )


def last_number(entries: list[Entry]) -> int:
    """Return the `seq` of the last entry that counts."""
    return max((seq for seq, _ in _numbered(entries)), default=0)


def up_to(entries: list[Entry], last: int) -> list[Entry]:
    """Return the entries up to a `seq`."""
    return [entry for seq, entry in _numbered(entries) if seq <= last]


def _numbered(entries: list[Entry]) -> Iterator[tuple[int, Entry]]:
    seq = 0
    for entry in entries:
        seq = seq + 1 if isinstance(entry, str) else entry.seq
        yield seq, entry


def _note_parts(event: AgentEvent, begun: set[str]) -> None:
    """Keep which parts have begun and are not committed."""
    match event:
        case ContentDelta(delta=BeginPart(part_id)):
            begun.add(part_id)
        case ContentDelta(delta=CommitPart(part_id)):
            begun.discard(part_id)
        case ModelRequestStarted() | ModelRequestFinished() | ModelRequestFailed() | RunStarted():
            begun.clear()
        case _:
            pass


def _is_whole_answer(event: AgentEvent) -> bool:
    """Whether all parts are committed here."""
    return isinstance(event, ModelRequestFinished) and event.finish_reason != "cancelled"


def _is_preview(event: AgentEvent) -> bool:
    return type(event) is ContentDelta and type(event.delta) in _PREVIEWS


def _is_of_recovery(entry: Entry) -> bool:
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
