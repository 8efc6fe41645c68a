"""The log of `agentkit run`: where it goes, whether it can be written, and what is said where it cannot."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.configuration.environment import log_redaction
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.locks import open_private
from agentkit_reporting.log.places import make_directories

_FIRST_PLACE = 1 << 62
"""Of the bytes of a file whose locks stand for its sessions, far behind the end of any log."""


class RunLog(LoopObserver):
    """A log that was tried before the run, and that keeps what goes wrong later in place of raising it.

    failure: the first line, or sync, that did not get out; None while all did. What of the content is written says
    AGENTKIT_CONTENT. Raises LogError for a path that cannot be written, and for a file that is something else than a
    log, ConfigurationError for another word in that variable.
    """

    def __init__(self, path: str, *, per_session: bool, is_default: bool = False) -> None:
        self.failure: LogError | None = None
        self._is_default = is_default
        self._per_session = per_session
        self._name = path
        self._reporter = JsonlReporter(
            path, per="session" if per_session else None, redact=log_redaction(os.environ)
        )
        self.path = self._reporter.path or Path(path)
        """The file, or the directory of files."""

    def path_of(self, session_id: str) -> Path | None:
        """Return the file of a session if it is there."""
        path = self._reporter.path_of(session_id)
        return path if path is not None and path.exists() else None

    @contextlib.contextmanager
    def held(self, session_id: str) -> Iterator[None]:
        """Keep other processes from going on with a session meanwhile; raises ConfigurationError where one does.

        By an advisory lock, where the system has such that belong to an open file: it ends with the process.
        """
        path = self.path_of(session_id)
        fd = -1 if path is None else _locked(path, session_id)
        try:
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    def try_it(self) -> None:
        """Make what is missing, and see whether it can be written; raises LogError."""
        try:
            if self._per_session:
                _try_directory(self.path, ignored=self._is_default)
            else:
                _try_file(self.path)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise LogError(f"log refused because of: {reason}; give another path", path=self._name) from error

    def handle_event(self, event: AgentEvent) -> None:
        """Write one event."""
        with self._kept():
            self._reporter.handle_event(event)

    def flush(self) -> None:
        """Force to the disk what was written."""
        with self._kept():
            self._reporter.flush()

    def close(self) -> None:
        """Close the files."""
        with self._kept():
            self._reporter.close()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except LogError as error:
            self.failure = self.failure or error


def _locked(path: Path, session_id: str) -> int:
    """Return the descriptor of a file in which the session's place is locked, -1 where there are no locks.

    The place is one byte that no log reaches, so that sessions of one file do not meet, nor readers and writers
    who lock the file or its lines.
    """
    if sys.platform != "linux":
        return -1
    import fcntl  # noqa: PLC0415 - not on every system

    digest = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).digest()
    place = _FIRST_PLACE + int.from_bytes(digest[:7], "big")
    wanted = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)  # struct flock of fcntl(2)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1  # a pipe, perhaps; writing says what is wrong
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        os.close(fd)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return -1  # a file system without locks
        raise ConfigurationError(
            f"session {session_id} refused because another process goes on with this session at this moment; wait "
            "for it, or fork the session"
        ) from None
    return fd


def hidden_logs(root: Path, log: RunLog | None, places: tuple[str, ...]) -> list[Path]:
    """Return what of the logs a run may not see: its own, and the directories where logs go by default.

    A default directory that holds the root is not hidden: who names it wants its logs looked at. Raises
    ConfigurationError where the run's own log goes to a directory that holds the root.
    """
    inner = root.resolve()
    if log is not None and inner.is_relative_to(log.path.resolve()):
        place = os.path.relpath(log.path)
        raise ConfigurationError(
            f"log directory {place!r} refused because it contains the root {str(root)!r}, "
            "and logs are hidden from the agent; give another --log, or --no-log"
        )
    defaults = [Path(place) for place in places if not inner.is_relative_to(Path(place).resolve())]
    return defaults if log is None else [log.path, *defaults]


def _try_directory(path: Path, *, ignored: bool) -> None:
    """Make a directory, mode 0700 as all above it, and a file in it that goes again.

    ignored: where it is made now, keep it out of version control.
    """
    is_new = not path.exists()
    make_directories(path)
    with tempfile.TemporaryFile(dir=path):
        pass
    if is_new and ignored:
        (path / ".gitignore").write_text("# logs of agentkit\n*\n", encoding="utf-8")


def _try_file(path: Path) -> None:
    make_directories(path.parent)
    if path.exists() and stat.S_ISFIFO(path.stat().st_mode):
        return  # opening it waits for a reader, who would take closing it for the end
    fd = open_private(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, b"")  # changes nothing, and a device that takes nothing says so
    finally:
        os.close(fd)
