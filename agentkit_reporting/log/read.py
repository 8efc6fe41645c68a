"""A log as a stream of events: from a file, many files, a directory, a pattern, a pipe.

A line that is no event is skipped, counted and told with its place; whole records that stand on one line
with a torn one are found.
"""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias

import attrs
import msgspec

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent
from agentkit_loop.records import FrozenRecord
from agentkit_reporting.codec import LINE_START, LOG_VERSION, DecodeError, decode_event, log_version
from agentkit_reporting.log.blocks import BETWEEN, Line, builders_of, decode_block, line_of
from agentkit_reporting.log.follow import POLL_MS, Follower, RunWatch
from agentkit_reporting.log.inputs import Input
from agentkit_reporting.log.lines import Batch, Lines, Reading, salvaged
from agentkit_reporting.log.packing import MAX_UNPACKED_BYTES
from agentkit_reporting.log.sources import Source, Sources

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is a bad line and is never held in memory as a whole."""

_UTC = dt.UTC

MAX_KEPT_BAD = 1_000
"""How many bad lines are kept with their places; the rest is only counted."""


@attrs.frozen(eq=False, repr=False)
class BadLine(FrozenRecord):
    """A line, or a part of one, that is no event. line: from 1. reason: printable, one sentence."""

    path: str
    line: int
    reason: str


def read_events(
    source: Source,
    *,
    strict: bool = False,
    wants: Iterable[type[AgentEvent]] | None = None,
    follow: bool = False,
    until_run_end: bool = False,
    poll_ms: float = POLL_MS,
    clock: Clock | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
) -> LogReader:
    """Return the events of a log, one pass, in the order of the files and of their lines.

    source: a file, with its rotated segments before it; a packed file (`.gz`, `.zst`); a directory (all its
    `*.jsonl`, packed ones too, sorted); a glob pattern; an open file (binary or text; it stays open); "-" for
    standard input; or several of these. Each log is read once, also if it is rotated, packed and cleaned up
    meanwhile; segments that go before they could be read are counted as a bad line.
    strict: the first bad line raises LogError with path and line, instead of being skipped and counted.
    wants: the classes of events to give, None for all. What is no event is told and counted all the same.

    follow: wait for more, also for logs that are not there yet, in a directory or pattern too. The events of
    each session stay in order; those of several logs come as they come. until_run_end: stop when the runs are
    over: of those that are there already the one that started last, and all that start later. poll_ms: how often
    to look. `close()` ends it, also from another thread. clock: whose `sleep` waits between two looks, and for the
    rest of a line that is written just now.

    max_unpacked_bytes: a packed file that gives more than this, and more than 100 times its own size, is not
    read on. Raises LogError for what does not exist, cannot be read or holds no log; ConfigurationError.
    """
    given: Any = poll_ms
    sizes: tuple[tuple[str, Any], ...] = (
        ("max_line_bytes", max_line_bytes),
        ("max_unpacked_bytes", max_unpacked_bytes),
    )
    for name, value in sizes:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name}={value!r} must be a whole number and at least 1")
    if until_run_end and not follow:
        raise ConfigurationError("until_run_end=True refused without following; give follow=True as well")
    if until_run_end and wants is not None:
        raise ConfigurationError("until_run_end=True refused with wants; it needs all events")
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not poll_ms > 0:
        raise ConfigurationError(f"poll_ms={poll_ms!r} refused because it is no period; give more than 0")
    bad = BadLines(strict=strict)
    clock = clock or Clock()
    reading = Reading(max_line_bytes, max_unpacked_bytes, bad.note, clock.sleep, between=BETWEEN)
    kinds = None if wants is None else frozenset(wants)
    sources = Sources(source, reading, waiting=follow)
    if not follow:
        inputs = sources.take_new()
        return LogReader(all_batches(inputs), bad, paths=tuple(each.name for each in inputs), wants=kinds)
    watch = RunWatch() if until_run_end else None
    is_over = watch.is_over if watch is not None else lambda: False
    follower = Follower(sources, clock=clock, poll_ms=poll_ms, is_over=is_over)
    return LogReader(
        follower.batches(), bad, paths=follower.names, follower=follower, watch=watch, wants=kinds
    )


class LogReader:
    """The events of a log: iterate over it, once. Made by `read_events`.

    paths: what is read, as far as it is there when the reading begins.
    """

    def __init__(
        self,
        batches: Generator[Batch],
        bad: BadLines,
        *,
        paths: tuple[str, ...],
        follower: Follower | None = None,
        watch: RunWatch | None = None,
        wants: frozenset[type[AgentEvent]] | None = None,
    ) -> None:
        self.paths = paths
        self._bad = bad
        self._follower = follower
        # The generator does not refer to this object: who forgets it has the files closed at once.
        self._at = _Position()
        self._blocks = _blocks(batches, self._at)
        self._events = _events(self._blocks, self._at, wants)
        if watch is not None:
            self._events = watch.watched(self._events)

    @property
    def path(self) -> str:
        """The file of the event that was given last."""
        return self._at.path

    @property
    def line(self) -> int:
        """Its line in that file, from 1; 0 before the first one."""
        return self._at.line

    @property
    def newer_version(self) -> int | None:
        """The highest `v` above our own that was met; such a log may say things that are not understood here."""
        return self._at.newer_version

    @property
    def on_bad_line(self) -> Callable[[str, int, bytes], object] | None:
        """Called with path, line and bytes of each line that is no event, before what was saved of it is given."""
        return self._at.on_bad_line

    @on_bad_line.setter
    def on_bad_line(self, told: Callable[[str, int, bytes], object] | None) -> None:
        self._at.on_bad_line = told

    @property
    def follows(self) -> bool:
        """Whether it waits for more at the end."""
        return self._follower is not None

    @property
    def bad(self) -> tuple[BadLine, ...]:
        """The bad lines met so far, the first 1,000 of them."""
        return tuple(self._bad.kept)

    @property
    def bad_count(self) -> int:
        """How many bad lines were met so far."""
        return self._bad.count

    @property
    def bad_by_path(self) -> Mapping[str, int]:
        """How many bad lines were met so far in each file that has any."""
        return dict(self._bad.by_path)

    @property
    def with_events(self) -> frozenset[str]:
        """The files met so far that hold an event, wanted or not."""
        return self._at.records.with_events

    @property
    def left_out(self) -> tuple[str, ...]:
        """The files met so far that hold no event but records of another kind; their lines count as bad ones."""
        return self._at.records.paths

    @property
    def left_out_count(self) -> int:
        """How many of the bad lines are theirs."""
        return self._at.records.count(self._bad.by_path)

    def __iter__(self) -> Iterator[AgentEvent]:
        return self._events  # the generator itself: a `__next__` of ours would cost a call for each event

    def __next__(self) -> AgentEvent:
        return next(self._events)

    def blocks(self) -> Iterator[list[Line]]:
        """Yield all events as the lines that they are, many at a time and all of them wanted, in place of iterating.

        For who folds a few fields of some kinds: there is no event made of each line.
        """
        return _lines(self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files that are being read; the reading is over then. At the end it happens by itself.

        From another thread it ends a reader that follows, with its next look.
        """
        if self._follower is None:
            self._events.close()
            self._blocks.close()
            return
        self._follower.stopped = True
        with contextlib.suppress(ValueError):  # the thread that reads is in there
            self._events.close()
            self._blocks.close()


