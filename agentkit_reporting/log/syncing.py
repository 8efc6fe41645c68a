"""When lines are forced to the disk, which matters for a power cut only."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.log.locks import sync_directory

FsyncPolicy: TypeAlias = Literal["never", "interval", "always"]
"""When written lines are forced to the disk; see `agentkit_reporting.log.write.LogWriter`."""

DEFAULT_FSYNC_INTERVAL_MS = 1_000.0


class Syncing:
    """When the lines of one descriptor are forced to the disk.

    count: how often it was done. is_each: whether it is done for each line. monotonic: the clock. look_at: the
    moment from which `written` is to be called for a line; before it, and where nothing is ever forced, it would
    do nothing.
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
        self.is_each = fsync == "always"
        self._wanted = fsync != "never"
        self._interval_s = fsync_interval_ms / 1_000 if fsync == "interval" else 0.0
        self._due: float | None = None  # when the oldest unsynced line has waited long enough
        self._new_in: Path | None = None

    def start(self, *, possible: bool, new_in: Path | None = None) -> None:
        """Begin with the first line of a descriptor. possible: whether it is a regular file's.

        new_in: the directory that a new file is in, whose name is forced to the disk with its first lines.
        """
        self._due = None
        self._new_in = new_in
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
            if self._new_in is not None:
                sync_directory(self._new_in)
                self._new_in = None
            self.count += 1
            self._due, self.look_at = None, -math.inf
