"""What the steps of a run come to: counts, tokens, costs, latencies. A pure function of the records."""

from __future__ import annotations

import collections
import dataclasses
import decimal
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.usage import EXACT_SUMS, can_be_added
from agentkit_reporting.percentiles import Percentiles
from agentkit_reporting.records.step_records import LlmCallStep, Step, StepHeader, ToolCallStep

__all__ = ["FILTERS", "StepSummary", "matching", "refuse_other_filters", "summary_of"]

FILTERS = frozenset({"run_id", "type", "tool", "model", "stop_reason", "errors"})
"""What steps are filtered by; see `matching`."""


@dataclasses.dataclass(frozen=True)
class StepSummary:
    """The figures of one run; `__dict__` holds them, and only them, as plain values for `logger.info(…, **it)`.

    run_id. total_steps, llm_call_count, tool_call_count: records, failed ones too. total_tokens: all that are known,
    those read from and written to the cache among them; then each kind by itself (input_tokens: the fresh ones;
    reasoning_tokens: a part of output_tokens), None where there were requests and none said it.
    error_count: steps that have an error, be its text empty. duration_ms: from the run's beginning to the end of its
    last step, pauses included. costs: exact amounts as text, by currency. unpriced_llm_calls: those with tokens and no
    cost. tool_latency_*_ms: see `Percentiles`, None where nothing was measured. stop_reasons: how many answers ended
    so. tools: by name `calls`, `errors`, `p50_ms`, `p95_ms`, `p99_ms`.
    """

    run_id: str
    total_steps: int
    llm_call_count: int
    tool_call_count: int
    total_tokens: int
    error_count: int
    duration_ms: float
    input_tokens: int | None
    cached_input_tokens: int | None
    cache_write_input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    costs: dict[str, str]
    unpriced_llm_calls: int
    tool_latency_p50_ms: float | None
    tool_latency_p95_ms: float | None
    tool_latency_p99_ms: float | None
    stop_reasons: dict[str, int]
    tools: dict[str, dict[str, Any]]


def summary_of(run_id: str, steps: Iterable[Step], headers: Iterable[StepHeader] = ()) -> StepSummary:
    """Return the figures of one run's steps."""
    steps = tuple(steps)
    asked = [step for step in steps if isinstance(step, LlmCallStep)]
    called = [step for step in steps if isinstance(step, ToolCallStep)]
    kinds = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens")
    tokens = {kind: _known_sum([getattr(step, kind) for step in asked]) for kind in kinds}
    latency = Percentiles.of(step.duration_ms for step in called)
    return StepSummary(
        run_id=run_id,
        total_steps=len(steps),
        llm_call_count=len(asked),
        tool_call_count=len(called),
        total_tokens=sum(count or 0 for count in tokens.values()),
        error_count=sum(step.error is not None for step in steps),
        duration_ms=_duration_ms(steps, headers),
        **tokens,
        reasoning_tokens=_known_sum([step.reasoning_tokens for step in asked]),
        costs={currency: str(amount) for currency, amount in _costs(asked).items()},
        unpriced_llm_calls=sum(step.cost is None and _has_tokens(step) for step in asked),
        tool_latency_p50_ms=latency.p50,
        tool_latency_p95_ms=latency.p95,
        tool_latency_p99_ms=latency.p99,
        stop_reasons=dict(collections.Counter(step.stop_reason for step in asked if step.stop_reason)),
        tools=_tools(called),
    )


def _known_sum(counts: Sequence[int | None]) -> int | None:
    """Return the sum of those that are known; None where all are unknown, and there are any."""
    known = [count for count in counts if count is not None]
    return None if counts and not known else sum(known)


def _duration_ms(steps: Sequence[Step], headers: Iterable[StepHeader]) -> float:
    """Return how long the run took so far; a step that was told later began before it was told."""
    began = [header.ts for header in headers]
    began += [step.ts - (step.duration_ms or 0.0) / 1e3 for step in steps]
    if not steps:
        return 0.0
    return round(max(0.0, max(step.ts for step in steps) - min(began)) * 1e3, 3)


def _has_tokens(step: LlmCallStep) -> bool:
    return step.input_tokens is not None or step.output_tokens is not None


def _costs(steps: Iterable[LlmCallStep]) -> dict[str, Decimal]:
    costs: dict[str, Decimal] = {}
    for step in steps:
        if step.cost is None or step.currency is None:
            continue
        try:
            amount = Decimal(step.cost)
        except decimal.InvalidOperation:  # a record that somebody else wrote
            continue
        if can_be_added(amount):
            costs[step.currency] = EXACT_SUMS.add(costs.get(step.currency, Decimal(0)), amount)
    return costs


def _tools(steps: Iterable[ToolCallStep]) -> dict[str, dict[str, Any]]:
    by_name: dict[str, list[ToolCallStep]] = {}
    for step in steps:
        by_name.setdefault(step.tool, []).append(step)
    tools: dict[str, dict[str, Any]] = {}
    for name, calls in by_name.items():
        latency = Percentiles.of(step.duration_ms for step in calls)
        tools[name] = {
            "calls": len(calls),
            "errors": sum(step.error is not None for step in calls),
            "p50_ms": latency.p50,
            "p95_ms": latency.p95,
            "p99_ms": latency.p99,
        }
    return tools


def refuse_other_filters(which: Collection[str], known: Collection[str] = FILTERS) -> None:
    """Raise ConfigurationError for the first name that is no filter."""
    unknown = sorted(set(which) - set(known))
    if unknown:
        raise ConfigurationError(f"{unknown[0]}= refused because it is no filter; use {sorted(known)}")


def matching(
    steps: Iterable[Step],
    *,
    run_id: str | None = None,
    type: Literal["llm_call", "tool_call"] | None = None,  # noqa: A002 - the record's field
    tool: str | Collection[str] | None = None,
    model: str | Collection[str] | None = None,
    stop_reason: str | Collection[str] | None = None,
    errors: bool | None = None,
) -> tuple[Step, ...]:
    """Return the steps that are as each argument says, in order; None says nothing.

    tool, model, stop_reason: one, or any of several. errors: those with an error, or those without.
    """
    wanted: dict[str, Any] = {
        "run_id": run_id, "type": type, "tool": tool, "model": model, "stop_reason": stop_reason
    }  # fmt: skip
    asked = {
        name: (each,) if isinstance(each, str) else each for name, each in wanted.items() if each is not None
    }
    return tuple(
        step
        for step in steps
        if all(getattr(step, name, None) in values for name, values in asked.items())
        and (errors is None or (step.error is not None) is errors)
    )
