"""The numbers that records carry, per run, as the file says: what several processes gave them by now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agentkit_loop.clock import Clock
from agentkit_reporting.log.lines import Reading
from agentkit_reporting.log.packing import MAX_UNPACKED_BYTES
from agentkit_reporting.log.read import MAX_LINE_BYTES
from agentkit_reporting.log.segments import Shelf
from agentkit_reporting.log.tail import LogTail
from agentkit_reporting.records.reading import behind_torn

_LARGEST = 2**53  # what counts on from a larger number, which nobody gave, could not be written

Mark = tuple[int, int, int]
"""Which file is the newest and how long it is: nobody wrote since where it is as it was."""


class Numbering:
    """The last number of each run in one store. Not safe for threads; asked by who has the turn at the file.

    path: of the store's file. by: the field that names the run; field: the one that has the number. The whole file
    with its segments is read once, later what came since; in memory is one number a run.
    """

    def __init__(self, path: Path, by: str, field: str) -> None:
        reading = Reading(MAX_LINE_BYTES, MAX_UNPACKED_BYTES, _ignore, Clock().sleep)
        place = path.resolve()
        self._tail = LogTail(str(path), place, Shelf(place.parent), reading)
        self._mark: Mark | None = None
        self._last: dict[str, int] = {}
        numbered: Any = msgspec.defstruct(
            "Numbered", [("run", str, ""), ("number", int, 0)], rename={"run": by, "number": field}
        )
        self._decode = msgspec.json.Decoder(numbered).decode
        self._sign = msgspec.json.encode(field) + b":"

    def catch_up(self) -> None:
        """Read what is there, before one's turn, since a long file takes long; raises LogError."""
        for line in self._unread():
            self._note(line)

    def next(self, run: str, mark: Mark) -> int:
        """Return the number after the last one of that run; raises LogError. mark: of the file as it is."""
        if mark != self._mark:
            self.catch_up()
            self._tail.park()
            self._mark = mark
        return self._last.get(run, 0) + 1

    def given(self, run: str, number: int, mark: Mark) -> None:
        """Take note of a number that was written. mark: of the file with it."""
        self._last[run] = number
        self._mark = mark

    def close(self) -> None:
        """Close what is open."""
        self._tail.close()

    def _unread(self) -> Iterator[bytes]:
        for _, _, lines in self._tail.rest():
            yield from lines

    def _note(self, line: bytes) -> None:
        if self._sign not in line:
            return
        try:
            found = self._decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            whole = behind_torn(line)
            if whole is not None:
                self._note(whole)
            return
        if self._last.get(found.run, 0) < found.number <= _LARGEST:
            self._last[found.run] = found.number


def _ignore(path: str, line: int, reason: str) -> None:
    """Skip a bad line; who reads the records is told of it."""
