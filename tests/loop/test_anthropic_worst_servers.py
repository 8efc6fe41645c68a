"""Servers that go on for ever, and servers that repeat what is secret; each over a real socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.testing_server import MessagesServer, ServerReply, encode_event
from tests.loop.messages_api import (
    KEY,
    Ask,
    ask_on_thread,
    ended,
    model_at,
    on_thread_and_loop,
    request,
    started,
    text_block,
)

DROP_S = 0.02  # between two drops
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWER = b"".join(encode_event(event) for event in [started(), *text_block("hello"), *ended()])


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


@contextlib.contextmanager
def dripping(head: bytes, drop: bytes) -> Iterator[str]:
    """Serve one request: the head at once, then drops until the client goes away."""
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(head)
            while not done.wait(DROP_S):
                connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join(10)


@on_thread_and_loop
def test_a_whole_answer_is_had_though_the_server_goes_on_talking(ask: Ask) -> None:
    with dripping(OK + chunk(ANSWER), chunk(b": ping\n\n")) as url:
        heard = ask(AnthropicModel("m", base_url=url, api_key=KEY))[0]
    assert heard.answer.finish_reason == "completed"
    assert heard.chunks == ["hello"]


@on_thread_and_loop
def test_a_whole_answer_is_had_though_the_response_never_ends(ask: Ask) -> None:
    with dripping(OK + chunk(ANSWER), b"") as url:  # nothing comes, nothing ends, and the timeout is far
        assert ask(AnthropicModel("m", base_url=url, api_key=KEY))[0].answer.response_id


def test_a_connection_is_used_again_after_one_that_never_ended() -> None:
    with dripping(OK + chunk(ANSWER), b"") as url, MessagesServer(["a", "b"]) as server:
        assert ask_on_thread(AnthropicModel("m", base_url=url, api_key=KEY))[0].answer.response_id
        first, second = ask_on_thread(model_at(server), request(), request())
        assert (first.chunks, second.chunks) == (["a"], ["b"])
        assert server.connections == 1


@on_thread_and_loop
@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (OK + chunk(encode_event(started()) + b"data: "), chunk(b"x")),
        (OK.replace(b"text/event-stream", b"text/html"), chunk(b"x")),
    ],
    ids=["event", "page"],
)
def test_drops_that_never_make_an_event_are_a_timeout(ask: Ask, head: bytes, drop: bytes) -> None:
    with dripping(head, drop) as url:
        heard = ask(AnthropicModel("m", base_url=url, api_key=KEY, timeout_s=0.3))[0]
    assert heard.failure.error_class == "timeout"
    assert "no whole event within the timeout of 0.3 s" in str(heard.failure)


@on_thread_and_loop
def test_a_refusal_whose_page_drips_is_told_by_its_status(ask: Ask) -> None:
    with dripping(BAD_GATEWAY + chunk(b"<html>bad "), chunk(b".")) as url:
        failure = ask(AnthropicModel("m", base_url=url, api_key=KEY))[0].failure
    assert failure.error_class == "server"
    assert "502" in str(failure)


SECRETS = {
    "the key": (KEY, {}),
    "a header of the host's": (
        "very-secret-token",
        {"extra_headers": {"Authorization": "Bearer very-secret-token"}},
    ),
}


@on_thread_and_loop
@pytest.mark.parametrize("name", SECRETS)
def test_a_server_that_repeats_a_secret_cannot_make_us_tell_it(ask: Ask, name: str) -> None:
    secret, options = SECRETS[name]
    refusal = ServerReply.refusal(400, "invalid_request_error", f"bad: {secret}", **{"request-id": secret})
    with MessagesServer([refusal]) as server:
        failure = ask(model_at(server, **options), request())[0].failure
    told = f"{failure!s} {failure!r} {failure.request_id} {''.join(traceback.format_exception(failure))}"
    assert secret not in told
    assert "***" in str(failure)


@on_thread_and_loop
def test_a_date_that_no_calendar_has_leaves_the_failure_what_it_is(ask: Ask) -> None:
    absurd = {"retry-after": "Wed, 21 Oct 99999999999 07:28:00 GMT"}
    with MessagesServer([ServerReply.refusal(429, "rate_limit_error", "slow", **absurd)]) as server:
        failure = ask(model_at(server))[0].failure
    assert failure.error_class == "rate_limited"
    assert failure.retry_after_ms is None


@on_thread_and_loop
def test_a_usage_object_of_odd_shape_costs_no_answer(ask: Ask) -> None:
    odd: dict[str, Any] = {"output_tokens": 5, "iterations": [{"type": ["x"]}, {"type": {}, "model": []}, 7]}
    events = [started(), *text_block("hello"), *ended(**odd)]
    with MessagesServer([ServerReply(body=b"".join(encode_event(event) for event in events))]) as server:
        heard = ask(model_at(server))[0]
    assert heard.answer.usage is not None
    assert heard.answer.usage.output_tokens == 5
