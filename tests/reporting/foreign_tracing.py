"""An implementation of OpenTelemetry's tracing API that is not its SDK: no id generator, ids of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context


class ForeignSpan(trace.Span):
    """A span that keeps what it is told."""

    def __init__(self, provider: ForeignProvider, name: str, parent: trace.SpanContext | None) -> None:
        number = next(provider.numbers)
        self.name, self.parent = name, parent
        self.attributes: dict[str, Any] = {}
        self._provider = provider
        self._context = trace.SpanContext(
            parent.trace_id if parent else number, number, is_remote=False, trace_flags=trace.TraceFlags(1)
        )

    def end(self, end_time: int | None = None) -> None:
        del end_time
        self._provider.ended.append(self)

    def get_span_context(self) -> trace.SpanContext:
        return self._context

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self.attributes.update(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        pass

    def update_name(self, name: str) -> None:
        self.name = name

    def is_recording(self) -> bool:
        return True

    def set_status(self, status: Any, description: str | None = None) -> None:
        pass

    def record_exception(self, *_: Any, **__: Any) -> None:
        pass


class ForeignTracer(trace.Tracer):
    """Makes them."""

    def __init__(self, provider: ForeignProvider) -> None:
        self._provider = provider

    def start_span(self, name: str, context: Context | None = None, *_: Any, **__: Any) -> trace.Span:
        above = trace.get_current_span(context).get_span_context()
        return ForeignSpan(self._provider, name, above if above.is_valid else None)

    def start_as_current_span(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing of ours is current")


class ForeignProvider(trace.TracerProvider):
    """Keeps the spans that have ended."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.ended: list[ForeignSpan] = []

    def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
        return ForeignTracer(self)
