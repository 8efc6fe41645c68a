"""Counts and durations of runs, requests, tokens, money and tools: a fold of the events, for whoever exposes them.

| metric | kind | labels |
|---|---|---|
| `agentkit_runs_total` | counter | outcome: completed, suspended, failed, cancelled |
| `agentkit_run_duration_seconds` | histogram | outcome |
| `agentkit_requests_total` | counter | model, outcome: the finish reason, or the class of the failure |
| `agentkit_request_duration_seconds` | histogram | model |
| `agentkit_tokens_total` | counter | model, kind: input, cached_input, cache_write, output (disjoint) |
| `agentkit_reasoning_tokens_total` | counter | model; a part of the output |
| `agentkit_cost_total` | counter | model, currency |
| `agentkit_unpriced_requests_total` | counter | model; they reported usage and have no cost |
| `agentkit_tool_calls_total` | counter | tool, status: ok, error, denied, interrupted, not_started |
| `agentkit_tool_duration_seconds` | histogram | tool |
| `agentkit_topics_total` | counter | topic; emitted at a dispatcher directly |

A request counts once, as it ends, with its last report of usage. A sub-agent's requests are in its own events, and
are never added again from its parent's call.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import TypeAlias

import attrs

from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.usage import EXACT_SUMS
from agentkit_reporting.records.settled_requests import OpenRequests, SettledRequest, outcome_of

Labels: TypeAlias = tuple[str, ...]

OTHER = "other"
"""The label of what is beyond the bound."""

_MAX_LABEL = 100  # characters


@attrs.frozen
class MetricKind:
    """One metric. buckets: the upper bounds of a histogram's, in seconds; empty for a counter."""

    name: str
    help: str
    labels: Labels
    buckets: tuple[float, ...] = ()


_TOOL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_REQUEST_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_RUN_S = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0)

RUNS = MetricKind("agentkit_runs", "Runs that ended.", ("outcome",))
RUN_DURATION = MetricKind("agentkit_run_duration_seconds", "Duration of runs.", ("outcome",), _RUN_S)
REQUESTS = MetricKind("agentkit_requests", "Requests to a model that ended.", ("model", "outcome"))
REQUEST_DURATION = MetricKind(
    "agentkit_request_duration_seconds", "Duration of requests to a model.", ("model",), _REQUEST_S
)
TOKENS = MetricKind("agentkit_tokens", "Tokens, as the provider bills them.", ("model", "kind"))
REASONING = MetricKind("agentkit_reasoning_tokens", "Output tokens spent on reasoning.", ("model",))
COST = MetricKind("agentkit_cost", "What requests cost, by currency.", ("model", "currency"))
UNPRICED = MetricKind(
    "agentkit_unpriced_requests", "Requests that reported usage and have no cost.", ("model",)
)
TOOL_CALLS = MetricKind("agentkit_tool_calls", "Calls of tools that have their result.", ("tool", "status"))
TOOL_DURATION = MetricKind("agentkit_tool_duration_seconds", "Duration of tools.", ("tool",), _TOOL_S)
TOPICS = MetricKind("agentkit_topics", "Payloads emitted at a dispatcher directly.", ("topic",))

KINDS = (
    RUNS,
    RUN_DURATION,
    REQUESTS,
    REQUEST_DURATION,
    TOKENS,
    REASONING,
    COST,
    UNPRICED,
    TOOL_CALLS,
    TOOL_DURATION,
    TOPICS,
)


@attrs.define
class Distribution:
    """Durations in buckets. counts: of each bucket alone, that beyond the last bound included. total_s: their sum."""

    counts: list[int]
    total_s: float = 0.0


@attrs.frozen
class MetricSeries:
    """One metric with one set of labels. value: of a counter; distribution: of a histogram."""

    kind: MetricKind
    labels: Labels
    value: float = 0.0
    distribution: Distribution | None = None


