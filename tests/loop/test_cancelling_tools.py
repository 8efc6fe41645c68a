"""BEHAVIOUR 33 and 34: a cancel while bodies run, those that stop when asked and those that do not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit_loop.content import ToolResultPart
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import (
    ApprovalResolved,
    CancelRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnStarted,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.limits import Limits
from agentkit_loop.permissions import Permissions
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from tests.loop.hosts import (
    Host,
    HurriedClock,
    Opened,
    Run,
    asking,
    both,
    call,
)
from tests.loop.test_cancelling import add, cancel_at, goes_on_normally, write


def resting(
    *, asynchronous: bool, cooperative: bool, ends: Callable[[], Any] = lambda: "stopped early"
) -> Any:
    """A tool that goes on until it is told to stop, or for ever; the event lets go of it at last."""
    over = threading.Event()

    def rest(context: ToolContext) -> Any:
        """Rest."""
        while not (cooperative and context.wait_cancelled(0.01)):
            if over.wait(0.01):
                return "too late"
        return ends()

    async def rest_later() -> Any:
        """Rest."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not cooperative:
                await asyncio.Event().wait()
        return ends()

    made = tool(name="rest")(rest_later if asynchronous else rest)
    return made, over


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_body_that_stops_when_asked_ends_by_itself(opened: Opened, asynchronous: bool) -> None:
    made, over = resting(asynchronous=asynchronous, cooperative=True)
    run = Run([asking(call("rest")), "as ever"], tools=[made])
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, ToolExecutionStarted))
        assert host.run("go").finish_reason == "cancelled"
        goes_on_normally(run, host)
    (result,) = run.of(ToolResultReceived)
    assert result.not_started is False
    assert result.output in {
        "stopped early",
        "The call was interrupted before it finished; what it did is not known.",
    }
    over.set()
    assert run.faults == []


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_body_that_fails_when_asked_to_stop_is_interrupted(opened: Opened, asynchronous: bool) -> None:
    def fail() -> None:
        raise InterruptedError("stopped")

    made, over = resting(asynchronous=asynchronous, cooperative=True, ends=fail)
    run = Run([asking(call("rest")), "as ever"], tools=[made])
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, ToolExecutionStarted))
        assert host.run("go").finish_reason == "cancelled"
        goes_on_normally(run, host)
    (result,) = run.of(ToolResultReceived)
    assert (result.interrupted, result.is_error) == (True, True)
    over.set()
    assert run.faults == []


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_body_that_does_not_stop_is_abandoned_and_its_late_answer_ignored(
    opened: Opened, asynchronous: bool
) -> None:
    made, over = resting(asynchronous=asynchronous, cooperative=False)
    run = Run([asking(call("rest", "x"), call("rest", "y")), "as ever"], tools=[made], clock=HurriedClock())
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, ToolExecutionStarted) and event.call_id == "y")
        assert host.run("go").finish_reason == "cancelled"
        over.set()
        goes_on_normally(run, host)
    results = run.of(ToolResultReceived)
    assert [(event.call_id, event.interrupted, event.not_started) for event in results] == [
        ("x", True, False),
        ("y", True, False),
    ]
    assert [event.type for event in run.recorder.events if event.timestamp.second == 0][
        -1
    ] == "cancel_requested"
    assert run.faults == []


@both
def test_one_result_in_one_running_one_not_started(opened: Opened) -> None:
    made, over = resting(asynchronous=False, cooperative=False)
    run = Run(
        [asking(call("add", "x"), call("rest", "y"), call("rest", "z")), "as ever"],
        tools=[made, add],
        clock=HurriedClock(),
        max_parallel_tools=1,
    )
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, ToolExecutionStarted) and event.call_id == "y")
        assert host.run("go").finish_reason == "cancelled"
        goes_on_normally(run, host)
    over.set()
    results = run.of(ToolResultReceived)
    assert [(event.call_id, event.output == 3, event.not_started) for event in results] == [
        ("x", True, False),
        ("y", False, False),
        ("z", False, True),
    ]
    assert run.faults == []


@both
def test_a_tool_may_cancel_the_exchange_that_it_is_part_of(opened: Opened) -> None:
    hosts: list[Host] = []

    def stop_all() -> str:
        """Stop."""
        hosts[0].cancel("the tool says so")
        return "asked to stop"

    run = Run([asking(call("stop_all")), "as ever"], tools=[stop_all])
    with opened(run) as host:
        hosts.append(host)
        assert host.run("go").finish_reason == "cancelled"
        goes_on_normally(run, host)
    assert run.of(ToolResultReceived)[0].output == "asked to stop"
    assert run.of(CancelRequested)[0].reason == "the tool says so"
    assert run.faults == []


# --- approvals


