"""UsageStore: what every request used and cost, in one file that many processes append to and ask.

store = UsageStore("logs/usage.jsonl")
store.record(run_id="r1", model="claude-sonnet-5-5", usage=response.usage)
store.total_cost(), store.cost_for_run("r1"), store.since(hours=24).by_model()
"""

from __future__ import annotations

import datetime as dt
import math
import os
import sys
import threading
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, ClassVar, Literal

import attrs
import msgspec

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    RunStarted,
    UsageUpdated,
)
from agentkit_loop.observers import FailurePolicy, Observer
from agentkit_loop.pricing import Pricing
from agentkit_loop.scope_records import cost_of, usage_of
from agentkit_loop.usage import Cost, Usage
from agentkit_loop.values import safe_repr
from agentkit_reporting.accounting import Account
from agentkit_reporting.log.lines import Reading
from agentkit_reporting.log.packing import MAX_UNPACKED_BYTES
from agentkit_reporting.log.read import MAX_LINE_BYTES, BadLines
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import Shelf
from agentkit_reporting.log.tail import LogTail
from agentkit_reporting.records.direct import DirectView
from agentkit_reporting.records.reading import behind_torn
from agentkit_reporting.records.store import RecordStore, refuse_address
from agentkit_reporting.records.usage_entries import (
    UsageEntry,
    UsageQueries,
    UsageView,
    entry_of,
    read_entry,
)

__all__ = ["UsageStore"]

