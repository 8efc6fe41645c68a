"""Several logs as one stream in order of time, as windows over sessions need it, with no more in memory than is open.

A log, with its rotated segments, is read in its own order, that of its lines; an event whose time is before that of one
above it counts as at the time of that. Of several logs the event with the earliest such time comes next; at the same
time that of the log that was named first. A log is opened for its first event, and again as its time has come.
"""

from __future__ import annotations

import datetime as dt
import heapq
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from agentkit_loop.events import AgentEvent
from agentkit_reporting.log.read import BadLine, LogReader, RecordFiles, read_events

__all__ = ["LogsInOrder"]

_STDIN = "<stdin>"
_MOST_HELD = 32  # of fewer logs none is opened twice
_MOST_BAD = 1_000


@attrs.define(eq=False)
class _Log:
    """One log. reader: None while it is not open. head: the event that comes next, where it was read already."""

    name: str
    records: RecordFiles
    reader: LogReader | None = None
    head: AgentEvent | None = None

    def next(self) -> AgentEvent | None:
        if self.reader is None:
            self.reader = read_events("-" if self.name == _STDIN else self.name)
            self.reader.on_bad_line = lambda path, _, content: self.records.note_line(path, content)
        return next(self.reader, None)

    def begin(self, *, is_held: bool) -> dt.datetime | None:
        """Return the time of its first event; a file that is not held is closed again until it is its turn."""
        self.head = self.next()
        if self.head is None or self.reader is None:
            return None
        first = self.head.timestamp
        if not is_held and _is_file(self.name):
            self.reader.close()
            self.reader = self.head = None
        return first


class LogsInOrder:
    """The events of logs in order of time: iterate over it, once. source: as of `read_events`.

    paths: what is read. path: of the event that was given last. left_out: files of other records beside the logs.
    Raises LogError as `read_events` does.
    """

    def __init__(self, source: Sequence[str]) -> None:
        named = read_events(list(source))
        self.paths = named.paths
        named.close()
        self.path = ""
        self._records = RecordFiles()
        self._logs = [_Log(name, self._records) for name in self.paths]

    def __iter__(self) -> Iterator[AgentEvent]:
        is_held = len(self._logs) <= _MOST_HELD
        begun = [(log.begin(is_held=is_held), number) for number, log in enumerate(self._logs)]
        waiting = [(first, number) for first, number in begun if first is not None]
        heapq.heapify(waiting)
        while waiting:
            reached, number = waiting[0]
            log = self._logs[number]
            event = log.head or log.next()
            if event is not None and log.reader is not None:
                self.path = log.reader.path
                self._records.note_event(self.path)
                yield event
                log.head = log.next()
            if log.head is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (max(reached, log.head.timestamp), number))

    # --- what was met

    @property
    def left_out(self) -> tuple[str, ...]:
        """Files that hold records of another kind."""
        return self._records.paths

    @property
    def bad(self) -> tuple[BadLine, ...]:
        """The bad lines met so far, those of other records aside, the first of them."""
        left_out = set(self.left_out)
        readers = [log.reader for log in self._logs if log.reader is not None]
        return tuple(bad for reader in readers for bad in reader.bad if bad.path not in left_out)[:_MOST_BAD]

    @property
    def bad_count(self) -> int:
        """How many there were."""
        readers = [log.reader for log in self._logs if log.reader is not None]
        return sum(reader.bad_count - self._records.count(reader.bad_by_path) for reader in readers)

    @property
    def newer_version(self) -> int | None:
        """The highest version of a log above our own."""
        found = [log.reader.newer_version for log in self._logs if log.reader is not None]
        return max((version for version in found if version is not None), default=None)


def _is_file(name: str) -> bool:
    try:
        return stat.S_ISREG(Path(name).stat().st_mode)
    except OSError:
        return name != _STDIN  # a log of which there are segments alone
