"""Metrics of runs as the GenAI conventions have them: durations and tokens, in OpenTelemetry's histograms.

Names, units, attributes and buckets are the conventions' own (docs/gen-ai/gen-ai-metrics.md; those of calls and runs
are in their newest version), whatever the profile of the spans. A duration is the event's, which a monotonic clock
measured, else what the span's times say. The tokens of a request are recorded once, when it is over: their sum is
that of a UsageReporter.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import safe_repr
from agentkit_reporting.tracing.scope import SCHEMA_URL, SCOPE_NAME, scope_version
from agentkit_reporting.tracing.spans import Span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider

__all__ = ["HISTOGRAMS", "ApiMetrics", "HistogramKind"]


@attrs.frozen
class HistogramKind:
    """One histogram of the conventions. buckets: the upper bounds that they advise."""

    name: str
    unit: str
    description: str
    buckets: tuple[float, ...]


# Each bound is twice, or four times, the one before; written as decimals, which a product would not meet exactly.
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_RUN_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
_TOKENS: Final = tuple(4**power for power in range(14))

HISTOGRAMS: Final[tuple[HistogramKind, ...]] = (
    HistogramKind("gen_ai.client.operation.duration", "s", "How long a request to a model took.", _SECONDS),
    HistogramKind(
        "gen_ai.client.operation.time_to_first_chunk",
        "s",
        "How long it took from the request to the first content of its answer.",
        _SECONDS,
    ),
    HistogramKind("gen_ai.client.token.usage", "{token}", "Tokens that a request used.", _TOKENS),
    HistogramKind("gen_ai.execute_tool.duration", "s", "How long a tool took.", _SECONDS),
    HistogramKind("gen_ai.invoke_agent.duration", "s", "How long a run of an agent took.", _RUN_SECONDS),
)
"""What is recorded."""

_DURATIONS: Final = {
    "chat": "gen_ai.client.operation.duration",
    "execute_tool": "gen_ai.execute_tool.duration",
    "invoke_agent": "gen_ai.invoke_agent.duration",
}


class ApiMetrics:
    """Records what was measured of spans, with OpenTelemetry's API.

    meter_provider: None takes the global one, also where it is set later. Raises ConfigurationError for what is none.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        if meter_provider is not None and not callable(getattr(meter_provider, "get_meter", None)):
            raise ConfigurationError(
                f"meter_provider={safe_repr(meter_provider)} refused because it makes no meters; give one of "
                "OpenTelemetry's, or None for the global one"
            )
        self._given = meter_provider
        self.begin_anew()

    def begin_anew(self) -> None:
        """Ask the provider for its instruments when one is needed: this is a forked child, where it has others."""
        self._asking = threading.Lock()
        self._histograms: dict[str, Histogram] | None = None

    @property
    def provider(self) -> MeterProvider:
        """The provider of the instruments: the given one, else the global one as it is now."""
        from opentelemetry import metrics  # noqa: PLC0415 - an extra

        return metrics.get_meter_provider() if self._given is None else self._given

    def _found(self) -> dict[str, Histogram]:
        with self._asking:
            if self._histograms is None:
                given = self._given
                self._histograms = _global_histograms() if given is None else _histograms_of(given)
            return self._histograms

    def record(self, span: Span, context: Context) -> None:
        """Record what was measured of a span that is over. context: the one of the span, for exemplars.

        Of what never ended only the tokens count: they were billed all the same.
        """
        labels: dict[str, str] = {**span.labels}
        if span.response_model:
            labels["gen_ai.response.model"] = span.response_model
        if span.is_finished:
            self._record_times(span, labels, context)
        if span.usage is not None:
            counts = {"input": span.usage.total_input_tokens, "output": span.usage.output_tokens}
            for kind, count in counts.items():
                if count is not None:
                    told = {**labels, "gen_ai.token.type": kind}
                    self._record("gen_ai.client.token.usage", count, told, context)

    def _record_times(self, span: Span, labels: dict[str, str], context: Context) -> None:
        seconds = _seconds(span)
        if seconds is not None:
            error = span.attributes.get("error.type") or "_OTHER"
            failed = {} if span.error is None else {"error.type": str(error)}
            self._record(_DURATIONS[span.operation], seconds, {**labels, **failed}, context)
        if span.first_content_ms is not None:
            name = "gen_ai.client.operation.time_to_first_chunk"
            self._record(name, span.first_content_ms / 1000, labels, context)

    def _record(self, name: str, amount: float, told: dict[str, Any], context: Context) -> None:
        histograms = self._histograms or self._found()
        histograms[name].record(amount, told, context)


@functools.cache  # as long as nobody has set a provider, the API keeps every meter that it is asked for
def _global_histograms() -> dict[str, Histogram]:
    from opentelemetry import metrics  # noqa: PLC0415 - an extra

    return _histograms_of(metrics.get_meter_provider())


def _histograms_of(provider: MeterProvider) -> dict[str, Histogram]:
    meter = provider.get_meter(SCOPE_NAME, scope_version() or None, schema_url=SCHEMA_URL)
    return {
        kind.name: meter.create_histogram(
            kind.name,
            unit=kind.unit,
            description=kind.description,
            explicit_bucket_boundaries_advisory=kind.buckets,
        )
        for kind in HISTOGRAMS
    }


def _seconds(span: Span) -> float | None:
    if span.duration_ms is not None:
        return span.duration_ms / 1000
    if span.end_ns <= span.start_ns:
        return None  # told all at once, and measured by nobody
    return (span.end_ns - span.start_ns) / 1_000_000_000
