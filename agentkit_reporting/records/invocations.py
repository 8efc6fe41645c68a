"""InvocationMetricsCollector: one record for each invocation of an agent, kept in memory and in a file.

    collector = InvocationMetricsCollector("metrics")
    collector.record(InvocationMetric(invocation_id="inv-1", agent="planner", …))
    Agent(model, observers=[collector]).run("go", metadata={"phase": 2, "task_id": "t-7", "tier": "small"})
    collector.compute_aggregate()

A record is made of an event: of the `metric_recorded` that `record` emits, or of the end of a run that the collector
observes (ended_runs.py says how). So live, direct and offline use agree.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, CustomEvent
from agentkit_loop.ids import new_id
from agentkit_loop.observers import FailurePolicy, Observer, Registration
from agentkit_reporting.accounting import Account
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.records.aggregate import MetricsAggregate, compute_aggregate
from agentkit_reporting.records.direct import DirectView
from agentkit_reporting.records.ended_runs import FOLDED, METRIC_RECORDED, RunFold
from agentkit_reporting.records.invocation_metric import InvocationMetric
from agentkit_reporting.records.store import RecordStore, read_records, refuse_address

METRICS_FILE = "invocations.jsonl"
"""The file in the directory of metrics, with its segments where it is rotated."""

_MOST_WARNINGS = 20  # malformed lines that are told one by one


class Logger(Protocol):
    """What warnings are given to: a `logging.Logger`, or anything with its `warning`."""

    def warning(self, message: str, /, *args: object) -> object:
        """Log a warning, its arguments put in by `%`."""


class InvocationMetricsCollector(DirectView):
    """Keeps a metric for each invocation; shared by sessions, threads and tasks.

    metrics_dir: where METRICS_FILE is, made with the first record; several collectors and processes may append to one.
    logger: is told of malformed lines; by default `agentkit.metrics` of the standard logging. observers: are told what
    `record` tells, as a run of the collector's own, which `close` ends. emitter: tells it instead, in its open run.
    derive: whether the runs that it observes become metrics by themselves. remote: where the
    file is uploaded to, see RecordStore. rotation: none by default: metrics are kept. clock: of its own run.

    Memory: about 1 kB for each metric. Closing it is for who made it; a record after that raises LogError.
    """

    wants: ClassVar[tuple[type[AgentEvent], ...]] = FOLDED

    def __init__(
        self,
        metrics_dir: str | os.PathLike[str],
        logger: Logger | None = None,
        *,
        observers: Iterable[Observer | Registration] = (),
        emitter: EventEmitter | None = None,
        derive: bool = True,
        remote: str | None = None,
        rotation: Rotation | None = None,
        clock: Clock | None = None,
    ) -> None:
        refuse_address(metrics_dir)
        self._store = RecordStore(
            Path(metrics_dir) / METRICS_FILE, rotation=rotation, clock=clock, remote=remote
        )
        self.path = self._store.path
        self._logger: Logger = logging.getLogger("agentkit.metrics") if logger is None else logger
        self._derive = derive
        self._fold = RunFold()
        self._kept = _Kept()
        self._direct = _Direct()
        self._is_closed = False
        # An error of the collector's is for who calls `record`; there is nothing to be logged of it.
        own = Registration(self, policy=FailurePolicy.ACCUMULATE)
        if emitter is None:
            kept: Any = [_logging(each) for each in observers]
            super().__init__(observers=kept, policy=own.policy or FailurePolicy.LOG, clock=clock)
            return
        if all(each is not self for each in emitter.observers):
            emitter.add_observer(own)
        for observer in observers:
            emitter.add_observer(observer)
        super().__init__(emitter=emitter)

    def begin_anew(self) -> None:
        """Begin without a run: the collector is new, or this is a forked child, which tells a session of its own."""
        super().begin_anew()
        self._lock = threading.RLock()
        self._own_session = new_id("metrics")

    # --- telling

    def record(self, metric: InvocationMetric | Mapping[str, Any]) -> None:
        """Tell a metric; it is in the file and in memory when this returns.

        metric: or its fields as a mapping. It is told as a `metric_recorded` event, and recorded by `handle_event` as
        any other. One with the id of a run that was observed takes the place of the metric made of that run.
        Raises ConfigurationError for what is no metric, LogError where it could not be written.
        """
        told = metric if isinstance(metric, InvocationMetric) else InvocationMetric.of_record(metric)
        if self._is_closed:
            raise LogError(
                "a metric refused because the collector was closed; record it before", path=str(self.path)
            )
        self._direct.error = None
        self.run_of(self._own_session if self._emitter is None else None).custom(
            METRIC_RECORDED, {"metric": told.as_record()}
        )
        if self._direct.error is not None:
            raise self._direct.error

    async def arecord(self, metric: InvocationMetric | Mapping[str, Any]) -> None:
        """Do the same from a task, without holding up the others: the file is written on a thread.

        What one task records is in its order; so is what several record that wait for each other.
        """
        import asyncio  # noqa: PLC0415 - who is here has loaded it

        await asyncio.to_thread(self.record, metric)

    # --- the fold

    def handle_event(self, event: AgentEvent) -> None:
        """Take an event of a run, or a metric that somebody told. Raises LogError where it cannot be written."""
        with self._lock:
            if isinstance(event, CustomEvent) and event.name == METRIC_RECORDED:
                metric = self._told(event)
                if metric is not None:
                    self._add(metric)
            if self._derive:
                ended = self._fold.take(event)
                if ended is not None and not self._kept.has(ended.metric.invocation_id):
                    self._add(ended.metric)

    def _told(self, event: CustomEvent) -> InvocationMetric | None:
        data = event.data
        try:
            return InvocationMetric.of_record(data.get("metric") if isinstance(data, dict) else data)
        except ConfigurationError as error:
            self._logger.warning("skipped a metric_recorded event, seq %d: %s", event.seq, error)
            return None

    def _add(self, metric: InvocationMetric) -> None:
        try:
            self._store.append(metric.as_record())  # first: what is not in the file is not in memory
        except LogError as error:
            self._direct.error = error
            raise
        self._kept.add(metric)
        self._fold.count_on(metric)

    # --- asking

    def get_all(self) -> list[InvocationMetric]:
        """Return the metrics in memory, in the order of their recording."""
        with self._lock:
            return self._kept.counted()

    def get_count(self) -> int:
        """Return how many they are."""
        with self._lock:
            return len(self._kept.counted())

    def compute_aggregate(self, *, bucket_ms: float | None = None) -> MetricsAggregate:
        """Return the figures of the metrics in memory; see `agentkit_reporting.records.aggregate`."""
        return compute_aggregate(self.get_all(), bucket_ms=bucket_ms)

    def checkpoint_count(self) -> int:
        """Return how many records the file holds: the number for a checkpoint, to be given to `load_from_disk`."""
        with self._lock:
            return len(self._read(warn=False))

    def load_from_disk(self, skip_count: int = 0) -> None:
        """Take over what the file holds: after it memory has every record of the file exactly once, in its order.

        skip_count: how many of the file's first records are known already, by a checkpoint; those that are in memory
        stay the objects that they are, the others are read as well. A malformed line is skipped with a warning.
        Raises ConfigurationError where the file holds fewer; memory stays as it was then.
        """
        given: Any = skip_count
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise ConfigurationError(f"skip_count={skip_count!r} refused; give a count of 0 or more")
        with self._lock:
            found = self._read(warn=True)
            if skip_count > len(found):
                raise ConfigurationError(
                    f"skip_count={skip_count} refused because {str(self.path)!r} holds {len(found)} records; "
                    f"give at most {len(found)}"
                )
            known = self._kept.records[:skip_count]
            first = [own if own == read else read for own, read in zip(known, found, strict=False)]
            self._kept = _Kept([*first, *found[len(first) :]])
            for metric in found:
                self._fold.count_on(metric)

    def _read(self, *, warn: bool) -> list[InvocationMetric]:
        """Return the valid records of the file; none where there is no file yet."""
        told = _Warnings(self._logger if warn else None)
        found: list[InvocationMetric] = []
        try:
            reader = read_records(self.path)
        except LogError:
            if self.path.exists():
                raise
            return found
        with contextlib.closing(reader):
            for record in reader:
                try:
                    found.append(InvocationMetric.of_record(record))
                except ConfigurationError as error:
                    told.warn(f"skipped a line of {self.path}: {error}")
        for bad in reader.bad:
            told.warn(f"skipped {bad.path}:{bad.line}: {bad.reason}")
        told.sum_up(max(0, reader.bad_count - len(reader.bad)))
        return found

    # --- the end

    def account(self) -> Account:
        """Return what became of the records that it wrote."""
        return self._store.account()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Force the file to the disk; return whether every record is in it."""
        return self._store.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """End the run of the collector's own, flush and close the file; twice is harmless."""
        self._is_closed = True
        super().close()
        return self._store.close(timeout_s)


