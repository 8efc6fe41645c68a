"""The messages of a session are made once and kept: what is sent is what would be made of all items anew."""

from __future__ import annotations

import copy
import functools
import json
import pickle
from typing import Any

import anthropic
import attrs
import msgspec
from anthropic.resources.messages import Messages
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop import Agent, Item, tool
from agentkit_loop.content import CustomPart, TextPart, ToolSpec
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_cache import CacheLife, mark_for_cache
from agentkit_loop.models.anthropic_wire import WireMessages, wire_body
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.testing_server import MessagesServer
from agentkit_loop.values import to_json
from tests.loop.messages_api import (
    KEY,
    ended,
    model_at,
    started,
    stream_of,
    text_block,
    tool_block,
    transcripts,
)

MARKS = [
    CustomPart(
        provider="anthropic", value={"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    ),
    CustomPart(
        provider="anthropic",
        value={"type": "text", "text": "y", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ),
    TextPart(text="plain"),
]


def request(items: list[Item], kept: dict[Any, Any] | None) -> ModelRequest:
    return ModelRequest(
        request_id="r",
        purpose="turn",
        system="be kind",
        tools=(),
        items=tuple(items),
        parameters={},
        kept=kept,
    )


def body_of(asked: ModelRequest, life: CacheLife | None) -> dict[str, Any]:
    """Make a body as the model does."""
    messages = WireMessages.taken(asked)
    body = wire_body(asked, messages)
    if life is not None:
        mark_for_cache(body, life, are_messages_plain=not messages.may_hold_marks)
    messages.keep(asked)
    return body


@given(
    items=transcripts(),
    marks=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(MARKS)), max_size=2),
    ends=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    life=st.sampled_from([None, "5m", "1h"]),
)
def test_each_request_is_as_if_nothing_were_kept(
    items: list[Item], marks: list[tuple[int, Any]], ends: list[int], life: CacheLife | None
) -> None:
    for place, mark in marks:
        items.insert(place % (len(items) + 1), Item.user(mark))
    kept: dict[Any, Any] = {}
    seen = []
    for end in ends:
        shown = items[: end % (len(items) + 1)]  # longer, shorter, the same again
        body = body_of(request(shown, kept), life)
        anew = wire_body(request(copy.deepcopy(shown), None))
        if life is not None:
            mark_for_cache(anew, life)
        assert body == anew
        seen.append((body, json.dumps(body)))
    assert all(json.dumps(body) == said for body, said in seen)  # no later request changed an earlier one


@given(items=transcripts(), place=st.integers(0, 20))
def test_an_item_changed_in_its_place_is_sent_as_it_is_now(items: list[Item], place: int) -> None:
    kept: dict[Any, Any] = {}
    items = [Item.user("go"), *items]
    body_of(request(items, kept), "5m")
    items[place % len(items)] = Item.user("another one")
    assert body_of(request(items, kept), None) == wire_body(request(items, None))


def test_who_asks_while_another_request_is_made_has_messages_of_its_own() -> None:
    kept: dict[Any, Any] = {}
    one, other = request([Item.user("a")], kept), request([Item.user("b")], kept)
    first, second = WireMessages.taken(one), WireMessages.taken(other)
    assert first is not second
    assert wire_body(one, first)["messages"] == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert wire_body(other, second)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "b"}]}
    ]


def test_after_an_error_all_is_made_anew() -> None:
    kept: dict[Any, Any] = {}
    good = [Item.user("a")]
    body_of(request(good, kept), "5m")
    broken = Item(kind="user", parts=(TextPart(text=None),))  # type: ignore[arg-type] # what no check has seen
    messages = WireMessages.taken(request([*good, broken], kept))
    try:
        wire_body(request([*good, broken], None), messages)
    except AttributeError:
        messages.keep(request([], kept))
    assert body_of(request([*good, Item.user("b")], kept), "5m") == body_of(
        request([*good, Item.user("b")], None), "5m"
    )


