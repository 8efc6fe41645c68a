"""Lines on their way into a file or a stream: whole, in order, one write each.

`LogWriter` appends to a file that other threads and processes may append to as well. A line that could not
be written whole (a full disk, a limit) is closed by a newline in front of the next one, and so is a torn
line that a crash left at the end of the file: a reader then meets one bad line, never two glued ones. Who
opens a file while another process is in the middle of a line may add a newline too many, never a break.
"""

from __future__ import annotations

import errno
import io
import math
import os
import stat
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, get_args

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError, LogError

FsyncPolicy: TypeAlias = Literal["never", "interval", "always"]
"""When written lines are forced to the disk; see `LogWriter`."""

DEFAULT_FSYNC_INTERVAL_MS = 1_000.0

_os_write = os.write


class Locked:
    """Something with a lock that a child gets anew after a fork, when nobody may be left to release it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may flush what it interrupted
        _survive_fork(self)


class LineWriter(Locked, ABC):
    """Something that takes whole lines; safe for threads.

    name: what is written to, for people. lines: how many were written whole. short_writes: how often the
    system took less than it was given, so that a line went out in pieces.
    """

    def __init__(self, name: str, syncing: Syncing) -> None:
        super().__init__()
        self.name = name
        self._syncing = syncing
        self.lines = 0
        self.short_writes = 0
        self._torn = False  # the last byte written is not a newline
        self._closed = False

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

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LogError("event refused while the writer is closed; make a new one", path=self.name)

    def _failure(self, error: Exception) -> LogError:
        return LogError(f"line could not be written: {_lower(error)}", path=self.name)


class LogWriter(LineWriter):
    """Appends lines to a file, each with one `write` to an O_APPEND descriptor.

    The file is opened at the first line, mode 0600, with missing directories, mode 0700; a path that
    cannot work is refused at once with LogError. Every line has left the process when `write` returns.

    fsync: when lines are forced to the disk, which matters for a power cut only. "always": each. "never":
    when the system likes. "interval": by the writing thread, with the first line that comes when an
    unsynced one is `fsync_interval_ms` old, and by `flush` and `close`. There is no thread in the
    background: the lines before a pause wait for the next line or for `flush`, which the loop calls at
    the end of each run. clock: whose `monotonic()` decides what is due.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        clock: Clock | None = None,
    ) -> None:
        syncing = Syncing(fsync, fsync_interval_ms, clock)
        self.path = writable_path(path)
        super().__init__(str(self.path), syncing)
        self._fd = -1

    def write(self, line: bytes) -> None:
        """Append a line, given without its newline; raises LogError where it did not get out whole."""
        with self._lock:
            fd = self._fd
            try:
                if fd < 0:
                    fd = self._open()
                if self._torn:
                    self._put(self._write_some, line)
                else:
                    whole = line + b"\n"
                    taken = _os_write(fd, whole)
                    if taken == len(whole):
                        self.lines += 1
                    else:
                        self._finish(whole[taken:])
                syncing = self._syncing
                if syncing.monotonic() >= syncing.look_at:  # here, for every line, without a call
                    syncing.written(fd)
            except OSError as error:
                raise self._failure(error) from error

    def _write_some(self, rest: memoryview) -> int:
        return _os_write(self._fd, rest)

    def _finish(self, rest: bytes) -> None:
        self.short_writes += 1
        self._put(self._write_some, rest[:-1])

    def _open(self) -> int:
        self._refuse_closed()
        make_directories(self.path.parent)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        status = os.fstat(fd)
        self._syncing.start(possible=stat.S_ISREG(status.st_mode))
        self._torn = stat.S_ISREG(status.st_mode) and status.st_size > 0 and _ends_torn(self.path)
        self._fd = fd
        return fd

    def flush(self) -> None:
        """Force to the disk what was written, unless fsync is "never"; raises LogError."""
        with self._lock:
            try:
                self._syncing.flush(self._fd)
            except OSError as error:
                raise self._failure(error) from error

    def close(self) -> None:
        """Flush and close the file; a second time is harmless. A line after that is refused."""
        with self._lock:
            self._closed = True
            if self._fd < 0:
                return
            try:
                self.flush()
            finally:
                fd, self._fd = self._fd, -1
                os.close(fd)


