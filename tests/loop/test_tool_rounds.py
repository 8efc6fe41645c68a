"""BEHAVIOUR "Tools": rounds of calls, case by case, with both drivers."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from agentkit_loop.content import Item, ToolCallPart, ToolResultPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    AgentEvent,
    CustomEvent,
    ModelRequestStarted,
    RunCancelled,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.observers import LoopObserver
from agentkit_loop.steps import AfterToolResult, Finished
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedTool
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from tests.loop.test_turns import Drive, Run, drive_async, drive_sync, either
from tests.rules import faults


def call(name: str, call_id: str = "", **arguments: Any) -> ScriptedCall:
    return ScriptedCall(name=name, input=arguments, id=call_id)


def asking(*calls: ScriptedCall) -> Reply:
    return Reply(calls=calls)


def outputs(items: Iterable[Item]) -> list[Any]:
    return [part.output for item in items for part in item.parts if isinstance(part, ToolResultPart)]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def slow_add(a: int, b: int) -> int:
    """Add two numbers, later."""
    await asyncio.sleep(0)
    return a + b


@either
@pytest.mark.parametrize("function", [add, slow_add])
def test_one_call_is_requested_started_and_answered_before_the_next_request(
    drive: Drive, function: Any
) -> None:
    run = Run([asking(call(function.__name__, a=1, b=2)), "3"], tools=[function])
    assert drive(run, "add").text == "3"
    wanted = (ToolCallRequested, ToolExecutionStarted, ToolResultReceived, ModelRequestStarted)
    told = [event.type for event in run.recorder.events if isinstance(event, wanted)]
    assert told == [
        "model_request_started",
        "tool_call_requested",
        "tool_execution_started",
        "tool_result_received",
        "model_request_started",
    ]
    assert run.of(ToolResultReceived)[0].output == 3
    ids = [getattr(event, "call_id", "call-1") for event in run.recorder.events if "tool_" in event.type]
    assert set(ids) == {"call-1"}


class EndInReverse(LoopObserver):
    """Ends the second call first, and the first when the second's result is told."""

    wants = (ToolExecutionStarted, ToolResultReceived)

    def __init__(self, scripted: ScriptedTool) -> None:
        self._scripted = scripted
        self._started: list[str] = []

    def handle_event(self, event: AgentEvent) -> None:
        if isinstance(event, ToolExecutionStarted):
            self._started.append(event.call_id)
            if len(self._started) == 2:
                self._scripted.release(self._started[1], "second")
        elif isinstance(event, ToolResultReceived) and event.call_id == self._started[1]:
            self._scripted.release(self._started[0], "first")


@either
@pytest.mark.parametrize("asynchronous", [False, True])
def test_results_are_told_as_they_come_and_join_in_call_order(drive: Drive, asynchronous: bool) -> None:
    scripted = ScriptedTool(asynchronous=asynchronous)
    run = Run([asking(call("work"), call("work")), "done"], tools=[scripted.tool])
    run.agent.observers = (EndInReverse(scripted), *run.agent.observers)
    result = drive(run, "go")
    assert [event.output for event in run.of(ToolResultReceived)] == ["second", "first"]
    assert outputs(result.items) == ["first", "second"]
    assert faults(run.recorder.events) == []


def test_a_tool_of_200_ms_shows_200_ms_whatever_waits_in_between() -> None:
    run = Run([asking(call("nap"), call("nap")), "rested"], max_parallel_tools=1)

    def nap() -> str:
        """Rest."""
        run.clock.sleep(0.2)
        return "rested"

    run.agent.tools = {"nap": tool(nap)}
    run.agent.run("go")
    assert [event.duration_ms for event in run.of(ToolResultReceived)] == [pytest.approx(200.0)] * 2


@either
def test_unknown_and_invalid_calls_never_start_and_the_model_is_told_why(drive: Drive) -> None:
    calls = (call("nope"), call("add", a="one", b=2), call("add", a=1), ScriptedCall(name="add", cut='{"a"'))
    run = Run([asking(*calls), "sorry"], tools=[add])
    assert drive(run, "go").text == "sorry"
    assert run.of(ToolExecutionStarted) == []
    results = run.of(ToolResultReceived)
    assert all(event.not_started and event.is_error for event in results)
    assert "no tool named 'nope'" in results[0].output
    assert "`a`" in results[1].output
    assert "b" in results[2].output
    assert "not a whole JSON object" in results[3].output


