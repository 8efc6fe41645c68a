"""JsonlReporter: the log. Every event is one line, on its way to the file before the loop goes on."""

from __future__ import annotations

import collections
import hashlib
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any, Literal

from agentkit_loop.clock import Clock
from agentkit_loop.content import AppendBytes, AppendText
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.write import (
    DEFAULT_FSYNC_INTERVAL_MS,
    FsyncPolicy,
    LineWriter,
    LogWriter,
    StreamWriter,
    Syncing,
    writable_path,
)

MAX_OPEN_SESSIONS = 64
"""With per="session": how many files are held open; the one written longest ago makes room."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_PREVIEWS = (AppendText, AppendBytes)


class JsonlReporter(LoopObserver):
    """Writes every event as one line of JSON.

    target: a file, appended to; with per="session" a directory, one file a session; an open stream, text
    or binary, which stays open; "-" for standard output. deltas: "none" leaves out the appended text and
    bytes, which are previews: the begin and the whole content of each part stay. fsync,
    fsync_interval_ms, clock: see `agentkit_loop.log.write.LogWriter`.

    Raises LogError for a path that cannot work, at once, and from `handle_event` for an event that could
    not be written whole. May be shared by sessions and threads.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | Any,
        *,
        deltas: Literal["all", "none"] = "all",
        per: Literal["session"] | None = None,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        clock: Clock | None = None,
    ) -> None:
        if deltas not in ("all", "none"):
            raise ConfigurationError(f"deltas={deltas!r} refused because it is no choice; use 'all' or 'none'")
        if per not in (None, "session"):
            raise ConfigurationError(f"per={per!r} refused because it is no choice; use 'session' or None")
        sync: dict[str, Any] = {"fsync": fsync, "fsync_interval_ms": fsync_interval_ms, "clock": clock}
        self._writer: LineWriter | _SessionFiles
        if per == "session":
            self._writer = _SessionFiles(target, sync)
        elif isinstance(target, (str, os.PathLike)) and target != "-":
            self._writer = LogWriter(target, **sync)
        else:
            self._writer = StreamWriter(sys.stdout if target == "-" else target, **sync)
        self._without_previews = deltas == "none"
        self._write = self._writer.write if isinstance(self._writer, LineWriter) else None

    @property
    def path(self) -> Path | None:
        """The file, or the directory of files; None for a stream."""
        return None if isinstance(self._writer, StreamWriter) else getattr(self._writer, "path", None)

    def path_of(self, session_id: str) -> Path | None:
        """Return where the events of a session are; None for a stream."""
        if isinstance(self._writer, _SessionFiles):
            return self._writer.path_of(session_id)
        return self.path

    def handle_event(self, event: AgentEvent) -> None:
        """Write one event."""
        if (
            self._without_previews
            and event.__class__ is ContentDelta
            and isinstance(event.delta, _PREVIEWS)  # type: ignore[attr-defined] # the class was compared
        ):
            return
        if self._write is not None:
            self._write(encode_event(event))
        else:
            self._writer.write(event.session_id, encode_event(event))

    def flush(self) -> None:
        """Force what was written to the disk, unless fsync is "never"."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close what was opened here; a second time is harmless."""
        self._writer.close()
