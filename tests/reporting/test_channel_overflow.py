"""A bounded channel: each rule for when it is full, with exact counts."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.content import AppendBytes, BeginPart, CommitPart, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ContentDelta, ObserverFailed
from agentkit_loop.observers import FailurePolicy
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import ChannelFullError, ChannelReporter, Overflow, PolicyReporter
from tests.reporting.adapters import Gated, chunk, note, notes, quiet, told

DROPPING: tuple[Overflow, ...] = ("drop_oldest", "drop_newest", "drop_deltas", "error")


def put(reporter: ChannelReporter, events: list[AgentEvent]) -> int:
    """Give all events; return how many were refused."""
    refused = 0
    for event in events:
        try:
            reporter.handle_event(event)
        except ChannelFullError:
            refused += 1
    return refused


@given(maxsize=st.integers(1, 20), count=st.integers(0, 60))
def test_drop_oldest_keeps_the_last_events(maxsize: int, count: int) -> None:
    with quiet():
        reporter, receiver = ChannelReporter.pair(maxsize, "drop_oldest")
        put(reporter, notes(count))
    assert reporter.dropped == max(0, count - maxsize)
    reporter.close()
    assert [event.seq for event in receiver] == list(range(1, count + 1))[-maxsize:]


@given(maxsize=st.integers(1, 20), count=st.integers(0, 60))
def test_drop_newest_keeps_the_first_events(maxsize: int, count: int) -> None:
    with quiet():
        reporter, receiver = ChannelReporter.pair(maxsize, "drop_newest")
        put(reporter, notes(count))
    assert reporter.dropped == max(0, count - maxsize)
    reporter.close()
    assert [event.seq for event in receiver] == list(range(1, count + 1))[:maxsize]


@given(maxsize=st.integers(1, 20), count=st.integers(0, 60))
def test_error_refuses_what_does_not_fit(maxsize: int, count: int) -> None:
    with quiet():
        reporter, receiver = ChannelReporter.pair(maxsize, "error")
        assert put(reporter, notes(count)) == max(0, count - maxsize) == reporter.dropped
    reporter.close()
    assert [event.seq for event in receiver] == list(range(1, count + 1))[:maxsize]


@given(maxsize=st.integers(1, 10), kinds=st.lists(st.booleans(), max_size=60))
def test_drop_deltas_drops_appends_only_and_keeps_the_order(maxsize: int, kinds: list[bool]) -> None:
    events = told(*(chunk() if is_chunk else note() for is_chunk in kinds))
    whole = [event.seq for event in events if not isinstance(event, ContentDelta)][: 2 * maxsize]
    with quiet():
        reporter, receiver = ChannelReporter.pair(maxsize, "drop_deltas", patience_s=0.0)
        refused = put(reporter, events)
    reporter.close()
    got = [event.seq for event in receiver]
    assert got == sorted(got)
    assert len(got) + reporter.dropped == len(events)
    assert len(got) <= 2 * maxsize
    if not refused:
        assert [seq for seq in got if seq in set(whole)] == [
            event.seq for event in events if not isinstance(event, ContentDelta)
        ]


def test_drop_deltas_takes_the_begin_and_the_whole_of_a_part_beyond_its_appends() -> None:
    part = [
        ContentDelta(request_id="request-1", delta=BeginPart("part-1", "text")),
        chunk("a"),
        ContentDelta(request_id="request-1", delta=AppendBytes("part-1", b"b")),
        chunk("c"),
        ContentDelta(request_id="request-1", delta=CommitPart("part-1", TextPart(text="abc"))),
    ]
    reporter, receiver = ChannelReporter.pair(2, "drop_deltas")
    put(reporter, told(*part))
    reporter.close()
    assert [event.seq for event in receiver] == [1, 2, 5]
    assert str(reporter.account()) == "incomplete: 3 of 5 (2 dropped)"


def test_drop_deltas_refuses_aloud_on_an_event_loop_what_it_may_neither_drop_nor_wait_for() -> None:
    async def run() -> tuple[int, int]:
        reporter, _receiver = ChannelReporter.pair(2, "drop_deltas")
        return put(reporter, notes(6)), reporter.dropped

    assert asyncio.run(run()) == (2, 2)


def test_block_waits_until_there_is_room_and_loses_nothing() -> None:
    gated = Gated()
    reporter = ChannelReporter.threaded(gated, maxsize=2, overflow="block")
    finished = threading.Event()

    def tell() -> None:
        for event in notes(50):
            reporter.handle_event(event)
        finished.set()

    threading.Thread(target=tell).start()
    gated.entered.wait()
    assert not finished.is_set()
    assert reporter.account().pending <= 4  # what waits, what is delivered, what its producer has in hand
    gated.gate.set()
    assert finished.wait()
    assert reporter.close() is True
    assert gated.got == list(range(1, 51))


def test_block_is_refused_on_an_event_loop_from_the_first_event_on() -> None:
    reporter, _receiver = ChannelReporter.pair(100, "block")

    async def tell() -> None:
        reporter.handle_event(notes(1)[0])

    with pytest.raises(
        ConfigurationError, match="overflow='block' refused for an event that is told on an event"
    ):
        asyncio.run(tell())
    reporter.handle_event(notes(1)[0])
    assert (reporter.dropped, reporter.account().pending) == (1, 1)


def own(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what this thread logged of channels that are held.

    Those of other tests may be given up meanwhile, in the background or where garbage is collected, which is here.
    """
    return [
        record
        for record in caplog.records
        if record.thread == threading.get_ident() and "nobody takes them" not in record.getMessage()
    ]


