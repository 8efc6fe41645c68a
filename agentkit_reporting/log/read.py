r"""A log as a stream of events: from a file, many files, a directory, a pattern, a pipe.

A line that is no event is skipped, counted and told with its place; whole records that stand on one line
with a torn one are found. Lines end at the byte `\n` only; a carriage return before it is white space.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import io
import itertools
import os
import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import attrs

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent
from agentkit_reporting.codec import LINE_START, LOG_VERSION, DecodeError, decode_event, log_version


class Readable(Protocol):
    """An open file, binary or text, or anything with its `read`."""

    def read(self, size: int = -1, /) -> bytes | str | None:
        """Return at most `size` bytes or characters, nothing at the end."""


Source: TypeAlias = str | os.PathLike[str] | Readable | Iterable[str | os.PathLike[str] | Readable]
"""Where a log is: a file, a directory of logs, a glob pattern, "-" for standard input, an open file, or
several of these in the order to read them."""

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is a bad line and is never held in memory as a whole."""

MAX_KEPT_BAD = 1_000
"""How many bad lines are kept with their places; the rest is only counted."""

_BLOCK_BYTES = 256 * 1024
_MAX_RECORDS_IN_LINE = 16  # what a line is searched for; bounds the work that a hostile line can make
_RECORD_START = re.compile(rb'\{"v":\d+,"seq":\d')
_BOM = b"\xef\xbb\xbf"
_SUFFIXES = (".jsonl", ".jsonl.gz")


@attrs.frozen
class BadLine:
    """A line, or a part of one, that is no event. line: from 1. reason: printable, one sentence."""

    path: str
    line: int
    reason: str


def read_events(source: Source, *, strict: bool = False, max_line_bytes: int = MAX_LINE_BYTES) -> LogReader:
    """Return the events of a log, one pass, in the order of the files and of their lines.

    source: a file (`.gz` is unpacked), a directory (all its `*.jsonl` and `*.jsonl.gz`, sorted), a glob
    pattern, an open file (binary or text; it stays open), "-" for standard input, or several of these.
    strict: the first bad line raises LogError with path and line, instead of being skipped and counted.

    Raises LogError for what does not exist, cannot be read or holds no log.
    """
    if max_line_bytes < 1:
        raise ConfigurationError(f"max_line_bytes={max_line_bytes!r} must be at least 1")
    return LogReader(_inputs(source), strict=strict, max_line_bytes=max_line_bytes)


