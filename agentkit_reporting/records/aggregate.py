"""compute_aggregate: what many invocations come to, as exact figures."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.usage import EXACT_SUMS
from agentkit_reporting.records.invocation_metric import (
    INFRASTRUCTURE_ERRORS,
    INTERRUPTED,
    InvocationMetric,
    Phase,
)
from agentkit_reporting.records.parallelism import peak, peaks_by_bucket
from agentkit_reporting.timestamps import utc_text

DEFAULT_BUCKET_MS = 60_000
"""The width of a bucket of `parallelism_over_time`, doubled where that would make more than MOST_OF_ITSELF."""

MOST_OF_ITSELF = 1_440
"""Buckets that the width by default makes at most: a day of minutes."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@attrs.frozen(kw_only=True)
class MetricsAggregate:
    """The figures of a number of invocations. Without any, all are 0, and success_rate is 0.0.

    invocations_by_agent, invocations_by_phase: how many; a phase is the number or name that the metrics have (`"2"`
    and 2 are one), "" where they have none. total_retries, retries_by_agent, retries_by_phase: invocations that are
    no first attempt. infra_retries: those among them that infrastructure made necessary, see `retry_causes`; the
    others are of code, or go on after a cancel. total_tokens, total_cached_tokens, tokens_by_agent: of those that are
    known. total_cost, cost_by_agent, cost_by_phase: of the costs that are known, USD, exact; who has no known cost is
    not in them. unknown_costs: how many are not known. total_duration_ms: the sum, whatever ran at once.
    avg_duration_by_agent: milliseconds. peak_parallel_invocations:
    exact; two that touch are not parallel, one of no length counts in its moment. parallelism_over_time: the peak
    within each bucket of `bucket_ms`, as `{"bucket_start": ISO 8601, "concurrent": int}`, from the first to the last.
    escalation_count: attempts on another tier than the attempt of the same task before; tiers are names without an
    order, so that every change counts. success_rate: the share of successes, 0.0 to 1.0, of those that were not
    cancelled. cancelled: how many were, see `is_cancelled`: neither successes nor failures.

    As JSON (`as_json`) the costs are text, exact: `"0.30"`; phases are text, as keys are.
    """

    total_invocations: int
    invocations_by_agent: dict[str, int]
    invocations_by_phase: dict[int | float | str, int]
    total_retries: int
    retries_by_agent: dict[str, int]
    retries_by_phase: dict[int | float | str, int]
    infra_retries: int
    total_tokens: int
    total_cost: Decimal
    total_cached_tokens: int
    tokens_by_agent: dict[str, int]
    cost_by_agent: dict[str, Decimal]
    cost_by_phase: dict[int | float | str, Decimal]
    total_duration_ms: float
    avg_duration_by_agent: dict[str, float]
    peak_parallel_invocations: int
    parallelism_over_time: list[dict[str, Any]]
    escalation_count: int
    success_rate: float
    unknown_costs: int
    bucket_ms: float
    cancelled: int

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, in the order of the fields."""
        return {
            field.name: msgspec.to_builtins(getattr(self, field.name), str_keys=True)
            for field in attrs.fields(MetricsAggregate)
        }


def compute_aggregate(
    metrics: Iterable[InvocationMetric], *, bucket_ms: float | None = None
) -> MetricsAggregate:
    """Return the figures of these metrics, in whatever order they come.

    bucket_ms: the width of the buckets of `parallelism_over_time`, at least 0.001; by default DEFAULT_BUCKET_MS, wider
    where that would make too many. Raises ConfigurationError for a width that makes more than a million.
    """
    given = list(metrics)
    causes = retry_causes(given)
    spans = [(metric.started_us, metric.ended_us) for metric in given]
    width_us = _width_us(bucket_ms, spans)
    by_agent = _grouped(given, lambda metric: metric.agent)
    by_phase = _grouped(given, lambda metric: phase_key(metric.phase))
    priced = [metric for metric in given if metric.cost is not None]
    cancelled = sum(map(is_cancelled, given))
    return MetricsAggregate(
        total_invocations=len(given),
        invocations_by_agent=_counts(by_agent),
        invocations_by_phase=_counts(by_phase),
        total_retries=len(causes),
        retries_by_agent=_counts(_grouped(_retries(given), lambda metric: metric.agent)),
        retries_by_phase=_counts(_grouped(_retries(given), lambda metric: phase_key(metric.phase))),
        infra_retries=sum(cause == "infrastructure" for cause in causes.values()),
        total_tokens=_tokens(given),
        total_cost=_cost(given),
        total_cached_tokens=sum(metric.cached_tokens or 0 for metric in given),
        tokens_by_agent={agent: _tokens(group) for agent, group in by_agent.items()},
        cost_by_agent=_costs(_grouped(priced, lambda metric: metric.agent)),
        cost_by_phase=_costs(_grouped(priced, lambda metric: phase_key(metric.phase))),
        total_duration_ms=_duration_ms(given),
        avg_duration_by_agent={agent: _duration_ms(group) / len(group) for agent, group in by_agent.items()},
        peak_parallel_invocations=peak(spans),
        parallelism_over_time=[
            {"bucket_start": _iso_us(start), "concurrent": number}
            for start, number in peaks_by_bucket(spans, width_us)
        ],
        escalation_count=len(escalations(given)),
        success_rate=sum(metric.success for metric in given) / max(1, len(given) - cancelled),
        unknown_costs=sum(metric.cost is None for metric in given),
        bucket_ms=width_us / 1_000,
        cancelled=cancelled,
    )


def retry_causes(metrics: Sequence[InvocationMetric]) -> dict[int, str]:
    """Return why each retry was made, by its place: "infrastructure", "cancelled" or "code".

    A retry is what is no first attempt. It was made because of what the attempt before it failed by (same agent, phase
    and task_id, the number before, begun before it, the latest of several); where that is not among the metrics, by
    what the retry says of itself. "cancelled": the attempt before it was.
    """
    before = _attempts_before(metrics)
    return {
        place: _cause(before.get(place), metric) for place, metric in enumerate(metrics) if metric.attempt > 1
    }


def _cause(before: InvocationMetric | None, metric: InvocationMetric) -> str:
    if before is not None and is_cancelled(before):
        return "cancelled"
    return "infrastructure" if is_infrastructure(before or metric) else "code"


def escalations(metrics: Sequence[InvocationMetric]) -> list[int]:
    """Return the places of the attempts that were on another tier than the attempt before; both tiers are known."""
    if all(metric.tier is None for metric in metrics):  # as most often
        return []
    return [
        place
        for place, before in sorted(_attempts_before(metrics).items())
        if None not in (metrics[place].tier, before.tier) and metrics[place].tier != before.tier
    ]


def is_infrastructure(metric: InvocationMetric) -> bool:
    """Whether it failed by a fault of the infrastructure."""
    return metric.error_class in INFRASTRUCTURE_ERRORS


def is_cancelled(metric: InvocationMetric) -> bool:
    """Whether it was cancelled or interrupted, which is no failure of code, input or infrastructure."""
    return not metric.success and metric.exit_code == INTERRUPTED


def phase_key(phase: Phase) -> int | float | str:
    """Return what a phase is counted under: "" for none, the number for one that is written as text."""
    if phase is None:
        return ""
    if isinstance(phase, float) and phase.is_integer():
        return int(phase)
    if isinstance(phase, str) and len(phase) < 16 and phase.isdecimal() and phase.isascii():  # noqa: PLR2004 - exact
        return int(phase) if str(int(phase)) == phase else phase
    return phase


def _attempts_before(metrics: Sequence[InvocationMetric]) -> dict[int, InvocationMetric]:
    """Return the attempt before each retry, by the retry's place; without those whose attempt before is unknown."""
    tasks: dict[Hashable, list[int]] = defaultdict(list)
    retried = {_task(metric) for metric in metrics if metric.attempt > 1}
    for place, metric in enumerate(metrics):
        task = _task(metric)
        if task in retried:
            tasks[task].append(place)
    found: dict[int, InvocationMetric] = {}
    for places in tasks.values():
        latest: dict[int, InvocationMetric] = {}  # by number
        for place in sorted(places, key=lambda place: (metrics[place].started_us, metrics[place].attempt)):
            metric = metrics[place]
            if metric.attempt - 1 in latest:
                found[place] = latest[metric.attempt - 1]
            latest[metric.attempt] = metric
    return found


