"""What a running tool may use: its context, and the signals that it sends."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from agentkit_loop.tool_arguments import ToolInputError
from agentkit_loop.tool_context import CustomFact, ToolContext, ToolProgressed, ToolSignal
from agentkit_loop.tools import invoke, tool
from tests.loop.tool_samples import context


def test_the_context_is_given_and_is_not_the_models_to_give() -> None:
    @tool
    def report(step: int, context: ToolContext, other: int = 0) -> tuple[Any, ...]:
        return (
            step + other,
            context.call_id,
            context.session_id,
            context.run_id,
            context.turn_id,
            context.attempt,
        )

    assert report.takes_context == "context"
    assert list(report.input_schema["properties"]) == ["step", "other"]
    assert invoke(report, {"step": 1}, context()) == (1, "call-1", "s", "r", "turn-1", 2)
    with pytest.raises(ToolInputError, match="unknown argument `context`"):
        report.bind({"step": 1, "context": {}})


def test_progress_and_facts_are_sent_as_json() -> None:
    signals: list[ToolSignal] = []
    running = context(signals)
    running.progress("a\udcff", 0.5)
    running.progress("b", 7)
    running.progress("c", -1)
    running.progress("d")
    running.emit("found", {"$a": {1}, "b": b"x"})
    running.emit("done")
    assert signals == [
        ToolProgressed("call-1", "a\\udcff", 0.5),
        ToolProgressed("call-1", "b", 1.0),
        ToolProgressed("call-1", "c", 0.0),
        ToolProgressed("call-1", "d", None),
        signals[4],
        CustomFact("done", None),
    ]
    assert isinstance(signals[4], CustomFact)
    assert signals[4].data == {"$$a": {"$set": [1]}, "b": {"$bytes": "eA=="}}


@pytest.mark.parametrize("fraction", [math.nan, math.inf, -math.inf])
def test_a_fraction_that_is_not_finite_is_refused(fraction: float) -> None:
    signals: list[ToolSignal] = []
    with pytest.raises(ValueError, match="not finite; give 0 to 1"):
        context(signals).progress("a", fraction)
    assert signals == []


def test_after_the_call_was_closed_nothing_is_sent() -> None:
    signals: list[ToolSignal] = []
    running = context(signals)
    running.close()
    running.progress("late")
    running.emit("late")
    assert signals == []
    assert not running.cancelled


def test_a_cancel_is_seen_and_waited_for() -> None:
    running = context()
    assert running.wait_cancelled(0) is False
    seen: list[bool] = []
    waiting = threading.Thread(target=lambda: seen.append(running.wait_cancelled(60)))
    waiting.start()
    running.cancel()
    waiting.join()
    assert seen == [True]
    assert running.cancelled


def test_signals_of_many_threads_are_sent_one_at_a_time_and_none_after_the_close() -> None:
    signals: list[ToolSignal] = []
    inside = threading.Lock()

    def send(signal: ToolSignal) -> None:
        assert inside.acquire(blocking=False)
        signals.append(signal)
        inside.release()

    running = ToolContext(send, call_id="c")
    started = threading.Barrier(5)

    def work() -> None:
        started.wait()
        for _ in range(500):
            running.progress("x")

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    started.wait()
    running.close()
    told = len(signals)
    for worker in workers:
        worker.join()
    assert len(signals) == told
