"""Metrics of a TracingReporter: each request's tokens once, durations as they were measured, and the span's context."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import (
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.testing import EventRecorder
from agentkit_loop.usage import Usage
from agentkit_reporting import JsonlReporter, TracingReporter, UsageReporter
from agentkit_reporting.tracing.metrics import HISTOGRAMS
from agentkit_reporting.tracing.scope import SCHEMA_URL
from tests.loop.crash_runs import SCENARIOS, run
from tests.loop.scripts import Script, run_sync, scripts
from tests.reporting.sink_runs import Play, agent_of, on_thread_and_loop
from tests.reporting.traced import Live, Traced, watched

TOKENS = "gen_ai.client.token.usage"
REQUESTS = "gen_ai.client.operation.duration"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
TOOLS = "gen_ai.execute_tool.duration"
RUNS = "gen_ai.invoke_agent.duration"

quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def assert_tokens_equal(traced: Traced, usage: UsageReporter) -> None:
    told = usage.total.usage
    counts = {"input": told.total_input_tokens, "output": told.output_tokens}
    for kind, count in counts.items():
        assert traced.total(TOKENS, tokens=kind)[1] == (count or 0)


def durations(events: list[AgentEvent], *kinds: type[AgentEvent]) -> list[float]:
    found = [event.duration_ms for event in events if isinstance(event, kinds)]  # type: ignore[attr-defined] # these have it
    return [each / 1000 for each in found if each is not None]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_tokens_of_each_request_are_recorded_once(name: str) -> None:
    live, usage = Live(), UsageReporter()
    run(watched(SCENARIOS[name], *live.observers, usage))
    live.ended()
    assert_tokens_equal(live.traced, usage)
    again = live.exported()
    for kind in HISTOGRAMS:
        assert again.total(kind.name) == live.traced.total(kind.name)


@given(script=scripts)
@quick
def test_the_tokens_of_random_runs_are_those_of_a_usage_reporter(script: Script) -> None:
    traced, usage = Traced(), UsageReporter()
    run_sync(script, traced.reporter, usage)
    traced.reporter.close()
    assert_tokens_equal(traced, usage)


@on_thread_and_loop
def test_durations_are_those_of_the_events(play: Play) -> None:
    traced, recorder = Traced(), EventRecorder()
    with agent_of(traced.reporter, recorder) as agent:
        play(agent)
    events = recorder.events
    for metric, kinds in {
        REQUESTS: (ModelRequestFinished, ModelRequestFailed),
        TOOLS: (ToolResultReceived,),
        RUNS: (RunFinished,),
    }.items():
        wanted = durations(events, *kinds)
        count, seconds = traced.total(metric)
        assert count == len(wanted)
        assert seconds == pytest.approx(sum(wanted))
    first = [event.first_content_ms for event in events if isinstance(event, ModelRequestFinished)]
    assert traced.total(FIRST_CHUNK)[1] == pytest.approx(sum(each or 0 for each in first) / 1000)


def test_units_buckets_and_scope_are_those_of_the_conventions() -> None:
    traced = Traced()
    with agent_of(traced.reporter) as agent:
        agent.run("go")
    told = traced.reader.get_metrics_data()
    assert told is not None
    (scope,) = told.resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.schema_url) == ("agentkit", SCHEMA_URL)
    for metric in scope.metrics:
        kind = next(each for each in HISTOGRAMS if each.name == metric.name)
        assert metric.unit == kind.unit == ("{token}" if metric.name == TOKENS else "s")
    for name, points in traced.measured().items():
        assert {point.explicit_bounds for point in points} == {
            next(each.buckets for each in HISTOGRAMS if each.name == name)
        }
    by_name = {kind.name: kind.buckets for kind in HISTOGRAMS}
    assert set(by_name) == {TOKENS, REQUESTS, FIRST_CHUNK, TOOLS, RUNS}
    assert (by_name[TOKENS][0], by_name[TOKENS][-1], len(by_name[TOKENS])) == (1, 67_108_864, 14)
    for name in (REQUESTS, FIRST_CHUNK, TOOLS):
        assert (by_name[name][0], by_name[name][6], by_name[name][-1]) == (0.01, 0.64, 81.92)
    assert (by_name[RUNS][0], by_name[RUNS][-1], len(by_name[RUNS])) == (0.1, 409.6, 13)


def test_attributes_name_the_operation_the_model_the_tool_and_the_agent() -> None:
    traced = Traced()
    with agent_of(traced.reporter, name="fixer") as agent:
        agent.run("go")
    (request,) = traced.measured()[REQUESTS]
    asked = dict(request.attributes or {})
    assert asked["gen_ai.operation.name"] == "chat"
    assert asked["gen_ai.request.model"] == asked["gen_ai.response.model"] == "scripted"
    assert asked["gen_ai.provider.name"]
    (work,) = traced.measured()[TOOLS]
    assert dict(work.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "work",
        "gen_ai.tool.type": "function",
        "gen_ai.agent.name": "fixer",
    }
    (whole,) = traced.measured()[RUNS]
    assert {"gen_ai.agent.name": "fixer"}.items() <= dict(whole.attributes or {}).items()


def test_names_that_come_from_others_are_short_and_on_one_line() -> None:
    """One that cannot be written as UTF-8 would be missing in every export."""
    traced, recorder = Traced(), EventRecorder()
    with agent_of(recorder) as agent:
        agent.run("go")
    bad = "a\ud800\n\x1b[31m" + "b" * 10_000
    metadata = {"provider": bad, "agent_id": bad, "agent_version": bad}
    kinds: dict[type[AgentEvent], dict[str, Any]] = {
        RunStarted: {"agent_name": bad, "model": bad, "metadata": metadata},
        ModelRequestStarted: {"model": bad},
        ModelRequestFinished: {"response_model": bad},
        ToolExecutionStarted: {"name": bad},
    }
    traced.told(attrs.evolve(event, **kinds.get(type(event), {})) for event in recorder.events)
    points = [dict(point.attributes or {}) for told in traced.measured().values() for point in told]
    texts = [
        value for told in (*points, *(span.attributes for span in traced.spans)) for value in told.values()
    ]
    assert len(points) == 4
    assert all(text.isprintable() and len(text) <= 256 for text in texts if isinstance(text, str))


@pytest.mark.parametrize(
    ("name", "metric", "error"),
    [
        ("retries", REQUESTS, "overloaded"),
        ("refused", REQUESTS, "invalid_request"),
        ("tools", TOOLS, "ValueError"),
        ("cut stream", REQUESTS, "stream_cut"),
    ],
)
def test_failures_say_their_class(name: str, metric: str, error: str) -> None:
    live = Live()
    run(watched(SCENARIOS[name], *live.observers))
    assert error in {(each.attributes or {}).get("error.type") for each in live.traced.measured()[metric]}
    assert None in {(each.attributes or {}).get("error.type") for each in live.traced.measured()[metric]}


def test_a_run_that_fails_says_so_as_its_span_does() -> None:
    live, recorder = Live(), EventRecorder()
    run(watched(SCENARIOS["refused"], *live.observers, recorder))
    (failed,) = {event.error.type for event in recorder.events if isinstance(event, RunFailed)}
    points = {(each.attributes or {}).get("error.type"): each.count for each in live.traced.measured()[RUNS]}
    spans = [span.attributes.get("error.type") for span in live.traced.named("invoke_agent")]
    assert points == {each: spans.count(each) for each in spans}
    assert failed in points


def test_exemplars_name_the_span_that_was_measured() -> None:
    traced = Traced()
    run(watched(SCENARIOS["tools"], traced.reporter))
    measured = traced.measured()
    operations = {TOKENS: "chat", REQUESTS: "chat", TOOLS: "execute_tool", RUNS: "invoke_agent"}
    for metric, operation in operations.items():
        found = {(each.trace_id, each.span_id) for point in measured[metric] for each in point.exemplars}
        assert found
        assert found <= {span.ids[:2] for span in traced.named(operation)}


def test_reporters_of_one_provider_add_up(caplog: pytest.LogCaptureFixture) -> None:
    traced = Traced()
    other = TracingReporter(traced.provider, traced.meters)
    for reporter in (traced.reporter, other):
        with agent_of(reporter) as agent:
            agent.run("go")
    assert traced.total(RUNS)[0] == 2
    assert traced.total(REQUESTS)[0] == 4
    assert caplog.records == []


def test_without_any_provider_nothing_is_told_and_nothing_is_lost() -> None:
    made = [TracingReporter() for _ in range(3)]
    with agent_of(*made) as agent:
        agent.run("go")
    assert [reporter.account().is_complete for reporter in made] == [True] * 3
    assert {reporter.open_spans for reporter in made} == {0}


def test_what_is_switched_off_records_nothing() -> None:
    traced = Traced(metrics=False)
    with agent_of(traced.reporter) as agent:
        agent.run("go")
    assert traced.reader.get_metrics_data() is None
    assert len(traced.spans) == 4


def test_a_request_that_never_ends_counts_when_its_run_ends_or_the_reporter_is_closed() -> None:
    def begun(run_id: str) -> list[AgentEvent]:
        recorder = EventRecorder()
        emitter = EventEmitter([recorder], session_id=f"of {run_id}", run_id=run_id)
        emitter.emit(RunStarted(agent_name="a", model="m", system=None, tools=(), parameters={}, items=()))
        emitter.emit(
            ModelRequestStarted(
                request_id="r", attempt=1, purpose="turn", model="m", message_count=1, digests={}
            )
        )
        emitter.emit(UsageUpdated(request_id="r", model="m", usage=Usage(input_tokens=5), final=False))
        emitter.emit(UsageUpdated(request_id="r", model="m", usage=Usage(input_tokens=6), final=False))
        return recorder.events

    traced = Traced().told(begun("one") + begun("two"))
    assert traced.total(TOKENS, tokens="input") == (2, 12)
    assert traced.total(TOKENS, tokens="output") == (0, 0)
    assert traced.reporter.open_spans == 0


def test_of_a_run_that_is_over_or_was_never_begun_nothing_is_kept_or_counted() -> None:
    recorder = EventRecorder()
    run(watched(SCENARIOS["tools"], recorder))
    traced = Traced().told([*recorder.events, *recorder.events[1:]])
    usage = UsageReporter()
    for event in recorder.events:
        usage.handle_event(event)
    assert_tokens_equal(traced, usage)
    assert Traced().told(recorder.events[1:]).measured() == {}


def test_what_was_told_at_once_and_measured_by_nobody_has_no_duration() -> None:
    traced = Traced()
    with EventEmitter([traced.reporter]).run(agent_name="mine", model="m") as scope:
        with scope.told_together():
            scope.record_tool_call("look", {}, "seen")
        scope.record_tool_call("see", {}, "seen", duration_ms=250.0)
    (point,) = [
        each for each in traced.measured()[TOOLS] if (each.attributes or {})["gen_ai.tool.name"] == "see"
    ]
    assert (point.count, point.sum) == (1, 0.25)
    assert all(each.min > 0 for each in traced.measured()[TOOLS])


def test_a_call_that_never_started_is_not_measured() -> None:
    live, recorder = Live(), EventRecorder()
    run(watched(SCENARIOS["denied"], *live.observers, recorder))
    calls = {event.call_id for event in recorder.events if isinstance(event, ToolExecutionStarted)}
    assert live.traced.total(TOOLS)[0] <= len(calls)


def test_without_a_meter_provider_nothing_is_measured_where_spans_have_a_provider_of_their_own() -> None:
    live, recorder = Traced(), EventRecorder()
    with agent_of(live.reporter, recorder) as agent:
        agent.run("go")
    code = (  # the global provider cannot be set twice in a process
        "import sys\n"
        "from opentelemetry import metrics, trace\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from agentkit_reporting import TracingReporter, read_events\n"
        "reader = InMemoryMetricReader()\n"
        "metrics.set_meter_provider(MeterProvider([reader]))\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "events = list(read_events(sys.stdin.buffer))\n"
        "for given in ((), (TracerProvider(),)):\n"
        "    with TracingReporter(*given) as reporter:\n"
        "        for event in events:\n"
        "            reporter.handle_event(event)\n"
        "told = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics\n"
        f"print([sum(p.count for p in each.data.data_points) for each in told if each.name == {RUNS!r}])\n"
    )
    log = io.BytesIO()
    written = JsonlReporter(log)
    for event in recorder.events:
        written.handle_event(event)
    written.close()
    done = subprocess.run([sys.executable, "-c", code], input=log.getvalue(), capture_output=True, check=True)
    assert done.stdout == b"[1]\n"


def test_usage_that_is_told_of_a_request_that_is_over_or_unknown_is_not_counted_once_more() -> None:
    traced, recorder = Traced(), EventRecorder()
    with agent_of(recorder) as agent:
        agent.run("go")
    events = recorder.events
    last = next(each for each in reversed(events) if isinstance(each, UsageUpdated))
    at = next(n for n, each in reversed(list(enumerate(events))) if isinstance(each, ModelRequestFinished))
    unknown = attrs.evolve(last, request_id="unknown")
    again = Traced().told(events)
    traced.told([*events[: at + 1], last, unknown, *events[at + 1 :]])
    for kind in ("input", "output"):
        assert traced.total(TOKENS, tokens=kind) == again.total(TOKENS, tokens=kind)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"denied": True}, "denied"),
        ({"interrupted": True}, "interrupted"),
        ({"error": None}, "tool_error"),
        ({"error": None, "output": "The tool did not finish within 3 s."}, "timeout"),
    ],
    ids=["denied", "interrupted", "plain", "timeout"],
)
def test_a_call_fails_in_metrics_by_the_name_that_its_span_has(changed: dict[str, Any], named: str) -> None:
    recorder = EventRecorder()
    with agent_of(recorder) as agent:
        agent.run("go")
    traced = Traced()
    traced.told(
        attrs.evolve(event, is_error=True, **changed) if isinstance(event, ToolResultReceived) else event
        for event in recorder.events
    )
    (call,) = traced.measured()[TOOLS]
    (span,) = traced.named("execute_tool")
    assert ((call.attributes or {})["error.type"], span.attributes["error.type"]) == (named, named)


def test_the_tokens_of_a_run_that_another_goes_on_from_count_though_its_end_is_missing() -> None:
    def begun(run_id: str, seq: int, **fields: Any) -> list[AgentEvent]:
        asked = ModelRequestStarted(
            request_id=f"of-{run_id}", attempt=1, purpose="turn", model="m", message_count=1, digests={}
        )
        used = UsageUpdated(request_id=f"of-{run_id}", model="m", usage=Usage(input_tokens=5))
        start = RunStarted(agent_name="a", model="m", **fields)
        return [
            attrs.evolve(event, session_id="s", run_id=run_id, seq=at)
            for at, event in enumerate([start, asked, used], seq)
        ]

    traced, usage = Traced(), UsageReporter()
    for event in [*begun("first", 1), *begun("second", 4, resumed_run="first")]:
        traced.reporter.handle_event(event)
        usage.handle_event(event)
        if event.seq == 4:
            assert traced.total(TOKENS, tokens="input")[1] == 5
    traced.reporter.close()
    assert traced.total(TOKENS, tokens="input")[1] == usage.total.usage.total_input_tokens == 10