class _Position:
    """Where a reading is, and what it met."""

    def __init__(self) -> None:
        self.path = ""
        self.line = 0
        self.newer_version: int | None = None
        self.on_bad_line: Callable[[str, int, bytes], object] | None = None
        self.records = RecordFiles()

    def note_version(self, line: bytes) -> None:
        version = log_version(line)
        if version is not None and version > max(LOG_VERSION, self.newer_version or 0):
            self.newer_version = version


_Block: TypeAlias = tuple[int, list[Any] | None, Iterable[tuple[int, AgentEvent]]]
"""The number of the first line of a block and its lines; None where they are read one by one, as numbered events."""


def _blocks(batches: Generator[Batch], at: _Position) -> Generator[_Block]:
    with contextlib.closing(batches):
        for source, first, blocks in batches:
            at.path = source.name
            begin = first
            for block in blocks:
                ends = source.ends if block is blocks[-1] else 0  # before the last there is a single line
                lines = decode_block(block, ends)
                if lines is None:
                    yield begin, None, _one_by_one(block, begin, source, at)
                else:
                    at.records.note_event(source.name)
                    yield begin, lines, ()
                del lines  # before the next ones are made: they take its memory, which is at hand
                begin += ends + 1


def _lines(blocks: Generator[_Block]) -> Iterator[list[Line]]:
    for _, lines, events in blocks:
        if lines is not None:
            yield lines
            del lines  # as above
        else:
            yield from ([line_of(event)] for _, event in events)


