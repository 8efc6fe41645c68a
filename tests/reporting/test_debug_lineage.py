"""Of a session that was gone on with, a debug replay shows what every run told and follows those that count."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_loop.resuming import read_history
from agentkit_loop.state import LoopState
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting import (
    DebugReplay,
    JsonlReporter,
    RedactingReporter,
    StepLog,
    UsageReporter,
    read_events,
)
from tests.loop.crash_checks import go_on
from tests.loop.crash_runs import SCENARIOS, recorded

USED = Usage(input_tokens=10, output_tokens=5)


def usage_of(events: list[AgentEvent]) -> UsageReporter:
    usage = UsageReporter()
    for event in events:
        usage.handle_event(event)
    return usage


def counted(events: list[AgentEvent]) -> list[AgentEvent]:
    told: list[AgentEvent] = []
    read_history(events, tell=told.append)
    return told


@pytest.mark.parametrize("name", ["tools", "approved", "compacted", "retries", "pending"])
def test_a_process_that_was_not_dead_changes_no_state_and_its_steps_say_so(name: str) -> None:
    events = recorded(name)
    for end in range(3, len(events) - 1, 5):
        resumed = go_on(events[:end], **SCENARIOS[name].options).events
        left_behind = events[end:]
        if any(isinstance(event, RunStarted) for event in left_behind):
            continue
        log = [*resumed, *left_behind]  # what the first process told on, behind all that the second one did
        replay = DebugReplay(log)
        whole = LoopState()
        for event in counted(log):
            whole.apply(event)
        state = replay.state_after(len(replay))
        assert state.transcript == tuple(whole.transcript.items)
        assert (state.seq, state.phase, state.misfits) == (whole.seq, whole.phase.value, 0)
        assert state.totals == usage_of(log).total
        assert any(step.is_superseded for step in replay)
        assert not any(step.is_superseded for step in DebugReplay(resumed))


def test_lines_of_both_processes_may_stand_among_each_other() -> None:
    events = recorded("tools")
    end = 12
    resumed = go_on(events[:end], **SCENARIOS["tools"].options).events
    new, old = resumed[end:], events[end:]
    mixed = [*events[:end]]
    for place in range(max(len(new), len(old))):
        mixed += [*old[place : place + 1], *new[place : place + 1]]
    replay, alone = DebugReplay(mixed), DebugReplay(resumed)
    assert [step.title for step in replay if not step.is_superseded] == [step.title for step in alone]
    assert replay.state_after(len(replay)).transcript == alone.state_after(len(alone)).transcript


def test_a_result_that_the_old_process_measured_does_not_stand_for_what_the_resume_closed() -> None:
    name, end = "cancelled at 30", 32
    events = recorded(name)
    resumed = go_on(events[:end], **SCENARIOS[name].options).events
    log = [*resumed, *events[end:]]
    replay, alone = DebugReplay(log), DebugReplay(resumed)
    assert replay.state_after(len(replay)).transcript == alone.state_after(len(alone)).transcript


def test_a_file_that_was_given_twice_changes_nothing() -> None:
    events = recorded("tools")
    twice = DebugReplay([*events, *events])
    state, once = twice.state_after(len(twice)), DebugReplay(events)
    assert state.transcript == once.state_after(len(once)).transcript
    assert state.misfits == 0
    assert [step.is_superseded for step in twice].count(False) == len(once)


def test_a_redacted_log_says_so(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    observer = RedactingReporter(JsonlReporter(log))
    with Agent(ScriptedModel(["sk-ant-api03-" + "a1B2" * 20]), observers=[observer]) as agent:
        agent.run("say it")
    replay = DebugReplay.open(log)
    assert replay.is_redacted
    assert "a1B2a1B2" not in str(replay.content(3))


# --- hand-written loops and step logs


def test_a_hand_written_loop_is_replayed_with_its_step_log_the_same(tmp_path: Path) -> None:
    events: list[AgentEvent] = []
    emitter = EventEmitter([events.append])
    with StepLog(tmp_path / "steps.jsonl", emitter=emitter) as log:
        log.record_llm_call(model="claude-sonnet-5", input_tokens=12, output_tokens=3, stop_reason="tool_use")
        log.record_tool_call("search", {"query": "Q3"}, {"results": [1]}, duration_ms=240)
        log.record_tool_call("search", {"query": ""}, error="")
        log.record_llm_call(model="claude-sonnet-5", error=TimeoutError("slow"))
    told = DebugReplay(events)
    assert [step.status for step in told if step.tool == "search"] == ["ok", "failed"]
    assert told.state_after(len(told)).misfits == 0
    steps = DebugReplay.open(tmp_path / "steps.jsonl")
    assert not steps.is_event_log
    assert [(step.kind, step.tool, step.status) for step in steps] == [
        ("run_started", None, "ok"),
        ("model_request", None, "ok"),
        ("tool_call", "search", "ok"),
        ("tool_call", "search", "failed"),
        ("model_request", None, "failed"),
    ]
    assert [step.first_seq for step in steps] == [0, 1, 2, 3, 4]


def test_a_step_log_has_the_totals_of_the_events_beside_it(tmp_path: Path) -> None:
    @tool
    def look(path: str) -> str:
        """Look."""
        return f"{path}: nothing"

    events: list[AgentEvent] = []
    replies = [
        Reply(calls=(ScriptedCall(name="look", input={"path": "a"}),), usage=USED),
        Reply(text="ok", usage=USED),
    ]
    with (
        StepLog(tmp_path / "steps.jsonl", metadata={"environment": "ci"}) as log,
        Agent(ScriptedModel(replies), tools=[look], observers=[events.append, log]) as agent,
    ):
        agent.run("go")
    steps = DebugReplay.open(tmp_path / "steps.jsonl")
    assert steps.state_after(len(steps)).totals == usage_of(events).total
    assert steps.state_after(1).totals.requests == 0
    state = steps.state_after(2)
    assert (state.phase, state.transcript, state.totals.requests) == (None, (), 1)
    call = steps.filter(tool="look")
    assert call.content(0)["output"] == "a: nothing"
    assert steps.search("NOTHING") == (2,)
    assert steps.content(0)["metadata"] == {"environment": "ci"}
    in_memory = DebugReplay([*log.headers, *log.steps])
    assert list(in_memory) == list(steps)
    edited = steps.edit(2, output="a: something")
    assert [(each.field, each.after) for each in steps.difference(edited).changes] == [
        ("output", "a: something")
    ]


def test_of_several_runs_in_a_step_log_one_is_chosen(tmp_path: Path) -> None:
    for name in ("run-a", "run-b"):
        with StepLog(tmp_path / "steps.jsonl", run_id=name) as log:
            log.record_llm_call(model="m", input_tokens=1, output_tokens=1, stop_reason="end_turn")
    with (tmp_path / "steps.jsonl").open("ab") as file:
        file.write(b'{"run_id":"run-b","step":')
    replay = DebugReplay.open(tmp_path / "steps.jsonl", "-b")
    assert (replay.session_id, len(replay), replay.other_sessions) == ("run-b", 2, ("run-a",))
    assert replay.bad_count == 1


def test_a_directory_with_an_event_log_and_a_step_log_is_replayed_by_its_events(tmp_path: Path) -> None:
    with (
        StepLog(tmp_path / "a-steps.jsonl") as log,
        Agent(ScriptedModel(["hi"]), observers=[JsonlReporter(tmp_path / "run.jsonl"), log]) as agent,
    ):
        session_id = agent.run("go").session_id
    replay = DebugReplay.open(tmp_path)
    assert (replay.is_event_log, replay.session_id) == (True, session_id)
    assert len(list(read_events(tmp_path))) > len(replay) > 3
