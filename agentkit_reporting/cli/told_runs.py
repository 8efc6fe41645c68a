"""Which runs a log has told already, so that a log that is given twice is not exported twice; and which have no end."""

from __future__ import annotations

from typing import Final

from agentkit_loop.events import RUN_ENDS, AgentEvent, RunStarted

__all__ = ["ToldRuns"]

_WHOLE: Final = 2**63  # no sequence number is as high: all of a run has been told


class ToldRuns:
    """Takes events as they come, and knows those that are told once more. Holds open runs, and a number of each other.

    repeated: how many events were told once more.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self._open: dict[tuple[str, str], int] = {}  # the last sequence number
        self._ended: set[int] = set()  # hashes, which is enough to know a run by, and small
        self._again: dict[tuple[str, str], int] = {}  # told again: up to which number nothing is new

    def take(self, event: AgentEvent) -> bool:
        """Take the next event of any session; whether it is told for the first time."""
        run = (event.session_id, event.run_id)
        if isinstance(event, RunStarted):
            self._begin(run, event)
        is_new = self._is_new(run, event)
        if not is_new:
            self.repeated += 1
        if isinstance(event, RUN_ENDS):
            self._end(run)
        elif is_new and run in self._open:
            self._open[run] = event.seq
        return is_new

    @property
    def open_sessions(self) -> dict[str, int]:
        """How many runs without an end each session has, those that began first before others."""
        told: dict[str, int] = {}
        for session_id, _ in self._open:
            told[session_id] = told.get(session_id, 0) + 1
        return told

    def _begin(self, run: tuple[str, str], event: RunStarted) -> None:
        if hash(run) in self._ended:
            self._again[run] = _WHOLE
            return
        if run in self._open:
            self._again[run] = self._open[run]
            return
        if event.resumed_run is not None:  # whether somebody tells the end of that one or not
            self._end((event.session_id, event.resumed_run))
        self._open[run] = 0

    def _is_new(self, run: tuple[str, str], event: AgentEvent) -> bool:
        return not self._again or event.seq > self._again.get(run, 0)

    def _end(self, run: tuple[str, str]) -> None:
        self._again.pop(run, None)
        if self._open.pop(run, None) is not None:
            self._ended.add(hash(run))