@both
def test_the_run_s_time_ends_even_a_call_that_was_approved_before_the_cancel(opened: Opened) -> None:
    made, over = resting(asynchronous=False, cooperative=False)
    run = Run(
        [asking(call("rest", "x")), "never"],
        tools=[made],
        permissions=Permissions(default="ask"),
        limits=Limits(max_seconds=10),
        clock=HurriedClock(),
    )
    with opened(run, "go") as host:
        host.next()
        host.pending[0].approve()
        host.cancel()
        assert host.finish().finish_reason == "cancelled"
    over.set()
    (result,) = run.of(ToolResultReceived)
    assert (result.interrupted, result.not_started) == (True, False)
    assert run.faults == []


@both
def test_a_pending_approval_is_resolved_as_not_approved(opened: Opened) -> None:
    run = Run([asking(call("write", "x"), call("add", "y")), "as ever"], tools=[write, add])
    with opened(run, "go") as host:
        step = host.next()
        while not run.of(ToolResultReceived):
            step = host.next()
        assert isinstance(step, ApprovalRequest)
        host.cancel()
        with pytest.raises(IllegalMoveError):
            step.approve()
        assert host.finish().finish_reason == "cancelled"
        goes_on_normally(run, host)
    assert [(event.approved, event.call_id) for event in run.of(ApprovalResolved)] == [(False, "x")]
    results = {event.call_id: event for event in run.of(ToolResultReceived)}
    assert (results["x"].interrupted, results["x"].not_started, results["x"].is_error) == (True, True, True)
    assert results["y"].output == 3
    assert run.faults == []


@both
def test_an_approval_given_before_wins_and_that_call_runs_to_its_end(opened: Opened) -> None:
    run = Run([asking(call("write", "x"), call("write", "y", path="b")), "as ever"], tools=[write])
    with opened(run, "go") as host:
        host.next()
        host.pending[1].approve()
        host.cancel()
        assert host.finish().finish_reason == "cancelled"
        goes_on_normally(run, host)
    outputs = {event.call_id: event.output for event in run.of(ToolResultReceived)}
    assert outputs["y"] == "wrote b"
    assert [event.call_id for event in run.of(ToolExecutionStarted)] == ["y"]
    assert len(run.of(TurnStarted)) == 2
    parts = [part for item in run.model.requests[-1].items for part in item.parts]
    assert [part.call_id for part in parts if isinstance(part, ToolResultPart)] == ["x", "y"]
    assert run.faults == []


@pytest.mark.parametrize("fails", [False, True])
@both
def test_what_a_body_wants_done_on_a_cancel_is_not_done_after_its_end(opened: Opened, fails: bool) -> None:
    done: list[str] = []

    @tool
    def quick(context: ToolContext) -> str:
        """End at once."""
        context.on_cancel(lambda: done.append("cancelled"))
        if fails:
            raise ValueError("as it is")
        return "x"

    run = Run([asking(call("quick")), "done"], tools=[quick])
    with opened(run) as host:
        assert host.run("go").text == "done"
    assert done == []
    assert run.faults == []


def test_what_fails_on_a_cancel_is_a_warning_and_the_rest_is_done() -> None:
    begun, done = threading.Event(), threading.Event()

    def fail() -> None:
        raise ValueError("cannot let go")

    @tool
    def hold(context: ToolContext) -> str:
        """Hold."""
        context.on_cancel(fail)
        context.on_cancel(done.set)
        begun.set()
        done.wait(30)
        return "x"

    run = Run([asking(call("hold"))], tools=[hold])
    with run.agent.start("go") as driver:

        def cancel() -> None:
            begun.wait(30)
            driver.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        assert driver.run().finish_reason == "cancelled"
        thread.join()
    told = [(event.code, event.message) for event in run.of(Warning)]
    assert told == [("on_cancel_failed", "cannot let go")]
    assert run.faults == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_goes_wrong_in_letting_go_is_told_also_where_the_host_breaks_the_run(asynchronous: bool) -> None:
    begun, done = threading.Event(), threading.Event()

    def fail() -> None:
        done.set()
        raise ValueError("cannot let go")

    @tool
    def hold(context: ToolContext) -> str:
        """Hold."""
        context.on_cancel(fail)
        begun.set()
        done.wait(30)
        return "x"

    run = Run([asking(call("hold", "h"), call("write", "w"))], tools=[hold, write])

    async def drive() -> None:
        async with run.agent.astart("go") as driver:
            async for step in driver:
                if isinstance(step, ApprovalRequest):
                    await asyncio.to_thread(begun.wait, 30)
                    raise LookupError("broken")  # noqa: TRY004 - not about the step

    def drive_here() -> None:
        with run.agent.start("go") as driver:
            for step in driver:
                if isinstance(step, ApprovalRequest):
                    begun.wait(30)
                    raise LookupError("broken")  # noqa: TRY004 - not about the step

    with pytest.raises(LookupError):
        asyncio.run(drive()) if asynchronous else drive_here()
    assert [(event.code, event.message) for event in run.of(Warning)] == [
        ("on_cancel_failed", "cannot let go")
    ]
    assert run.faults == []
