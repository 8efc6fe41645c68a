"""What a trace costs: TracingReporter told the events of sessions, against the same spans made by hand.

By hand is what a program would have in its loop that makes exactly these spans with the SDK's API, for this kind of run
alone: a span begun where something begins, attributes as literal dicts, the rest of them set at its end. It masks and
bounds nothing, derives no ids, and knows of no other way for a run to go. Both sides end in a batch processor whose
exporter throws spans away. That both make the same spans is a test (tests/test_benchmarks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from agentkit_loop import events as ev
from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent
from agentkit_loop.models.scripted import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.usage import Usage
from agentkit_reporting import TracingReporter
from agentkit_reporting.tracing.fold import SPAN_EVENTS
from agentkit_reporting.tracing.metrics import HISTOGRAMS
from benchmarks.measure import Row, compare

BY_HAND = "the same spans by hand, SDK's API"
BOUND = 1.5

DESCRIPTION = "Look something up."

_REASONS = {"tool_call": "tool_call", "completed": "stop"}
_BUCKETS = {kind.name: kind.buckets for kind in HISTOGRAMS}


def rows(rounds: int, *, sessions: int = 20, turns: int = 20) -> list[Row]:
    """Return the table's rows. turns: of each session; each but the last calls a tool."""
    events = [event for number in range(sessions) for event in session(number, turns)]
    return [
        compare(
            "an event to spans and metrics" if metrics else "an event to spans",
            _telling(events, batched(), reporter, metrics=metrics),
            _telling(events, batched(), by_hand, metrics=metrics),
            against=f"{BY_HAND}, and measurements" if metrics else BY_HAND,
            bound=None if metrics else BOUND,
            pieces=len(events),
            rounds=rounds,
        )
        for metrics in (False, True)
    ]


def _telling(
    events: Sequence[AgentEvent],
    provider: TracerProvider,
    made: Callable[[TracerProvider, MeterProvider | None], Callable[[AgentEvent], object]],
    *,
    metrics: bool,
) -> Callable[[], None]:
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    handle = made(provider, meters if metrics else None)

    def tell() -> None:
        for event in events:
            handle(event)
        provider.force_flush()

    return tell


def reporter(provider: TracerProvider, meters: MeterProvider | None) -> Callable[[AgentEvent], None]:
    """Return what makes spans, and measurements where there are meters: ours."""
    return TracingReporter(provider, meters, metrics=meters is not None).handle_event


def by_hand(provider: TracerProvider, meters: MeterProvider | None) -> Callable[[AgentEvent], None]:
    """Return what makes the same by hand."""
    return _ByHand(provider) if meters is None else _MeasuredByHand(provider, meters)


