"""A small maker of spans for tests: the fold of events, and a sink that makes them by OpenTelemetry's API."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from agentkit_loop.events import AgentEvent
from agentkit_loop.models.sdk_spans import stand_in, withdraw
from agentkit_loop.observers import LoopObserver
from agentkit_loop.trace_context import SpanPlace
from agentkit_reporting.tracing.adopting import client_option
from agentkit_reporting.tracing.fold import SpanFold
from agentkit_reporting.tracing.spans import Span

OURS = "agentkit"


class KeptSpans:
    """A provider that keeps what was exported. sampler: of the provider, by default all."""

    def __init__(self, sampler: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def of(self, *, ours: bool) -> list[ReadableSpan]:
        """Return our spans, or those that the SDK made."""
        return [span for span in self.all if (scope_of(span) == OURS) == ours]

    def sum(self, name: str) -> int:
        """Return the sum of an attribute over all spans, whoever made them."""
        found = [dict(span.attributes or {}).get(name, 0) for span in self.all]
        return sum(value for value in found if isinstance(value, int))

    def shutdown(self) -> None:
        self.provider.shutdown()


class Keeper(LoopObserver):
    """Makes spans of what it is told, and stands in for the SDK's until `close`."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self.tracer_provider = provider
        self._fold = SpanFold(self)
        stand_in(self)

    def handle_event(self, event: AgentEvent) -> None:
        self._fold.take(event)

    def close(self) -> None:
        withdraw(self)
        self._fold.close()

    def client_option(self) -> Any:
        return client_option(self)

    def place_of_request(self, session_id: str, run_id: str, request_id: str) -> Context | None:
        span = self._fold.span_of_request(session_id, run_id, request_id)
        return None if span is None else trace.set_span_in_context(self._made(span), Context())

    def take(self, span: Span) -> None:
        made = self._made(span)
        made.set_attributes(dict(span.attributes))
        made.end(span.end_ns)

    def _made(self, span: Span) -> trace.Span:
        if not isinstance(span.sink, trace.Span):
            assert self.tracer_provider is not None
            kind = SpanKind.CLIENT if span.kind == "client" else SpanKind.INTERNAL
            tracer = self.tracer_provider.get_tracer(OURS)
            span.sink = tracer.start_span(span.name, self._below(span.parent), kind, start_time=span.start_ns)
        assert isinstance(span.sink, trace.Span)
        return span.sink

    def _below(self, parent: Span | SpanPlace | None) -> Context:
        if parent is None:
            return Context()
        if isinstance(parent, Span):
            return trace.set_span_in_context(self._made(parent), Context())
        context = SpanContext(
            parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(parent.flags)
        )
        return trace.set_span_in_context(NonRecordingSpan(context), Context())


def scope_of(span: ReadableSpan) -> str | None:
    """Return the name of the scope that made it."""
    return None if span.instrumentation_scope is None else span.instrumentation_scope.name


def parent_of(span: ReadableSpan, among: tuple[ReadableSpan, ...]) -> ReadableSpan | None:
    """Return the span above one."""
    above = span.parent
    return None if above is None else next((each for each in among if each.context == above), None)
