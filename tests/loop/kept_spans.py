"""What the tests of the SDK's spans share: a provider that keeps what was exported, and reporters that use it."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit_reporting import TracingReporter
from agentkit_reporting.tracing.scope import SCOPE_NAME


class KeptSpans:
    """A provider that keeps what was exported. sampler: of the provider, by default all."""

    def __init__(self, sampler: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def reporter(self) -> TracingReporter:
        """Return a reporter that makes its spans here."""
        return TracingReporter(self.provider, metrics=False)

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def of(self, *, ours: bool) -> list[ReadableSpan]:
        """Return our spans, or those that the SDK made."""
        return [span for span in self.all if (scope_of(span) == SCOPE_NAME) == ours]

    def sum(self, name: str) -> int:
        """Return the sum of an attribute over all spans, whoever made them."""
        found = [dict(span.attributes or {}).get(name, 0) for span in self.all]
        return sum(value for value in found if isinstance(value, int))


def scope_of(span: ReadableSpan) -> str | None:
    """Return the name of the scope that made it."""
    return None if span.instrumentation_scope is None else span.instrumentation_scope.name


def parent_of(span: ReadableSpan, among: tuple[ReadableSpan, ...]) -> ReadableSpan | None:
    """Return the span above one."""
    above = span.parent
    return None if above is None else next((each for each in among if each.context == above), None)
