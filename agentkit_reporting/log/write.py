"""Lines on their way into a file or a stream: whole, in order, one write each.

`LogWriter` appends to a file that other threads and processes may append to as well. A line that could not
be written whole (a full disk, a limit) is closed by a newline in front of the next one, and so is a torn
line that a crash left at the end of the file: a reader then meets one bad line, never two glued ones. Who
opens a file while another process is in the middle of a line may add a newline too many, never a break.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentkit_loop.clock import Clock
from agentkit_loop.errors import LogError
from agentkit_loop.forks import Locked
from agentkit_reporting.log.descriptors import MARK, MARK_OF, Opening, claim, read_mark, set_apart
from agentkit_reporting.log.locks import is_at, open_shared
from agentkit_reporting.log.places import make_directories, reason_of, writable_path
from agentkit_reporting.log.syncing import DEFAULT_FSYNC_INTERVAL_MS, FsyncPolicy, Syncing
from agentkit_reporting.log.turns import Turn

if TYPE_CHECKING:  # most logs are not rotated nor uploaded; what does that takes 5 ms to load
    from agentkit_reporting.log.remote import Remote
    from agentkit_reporting.log.remote_log import RemoteLog
    from agentkit_reporting.log.rotate import Rotation, Rotator

LOOK_AGAIN_S = 1.0
"""How often a writer looks, when it writes, whether its file was rotated by another or removed."""

_GONE = "log was removed while it was written, and its lines with it"

_os_write = os.write


class LineWriter(Locked, ABC):
    """Something that takes whole lines; safe for threads.

    name: what is written to, for people. lines: how many were written whole and are not known to be gone.
    removed_lines: those that went with a file that was removed. short_writes: how often the system took less than it
    was given, so that a line went out in pieces.
    """

    def __init__(self, name: str, syncing: Syncing) -> None:
        super().__init__()
        self.name = name
        self._syncing = syncing
        self.lines = 0
        self.removed_lines = 0
        self.short_writes = 0
        self._torn = False  # the last byte written is not a newline
        self._closed = False
        self._trouble: str | None = None  # that cost no line, until `flush` or `close` tells it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def syncs(self) -> int:
        """How often lines were forced to the disk."""
        return self._syncing.count

    @abstractmethod
    def write(self, line: bytes) -> None:
        """Write a line, given without its newline; raises LogError where it did not get out whole."""

    @abstractmethod
    def flush(self) -> None:
        """Force to the disk what was written, as far as the policy wants it."""

    @abstractmethod
    def close(self) -> None:
        """Flush and release what this writer opened; a second time is harmless."""

    def _put(self, put: Callable[[Any], int | None], line: bytes) -> None:
        """Give the line to `put` until all of it is taken."""
        rest = memoryview(b"\n" + line + b"\n" if self._torn else line + b"\n")
        self._torn = True  # until the last byte is out, also if an exception comes in between
        while (taken := put(rest)) is not None and taken < len(rest):
            self.short_writes += 1
            rest = rest[taken:]
        if taken is None:  # a raw stream's way to say that it would block
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._torn = False
        self.lines += 1

    def _force(self, fd: int) -> None:
        """Have a written line forced to the disk as the policy says; raises OSError where that is for each."""
        try:
            self._syncing.written(fd)
        except OSError as error:
            if self._syncing.is_each:
                self.lines -= 1
                raise
            self._trouble = f"lines could not be forced to the disk: {reason_of(error)}"

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LogError("event refused while the writer is closed; make a new one", path=self.name)

    def _failure(self, error: Exception) -> LogError:
        return LogError(f"line could not be written: {reason_of(error)}", path=self.name)


class LogWriter(LineWriter):
    """Appends lines to a file, each with one `write` to an O_APPEND descriptor.

    The file is opened at the first line, mode 0600, with missing directories, mode 0700; a path that
    cannot work is refused at once with LogError. Every line has left the process when `write` returns.

    fsync: when lines are forced to the disk, which matters for a power cut only. "always": each. "never":
    when the system likes. "interval": by the writing thread, with the first line that comes when an
    unsynced one is `fsync_interval_ms` old, and by `flush` and `close`. There is no thread in the
    background: the lines before a pause wait for the next line or for `flush`, which the loop calls at
    the end of each run. clock: whose `monotonic()` decides what is due.

    rotation: when the file is begun anew; the path is then that of the file itself, where it is a link. A
    writer looks at most once a second, when it writes, whether its file was rotated by another process, and
    goes on in the new one. Where the file was removed that line, or a flush, is refused with LogError, and
    the next line begins a new file; what this writer wrote to the old one went with it, and is counted so. What
    goes wrong with rotating, packing and removing loses no line and is told by `flush` and `close`. So is a
    descriptor that other code of this process closed: the log is opened again, and what got its number gets no line.

    header: the first line of each new file, of each segment therefore, without its newline. It is written with the
    first line that comes, once, also where several processes open a file at the same time, if all give one.

    remote: where segments are uploaded to as they are rotated, and the rest when this is closed. Without a rotation
    it is UPLOAD_ROTATION then: every 16 MiB and, when a line comes, every 5 minutes; nothing is removed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        clock: Clock | None = None,
        rotation: Rotation | None = None,
        header: bytes | None = None,
        remote: Remote | None = None,
    ) -> None:
        syncing = Syncing(fsync, fsync_interval_ms, clock)
        self.path = writable_path(path)
        self._rotator: Rotator | None = None
        if rotation is not None or remote is not None:
            from agentkit_reporting.log.rotate import UPLOAD_ROTATION, Rotator  # noqa: PLC0415 - see above

            self.path = self.path.resolve()
            self._rotator = Rotator(self.path, rotation or UPLOAD_ROTATION, clock or Clock())
        super().__init__(str(self.path), syncing)
        self._fd = -1
        self._opening: Opening | None = None  # of that descriptor
        self._lines_elsewhere = 0  # of `lines`, those that are in other files than that one
        self._look_at = math.inf  # by the monotonic clock: when to look at the file again
        self._room = math.inf  # how many bytes may be written before that
        self.header = header
        """The first line of each file that begins from here on."""
        self._turn = Turn(self.path)
        self._remote: RemoteLog | None = None
        if remote is not None:
            self._remote = remote.log(self.path, self._rotator)

    def write(self, line: bytes) -> None:
        """Append a line, given without its newline; raises LogError where it did not get out whole."""
        with self._lock:
            fd = self._fd
            try:
                try:
                    is_ours = read_mark(fd, MARK_OF) == MARK
                except (OSError, ValueError):  # closed by somebody else; not opened yet
                    is_ours = False
                if not is_ours:
                    fd = self._opened()
                syncing = self._syncing
                rotator = self._rotator
                now = syncing.monotonic()
                if now >= self._look_at or (rotator is not None and self._room < len(line)):
                    fd = self._look(now, len(line) + 1)
                if self._torn:
                    self._put(self._write_some, line)
                else:
                    whole = line + b"\n"
                    taken = _os_write(fd, whole)
                    if taken == len(whole):
                        self.lines += 1
                    else:
                        self._finish(whole[taken:])
                if rotator is not None:
                    self._room -= len(line) + 1
                if now >= syncing.look_at:  # here, for every line, without a call
                    self._force(fd)
            except OSError as error:
                raise self._failure(error) from error

    def write_together(self, block: bytes, count: int) -> int:
        """Append so many lines, each with its newline, with one write; return how many, from the first, are written.

        The others are left for `write`: all, where the file is to be looked at, synced or begun anew.
        """
        written, syncing = 0, self._syncing
        with self._lock, contextlib.suppress(OSError, ValueError):  # of which `write` says more
            fd, now = self._fd, syncing.monotonic()
            is_right = now < self._look_at and len(block) <= self._room and not self._torn
            if syncing.is_each or not is_right or read_mark(fd, MARK_OF) != MARK:
                return 0
            taken = _os_write(fd, block)
            written = count if taken == len(block) else block.count(b"\n", 0, taken)
            self.lines += written
            self._room -= taken
            if block[taken - 1 : taken] != b"\n":
                self._finish(block[taken : block.index(b"\n", taken) + 1])
                written += 1
            if now >= syncing.look_at:
                self._force(fd)
        return written

    def _write_some(self, rest: memoryview) -> int:
        return _os_write(self._fd, rest)

    def _finish(self, rest: bytes) -> None:
        self.short_writes += 1
        self._put(self._write_some, rest[:-1])

    def _opened(self) -> int:
        """Return the descriptor of the log, opened if it is not, and again if somebody else closed it."""
        opening = self._opening
        if opening is not None:
            if opening.is_there():  # without marks it is looked at here
                return self._fd
            self.lose(self._fd)
        self._refuse_closed()
        make_directories(self.path.parent)
        if self._remote is not None:
            self._remote.begin()  # before anything may be removed
        if self._rotator is not None:
            self._rotator.upkeep.start_if_rotated()  # a crash may have left something
        self._take(set_apart(open_shared(self.path)))
        if opening is not None:
            self._syncing.written(self._fd)  # what was written by the other one waits for it, perhaps
        return self._fd

    def lose(self, fd: int) -> None:
        """Forget a descriptor that was closed by somebody else, to whom its number belongs now."""
        if fd != self._fd:
            return
        self._fd, self._opening = -1, None
        self._trouble = (
            "descriptor of the log was closed by other code of this process; the log was opened again, and no line "
            "went elsewhere"
        )

    def _take(self, fd: int) -> None:
        """Write to this descriptor from now on."""
        status = os.fstat(fd)
        self._fd, self._opening = fd, Opening(fd, status)
        self._lines_elsewhere = self.lines
        claim(fd, self)
        is_file = stat.S_ISREG(status.st_mode)
        is_new = is_file and status.st_size == 0
        self._syncing.start(possible=is_file, new_in=self.path.parent if is_new else None)
        self._torn = is_file and not is_new and _ends_torn(self.path)
        self._look_at, self._room = math.inf, math.inf
        if is_file:
            self._look_at = self._syncing.monotonic() + LOOK_AGAIN_S
            if self._rotator is not None:
                self._rotator.begin(status)
                self._room = -1  # look before the first line: what is there may be old, or large
        if is_new and self.header is not None:
            self._begin(self.header)

    def _begin(self, header: bytes) -> None:
        """Write the first line of a file, unless another writer did meanwhile; raises OSError."""
        with self._turn.taken():
            if os.fstat(self._fd).st_size == 0:
                self._put(self._write_some, header)
                self.lines -= 1  # it is no line that was given

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """Have other writers that ask for their turn wait meanwhile, of all threads and processes; raises LogError.

        The writer is in the file at the path by then. Between two looks it may be behind others who went on in a
        new one.
        """
        with self._lock, contextlib.ExitStack() as turn:
            try:
                turn.enter_context(self._turn.taken())
                self._opened()
                self._look(self._syncing.monotonic(), 0)
            except OSError as error:
                raise self._failure(error) from error
            yield

    def mark(self) -> tuple[int, int, int]:
        """Return which file is written to (device, inode) and how long it is; raises LogError."""
        with self._lock:
            try:
                status = os.fstat(self._fd)
            except OSError as error:
                raise self._failure(error) from error
            return status.st_dev, status.st_ino, status.st_size

    def _let_go(self) -> None:
        """Close the descriptor, unless its number is somebody else's by now; raises OSError."""
        opening, self._fd, self._opening = self._opening, -1, None
        if opening is not None:
            opening.close()

    def _look(self, now: float, length: int) -> int:
        """Return the descriptor for a line of that length, of a new file where the old one is not for it."""
        self._look_at = now + LOOK_AGAIN_S
        rotator = self._rotator
        status = os.fstat(self._fd)
        try:
            if not is_at(status, self.path) or (rotator and rotator.rotate_if_due(status, length)):
                self._refuse_removed(status)
                self._move_on()
                status = os.fstat(self._fd)
        except OSError as error:
            self._trouble = f"log could not be rotated and goes on in the old file: {reason_of(error)}"
        if rotator is not None:
            self._room = rotator.room(status.st_size, length)
            left = rotator.seconds_left()
            self._look_at = now + (left if 0 < left < LOOK_AGAIN_S else LOOK_AGAIN_S)
        return self._fd

    def _refuse_removed(
        self,
        status: os.stat_result,
        what: str = "line refused because the log was removed while it was written",
    ) -> None:
        """Let go of a file that was removed, which no segment ever is while it is held; raises LogError."""
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
            gone = self.lines - self._lines_elsewhere
            self.lines -= gone
            self.removed_lines += gone
            with contextlib.suppress(OSError):
                self._let_go()
            raise LogError(
                what if self._closed else f"{what}; the next line begins a new log", path=self.name
            )

    def _move_on(self) -> None:
        """Go on in the file that is at the path by now; raises OSError, and all stays as it was."""
        old, opening = self._fd, self._opening
        make_directories(self.path.parent)
        fd = set_apart(open_shared(self.path))
        try:
            self._syncing.flush(old)
        finally:
            self._take(fd)
            if opening is not None:
                opening.close()
        if self._rotator is not None:
            self._rotator.upkeep.start()

    def flush(self) -> None:
        """Force to the disk what was written, unless fsync is "never".

        Raises LogError, also where the file was removed, and for what went wrong and cost no line: with rotated
        segments, or with a descriptor that somebody else closed.
        """
        with self._lock:
            if self._fd >= 0:
                try:
                    self._syncing.flush(self._opened())
                    status = os.fstat(self._fd)
                except OSError as error:
                    raise self._failure(error) from error
                self._refuse_removed(status, what=_GONE)
        self._tell_trouble()

    def _tell_trouble(self, *, of_segments: bool = True) -> None:
        trouble, self._trouble = self._trouble, None
        if trouble is None and of_segments and self._rotator is not None:
            trouble = self._rotator.upkeep.take_trouble()
        if trouble is None and self._remote is not None and not self._closed:
            trouble = self._remote.remote.take_trouble()
        if trouble is not None:
            raise LogError(trouble, path=self.name)

    def close(self, *, wait: bool = True) -> None:
        """Flush and close the file; a second time is harmless. A line after that is refused.

        wait: until segments are packed; otherwise that goes on in the background.
        """
        try:
            with self._lock:
                was_open, self._closed = self._fd >= 0, True
                try:
                    self._end()
                except OSError as error:
                    raise self._failure(error) from error
                finally:
                    if self._rotator is not None and was_open:
                        self._rotator.upkeep.start_if_rotated()  # this may have been the last to hold an old segment
        finally:
            if self._rotator is not None and wait:
                self._rotator.upkeep.finish()
            if self._remote is not None:
                self._remote.end()
        self._tell_trouble(of_segments=wait)

    def _end(self) -> None:
        opening = self._opening
        if opening is not None and not opening.is_there():
            self.lose(self._fd)
        try:
            if self._fd >= 0:
                self._syncing.flush(self._fd)
                self._refuse_removed(os.fstat(self._fd), what=_GONE)
        finally:
            self._turn.close()
            self._let_go()

    def after_fork(self) -> None:
        """Begin anew in the child of a fork.

        It would hold the parent's lock on a segment as long as it lives, so that nobody could pack that.
        """
        super().after_fork()
        self._lines_elsewhere = self.lines  # what is in the file so far is the parent's
        self._turn.begin_anew()
        if self._rotator is not None:
            self._rotator.upkeep.renew()
            with contextlib.suppress(OSError):
                self._let_go()


def _ends_torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # may be written, not read: a newline too many is a blank line, which readers skip
        return True
