"""The decoder of server-sent events: the standard's rules, whatever the split of the bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.models.sse import SSEDecoder, SSEvent


def decode(*chunks: bytes) -> list[SSEvent]:
    decoder = SSEDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"event: a\ndata: 1\n\n", [(b"a", b"1")]),
        (b"event: a\r\ndata: 1\r\n\r\n", [(b"a", b"1")]),
        (b"event: a\rdata: 1\r\r", [(b"a", b"1")]),
        (b"event: a\rdata: 1\n\r\n", [(b"a", b"1")]),
        (b"data: 1\n\n", [(b"", b"1")]),
        (b"data:1\n\n", [(b"", b"1")]),
        (b"data:  1\n\n", [(b"", b" 1")]),
        (b"data: 1\ndata: 2\n\n", [(b"", b"1\n2")]),
        (b"event: a\ndata: 1\ndata\ndata: 2\n\n", [(b"a", b"1\n\n2")]),
        (b"data: 1\nevent: a\nevent: b\n\n", [(b"b", b"1")]),
        (b": a comment\n\ndata: 1\n: another\n\n", [(b"", b"1")]),
        (b"id: 7\nretry: 10\nunknown: x\ndata: 1\n\n", [(b"", b"1")]),
        (b"event: a\n\ndata: 1\n\n", [(b"", b"1")]),
        (b"data\n\n", [(b"", b"")]),
        (b"\n\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n", [(b"", b"1"), (b"", b"2")]),
        (b"\xef\xbb\xbfevent: a\ndata: 1\n\n", [(b"a", b"1")]),
        (b"data: \xe2\x80\xa8\xc2\x85\x0b\x0c\x1c\n\n", [(b"", b"\xe2\x80\xa8\xc2\x85\x0b\x0c\x1c")]),
        (b"data: 1\n", []),
        (b"event: a\ndata: 1", []),
        (b"", []),
    ],
)
def test_the_rules_hold_whole_and_byte_by_byte(raw: bytes, events: list[SSEvent]) -> None:
    assert decode(raw) == events
    assert decode(*(raw[place : place + 1] for place in range(len(raw)))) == events


def reference(raw: bytes) -> list[SSEvent]:
    """The standard's algorithm, line by line, on the whole stream."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    events: list[SSEvent] = []
    name = b""
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                events.append((name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return events


lines = st.sampled_from(
    [
        b"data: {}",
        b"data:",
        b"data",
        b"event: x",
        b": c",
        b"id: 1",
        b"",
        b"data: \xf0\x9f\x98\x80",
        b"\xef\xbb\xbf",
    ]
)
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=12).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


@given(raw=streams | st.binary(max_size=60), cuts=st.lists(st.integers(0, 120), max_size=8))
def test_every_split_gives_the_events_of_the_whole(raw: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    chunks = [raw[start:end] for start, end in itertools.pairwise(places)]
    assert decode(*chunks) == reference(raw)
    assert decode(*(raw[place : place + 1] for place in range(len(raw)))) == reference(raw)


def test_an_event_of_megabytes_in_small_chunks_is_kept_in_pieces_until_it_ends() -> None:
    decoder = SSEDecoder()
    for _ in range(5_000):
        assert decoder.feed(b"x" * 1_000) == []
    assert decoder.feed(b"\ndata: 1\n\n") == [(b"", b"1")]
