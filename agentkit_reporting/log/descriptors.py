"""Descriptors that are told apart from whatever gets their number.

Code that closes a number twice, or all numbers at once as daemons do, may close a log's descriptor. The next file
that is opened gets that number, and would get the log's lines. Two things stand against it. A log's descriptor is
moved to a high number, which nobody gets by chance, since the lowest free one is given out. And it carries a mark,
which is asked for before each line: that costs a fifth of what the line costs.

The mark is a setting that the kernel keeps for each opening of a file and uses for nothing here: the signal of
asynchronous I/O (F_SETSIG of fcntl(2); it has an effect under O_ASYNC only). Where there are no marks the file is
compared. Whoever puts another file under the number between the look and the write is not noticed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import weakref
from typing import Protocol

if sys.platform != "win32":
    import fcntl

LOWEST_NUMBER = 512
"""The lowest number that a log's descriptor is moved to, where the limit of open files allows it."""

if sys.platform == "linux":
    read_mark = fcntl.fcntl
    """Return the mark of a descriptor, asked for by MARK_OF; raises OSError where it is closed."""
    MARK_OF = fcntl.F_GETSIG
    MARK: int = signal.SIGURG  # which is ignored by default, should anything ever send it
else:

    def read_mark(fd: int, mark_of: int) -> int:
        """Return 0: there are no marks here."""
        return mark_of * fd

    MARK_OF = 0
    MARK = 1


def set_apart(fd: int) -> int:
    """Return a descriptor of the same opening under a high number, marked; `fd` is closed."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # EINVAL: the limit is lower; EMFILE: no number is left
            low, fd = fd, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST_NUMBER)
            os.close(low)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a kernel that does not know them
            fcntl.fcntl(fd, fcntl.F_SETSIG, MARK)
    return fd


class Holder(Protocol):
    """Something that writes to a descriptor that was set apart."""

    def lose(self, fd: int) -> None:
        """Take note that this descriptor is somebody else's, if it still goes by it."""


_holders: weakref.WeakValueDictionary[int, Holder] = weakref.WeakValueDictionary()


def claim(fd: int, holder: Holder) -> None:
    """Say whose a descriptor is. Who was said to have it before has lost it: the mark is the same for all."""
    before = _holders.get(fd)
    if before is not None and before is not holder:
        before.lose(fd)
    _holders[fd] = holder


class Opening:
    """What is known of a descriptor that was set apart, by which it is known again."""

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self._status = status
        self._is_marked = read_mark(fd, MARK_OF) == MARK

    def is_there(self) -> bool:
        """Whether the number still stands for it."""
        try:
            if self._is_marked:
                return read_mark(self.fd, MARK_OF) == MARK
            return os.path.samestat(os.fstat(self.fd), self._status)
        except OSError:
            return False

    def close(self) -> None:
        """Close it, unless the number is somebody else's by now; raises OSError."""
        if self.is_there():
            os.close(self.fd)
