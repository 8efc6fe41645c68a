"""One log over all its segments: each line once, also while it is written, rotated, packed and cleaned up.

The order is kept though several processes write. Whoever rotates gives the file a number, and other writers go
on for a while in the old file. So a block of a newer file is read first and given last: before it comes
whatever stands in the older ones by then. What a writer wrote to the new file it wrote after its last line in
the old one, and the old one is read to that line. An old file is let go once nobody can write to it.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from agentkit_loop.errors import LogError
from agentkit_reporting.log.inputs import BLOCK_BYTES, unreadable
from agentkit_reporting.log.lines import Batch, Lines, Reading
from agentkit_reporting.log.part import LogPart
from agentkit_reporting.log.segments import PACKED_SUFFIXES, Shelf, forms_of, has_segment, segment_path

_BLOCKS_A_VISIT = 16  # of the newest file, where others wait for their turn
_PAUSES_S = tuple(0.001 * 2**n for n in range(8))  # until the rest of a line is there; a crash's never comes
_MAY_BE_UNLISTED = 1_000  # segments before one that a directory is said to hold; see `has_segment`


class LogTail:
    """What was not read yet of one log.

    name: the path of its active file, as it was given. place: the same with all links followed. shelf: the
    directory of that.
    """

    def __init__(self, name: str, place: Path, shelf: Shelf, reading: Reading) -> None:
        self.name = name
        self.finished = False
        self._place = place
        self._text_of_place = str(place)
        self._shelf = shelf
        self._reading = reading
        self._parts: list[LogPart] = []  # what is open, oldest first; others may still write to all of them
        self._number = 0  # of the newest segment that was opened
        self._listed: list[int] = []  # the numbers of segments, when the directory was last looked at
        self._expected = 1  # the number that the active file gets when it is rotated
        self._first_seen = {each.number for each in shelf.segments_of(place.name)}
        self._newest_first_seen = max(self._first_seen, default=0)

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return any(part.fd >= 0 for part in self._parts)

    def batches(self, *, to_end: bool) -> Iterator[Batch]:
        """Yield what is there and was not read yet; raises LogError.

        to_end: nothing is expected to come later, so that a last line without its end is taken; a log that is
        not there is refused.
        """
        try:
            self._wake()
            if self._parts and self._parts[-1].number is None:
                self._parts[-1].begins_anew()
            yield from self._all(None if to_end else _BLOCKS_A_VISIT)
            if to_end:
                if not self._parts and not self._number:
                    raise LogError("log cannot be read: no such file or directory", path=self.name)
                yield from self._rest_of_line()
                yield from self._ends(self._parts)
                self._parts.clear()
                self.finished = True
        except OSError as error:
            raise unreadable(self.name, error) from error

    def rest(self) -> Iterator[Batch]:
        """Yield all that was not read yet; more may come later. Raises LogError."""
        try:
            self._wake()
            if self._parts and self._parts[-1].number is None:
                self._parts[-1].begins_anew()
            yield from self._all(None)
        except OSError as error:
            raise unreadable(self.name, error) from error

    def close(self) -> None:
        """Close what is open."""
        while self._parts:
            self._parts.pop().close()

    def park(self) -> None:
        """Close the file of a log that is read to its end, until it changes."""
        if len(self._parts) == 1 and self._parts[0].number is None:
            self._parts[0].park()

    def is_unchanged(self) -> bool:
        """Whether it is parked and nothing has come; raises LogError."""
        if not self._parts or not self._parts[-1].is_parked:
            return False
        try:
            status = self._status()
        except OSError as error:
            raise unreadable(self.name, error) from error
        return status is not None and self._parts[-1].is_unchanged(status)

    # --- reading

    def _all(self, blocks: int | None) -> Iterator[Batch]:
        """Yield what is there. blocks: how many of the newest file, None for all."""
        while True:
            if (yield from self._drained(len(self._parts) - 1, blocks)):
                return
            yield from self._without_free_parts()
            if not self._advance():
                return

    def _drained(self, index: int, blocks: int | None = None) -> Generator[Batch, None, bool]:
        """Yield what the parts up to this one hold by now, in order; return whether there is more."""
        if index < 0:
            return False
        part = self._parts[index]
        while blocks is None or blocks > 0:
            block = part.read(min(BLOCK_BYTES, self._reading.max_line_bytes))
            yield from self._drained(index - 1)
            if not block:
                return False
            batch = part.lines.feed(block)
            if batch is not None:
                yield batch
            if blocks is not None:
                blocks -= 1
        return True

    def _without_free_parts(self) -> Iterator[Batch]:
        """Read the older parts that nobody writes to any more to their end, and let them go."""
        for part in self._parts[:-1]:
            if not part.is_held():
                yield from self._drained(self._parts.index(part))
                yield from self._ends([part])
                self._parts.remove(part)

    def _rest_of_line(self) -> Iterator[Batch]:
        """Read on where somebody may be in the middle of writing a line, of which a part can be read already."""
        for pause_s in _PAUSES_S:
            if not any(part.may_be_within_line() for part in self._parts):
                return
            self._reading.sleep(pause_s)
            yield from self._all(None)

    def _ends(self, parts: Iterable[LogPart]) -> Iterator[Batch]:
        for part in list(parts):
            part.close()
            batch = part.lines.end(part.damage)
            if batch is not None:
                yield batch

    # --- from one file to the next

    def _advance(self) -> bool:
        """Open what comes after what is open; return whether there may be more to read."""
        newest = self._parts[-1] if self._parts else None
        if newest is not None and newest.number is None:
            status = self._status()
            if status is not None and newest.is_file(status):
                return newest.begins_anew()
            newest.number = self._settled(newest)
            if newest.number:
                newest.lines.name = self._named(newest.number)
        return self._open_next()

    def _status(self) -> os.stat_result | None:
        try:
            return os.stat(self._text_of_place)  # noqa: PTH116 - for each log at each look
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _look(self) -> list[int]:
        """Return the numbers of the segments that are said to be there by now, rising."""
        self._listed = [each.number for each in self._shelf.segments_of(self._place.name)]
        return self._listed

    def _next_listed(self) -> int | None:
        """Return the number of the first segment that was there at the last look and not opened yet."""
        index = bisect.bisect_right(self._listed, self._number)
        return self._listed[index] if index < len(self._listed) else None

    def _settled(self, part: LogPart) -> int:
        """Return the number that the active file has got and go on from there; 0 if it was moved away or removed."""
        numbers = self._look()
        begin_anew = max(numbers, default=0) < self._number and not has_segment(self._place, self._number)
        # Numbers begin anew where somebody removed all segments.
        newer = [each for each in dict.fromkeys(numbers) if begin_anew or each > self._number]
        for number in dict.fromkeys([self._expected, *newer]):
            if any(part.has_become(form, self._reading) for form in forms_of(self._place, number)):
                self._number = number
                return number
        if max(newer, default=0) > self._expected and not has_segment(self._place, self._expected):
            self._number = self._expected  # it was removed already
            return self._number
        if begin_anew:
            self._number = 0
        return 0

    def _named(self, number: int, suffix: str = "") -> str:
        return str(segment_path(Path(self.name), number, suffix))

    def _open_next(self) -> bool:
        """Open the next segment, or the active file where there is none; return whether one of them was there."""
        number = self._next_listed()
        if number is not None:  # without a look: a large directory may change faster than it can be read
            self._open_segment(number)
            return True
        active = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            fd = os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)
            active.append(LogPart(fd, Lines(self.name, self._reading), None))
        try:
            # If it has been rotated since it was opened there is a segment by now, and it is not the next one. All
            # is decided by one look at the directory: by a second one it may have been rotated.
            newest = max(self._look(), default=0)
            number = self._next_listed()
            if number is None and has_segment(self._place, self._number + 1):
                number = self._number + 1
            if number is not None:
                self._open_segment(number)
                return True
            if newest < self._number and has_segment(self._place, self._number):
                newest = self._number
            self._expected = newest + 1
            self._parts += active
            return bool(active)
        finally:
            if active and active[0] not in self._parts:
                active[0].close()

    def _open_segment(self, number: int) -> None:
        first = self._number + 1
        for self._number in range(first, number + 1):
            is_tried = self._number < first + _MAY_BE_UNLISTED or self._number == number
            if is_tried and self._open(self._number):
                return
            # What was not there in the beginning was removed before, as old segments are.
            if self._number in self._first_seen or self._number > self._newest_first_seen:
                self._note_missed(self._number)

    def _note_missed(self, number: int) -> None:
        self._reading.note(self._named(number), 1, "this segment was removed before it could be read")

    def _open(self, number: int, offset: int = 0) -> bool:
        """Open one form of a segment, at this offset of its plain form; False if it is gone."""
        is_there = False
        for suffix in ("", *PACKED_SUFFIXES):
            form = segment_path(self._place, number, suffix)
            try:
                fd = os.open(form, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may be a pipe
            except FileNotFoundError:
                continue
            is_there = True
            if stat.S_ISREG(os.fstat(fd).st_mode):
                part = LogPart(fd, Lines(self._named(number, suffix), self._reading), number)
                self._parts.append(part)
                part.unpack(str(form), self._reading)
                part.skip(offset)
                break
            os.close(fd)  # nothing of ours
        return is_there

    # --- parked

    def _wake(self) -> None:
        """Open the file of a parked log again, or go on in the segment that it has become."""
        if not self._parts or not self._parts[-1].is_parked:
            return
        parked = self._parts[-1]
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if parked.wake(os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)):
                return
        self._parts.clear()
        number = self._settled(parked)
        if number and not self._open(number, parked.offset):
            self._note_missed(number)
        elif number and self._parts:
            parked.lines.name = self._parts[-1].lines.name
            self._parts[-1].lines = parked.lines
