"""AnthropicModel over the provider's SDK and a real socket: what comes in, what goes wrong, what is sent.

Every test runs on a thread and on an event loop.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any, Literal

import anthropic
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.content import (
    AnyPart,
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    Item,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolSpec,
)
from agentkit_loop.errors import ConfigurationError, ModelRequestError
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_failures import retry_after_ms
from agentkit_loop.models.anthropic_stream import AnswerReader
from agentkit_loop.models.protocol import Answer, Model, ModelRequest, ModelSignal, UsageReport
from agentkit_loop.models.scripted import Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.testing_messages import reply_events
from agentkit_loop.testing_server import AnyServed, Framing, MessagesServer, ServerReply, encode_event
from agentkit_loop.usage import Usage

Event = dict[str, Any]
KEY = "sk-test-secret"


@attrs.frozen
class Heard:
    """What one request yielded, and how it failed."""

    signals: list[ModelSignal]
    error: ModelRequestError | None

    @property
    def parts(self) -> list[AnyPart]:
        return [signal.part for signal in self.signals if isinstance(signal, CommitPart)]

    @property
    def chunks(self) -> list[str]:
        return [signal.chunk for signal in self.signals if isinstance(signal, AppendText)]

    @property
    def answer(self) -> Answer:
        assert self.error is None
        answer = self.signals[-1]
        assert isinstance(answer, Answer)
        return answer

    @property
    def failure(self) -> ModelRequestError:
        assert self.error is not None
        return self.error

    @property
    def usages(self) -> list[Usage]:
        return [signal.usage for signal in self.signals if isinstance(signal, UsageReport)]


def request(*content: str | Item, tools: tuple[ToolSpec, ...] = (), **parameters: Any) -> ModelRequest:
    items = [piece if isinstance(piece, Item) else Item.user(piece) for piece in content or ("hello",)]
    return ModelRequest(
        request_id="request-1",
        purpose="turn",
        system="be kind",
        tools=tools,
        items=tuple(items),
        parameters=parameters,
    )


Ask = Callable[..., list[Heard]]
"""Makes so many requests of one model, one after the other."""


def ask_on_thread(model: AnthropicModel, *requests: ModelRequest) -> list[Heard]:
    heard = []
    for asked in requests or (request(),):
        signals: list[ModelSignal] = []
        error = None
        try:
            signals.extend(model.stream(asked))
        except ModelRequestError as raised:
            error = raised
        heard.append(Heard(signals, error))
    model.close()
    return heard


def ask_on_loop(model: AnthropicModel, *requests: ModelRequest) -> list[Heard]:
    async def ask() -> list[Heard]:
        heard = []
        for asked in requests or (request(),):
            signals: list[ModelSignal] = []
            error = None
            try:
                async for signal in model.astream(asked):
                    signals.append(signal)  # noqa: PERF401 - what came before the error is wanted
            except ModelRequestError as raised:
                error = raised
            heard.append(Heard(signals, error))
        await model.aclose()
        return heard

    return asyncio.run(ask())


@pytest.fixture(params=[ask_on_thread, ask_on_loop], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


def model_at(server: MessagesServer, **options: Any) -> AnthropicModel:
    return AnthropicModel("claude-sonnet-5", base_url=server.base_url, api_key=KEY, **options)


def hear(ask: Ask, *replies: AnyServed, **options: Any) -> Heard:
    """Return what one request gets from a server of these replies."""
    with MessagesServer(replies, strict=True) as server:
        return ask(model_at(server, **options))[0]


def started(usage: Any = None) -> Event:
    return {
        "type": "message_start",
        "message": {"id": "msg_1", "model": "claude-sonnet-5-20260901", "usage": usage},
    }


def block(index: int, begun: Event, *deltas: Event, stop: bool = True) -> list[Event]:
    events: list[Event] = [{"type": "content_block_start", "index": index, "content_block": begun}]
    events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [*events, {"type": "content_block_stop", "index": index}] if stop else events


def ended(reason: str | None = "end_turn", **usage: Any) -> list[Event]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage or None},
        {"type": "message_stop"},
    ]


def text_block(*words: str, index: int = 0) -> list[Event]:
    return block(
        index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": word} for word in words)
    )


def tool_block(*pieces: str, index: int = 0, stop: bool = True) -> list[Event]:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(
        index, {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}, *deltas, stop=stop
    )


def stream_of(*events: Event | list[Event] | bytes, **options: Any) -> ServerReply:
    flat: list[Event | bytes] = []
    for event in events:
        flat.extend(event) if isinstance(event, list) else flat.append(event)
    return ServerReply(events=tuple(flat), **options)


# --- What comes in


@pytest.mark.parametrize("framing", ["event", "whole", "byte"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_an_answer_comes_in_parts_whatever_the_framing(ask: Ask, framing: Framing, packed: bool) -> None:  # noqa: FBT001 - a parameter
    reply = Reply(
        reasoning="let me see",
        signature="sig",
        text="I will read 😀",
        calls=(ScriptedCall(name="read", input={"path": "ä.txt"}, id="toolu_9"),),
        usage=Usage(input_tokens=7, output_tokens=5),
        chunk_chars=5,
    )
    with MessagesServer([reply], framing=framing, gzip=packed) as server:
        (heard,) = ask(model_at(server))
    assert heard.parts == [
        ReasoningPart(text="let me see", signature="sig"),
        TextPart(text="I will read 😀"),
        ToolCallPart(id="toolu_9", name="read", input={"path": "ä.txt"}),
    ]
    assert heard.chunks == ["let m", "e see", "I wil", "l rea", "d 😀", '{"pat', 'h":"ä', '.txt"', "}"]
    assert [s for s in heard.signals if isinstance(s, BeginPart)] == [
        BeginPart("0", "reasoning"),
        BeginPart("1", "text"),
        BeginPart("2", "tool_call"),
    ]
    assert isinstance(heard.signals[0], UsageReport)
    assert heard.answer.finish_reason == "tool_call"
    assert (heard.answer.response_id, heard.answer.response_model) == ("msg_1", "claude-sonnet-5")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", "completed"),
        ("tool_use", "tool_call"),
        ("max_tokens", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("refusal", "refusal"),
        ("pause_turn", "pause_turn"),
        ("model_context_window_exceeded", "context_window_exceeded"),
        ("compaction", "compaction"),
        (None, "completed"),
    ],
)
def test_every_stop_reason_reaches_the_loop(ask: Ask, said: str | None, reason: str) -> None:
    assert hear(ask, stream_of(started(), text_block("x"), ended(said))).answer.finish_reason == reason


def test_usage_is_told_at_the_start_and_replaced_at_the_end(ask: Ask) -> None:
    first = {
        "input_tokens": 10,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 8},
        "output_tokens": 1,
        "service_tier": "standard",
    }
    last = {
        "input_tokens": 11,
        "output_tokens": 40,
        "cache_creation": None,
        "output_tokens_details": {"thinking_tokens": 9},
    }
    heard = hear(ask, stream_of(started(first), text_block("x"), ended(**last)))
    assert heard.usages == [
        Usage(
            input_tokens=10,
            cached_input_tokens=3,
            cache_write_input_tokens=20,
            cache_write_1h_input_tokens=8,
            output_tokens=1,
            raw=first,
        )
    ]
    assert heard.answer.usage == Usage(
        input_tokens=11,
        cached_input_tokens=3,
        cache_write_input_tokens=20,
        cache_write_1h_input_tokens=8,
        output_tokens=40,
        reasoning_tokens=9,
        raw=first
        | {"input_tokens": 11, "output_tokens": 40, "output_tokens_details": {"thinking_tokens": 9}},
    )
    report = heard.signals[0]
    assert isinstance(report, UsageReport)
    assert report.model == "claude-sonnet-5-20260901"


def test_the_tokens_of_a_compaction_count(ask: Ask) -> None:
    iterations = [
        {"type": "compaction", "input_tokens": 100, "output_tokens": 10},
        {"type": "message", "input_tokens": 5, "output_tokens": 2},
    ]
    usage = hear(
        ask, stream_of(started(), ended(input_tokens=5, output_tokens=2, iterations=iterations))
    ).answer.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (105, 12)
    assert usage.raw is not None
    assert usage.raw["iterations"] == iterations


@pytest.mark.parametrize("usage", [None, 7, [], {}])
def test_no_usage_is_unknown(ask: Ask, usage: Any) -> None:
    heard = hear(ask, stream_of(started(usage), text_block("x"), ended()))
    assert heard.usages == []
    assert heard.answer.usage is None


def test_counts_that_are_none_are_unknown(ask: Ask) -> None:
    odd = {"input_tokens": -1, "output_tokens": "3", "cache_read_input_tokens": True, "cache_creation": [1]}
    assert hear(ask, stream_of(started(odd), ended())).answer.usage == Usage(raw=odd)


@pytest.mark.parametrize(
    ("pieces", "given", "cut"),
    [
        (['{"a"', ": 1}"], {"a": 1}, None),
        ([], {}, None),
        ([""], {}, None),
        (["{}"], {}, None),
        (['{"a": '], {}, '{"a": '),
        (["[1]"], {}, "[1]"),
        (["null"], {}, "null"),
        (['{"a": NaN}'], {}, '{"a": NaN}'),
        (['{"a": "\\ud83d"}'], {"a": "\\ud83d"}, None),
    ],
)
def test_an_input_is_an_object_or_is_kept_as_cut(
    ask: Ask, pieces: list[str], given: dict[str, Any], cut: str | None
) -> None:
    (part,) = hear(ask, stream_of(started(), tool_block(*pieces), ended("tool_use"))).parts
    assert part == ToolCallPart(id="toolu_1", name="read", input=given, cut=cut)


def test_an_input_that_comes_with_the_start_is_taken(ask: Ask) -> None:
    begun = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "x"}}
    (part,) = hear(ask, stream_of(started(), block(0, begun), ended("tool_use"))).parts
    assert part == ToolCallPart(id="toolu_1", name="read", input={"path": "x"})


@pytest.mark.parametrize("raw", ["", '{"path": "x', '{"path": "x"}'])
def test_a_call_that_max_tokens_cut_is_committed_as_cut(ask: Ask, raw: str) -> None:
    heard = hear(
        ask, stream_of(started(), text_block("so"), tool_block(raw, index=1, stop=False), ended("max_tokens"))
    )
    assert heard.parts == [TextPart(text="so"), ToolCallPart(id="toolu_1", name="read", input={}, cut=raw)]
    assert heard.answer.finish_reason == "max_tokens"


def test_half_a_reasoning_has_no_signature(ask: Ask) -> None:
    begun = {"type": "thinking", "thinking": "", "signature": "early"}
    half = block(0, begun, {"type": "thinking_delta", "thinking": "hm"}, stop=False)
    assert hear(ask, stream_of(started(), half, ended("max_tokens"))).parts == [ReasoningPart(text="hm")]


def test_an_input_of_many_pieces_takes_time_in_proportion() -> None:
    reader = AnswerReader()
    pieces = ['{"text": "', *(["x" * 13] * 15_000), '"}']
    chunks = [encode_event(event) for event in [started(), *tool_block(*pieces)]]
    signals = [signal for chunk in chunks for signal in reader.feed(chunk)]
    (commit,) = [signal for signal in signals if isinstance(signal, CommitPart)]
    assert isinstance(commit.part, ToolCallPart)
    assert commit.part.input == {"text": "x" * 195_000}


def test_unknown_blocks_are_kept_with_their_deltas_and_go_back(ask: Ask) -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    later = {"type": "later_block", "words": "one", "list": [1], "deep": {"a": None}}
    events = [
        started(),
        *block(0, search, {"type": "input_json_delta", "partial_json": '{"query":'},
               {"type": "input_json_delta", "partial_json": '"x"}'}),
        *block(1, later, {"type": "later_delta", "words": " two", "list": [2], "deep": {"b": 1}, "new": 3}),
        *block(2, {"type": "redacted_thinking", "data": "opaque"}),
        *text_block("found", index=3),
        *ended(),
    ]  # fmt: skip
    events[-4:-4] = []
    search_whole = search | {"input": {"query": "x"}}
    later_whole = {"type": "later_block", "words": "one two", "list": [1, 2], "deep": {"b": 1}, "new": 3}
    with MessagesServer([stream_of(*events), "done"]) as server:
        model = model_at(server)
        (heard,) = ask(model)
        ask(model, request("hello", Item(kind="assistant", parts=tuple(heard.parts)), "go on"))
        sent = server.requests[1].body["messages"][1]["content"]
    assert heard.parts == [
        CustomPart(provider="anthropic", value=search_whole),
        CustomPart(provider="anthropic", value=later_whole),
        ReasoningPart(text="", redacted="opaque"),
        TextPart(text="found"),
    ]
    assert sent == [search_whole, later_whole, {"type": "redacted_thinking", "data": "opaque"}, {"type": "text", "text": "found"}]  # fmt: skip


def test_a_provider_block_that_did_not_end_is_kept_and_not_sent_back(ask: Ask) -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    half = block(0, search, {"type": "input_json_delta", "partial_json": '{"qu'}, stop=False)
    (part,) = hear(ask, stream_of(started(), half, ended("max_tokens"))).parts
    assert part == CustomPart(provider="anthropic-cut", value=search | {"partial_json": '{"qu'})


def test_citations_are_kept_with_their_text(ask: Ask) -> None:
    one, two = ({"type": "char_location", "cited_text": word} for word in ("a", "b"))
    deltas = [{"type": "citations_delta", "citation": cited} for cited in (one, two)]
    deltas.insert(1, {"type": "text_delta", "text": "as said"})
    begun = {"type": "text", "text": "", "citations": None}
    (part,) = hear(ask, stream_of(started(), block(0, begun, *deltas), ended())).parts
    assert part == TextPart(text="as said", extra={"citations": [one, two]})


def test_blocks_may_interleave_and_unknown_events_pass(ask: Ask) -> None:
    one, two = text_block("a", "b"), text_block("c", "d", index=1)
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    odd: list[Event | bytes] = [
        {"type": "ping"},
        {"type": "later_event", "x": 1},
        b": comment\n\n",
        b"event: x\n\n",
    ]
    heard = hear(ask, stream_of(*odd, started(), *mixed[:3], *odd, *mixed[3:], ended()))
    assert heard.parts == [TextPart(text="ab"), TextPart(text="cd")]


def test_bytes_that_are_not_utf8_and_lone_surrogates_lose_nothing_else(ask: Ask) -> None:
    def delta(raw: bytes) -> bytes:
        head = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
        return head + raw + b'"}}\n\n'

    events = text_block("a")
    heard = hear(
        ask, stream_of(started(), events[:2], delta(b"b\xffc"), delta(b"d\\ud83de"), events[2:], ended())
    )
    assert heard.parts == [TextPart(text="ab\ufffdcd\\ud83de")]
    assert "".join(heard.chunks) == "ab\ufffdcd\\ud83de"


def test_an_event_of_megabytes_comes_whole(ask: Ask) -> None:
    words = "x" * 5_000_000
    assert hear(ask, stream_of(started(), text_block(words), ended())).parts == [TextPart(text=words)]


def test_what_comes_after_the_answer_changes_nothing(ask: Ask) -> None:
    with MessagesServer(
        [
            stream_of(started(), text_block("x"), ended(), b"data: [DONE]\n\n", text_block("y", index=1)),
            stream_of(started(), text_block("x"), ended(), cut_after=6),
        ]
    ) as server:
        for heard in ask(model_at(server), request(), request()):
            assert heard.answer.finish_reason == "completed"
            assert heard.parts == [TextPart(text="x")]


def test_the_connection_is_kept_for_the_next_request(ask: Ask) -> None:
    with MessagesServer(["one", "two", "three"]) as server:
        heard = ask(model_at(server), request(), request(), request())
        assert [one.parts for one in heard] == [[TextPart(text=word)] for word in ("one", "two", "three")]
        assert server.connections == 1


# --- What goes wrong


@pytest.mark.parametrize(
    ("status", "error_type", "message", "error_class"),
    [
        (400, "invalid_request_error", "messages: bad", "invalid_request"),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 300000 tokens > 200000 maximum",
            "context_exceeded",
        ),
        (401, "authentication_error", "invalid x-api-key", "auth"),
        (402, "billing_error", "pay", "invalid_request"),
        (403, "permission_error", "no", "auth"),
        (404, "not_found_error", "model: none", "invalid_request"),
        (408, "timeout_error", "late", "timeout"),
        (409, "conflict", "again", "server"),
        (413, "request_too_large", "big", "invalid_request"),
        (422, "invalid_request_error", "odd", "invalid_request"),
        (429, "rate_limit_error", "slow", "rate_limited"),
        (500, "api_error", "oops", "server"),
        (500, "overloaded_error", "busy", "overloaded"),
        (503, "api_error", "down", "server"),
        (504, "timeout_error", "late", "timeout"),
        (529, "overloaded_error", "busy", "overloaded"),
    ],
)
def test_each_status_has_its_class(
    ask: Ask, status: int, error_type: str, message: str, error_class: str
) -> None:
    with MessagesServer([ServerReply.refusal(status, error_type, message)] * 3) as server:
        failure = ask(model_at(server))[0].failure
        assert len(server.requests) == 1  # the SDK does not retry
    assert failure.error_class == error_class
    assert failure.request_id == "req_1"
    assert str(failure) == f"HTTP {status} {error_type}: {message}"


def test_a_proxys_page_is_told_in_one_bounded_line(ask: Ask) -> None:
    page = b"<html>\n<h1>502\x1b[2J Bad Gateway</h1>" + b" x" * 5_000
    failure = hear(ask, ServerReply(status=502, headers={"content-type": "text/html"}, body=page)).failure
    assert failure.error_class == "server"
    assert str(failure).startswith(
        "HTTP 502: not an answer of the Messages API but text/html: <html> <h1>502"
    )
    assert str(failure).isprintable()
    assert len(str(failure)) < 600


@pytest.mark.parametrize("cut", ["connection", "stream_cut"])
def test_a_connection_that_breaks_before_the_answer_is_none(ask: Ask, cut: str) -> None:
    heard = hear(ask, Reply(text="x", fail=ScriptedFailure(error_class=cut)))
    assert heard.failure.error_class == "stream_cut"
    assert heard.signals == []


def test_nobody_listening_is_a_connection_error(ask: Ask) -> None:
    with MessagesServer() as server:
        address = server.base_url
    failure = ask(AnthropicModel("m", base_url=address, api_key=KEY))[0].failure
    assert failure.error_class == "connection"
    assert str(failure).startswith(f"no connection to {address}: ")


def test_an_address_that_is_none_is_the_callers_error(ask: Ask) -> None:
    failure = ask(AnthropicModel("m", base_url="htp://nowhere", api_key=KEY))[0].failure
    assert failure.error_class == "invalid_request"


@pytest.mark.parametrize(
    ("error_type", "message", "error_class"),
    [
        ("overloaded_error", "Overloaded", "overloaded"),
        ("api_error", "Internal", "server"),
        ("rate_limit_error", "slow", "rate_limited"),
        ("timeout_error", "late", "timeout"),
        ("authentication_error", "no", "auth"),
        ("invalid_request_error", "bad", "invalid_request"),
        ("invalid_request_error", "prompt is too long", "context_exceeded"),
        ("later_error", "what", "server"),
    ],
)
def test_an_error_inside_the_stream_has_its_class(
    ask: Ask, error_type: str, message: str, error_class: str
) -> None:
    error = {"type": "error", "error": {"type": error_type, "message": message}, "request_id": "req_inner"}
    heard = hear(
        ask, stream_of(started({"input_tokens": 4}), text_block("a"), error, text_block("b", index=1))
    )
    assert heard.failure.error_class == error_class
    assert str(heard.failure) == f"{error_type} while the answer was streamed: {message}"
    assert heard.failure.request_id == "req_inner"
    assert heard.parts == [TextPart(text="a")]
    assert heard.usages == [Usage(input_tokens=4, raw={"input_tokens": 4})]


@pytest.mark.parametrize("framing", ["event", "whole"])
def test_what_came_before_a_cut_is_told(ask: Ask, framing: Framing) -> None:
    heard = hear(ask, stream_of(started(), text_block("a", "b"), ended(), cut_after=4, framing=framing))
    assert heard.chunks == ["a", "b"]
    assert heard.failure.error_class == "stream_cut"
    assert heard.failure.request_id == "req_1"


def test_usage_that_came_before_a_cut_is_told(ask: Ask) -> None:
    heard = hear(ask, stream_of(started({"input_tokens": 4}), ended(output_tokens=9), cut_after=2))
    assert [usage.output_tokens for usage in heard.usages] == [None, 9]
    assert heard.failure.error_class == "stream_cut"


@pytest.mark.parametrize("count", range(5))
def test_a_silent_end_before_the_end_is_a_cut(ask: Ask, count: int) -> None:
    events = [started(), *text_block("a"), *ended()][:count]
    assert hear(ask, stream_of(events)).failure.error_class == "stream_cut"


def test_a_silent_server_is_a_timeout(ask: Ask) -> None:
    heard = hear(ask, stream_of(started(), text_block("a"), ended(), stall_after=3), timeout_s=0.3)
    assert heard.chunks == ["a"]
    assert heard.failure.error_class == "timeout"
    assert "timeout_s=" in str(heard.failure)


def test_a_server_that_never_ends_its_response_keeps_no_answer_back(ask: Ask) -> None:
    heard = hear(ask, stream_of(started(), text_block("a"), ended(), stall_after=6), timeout_s=0.3)
    assert heard.answer.finish_reason == "completed"


@pytest.mark.parametrize(
    ("media_type", "body"),
    [("text/html", b"<html>"), ("application/json", b'{"type": "message"}'), ("text/plain", b"hello")],
)
def test_a_200_that_is_no_stream_says_so(ask: Ask, media_type: str, body: bytes) -> None:
    failure = hear(ask, ServerReply(headers={"content-type": media_type}, body=body)).failure
    assert failure.error_class == "other"
    assert "check base_url" in str(failure)


@pytest.mark.parametrize(
    "events",
    [
        [started(), started()],
        [started(), *text_block("a"), *text_block("b")],
        [
            started(),
            {"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "x"}},
        ],
        [started(), {"type": "content_block_delta", "index": 3, "delta": {"type": "later_delta"}}],
        [started(), {"type": "content_block_stop", "index": 0}],
        [started(), {"type": "content_block_start", "index": "0", "content_block": {}}],
        [started(), {"type": "content_block_start", "index": 0}],
        [{"type": "message_start"}],
        [b"data: no JSON\n\n"],
        [b'data: {"object": "chat.completion.chunk"}\n\n'],
        [b"data: " + b"[" * 100_000 + b"\n\n"],
    ],
)
def test_a_stream_that_breaks_the_rules_is_the_providers_error(ask: Ask, events: list[Event | bytes]) -> None:
    failure = hear(ask, ServerReply(events=tuple(events))).failure
    assert failure.error_class == "server"
    assert str(failure).startswith("the provider's stream held ")


def test_broken_compression_is_a_cut(ask: Ask) -> None:
    reply = ServerReply(
        headers={"content-type": "text/event-stream", "content-encoding": "gzip"}, body=b"no gzip"
    )
    assert hear(ask, reply).failure.error_class == "stream_cut"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after-ms": "250.5", "retry-after": "9"}, 250.5),
        ({"retry-after": "2"}, 2_000.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": formatdate(90, usegmt=True), "date": formatdate(60, usegmt=True)}, 30_000.0),
        ({"retry-after": "4290000"}, 3_600_000.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1_000.0),
        ({"retry-after": formatdate(60, usegmt=True), "date": formatdate(90, usegmt=True)}, None),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, 3_600_000.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after_ms(headers) == wait


def test_retry_after_reaches_the_error(ask: Ask) -> None:
    reply = ServerReply.refusal(429, "rate_limit_error", "slow", retry_after="3")
    assert hear(ask, reply).failure.retry_after_ms == 3_000.0


# --- Credentials


def test_a_missing_key_is_told_in_one_line(tmp_path: Any) -> None:
    script = (
        "import asyncio\n"
        "from agentkit_loop.errors import ModelRequestError\n"
        "from agentkit_loop.models.anthropic import AnthropicModel\n"
        "from agentkit_loop.models.protocol import ModelRequest\n"
        "request = ModelRequest(request_id='r', purpose='turn', system=None, tools=(), items=(), parameters={})\n"
        "model = AnthropicModel('m', base_url='http://127.0.0.1:9')\n"
        "try:\n    next(model.stream(request))\n"
        "except ModelRequestError as error:\n    print(error.error_class, error, sep=': ')\n"
        "try:\n    asyncio.run(anext(model.astream(request)))\n"
        "except ModelRequestError as error:\n    print(error.error_class, error, sep=': ')\n"
    )
    bare = {"HOME": str(tmp_path), "ANTHROPIC_CONFIG_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], env=bare, capture_output=True, text=True, check=True)
    line = "auth: no API key for the Messages API; set ANTHROPIC_API_KEY or pass api_key="
    assert run.stdout.splitlines() == [line, line]


def told_chain(error: BaseException | None) -> str:
    """Return all that a traceback would say of an error."""
    said = []
    while error is not None:
        said.append(f"{error} {error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " ".join(said)


def test_a_key_that_the_server_repeats_is_masked(ask: Ask) -> None:
    failure = hear(ask, ServerReply.refusal(401, "authentication_error", f"bad key {KEY}!")).failure
    assert str(failure) == "HTTP 401 authentication_error: bad key ***!"
    assert KEY not in told_chain(failure)


def test_a_key_that_the_stream_repeats_is_masked(ask: Ask) -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": f"key {KEY}"}}
    failure = hear(ask, stream_of(started(), error)).failure
    assert KEY not in told_chain(failure)


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", f"{KEY}\u00e9", f"{KEY}\x00"])
def test_a_key_that_no_header_carries_is_not_shown(ask: Ask, key: str) -> None:
    failure = ask(AnthropicModel("m", base_url="http://127.0.0.1:9", api_key=key))[0].failure
    assert failure.error_class == "auth"
    assert KEY not in told_chain(failure)


def test_no_key_is_in_a_repr() -> None:
    model = AnthropicModel("claude-sonnet-5", api_key=KEY)
    assert repr(model) == "AnthropicModel('claude-sonnet-5')"
    assert model.name == "claude-sonnet-5"
    assert isinstance(model, Model)


# --- What is sent


def test_the_request_holds_parameters_of_both_and_tools_of_both(ask: Ask) -> None:
    spec = ToolSpec(name="read", description="Read", input_schema={"type": "object"})
    search = {"type": "web_search_20260209", "name": "web_search"}
    with MessagesServer(["ok"]) as server:
        model = model_at(
            server,
            max_tokens=100,
            tools=[search],
            thinking={"type": "adaptive"},
            top_k=3,
            extra_headers={"anthropic-beta": "x"},
            stop_sequences=None,
        )
        ask(model, request("hi", tools=(spec,), max_tokens=50, later_parameter={"a": 1}))
        (sent,) = server.requests
    assert sent.body == {
        "model": "claude-sonnet-5",
        "max_tokens": 50,
        "stream": True,
        "system": [{"type": "text", "text": "be kind"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "tools": [{"name": "read", "description": "Read", "input_schema": {"type": "object"}}, search],
        "thinking": {"type": "adaptive"},
        "top_k": 3,
        "later_parameter": {"a": 1},
    }
    assert sent.headers["anthropic-beta"] == "x"


def test_closing_early_closes_the_connection() -> None:
    reply = stream_of(started(), text_block("a", "b"), ended(), stall_after=3)
    with MessagesServer([reply, reply]) as server:
        model = model_at(server)
        signals = model.stream(request())
        assert isinstance(next(signals), BeginPart)
        signals.close()  # type: ignore[attr-defined] # a generator
        assert server.wait_for_abort()

        async def leave_early() -> None:
            coming = model.astream(request())
            assert isinstance(await anext(coming), BeginPart)
            await coming.aclose()  # type: ignore[attr-defined] # a generator
            assert await asyncio.to_thread(server.wait_for_abort)
            await model.aclose()

        asyncio.run(leave_early())


def test_a_cancelled_task_closes_the_connection() -> None:
    with MessagesServer([stream_of(started(), text_block("a"), ended(), stall_after=3)]) as server:
        model = model_at(server)

        async def cancelled() -> None:
            heard = asyncio.Event()

            async def listen() -> None:
                async for _ in model.astream(request()):
                    heard.set()

            task = asyncio.create_task(listen())
            await heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.wait_for_abort)
            await model.aclose()

        asyncio.run(cancelled())


def test_one_model_serves_several_event_loops_and_threads() -> None:
    with MessagesServer(lambda _: "hello") as server:
        model = model_at(server)
        for ask in (ask_on_loop, ask_on_thread, ask_on_loop, ask_on_thread):
            assert ask(model)[0].parts == [TextPart(text="hello")]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_clients_own_settings_hold_and_its_retries_do_not(mode: Literal["sync", "async"]) -> None:
    refusal = ServerReply.refusal(529, "overloaded_error", "busy")
    with MessagesServer([refusal, "hello"]) as server:
        options: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": KEY,
            "default_headers": {"x-team": "a"},
        }
        if mode == "sync":
            with anthropic.Anthropic(**options) as client:
                heard = ask_on_thread(AnthropicModel("m", client=client), request(), request())
                assert not client.is_closed()
        else:
            own = anthropic.AsyncAnthropic(**options)
            model = AnthropicModel("m", async_client=own, timeout_s=5)
            heard = ask_on_loop(model, request(), request())
            assert not own.is_closed()
            asyncio.run(own.close())
        assert [one.error is None for one in heard] == [False, True]
        assert [one.headers["x-team"] for one in server.requests] == ["a", "a"]


def test_a_client_of_the_other_kind_is_refused() -> None:
    client = anthropic.Anthropic(api_key=KEY)
    with pytest.raises(ConfigurationError, match="async_client="):
        ask_on_loop(AnthropicModel("m", client=client))
    with pytest.raises(ConfigurationError, match="client="):
        ask_on_thread(AnthropicModel("m", async_client=anthropic.AsyncAnthropic(api_key=KEY)))
    with pytest.raises(ConfigurationError, match="beside a client"):
        AnthropicModel("m", client=client, api_key=KEY)
    client.close()


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"timeout_s": 0}, {"system": "x"}, {"messages": []}])
def test_wrong_options_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        AnthropicModel("m", **options)


def test_importing_the_model_imports_no_sdk_and_no_network_library() -> None:
    script = (
        "import sys, agentkit_loop.models.anthropic as a; a.AnthropicModel('m', api_key='k')\n"
        "print(sorted({'anthropic', 'httpx2', 'httpx', 'http.client', 'ssl'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- The reader alone

WHOLE = b"".join(
    encode_event(event, line_end)
    for event, line_end in zip(
        reply_events(
            Reply(
                reasoning="so",
                text="hé😀",
                calls=(ScriptedCall(name="read", input={"a": 1}),),
                usage=Usage(input_tokens=1),
            )
        ),
        ["\n", "\r\n", "\r"] * 100,
        strict=False,
    )
)


def read(chunks: Iterable[bytes]) -> tuple[list[ModelSignal], Answer]:
    reader = AnswerReader()
    signals = [signal for chunk in chunks for signal in reader.feed(chunk)]
    return signals, reader.result()


@given(cuts=st.sets(st.integers(0, len(WHOLE)), max_size=12))
def test_every_split_of_the_bytes_reads_the_same(cuts: set[int]) -> None:
    places = sorted(cuts | {0, len(WHOLE)})
    chunks = [WHOLE[start:end] for start, end in zip(places, places[1:], strict=False)]
    assert read(chunks) == read([WHOLE])


def test_every_single_cut_is_told_as_a_cut() -> None:
    for place in range(len(WHOLE) - 1):
        reader = AnswerReader()
        reader.feed(WHOLE[:place])
        if reader.answer is None:
            with pytest.raises(ModelRequestError):
                reader.result()
        assert reader.failure is None
