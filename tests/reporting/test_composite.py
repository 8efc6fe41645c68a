"""CompositeReporter: order, isolation, what it wants, what it tells of its children."""

from __future__ import annotations

import pytest

from agentkit_loop.content import AppendText, CommitPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, InnerObserverError, ObserverError
from agentkit_loop.events import AgentEvent, ObserverFailed, TurnStarted
from agentkit_loop.observers import FailurePolicy, LoopObserver, Registration
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import BufferedReporter, ChannelReporter, CompositeReporter, UsageReporter
from tests.reporting.adapters import Failing, Gated, chunk, note, notes


class Turns(LoopObserver):
    wants = (TurnStarted, CommitPart)

    def __init__(self) -> None:
        self.got: list[str] = []

    def handle_event(self, event: AgentEvent) -> None:
        self.got.append(event.type)


def test_children_get_each_event_in_order() -> None:
    order: list[tuple[str, int]] = []
    composite = CompositeReporter(lambda event: order.append(("a", event.seq)))
    assert composite.with_observer(lambda event: order.append(("b", event.seq))) is composite
    for event in notes(2):
        composite.handle_event(event)
    assert order == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_it_wants_what_its_children_want_together() -> None:
    assert CompositeReporter(Turns(), UsageReporter()).wants == (*Turns.wants, *UsageReporter.wants)
    assert CompositeReporter(Turns(), EventRecorder()).wants == ()
    turns, recorder = Turns(), EventRecorder()
    emitter = EventEmitter([CompositeReporter(turns, recorder)])
    for event in (note(), TurnStarted(index=1), chunk()):
        emitter.emit(event)
    assert turns.got == ["turn_started"]
    assert len(recorder.events) == 3


def test_events_that_no_child_wants_do_not_reach_it() -> None:
    composite = CompositeReporter(Turns())
    emitter = EventEmitter([composite])
    emitter.tell_delta("request-1", AppendText("part-1", "text"))
    emitter.emit(note())
    assert composite.account().received == 0


def test_a_child_that_would_miss_events_is_refused_once_the_composite_is_registered() -> None:
    composite = CompositeReporter(Turns())
    EventEmitter([composite])
    with pytest.raises(ConfigurationError, match="registered for fewer events"):
        composite.with_observer(EventRecorder())
    composite.with_observer(Turns())


def test_a_child_added_during_a_run_gets_the_next_event() -> None:
    late = EventRecorder()
    composite = CompositeReporter(EventRecorder())
    emitter = EventEmitter([composite])
    emitter.emit(note())
    composite.with_observer(late)
    emitter.emit(note())
    assert [event.seq for event in late.events] == [2]


def test_what_one_child_raises_keeps_no_event_from_the_others_also_without_the_loop() -> None:
    recorder = EventRecorder()
    composite = CompositeReporter(Failing(1), recorder, Failing(1, error=KeyError))
    first, second = notes(2)
    with pytest.raises(
        InnerObserverError, match=r"observer Failing failed on event 1 .*, and 1 more"
    ) as caught:
        composite.handle_event(first)
    composite.handle_event(second)
    assert [event.seq for event in recorder.events] == [1, 2]
    assert [type(failure.error) for failure in caught.value.failures] == [ValueError, KeyError]
    assert (
        str(composite.account())
        == "incomplete: 2 of 2 (Failing incomplete: 1 of 2 (1 failed), Failing incomplete: 1 of 2 (1 failed))"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_child_passes_after_the_others_got_the_event(error: type[BaseException]) -> None:
    recorder = EventRecorder()
    emitter = EventEmitter([CompositeReporter(Failing(1), Failing(1, error=error), recorder)])
    with pytest.raises(error):
        emitter.emit(note())
    emitter.emit(note())  # the failure beside the interrupt is told with the next event of the session
    assert [event.seq for event in recorder.events] == [1, 2, 3]
    assert [(told.observer, told.event_seq) for told in recorder.of(ObserverFailed)] == [("Failing", 1)]


def test_under_fail_fast_only_the_child_that_failed_is_removed() -> None:
    failing, recorder = Failing(1), EventRecorder()
    emitter = EventEmitter([CompositeReporter(failing, recorder)], policy=FailurePolicy.FAIL_FAST)
    with pytest.raises(ObserverError, match="observer Failing failed on event 1") as caught:
        emitter.emit(note())
    assert isinstance(caught.value.__cause__, ValueError)
    emitter.emit(note())
    assert failing.got == [1]
    assert [event.seq for event in recorder.events] == [1, 2]


def test_a_childs_own_policy_and_bound_win_over_those_of_the_composite() -> None:
    silent, limited, recorder = Failing(1, 2), Failing(*range(1, 20)), EventRecorder()
    composite = CompositeReporter(
        Registration(silent, policy=FailurePolicy.IGNORE), Registration(limited, disable_after=2), recorder
    )
    emitter = EventEmitter([Registration(composite, policy=FailurePolicy.ACCUMULATE, disable_after=9)])
    for _ in range(4):
        emitter.emit(note())
    told = recorder.of(ObserverFailed)
    assert [(each.observer, each.disabled) for each in told] == [("Failing#2", False), ("Failing#2", True)]
    assert len(limited.got) == 2
    assert {kept.observer for kept in emitter.take_errors()} == {"Failing#2"}


def test_flush_and_close_reach_every_layer_and_one_that_raises_stops_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Gated):
        def flush(self) -> None:
            raise OSError("no space")

        def close(self) -> None:
            raise OSError("no space")

    deep, last = Gated(is_open=True), Gated(is_open=True)
    composite = CompositeReporter(
        Broken(is_open=True), CompositeReporter(BufferedReporter(ChannelReporter.threaded(deep))), last
    )
    for event in notes(3):
        composite.handle_event(event)
    assert composite.flush() is False
    assert (deep.got, deep.flushed, last.flushed) == ([1, 2, 3], 1, 1)
    assert "no space" in caplog.text
    assert composite.close(30.0) is False
    assert composite.close() is False
    assert (deep.closed, last.closed) == (1, 2)  # whoever is closed twice takes no harm; that is its own part


def test_a_child_that_hangs_costs_no_more_than_the_bound() -> None:
    class Hanging(Gated):
        def flush(self) -> None:
            self.gate.wait()

    hanging = Hanging()
    assert CompositeReporter(hanging, Gated(is_open=True)).flush(0.01) is False
    hanging.gate.set()


def test_a_child_behind_several_layers_is_not_told_of_its_own_failure() -> None:
    failing, beside, recorder = Failing(1), EventRecorder(), EventRecorder()
    emitter = EventEmitter([CompositeReporter(CompositeReporter(failing, beside)), recorder])
    emitter.emit(note())
    emitter.emit(note())
    assert failing.got == [1, 3]
    assert [event.seq for event in beside.events] == [1, 2, 3]
    assert [event.seq for event in recorder.events] == [1, 2, 3]
    assert emitter.stats()[0].failed == 1
