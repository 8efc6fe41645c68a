"""Remote storage: segments of logs uploaded as they are rotated, and what is left when a log is closed.

A thread does it, started with the first thing to upload and ended when nothing is left; no line waits for it. What
cannot be uploaded stays where it is, is tried again, later and later, and by the next process that opens the log.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import weakref
from pathlib import Path

import attrs

from agentkit_reporting.log.objects import Objects, can_put_to, checked_url, objects_at, reason_of_failure
from agentkit_reporting.log.remote_log import RemoteLog
from agentkit_reporting.log.rotate import Rotator
from agentkit_reporting.process_ends import watch, watch_child

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0
"""How long `close` waits for what is to be uploaded, where it is given no bound."""

_FIRST_PAUSE_S, _FIRST_PAUSE_FAILING_S, _LONGEST_PAUSE_S = 0.05, 0.5, 60.0
_SHORTEST_CALL_S = 0.1
_LONGEST_PAUSE_WAITED_FOR_S = 2.0  # while somebody waits


@attrs.frozen(kw_only=True)
class Uploads:
    """What became of the files of logs with remote storage.

    uploaded: objects that were stored, of which one may take the place of another. failed: tries that went wrong.
    pending: files that are still to come.
    """

    uploaded: int
    failed: int
    pending: int


class Remote:
    """Uploads the files of logs to one place, on one thread. Safe for threads.

    url: `s3://bucket/prefix`, `gs://…`, `az://…`, which need the extra `s3`, or `file:///directory`. Credentials and
    endpoint are taken from the environment, as obstore does (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …), and are in no
    text of ours. Raises ConfigurationError.

    In the child of a fork whose parent has put objects into a bucket nothing is uploaded, since obstore does not
    survive that: the parent does it for its own logs, the next process that opens them for others. Start such
    children by "spawn" or "forkserver".
    """

    def __init__(self, url: str) -> None:
        self.url = checked_url(url)
        self._objects: Objects | None = None
        self._made_in = os.getpid()
        self.begin_anew()
        watch(self)

    def __repr__(self) -> str:
        return f"<Remote {self.url}>"

    def begin_anew(self) -> None:
        """Begin anew in the child of a fork: what is to be uploaded is the parent's."""
        self._changed = threading.Condition()
        self._wanted: dict[RemoteLog, int] = {}  # how often each was wanted
        self._begun: weakref.WeakSet[RemoteLog] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._waiting = 0  # how many wait for the end
        self._uploaded = self._failed = 0
        self._is_failing = False
        self._trouble: str | None = None
        self._is_barred = not can_put_to(self.url)
        if self._is_barred and self._made_in == os.getpid():
            self._trouble = (
                f"segments are not uploaded to {self.url} from the child of a fork whose parent has done that; "
                'they are kept; start the child by "spawn"'
            )

    def log(self, path: Path, rotator: Rotator | None) -> RemoteLog:
        """Return a log whose files are uploaded. path: with all links followed."""
        return RemoteLog(path, self, rotator)

    def uploads(self) -> Uploads:
        """Return what became of the files so far."""
        with self._changed:
            pending = sum(max(1, log.left) for log in self._wanted)
            return Uploads(uploaded=self._uploaded, failed=self._failed, pending=pending)

    def take_trouble(self) -> str | None:
        """Return what goes wrong, once until it went well again; None if nothing does."""
        trouble, self._trouble = self._trouble, None
        return trouble

    def begun(self, log: RemoteLog) -> None:
        """Take note of a log that is written to."""
        self._begun.add(log)

    def want(self, log: RemoteLog) -> None:
        """Have what is there of a log uploaded; waits for nothing."""
        watch_child()
        with self._changed:
            self._wanted[log] = self._wanted.get(log, 0) + 1
            if not self._is_failing:
                self._changed.notify_all()  # what had to be packed first may be by now
            self._start()

    def _start(self) -> None:
        if self._thread is None and self._wanted and not self._is_barred:
            self._thread = threading.Thread(target=self._work, name="agentkit-upload", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is ending, or has no thread left
                self._thread = None

    # --- the end

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything is uploaded; return whether it is. timeout_s: None waits for 30 s."""
        until = time.monotonic() + (CLOSE_TIMEOUT_S if timeout_s is None else timeout_s)
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()  # what waits to try again tries now
            self._start()
        try:
            if self._thread is None and self._wanted and not self._is_barred:
                self._try_all(until)
            with self._changed:
                while self._wanted and not self._is_barred and (left_s := until - time.monotonic()) > 0:
                    self._changed.wait(left_s)
                return not self._wanted
        finally:
            with self._changed:
                self._waiting -= 1

    @property
    def pending(self) -> int:
        """How many files are to be uploaded, none where this process must not."""
        return 0 if self._is_barred else self.uploads().pending

    def ask_for_flush(self) -> None:
        """Have the rest uploaded, also of logs that nobody closed, since the process ends."""
        for log in list(self._begun):
            log.end()
        with self._changed:
            self._changed.notify_all()

    def tell_lost(self) -> None:
        """Log what could not be uploaded, if anything."""
        pending = self.uploads().pending
        if pending and not self._is_barred:
            logger.warning(
                "%d files were not uploaded to %s when the process ended; they are kept, and the next process that "
                "opens their log uploads them",
                pending,
                self.url,
            )

    def uploaded_by(self, until: float | None) -> bool:
        """Wait until everything is uploaded; return whether it is. until: by the monotonic clock; None: for 30 s."""
        is_done = self.flush(None if until is None else max(0.0, until - time.monotonic()))
        self.log_trouble()
        return is_done

    def log_trouble(self) -> None:
        """Log what goes wrong, unless that was told."""
        trouble = self.take_trouble()
        if trouble is not None:
            logger.error("%s", trouble)

    # --- the thread

    def _work(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            went_well = self._try_all()
            with self._changed:
                if not self._wanted:
                    self._thread = None
                    return
                if went_well:
                    pause_s = _FIRST_PAUSE_S
                    continue
                longest_s = _LONGEST_PAUSE_WAITED_FOR_S if self._waiting else _LONGEST_PAUSE_S
                if self._is_failing:
                    pause_s = max(pause_s, _FIRST_PAUSE_FAILING_S)
                pause_s = min(pause_s, longest_s)
                self._changed.wait(pause_s * (0.75 + secrets.randbelow(500) / 1_000))
                pause_s *= 2

    def _try_all(self, until: float | None = None) -> bool:
        """Upload what can be uploaded now; return whether that was all that was wanted before.

        until: by the monotonic clock, where this is no thread of its own: nobody else can end the waiting.
        """
        with self._changed:
            logs = dict(self._wanted)
        went_well = True
        for log, times in logs.items():
            try:
                is_done = log.upload(self._objects_until(until), self._note_stored)
                self._is_failing = False
            except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; it is told by flush
                is_done = False
                self._objects = None  # made anew, from what the environment says by then
                self._note_failure(error)
            went_well = went_well and is_done
            with self._changed:
                if is_done and self._wanted.get(log) == times:
                    del self._wanted[log]
                    self._changed.notify_all()
        return went_well

    def _objects_until(self, until: float | None) -> Objects:
        if until is not None:
            # Two calls for an object.
            return objects_at(self.url, timeout_s=max(_SHORTEST_CALL_S, (until - time.monotonic()) / 2))
        if self._objects is None:
            self._objects = objects_at(self.url)
        return self._objects

    def _note_stored(self) -> None:
        with self._changed:
            self._uploaded += 1

    def _note_failure(self, error: Exception) -> None:
        with self._changed:
            self._failed += 1
            if not self._is_failing:
                self._trouble = (
                    f"segments could not be uploaded to {self.url}: {reason_of_failure(error)}; "
                    "they are kept and tried again"
                )
            self._is_failing = True