@either
def test_a_tool_that_raises_is_an_error_result_and_the_run_goes_on(drive: Drive) -> None:
    def fail() -> None:
        """Fail."""
        raise LookupError("no such row")

    run = Run([asking(call("fail")), "noted"], tools=[fail])
    assert drive(run, "go").text == "noted"
    event = run.of(ToolResultReceived)[0]
    assert (event.is_error, event.output) == (True, "LookupError: no such row")
    assert event.error.type == "LookupError"
    assert 1 <= len(event.error.frames) <= 3
    assert "in fail" in event.error.frames[0]
    assert "frames" not in str(event.output)


@either
@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_a_tool_that_exits_closes_everything_and_propagates(
    drive: Drive, raised: type[BaseException]
) -> None:
    def leave() -> None:
        """Leave."""
        raise raised

    scripted = ScriptedTool()
    run = Run([asking(call("work"), call("leave"))], tools=[scripted.tool, leave])
    with pytest.raises(raised):
        drive(run, "go")
    scripted.release_all()
    assert isinstance(run.recorder.events[-1], RunCancelled)
    assert run.recorder.events[-1].reason == raised.__name__
    assert [(event.interrupted, event.not_started) for event in run.of(ToolResultReceived)] == [
        (True, False)
    ] * 2
    assert [event.finish_reason for event in run.of(TurnFinished)] == ["cancelled"]
    assert faults(run.recorder.events) == []


@either
def test_a_cancelled_error_that_nobody_here_caused_is_an_error_result(drive: Drive) -> None:
    async def cancelled() -> None:
        """Cancel oneself."""
        raise asyncio.CancelledError

    run = Run([asking(call("cancelled")), "noted"], tools=[cancelled])
    assert drive(run, "go").text == "noted"
    assert run.of(ToolResultReceived)[0].error.type == "CancelledError"


@either
def test_twenty_calls_are_one_round(drive: Drive) -> None:
    run = Run(
        [asking(*[call("add", a=n, b=1) for n in range(20)]), "done"], tools=[add], max_parallel_tools=3
    )
    result = drive(run, "go")
    assert outputs(result.items) == list(range(1, 21))
    assert len(run.of(ModelRequestStarted)) == 2


def test_no_more_bodies_run_at_once_than_allowed() -> None:
    running, most = 0, 0
    lock = threading.Lock()
    gate = threading.Barrier(2)

    def body() -> None:
        """Count who is here."""
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()
        with lock:
            running -= 1
        gate.wait()

    run = Run([asking(*[call("body") for _ in range(6)]), "done"], tools=[body], max_parallel_tools=2)
    run.agent.run("go")
    assert most == 2


@either
def test_a_repeated_call_id_is_renamed_and_the_original_goes_back_on_the_wire(drive: Drive) -> None:
    run = Run(
        [
            asking(call("add", "same", a=1, b=1), call("add", "same", a=2, b=2)),
            asking(call("add", "same", a=3, b=3)),
            "ok",
        ],
        tools=[add],
    )
    result = drive(run, "go")
    assert [event.call.id for event in run.of(ToolCallRequested)] == ["same", "same~2", "same~3"]
    assert [event.output for event in run.of(ToolResultReceived)] == [2, 4, 6]
    parts = [part for item in result.items for part in item.parts if isinstance(part, ToolCallPart)]
    assert [part.wire_id for part in parts] == [None, "same", "same"]
    assert faults(run.recorder.events) == []


@either
def test_a_tool_that_outlives_its_timeout_is_answered_and_its_late_answer_changes_nothing(
    drive: Drive,
) -> None:
    scripted = ScriptedTool(timeout_s=5)
    run = Run([asking(call("work")), asking(call("work")), "done"], tools=[scripted.tool])

    def pass_time(event: AgentEvent) -> None:
        if isinstance(event, ToolExecutionStarted):
            run.clock.advance(5)
        elif isinstance(event, ModelRequestStarted):
            scripted.release_all("too late")

    run.agent.observers = (*run.agent.observers, pass_time)
    result = drive(run, "go")
    outputs = [event.output for event in run.of(ToolResultReceived)]
    assert outputs == ["The tool did not finish within 5 seconds; what it did is not known."] * 2
    assert run.of(ToolResultReceived)[0].duration_ms == pytest.approx(5_000)
    assert result.text == "done"
    assert faults(run.recorder.events) == []


