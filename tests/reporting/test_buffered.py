"""BufferedReporter: batches, bounds, order, and that nothing is lost."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError, InnerObserverError
from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.observers import FailurePolicy, Registration
from agentkit_loop.testing import EventRecorder, VirtualClock
from agentkit_reporting import BufferedReporter
from tests.reporting.adapters import Failing, Gated, note, notes


@given(capacity=st.integers(1, 9), count=st.integers(0, 40))
def test_a_batch_is_delivered_when_capacity_is_reached_and_the_rest_at_close(
    capacity: int, count: int
) -> None:
    recorder = EventRecorder()
    buffered = BufferedReporter(recorder, capacity)
    for event in notes(count):
        buffered.handle_event(event)
        assert len(recorder.events) == event.seq - event.seq % capacity
        assert buffered.account().pending == event.seq % capacity
    assert buffered.close() is True
    assert [event.seq for event in recorder.events] == list(range(1, count + 1))
    assert str(buffered.account()) == f"complete: {count} of {count}"


def test_flush_and_close_reach_the_inner_one_after_what_was_held() -> None:
    inner = Gated(is_open=True)
    buffered = BufferedReporter(inner, 100)
    buffered.handle_event(notes(1)[0])
    assert inner.got == []
    assert buffered.flush() is True
    assert (inner.got, inner.flushed, inner.closed) == ([1], 1, 0)
    assert buffered.close() is True
    assert buffered.close() is True
    assert inner.closed == 2
    with pytest.raises(IllegalMoveError, match="event refused while the reporter is closed"):
        buffered.handle_event(notes(1)[0])


def test_the_oldest_event_is_held_no_longer_than_max_age() -> None:
    clock, recorder = VirtualClock(), EventRecorder()
    buffered = BufferedReporter(recorder, 100, max_age_s=2.0, clock=clock)
    first, second, third = notes(3)
    buffered.handle_event(first)
    clock.advance(1.5)
    buffered.handle_event(second)
    assert recorder.events == []
    clock.advance(0.5)
    assert recorder.events == [first, second]
    buffered.handle_event(third)
    clock.advance(1.9)
    assert recorder.events == [first, second]
    clock.advance(0.1)
    assert recorder.events == [first, second, third]


def test_a_batch_that_was_full_calls_its_alarm_off() -> None:
    clock, recorder = VirtualClock(), EventRecorder()
    buffered = BufferedReporter(recorder, 2, max_age_s=2.0, clock=clock)
    one, two, three = notes(3)
    buffered.handle_event(one)
    clock.advance(1.0)
    buffered.handle_event(two)
    buffered.handle_event(three)
    clock.advance(1.5)  # the first one's time is over, the third one's is not
    assert recorder.events == [one, two]
    clock.advance(0.5)
    assert recorder.events == [one, two, three]


def test_the_order_of_each_thread_is_kept() -> None:
    seen: list[AgentEvent] = []
    buffered = BufferedReporter(seen.append, 7)
    streams = [notes(300) for _ in range(6)]

    def tell(events: list[AgentEvent]) -> None:
        for event in events:
            buffered.handle_event(event)

    threads = [threading.Thread(target=tell, args=(events,)) for events in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert buffered.close() is True
    for events in streams:
        mine = {id(event) for event in events}
        assert [event.seq for event in seen if id(event) in mine] == list(range(1, 301))
    assert len(seen) == 1_800


def test_a_failure_in_a_batch_stops_neither_the_batch_nor_the_order() -> None:
    failing = Failing(2, 3)
    buffered = BufferedReporter(failing, 4)
    *first, last = notes(4)
    for event in first:
        buffered.handle_event(event)
    with pytest.raises(InnerObserverError) as caught:
        buffered.handle_event(last)
    assert [failure.event.seq for failure in caught.value.failures] == [2, 3]
    assert failing.got == [1, 2, 3, 4]
    assert str(buffered.account()) == "incomplete: 2 of 4 (2 failed)"


def test_a_failure_is_told_with_its_own_event_and_never_to_the_one_that_failed() -> None:
    failing, recorder = Failing(1), EventRecorder()
    emitter = EventEmitter([BufferedReporter(failing, 2), recorder])
    for _ in range(4):
        emitter.emit(note())
    assert [(each.observer, each.event_seq) for each in recorder.of(ObserverFailed)] == [("Failing", 1)]
    assert failing.got == [1, 2, 4]


def test_a_failure_at_a_flush_is_told_with_the_next_event_of_its_session() -> None:
    failing, recorder = Failing(1), EventRecorder()
    buffered = BufferedReporter(failing, 100)
    emitter, other = (EventEmitter([buffered, recorder], session_id=name) for name in ("one", "two"))
    emitter.emit(note())
    assert buffered.flush() is False
    other.emit(note())
    assert recorder.of(ObserverFailed) == []
    emitter.emit(note())
    assert [(each.session_id, each.event_seq) for each in recorder.of(ObserverFailed)] == [("one", 1)]


def test_a_failure_that_no_event_came_for_is_logged_at_close(caplog: pytest.LogCaptureFixture) -> None:
    buffered = BufferedReporter(Failing(1, 2), 100)
    for event in notes(2):
        buffered.handle_event(event)
    assert buffered.close() is False
    assert caplog.text.count("observer Failing failed on event 1") == 1


def test_an_interrupt_in_a_batch_passes_and_leaves_the_rest_held() -> None:
    failing = Failing(1, error=KeyboardInterrupt)
    buffered = BufferedReporter(failing, 3)
    one, two, three = notes(3)
    buffered.handle_event(one)
    buffered.handle_event(two)
    with pytest.raises(KeyboardInterrupt):
        buffered.handle_event(three)
    assert buffered.flush() is False
    assert failing.got == [1, 2, 3]


def test_a_retired_observer_gets_no_more_and_that_counts_as_dropped() -> None:
    failing = Failing(*range(10))
    buffered = BufferedReporter(Registration(failing, policy=FailurePolicy.IGNORE, disable_after=2), 5)
    for event in notes(5):
        buffered.handle_event(event)
    assert failing.got == [1, 2]
    assert buffered.dropped == 3


def test_what_the_inner_observer_tells_the_buffer_itself_comes_after_the_batch() -> None:
    extra = notes(3)[2]
    got: list[int] = []

    def echo(event: AgentEvent) -> None:
        got.append(event.seq)
        if event.seq == 1:
            buffered.handle_event(extra)

    buffered = BufferedReporter(echo, 2)
    for event in notes(2):
        buffered.handle_event(event)
    assert got == [1, 2, 3]


@pytest.mark.parametrize(
    ("capacity", "why"),
    [
        (0, "nothing can be held"),
        (-1, "nothing can be held"),
        (True, "no whole number"),
        (1.5, "no whole number"),
        ("9", "'9' refused because it is no whole number"),
    ],
)
def test_a_capacity_that_holds_nothing_or_is_no_number_is_refused_for_that(capacity: int, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        BufferedReporter(EventRecorder(), capacity)


@pytest.mark.parametrize("max_age_s", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_an_age_that_is_no_period_is_refused(max_age_s: float) -> None:
    with pytest.raises(ConfigurationError, match="no period"):
        BufferedReporter(EventRecorder(), max_age_s=max_age_s)
