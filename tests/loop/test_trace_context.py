"""A run records in whose trace it stands: of the current span, the environment, the host, the call that started it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from agentkit_loop import Agent, EventEmitter, RunContext, ScriptedModel, tool
from agentkit_loop.content import Parent
from agentkit_loop.events import AgentEvent, CustomEvent, RunStarted, ToolExecutionStarted
from agentkit_loop.replaying import replay
from agentkit_loop.testing import EventRecorder
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.trace_context import (
    SpanIds,
    SpanPlace,
    call_span_id,
    place_of,
    run_span_id,
    span_id_of,
    trace_id_of,
    traced,
)
from agentkit_reporting.testing.normal_form import normal_form
from tests.loop.families import both, calls, run, says
from tests.reporting.folded_spans import folded

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
VENDORS = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def _no_trace_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACEPARENT", "TRACESTATE"):
        monkeypatch.delenv(name, raising=False)


def starts(events: list[AgentEvent]) -> list[RunStarted]:
    return [event for event in events if isinstance(event, RunStarted)]


def metadata_of(act: Callable[[Agent], object], **options: Any) -> dict[str, Any]:
    """Return what the one run told that `act` makes of an agent."""
    recorder = EventRecorder()
    act(Agent(ScriptedModel(["hi", "hi"]), observers=[recorder], **options))
    (start,) = starts(recorder.events)
    return start.metadata


def ask(agent: Agent) -> None:
    agent.run("go")


def aask(agent: Agent) -> None:
    asyncio.run(agent.arun("go"))


def by_hand(agent: Agent) -> None:
    with EventEmitter(agent.observers).run(agent_name="by hand"):
        pass


every_loop = pytest.mark.parametrize("act", [ask, aask, by_hand], ids=["sync", "async", "by-hand"])


def current(context: SpanContext) -> Any:
    return current_span(NonRecordingSpan(context))


def current_span(span: trace.Span) -> Any:
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def context_of(traceparent: str, state: str = "") -> SpanContext:
    place = place_of({"traceparent": traceparent})
    assert place is not None
    return SpanContext(
        place.trace_id,
        place.span_id,
        is_remote=True,
        trace_flags=TraceFlags(place.flags),
        trace_state=TraceState.from_header([state]),
    )


@every_loop
def test_a_run_is_the_child_of_the_span_that_is_current_where_it_starts(act: Callable[[Agent], None]) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("request") as span:
        told = metadata_of(act)
    place = place_of(told)
    assert place is not None
    assert (place.trace_id, place.span_id) == (
        span.get_span_context().trace_id,
        span.get_span_context().span_id,
    )
    assert place.flags & 1
    assert set(told) == {"traceparent"}


@every_loop
def test_a_current_span_that_is_not_sampled_says_so_and_its_state_comes_along(
    act: Callable[[Agent], None],
) -> None:
    with current(context_of(UNSAMPLED, VENDORS)):
        assert metadata_of(act) == {"traceparent": UNSAMPLED, "tracestate": VENDORS}


@every_loop
def test_without_a_current_span_the_environment_says_it(
    act: Callable[[Agent], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", GIVEN)
    monkeypatch.setenv("TRACESTATE", VENDORS)
    assert metadata_of(act) == {"traceparent": GIVEN, "tracestate": VENDORS}
    with current(context_of(OTHER)):
        assert metadata_of(act) == {"traceparent": OTHER}


@pytest.mark.parametrize(
    "value", ["", "no", GIVEN.upper(), "ff" + GIVEN[2:], GIVEN + "-x", "00-" + "0" * 32], ids=repr
)
def test_an_environment_that_names_no_span_is_not_recorded(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", value)
    monkeypatch.setenv("TRACESTATE", VENDORS)
    assert metadata_of(ask) == {}


@every_loop
def test_nothing_around_is_nothing_recorded(act: Callable[[Agent], None]) -> None:
    assert metadata_of(act) == {}


def started_with(**metadata: object) -> dict[str, Any]:
    return metadata_of(lambda agent: agent.run("go", metadata=metadata))


def test_the_hosts_own_wins_and_an_invalid_one_begins_a_trace_of_its_own() -> None:
    with current(context_of(OTHER)):
        assert started_with(traceparent=GIVEN, phase="plan") == {"traceparent": GIVEN, "phase": "plan"}
        assert started_with(traceparent="", phase="plan", tracestate=VENDORS) == {"phase": "plan"}
        assert started_with(traceparent=7) == {}
        assert started_with(traceparent=None) == {"traceparent": OTHER}, "a header that did not come"


def test_a_newer_form_is_recorded_as_the_form_that_we_know() -> None:
    assert started_with(traceparent="0a" + GIVEN[2:] + "-more-of-it") == {"traceparent": GIVEN}


def test_a_context_of_runs_may_carry_the_parent_for_all_below_it() -> None:
    with current(context_of(OTHER)), RunContext.start({"traceparent": GIVEN}):
        told = metadata_of(ask)
    assert told["traceparent"] == GIVEN


class _Foreign(NonRecordingSpan):
    """A span of an implementation that breaks the rules."""

    def get_span_context(self) -> SpanContext:
        raise RuntimeError("no context")


def test_a_current_span_that_fails_is_no_failure_of_the_run() -> None:
    with current_span(_Foreign(context_of(GIVEN))):
        assert metadata_of(ask) == {}


def test_another_threads_span_is_not_taken() -> None:
    told: list[dict[str, Any]] = []
    with current(context_of(GIVEN)):
        thread = threading.Thread(target=lambda: told.append(metadata_of(ask)))
        thread.start()
        thread.join()
    assert told == [{}]


@pytest.mark.parametrize(
    "state",
    [
        "",
        "a",
        "a=1,a=2",
        "A=1",
        "a= ",
        "a=\n",
        "a=ü",
        ",".join(f"k{n}=1" for n in range(33)),
        "a=" + "x" * 257,
        "x" * 3000,
    ],
    ids=lambda state: repr(state[:20]),
)
def test_a_state_that_breaks_the_rules_is_dropped_and_the_parent_kept(state: str) -> None:
    assert traced({"traceparent": GIVEN, "tracestate": state}) == {"traceparent": GIVEN}


def test_a_state_keeps_its_members_in_their_order() -> None:
    given = " rojo=1 ,, t@v=a b,congo=t61rcWkgMzE\t"
    told = traced({"traceparent": GIVEN, "tracestate": given})
    assert told["tracestate"] == "rojo=1,t@v=a b,congo=t61rcWkgMzE"
    assert TraceState.from_header([str(told["tracestate"])]).to_header() == told["tracestate"]


HEADERS = st.text() | st.from_regex(
    r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True
)
MEMBERS = st.builds("{}={}".format, st.text("ab1@", min_size=1), st.text(" =-~", max_size=3))
VALUES = HEADERS | st.none() | st.integers() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())


@given(VALUES, VALUES | st.lists(MEMBERS, max_size=40).map(",".join))
def test_no_header_raises_and_what_is_recorded_reads_back_as_itself(parent: Any, state: Any) -> None:
    told = traced({"traceparent": parent, "tracestate": state, "kept": 1})
    assert told["kept"] == 1
    place = place_of(told)
    assert (place is None) == ("traceparent" not in told)
    assert place == place_of({"traceparent": parent, "tracestate": state})
    assert traced(told) == told
    if place is not None:
        assert set(place.carried().items()) == set(told.items()) - {("kept", 1)}


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_every_place_is_written_and_read_back(trace_id: int, span_id: int, flags: int) -> None:
    place = SpanPlace(trace_id=trace_id, span_id=span_id, flags=flags)
    assert place_of(place.carried()) == place


# --- what a call starts


def three_agents() -> tuple[Agent, EventRecorder]:
    """Return an agent that asks an agent that asks a third one."""
    recorder = EventRecorder()
    third = Agent(ScriptedModel(["done"]), name="third")
    second = Agent(
        ScriptedModel([calls("third", prompt="do"), says("done")]),
        name="second",
        tools=[third.as_tool(description="x")],
    )
    first = Agent(
        ScriptedModel([calls("second", prompt="do"), says("done")]),
        name="first",
        tools=[second.as_tool(description="x")],
        observers=[recorder],
    )
    return first, recorder


@both
@pytest.mark.parametrize("around", [None, UNSAMPLED], ids=["root", "below-a-span"])
def test_a_sub_agent_is_below_its_call_in_the_trace_of_the_first_run(
    on_loop: bool, around: str | None
) -> None:
    agent, recorder = three_agents()
    with current(context_of(around, VENDORS) if around else trace.INVALID_SPAN_CONTEXT):
        run(agent, on_loop=on_loop)
    first, second, third = starts(recorder.events)
    place = place_of(first.metadata)
    trace_id = trace_id_of(first.session_id, first.run_id) if place is None else place.trace_id
    asked = [event for event in recorder.events if isinstance(event, ToolExecutionStarted)]
    for child, call in zip((second, third), asked, strict=True):
        found = place_of(child.metadata)
        assert found == SpanPlace(
            trace_id=trace_id,
            span_id=call_span_id(call.session_id, call.run_id, call.call_id),
            flags=1 if place is None else 0,
            state=None if place is None else VENDORS,
        )


def test_the_call_wins_over_what_a_context_of_runs_carries() -> None:
    agent, recorder = three_agents()
    with RunContext.start({"traceparent": GIVEN}):
        agent.run("go")
    first, second, third = (place_of(start.metadata) for start in starts(recorder.events))
    assert first
    assert second
    assert third
    assert first.trace_id == second.trace_id == third.trace_id
    assert len({first.span_id, second.span_id, third.span_id}) == 3


def test_a_run_by_hand_inside_of_a_tool_is_below_that_call() -> None:
    recorder = EventRecorder()

    @tool
    def look(context: ToolContext) -> str:
        """Look."""
        parent = Parent(session_id=context.session_id, run_id=context.run_id, call_id=context.call_id)
        with EventEmitter([recorder]).run(agent_name="inner", parent=parent):
            return "seen"

    agent = Agent(ScriptedModel([calls("look"), says("done")]), tools=[look], observers=[recorder])
    agent.run("go", metadata={"traceparent": UNSAMPLED})
    outer, inner = starts(recorder.events)
    assert inner.parent is not None
    found = place_of(inner.metadata)
    assert found == SpanPlace(
        trace_id=int(UNSAMPLED[3:35], 16),
        span_id=call_span_id(outer.session_id, outer.run_id, inner.parent.call_id),
        flags=0,
    )


def test_children_of_a_run_by_hand_are_below_their_call_or_below_the_run() -> None:
    recorder = EventRecorder()
    emitter = EventEmitter([recorder])
    emitter.emit(CustomEvent(name="before", data={}))
    with emitter.run(metadata={"traceparent": GIVEN}) as outer:
        with outer.child(agent_name="beside"):
            pass
        with outer.tool_call("look") as call, outer.child(agent_name="within") as within, within.child():
            pass
    start, beside, inside, below = starts(recorder.events)
    places = [place_of(each.metadata) for each in (beside, inside, below)]
    trace_id = int(GIVEN[3:35], 16)
    assert places == [
        SpanPlace(trace_id=trace_id, span_id=run_span_id(start.session_id, start.run_id)),
        SpanPlace(trace_id=trace_id, span_id=call_span_id(start.session_id, start.run_id, call.call_id)),
        SpanPlace(trace_id=trace_id, span_id=run_span_id(inside.session_id, inside.run_id)),
    ]
    assert start.seq > 1


def test_a_parent_in_another_process_is_taken_to_stand_in_the_same_trace() -> None:
    parent = Parent(session_id="s", run_id="r", call_id="c")
    for around, trace_id in ((OTHER, int(OTHER[3:35], 16)), (None, trace_id_of("s", "r"))):
        recorder = EventRecorder()
        with (
            current(context_of(around) if around else trace.INVALID_SPAN_CONTEXT),
            EventEmitter([recorder]).run(parent=parent),
        ):
            pass
        (start,) = starts(recorder.events)
        found = place_of(start.metadata)
        assert found == SpanPlace(trace_id=trace_id, span_id=call_span_id("s", "r", "c"))


def spans_of(events: list[AgentEvent]) -> dict[tuple[str, int], tuple[int, int | None]]:
    """Return trace and parent of each span, by session and id."""
    spans = folded(events)
    return {(span.session_id, span.span_id): (span.trace_id, span.parent_id) for span in spans}


@both
@pytest.mark.parametrize("around", [None, UNSAMPLED], ids=["root", "below-a-span"])
def test_the_log_of_each_session_alone_gives_the_same_tree_as_all_together(
    on_loop: bool, around: str | None
) -> None:
    agent, recorder = three_agents()
    with current(context_of(around) if around else trace.INVALID_SPAN_CONTEXT):
        run(agent, on_loop=on_loop)
    together = spans_of(recorder.events)
    alone = {}
    for session_id in {event.session_id for event in recorder.events}:
        alone.update(spans_of([event for event in recorder.events if event.session_id == session_id]))
    assert alone == together
    assert len({trace_id for trace_id, _ in together.values()}) == 1
    known = {span_id for _, span_id in together}
    outside = [parent for _, parent in together.values() if parent not in known]
    assert outside == [int(around[36:52], 16) if around else None]


def test_what_the_host_says_of_a_run_by_hand_wins_over_its_parent() -> None:
    parent = Parent(session_id="s", run_id="r", call_id="c")
    for value, told in ((GIVEN, GIVEN), ("", None)):
        recorder = EventRecorder()
        with (
            current(context_of(OTHER)),
            RunContext.start({"traceparent": OTHER}),
            EventEmitter([recorder]).run(parent=parent, metadata={"traceparent": value}),
        ):
            pass
        (start,) = starts(recorder.events)
        assert start.metadata.get("traceparent") == told


def test_the_parent_of_a_run_by_hand_wins_over_a_context_of_runs() -> None:
    recorder = EventRecorder()
    with RunContext.start({"traceparent": GIVEN}), EventEmitter([recorder]).run() as outer, outer.child():
        pass
    above, below = (place_of(start.metadata) for start in starts(recorder.events))
    assert above
    assert below
    assert above.trace_id == below.trace_id
    assert above.span_id != below.span_id


# --- what goes on, and what is compared


def test_a_resume_and_a_fork_stand_where_they_are_made_and_not_where_the_old_run_stood() -> None:
    recorder = EventRecorder()
    agent = Agent(ScriptedModel(["one", "two", "three", "four"]), observers=[recorder])
    agent.run("go", metadata={"traceparent": GIVEN, "tracestate": VENDORS})
    past = list(recorder.events)
    recorder.events.clear()
    with agent.resume(past) as driver:
        driver.run("more")
    with current(context_of(OTHER)):
        with agent.resume([*past, *recorder.events]) as driver:
            driver.run("more")
        agent.fork(past).close()
    assert [start.metadata.get("traceparent") for start in starts(recorder.events)] == [None, OTHER, OTHER]
    assert not any("tracestate" in start.metadata for start in starts(recorder.events))


def test_a_run_by_hand_that_goes_on_does_not_inherit_it() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(metadata={"traceparent": GIVEN}):
        pass
    again = EventRecorder()
    with EventEmitter([again]).run(resume=recorder.events):
        pass
    (start,) = starts(again.events)
    assert start.metadata == {}


def test_a_replay_keeps_what_the_log_says_wherever_it_runs() -> None:
    agent, recorder = three_agents()
    with current(context_of(OTHER)):
        agent.run("go")
    session_id = recorder.events[0].session_id
    result = replay(None, recorder.events, session_id=session_id)
    assert result.is_equal, result.mismatch
    with current(context_of(GIVEN)):
        again = replay(agent, recorder.events, session_id=session_id)
    assert again.is_equal, again.mismatch
    assert starts(list(again.events))[0].metadata == {"traceparent": OTHER}


def test_the_normal_form_of_a_golden_log_leaves_the_trace_out() -> None:
    told = []
    for around in (trace.INVALID_SPAN_CONTEXT, context_of(OTHER, VENDORS)):
        agent, recorder = three_agents()
        with current(around):
            agent.run("go", metadata={"phase": "plan"})
        told.append(normal_form(recorder.events))
    assert told[0] == told[1]
    assert starts(told[0])[0].metadata == {"phase": "plan"}


def test_a_run_where_nobody_uses_opentelemetry_does_not_load_it() -> None:
    check = (
        "import sys\nfrom agentkit_loop import Agent, ScriptedModel\nfrom agentkit_loop.testing import EventRecorder\n"
        "told = EventRecorder()\nAgent(ScriptedModel(['hi']), observers=[told]).run('go')\n"
        "print(told.events[0].metadata, 'opentelemetry' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "{} False"


@given(numbers=st.sets(st.integers(0, 2**63), min_size=2), calls=st.sets(st.text(), min_size=2))
def test_each_number_and_each_call_of_a_run_has_a_span_id_of_its_own(
    numbers: set[int], calls: set[str]
) -> None:
    ids = SpanIds("session", "run")
    assert len({ids.of_event(number) for number in numbers}) == len(numbers)
    assert len({ids.of_call(call) for call in calls}) == len(calls)
    assert {ids.of_event(number) for number in numbers} == {span_id_of("session", "run", n) for n in numbers}
    assert {ids.of_call(call) for call in calls} == {call_span_id("session", "run", call) for call in calls}
    found = {*map(ids.of_event, numbers), *map(ids.of_call, calls)}
    assert all(0 < span_id < 2**64 for span_id in found)
    assert not found & {SpanIds("session", "other").of_event(number) for number in numbers}
    assert run_span_id("session", "run") == ids.of_event(1)
