"""Which events of a session count where a run was gone on from that was not over.

The rules of the loop (`agentkit_loop.lineage`), without its refusals: what looks back shows what is there, also of a
log that is torn, trimmed, edited or given twice. What a resume closed under the old run's id counts in place of what
the old process told under the same number; everything else that a run told after another had gone on from it does not.
"""

from __future__ import annotations

from array import array

from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    ModelRequestFailed,
    ObserverFailed,
    RunFailed,
    RunStarted,
    ToolResultReceived,
)
from agentkit_loop.usage import PROCESS_ENDED

__all__ = ["Lineage"]


class Lineage:
    """Takes events of a session in the order of the log; `superseded` says which of them do not count."""

    def __init__(self) -> None:
        self._runs: dict[str, int] = {}  # a number for each
        self._run_of = array("I")
        self._seqs = array("q")
        self._closing = bytearray()  # whether a resume may have told it under the old run's id
        self._last: dict[int, int] = {}  # the highest seq of each run
        self._starts: dict[int, RunStarted] = {}
        self._ends: dict[str, int] = {}  # of runs that were gone on from, the last seq that counts
        self._is_simple = True

    def take(self, event: AgentEvent) -> None:
        """Take the next event; its place is how many were taken before."""
        run = self._runs.setdefault(event.run_id, len(self._runs))
        self._run_of.append(run)
        self._seqs.append(event.seq)
        self._closing.append(_closes(event))
        if type(event) is RunStarted:
            self._start(run, event)
        if 0 < event.seq <= self._last.get(run, 0) or event.seq > self._ends.get(event.run_id, event.seq):
            self._is_simple = False
        self._last[run] = max(event.seq, self._last.get(run, 0))

    def _start(self, run: int, event: RunStarted) -> None:
        self._starts.setdefault(run, event)
        origin = event.resumed_run
        if origin is None:
            return
        if origin in self._ends or self._last.get(self._runs.get(origin, -1), 0) >= event.seq:
            self._is_simple = False
        self._ends[origin] = event.seq - 1

    def superseded(self) -> frozenset[int]:
        """Return the places of the events that do not count, among those that were taken."""
        if self._is_simple:
            return frozenset()
        ends, lost = self._outcome()
        closed: dict[tuple[int, int], int] = {}
        found: set[int] = set()
        for place, (run, seq) in enumerate(zip(self._run_of, self._seqs, strict=True)):
            if run in lost or seq > ends.get(run, seq):
                found.add(place)
                continue
            if not seq:  # made by hand and told by nobody: no number says which it is
                continue
            before = closed.get((run, seq))
            if before is None:
                closed[run, seq] = place
            elif run in ends and self._closing[place]:  # the resume's word counts
                found.add(before)
                closed[run, seq] = place
            else:
                found.add(place)
        return frozenset(found)

    def _outcome(self) -> tuple[dict[int, int], set[int]]:
        """Return the last seq that counts of each run that was gone on from, and the runs that lead nowhere."""
        starts = [(run, start) for run, start in self._starts.items() if start.resumed_run in self._runs]
        heirs: dict[int, list[tuple[int, RunStarted]]] = {}
        for run, start in starts:
            heirs.setdefault(self._runs[start.resumed_run or ""], []).append((run, start))
        gone_on = set(heirs)
        leaves = [run for run in self._starts if run not in gone_on]
        kept: set[int] = set()
        newest = leaves[-1] if leaves else None  # of two at once, the one that started last
        while newest is not None and newest not in kept:
            kept.add(newest)
            begun = self._starts.get(newest)
            newest = None if begun is None else self._runs.get(begun.resumed_run or "")
        ends: dict[int, int] = {}
        lost: set[int] = set()
        for origin_run, sons in heirs.items():
            chosen = next(((run, start) for run, start in sons if run in kept), sons[-1])
            ends[origin_run] = chosen[1].seq - 1
            lost |= {run for run, _ in sons if run != chosen[0]}
        pending = list(lost)
        while pending:
            for run, _ in heirs.get(pending.pop(), ()):
                if run not in lost:
                    lost.add(run)
                    pending.append(run)
        return ends, lost


def _closes(event: AgentEvent) -> bool:
    """Whether a resume may have told the event under the old run's id, to close what a crash left open.

    It was not there to measure, so what has a duration is the old process's own word.
    """
    if getattr(event, "duration_ms", None) is not None:
        return False
    match event:
        case ModelRequestFailed():
            return event.error_class == "process_ended"
        case CompactionFinished():
            return event.error is not None and event.error.type == PROCESS_ENDED.type
        case ToolResultReceived():
            return event.interrupted
        case RunFailed():
            return event.error.type == PROCESS_ENDED.type
        case ObserverFailed():
            return True  # of one that failed on one of these
        case _:
            return False