def test_block_waits_no_longer_for_a_consumer_that_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    reporter, receiver = ChannelReporter.pair(2, "block", patience_s=0.01)
    for event in notes(5_000):  # with patience for each of them this would take a minute
        reporter.handle_event(event)
    assert reporter.dropped == 4_998
    told = [record.levelname for record in own(caplog) if record.name == "agentkit_reporting.event_queue"]
    assert told == ["WARNING"]
    assert receiver.get() is not None
    reporter.handle_event(notes(1)[0])
    assert reporter.account().pending == 2


def test_an_interrupt_while_a_producer_waits_leaves_the_count_exact() -> None:
    gated = Gated()
    reporter = ChannelReporter.threaded(gated, maxsize=1, overflow="block")
    for event in notes(1):
        reporter.handle_event(event)
    gated.entered.wait()
    gated.gate.set()
    assert reporter.flush() is True
    assert reporter.account().received == 1


@pytest.mark.parametrize("overflow", DROPPING)
def test_drops_are_told_by_the_count_one_warning_and_the_gap_in_seq(
    overflow: Overflow, caplog: pytest.LogCaptureFixture
) -> None:
    reporter, receiver = ChannelReporter.pair(3, overflow)
    recorder = EventRecorder()
    emitter = EventEmitter([reporter, recorder])
    for _ in range(10):
        emitter.emit(chunk())
    (stats, _) = emitter.stats()
    assert (stats.dropped, stats.failed > 0) == (len(emitter_events(recorder)) - 3, overflow == "error")
    reporter.close()
    seqs = [event.seq for event in receiver]
    assert len(seqs) == 3
    assert seqs != list(range(1, recorder.events[-1].seq + 1))
    warnings = [record for record in own(caplog) if record.name.startswith("agentkit_reporting")]
    assert len(warnings) == 1
    assert warnings[0].levelno == logging.WARNING
    assert f"overflow='{overflow}'" in warnings[0].getMessage()
    assert len(recorder.of(ObserverFailed)) == (overflow == "error")


def emitter_events(recorder: EventRecorder) -> list[AgentEvent]:
    """Return the events that the channel was given: not the one that tells of its own failure."""
    return [event for event in recorder.events if not isinstance(event, ObserverFailed)]


@pytest.mark.parametrize("overflow", DROPPING)
def test_a_hundred_thousand_events_to_a_slow_sink_take_no_memory_and_are_counted(overflow: Overflow) -> None:
    gated = Gated()
    channel = ChannelReporter.threaded(gated, maxsize=100, overflow=overflow, patience_s=0.0)
    reporter = PolicyReporter(channel, FailurePolicy.IGNORE)
    event = told(chunk())[0]
    reporter.handle_event(event)
    gated.entered.wait()
    for _ in range(1_000):
        reporter.handle_event(event)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100_000):
            reporter.handle_event(event)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000  # less than a byte an event
    gated.gate.set()
    assert channel.close() is False
    account = channel.account()
    assert account.received == 101_001
    assert account.delivered == len(gated.got)
    assert account.delivered + account.dropped == account.received
    assert account.pending == 0


@pytest.mark.parametrize("maxsize", [0, -1, True, 2.5, None])
def test_a_channel_without_a_bound_is_refused(maxsize: int) -> None:
    with pytest.raises(ConfigurationError, match="nothing fits in"):
        ChannelReporter.pair(maxsize)


def test_a_rule_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        ConfigurationError, match="use one of block, drop_oldest, drop_newest, drop_deltas, error"
    ):
        ChannelReporter.pair(10, "drop")  # type: ignore[arg-type] # that it is refused is the point


@pytest.mark.parametrize("patience_s", [-1.0, float("nan"), 1e12])
def test_a_patience_that_is_no_time_is_refused(patience_s: float) -> None:
    with pytest.raises(ConfigurationError, match="no time"):
        ChannelReporter.pair(10, patience_s=patience_s)
