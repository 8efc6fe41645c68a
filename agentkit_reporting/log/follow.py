"""A log as it grows: what is there, and then what comes, until somebody stops it or the run is over."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Generator, Iterator

from agentkit_loop.clock import Clock
from agentkit_loop.events import AgentEvent, RunCancelled, RunFailed, RunFinished, RunStarted
from agentkit_reporting.log.lines import Batch
from agentkit_reporting.log.sources import Sources

POLL_MS = 50.0
"""How often a log that does not grow is looked at."""

MAX_OPEN_LOGS = 64
"""How many logs are held open; others are opened again when they grow."""


class Follower:
    """The lines of what was named, and of what comes.

    Streams are read to their end when it is their turn. is_over: asked when all there is has been read.
    """

    def __init__(
        self, sources: Sources, *, clock: Clock, poll_ms: float, is_over: Callable[[], bool]
    ) -> None:
        self._sources = sources
        self._clock = clock
        self._poll_s = poll_ms / 1_000
        self._is_over = is_over
        self._inputs = sources.take_new()
        self.stopped = False
        """Set it from another thread to end this after the next poll."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is being read."""
        return tuple(each.name for each in self._inputs)

    def batches(self) -> Generator[Batch]:
        """Yield lines as they come; raises LogError."""
        try:
            while not self.stopped:
                is_idle = True
                for batch in self._round():
                    is_idle = False
                    yield batch
                if is_idle:
                    if self._is_over() or not (self._inputs or self._sources.may_grow):
                        return
                    self._clock.sleep(self._poll_s)
                self._inputs += self._sources.take_new()
        finally:
            for each in self._inputs:
                each.close()

    def _round(self) -> Iterator[Batch]:
        """Yield what each input has."""
        open_count = 0
        for each in list(self._inputs):
            if each.is_unchanged():
                continue
            yield from each.batches(to_end=False)
            if each.finished:
                self._inputs.remove(each)
            elif each.is_open:
                open_count += 1
                if open_count > MAX_OPEN_LOGS:
                    each.park()


class RunWatch:
    """Whether the runs that one waits for are over.

    Of the runs that are there before one waits only the one that started last counts: an older one that is open
    broke off. After that all count that start. Runs of sub-agents end with their parent's, where that is read too.
    """

    def __init__(self) -> None:
        self._started: dict[
            str, tuple[dt.datetime, str | None]
        ] = {}  # by session: when last, its parent's session
        self._open: set[str] = set()
        self._is_live = False

    def watched(self, events: Generator[AgentEvent]) -> Generator[AgentEvent]:
        """Yield the events, having looked at them."""
        from agentkit_loop.closing import PROCESS_ENDED  # noqa: PLC0415 - most readers wait for no end

        with contextlib.closing(events):
            for event in events:
                if isinstance(event, RunStarted):
                    parent = None if event.parent is None else event.parent.session_id
                    self._started[event.session_id] = (event.timestamp, parent)
                    self._open.add(event.session_id)
                elif isinstance(event, (RunFinished, RunCancelled)) or (
                    # What a resume says of the run before is followed by its own run.
                    isinstance(event, RunFailed) and event.error.type != PROCESS_ENDED.type
                ):
                    self._open.discard(event.session_id)
                yield event

    def is_over(self) -> bool:
        """Whether no run is open that was waited for; asked when all that is there has been read."""
        roots = {
            session: moment
            for session, (moment, parent) in self._started.items()
            if parent not in self._started
        }
        if not self._is_live and roots:
            self._open &= {max(roots, key=lambda session: roots[session])}
        self._is_live = True
        return bool(roots) and self._open.isdisjoint(roots)