class _ByHand:
    """Makes the spans of one run after another."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("by hand")
        self._above = Context()
        self._agent = ""
        self._run: Any = None
        self._request: Any = None
        self._calls: dict[str, trace.Span] = {}
        self._reason = ""
        self._usage = Usage()

    def __call__(self, event: Any) -> None:
        kind = type(event)
        if kind is ev.UsageUpdated:
            self._usage = event.usage
        elif kind is ev.ModelRequestStarted:
            self._begin_request(event)
        elif kind is ev.ModelRequestFinished:
            self._end_request(event)
        elif kind is ev.ToolExecutionStarted:
            self._begin_call(event)
        elif kind is ev.ToolResultReceived:
            self._end_call(event)
        elif kind is ev.TurnFinished:
            self._reason = event.finish_reason
        elif kind is ev.RunStarted:
            self._begin_run(event)
        elif kind is ev.RunFinished:
            self._end_run(event)

    def _begin_run(self, event: ev.RunStarted) -> None:
        self._agent = event.agent_name
        self._run = self._tracer.start_span(
            f"invoke_agent {event.agent_name}",
            Context(),
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.provider.name": "scripted",
                "gen_ai.conversation.id": event.session_id,
                "gen_ai.agent.name": event.agent_name,
                "gen_ai.request.model": event.model,
                "agentkit.run_id": event.run_id,
            },
            start_time=_ns(event),
        )
        self._above = trace.set_span_in_context(self._run, Context())

    def _end_run(self, event: ev.RunFinished) -> None:
        self._run.set_attributes(
            {"agentkit.run.finish_reason": self._reason, "agentkit.run.outcome": "completed"}
        )
        self._run.end(_ns(event))

    def _begin_request(self, event: ev.ModelRequestStarted) -> None:
        self._request = self._tracer.start_span(
            f"chat {event.model}",
            self._above,
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "scripted",
                "gen_ai.conversation.id": event.session_id,
                "gen_ai.agent.name": self._agent,
                "gen_ai.request.model": event.model,
                "agentkit.run_id": event.run_id,
                "agentkit.turn_id": event.turn_id,
                "agentkit.request_id": event.request_id,
                "agentkit.request.attempt": event.attempt,
                "agentkit.request.purpose": event.purpose,
            },
            start_time=_ns(event),
        )

    def _end_request(self, event: ev.ModelRequestFinished) -> None:
        if event.finish_reason != _REASONS[event.finish_reason]:
            self._request.set_attribute("agentkit.finish_reason", event.finish_reason)
        usage, first_ms = self._usage, event.first_content_ms or 0.0
        self._request.set_attributes(
            {
                "gen_ai.request.stream": True,
                "gen_ai.response.model": event.response_model,
                "gen_ai.response.finish_reasons": (_REASONS[event.finish_reason],),
                "gen_ai.response.time_to_first_chunk": first_ms / 1_000,
                "gen_ai.usage.input_tokens": usage.total_input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
                "gen_ai.usage.cache_write.input_tokens": usage.cache_write_input_tokens,
                "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_input_tokens,
            }
        )
        self._request.end(_ns(event))

    def _begin_call(self, event: ev.ToolExecutionStarted) -> None:
        self._calls[event.call_id] = self._tracer.start_span(
            f"execute_tool {event.name}",
            self._above,
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.conversation.id": event.session_id,
                "gen_ai.agent.name": self._agent,
                "gen_ai.tool.name": event.name,
                "gen_ai.tool.type": "function",
                "gen_ai.tool.description": DESCRIPTION,
                "gen_ai.tool.call.id": event.call_id,
                "agentkit.run_id": event.run_id,
                "agentkit.turn_id": event.turn_id,
                "agentkit.tool.attempt": event.attempt,
            },
            start_time=_ns(event),
        )

    def _end_call(self, event: ev.ToolResultReceived) -> None:
        self._calls.pop(event.call_id).end(_ns(event))


class _MeasuredByHand(_ByHand):
    """Records the measurements as well."""

    def __init__(self, provider: TracerProvider, meters: MeterProvider) -> None:
        super().__init__(provider)
        meter = meters.get_meter("by hand")
        self._run_s, self._request_s, self._first_s, self._tokens, self._call_s = (
            meter.create_histogram(name, explicit_bucket_boundaries_advisory=_BUCKETS[name])
            for name in (
                "gen_ai.invoke_agent.duration",
                "gen_ai.client.operation.duration",
                "gen_ai.client.operation.time_to_first_chunk",
                "gen_ai.client.token.usage",
                "gen_ai.execute_tool.duration",
            )
        )

    def _end_run(self, event: ev.RunFinished) -> None:
        super()._end_run(event)
        told = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "scripted",
            "gen_ai.agent.name": self._agent,
            "gen_ai.request.model": "scripted",
        }
        self._run_s.record((event.duration_ms or 0.0) / 1_000, told, self._above)

    def _end_request(self, event: ev.ModelRequestFinished) -> None:
        super()._end_request(event)
        told = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "scripted",
            "gen_ai.request.model": "scripted",
            "gen_ai.response.model": event.response_model,
        }
        here = trace.set_span_in_context(self._request, Context())
        self._request_s.record((event.duration_ms or 0.0) / 1_000, told, here)
        self._first_s.record((event.first_content_ms or 0.0) / 1_000, told, here)
        self._tokens.record(self._usage.total_input_tokens or 0, {**told, "gen_ai.token.type": "input"}, here)
        self._tokens.record(self._usage.output_tokens or 0, {**told, "gen_ai.token.type": "output"}, here)

    def _end_call(self, event: ev.ToolResultReceived) -> None:
        call = self._calls[event.call_id]
        super()._end_call(event)
        told = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": event.name,
            "gen_ai.agent.name": self._agent,
        }
        here = trace.set_span_in_context(call, Context())
        self._call_s.record((event.duration_ms or 0.0) / 1_000, told, here)


def _ns(event: AgentEvent) -> int:
    return round(event.timestamp.timestamp() * 1_000_000) * 1_000


class _Nowhere(SpanExporter):
    """Throws spans away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Say that all arrived."""
        del spans
        return SpanExportResult.SUCCESS


def batched() -> TracerProvider:
    """Return a provider whose spans go nowhere, by batches."""
    return provided(BatchSpanProcessor(_Nowhere()))


def provided(processor: SpanProcessor) -> TracerProvider:
    """Return a provider with one processor, as the SDK has it without any variable set."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def session(number: int, turns: int) -> list[AgentEvent]:
    """Return the events of a session that a reporter of spans wants."""
    usage = Usage(input_tokens=300, cached_input_tokens=1_000, cache_write_input_tokens=50, output_tokens=40)
    call = ScriptedCall(name="look", input={"number": number})
    replies = [Reply(calls=(call,), usage=usage) for _ in range(turns - 1)]

    def look(number: int) -> str:
        return f"found {number}"

    look.__doc__ = DESCRIPTION
    told: list[AgentEvent] = []
    model = ScriptedModel([*replies, Reply(text="done", usage=usage)])
    with (
        Agent(model, tools=[look], observers=[told.append]) as agent,
        agent.start(session_id=f"session-{number}") as driver,
    ):
        driver.run("go")
    return [event for event in told if isinstance(event, SPAN_EVENTS)]
