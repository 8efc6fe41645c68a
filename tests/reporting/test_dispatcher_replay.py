"""Late subscribers: the last payloads first, then every later one; none lost, none twice."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import EventDispatcher, TopicPayload
from tests.reporting.adapters import chunk, note
from tests.reporting.topics import GatedHandler, Taken, payload

BOTH = pytest.mark.parametrize("background", [False, True], ids=["in front", "behind"])


@BOTH
def test_a_late_subscriber_gets_the_last_n_of_its_topics_first(*, background: bool) -> None:
    dispatcher, got = EventDispatcher(async_dispatch=background), []
    for number in range(10):
        dispatcher.emit("a.x" if number % 2 else "b", payload(number))
    dispatcher.subscribe("a.*", lambda given: got.append((given["number"], given.replayed)), replay=3)
    dispatcher.emit("a.x", payload(11))
    assert dispatcher.close(30.0)
    assert got == [(5, True), (7, True), (9, True), (11, False)]


@BOTH
def test_without_replay_nothing_of_the_past_comes(*, background: bool) -> None:
    dispatcher, taken = EventDispatcher(async_dispatch=background), Taken()
    dispatcher.emit("a", payload(1))
    dispatcher.subscribe("a", taken)
    assert dispatcher.close(30.0)
    assert taken == []


@pytest.mark.parametrize(("kept", "asked"), [(0, 1), (5, 6), (5, -1)])
def test_more_than_is_kept_cannot_be_asked_for(kept: int, asked: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"replay={asked} refused because .* the last {kept}; "):
        EventDispatcher(replay=kept).subscribe("a", print, replay=asked)


@BOTH
def test_once_is_once_in_a_replay(*, background: bool) -> None:
    dispatcher, taken = EventDispatcher(async_dispatch=background), Taken()
    for number in range(3):
        dispatcher.emit("a", payload(number))
    dispatcher.subscribe("a", taken, replay=2, once=True)
    dispatcher.emit("a", payload(3))
    assert dispatcher.close(30.0)
    assert taken == [1]


def test_what_comes_while_a_handler_hangs_is_neither_lost_nor_doubled() -> None:
    gated, late = GatedHandler(), Taken()
    dispatcher = EventDispatcher(async_dispatch=True)
    dispatcher.subscribe("a", gated)
    for number in range(5):
        dispatcher.emit("a", payload(number))
    gated.entered.wait()
    dispatcher.subscribe("a", late, replay=100)  # all five wait in the queue still
    for number in range(5, 9):
        dispatcher.emit("a", payload(number))
    gated.gate.set()
    assert dispatcher.close(30.0)
    assert gated.got == late == list(range(9))


def test_what_a_handler_emits_during_its_replay_comes_after_it() -> None:
    dispatcher, got = EventDispatcher(), []

    def again(given: TopicPayload) -> None:
        got.append(given["number"])
        if given["number"] < 2:
            dispatcher.emit("a", payload(given["number"] + 10))

    for number in range(3):
        dispatcher.emit("a", payload(number))
    dispatcher.subscribe("a", again, replay=3)
    assert got == [0, 1, 2, 10, 11]


@BOTH
def test_a_subscriber_that_comes_while_eight_threads_emit_misses_nothing(*, background: bool) -> None:
    dispatcher = EventDispatcher(async_dispatch=background, replay=10_000, overflow="block")
    start, late = threading.Barrier(9), [Taken() for _ in range(10)]

    def emits(first: int) -> None:
        start.wait()
        for step in range(200):
            dispatcher.emit("a", payload(first + step))

    threads = [threading.Thread(target=emits, args=(first,)) for first in range(0, 1600, 200)]
    for thread in threads:
        thread.start()
    start.wait()
    for taken in late:
        dispatcher.subscribe("a", taken, replay=10_000)
    for thread in threads:
        thread.join()
    assert dispatcher.close(30.0)
    for taken in late:
        assert sorted(taken) == list(range(1600))
    if background:  # one thread: each emitter's own come in its order
        for taken in late:
            assert [number for number in taken if number < 200] == list(range(200))


def test_events_of_a_loop_are_replayed_and_streamed_pieces_are_not() -> None:
    dispatcher, got = EventDispatcher(), []
    with EventEmitter([dispatcher], session_id="session") as emitter:
        emitter.emit(note("one"))
        for _ in range(200):
            emitter.emit(chunk())
    dispatcher.subscribe("agent.**", lambda given: got.append((given.topic, given["name"])), replay=100)
    assert got == [("agent.custom_event", "one")]


@given(st.lists(st.sampled_from(["emit", "subscribe"]), max_size=20), st.integers(0, 6), st.booleans())
def test_a_subscriber_has_the_last_n_and_all_that_follows(
    steps: list[str], replay: int, background: bool
) -> None:
    emitted: list[int] = []
    late: list[tuple[Taken, int]] = []
    with EventDispatcher(async_dispatch=background, replay=6) as dispatcher:
        for step in steps:
            if step == "emit":
                dispatcher.emit("a", payload(len(emitted)))
                emitted.append(len(emitted))
            else:
                taken = Taken()
                late.append((taken, len(emitted)))
                dispatcher.subscribe("a", taken, replay=replay)
    for taken, at in late:
        assert taken == emitted[max(0, at - replay) :]
