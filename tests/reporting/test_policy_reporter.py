"""PolicyReporter: the four policies around every reporter, without the loop and with it."""

from __future__ import annotations

import io

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, ObserverError
from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.observers import FailurePolicy, LoopObserver, Observer, Registration
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import (
    BufferedReporter,
    ChannelReporter,
    CompositeReporter,
    JsonlReporter,
    LoggingReporter,
    PolicyReporter,
    StdoutReporter,
    TranscriptReporter,
    UsageReporter,
)
from tests.reporting.adapters import Failing, Gated, note, notes

REPORTERS = {
    "stdout": lambda: StdoutReporter(io.StringIO()),
    "jsonl": lambda: JsonlReporter(io.BytesIO()),
    "usage": UsageReporter,
    "transcript": TranscriptReporter,
    "logging": lambda: LoggingReporter("agentkit.tests.policy"),
    "composite": CompositeReporter,
    "buffered": lambda: BufferedReporter(EventRecorder(), 1),
    "threaded": lambda: ChannelReporter.threaded(EventRecorder()),
}


class Faulty(LoopObserver):
    """A reporter that works, but for the second event that it is given."""

    def __init__(self, reporter: LoopObserver) -> None:
        self.reporter = reporter
        self.got: list[int] = []

    def handle_event(self, event: AgentEvent) -> None:
        self.got.append(event.seq)
        if event.seq == 2:
            raise OSError("no space")
        self.reporter.handle_event(event)

    def close(self) -> None:
        self.reporter.close()


@pytest.mark.parametrize("name", REPORTERS)
@pytest.mark.parametrize("policy", list(FailurePolicy))
def test_every_policy_works_around_every_reporter(
    name: str, policy: FailurePolicy, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = Faulty(REPORTERS[name]())  # type: ignore[no-untyped-call] # a table of constructors
    with PolicyReporter(faulty, policy) as reporter:
        for event in notes(3):
            if policy is FailurePolicy.FAIL_FAST and event.seq == 2:
                with pytest.raises(ObserverError, match="observer Faulty failed on event 2") as caught:
                    reporter.handle_event(event)
                assert isinstance(caught.value.__cause__, OSError)
            else:
                reporter.handle_event(event)
    assert faulty.got == ([1, 2] if policy is FailurePolicy.FAIL_FAST else [1, 2, 3])
    kept = reporter.take_errors()
    assert [entry.event_seq for entry in kept] == ([2] if policy is FailurePolicy.ACCUMULATE else [])
    assert ("no space" in caplog.text) == (policy is FailurePolicy.LOG)
    account = reporter.account()
    assert (account.failed, account.dropped) == (1, int(policy is FailurePolicy.FAIL_FAST))


def test_a_kind_of_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    reporter = PolicyReporter(Failing(*range(100)), FailurePolicy.LOG)
    for event in notes(50):
        reporter.handle_event(event)
    assert len(caplog.records) == 1
    assert reporter.account().failed == 50


def test_accumulated_errors_are_bounded_and_taken_once() -> None:
    reporter = PolicyReporter(Failing(*range(2_000)), FailurePolicy.ACCUMULATE)
    for event in notes(1_500):
        reporter.handle_event(event)
    kept = reporter.take_errors()
    assert [entry.event_seq for entry in kept] == list(range(501, 1_501))
    assert reporter.take_errors() == ()


def test_an_observer_is_disabled_after_n_failures() -> None:
    failing = Failing(*range(100))
    reporter = PolicyReporter(failing, FailurePolicy.IGNORE, disable_after=3)
    for event in notes(10):
        reporter.handle_event(event)
    assert failing.got == [1, 2, 3]
    assert reporter.dropped == 7


@pytest.mark.parametrize("policy", list(FailurePolicy))
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_never_swallowed(policy: FailurePolicy, error: type[BaseException]) -> None:
    reporter = PolicyReporter(Failing(1, error=error), policy)
    with pytest.raises(error):
        reporter.handle_event(notes(1)[0])


def test_with_the_loop_it_is_as_if_registered_with_that_policy() -> None:
    recorder, failing = EventRecorder(), Failing(1, 2)
    reporter = PolicyReporter(failing, FailurePolicy.ACCUMULATE)
    emitter = EventEmitter([reporter, recorder], policy=FailurePolicy.FAIL_FAST)
    for _ in range(3):
        emitter.emit(note())
    assert [(told.observer, told.event_seq) for told in recorder.of(ObserverFailed)] == [("Failing", 1)]
    assert [entry.event_seq for entry in reporter.take_errors()] == [1]
    assert [entry.event_seq for entry in emitter.take_errors()] == [1]
    assert failing.got == [1, 3, 4]


def test_a_policy_nearer_to_the_observer_wins() -> None:
    ignored, other = Failing(1), Failing(1, error=KeyError)
    inner = CompositeReporter(Registration(ignored, policy=FailurePolicy.IGNORE), other)
    reporter = PolicyReporter(inner, FailurePolicy.ACCUMULATE)
    reporter.handle_event(notes(1)[0])
    assert [type(entry.error) for entry in reporter.take_errors()] == [KeyError]


def test_a_policy_behind_other_adapters_holds_without_the_loop_too(caplog: pytest.LogCaptureFixture) -> None:
    inner = PolicyReporter(Failing(1, 2), FailurePolicy.LOG)
    reporter = CompositeReporter(BufferedReporter(inner, 2))
    for event in notes(2):
        reporter.handle_event(event)
    assert [record.getMessage() for record in caplog.records] == [
        "observer Failing failed on event 1 (custom_event): ValueError: on 1"
    ]


def test_it_judges_what_fails_behind_an_adapter_one_by_one() -> None:
    always, second = Failing(1, 2, 3), Failing(2)
    reporter = PolicyReporter(CompositeReporter(always, second), FailurePolicy.IGNORE, disable_after=2)
    for event in notes(4):
        reporter.handle_event(event)
    assert (always.got, second.got) == ([1, 2], [1, 2, 3, 4])


def test_flush_and_close_reach_the_observer() -> None:
    inner = Gated(is_open=True)
    reporter = PolicyReporter(inner, FailurePolicy.LOG)
    assert (reporter.flush(), reporter.close(), inner.flushed, inner.closed) == (True, True, 1, 1)


@pytest.mark.parametrize("policy", ["log", None, 1])
def test_a_policy_that_is_none_is_refused(policy: FailurePolicy) -> None:
    with pytest.raises(ConfigurationError, match="no failure policy"):
        PolicyReporter(EventRecorder(), policy)


@pytest.mark.parametrize("observer", [3, None, EventRecorder])
def test_what_cannot_observe_is_refused(observer: Observer) -> None:
    with pytest.raises(ConfigurationError, match="cannot observe"):
        PolicyReporter(observer, FailurePolicy.LOG)


def test_no_failures_at_all_is_no_number_of_failures() -> None:
    with pytest.raises(ConfigurationError, match="must be at least 1"):
        PolicyReporter(EventRecorder(), FailurePolicy.LOG, disable_after=0)
