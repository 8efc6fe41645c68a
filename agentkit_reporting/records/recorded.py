"""The common ground of views whose records go to a file: an event is scrubbed, becomes records, and those are kept.

In memory is what is in the file: a record that could not be written is in neither.
"""

from __future__ import annotations

import abc
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import attrs

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import FailurePolicy, Observer
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.log.remote import Uploads
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.syncing import DEFAULT_FSYNC_INTERVAL_MS, FsyncPolicy
from agentkit_reporting.records.direct import DirectView
from agentkit_reporting.records.store import RecordStore
from agentkit_reporting.redaction.redactor import Redaction, Redactor, redactor_of

__all__ = ["RecordedView"]


class RecordedView(DirectView):
    """An observer that keeps records, in memory and in a file.

    path: the file, or an address such as "s3://bucket/logs/", see `RecordStore`; None keeps them in memory only.
    remote: where the file is uploaded to, see there. redact: what is masked in each event before
    anything of it is kept, see `JsonlReporter`. rotation, fsync, fsync_interval_ms: see `LogWriter`. emitter,
    observers, policy, clock: see `DirectView`. Raises LogError for a path that cannot work, ConfigurationError for
    options that are none. A record that cannot be written raises LogError from `handle_event`: the policy decides.
    """

    file_name: ClassVar[str] = "records.jsonl"
    """What the file is called where the path is the address of a directory."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        remote: str | None = None,
        rotation: Rotation | None = None,
        redact: Redaction = True,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        emitter: EventEmitter | None = None,
        observers: Iterable[Observer] = (),
        policy: FailurePolicy = FailurePolicy.LOG,
        clock: Clock | None = None,
    ) -> None:
        self.redactor: Redactor | None = redactor_of(redact)
        """What scrubs each event before anything of it is kept; None for none."""
        self._store: RecordStore | None = None
        if path is not None:
            self._store = RecordStore(
                path,
                rotation=rotation,
                redact=False,  # events are scrubbed, with all that is known of them
                fsync=fsync,
                fsync_interval_ms=fsync_interval_ms,
                clock=clock,
                remote=remote,
                file_name=self.file_name,
            )
        elif remote is not None or rotation is not None:
            name = "rotation" if remote is None else "remote"
            raise ConfigurationError(f"{name} refused because nothing is stored; give a path")
        self._closed = False
        super().__init__(emitter=emitter, observers=observers, policy=policy, clock=clock)

    @property
    def path(self) -> os.PathLike[str] | None:
        """The file; None where records are in memory only."""
        return None if self._store is None else self._store.path

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event; raises LogError for what could not be written, RedactionError for what not be scrubbed."""
        with self._lock:
            try:
                told = event if self.redactor is None else self.redactor.event(event)
            except BaseException:
                self._withheld.add()
                raise
            self._take(told)

    @abc.abstractmethod
    def _take(self, event: AgentEvent) -> None:
        """Make the records of an event; other threads wait meanwhile."""

    def _write(self, write: Callable[[RecordStore], Any], *, is_redacted: bool) -> Any:
        """Write a record, if there is a file; count it."""
        if self._closed:
            self._withheld.add()
            raise LogError("record refused while the log is closed; make a new one", path=str(self.path))
        result = None if self._store is None else write(self._store)
        self._kept.add()
        if is_redacted:
            self._redacted.add()
        return result

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LogError("record refused while the log is closed; make a new one", path=str(self.path))

    # --- as observers are asked

    def account(self) -> Account:
        """Return what became of the records; those of events that could not be scrubbed failed."""
        withheld, kept = self._withheld.value, self._kept.value
        name = type(self).__name__
        if self._store is None:
            told = Account(name=name, received=kept, delivered=kept)
        else:
            told = attrs.evolve(self._store.account(), name=name)
        return attrs.evolve(
            told,
            received=told.received + withheld,
            failed=told.failed + withheld,
            redacted=self._redacted.value,
        )

    def uploads(self) -> Uploads | None:
        """Return what became of the files in remote storage; None without one."""
        return None if self._store is None else self._store.uploads()

    def begin_anew(self) -> None:
        """Forget what was counted, with new locks and no runs: this is a forked child."""
        super().begin_anew()
        self._lock = threading.RLock()
        self._kept, self._withheld, self._redacted = Tally(), Tally(), Tally()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Force what was written to the disk, unless fsync is "never"; return whether all so far is in the file.

        timeout_s: None waits for the disk without a bound. Raises LogError.
        """
        return (self._store is None or self._store.flush(timeout_s)) and not self.account().lost

    def hand_over(self) -> bool:
        """Flush around the end of a run; that records were lost before is told with those. Raises LogError."""
        if self._store is not None:
            self._store.flush()
        return True

    def close(self, timeout_s: float | None = None) -> bool:
        """End the runs that were opened here and close the file; return whether all is in it. Twice is harmless.

        With remote storage, whether everything arrived there as well. timeout_s: None waits for the disk without a
        bound, 30 s for remote storage. Raises LogError.
        """
        super().close()
        with self._lock:
            self._closed = True
        return (self._store is None or self._store.close(timeout_s)) and self.account().is_complete
