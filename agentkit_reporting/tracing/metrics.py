"""Metrics of runs as the GenAI conventions have them: durations and tokens, in OpenTelemetry's histograms.

Names, units, attributes and buckets are the conventions' own (docs/gen-ai/gen-ai-metrics.md; those of calls and runs
are in their newest version), whatever the profile of the spans. A duration is the event's, which a monotonic clock
measured, else what the span's times say. The tokens of a request are recorded once, when it is over: their sum is
that of a UsageReporter.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentkit_loop import events as ev
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON, safe_repr
from agentkit_reporting.tracing.facts import TOOL_TYPE
from agentkit_reporting.tracing.fold_moments import tool_error
from agentkit_reporting.tracing.own_attributes import brief_text
from agentkit_reporting.tracing.provider_names import provider_of
from agentkit_reporting.tracing.scope import SCHEMA_URL, SCOPE_NAME, scope_version
from agentkit_reporting.tracing.spans import Span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider

__all__ = ["HISTOGRAMS", "ApiMetrics", "Ended", "HistogramKind", "OpenWork"]


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


@attrs.frozen(kw_only=True)
class Ended:
    """Something that is over, and what it took.

    operation: that of its span. attributes: of every measurement of it. duration_ms, first_content_ms: None where
    nobody measured. error: the `error.type`, None without an error. usage: of a request that reported one. has_span:
    whether it is what a span tells of; False where only its tokens count.
    """

    operation: str
    attributes: dict[str, str]
    duration_ms: float | None = None
    first_content_ms: float | None = None
    error: str | None = None
    usage: Usage | None = None
    has_span: bool = True


@attrs.define(eq=False)
class _Request:
    model: str
    provider: str
    usage: Usage | None = None


@attrs.define(eq=False)
class _Run:
    last_seq: int = 0
    agent: str = ""
    model: str = ""
    metadata: Mapping[str, JSON] = attrs.field(factory=dict)
    requests: dict[str, _Request] = attrs.field(factory=dict)
    calls: dict[str, str] = attrs.field(factory=dict)  # name by call, of those that have started

    def note(self, event: ev.ModelRequestStarted | ev.UsageUpdated | ev.ToolExecutionStarted) -> None:
        """Take note of what begins, or of what a request used so far."""
        if isinstance(event, ev.ToolExecutionStarted):
            self.calls[event.call_id] = event.name
            return
        if isinstance(event, ev.ModelRequestStarted):
            self.requests[event.request_id] = _request_of(event.model, self)
        elif event.request_id in self.requests:  # what is told of one that is over, no span tells either
            self.requests[event.request_id].usage = event.usage


class OpenWork:
    """What is open, as the events tell it; says of each thing when it is over. Its owner locks.

    Nothing is kept of a run whose beginning is not among the events, or that is over. What is told twice counts once:
    the numbers of a run's events rise.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], _Run] = {}

    def take(self, event: AgentEvent) -> tuple[Ended, ...]:
        """Take an event; return what is over with it."""
        run = self._runs.get((event.session_id, event.run_id))
        if run is None:
            if isinstance(event, ev.RunStarted):
                self._runs[event.session_id, event.run_id] = _Run(
                    event.seq, event.agent_name, event.model, event.metadata
                )
            return ()
        if event.seq > run.last_seq:
            run.last_seq = event.seq
        elif event.seq:  # told before
            return ()
        match event:
            case ev.ModelRequestStarted() | ev.UsageUpdated() | ev.ToolExecutionStarted():
                run.note(event)
            case ev.ModelRequestFinished() | ev.ModelRequestFailed():
                return _request_ended(run, event)
            case ev.ToolResultReceived():
                return _call_ended(run, event)
            case ev.RunFinished() | ev.RunFailed() | ev.RunCancelled():
                del self._runs[event.session_id, event.run_id]
                return _run_ended(run, event)
            case _:
                pass
        return ()

    def close(self) -> tuple[Ended, ...]:
        """Forget what is open; return the requests of which tokens were reported."""
        runs, self._runs = self._runs, {}
        return tuple(ended for run in runs.values() for ended in _cut_requests(run))


