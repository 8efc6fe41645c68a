"""ChannelReporter.on_loop: an observer or an async function on an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.testing import EventRecorder, Reply, ScriptedModel
from agentkit_reporting import ChannelReporter
from tests.reporting.adapters import Failing, Gated, note, notes


def test_an_async_function_gets_every_event_in_order_on_its_loop() -> None:
    got: list[tuple[int, int]] = []

    async def publish(event: AgentEvent) -> None:
        await asyncio.sleep(0)
        got.append((event.seq, threading.get_ident()))

    async def run() -> None:
        channel = ChannelReporter.on_loop(publish)

        def tell() -> None:
            for event in notes(500):
                channel.handle_event(event)

        await asyncio.to_thread(tell)
        assert await channel.aflush() is True
        assert await channel.aclose() is True
        assert str(channel.account()) == "complete: 500 of 500"

    asyncio.run(run())
    assert [seq for seq, _ in got] == list(range(1, 501))
    assert {thread for _, thread in got} == {threading.get_ident()}


def test_an_asynchronous_agent_tells_an_async_function_every_event() -> None:
    got: list[AgentEvent] = []
    recorder = EventRecorder()

    async def publish(event: AgentEvent) -> None:
        await asyncio.sleep(0)
        got.append(event)

    async def run() -> None:
        channel = ChannelReporter.on_loop(publish)
        agent = Agent(model=ScriptedModel([Reply(text="hello there")]), observers=[channel, recorder])
        await agent.arun("hi")
        assert await channel.aclose() is True

    asyncio.run(run())
    assert got == recorder.events


def test_the_loop_is_never_held_up_by_a_full_channel() -> None:
    async def run() -> tuple[int, int]:
        gated = Gated(is_open=True)
        channel = ChannelReporter.on_loop(gated, maxsize=10, overflow="drop_newest")
        for event in notes(1_000):  # nobody can take any of them meanwhile
            channel.handle_event(event)
        assert channel.flush() is False
        await channel.aclose()
        return len(gated.got), channel.dropped

    assert asyncio.run(run()) == (10, 990)


def test_a_failure_of_an_async_function_is_told_as_that_of_an_observer() -> None:
    async def fails_once(event: AgentEvent) -> None:
        if event.seq == 1:
            raise ValueError("once")

    async def run() -> list[tuple[int, str]]:
        recorder = EventRecorder()
        channel = ChannelReporter.on_loop(fails_once)
        emitter = EventEmitter([channel, recorder])
        emitter.emit(note())
        assert await channel.aflush() is False
        emitter.emit(note())
        assert await channel.aclose() is False
        return [(told.event_seq, told.error.message) for told in recorder.of(ObserverFailed)]

    assert asyncio.run(run()) == [(1, "once")]


def test_what_is_held_when_the_loop_ends_is_delivered() -> None:
    got: list[int] = []

    async def publish(event: AgentEvent) -> None:
        got.append(event.seq)

    async def run() -> ChannelReporter:
        channel = ChannelReporter.on_loop(publish)
        for event in notes(600):
            channel.handle_event(event)
        return channel

    channel = asyncio.run(run())
    assert got == list(range(1, 601))
    assert channel.account().is_complete


def test_what_a_task_tells_while_the_loop_ends_is_delivered_too() -> None:
    got: list[int] = []
    last = notes(3)

    async def run() -> ChannelReporter:
        channel = ChannelReporter.on_loop(lambda event: got.append(event.seq))

        async def agent() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                for event in last:
                    channel.handle_event(event)
                    await asyncio.sleep(0)

        task = asyncio.create_task(agent())
        channel.handle_event(last[0])
        await asyncio.sleep(0)
        assert not task.done()
        return channel

    channel = asyncio.run(run())
    assert got == [1, 1, 2, 3]
    assert channel.close() is True


def test_events_after_the_loop_has_ended_are_dropped_and_counted() -> None:
    async def run() -> ChannelReporter:
        channel = ChannelReporter.on_loop(Gated(is_open=True))
        channel.handle_event(notes(1)[0])
        return channel

    channel = asyncio.run(run())
    for event in notes(4):
        channel.handle_event(event)
    assert (channel.dropped, channel.account().delivered) == (4, 1)
    assert channel.flush() is False
    assert channel.close() is False


def test_a_loop_that_is_closed_before_the_first_event_takes_none() -> None:
    loop = asyncio.new_event_loop()
    gated = Gated(is_open=True)
    channel = ChannelReporter.on_loop(gated, loop=loop)
    loop.close()
    for event in notes(2):
        channel.handle_event(event)
    assert (gated.got, channel.dropped) == ([], 2)
    assert channel.close() is False
    assert gated.closed == 1


def test_an_observer_on_the_loop_is_flushed_and_closed_there() -> None:
    async def run() -> Gated:
        gated = Gated(is_open=True)
        channel = ChannelReporter.on_loop(gated)
        channel.handle_event(notes(1)[0])
        assert await channel.aflush() is True
        assert gated.flushed == 1
        assert await channel.aclose() is True
        return gated

    gated = asyncio.run(run())
    assert (gated.got, gated.closed) == ([1], 1)


def test_an_interrupt_on_the_loop_is_raised_where_events_come_from() -> None:
    async def run() -> None:
        channel = ChannelReporter.on_loop(Failing(1, error=SystemExit))
        one, two = notes(2)
        channel.handle_event(one)
        await channel.aflush()
        with pytest.raises(SystemExit):
            channel.handle_event(two)
        await channel.aclose()

    asyncio.run(run())


def test_without_a_running_loop_one_must_be_given() -> None:
    with pytest.raises(ConfigurationError, match="give it as loop="):
        ChannelReporter.on_loop(EventRecorder())
