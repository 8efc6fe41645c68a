"""When a log is begun anew, and the moment in which that is done.

The file keeps its name while it is written. To rotate it, whoever has the lock of the rotation (a small file
beside it, `.run.jsonl.lock`) gives it the next number by a rename. Writers that have it open write on to it
under its new name, whole and in order, until they look and move to the new file.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.log.locks import is_at, lock_alone, open_private, open_shared, unlock
from agentkit_reporting.log.packing import PackingName, packing_of
from agentkit_reporting.log.segments import (
    MAX_NUMBER,
    PACKED_SUFFIXES,
    lock_path,
    log_of,
    segment_path,
    segments_of,
)
from agentkit_reporting.log.upkeep import Retention, Upkeep

_LOOK_SHARE = (
    4  # a writer looks again when it alone wrote this part of what is left: others may write as well
)
_MAX_BIRTH_BYTES = 100


def _positive(settings: Rotation, field: attrs.Attribute[Any], value: Any) -> None:
    del settings
    if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
        raise ConfigurationError(f"{field.name}={value!r} refused because it is no amount above 0; give one")


@attrs.frozen(kw_only=True)
class Rotation:
    """When a log is begun anew, how what was written is packed, and how long it is kept.

    A file is rotated before a line that would make it longer than max_bytes, max_age_s seconds after it was
    begun, or with the first line after midnight UTC; at least one of the three is needed. compress: how
    rotated segments are packed, in the background; "zstd" needs the extra of that name, None leaves them
    plain. Of the rotated segments the oldest go where there are more than keep, where their last line is older
    than keep_age_s seconds, or where together they take more than keep_bytes on the disk (None: no bound);
    the newest one always stays, so that numbers go on.

    With several processes on one file each looks often enough that max_bytes is met about, not exactly.
    Raises ConfigurationError.
    """

    max_bytes: int | None = attrs.field(default=None, validator=_positive)
    max_age_s: float | None = attrs.field(default=None, validator=_positive)
    at_midnight: bool = False
    compress: PackingName | None = "gzip"
    keep: int | None = attrs.field(default=None, validator=_positive)
    keep_age_s: float | None = attrs.field(default=None, validator=_positive)
    keep_bytes: int | None = attrs.field(default=None, validator=_positive)

    def __attrs_post_init__(self) -> None:
        if self.max_bytes is None and self.max_age_s is None and not self.at_midnight:
            raise ConfigurationError(
                "rotation refused because nothing would start it; give max_bytes, max_age_s or at_midnight=True"
            )
        if self.compress not in ("gzip", "zstd", None):
            raise ConfigurationError(
                f"compress={self.compress!r} refused because it is no choice; use 'gzip', 'zstd' or None"
            )


class Rotator:
    """Decides when the log at a path is rotated, and does it. Not safe for threads: its writer is.

    path: with all links followed. Raises ConfigurationError for a path that readers would take for a segment
    of another log, and where what packs is not installed.
    """

    def __init__(self, path: Path, rotation: Rotation, clock: Clock) -> None:
        if not isinstance(rotation, Rotation):
            raise ConfigurationError(f"rotation={rotation!r} refused; give Rotation(…)")
        if log_of(path) is not None or path.suffix in PACKED_SUFFIXES:
            raise ConfigurationError(
                f"rotation of {path.name!r} refused because that is the name of a rotated file; give another"
            )
        packing = None
        if rotation.compress is not None:
            packing = packing_of(rotation.compress, wanted_by=f"compress={rotation.compress!r}")
        self._path = path
        self._rotation = rotation
        self._clock = clock
        self._due_at: dt.datetime | None = None  # by time; None where time does not matter
        kept = Retention(count=rotation.keep, age_s=rotation.keep_age_s, total_bytes=rotation.keep_bytes)
        self.upkeep = Upkeep(path, packing, kept, clock)

    def begin(self, status: os.stat_result) -> None:
        """Take note of the file that was opened."""
        if self._rotation.max_age_s is None and not self._rotation.at_midnight:
            return
        if status.st_size == 0:
            with contextlib.suppress(OSError), self._turn() as lock:
                if lock is not None:
                    self._write_birth(lock)
            self._due_at = self._due_after(self._clock.now())
        else:
            self._due_at = self._due_after(self._birth(status))

    def seconds_left(self) -> float:
        """Return the time until the file is due, negative if it has passed."""
        return math.inf if self._due_at is None else (self._due_at - self._clock.now()).total_seconds()

    def room(self, size: int, length: int) -> float:
        """Return how many bytes may be written before looking again, at least one line of that length."""
        if self._rotation.max_bytes is None:
            return math.inf
        left = self._rotation.max_bytes - size
        # What is over, since it cannot be rotated now, is tried again after a while.
        return max(left // _LOOK_SHARE if left > 0 else self._rotation.max_bytes // _LOOK_SHARE, length)

    def rotate_if_due(self, status: os.stat_result, length: int) -> bool:
        """Rotate the file of that status if the next line of that length is for a new one; raises OSError.

        Returns whether the file has got a number, by this or by another process. False also where another is
        at it just now.
        """
        if not self._is_due(status.st_size, length):
            if status.st_size == 0 and self.seconds_left() <= 0:
                self.begin(status)  # it begins with its first line
            return False
        with self._turn() as lock:
            if lock is None:
                return False
            if not is_at(status, self._path):
                return True
            # Another process may have rotated, and this one opened the new file before it was told its age.
            if self._due_at is not None:
                self._due_at = self._due_after(self._birth(status))
                if not self._is_due(status.st_size, length):
                    return False
            number = max((each.number for each in segments_of(self._path)), default=0) + 1
            if number > MAX_NUMBER:  # the name of a larger one would not be known again
                raise OSError(errno.EOVERFLOW, "no number is left for another segment")
            self._path.rename(segment_path(self._path, number))
            os.close(open_shared(self._path))
            self._write_birth(lock)
        return True

    def _is_due(self, size: int, length: int) -> bool:
        if size == 0:
            return False
        max_bytes = self._rotation.max_bytes
        return (max_bytes is not None and size + length > max_bytes) or self.seconds_left() <= 0

    def _due_after(self, birth: dt.datetime) -> dt.datetime:
        moments = []
        if self._rotation.max_age_s is not None:
            moments.append(birth + dt.timedelta(seconds=self._rotation.max_age_s))
        if self._rotation.at_midnight:
            day = birth.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            moments.append(day + dt.timedelta(days=1))
        return min(moments)

    def _birth(self, status: os.stat_result) -> dt.datetime:
        """Return when the file was begun; the time of its last line where nobody noted that."""
        with contextlib.suppress(OSError, ValueError):
            with lock_path(self._path).open("rb") as file:
                noted = dt.datetime.fromisoformat(file.read(_MAX_BIRTH_BYTES).decode("ascii").strip())
            if noted.tzinfo is not None:
                return noted
        return dt.datetime.fromtimestamp(status.st_mtime, dt.UTC)

    def _write_birth(self, lock: int) -> None:
        text = self._clock.now().isoformat().encode() + b"\n"
        os.ftruncate(lock, 0)
        os.pwrite(lock, text, 0)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[int | None]:
        """Hold the lock of the rotation; gives None where another process does."""
        place = lock_path(self._path)
        fd = open_private(place, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if not (lock_alone(fd) and is_at(os.fstat(fd), place)):
                yield None
                return
            try:
                yield fd
            finally:
                unlock(fd)
        finally:
            os.close(fd)
