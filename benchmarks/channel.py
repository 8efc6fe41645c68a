"""Adapters: what a hand-off costs, and a million events through a bounded channel to a slow sink.

`python -m benchmarks.channel` prints both. The hand-off is wall clock from the first event to the last one delivered,
best of several rounds, against `queue.Queue` and `queue.SimpleQueue` with a thread that takes. For each overflow rule:
what arrived and what was dropped add up to a million, and what the process holds more than before.
"""

from __future__ import annotations

import gc
import queue
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from agentkit_loop.content import AppendText
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import FailurePolicy
from agentkit_reporting import (
    BufferedReporter,
    ChannelFullError,
    ChannelReporter,
    CompositeReporter,
    LoggingReporter,
    Overflow,
    PolicyReporter,
)

ROUNDS = 9
EVENTS = 200_000
MILLION = 1_000_000


def nothing(event: AgentEvent) -> None:
    """Take an event."""


def delta() -> AgentEvent:
    """Return a told delta of ten characters."""
    kept: list[AgentEvent] = []
    EventEmitter([kept.append]).tell_delta("request-1", AppendText("part-1", "ten chars "))
    return kept[0]


def through_a_channel(event: AgentEvent) -> float:
    """Return the microseconds of a hand-off by ChannelReporter.threaded."""
    channel = ChannelReporter.threaded(nothing, maxsize=EVENTS)
    put = channel.pass_on
    before = time.perf_counter()
    for _ in range(EVENTS):
        put(event)
    channel.flush()
    spent = time.perf_counter() - before
    channel.close()
    return spent / EVENTS * 1e6


def through_a_queue(kind: Callable[[], Any], event: AgentEvent) -> float:
    """Return the microseconds of a hand-off by a queue of the standard library."""
    events = kind()

    def take() -> None:
        while (taken := events.get()) is not None:
            nothing(taken)

    consumer = threading.Thread(target=take)
    consumer.start()
    before = time.perf_counter()
    for _ in range(EVENTS):
        events.put(event)
    events.put(None)
    consumer.join()
    return (time.perf_counter() - before) / EVENTS * 1e6


def on_this_thread(handle: Callable[[AgentEvent], object], event: AgentEvent) -> float:
    """Return the microseconds of one call of an adapter around an observer that does nothing."""
    before = time.perf_counter()
    for _ in range(EVENTS):
        handle(event)
    return (time.perf_counter() - before) / EVENTS * 1e6


def hand_offs() -> None:
    """Print what each adapter costs an event."""
    event = delta()
    ways: dict[str, Callable[[], float]] = {
        "nothing": lambda: on_this_thread(nothing, event),
        "CompositeReporter": lambda: on_this_thread(CompositeReporter(nothing).pass_on, event),
        "PolicyReporter": lambda: on_this_thread(PolicyReporter(nothing, FailurePolicy.LOG).pass_on, event),
        "BufferedReporter, 100": lambda: on_this_thread(BufferedReporter(nothing).pass_on, event),
        "LoggingReporter, level off": lambda: on_this_thread(LoggingReporter().handle_event, event),
        "ChannelReporter.threaded": lambda: through_a_channel(event),
        "queue.SimpleQueue and a thread": lambda: through_a_queue(queue.SimpleQueue, event),
        "queue.Queue and a thread": lambda: through_a_queue(queue.Queue, event),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            best[name] = min(best[name], way())
    for name, spent in best.items():
        print(f"{name:<34}{spent:>8.3f} µs an event")


def overflows() -> bool:
    """Print what became of a million events under each rule; whether counts and memory are as they should be."""
    event, all_well = delta(), True
    rules: tuple[Overflow, ...] = ("block", "drop_oldest", "drop_newest", "drop_deltas", "error")
    for rule in rules:
        taken, refused, before = [0], 0, 0

        def slow(_: AgentEvent, taken: list[int] = taken) -> None:
            taken[0] += 1
            if taken[0] % 100 == 0:
                time.sleep(0.001)  # ten microseconds an event, more than a producer needs

        channel = ChannelReporter.threaded(slow, maxsize=1_000, overflow=rule)
        gc.collect()
        tracemalloc.start()
        for number in range(MILLION):
            try:
                channel.pass_on(event)
            except ChannelFullError:
                refused += 1
            if number == MILLION // 10:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        channel.close()
        account = channel.account()
        exact = account.received == MILLION == taken[0] + account.dropped and account.delivered == taken[0]
        exact = exact and (refused == account.dropped if rule == "error" else not refused)
        all_well = all_well and exact and grown < MILLION // 10
        print(f"{rule:<12} {account}; {'exact' if exact else 'NOT EXACT'}; memory {grown:+,} bytes")
    return all_well


if __name__ == "__main__":
    hand_offs()
    sys.exit(not overflows())
