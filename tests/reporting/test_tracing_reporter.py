"""TracingReporter: whose child a run is, what is sampled, whose ids, and who tells."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)

from agentkit_loop.agent import Agent
from agentkit_loop.events import ModelRequestStarted, RunStarted
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_loop.trace_context import TRACEPARENT, TRACESTATE, place_of, span_id_of, trace_id_of
from agentkit_reporting import TracingReporter, UsageReporter
from agentkit_reporting.tracing.scope import SCHEMA_URL, scope_version
from tests.loop.families import agent, calls, says
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.reporting.foreign_tracing import ForeignProvider
from tests.reporting.sink_runs import Play, agent_of, on_thread_and_loop
from tests.reporting.traced import Traced

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"


def run_within(traced: Traced, **metadata: Any) -> EventRecorder:
    recorder = EventRecorder()
    with agent_of(traced.reporter, recorder).start(metadata=metadata) as driver:
        driver.run("go")
    return recorder


def started(recorder: EventRecorder) -> RunStarted:
    return next(event for event in recorder.events if isinstance(event, RunStarted))


# --- whose child


def test_a_run_is_the_child_of_the_place_that_its_metadata_names() -> None:
    traced = Traced()
    run_within(traced, **{TRACEPARENT: PARENT, TRACESTATE: "vendor=a b"})
    (root,) = traced.named("invoke_agent")
    assert root.parent == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 1, True)
    assert {span.ids[0] for span in traced.spans} == {0x0AF7651916CD43DD8448EB211C80319C}


def test_the_state_of_a_trace_is_kept() -> None:
    traced = Traced()
    run_within(traced, **{TRACEPARENT: PARENT, TRACESTATE: "vendor=a b,1tenant@other=c;d"})
    assert {span.state for span in traced.spans} == {"vendor=a b,1tenant@other=c;d"}


@pytest.mark.parametrize(
    "state",
    ["", "no", "a=\x1b[31m", "a=1,a=2", "A=1", "a@b@c=1", ",".join(f"k{n}=1" for n in range(33)), "a=b=c"],
)
def test_a_state_that_is_not_valid_is_left_out_in_silence(
    state: str, caplog: pytest.LogCaptureFixture
) -> None:
    traced = Traced()
    run_within(traced, **{TRACEPARENT: PARENT, TRACESTATE: state})
    assert {span.state for span in traced.spans} == {""}
    assert caplog.records == []


@on_thread_and_loop
def test_what_is_current_where_an_event_is_told_stays_current_and_is_no_parent_unless_it_is_recorded(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    traced, recorder = Traced(), EventRecorder()
    seen: list[int] = []

    @tool
    def work() -> str:
        """Work."""
        seen.append(trace.get_current_span().get_span_context().span_id)
        return "done"

    host = traced.provider.get_tracer("host")
    asks = Reply(text="", calls=(ScriptedCall(name="work"),))
    agent = Agent(
        ScriptedModel([asks, Reply(text="done")]), tools=[work], observers=[traced.reporter, recorder]
    )
    with host.start_as_current_span("a request") as span:
        play(agent)
        assert trace.get_current_span() is span
        assert seen == [span.get_span_context().span_id]
    (root,) = traced.named("invoke_agent")
    recorded = place_of(started(recorder).metadata)
    assert (None if root.parent is None else root.parent[1]) == (
        None if recorded is None else recorded.span_id
    )
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert caplog.records == []


def test_ids_are_derived_from_session_and_run() -> None:
    traced = Traced()
    recorder = run_within(traced)
    first = started(recorder)
    (root,) = traced.named("invoke_agent")
    assert root.ids[:2] == (
        trace_id_of(first.session_id, first.run_id),
        span_id_of(first.session_id, first.run_id, first.seq),
    )
    request = next(event for event in recorder.events if isinstance(event, ModelRequestStarted))
    assert traced.named("chat")[0].ids[1] == span_id_of(request.session_id, request.run_id, request.seq)


def test_spans_of_others_keep_the_ids_that_their_provider_draws() -> None:
    traced = Traced()
    drawn = traced.provider.id_generator
    run_within(traced)
    with traced.provider.get_tracer("host").start_as_current_span("theirs"):
        pass
    with traced.provider.get_tracer("agentkit").start_as_current_span("theirs too"):
        pass
    assert traced.provider.id_generator is drawn
    assert len(traced.by_id()) == 6


def test_two_reporters_of_one_provider_derive_their_ids_both() -> None:
    traced, other = Traced(), Traced()
    second = TracingReporter(traced.provider, other.meters)
    with agent_of(second) as agent:
        agent.run("go")
    recorder = run_within(traced)
    first = started(recorder)
    assert traced.named("invoke_agent")[1].ids[0] == trace_id_of(first.session_id, first.run_id)


def test_of_reporters_that_share_a_provider_the_first_tells_a_run() -> None:
    traced = Traced()
    others = [TracingReporter(traced.provider, traced.meters) for _ in range(2)]
    usage = UsageReporter()
    leaf = agent("leaf", lambda _: says("deep", tokens=3), observers=[others[0]])
    above = agent(
        "above",
        [calls("leaf", prompt="dig"), says("done")],
        tools=[leaf.as_tool(description="Dig.")],
        observers=[traced.reporter, others[1], usage],
    )
    above.run("go")
    told = traced.by_id()
    assert len(told) == 6
    tokens = [span.attributes.get("gen_ai.usage.input_tokens", 0) for span in told.values()]
    assert sum(tokens) == usage.total.usage.total_input_tokens
    assert traced.total("gen_ai.client.token.usage", tokens="input") == (3, sum(tokens))
    assert all(reporter.account().is_complete and not reporter.open_spans for reporter in others)


def test_a_reporter_that_was_closed_keeps_no_run_from_another() -> None:
    traced = Traced()
    recorder = run_within(traced)
    traced.reporter.close()
    other = TracingReporter(traced.provider, traced.meters)
    for event in recorder.events:
        other.handle_event(event)
    assert traced.spans[:4] == traced.spans[4:]


def test_spans_stand_under_the_scope_of_this_distribution() -> None:
    traced = Traced()
    run_within(traced)
    assert {span.scope for span in traced.spans} == {("agentkit", scope_version(), SCHEMA_URL)}


@on_thread_and_loop
def test_with_another_implementation_of_the_api_the_tree_is_the_same_and_the_ids_are_its_own(
    play: Play,
) -> None:
    provider = ForeignProvider()
    reporter = TracingReporter(provider, Traced().meters)
    with agent_of(reporter) as agent:
        play(agent)
    root = next(span for span in provider.ended if span.name.startswith("invoke_agent"))
    assert [span.parent for span in provider.ended if span is not root] == [root.get_span_context()] * 3
    assert root.parent is None
    assert {span.get_span_context().trace_id for span in provider.ended} == {root.get_span_context().trace_id}
    assert reporter.open_spans == 0


# --- sampling


@pytest.mark.parametrize(
    ("sampler", "parent"), [(ALWAYS_OFF, None), (None, UNSAMPLED)], ids=["never", "by its parent"]
)
def test_of_a_run_that_is_not_sampled_nothing_is_told(sampler: Sampler | None, parent: str | None) -> None:
    traced = Traced(sampler=sampler)
    run_within(traced, **({} if parent is None else {TRACEPARENT: parent}))
    assert traced.spans == []
    assert traced.reporter.open_spans == 0
    assert traced.reporter.account().is_complete


def test_a_sample_of_traces_is_of_whole_traces_and_the_same_when_they_are_told_again() -> None:
    traced, again = (Traced(sampler=ParentBased(TraceIdRatioBased(0.5))) for _ in range(2))
    events = []
    for _ in range(24):
        events += run_within(traced).events
    traces = [span.ids[0] for span in traced.spans]
    assert 0 < len(set(traces)) < 24
    assert {traces.count(each) for each in traces} == {4}
    assert again.told(events).spans == traced.spans


def test_where_the_sdk_is_switched_off_nothing_is_told_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traced = Traced()
    run_within(traced)
    assert traced.spans == []
    assert traced.reporter.account().is_complete


def test_what_arrives_at_an_endpoint_is_what_was_told() -> None:
    with OtlpReceiver() as receiver:
        exporter = OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces")
        traced = Traced(SimpleSpanProcessor(exporter))
        run_within(traced, **{TRACEPARENT: PARENT})
        exporter.shutdown()  # type: ignore[no-untyped-call] # the exporter has it so
    told = traced.by_id()
    assert len(receiver.spans) == len(told) == 4
    for arrived in receiver.spans:
        span = told[int.from_bytes(arrived.span_id)]
        assert int.from_bytes(arrived.trace_id) == span.ids[0]
        assert int.from_bytes(arrived.parent_span_id) == (span.parent or (0, 0))[1]
        assert (arrived.name, attributes_of(arrived)) == (span.name, span.attributes)
        assert (arrived.start_time_unix_nano, arrived.end_time_unix_nano) == span.times


class Watching(SpanProcessor):
    """Sees when spans are let go."""

    def __init__(self) -> None:
        self.seen: list[weakref.ref[Span]] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        del parent_context
        self.seen.append(weakref.ref(span))


def test_spans_that_are_over_are_let_go() -> None:
    watching = Watching()
    reporter = TracingReporter(TracerProvider(shutdown_on_exit=False))
    reporter.tracer_provider.add_span_processor(watching)  # type: ignore[attr-defined] # the SDK's
    with agent_of(reporter) as agent:
        agent.run("go")
        gc.collect()
        assert len(watching.seen) == 4
        assert [each() for each in watching.seen] == [None] * 4
