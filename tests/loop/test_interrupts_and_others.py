"""An interrupt never shuts a connection that serves the request of another session by then."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from agentkit_loop.errors import ModelRequestError
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_interrupt import OpenRequest, WatchedBackend
from agentkit_loop.models.anthropic_transport import chunks_of
from agentkit_loop.models.protocol import Answer, ModelRequest
from agentkit_loop.testing_server import MessagesServer, ServerReply
from tests.loop.interrupting import (
    PATIENCE_S,
    STALLING,
    Hidden,
    host_client,
    model_for,
    whole,
)
from tests.loop.messages_api import KEY, request
from tests.loop.silent_servers import SilentServer


class Other:
    """Another session's request, which waits in the middle of its answer on the only connection."""

    def __init__(self, server: MessagesServer, model: AnthropicModel) -> None:
        self.is_whole = False
        self._server, self._model = server, model
        self._streams = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        for came in self._model.stream(request()):
            self._streams.set()
            self.is_whole = isinstance(came[-1], Answer)

    def begin(self) -> None:
        self._thread.start()
        assert self._streams.wait(PATIENCE_S)
        assert self._server.connections == 1

    def end(self) -> None:
        self._server.release()
        self._thread.join(PATIENCE_S)


def test_a_connection_that_serves_another_request_by_now_is_left_alone() -> None:
    with MessagesServer(["one", STALLING]) as server:
        model, asked = model_for(server.base_url), request()
        other = Other(server, model)
        for came in model.stream(asked):
            if isinstance(came[-1], Answer):  # the stream is not over, and its response is
                other.begin()
                model.interrupt(asked)
        other.end()
        model.close()
    assert other.is_whole


@pytest.mark.parametrize(
    "first", ["one", ServerReply.refusal(529, "overloaded_error", "busy")], ids=["read", "refused"]
)
@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_a_connection_that_was_given_back_inside_the_sdk_is_left_alone(first: Any, gzip: bool) -> None:
    """A host's middleware may read a response to its end, as ours does with a refusal's page."""
    asked = request("mine")

    def read(sent: anthropic.APIRequest, call_next: Any) -> Any:
        response = call_next(sent)
        if "mine" in str(sent.options.json_data):
            response.http_response.read()
            other.begin()
            model.interrupt(asked)
        return response

    with MessagesServer([first, STALLING], gzip=gzip) as server, host_client(server.base_url) as client:
        model = AnthropicModel("m", client=client.with_middleware(read), timeout_s=20)
        other = Other(server, model)
        with pytest.raises(ModelRequestError):
            list(model.stream(asked))
        other.end()
    assert other.is_whole


def test_a_body_that_a_host_has_read_is_not_cut() -> None:
    """Its connection serves another request by then, and its transport does not tell."""

    def read(sent: anthropic.APIRequest, call_next: Any) -> Any:
        response = call_next(sent)
        if "mine" in str(sent.options.json_data):
            response.http_response.read()
            other.begin()
        return response

    with (
        MessagesServer(["one", STALLING]) as server,
        host_client(server.base_url, transport=Hidden()) as client,
    ):
        model, asked = AnthropicModel("m", client=client.with_middleware(read), timeout_s=20), request("mine")
        other = Other(server, model)
        signals = []
        for came in model.stream(asked):
            signals += came
            model.interrupt(asked)
        assert isinstance(signals[-1], Answer)
        other.end()
    assert other.is_whole


@pytest.mark.parametrize("hidden", [False, True], ids=["watched", "hidden"])
def test_an_interrupt_after_the_response_leaves_the_connection_alone(hidden: bool) -> None:
    options = {"transport": Hidden()} if hidden else {}
    with MessagesServer(["one", "two"]) as server, host_client(server.base_url, **options) as client:
        model, asked = AnthropicModel("m", client=client, timeout_s=20), request()
        for came in model.stream(asked):
            if isinstance(came[-1], Answer):
                model.interrupt(asked)
        assert whole(model)
        assert server.connections == 1


def test_an_idle_connection_belongs_to_nobody() -> None:
    """Between the end of a response and the next request that is written, nobody has said so."""
    import httpcore2  # noqa: PLC0415 - of this test only

    entry = OpenRequest(request())
    backend: Any = WatchedBackend(httpcore2.SyncBackend())
    with MessagesServer() as server, httpcore2.ConnectionPool(network_backend=backend) as pool:
        with entry.on_this_thread():
            assert pool.request("GET", server.base_url).status == 404
        entry.interrupt()
        assert pool.request("GET", server.base_url).status == 404
        assert server.connections == 1


@pytest.mark.parametrize("shared", [False, True], ids=["http1", "http2"])
def test_a_connection_that_requests_share_is_not_shut(shared: bool) -> None:
    import httpcore2  # noqa: PLC0415 - of this test only

    entry, came = OpenRequest(request()), []

    def serve(connection: socket.socket) -> None:
        came.append(connection.recv(2**16))
        came.append(connection.recv(2**16))

    with SilentServer(serve) as server, entry.on_this_thread():
        stream = WatchedBackend(httpcore2.SyncBackend()).connect_tcp("127.0.0.1", server.port, timeout=20)
        stream.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if shared else b"POST / HTTP/1.1\r\n\r\n")
        entry.interrupt()
        with contextlib.nullcontext() if shared else pytest.raises(httpcore2.WriteError):
            stream.write(b"more")
        stream.close()
        assert server.gone.wait(PATIENCE_S)
    assert (b"".join(came)[-4:] == b"more") is shared


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_who_reads_a_body_says_when_its_connection_is_given_back(gzip: bool) -> None:
    with MessagesServer(["one"], gzip=gzip) as server, httpx2.Client() as client:
        body = {
            "model": "m",
            "max_tokens": 1,
            "stream": True,
            "messages": [{"role": "user", "content": "go"}],
        }
        url, headers = f"{server.base_url}/v1/messages", {"x-api-key": KEY}
        with client.stream("POST", url, json=body, headers=headers) as response:
            assert b"message_stop" in b"".join(chunks_of(response))
            assert not response.is_closed


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_an_interrupt_at_any_time_never_ends_the_request_of_another_session(gzip: bool) -> None:
    """Half of the requests that share a pool are interrupted, also when they are over; the others come whole."""
    chance, lock = random.Random(7), threading.Lock()  # noqa: S311 - no secret
    refused = ServerReply.refusal(529, "overloaded_error", "busy")
    broken: list[str] = []
    mine: list[tuple[ModelRequest, Iterator[Any]]] = []

    def bystander(model: AnthropicModel) -> None:
        for _ in range(40):
            try:
                whole(model)
            except ModelRequestError as error:
                broken.append(str(error))

    def victim(model: AnthropicModel) -> None:
        for _ in range(40):
            asked = request("mine")
            stream = model.stream(asked)
            with lock:
                mine.append((asked, stream))
                del mine[:-8]
            with contextlib.suppress(ModelRequestError):
                while not isinstance(next(stream)[-1], Answer):
                    pass

    def answer(body: Any) -> Any:
        return refused if "mine" in str(body) and chance.random() < 0.3 else "answer"

    with MessagesServer(answer, gzip=gzip) as server:
        model = model_for(server.base_url)
        threads = [threading.Thread(target=run, args=(model,)) for run in (bystander, victim) * 2]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with lock:
                asked = chance.choice(mine)[0] if mine else request()
            model.interrupt(asked)
        model.close()
    assert broken == []
