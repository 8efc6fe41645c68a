"""Where the bytes of a log come from: what is read once, from its beginning to its end.

A stream, a pipe, a packed file, a rotated segment that is named by itself. A log that is still written, with
its segments, is read by `agentkit_reporting.log.tail`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

from agentkit_loop.errors import LogError
from agentkit_reporting.log.lines import Batch, Lines, Reading
from agentkit_reporting.log.packing import PackedBeyondBoundsError, Packing, packing_of, unpacked
from agentkit_reporting.log.places import reason_of
from agentkit_reporting.log.segments import PACKED_SUFFIXES

BLOCK_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"


class Input(Protocol):
    """One part of what is read. name: a path, or what stands for it in messages."""

    name: str
    finished: bool
    """Whether there can never be more."""

    def batches(self, *, to_end: bool) -> Iterator[Batch]:
        """Yield what is there and was not read yet; raises LogError.

        to_end: nothing is expected to come later, so that a last line without its end is taken.
        """

    def close(self) -> None:
        """Close what is open."""

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""

    def park(self) -> None:
        """Give the descriptor back until there is more to read, where that is possible."""

    def is_unchanged(self) -> bool:
        """Whether it is parked and nothing has come; raises LogError."""


class StreamInput:
    """An open stream, or a file that is read as one: packed, a pipe, a device.

    stream: None for the file at `place`, opened when it is its turn. If it is gone by then and `others` are given,
    the first of them that is there holds the same. given: what the caller gave, where that is another object than
    `stream`: nobody else may hold it, and it closes the stream when it goes.
    """

    def __init__(
        self,
        name: str,
        reading: Reading,
        *,
        stream: Any = None,
        given: object = None,
        place: Path | None = None,
        others: tuple[Path, ...] = (),
    ) -> None:
        self.name = name
        self.finished = False
        self.is_open = False
        self._reading = reading
        self._stream = stream
        self._given = given
        self._place = Path(name) if place is None else place
        self._others = others

    def batches(self, *, to_end: bool) -> Iterator[Batch]:
        """Yield all of it."""
        del to_end
        self.finished = True
        damage = None
        block_bytes = min(BLOCK_BYTES, self._reading.max_line_bytes)
        if self._stream is None and not self._place.exists():
            self._place = next((each for each in self._others if each.exists()), self._place)
            self.name = str(Path(self.name).with_name(self._place.name)) if self._others else self.name
        lines = Lines(self.name, self._reading)
        with contextlib.closing(self._blocks(block_bytes)) as blocks:
            try:
                for block in blocks:
                    batch = lines.feed(block)
                    if batch is not None:
                        yield batch
            except DamagedError as error:
                damage = str(error)
        last = lines.end(damage)
        if last is not None:
            yield last

    def close(self) -> None:
        """Close nothing: it is open only while it is read."""

    def park(self) -> None:
        """Do nothing, for the same reason."""

    def is_unchanged(self) -> bool:
        """Return False: it is read when it is its turn."""
        return False

    def _blocks(self, size: int) -> Generator[bytes]:
        if self._stream is not None:
            yield from _blocks_of_stream(self._stream, size, self.name, self._reading)
            return
        try:
            file = io.FileIO(self._place)
        except OSError as error:
            raise unreadable(self.name, error) from error
        with file:
            packing = packing_for(self.name) or packing_for(self._place.name)
            yield from _blocks_of_file(file, size, self.name, packing, self._reading)


class DamagedError(Exception):
    """Why the rest of a file cannot be read."""


def unreadable(name: str, error: OSError) -> LogError:
    """Return the error for a file that the system does not let us read."""
    return LogError(f"log cannot be read: {reason_of(error)}", path=name)


def packing_for(name: str) -> Packing | None:
    """Return how a file of that name is packed; raises ConfigurationError where its package is missing."""
    suffix = name[name.rfind(".") :]
    return packing_of(suffix, wanted_by=f"log {name!r}") if suffix in PACKED_SUFFIXES else None


def unpacked_blocks(read: Callable[[int], bytes], packing: Packing, reading: Reading) -> Generator[bytes]:
    """Yield what a packed file holds; raises DamagedError with a sentence, and OSError."""
    size = min(BLOCK_BYTES, reading.max_line_bytes)
    try:
        for piece in unpacked(read, packing, max_bytes=reading.max_unpacked_bytes):
            yield from _of_size(piece, size)
    except PackedBeyondBoundsError as error:
        raise DamagedError(f"the rest is not read: {error}") from None
    except (EOFError, packing.error) as error:
        raise DamagedError(f"the rest cannot be read: {error}") from None


def stream_input(stream: Any, reading: Reading, name: str | None = None) -> StreamInput:
    """Return an open stream as an input; raises LogError where it is none for reading."""
    if name is None:
        given = getattr(stream, "name", None)
        name = given if isinstance(given, str) else f"<{type(stream).__name__}>"
    readable = getattr(stream, "readable", None)
    if stream is None or getattr(stream, "closed", False) or (callable(readable) and not readable()):
        raise LogError("stream refused because it is closed or not for reading; open it anew", path=name)
    given = stream
    if isinstance(stream, io.TextIOWrapper):
        # Its bytes are better: any line may be broken. But not once it has read ahead of its reader, which
        # is when it refuses to be reconfigured.
        with contextlib.suppress(io.UnsupportedOperation):
            stream.reconfigure(errors=stream.errors)
            stream = stream.buffer
    return StreamInput(name, reading, stream=stream, given=given)


def _blocks_of(stream: Any, size: int, name: str) -> Generator[bytes]:
    """Yield the bytes of an open stream as they come."""
    # What gives the next block as soon as there is some, so that a pipe is read as it is fed.
    read = stream.readline if isinstance(stream, io.TextIOBase) else getattr(stream, "read1", stream.read)
    try:
        while block := _as_bytes(read(size)):
            yield from _of_size(block, size)
    except UnicodeError as error:  # of a text stream
        raise DamagedError(f"the rest cannot be read: {error}") from None
    except OSError as error:
        raise unreadable(name, error) from error


def _of_size(block: bytes, size: int) -> Iterator[bytes]:
    """Yield what came at once in pieces of at most that size, of which each line can be measured."""
    return (block[start : start + size] for start in range(0, len(block), size))


def _blocks_of_stream(stream: Any, size: int, name: str, reading: Reading) -> Generator[bytes]:
    """Yield what an open stream holds, unpacked where it begins as gzip does: a pipe has no name that says so."""
    blocks = _blocks_of(stream, size, name)
    first = next(blocks, b"")
    while len(first) == 1 and _GZIP_MAGIC.startswith(first):
        block = next(blocks, b"")
        first += block
        if not block:
            break
    if not first.startswith(_GZIP_MAGIC):
        yield first
        yield from blocks
        return
    rest = bytearray(first)

    def read(wanted: int) -> bytes:
        if not rest:
            rest.extend(next(blocks, b""))
        taken = bytes(rest[:wanted])
        del rest[:wanted]
        return taken

    yield from unpacked_blocks(read, packing_of("gzip", wanted_by=f"log {name!r}"), reading)


def _as_bytes(block: Any) -> bytes:
    if isinstance(block, str):
        return block.encode("utf-8", "surrogatepass")  # a lone surrogate makes its line a bad one
    return b"" if block is None else bytes(block)


def _blocks_of_file(
    file: io.FileIO, size: int, name: str, packing: Packing | None, reading: Reading
) -> Generator[bytes]:
    try:
        if packing is not None:
            yield from unpacked_blocks(file.read, packing, reading)
            return
        while block := file.read(size):
            yield block
    except OSError as error:
        raise unreadable(name, error) from error
