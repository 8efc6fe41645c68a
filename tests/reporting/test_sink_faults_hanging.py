"""A sink that blocks, or never returns from flush or close: the run goes on, one thread is lost, it is told once."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import LoopObserver, Observer
from agentkit_reporting import (
    BufferedReporter,
    ChannelReporter,
    CompositeReporter,
    RedactingReporter,
    account_of,
)
from agentkit_reporting.inner import ReportingAdapter
from tests.reporting.adapters import note
from tests.reporting.sink_runs import PLAYS, Play, agent_of, essence, undisturbed


class Hanging(LoopObserver):
    """Hangs in the methods that it is told, until its gate is open; keeps the numbers of its events."""

    def __init__(self, *methods: str) -> None:
        self._methods = methods
        self.gate = threading.Event()
        self.got: list[int] = []
        self.calls: list[str] = []

    def _hang(self, method: str) -> None:
        self.calls.append(method)
        if method in self._methods:
            self.gate.wait()

    def handle_event(self, event: AgentEvent) -> None:
        self._hang("handle_event")
        self.got.append(event.seq)

    def flush(self) -> None:
        self._hang("flush")

    def close(self) -> None:
        self._hang("close")


@pytest.fixture
def gates() -> Iterator[list[threading.Event]]:
    """Gates that are opened at the end, so that no thread is left."""
    gates: list[threading.Event] = []
    before = set(threading.enumerate())
    yield gates
    for gate in gates:
        gate.set()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("agentkit-"):
            thread.join()


def given_up() -> int:
    return sum(thread.name == "agentkit-flush" for thread in threading.enumerate())


def test_what_hangs_costs_one_thread_and_is_told_once_however_often_it_is_asked(
    gates: list[threading.Event], caplog: pytest.LogCaptureFixture
) -> None:
    hanging = Hanging("flush", "close")
    gates.append(hanging.gate)
    emitter = EventEmitter([hanging])
    emitter.emit(note())
    for _ in range(50):
        assert not emitter.flush(0.02)
    assert not emitter.close(0.02)
    assert not emitter.close(0.02)
    assert given_up() == 2
    assert hanging.calls == ["handle_event", "flush", "close"]
    assert [each.getMessage() for each in caplog.records] == [
        "observer Hanging has not returned from flush within 0.02 s; it is not waited for any more"
    ]


def test_what_hung_is_asked_again_once_it_has_returned(gates: list[threading.Event]) -> None:
    hanging = Hanging("flush")
    gates.append(hanging.gate)
    emitter = EventEmitter([hanging])
    assert not emitter.flush(0.02)
    hanging.gate.set()
    for thread in threading.enumerate():
        if thread.name == "agentkit-flush":
            thread.join()
    assert emitter.flush()
    assert hanging.calls == ["flush", "flush"]


@pytest.mark.parametrize(
    "wrap",
    [CompositeReporter, BufferedReporter, RedactingReporter, ChannelReporter.threaded],
    ids=["composite", "buffered", "redacting", "channel"],
)
def test_adapters_keep_to_their_bound_around_a_sink_that_never_returns(
    wrap: Callable[[Observer], ReportingAdapter],
    gates: list[threading.Event],
    caplog: pytest.LogCaptureFixture,
) -> None:
    hanging = Hanging("flush", "close")
    gates.append(hanging.gate)
    adapter = wrap(hanging)
    emitter = EventEmitter([adapter])
    emitter.emit(note())
    for _ in range(20):
        assert not adapter.flush(0.02)
    assert not adapter.close(0.02)
    assert given_up() <= 2
    assert hanging.got == [1]
    assert len(caplog.records) <= 1


def blocked_behind_a_channel(sink: Observer) -> Observer:
    return ChannelReporter.threaded(sink, maxsize=10, overflow="drop_oldest")


SINKS: list[tuple[tuple[str, ...], Callable[[Observer], Observer]]] = [
    (("flush",), lambda sink: sink),
    (("flush", "close"), lambda sink: sink),
    (("close",), CompositeReporter),
    (("flush", "close"), BufferedReporter),
    (("handle_event",), blocked_behind_a_channel),
]


def test_runs_come_to_the_same_and_end_though_a_sink_never_returns(
    gates: list[threading.Event], caplog: pytest.LogCaptureFixture
) -> None:
    # All at the same time, since each takes the whole bound of a flush, and of a close.
    def run(play: Play, methods: tuple[str, ...], wrap: Callable[[Observer], Observer]) -> int:
        sink = Hanging(*methods)
        gates.append(sink.gate)
        observer = wrap(sink)
        with agent_of(observer, runs=2) as agent:
            results = [essence(play(agent)) for _ in range(2)]
        assert results == [undisturbed(play)] * 2
        return account_of(observer).pending

    with concurrent.futures.ThreadPoolExecutor(2 * len(SINKS)) as pool:
        runs = [pool.submit(run, play, *sink) for sink in SINKS for play in PLAYS.values()]
        pending = [each.result() for each in runs]
    assert max(pending) <= 11  # what waits, and what the sink has in hand
    messages = [each.getMessage() for each in caplog.records]
    drops = [each for each in messages if "drops events" in each]
    assert len(drops) == 2
    # One for each sink; behind a channel it is the channel that does not return.
    assert len(messages) - len(drops) == 2 * len(SINKS), messages


def test_a_flush_that_waits_while_another_thread_closes_the_channel_ends_with_it(
    gates: list[threading.Event],
) -> None:
    for _ in range(20):
        sink = Hanging("handle_event")
        gates.append(sink.gate)
        channel = ChannelReporter.threaded(sink)
        channel.handle_event(note())
        flush = threading.Thread(target=channel.flush)
        flush.start()
        channel.close(0.001)
        sink.gate.set()
        flush.join()
        assert channel.close()


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
def test_a_sink_that_blocks_for_a_while_is_waited_for_and_gets_everything(play: Play) -> None:
    sink = Hanging("handle_event")
    behind = Hanging("handle_event")
    channel = ChannelReporter.threaded(behind)

    class Opens(LoopObserver):
        """Opens the gates from another thread once both wait."""

        def handle_event(self, event: AgentEvent) -> None:
            if event.seq == 1:
                threading.Thread(target=self.open).start()

        def open(self) -> None:
            while not (sink.calls and behind.calls):
                pass
            sink.gate.set()
            behind.gate.set()

    with agent_of(Opens(), channel, sink) as agent:
        result = play(agent)
    assert essence(result) == undisturbed(play)
    assert sink.got == behind.got == list(range(1, len(sink.got) + 1))
    assert channel.account().is_complete


def test_the_interpreter_ends_though_a_sink_hangs(tmp_path: Path) -> None:
    program = """
import threading
from agentkit_loop.observers import LoopObserver
from agentkit_reporting import BufferedReporter, ChannelReporter
from tests.reporting.numbered_lines import note
class Hanging(LoopObserver):
    def handle_event(self, event): threading.Event().wait()
    def flush(self): threading.Event().wait()
kept = [BufferedReporter(Hanging()), ChannelReporter.threaded(Hanging())]
for each in kept: each.handle_event(note(1))
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert done.stdout == "end\n"
