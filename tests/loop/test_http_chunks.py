"""Chunked bodies are read past the protocol's parser: the same body, the same errors, and it goes on as before."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import anthropic
import h11
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.models.anthropic_transport import LAYERS, LAYERS_ON_LOOP, is_as_made
from agentkit_loop.models.http_chunks import BodyReader
from agentkit_loop.testing import MessagesServer, Reply

HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 529 Busy\r\nA: b\r\nTransfer-Encoding:  CHUNKED \r\nc: d\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ]
)
ODD_HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\na: b\n\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\na: b\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\n",
        b"HTTP/1.1 102 Wait\n\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 304 Same\r\ntransfer-encoding: chunked\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
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


class Heard:
    """What a client of HTTP/1.1 makes of what is read: the events of its parser, with all data as one."""

    def __init__(self, came: list[bytes]) -> None:
        self._came = iter(came)
        self._client = h11.Connection(h11.CLIENT)
        self._client.send(h11.Request(method="POST", target="/", headers=[("host", "a")]))
        self._client.send(h11.EndOfMessage())
        self._reader: BodyReader | None = None
        self.past = 0  # bytes of the body that the parser never saw
        self._reads = 0  # of a connection: one too many would wait for what does not come
        self._body = b""
        self._told: list[str] = []

    def plainly(self) -> list[Any]:
        """Let the parser read all of it."""
        while self._goes_on():
            pass
        return self._all()

    def past_the_parser(self, reader: BodyReader) -> list[Any]:
        """Read the body past the parser as far as that goes."""
        reader.begin()
        self._reader = reader
        while self._goes_on():
            if reader.is_past:
                for data in itertools.chain([b""], iter(self._received, b"")):
                    self._take(reader.take(data))
                    if not reader.is_past:
                        break
                reader.is_past = False
        return self._all()

    def _all(self) -> list[Any]:
        return [
            *self._told,
            self._body,
            self._client.their_state,
            self._client.trailing_data,
            self._reads,
        ]

    def _received(self) -> bytes:
        self._reads += 1
        return next(self._came, b"")

    def _take(self, data: bytes) -> None:
        self._body += data
        self.past += len(data)

    def _goes_on(self) -> bool:
        """Let the parser tell one thing, or read."""
        try:
            event: Any = self._client.next_event()
            if event is h11.NEED_DATA:
                self._client.receive_data(self._read())
                return True
        except h11.RemoteProtocolError as error:
            self._told.append(type(error).__name__)
            return False
        if isinstance(event, h11.Data):
            self._body += bytes(event.data)
        else:
            self._told.append(repr(event))
        return not isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed, type))  # a type: h11.PAUSED

    def _read(self) -> bytes:
        reader = self._reader
        if reader is not None and reader.kept:
            return reader.hand_over()
        data = self._received()
        return data if reader is None else reader.feed(data)


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted({place % (len(whole) + 1) for place in places}), len(whole)]
    return [whole[begin:end] for begin, end in itertools.pairwise(at) if begin < end]


FORMS = st.lists(st.sampled_from(["plain"] * 6 + ["upper", "padded", "extended"]), min_size=12, max_size=12)
PLACES = st.lists(st.integers(0, 2_000), max_size=10)


@given(head=HEADS, pieces=PIECES, forms=FORMS, end=ENDS, places=PLACES)
def test_the_same_is_heard_however_the_bytes_are_cut(
    head: bytes, pieces: list[bytes], forms: list[str], end: bytes, places: list[int]
) -> None:
    whole = head + b"".join(map(one, pieces, forms)) + end
    reader = BodyReader()
    for _ in range(2):  # the connection is used again
        came = cut(whole, places)
        heard = Heard(came)
        assert heard.past_the_parser(reader) == Heard(came).plainly()
        if "extended" not in forms[: len(pieces)]:
            assert heard.past == sum(map(len, pieces))


@given(head=ODD_HEADS, pieces=PIECES, end=ENDS, places=PLACES)
def test_an_odd_head_ends_where_the_parser_finds_its_end(
    head: bytes, pieces: list[bytes], end: bytes, places: list[int]
) -> None:
    came = cut(head + b"".join(one(piece, "plain") for piece in pieces) + end, places)
    assert Heard(came).past_the_parser(BodyReader()) == Heard(came).plainly()


@given(
    head=HEADS,
    pieces=PIECES,
    forms=FORMS,
    end=ENDS,
    places=PLACES,
    wrong=st.tuples(
        st.integers(0, 400),
        st.binary(max_size=6) | st.sampled_from([b"\r", b"\n", b"\r\n", b"5", b"\x00"]),
        st.integers(0, 4),
    ),
)
def test_a_broken_body_is_told_as_the_parser_tells_it(
    head: bytes,
    pieces: list[bytes],
    forms: list[str],
    end: bytes,
    places: list[int],
    wrong: tuple[int, bytes, int],
) -> None:
    body = b"".join(map(one, pieces, forms)) + end
    at, junk, instead = wrong
    at %= len(body)
    came = cut(head + body[:at] + junk + body[at + instead :], places)
    past, plain = Heard(came).past_the_parser(BodyReader()), Heard(came).plainly()
    if "RemoteProtocolError" in plain:
        at = plain.index("RemoteProtocolError") + 1
        assert past[:at] == plain[:at]
        # Where the line end behind a chunk is wrong, the parser has told the chunk, or what came of it, or not.
        assert (
            past[: plain.index("RemoteProtocolError") + 1] == plain[: plain.index("RemoteProtocolError") + 1]
        )
    else:
        assert past == plain


@given(body=st.binary(max_size=200), places=PLACES)
def test_what_is_no_chunked_body_is_the_parsers(body: bytes, places: list[int]) -> None:
    for head in (b"200 OK\r\ncontent-length: %d" % len(body), b"204 None\r\ntransfer-encoding: chunked"):
        reader = BodyReader()
        reader.begin()
        came = cut(b"HTTP/1.1 " + head + b"\r\n\r\n" + body, places)
        assert [reader.feed(data) for data in came] == came
        assert not reader.is_past
    reader = BodyReader()
    assert reader.feed(body) == body  # nobody asked for anything


def test_a_body_that_nobody_reads_past_the_parser_is_the_parsers() -> None:
    reader = BodyReader()
    reader.begin()
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    first, second = one(b"data: 1\n\n", "plain"), one(b"data: 2\n\n", "plain")
    assert reader.feed(head + first) == head
    assert (reader.is_past, reader.kept) == (True, first)
    assert reader.hand_over() == first
    assert reader.feed(second) == second
    assert (reader.is_past, reader.kept) == (False, b"")


def test_what_came_with_one_read_is_given_as_one() -> None:
    reader = BodyReader()
    reader.begin()
    reader.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    together = b"".join(one(piece, "plain") for piece in (b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"))
    assert reader.take(together) == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    assert reader.take(one(b"data: 4\n\n", "plain")) == b"data: 4\n\n"
    assert reader.take(b"6\r\ndat") == b"dat"
    assert reader.take(b"a: \r") == b"a: "
    assert reader.take(b"\n0\r") == b""
    assert reader.is_past
    assert reader.take(b"\n\r\n") == b""
    assert (reader.is_past, reader.hand_over()) == (False, b"0\r\n\r\n")


def test_the_layers_of_todays_client_are_known() -> None:
    asked: dict[str, Any] = {
        "model": "m",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "x"}],
    }
    with MessagesServer([Reply(text="a"), Reply(text="b")]) as server:
        with (
            anthropic.Anthropic(base_url=server.base_url, api_key="sk-test") as client,
            client.messages.with_streaming_response.create(**asked) as answer,
        ):
            assert is_as_made(answer.http_response.stream, LAYERS)

        async def on_loop() -> None:
            async with (
                anthropic.AsyncAnthropic(base_url=server.base_url, api_key="sk-test") as client,
                client.messages.with_streaming_response.create(**asked) as answer,
            ):
                assert is_as_made(answer.http_response.stream, LAYERS_ON_LOOP)
                assert not is_as_made(answer.http_response.stream, LAYERS)

        asyncio.run(on_loop())
