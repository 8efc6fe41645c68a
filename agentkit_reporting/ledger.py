"""CostLedger: every request with what it used and what it cost, grouped as one asks.

Where `UsageReporter` keeps sums, the ledger keeps the entries, so that a bill can be explained component by
component and priced again by another table. A later report of a request replaces the earlier one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import ClassVar

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, RunStarted, UsageUpdated
from agentkit_loop.forks import Locked
from agentkit_loop.observers import LoopObserver
from agentkit_loop.pricing import Pricing, billed
from agentkit_loop.usage import EXACT_SUMS, Cost, Usage, can_be_added
from agentkit_loop.values import JSON

DIMENSIONS = ("model", "agent", "session", "run", "turn", "request", "day", "source")
"""What entries can be grouped by, beside `metadata.NAME`: a value of the run's metadata.

Turns and requests are numbered anew in every session, so that their values are `SESSION/TURN` and
`SESSION/REQUEST`; in a key that has the session as a value of its own they are bare.
"""

_METADATA = "metadata."


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One request by its latest report.

    agent, metadata: of its run, empty where the log does not hold its beginning. seq, timestamp: of the report.
    usage: with the provider's own object. cost: None where no price was known. final: whether the report
    was the provider's last word.
    """

    session_id: str
    run_id: str
    turn_id: str | None
    request_id: str
    model: str
    agent: str
    metadata: dict[str, JSON]
    seq: int
    timestamp: dt.datetime
    usage: Usage
    cost: Cost | None
    final: bool

    def value(self, dimension: str) -> str:
        """Return what the entry is grouped under; raises ConfigurationError for what is no dimension."""
        match dimension:
            case "model" | "agent":
                return str(getattr(self, dimension))
            case "session" | "run":
                return str(getattr(self, f"{dimension}_id"))
            case "turn" | "request":
                return f"{self.session_id}/{self._number(dimension)}"
            case "day":
                return self.timestamp.astimezone(dt.UTC).date().isoformat()
            case "source":
                return self.cost.source if self.cost is not None else ""
            case _ if dimension.startswith(_METADATA) and dimension != _METADATA:
                return _text(self.metadata.get(dimension.removeprefix(_METADATA)))
            case _:
                raise _no_dimension(dimension)

    def key(self, by: Sequence[str]) -> tuple[str, ...]:
        """Return the values of several dimensions; a turn or request beside its session is bare."""
        bare = ("turn", "request") if "session" in by else ()
        return tuple(self._number(each) if each in bare else self.value(each) for each in by)

    def _number(self, dimension: str) -> str:
        return (self.turn_id if dimension == "turn" else self.request_id) or ""


@attrs.define(kw_only=True)
class CostComponent:
    """A part of a cost.

    count: tokens, or searches. amount: what they cost. rate: for one of them, in the first request that had
    some; None where there was none. several_rates: whether another request had another rate.
    """

    count: int = 0
    amount: Decimal = Decimal(0)
    rate: Decimal | None = None
    several_rates: bool = False

    def join(self, other: CostComponent) -> None:
        """Add the same component of other requests."""
        self.count += other.count
        self.amount = EXACT_SUMS.add(self.amount, other.amount)
        if self.rate is None:
            self.rate = other.rate
        self.several_rates |= other.several_rates or other.rate not in {None, self.rate}


@attrs.define(kw_only=True)
class LedgerGroup:
    """Entries that belong together.

    key: their values of the dimensions asked for. usage: the sum of all. costs: amount by currency.
    components: by currency and name (`input`, `cached_input`, `cache_write`, `cache_write_1h`, `output`,
    `web_search`, and `kind:model` for what another model did), of the entries that have a cost. unpriced: how
    many have none. provisional: how many were not finished. sources: how many each price table priced.
    priced_on: the days (UTC) whose prices were used.
    """

    key: tuple[str, ...]
    requests: int = 0
    usage: Usage = attrs.field(factory=Usage)
    costs: dict[str, Decimal] = attrs.field(factory=dict)
    components: dict[str, dict[str, CostComponent]] = attrs.field(factory=dict)
    unpriced: int = 0
    provisional: int = 0
    sources: dict[str, int] = attrs.field(factory=dict)
    priced_on: set[str] = attrs.field(factory=set)

    def add(self, entry: LedgerEntry) -> None:
        """Add one entry."""
        self.requests += 1
        self.usage += entry.usage
        self.provisional += not entry.final
        cost = entry.cost
        if cost is None:
            self.unpriced += 1
            return
        self.costs[cost.currency] = EXACT_SUMS.add(self.costs.get(cost.currency, Decimal(0)), cost.amount)
        self.sources[cost.source] = self.sources.get(cost.source, 0) + 1
        self.priced_on.add(cost.priced_at.astimezone(dt.UTC).date().isoformat())
        counts = billed(entry.model, entry.usage)
        components = self.components.setdefault(cost.currency, {})
        for name, amount in cost.components.items():
            count = counts.get(name, 0)
            rate = EXACT_SUMS.divide(amount, Decimal(count)) if count else None
            components.setdefault(name, CostComponent()).join(
                CostComponent(count=count, amount=amount, rate=rate)
            )

    def join(self, other: LedgerGroup) -> None:
        """Add another group."""
        self.requests += other.requests
        self.usage += other.usage
        self.unpriced += other.unpriced
        self.provisional += other.provisional
        self.priced_on |= other.priced_on
        for currency, amount in other.costs.items():
            self.costs[currency] = EXACT_SUMS.add(self.costs.get(currency, Decimal(0)), amount)
        for source, requests in other.sources.items():
            self.sources[source] = self.sources.get(source, 0) + requests
        for currency, components in other.components.items():
            mine = self.components.setdefault(currency, {})
            for name, component in components.items():
                mine.setdefault(name, CostComponent()).join(component)