class RunMetrics:
    """The fold; safe for threads. Equal when the same was accumulated.

    max_label_values: how many values each label takes (models, tools, topics, outcomes); later ones are `other`.
    """

    def __init__(self, *, max_label_values: int = 100) -> None:
        self._max = max_label_values
        self._lock = threading.RLock()
        self._open = OpenRequests()
        self._counters: dict[MetricKind, dict[Labels, Decimal]] = {
            kind: {} for kind in KINDS if not kind.buckets
        }
        self._histograms: dict[MetricKind, dict[Labels, Distribution]] = {
            kind: {} for kind in KINDS if kind.buckets
        }
        self._known: dict[str, set[str]] = {}  # values of each label

    def renew_lock(self) -> None:
        """Have a new lock: in a forked child, whose parent may have held the old one."""
        self._lock = threading.RLock()

    def take(self, event: AgentEvent) -> None:
        """Take an event."""
        with self._lock:
            for request in self._open.take(event):
                self._settle(request)
            if isinstance(event, RUN_ENDS):
                outcome = outcome_of(event)
                self._count(RUNS, (outcome,))
                self._observe(RUN_DURATION, (outcome,), event.duration_ms)
            elif isinstance(event, ToolResultReceived):
                self._count(TOOL_CALLS, (event.name, _status(event)))
                if not event.not_started:
                    self._observe(TOOL_DURATION, (event.name,), event.duration_ms)

    def take_topic(self, topic: str) -> None:
        """Count a payload that was emitted directly."""
        with self._lock:
            self._count(TOPICS, (topic,))

    def series(self) -> Iterator[MetricSeries]:
        """Iterate over all that there is, by metric, as it is now."""
        with self._lock:
            found = [
                MetricSeries(kind, labels, value=float(value))
                for kind, values in self._counters.items()
                for labels, value in values.items()
            ]
            found += [
                MetricSeries(kind, labels, distribution=Distribution(list(each.counts), each.total_s))
                for kind, values in self._histograms.items()
                for labels, each in values.items()
            ]
        return iter(found)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunMetrics):
            return NotImplemented
        return list(self.series()) == list(other.series())

    __hash__ = None  # type: ignore[assignment] # it changes, as a list does

    # --- counting

    def _settle(self, request: SettledRequest) -> None:
        end, model = request.end, request.model
        if end is not None:
            finished = isinstance(end, ModelRequestFinished)
            outcome = end.finish_reason if finished else end.error_class  # type: ignore[union-attr] # one of two
            self._count(REQUESTS, (model, outcome))
            self._observe(REQUEST_DURATION, (model,), end.duration_ms)
        usage = request.usage
        if usage is None:
            return
        for kind, count in (
            ("input", usage.input_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("cache_write", usage.cache_write_input_tokens),
            ("output", usage.output_tokens),
        ):
            if count is not None:  # None is unknown, never zero
                self._count(TOKENS, (model, kind), Decimal(count))
        if usage.reasoning_tokens is not None:
            self._count(REASONING, (model,), Decimal(usage.reasoning_tokens))
        if request.cost is not None:
            self._count(COST, (model, request.cost.currency), request.cost.amount)
        else:
            self._count(UNPRICED, (model,))

    def _count(self, kind: MetricKind, labels: Labels, more: Decimal = Decimal(1)) -> None:
        values, bounded = self._counters[kind], self._bounded(kind, labels)
        values[bounded] = EXACT_SUMS.add(values.get(bounded, Decimal(0)), max(more, Decimal(0)))

    def _observe(self, kind: MetricKind, labels: Labels, duration_ms: float | None) -> None:
        if duration_ms is None or not duration_ms >= 0:  # a sum of durations never goes down
            return
        values, bounded = self._histograms[kind], self._bounded(kind, labels)
        each = values.setdefault(bounded, Distribution([0] * (len(kind.buckets) + 1)))
        seconds = duration_ms / 1e3
        each.counts[bisect.bisect_left(kind.buckets, seconds)] += 1
        each.total_s += seconds

    def _bounded(self, kind: MetricKind, labels: Labels) -> Labels:
        """Return the labels with `other` for values beyond the bound: tools and models name themselves."""
        return tuple(self._one_of(name, value) for name, value in zip(kind.labels, labels, strict=True))

    def _one_of(self, name: str, value: str) -> str:
        known = self._known.setdefault(name, set())
        value = value[:_MAX_LABEL]
        if value not in known:
            if len(known) >= self._max:
                return OTHER
            known.add(value)
        return value


def _status(event: ToolResultReceived) -> str:
    if event.denied:
        return "denied"
    if event.interrupted:
        return "interrupted"
    if event.not_started:
        return "not_started"
    return "error" if event.is_error else "ok"


def cumulative(kind: MetricKind, distribution: Distribution) -> list[tuple[str, float]]:
    """Return a histogram's buckets as Prometheus has them: bound as text, and how many were at most that."""
    bounds = [*(str(bound) for bound in kind.buckets), "+Inf"]
    return [
        (bound, float(count))
        for bound, count in zip(bounds, itertools.accumulate(distribution.counts), strict=True)
    ]


WANTED = (
    ModelRequestStarted,
    UsageUpdated,
    ModelRequestFinished,
    ModelRequestFailed,
    ToolResultReceived,
    RunFinished,
    RunFailed,
    RunCancelled,
)
"""The events that it reads."""
