"""What the tests of delivery share: an observer that makes the spans of a run by the API, and plain spans."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.tracing.fold import SpanFold
from agentkit_reporting.tracing.otlp_provider import OtlpTracing, otlp_tracing
from agentkit_reporting.tracing.spans import Span

QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
"""Variables with which each span is sent at once."""


class RunSpans(LoopObserver):
    """Makes a run's spans with a provider of the SDK."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("agentkit")
        self._fold = SpanFold()
        self.handled = 0

    def handle_event(self, event: AgentEvent) -> None:
        for span in self._fold.take(event):
            self._made(span).end(span.end_ns)
        self.handled += 1

    def _made(self, span: Span) -> trace.Span:
        if span.made is None:
            parent = span.parent
            above = trace.set_span_in_context(self._made(parent)) if isinstance(parent, Span) else None
            span.made = self._tracer.start_span(span.name, above, start_time=span.start_ns)
        assert isinstance(span.made, trace.Span)
        return span.made


def end_spans(tracing: OtlpTracing, number: int, name: str = "span") -> None:
    """Make spans and end them."""
    tracer = tracing.tracer_provider.get_tracer("test")
    for _ in range(number):
        tracer.start_span(name).end()


def end_two_spans(endpoint: str) -> None:
    """Hold two spans, and leave them to the end of the process."""
    end_spans(otlp_tracing(endpoint), 2)


@contextlib.contextmanager
def tracing_to(endpoint: str | None, **options: Any) -> Iterator[OtlpTracing]:
    """Give providers that send there, and close them without waiting."""
    tracing = otlp_tracing(endpoint, **options)
    try:
        yield tracing
    finally:
        tracing.close(0.0)


def set_variables(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Have these variables of OpenTelemetry and no others."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged, by anybody, from warnings on."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
