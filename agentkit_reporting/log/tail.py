"""One log over all its segments: each line once, also while it is written, rotated, packed and cleaned up.

The order is kept though several processes write. Whoever rotates gives the file a number, and other writers go
on for a while in the old file. So a block of a newer file is read first and given last: before it comes
whatever stands in the older ones by then. What a writer wrote to the new file it wrote after its last line in
the old one, and the old one is read to that line. An old file is let go once nobody can write to it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from agentkit_loop.errors import LogError
from agentkit_reporting.log.inputs import BLOCK_BYTES, DamagedError, packing_for, unpacked_blocks, unreadable
from agentkit_reporting.log.lines import Batch, Lines, Reading
from agentkit_reporting.log.locks import is_held
from agentkit_reporting.log.segments import Segment, Shelf

_BLOCKS_A_VISIT = 16  # of the newest file, where others wait for their turn


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
        self._parts: list[_Part] = []  # what is open, oldest first; others may still write to all of them
        self._number = 0  # of the newest segment that was opened
        self._expected = 1  # the number that the active file gets when it is rotated
        self._first_seen = {each.number for each in shelf.segments_of(place.name)}

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
            yield from self._all(None if to_end else _BLOCKS_A_VISIT)
            if to_end:
                if not self._parts and not self._number:
                    raise LogError("log cannot be read: no such file or directory", path=self.name)
                yield from self._ends(self._parts)
                self._parts.clear()
                self.finished = True
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

    def _ends(self, parts: Iterable[_Part]) -> Iterator[Batch]:
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
                return newest.begins_anew(status)
            self._settle(newest)
        newer = self._newer()
        if newer:
            self._open_segment(newer)
            return True
        return self._open_active()

    def _status(self) -> os.stat_result | None:
        try:
            return os.stat(self._text_of_place)  # noqa: PTH116 - for each log at each look
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _newer(self) -> list[Segment]:
        """Return the segments that were not opened yet."""
        return [each for each in self._shelf.segments_of(self._place.name) if each.number > self._number]

    def _settle(self, part: _Part) -> None:
        """Find out which number the active file got; none if it was replaced by something else."""
        newer = self._newer()
        for segment in newer:
            with contextlib.suppress(FileNotFoundError):
                if not segment.suffix and part.is_file(segment.path.stat()):
                    self._name(part, segment.number)
                    return
        # It is packed by now, or removed: then it had the number that was next when it was opened.
        is_rotated = any(each.number >= self._expected for each in newer)
        self._name(part, self._expected if is_rotated else self._number)

    def _name(self, part: _Part, number: int) -> None:
        part.number = self._number = number
        if number:
            part.lines.name = self._named(number)

    def _named(self, number: int, suffix: str = "") -> str:
        path = Path(self.name)
        return str(path.with_name(f"{path.stem}.{number:06}{path.suffix}{suffix}"))

    def _open_segment(self, newer: list[Segment]) -> None:
        number = newer[0].number
        for missed in range(self._number + 1, number):
            # What was not there in the beginning was removed before, as old segments are.
            if missed in self._first_seen or missed > max(self._first_seen, default=0):
                self._note_missed(missed)
        self._number = number
        for segment in newer:
            if segment.number == number and self._open(segment):
                return
        # Packed or removed since the directory was read.
        for segment in Shelf(self._place.parent).segments_of(self._place.name):
            if segment.number == number and self._open(segment):
                return
        self._note_missed(number)

    def _note_missed(self, number: int) -> None:
        self._reading.note(self._named(number), 1, "this segment was removed before it could be read")

    def _open(self, segment: Segment, offset: int = 0) -> bool:
        """Open one form of a segment, at this offset of its plain form; False if it is gone."""
        try:
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may be a pipe
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return True  # nothing of ours
        lines = Lines(self._named(segment.number, segment.suffix), self._reading)
        part = _Part(fd, lines, segment.number)
        if segment.suffix:
            part.unpack(str(segment.path), self._reading)
        part.skip(offset)
        self._parts.append(part)
        return True

    def _open_active(self) -> bool:
        try:
            fd = os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        # If it has been rotated since it was opened the directory says so, and it is not the next one. All is
        # decided by one look at the directory: by a second one it may have been rotated.
        newest = max((each.number for each in self._shelf.segments_of(self._place.name)), default=0)
        if newest > self._number:
            os.close(fd)
            return True
        self._expected = newest + 1
        self._parts.append(_Part(fd, Lines(self.name, self._reading), None))
        return True

    # --- parked

    def _wake(self) -> None:
        """Open the file of a parked log again."""
        if not self._parts or not self._parts[-1].is_parked:
            return
        part = self._parts[-1]
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            part.wake(os.open(self._place, os.O_RDONLY | os.O_CLOEXEC))
        # The number of its inode may be another file's by now, but only if it was rotated, or removed.
        if part.is_parked or self._newer():
            part.close()
            self._parts.clear()
            self._find_again(part)

    def _find_again(self, parked: _Part) -> None:
        """Go on in the segment that the parked file has become."""
        newer = self._newer()
        if any(each.number >= self._expected for each in newer):
            self._number = self._expected
        for segment in newer:
            if segment.number == self._expected and self._open(segment, parked.offset) and self._parts:
                parked.lines.name = self._parts[-1].lines.name
                self._parts[-1].lines = parked.lines
                return


class _Part:
    """One open file of a log.

    number: of the segment, None for the active file. offset: up to where it was read, in its plain form.
    """

    def __init__(self, fd: int, lines: Lines, number: int | None) -> None:
        self.fd = fd
        self.lines = lines
        self.number = number
        self.offset = 0
        self.damage: str | None = None
        status = os.fstat(fd)
        self._identity = (status.st_dev, status.st_ino)
        self._parked: tuple[int, ...] | None = None
        self._blocks: Generator[bytes] | None = None
        self._skip = 0

    def unpack(self, name: str, reading: Reading) -> None:
        """Take it for a packed file."""
        packing = packing_for(name)
        if packing is not None:
            self._blocks = unpacked_blocks(self._read_packed(), packing, reading)

    def _read_packed(self) -> Callable[[int], bytes]:
        fd = self.fd
        return lambda size: os.read(fd, size)

    def skip(self, offset: int) -> None:
        """Begin at this offset."""
        if self._blocks is None:
            self.offset = offset
        else:
            self._skip = offset

    def read(self, size: int) -> bytes:
        """Return the next bytes that are there, none at the end; raises OSError."""
        if self._blocks is None:
            block = os.pread(self.fd, size, self.offset)
            self.offset += len(block)
            return block
        try:
            while block := next(self._blocks, b""):
                rest = block[self._skip :]
                self._skip -= len(block) - len(rest)
                if rest:
                    return rest
        except DamagedError as error:
            self.damage = str(error)
        return b""

    def is_held(self) -> bool:
        """Whether somebody may still write to it."""
        return self._blocks is None and is_held(self.fd)

    def is_file(self, status: os.stat_result) -> bool:
        """Whether that is the status of this file."""
        return self._identity == (status.st_dev, status.st_ino)

    def begins_anew(self, status: os.stat_result) -> bool:
        """Go back to the beginning of a file that was cut to less than what was read; return whether it was."""
        if status.st_size >= self.offset:
            return False
        self.offset = 0
        self.lines = self.lines.anew()
        return True

    @property
    def is_parked(self) -> bool:
        """Whether it is closed until it changes."""
        return self._parked is not None

    def park(self) -> None:
        """Close it, unless there is something to read."""
        status = os.fstat(self.fd)
        if status.st_size == self.offset:
            self._parked = _stamp(status)
            self.close()

    def is_unchanged(self, status: os.stat_result) -> bool:
        """Whether that is the status of this file as it was when it was parked."""
        return self._parked == _stamp(status)

    def wake(self, fd: int) -> None:
        """Read on from this descriptor, if it is of this file."""
        if self.is_file(os.fstat(fd)):
            self.fd = fd
            self._parked = None
        else:
            os.close(fd)

    def close(self) -> None:
        """Close it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
