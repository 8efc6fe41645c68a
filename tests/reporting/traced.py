"""What the tests of tracing share: a reporter with a provider of its own, and spans and metrics as plain values."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.observers import Observer
from agentkit_reporting import JsonlReporter, TracingReporter, read_events
from tests.loop.crash_runs import Scenario


@attrs.frozen(kw_only=True)
class Shape:
    """All that an exported span says, but for its resource."""

    name: str
    ids: tuple[int, int, int]  # trace, span, flags
    state: str
    parent: tuple[int, int, int, bool] | None  # trace, span, flags, whether it is elsewhere
    kind: str
    times: tuple[int, int]
    attributes: dict[str, Any]
    events: tuple[tuple[str, int, dict[str, Any]], ...]
    status: tuple[str, str | None]
    scope: tuple[str, str | None, str | None]


def shape_of(span: ReadableSpan) -> Shape:
    """Return an exported span as a plain value."""
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None
    assert scope is not None
    assert span.start_time is not None
    assert span.end_time is not None
    above = span.parent
    return Shape(
        name=span.name,
        ids=(context.trace_id, context.span_id, int(context.trace_flags)),
        state=context.trace_state.to_header(),
        parent=None
        if above is None
        else (above.trace_id, above.span_id, int(above.trace_flags), above.is_remote),
        kind=span.kind.name,
        times=(span.start_time, span.end_time),
        attributes=dict(span.attributes or {}),
        events=tuple((each.name, each.timestamp, dict(each.attributes or {})) for each in span.events),
        status=(span.status.status_code.name, span.status.description),
        scope=(scope.name, scope.version, scope.schema_url),
    )


class Traced:
    """A TracingReporter with its own providers, and what they were given."""

    def __init__(self, *processors: SpanProcessor, sampler: Sampler | None = None, **options: Any) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        for processor in processors:
            self.provider.add_span_processor(processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.reporter = TracingReporter(self.provider, self.meters, **options)

    def told(self, events: Iterable[AgentEvent]) -> Traced:
        """Tell it a log, and end what that leaves open."""
        wanted = self.reporter.wants
        for event in events:
            told = event.delta if isinstance(event, ContentDelta) else event
            if isinstance(event, wanted) or isinstance(told, wanted):
                self.reporter.handle_event(event)
        self.reporter.close()
        return self

    @property
    def spans(self) -> list[Shape]:
        """The spans that were exported, in order."""
        return [shape_of(span) for span in self.exporter.get_finished_spans()]

    def named(self, operation: str) -> list[Shape]:
        """The spans of one operation, in order."""
        return [span for span in self.spans if span.name.split()[0] == operation]

    def by_id(self) -> dict[int, Shape]:
        """The spans by their ids, each of which there is once."""
        spans = self.spans
        found = {span.ids[1]: span for span in spans}
        assert len(found) == len(spans)
        return found

    def measured(self) -> dict[str, list[HistogramDataPoint]]:
        """What was recorded, by metric: a point for each set of attributes. Exemplars are in the first answer only."""
        told = self.reader.get_metrics_data()
        return {
            each.name: [point for point in each.data.data_points if isinstance(point, HistogramDataPoint)]
            for resource in ([] if told is None else told.resource_metrics)
            for scope in resource.scope_metrics
            for each in scope.metrics
        }

    def total(self, metric: str, *, tokens: str | None = None) -> tuple[int, float]:
        """How often one metric was recorded, and the sum. tokens: of this type."""
        points = [
            each
            for each in self.measured().get(metric, [])
            if tokens is None or (each.attributes or {})["gen_ai.token.type"] == tokens
        ]
        return sum(each.count for each in points), sum(each.sum for each in points)


class Live:
    """A traced run and its log."""

    def __init__(self, *, deltas: Any = "all", **options: Any) -> None:
        self.traced = Traced(**options)
        self.file = io.BytesIO()
        self.log = JsonlReporter(self.file, deltas=deltas, redact=False)

    @property
    def observers(self) -> tuple[Observer, Observer]:
        """What watches the run."""
        return (self.traced.reporter, self.log)

    def ended(self) -> Live:
        """Close what watched."""
        self.log.close()
        self.traced.reporter.close()
        return self

    def exported(self, **options: Any) -> Traced:
        """Return what another reporter makes of the log."""
        return Traced(**options).told(read_events(io.BytesIO(self.file.getvalue())))


def watched(scenario: Scenario, *observers: Observer) -> Scenario:
    """Return a scenario with observers, in each of its runs."""
    return attrs.evolve(
        scenario,
        observers=lambda: [*observers, *scenario.observers()],
        then=None if scenario.then is None else watched(scenario.then, *observers),
    )


class Raising(SpanProcessor):
    """A processor of a host that raises at the end of each span."""

    def __init__(self, *, on: str = "end") -> None:
        self.on = on
        self.raised = 0

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        del span, parent_context
        self._raise("start")

    def on_end(self, span: ReadableSpan) -> None:
        del span
        self._raise("end")

    def _raise(self, moment: str) -> None:
        if moment == self.on:
            self.raised += 1
            raise ValueError(f"no luck at the {moment}")
