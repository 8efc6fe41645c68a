"""An observer behind an adapter ends up as the observer alone, for whatever run."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.events import AgentEvent, ContentDelta, ObserverFailed, RunFinished
from agentkit_loop.observers import FailurePolicy, LoopObserver, Observer, Registration
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import (
    ChannelReporter,
    CompositeReporter,
    JsonlReporter,
    LoggingReporter,
    PolicyReporter,
    StdoutReporter,
    TranscriptReporter,
    UsageReporter,
)
from agentkit_reporting.inner import ReportingAdapter
from tests.loop.scripts import Script, run_async, run_sync, scripts
from tests.reporting.adapters import WRAPS, Failing, quiet, told
from tests.strategies import event_lists

quick = settings(deadline=None, max_examples=25)


class Watchers:
    """Every reporter, as it is or behind an adapter."""

    def __init__(self, wrapped_in: str | None) -> None:
        self.log, self.page = io.BytesIO(), io.StringIO()
        self.usage, self.transcript, self.recorder = UsageReporter(), TranscriptReporter(), EventRecorder()
        self.inner: tuple[LoopObserver, ...] = (
            self.usage,
            self.transcript,
            JsonlReporter(self.log),
            StdoutReporter(self.page, colour=False, width=80, verbose=True),
            self.recorder,
        )
        self.observers: list[Observer | Registration] = list(self.inner)
        if wrapped_in == "composite":
            self.observers = [CompositeReporter(*self.inner)]
        elif wrapped_in is not None:
            self.observers = [WRAPS[wrapped_in](inner) for inner in self.inner]

    def tell(self, events: list[AgentEvent]) -> None:
        for event in events:
            for observer in self.observers:
                assert isinstance(observer, LoopObserver)
                kind = event.delta if isinstance(event, ContentDelta) else event
                if (
                    not observer.wants
                    or isinstance(event, observer.wants)
                    or isinstance(kind, observer.wants)
                ):
                    observer.handle_event(event)

    def close(self) -> None:
        for observer in self.observers:
            if isinstance(observer, ReportingAdapter):
                assert observer.close(30.0), str(observer.account())
                assert str(observer.account()).startswith("complete: ")

    def assert_equal(self, other: Watchers) -> None:
        assert self.recorder.events == other.recorder.events
        assert self.usage == other.usage
        assert self.transcript == other.transcript
        assert self.page.getvalue() == other.page.getvalue()
        assert self.log.getvalue() == other.log.getvalue()


@pytest.mark.parametrize("wrap", WRAPS)
@given(events=event_lists(20))
@quick
def test_any_events_reach_every_reporter_as_without_the_adapter(wrap: str, events: list[AgentEvent]) -> None:
    direct, behind = Watchers(None), Watchers(wrap)
    direct.tell(events)
    behind.tell(events)
    behind.close()
    behind.assert_equal(direct)


@pytest.mark.parametrize("wrap", WRAPS)
@given(script=scripts)
@quick
def test_a_run_is_told_through_an_adapter_as_without_it(wrap: str, script: Script) -> None:
    direct, behind = Watchers(None), Watchers(wrap)
    outcome = run_sync(script, *direct.inner, *behind.observers)
    behind.close()
    assert behind.recorder.events == outcome.events
    behind.assert_equal(direct)


@given(script=scripts)
@quick
def test_an_asynchronous_run_is_told_through_a_thread_as_without_it(script: Script) -> None:
    direct, behind = EventRecorder(), EventRecorder()
    channel = ChannelReporter.threaded(behind)
    run_async(script, direct, channel)
    assert channel.close(30.0)
    assert behind.events == direct.events


failing_sets = st.lists(st.sets(st.integers(1, 40)), min_size=1, max_size=3)
policies = st.sampled_from([FailurePolicy.IGNORE, FailurePolicy.LOG, FailurePolicy.ACCUMULATE])


def comparable(events: list[AgentEvent]) -> list[object]:
    """Return what two runs tell alike: not where an adapter's frames lie, and not who was counted."""
    return [
        (event.seq, event.observer, event.event_seq, event.error.type, event.error.message, event.disabled)
        if isinstance(event, ObserverFailed)
        else event.type
        if isinstance(event, RunFinished)
        else (event.seq, event.type)
        for event in events
    ]


@pytest.mark.parametrize("how", ["composite", "nested composite", "policy"])
@given(script=scripts, numbers=failing_sets, policy=policies, disable_after=st.none() | st.integers(1, 3))
@quick
def test_failures_behind_an_adapter_are_told_as_those_of_registered_observers(
    how: str, script: Script, numbers: list[set[int]], policy: FailurePolicy, disable_after: int | None
) -> None:
    direct_ones, inner_ones = ([Failing(*chosen) for chosen in numbers] for _ in range(2))
    given_policy = [Registration(one, policy=policy, disable_after=disable_after) for one in direct_ones]
    behind: list[Observer | Registration]
    if how == "policy":
        behind = [PolicyReporter(one, policy, disable_after) for one in inner_ones]
    else:
        outer = CompositeReporter(*inner_ones)
        behind = [
            Registration(
                CompositeReporter(outer) if how == "nested composite" else outer,
                policy=policy,
                disable_after=disable_after,
            )
        ]
    with quiet():
        direct = run_sync(script, *given_policy)
        wrapped = run_sync(script, *behind)
    assert comparable(wrapped.events) == comparable(direct.events)
    assert [one.got for one in inner_ones] == [one.got for one in direct_ones]


def test_a_logging_reporter_takes_what_every_other_reporter_takes() -> None:
    reporter = LoggingReporter("agentkit.tests.quiet")
    for event in told():
        reporter.handle_event(event)
    assert reporter.account().is_complete
