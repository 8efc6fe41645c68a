"""What CacheBreaks says: a request, a session, and what they come to in tokens and money."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import attrs

from agentkit_loop.usage import EXACT_SUMS
from agentkit_reporting.analysis.cache_breaks_causes import BreakCause
from agentkit_reporting.analysis.cache_breaks_money import Charge, Counted, RatesSeen

__all__ = ["CacheRequest", "CacheSession", "CacheTotals", "Settled", "priced_session", "total_of"]

NO_USAGE = "the provider did not tell what its cache held"
NO_PRICE = "the request has no recorded cost"
NO_RATE = "no rate of cached input is recorded for its model"


@attrs.frozen(kw_only=True)
class CacheRequest:
    """What one request read from the prompt cache.

    model: the one that was billed. cached_tokens, written_tokens, fresh_tokens: its input, read from the cache,
    written to it, and neither; None is unknown. verdict: `first` of its session, `held`, `empty` (nothing was read,
    and nothing is known to have been in the cache), `break`, `missed` (the prefix matched, and yet less was read
    than the cache held), `unknown` (it matched, and nobody told what was read), `off` (the run has the cache off),
    `compaction`, or `failed` without any usage; these two are not judged. causes: of a break or miss. gap_s: since
    the request before, start to start. lost_tokens: what the cache held and was not read from it, 0 unless it broke
    or missed; None is unknown. lost_cost: what that cost more than reading it, in `currency`; None is unknown, and
    `unknown` says why. is_verified: the log's own items have the digests that this request and the one before told;
    where they have not (content masked or left out) that the messages only grew is known from the events alone.
    """

    session_id: str
    run_id: str
    turn_id: str | None
    request_id: str
    timestamp: dt.datetime
    model: str
    cached_tokens: int | None
    written_tokens: int | None
    fresh_tokens: int | None
    verdict: str
    causes: tuple[BreakCause, ...] = ()
    gap_s: float | None = None
    lost_tokens: int | None = 0
    lost_cost: Decimal | None = None
    currency: str = ""
    unknown: str = ""
    failed: bool = False
    is_verified: bool = False


@attrs.frozen(kw_only=True)
class CacheTotals:
    """A sum over requests.

    cached_tokens, written_tokens, fresh_tokens: of those that are known. told_tokens: the whole input of the requests
    that told what was read from the cache; uncounted: the requests that did not. breaks, misses: requests.
    lost_tokens: of those that are known; lost_unknown: breaks and misses of which it is not. lost_costs: by currency;
    lost_unpriced: those that lost tokens at an unknown cost.
    saved_costs: what the cache saved, by currency: what was read from it at the price of fresh input less what it
    cost, less what writing cost above that; a lower bound where `unsaved` counts requests whose rates are not known.
    """

    requests: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    fresh_tokens: int = 0
    told_tokens: int = 0
    uncounted: int = 0
    breaks: int = 0
    misses: int = 0
    lost_tokens: int = 0
    lost_unknown: int = 0
    lost_costs: Mapping[str, Decimal] = attrs.field(factory=dict)
    lost_unpriced: int = 0
    saved_costs: Mapping[str, Decimal] = attrs.field(factory=dict)
    unsaved: int = 0

    @property
    def cached_share(self) -> float | None:
        """The share of the input that was read from the cache, 0 to 1, of the requests that told it; None for none."""
        return self.cached_tokens / self.told_tokens if self.told_tokens else None


@attrs.frozen(kw_only=True)
class CacheSession:
    """The requests of a session, in order. parent_session: of a sub-agent."""

    session_id: str
    agent: str
    parent_session: str | None
    requests: tuple[CacheRequest, ...]
    totals: CacheTotals


@attrs.frozen(kw_only=True)
class Settled:
    """A request that has ended, before its losses are priced. charges: what each kind of its tokens cost."""

    request: CacheRequest
    counted: Counted
    currency: str
    charges: Mapping[str, Charge]


def priced_session(
    session_id: str, agent: str, parent_session: str | None, settled: Sequence[Settled], rates: RatesSeen
) -> CacheSession:
    """Return a session with what its breaks cost, by all rates that are recorded by now."""
    requests = tuple(_priced(each, rates) for each in settled)
    saved: dict[str, Decimal] = {}
    unsaved = 0
    for each in settled:
        amount = _saved(each, rates)
        if amount is None:
            unsaved += 1
        elif each.currency:
            saved[each.currency] = EXACT_SUMS.add(saved.get(each.currency, Decimal(0)), amount)
    totals = attrs.evolve(_summed(requests), saved_costs=saved, unsaved=unsaved)
    return CacheSession(
        session_id=session_id, agent=agent, parent_session=parent_session, requests=requests, totals=totals
    )


def total_of(sessions: Iterable[CacheSession]) -> CacheTotals:
    """Return the sum over sessions."""
    counts: Counter[str] = Counter()
    costs: dict[str, dict[str, Decimal]] = {"lost_costs": {}, "saved_costs": {}}
    for session in sessions:
        for name, value in attrs.asdict(session.totals).items():
            if name in costs:
                for currency, amount in value.items():
                    costs[name][currency] = EXACT_SUMS.add(costs[name].get(currency, Decimal(0)), amount)
            else:
                counts[name] += value
    return CacheTotals(**counts, **costs)  # type: ignore[arg-type] # the fields of one, summed


def _priced(settled: Settled, rates: RatesSeen) -> CacheRequest:
    request, currency = settled.request, settled.currency
    lost = request.lost_tokens
    if lost == 0 or not request.causes:
        return attrs.evolve(request, currency=currency, lost_cost=Decimal(0) if request.causes else None)
    if lost is None:
        return attrs.evolve(request, currency=currency, unknown=NO_USAGE)
    if not settled.charges:
        return attrs.evolve(request, unknown=NO_PRICE)
    amounts = [
        rates.amount(count, kind, request.model, currency, settled.charges)
        for kind, count in _paid_again(settled.counted, lost).items()
    ]
    cached = rates.amount(lost, "cached_input", request.model, currency, settled.charges)
    if cached is None or None in amounts:
        return attrs.evolve(request, currency=currency, unknown=NO_RATE)
    paid = Decimal(0)
    for amount in amounts:
        paid = EXACT_SUMS.add(paid, amount or Decimal(0))
    return attrs.evolve(request, currency=currency, lost_cost=EXACT_SUMS.subtract(paid, cached))


def _paid_again(counted: Counted, lost: int) -> dict[str, int]:
    """Return how the lost tokens were paid for: they stand first, and so do writes, those for an hour before others."""
    long = min(lost, counted.written_1h)
    short = min(lost - long, (counted.written or 0) - counted.written_1h)
    return {"cache_write_1h": long, "cache_write": short, "input": lost - long - short}


def _saved(settled: Settled, rates: RatesSeen) -> Decimal | None:
    """Return what the cache saved with one request, less what writing cost; None where rates are not known."""
    counted, charges, model = settled.counted, settled.charges, settled.request.model
    if counted.cached is None and counted.total:
        return None  # it may have read from the cache
    kinds = {
        "cached_input": counted.cached or 0,
        "cache_write": (counted.written or 0) - counted.written_1h,
        "cache_write_1h": counted.written_1h,
    }
    if not any(kinds.values()):
        return Decimal(0)
    fresh = rates.amount(sum(kinds.values()), "input", model, settled.currency, charges)
    if fresh is None:
        return None
    for kind, count in kinds.items():
        amount = rates.amount(count, kind, model, settled.currency, charges)
        if amount is None:
            return None
        fresh = EXACT_SUMS.subtract(fresh, amount)
    return fresh


def _summed(requests: Sequence[CacheRequest]) -> CacheTotals:
    costs: dict[str, Decimal] = {}
    lossy = [request for request in requests if request.causes]
    for request in lossy:
        if request.lost_tokens and request.lost_cost is not None:
            costs[request.currency] = EXACT_SUMS.add(
                costs.get(request.currency, Decimal(0)), request.lost_cost
            )
    return CacheTotals(
        requests=len(requests),
        cached_tokens=sum(request.cached_tokens or 0 for request in requests),
        written_tokens=sum(request.written_tokens or 0 for request in requests),
        fresh_tokens=sum(request.fresh_tokens or 0 for request in requests),
        told_tokens=sum(
            request.cached_tokens + (request.written_tokens or 0) + (request.fresh_tokens or 0)
            for request in requests
            if request.cached_tokens is not None
        ),
        uncounted=sum(request.cached_tokens is None for request in requests),
        breaks=sum(request.verdict == "break" for request in requests),
        misses=sum(request.verdict == "missed" for request in requests),
        lost_tokens=sum(request.lost_tokens or 0 for request in lossy),
        lost_unknown=sum(request.lost_tokens is None for request in lossy),
        lost_costs=costs,
        lost_unpriced=sum(bool(request.lost_tokens) and request.lost_cost is None for request in lossy),
    )
