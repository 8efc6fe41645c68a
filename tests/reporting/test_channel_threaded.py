"""ChannelReporter.threaded: an observer on its own thread, its failures, and its end."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import IllegalMoveError, ObserverError
from agentkit_loop.events import AgentEvent, ObserverFailed, RunFinished
from agentkit_loop.observers import FailurePolicy, Registration
from agentkit_loop.testing import EventRecorder, Reply, ScriptedModel
from agentkit_reporting import BufferedReporter, ChannelReporter, TranscriptReporter, UsageReporter
from tests.reporting.adapters import Failing, Gated, note, notes
from tests.reporting.written_sessions import two_turns


def test_events_are_delivered_in_order_on_one_thread_that_is_not_the_producers() -> None:
    gated = Gated(is_open=True)
    with ChannelReporter.threaded(gated) as reporter:
        for event in notes(3_000):
            reporter.handle_event(event)
    assert gated.got == list(range(1, 3_001))
    assert len(gated.threads) == 1
    assert gated.threads != {threading.get_ident()}
    assert (gated.flushed, gated.closed) == (1, 1)


def test_no_thread_is_started_before_the_first_event_and_it_ends_at_close() -> None:
    before = set(threading.enumerate())
    gated = Gated(is_open=True)
    reporter = ChannelReporter.threaded(gated)
    assert set(threading.enumerate()) == before
    reporter.handle_event(notes(1)[0])
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    assert reporter.close() is True
    thread.join()
    assert reporter.close() is True
    assert gated.closed == 1


def test_a_channel_without_events_is_flushed_and_closed_all_the_same() -> None:
    gated = Gated()
    reporter = ChannelReporter.threaded(gated)
    assert (reporter.flush(), reporter.close(), reporter.close()) == (True, True, True)
    assert (gated.flushed, gated.closed) == (1, 1)
    with pytest.raises(IllegalMoveError, match="make a new one"):
        reporter.handle_event(notes(1)[0])


def test_flush_and_close_answer_in_time_whether_all_arrived() -> None:
    gated = Gated()
    reporter = ChannelReporter.threaded(gated)
    for event in notes(3):
        reporter.handle_event(event)
    assert reporter.flush(0.01) is False
    assert reporter.close(0.01) is False
    assert reporter.account().pending == 3
    gated.gate.set()
    assert reporter.close(30.0) is True
    assert (gated.got, gated.flushed, gated.closed) == ([1, 2, 3], 1, 1)
    assert reporter.account().is_complete


def test_flush_reaches_the_inner_one_after_what_was_held() -> None:
    seen: list[tuple[str, int]] = []

    class Sink(Gated):
        def flush(self) -> None:
            seen.append(("flushed after", len(self.got)))

    reporter = ChannelReporter.threaded(BufferedReporter(Sink(is_open=True), 1_000))
    for event in notes(10):
        reporter.handle_event(event)
    assert reporter.flush() is True
    assert seen == [("flushed after", 10)]
    reporter.close()


def test_a_failure_is_told_with_the_next_event_and_never_to_the_one_that_failed() -> None:
    failing, recorder = Failing(1), EventRecorder()
    channel = ChannelReporter.threaded(failing)
    emitter = EventEmitter([channel, recorder])
    emitter.emit(note())
    assert channel.flush() is False
    emitter.emit(note())
    emitter.emit(note())
    assert [(told.observer, told.event_seq, told.seq) for told in recorder.of(ObserverFailed)] == [
        ("Failing", 1, 3)
    ]
    assert channel.close() is False
    assert failing.got == [1, 2, 4]
    assert str(channel.account()) == "incomplete: 3 of 4 (1 failed)"


def test_a_failure_is_told_in_the_session_that_it_belongs_to() -> None:
    channel, recorder = ChannelReporter.threaded(Failing(1)), EventRecorder()
    one, two = (EventEmitter([channel, recorder], session_id=name) for name in ("one", "two"))
    one.emit(note())
    channel.flush()
    two.seq = 100  # so that it does not fail there as well
    two.emit(note())
    two.emit(note())
    assert recorder.of(ObserverFailed) == []
    one.emit(note())
    assert [told.session_id for told in recorder.of(ObserverFailed)] == ["one"]
    channel.close()


def test_under_fail_fast_the_observer_gets_no_more_and_the_original_is_the_cause() -> None:
    failing = Failing(1)
    channel = ChannelReporter.threaded(failing)
    emitter = EventEmitter([Registration(channel, policy=FailurePolicy.FAIL_FAST)])
    emitter.emit(note())
    channel.flush()
    with pytest.raises(ObserverError, match="observer Failing failed on event 1") as caught:
        emitter.emit(note())
    assert isinstance(caught.value.__cause__, ValueError)
    channel.flush()
    emitter.emit(note())
    channel.close()
    assert 3 not in failing.got


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_on_the_thread_is_raised_where_events_come_from(error: type[BaseException]) -> None:
    failing = Failing(1, error=error)
    channel = ChannelReporter.threaded(failing)
    one, two, three = notes(3)
    channel.handle_event(one)
    channel.flush()
    with pytest.raises(error):
        channel.handle_event(two)
    channel.handle_event(three)
    channel.close()
    assert failing.got == [1, 2, 3]


def test_a_failure_that_no_event_came_for_is_logged_at_close(caplog: pytest.LogCaptureFixture) -> None:
    channel = ChannelReporter.threaded(Failing(1, 2))
    for event in notes(1):
        channel.handle_event(event)
    assert channel.close() is False
    assert caplog.text.count("observer Failing failed on event 1") == 1


def test_an_observer_that_tells_its_own_channel_something_waits_for_nobody() -> None:
    extra = notes(20)[10:]
    got: list[int] = []

    def echo(event: AgentEvent) -> None:
        got.append(event.seq)
        if event.seq == 1:
            for more in extra:
                channel.handle_event(more)
            channel.flush()  # on its own thread it would wait for itself

    channel = ChannelReporter.threaded(echo, maxsize=1, overflow="block", patience_s=None)
    channel.handle_event(notes(1)[0])
    while not channel.account().is_complete or len(got) < 11:
        channel.flush()
    assert channel.close() is True
    assert got == [1, *range(11, 21)]


def test_many_producers_lose_nothing_and_each_keeps_its_order() -> None:
    got: list[AgentEvent] = []
    channel = ChannelReporter.threaded(got.append, maxsize=50, overflow="block")
    streams = [notes(2_000) for _ in range(8)]

    def tell(events: list[AgentEvent]) -> None:
        for event in events:
            channel.handle_event(event)
            if event.seq % 500 == 0:
                assert channel.flush(30.0) is True  # what others put meanwhile is no concern of this answer

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, streams))
    assert channel.close() is True
    assert str(channel.account()) == "complete: 16000 of 16000"
    for events in streams:
        mine = {id(event) for event in events}
        assert [event.seq for event in got if id(event) in mine] == list(range(1, 2_001))


def test_a_channel_that_nobody_has_any_more_delivers_what_it_holds_and_its_thread_ends() -> None:
    before = set(threading.enumerate())
    gated = Gated()
    channel = ChannelReporter.threaded(gated)
    for event in notes(3):
        channel.handle_event(event)
    (thread,) = set(threading.enumerate()) - before
    gone = weakref.ref(channel)
    del channel
    gc.collect()
    assert gone() is None
    gated.gate.set()
    thread.join()
    assert (gated.got, gated.flushed, gated.closed) == ([1, 2, 3], 1, 0)


def test_a_channel_keeps_what_its_observer_wants() -> None:
    channel = ChannelReporter.threaded(UsageReporter())
    assert channel.wants == UsageReporter.wants
    emitter = EventEmitter([channel])
    emitter.emit(note())
    assert channel.account().received == 0


def test_a_sink_that_never_returns_does_not_harm_the_run() -> None:
    gated, transcript, recorder = Gated(), TranscriptReporter(), EventRecorder()
    channel = ChannelReporter.threaded(gated, maxsize=4, overflow="drop_oldest")
    emitter = EventEmitter([channel, transcript, recorder], session_id="ses_0001")
    two_turns(emitter.tell_again)
    assert emitter.flush(0.01) is False
    assert len(recorder.events) > 20
    assert recorder.of(ObserverFailed) == []
    account = channel.account()
    assert account.received == len(recorder.events) == account.pending + account.dropped
    assert emitter.stats()[0].dropped == account.dropped
    gated.gate.set()
    assert channel.close(30.0) is False


def test_the_drops_of_a_run_stand_in_its_last_event() -> None:
    gated, recorder = Gated(is_open=True), EventRecorder()
    channel, receiver = ChannelReporter.pair(4, "drop_newest")
    model = ScriptedModel([Reply(text="a long answer " * 20, chunk_chars=4)])
    with Agent(model=model, observers=[channel, gated, recorder]) as agent:
        agent.run("go")
    (finished,) = recorder.of(RunFinished)
    stats = {entry.name: entry for entry in finished.observers}
    assert stats["ChannelReporter"].dropped == len(recorder.events) - 1 - 4  # that event itself came later
    assert [event.seq for event in receiver] == [1, 2, 3, 4]