def _events(
    blocks: Generator[_Block], at: _Position, wants: frozenset[type[AgentEvent]] | None
) -> Generator[AgentEvent]:
    build_of = builders_of(wants).get
    with contextlib.closing(blocks):
        for begin, lines, events in blocks:
            for number, line in enumerate(lines or (), begin):
                build = build_of(line.__class__)
                if build is None:
                    continue
                at.line = number
                if line.ts.tzinfo is not _UTC:
                    line.ts = line.ts.astimezone(_UTC)
                yield build(line, line.payload)
            for number, event in events:
                if wants is None or event.__class__ in wants:
                    at.line = number
                    yield event


def _one_by_one(block: bytes, first: int, source: Lines, at: _Position) -> Iterator[tuple[int, AgentEvent]]:
    """Yield the events of lines of which at least one is not as we write it."""
    for number, line in enumerate(block.split(BETWEEN), first):
        if not line.startswith(LINE_START):
            if not line or line.isspace():
                continue
            at.note_version(line)
        try:
            events: Iterable[AgentEvent] = (decode_event(line),)
        except DecodeError as error:
            at.records.note_line(source.name, line)
            if at.on_bad_line is not None:
                at.on_bad_line(source.name, number, line)
            events = salvaged(line, error.reason, functools.partial(source.note, number))
        for event in events:
            at.records.note_event(source.name)
            yield number, event


class BadLines:
    """The bad lines that were met; with `strict` the first one raises."""

    def __init__(self, *, strict: bool) -> None:
        self.count = 0
        self.kept: list[BadLine] = []
        self.by_path: collections.Counter[str] = collections.Counter()
        self._strict = strict

    def note(self, path: str, line: int, reason: str) -> None:
        """Take note of one."""
        if self._strict:
            raise LogError(reason, path=path, line=line)
        self.count += 1
        self.by_path[path] += 1
        if len(self.kept) < MAX_KEPT_BAD:
            self.kept.append(BadLine(path, line, reason))


class RecordFiles:
    """Tells the files of other records in a directory from logs: usage, tools, steps, decisions and the like.

    Such a file holds no event, and a line of it is a JSON object without what every event has (`v`, `seq`,
    `payload`). What is no event in it is no damage of a log.
    """

    def __init__(self) -> None:
        self._with_events: set[str] = set()
        self._with_records: dict[str, None] = {}
        self._path = ""

    def note_event(self, path: str) -> None:
        """Take note that a file holds an event."""
        if path is not self._path:
            self._path = path
            self._with_events.add(path)

    def note_events(self, paths: Iterable[str]) -> None:
        """Take note that files hold events."""
        self._with_events.update(paths)

    @property
    def with_events(self) -> frozenset[str]:
        """The files that hold an event."""
        return frozenset(self._with_events)

    def note_line(self, path: str, content: bytes) -> None:
        """Take note of a line that is no event."""
        if path in self._with_records or path in self._with_events or not content.lstrip().startswith(b"{"):
            return
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            record = msgspec.json.decode(content)
            if isinstance(record, dict) and not record.keys() & {"v", "seq", "payload"}:
                self._with_records[path] = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The files of other records, in the order in which they were read."""
        return tuple(path for path in self._with_records if path not in self._with_events)

    def count(self, bad_by_path: Mapping[str, int]) -> int:
        """Return how many of the lines that are no events are theirs."""
        return sum(bad_by_path.get(path, 0) for path in self.paths)


def all_batches(inputs: list[Input]) -> Generator[Batch]:
    """Yield what is there, one input after another."""
    try:
        for each in inputs:
            yield from each.batches(to_end=True)
            each.close()
    finally:
        for each in inputs:
            each.close()
