"""Compaction's configuration: when it is due, which of several strategies wins, how much is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.compaction import (
    Compaction,
    CompactionOutcome,
    DropFailedResults,
    DropReasoning,
    KeepRecent,
    Strategy,
    SummariseOlder,
    SummaryWanted,
    attempts,
    estimated_tokens,
)
from agentkit_loop.content import (
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
)
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import to_json
from tests.loop.compaction_samples import (
    applied,
    assistant,
    numbered,
    sessions,
    strategies,
)
from tests.loop.messages_api import call, result


def test_it_is_due_by_items_and_by_the_share_of_the_window() -> None:
    compaction = Compaction(strategy=KeepRecent(items=5), max_items=10, context_window=1_000, max_share=0.5)
    assert compaction.due(item_count=10, token_count=499) is None
    assert compaction.due(item_count=10, token_count=None) is None
    assert compaction.due(item_count=11, token_count=None) == "11 items, more than max_items=10"
    reason = compaction.due(item_count=10, token_count=500)
    assert reason == "500 input tokens, at least 50% of context_window=1000"
    assert Compaction(strategy=KeepRecent()).due(item_count=10**6, token_count=10**9) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_items": 0}, "max_items=0 refused"),
        ({"max_items": True}, "max_items=True refused"),
        ({"context_window": 1.5}, "context_window=1.5 refused"),
        ({"max_share": 0}, "max_share=0 refused"),
        ({"max_share": 80}, "max_share=80 refused"),
        ({"max_share": math.nan}, "max_share=nan refused"),
        ({"on_context_exceeded": False}, "that nothing triggers"),
        ({"strategy": ()}, "refused; give KeepRecent"),
        ({"strategy": "keep_recent"}, "refused; give KeepRecent"),
        ({"strategy": KeepRecent}, "refused; give KeepRecent"),
        ({"strategy": [KeepRecent(), None]}, "refused; give KeepRecent"),
        ({"max_items": 20}, "due again at once"),
        ({"max_items": 9, "strategy": SummariseOlder()}, "due again at once"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Compaction(**{"strategy": KeepRecent(), **options})


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        (KeepRecent, {"items": 0}),
        (DropReasoning, {"keep_last": 0}),
        (SummariseOlder, {"keep_items": -1}),
        (SummariseOlder, {"instruction": " "}),
        (SummariseOlder, {"model": "claude"}),
    ],
)
def test_a_strategy_that_cannot_work_is_refused(strategy: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="refused; give"):
        strategy(**options)


@attrs.frozen
class Fixed:
    """A strategy of a host: gives what it was given."""

    name: str
    gives: Any

    def plan(self, items: Sequence[Item], /) -> Any:
        assert isinstance(items, tuple)  # what it is shown, it cannot change
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


LONG = numbered(Item.user("a" * 100), assistant("b" * 100), Item.user("c"), assistant("d"), Item.user("e"))


def outcome_of(compaction: Compaction, items: Sequence[Item], *said: str | Exception) -> CompactionOutcome:
    """Return what becomes of a compaction with a model that says this, each when it is asked."""
    tried, words = attempts(compaction, items), iter(said)
    outcome = None
    try:
        next(tried)
        while True:
            word = next(words)
            if isinstance(word, Exception):
                tried.throw(word)
            else:
                tried.send(word)
    except StopIteration as ended:
        outcome = ended.value
    assert isinstance(outcome, CompactionOutcome)
    return outcome


def test_the_first_strategy_that_brings_enough_wins() -> None:
    strategy: list[Strategy] = [
        DropReasoning(),
        Fixed("little", ((0, 3), (4, 5))),
        Fixed("all", ((4, 5),)),
        KeepRecent(items=3),
    ]
    outcome = outcome_of(Compaction(strategy=strategy), LONG)
    assert (outcome.strategy, outcome.plan, outcome.error) == ("all", ((4, 5),), None)
    assert outcome.items == (LONG[4],)


def test_enough_are_few_enough_items_where_there_were_too_many() -> None:
    strategy = (KeepRecent(items=3), Fixed("all", ((4, 5),)))
    assert outcome_of(Compaction(strategy=strategy, max_items=4), LONG).strategy == "keep_recent"
    little = (Fixed("little", ((0, 3), (4, 5))), Fixed("all", ((4, 5),)))
    assert outcome_of(Compaction(strategy=little, max_items=3), LONG).strategy == "all"


def test_where_none_brings_enough_what_leaves_the_least_is_taken() -> None:
    strategy: list[Strategy] = [Fixed("best", ((0, 3), (4, 5))), DropFailedResults()]
    assert outcome_of(Compaction(strategy=strategy), LONG).strategy == "best"


def test_where_no_strategy_has_a_plan_all_is_as_before_and_each_says_why() -> None:
    strategy: list[Strategy] = [
        DropReasoning(),
        Fixed("broken", ValueError("no idea")),
        Fixed("wrong", ((0, 2),)),
    ]
    outcome = outcome_of(Compaction(strategy=strategy), LONG)
    assert (outcome.strategy, outcome.plan, outcome.items) == (
        "drop_reasoning, broken, wrong",
        None,
        tuple(LONG),
    )
    assert outcome.error is not None
    assert outcome.error.type == "CompactionError"
    assert "broken: no idea; wrong: plan refused without item 4" in outcome.error.message


def test_a_plan_that_leaves_as_much_as_there_was_is_none() -> None:
    outcome = outcome_of(Compaction(strategy=Fixed("more", (Item.user("new"), (0, 5)))), LONG)
    assert outcome.plan is None
    assert outcome.error is not None
    assert outcome.error.message == "plan refused that leaves as much as there was; keep less"


def test_a_model_that_fails_leaves_the_rest_to_the_next_strategy() -> None:
    strategy: list[Strategy] = [SummariseOlder(keep_items=1), KeepRecent(items=1)]
    compaction = Compaction(strategy=strategy)
    assert outcome_of(compaction, LONG, "short").strategy == "summarise_older"
    assert outcome_of(compaction, LONG, "").strategy == "keep_recent"
    assert outcome_of(compaction, LONG, RuntimeError("down")).strategy == "keep_recent"
    alone = outcome_of(Compaction(strategy=strategy[0]), LONG, RuntimeError("down"))
    assert alone.plan is None
    assert alone.error is not None
    assert (alone.error.type, alone.error.message) == ("RuntimeError", "down")


def test_giving_up_while_a_model_is_asked_raises_nothing() -> None:
    tried = attempts(Compaction(strategy=SummariseOlder(keep_items=1)), LONG)
    assert isinstance(next(tried), SummaryWanted)
    tried.close()


@given(items=sessions(), chosen=st.lists(strategies(), min_size=1, max_size=3))
def test_what_attempts_leave_is_what_the_plan_says(items: list[Item], chosen: list[Strategy]) -> None:
    outcome = outcome_of(Compaction(strategy=chosen), items, *["in short"] * 3)
    if outcome.plan is None:
        assert outcome.items == tuple(items)
        assert outcome.error is not None
    else:
        assert applied(items, outcome.plan) == list(outcome.items)
        assert outcome.error is None


def test_tokens_are_estimated_from_what_is_sent() -> None:
    assert estimated_tokens([]) == 0
    assert estimated_tokens([Item.user("a" * 35)]) == 10
    assert estimated_tokens([Item.user("字" * 7)]) == 6
    assert estimated_tokens([assistant(ReasoningPart(text="not sent"))]) == 0
    assert estimated_tokens([assistant(call("c", input={"a": 1})), result("c", [1, 2])]) == 5


@pytest.mark.parametrize(
    "item",
    [
        Item.user(MediaPart(media_type="image/png", data="AAAA")),
        Item.user(FilePart(name="a", media_type="application/pdf", file_id="f")),
        assistant(CustomPart(provider="anthropic", value={})),
        assistant(ReasoningPart(text="", redacted="x")),
        result("c", to_json([MediaPart(media_type="image/png", url="u")])),
    ],
)
def test_what_has_no_length_in_tokens_is_unknown(item: Item) -> None:
    assert estimated_tokens([Item.user("x"), item]) is None
