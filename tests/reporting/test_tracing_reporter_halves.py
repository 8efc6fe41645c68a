"""Reporters that share the provider of their spans and not that of their metrics: each makes, and measures, its own."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from agentkit_loop.content import Parent
from agentkit_loop.events import (
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolExecutionStarted,
    UsageUpdated,
)
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting import TracingReporter
from tests.reporting.folded_spans import told
from tests.reporting.traced import Traced

TOKENS = "gen_ai.client.token.usage"


class Balance(SpanProcessor):
    """Counts the spans that were begun and are not ended, by name."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        del parent_context
        self.open[span.name] = self.open.get(span.name, 0) + 1

    def on_end(self, span: ReadableSpan) -> None:
        self.open[span.name] -= 1
        if not self.open[span.name]:
            del self.open[span.name]


class Measuring(Traced):
    """A reporter with meters of its own that makes its spans with the provider of another one."""

    def __init__(self, other: Traced) -> None:
        self.exporter, self.provider, self.reader = other.exporter, other.provider, InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.reporter = TracingReporter(self.provider, self.meters)


def asked(request_id: str = "q") -> ModelRequestStarted:
    return ModelRequestStarted(
        request_id=request_id, attempt=1, purpose="turn", model="m", message_count=1, digests={}
    )


def answered(request_id: str = "q") -> tuple[AgentEvent, AgentEvent]:
    return (
        UsageUpdated(request_id=request_id, model="m", usage=Usage(input_tokens=5)),
        ModelRequestFinished(
            request_id=request_id, finish_reason="stop", response_model="m", duration_ms=1.0
        ),
    )


def tell(event: AgentEvent, *reporters: TracingReporter) -> None:
    for reporter in reporters:
        reporter.handle_event(event)


def test_who_only_measures_a_run_has_no_span_of_its_requests() -> None:
    balance = Balance()
    first = Traced(balance)
    second = Measuring(first)
    reporters = (first.reporter, second.reporter)
    events = told(
        RunStarted(agent_name="a", model="m"),
        asked(),
        *answered(),
        RunFinished(outcome="completed", usage=Usage()),
    )
    for event in events[:2]:
        tell(event, *reporters)
    assert (first.reporter.open_spans, second.reporter.open_spans) == (2, 0)
    assert second.reporter.place_of_request("s", "r", "q") is None
    assert first.reporter.place_of_request("s", "r", "q") is not None
    for event in events[2:]:
        tell(event, *reporters)
    assert (balance.open, len(first.by_id())) == ({}, 2)
    assert [each.total(TOKENS, tokens="input") for each in (first, second)] == [(1, 5), (1, 5)]
    assert (first.reporter.told_elsewhere, second.reporter.told_elsewhere) == (0, 0)


def test_a_sub_agents_run_begins_no_span_of_a_run_above_that_another_reporter_tells() -> None:
    balance = Balance()
    first = Traced(balance)
    second = Measuring(first)
    above = told(
        RunStarted(agent_name="top", model="m"),
        ToolExecutionStarted(call_id="c", name="sub", attempt=1),
        RunFinished(outcome="completed", usage=Usage()),
    )
    below = told(
        RunStarted(agent_name="sub", model="m", parent=Parent(session_id="s", run_id="r", call_id="c")),
        asked(),
        *answered(),
        RunFinished(outcome="completed", usage=Usage()),
        session_id="below",
    )
    for event in above[:2]:
        tell(event, first.reporter, second.reporter)
    for event in below:
        tell(event, second.reporter, first.reporter)
    tell(above[2], first.reporter, second.reporter)
    assert balance.open == {}
    (call,) = first.named("execute_tool")
    (run,) = (span for span in first.named("invoke_agent") if span.name == "invoke_agent sub")
    assert run.parent is not None
    assert run.parent[:2] == call.ids[:2]
    assert len(first.by_id()) == 4
    assert [each.total(TOKENS, tokens="input") for each in (first, second)] == [(1, 5), (1, 5)]


def test_a_run_is_ended_by_its_resume_also_where_another_reporter_tells_that() -> None:
    first = Traced()
    second = TracingReporter(first.provider, first.meters)
    begun = told(RunStarted(agent_name="a", model="m"), asked(), answered()[0])
    (resumed,) = told(RunStarted(agent_name="a", model="m", resumed_run="r"), run_id="resumed", seq=4)
    for event in begun:
        tell(event, first.reporter, second)
    tell(resumed, second, first.reporter)
    assert (first.reporter.open_spans, second.open_spans) == (0, 1)
    assert len(first.by_id()) == 2
    assert first.total(TOKENS, tokens="input") == (1, 5)
    assert first.reporter.told_elsewhere == 1


def test_a_failure_without_a_class_has_a_name_in_metrics() -> None:
    traced = Traced()
    error = ErrorInfo(type="", message="")
    traced.told(
        told(
            RunStarted(agent_name="a", model="m"),
            asked(),
            ModelRequestFailed(request_id="q", error=error, error_class="", duration_ms=1.0),
            RunFailed(error=error, usage=Usage(), duration_ms=1.0),
        )
    )
    measured = traced.measured()
    for name in ("gen_ai.client.operation.duration", "gen_ai.invoke_agent.duration"):
        assert [(each.attributes or {})["error.type"] for each in measured[name]] == ["_OTHER"]
