"""Calls that a run leaves open are known to the next run of its session, and take no memory for ever."""

from __future__ import annotations

from collections.abc import Iterator

from agentkit_loop.content import ToolCallPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, RunFinished, RunStarted, ToolCallRequested, ToolResultReceived
from agentkit_loop.usage import Usage
from agentkit_reporting.records.audit import AuditLedger
from agentkit_reporting.records.open_sessions import OpenSessions
from agentkit_reporting.records.step_log import StepLog


def told(*events: AgentEvent, session_id: str) -> Iterator[AgentEvent]:
    """Yield the events as an emitter of that session stamps them."""
    seen: list[AgentEvent] = []
    emitter = EventEmitter([seen.append], session_id=session_id, run_id=f"run-{session_id}")
    for event in events:
        emitter.emit(event)
    yield from seen


def suspended(session_id: str) -> Iterator[AgentEvent]:
    call = ToolCallPart(id="call-1", name="ask", input={"question": session_id})
    yield from told(
        RunStarted(agent_name="", model="m"),
        ToolCallRequested(request_id="request-1", call=call),
        RunFinished(outcome="suspended", usage=Usage()),
        session_id=session_id,
    )


def resumed(session_id: str) -> Iterator[AgentEvent]:
    result = ToolResultReceived(call_id="call-1", name="ask", output="yes")
    yield from told(
        RunStarted(agent_name="", model="m"),
        result,
        RunFinished(outcome="suspended", usage=Usage()),
        session_id=session_id,
    )


def test_the_next_run_of_a_session_knows_the_call_that_the_last_one_left_open() -> None:
    log = StepLog(None)
    for event in (*suspended("a"), *suspended("b"), *resumed("a")):
        log.handle_event(event)
    (step,) = log.steps
    assert getattr(step, "input", None) == {"question": "a"}


def test_of_sessions_that_nobody_goes_on_with_the_last_ones_are_remembered() -> None:
    log, ledger = StepLog(None), AuditLedger(None)
    names = [f"ses-{number}" for number in range(1_100)]
    for name in names:
        for event in suspended(name):
            log.handle_event(event)
            ledger.handle_event(event)
    for name in (names[0], names[-1]):
        for event in resumed(name):
            log.handle_event(event)
    assert [getattr(step, "input", None) for step in log.steps] == [{}, {"question": names[-1]}]
    assert len(ledger.session_ids) == 1_100


def test_only_suspended_sessions_are_forgotten() -> None:
    sessions = OpenSessions[list[int]](list, most_suspended=2)
    for name in ("live", "a", "b", "c"):
        sessions.of(name).append(1)
    for name in ("a", "b", "c"):
        sessions.suspend(name)
    assert len(sessions) == 3
    assert (sessions.of("live"), sessions.of("a"), sessions.of("b"), sessions.of("c")) == ([1], [], [1], [1])
    for name in ("live", "a", "b", "c", "unknown"):
        sessions.drop(name)
    assert len(sessions) == 0


def test_forgetting_a_run_without_a_file_frees_its_number_too() -> None:
    log = StepLog(None, "r")
    log.record_tool_call("t")
    log.forget("r")
    log.record_tool_call("t")
    assert [step.step for step in log.steps] == [1]
