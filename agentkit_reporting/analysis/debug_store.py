"""The lines of a session, kept compressed in memory, so that any of them can be read again.

A log may be packed, in segments, or come from a pipe: it is read once, and what a debug replay needs of it is kept
here. Nothing is written to a disk, since a log may hold what should not be in a second place.
"""

from __future__ import annotations

import collections
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator

__all__ = ["LineStore"]

_BLOCK_BYTES = 256 * 1024  # of lines that are compressed together
_OPEN_BLOCKS = 4  # that are kept as lines: steps are looked at one beside the other
_LEVEL = 1  # zlib's quickest; 6 is three times slower for a tenth less


class LineStore:
    """Lines by their place, 0, 1, 2 …; they hold no newline, as no line of JSON does.

    About a sixth of the lines' own size in memory, and one block more while some are read.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._firsts = array("Q")  # place of the first line of each block
        self._pending: list[bytes] = []  # lines of the block that is filled now
        self._pending_bytes = 0
        self._count = 0
        self._open: collections.OrderedDict[int, list[bytes]] = collections.OrderedDict()

    def __len__(self) -> int:
        return self._count

    def append(self, line: bytes) -> None:
        """Keep one more line."""
        self._pending.append(line)
        self._pending_bytes += len(line)
        self._count += 1
        if self._pending_bytes >= _BLOCK_BYTES:
            self._firsts.append(self._count - len(self._pending))
            self._blocks.append(zlib.compress(b"\n".join(self._pending), _LEVEL))
            self._pending, self._pending_bytes = [], 0

    def lines(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield place and line, from `first` up to but not including `end`."""
        end = min(end, self._count)
        while first < end:
            start, lines = self._lines_at(first)
            stop = min(end, start + len(lines))
            for place in range(first, stop):
                yield place, lines[place - start]
            first = stop

    def blocks(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield all lines, block by block, each with the place of its first line."""
        first = 0
        while first < self._count:
            start, lines = self._lines_at(first)
            yield start, lines
            first = start + len(lines)

    def block_of(self, place: int) -> int:
        """Return the number of the block that a line is in."""
        return bisect_right(self._firsts, place)

    def _lines_at(self, place: int) -> tuple[int, list[bytes]]:
        packed_count = self._count - len(self._pending)
        if place >= packed_count:
            return packed_count, self._pending
        number = bisect_right(self._firsts, place) - 1
        lines = self._open.pop(number, None)
        if lines is None:
            lines = zlib.decompress(self._blocks[number]).split(b"\n")
            if len(self._open) >= _OPEN_BLOCKS:
                self._open.popitem(last=False)
        self._open[number] = lines
        return self._firsts[number], lines
