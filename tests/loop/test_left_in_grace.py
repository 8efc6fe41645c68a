"""A host leaves while a tool runs, and is interrupted while it waits for the tool: the run is closed all the same."""

from __future__ import annotations

import asyncio
import signal
import threading
from decimal import Decimal

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import RunCancelled, ToolExecutionStarted
from agentkit_loop.state import Spent
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, tool
from agentkit_loop.usage import Usage, child_usage
from tests.rules import faults


def holding(ready: threading.Event) -> Tool[..., str]:
    @tool
    def hold(context: ToolContext) -> str:
        """Hold until nobody waits any more."""
        context.on_leave(lambda: signal.raise_signal(signal.SIGINT))
        ready.set()
        context.wait_cancelled(30)
        return "stopped"

    return hold


def test_ctrl_c_in_the_grace_period_closes_the_run_as_cancelled() -> None:
    ready, recorder = threading.Event(), EventRecorder()
    agent = Agent(
        ScriptedModel([Reply(calls=(ScriptedCall(name="hold"),))]),
        tools=[holding(ready)],
        observers=[recorder],
    )
    with pytest.raises(KeyboardInterrupt), agent.start("go") as driver:
        while not recorder.of(ToolExecutionStarted):
            driver.advance()
        ready.wait(30)
    assert len(recorder.of(RunCancelled)) == 1
    assert faults(recorder.events) == []


def test_a_cancelled_task_in_the_grace_period_closes_the_run_as_cancelled() -> None:
    recorder = EventRecorder()

    @tool
    def hold(context: ToolContext) -> str:
        """Hold until nobody waits any more."""
        context.wait_cancelled(30)
        return "stopped"

    async def leave() -> None:
        task = asyncio.current_task()
        assert task is not None
        agent = Agent(
            ScriptedModel([Reply(calls=(ScriptedCall(name="hold"),))]), tools=[hold], observers=[recorder]
        )
        async with agent.astart("go") as driver:
            while not recorder.of(ToolExecutionStarted):
                await driver.advance()
            task.cancel()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())
    assert len(recorder.of(RunCancelled)) == 1
    assert faults(recorder.events) == []


@pytest.mark.parametrize("amount", ["NaN", "-1000000", "9E+999999", "Infinity"])
def test_an_amount_that_no_price_list_gives_leaves_a_sum_as_it_was(amount: str) -> None:
    spent = Spent()
    spent.add_child(child_usage(Usage(input_tokens=1), {"USD": Decimal(2)}))
    spent.add_child(child_usage(Usage(input_tokens=1), {"USD": Decimal(amount)}))
    assert spent.costs == {"USD": Decimal(2)}