def _task(metric: InvocationMetric) -> Hashable:
    return metric.agent, phase_key(metric.phase), metric.task_id


def _retries(metrics: Iterable[InvocationMetric]) -> list[InvocationMetric]:
    return [metric for metric in metrics if metric.attempt > 1]


def _grouped(metrics: Iterable[InvocationMetric], key: Any) -> dict[Any, list[InvocationMetric]]:
    groups: dict[Any, list[InvocationMetric]] = {}
    for metric in metrics:
        groups.setdefault(key(metric), []).append(metric)
    return groups


def _counts(groups: Mapping[Any, list[InvocationMetric]]) -> dict[Any, int]:
    return {key: len(group) for key, group in groups.items()}


def _tokens(metrics: Iterable[InvocationMetric]) -> int:
    return sum(metric.tokens or 0 for metric in metrics)


def _duration_ms(metrics: Iterable[InvocationMetric]) -> float:
    return math.fsum(metric.duration_ms for metric in metrics)


def _cost(metrics: Iterable[InvocationMetric]) -> Decimal:
    costs = [metric.cost for metric in metrics if metric.cost is not None]
    return functools.reduce(EXACT_SUMS.add, costs, Decimal(0))  # without a step of ours for each


def _costs(groups: Mapping[Any, list[InvocationMetric]]) -> dict[Any, Decimal]:
    return {key: _cost(group) for key, group in groups.items()}


def _width_us(bucket_ms: float | None, spans: list[tuple[int, int]]) -> int:
    given: Any = DEFAULT_BUCKET_MS if bucket_ms is None else bucket_ms
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given)
    if not is_number or round(given * 1_000) < 1:
        raise ConfigurationError(f"bucket_ms={bucket_ms!r} refused; give a width of at least 0.001")
    width_us: int = round(given * 1_000)
    if bucket_ms is None and spans:
        length = max(end for _, end in spans) - min(start for start, _ in spans)
        while length // width_us > MOST_OF_ITSELF:
            width_us *= 2
    return width_us


def _iso_us(moment_us: int) -> str:
    return utc_text(_EPOCH + dt.timedelta(microseconds=moment_us))


__all__ = [
    "DEFAULT_BUCKET_MS",
    "MetricsAggregate",
    "compute_aggregate",
    "escalations",
    "is_cancelled",
    "is_infrastructure",
    "phase_key",
    "retry_causes",
]
