"""Chunks that came together are told as one: the protocol's own parser reads the same body and goes on as before."""

from __future__ import annotations

import itertools
from typing import Any

import h11
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.models.http_chunks import ChunkMerger

HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 529 Busy\r\nA: b\r\nTransfer-Encoding:  CHUNKED \r\nc: d\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ]
)
PIECES = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.just(b"\r\n"), st.just(b"0\r\n\r\n")), max_size=12
)
ENDS = st.sampled_from([b"0\r\n\r\n", b"0\r\nx-trailer: y\r\n\r\n", b"000\r\n\r\n", b"0;a=b\r\n\r\n"])


def one(piece: bytes, form: str) -> bytes:
    size = f"{len(piece):x}"
    line = {"plain": size, "upper": size.upper(), "padded": size.zfill(6), "extended": f'{size};name="v"'}[
        form
    ]
    return line.encode() + b"\r\n" + piece + b"\r\n"


def events_of(datas: list[bytes]) -> list[Any]:
    """Return what a client of HTTP/1.1 hears, its data joined."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    heard: list[Any] = []
    for data in datas:
        client.receive_data(data)
        while (event := client.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
            if isinstance(event, h11.Data) and heard and isinstance(heard[-1], bytes):
                heard[-1] += bytes(event.data)
            else:
                heard.append(bytes(event.data) if isinstance(event, h11.Data) else event)
            if isinstance(event, h11.EndOfMessage):
                break
    return [*map(repr, heard), client.their_state, client.trailing_data]


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted({place % (len(whole) + 1) for place in places}), len(whole)]
    return [whole[begin:end] for begin, end in itertools.pairwise(at) if begin < end]


@given(
    head=HEADS,
    pieces=PIECES,
    forms=st.lists(
        st.sampled_from(["plain"] * 6 + ["upper", "padded", "extended"]), min_size=12, max_size=12
    ),
    end=ENDS,
    places=st.lists(st.integers(0, 2_000), max_size=10),
)
def test_the_same_is_heard_however_the_bytes_are_cut(
    head: bytes, pieces: list[bytes], forms: list[str], end: bytes, places: list[int]
) -> None:
    whole = head + b"".join(map(one, pieces, forms)) + end
    merger = ChunkMerger()
    for _ in range(2):  # the connection is used again
        merger.begin()
        came = cut(whole, places)
        told = [merger.feed(data) for data in came]
        assert events_of(told) == events_of(came)
        assert all(len(out) <= len(data) for out, data in zip(told, came, strict=True))


@given(junk=st.binary(max_size=200), places=st.lists(st.integers(0, 2_000), max_size=6))
def test_what_is_no_chunk_is_passed_on_as_it_came(junk: bytes, places: list[int]) -> None:
    merger = ChunkMerger()
    assert merger.feed(junk) == junk  # nobody asked for anything
    merger.begin()
    came = cut(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n" + junk, places)
    assert [merger.feed(data) for data in came] == came
    merger.begin()
    came = cut(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno size" + junk, places)
    assert [merger.feed(data) for data in came] == came


def test_what_came_with_one_read_is_one_chunk() -> None:
    merger = ChunkMerger()
    merger.begin()
    merger.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    together = b"".join(one(piece, "plain") for piece in (b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"))
    assert merger.feed(together) == b"1b\r\ndata: 1\n\ndata: 2\n\ndata: 3\n\n\r\n"
    alone = one(b"data: 4\n\n", "plain")
    assert merger.feed(alone) is alone
    assert merger.feed(one(b"5", "plain") + one(b"6", "plain") + b"0\r\n\r\n") == b"2\r\n56\r\n0\r\n\r\n"
