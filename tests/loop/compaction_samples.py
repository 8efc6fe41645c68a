"""Transcripts to shorten, as a loop has them right before a request, and what becomes of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from agentkit_loop.compaction import (
    DropFailedResults,
    DropReasoning,
    KeepRecent,
    Plan,
    Strategy,
    SummariseOlder,
    SummaryWanted,
    fault_of_plan,
)
from agentkit_loop.content import (
    AnyPart,
    CustomPart,
    Item,
    ReasoningPart,
    TextPart,
)
from agentkit_loop.models.anthropic_wire import wire_body, wire_messages
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.models.scripted import ScriptedModel
from agentkit_loop.testing_server import check_messages
from agentkit_loop.transcript import planned
from tests.loop.messages_api import call, result

SIGNED = ReasoningPart(text="let me see", signature="proof")


def assistant(*parts: AnyPart | str) -> Item:
    return Item.assistant(*parts)


def other(kind: Any, text: str) -> Item:
    return Item(kind=kind, parts=(TextPart(text=text),))


def numbered(*items: Item) -> list[Item]:
    return [msgspec.structs.replace(item, id=f"item-{n}") for n, item in enumerate(items, start=1)]


def rounds(outcomes: str, *parts: AnyPart, first: int = 1) -> list[Item]:
    """Rounds of one call each: `+` for one that went well, `-` for one that failed."""
    items: list[Item] = []
    for number, outcome in enumerate(outcomes, start=first):
        items += [assistant(*parts, call(f"c{number}")), result(f"c{number}", is_error=outcome == "-")]
    return items


FLAGS: st.SearchStrategy[bool] = st.booleans()
_SAID: st.SearchStrategy[tuple[AnyPart, ...]] = st.sampled_from(
    [
        (),
        (TextPart(text="done"),),
        (SIGNED, TextPart(text="done")),
        (ReasoningPart(text="", redacted="x"), TextPart(text="\n")),
        (ReasoningPart(text="without proof"),),
        (SIGNED,),
        (CustomPart(provider="another", value={}), TextPart(text="so")),
    ]
)


def server_tool(number: int) -> tuple[CustomPart, CustomPart]:
    asked = {"type": "server_tool_use", "id": f"srv{number}", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": f"srv{number}", "content": []}
    return CustomPart(provider="anthropic", value=asked), CustomPart(provider="anthropic", value=found)


@st.composite
def sessions(draw: st.DrawFn) -> list[Item]:
    """Transcripts as a loop has them right before a request: ended by input, results or a paused answer."""
    items: list[Item] = [other(kind, kind) for kind in draw(st.sampled_from([(), ("system", "context")]))]
    count = itertools.count(1)

    def one_round() -> None:
        calls = [call(f"toolu_{next(count)}") for _ in range(draw(st.integers(1, 3)))]
        hosted = server_tool(next(count)) if draw(FLAGS) else ()
        items.append(assistant(*draw(_SAID), *hosted, *calls))
        items.extend(result(part.id, "out", is_error=draw(FLAGS)) for part in calls)
        if draw(FLAGS):
            items.append(other(draw(st.sampled_from(["user", "notification", "developer"])), "meanwhile"))

    for _ in range(draw(st.integers(0, 4))):
        items.extend(Item.user(f"task {next(count)}") for _ in range(draw(st.integers(1, 2))))
        for _ in range(draw(st.integers(0, 4))):
            one_round()
        if draw(FLAGS):  # the provider paused in the middle of a search of its own
            asked, found = server_tool(next(count))
            items += [assistant(SIGNED, asked), assistant(found, TextPart(text="found"))]
        if parts := draw(_SAID):  # an exchange that was cut may have no answer
            items.append(assistant(*parts))
    match draw(st.sampled_from(["input", "round", "pause"])):
        case "input":
            items.append(Item.user("and now?"))
        case "round":
            items.append(Item.user("go on"))
            for _ in range(draw(st.integers(1, 4))):
                one_round()
        case _:
            items += [Item.user("look it up"), assistant(SIGNED, server_tool(next(count))[0])]
    return numbered(*items)


def strategies() -> st.SearchStrategy[Strategy]:
    """Every built-in strategy, with small numbers."""
    few = st.integers(1, 6)
    models = st.sampled_from([None, ScriptedModel([])])
    return st.one_of(
        st.builds(DropReasoning, keep_last=few),
        st.just(DropFailedResults()),
        st.builds(KeepRecent, items=few),
        st.builds(SummariseOlder, keep_items=few, model=models),
    )


def plan_by(strategy: Strategy, items: Sequence[Item]) -> Plan:
    """Return the plan of a strategy, with a model that has a summary ready."""
    plan = strategy.plan(items)
    return plan.finish("what happened") if isinstance(plan, SummaryWanted) else plan


def applied(items: Sequence[Item], plan: Plan) -> list[Item]:
    assert fault_of_plan(items, plan) is None
    return planned(list(items), plan)


def refused(items: Sequence[Item]) -> str | None:
    """Return why the provider refuses a transcript."""
    asked = ModelRequest(
        request_id="r", purpose="turn", system="be kind", tools=(), items=tuple(items), parameters={}
    )
    return check_messages({"model": "m", "max_tokens": 1, **wire_body(asked)})


def last_answer(items: Sequence[Item]) -> bytes | None:
    """Return the last assistant message as it is sent."""
    sent = [message for message in wire_messages(items) if message["role"] == "assistant"]
    return msgspec.json.encode(sent[-1]) if sent else None
