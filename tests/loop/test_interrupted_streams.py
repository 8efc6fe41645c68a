"""A cancel, or the end of a run's time, does not wait for a silent model: over the real SDK and a real socket."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendText
from agentkit_loop.events import (
    AgentEvent,
    BudgetExceeded,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    TurnFinished,
)
from agentkit_loop.limits import Limits
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.testing import EventRecorder
from agentkit_loop.testing_server import MessagesServer, ServerReply
from tests.loop.messages_api import KEY, ended, model_at, started, stream_of, text_block
from tests.loop.silent_servers import full_backlog
from tests.rules import faults

both = pytest.mark.parametrize("on_loop", [False, True], ids=["sync", "async"])


def stalling() -> Any:
    """Stream the start and two chunks, and then nothing for ever."""
    return stream_of(started(), text_block("one ", "two"), ended(), stall_after=4)


def drive(agent: Agent, ready: threading.Event, *, on_loop: bool) -> str:
    def cancel(driver: Any) -> None:
        ready.wait(30)
        driver.cancel("enough", by="a test")

    async def asynchronous() -> str:
        async with agent.astart("go") as driver:
            threading.Thread(target=cancel, args=(driver,)).start()
            return (await driver.run()).finish_reason

    if on_loop:
        return asyncio.run(asynchronous())
    with agent.start("go") as driver:
        threading.Thread(target=cancel, args=(driver,)).start()
        return driver.run().finish_reason


@both
def test_a_cancel_from_another_thread_ends_a_stream_that_stalls(on_loop: bool) -> None:
    ready, recorder = threading.Event(), EventRecorder()

    def watch(event: AgentEvent) -> None:
        if (
            isinstance(event, ContentDelta)
            and isinstance(event.delta, AppendText)
            and event.delta.chunk == "two"
        ):
            ready.set()

    with MessagesServer([stalling()]) as server:
        agent = Agent(model_at(server), observers=[recorder, watch])
        assert drive(agent, ready, on_loop=on_loop) == "cancelled"
    assert recorder.of(ModelRequestFinished)[0].finish_reason == "cancelled"
    assert faults(recorder.events) == []


@both
def test_a_cancel_ends_the_wait_for_a_head_and_leaves_no_connection(on_loop: bool) -> None:
    ready, recorder = threading.Event(), EventRecorder()

    def answer(_: Any) -> ServerReply:
        ready.set()
        return ServerReply(stall_head=True)

    with MessagesServer(answer) as server:
        agent = Agent(model_at(server, timeout_s=20), observers=[recorder])
        assert drive(agent, ready, on_loop=on_loop) == "cancelled"
        assert server.wait_for_abort()
    assert recorder.of(ModelRequestFinished)[0].finish_reason == "cancelled"
    assert faults(recorder.events) == []


@both
def test_a_cancel_before_anything_is_sent_ends_the_request(on_loop: bool) -> None:
    """The address answers nobody, so that the request is about to connect or waits for it."""
    ready, recorder = threading.Event(), EventRecorder()

    def watch(event: AgentEvent) -> None:
        if isinstance(event, ModelRequestStarted):
            ready.set()

    with full_backlog() as port:
        model = AnthropicModel("m", base_url=f"http://127.0.0.1:{port}", api_key=KEY, timeout_s=20)
        agent = Agent(model, observers=[recorder, watch])
        assert drive(agent, ready, on_loop=on_loop) == "cancelled"
    assert recorder.of(ModelRequestFinished)[0].finish_reason == "cancelled"
    assert recorder.of(ModelRequestFailed) == []
    assert faults(recorder.events) == []


@both
def test_the_end_of_a_runs_time_ends_the_wait_for_a_head(on_loop: bool) -> None:
    recorder = EventRecorder()
    with MessagesServer([ServerReply(stall_head=True)]) as server:
        agent = Agent(model_at(server, timeout_s=20), observers=[recorder], limits=Limits(max_seconds=0.5))
        result = asyncio.run(agent.arun("go")) if on_loop else agent.run("go")
        assert server.wait_for_abort()
    assert result.finish_reason == "limit"
    assert recorder.of(ModelRequestFailed) == []
    assert faults(recorder.events) == []


@both
def test_the_end_of_a_runs_time_ends_a_stream_that_stalls(on_loop: bool) -> None:
    recorder = EventRecorder()
    with MessagesServer([stalling()]) as server:
        agent = Agent(model_at(server), observers=[recorder], limits=Limits(max_seconds=0.5))
        result = asyncio.run(agent.arun("go")) if on_loop else agent.run("go")
    assert result.finish_reason == "limit"
    assert result.text in ("one two", "one ", "")
    assert [event.limit for event in recorder.of(BudgetExceeded)] == ["max_seconds"]
    assert len(recorder.of(TurnFinished)) == 1
    assert faults(recorder.events) == []
