"""The counts of spans on their way add up at any time, and a flush is done by one thread for all who ask."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_reporting.tracing.delivery import Flusher, SpanTally, Trouble, VainWait

STEPS = st.lists(st.sampled_from(["end", "end", "take", "deliver", "fail", "reject", "close"]), max_size=60)


@given(STEPS, st.integers(1, 5))
def test_the_counts_add_up_after_every_step(steps: list[str], capacity: int) -> None:
    tally, queued, taken, ended = SpanTally(capacity), 0, 0, 0
    for step in steps:
        if step == "end":
            queued += tally.admit()
            ended += 1
        elif step == "take":
            tally.take(queued)
            queued, taken = 0, taken + queued
        elif step == "close":
            tally.is_closed = True
        elif taken:
            names = {"deliver": "delivered", "fail": "failed", "reject": "rejected"}
            tally.settle(**{names[step]: 1})  # type: ignore[arg-type] # counts, and no error
            taken -= 1
        counts = tally.counts()
        assert queued <= capacity
        assert (counts.ended, counts.pending) == (ended, queued + taken)
        account = counts.account("x")
        assert counts.delivered + account.lost + counts.pending == ended
        assert account.is_complete is counts.is_complete
    tally.is_given_up = True
    assert (tally.counts().pending, tally.counts().account("x").lost) == (0, ended - tally.counts().delivered)


def test_counts_say_in_one_line_what_became_of_the_spans() -> None:
    tally = SpanTally(2)
    assert str(tally.counts()) == "0 of 0 spans were delivered"
    for _ in range(4):
        tally.admit()
    tally.take(2)
    tally.settle(delivered=1, rejected=1)
    tally.admit()
    assert str(tally.counts()) == (
        "1 of 5 spans were delivered (1 failed: 1 rejected; 2 dropped by the full queue; 1 pending)"
    )
    tally.is_closed = True
    tally.admit()
    assert tally.counts().at_the_end().missing == (
        " (3 failed: 1 rejected, 1 after the close; 2 dropped by the full queue)"
    )
    assert tally.counts().at_the_end().account("x").failed == 3


def test_what_was_waited_for_in_vain_is_known_as_long_as_nothing_comes_of_it() -> None:
    wait = VainWait()
    assert wait.seconds(0) == 0.0
    wait.note(3, 4.0)
    assert (wait.seconds(3), wait.seconds(4)) == (4.0, 0.0)
    wait.forget()
    assert wait.seconds(3) == 0.0


def test_what_is_asked_for_during_a_flush_is_done_after_it_and_once() -> None:
    begun, go_on, done = threading.Semaphore(0), threading.Semaphore(0), list[str]()

    def work() -> None:
        begun.release()
        go_on.acquire()
        done.append(threading.current_thread().name)

    flusher = Flusher("flushing", work)
    flusher.start()
    first = flusher.ask()
    assert begun.acquire(timeout=30.0)
    later = [flusher.ask() for _ in range(5)]
    assert not flusher.wait(first, 0.0)
    go_on.release()
    assert flusher.wait(first, 30.0)
    assert not flusher.wait(later[0], 0.0)
    go_on.release()
    assert flusher.wait(later[-1], 30.0)
    assert done == ["flushing", "flushing"]
    flusher.end()


def test_a_flush_of_nothing_that_ever_began_is_done_at_once() -> None:
    flusher = Flusher("flushing", lambda: None)
    assert flusher.wait(flusher.ask(), 0.0)
    flusher.end()
    flusher.start()
    assert not flusher.is_running


def test_a_flush_that_raises_is_over_and_the_next_is_done() -> None:
    flusher = Flusher("flushing", lambda: 1 / 0)
    flusher.start()
    assert flusher.wait(flusher.ask(), 30.0)
    assert flusher.wait(flusher.ask(), 30.0)
    flusher.end()


def test_trouble_is_told_once_for_each_signal_whichever_fails_first(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble()
    for reason in ("refused", "gone"):
        trouble.tell("metrics", "http://host", reason)
        trouble.tell("spans", "http://host", reason)
    metrics, spans = (record.getMessage() for record in caplog.records)
    assert metrics.startswith("TracingReporter: metrics are not delivered to http://host: refused; ")
    assert spans.startswith("TracingReporter: spans are not delivered to http://host: refused; ")
    assert spans.endswith("the account counts the rest")
    assert metrics.endswith("the account counts spans alone")


def test_a_full_queue_does_not_use_up_the_telling_of_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble()
    for _ in range(2):
        trouble.tell("spans", "http://host", "10 wait already", kind="full")
        trouble.tell("spans", "http://host", "timed out")
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "TracingReporter: spans are not delivered to http://host: 10 wait already",
        "TracingReporter: spans are not delivered to http://host: timed out",
    ]
