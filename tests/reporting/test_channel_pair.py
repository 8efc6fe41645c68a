"""ChannelReporter and its receiver: iteration on threads and event loops, ends on both sides, own senders."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
from typing import Any

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import AgentEvent, ObserverFailed, TurnStarted
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import ChannelReceiver, ChannelReporter
from tests.reporting.adapters import note, notes


def test_the_receiver_gives_the_events_in_order_and_ends_when_the_reporter_is_closed() -> None:
    reporter, receiver = ChannelReporter.pair()
    events = notes(5)
    for event in events:
        reporter.handle_event(event)
    taken = []
    taken.append(receiver.get())
    assert reporter.account().pending == 4
    assert reporter.close() is False
    taken.extend(receiver)
    assert taken == events
    assert (receiver.get(), list(receiver)) == (None, [])
    assert str(reporter.account()) == "complete: 5 of 5"


def test_closing_wakes_a_consumer_that_waits() -> None:
    reporter, receiver = ChannelReporter.pair()
    got: list[AgentEvent | None] = []
    consumer = threading.Thread(target=lambda: got.append(receiver.get()))
    consumer.start()
    assert reporter.close() is True
    consumer.join()
    assert got == [None]
    with pytest.raises(IllegalMoveError, match="event refused while the channel is closed; make a new one"):
        reporter.handle_event(notes(1)[0])


def test_get_waits_no_longer_than_asked() -> None:
    reporter, receiver = ChannelReporter.pair()
    with pytest.raises(queue.Empty):
        receiver.get(0.01)
    reporter.handle_event(notes(1)[0])
    event = receiver.get(0)
    assert event is not None
    assert event.seq == 1


def test_a_consumer_that_looks_in_again_and_again_leaves_nothing_behind() -> None:
    reporter, receiver = ChannelReporter.pair()

    def look() -> None:
        with pytest.raises(queue.Empty):
            receiver.get(0.0001)
        assert reporter.flush(0.0001) is True

    look()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(200):
        look()
    gc.collect()
    assert len(gc.get_objects()) < before + 100


def test_several_consumers_share_the_events() -> None:
    reporter, receiver = ChannelReporter.pair()
    shares: list[list[int]] = [[] for _ in range(4)]

    def consume(share: list[int]) -> None:
        share.extend(event.seq for event in receiver)

    threads = [threading.Thread(target=consume, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for event in notes(2_000):
        reporter.handle_event(event)
    assert reporter.close(30.0) is True
    for thread in threads:
        thread.join()
    assert sorted(seq for share in shares for seq in share) == list(range(1, 2_001))
    assert all(share == sorted(share) for share in shares)


def test_close_without_a_consumer_says_what_did_not_arrive() -> None:
    reporter, receiver = ChannelReporter.pair()
    reporter.handle_event(notes(1)[0])
    assert reporter.flush(0.01) is False
    assert reporter.close(0.01) is False
    assert str(reporter.account()) == "incomplete: 0 of 1 (1 pending)"
    assert receiver.get() is not None
    assert reporter.close(0.0) is True


def test_a_consumer_that_went_away_does_not_harm_the_run(caplog: pytest.LogCaptureFixture) -> None:
    reporter, receiver = ChannelReporter.pair(2, "block", patience_s=None)
    recorder = EventRecorder()
    emitter = EventEmitter([reporter, recorder])
    emitter.emit(note())
    receiver.close()
    for _ in range(10):
        emitter.emit(note())
    assert len(recorder.events) == 11
    assert recorder.of(ObserverFailed) == []
    assert emitter.stats()[0].dropped == 11
    assert "nobody takes them" in caplog.text
    assert emitter.close() is False  # not all arrived


def test_a_producer_that_waits_is_let_go_when_the_consumer_goes() -> None:
    reporter, receiver = ChannelReporter.pair(1, "block", patience_s=None)
    first, second = notes(2)
    reporter.handle_event(first)
    waiting = threading.Thread(target=reporter.handle_event, args=(second,))
    waiting.start()
    receiver.close()
    waiting.join()
    assert reporter.dropped == 2


def test_a_receiver_that_nobody_has_any_more_has_gone() -> None:
    reporter = ChannelReporter.pair(2, "block", patience_s=None)[0]
    gc.collect()
    for event in notes(5):
        reporter.handle_event(event)
    assert reporter.dropped == 5


def test_a_reporter_that_nobody_has_any_more_ends_the_iteration() -> None:
    receiver = ChannelReporter.pair()[1]
    gc.collect()
    assert list(receiver) == []


def test_async_iteration_gives_every_event_in_order_from_another_thread() -> None:
    async def consume(receiver: ChannelReceiver) -> list[int]:
        return [event.seq async for event in receiver]

    async def run() -> list[int]:
        reporter, receiver = ChannelReporter.pair(overflow="drop_newest", maxsize=10_000)

        def tell() -> None:
            for event in notes(5_000):
                reporter.handle_event(event)
            reporter.close()

        _, seqs = await asyncio.gather(asyncio.to_thread(tell), consume(receiver))
        return seqs

    assert asyncio.run(run()) == list(range(1, 5_001))


def test_async_iteration_on_the_producers_own_loop() -> None:
    async def run() -> list[int]:
        reporter, receiver = ChannelReporter.pair()
        seqs: list[int] = []

        async def consume() -> None:
            seqs.extend([event.seq async for event in receiver])

        task = asyncio.create_task(consume())
        for event in notes(20):
            reporter.handle_event(event)
            if event.seq % 3 == 0:
                await asyncio.sleep(0)
        assert reporter.flush() is False  # it does not wait here, and says so
        assert await reporter.aflush(30.0) is True
        assert reporter.close() is True
        await task
        return seqs

    assert asyncio.run(run()) == list(range(1, 21))


def test_an_event_loop_is_woken_once_for_a_batch() -> None:
    class CountingLoop(asyncio.SelectorEventLoop):
        wakes = 0

        def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override] # any is enough here
            self.wakes += 1
            return super().call_soon_threadsafe(callback, *args, context=context)

    loop = CountingLoop()

    async def run() -> tuple[int, int]:
        reporter, receiver = ChannelReporter.pair()
        first = asyncio.ensure_future(receiver.aget())
        await asyncio.sleep(0)
        before = loop.wakes
        for event in notes(1_000):  # all while the loop does not run
            reporter.handle_event(event)
        woken = loop.wakes - before
        await first
        return woken, reporter.account().pending

    try:
        assert loop.run_until_complete(run()) == (1, 999)
    finally:
        loop.close()


def test_a_receiver_on_a_loop_that_was_closed_does_not_harm_the_run() -> None:
    reporter, receiver = ChannelReporter.pair()

    async def wait_in_vain() -> None:
        task = asyncio.ensure_future(receiver.aget())
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(wait_in_vain())
    for event in notes(3):
        reporter.handle_event(event)
    assert reporter.account().received == 3
    assert reporter.close(0.0) is False


def test_only_what_the_receiver_wants_is_sent() -> None:
    reporter, receiver = ChannelReporter.pair(wants=(TurnStarted,))
    emitter = EventEmitter([reporter])
    emitter.emit(note())
    emitter.emit(TurnStarted(index=1))
    emitter.close()
    assert [event.type for event in receiver] == ["turn_started"]


def test_a_callable_or_an_object_that_sends_is_a_sender() -> None:
    mine: queue.Queue[AgentEvent] = queue.Queue(1)
    reporter = ChannelReporter(mine.put_nowait)
    recorder = EventRecorder()
    emitter = EventEmitter([reporter, recorder])
    emitter.emit(note())
    emitter.emit(note())
    assert mine.get().seq == 1
    assert [(each.observer, each.error.type) for each in recorder.of(ObserverFailed)] == [
        ("ChannelReporter", "Full")
    ]
    assert str(reporter.account()) == "incomplete: 1 of 2 (1 failed)"

    class Line:
        def __init__(self) -> None:
            self.sent: list[int] = []
            self.ended: list[str] = []

        def send(self, event: AgentEvent) -> None:
            self.sent.append(event.seq)

        def flush(self) -> None:
            self.ended.append("flush")

        def close(self) -> None:
            self.ended.append("close")

    line = Line()
    with ChannelReporter(line) as reporter:
        for event in notes(2):
            reporter.handle_event(event)
        assert reporter.flush() is True
    assert (line.sent, line.ended) == ([1, 2], ["flush", "close"])


@pytest.mark.parametrize("sender", [3, None, object(), queue.Queue])
def test_what_cannot_send_is_refused(sender: object) -> None:
    with pytest.raises(ConfigurationError, match="takes no events"):
        ChannelReporter(sender)  # type: ignore[arg-type] # that it is refused is the point