@either
def test_progress_and_facts_of_a_tool_are_told_while_it_runs(drive: Drive) -> None:
    def report(context: ToolContext) -> str:
        """Report."""
        context.progress("half", 0.5)
        context.emit("note", {"at": {1, 2}})
        return str(context.turn_id)

    run = Run([asking(call("report")), "ok"], tools=[report])
    drive(run, "go")
    assert [(e.message, e.fraction) for e in run.of(ToolExecutionProgress)] == [("half", 0.5)]
    assert [(e.name, e.data) for e in run.of(CustomEvent)] == [("note", {"at": {"$set": [1, 2]}})]
    assert run.of(ToolResultReceived)[0].output == "turn-1"
    assert faults(run.recorder.events) == []


@either
def test_context_variables_reach_a_tool_in_a_thread(drive: Drive) -> None:
    user = contextvars.ContextVar("user", default="nobody")

    def who() -> str:
        """Tell who asks."""
        return user.get()

    run = Run([asking(call("who")), "ok"], tools=[who])
    user.set("ann")
    drive(run, "go")
    assert run.of(ToolResultReceived)[0].output == "ann"


@either
def test_a_tool_cannot_change_the_transcript_through_its_input(drive: Drive) -> None:
    def spoil(rows: list[Any]) -> int:
        """Empty the list."""
        count = len(rows)
        rows.clear()
        return count

    run = Run([asking(call("spoil", rows=[1, {"a": 2}])), "ok"], tools=[spoil])
    result = drive(run, "go")
    assert result.items[1].calls[0].input == {"rows": [1, {"a": 2}]}


@either
@pytest.mark.parametrize(
    "value",
    [
        'a "quoted"\nline \u2028 é',
        {"rows": [{"text": "x" * 12_000}]},
        object(),
        {1, 2},
        b"\x00\xff",
        float("nan"),
    ],
)
def test_any_result_reaches_event_transcript_and_model_alike(drive: Drive, value: object) -> None:
    run = Run([asking(call("give")), "ok"], tools=[tool(lambda: value, name="give")])
    result = drive(run, "go")
    output = run.of(ToolResultReceived)[0].output
    assert outputs(result.items) == [output]
    assert outputs(run.model.requests[1].items) == [output]
    assert run.of(ToolResultReceived)[0].is_error is False


def test_five_megabytes_are_bounded_with_an_explicit_mark() -> None:
    run = Run([asking(call("give")), "ok"], tools=[tool(lambda: "x" * 5_000_000, name="give")])
    run.agent.run("go")
    output = run.of(ToolResultReceived)[0].output
    assert len(output) < 101_000
    assert "left out" in output


def test_the_host_may_interject_after_a_round() -> None:
    run = Run([asking(call("add", a=1, b=2)), "both"], tools=[add])
    with run.agent.start("go") as driver:
        step = driver.next()
        assert isinstance(step, AfterToolResult)
        assert [part.output for part in step.results] == [3]
        step.submit("and be quick")
        assert isinstance(driver.next(), Finished)
        kinds = [item.kind for item in driver.transcript.items]
    assert kinds == ["user", "assistant", "tool", "user", "assistant"]
    assert len(run.model.requests) == 2


@pytest.mark.parametrize("drive", [drive_sync, drive_async])
def test_results_of_an_open_round_are_in_no_transcript(drive: Drive) -> None:
    scripted = ScriptedTool()
    run = Run([asking(call("add", a=1, b=2), call("work")), "ok"], tools=[add, scripted.tool])
    seen: list[tuple[int, int]] = []
    drivers: list[Any] = []

    def look(event: AgentEvent) -> None:
        if isinstance(event, ToolResultReceived):
            driver = drivers[0]
            seen.append((len(driver.open_round), len(driver.transcript.items)))
            scripted.release("call-2")

    run.agent.observers = (*run.agent.observers, look)
    if drive is drive_sync:
        with run.agent.start("go") as driver:
            drivers.append(driver)
            driver.run()
    else:

        async def main() -> None:
            async with run.agent.astart("go") as driver:
                drivers.append(driver)
                await driver.run()

        asyncio.run(main())
    assert seen == [(1, 2), (0, 4)]


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="add"):
        Run([], tools=[add, tool(lambda a: a, name="add")])


@either
def test_bodies_that_may_start_at_once_are_all_started_before_a_result_is_told(drive: Drive) -> None:
    calls = [call("add", a=number, b=1) for number in range(5)]
    run = Run([asking(*calls), "ok"], tools=[add], max_parallel_tools=3)
    drive(run, "go")
    told = [e.type for e in run.recorder.events if isinstance(e, ToolExecutionStarted | ToolResultReceived)]
    assert told[:3] == ["tool_execution_started"] * 3
    assert faults(run.recorder.events) == []
