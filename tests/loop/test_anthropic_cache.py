"""The prompt cache: what of a request is marked, what a host's own markers do, and that nothing else changes."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import CustomPart, Item, ReasoningPart, TextPart, ToolCallPart, ToolSpec
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_cache import CacheLife, mark_for_cache
from agentkit_loop.models.anthropic_wire import Block, wire_body
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.models.scripted import Reply, ScriptedCall
from agentkit_loop.testing_server import MessagesServer, check_messages
from tests.loop.messages_api import Ask, call, model_at, on_thread_and_loop, request, result, transcripts

Body = dict[str, Any]
SHORT: Block = {"type": "ephemeral"}
LONG: Block = {"type": "ephemeral", "ttl": "1h"}
TOOLS = tuple(
    ToolSpec(name=name, description="", input_schema={"type": "object"}) for name in ("read", "write")
)


def unmarked(*items: Item, system: str | None = "be kind", tools: tuple[ToolSpec, ...] = TOOLS) -> Body:
    return wire_body(
        ModelRequest(
            request_id="request-1", purpose="turn", system=system, tools=tools, items=items, parameters={}
        )
    )


def marked(*items: Item, life: CacheLife = "5m", **options: Any) -> Body:
    body = unmarked(*items, **options)
    mark_for_cache(body, life)
    return body


def markers(body: Body) -> Iterator[tuple[str, Block]]:
    """Yield where the markers are, `tools.1`, `system.0`, `0.2` (message and block), and what they say."""
    for field in ("tools", "system"):
        for index, block in enumerate(body.get(field, [])):
            if "cache_control" in block:
                yield f"{field}.{index}", block["cache_control"]
    for index, message in enumerate(body["messages"]):
        for place, block in enumerate(message["content"]):
            if "cache_control" in block:
                yield f"{index}.{place}", block["cache_control"]


def places(body: Body) -> list[str]:
    return [place for place, _ in markers(body)]


def own(block: Block) -> CustomPart:
    return CustomPart(provider="anthropic", value=block)


def test_tools_system_and_the_end_are_marked() -> None:
    assert list(markers(marked(Item.user("a", "b")))) == [
        ("tools.1", SHORT),
        ("system.0", SHORT),
        ("0.1", SHORT),
    ]


def test_an_hour_is_said_in_each_marker() -> None:
    assert [mark for _, mark in markers(marked(Item.user("a"), life="1h"))] == [LONG] * 3


def test_the_end_of_the_last_request_is_marked_too_as_the_provider_looks_back_20_blocks_only() -> None:
    asked = [Item.user("go"), Item(kind="context", parts=(TextPart(text="it is Friday"),))]
    calls = [call(f"toolu_{number}") for number in range(30)]
    round_of_calls = [Item.assistant("so", *calls), *(result(part.id) for part in calls)]
    assert places(marked(*asked)) == ["tools.1", "system.0", "0.1"]
    assert places(marked(*asked, *round_of_calls)) == ["tools.1", "system.0", "0.1", "2.29"]
    later = [Item.assistant("done"), Item.user("thanks")]
    assert places(marked(*asked, *round_of_calls, *later)) == ["tools.1", "system.0", "2.29", "4.0"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((TextPart(text="x"), ReasoningPart(text="so", signature="s")), "1.0"),
        ((TextPart(text="x"), ReasoningPart(text="", redacted="s")), "1.0"),
        ((TextPart(text="x"), own({"type": "later_block"})), "1.0"),
        ((TextPart(text="x"), own({"type": "text", "text": ""})), "1.0"),
        ((TextPart(text="x"), own({"type": "server_tool_use", "id": "s", "name": "n", "input": {}})), "1.1"),
        ((TextPart(text="x"), own({"type": "web_search_tool_result", "tool_use_id": "s"})), "1.1"),
        ((ReasoningPart(text="so", signature="s"),), None),
    ],
)
def test_the_last_block_that_can_carry_a_marker_does(parts: tuple[Any, ...], expected: str | None) -> None:
    body = marked(Item.user("a"), Item(kind="assistant", parts=parts), system=None, tools=())
    assert places(body) == ["0.0", *([expected] if expected else [])]


def test_without_system_and_tools_the_conversation_alone_is_marked() -> None:
    assert places(marked(Item.user("a"), system=None, tools=())) == ["0.0"]


def test_a_tool_that_is_searched_for_is_not_marked() -> None:
    body = unmarked(Item.user("a"))
    body["tools"] += [{"name": "rare", "input_schema": {"type": "object"}, "defer_loading": True}]
    body["tools"] += [{"type": "mcp_toolset", "default_config": {"defer_loading": True}}]
    mark_for_cache(body, "5m")
    assert places(body)[0] == "tools.1"


def test_a_hosts_markers_stay_and_count() -> None:
    items = [
        Item.user(own({"type": "text", "text": "a", "cache_control": LONG}), "b"),
        Item.assistant("c"),
        Item.user(own({"type": "text", "text": "d", "cache_control": SHORT})),
    ]
    found = list(markers(marked(*items, life="1h")))
    assert found == [("system.0", LONG), ("0.0", LONG), ("0.1", LONG), ("2.0", SHORT)]


def test_a_host_that_marks_all_four_is_left_alone() -> None:
    four = [own({"type": "text", "text": str(number), "cache_control": SHORT}) for number in range(4)]
    assert places(marked(Item.user(*four, "e"))) == ["0.0", "0.1", "0.2", "0.3"]


def test_markers_inside_of_results_and_documents_count() -> None:
    inner = [{"type": "text", "text": "x", "cache_control": SHORT}]
    document = own({"type": "document", "source": {"type": "content", "content": inner}})
    searched = own({"type": "web_search_tool_result", "tool_use_id": "s", "content": inner})
    assert places(marked(Item.user(document, "b"), Item.assistant(searched), Item.user("c"))) == [
        "0.1",
        "2.0",
    ]


def test_an_input_with_a_field_of_that_name_is_no_marker() -> None:
    asked = ToolCallPart(
        id="a", name="read", input={"cache_control": SHORT, "content": [{"cache_control": 1}]}
    )
    body = marked(Item.user("go"), Item.assistant(asked), result("a"))
    assert places(body) == ["tools.1", "system.0", "0.0", "2.0"]


@pytest.mark.parametrize(
    ("life", "host", "expected"),
    [
        # A marker for an hour must not come after one for five minutes.
        ("5m", LONG, [("0.0", LONG), ("0.1", SHORT)]),
        ("1h", SHORT, [("tools.1", LONG), ("system.0", LONG), ("0.0", SHORT), ("0.1", SHORT)]),
    ],
)
def test_markers_for_an_hour_stand_first(
    life: CacheLife, host: Block, expected: list[tuple[str, Block]]
) -> None:
    items = [Item.user(own({"type": "text", "text": "a", "cache_control": host}), "b")]
    assert list(markers(marked(*items, life=life))) == expected


def without_marks(value: Any) -> Any:
    if isinstance(value, list):
        return [without_marks(member) for member in value]
    if isinstance(value, dict):
        return {key: without_marks(member) for key, member in value.items() if key != "cache_control"}
    return value


_encode = msgspec.json.encode


def asked_at(items: list[Item]) -> list[list[Item]]:
    """Return what was sent on the way to this transcript: what each answer answers, and what has none yet."""
    ends = [end for end, item in enumerate(items) if item.kind == "assistant" and end]
    if items and items[-1].kind != "assistant":
        ends.append(len(items))
    return [items[:end] for end in ends if items[end - 1].kind != "assistant"]


@given(items=transcripts(with_system=False), life=st.sampled_from(["5m", "1h"]))
def test_what_was_sent_is_a_prefix_of_what_is_sent_next_byte_for_byte(
    items: list[Item], life: CacheLife
) -> None:
    before = _encode(items)
    plain = [unmarked(*sent) for sent in asked_at(items)]
    bodies = [marked(*sent, life=life) for sent in asked_at(items)]
    for body, bare in zip(bodies, plain, strict=True):
        assert _encode(without_marks(body)) == _encode(bare)
        assert 1 <= len(places(body)) <= 4
        assert check_messages({"model": "m", "max_tokens": 1, **body}) is None
    for one, other in itertools.pairwise(plain):
        assert _encode([one["tools"], one["system"]]) == _encode([other["tools"], other["system"]])
        *whole, last = one["messages"]
        assert _encode(whole) == _encode(other["messages"][: len(whole)])
        longer = other["messages"][len(whole)]
        assert longer["role"] == last["role"]
        assert _encode(longer["content"][: len(last["content"])]) == _encode(last["content"])
    assert _encode(items) == before


@given(
    items=transcripts(),
    host=st.lists(st.sampled_from([None, SHORT, LONG]), max_size=6),
    life=st.sampled_from(["5m", "1h"]),
)
def test_with_any_markers_of_a_host_ours_are_within_the_rules(
    items: list[Item], host: list[Block | None], life: CacheLife
) -> None:
    shown = [{"type": "text", "text": "x", **({"cache_control": mark} if mark else {})} for mark in host]
    first = Item.user("hello", *map(own, copy.deepcopy(shown)))
    body = unmarked(first, *items)
    alone = check_messages({"model": "m", "max_tokens": 1, **copy.deepcopy(body)})
    mark_for_cache(body, life)
    if alone is None:
        assert check_messages({"model": "m", "max_tokens": 1, **body}) is None
    assert [part.value for part in first.parts if isinstance(part, CustomPart)] == shown


@on_thread_and_loop
def test_the_cache_is_on_where_nobody_says_and_off_where_somebody_does(ask: Ask) -> None:
    asked = request("hi", tools=TOOLS)
    with MessagesServer(lambda _: "ok") as server:
        for options in ({}, {"cache": "1h"}, {"cache": None}, {"cache_control": SHORT}):
            ask(model_at(server, **options), asked)
        ask(model_at(server), request("hi", tools=TOOLS, cache_control=LONG))
        ask(model_at(server, extra_body={"cache_control": LONG}), asked)
        bodies = [one.body for one in server.requests]
    assert [[mark for _, mark in markers(body)] for body in bodies] == [
        [SHORT] * 3,
        [LONG] * 3,
        [],
        [],
        [],
        [],
    ]
    assert [body.get("cache_control") for body in bodies] == [None, None, None, SHORT, LONG, LONG]


def test_a_session_of_many_turns_never_marks_more_than_four_and_reads_where_it_wrote() -> None:
    calls = tuple(ScriptedCall(name="read", input={"path": str(number)}) for number in range(25))
    script = [Reply(text="so", reasoning="hm", calls=calls) for _ in range(4)]

    def read(path: str) -> str:
        """Read."""
        return path

    with MessagesServer([*script, "done"]) as server, contextlib.closing(model_at(server)) as model:
        with Agent(model, tools=[read], system="be kind") as agent:
            assert agent.run("go").text == "done"
        bodies = [one.body for one in server.requests]
    assert len(bodies) == 5
    for before, after in itertools.pairwise(bodies):
        ends = [place for place in places(before) if place[0].isdigit()]
        assert ends[-1] in places(after)
        assert len(places(after)) == 4


@pytest.mark.parametrize("cache", ["1m", "", True, 5, [], {"type": "ephemeral"}])
def test_another_life_is_refused_in_a_sentence(cache: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        AnthropicModel("m", cache=cache)
    assert str(refusal.value) == f"cache={cache!r} refused; give '5m', '1h' or None"
