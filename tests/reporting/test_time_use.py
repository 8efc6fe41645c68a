"""Where the time of runs goes: the parts add up, and each is what the run really waited for."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.compaction import Compaction
from agentkit_loop.compaction_strategies import SummariseOlder
from agentkit_loop.credentials import NeedsAuth
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, ToolResultReceived
from agentkit_loop.testing import (
    EventRecorder,
    Reply,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    VirtualClock,
)
from agentkit_loop.tools import tool
from agentkit_reporting import RunTime, TimeUse, decode_event, encode_event, read_events
from agentkit_reporting.analysis.time_use_groups import grouped_runs, grouped_tools
from agentkit_reporting.analysis.time_use_sweep import RANKS, Span, divided
from tests.cli.sample_logs import write_broken, write_fixed
from tests.strategies import event_lists

START = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)


def used_by(events: Iterable[AgentEvent]) -> TimeUse:
    use = TimeUse()
    for event in events:
        use.handle_event(event)
    return use


def only_run(events: Iterable[AgentEvent]) -> RunTime:
    (run,) = used_by(events).runs()
    assert_adds_up(run)
    return run


def assert_adds_up(run: RunTime) -> None:
    assert sum(run.parts.values()) == run.duration_us
    assert min(run.parts.values()) >= 0
    assert sum(each.wall_us for each in run.tools) == run.parts["tools"]


def ms_of(run: RunTime) -> dict[str, float]:
    return {name: us / 1_000 for name, us in run.parts.items() if us}


def call(name: str, **arguments: Any) -> ScriptedCall:
    return ScriptedCall(name=name, input=arguments)


def test_a_run_is_divided_into_what_it_waited_for(tmp_path: Path) -> None:
    write_fixed(tmp_path / "a.jsonl")
    run = only_run(read_events(tmp_path / "a.jsonl"))
    assert ms_of(run) == {
        "first_token": 3_500,
        "generation": 1_500,
        "tools": 2_545,
        "approval": 30_000,
        "retry": 862.599,
    }
    assert [(each.name, each.wall_us, each.calls) for each in run.tools] == [
        ("run_tests", 2_500_000, 1),
        ("read_file", 40_000, 1),
        ("edit_file", 5_000, 1),
    ]
    assert (run.duration_us, run.outcome, run.agent) == (38_407_599, "completed", "fixer")
    assert (run.observers_us, run.observers) == (1_500, {"JsonlReporter": 1_500})
    assert run.least == frozenset()


def test_what_nobody_told_of_observers_is_unknown_and_not_zero(tmp_path: Path) -> None:
    write_broken(tmp_path / "a.jsonl")
    run = only_run(read_events(tmp_path / "a.jsonl"))
    assert (run.outcome, run.observers_us, run.parts["retry"]) == ("failed", None, 300_000)


def test_of_parallel_tools_the_one_that_ends_last_has_the_wall_clock_and_each_its_own_time() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    both_run, quick_is_told = threading.Barrier(2), threading.Event()

    @tool
    def quick() -> str:
        """Take a second."""
        both_run.wait()
        clock.sleep(1)
        return "quick"

    @tool
    def slow() -> str:
        """Take three seconds, beside the quick one."""
        both_run.wait()
        quick_is_told.wait()
        clock.sleep(2)
        return "slow"

    def look(event: AgentEvent) -> None:
        if isinstance(event, ToolResultReceived):
            quick_is_told.set()

    model = ScriptedModel([Reply(calls=(call("quick"), call("slow"))), Reply(text="done")], clock=clock)
    with Agent(model, tools=[quick, slow], observers=[events, look], clock=clock) as agent:
        agent.run("go")
    run = only_run(events.events)
    assert ms_of(run)["tools"] == 3_000
    assert [(each.name, each.wall_us, each.busy_us) for each in run.tools] == [
        ("slow", 3_000_000, 3_000_000),
        ("quick", 0, 1_000_000),
    ]


def interrupted_events(after: str) -> list[AgentEvent]:
    """Return the events of a run that is asked about a call, up to the first of a kind."""
    clock, events = VirtualClock(START), EventRecorder()

    @tool(approval=True)
    def delete(path: str) -> str:
        """Delete a file."""
        clock.sleep(2)
        return path

    replies = [Reply(calls=(call("delete", path="a"),), delay_s=1), Reply(text="done", delay_s=1)]
    with (
        Agent(ScriptedModel(replies, clock=clock), tools=[delete], observers=[events], clock=clock) as agent,
        agent.start(session_id="s") as driver,
    ):
        driver.submit("go")
        for step in driver:
            if hasattr(step, "approve"):
                clock.sleep(30)
                step.approve()
    place = events.types.index(after)
    return events.events[: place + 1]


def test_a_run_without_an_end_is_told_up_to_its_last_event_and_what_went_on_is_marked() -> None:
    run = only_run(interrupted_events("tool_execution_started"))
    assert (run.outcome, run.duration_us, run.least) == ("open", 31_000_000, frozenset({"tools"}))
    assert run.tools[0].is_least
    streaming = only_run(interrupted_events("model_request_started"))
    assert streaming.least == frozenset({"first_token"})
    assert streaming.duration_us == 0


def test_the_time_between_a_crash_and_the_resume_is_of_no_run() -> None:
    told = interrupted_events("tool_execution_started")
    clock, later = VirtualClock(START + dt.timedelta(days=1)), EventRecorder()

    @tool(approval=True)
    def delete(path: str) -> str:
        """Delete a file."""
        return path

    model = ScriptedModel([Reply(text="done", delay_s=1)], clock=clock)
    with Agent(model, tools=[delete], observers=[later], clock=clock) as agent, agent.resume(told) as driver:
        for _ in driver:
            pass
    crashed, resumed = used_by([*told, *later.events]).runs()
    assert (crashed.outcome, crashed.duration_us, crashed.least) == (
        "crashed",
        31_000_000,
        frozenset({"tools"}),
    )
    assert crashed.tools[0].busy_us == 0
    assert (crashed.has_end, resumed.number, resumed.awaited) == (False, 2, ())
    assert (
        resumed.since_us == (resumed.started - crashed.started) // dt.timedelta(microseconds=1) - 31_000_000
    )
    assert (resumed.outcome, ms_of(resumed)) == ("completed", {"first_token": 1_000})
    assert_adds_up(crashed)
    assert_adds_up(resumed)


def test_an_approval_that_waits_over_two_runs_is_waited_for_in_both_and_between_them_in_neither() -> None:
    clock, events = VirtualClock(START), EventRecorder()

    @tool(approval=True)
    def delete(path: str) -> str:
        """Delete a file."""
        clock.sleep(2)
        return path

    def agent_of(*replies: Reply) -> Agent:
        model = ScriptedModel(replies, clock=clock)
        return Agent(model, tools=[delete], observers=[events], clock=clock)

    with agent_of(Reply(calls=(call("delete", path="a"),))) as agent, agent.start() as driver:
        driver.submit("go")
        next(iter(driver))
        clock.sleep(5)
    clock.sleep(3_600)
    with agent_of() as agent, agent.resume(events.events) as driver:
        next(iter(driver))
        clock.sleep(7)
    clock.sleep(3_600)
    with agent_of(Reply(text="done")) as agent, agent.resume(events.events) as driver:
        for step in driver:
            if hasattr(step, "approve"):
                clock.sleep(11)
                step.approve()
    runs = used_by(events.events).runs()
    assert [run.outcome for run in runs] == ["suspended", "suspended", "completed"]
    assert [run.parts["approval"] for run in runs] == [5_000_000, 7_000_000, 11_000_000]
    assert runs[2].parts["tools"] == 2_000_000
    asked = ('approval delete(path="a")',)
    assert [run.number for run in runs] == [1, 2, 3]
    assert [run.since_us for run in runs] == [None, 3_600_000_000, 3_600_000_000]
    assert [run.awaited for run in runs] == [(), asked, asked]
    assert [run.left_open for run in runs] == [asked, asked, ()]
    for run in runs:
        assert_adds_up(run)


def test_waiting_for_credentials_is_not_the_tools_time() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    tokens: list[str] = []

    @tool
    def post() -> str:
        """Post something."""
        clock.sleep(1)
        if not tokens:
            raise NeedsAuth("tracker")
        return "posted"

    model = ScriptedModel([Reply(calls=(call("post"),)), Reply(text="done")], clock=clock)
    with Agent(model, tools=[post], observers=[events], clock=clock) as agent, agent.start() as driver:
        driver.submit("go")
        for step in driver:
            if hasattr(step, "resolve"):
                clock.sleep(20)
                tokens.append("given")
                step.resolve("token")
    run = only_run(events.events)
    assert (run.parts["auth"], run.parts["tools"]) == (20_000_000, 2_000_000)
    assert [(each.name, each.calls, each.busy_us) for each in run.tools] == [("post", 1, 2_000_000)]


def test_a_compaction_has_the_requests_that_it_makes() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    replies = [Reply(text=f"answer {each}", delay_s=1) for each in range(4)]
    compaction = Compaction(strategy=SummariseOlder(keep_items=1), max_items=3)
    with (
        Agent(
            ScriptedModel(replies, clock=clock), observers=[events], clock=clock, compaction=compaction
        ) as agent,
        agent.start() as driver,
    ):
        for prompt in ("one", "two", "three"):
            driver.run(prompt)
    run = only_run(events.events)
    assert run.parts["compaction"] == 1_000_000
    assert run.parts["first_token"] == 3_000_000
    assert run.requests == 4


def test_time_between_exchanges_is_idle_and_not_the_loops() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    with (
        Agent(ScriptedModel(["one", "two"], clock=clock), observers=[events], clock=clock) as agent,
        agent.start() as driver,
    ):
        clock.sleep(1)
        driver.run("one")
        clock.sleep(60)
        driver.run("two")
        clock.sleep(2)
    assert ms_of(only_run(events.events)) == {"idle": 63_000}


def test_a_sub_agents_time_is_in_its_parents_tool_and_on_a_line_of_its_own() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    child = Agent(ScriptedModel([Reply(text="found", delay_s=4)], clock=clock), name="finder", clock=clock)
    parent_model = ScriptedModel(
        [Reply(calls=(call("finder", prompt="look"),)), Reply(text="done")], clock=clock
    )
    with Agent(
        parent_model,
        name="boss",
        tools=[child.as_tool(description="Finds.")],
        observers=[events],
        clock=clock,
    ) as agent:
        session_id = agent.run("go").session_id
    runs = {run.agent: run for run in used_by(events.events).runs()}
    assert runs["boss"].parts["tools"] == 4_000_000
    assert runs["finder"].parts["first_token"] == 4_000_000
    assert (runs["boss"].parent_session, runs["finder"].parent_session) == (None, session_id)


def test_a_hand_written_loop_that_tells_afterwards_has_the_durations_that_it_gives() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    emitter = EventEmitter([events], clock=clock)
    with emitter.run(agent_name="mine", model="m", prices=None) as run:
        clock.sleep(5)
        run.record_model_call(model="m", stop_reason="end_turn", duration_ms=1_500)
        clock.sleep(2)
        run.record_tool_call("grep", {"text": "x"}, "found", duration_ms=1_000)
    told = only_run(events.events)
    assert told.parts["generation"] == 1_500_000
    assert [(each.name, each.wall_us) for each in told.tools] == [("grep", 1_000_000)]
    assert "first_token" in told.least  # nobody knows when the answer began


def test_a_failed_request_and_the_back_off_after_it_are_retry() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    fails = Reply(fail=ScriptedFailure(retry_after_ms=2_000), delay_s=0.5)
    with Agent(ScriptedModel([fails, "done"], clock=clock), observers=[events], clock=clock) as agent:
        agent.run("go")
    run = only_run(events.events)
    assert run.parts["retry"] >= 2_500_000
    assert (run.requests, run.failed_requests) == (2, 1)


def test_a_log_without_its_beginning_is_told_from_its_first_event_on(tmp_path: Path) -> None:
    write_fixed(tmp_path / "a.jsonl")
    events = list(read_events(tmp_path / "a.jsonl"))
    run = only_run(events[24:])
    assert not run.is_whole
    assert run.duration_us == (events[-1].timestamp - events[24].timestamp) // dt.timedelta(microseconds=1)


def test_a_clock_that_was_set_is_told() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    with Agent(
        ScriptedModel([Reply(text="x", delay_s=5)], clock=clock), observers=[events], clock=clock
    ) as agent:
        agent.run("go")
    lines = [encode_event(event) for event in events.events]
    late = [line.replace(b"18:40:05", b"19:40:05") for line in lines]
    run = only_run(map(decode_event, late))
    assert run.duration_us == 5_000_000
    assert run.clock_off_us == 3_600_000_000
    assert only_run(events.events).clock_off_us == 0


def test_a_file_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    write_fixed(tmp_path / "a.jsonl")
    events = list(read_events(tmp_path / "a.jsonl"))
    assert used_by([*events, *events]).runs() == used_by(events).runs()
    assert used_by([*events[:-1], *events]).runs() == used_by(events).runs()


def test_live_is_replayed() -> None:
    clock, live, events = VirtualClock(START), TimeUse(), EventRecorder()
    with Agent(
        ScriptedModel([Reply(text="x", delay_s=5)], clock=clock), observers=[live, events], clock=clock
    ) as agent:
        agent.run("go")
    replayed = used_by(decode_event(encode_event(event)) for event in events.events)
    assert replayed.runs() == live.runs()
    assert replayed.bodies_ms() == live.bodies_ms()


def in_one_run(events: list[AgentEvent]) -> list[AgentEvent]:
    return [attrs.evolve(event, run_id="run") for event in events]


@given(event_lists(max_size=12) | event_lists(max_size=12).map(in_one_run))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_the_parts_of_any_events_add_up_and_live_is_replayed(events: list[AgentEvent]) -> None:
    use = used_by(events)
    for run in use.runs():
        assert_adds_up(run)
    assert used_by(decode_event(encode_event(event)) for event in events).runs() == use.runs()


SPANS = st.lists(
    st.builds(
        lambda begin, length, part, name: Span(begin, begin + length, part, name if part == "tools" else ""),
        st.integers(-3, 20),
        st.integers(0, 12),
        st.sampled_from(RANKS),
        st.sampled_from("ab"),
    ),
    max_size=12,
)


@given(SPANS)
def test_each_moment_belongs_to_the_first_part_that_is_open_then(spans: list[Span]) -> None:
    found = divided(spans, 0, 24)
    for_parts = {part: sum(us for (name, _), us in found.items() if name == part) for part in RANKS}
    by_moment = dict.fromkeys(RANKS, 0)
    for moment in range(24):
        open_parts = {span.part for span in spans if span.begin <= moment < span.end}
        first = next((part for part in RANKS if part in open_parts), None)
        if first is not None:
            by_moment[first] += 1
    assert for_parts == by_moment


@example([Span(0, 1, "tools", "a"), Span(0, 2, "tools", "b")], 1)
@given(SPANS, st.integers(0, 24))
def test_a_sweep_in_two_pieces_is_the_sweep_of_the_whole(spans: list[Span], border: int) -> None:
    assert divided(spans, 0, border) + divided(spans, border, 24) == divided(spans, 0, 24)


def test_the_spans_of_a_long_run_are_divided_on_the_way_and_add_up_all_the_same() -> None:
    clock, events = VirtualClock(START), TimeUse()

    @tool
    def step() -> str:
        """Take ten milliseconds."""
        clock.sleep(0.01)
        return ""

    def reply(_request: object) -> Reply:
        return Reply(calls=(call("step"), call("step"), call("step")), delay_s=0.1)

    model = ScriptedModel([reply(None) for _ in range(600)] + [Reply(text="done")], clock=clock)
    with Agent(model, tools=[step], observers=[events], clock=clock, max_parallel_tools=1) as agent:
        agent.run("go")
    (run,) = events.runs()
    assert_adds_up(run)
    assert (run.parts["tools"], run.parts["first_token"]) == (18_000_000, 60_000_000)
    assert events.bodies_ms()["step"] == pytest.approx([10.0] * 1_800)


def test_groups_have_the_percentiles_of_the_runs_that_had_a_part_and_tools_of_every_body(
    tmp_path: Path,
) -> None:
    write_fixed(tmp_path / "a.jsonl")
    write_broken(tmp_path / "a.jsonl")
    use = used_by(read_events(tmp_path / "a.jsonl"))
    (group,) = grouped_runs(use.runs(), "agent")
    parts = {part.name: part for part in group.parts}
    assert (group.key, group.runs, group.duration.each_run.maximum) == ("fixer", 2, 38_407.599)
    assert (parts["approval"].runs, parts["approval"].each_run.p50) == (1, 30_000)  # of the run that had one
    assert [each.key for each in grouped_runs(use.runs(), "day")] == ["2026-05-24", "2026-05-25"]
    tools = {each.name: each for each in grouped_tools(use.runs(), use.bodies_ms())}
    assert (tools["read_file"].calls, tools["read_file"].body.p50) == (3, 40)
