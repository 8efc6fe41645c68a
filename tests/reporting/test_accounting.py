"""What came in and what arrived, through every layer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import FailurePolicy, Registration
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import (
    Account,
    BufferedReporter,
    ChannelReporter,
    CompositeReporter,
    PolicyReporter,
    UsageReporter,
    account_of,
)
from tests.reporting.adapters import WRAPS, Failing, notes, quiet


def test_an_account_says_of_itself_whether_it_is_complete() -> None:
    assert str(Account(name="log", received=412, delivered=412)) == "complete: 412 of 412"
    short = Account(name="log", received=412, delivered=400, dropped=12)
    assert str(short) == "incomplete: 400 of 412 (12 dropped)"
    assert not short.is_complete
    mixed = Account(name="log", received=9, delivered=2, dropped=1, failed=2, pending=4)
    assert str(mixed) == "incomplete: 2 of 9 (1 dropped, 2 failed, 4 pending)"


def test_an_outer_account_is_complete_only_with_every_inner_one() -> None:
    inner = Account(name="log", received=9, delivered=8, failed=1)
    outer = Account(name="channel", received=9, delivered=9, inner=(inner,))
    assert not outer.is_complete
    assert str(outer) == "incomplete: 9 of 9 (log incomplete: 8 of 9 (1 failed))"


@pytest.mark.parametrize("wrap", WRAPS)
@given(count=st.integers(0, 40), numbers=st.sets(st.integers(1, 40)))
def test_what_came_in_is_delivered_or_failed_in_every_layer(wrap: str, count: int, numbers: set[int]) -> None:
    failing = Failing(*numbers)
    with quiet():
        reporter = PolicyReporter(WRAPS[wrap](failing), FailurePolicy.IGNORE)
        for event in notes(count):
            reporter.handle_event(event)
        arrived = reporter.close(30.0)
    expected = len(numbers & set(range(1, count + 1)))
    assert arrived == (expected == 0)

    layers = [reporter.account()]
    while layers[-1].inner:
        layers.append(layers[-1].inner[0])
    for account in layers[:-1]:
        assert account.received == count
        assert account.pending == account.dropped == 0
        assert account.delivered + account.failed == count
    assert sum(account.failed for account in layers) == expected


def test_dropped_is_the_sum_over_all_layers() -> None:
    with quiet():
        channel, receiver = ChannelReporter.pair(2, "drop_newest")
        composite = CompositeReporter(channel, BufferedReporter(EventRecorder()))
        for event in notes(10):
            composite.handle_event(event)
    assert composite.dropped == 8
    assert account_of(composite).inner[0].dropped == 8
    receiver.close()
    assert composite.dropped == 10


def test_an_observer_without_an_account_has_one_of_what_it_dropped() -> None:
    class Dropping:
        dropped = 3

    assert str(account_of(EventRecorder())) == "complete: 0 of 0"
    assert str(account_of(Dropping())) == "incomplete: 0 of 3 (3 dropped)"
    assert account_of(Dropping()).name == "Dropping"
    assert account_of([].append).is_complete


def test_an_account_names_those_at_fault_and_not_who_only_passed_on_to_them() -> None:
    log = Account(name="log", received=9, delivered=8, failed=1)
    fine = Account(name="page", received=9, delivered=9)
    chain = Account(name="policy", received=9, delivered=9, inner=(log, fine))
    for name in ("redaction", "channel", "composite"):
        chain = Account(name=name, received=9, delivered=9, inner=(chain,))
    assert str(chain) == "incomplete: 9 of 9 (log incomplete: 8 of 9 (1 failed))"
    assert not chain.is_complete


def test_a_composite_says_of_each_child_what_it_got_and_which_one_failed() -> None:
    got: list[AgentEvent] = []

    def bad(event: AgentEvent) -> None:
        if event.seq > 2:
            raise ValueError("bad")

    usage = UsageReporter()
    with quiet():
        composite = CompositeReporter(got.append, Registration(bad, policy=FailurePolicy.LOG), usage)
        for event in notes(14):
            composite.handle_event(event)
    assert len(got) == 14
    account = composite.account()
    assert [(each.name.split(".")[-1], str(each)) for each in account.inner] == [
        ("append", "complete: 14 of 14"),
        ("bad", "incomplete: 2 of 14 (12 failed)"),
        ("UsageReporter", "complete: 0 of 0"),
    ]
    assert (account.received, account.delivered, account.failed, account.is_complete) == (14, 14, 0, False)
    assert account.lost == 12


def test_a_child_that_is_added_later_is_accounted_for_what_it_got() -> None:
    composite = CompositeReporter(list[AgentEvent]().append)
    for number, event in enumerate(notes(6)):
        if number == 4:
            composite.with_observer(list[AgentEvent]().append)
        composite.handle_event(event)
    assert [each.received for each in composite.account().inner] == [6, 2]


def test_a_composite_counts_exactly_from_many_threads() -> None:
    composite = CompositeReporter(list[AgentEvent]().append)
    events = notes(500)

    def tell(_: int) -> None:
        for event in events:
            composite.handle_event(event)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tell, range(4)))
    assert str(composite.account()) == str(composite.account().inner[0]) == "complete: 2000 of 2000"


@pytest.mark.parametrize("wrap", ["policy", "buffered", "threaded"])
def test_a_plain_function_behind_an_adapter_is_named_and_accounted_for_what_it_took(wrap: str) -> None:
    def sink(event: AgentEvent) -> None:
        del event

    reporter = WRAPS[wrap](sink)
    for event in notes(13):
        reporter.handle_event(event)
    assert reporter.close(30.0)
    (inner,) = reporter.account().inner
    assert inner.name.endswith("sink")
    assert str(inner) == "complete: 13 of 13"


def test_what_is_lost_under_ignore_did_not_arrive_and_close_says_so() -> None:
    composite = CompositeReporter(Registration(Failing(1), policy=FailurePolicy.IGNORE))
    composite.handle_event(notes(1)[0])
    assert composite.close() is False


def test_children_in_a_list_are_refused_with_what_to_write_instead() -> None:
    with pytest.raises(ConfigurationError, match=r"give them one by one: CompositeReporter\(\*children\)"):
        CompositeReporter([EventRecorder()])  # type: ignore[arg-type] # the mistake that is meant
