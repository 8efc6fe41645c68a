"""The tables that prices come from, against a second public one: LiteLLM 1.109.1, read on 2026-11-21.

Its file is `model_prices_and_context_window_backup.json`; the figures below are its `input_cost_per_token`,
`output_cost_per_token`, `cache_read_input_token_cost`, `cache_creation_input_token_cost`,
`…_above_1hr` and `search_context_cost_per_query`, for a million tokens (a thousand searches), as it had them.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from agentkit_loop.price_book import PriceBook

READ_ON = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
KINDS = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "web_search")
SECOND = {
    "claude-fable-5": ("10", "50", "1", "12.5", "20", "10"),
    "claude-fable-5-1": ("10", "50", "0.25", "12.5", "20", "10"),
    "claude-haiku-4-5": ("1", "5", "0.1", "1.25", "2", None),
    "claude-haiku-5-5": ("0.1", "0.5", "0.01", "0.125", "0.2", "10"),
    "claude-mythos-5": ("10", "50", "1", "12.5", "20", "10"),
    "claude-mythos-5-1": ("10", "50", "0.25", "12.5", "20", "10"),
    "claude-opus-4-5": ("5", "25", "0.5", "6.25", "10", "10"),
    "claude-opus-4-6": ("5", "25", "0.5", "6.25", "10", "10"),
    "claude-opus-4-7": ("5", "25", "0.5", "6.25", "10", "10"),
    "claude-opus-4-8": ("5", "25", "0.5", "6.25", "10", "10"),
    "claude-opus-5": ("5", "25", "0.5", "6.25", "10", "10"),
    "claude-opus-5-5": ("4", "20", "0.2", "5", "8", "10"),
    "claude-sonnet-4-5": ("3", "15", "0.3", "3.75", "6", "10"),
    "claude-sonnet-4-6": ("3", "15", "0.3", "3.75", "6", "10"),
    "claude-sonnet-5": ("2", "10", "0.2", "2.5", "4", "10"),
    "claude-sonnet-5-5": ("2", "10", "0.1", "2.5", "4", "10"),
}
LONG = {"claude-haiku-5-5": (100_000, ("0.5", "2.5", "0.05", "0.625", "1"))}
"""Its rates above a number of input tokens."""

ACCEPTED = {
    (
        "claude-mythos-5",
        "unknown",
    ): "genai-prices has no price before 5.2: no cost and a warning, not a guess",
    ("claude-mythos-5-1", "unknown"): "as above",
    (
        "claude-haiku-4-5",
        "web_search",
    ): "LiteLLM has no price for searches here; the provider's is one for all models",
    (
        "claude-sonnet-4-5",
        "above 200000",
    ): "LiteLLM has dropped the long-context rates, which the provider still lists",
}
"""Where the two differ, and why ours stands."""


def differences(model: str) -> set[tuple[str, str]]:
    ours = PriceBook().rates(model, READ_ON)
    if ours is None:
        return {(model, "unknown")}
    found = {
        (model, kind)
        for kind, price in zip(KINDS, SECOND[model], strict=True)
        if getattr(ours, kind) != (None if price is None else Decimal(price))
    }
    steps = dict([LONG[model]] if model in LONG else [])
    for start in {*ours.above, *steps}:
        mine = ours.above.get(start)
        here = None if mine is None else tuple(getattr(mine, kind) for kind in KINDS[:5])
        there = tuple(Decimal(price) for price in steps[start]) if start in steps else None
        if here != there:
            found.add((model, f"above {start}"))
    return found


@pytest.mark.parametrize("model", sorted(SECOND))
def test_prices_agree_with_a_second_table_but_for_what_is_accepted(model: str) -> None:
    assert differences(model) == {place for place in ACCEPTED if place[0] == model}
