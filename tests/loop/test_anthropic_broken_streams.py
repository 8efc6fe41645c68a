"""Streams that break, stall, repeat or say odd things: what was readable is told first, then what happened.

Every model here has a deadline; a test that hung would fail by it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import (
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.errors import ModelError
from agentkit_loop.events import ToolExecutionStarted, ToolResultReceived, UsageUpdated
from agentkit_loop.retry import Retry
from agentkit_loop.testing import EventRecorder
from agentkit_loop.testing_server import AnyServed, Framing, MessagesServer
from agentkit_loop.usage import Usage
from tests.loop.messages_api import (
    Ask,
    Event,
    Heard,
    block,
    ended,
    hear,
    model_at,
    on_thread_and_loop,
    started,
    stream_of,
    text_block,
    tool_block,
)

SOON_S = 0.3
"""Seconds of silence after which a model gives up, in tests of silence."""

USED: dict[str, Any] = {"input_tokens": 4, "output_tokens": 1}


def told(ask: Ask, *replies: AnyServed) -> Heard:
    return hear(ask, *replies, timeout_s=20.0)


def delta(raw: bytes, *, index: int = 0, kind: bytes = b"text_delta", field: bytes = b"text") -> bytes:
    head = b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":"' % (
        index,
        kind,
        field,
    )
    return head + raw + b'"}}\n\n'


@on_thread_and_loop
@pytest.mark.parametrize("count", range(7))
def test_silence_at_any_place_is_a_timeout_after_all_that_came(ask: Ask, count: int) -> None:
    events = [started(USED), *text_block("a", "b"), *ended(output_tokens=9)]
    heard = hear(ask, stream_of(events, stall_after=count), timeout_s=SOON_S)
    assert heard.failure.error_class == "timeout"
    assert heard.failure.request_id == "req_1"
    assert heard.chunks == ["a", "b"][: max(0, count - 2)]
    assert [usage.output_tokens for usage in heard.usages] == [1, 9][: (count > 0) + (count > 5)]


@on_thread_and_loop
@pytest.mark.parametrize("framing", ["event", "whole", "byte"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_a_cut_at_any_place_keeps_what_came_and_its_usage(
    ask: Ask, framing: Framing, packed: bool, count: int
) -> None:
    events = [started(USED), *text_block("a", "b"), *ended(output_tokens=9)]
    heard = told(ask, stream_of(events, cut_after=count, framing=framing, gzip=packed))
    assert (heard.failure.error_class, heard.failure.request_id) == ("stream_cut", "req_1")
    assert heard.chunks == ["a", "b"][: max(0, count - 2)]
    assert heard.parts == ([TextPart(text="ab")] if count > 4 else [])
    assert heard.usages[-1].output_tokens == (9 if count > 5 else 1)


START: Event = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
WORD: Event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "late"}}
STOP: Event = {"type": "content_block_stop", "index": 0}


@on_thread_and_loop
@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        (started(), "a second message_start"),
        (START, "block 0 twice"),
        (STOP, "the end of block 0, which is not open"),
        (WORD, "a delta for block 0, which is not open"),
        ({**WORD, "delta": {"type": "later_delta"}}, "a delta for block 0, which is not open"),
        ({**START, "index": None}, "a block without an index or content, None"),
        ({**START, "content_block": "text"}, "a block without an index or content, 0"),
    ],
)
def test_what_is_repeated_or_out_of_order_fails_after_what_was_readable(
    ask: Ask, odd: Event, sentence: str
) -> None:
    heard = told(ask, stream_of(started(USED), text_block("a"), odd, text_block("b", index=1), ended()))
    assert heard.failure.error_class == "server"
    assert str(heard.failure) == f"the provider's stream held {sentence}"
    assert heard.failure.request_id == "req_1"
    assert heard.parts == [TextPart(text="a")]
    assert heard.usages == [Usage(**USED, raw=USED)]


@on_thread_and_loop
@pytest.mark.parametrize("first", [START, STOP, {"type": "message_delta"}, {"type": "message_stop"}])
def test_nothing_of_a_message_comes_before_its_start(ask: Ask, first: Event) -> None:
    failure = told(ask, stream_of(first, started(), text_block("a"), ended())).failure
    assert str(failure) == f"the provider's stream held a {first['type']} before its message_start"


@on_thread_and_loop
def test_an_end_of_the_message_that_comes_twice_is_heard_once(ask: Ask) -> None:
    heard = told(ask, stream_of(started(), text_block("a"), ended(), ended("refusal"), started()))
    assert heard.answer.finish_reason == "completed"


@on_thread_and_loop
def test_the_reason_may_come_before_the_last_block_ends(ask: Ask) -> None:
    delta_event, stop = ended("max_tokens", output_tokens=3)
    heard = told(ask, stream_of(started(), START, delta_event, WORD, STOP, stop))
    assert heard.answer.finish_reason == "max_tokens"
    assert heard.parts == [TextPart(text="late")]


@on_thread_and_loop
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"b\xffc", "b\ufffdc"),
        (b"b\xc3", "b\ufffd"),
        (b"\xf0\x9f\x98", "\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"b\\ud83d", "b\\ud83d"),
        ("ä😀\u2028".encode(), "ä😀\u2028"),
    ],
)
@pytest.mark.parametrize("framing", ["event", "byte"])
def test_bytes_that_are_no_text_are_told_as_such_and_lose_nothing_else(
    ask: Ask, raw: bytes, text: str, framing: Framing
) -> None:
    middle: list[Event | bytes] = [START, delta(b"a"), delta(raw), delta(b"z"), STOP]
    heard = told(ask, stream_of(started(), *middle, ended(), framing=framing))
    assert heard.chunks == ["a", text, "z"]
    assert heard.parts == [TextPart(text=f"a{text}z")]


@on_thread_and_loop
def test_bytes_that_are_no_text_in_reasoning_and_inputs_are_told_as_such(ask: Ask) -> None:
    thinking = block(0, {"type": "thinking", "thinking": "", "signature": "s"})
    thought = delta(b"a\xff", kind=b"thinking_delta", field=b"thinking")
    asked = tool_block(index=1)
    given = delta(b'{\\"a\\": \\"\xfe\\"}', index=1, kind=b"input_json_delta", field=b"partial_json")
    events: list[Event | bytes] = [thinking[0], thought, thinking[1], asked[0], given, asked[1]]
    heard = told(ask, stream_of(started(), *events, ended("tool_use")))
    assert heard.parts == [
        ReasoningPart(text="a\ufffd", signature="s"),
        ToolCallPart(id="toolu_1", name="read", input={"a": "\ufffd"}),
    ]


@on_thread_and_loop
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_events_of_five_megabytes_come_whole(ask: Ask, packed: bool) -> None:
    words = "ä" * 2_500_000
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": words}
    asked = tool_block('{"a": "', words, '"}', index=2)
    heard = told(ask, stream_of(started(), text_block(words), block(1, result), asked, ended(), gzip=packed))
    assert heard.parts == [
        TextPart(text=words),
        CustomPart(provider="anthropic", value=result),
        ToolCallPart(id="toolu_1", name="read", input={"a": words}),
    ]


@on_thread_and_loop
@pytest.mark.parametrize("framing", ["event", "whole"])
def test_an_event_without_end_is_given_up_and_what_came_before_is_told(ask: Ask, framing: Framing) -> None:
    endless = [b"data: ", *[b"x" * 2**20] * 65]
    heard = told(ask, stream_of(started(USED), text_block("a"), *endless, framing=framing))
    assert heard.failure.error_class == "other"
    assert "more than 64 MB without an end of the event" in str(heard.failure)
    assert heard.parts == [TextPart(text="a")]
    assert heard.usages == [Usage(**USED, raw=USED)]


@on_thread_and_loop
def test_an_unknown_block_with_unknown_deltas_is_kept(ask: Ask) -> None:
    begun = {"type": "later_block", "id": "x"}
    deltas: list[Event] = [
        {"type": "later_delta", "n": 1},
        {"type": "other_delta", "text": "a"},
        {"type": "other_delta", "text": "b"},
    ]
    heard = told(ask, stream_of(started(), block(0, begun, *deltas), text_block("z", index=1), ended()))
    assert heard.parts[0] == CustomPart(provider="anthropic", value={**begun, "n": 1, "text": "ab"})
    assert heard.signals[:2] == [
        BeginPart("0", "custom"),
        CommitPart("0", CustomPart(provider="anthropic", value={**begun, "n": 1, "text": "ab"})),
    ]
    assert [signal for signal in heard.signals if isinstance(signal, AppendText)] == [AppendText("1", "z")]


@on_thread_and_loop
@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b"[]",
        b'""',
        b'{"error": {"type": 5, "message": ["x"]}}',
        b'{"error": {}}',
        b"{",
        b"\xff",
        b"  ",
    ],
)
def test_an_error_event_with_odd_data_is_an_error_of_the_server(ask: Ask, data: bytes) -> None:
    heard = told(ask, stream_of(started(USED), text_block("a"), b"event: error\ndata: " + data + b"\n\n"))
    assert heard.failure.error_class == "server"
    assert "while the answer was streamed" in str(heard.failure)
    assert heard.failure.request_id == "req_1"
    assert heard.parts == [TextPart(text="a")]
    assert heard.usages == [Usage(**USED, raw=USED)]


@on_thread_and_loop
def test_an_error_event_may_be_the_first(ask: Ask) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    heard = told(ask, stream_of(error))
    assert (heard.failure.error_class, heard.signals) == ("overloaded", [])


@on_thread_and_loop
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"type": "refusal", "category": "cyber", "explanation": "no"}, True),
        ({"type": "refusal", "category": None, "explanation": None}, True),
        ({}, True),
        (None, False),
        ("no", False),
        (["no"], False),
    ],
)
def test_what_the_provider_says_of_its_reason_is_kept(ask: Ask, said: Any, kept: bool) -> None:
    last = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": said}}
    answer = told(ask, stream_of(started(), last, {"type": "message_stop"})).answer
    assert (answer.finish_reason, answer.stop_details) == ("refusal", said if kept else None)


@on_thread_and_loop
def test_a_reason_that_nobody_knows_is_kept(ask: Ask) -> None:
    assert told(ask, stream_of(started(), ended("a_later_word"))).answer.finish_reason == "a_later_word"


def read(path: str) -> str:
    """Read a file."""
    return f"text of {path}"


@pytest.mark.parametrize("raw", ['{"path": "a.tx', '["a.txt"]', '{"path": NaN}', "path=a.txt"])
def test_an_input_that_is_no_json_is_an_invalid_call_and_the_model_is_asked_again(raw: str) -> None:
    recorder = EventRecorder()
    good = block(0, {"type": "tool_use", "id": "toolu_2", "name": "read", "input": {"path": "a.txt"}})
    script: list[AnyServed] = [
        stream_of(started(USED), tool_block(raw), ended("tool_use")),
        stream_of(started(USED), good, ended("tool_use")),
        "It says: text of a.txt",
    ]
    with MessagesServer(script) as server, contextlib.closing(model_at(server)) as model:
        with Agent(model, tools=[read], observers=[recorder], retry=Retry(max_attempts=1)) as agent:
            assert agent.run("What is in a.txt?").text == "It says: text of a.txt"
        _, asked, refused = server.requests[1].body["messages"]
    first, second = [event for event in recorder.events if isinstance(event, ToolResultReceived)]
    assert (first.not_started, first.is_error) == (True, True)
    assert (second.not_started, second.output) == (False, "text of a.txt")
    bodies = [event.call_id for event in recorder.events if isinstance(event, ToolExecutionStarted)]
    assert bodies == ["toolu_2"]
    assert asked["content"] == [{"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}]
    assert refused["content"][0]["is_error"] is True


def test_a_stream_that_broke_keeps_its_usage_in_the_session() -> None:
    recorder = EventRecorder()
    broken = stream_of(started(USED), text_block("a"), b"event: error\ndata: {}\n\n")
    with (
        MessagesServer([broken]) as server,
        contextlib.closing(model_at(server)) as model,
        Agent(model, observers=[recorder], retry=Retry(max_attempts=1)) as agent,
        pytest.raises(ModelError) as failure,
    ):
        agent.run("hi")
    assert failure.value.usage == Usage(**USED)
    (update,) = [event for event in recorder.events if isinstance(event, UsageUpdated)]
    assert (update.final, update.usage) == (False, Usage(**USED, raw=USED))
