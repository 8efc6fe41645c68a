"""Pieces of a text that came together: told as one to observers that all take them so, and otherwise one by one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.batches import DeltaBatch
from agentkit_loop.content import AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ModelError, ObserverError
from agentkit_loop.events import AgentEvent, ContentDelta, CustomEvent, ObserverFailed
from agentkit_loop.models.protocol import Answer, UsageReport
from agentkit_loop.observers import BatchObserver, FailurePolicy, LoopObserver, Observer, Registration
from agentkit_loop.testing import EventRecorder, VirtualClock
from agentkit_loop.usage import Usage
from tests.loop.test_signals_together import Together
from tests.rules import faults

CHUNKS = ["one ", "two ", "th\u00e9 ", "four"]


class Taker(BatchObserver):
    """Takes batches, and fails on the events whose numbers it is given."""

    def __init__(self, *numbers: int, error: type[BaseException] | None = None) -> None:
        self.numbers = set(numbers)
        self.error = error  # what it raises for a whole batch
        self.events: list[AgentEvent] = []
        self.sizes: list[int] = []

    def handle_event(self, event: AgentEvent) -> None:
        self.events.append(event)
        if event.seq in self.numbers:
            raise ValueError(f"on {event.seq}")

    def handle_batch(self, batch: DeltaBatch) -> Sequence[tuple[AgentEvent, Exception]]:
        self.sizes.append(len(batch))
        if self.error is not None:
            raise self.error("all of it")
        self.events += batch.events()
        return [
            (event, ValueError(f"on {event.seq}")) for event in batch.events() if event.seq in self.numbers
        ]


def emitter_of(*observers: Observer | Registration, **options: Any) -> EventEmitter:
    return EventEmitter(observers, session_id="s", run_id="r", clock=VirtualClock(), **options)


def chunks_of(events: Sequence[AgentEvent]) -> list[str]:
    return [
        event.delta.chunk
        for event in events
        if isinstance(event, ContentDelta) and isinstance(event.delta, AppendText)
    ]


# --- the emitter


@given(
    st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=5), max_size=5),
    st.none() | st.text(max_size=3),
)
def test_a_batch_is_the_events_that_would_be_told_one_by_one(
    batches: list[list[str]], turn_id: str | None
) -> None:
    together, alone = Taker(), EventRecorder()
    one, other = emitter_of(together), emitter_of(alone)
    one.turn_id = other.turn_id = turn_id
    for chunks in batches:
        one.tell_batch("req-1", "0", chunks)
        one.emit(CustomEvent(name="n", data=1))
        for chunk in chunks:
            other.tell_delta("req-1", AppendText("0", chunk))
        other.emit(CustomEvent(name="n", data=1))
    assert together.events == alone.events
    assert together.sizes == [len(chunks) for chunks in batches]
    assert [stats.handled for stats in one.stats()] == [len(alone.events)]


def test_one_observer_that_takes_events_alone_has_all_told_one_by_one() -> None:
    order: list[tuple[str, int]] = []

    class Noting(Taker):
        def handle_event(self, event: AgentEvent) -> None:
            order.append(("taker", event.seq))

        def handle_batch(self, batch: DeltaBatch) -> Sequence[tuple[AgentEvent, Exception]]:
            raise AssertionError(batch)

    def alone(event: AgentEvent) -> None:
        order.append(("alone", event.seq))

    emitter = emitter_of(Noting(), alone)
    assert not emitter.takes_batches
    emitter.tell_batch("req-1", "0", CHUNKS[:2])
    assert order == [("taker", 1), ("alone", 1), ("taker", 2), ("alone", 2)]


def test_an_observer_that_wants_no_pieces_is_in_nobodys_way() -> None:
    class Commits(LoopObserver):
        wants = (CommitPart,)

        def handle_event(self, event: AgentEvent) -> None:
            raise AssertionError(event)

    taker = Taker()
    emitter = emitter_of(Commits(), taker)
    emitter.tell_batch("req-1", "0", CHUNKS)
    assert (taker.sizes, emitter.seq) == ([len(CHUNKS)], len(CHUNKS))
    emitter.remove_observer(taker)
    emitter.tell_batch("req-1", "0", CHUNKS)
    assert emitter.seq == 2 * len(CHUNKS)


def test_a_subclass_with_a_handler_of_its_own_is_told_each_event() -> None:
    class Longer(Taker):
        def handle_event(self, event: AgentEvent) -> None:
            super().handle_event(event)

    sub, patched = Longer(), Taker()
    emitter_of(sub).tell_batch("req-1", "0", CHUNKS)
    assert (sub.sizes, chunks_of(sub.events)) == ([], CHUNKS)
    got: list[AgentEvent] = []
    patched.handle_event = got.append  # type: ignore[method-assign, assignment] # as a host may
    emitter_of(patched).tell_batch("req-1", "0", CHUNKS)
    assert (patched.sizes, chunks_of(got)) == ([], CHUNKS)


def test_a_fold_that_takes_no_batches_is_told_each_event() -> None:
    folded: list[AgentEvent] = []
    taker = Taker()
    emitter_of(taker, fold=folded.append).tell_batch("req-1", "0", CHUNKS)
    assert (chunks_of(folded), chunks_of(taker.events), taker.sizes) == (CHUNKS, CHUNKS, [])


def test_each_event_that_failed_is_counted_and_one_kind_of_error_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing, other = Taker(1, 3), Taker()
    emitter = emitter_of(failing, other)
    with caplog.at_level(logging.ERROR):
        emitter.tell_batch("req-1", "0", CHUNKS)
    assert [(stats.handled, stats.failed) for stats in emitter.stats()] == [(4, 2), (5, 0)]
    told = [event for event in other.events if isinstance(event, ObserverFailed)]
    assert [(event.observer, event.event_seq, event.seq) for event in told] == [("Taker", 1, 5)]
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "observer Taker failed on event 1 (content_delta)"
    ]


def test_failing_fast_tells_the_others_and_names_the_first_event_that_failed() -> None:
    failing, other = Taker(2, 3), Taker()
    emitter = emitter_of(Registration(failing, policy=FailurePolicy.FAIL_FAST), other)
    with pytest.raises(ObserverError, match="event 2") as raised:
        emitter.tell_batch("req-1", "0", CHUNKS)
    assert str(raised.value.__cause__) == "on 2"
    assert chunks_of(other.events) == CHUNKS
    assert emitter.observers == (other,)


def test_an_observer_that_failed_too_often_gets_no_more() -> None:
    failing = Taker(1, 2, 3)
    emitter = emitter_of(Registration(failing, disable_after=2), Taker(), policy=FailurePolicy.ACCUMULATE)
    emitter.tell_batch("req-1", "0", CHUNKS)
    emitter.tell_batch("req-1", "0", CHUNKS)
    assert failing.sizes == [len(CHUNKS)]
    assert [error.event_seq for error in emitter.take_errors()] == [1, 2]
    assert [(stats.name, stats.handled, stats.failed) for stats in emitter.stats()][-1] == ("Taker", 4, 2)


def test_what_is_raised_for_a_whole_batch_is_a_failure_on_its_first_event() -> None:
    other = Taker()
    emitter = emitter_of(Taker(error=RuntimeError), other, policy=FailurePolicy.ACCUMULATE)
    emitter.tell_batch("req-1", "0", CHUNKS)
    assert [(error.event_seq, str(error.error)) for error in emitter.take_errors()] == [(1, "all of it")]
    assert chunks_of(other.events) == CHUNKS


def test_an_interrupt_is_passed_on_when_all_were_told() -> None:
    other = Taker()
    emitter = emitter_of(Taker(error=KeyboardInterrupt), other)
    with pytest.raises(KeyboardInterrupt):
        emitter.tell_batch("req-1", "0", CHUNKS)
    assert chunks_of(other.events) == CHUNKS
    emitter.tell(CustomEvent(name="n", data=None))
    assert other.events[-1].seq == len(CHUNKS) + 1


def test_an_interrupt_is_not_lost_behind_one_that_fails_fast() -> None:
    failing = Registration(Taker(2), policy=FailurePolicy.FAIL_FAST)
    emitter = emitter_of(failing, Taker(error=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        emitter.tell_batch("req-1", "0", CHUNKS)


class Waiting:
    """A lock at which something happens while it is first waited for, as another thread may do it."""

    is_mine = False

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.meanwhile = [meanwhile]

    def acquire(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop()()

    def release(self) -> None:
        """Nobody waits."""


def test_whoever_is_registered_while_others_are_told_is_told_each_event() -> None:
    taker, alone = Taker(), EventRecorder()
    emitter = emitter_of(taker)
    emitter.exclusive = Waiting(lambda: emitter.add_observer(alone))
    emitter.tell_batch("req-1", "0", CHUNKS)
    assert chunks_of(taker.events) == chunks_of(alone.events) == CHUNKS
    assert [event.seq for event in alone.events] == [1, 2, 3, 4]


def test_whoever_asks_for_the_counts_while_others_are_told_breaks_nothing() -> None:
    taker = Taker()
    emitter = emitter_of(taker)
    emitter.exclusive = Waiting(emitter.stats)
    emitter.tell_batch("req-1", "0", CHUNKS)
    emitter.tell_batch("req-1", "0", CHUNKS)
    assert taker.sizes == [4, 4]
    assert [stats.handled for stats in emitter.stats()] == [8]


# --- the drivers

USAGE = Usage(input_tokens=3, output_tokens=5)


PIECES = st.text("aé\ud800\udc00 \x00", max_size=3)
ODD: tuple[Any, ...] = (AppendText("gone", "x"), [AppendText("0", "x")], [], "text", AppendText("0", 7))  # type: ignore[arg-type]


@st.composite
def answers(draw: st.DrawFn) -> list[Any]:
    """Return what a model yields for an answer of two parts, one after the other or mixed, in lists of any size."""
    parts = {part_id: draw(st.lists(PIECES, max_size=6)) for part_id in ("0", "1")}
    pieces: list[Any] = [AppendText(part_id, chunk) for part_id, chunks in parts.items() for chunk in chunks]
    if draw(st.booleans()):
        pieces = draw(st.permutations(pieces))
    signals: list[Any] = [UsageReport(usage=USAGE), BeginPart("0", "text"), BeginPart("1", "text"), *pieces]
    if draw(st.integers(0, 3)) == 0:
        signals.insert(draw(st.integers(0, len(signals))), draw(st.sampled_from(ODD)))
    for part_id in parts:
        text = "".join(piece.chunk for piece in pieces if piece.part_id == part_id)
        signals.append(CommitPart(part_id, TextPart(text=text)))
    signals.append(Answer(finish_reason="completed", usage=USAGE))
    cuts = draw(st.lists(st.integers(0, len(signals)), max_size=4))
    places = [0, *sorted(cuts), len(signals)]
    return [signals[start:end] for start, end in itertools.pairwise(places)]


def told(yields: list[Any], observer: Any, *, on_loop: bool) -> list[AgentEvent]:
    agent = Agent(Together(yields), observers=[observer], clock=VirtualClock(), retry=None)
    with contextlib.suppress(ModelError):
        asyncio.run(agent.arun("go")) if on_loop else agent.run("go")
    assert faults(observer.events) == []
    return list(observer.events)


def plain(event: AgentEvent) -> tuple[Any, ...]:
    return (
        event.seq,
        event.type,
        event.turn_id,
        getattr(event, "delta", None),
        getattr(event, "error", None),
    )


@given(answers(), st.booleans())
def test_drivers_tell_the_same_together_and_one_by_one(yields: list[Any], on_loop: bool) -> None:
    together = told(yields, Taker(), on_loop=on_loop)
    alone = told(yields, EventRecorder(), on_loop=on_loop)
    assert [plain(event) for event in together] == [plain(event) for event in alone]


@pytest.mark.parametrize("on_loop", [False, True])
def test_pieces_that_came_together_reach_a_taker_together(on_loop: bool) -> None:
    pieces = [AppendText("0", chunk) for chunk in CHUNKS]
    commit = CommitPart("0", TextPart(text="".join(CHUNKS)))
    taker = Taker()
    told(
        [
            [BeginPart("0", "text"), *pieces[:3]],
            pieces[3:],
            [commit, Answer(finish_reason="completed", usage=USAGE)],
        ],
        taker,
        on_loop=on_loop,
    )
    assert taker.sizes == [3]
    assert chunks_of(taker.events) == CHUNKS


def test_a_stream_of_events_shows_each_as_it_is_told() -> None:
    pieces = [AppendText("0", chunk) for chunk in CHUNKS]
    commit = CommitPart("0", TextPart(text="".join(CHUNKS)))
    answer = Answer(finish_reason="completed", usage=USAGE)
    taker = Taker()
    agent = Agent(Together([[BeginPart("0", "text"), *pieces, commit, answer]]), observers=[taker])
    shown = [event for event in agent.stream("go") if len(taker.events) == event.seq]
    assert chunks_of(shown) == CHUNKS


def test_who_returns_nothing_of_a_batch_failed_on_nothing() -> None:
    class Silent(BatchObserver):
        def __init__(self) -> None:
            self.sizes: list[int] = []

        def handle_event(self, event: AgentEvent) -> None:
            del event

        def handle_batch(self, batch: DeltaBatch) -> None:
            self.sizes.append(len(batch))

    silent = Silent()
    emitter = emitter_of(silent, policy=FailurePolicy.FAIL_FAST)
    with emitter.together():
        emitter.tell_batch("request-1", "p", CHUNKS)
    assert (silent.sizes, emitter.stats()[0].failed) == ([len(CHUNKS)], 0)
