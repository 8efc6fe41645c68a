"""What goes on beside a question: `run()` waits for it, an iteration that nobody answers does not spin."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import ModelError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    RunFailed,
    ToolResultReceived,
    TurnFinished,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.limits import Limits
from agentkit_loop.steps import ApprovalRequest, Finished
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedFailure, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from tests.loop.families import both
from tests.rules import faults


@tool(approval=True)
def remove(path: str) -> str:
    """Remove a file."""
    return f"removed {path}"


def asking(*names: str) -> Reply:
    inputs: dict[str, dict[str, Any]] = {"remove": {"path": "a"}}
    return Reply(text="", calls=tuple(ScriptedCall(name=name, input=inputs.get(name, {})) for name in names))


def run(agent: Agent, *, on_loop: bool) -> Any:
    return asyncio.run(agent.arun("go")) if on_loop else agent.run("go")


@both
def test_run_is_suspended_once_nothing_else_goes_on(on_loop: bool) -> None:
    recorder, asked = EventRecorder(), threading.Event()

    def watch(event: AgentEvent) -> None:
        if isinstance(event, ApprovalRequired):
            asked.set()

    @tool
    def slow() -> str:
        """End some time after the question was asked."""
        asked.wait(30)
        return "whole"

    @tool
    async def slower() -> str:
        """Do the same on an event loop."""
        while not asked.is_set():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        return "whole too"

    agent = Agent(
        ScriptedModel([asking("slow", "remove", "slower")]),
        tools=[slow, remove, slower],
        observers=[recorder, watch],
    )
    result = run(agent, on_loop=on_loop)
    assert result.status == "suspended"
    assert [step.approval_id for step in result.pending] == ["approval-1"]
    told = {event.name: (event.output, event.interrupted) for event in recorder.of(ToolResultReceived)}
    assert told == {"slow": ("whole", False), "slower": ("whole too", False)}
    assert faults(recorder.events) == []


@both
def test_an_iteration_that_nobody_answers_pauses_and_says_so_once(on_loop: bool) -> None:
    recorder = EventRecorder()
    agent = Agent(ScriptedModel([asking("remove"), "done"]), tools=[remove], observers=[recorder])
    shown = 0

    async def on_a_loop() -> str:
        nonlocal shown
        async with agent.astart("go") as driver:
            async for step in driver:
                shown += isinstance(step, ApprovalRequest)
                if isinstance(step, ApprovalRequest) and shown == 5:
                    step.approve()
                elif isinstance(step, Finished):
                    return step.result.text
        raise AssertionError("no end")

    def here() -> str:
        nonlocal shown
        with agent.start("go") as driver:
            for step in driver:
                shown += isinstance(step, ApprovalRequest)
                if isinstance(step, ApprovalRequest) and shown == 5:
                    step.approve()
                elif isinstance(step, Finished):
                    return step.result.text
        raise AssertionError("no end")

    assert (asyncio.run(on_a_loop()) if on_loop else here()) == "done"
    assert shown == 5
    assert [event.code for event in recorder.of(Warning)] == ["step_unanswered"]
    assert faults(recorder.events) == []


@both
def test_an_approver_that_answers_the_step_and_returns_an_answer_is_told_of_it(on_loop: bool) -> None:
    recorder = EventRecorder()

    def approve(step: ApprovalRequest) -> bool:
        step.approve(by="itself")
        return True

    agent = Agent(
        ScriptedModel([asking("remove"), "done"]), tools=[remove], approve=approve, observers=[recorder]
    )
    assert run(agent, on_loop=on_loop).text == "done"
    assert [event.output for event in recorder.of(ToolResultReceived)] == ["removed a"]
    assert faults(recorder.events) == []


@both
def test_an_answer_that_comes_after_the_call_was_closed_is_no_failure(on_loop: bool) -> None:
    recorder, closed = EventRecorder(), threading.Event()

    def watch(event: AgentEvent) -> None:
        if isinstance(event, TurnFinished):
            closed.set()

    def approve(_: ApprovalRequest) -> bool:
        closed.wait(30)
        return True

    child = Agent(
        ScriptedModel([asking("remove")]), name="child", tools=[remove], limits=Limits(max_seconds=0.1)
    )
    calling = Reply(text="", calls=(ScriptedCall(name="child", input={"prompt": "p"}),))
    parent = Agent(
        ScriptedModel([calling, "done"]),
        tools=[child.as_tool(description="c")],
        approve=approve,
        observers=[recorder, watch],
    )
    assert run(parent, on_loop=on_loop).text == "done"
    assert recorder.of(RunFailed) == []


@both
def test_a_cancel_after_a_run_has_failed_leaves_the_input_to_the_resume(on_loop: bool) -> None:
    recorder = EventRecorder()
    drivers: list[Any] = []

    def watch(event: AgentEvent) -> None:
        if isinstance(event, TurnFinished):
            drivers[0].cancel("too late")

    failing = Reply(fail=ScriptedFailure(error_class="invalid_request"))
    agent = Agent(ScriptedModel([failing]), observers=[recorder, watch])

    async def on_a_loop() -> None:
        async with agent.astart("go") as driver:
            drivers.append(driver)
            await driver.run()

    def here() -> None:
        with agent.start("go") as driver:
            drivers.append(driver)
            driver.run()

    with pytest.raises(ModelError):
        asyncio.run(on_a_loop()) if on_loop else here()
    assert "cancel_requested" not in recorder.types
    with Agent(ScriptedModel(["found"])).resume(recorder.events) as driver:
        assert driver.run().text == "found"


def test_the_end_of_a_run_needs_no_thread_of_the_loops_executor() -> None:
    class Flushed(EventRecorder):
        def flush(self) -> None:
            flushed.append(threading.current_thread().name)

    flushed: list[str] = []
    agent = Agent(ScriptedModel(["done"]), observers=[Flushed()])

    async def main() -> str:
        loop, release = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, release.wait, 30)
        text = (await agent.arun("go")).text
        release.set()
        await busy
        return text

    assert asyncio.run(main()) == "done"
    assert flushed


def test_a_scripted_model_that_waits_is_cut_as_a_real_one_is() -> None:
    recorder, begun = EventRecorder(), threading.Event()

    def watch(event: AgentEvent) -> None:
        if event.type == "model_request_started":
            begun.set()

    agent = Agent(ScriptedModel([Reply(text="late", delay_s=60), "next"]), observers=[recorder, watch])
    with agent.start("go") as driver:

        def cancel() -> None:
            begun.wait(30)
            driver.cancel("enough")

        thread = threading.Thread(target=cancel)
        thread.start()
        assert driver.run().finish_reason == "cancelled"
        thread.join()
        assert driver.run("and now").text == "next"
    limited = Agent(
        ScriptedModel([Reply(text="a b c", chunk_chars=1, chunk_delay_s=60)]), limits=Limits(max_seconds=0.1)
    )
    assert limited.run("go").finish_reason == "limit"
    assert faults(recorder.events) == []


def test_a_tool_that_waits_for_its_cancel_is_not_waited_for_by_run() -> None:
    recorder = EventRecorder()

    @tool(timeout_s=0.05)
    def deaf(context: ToolContext) -> str:
        """Go on for ever."""
        context.wait_cancelled(30)
        return "late"

    agent = Agent(ScriptedModel([asking("deaf", "remove")]), tools=[deaf, remove], observers=[recorder])
    assert agent.run("go").status == "suspended"
    (told,) = recorder.of(ToolResultReceived)
    assert "did not finish within 0.05 seconds" in str(told.output)