class ApiMetrics:
    """Records what is over, with OpenTelemetry's API.

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

    def record(self, ended: Ended, span: Span | None, context: Context) -> None:
        """Record what is over. span: its own, None where it has none. context: the one of its span, for exemplars."""
        error = ended.error
        if span is not None:  # the span has the last word on what is an error, and what it is called
            named = span.attributes.get("error.type")
            error = None if span.error is None else str(named or error or "_OTHER")
        failed = {} if error is None else {"error.type": brief_text(error)}
        seconds = _seconds(ended, span)
        if seconds is not None:
            self._record(_DURATIONS[ended.operation], seconds, {**ended.attributes, **failed}, context)
        if ended.first_content_ms is not None:
            name = "gen_ai.client.operation.time_to_first_chunk"
            self._record(name, ended.first_content_ms / 1000, ended.attributes, context)
        if ended.usage is not None:
            counts = {"input": ended.usage.total_input_tokens, "output": ended.usage.output_tokens}
            for kind, count in counts.items():
                if count is not None:
                    told = {**ended.attributes, "gen_ai.token.type": kind}
                    self._record("gen_ai.client.token.usage", count, told, context)

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


def _seconds(ended: Ended, span: Span | None) -> float | None:
    if ended.duration_ms is not None:
        return ended.duration_ms / 1000
    if span is None or span.end_ns <= span.start_ns:
        return None  # told all at once, and measured by nobody
    return (span.end_ns - span.start_ns) / 1_000_000_000


def _request_ended(run: _Run, event: ev.ModelRequestFinished | ev.ModelRequestFailed) -> tuple[Ended, ...]:
    request = run.requests.pop(event.request_id, None)
    if request is None:
        return ()
    answer = event if isinstance(event, ev.ModelRequestFinished) else None
    ended = Ended(
        operation="chat",
        attributes=_request_attributes(request, None if answer is None else answer.response_model),
        duration_ms=event.duration_ms,
        first_content_ms=None if answer is None else answer.first_content_ms,
        error=event.error_class if isinstance(event, ev.ModelRequestFailed) else None,
        usage=request.usage,
    )
    return (ended,)


def _call_ended(run: _Run, event: ev.ToolResultReceived) -> tuple[Ended, ...]:
    name = run.calls.pop(event.call_id, None)
    if name is None:
        return ()  # it never started
    ended = Ended(
        operation="execute_tool",
        attributes=_named(
            ("gen_ai.operation.name", "execute_tool"),
            ("gen_ai.tool.name", name),
            ("gen_ai.tool.type", TOOL_TYPE),
            ("gen_ai.agent.name", run.agent),
        ),
        duration_ms=event.duration_ms,
        error=tool_error(event),
    )
    return (ended,)


def _run_ended(run: _Run, event: ev.RunFinished | ev.RunFailed | ev.RunCancelled) -> tuple[Ended, ...]:
    ended = Ended(
        operation="invoke_agent",
        attributes=_named(
            ("gen_ai.operation.name", "invoke_agent"),
            ("gen_ai.provider.name", provider_of(run.model, run.metadata)),
            ("gen_ai.agent.name", run.agent),
            ("gen_ai.request.model", run.model),
        ),
        duration_ms=event.duration_ms,
        error=event.error.type if isinstance(event, ev.RunFailed) else None,
    )
    return (*_cut_requests(run), ended)


def _cut_requests(run: _Run) -> list[Ended]:
    """Return the requests that never ended, for their tokens: they were billed all the same."""
    return [
        Ended(
            operation="chat",
            attributes=_request_attributes(request, None),
            usage=request.usage,
            has_span=False,
        )
        for request in run.requests.values()
        if request.usage is not None
    ]


def _request_of(model: str, run: _Run) -> _Request:
    return _Request(model, provider_of(model or run.model, run.metadata))


def _request_attributes(request: _Request, response_model: str | None) -> dict[str, str]:
    return _named(
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", request.provider),
        ("gen_ai.request.model", request.model),
        ("gen_ai.response.model", response_model),
    )


def _named(*told: tuple[str, str | None]) -> dict[str, str]:
    return {name: brief_text(value) for name, value in told if value}
