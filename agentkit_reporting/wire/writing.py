"""Off the hot path: a thread that makes records of what was noted and writes them, one after the other.

It begins with the first record, and ends with `close`. Who hands over waits for nobody. What is handed over is bounded
by its bytes: where the thread is so far behind, bodies are left out, and the record says so. A fork's child has no part
in what its parent holds. At the end of the process what is held is written, within the bound of `process_ends`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from agentkit_loop.errors import LogError
from agentkit_loop.usage import error_text
from agentkit_reporting.process_ends import log_lost, watch, watch_child

__all__ = ["MAX_WAITING_BYTES", "RecordThread"]

logger = logging.getLogger(__name__)

MAX_WAITING_BYTES = 64 * 2**20
"""Bytes of bodies that wait to be written at most."""

_Job: TypeAlias = "tuple[Callable[[], None], int]"


class RecordThread:
    """Does jobs in the order in which they were given, on one daemon thread.

    name: what failures are told of. A job that fails is counted, and told once until one goes well again.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.begin_anew()
        watch(self)

    def begin_anew(self) -> None:
        """Begin empty: this is a forked child, which has no such thread."""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # re-entrant: a signal's handler may flush what it interrupted
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()  # re-entrant, as above
        self._given = self._done = self._waiting = 0
        self.failed = 0
        self._is_told = False

    @property
    def pending(self) -> int:
        """How many jobs are not done."""
        return self._given - self._done

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may wait."""
        return self._waiting + size <= MAX_WAITING_BYTES

    def give(self, job: Callable[[], None], size: int) -> None:
        """Have a job done. size: bytes that it holds. Raises RuntimeError where no thread can be begun."""
        with self._lock:
            if self._thread is None:
                self._begin()
            self._given += 1
            self._waiting += size
            self._jobs.put((job, size))

    def _begin(self) -> None:
        watch_child()
        thread = threading.Thread(target=self._serve, args=(self._jobs,), name="agentkit-wire", daemon=True)
        self._thread = thread  # before: a signal's handler may come here while it starts
        try:
            thread.start()
        except BaseException:
            self._thread = None
            raise

    def _serve(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        while (given := jobs.get()) is not None:
            job, size = given
            try:
                job()
                self._is_told = False
            except BaseException as error:  # noqa: BLE001 - a pattern's SystemExit too: others wait for this thread
                self.failed += 1
                self.tell(error)
            del job, given
            with self._lock:
                self._waiting -= size
            with self._changed:
                self._done += 1
                self._changed.notify_all()

    def tell(self, error: BaseException) -> None:
        """Log a failure, once until something goes well; never raises."""
        if self._is_told:
            return
        self._is_told = True
        # Only the text of what the disk says is surely without what was to be masked.
        text = f": {error_text(error)}" if isinstance(error, (OSError, LogError)) else ""
        with contextlib.suppress(Exception):  # a filter of the host's for logs
            logger.warning(
                "%s could not record an exchange, the request goes on: %s%s",
                self.name,
                type(error).__name__,
                text,
            )

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was given so far is done; return whether it is."""
        due = self._given
        if threading.current_thread() is self._thread:
            return False
        with self._changed:
            return self._changed.wait_for(lambda: self._done >= due, timeout_s)

    def ask_for_flush(self) -> None:
        """Do nothing: the thread is at it."""

    def end(self, timeout_s: float | None = None) -> bool:
        """Do what was given, then end the thread; return whether all is done."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        is_done = self.flush(timeout_s)
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._jobs.put(None)
        if thread is not None and is_done:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        return is_done

    def tell_lost(self) -> None:
        """Log what is lost with the process."""
        log_lost(self.name, self.pending, self._given)
