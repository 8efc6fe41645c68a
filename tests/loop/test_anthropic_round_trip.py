"""What the provider streamed goes back to it as it came, through an agent, its transcript and its log."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import (
    AnyPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.events import ToolCallRequested
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.testing import EventRecorder
from agentkit_loop.testing_server import Framing, MessagesServer
from agentkit_reporting import decode_event, encode_event
from tests.loop.messages_api import (
    Ask,
    Event,
    ask_on_thread,
    block,
    ended,
    hear,
    model_at,
    on_thread_and_loop,
    request,
    started,
    stream_of,
    text_block,
)

THINKING = {"type": "thinking", "thinking": "so it is", "signature": "c2lnbmVk", "effort": {"spent": 0.5}}
REDACTED = {"type": "redacted_thinking", "data": "b3BhcXVl", "reason": None}
CITED = {
    "type": "text",
    "text": "It is 21° 😀",
    "citations": [
        {"type": "web_search_result_location", "url": "https://x/y", "title": None, "encrypted_index": "ab"},
        {"type": "char_location", "document_index": 0, "start_char_index": 3, "end_char_index": 9},
    ],
}
SEARCH = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "a \u2028 b", "$ref": {}},
}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "url": "https://x/y", "encrypted_content": "00"}],
    "caller": {"type": "direct"},
}
LATER = {
    "type": "later_block",
    "words": "one two",
    "list": [1, 2.5],
    "deep": {"b": None, "huge": 10**30},
    "new": False,
}
COMPACTED = {"type": "compaction", "content": "what was said", "encrypted_content": "ff", "signature": "sig"}
CALL = {
    "type": "tool_use",
    "id": "toolu_1",
    "name": "weather",
    "input": {"place": "Bern", "days": [1, 2]},
    "caller": {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"},
    "toolset_name": None,
}
BLOCKS: list[Event] = [COMPACTED, THINKING, REDACTED, SEARCH, FOUND, CITED, LATER, CALL]


def pieces(field: str, delta_type: str, *texts: str) -> list[Event]:
    return [{"type": delta_type, field: text} for text in texts]


def streamed() -> list[Event]:
    """Return the blocks as the provider streams them: a start, and deltas for what grows."""
    thinking = {**THINKING, "thinking": "", "signature": ""}
    search, call = ({**whole, "input": {}} for whole in (SEARCH, CALL))
    one, two = ({"type": "citations_delta", "citation": cited} for cited in CITED["citations"])
    later = {"type": "later_block", "words": "one", "list": [1]}
    more = {
        "type": "later_delta",
        "words": " two",
        "list": [2.5],
        "deep": {"b": None, "huge": 10**30},
        "new": False,
    }
    compacted = {"type": "compaction", "content": None, "signature": ""}
    summary = {"type": "compaction_delta", "content": "what was said", "encrypted_content": "ff"}
    signed = {"type": "signature_delta", "signature": THINKING["signature"]}
    text = pieces("text", "text_delta", "It is ", "21° 😀")
    blocks = [
        block(0, compacted, summary, {"type": "signature_delta", "signature": "sig"}),
        block(1, thinking, *pieces("thinking", "thinking_delta", "so ", "", "it is"), signed),
        block(2, REDACTED),
        block(
            3,
            search,
            *pieces("partial_json", "input_json_delta", "", '{"query": "a ', '\u2028 b", "$ref": {}}'),
        ),
        block(4, FOUND),
        block(5, {"type": "text", "text": "", "citations": []}, text[0], one, text[1], two),
        block(6, later, more),
        block(7, call, *pieces("partial_json", "input_json_delta", '{"place":"Bern","days":[1,', "2]}")),
    ]
    return [
        started({"input_tokens": 5}),
        *(event for events in blocks for event in events),
        *ended("tool_use"),
    ]


def weather(place: str, days: list[int]) -> str:
    """Say what the weather is."""
    return f"{place}: {len(days)} days of rain"


Run = Callable[[AnthropicModel, EventRecorder], None]


def run(model: AnthropicModel, recorder: EventRecorder) -> None:
    with Agent(model, tools=[weather], observers=[recorder]) as agent:
        assert agent.run("How is it in Bern?").text == "Wet."
    model.close()


def arun(model: AnthropicModel, recorder: EventRecorder) -> None:
    async def ask() -> None:
        with Agent(model, tools=[weather], observers=[recorder]) as agent:
            assert (await agent.arun("How is it in Bern?")).text == "Wet."
        await model.aclose()

    asyncio.run(ask())


@pytest.mark.parametrize("run", [run, arun], ids=["sync", "async"])
@pytest.mark.parametrize("framing", ["event", "whole", "byte"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_what_was_streamed_is_sent_back_as_it_came(run: Run, framing: Framing, packed: bool) -> None:
    recorder = EventRecorder()
    with MessagesServer([stream_of(streamed()), "Wet."], framing=framing, gzip=packed) as server:
        run(model_at(server), recorder)
        asked, answered = server.requests[1].body["messages"][1:]
    assert asked == {"role": "assistant", "content": BLOCKS}
    (result,) = answered["content"]
    assert (result["tool_use_id"], result["content"]) == ("toolu_1", "Bern: 2 days of rain")
    assert [decode_event(encode_event(event)) for event in recorder.events] == recorder.events


def test_a_call_is_told_with_what_the_provider_says_of_it() -> None:
    recorder = EventRecorder()
    with MessagesServer([stream_of(streamed()), "Wet."]) as server:
        run(model_at(server), recorder)
    (told,) = [event.call for event in recorder.events if isinstance(event, ToolCallRequested)]
    assert told.extra == {"caller": CALL["caller"], "toolset_name": None}


@on_thread_and_loop
def test_unknown_deltas_of_known_blocks_are_kept_and_go_back(ask: Ask) -> None:
    mood = [{"type": "mood_delta", "mood": word, "level": {"n": 1}} for word in ("ca", "lm")]
    begun: list[Event] = [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "b", "signature": "s"},
        {"type": "redacted_thinking", "data": "c"},
        {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"d": 1}},
    ]
    events = [event for index, one in enumerate(begun) for event in block(index, one, *mood)]
    extra = {"mood": "calm", "level": {"n": 1}}
    expected: list[AnyPart] = [
        TextPart(text="a", extra=extra),
        ReasoningPart(text="b", signature="s", extra=extra),
        ReasoningPart(text="", redacted="c", extra=extra),
        ToolCallPart(id="toolu_1", name="read", input={"d": 1}, extra=extra),
    ]
    with MessagesServer([stream_of(started(), events, ended()), "ok"], strict=False) as server:
        model = model_at(server)
        (heard,) = ask(model)
        ask(model, request("hello", Item(kind="assistant", parts=tuple(heard.parts)), "go on"))
        sent = server.requests[1].body["messages"][1]["content"]
    assert heard.parts == expected
    assert sent == [{**one, **extra} for one in begun]


@on_thread_and_loop
def test_a_value_that_changes_its_kind_is_the_last_one(ask: Ask) -> None:
    deltas = [{"type": "x", "a": value} for value in ("one", "two", {"b": 1}, "three", ["four"], ["five"])]
    (part,) = hear(ask, stream_of(started(), block(0, {"type": "later"}, *deltas), ended())).parts
    assert part == CustomPart(provider="anthropic", value={"type": "later", "a": ["four", "five"]})


PNG, PDF = base64.b64encode(b"png").decode(), base64.b64encode(b"%PDF").decode()
SHOWN: list[tuple[AnyPart, Event]] = [
    (
        MediaPart(media_type="image/png", data=PNG),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    ),
    (
        MediaPart(media_type="image/webp", url="https://x/y.webp"),
        {"type": "image", "source": {"type": "url", "url": "https://x/y.webp"}},
    ),
    (
        FilePart(name="a.png", media_type="image/png", file_id="file_1"),
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    ),
    (
        FilePart(name="a.pdf", media_type="application/pdf", data=PDF),
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "a.pdf",
        },
    ),
    (
        FilePart(name="b.pdf", media_type="application/pdf", url="https://x/b.pdf"),
        {"type": "document", "source": {"type": "url", "url": "https://x/b.pdf"}, "title": "b.pdf"},
    ),
    (
        FilePart(name="c", media_type="application/pdf", file_id="file_2"),
        {"type": "document", "source": {"type": "file", "file_id": "file_2"}, "title": "c"},
    ),
    (
        FilePart(name="d.md", media_type="text/markdown", data=base64.b64encode("ä".encode()).decode()),
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "ä"},
            "title": "d.md",
        },
    ),
    (
        CustomPart(
            provider="anthropic",
            value={
                "type": "document",
                "source": {"type": "content", "content": [{"type": "text", "text": "e"}]},
                "citations": {"enabled": True},
            },
        ),
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "text", "text": "e"}]},
            "citations": {"enabled": True},
        },
    ),
]


def test_images_and_documents_of_a_user_and_of_a_tool_reach_the_provider() -> None:
    def look() -> list[AnyPart]:
        """Look."""
        return [part for part, _ in SHOWN]

    call = block(0, {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}})
    blocks = [shown for _, shown in SHOWN]
    with (
        MessagesServer([stream_of(started(), call, ended("tool_use")), "I see."]) as server,
        contextlib.closing(model_at(server, cache=None)) as model,
    ):
        with Agent(model, tools=[look]) as agent:
            assert agent.run(Item.user("look", *(part for part, _ in SHOWN))).text == "I see."
        first, _, result = server.requests[1].body["messages"]
    assert first["content"] == [{"type": "text", "text": "look"}, *blocks]
    assert result["content"] == [{"type": "tool_result", "tool_use_id": "toolu_1", "content": blocks}]


@on_thread_and_loop
def test_an_image_that_the_provider_made_is_kept_and_goes_back(ask: Ask) -> None:
    made = {"type": "image", "source": {"type": "file", "file_id": "file_9"}, "made_by": "srvtoolu_1"}
    events = [started(), *block(0, made), *text_block("there", index=1), *ended()]
    with MessagesServer([stream_of(*events), "ok"]) as server:
        model = model_at(server)
        (heard,) = ask(model)
        ask(model, request("draw", Item(kind="assistant", parts=tuple(heard.parts)), "again"))
        sent = server.requests[1].body["messages"][1]["content"]
    assert sent == [made, {"type": "text", "text": "there"}]


def test_a_turn_that_the_provider_paused_goes_on_from_its_own_blocks() -> None:
    paused = stream_of(started(), block(0, SEARCH), ended("pause_turn"))
    with MessagesServer([paused, "Wet."]) as server:
        (heard,) = ask_on_thread(model_at(server))
        assert heard.answer.finish_reason == "pause_turn"
        model = model_at(server, cache=None)
        ask_on_thread(model, request("hello", Item(kind="assistant", parts=tuple(heard.parts))))
        assert server.requests[1].body["messages"][1] == {"role": "assistant", "content": [SEARCH]}