class StreamWriter(LineWriter):
    """Writes lines to an open stream, text or binary, each whole and flushed; the stream stays open.

    Below a stream of the io module lies a file: lines go there directly, behind what the stream held back,
    so that a reader that went away leaves nothing in a buffer for the interpreter to stumble over at exit.
    A stream over a regular file is forced to the disk as a LogWriter's file is.
    """

    def __init__(
        self,
        stream: Any,
        *,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(_stream_name(stream), Syncing(fsync, fsync_interval_ms, clock))
        if not _takes_lines(stream):
            raise LogError(
                "target refused because it is no open stream for writing; give one, or a path",
                path=self.name,
            )
        self._stream = stream
        self._raw = _raw_file(stream)
        self._gone = False  # the other end of the pipe
        self._fd = -1
        if self._raw is not None:
            self._fd = self._raw.fileno()
            self._syncing.start(possible=stat.S_ISREG(os.fstat(self._fd).st_mode))
        self._is_text = isinstance(stream, io.TextIOBase) or hasattr(stream, "encoding")

    def write(self, line: bytes) -> None:
        """Write a line, given without its newline, and flush it; raises LogError.

        Once the other end of a pipe is gone every further line raises, and none is tried.
        """
        with self._lock:
            self._refuse_closed()
            if self._gone:
                raise self._failure(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            try:
                self._write(line)
                self._syncing.written(self._fd)
            except BrokenPipeError as error:
                self._gone = True
                raise self._failure(error) from error
            except (OSError, ValueError) as error:  # ValueError: the stream was closed meanwhile
                raise self._failure(error) from error

    def _write(self, line: bytes) -> None:
        if self._raw is not None:
            if self._raw is not self._stream:
                self._stream.flush()
            self._put(self._raw.write, line)
            return
        self._put(self._write_object, line)
        if hasattr(self._stream, "flush"):
            self._stream.flush()

    def _write_object(self, rest: memoryview) -> int | None:
        whole = bytes(rest)
        taken: int | None = self._stream.write(whole.decode() if self._is_text else whole)
        # Only a raw stream may take less than all; other objects often return nothing.
        return taken if isinstance(self._stream, io.RawIOBase) else len(whole)

    def flush(self) -> None:
        """Force to the disk what was written, where that is a file; raises LogError."""
        with self._lock:
            if self._gone or self._closed or getattr(self._stream, "closed", False):
                return
            try:
                self._syncing.flush(self._fd)
            except OSError as error:
                raise self._failure(error) from error

    def close(self) -> None:
        """Flush and let go of the stream, which belongs to who opened it."""
        with self._lock:
            try:
                self.flush()
            finally:
                self._closed = True


class Syncing:
    """When the lines of one descriptor are forced to the disk.

    count: how often it was done. monotonic: the clock. look_at: the moment from which `written` is to be
    called for a line; before it, and where nothing is ever forced, it would do nothing.
    """

    def __init__(self, fsync: FsyncPolicy, fsync_interval_ms: float, clock: Clock | None) -> None:
        if fsync not in get_args(FsyncPolicy):
            choices = ", ".join(get_args(FsyncPolicy))
            raise ConfigurationError(f"fsync={fsync!r} refused because it is no policy; use one of {choices}")
        if not (fsync_interval_ms > 0 and math.isfinite(fsync_interval_ms)):
            raise ConfigurationError(
                f"fsync_interval_ms={fsync_interval_ms!r} refused because it is no period; "
                "give milliseconds above 0, or fsync='always'"
            )
        self.count = 0
        self.monotonic = time.monotonic if clock is None else clock.monotonic
        self.look_at = math.inf
        self._wanted = fsync != "never"
        self._interval_s = fsync_interval_ms / 1_000 if fsync == "interval" else 0.0
        self._due: float | None = None  # when the oldest unsynced line has waited long enough

    def start(self, *, possible: bool) -> None:
        """Begin with the first line. possible: whether the descriptor is a regular file's."""
        self.look_at = -math.inf if self._wanted and possible else math.inf

    def written(self, fd: int) -> None:
        """Take note of a written line, and sync if that is due."""
        now = self.monotonic()
        if now < self.look_at:
            return
        if self._due is None:
            self._due = self.look_at = now + self._interval_s
        if now >= self._due:
            self.flush(fd)

    def flush(self, fd: int) -> None:
        """Sync if a line waits for it."""
        if self._due is not None:
            os.fsync(fd)
            self.count += 1
            self._due, self.look_at = None, -math.inf


def writable_path(path: str | os.PathLike[str], *, directory: bool = False) -> Path:
    """Return the absolute path of a log, or of a directory of logs; raises LogError if it cannot work."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise ConfigurationError(f"{path!r} refused because it is no path; give one") from None
    if not name or "\0" in name:
        raise LogError("log refused because this names no file; give a path", path=repr(name))
    place = Path(os.path.abspath(name))  # noqa: PTH100 - Path.absolute() keeps '..', resolve() follows links
    try:
        is_directory = stat.S_ISDIR(place.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_directory = None
    except OSError as error:
        raise LogError(f"log refused because of: {_lower(error)}; give another path", path=name) from error
    if directory and is_directory is False:
        raise LogError("log refused because it is a file; give a directory for one log a session", path=name)
    if not directory and (is_directory or name.endswith("/")):
        raise LogError(
            'log refused because it is a directory; give a file in it, or per="session"', path=name
        )
    _refuse_unwritable(place, name)
    return place


def _lower(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{reason[:1].lower()}{reason[1:]}"


def _refuse_unwritable(place: Path, name: str) -> None:
    """Look at the path itself, or at the nearest directory that exists above it."""
    existing = place
    while not os.path.lexists(existing):
        existing = existing.parent
    needed = os.W_OK
    if existing != place:
        if not existing.is_dir():
            reason = f"{str(existing)!r} is no directory"
            raise LogError(f"log refused because {reason}; give another path", path=name)
        needed |= os.X_OK
    if existing.exists() and not os.access(existing, needed):
        reason = f"{str(existing)!r} may not be written"
        raise LogError(f"log refused because {reason}; give another path", path=name)


def make_directories(directory: Path) -> None:
    """Make a directory and those above it that are missing, mode 0700; raises OSError."""
    # Path.mkdir(parents=True) gives the mode to the last one only.
    if not directory.exists():
        make_directories(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _ends_torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # may be written, not read: a newline too many is a blank line, which readers skip
        return True


def _raw_file(stream: Any) -> io.FileIO | None:
    """Return the file below a stream of the io module, None where something else is below."""
    if type(stream) is io.TextIOWrapper:
        stream = stream.buffer
    if type(stream) is io.BufferedWriter:
        stream = stream.raw
    return stream if type(stream) is io.FileIO else None


def _takes_lines(stream: Any) -> bool:
    if not callable(getattr(stream, "write", None)) or getattr(stream, "closed", False):
        return False
    writable = getattr(stream, "writable", None)
    return not callable(writable) or bool(writable())


def _stream_name(stream: Any) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) else f"<{type(stream).__name__}>"


# --- fork: a lock that another thread held at that moment would stay locked in the child for ever

_locked: weakref.WeakSet[Locked] = weakref.WeakSet()
_watching = threading.Lock()
_watched = False


def _survive_fork(holder: Locked) -> None:
    global _watched  # noqa: PLW0603 - the interpreter's fork hooks are global and cannot be taken back
    with _watching:
        _locked.add(holder)
        if not _watched and sys.platform != "win32":
            os.register_at_fork(after_in_child=_renew_locks)
            _watched = True


def _renew_locks() -> None:
    global _watching  # noqa: PLW0603 - it may have been held at the fork as well
    _watching = threading.Lock()
    for holder in list(_locked):
        holder._lock = threading.RLock()  # noqa: SLF001 - this module's own
