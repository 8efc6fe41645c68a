"""Closing a run on an event loop: twice at once, while next() is wanted, while another task drives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import AgentEvent, RunFailed, RunFinished
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from tests.rules import faults


def pending_agent(release: asyncio.Event, recorder: EventRecorder) -> Agent:
    @tool
    async def hold() -> str:
        """Hold."""
        await release.wait()
        return "x"

    @tool(approval=True)
    def remove() -> str:
        """Remove."""
        return "removed"

    names = ("hold", "remove")
    reply = Reply(text="", calls=tuple(ScriptedCall(name=name, input={}) for name in names))
    return Agent(ScriptedModel([reply, "done"]), tools=[hold, remove], observers=[recorder])


def test_two_that_close_at_once_close_once() -> None:
    recorder = EventRecorder()

    async def main() -> None:
        release = asyncio.Event()
        driver = pending_agent(release, recorder).astart("go")
        assert isinstance(await driver.next(), ApprovalRequest)
        both = [asyncio.create_task(driver.close()) for _ in range(2)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*both)
        await driver.close()

    asyncio.run(main())
    assert len(recorder.of(RunFinished)) == 1
    assert faults(recorder.events) == []


def test_who_wants_a_step_of_a_run_that_is_being_closed_is_refused() -> None:
    recorder = EventRecorder()

    async def main() -> None:
        release = asyncio.Event()
        driver = pending_agent(release, recorder).astart("go")
        await driver.next()
        closing = asyncio.create_task(driver.close())
        await asyncio.sleep(0)
        with pytest.raises(IllegalMoveError, match="the run is being closed"):
            await driver.next()
        release.set()
        await closing

    asyncio.run(main())
    assert len(recorder.of(RunFinished)) == 1
    assert faults(recorder.events) == []


def test_what_the_host_raises_ends_a_run_that_another_task_drives() -> None:
    recorder = EventRecorder()

    async def main() -> None:
        begun = asyncio.Event()

        @tool
        async def hold() -> str:
            """Hold."""
            begun.set()
            await asyncio.Event().wait()
            return "never"

        reply = Reply(text="", calls=(ScriptedCall(name="hold", input={}),))
        agent = Agent(ScriptedModel([reply]), tools=[hold], observers=[recorder])
        async with agent.astart("go") as driver:
            driving = asyncio.create_task(driver.run())
            await begun.wait()
            try:
                raise ValueError("of the host")
            finally:
                tasks.append(driving)

    tasks: list[asyncio.Task[Any]] = []
    with pytest.raises(ValueError, match="of the host"):
        asyncio.run(main())
    assert tasks[0].done()
    assert [event.error.message for event in recorder.of(RunFailed)] == ["of the host"]
    assert faults(recorder.events) == []


def test_a_cancel_from_another_thread_while_nothing_is_to_be_done_ends_no_later_exchange() -> None:
    recorder = EventRecorder()

    async def main() -> None:
        agent = Agent(ScriptedModel(["one", "two"]), observers=[recorder])
        async with agent.astart() as driver:
            assert (await driver.run("a")).text == "one"
            await asyncio.to_thread(driver.cancel, "too late")
            assert (await driver.run("b")).finish_reason == "completed"

    asyncio.run(main())
    assert "cancel_requested" not in recorder.types
    assert faults(recorder.events) == []


def test_an_interrupt_goes_through_a_stream_that_is_left_at_its_next_event() -> None:
    def interrupt(event: AgentEvent) -> None:
        if event.type == "model_request_started":
            raise KeyboardInterrupt

    recorder = EventRecorder()
    agent = Agent(ScriptedModel(["one"]), observers=[recorder, interrupt])
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        for event in agent.stream("go"):
            told.append(event.type)
            if event.type == "model_request_started":
                break
    assert recorder.types[-1] == "run_cancelled"


def test_a_cancelled_task_does_not_go_on_at_the_closing_events() -> None:
    recorder = EventRecorder()

    async def main() -> None:
        begun = asyncio.Event()

        @tool
        async def hold() -> str:
            """Hold."""
            begun.set()
            await asyncio.Event().wait()
            return "never"

        reply = Reply(text="", calls=(ScriptedCall(name="hold", input={}),))
        agent = Agent(ScriptedModel([reply]), tools=[hold], observers=[recorder])

        async def consume() -> None:
            async for event in agent.astream("go"):
                if event.type == "run_cancelled":
                    return

        consuming = asyncio.create_task(consume())
        await begun.wait()
        consuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consuming

    asyncio.run(main())
    assert recorder.types[-1] == "run_cancelled"
    assert faults(recorder.events) == []
