"""An agent as an async context manager: its observers are closed, and no task of the loop waits for that."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import AgentEvent
from agentkit_loop.testing import ScriptedModel


class Closing:
    """An observer whose closing takes until somebody lets it."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.closed_on: list[int] = []

    def handle_event(self, event: AgentEvent) -> None:
        del event

    def close(self, timeout_s: float | None = None) -> bool:
        del timeout_s
        assert self.release.wait(60)
        self.closed_on.append(threading.get_ident())
        return True


def test_leaving_closes_the_observers_beside_the_loop() -> None:
    observer = Closing()

    async def main() -> None:
        leaving = asyncio.Event()

        async def use() -> str:
            async with Agent(ScriptedModel(["hi"]), observers=[observer]) as agent:
                text = (await agent.arun("go")).text
                leaving.set()
            return text

        using = asyncio.create_task(use())
        await leaving.wait()
        await asyncio.sleep(0)
        assert observer.closed_on == []
        observer.release.set()  # by a task of the same loop, which therefore goes on
        assert await using == "hi"

    asyncio.run(main())
    (thread,) = observer.closed_on
    assert thread != threading.get_ident()


def test_an_agent_that_is_closed_so_starts_nothing_more_from_then_on() -> None:
    observer = Closing()
    agent = Agent(ScriptedModel(["hi"]), observers=[observer])

    async def main() -> None:
        closing = asyncio.create_task(agent.aclose())
        await asyncio.sleep(0)
        with pytest.raises(IllegalMoveError):
            agent.astart("go")
        observer.release.set()
        await closing

    asyncio.run(main())
    assert len(observer.closed_on) == 1


def test_what_breaks_the_body_is_raised_when_all_is_closed() -> None:
    observer = Closing()
    observer.release.set()

    async def main() -> None:
        async with Agent(ScriptedModel(["hi"]), observers=[observer]):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(main())
    assert len(observer.closed_on) == 1
