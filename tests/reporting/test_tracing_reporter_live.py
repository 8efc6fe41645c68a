"""Spans that are made while an agent runs equal those that are made of its log, span by span, in every kind of run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ObserverError
from agentkit_loop.events import AgentEvent, ToolExecutionStarted, ToolResultReceived
from agentkit_loop.observers import FailurePolicy, Observer
from agentkit_loop.testing import EventRecorder
from agentkit_loop.usage import Usage
from agentkit_reporting.tracing.log_spans import spans_of
from tests.loop.crash_runs import SCENARIOS, World, run
from tests.loop.families import agent, both, calls, calls_each, says
from tests.loop.families import run as run_family
from tests.loop.scripts import Script, run_async, run_sync, scripts
from tests.reporting.sink_runs import PLAYS, WRAPS, Play, agent_of, on_thread_and_loop
from tests.reporting.traced import Live, Raising, Shape, Traced, watched

quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def assert_equal(live: Live, **options: Any) -> dict[int, Shape]:
    """Close what watched; the spans have to be those of the log, and a tree. Return them by id."""
    told = live.ended().traced.by_id()
    assert told == live.exported(**options).by_id()
    assert live.traced.reporter.open_spans == 0
    for span in told.values():
        if span.parent is not None and not span.parent[3]:  # made here
            assert span.parent[0] == span.ids[0]
            assert span.parent[1] in told
    return told


@pytest.mark.parametrize("name", SCENARIOS)
def test_spans_of_each_kind_of_run_equal_those_of_its_log(name: str) -> None:
    live = Live()
    run(watched(SCENARIOS[name], *live.observers))
    told = assert_equal(live)
    assert all(span.scope[0] == "agentkit" for span in told.values())
    operations = [span.name.split()[0] for span in told.values()]
    assert operations.count("invoke_agent") >= 1
    assert set(operations) <= {"invoke_agent", "chat", "execute_tool"}


@given(script=scripts)
@quick
def test_spans_of_random_runs_equal_those_of_their_logs(script: Script) -> None:
    for play in (run_sync, run_async):
        live = Live()
        play(script, *live.observers)
        assert_equal(live)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
@on_thread_and_loop
def test_behind_each_adapter_the_spans_are_the_same(play: Play, wrap: Callable[[Observer], Observer]) -> None:
    live = Live()
    reporter, log = live.observers
    with agent_of(wrap(reporter), log) as agent_in_use:
        play(agent_in_use)
    assert len(assert_equal(live)) == 4


def test_a_log_without_previews_gives_the_same_spans() -> None:
    live = Live(deltas="none")
    run(watched(SCENARIOS["tools"], *live.observers))
    assert_equal(live)


@both
def test_sub_agents_of_any_depth_are_in_the_trace_of_the_first_run(on_loop: bool) -> None:
    live = Live()
    leaf = agent("leaf", lambda _: says("deep", tokens=3)).as_tool(description="Dig.")
    middle = agent("middle", [calls("leaf", prompt="dig"), says("done")], tools=[leaf])
    above = agent(
        "above",
        [calls_each(middle={"prompt": "dig"}, leaf={"prompt": "too"}), says("all")],
        tools=[middle.as_tool(description="Have it dug."), leaf],
        observers=live.observers,
    )
    run_family(above, on_loop=on_loop)
    told = assert_equal(live)
    assert len({span.ids[0] for span in told.values()}) == 1
    roots = [span for span in told.values() if span.parent is None or span.parent[3]]
    assert len(roots) == 1
    for span in told.values():
        if span.name in {"invoke_agent leaf", "invoke_agent middle"}:
            assert span.parent is not None
            assert told[span.parent[1]].name == f"execute_tool {span.name.split()[1]}"
    assert sum(span.name == "invoke_agent leaf" for span in told.values()) == 2


def test_a_fork_and_what_is_resumed_are_runs_of_their_own() -> None:
    live, world = Live(), World()
    run(watched(SCENARIOS["pending"], *live.observers), world)
    with world.agent(["forked"], *live.observers).fork(world.events) as driver:
        driver.run("go on")
    told = assert_equal(live)
    assert sum(span.name.startswith("invoke_agent") for span in told.values()) == 3


def test_a_hand_written_loop_has_the_same_spans_live_and_told() -> None:
    live = Live()
    emitter = EventEmitter(live.observers)
    with emitter.run(agent_name="mine", model="claude-sonnet-5-5") as scope:
        scope.input("go")
        scope.record_model_call(usage=Usage(input_tokens=7, output_tokens=2), duration_ms=1_500.0)
        scope.record_tool_call("look", {}, "seen", duration_ms=250.0)
    told = assert_equal(live)
    assert {span.name.split()[0] for span in told.values()} == {"invoke_agent", "chat", "execute_tool"}


def test_a_clock_that_drifts_begins_no_call_before_it_began_live() -> None:
    """As a log is exported: by a fold that knows the duration when it makes the span, which a live one has begun."""
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(agent_name="above", model="m") as scope:
        scope.record_tool_call("wait", {}, "waited")  # so that the run has begun before
        with scope.tool_call("delegate", {}) as call:
            with scope.child(agent_name="below", model="m"):
                pass
            call.result("done")
    elapsed: dict[str, float] = {}
    told: list[AgentEvent] = []
    for event in recorder.events:
        if isinstance(event, ToolExecutionStarted):
            elapsed[event.call_id] = event.timestamp.timestamp()
        if isinstance(event, ToolResultReceived):
            event = attrs.evolve(  # noqa: PLW2901 - measured by a clock that is ahead
                event, duration_ms=1.5e3 * (event.timestamp.timestamp() - elapsed[event.call_id])
            )
        told.append(event)
    exported = {each.span.span_id: each.span for each in spans_of(told)}
    live = Traced().told(told).by_id()
    assert {span_id: span.times for span_id, span in live.items()} == {
        span_id: (span.start_ns, span.end_ns) for span_id, span in exported.items()
    }


@on_thread_and_loop
def test_under_fail_fast_a_processor_that_raises_ends_the_run_and_leaves_no_span_open(play: Play) -> None:
    broken = Raising()
    traced = Traced(broken)
    recorder = EventRecorder()
    agent_in_use = agent_of(traced.reporter, recorder, failure_policy=FailurePolicy.FAIL_FAST)
    with pytest.raises(ObserverError, match="TracingReporter"):
        play(agent_in_use)
    assert recorder.types[-1] == "run_failed"
    agent_in_use.close()  # it was told nothing more: what it had open is ended here
    assert traced.reporter.open_spans == 0
    assert broken.raised >= 1


def test_a_reporter_that_is_shared_by_runs_has_a_trace_for_each() -> None:
    live = Live()
    with agent_of(*live.observers, runs=3) as agent_in_use:
        for play in (*PLAYS.values(), PLAYS["sync"]):
            play(agent_in_use)
    told = assert_equal(live)
    assert len({span.ids[0] for span in told.values()}) == 3