def test_a_session_sends_its_whole_history_with_the_marks_of_each_turn_alone() -> None:
    @tool
    def read(path: str = "") -> str:
        """Read."""
        return f"content of {path}"

    calls = [
        stream_of(started(), text_block(f"I look. {turn}"), tool_block("{}", index=1), ended("tool_use"))
        for turn in range(4)
    ]
    with MessagesServer([*calls, stream_of(started(), text_block("Done."), ended())], strict=True) as server:
        with (
            model_at(server) as model,
            Agent(model, tools=[read], system="be kind").start() as run,
        ):
            assert run.run("Read it.").text == "Done."
            items = run.transcript.items
        bodies = [one.body for one in server.requests]
    assert len(bodies) == 5
    for turn, body in enumerate(bodies):
        anew = wire_body(
            ModelRequest(
                request_id="r",
                purpose="turn",
                system="be kind",
                tools=(read.spec,),
                items=tuple(items[: 1 + 2 * turn]),
                parameters={},
            )
        )
        mark_for_cache(anew, "5m")
        assert {name: body[name] for name in anew} == anew


def test_a_request_is_written_and_copied_as_if_nothing_were_kept() -> None:
    kept: dict[Any, Any] = {}
    items = [Item.user("a")]
    body_of(request(items, kept), None)
    used, unused = request(items, kept), request(items, None)
    assert msgspec.json.encode(used) == msgspec.json.encode(unused)
    assert to_json(used) == to_json(unused)
    assert repr(used) == repr(unused)
    for copied in (pickle.loads(pickle.dumps(used)), copy.deepcopy(used)):  # noqa: S301 - our own
        assert copied == used
        assert body_of(copied, None) == body_of(unused, None)
    evolved = attrs.evolve(used, items=(*used.items, Item.user("b")))
    assert body_of(evolved, None) == body_of(attrs.evolve(evolved, kept=None), None)


class _Adding(Messages):
    """A host's own, which changes what it is given in its place."""

    @functools.wraps(Messages.create)  # its names are looked at
    def create(self, **arguments: Any) -> Any:  # type: ignore[override]
        for message in arguments["messages"]:
            first = message["content"][0]
            if first["type"] == "text":
                first["text"] += "!"
                message["content"].insert(0, {"type": "text", "text": "added"})
        return super().create(**arguments)


class _AddingClient(anthropic.Anthropic):
    @functools.cached_property
    def messages(self) -> Messages:
        return _Adding(self)


def test_what_a_hosts_client_changes_is_changed_once() -> None:
    with MessagesServer(["One.", "Two.", "Three."]) as server:
        with (
            _AddingClient(base_url=server.base_url, api_key=KEY) as client,
            Agent(AnthropicModel("m", client=client)).start() as run,
        ):
            for prompt in ("Look.", "Again.", "More."):
                run.run(prompt)
        bodies = [one.body for one in server.requests]
    assert len(bodies) == 3
    for body in bodies:
        texts = [[block["text"] for block in message["content"]] for message in body["messages"]]
        assert texts[0] == ["added", "Look.!"]
        assert not any("added!" in text or "!!" in text for message in texts for text in message)
        assert all(message.count("added") == 1 for message in texts)


def test_what_a_host_changes_in_a_part_later_is_not_sent_with_more_marks_than_are_allowed() -> None:
    flat: dict[str, Any] = {"type": "text", "text": "mine"}
    inner: dict[str, Any] = {"type": "text", "text": "inside"}
    document = {"type": "document", "source": {"type": "content", "content": [inner]}}
    parts = [CustomPart(provider="anthropic", value=value) for value in (flat, document)]
    items = [
        Item.user(*parts),
        Item.assistant("yes"),
        Item.user("and"),
        Item.assistant("so"),
        Item.user("on"),
    ]
    tools = (ToolSpec(name="t", description="", input_schema={"type": "object"}),)
    asked = attrs.evolve(request(items[:1], {}), tools=tools)
    first = body_of(asked, "5m")["messages"][0]
    for value in (flat, inner):
        value["cache_control"] = {"type": "ephemeral"}
        value["text"] = "changed"
    later = body_of(attrs.evolve(asked, items=tuple(items)), "5m")
    assert json.dumps(later).count("cache_control") == 4
    assert "changed" not in json.dumps([first, later])
