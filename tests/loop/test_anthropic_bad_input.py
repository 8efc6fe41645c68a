"""Servers that answer badly, over a real socket: each is told as what it is, soon, and nothing readable is lost.

Every model here has a deadline; a test that hung would fail by it.
"""

from __future__ import annotations

import socket

import anthropic
import pytest

from agentkit_loop.content import (
    TextPart,
)
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_transport import MAX_REFUSAL_BYTES
from agentkit_loop.testing_server import AnyServed, MessagesServer, ServerReply
from tests.loop.messages_api import (
    KEY,
    Ask,
    Heard,
    ask_on_thread,
    ended,
    hear,
    on_thread_and_loop,
    started,
    stream_of,
    text_block,
)

SOON_S = 0.3
"""Seconds of silence after which a model gives up, in tests of silence."""


def told(ask: Ask, *replies: AnyServed) -> Heard:
    return hear(ask, *replies, timeout_s=20.0)


HTML = b"<!DOCTYPE html>\n<html>\n\n<title>\x1b[2Jportal</title>\n\n</html>\n\n"
MESSAGE = b'{"type": "message", "content": [{"type": "text", "text": "hi"}]}'


@on_thread_and_loop
@pytest.mark.parametrize("media_type", ["text/html; charset=utf-8", "text/event-stream", ""])
@pytest.mark.parametrize(
    ("body", "excerpt"), [(HTML, "'<!DOCTYPE html>"), (MESSAGE, '\'{"type": "message"'), (b"hi", "'hi'")]
)
def test_a_200_that_is_no_stream_says_what_it_is(
    ask: Ask, media_type: str, body: bytes, excerpt: str
) -> None:
    failure = told(ask, ServerReply(headers={"content-type": media_type}, body=body)).failure
    assert failure.error_class == "other"
    assert f" answered 200 with {media_type.partition(';')[0] or 'no media type'}, " in str(failure)
    assert f"which is no event stream: {excerpt}" in str(failure)
    assert str(failure).endswith("; check base_url")
    assert str(failure).isprintable()
    assert failure.request_id == "req_1"


@on_thread_and_loop
def test_a_page_without_end_is_told_by_its_first_bytes(ask: Ask) -> None:
    reply = ServerReply(headers={"content-type": "text/html"}, events=(HTML * 9, b"never"), stall_after=1)
    assert "which is no event stream" in str(hear(ask, reply, timeout_s=60.0).failure)


@on_thread_and_loop
def test_a_stream_under_a_wrong_media_type_is_read(ask: Ask) -> None:
    reply = stream_of(started(), text_block("x"), ended(), headers={"content-type": "application/json"})
    assert told(ask, reply).parts == [TextPart(text="x")]


@on_thread_and_loop
@pytest.mark.parametrize("body", [b"", b"\n\n"])
def test_a_200_of_nothing_is_tried_again(ask: Ask, body: bytes) -> None:
    failure = told(ask, ServerReply(body=body)).failure
    assert failure.error_class == "stream_cut"
    assert " and nothing in it; " in str(failure)


@on_thread_and_loop
@pytest.mark.parametrize(
    "raw", [b"ev", b"event: message_sta", b'data: {"type"', b": hello\n\n", b"\xef\xbb\xbfid: 1\n"]
)
def test_a_stream_that_is_cut_in_its_first_event_is_tried_again(ask: Ask, raw: bytes) -> None:
    assert told(ask, ServerReply(body=raw)).failure.error_class == "stream_cut"


@on_thread_and_loop
def test_a_proxys_502_is_a_server_error_with_the_page_in_a_line(ask: Ask) -> None:
    page = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n</html>\r\n"
    failure = told(ask, ServerReply(status=502, headers={"content-type": "text/html"}, body=page)).failure
    assert (failure.error_class, failure.request_id) == ("server", "req_1")
    assert str(failure) == (
        "HTTP 502: not an answer of the Messages API but text/html: "
        "<html> <head><title>502 Bad Gateway</title></head> </html>"
    )


