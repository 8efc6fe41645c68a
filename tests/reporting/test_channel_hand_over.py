"""A run's end waits for no channel: what is held is delivered after it, and what is lost at exit is told."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, RunFinished
from agentkit_loop.observers import FailurePolicy, LoopObserver, Observer
from agentkit_reporting import (
    BufferedReporter,
    ChannelReporter,
    CompositeReporter,
    PolicyReporter,
    RedactingReporter,
)
from agentkit_reporting.inner import ReportingAdapter
from tests.reporting.adapters import Gated, note
from tests.reporting.sink_runs import Play, agent_of, essence, on_thread_and_loop, undisturbed
from tests.reporting.test_channel_processes import run, stderr_of

WRAPS: dict[str, Callable[[Observer], ReportingAdapter]] = {
    "channel": ChannelReporter.threaded,
    "around a buffer": lambda sink: ChannelReporter.threaded(BufferedReporter(sink, 3)),
    "around a channel": lambda sink: ChannelReporter.threaded(ChannelReporter.threaded(sink)),
    "in a composite": lambda sink: CompositeReporter(ChannelReporter.threaded(sink)),
    "in a buffer": lambda sink: BufferedReporter(ChannelReporter.threaded(sink), 7),
    "in a policy": lambda sink: PolicyReporter(ChannelReporter.threaded(sink), FailurePolicy.LOG),
    "in a redaction": lambda sink: RedactingReporter(ChannelReporter.threaded(sink)),
}

wrapped = pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())


class Stuck(Gated):
    """A sink that waits until its gate is open; keeps the events, and what it was asked beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[AgentEvent] = []

    def handle_event(self, event: AgentEvent) -> None:
        super().handle_event(event)
        self.events.append(event)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    sink = Stuck()
    yield sink
    sink.gate.set()


@on_thread_and_loop
@wrapped
def test_a_run_ends_though_the_consumer_is_stuck_and_the_rest_arrives_afterwards(
    wrap: Callable[[Observer], ReportingAdapter], play: Play, stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    channel = wrap(stuck)
    agent = agent_of(channel, runs=3)
    for _ in range(3):
        assert essence(play(agent)) == undisturbed(play)
    assert stuck.got == []
    assert caplog.records == []  # nobody had to be given up
    assert not any(thread.name == "agentkit-flush" for thread in threading.enumerate())
    stuck.gate.set()
    assert channel.close(30.0), channel.account()
    assert sum(isinstance(event, RunFinished) for event in stuck.events) == 3
    assert (stuck.flushed > 0, stuck.closed) == (True, 1)


@wrapped
def test_a_hand_over_says_what_is_true_so_far_and_a_flush_waits_as_it_is_told(
    wrap: Callable[[Observer], ReportingAdapter], stuck: Stuck
) -> None:
    channel = wrap(stuck)
    emitter = EventEmitter([channel])
    for _ in range(4):
        emitter.emit(note())
    assert channel.hand_over() is emitter.hand_over() is channel.flush(0.01) is False
    assert not channel.account().is_complete
    threading.Thread(target=stuck.gate.set).start()
    assert channel.flush(30.0) is True
    assert channel.hand_over() is emitter.hand_over() is True
    assert stuck.got == [1, 2, 3, 4]
    assert channel.account().is_complete
    channel.close()


def test_what_a_hand_over_asks_for_is_flushed_after_its_events_though_more_come(stuck: Stuck) -> None:
    seen: list[int] = []
    flushed = threading.Event()

    class Sink(LoopObserver):
        def handle_event(self, event: AgentEvent) -> None:
            stuck.handle_event(event)
            emitter.emit(note())  # it never comes to an end by itself

        def flush(self) -> None:
            seen.append(len(stuck.got))
            flushed.set()

    channel = ChannelReporter.threaded(Sink(), maxsize=100, overflow="drop_newest")
    emitter = EventEmitter([channel])
    for _ in range(5):
        emitter.emit(note())
    channel.hand_over()
    stuck.gate.set()
    flushed.wait()
    assert seen[0] >= 5
    channel.close()


def test_many_hand_overs_to_a_consumer_that_hangs_cost_no_memory(stuck: Stuck) -> None:
    channel = ChannelReporter.threaded(stuck)
    emitter = EventEmitter([channel])
    emitter.emit(note())
    emitter.hand_over()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(200):
        emitter.hand_over()
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    stuck.gate.set()
    assert channel.close(30.0)
    assert stuck.flushed <= 4


def test_leaving_an_emitter_waits_for_no_channel(stuck: Stuck) -> None:
    channel = ChannelReporter.threaded(stuck)
    with EventEmitter([channel]) as emitter:
        emitter.emit(note())
    assert stuck.got == []
    stuck.gate.set()
    assert channel.close(30.0)


def test_who_counts_does_not_wait_for_a_batch_that_is_being_delivered(stuck: Stuck) -> None:
    channel = ChannelReporter.threaded(BufferedReporter(stuck, 1))
    emitter = EventEmitter([channel])
    emitter.emit(note())
    stuck.entered.wait()
    assert emitter.stats()[0].dropped == 0  # for the run's last event
    account = channel.account().inner[0]
    assert (account.received, account.pending) == (1, 1)
    stuck.gate.set()
    assert channel.close(30.0)


def test_what_a_run_left_in_a_channel_is_delivered_at_exit(tmp_path: Path) -> None:
    program = """
from tests.reporting.sink_runs import agent_of
class Slow(Gated):
    def handle_event(self, event):
        super().handle_event(event)
        log.handle_event(event)
sink = Slow()
agent_of(ChannelReporter.threaded(BufferedReporter(sink, 4))).run("go")
assert sink.got == []
sink.gate.set()
"""
    seqs = run(program, tmp_path / "run.jsonl")
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) > 20


def test_one_that_hangs_at_exit_costs_no_other_its_events_and_each_says_what_it_lost(tmp_path: Path) -> None:
    program = """
from agentkit_reporting.process_ends import deliver_all
hanging = [ChannelReporter.threaded(Gated()), ChannelReporter.threaded(BufferedReporter(Gated(), 2))]
healthy = [ChannelReporter.threaded(BufferedReporter(log, 1_000)) for _ in range(5)]
for each in (*hanging, *healthy): each.handle_event(notes(1)[0])
hanging[1].handle_event(notes(1)[0])
deliver_all(0.5)
os._exit(0)
"""
    held = "still held {} events when the process ended; they are lost"
    log = tmp_path / "run.jsonl"
    said = stderr_of(program, log)
    assert said.count("\n") == 3 + said.count("has not returned")
    assert f"the channel to Gated {held.format('1 of 1')}" in said
    assert f"the buffer of Gated {held.format('2 of 2')}" in said
    assert log.read_bytes().count(b"\n") == 5


def test_a_failure_on_the_last_event_of_a_run_is_logged_when_it_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Last(LoopObserver):
        def handle_event(self, event: AgentEvent) -> None:
            if isinstance(event, RunFinished):
                raise ValueError("too late")  # noqa: TRY004 - any error will do

    for wrap in (ChannelReporter.threaded, BufferedReporter):
        caplog.clear()
        channel = wrap(Last())
        agent_of(channel).run("go")
        channel.flush()
        assert caplog.text.count("observer Last failed on event 27 (run_finished): ValueError: too late") == 1
        channel.close()
        assert len(caplog.records) == 1