def _logging(observer: Observer | Registration) -> Registration:
    """Return an observer with the policy that it would have without the collector beside it."""
    return (
        observer if isinstance(observer, Registration) else Registration(observer, policy=FailurePolicy.LOG)
    )


class _Kept:
    """Metrics in the order of the file; one that was derived gives way to one that was told under its id."""

    def __init__(self, records: Iterable[InvocationMetric] = ()) -> None:
        self.records: list[InvocationMetric] = []
        self._told: set[str] = set()
        self._derived: set[str] = set()
        self._superseded = 0
        for metric in records:
            self.add(metric)

    def add(self, metric: InvocationMetric) -> None:
        self.records.append(metric)
        (self._derived if metric.derived else self._told).add(metric.invocation_id)

    def has(self, invocation_id: str) -> bool:
        return invocation_id in self._told or invocation_id in self._derived

    def counted(self) -> list[InvocationMetric]:
        if self._told.isdisjoint(self._derived):
            return list(self.records)
        return [each for each in self.records if not (each.derived and each.invocation_id in self._told)]


class _Warnings:
    """Warns of the first few, and counts the rest."""

    def __init__(self, logger: Logger | None) -> None:
        self._logger = logger
        self._left = _MOST_WARNINGS
        self._more = 0

    def warn(self, text: str) -> None:
        if self._left:
            self._left -= 1
            if self._logger is not None:
                self._logger.warning("%s", text)
        else:
            self._more += 1

    def sum_up(self, others: int) -> None:
        if self._logger is not None and self._more + others:
            self._logger.warning("skipped %d more malformed lines", self._more + others)


class _Direct(threading.local):
    """What went wrong while this thread told a metric; whoever called `record` hears of it."""

    error: LogError | None = None


__all__ = ["METRICS_FILE", "InvocationMetricsCollector", "Logger"]