_NAMES = ("run_id", "session_id", "model", "currency", "source")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class UsageStore(DirectView, UsageQueries):
    """Keeps the usage and cost of requests: of loops that it observes, of logs that it is given, and what it is told.

    path: the file, one JSON object a line, of any number of threads and processes. prices: what requests cost that
    are told directly without a cost; live and over logs the cost is what the events say. remote,
    rotation: of the file, see RecordStore; what retention removes is in no sum of a process that begins later. emitter,
    observers, policy, clock: see DirectView; the clock also says what `since` counts back from.

    The file is the truth: each question reads first what anybody appended since the last one. In memory are the
    entries, about 500 bytes each. A log that is read into a store twice counts twice.
    """

    wants: ClassVar[tuple[type[AgentEvent], ...]] = (
        RunStarted,
        UsageUpdated,
        ModelRequestFinished,
        ModelRequestFailed,
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        prices: Pricing | Literal["default"] | None = "default",
        emitter: EventEmitter | None = None,
        observers: Iterable[Observer] = (),
        policy: FailurePolicy = FailurePolicy.LOG,
        remote: str | None = None,
        rotation: Rotation | None = None,
        clock: Clock | None = None,
    ) -> None:
        refuse_address(path)
        self._store = RecordStore(path, rotation=rotation, clock=clock, remote=remote)
        self._prices = prices
        self._clock_of_view = clock or Clock()
        super().__init__(emitter=emitter, observers=observers, policy=policy, clock=clock)

    def begin_anew(self) -> None:
        """Begin without open requests: the store is new, or this is a forked child, whose parent stores those."""
        super().begin_anew()
        self._lock = threading.Lock()
        self._reports: dict[
            str, dict[tuple[str, str], UsageUpdated]
        ] = {}  # of open requests: by session, by run and id
        self._file = _UsageFile(self._store)

    # --- told directly

    def record(
        self,
        run_id: str | None = None,
        *,
        model: str = "",
        usage: object = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached: int | None = None,
        cache_write: int | None = None,
        reasoning: int | None = None,
        cost: Cost | Decimal | float | str | None = None,
        duration_ms: float | None = None,
    ) -> None:
        """Tell one request that is over.

        run_id: of any run; None for that of `emitter=`. usage: a Usage, the SDK's, or a mapping with the API's names;
        or else the counts, of which None is unknown. cost: in USD, or a Cost; else the prices say it. Raises
        ConfigurationError for what is none of these.
        """
        counts: dict[str, Any] = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cached_input_tokens": cached,
            "cache_write_input_tokens": cache_write,
            "reasoning_tokens": reasoning,
        }
        for name, count in counts.items():
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
                raise ConfigurationError(
                    f"{name}={safe_repr(count)} refused; give an int of at least 0, or None"
                )
        if usage is not None and any(count is not None for count in counts.values()):
            raise ConfigurationError("usage= refused beside counts of tokens; give one of both")
        told = Usage(**counts) if usage is None else usage_of(usage)
        known = cost_of(cost, self._clock_of_view.now())  # refused before anything is told
        emitter = self._emitter
        if emitter is not None:
            if run_id not in (None, emitter.run_id, emitter.session_id):
                raise ConfigurationError(
                    f"run_id={run_id!r} refused because emitter= tells {emitter.run_id!r}; give that one, or None"
                )
            self.run_of(prices=self._prices).record_model_call(
                model=model or None, usage=told, cost=known, duration_ms=duration_ms
            )
            return
        if not run_id:
            raise ConfigurationError(f"run_id={run_id!r} refused; give the run's id, or an emitter=")
        try:
            self.begin_use(run_id, prices=self._prices).record_model_call(
                model=model or None, usage=told, cost=known, duration_ms=duration_ms
            )
        finally:
            self.end_use(run_id)

    # --- events

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event; the end of a request stores what it reported last."""
        done: list[UsageUpdated] = []
        with self._lock:
            if isinstance(event, UsageUpdated):
                self._reports.setdefault(event.session_id, {})[event.run_id, event.request_id] = event
            elif isinstance(event, RunStarted):
                done += self._reports.pop(event.session_id, {}).values()  # of a log without its end
            elif isinstance(event, (ModelRequestFinished, ModelRequestFailed)):
                reports = self._reports.get(event.session_id, {})
                place = (event.run_id, event.request_id)
                done += [reports.pop(place)] if place in reports else []
                if not reports:
                    self._reports.pop(event.session_id, None)
        for report in done:
            self._store.append(entry_of(report))

    # --- what came of it

    def entries(self) -> list[UsageEntry]:
        """Return all entries, in the order of the file, those of other processes too. Raises LogError."""
        return self._file.entries()

    @property
    def bad_count(self) -> int:
        """How many lines of the file were met that are no entries; they are in no sum."""
        return self._file.bad_count

    def since(
        self, when: dt.datetime | None = None, *, hours: float | None = None, days: float | None = None
    ) -> UsageView:
        """Return the same questions of what came since a moment, or in so many hours or days up to now.

        The moment is fixed when this is called. Raises ConfigurationError.
        """
        if when is not None:
            if hours is not None or days is not None or when.tzinfo is None:
                raise ConfigurationError(
                    f"since({when!r}) refused; give one aware datetime, or hours= or days="
                )
            return UsageView(self, when)
        given = (hours or 0) + (days or 0) * 24
        if (hours is None and days is None) or not 0 <= given < math.inf:
            raise ConfigurationError(
                f"since(hours={hours!r}, days={days!r}) refused; give a number of at least 0"
            )
        now = self._clock_of_view.now()
        try:
            return UsageView(self, now - dt.timedelta(hours=given))
        except OverflowError:
            return UsageView(self, dt.datetime.min.replace(tzinfo=dt.UTC))

    def account(self) -> Account:
        """Return what became of the entries that were to be stored here."""
        return attrs.evolve(self._store.account(), name=type(self).__name__)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Force what was stored to the disk; return whether every entry is there. Raises LogError."""
        return self._store.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """End the runs that were told of here and close the file; it can still be asked. Twice is harmless.

        Requests that were not told to have ended are stored by their last report.
        """
        super().close()
        with self._lock:
            unended = [report for reports in self._reports.values() for report in reports.values()]
            self._reports.clear()
        for report in unended:
            self._store.append(entry_of(report))
        return self._store.close(timeout_s)


class _UsageFile:
    """The entries of a file with its segments: what was read stays, and what came since is read at each look."""

    def __init__(self, store: RecordStore) -> None:
        self._bad = BadLines(strict=False)
        place = store.path.resolve()
        reading = Reading(MAX_LINE_BYTES, MAX_UNPACKED_BYTES, self._bad.note, Clock().sleep)
        self._tail = LogTail(str(store.path), place, Shelf(place.parent), reading)
        self._lock = threading.Lock()
        self._entries: list[UsageEntry] = []

    @property
    def bad_count(self) -> int:
        self.entries()
        return self._bad.count

    def entries(self) -> list[UsageEntry]:
        with self._lock:
            for source, first, lines in self._tail.rest():
                for number, line in enumerate(lines, first):
                    entry = _read_line(line)
                    if entry is not None:
                        self._entries.append(entry)
                    elif line.strip():
                        source.note(number, "not an entry of a usage store")
            self._tail.park()
            return list(self._entries)


def _read_line(line: bytes) -> UsageEntry | None:
    try:
        record = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        whole = behind_torn(line)
        if whole is None:
            return None
        record = _decode(whole)
    for name in _NAMES:  # a million entries share them
        if isinstance(record.get(name), str):
            record[name] = sys.intern(record[name])
    return read_entry(record)
