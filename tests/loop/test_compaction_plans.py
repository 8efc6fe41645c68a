"""Plans of compaction: which are refused, and that the provider takes what the others leave."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentkit_loop.compaction import (
    Plan,
    fault_of_plan,
)
from agentkit_loop.compaction_plans import safe_cuts, unanswered_from
from agentkit_loop.content import (
    Item,
    StructuredPart,
    TextPart,
)
from agentkit_loop.transcript import planned
from tests.loop.compaction_samples import (
    FLAGS,
    SIGNED,
    applied,
    assistant,
    last_answer,
    numbered,
    other,
    refused,
    rounds,
    server_tool,
    sessions,
)
from tests.loop.messages_api import call, result


@given(items=sessions())
def test_a_transcript_may_be_cut_wherever_a_cut_is_called_safe(items: list[Item]) -> None:
    cuts = safe_cuts(items)
    assert cuts[-1] == unanswered_from(items)
    for cut in cuts:
        plan = (Item.user("what was before"), (cut, len(items)))
        assert refused(applied(items, plan)) is None


@given(items=sessions(), steps=st.lists(st.integers(0, 30), max_size=6), new=FLAGS)
def test_whatever_ranges_are_accepted_the_provider_takes(
    items: list[Item], steps: list[int], new: bool
) -> None:
    bounds = sorted({min(step, len(items)) for step in steps} | {len(items)})
    plan: list[Any] = list(zip(bounds[::2], bounds[1::2], strict=False))
    if new:
        plan.insert(len(plan) // 2, Item.user("new"))
    if fault_of_plan(items, tuple(plan)) is None:
        after = planned(items, tuple(plan))
        assert refused(after) is None
        if items[unanswered_from(items)].kind == "assistant":  # its reasoning must be as it was
            assert last_answer(after) == last_answer(items)


ASKED = numbered(
    Item.user("a"),
    assistant(SIGNED, call("c1"), call("c2")),
    result("c1"),
    result("c2"),
    assistant("done"),
    Item.user("b"),
)
WAITING = numbered(other("system", "s"), Item.user("a"), assistant("b"), Item.user("c"), *rounds("+"))
HOSTED = numbered(
    Item.user("a"), assistant(server_tool(1)[0]), assistant(server_tool(1)[1], "x"), Item.user("b")
)
ONE_CALL = assistant(call("c1"))


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ([(0, 6)], "give a tuple"),
        (None, "give a tuple"),
        (("keep",), "plan step 'keep' refused"),
        (([0, 6],), "plan step [0, 6] refused"),
        (((0, 1, 2),), "plan step (0, 1, 2) refused"),
        (((0, True),), "plan step (0, True) refused"),
        (((0.0, 6.0),), "plan step (0.0, 6.0) refused"),
        (((-1, 6),), "range (-1, 6) refused; give first < end within the 6 items"),
        (((0, 7),), "range (0, 7) refused"),
        (((3, 3), (4, 6)), "range (3, 3) refused"),
        (((4, 6), (0, 1)), "range (0, 1) refused after one that ends at 6"),
        (((0, 5), (4, 6)), "range (4, 6) refused after one that ends at 5"),
        ((), "leaves the model nothing to answer"),
        (((0, 6),), "changes nothing"),
        (((0, 2), (2, 6)), "changes nothing"),
        (((0, 4), assistant("done"), (5, 6)), "changes nothing"),
        (((1, 2), (4, 6)), "keeps the call 'c1' without its result"),
        (((2, 3), (4, 6)), "keeps the result 'c1' without its call"),
        (((0, 3), (4, 6)), "keeps the call 'c2' without its result"),
        (((0, 1), ONE_CALL, (2, 6)), "keeps the result 'c2' without its call"),
        (((0, 2), Item.user("new"), (2, 6)), "between call 'c1' and its result"),
        (((0, 3), other("system", "new"), (3, 6)), "between call 'c2' and its result"),
        (((0, 1), ONE_CALL, Item.user("new"), (2, 3), (4, 6)), "between call 'c1' and its result"),
        (((0, 5),), "without item 5, which is not answered yet"),
        (((0, 4), Item.user("a and b")), "without item 5, which is not answered yet"),
        (((4, 6), Item.user("new")), "new item behind item 5 refused"),
        (((4, 6), assistant("new")), "new item behind item 5 refused"),
        (((0, 6), ONE_CALL), "new item in place of item 1 refused"),
        (((0, 1), ONE_CALL, (1, 6)), "new item in place of item 1 refused"),
        ((ONE_CALL, (0, 1), (2, 3), (4, 6)), "new item in place of item 0 refused"),
        ((assistant(call("c3")), (4, 6)), "give calls of one old item, unchanged"),
        ((assistant(call("c1", input={"a": 1})), (2, 3), (4, 6)), "give calls of one old item, unchanged"),
        ((assistant(call("c2"), call("c1")), (2, 6)), "give calls of one old item, unchanged"),
        ((Item.user(call("c1")), (2, 3), (4, 6)), "only assistant items hold calls"),
        ((result("c1"), (4, 6)), "only assistant items hold calls, and none results"),
        ((Item(kind="user", parts=()), (4, 6)), "says nothing"),
        ((Item(kind="robot", parts=(TextPart(text="x"),)), (4, 6)), "a log cannot hold it"),  # type: ignore[arg-type] # what a host may do
        ((Item(kind="user", parts=[TextPart(text="x")]), (4, 6)), "a log cannot hold it"),  # type: ignore[arg-type] # the same
        ((Item.user(TextPart(text=5)), (4, 6)), "a log cannot hold it"),  # type: ignore[arg-type] # the same
        ((Item.user(StructuredPart(value=math.nan)), (4, 6)), "a log cannot hold it"),
        ((Item.user(TextPart(text="\udcff")), (4, 6)), "a log cannot hold it"),
        ((msgspec.structs.replace(Item.user("x"), id="item-1"), (4, 6)), "with the id 'item-1' refused"),
        ((*[msgspec.structs.replace(Item.user("x"), id="n")] * 2, (4, 6)), "with the id 'n' refused"),
    ],
)
def test_a_broken_plan_is_refused_in_one_sentence(plan: Any, fault: str) -> None:
    said = fault_of_plan(ASKED, plan)
    assert said is not None
    assert fault in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        (((0, 1),), "leaves the model nothing to answer"),
        (((4, 6),), "begins with an answer; keep the input before it or give a new user item"),
        (((0, 1), (4, 6)), "begins with an answer"),
        (((0, 1), Item.user("x"), (4, 6)), None),
        (((0, 2), (4, 6)), None),
        (((0, 4), (5, 6)), "keeps the result 'c1' without its call"),
        (((0, 1), (4, 5)), "keeps the call 'c1' without its result"),
        (((0, 4),), "without item 4, which is not answered yet"),
        (((0, 3), (4, 6)), "no input between two answers, before item 4"),
        ((Item.user("x"), assistant("b"), (4, 6)), "assistant item before item 4 refused"),
        (((1, 3), Item.user("x"), (4, 6)), None),
        (((0, 4), assistant(call("c1")), (5, 6)), "without item 4, which is not answered yet"),
    ],
)
def test_a_round_that_waits_for_the_model_stays(plan: Plan, fault: str | None) -> None:
    said = fault_of_plan(WAITING, plan)
    assert (said is None) if fault is None else (said is not None and fault in said)


def test_two_answers_never_become_one_message() -> None:
    items = numbered(Item.user("a"), assistant("b"), Item.user("c"), assistant(SIGNED, "d"), Item.user("e"))
    assert fault_of_plan(items, ((0, 2), (3, 5))) == (
        "plan refused that leaves no input between two answers, before item 3; keep it"
    )
    assert fault_of_plan(items, ((0, 2), other("system", "s"), (3, 5))) is not None
    assert fault_of_plan(items, ((0, 2), Item.user("x"), (3, 5))) is None


def test_calls_of_the_providers_own_tools_stay_with_their_results() -> None:
    assert fault_of_plan(HOSTED, ((0, 2), (3, 4))) is not None
    assert fault_of_plan(HOSTED, ((2, 4),)) is not None
    assert fault_of_plan(HOSTED, ((0, 1), (3, 4))) is None
    rewritten = assistant(server_tool(1)[1])
    assert fault_of_plan(HOSTED, ((0, 2), rewritten, (3, 4))) is None


def test_an_answer_that_is_to_be_gone_on_from_stays_the_last() -> None:
    paused = numbered(Item.user("a"), assistant("b"), Item.user("c"), assistant(server_tool(1)[0]))
    assert unanswered_from(paused) == 2
    assert fault_of_plan(paused, ((0, 3),)) is not None
    assert fault_of_plan(paused, ((0, 4), Item.user("x"))) is not None


def test_a_transcript_of_answers_alone_is_refused() -> None:
    paused = numbered(Item.user("a"), assistant("b"))
    assert fault_of_plan(paused, ((1, 2),)) == (
        "plan refused that leaves nothing but answers; keep the input or give a new user item"
    )
    assert fault_of_plan(paused, (Item.user("x"), (1, 2))) is None


def test_a_transcript_that_began_with_an_answer_may_go_on_so() -> None:
    began = numbered(other("system", "s"), assistant("b"), Item.user("c"), assistant("d"), Item.user("e"))
    assert fault_of_plan(began, ((0, 2), (4, 5))) is None
    assert fault_of_plan(began, ((3, 5),)) is None
    unsent = numbered(Item.user("a"), assistant(" "), Item.user("c"), assistant("d"), Item.user("e"))
    assert fault_of_plan(unsent, ((1, 5),)) is None
    assert fault_of_plan(unsent, ((3, 5),)) is not None


@example(b"[[0,1]]")
@given(st.binary(max_size=40))
def test_no_plan_makes_the_check_raise(noise: bytes) -> None:
    try:
        plan = msgspec.json.decode(noise)
    except (msgspec.MsgspecError, ValueError):
        plan = tuple(noise)
    assert fault_of_plan(ASKED, plan) is not None
