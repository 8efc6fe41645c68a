"""What requests used, one entry each, and the questions that may be asked of many."""

from __future__ import annotations

import abc
import datetime as dt
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import attrs
import msgspec

from agentkit_loop.events import UsageUpdated
from agentkit_loop.usage import EXACT_SUMS, Usage, can_be_added
from agentkit_reporting.timestamps import utc_text
from agentkit_reporting.usage import UsageTotals

__all__ = ["UsageEntry", "UsageQueries", "UsageView"]

USD = "USD"
_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "output_tokens",
    "reasoning_tokens",
)
_MAX_COUNT = 2**63


@attrs.frozen(kw_only=True)
class UsageEntry:
    """One request that is over, as it is stored.

    timestamp: of its last report, ISO 8601, UTC. run_id, session_id: as its events have them. model: that was billed.
    The counts are those of `Usage`; None is unknown. cost: exact, as text in the file; None where nobody knows it.
    currency, source: of the cost. final: whether the report was the provider's last word; that of a request which
    failed is not, and counts.
    """

    timestamp: str
    run_id: str
    session_id: str
    request_id: str
    model: str
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_write_1h_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: Decimal | None = None
    currency: str | None = None
    source: str | None = None
    final: bool = True

    @property
    def at(self) -> dt.datetime:
        """The time of its last report."""
        return dt.datetime.fromisoformat(self.timestamp)

    @property
    def usage(self) -> Usage:
        """The counts."""
        return Usage(**{name: getattr(self, name) for name in _COUNTS})


def entry_of(event: UsageUpdated) -> UsageEntry:
    """Return the entry of a request by its last report."""
    cost = event.cost if event.cost is not None and can_be_added(event.cost.amount) else None
    counts: dict[str, Any] = {name: getattr(event.usage, name) for name in _COUNTS}
    return UsageEntry(
        timestamp=utc_text(event.timestamp),
        run_id=event.run_id,
        session_id=event.session_id,
        request_id=event.request_id,
        model=event.model,
        cost=None if cost is None else cost.amount,
        currency=None if cost is None else cost.currency,
        source=None if cost is None else cost.source,
        final=event.final,
        **counts,
    )


def read_entry(record: dict[str, Any]) -> UsageEntry | None:
    """Return the entry that a record of a file is; None for one that is none, whoever wrote it."""
    texts = {name: record.get(name) for name in ("timestamp", "run_id", "session_id", "request_id", "model")}
    counts = {name: record.get(name) for name in _COUNTS}
    if not all(isinstance(text, str) for text in texts.values()) or not all(map(_is_count, counts.values())):
        return None
    given, currency, source = record.get("cost"), record.get("currency"), record.get("source")
    try:
        at = dt.datetime.fromisoformat(str(texts["timestamp"]))
        cost = None if given is None else Decimal(given)
    except (InvalidOperation, TypeError, ValueError):
        return None
    if at.tzinfo is None or (cost is not None and (not can_be_added(cost) or not isinstance(currency, str))):
        return None
    fields: dict[str, Any] = {**texts, **counts}
    return UsageEntry(
        **fields,
        cost=cost,
        currency=currency if cost is not None else None,
        source=source if isinstance(source, str) else None,
        final=record.get("final") is not False,
    )


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < _MAX_COUNT)


class UsageQueries(abc.ABC):
    """The questions; what they are asked of is a store, or a part of one."""

    @abc.abstractmethod
    def entries(self) -> list[UsageEntry]:
        """Return the entries, in the order of the file."""

    def total_cost(self, currency: str = USD) -> Decimal | None:
        """Return the exact sum of the costs in a currency; None where requests were made and no such cost is known.

        `totals().unpriced_requests` says of how many nobody knows the cost, which the sum leaves out.
        """
        return _cost(self.entries(), currency)

    def cost_for_run(self, run_id: str, currency: str = USD) -> Decimal | None:
        """Return the same of one run, or of all runs of a session with that id; of a run without requests 0."""
        return _cost(self._of_run(run_id), currency)

    def for_run(self, run_id: str) -> UsageTotals:
        """Return tokens and costs, one total for each currency, of one run or session."""
        return _totals(self._of_run(run_id))

    def totals(self) -> UsageTotals:
        """Return tokens and costs, one total for each currency."""
        return _totals(self.entries())

    def by_run(self) -> dict[str, UsageTotals]:
        """Return a sum for each run."""
        return self._by(lambda entry: entry.run_id)

    def by_model(self) -> dict[str, UsageTotals]:
        """Return a sum for each model."""
        return self._by(lambda entry: entry.model)

    def by_day(self) -> dict[str, UsageTotals]:
        """Return a sum for each day, UTC, such as `2026-05-24`."""
        return self._by(lambda entry: entry.at.astimezone(dt.UTC).date().isoformat())

    def _of_run(self, run_id: str) -> list[UsageEntry]:
        return [entry for entry in self.entries() if run_id in (entry.run_id, entry.session_id)]

    def _by(self, key: Callable[[UsageEntry], str]) -> dict[str, UsageTotals]:
        groups: dict[str, list[UsageEntry]] = {}
        for entry in self.entries():
            groups.setdefault(key(entry), []).append(entry)
        return {name: _totals(group) for name, group in groups.items()}


class UsageView(UsageQueries):
    """The entries of a store from a moment on; asked anew, it looks anew. start: aware."""

    def __init__(self, store: UsageQueries, start: dt.datetime) -> None:
        self.start = start
        self._store = store

    def entries(self) -> list[UsageEntry]:
        """Return the entries whose last report came at `start` or later."""
        return [entry for entry in self._store.entries() if entry.at >= self.start]


def _cost(entries: Iterable[UsageEntry], currency: str) -> Decimal | None:
    amount, known, count = Decimal(0), 0, 0
    for entry in entries:
        count += 1
        if entry.cost is not None and entry.currency == currency:
            amount = EXACT_SUMS.add(amount, entry.cost)
            known += 1
    return amount if known or not count else None


def _totals(entries: Iterable[UsageEntry]) -> UsageTotals:
    counts: dict[str, int] = {}
    costs: dict[str, Decimal] = {}
    requests = unpriced = provisional = 0
    for entry in entries:
        requests += 1
        provisional += not entry.final
        for name in _COUNTS:
            count = getattr(entry, name)
            if count is not None:
                counts[name] = counts.get(name, 0) + count
        if entry.cost is None or entry.currency is None:
            unpriced += 1
        else:
            costs[entry.currency] = EXACT_SUMS.add(costs.get(entry.currency, Decimal(0)), entry.cost)
    return UsageTotals(
        usage=msgspec.convert(counts, Usage),
        costs=costs,
        requests=requests,
        unpriced_requests=unpriced,
        provisional_requests=provisional,
    )