class CostLedger(Locked, LoopObserver):
    """Keeps every request's usage and cost; may be shared by sessions and threads.

    About 1 kB a request. Equal when the same was accumulated.
    """

    wants: ClassVar[tuple[type[AgentEvent], ...]] = (RunStarted, UsageUpdated)

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, tuple[str, dict[str, JSON]]] = {}  # agent and metadata
        self._entries: dict[tuple[str, str, str], LedgerEntry] = {}  # by session, run and request

    def handle_event(self, event: AgentEvent) -> None:
        """Take the beginning of a run, or a report of usage."""
        with self._lock:
            if isinstance(event, RunStarted):
                self._runs[event.run_id] = (event.agent_name, event.metadata)
            elif isinstance(event, UsageUpdated):
                place = (event.session_id, event.run_id, event.request_id)
                earlier = self._entries.get(place)
                if earlier is None or event.seq >= earlier.seq:  # logs of a session may come in any order
                    self._entries[place] = self._entry(event)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Return the entries, in the order in which their requests first reported."""
        with self._lock:
            return tuple(self._entries.values())

    def groups(self, by: Sequence[str] = ("model",), *, prices: Pricing | None = None) -> list[LedgerGroup]:
        """Return the entries grouped by dimensions, in order of their first entry.

        prices: price every entry anew, at the time of its report, instead of taking the logged cost.
        Raises ConfigurationError for an unknown dimension, whether there are entries or not.
        """
        _check_dimensions(by)
        entries = self.entries() if prices is None else self.repriced(prices)
        return list(grouped((entry.key(by), entry) for entry in entries).values())

    def repriced(self, prices: Pricing) -> Iterator[LedgerEntry]:
        """Yield the entries with the cost that a price list gives them, at the time of their report."""
        for entry in self.entries():
            cost = prices.cost(entry.model, entry.usage, entry.timestamp)
            yield attrs.evolve(entry, cost=cost)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CostLedger):
            return NotImplemented
        return self.entries() == other.entries()

    __hash__ = None  # type: ignore[assignment] # it changes, as a list does

    def _entry(self, event: UsageUpdated) -> LedgerEntry:
        agent, metadata = self._runs.get(event.run_id, ("", {}))
        cost = event.cost
        if cost is not None and not all(map(can_be_added, (cost.amount, *cost.components.values()))):
            cost = None
        return LedgerEntry(
            session_id=event.session_id,
            run_id=event.run_id,
            turn_id=event.turn_id,
            request_id=event.request_id,
            model=event.model,
            agent=agent,
            metadata=metadata,
            seq=event.seq,
            timestamp=event.timestamp,
            usage=event.usage,
            cost=cost,
            final=event.final,
        )


def grouped(keyed: Iterable[tuple[tuple[str, ...], LedgerEntry]]) -> dict[tuple[str, ...], LedgerGroup]:
    """Return the groups of entries that come with their keys, in order of the first entry of each."""
    groups: dict[tuple[str, ...], LedgerGroup] = {}
    for key, entry in keyed:
        groups.setdefault(key, LedgerGroup(key=key)).add(entry)
    return groups


def _check_dimensions(by: Sequence[str]) -> None:
    if isinstance(by, str):
        raise ConfigurationError(f"by={by!r} refused; give a list of dimensions such as [{by!r}]")
    for dimension in by:
        named = dimension.startswith(_METADATA) and dimension != _METADATA
        if not named and dimension not in DIMENSIONS:
            raise _no_dimension(dimension)


def _no_dimension(dimension: str) -> ConfigurationError:
    known = ", ".join(DIMENSIONS)
    return ConfigurationError(f"dimension {dimension!r} refused; give {known} or metadata.NAME")


def _text(value: JSON) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
