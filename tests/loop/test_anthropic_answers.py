"""What AnthropicModel makes of an answer, over the SDK and a real socket, and its reader alone."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit_loop.content import (
    BeginPart,
    CommitPart,
    CustomPart,
    Item,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.models.anthropic_stream import AnswerReader
from agentkit_loop.models.protocol import UsageReport
from agentkit_loop.models.scripted import Reply, ScriptedCall
from agentkit_loop.testing_server import Framing, MessagesServer, encode_event
from agentkit_loop.usage import Usage
from tests.loop.messages_api import (
    Ask,
    Event,
    block,
    ended,
    hear,
    model_at,
    on_thread_and_loop,
    request,
    started,
    stream_of,
    text_block,
    tool_block,
)


@on_thread_and_loop
@pytest.mark.parametrize("framing", ["event", "whole", "byte"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_an_answer_comes_in_parts_whatever_the_framing(ask: Ask, framing: Framing, packed: bool) -> None:
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


@on_thread_and_loop
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


@on_thread_and_loop
def test_usage_is_told_at_the_start_and_replaced_at_the_end(ask: Ask) -> None:
    first = {
        "input_tokens": 10,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 8},
        "output_tokens": 1,
        "service_tier": "standard",
    }
    last: Event = {
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


@on_thread_and_loop
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


@on_thread_and_loop
@pytest.mark.parametrize("usage", [None, 7, [], {}])
def test_no_usage_is_unknown(ask: Ask, usage: Any) -> None:
    heard = hear(ask, stream_of(started(usage), text_block("x"), ended()))
    assert heard.usages == []
    assert heard.answer.usage is None


@on_thread_and_loop
def test_counts_that_are_none_are_unknown(ask: Ask) -> None:
    odd = {"input_tokens": -1, "output_tokens": "3", "cache_read_input_tokens": True, "cache_creation": [1]}
    assert hear(ask, stream_of(started(odd), ended())).answer.usage == Usage(raw=odd)


@on_thread_and_loop
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


@on_thread_and_loop
def test_an_input_that_comes_with_the_start_is_taken(ask: Ask) -> None:
    begun = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "x"}}
    (part,) = hear(ask, stream_of(started(), block(0, begun), ended("tool_use"))).parts
    assert part == ToolCallPart(id="toolu_1", name="read", input={"path": "x"})


@on_thread_and_loop
@pytest.mark.parametrize("raw", ["", '{"path": "x', '{"path": "x"}'])
def test_a_call_that_max_tokens_cut_is_committed_as_cut(ask: Ask, raw: str) -> None:
    heard = hear(
        ask, stream_of(started(), text_block("so"), tool_block(raw, index=1, stop=False), ended("max_tokens"))
    )
    assert heard.parts == [TextPart(text="so"), ToolCallPart(id="toolu_1", name="read", input={}, cut=raw)]
    assert heard.answer.finish_reason == "max_tokens"


@on_thread_and_loop
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


@on_thread_and_loop
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
    redacted, found = {"type": "redacted_thinking", "data": "opaque"}, {"type": "text", "text": "found"}
    assert sent == [search_whole, later_whole, redacted, found]


@on_thread_and_loop
def test_a_provider_block_that_did_not_end_is_kept_and_not_sent_back(ask: Ask) -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    half = block(0, search, {"type": "input_json_delta", "partial_json": '{"qu'}, stop=False)
    (part,) = hear(ask, stream_of(started(), half, ended("max_tokens"))).parts
    assert part == CustomPart(provider="anthropic-cut", value=search | {"partial_json": '{"qu'})


@on_thread_and_loop
def test_citations_are_kept_with_their_text(ask: Ask) -> None:
    one, two = ({"type": "char_location", "cited_text": word} for word in ("a", "b"))
    deltas = [{"type": "citations_delta", "citation": cited} for cited in (one, two)]
    deltas.insert(1, {"type": "text_delta", "text": "as said"})
    begun = {"type": "text", "text": "", "citations": None}
    (part,) = hear(ask, stream_of(started(), block(0, begun, *deltas), ended())).parts
    assert part == TextPart(text="as said", extra={"citations": [one, two]})


@on_thread_and_loop
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


@on_thread_and_loop
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


@on_thread_and_loop
def test_an_event_of_megabytes_comes_whole(ask: Ask) -> None:
    words = "x" * 5_000_000
    assert hear(ask, stream_of(started(), text_block(words), ended())).parts == [TextPart(text=words)]


@on_thread_and_loop
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


@on_thread_and_loop
def test_the_connection_is_kept_for_the_next_request(ask: Ask) -> None:
    with MessagesServer(["one", "two", "three"]) as server:
        heard = ask(model_at(server), request(), request(), request())
        assert [one.parts for one in heard] == [[TextPart(text=word)] for word in ("one", "two", "three")]
        assert server.connections == 1
