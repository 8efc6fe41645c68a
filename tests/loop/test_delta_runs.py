"""Deltas that came together are taken together: what they say is what they say one by one."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.content import AppendText
from agentkit_loop.models.anthropic_stream import AnswerReader
from agentkit_loop.models.sse import SSEDecoder

START = b"event: content_block_delta\ndata: "
TEXTS = st.sampled_from(
    ("a", "", "word ", "\u00e9", '"', "\\", "}{", "event: content_block_delta", "x\ny", "\u2028")
)


def event(data: dict[str, Any]) -> bytes:
    told = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {data['type']}\ndata: {told}\n\n".encode()


def delta(kind: str, field: str, text: str, index: int = 0) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": {"type": kind, field: text}})


def text_delta(text: str) -> bytes:
    return delta("text_delta", "text", text)


OPENED = b"".join(
    event(each)
    for each in (
        {"type": "message_start", "message": {"id": "m", "model": "x", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "n"},
        },
        {"type": "content_block_start", "index": 2, "content_block": {"type": "thinking", "thinking": ""}},
    )
)
CLOSED = b"".join(
    event(each)
    for each in (
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    )
)
ODD = (
    b"event: ping\ndata: {}\n\n",
    START + b"\n\n",
    START + b"{\n\n",
    START + b'{"type":"content_block_delta","index":0,"delta":{}\n\n',
    START + b"}\n\n",
    START + text_delta("a")[len(START) : -2] * 2 + b"\n\n",
    START + b"[" + text_delta("a")[len(START) : -2] + b"]\n\n",
    START + b" " + text_delta("spaced")[len(START) :],
    START + text_delta("more")[len(START) : -1] + b"data: \n\n",
    b"event: content_block_delta\r\ndata: " + text_delta("cr")[len(START) :],
    START + b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":7}}\n\n',
    START + b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xff"}}\n\n',
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"nameless"}}\n\n',
    b"event: error\ndata: gone\n\n",
    delta("text_delta", "text", "not open", index=9),
    delta("signature_delta", "signature", "s", index=2),
    event({"type": "content_block_delta", "index": 0, "delta": {"text": "of no kind", "more": "kept"}}),
    event({"type": "content_block_delta", "index": 0, "delta": {"type": 7, "text": "of no kind"}}),
    START + b'{"index":0,"delta":{"type":"text_delta","text":"typeless"}}\n\n',
    b": comment\n\n",
    b"\n",
)
DELTAS = st.one_of(
    TEXTS.map(text_delta),
    TEXTS.map(text_delta),
    TEXTS.map(lambda text: delta("input_json_delta", "partial_json", text, index=1)),
    TEXTS.map(lambda text: delta("thinking_delta", "thinking", text, index=2)),
    TEXTS.map(lambda text: delta("text_delta", "text", text, index=2)),
)


def read(pieces: list[bytes]) -> tuple[Any, ...]:
    """Return all that a reader says of an answer that came so."""
    reader, signals = AnswerReader(), []
    for piece in pieces:
        signals += reader.feed(piece)
    return signals, str(reader.failure), reader.answer, reader.is_over, reader.unreported()


@given(
    st.lists(DELTAS, max_size=12), st.lists(st.tuples(st.integers(0, 12), st.sampled_from(ODD)), max_size=2)
)
def test_deltas_say_the_same_together_and_one_by_one(
    deltas: list[bytes], odd: list[tuple[int, bytes]]
) -> None:
    for place, one in odd:
        deltas.insert(place % (len(deltas) + 1), one)
    together = read([OPENED + b"".join(deltas) + CLOSED])
    assert together == read([OPENED, *deltas, CLOSED])
    assert together == read([OPENED, b"".join(deltas), CLOSED])


def test_deltas_of_one_block_are_found_together() -> None:
    decoder = SSEDecoder()
    decoder.feed(OPENED)
    run = [text_delta(text) for text in ("one", "two", "three", "four")]
    stop = event({"type": "content_block_stop", "index": 0})
    found = decoder.feed_runs(b"".join(run) + stop, START)
    assert found == [[each[len(START) : -2] for each in run], (b"content_block_stop", stop[32:-2])]
    signals, *_ = read([OPENED, b"".join(run)])
    assert signals[-4:] == [AppendText("0", text) for text in ("one", "two", "three", "four")]


def test_a_delta_that_does_not_say_its_kind_is_taken_by_itself() -> None:
    kindless = {"type": "content_block_delta", "index": 0, "delta": {"text": "b", "more": "kept"}}
    deltas = [text_delta("a"), event(kindless), text_delta("c"), text_delta("d")]
    together = read([OPENED + b"".join(deltas) + CLOSED])
    assert together == read([OPENED, *deltas, CLOSED])
    assert "kept" in str(together)
