"""Going on with a session from its log: what continues, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.errors import IllegalMoveError, ObserverError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    CompactionFinished,
    CompactionStarted,
    InputAccepted,
    RunFailed,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.observers import FailurePolicy, Registration
from agentkit_loop.permissions import Permissions
from agentkit_loop.resuming import read_history
from agentkit_loop.steps import ApprovalRequest, AuthRequest, AwaitingInput, Finished
from agentkit_loop.testing import EventRecorder, Reply
from agentkit_reporting.codec import encode_event
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events
from agentkit_reporting.transcript import TranscriptReporter
from agentkit_reporting.usage import UsageReporter
from tests.loop.crash_checks import go_on, on_and_on, what_is_wrong
from tests.loop.crash_runs import (
    CALLS,
    DONE,
    EXCEEDED,
    SCENARIOS,
    BreakAt,
    Scenario,
    World,
    adrive,
    call,
    drive,
    recorded,
    run,
    said,
    until,
)
from tests.rules import faults


def crashed(
    *replies: Any, at: type[AgentEvent], number: int = 1, prompts: Sequence[str] = ("go",)
) -> list[Any]:
    """Return what a process left that ended after the nth event of a class."""
    return until(run(Scenario([*replies], tuple(prompts))).events, at, number)


# --- what continues


def test_a_finished_session_takes_new_input() -> None:
    events = recorded("plain")
    world = World(events=list(events))
    with world.agent(["three"]).resume(events) as driver:
        assert driver.next() == AwaitingInput()
        assert driver.run("third").text == "three"
        assert driver.session_id == "session"
    started = world.events[len(events)]
    assert isinstance(started, RunStarted)
    assert (started.resumed_run, started.resumed_after) == (events[-1].run_id, len(events))
    assert started.items == ()
    assert world.events[len(events) + 2].turn_id == "turn-3"
    assert faults(world.events) == []


def test_an_unanswered_tail_is_answered_by_the_first_next() -> None:
    events = crashed(DONE, at=InputAccepted)
    world = World(events=list(events))
    with world.agent(["here I am"]).resume(events) as driver:
        step = driver.next()
        assert isinstance(step, Finished)
        assert step.result.text == "here I am"


def test_results_that_no_request_has_seen_are_answered_after_a_failure() -> None:
    events = recorded("refused")
    first_run = until(events, RunFailed)
    assert isinstance(first_run[-2], TurnFinished)
    assert first_run[-2].finish_reason == "error"
    went = go_on(first_run)
    assert what_is_wrong(went) == []
    assert len([event for event in went.after if isinstance(event, TurnFinished)]) == 2


def test_a_crash_closes_what_had_started_under_the_old_run() -> None:
    events = crashed(said(call("work"), call("work")), at=ToolExecutionStarted)
    went = go_on(events)
    result, failed, started = went.after[:3]
    assert isinstance(result, ToolResultReceived)
    assert (result.interrupted, result.is_error, result.not_started) == (True, True, False)
    assert result.duration_ms is None
    assert isinstance(failed, RunFailed)
    assert (failed.error.type, failed.duration_ms) == ("ProcessEnded", None)
    assert {result.run_id, failed.run_id} == {events[0].run_id}
    assert isinstance(started, RunStarted)
    assert started.resumed_after == started.seq - 1
    assert went.world.bodies == [("work", "call-2", 1)]


def test_an_idempotent_tool_runs_again_as_the_next_attempt() -> None:
    events = crashed(said(call("look")), at=ToolExecutionStarted)
    went = go_on(events)
    assert went.world.bodies == [("look", "call-1", 2)]
    assert what_is_wrong(went) == []


def test_a_pending_approval_is_pending_again_and_runs_the_call_once() -> None:
    events = crashed(said(call("gated", what="it")), at=ApprovalRequired)
    world = World(events=list(events))
    with world.agent([DONE]).resume(events) as driver:
        step = driver.next()
        assert isinstance(step, ApprovalRequest)
        assert step.approval_id == "approval-1"
        assert driver.pending == (step,)
        step.approve()
        with pytest.raises(IllegalMoveError):
            step.approve()
        assert isinstance(list(driver)[-1], Finished)
    assert world.bodies == [("gated", "call-1", 1)]
    assert faults(world.events) == []


APPROVED = "approval_resolved"


def approved_not_started() -> list[AgentEvent]:
    """Return a log that ends with an approval."""
    events = run(Scenario([said(call("gated")), DONE])).events
    return events[: next(event.seq for event in events if event.type == APPROVED)]


def test_what_was_approved_and_not_started_is_asked_about_again() -> None:
    world = World(events=(events := approved_not_started()).copy())
    with world.agent([DONE]).resume(events) as driver:
        step = driver.next()
        assert isinstance(step, ApprovalRequest)
        assert step.approval_id == "approval-2"
        step.deny("not any more")
        drive(driver)
    assert world.bodies == []
    assert faults(world.events) == []


def test_a_trusted_approval_runs_the_call_without_asking() -> None:
    world = World(events=(events := approved_not_started()).copy())
    with world.agent([DONE]).resume(events, trust_approvals=True) as driver:
        assert isinstance(list(driver)[-1], Finished)
    assert world.bodies == [("gated", "call-1", 1)]
    assert faults(world.events) == []


def test_a_policy_of_today_denies_what_was_approved_yesterday() -> None:
    world = World(events=(events := approved_not_started()).copy())
    agent = world.agent([DONE], permissions=Permissions(deny=("gated",), default="allow"))
    with agent.resume(events) as driver:
        drive(driver)
    assert world.bodies == []
    denied = next(event for event in world.events if isinstance(event, ToolResultReceived))
    assert (denied.denied, denied.not_started) == (True, True)
    assert faults(world.events) == []


def test_credentials_are_asked_for_again_only_where_they_were_pending() -> None:
    events = recorded("approved")
    asked = next(event.seq for event in events if event.type == "auth_required")
    world = World(events=events[:asked])
    with world.agent([DONE]).resume(events[:asked], trust_approvals=True) as driver:
        step = next(each for each in driver if isinstance(each, AuthRequest))
        assert step.auth_id == "auth-1"
        step.resolve("swordfish-1234")
        drive(driver)
    assert ("login", "call-4", 2) in world.bodies
    assert b"swordfish" not in b"".join(encode_event(event) for event in world.events)
    assert faults(world.events) == []


def test_a_cancel_that_was_requested_is_carried_out() -> None:
    events = recorded("cancelled at 28")
    requested = next(event.seq for event in events if event.type == "cancel_requested")
    went = go_on(events[:requested])
    finished = next(event for event in went.after if isinstance(event, TurnFinished))
    assert finished.finish_reason == "cancelled"
    assert went.world.bodies == []


def test_a_call_whose_tool_is_gone_is_answered() -> None:
    events = crashed(said(call("look"), call("work")), at=ToolExecutionStarted)
    world = World(events=list(events))
    with world.agent([DONE], tools=[]).resume(events) as driver:
        drive(driver)
    results = [event for event in world.events if isinstance(event, ToolResultReceived)]
    assert [event.call_id for event in results] == ["call-1", "call-2"]
    assert results[0].interrupted
    assert results[1].not_started
    assert faults(world.events) == []


def test_a_compaction_that_a_crash_cut_is_made_again() -> None:
    for name, replies in (
        ("compacted", ["summary", DONE]),
        ("context exceeded", [EXCEEDED, "summary", DONE]),
    ):
        events = until(recorded(name), CompactionStarted)
        world = World(events=list(events))
        with world.agent(replies, **SCENARIOS[name].options).resume(events) as driver:
            assert isinstance(list(driver)[-1], Finished)
        plans = [event.plan for event in world.events if isinstance(event, CompactionFinished)]
        assert plans[0] is None
        assert plans[1] is not None
        assert faults(world.events) == []


def test_a_resumed_driver_works_on_an_event_loop() -> None:
    events = crashed(said(call("gated")), at=ApprovalRequired)
    world = World(events=list(events))

    async def main() -> None:
        async with world.agent([DONE]).aresume(events) as driver:
            assert [step.approval_id for step in driver.pending if isinstance(step, ApprovalRequest)] == [
                "approval-1"
            ]
            await adrive(driver)

    asyncio.run(main())
    assert world.bodies == [("gated", "call-1", 1)]
    assert faults(world.events) == []


def test_observers_that_have_not_seen_the_past_are_told_it(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    for each in recorded("failed"):
        JsonlReporter(log).handle_event(each)
    world = World()
    usage, view, seen = UsageReporter(), TranscriptReporter(), EventRecorder()
    with world.agent([DONE], usage, view, seen, JsonlReporter(log)).resume(
        read_events(log), replay_to=[usage, view, seen]
    ) as driver:
        driver.run("more")
    live = UsageReporter()
    for each in read_events(log):
        live.handle_event(each)
    assert seen.events == list(read_events(log))
    assert usage.total == live.total
    assert view.of("session").items == driver.transcript.items


def test_the_past_is_not_told_to_those_who_saw_it() -> None:
    events = recorded("plain")
    seen = EventRecorder()
    with World().agent([DONE], seen).resume(events):
        pass
    assert isinstance(seen.events[0], RunStarted)
    assert seen.events[0].seq == len(events) + 1


def test_an_observer_that_breaks_a_recovery_breaks_no_rule() -> None:
    events = crashed(CALLS, DONE, at=ToolExecutionStarted)
    for ahead in range(1, 8):
        breaker = Registration(
            BreakAt(len(events) + ahead, ValueError("broken")), policy=FailurePolicy.FAIL_FAST
        )
        world = World(events=list(events))
        with pytest.raises(ObserverError), world.agent(on_and_on, breaker).resume(events) as driver:
            drive(driver)
        assert faults(world.events) == []
        assert what_is_wrong(go_on(world.events)) == []


def test_a_resume_counts_what_the_session_used() -> None:
    events = recorded("plain")
    used = read_history(events).state.session_spent.usage
    assert used.total_tokens == 28
    with World().agent([DONE]).resume(events) as driver:
        assert driver.run("more").usage.total_tokens == 14
        assert driver.state.session_spent.usage.total_tokens == 42


def test_a_long_log_is_read_in_one_pass() -> None:
    """How long it takes is measured elsewhere; here is what is done: every event once, previews not kept."""
    world = World()
    replies = [Reply(text="x" * 3_000, calls=(call("look"),), chunk_chars=1) for _ in range(34)]
    with world.agent([*replies, DONE]).start("go") as driver:
        drive(driver)
    events = world.events
    assert len(events) > 100_000
    taken = 0

    def once() -> Iterator[AgentEvent]:
        nonlocal taken
        for event in events:
            taken += 1
            yield event

    history = read_history(once())
    assert taken == history.state.seq == len(events)
    assert history.state.transcript.items == driver.transcript.items
