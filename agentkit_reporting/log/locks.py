"""Who holds a log's file: `flock`, taken without waiting.

A writer holds a shared lock on the file that it has open; what compresses or deletes a segment holds the
exclusive one. Where the system or the file system knows no such locks nobody gets the exclusive one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
"""What the system says where it knows no such locks."""


def lock_shared(fd: int) -> bool:
    """Take the shared lock; False where another holds the exclusive one. Closing `fd` gives it back."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here, so that nobody can take the exclusive one either
        return True
    return True


def lock_alone(fd: int) -> bool:
    """Take the exclusive lock; False where another holds one. Raises OSError where there are no locks."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Give a lock back. Closing would not do it where a child got the descriptor by a fork meanwhile."""
    if sys.platform != "win32":
        fcntl.flock(fd, fcntl.LOCK_UN)


def is_held(fd: int) -> bool:
    """Whether a writer has this file open; False where there are no locks to tell it."""
    try:
        if not lock_alone(fd):
            return True
        unlock(fd)
    except OSError:
        return False
    return False


def is_at(status: os.stat_result, path: Path) -> bool:
    """Whether the file of that status is the one at the path; raises OSError where one may not look."""
    try:
        return os.path.samestat(status, path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_private(path: Path, flags: int) -> int:
    """Open a file, make it if it is missing; raises OSError. A new one has mode 0600, whatever the umask."""
    flags |= os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # made by another meanwhile, or a link to a file that is not there
        return os.open(path, flags | os.O_CREAT, 0o600)
    try:
        make_private(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_private(fd: int) -> None:
    """Give a new file the mode 0600, of which an unusual umask may have taken bits away; raises OSError."""
    if sys.platform != "win32":
        os.fchmod(fd, 0o600)


def open_shared(path: Path) -> int:
    """Open a log for appending, make it if it is missing (mode 0600), and take the shared lock.

    The descriptor is of the file that is at the path: one that is renamed meanwhile is let go, since it may be
    packed. Raises OSError; BlockingIOError where another program has locked the log itself.
    """
    while True:
        fd = open_private(path, os.O_WRONLY | os.O_APPEND)
        try:
            if _is_ours(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_ours(fd: int, path: Path) -> bool:
    """Take the shared lock; return whether the file may be written; False if it was renamed meanwhile."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return True
    is_locked = lock_shared(fd)
    if not is_at(status, path):
        return False
    if not is_locked:
        raise BlockingIOError(errno.EAGAIN, "another program has locked the log")
    return True


def sync_directory(directory: Path) -> None:
    """Force the names in a directory to the disk, where it may be opened; raises OSError."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
