"""One log whose files are uploaded: which of them are to come, and under which names.

An object is called as its segment is, with the log's id in front of the number: `run.HOST-ID.000001.jsonl.gz`. The
active file is uploaded under the name that it has as a segment later, which then takes its place; and so is a segment
that a process has open which writes nothing, and which nobody can pack therefore. So whoever copies
the objects to a directory reads them there as one log.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from agentkit_reporting.log.locks import (
    NO_LOCKS,
    is_at,
    is_held,
    lock_alone,
    lock_shared,
    open_private,
    unlock,
)
from agentkit_reporting.log.objects import Objects
from agentkit_reporting.log.packing import packing_of
from agentkit_reporting.log.rotate import Rotator
from agentkit_reporting.log.segments import free_number, has_segment, segment_path, segments_of
from agentkit_reporting.log.uploaded import (
    Begun,
    Uploaded,
    begin_uploaded,
    new_uploaded,
    note_path,
    uploaded_numbers,
    write_uploaded,
)

_BLOCK_BYTES = 256 * 1024
_TAIL_BYTES = 64 * 1024  # of a file's end, in which its last newline is looked for
_HEAD_BYTES = 512  # of a file's beginning, by which it is known again
_LEFT_ALONE_S = 2.0  # twice the time after which a writer that writes lets go of a segment
_STRANGE = re.compile(r"[^A-Za-z0-9._=-]+")  # what is written in several ways in the names of objects


class Uploader(Protocol):
    """What uploads the files of logs; see `agentkit_reporting.log.remote.Remote`."""

    def begun(self, log: RemoteLog) -> None:
        """Take note of a log that is written to."""

    def want(self, log: RemoteLog) -> None:
        """Have what is there of a log uploaded; waits for nothing."""

    def take_trouble(self) -> str | None:
        """Return what goes wrong, once until it went well again; None if nothing does."""


class RemoteLog:
    """One log whose files are uploaded. left: how many are still to come, as it was when that was last looked at."""

    def __init__(self, path: Path, remote: Uploader, rotator: Rotator | None) -> None:
        self.remote = remote
        self.left = 0
        self._path = path
        self._rotator = rotator
        self._with_active = False
        self._seen: dict[int, tuple[int, float]] = {}  # plain segments: their size, and since when it is that
        if rotator is not None:
            rotator.upkeep.after = self._packed

    def begin(self) -> None:
        """Have it noted that this log is uploaded, and uploaded what another process left; raises OSError."""
        known = begin_uploaded(self._path)
        if self._is_another(known):
            write_uploaded(self._path, new_uploaded())
        self.remote.begun(self)
        if segments_of(self._path):
            self.remote.want(self)

    def _is_another(self, known: Uploaded) -> bool:
        """Whether somebody removed the files that were uploaded, and what follows would take their names there."""
        last = max(known.numbers, default=0)  # the newest one stays, as long as retention removes them
        newest = max((each.number for each in segments_of(self._path)), default=0)
        if newest < last and not has_segment(self._path, last):
            return True
        active = known.begun_of(newest + 1)
        if active is None:
            return False
        try:
            with self._path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size >= active.size and _head(file.fileno(), active.size) == active.head:
                    return False
        except FileNotFoundError:
            pass
        return not has_segment(self._path, active.number)  # else it was rotated just now

    def end(self) -> None:
        """Have all of it uploaded, since its writer is closed."""
        if note_path(self._path).exists():
            self._with_active = True
            self.remote.want(self)

    def _packed(self) -> None:
        """Have segments uploaded that were packed, unless there is none."""
        with contextlib.suppress(OSError):
            if {each.number for each in segments_of(self._path)} <= (uploaded_numbers(self._path) or set()):
                return
        self.remote.want(self)

    def upload(self, objects: Objects, stored: Callable[[], object]) -> bool:
        """Upload what is to be uploaded; return whether all is. stored: called for each object. Raises what goes wrong.

        False where another process uploads just now, or where a segment has to be packed first.
        """
        with self._alone() as is_ours:
            if not is_ours:
                return False
            known = begin_uploaded(self._path)
            numbers = sorted({each.number for each in segments_of(self._path)})
            missing = [number for number in numbers if number not in known.numbers]
            self.left = len(missing) + self._with_active
            for number in missing:
                if self._upload_segment(objects, number, stored):
                    self.left -= 1
            if len(missing) + self._with_active > self.left and self._rotator is not None:
                self._rotator.upkeep.start()  # what was kept for this may go
            if self._with_active:
                if not self._upload_active(objects, stored):
                    return False
                self.left -= 1
            return self.left <= 0

    def _upload_segment(self, objects: Objects, number: int, stored: Callable[[], object]) -> bool:
        """Upload a segment; False where nobody can say yet what it is going to be."""
        known = begin_uploaded(self._path)
        for suffix in (".gz", ".zst", ""):
            path = segment_path(self._path, number, suffix)
            plain = segment_path(self._path, number)
            with contextlib.suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
                if suffix and plain.exists():
                    return False  # it is being packed
                if not suffix:
                    holds = is_held(file.fileno())
                    if (holds or self._packed_suffix) and not self._is_left_alone(number, file.fileno()):
                        return False
                    if holds:
                        self._upload_begun(objects, known, number, file.fileno(), stored)
                        return True
                objects.put(self._key(known, number, suffix), file)
                stored()
                self._note(objects, known, number, suffix)
                return True
        return True  # it is gone

    def _is_left_alone(self, number: int, fd: int) -> bool:
        """Whether nobody wrote to a plain segment for a while, nor packs it now; it cannot be packed, perhaps."""
        if not lock_shared(fd):
            return False
        with contextlib.suppress(OSError):  # no locks here
            unlock(fd)
        size, now = os.fstat(fd).st_size, time.monotonic()
        before, since = self._seen.get(number, (-1, now))
        self._seen[number] = (size, since if size == before else now)
        return size == before and now - since >= _LEFT_ALONE_S

    @property
    def _packed_suffix(self) -> str:
        return "" if self._rotator is None else self._rotator.packed_suffix

    def _note(self, objects: Objects, known: Uploaded, number: int, suffix: str) -> None:
        """Note that a whole segment is there, in place of what the active file was when it was uploaded."""
        before = known.begun_of(number)
        if before is not None and before.suffix != suffix:
            objects.remove(self._key(known, number, before.suffix))
        self._seen.pop(number, None)
        there = {each.number for each in segments_of(self._path)}
        numbers = frozenset(each for each in known.numbers if each in there) | {number}
        begun = tuple(each for each in known.begun if each.number not in numbers)
        write_uploaded(self._path, Uploaded(known.id, numbers, begun), is_alone=True)

    def _upload_begun(
        self, objects: Objects, known: Uploaded, number: int, fd: int, stored: Callable[[], object]
    ) -> None:
        """Upload the whole lines of a file that may grow, unless they are there."""
        suffix, size = self._packed_suffix, _whole_lines(fd)
        begun, before = Begun(number, suffix, size, _head(fd, size)), known.begun_of(number)
        if not size or begun == before:
            return
        with _copied(fd, size, suffix) as copy:
            objects.put(self._key(known, number, suffix), copy)
        stored()
        if before is not None and before.suffix != suffix:
            objects.remove(self._key(known, number, before.suffix))
        others = tuple(each for each in known.begun if each.number != number)
        write_uploaded(self._path, Uploaded(known.id, known.numbers, (*others, begun)), is_alone=True)

    def _upload_active(self, objects: Objects, stored: Callable[[], object]) -> bool:
        """Upload the file that is at the path; False where it is rotated just now."""
        number = self._next_number()
        try:
            file = self._path.open("rb", buffering=0)
        except FileNotFoundError:
            return True
        with file:
            if self._next_number() != number or not is_at(os.fstat(file.fileno()), self._path):
                return False
            self._upload_begun(objects, begin_uploaded(self._path), number, file.fileno(), stored)
        return True

    def _next_number(self) -> int:
        return free_number(self._path) if self._rotator is None else self._rotator.next_number()

    def _key(self, known: Uploaded, number: int, suffix: str) -> str:
        name = segment_path(
            self._path.with_name(f"{self._path.stem}.{known.id}{self._path.suffix}"), number, suffix
        )
        return _STRANGE.sub("_", name.name)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the lock of the uploading of this log; gives False where another process does.

        Where there are no locks everybody may: what two upload is the same, under the same names.
        """
        fd = open_private(self._path.with_name(f".{self._path.name}.upload"), os.O_RDWR | os.O_NOFOLLOW)
        try:
            try:
                is_ours = is_locked = lock_alone(fd)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                is_ours, is_locked = True, False
            try:
                yield is_ours
            finally:
                if is_locked:
                    unlock(fd)
        finally:
            os.close(fd)


def _head(fd: int, size: int) -> str:
    """Return by what a file of that size is known again."""
    return hashlib.sha256(os.pread(fd, min(size, _HEAD_BYTES), 0)).hexdigest()[:32]


def _whole_lines(fd: int) -> int:
    """Return how many bytes of a file are whole lines, of which a writer may be in the middle of another."""
    size = os.fstat(fd).st_size
    start = max(0, size - _TAIL_BYTES)
    end = os.pread(fd, size - start, start).rfind(b"\n")
    return size if end < 0 else start + end + 1


@contextlib.contextmanager
def _copied(fd: int, size: int, suffix: str) -> Iterator[BinaryIO]:
    """Give the first bytes of a file, packed where there is a suffix, as a file that nobody else sees."""
    from tempfile import TemporaryFile  # noqa: PLC0415 - only where files go to remote storage

    with TemporaryFile() as copy:
        packer = packing_of(suffix, wanted_by="the upload").packer() if suffix else None
        offset = 0
        while offset < size and (block := os.pread(fd, min(_BLOCK_BYTES, size - offset), offset)):
            offset += len(block)
            copy.write(block if packer is None else packer.compress(block))
        if packer is not None:
            copy.write(packer.flush())
        copy.seek(0)
        yield copy
