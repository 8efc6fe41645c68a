"""What came in and what arrived, through every layer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.observers import FailurePolicy
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import (
    Account,
    BufferedReporter,
    ChannelReporter,
    CompositeReporter,
    PolicyReporter,
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