@on_thread_and_loop
@pytest.mark.parametrize("end", [{"stall_after": 1}, {"cut_after": 1}])
def test_a_refusal_whose_page_stalls_or_breaks_off_is_known_by_its_status(
    ask: Ask, end: dict[str, int]
) -> None:
    reply = ServerReply(
        status=529,
        headers={"content-type": "application/json", "retry-after": "2"},
        events=(b'{"type": "error", "error": {"type":', b'"overloaded_error"}}'),
        **end,  # type: ignore[arg-type] # one of its numbers
    )
    failure = hear(ask, reply, timeout_s=SOON_S).failure
    assert (failure.error_class, failure.request_id, failure.retry_after_ms) == (
        "overloaded",
        "req_1",
        2_000.0,
    )
    assert str(failure).startswith("HTTP 529: ")


@on_thread_and_loop
def test_a_refusal_of_any_length_is_read_up_to_a_bound(ask: Ask) -> None:
    pieces = (b"x" * 100_000,) * (MAX_REFUSAL_BYTES // 100_000 + 2)
    reply = ServerReply(status=500, events=pieces, stall_after=len(pieces) - 1, framing="whole")
    failure = hear(ask, reply, timeout_s=60.0).failure
    assert failure.error_class == "server"
    assert len(str(failure)) < 700


@on_thread_and_loop
def test_a_refusal_of_broken_compression_is_known_by_its_status(ask: Ask) -> None:
    reply = ServerReply(status=503, headers={"content-encoding": "gzip"}, body=b"no gzip")
    assert told(ask, reply).failure.error_class == "server"


@on_thread_and_loop
def test_a_refusal_in_gzip_is_read(ask: Ask) -> None:
    error = b'{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}'
    failure = told(ask, ServerReply(status=529, events=(error,), gzip=True)).failure
    assert str(failure) == "HTTP 529 overloaded_error: busy"


@on_thread_and_loop
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_key_goes_nowhere(ask: Ask, status: int) -> None:
    with MessagesServer(["stolen"]) as other:
        place = other.base_url
        moved = ServerReply(status=status, headers={"location": f"{place}/v1/messages?a=b"}, body=b"")
        failure = told(ask, moved).failure
        assert other.requests == []
    assert (failure.error_class, failure.request_id) == ("invalid_request", "req_1")
    assert f" redirects to {place}, where the key is not sent; set base_url" in str(failure)


def test_a_hosts_own_client_follows_no_redirect_for_us_either() -> None:
    with (
        MessagesServer(["stolen"]) as other,
        MessagesServer([ServerReply(status=307, headers={"location": other.base_url}, body=b"")]) as server,
        anthropic.Anthropic(api_key=KEY, base_url=server.base_url) as client,
    ):
        (heard,) = ask_on_thread(AnthropicModel("m", client=client))
        assert other.requests == []
    assert "where the key is not sent" in str(heard.failure)


@on_thread_and_loop
@pytest.mark.parametrize(
    ("location", "said"), [("", "nowhere"), ("http://[::1", "http://[::1"), ("/login", "http://127.0.0.1")]
)
def test_a_redirect_to_an_odd_place_is_told(ask: Ask, location: str, said: str) -> None:
    failure = told(ask, ServerReply(status=302, headers={"location": location}, body=b"")).failure
    assert f"redirects to {said}" in str(failure)


@on_thread_and_loop
def test_a_server_that_takes_the_request_and_says_nothing_is_a_timeout(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        heard = ask(AnthropicModel("m", base_url=address, api_key=KEY, timeout_s=SOON_S))[0]
    assert (heard.failure.error_class, heard.signals) == ("timeout", [])


@on_thread_and_loop
def test_half_of_a_key_is_masked_where_a_foreign_text_is_cut(ask: Ask) -> None:
    key = "sk-ant-api03-0123456789"
    page = b"x" * 430 + key.encode() * 3
    with MessagesServer(
        [ServerReply(status=500, headers={"content-type": "text/plain"}, body=page)]
    ) as server:
        failure = ask(AnthropicModel("m", base_url=server.base_url, api_key=key))[0].failure
    assert str(failure).endswith("***…")
    assert "sk-ant-api03-0" not in str(failure)


@on_thread_and_loop
@pytest.mark.parametrize("status", [200, 500])
def test_an_id_of_a_request_is_told_in_a_bounded_line(ask: Ask, status: int) -> None:
    reply = ServerReply(status=status, headers={"request-id": "req\x1b[2J" + "x" * 500}, body=b"hi")
    request_id = told(ask, reply).failure.request_id
    assert request_id is not None
    assert request_id.isprintable()
    assert (request_id[:4], len(request_id)) == ("req\ufffd", 100)
