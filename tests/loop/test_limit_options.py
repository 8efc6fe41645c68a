"""Limits themselves: what cannot be one, the tighter of two, what is left for a sub-agent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.limits import Limits, tighter
from tests.loop.hosts import Run


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_turns": 0},
        {"max_turns": True},
        {"max_turns": 1.5},
        {"max_tokens": -1},
        {"max_tokens": "many"},
        {"max_cost_usd": 0},
        {"max_cost_usd": "2"},
        {"max_cost_usd": float("nan")},
        {"max_cost_usd": float("inf")},
        {"max_cost_usd": True},
        {"max_seconds": 0},
        {"max_seconds": float("inf")},
        {"max_seconds": "long"},
        {"max_seconds": True},
        {"unpriced": "maybe"},
    ],
)
def test_what_cannot_be_a_limit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="refused; give"):
        Limits(**wrong)


def test_a_cost_is_exactly_what_was_written() -> None:
    assert Limits(max_cost_usd=0.1).max_cost_usd == Decimal("0.1")


def test_only_limits_are_limits() -> None:
    with pytest.raises(ConfigurationError, match=r"give Limits"):
        Run([], limits={"max_turns": 3})


def test_the_tighter_of_two_limits_holds_both() -> None:
    one = Limits(max_turns=3, max_tokens=10)
    other = Limits(max_turns=5, max_cost_usd=1, unpriced="allow")
    both_of = tighter(one, other)
    assert both_of is not None
    assert (both_of.max_turns, both_of.max_tokens, both_of.max_cost_usd) == (3, 10, Decimal(1))
    assert tighter(None, other) is other
    assert tighter(one, None) is one


def test_a_child_gets_the_time_that_is_left_and_spends_the_rest_from_the_purse() -> None:
    left = Limits(max_tokens=100, max_cost_usd=1, max_seconds=10, max_turns=3).left(seconds=4)
    assert left == Limits(max_turns=3, max_seconds=6)
    over = Limits(max_seconds=10).left(seconds=30).max_seconds
    assert over is not None
    assert 0 < over < 0.001
