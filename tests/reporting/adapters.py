"""What the tests of adapters share: observers that fail or wait on command, and every adapter around one."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from agentkit_loop.content import AppendText
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, ContentDelta, CustomEvent
from agentkit_loop.observers import FailurePolicy, LoopObserver, Observer, Registration
from agentkit_reporting import (
    BufferedReporter,
    ChannelReporter,
    CompositeReporter,
    PolicyReporter,
)
from agentkit_reporting.inner import ReportingAdapter

Wrap = Callable[[Observer | Registration], ReportingAdapter]

WRAPS: dict[str, Wrap] = {
    "composite": CompositeReporter,
    "policy": lambda inner: PolicyReporter(inner, FailurePolicy.LOG),
    "buffered": lambda inner: BufferedReporter(inner, capacity=7),
    "threaded": lambda inner: ChannelReporter.threaded(inner, overflow="block"),
    "all of them": lambda inner: CompositeReporter(
        ChannelReporter.threaded(BufferedReporter(PolicyReporter(inner, FailurePolicy.LOG), capacity=3))
    ),
}
"""Every adapter, and all of them around each other."""


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


class Gated(LoopObserver):
    """Keeps events, and waits on each until its gate is open; says when it has begun to wait."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.got: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.flushed = self.closed = 0
        if is_open:
            self.gate.set()

    def handle_event(self, event: AgentEvent) -> None:
        self.threads.add(threading.get_ident())
        self.entered.set()
        self.gate.wait()
        self.got.append(event.seq)

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1


def note(name: str = "note") -> CustomEvent:
    return CustomEvent(name=name)


def chunk(text: str = "ten chars ") -> ContentDelta:
    return ContentDelta(request_id="request-1", delta=AppendText("part-1", text))


def told(*events: AgentEvent, session_id: str = "session") -> list[AgentEvent]:
    """Return events as they are told: stamped, 1, 2, 3 …"""
    kept: list[AgentEvent] = []
    emitter = EventEmitter([kept.append], session_id=session_id, run_id="run")
    for event in events:
        emitter.emit(event)
    return kept


def notes(count: int) -> list[AgentEvent]:
    return told(*(note() for _ in range(count)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Log nothing: for properties, which would log for every example."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