class LogReader:
    """The events of a log: iterate over it, once. Made by `read_events`.

    bad_count: how many bad lines were met so far. newer_version: the highest `v` above our own that was
    met, None if there was none: such a log may say things that are not understood here.
    """

    def __init__(self, inputs: list[_Input], *, strict: bool, max_line_bytes: int) -> None:
        self.bad_count = 0
        self.newer_version: int | None = None
        self.paths = tuple(each.name for each in inputs)
        self._bad: list[BadLine] = []
        self._strict = strict
        self._max_line_bytes = max_line_bytes
        self._inputs = inputs
        self._events = self._read()

    @property
    def bad(self) -> tuple[BadLine, ...]:
        """The bad lines met so far, the first 1,000 of them."""
        return tuple(self._bad)

    def __iter__(self) -> Iterator[AgentEvent]:
        return self._events  # the generator itself: a `__next__` of ours would cost a call for each event

    def __next__(self) -> AgentEvent:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is being read; the reading is over then. At the end it happens by itself."""
        self._events.close()

    def _read(self) -> Generator[AgentEvent]:
        for each in self._inputs:
            note = functools.partial(self._note, each.name)
            for first, lines in _batches(each, self._max_line_bytes, note):
                for number, line in enumerate(lines, first):
                    if not line.startswith(LINE_START):
                        if not line or line.isspace():
                            continue
                        self._note_version(line)
                    try:
                        event = decode_event(line)
                    except DecodeError as error:
                        yield from _salvage(line, error.reason, functools.partial(note, number))
                    else:
                        yield event

    def _note(self, path: str, line: int, reason: str) -> None:
        if self._strict:
            raise LogError(reason, path=path, line=line)
        self.bad_count += 1
        if len(self._bad) < MAX_KEPT_BAD:
            self._bad.append(BadLine(path, line, reason))

    def _note_version(self, line: bytes) -> None:
        version = log_version(line)
        if version is not None and version > max(LOG_VERSION, self.newer_version or 0):
            self.newer_version = version


def _salvage(line: bytes, reason: str, note: Callable[[str], None]) -> Iterator[AgentEvent]:
    """Yield the whole records of a line that is none itself; tell `note` if anything else was on it."""
    starts = [
        match.start() for match in itertools.islice(_RECORD_START.finditer(line, 1), _MAX_RECORDS_IN_LINE)
    ]
    bounds = [0, *starts, len(line)]
    last = len(bounds) - 1
    found: list[AgentEvent] = []
    torn = False
    first = 0
    while first < last:
        # The longest piece first: what looks like a beginning may stand inside a whole record.
        for end in range(last, first, -1):
            event = None if end - first == last else _event_or_none(line[bounds[first] : bounds[end]])
            if event is not None:
                found.append(event)
                first = end
                break
        else:
            torn = True
            first += 1
    if torn:
        note(f"{reason}; {len(found)} whole found on the same line" if found else reason)
    yield from found


def _event_or_none(piece: bytes) -> AgentEvent | None:
    try:
        return decode_event(piece)
    except DecodeError:
        return None


# --- lines


def _batches(
    source: _Input, max_line_bytes: int, note: Callable[[int, str], None]
) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines of an input in batches, each with the number of its first line, from 1."""
    number = 1
    pending: list[bytes] = []  # pieces of the line that goes on with the next block
    size = 0
    with contextlib.closing(source.blocks(min(_BLOCK_BYTES, max_line_bytes))) as blocks:
        for block in blocks:
            lines = block.split(b"\n")
            size += len(lines[0])
            if size <= max_line_bytes:
                pending.append(lines[0])
            else:
                pending.clear()  # its bytes are of no use any more
            if len(lines) == 1:
                continue
            tail = lines.pop()
            if size <= max_line_bytes:
                lines[0] = _line(number, pending)
            else:
                note(number, f"longer than {max_line_bytes:,} bytes")
                del lines[0]
                number += 1
            pending, size = [tail], len(tail)
            yield number, lines
            number += len(lines)
    last = _line(number, pending)
    if size > max_line_bytes:
        note(number, f"longer than {max_line_bytes:,} bytes")
    elif source.damage is None or _event_or_none(last) is not None:
        yield number, [last]
        number += 1
    if source.damage is not None:
        note(number, source.damage)


def _line(number: int, pieces: list[bytes]) -> bytes:
    line = b"".join(pieces)
    return line.removeprefix(_BOM) if number == 1 else line  # some editors put it in front


# --- where the bytes come from


class _Input:
    """One file or stream.

    name: its path, or what stands for it in messages. damage: why the rest could not be read, None where
    the end was reached.
    """

    def __init__(self, name: str, stream: Any = None) -> None:
        self.name = name
        self.damage: str | None = None
        self._stream = stream  # None: a file of that name, opened when it is its turn

    def blocks(self, size: int) -> Generator[bytes]:
        """Yield the bytes as they come, at most about `size` at once; raises LogError."""
        stream = self._stream
        damages: tuple[type[Exception], ...] = (UnicodeError,)  # of a text stream
        try:
            if stream is None:
                stream, damages = _opened(self.name)
            read = _reading(stream)
            while block := _as_bytes(read(size)):
                yield block
        except damages as error:
            self.damage = f"the rest cannot be read: {error}"
        except OSError as error:
            raise _unreadable(self.name, error) from error
        finally:
            if self._stream is None and stream is not None:
                stream.close()


