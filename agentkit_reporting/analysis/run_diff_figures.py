"""What two runs took, side by side: tokens, cost, time, and how often things happened.

| metric | what it is |
|---|---|
| cost, cost.EUR | of all requests, exact; in the one currency of both, or in that which is named |
| tokens | input and output of every kind |
| total_input_tokens | fresh, cached and written to the cache |
| input_tokens, cached_input_tokens, cache_write_input_tokens, output_tokens, reasoning_tokens | as billed |
| runs | how many |
| open_runs | those without an end: a crash, or they go on still; unknown of a step log |
| turns, requests, retries, compactions, approvals | how often |
| calls, calls.TOOL | calls of tools |
| errors | failed_calls, failed_requests and failed_runs together; a step log tells nothing of the last |
| denied | calls that were refused |
| duration | of the runs of the session, pauses for approvals among it |
| tool_time, tool_time.TOOL, model_time | busy: the sum over calls, or over requests, also where they ran at once |
| calls_differ | calls that only one has, or that have different arguments |
| results_differ | calls of both with another result or outcome |
| text_differs, input_differs | answers, inputs |
| settings_differ | of system, tools, parameters, model, agent |
| finish_differs | whether the exchanges, or the last run, end otherwise |
| differences | all six of them together |

Figures but times are those of a session and its sub-agents together; times are the session's own, since a sub-agent
works within a call. Tokens are unknown where a finished request told no usage, and a cost is where a request that
told its usage has none: what is known is a lower bound then. So is every figure but the number of runs where a run has
no end, since nobody told what it did behind its last event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal, TypeAlias

import attrs

from agentkit_loop.usage import EXACT_SUMS, Usage
from agentkit_reporting.analysis.run_diff_outline import Outline

__all__ = ["DIFFERENCES", "METRICS", "Amount", "RunMetric", "Unit", "metrics_of"]

Amount: TypeAlias = "int | float | Decimal"
Unit: TypeAlias = Literal["count", "ms", "money"]

_TOKENS = (
    "total_input_tokens",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_tokens",
)
_COUNTS = ("runs", "turns", "requests", "retries", "compactions", "approvals")
_OF_RUNS = frozenset({"runs", "open_runs"})
_FAILED = ("failed_calls", "failed_requests", "failed_runs")
DIFFERENCES = (
    "calls_differ",
    "results_differ",
    "text_differs",
    "input_differs",
    "settings_differ",
    "finish_differs",
)
"""Counts of what differs; they have no value of A."""

METRICS: dict[str, Unit] = {
    "cost": "money",
    "tokens": "count",
    **dict.fromkeys(_TOKENS, "count"),
    **dict.fromkeys(_COUNTS, "count"),
    "open_runs": "count",
    "calls": "count",
    "errors": "count",
    **dict.fromkeys(_FAILED, "count"),
    "denied": "count",
    "duration": "ms",
    "tool_time": "ms",
    "model_time": "ms",
    **dict.fromkeys(DIFFERENCES, "count"),
    "differences": "count",
}
"""Every metric that has one name, and its unit."""


@attrs.frozen(kw_only=True)
class RunMetric:
    """A figure of both runs. before, after: None where unknown; of a count of differences only `after`, before is 0.

    unit: count, ms or money. currency: of money. at_least: the values are lower bounds, since a part is not known.
    """

    name: str
    unit: Unit
    before: Amount | None
    after: Amount | None
    currency: str = ""
    before_at_least: bool = False
    after_at_least: bool = False

    @property
    def change(self) -> Amount | None:
        """B less A, exact for money; None where one is unknown."""
        if self.before is None or self.after is None:
            return None
        if isinstance(self.before, Decimal) and isinstance(self.after, Decimal):
            return EXACT_SUMS.subtract(self.after, self.before)
        return self.after - self.before  # type: ignore[operator] # of money both are Decimals

    @property
    def share(self) -> float | None:
        """The change as a share of A; None where that is unknown or A is zero."""
        change = self.change
        if change is None or not self.before:
            return None
        return float(change) / float(self.before)


@attrs.define
class _Figures:
    """What one side comes to. unknown: names of metrics of which a part is not known. is_open: a run has no end.

    is_billed: a request was not priced, or may have been.
    """

    values: dict[str, Amount | None] = attrs.field(factory=dict)
    unknown: set[str] = attrs.field(factory=set)
    is_open: bool = False
    costs: dict[str, Decimal] = attrs.field(factory=dict)
    is_billed: bool = False

    def is_at_least(self, name: str) -> bool:
        """Whether what is known of a metric is a lower bound."""
        return name in self.unknown or (self.is_open and name not in _OF_RUNS)


def metrics_of(
    before: Sequence[Outline], after: Sequence[Outline], differences: Mapping[str, int]
) -> tuple[RunMetric, ...]:
    """Return the metrics of two sessions, each with those of its sub-agents behind it; in the order of METRICS."""
    one, other = _figures(before), _figures(after)
    metrics = list(_costs(one, other))
    for name in [*dict.fromkeys([*METRICS, *one.values, *other.values])]:
        if name in one.values or name in other.values:
            unit: Unit = (
                "ms" if name.partition(".")[0] in ("duration", "tool_time", "model_time") else "count"
            )
            metrics.append(
                RunMetric(
                    name=name,
                    unit=unit,
                    before=one.values.get(name, 0),
                    after=other.values.get(name, 0),
                    before_at_least=one.is_at_least(name),
                    after_at_least=other.is_at_least(name),
                )
            )
    counted = {**differences, "differences": sum(differences.values())}
    metrics += [RunMetric(name=name, unit="count", before=0, after=each) for name, each in counted.items()]
    return tuple(metrics)


def _figures(family: Sequence[Outline]) -> _Figures:
    root, counts = family[0], Counter[str]()
    usage = Usage()
    found = _Figures()
    for each in family:
        counts.update(each.counts)
        usage += each.usage
        calls = each.calls
        counts["calls"] += len(calls)
        counts.update(f"calls.{call.tool}" for call in calls)
        counts["denied"] += sum(call.outcome == "denied" for call in calls)
        counts["failed_calls"] += sum(call.outcome in ("error", "not_started") for call in calls)
        for currency, amount in each.costs.items():
            found.costs[currency] = EXACT_SUMS.add(found.costs.get(currency, Decimal(0)), amount)
    counts["errors"] = sum(counts[name] for name in _FAILED)
    open_runs = [each.open_runs for each in family]
    found.is_open = any(open_runs)
    found.is_billed = found.is_open or any(each.unpriced or each.unknown_usage for each in family)
    is_used = bool(counts["requests"])
    for name, tokens in (("tokens", usage.total_tokens), *((name, getattr(usage, name)) for name in _TOKENS)):
        found.values[name] = tokens if is_used or tokens is not None else 0
        if any(each.unknown_usage for each in family):
            found.unknown.add(name)
    found.values |= {name: counts[name] for name in (*_COUNTS, "calls", "errors", *_FAILED, "denied")}
    found.values["open_runs"] = None if None in open_runs else sum(each or 0 for each in open_runs)
    if None in open_runs:
        found.values["failed_runs"] = None
    found.values |= {name: counts[name] for name in sorted(counts) if name.startswith("calls.")}
    found.values |= {"duration": root.duration_ms, "model_time": root.model_ms if is_used else 0}
    _add_tool_times(found, root)
    return found


def _add_tool_times(found: _Figures, root: Outline) -> None:
    calls = root.calls
    times: dict[str, float | None] = {"tool_time": None if calls else 0}
    for call in calls:
        mine = f"tool_time.{call.tool}"
        times.setdefault(mine, None)
        if call.duration_ms is None:
            if call.outcome not in ("denied", "not_started"):
                found.unknown |= {"tool_time", mine}
            continue
        for name in ("tool_time", mine):
            times[name] = (times[name] or 0.0) + call.duration_ms
    if all(call.outcome in ("denied", "not_started") for call in calls):
        times = dict.fromkeys(times, 0)
    found.values |= times


def _costs(one: _Figures, other: _Figures) -> list[RunMetric]:
    """Return the cost, one for each currency; unknown where nothing is priced."""
    currencies = sorted({*one.costs, *other.costs})
    names = {"": "cost"} if len(currencies) < 2 else {each: f"cost.{each}" for each in currencies}  # noqa: PLR2004 - several
    metrics = []
    for currency in currencies or [""]:
        sides = [
            side.costs.get(currency, None if side.is_billed and not side.costs else Decimal(0))
            for side in (one, other)
        ]
        metrics.append(
            RunMetric(
                name=names.get(currency) or names[""],
                unit="money",
                before=sides[0],
                after=sides[1],
                currency=currency,
                before_at_least=one.is_billed,
                after_at_least=other.is_billed,
            )
        )
    return metrics
