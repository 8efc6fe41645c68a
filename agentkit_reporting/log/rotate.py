"""When a log is begun anew, and the moment in which that is done.

The file keeps its name while it is written. To rotate it, whoever has the lock of the rotation (a small file
beside it, `.run.jsonl.lock`) gives it the next number by a rename. Writers that have it open write on to it
under its new name, whole and in order, until they look and move to the new file.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
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
    forms_of,
    free_number,
    lock_path,
    log_of,
    segment_path,
    unfinished_path,
)
from agentkit_reporting.log.upkeep import Retention, Upkeep

_LOOK_SHARE = (
    4  # a writer looks again when it alone wrote this part of what is left: others may write as well
)
_MAX_NOTE_BYTES = 100
_NOTE = re.compile(rb"(-?[0-9]+\.[0-9]{6})\n([0-9]{7})\n")  # when the file was begun, the last number given
_MAX_NAME_BYTES = 255  # of a file, on every usual file system
_DAY_S = 86_400


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
    the newest one always stays, so that numbers go on. Links and directories that are called like segments are
    left alone and not counted.

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


UPLOAD_ROTATION = Rotation(max_bytes=16 * 2**20, max_age_s=300)
"""How a log with remote storage is rotated unless its host says else: what is on this machine only is five minutes of
lines, and what no line came after."""


class Rotator:
    """Decides when the log at a path is rotated, and does it. Not safe for threads: its writer is.

    path: with all links followed. Raises ConfigurationError for a path that readers would take for a segment
    of another log, for a name to which no number can be added, and where what packs is not installed.
    """

    def __init__(self, path: Path, rotation: Rotation, clock: Clock) -> None:
        if not isinstance(rotation, Rotation):
            raise ConfigurationError(f"rotation={rotation!r} refused; give Rotation(…)")
        if log_of(path) is not None:
            raise ConfigurationError(
                f"rotation of {path.name!r} refused because that is the name of a rotated file; give another"
            )
        longest = unfinished_path(forms_of(path, MAX_NUMBER)[-1])
        excess = len(os.fsencode(longest.name)) - _MAX_NAME_BYTES
        if excess > 0:
            raise ConfigurationError(
                f"rotation of {path.name!r} refused because the name leaves no room for a number; "
                f"give one that is {excess} bytes shorter"
            )
        packing = None
        if rotation.compress is not None:
            packing = packing_of(rotation.compress, wanted_by=f"compress={rotation.compress!r}")
        self._path = path
        self._rotation = rotation
        self._clock = clock
        self._due_at = math.inf  # by time, in seconds since 1970
        kept = Retention(count=rotation.keep, age_s=rotation.keep_age_s, total_bytes=rotation.keep_bytes)
        self.upkeep = Upkeep(path, packing, kept, clock)
        self.packed_suffix = "" if packing is None else packing.suffix
        """What a packed segment has at the end of its name."""

    def begin(self, status: os.stat_result) -> None:
        """Take note of the file that was opened."""
        if self._rotation.max_age_s is None and not self._rotation.at_midnight:
            return
        now = self._now()
        birth = self._birth(status) if status.st_size else now
        if not birth < now:  # it is new, or the clock was set back since somebody noted this
            birth = now
            with contextlib.suppress(OSError), self._turn() as lock:
                if lock is not None:
                    self._write_note(lock, now, self._noted()[1])
        self._due_at = self._due_after(birth)

    def seconds_left(self) -> float:
        """Return the time until the file is due, negative if it has passed."""
        if self._due_at == math.inf:
            return math.inf
        now = self._now()
        # No file is due later than one that begins now would be, unless the clock was set back.
        self._due_at = min(self._due_at, self._due_after(now))
        return self._due_at - now

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
            birth, now = self._birth(status), self._now()
            # Another process may have rotated, and this one opened the new file before it was told its age. Where
            # that is still to come the clock was set back.
            if self._due_at < math.inf and birth <= now:
                self._due_at = self._due_after(birth)
            if not self._is_due(status.st_size, length):
                return False
            number = free_number(self._path, self._noted()[1])
            if number > MAX_NUMBER:  # the name of a larger one would not be known again
                raise OSError(errno.EOVERFLOW, "no number is left for another segment")
            # Noted first, since of what a crash leaves between these steps it must be known that it is given.
            self._write_note(lock, birth, number)
            self._path.rename(segment_path(self._path, number))
            os.close(open_shared(self._path))
            self._write_note(lock, now, number)
        return True

    def next_number(self) -> int:
        """Return the number that the file at the path gets when it is rotated; raises OSError."""
        return free_number(self._path, self._noted()[1])

    def _is_due(self, size: int, length: int) -> bool:
        if size == 0:
            return False
        max_bytes = self._rotation.max_bytes
        return (max_bytes is not None and size + length > max_bytes) or self.seconds_left() <= 0

    def _due_after(self, birth: float) -> float:
        max_age_s = self._rotation.max_age_s
        due_at = math.inf if max_age_s is None else birth + max_age_s
        return min(due_at, (birth // _DAY_S + 1) * _DAY_S) if self._rotation.at_midnight else due_at

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _birth(self, status: os.stat_result) -> float:
        """Return when the file was begun; the time of its last line where nobody noted that."""
        birth = self._noted()[0]
        return status.st_mtime if birth is None else birth

    def _noted(self) -> tuple[float | None, int]:
        """Return when the file was begun and the last number that was given, as the lock's file says."""
        with contextlib.suppress(OSError), lock_path(self._path).open("rb") as file:
            found = _NOTE.fullmatch(file.read(_MAX_NOTE_BYTES))
            if found is not None:
                return float(found[1]), int(found[2])
        return None, 0

    @staticmethod
    def _write_note(lock: int, birth: float, number: int) -> None:
        note = f"{birth:020.6f}\n{number:07}\n".encode()
        os.pwrite(lock, note, 0)  # always of one length: a crash leaves the old one or this one
        os.ftruncate(lock, len(note))

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
