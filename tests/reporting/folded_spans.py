"""Events folded to spans for tests, and what must hold of all of them."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from agentkit_loop.events import AgentEvent, RunStarted, UsageUpdated
from agentkit_loop.stamping import stamp
from agentkit_loop.trace_context import TRACEPARENT, SpanPlace, call_span_id, place_of, trace_id_of
from agentkit_loop.usage import EXACT_SUMS
from agentkit_reporting.tracing.fold import SpanFold
from agentkit_reporting.tracing.spans import Span
from agentkit_reporting.usage import UsageReporter

START = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)

INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
CACHE_READ, REASONING = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.reasoning.output_tokens"
COST, CURRENCY = "agentkit.cost.amount", "agentkit.cost.currency"


def taken_by(fold: SpanFold, events: Iterable[AgentEvent]) -> list[Span]:
    """Return the spans that are over with the events, in the order of their ends."""
    return [span for event in events for span in fold.take(event)]


def folded(events: Iterable[AgentEvent], **options: Any) -> list[Span]:
    """Return the spans of events, in the order of their ends; nothing is open afterwards. options: of the fold."""
    fold = SpanFold(**options)
    spans = [*taken_by(fold, events), *fold.close()]
    assert fold.open_count == 0
    assert fold.close() == []
    return spans


def record(span: Span) -> tuple[Any, ...]:
    """Return all that a span tells, to be compared."""
    return (
        (span.trace_id, span.span_id, span.parent_id),
        (span.operation, span.name, span.kind, span.error, span.start_ns, span.end_ns),
        (span.session_id, span.run_id),
        span.attributes,
        [(each.name, each.ns, each.attributes) for each in span.events],
    )


def records(spans: Iterable[Span]) -> dict[int, tuple[Any, ...]]:
    """Return what each span tells, by its id."""
    return {span.span_id: record(span) for span in spans}


def named(spans: Iterable[Span], name: str) -> Span:
    """Return the one span of a name."""
    (found,) = (span for span in spans if span.name == name)
    return found


def outline(spans: Sequence[Span]) -> list[str]:
    """Return the spans as an indented tree, in the order of their beginnings, siblings by their ends."""
    below: dict[int | None, list[Span]] = {}
    known = {span.span_id for span in spans}
    for span in spans:
        below.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)

    def lines(parent: int | None, depth: int) -> list[str]:
        found: list[str] = []
        for span in sorted(below.get(parent, ()), key=lambda each: each.start_ns):
            error = "" if span.error is None else f" ! {span.error}"
            found.append("  " * depth + span.name + error)
            found.extend(lines(span.span_id, depth + 1))
        return found

    return lines(None, 0)


def moments(span: Span) -> list[str]:
    """Return the names of a span's events, without their prefix."""
    return [event.name.removeprefix("agentkit.") for event in span.events]


def assert_tree(spans: Sequence[Span]) -> None:
    """Hold spans to what every backend expects, where each run is told to its end by its own log."""
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert all(span.span_id and span.trace_id for span in spans)
    roots = Counter(span.trace_id for span in spans if span.parent is None)
    assert set(roots.values()) <= {1}
    for span in spans:
        assert span.start_ns <= span.end_ns
        assert all(span.start_ns <= each.ns <= span.end_ns for each in span.events)
        assert ("error.type" in span.attributes) == (span.error is not None)
        parent = by_id.get(span.parent_id or 0)
        if span.operation != "invoke_agent":
            assert parent is not None
            assert parent.operation == "invoke_agent"
        if parent is not None:
            assert parent.trace_id == span.trace_id
            assert parent.start_ns <= span.start_ns
            assert span.end_ns <= parent.end_ns
        assert isinstance(span.parent, SpanPlace) or (span.parent is None) == (parent is None)


def assert_counts(spans: Sequence[Span], events: Iterable[AgentEvent]) -> None:
    """Hold the sum over leaves to what UsageReporter says, token by token and cent by cent."""
    reporter = UsageReporter()
    for event in events:
        if isinstance(event, UsageUpdated):
            reporter.handle_event(event)
    total = reporter.total
    told = [span.attributes for span in spans]
    usage = total.usage
    for key, expected in (
        (INPUT, usage.total_input_tokens),
        (CACHE_READ, usage.cached_input_tokens),
        (OUTPUT, usage.output_tokens),
        (REASONING, usage.reasoning_tokens),
    ):
        counts = [each[key] for each in told if key in each]
        assert (sum(counts) if counts else None) == expected, key  # type: ignore[arg-type] # they are counts
    costs: dict[str, float] = {}
    for each in told:
        if COST in each:
            currency = str(each[CURRENCY])
            costs[currency] = costs.get(currency, 0.0) + float(each[COST])  # type: ignore[arg-type] # an amount
    assert costs.keys() == total.costs.keys()
    for currency, amount in total.costs.items():
        assert math.isclose(costs[currency], float(EXACT_SUMS.plus(amount)), abs_tol=1e-12)
    assert not any(
        INPUT in span.attributes or COST in span.attributes for span in spans if span.kind != "client"
    )


def with_places(events: Iterable[AgentEvent]) -> list[AgentEvent]:
    """Return the events with the place of each sub-agent's run in its metadata, as the drivers record it."""
    traces: dict[tuple[str, str], int] = {}
    told: list[AgentEvent] = []
    for event in events:
        fresh = event
        if isinstance(event, RunStarted):
            place, of = place_of(event.metadata), event.parent
            if place is None and of is not None:
                span_id = call_span_id(of.session_id, of.run_id, of.call_id)
                place = SpanPlace(trace_id=traces[of.session_id, of.run_id], span_id=span_id)
                fresh = attrs.evolve(event, metadata={**event.metadata, TRACEPARENT: place.traceparent})
            own = trace_id_of(event.session_id, event.run_id)
            traces[event.session_id, event.run_id] = own if place is None else place.trace_id
        told.append(fresh)
    return told


def told(
    *events: AgentEvent,
    session_id: str = "s",
    run_id: str = "r",
    seq: int = 1,
    at_s: float = 0.0,
    step_s: float = 1.0,
) -> list[AgentEvent]:
    """Return events as one run tells them, from a moment in 2026 on, so many seconds apart."""
    for place, event in enumerate(events):
        moment = START + dt.timedelta(seconds=at_s + place * step_s)
        stamp(event, session_id, run_id, "turn-1", seq + place, moment)
    return list(events)


def seconds_of(span: Span) -> tuple[float, float]:
    """Return when a span began and ended, in seconds since the moment in 2026."""
    zero = int(START.timestamp()) * 10**9
    return (span.start_ns - zero) / 1e9, (span.end_ns - zero) / 1e9
