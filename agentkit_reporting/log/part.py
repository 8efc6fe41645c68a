"""One open file of a log that is read as it grows, plain or packed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator
from pathlib import Path

from agentkit_reporting.log.inputs import DamagedError, packing_for, unpacked_blocks
from agentkit_reporting.log.lines import Lines, Reading
from agentkit_reporting.log.locks import is_held

_HEAD_BYTES = (
    512  # of a file's beginning, by which it is known again: the first line says session, number and time
)


_JUST_NOW_S = 1.0


class LogPart:
    """One file of a log and how far it was read.

    fd: -1 while it is closed. number: of the segment, None for the active file. offset: up to where it was read, in
    its plain form. damage: why a packed file cannot be read further.
    """

    def __init__(self, fd: int, lines: Lines, number: int | None) -> None:
        self.fd = fd
        self.lines = lines
        self.number = number
        self.offset = 0
        self.damage: str | None = None
        status = os.fstat(fd)
        self._identity = (status.st_dev, status.st_ino)
        self._head = b""
        self._parked: tuple[int, ...] | None = None
        self._blocks: Generator[bytes] | None = None
        self._skip = 0

    def unpack(self, name: str, reading: Reading) -> None:
        """Take it for a packed file."""
        packing = packing_for(name)
        if packing is not None:
            self._blocks = unpacked_blocks(_reading(self.fd), packing, reading)

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
            if self.offset == len(self._head) < _HEAD_BYTES:
                self._head += block[: _HEAD_BYTES - self.offset]
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

    def may_be_within_line(self) -> bool:
        """Whether the last line has no end and somebody may be about to write it: the file changed just now."""
        if self.fd < 0 or self._blocks is not None or not self.lines.is_within:
            return False
        return abs(time.time() - os.fstat(self.fd).st_mtime) < _JUST_NOW_S

    # --- the same file under another name

    def is_file(self, status: os.stat_result) -> bool:
        """Whether that is the status of this file, as long as it is open."""
        return self._identity == (status.st_dev, status.st_ino)

    def has_become(self, form: Path, reading: Reading) -> bool:
        """Whether a form of a segment is what this file is by now; raises OSError.

        By what it begins with: it may be packed, and an inode's number another file's once it is closed.
        """
        try:
            fd = os.open(form, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return False
            packing = packing_for(form.name)
            if packing is None:
                if self.fd >= 0 or not self._head:
                    return self.is_file(status)
                return self._begins_as(os.pread(fd, _HEAD_BYTES, 0))
            return self._begins_as(next(unpacked_blocks(_reading(fd), packing, reading), b""))
        except DamagedError:
            return False
        finally:
            os.close(fd)

    def _begins_as(self, beginning: bytes) -> bool:
        own = os.pread(self.fd, _HEAD_BYTES, 0) if self.fd >= 0 else self._head
        length = min(len(own), len(beginning))
        return length > 0 and own[:length] == beginning[:length]

    # --- cut, and written again

    def begins_anew(self) -> bool:
        """Go back to the beginning if this file was cut, or cut and written again; return whether it was."""
        is_same = os.fstat(self.fd).st_size >= self.offset and self._is_head_of(self.fd)
        if is_same:
            return False
        self.offset, self._head = 0, b""
        self.lines = self.lines.anew()
        return True

    def _is_head_of(self, fd: int) -> bool:
        return os.pread(fd, len(self._head), 0) == self._head

    # --- closed until it changes

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

    def wake(self, fd: int) -> bool:
        """Read on from this descriptor if it is of this file; else close it. Return whether it is."""
        if self.is_file(os.fstat(fd)) and self._is_head_of(fd):
            self.fd = fd
            self._parked = None
            return True
        os.close(fd)
        return False

    def close(self) -> None:
        """Close it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _reading(fd: int) -> Callable[[int], bytes]:
    return lambda size: os.read(fd, size)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
