r"""The bytes of one file as lines, and what can be saved of a broken one.

Lines end at the byte `\n` only; a carriage return before it is white space.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from agentkit_loop.events import AgentEvent
from agentkit_reporting.codec import DecodeError, decode_event

# What a line is searched for; both bound the work that a hostile line can make.
_MAX_RECORDS_IN_LINE = 1_000
_MAX_INSIDE_RECORD = 16  # what looks like the beginning of another one
_RECORD_START = re.compile(rb'\{"v":\d+,"seq":\d')
_BOM = b"\xef\xbb\xbf"


class Reading(msgspec.Struct, frozen=True):
    """How a log is read. note: told of what is no event: path, line from 1, reason. sleep: waits some seconds.

    between: batches hold blocks of whole lines (`Batch`), with this between each two; None: single lines.
    """

    max_line_bytes: int
    max_unpacked_bytes: int
    note: Callable[[str, int, str], None]
    sleep: Callable[[float], object]
    between: bytes | None = None


class Lines:
    """Splits what a file gives, block by block, into numbered lines.

    name: of the file, for messages; it may be set anew where the file is renamed. ends: how many ends of lines stand
    within the blocks of the batch that was given last: they are counted once.
    """

    def __init__(self, name: str, reading: Reading) -> None:
        self.name = name
        self._reading = reading
        self.ends = 0
        self._number = 1  # of the line that is next
        self._pending: list[bytes | memoryview] = []  # pieces of the line that goes on with the next block
        self._size = 0

    @property
    def is_within(self) -> bool:
        """Whether the last line that was fed goes on."""
        return self._size > 0

    def anew(self) -> Lines:
        """Return the same for the same file, from its beginning."""
        return Lines(self.name, self._reading)

    def note(self, number: int, reason: str) -> None:
        """Tell of a line that is no event."""
        self._reading.note(self.name, number, reason)

    def feed(self, block: bytes) -> Batch | None:
        """Return the lines that end in this block, None if there are none."""
        between, last = self._reading.between, block.rfind(b"\n")
        if between is None or last < 0 or self._size + block.find(b"\n") > self._reading.max_line_bytes:
            return self._feed_lines(block)
        # The beginning of the first line goes in front, so that there is one block to decode and not two.
        self._pending.append(memoryview(block)[:last])  # not copied twice
        lines = self._whole()
        told = lines.replace(b"\n", between)
        # By so much it has grown: to count the ends of lines takes four times as long as to replace them.
        self.ends = (len(told) - len(lines)) // (len(between) - 1)
        first = self._number
        self._number += self.ends + 1
        self._pending, self._size = [block[last + 1 :]], len(block) - last - 1
        return (self, first, [told])

    def _feed_lines(self, block: bytes) -> Batch | None:
        """Return them as single lines."""
        lines = block.split(b"\n")
        self.ends = 0
        self._size += len(lines[0])
        if self._size <= self._reading.max_line_bytes:
            self._pending.append(lines[0])
        else:
            self._pending.clear()  # its bytes are of no use any more
        if len(lines) == 1:
            return None
        tail = lines.pop()
        first = self._number
        if self._size <= self._reading.max_line_bytes:
            lines[0] = self._whole()
        else:
            self._note_length()
            del lines[0]
            first += 1
        self._pending, self._size = [tail], len(tail)
        self._number = first + len(lines)
        return (self, first, lines) if lines else None

    def end(self, damage: str | None = None) -> Batch | None:
        """Return the last line, which may come without its end. damage: why the rest cannot be read."""
        batch = None
        self.ends = 0
        last = self._whole()
        if self._size > self._reading.max_line_bytes:
            self._note_length()
        elif last and (damage is None or _event_or_none(last) is not None):
            batch = (self, self._number, [last])
            self._number += 1
        self._pending, self._size = [], 0
        if damage is not None:
            self.note(self._number, damage)
        return batch

    def _note_length(self) -> None:
        self.note(self._number, f"longer than {self._reading.max_line_bytes:,} bytes")

    def _whole(self) -> bytes:
        line = b"".join(self._pending)
        return line.removeprefix(_BOM) if self._number == 1 else line  # some editors put it in front


Batch: TypeAlias = tuple[Lines, int, list[bytes]]
"""Lines of one file, with the number of the first of them. Where they are read in blocks, each element is one line
or more, with `Reading.between` between two."""


def salvaged(line: bytes, reason: str, note: Callable[[str], None]) -> Iterator[AgentEvent]:
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
        # What looks like a beginning may stand inside a whole record, so a later end is tried as well.
        for end in range(first + 1, min(first + _MAX_INSIDE_RECORD, last) + 1):
            piece = line[bounds[first] : bounds[end]]
            length = piece.rfind(b"}") + 1  # behind it the first bytes of a torn record may stand
            event = _event_or_none(piece[:length]) if length else None
            if event is not None:
                found.append(event)
                torn = torn or bool(piece[length:].strip())
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
