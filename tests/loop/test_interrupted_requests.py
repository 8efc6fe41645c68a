"""`interrupt` ends a request wherever it waits."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

import anthropic
import httpx2
import pytest

from agentkit_loop.errors import ModelRequestError
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_interrupt import OpenRequest, WatchedBackend, current, watch
from agentkit_loop.models.protocol import Answer, ModelRequest
from agentkit_loop.testing_server import MessagesServer, ServerReply, encode_event
from tests.loop.interrupting import (
    PATIENCE_S,
    STALLING,
    Hidden,
    host_client,
    interrupted,
    model_for,
    once,
    whole,
)
from tests.loop.messages_api import KEY, ask_on_thread, ended, request, started, stream_of, text_block
from tests.loop.silent_servers import SilentServer, full_backlog, some_of_it, tls


def holding_head(ready: threading.Event, *before: Any) -> Any:
    """Answer with these, and then keep the head back; `ready` once that request is there."""
    replies = iter(before)

    def answer(_: Any) -> Any:
        reply = next(replies, None)
        if reply is None:
            ready.set()
        return reply or ServerReply(stall_head=True)

    return answer


def test_a_request_that_waits_for_the_head_on_a_new_connection_ends() -> None:
    ready = threading.Event()
    with MessagesServer(holding_head(ready)) as server:
        interrupted(model_for(server.base_url), request(), ready)
        assert server.wait_for_abort()


def test_a_request_that_waits_for_the_head_on_a_used_connection_ends() -> None:
    ready = threading.Event()
    with MessagesServer(holding_head(ready, "one", "two")) as server:
        model = model_for(server.base_url)
        assert whole(model)
        assert whole(model)
        interrupted(model, request(), ready)
        assert server.wait_for_abort()
        assert server.connections == 1


def test_a_hosts_own_client_is_interrupted_the_same() -> None:
    ready = threading.Event()
    with (
        MessagesServer(holding_head(ready, "one")) as server,
        host_client(server.base_url) as client,
    ):
        model = AnthropicModel("m", client=client, timeout_s=20)
        assert whole(model)
        interrupted(model, request(), ready)
        assert server.wait_for_abort()
        assert server.connections == 1


def test_a_request_that_sends_a_body_that_nobody_reads_ends() -> None:
    with SilentServer(some_of_it, reads=False) as server:
        model = model_for(f"http://127.0.0.1:{server.port}")
        interrupted(model, request("x" * 40_000_000), server.reached)


def test_a_request_that_waits_for_a_handshake_ends() -> None:
    with SilentServer(some_of_it) as server:
        interrupted(model_for(f"https://127.0.0.1:{server.port}"), request(), server.reached)
        assert server.gone.wait(PATIENCE_S)


def test_a_request_that_waits_for_a_proxy_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with SilentServer(some_of_it) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        interrupted(model_for("https://api.invalid"), request(), server.reached)
        assert server.gone.wait(PATIENCE_S)


def test_a_request_that_waits_for_the_page_of_a_refusal_ends() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(b"HTTP/1.1 529 \r\ncontent-length: 100\r\n\r\n<html>")

    with SilentServer(refuse) as server:
        model = model_for(f"http://127.0.0.1:{server.port}")
        error_class = interrupted(model, request(), server.reached)
        # What came of the refusal is told; the interrupt may have been faster than it.
        assert error_class in {"overloaded", "connection", "stream_cut"}
        assert server.gone.wait(PATIENCE_S)


class LookedAt(OpenRequest):
    """Says when it was looked at so often that the request must be connecting."""

    def __init__(self, asked: ModelRequest, looks: int) -> None:
        super().__init__(asked)
        self.waits = threading.Event()
        self._looks = looks

    def check(self) -> None:
        super().check()
        self._looks -= 1
        if self._looks == 0:
            self.waits.set()


def test_a_connection_that_is_not_answered_is_given_up() -> None:
    import httpcore2  # noqa: PLC0415 - of this test only

    entry = LookedAt(request(), looks=5)
    backend = WatchedBackend(httpcore2.SyncBackend())
    with once(entry.waits, entry.interrupt), full_backlog() as port, entry.on_this_thread():  # noqa: SIM117 - a line
        with pytest.raises(ModelRequestError):
            backend.connect_tcp("127.0.0.1", port, timeout=20)
    assert entry.waits.is_set()


def test_a_connection_that_is_not_answered_has_a_timeout_still() -> None:
    import httpcore2  # noqa: PLC0415 - of this test only

    backend = WatchedBackend(httpcore2.SyncBackend())
    with full_backlog() as port, OpenRequest(request()).on_this_thread():  # noqa: SIM117 - the port is used below
        with pytest.raises(httpcore2.ConnectTimeout):
            backend.connect_tcp("127.0.0.1", port, timeout=0.1)
    with OpenRequest(request()).on_this_thread(), pytest.raises(httpcore2.ConnectError, match="refused"):
        backend.connect_tcp("127.0.0.1", port, timeout=20)
    assert current() is None


def test_a_request_that_was_interrupted_before_it_began_asks_nobody() -> None:
    with MessagesServer(["never"]) as server:
        model = model_for(server.base_url)
        asked = request()
        stream = model.stream(asked)
        model.interrupt(asked)
        with pytest.raises(ModelRequestError, match="interrupted"):
            next(stream)
        assert server.connections == 0
        assert whole(model, asked)  # asking again is another request


def test_an_interrupt_inside_what_a_host_does_with_a_request_comes_before_the_connection() -> None:
    asked = request()

    def first(sent: anthropic.APIRequest, call_next: Any) -> Any:
        model.interrupt(asked)
        return call_next(sent)

    with MessagesServer(["never"]) as server, host_client(server.base_url) as client:
        model = AnthropicModel("m", client=client.with_middleware(first), timeout_s=20)
        with pytest.raises(ModelRequestError, match="interrupted"):
            list(model.stream(asked))
        assert server.requests == []


def test_an_interrupt_of_an_unknown_or_finished_request_does_nothing() -> None:
    with MessagesServer(["one", "two"]) as server:
        model, asked = model_for(server.base_url), request()
        model.interrupt(asked)
        assert whole(model, asked)
        model.interrupt(asked)
        assert whole(model)
        assert server.connections == 1
        model.close()


def test_an_answer_that_is_whole_is_not_lost_to_an_interrupt() -> None:
    """Its response does not end, so that it is interrupted while the end of the response is awaited."""
    endless = stream_of(started(), text_block("one"), ended(), stall_after=6, framing="whole")
    with MessagesServer([endless, "two"]) as server:
        model, asked = model_for(server.base_url), request()
        signals = []
        for came in model.stream(asked):
            signals += came
            model.interrupt(asked)
        assert isinstance(signals[-1], Answer)
        assert server.wait_for_abort()
        assert whole(model)
        model.close()


def test_the_body_of_a_hosts_own_transport_is_cut() -> None:
    with (
        MessagesServer([STALLING]) as server,
        host_client(server.base_url, transport=Hidden()) as client,
    ):
        model, asked = AnthropicModel("m", client=client, timeout_s=20), request()
        assert watch(client) == 0
        with pytest.raises(ModelRequestError) as raised:
            for _ in model.stream(asked):
                model.interrupt(asked)
        assert raised.value.error_class == "stream_cut"
        with pytest.raises(ModelRequestError, match="interrupted"):
            stream = model.stream(asked)
            model.interrupt(asked)
            next(stream)
        assert len(server.requests) == 1


def test_a_client_of_the_sdk_has_a_pool_that_can_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the SDK or its transport has moved what `watch` reaches for: interrupts wait for timeouts."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with anthropic.Anthropic(api_key=KEY) as client:
        assert watch(client) == 2  # the transport's and the proxy's
        assert watch(client) == 2  # and no second layer
    import httpcore2  # noqa: PLC0415 - of this test only

    assert WatchedBackend(httpcore2.SyncBackend())._plain_stream is not None


def test_a_transport_of_a_hosts_own_is_left_alone() -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(529, json={"type": "error", "error": {"type": "overloaded_error"}})

    with host_client("http://model.invalid", transport=httpx2.MockTransport(answer)) as client:
        assert watch(client) == 0
        (heard,) = ask_on_thread(AnthropicModel("m", client=client))
        assert heard.failure.error_class == "overloaded"


def test_a_request_over_tls_is_interrupted_on_a_used_connection() -> None:
    ready, seen = threading.Event(), []
    body = b"".join(map(encode_event, (started(), *text_block("one"), *ended())))
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b"

    def serve(connection: socket.socket) -> None:
        seen.append(connection)
        with tls(ssl.PROTOCOL_TLS_SERVER).wrap_socket(connection, server_side=True) as secured:
            read_request(secured)
            secured.sendall(reply % (len(body), body))
            read_request(secured)
            ready.set()
            assert secured.recv(1) == b""

    with (
        SilentServer(serve) as server,
        host_client(f"https://127.0.0.1:{server.port}", verify=tls(ssl.PROTOCOL_TLS_CLIENT)) as client,
    ):
        model = AnthropicModel("m", client=client, timeout_s=20)
        assert whole(model)
        interrupted(model, request(), ready)
        assert server.gone.wait(PATIENCE_S)
        assert len(seen) == 1


def read_request(connection: socket.socket) -> None:
    """Read what `request()` is sent as."""
    came = b""
    while b"\r\n\r\n" not in came or not came.endswith(b"}"):
        more = connection.recv(2**16)
        assert more
        came += more
