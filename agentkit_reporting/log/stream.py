"""Lines on their way into an open stream, which belongs to who opened it."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import Any

from agentkit_loop.clock import Clock
from agentkit_loop.errors import LogError
from agentkit_reporting.log.syncing import DEFAULT_FSYNC_INTERVAL_MS, FsyncPolicy, Syncing
from agentkit_reporting.log.write import LineWriter

_STANDARD_ERROR = 2  # up to it, a program may have its output redirected while it runs


class StreamWriter(LineWriter):
    """Writes lines to an open stream, text or binary, each whole and flushed; the stream stays open.

    Below a stream of the io module lies a file: lines go there directly, behind what the stream held back,
    so that a reader that went away leaves nothing in a buffer for the interpreter to stumble over at exit.
    A stream over a regular file is forced to the disk as a LogWriter's file is. A stream whose descriptor was
    closed behind its back is refused, also where the number is another file's by now.
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
        self._below: os.stat_result | None = None  # the file below, where nobody redirects it on purpose
        if self._raw is not None:
            self._fd = self._raw.fileno()
            status = os.fstat(self._fd)
            self._below = status if self._fd > _STANDARD_ERROR else None
            self._syncing.start(possible=stat.S_ISREG(status.st_mode))
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
                self._refuse_another_file()
                self._write(line)
                self._force(self._fd)
            except BrokenPipeError as error:
                self._gone = True
                raise self._failure(error) from error
            except (OSError, ValueError) as error:  # ValueError: the stream was closed meanwhile
                raise self._failure(error) from error

    def _refuse_another_file(self) -> None:
        """Raise OSError where the stream's descriptor was closed behind its back and is another file's now."""
        if self._below is not None and not os.path.samestat(os.fstat(self._fd), self._below):
            raise OSError(errno.EBADF, "The descriptor of the stream was closed and is another file's by now")

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
                self._refuse_another_file()
                self._syncing.flush(self._fd)
            except OSError as error:
                raise self._failure(error) from error
            trouble, self._trouble = self._trouble, None
            if trouble is not None:
                raise LogError(trouble, path=self.name)

    def close(self) -> None:
        """Flush and let go of the stream, which belongs to who opened it."""
        with self._lock:
            try:
                self.flush()
            finally:
                self._closed = True


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
