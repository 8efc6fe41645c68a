"""What rotated segments need, off the way of the lines: packed, and removed when they need not be kept.

A thread is started when there is something to do and ends when it is done; the interpreter waits for it at its
exit. Whatever a crash left is done by the next writer's thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.log.locks import is_at, lock_alone, unlock
from agentkit_reporting.log.packing import Packing, pack, packing_of
from agentkit_reporting.log.places import reason_of
from agentkit_reporting.log.segments import (
    PACKED_SUFFIXES,
    Segment,
    lock_path,
    log_of,
    segments_of,
    unfinished_path,
)
from agentkit_reporting.log.uploaded import uploaded_numbers

_TRIES = 5
_BETWEEN_TRIES_S = 0.01  # a following reader holds a segment's lock for some microseconds, now and then


@attrs.frozen(kw_only=True)
class Retention:
    """How many rotated segments are kept, how long in seconds, how many bytes of them; None: no bound."""

    count: int | None = None
    age_s: float | None = None
    total_bytes: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever removed."""
        return self.count is None and self.age_s is None and self.total_bytes is None


class Upkeep:
    """Packs and removes the segments of one log. Safe for threads and processes.

    packing: None leaves segments as they are. after: called by its thread when something was done.
    """

    after: Callable[[], object] | None = None

    def __init__(self, path: Path, packing: Packing | None, kept: Retention, clock: Clock) -> None:
        self._path = path
        self._packing = packing
        self._kept = kept
        self._clock = clock
        self._trouble: str | None = None
        self.renew()

    def renew(self) -> None:
        """Begin anew in the child of a fork, where the thread is not there."""
        self._lock = threading.RLock()  # re-entrant: a signal handler may write what it interrupted
        self._wanted = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Have all done that is to be done now, by a thread."""
        with self._lock:
            self._wanted = True
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._work, name="agentkit-log-upkeep")
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is ending, or has no thread left: the next writer does it
                self._thread = None

    def start_if_rotated(self) -> None:
        """Do it only where somebody rotated this log before, which has left a lock file."""
        if os.path.exists(lock_path(self._path)):  # noqa: PTH110 - Path.exists() raises where one may not look
            self.start()

    def finish(self) -> None:
        """Wait until what was started is done."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def take_trouble(self) -> str | None:
        """Return what went wrong since this was last asked, None if nothing did."""
        trouble, self._trouble = self._trouble, None
        return trouble

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                self._wanted = False
            try:
                self.do()
            except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; it is told by flush
                self._trouble = f"rotated segments could not be packed or removed: {reason_of(error)}"
            if self.after is not None:
                self.after()

    def do(self) -> None:
        """Pack what nobody writes to any more and remove what need not be kept.

        What goes wrong with one segment keeps no other; raises the first OSError or ConfigurationError.
        """
        failures: list[Exception] = []
        for segment in self._segments():
            if not segment.suffix:
                with _collected(failures):
                    self._pack(segment)
        with _collected(failures):
            self._remove_unfinished()
        if not self._kept.keeps_all:
            self._remove_old(failures)
        if failures:
            raise failures[0]

    def _segments(self) -> list[Segment]:
        """Return the segments that are files; links and directories with such names are somebody else's."""
        return [each for each in segments_of(self._path) if _is_file(each.path)]

    def _pack(self, segment: Segment) -> None:
        packing = self._packing
        for suffix in PACKED_SUFFIXES:  # begun with other settings, and cut short by a crash
            if segment.path.with_name(segment.path.name + suffix).exists():
                packing = packing_of(suffix, wanted_by=f"a segment packed as {suffix}")
        if packing is not None:
            for _ in self._tries():
                if pack(segment.path, packing):
                    return

    def _remove_unfinished(self) -> None:
        """Remove what a crash left of packing a segment that is not there any more."""
        for name in os.listdir(self._path.parent):  # noqa: PTH208 - of thousands of names only the text
            if name.startswith(f".{self._path.stem}.") and name.endswith(".tmp"):
                target = self._path.with_name(name[1 : -len(".tmp")])
                is_ours = target.suffix in PACKED_SUFFIXES and log_of(target) == self._path
                if is_ours and not target.with_suffix("").exists():
                    unfinished_path(target).unlink(missing_ok=True)

    def _remove_old(self, failures: list[Exception]) -> None:
        segments = self._segments()
        numbers = sorted({each.number for each in segments})
        sizes: dict[Path, int] = {}
        ends: dict[int, float] = {}
        for segment in segments:
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                status = segment.path.stat()
                sizes[segment.path] = status.st_size
                ends[segment.number] = max(status.st_mtime, ends.get(segment.number, 0.0))
        now = self._clock.now().timestamp()
        count, total = len(numbers), sum(sizes.values())
        uploaded = uploaded_numbers(self._path)
        for number in numbers[:-1]:
            if self._keeps(count, total, now - ends.get(number, now)):
                continue
            if uploaded is not None and number not in uploaded:
                continue
            files = [each.path for each in segments if each.number == number]
            with _collected(failures):
                gone = [self._remove(path) for path in files]
                if all(gone):
                    count -= 1
                    total -= sum(sizes.get(path, 0) for path in files)

    def _keeps(self, count: int, total: int, age_s: float) -> bool:
        kept = self._kept
        return (
            (kept.count is None or count <= kept.count)
            and (kept.total_bytes is None or total <= kept.total_bytes)
            and (kept.age_s is None or age_s <= kept.age_s)
        )

    def _remove(self, path: Path) -> bool:
        """Remove a file unless somebody writes to it; return whether it is gone."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True
        try:
            for _ in self._tries():
                if lock_alone(fd):
                    try:
                        if is_at(os.fstat(fd), path):
                            path.unlink()
                    finally:
                        unlock(fd)
                    return True
        finally:
            os.close(fd)
        return False

    @staticmethod
    def _tries() -> Iterator[int]:
        """Count some tries, with a little time between."""
        for number in range(_TRIES):
            if number:
                time.sleep(_BETWEEN_TRIES_S)
            yield number


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:  # another process packed or removed it
        return False


@contextlib.contextmanager
def _collected(failures: list[Exception]) -> Iterator[None]:
    """Go on after what can go wrong with one file."""
    try:
        yield
    except (OSError, ConfigurationError) as error:
        failures.append(error)
