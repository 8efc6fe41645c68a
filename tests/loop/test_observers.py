"""The emitter: order, `wants`, policies, isolation, accounting, re-entrancy, flush and close."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.clock import Clock
from agentkit_loop.content import AnyDelta, AppendBytes, AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, ObserverError
from agentkit_loop.events import AgentEvent, ContentDelta, CustomEvent, ObserverFailed, TurnStarted
from agentkit_loop.observers import EventKind, FailurePolicy, LoopObserver, Registration
from agentkit_loop.testing import EventRecorder, VirtualClock


class Failing(LoopObserver):
    """Raises on the events whose numbers it is given, and keeps those that it was called with."""

    def __init__(self, *numbers: int, error: type[BaseException] = ValueError) -> None:
        self.numbers = set(numbers)
        self.error = error
        self.got: list[int] = []

    def handle_event(self, event: AgentEvent) -> None:
        self.got.append(event.seq)
        if event.seq in self.numbers:
            raise self.error(f"on {event.seq}")


def note(name: str = "note", data: object = None) -> CustomEvent:
    return CustomEvent(name=name, data=data)


def test_every_observer_gets_every_event_in_order_of_registration() -> None:
    order: list[tuple[str, int]] = []

    def named(name: str) -> Callable[[AgentEvent], None]:
        return lambda event: order.append((name, event.seq))

    emitter = EventEmitter([named("a"), named("b"), named("c")])
    emitter.emit(note())
    emitter.emit(note())
    assert order == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("c", 2)]


def test_an_event_is_stamped_once_and_cannot_be_told_again() -> None:
    recorder = EventRecorder()
    clock = VirtualClock(dt.datetime(2026, 5, 24, tzinfo=dt.UTC))
    emitter = EventEmitter([recorder], session_id="s", run_id="r", clock=clock)
    emitter.turn_id = "turn-1"
    event = note(data=b"x")
    emitter.emit(event)
    assert recorder.events == [event]
    assert (event.session_id, event.run_id, event.turn_id, event.seq) == ("s", "r", "turn-1", 1)
    assert event.timestamp == dt.datetime(2026, 5, 24, tzinfo=dt.UTC)
    assert event.data == {"$bytes": "eA=="}
    with pytest.raises(ConfigurationError, match="make a new event"):
        emitter.emit(event)
    with pytest.raises(AttributeError):
        event.seq = 9  # type: ignore[misc] # that it is refused is the point


def test_wants_selects_classes_and_their_subclasses() -> None:
    class Turns(LoopObserver):
        wants = (TurnStarted,)

        def __init__(self) -> None:
            self.got: list[str] = []

        def handle_event(self, event: AgentEvent) -> None:
            self.got.append(event.type)

    turns = Turns()
    emitter = EventEmitter([turns])
    emitter.emit(note())
    emitter.emit(TurnStarted(index=1))
    assert turns.got == ["turn_started"]
    assert emitter.stats()[0].handled == 1


def test_wants_may_name_kinds_of_deltas() -> None:
    class Picky(LoopObserver):
        def __init__(self, *wants: EventKind) -> None:
            self.wants = wants  # type: ignore[misc] # of this one observer
            self.got: list[str] = []

        def handle_event(self, event: AgentEvent) -> None:
            self.got.append(event.delta.__class__.__name__ if isinstance(event, ContentDelta) else event.type)

    ends, appends = Picky(BeginPart, CommitPart, TurnStarted), Picky(AppendText)
    deltas, everything = Picky(ContentDelta), Picky()
    emitter = EventEmitter([ends, appends, deltas, everything])
    told: list[AnyDelta] = [
        BeginPart("0", "text"),
        AppendText("0", "a"),
        AppendBytes("0", b"b"),
        CommitPart("0", TextPart(text="a")),
    ]
    emitter.emit(TurnStarted(index=1))
    for delta in told:
        emitter.emit(ContentDelta(request_id="request-1", delta=delta))
    emitter.tell_delta("request-1", AppendText("0", "a"))
    assert ends.got == ["turn_started", "BeginPart", "CommitPart"]
    assert appends.got == ["AppendText"] * 2
    assert deltas.got == ["BeginPart", "AppendText", "AppendBytes", "CommitPart", "AppendText"]
    assert everything.got == ["turn_started", *deltas.got]
    assert [stats.handled for stats in emitter.stats()] == [3, 2, 5, 6]


@given(
    numbers=st.lists(st.sets(st.integers(1, 12)), min_size=1, max_size=4),
    policy=st.sampled_from([FailurePolicy.IGNORE, FailurePolicy.LOG, FailurePolicy.ACCUMULATE]),
)
def test_whatever_one_observer_does_the_others_get_every_event_once(
    numbers: list[set[int]], policy: FailurePolicy
) -> None:
    logging.disable(logging.CRITICAL)
    try:
        failing = [Failing(*chosen) for chosen in numbers]
        recorder = EventRecorder()
        emitter = EventEmitter([*failing, recorder], policy=policy)
        for _ in range(6):
            emitter.emit(note())
    finally:
        logging.disable(logging.NOTSET)
    assert [event.seq for event in recorder.events] == list(range(1, len(recorder.events) + 1))
    told = {event.observer: event.seq for event in recorder.of(ObserverFailed)}
    stats = {entry.name: entry for entry in emitter.stats()}
    for observer, name in zip(failing, stats, strict=False):
        missing = {told[name]} if name in told else set()
        assert set(observer.got) == set(range(1, len(recorder.events) + 1)) - missing
        assert stats[name].handled == len(observer.got)
        assert stats[name].failed == len(set(observer.got) & observer.numbers)
    if policy is FailurePolicy.IGNORE:
        assert recorder.of(ObserverFailed) == []


def test_a_failure_is_told_once_for_each_observer_and_kind_and_never_to_the_one_that_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing, recorder = Failing(1, 3, 4), EventRecorder()
    emitter = EventEmitter([failing, recorder])
    emitter.emit(note())  # 1 fails; 2 tells it
    emitter.emit(note())  # 3 fails, counted only
    failing.error = KeyError
    emitter.emit(note())  # 4 fails in another way; 5 tells it
    told = recorder.of(ObserverFailed)
    assert [(e.observer, e.event_seq, e.error.type, e.disabled) for e in told] == [
        ("Failing", 1, "ValueError", False),
        ("Failing", 4, "KeyError", False),
    ]
    assert failing.got == [1, 3, 4]
    assert len([record for record in caplog.records if "Failing" in record.message]) == 2
    assert emitter.stats()[0].failed == 3


def test_a_failure_while_handling_a_failure_tells_none() -> None:
    first, second, recorder = Failing(1), Failing(2), EventRecorder()
    emitter = EventEmitter([first, second, recorder], policy=FailurePolicy.ACCUMULATE)
    emitter.emit(note())
    assert [event.type for event in recorder.events] == ["custom_event", "observer_failed"]
    assert [(kept.observer, kept.event_seq) for kept in emitter.take_errors()] == [
        ("Failing", 1),
        ("Failing#2", 2),
    ]
    assert emitter.take_errors() == ()


def test_accumulated_errors_are_bounded() -> None:
    failing = Failing(*range(1, 3_001))
    emitter = EventEmitter([failing], policy=FailurePolicy.ACCUMULATE)
    for _ in range(1_500):
        emitter.emit(note())
    kept = emitter.take_errors()
    assert len(kept) == 1_000
    assert kept[-1].event_seq == emitter.seq


def test_an_observer_is_disabled_after_n_failures_and_that_is_told() -> None:
    failing, recorder = Failing(*range(1, 100)), EventRecorder()
    emitter = EventEmitter(
        [Registration(failing, policy=FailurePolicy.ACCUMULATE, disable_after=2), recorder]
    )
    for _ in range(4):
        emitter.emit(note())
    assert [event.disabled for event in recorder.of(ObserverFailed)] == [False, True]
    assert len(failing.got) == 2
    assert [entry.name for entry in emitter.stats()] == ["EventRecorder", "Failing"]


def test_fail_fast_removes_the_one_tells_the_rest_and_raises_from_the_original() -> None:
    failing, recorder = Failing(1), EventRecorder()
    emitter = EventEmitter([failing, recorder], policy=FailurePolicy.FAIL_FAST)
    with pytest.raises(ObserverError, match=r"observer Failing failed on event 1 \(custom_event\)") as caught:
        emitter.emit(note())
    assert isinstance(caught.value.__cause__, ValueError)
    assert [event.seq for event in recorder.events] == [1]
    emitter.emit(note())
    assert failing.got == [1]


def test_an_interrupt_is_raised_also_where_an_event_before_it_failed_fast() -> None:
    def emits(event: AgentEvent) -> None:
        if event.seq == 1:
            emitter.emit(note())
            emitter.emit(note())

    fast = Registration(Failing(2), policy=FailurePolicy.FAIL_FAST)
    emitter = EventEmitter([emits, fast, Failing(3, error=KeyboardInterrupt)])
    with pytest.raises(KeyboardInterrupt):
        emitter.emit(note())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("policy", list(FailurePolicy))
def test_an_interrupt_is_never_swallowed_and_the_others_still_get_the_event(
    error: type[BaseException], policy: FailurePolicy
) -> None:
    recorder = EventRecorder()
    emitter = EventEmitter([Failing(1, error=error), recorder], policy=policy)
    with pytest.raises(error):
        emitter.emit(note())
    assert len(recorder.events) == 1
    emitter.emit(note())
    assert len(recorder.events) == 2


def test_what_an_observer_emits_is_told_after_the_current_event() -> None:
    recorder = EventRecorder()
    emitter = EventEmitter()

    def echo(event: AgentEvent) -> None:
        if isinstance(event, CustomEvent) and event.name == "ping":
            emitter.emit(note("pong"))
            emitter.emit(note("pong again"))

    emitter.add_observer(echo)
    emitter.add_observer(recorder)
    emitter.emit(note("ping"))
    assert [(event.seq, event.name) for event in recorder.of(CustomEvent)] == [
        (1, "ping"),
        (2, "pong"),
        (3, "pong again"),
    ]


def test_adding_and_removing_takes_effect_from_the_next_event() -> None:
    late, recorder = EventRecorder(), EventRecorder()
    emitter = EventEmitter()

    def admit(event: AgentEvent) -> None:
        if event.seq == 1:
            emitter.add_observer(late)
        elif event.seq == 2:
            emitter.remove_observer(late)

    emitter.add_observer(admit)
    emitter.add_observer(recorder)
    for _ in range(3):
        emitter.emit(note())
    assert [event.seq for event in late.events] == [2]
    assert [event.seq for event in recorder.events] == [1, 2, 3]
    with pytest.raises(ConfigurationError, match="is not registered"):
        emitter.remove_observer(late)


async def _async_handler(event: AgentEvent) -> None:
    del event


class AsyncMethod:
    async def handle_event(self, event: AgentEvent) -> None:
        del event


class AsyncCall:
    async def __call__(self, event: AgentEvent) -> None:
        del event


@pytest.mark.parametrize("observer", [_async_handler, AsyncMethod(), AsyncCall()])
def test_an_async_handler_is_refused_at_registration(observer: Any) -> None:
    with pytest.raises(ConfigurationError, match="observers are synchronous"):
        EventEmitter([observer])


@pytest.mark.parametrize("observer", [3, "x", None, EventRecorder, object()])
def test_what_cannot_observe_is_refused_at_registration(observer: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot observe"):
        EventEmitter([observer])


def test_the_time_inside_an_observer_is_counted() -> None:
    emitter = EventEmitter([lambda _: sum(range(20_000)), lambda _: None])
    for _ in range(5):
        emitter.emit(note())
    slow, quick = emitter.stats()
    assert slow.time_ms > quick.time_ms
    assert [slow.handled, quick.handled] == [5, 5]


def test_threads_that_emit_get_numbers_without_gaps() -> None:
    recorder = EventRecorder()
    emitter = EventEmitter([recorder])

    def emit_many() -> None:
        for _ in range(500):
            emitter.emit(note())

    threads = [threading.Thread(target=emit_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.seq for event in recorder.events] == list(range(1, 4_001))


class Held(LoopObserver):
    """Holds back until it is flushed; may hang."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.flushed = self.closed = 0
        self.gate = gate

    def handle_event(self, event: AgentEvent) -> None:
        del event

    def flush(self) -> None:
        if self.gate is not None:
            self.gate.wait()
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1


def test_flush_reaches_every_observer_and_says_whether_all_returned() -> None:
    gate = threading.Event()
    quick, hanging = Held(), Held(gate)
    assert EventEmitter([quick, quick]).flush() is True
    assert quick.flushed == 2
    assert EventEmitter([quick, hanging]).flush(timeout_s=0.01) is False
    gate.set()


def test_a_flush_that_raises_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Held):
        def flush(self) -> None:
            raise OSError("no space")

    last = Held()
    emitter = EventEmitter([Broken(), last])
    assert emitter.flush() is False
    assert last.flushed == 1
    assert "no space" in caplog.text
    assert emitter.close() is False
    assert last.closed == 1


def test_leaving_the_context_flushes() -> None:
    held = Held()
    with EventEmitter([held]) as emitter:
        emitter.emit(note())
    assert (held.flushed, held.closed) == (1, 0)


def test_ids_are_made_up_where_not_given_and_differ() -> None:
    first, second = EventEmitter(), EventEmitter()
    assert first.session_id.startswith("ses_")
    assert first.run_id.startswith("run_")
    assert first.session_id != second.session_id


def test_the_real_clock_tells_utc() -> None:
    assert Clock().now().utcoffset() == dt.timedelta(0)