def _unreadable(name: str, error: OSError) -> LogError:
    reason = error.strerror or str(error)
    return LogError(f"log cannot be read: {reason[:1].lower()}{reason[1:]}", path=name)


def _opened(name: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """Open a file; return it with the errors that mean that it is damaged."""
    if not name.endswith(".gz"):
        return Path(name).open("rb", buffering=0), ()
    import gzip  # noqa: PLC0415 - few logs need it

    return gzip.open(name), (EOFError, zlib.error, gzip.BadGzipFile)


def _reading(stream: Any) -> Callable[[int], bytes | str | None]:
    """Return what gives the next block as soon as there is some, so that a pipe is read as it is fed."""
    if isinstance(stream, io.TextIOBase):
        return stream.readline
    read: Callable[[int], bytes | str | None] = getattr(stream, "read1", stream.read)
    return read


def _as_bytes(block: Any) -> bytes:
    if isinstance(block, str):
        return block.encode("utf-8", "surrogatepass")  # a lone surrogate makes its line a bad one
    return b"" if block is None else bytes(block)


def _inputs(source: object) -> list[_Input]:
    if isinstance(source, (str, os.PathLike)):
        return _of_path(source)
    if callable(getattr(source, "read", None)):
        return [_of_stream(source)]
    if not isinstance(source, Iterable) or isinstance(source, (bytes, bytearray)):
        raise ConfigurationError(
            f"{source!r} refused because it is no log; give a path, paths or an open file"
        )
    found = [each for one in source for each in _inputs(one)]
    if not found:
        raise LogError("nothing to read because no log was given; give at least one", path="[]")
    return found


def _of_path(path: str | os.PathLike[str]) -> list[_Input]:
    if path == "-":
        return [_of_stream(sys.stdin, "<stdin>")]
    name = os.fsdecode(path)
    place = Path(name)
    if not name or "\0" in name:
        raise LogError("log not found because this names no file; give a path", path=repr(name))
    try:
        if place.is_dir():
            return _of_directory(place)
        if place.exists():
            return [_readable(name)]
    except OSError as error:
        raise _unreadable(name, error) from error
    if not glob.has_magic(name):
        raise LogError("log not found because there is no such file; check the path", path=name)
    matches = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob() takes no absolute pattern
    found = sorted(each for each in matches if not Path(each).is_dir())
    if not found:
        raise LogError("log not found because no file matches this pattern; check it", path=name)
    return [_readable(each) for each in found]


def _of_directory(place: Path) -> list[_Input]:
    found = sorted(each for each in place.iterdir() if each.name.endswith(_SUFFIXES) and not each.is_dir())
    if not found:
        raise LogError(
            "log not found because the directory holds no *.jsonl and no *.jsonl.gz; give another",
            path=str(place),
        )
    return [_readable(str(each)) for each in found]


def _readable(name: str) -> _Input:
    if not os.access(name, os.R_OK):
        raise LogError("log cannot be read because that is not permitted; change its mode", path=name)
    return _Input(name)


def _of_stream(stream: Any, name: str | None = None) -> _Input:
    if name is None:
        given = getattr(stream, "name", None)
        name = given if isinstance(given, str) else f"<{type(stream).__name__}>"
    readable = getattr(stream, "readable", None)
    if stream is None or getattr(stream, "closed", False) or (callable(readable) and not readable()):
        raise LogError("stream refused because it is closed or not for reading; open it anew", path=name)
    if isinstance(stream, io.TextIOWrapper):
        # Its bytes are better: any line may be broken. But not once it has read ahead of its reader, which
        # is when it refuses to be reconfigured.
        with contextlib.suppress(io.UnsupportedOperation):
            stream.reconfigure(errors=stream.errors)
            stream = stream.buffer
    return _Input(name, stream)
