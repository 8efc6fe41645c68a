"""A transcript as messages: what goes back, in which order, under which ids."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
from hypothesis import given

from agentkit_loop.content import (
    AnyPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    StructuredPart,
    TextPart,
    ToolCallPart,
    ToolSpec,
    clean_part,
)
from agentkit_loop.models.anthropic_wire import NO_CONTENT, wire_body, wire_messages
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.testing_server import check_messages
from agentkit_loop.values import to_json
from tests.loop.messages_api import call, result, transcripts


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def request(*items: Item, system: str | None = None, tools: tuple[ToolSpec, ...] = ()) -> ModelRequest:
    return ModelRequest(
        request_id="request-1", purpose="turn", system=system, tools=tools, items=items, parameters={}
    )


def content(*parts: AnyPart | str) -> Any:
    """Return the blocks of one user item."""
    return wire_messages([Item.user(*parts)])[0]["content"]


def output(value: Any) -> Any:
    """Return the content of the one result of a call."""
    messages = wire_messages([Item.user("x"), Item.assistant(call("a")), result("a", value)])
    return messages[2]["content"][0].get("content")


def test_neighbours_of_one_role_are_one_message() -> None:
    items = [Item.user("a"), Item.user("b"), Item.assistant("c"), Item.assistant("d"), Item.user("e")]
    assert wire_messages(items) == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
        {"role": "user", "content": [text("e")]},
    ]


def test_results_stand_before_everything_else_of_their_message() -> None:
    items = [
        Item.user("go"),
        Item.assistant(call("a"), call("b")),
        Item(kind="notification", parts=(TextPart(text="file changed"),)),
        result("a"),
        result("b"),
        Item.user("and now?"),
    ]
    blocks = wire_messages(items)[2]["content"]
    assert [block["type"] for block in blocks] == ["tool_result", "tool_result", "text", "text"]
    assert [block["tool_use_id"] for block in blocks[:2]] == ["a", "b"]
    assert blocks[2:] == [text("file changed"), text("and now?")]


def test_the_providers_own_id_goes_back_with_its_result() -> None:
    items = [Item.user("go"), Item.assistant(call("toolu_1~2", wire_id="toolu_1")), result("toolu_1~2")]
    _, asked, answered = wire_messages(items)
    assert asked["content"][0]["id"] == answered["content"][0]["tool_use_id"] == "toolu_1"


def test_an_id_that_the_provider_repeats_goes_back_once_and_then_by_our_name() -> None:
    again = call("toolu_1~2", wire_id="toolu_1")
    items = [Item.user("go"), Item.assistant(call("toolu_1"), again), result("toolu_1"), result("toolu_1~2")]
    _, asked, answered = wire_messages(items)
    assert [block["id"] for block in asked["content"]] == ["toolu_1", "toolu_1_2"]
    assert [block["tool_use_id"] for block in answered["content"]] == ["toolu_1", "toolu_1_2"]


def test_foreign_ids_are_made_legal_and_stay_apart() -> None:
    items = [
        Item.user("go"),
        Item.assistant(call("f:0"), call("f.0"), call("")),
        result("f:0"),
        result("f.0"),
    ]
    asked = wire_messages(items)[1]["content"]
    assert [block["id"] for block in asked] == ["f_0", "f_0_", "call"]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("plain", "plain"),
        ("", None),
        (" \n", None),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (None, "null"),
        (3.5, "3.5"),
        (to_json({"$parts": "a user's own"}), '{"$$parts":"a user\'s own"}'),
        ({"$parts": [{"kind": "no such"}]}, '{"$parts":[{"kind":"no such"}]}'),
        (to_json([TextPart(text="a"), TextPart(text="")]), [text("a")]),
        (to_json(StructuredPart(value={"a": 1})), [text('{"a":1}')]),
        (to_json(ReasoningPart(text="x")), [text('{"kind":"reasoning","text":"x"}')]),
        (
            to_json(MediaPart(media_type="image/png", data="AAAA")),
            [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
        ),
        (
            to_json(CustomPart(provider="anthropic", value={"type": "search_result", "title": "x"})),
            [{"type": "search_result", "title": "x"}],
        ),
    ],
)
def test_an_output_goes_as_text_as_compact_json_or_as_blocks(value: Any, sent: Any) -> None:
    assert output(value) == sent


def test_an_error_says_so_and_is_never_empty() -> None:
    items = [Item.user("x"), Item.assistant(call("a")), result("a", "", is_error=True)]
    block = wire_messages(items)[2]["content"][0]
    assert block == {"type": "tool_result", "tool_use_id": "a", "content": NO_CONTENT, "is_error": True}


def test_empty_texts_are_dropped() -> None:
    assert content("", "a", " \n") == [text("a")]
    assert content("") == [text(NO_CONTENT)]
    assert wire_messages([Item.user("a"), Item.assistant(""), Item.user("b")]) == [
        {"role": "user", "content": [text("a"), text("b")]}
    ]


def test_a_transcript_without_a_first_user_message_gets_one() -> None:
    assert wire_messages([])[0] == {"role": "user", "content": [text(NO_CONTENT)]}
    assert [message["role"] for message in wire_messages([Item.assistant("hello")])] == ["user", "assistant"]


def test_white_space_at_the_end_of_a_last_assistant_message_is_dropped() -> None:
    items = [Item.user("a"), Item.assistant("the answer is \n")]
    assert wire_messages(items)[1]["content"] == [text("the answer is")]
    assert wire_messages([*items, Item.user("b")])[1]["content"] == [text("the answer is \n")]


def test_a_cut_call_goes_back_without_input() -> None:
    items = [Item.user("a"), Item.assistant(call("a", cut='{"pa')), result("a")]
    assert wire_messages(items)[1]["content"][0]["input"] == {}


def test_reasoning_goes_back_signed_or_redacted_and_not_otherwise() -> None:
    item = Item.assistant(
        ReasoningPart(text="so", signature="sig"),
        ReasoningPart(text="", redacted="opaque"),
        ReasoningPart(text="unsigned"),
        "therefore",
    )
    assert wire_messages([Item.user("a"), item])[1]["content"] == [
        {"type": "thinking", "thinking": "so", "signature": "sig"},
        {"type": "redacted_thinking", "data": "opaque"},
        text("therefore"),
    ]


def test_provider_blocks_and_citations_go_back_as_they_came() -> None:
    block = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    cited = {"citations": [{"type": "char_location", "cited_text": "y"}]}
    item = Item.assistant(
        CustomPart(provider="anthropic", value=block),
        CustomPart(provider="another", value=block),
        CustomPart(provider="anthropic-cut", value=block),
        TextPart(text="found", extra=cited),
    )
    sent = wire_messages([Item.user("a"), item])[1]["content"]
    assert sent == [block, {**text("found"), **cited}]


def test_system_texts_go_to_the_top_in_order() -> None:
    items = (
        Item(kind="system", parts=(TextPart(text="two"), StructuredPart(value=[3]))),
        Item.user("hello"),
        Item(kind="developer", parts=(TextPart(text="four"), TextPart(text=""))),
        Item(kind="context", parts=(TextPart(text="today is Friday"),)),
    )
    body = wire_body(request(*items, system="one"))
    assert body["system"] == [text("one"), text("two"), text("[3]"), text("four")]
    assert body["messages"] == [{"role": "user", "content": [text("hello"), text("today is Friday")]}]
    assert "system" not in wire_body(request(Item.user("x"), system=" "))


def test_tools_are_told_by_name_schema_and_description() -> None:
    schema = {"type": "object", "properties": {}}
    tools = (
        ToolSpec(name="read", description="Read a file", input_schema=schema),
        ToolSpec(name="go", description="", input_schema=schema),
    )
    assert wire_body(request(Item.user("x"), tools=tools))["tools"] == [
        {"name": "read", "input_schema": schema, "description": "Read a file"},
        {"name": "go", "input_schema": schema},
    ]
    assert "tools" not in wire_body(request(Item.user("x")))


PDF, PLAIN = "application/pdf", "text/plain"


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (MediaPart(media_type="image/png", url="https://x/y"), {"type": "url", "url": "https://x/y"}),
        (
            FilePart(name="", media_type="IMAGE/PNG", data="AA=="),
            {"type": "base64", "media_type": "image/png", "data": "AA=="},
        ),
        (
            FilePart(name="", media_type=PDF, data="AA=="),
            {"type": "base64", "media_type": PDF, "data": "AA=="},
        ),
        (FilePart(name="", media_type=PDF, url="https://x/y"), {"type": "url", "url": "https://x/y"}),
        (FilePart(name="", media_type="any/thing", file_id="file_1"), {"type": "file", "file_id": "file_1"}),
        (
            FilePart(name="", media_type="text/csv", data=base64.b64encode(b"a,b").decode()),
            {"type": "text", "media_type": PLAIN, "data": "a,b"},
        ),
    ],
)
def test_images_and_documents_go_by_their_source(part: AnyPart, block: dict[str, str]) -> None:
    assert content(part)[0]["source"] == block


def test_a_document_keeps_its_name() -> None:
    assert content(FilePart(name="a.pdf", media_type=PDF, data="AA=="))[0]["title"] == "a.pdf"


@pytest.mark.parametrize(
    "part",
    [
        MediaPart(media_type="audio/wav", data="AA=="),
        MediaPart(media_type="image/png"),
        FilePart(name="a.zip", media_type="application/zip", data="AA=="),
        FilePart(name="a.txt", media_type=PLAIN, data="no base64"),
        FilePart(name="a.txt", media_type=PLAIN, data=""),
        FilePart(name="a.txt", media_type=PLAIN, url="https://x/y"),
    ],
)
def test_what_cannot_be_shown_is_named(part: MediaPart | FilePart) -> None:
    (block,) = content(part)
    assert block["type"] == "text"
    assert part.media_type in block["text"]
    assert (
        check_messages({"model": "m", "max_tokens": 1, "messages": wire_messages([Item.user(part)])}) is None
    )


def test_an_assistants_picture_is_named_too() -> None:
    item = Item.assistant(MediaPart(media_type="image/png", data="AAAA"))
    assert wire_messages([Item.user("a"), item])[1]["content"] == [text("(image/png is not shown here)")]


@given(items=transcripts())
def test_the_api_takes_every_transcript_of_the_loop(items: list[Item]) -> None:
    body = {"model": "m", "max_tokens": 1, **wire_body(request(*items, system=""))}
    assert check_messages(body) is None
    roles = [message["role"] for message in body["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))


@given(items=transcripts())
def test_making_messages_changes_no_item(items: list[Item]) -> None:
    before = [item.parts for item in items]
    first = wire_messages(items)
    assert wire_messages(items) == first
    assert [item.parts for item in items] == before


def test_an_integer_that_no_log_holds_goes_back_as_the_model_wrote_it() -> None:
    written = {"n": 10**30, "deep": [{"m": -(10**25)}], "own": {"$int": "7"}}
    part = clean_part(ToolCallPart(id="c", name="f", input=written))
    assert isinstance(part, ToolCallPart)
    assert part.input["n"] == {"$int": str(10**30)}
    (_, message) = wire_messages([Item.user("go"), Item(kind="assistant", parts=(part,))])
    assert message["content"][0]["input"] == written
