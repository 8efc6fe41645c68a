"""What one run of a session used, cost and took: a fold of its events, and the record that it ends in."""

from __future__ import annotations

from decimal import Decimal

import attrs
import msgspec

from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunFailed,
    UsageUpdated,
)
from agentkit_loop.usage import EXACT_SUMS, Cost, Usage, can_be_added
from agentkit_loop.values import JSON
from agentkit_reporting.records.settled_requests import outcome_of
from agentkit_reporting.timestamps import utc_text

__all__ = ["SessionSummary", "SummaryFold"]

USD = "USD"


@attrs.frozen(kw_only=True)
class SessionSummary:
    """What a run of a session used; the seed's fields first.

    duration_ms: wall clock from its beginning to its end, None while it is open or where nobody told. Tokens: sums
    over its requests by their latest report, failed ones too; None where no request told the count, 0 where there was
    none. total_input_tokens: fresh, cached and written to the cache. total_output_tokens: reasoning among them.
    total_cost_usd: exact; None where there were requests and no cost in USD is known; `unpriced_calls` says of how
    many nobody knows the cost, which it then leaves out. other_costs: by currency. calls: requests to the model, each
    attempt is one. models: those that were billed, in order. outcome: `completed`, `suspended`, `failed`,
    `cancelled`; None while it is open. error: of a failed run, type, message and frames. timestamp: of its end, or of
    its last event so far, ISO 8601, UTC.
    """

    session_id: str
    run_id: str
    duration_ms: float | None
    total_input_tokens: int | None
    total_output_tokens: int | None
    cached_input_tokens: int | None
    cache_write_input_tokens: int | None
    reasoning_tokens: int | None
    total_cost_usd: Decimal | None
    other_costs: dict[str, Decimal]
    calls: int
    failed_calls: int
    unpriced_calls: int
    models: tuple[str, ...]
    outcome: str | None
    error: dict[str, JSON] | None
    timestamp: str


@attrs.define
class _Spent:
    usage: Usage = attrs.field(factory=Usage)
    costs: dict[str, Decimal] = attrs.field(factory=dict)
    unpriced: int = 0

    def add(self, usage: Usage, cost: Cost | None) -> None:
        self.usage = self.usage + usage
        if cost is None or not can_be_added(cost.amount):
            self.unpriced += 1
        else:
            self.costs[cost.currency] = EXACT_SUMS.add(self.costs.get(cost.currency, Decimal(0)), cost.amount)


class SummaryFold:
    """A run while it is told; its memory grows with the requests that are open at a time only.

    start: RunStarted, or the first event that was seen of it.
    """

    def __init__(self, start: AgentEvent) -> None:
        self._start = start
        self._last: AgentEvent = start
        self._ended = _Spent()
        self._open: dict[str, UsageUpdated] = {}  # the latest report of each request that has not ended
        self._models: dict[str, None] = {}
        self.calls = 0
        self.failed_calls = 0

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._start.run_id

    def apply(self, event: AgentEvent) -> None:
        """Take the next event of the run."""
        self._last = event
        match event:
            case ModelRequestStarted():
                self.calls += 1
            case UsageUpdated():
                self._open[event.request_id] = event  # a later report replaces the earlier one
            case ModelRequestFinished(request_id=request_id) | ModelRequestFailed(request_id=request_id):
                self.failed_calls += isinstance(event, ModelRequestFailed)
                report = self._open.pop(request_id, None)
                if report is not None:
                    self._models[report.model] = None
                    self._ended.add(report.usage, report.cost)
            case _:
                pass

    def spent(self) -> tuple[Usage, dict[str, Decimal], int]:
        """Return tokens, costs by currency, and how many requests have no cost; open requests by their reports."""
        if not self._open:
            return self._ended.usage, dict(self._ended.costs), self._ended.unpriced
        spent = _Spent(self._ended.usage, dict(self._ended.costs), self._ended.unpriced)
        for report in self._open.values():
            spent.add(report.usage, report.cost)
        return spent.usage, spent.costs, spent.unpriced

    def summary(self) -> SessionSummary:
        """Return the record as it is now."""
        last = self._last
        usage, costs, unpriced = self.spent()
        nothing = None if self.calls else 0
        usd = costs.pop(USD, None)
        models = dict(self._models) | {report.model: None for report in self._open.values()}
        error = last.error if isinstance(last, RunFailed) else None
        return SessionSummary(
            session_id=self._start.session_id,
            run_id=self._start.run_id,
            duration_ms=self._duration_ms(),
            total_input_tokens=_or(usage.total_input_tokens, nothing),
            total_output_tokens=_or(usage.output_tokens, nothing),
            cached_input_tokens=_or(usage.cached_input_tokens, nothing),
            cache_write_input_tokens=_or(usage.cache_write_input_tokens, nothing),
            reasoning_tokens=_or(usage.reasoning_tokens, nothing),
            total_cost_usd=Decimal(0) if usd is None and not self.calls else usd,
            other_costs=costs,
            calls=self.calls,
            failed_calls=self.failed_calls,
            unpriced_calls=unpriced,
            models=tuple(models),
            outcome=outcome_of(last) if isinstance(last, RUN_ENDS) else None,
            error=None if error is None else msgspec.to_builtins(error),
            timestamp=utc_text(last.timestamp),
        )

    def _duration_ms(self) -> float | None:
        last = self._last
        if not isinstance(last, RUN_ENDS):
            return None
        if last.duration_ms is not None:
            return last.duration_ms
        return _between(self._start, last)


def _between(start: AgentEvent, end: AgentEvent) -> float:
    """Return the milliseconds by the time of day, which may have been set meanwhile."""
    return max(0.0, round((end.timestamp - start.timestamp).total_seconds() * 1e3, 3))


def _or(count: int | None, nothing: int | None) -> int | None:
    return nothing if count is None else count
