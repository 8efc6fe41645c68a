"""The reader of answers says the same however the bytes are split: inside a character, a line end, anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ModelRequestError
from agentkit_loop.models.anthropic_stream import AnswerReader
from agentkit_loop.models.protocol import ModelSignal
from agentkit_loop.models.sse import MAX_EVENT_BYTES, SSEDecoder
from agentkit_loop.testing_server import encode_event
from tests.loop.messages_api import Event, block, ended, started, text_block, tool_block


def encoded(*events: Event | list[Event] | bytes, ends: Iterable[str] = ("\n",)) -> bytes:
    flat = [event for told in events for event in (told if isinstance(told, list) else [told])]
    return b"".join(map(encode_event, flat, itertools.cycle(ends)))


THINKING = {"type": "thinking", "thinking": "", "signature": ""}
SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
ODD = (
    b'data: {"type":"content_block_delta","index":0,\n'
    b'data: "delta":{"type":"text_delta","text":"\xff\xf0\x9f\\ud83d"}}\r\n\r\n'
)
WHOLE: list[Event | list[Event] | bytes] = [
    started({"input_tokens": 4}),
    block(
        0,
        THINKING,
        {"type": "thinking_delta", "thinking": "hm 😀"},
        {"type": "signature_delta", "signature": "s"},
    ),
    text_block("ä", "\u2028\x85", "", "z\\n", index=1),
    block(2, SEARCH, {"type": "input_json_delta", "partial_json": '{"q": "é"}'}),
    block(3, {"type": "later", "n": [1]}, {"type": "later_delta", "n": [2], "words": "x"}),
    tool_block('{"a": ', "1}", index=4),
    ended("tool_use", output_tokens=9),
]
STREAMS = {
    "whole": encoded(*WHOLE),
    "every line end": encoded(*WHOLE, ends=("\r\n", "\r", "\n")),
    "CRLF": encoded(*WHOLE, ends=("\r\n",)),
    "byte order mark": b"\xef\xbb\xbf" + encoded(*WHOLE),
    "pings and comments": encoded(
        b": hi\n\n", {"type": "ping"}, *WHOLE[:3], b":\r\r", {"type": "ping"}, *WHOLE[3:]
    ),
    "no text": encoded(started(), text_block("a")[:2], ODD, text_block("b")[1:], ended()),
    "a call that was cut": encoded(started(), tool_block('{"a"', stop=False), ended("max_tokens")),
    "an error": encoded(*WHOLE[:3], {"type": "error", "error": {"type": "api_error", "message": "é"}}),
    "a gateway's error": encoded(*WHOLE[:2], b"event: error\r\ndata: \xffgone\r\n\r\n", *WHOLE[2:]),
    "a block twice": encoded(started(), text_block("a"), text_block("b"), ended()),
    "an end that is silent": encoded(*WHOLE[:4]),
    "an end in an event": encoded(*WHOLE)[:-7],
    "no events of theirs": b'data: {"object": "chat.completion.chunk"}\n\ndata: [DONE]\n\n',
    "what comes after": encoded(*WHOLE, text_block("late", index=9), b"data: [DONE]\n\n"),
    "a page": b"<!DOCTYPE html>\n<html>\n\n<body>\xff</body>\n\n</html>\n\n",
    "a message": b'{"type": "message",\n\n"content": []}',
    "nothing": b"\r\n\n\r",
}


def read(chunks: Iterable[bytes]) -> tuple[list[ModelSignal], str]:
    """Return what is told, as the model does, and how it fails."""
    reader = AnswerReader()
    signals: list[ModelSignal] = []
    try:
        for chunk in chunks:
            signals.extend(reader.feed(chunk))
            reader.check()
        reader.end()
    except ModelRequestError as error:
        if reader.answer is None:
            return [*signals, *reader.unreported()], f"{error.error_class}: {error}"
    return [*signals, reader.result()], ""


@pytest.mark.parametrize("name", STREAMS)
def test_byte_by_byte_reads_as_the_whole(name: str) -> None:
    raw = STREAMS[name]
    assert read(raw[place : place + 1] for place in range(len(raw))) == read([raw])


@given(name=st.sampled_from(sorted(STREAMS)), cuts=st.sets(st.integers(0, 3_000), max_size=20))
def test_any_split_reads_as_the_whole(name: str, cuts: set[int]) -> None:
    raw = STREAMS[name]
    places = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    assert read(raw[start:end] for start, end in itertools.pairwise(places)) == read([raw])


@given(raw=st.binary(max_size=80), cuts=st.sets(st.integers(0, 80), max_size=6))
def test_any_bytes_at_all_are_told_alike_whatever_their_split(raw: bytes, cuts: set[int]) -> None:
    stream = encoded(started({"input_tokens": 1}), text_block("a")) + raw + b"\n\n" + encoded(ended())
    places = sorted({len(stream) - len(raw) - cut for cut in cuts} | {0, len(stream)})
    assert read(stream[start:end] for start, end in itertools.pairwise(places)) == read([stream])


@given(place=st.integers(0, len(STREAMS["every line end"]) - 1))
def test_a_stream_that_ends_anywhere_is_cut_after_all_that_was_whole(place: int) -> None:
    signals, failure = read([STREAMS["every line end"][:place]])
    told, _ = read([STREAMS["every line end"]])
    assert failure.startswith("stream_cut: ") or signals == told
    count = len(signals) - (signals != told[: len(signals)])  # the usage of a stream that breaks comes last
    assert signals[:count] == told[:count]


def test_an_event_without_end_is_not_kept() -> None:
    decoder = SSEDecoder(max_event_bytes=100)
    assert decoder.feed(b"data: 1\n\ndata: " + b"x" * 94) == [(b"", b"1")]
    assert not decoder.overflowed
    assert decoder.feed(b"x") == []
    assert decoder.overflowed
    assert decoder.feed(b"\n\ndata: 2\n\n") == []


def test_an_event_that_ends_in_time_may_be_of_any_length() -> None:
    decoder = SSEDecoder(max_event_bytes=100)
    for _ in range(50):
        decoder.feed(b"data: " + b"x" * 80)
        assert decoder.feed(b"\n\n") == [(b"", b"x" * 80)]
    assert decoder.feed(b"data: " + b"x" * 1_000 + b"\n\n") == [(b"", b"x" * 1_000)]


def test_the_bound_is_beyond_what_the_api_sends() -> None:
    assert MAX_EVENT_BYTES >= 2 * 32 * 10**6
