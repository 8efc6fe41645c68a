"""Bodies are read past the layers of the transport only where nobody else looks at them on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_async_chunks import ReadStream, read_past_parser
from agentkit_loop.models.anthropic_interrupt import WatchedStream, watch
from agentkit_loop.models.anthropic_transport import achunks_of, chunks_of
from agentkit_loop.testing_server import MessagesServer, ServerReply
from tests.loop.messages_api import KEY, ask_on_loop, ask_on_thread, request, started

SAID, MEANT = b"hello", b"HELLO"


class Loud(httpx2.SyncByteStream):
    """A body that a host changes as it comes."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.inner:
            yield chunk.replace(SAID, MEANT)

    def close(self) -> None:
        self.inner.close()


class AsyncLoud(httpx2.AsyncByteStream):
    """The same on an event loop."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.inner:
            yield chunk.replace(SAID, MEANT)

    async def aclose(self) -> None:
        await self.inner.aclose()


def loud(response: httpx2.Response) -> httpx2.Response:
    is_sync = isinstance(response.stream, httpx2.SyncByteStream)
    response.stream = Loud(response.stream) if is_sync else AsyncLoud(response.stream)
    return response


def remade(response: httpx2.Response) -> httpx2.Response:
    """Return the response as middleware makes it anew, with all that it knew of the old one."""
    wrapped = loud(response)
    return httpx2.Response(
        response.status_code,
        headers=response.headers,
        stream=wrapped.stream,
        extensions=response.extensions,
        request=response.request,
    )


class LoudTransport(httpx2.HTTPTransport):
    """A transport of the host's own."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return loud(super().handle_request(request))


def by_middleware(change: Callable[[httpx2.Response], httpx2.Response]) -> Any:
    def middleware(asked: anthropic.APIRequest, call_next: Any) -> Any:
        response = call_next(asked)
        response.http_response = change(response.http_response)
        return response

    return middleware


def by_async_middleware(change: Callable[[httpx2.Response], httpx2.Response]) -> Any:
    async def middleware(asked: anthropic.APIRequest, call_next: Any) -> Any:
        response = await call_next(asked)
        response.http_response = change(response.http_response)
        return response

    return middleware


@pytest.mark.parametrize("change", [loud, remade])
@pytest.mark.parametrize("gzip", [False, True])
def test_middleware_sees_the_body_that_is_read(change: Any, gzip: bool) -> None:
    with MessagesServer(["hello you"] * 4, gzip=gzip) as server:
        expected = "hello you" if gzip else "HELLO you"  # packed, it is not there to be changed
        for make, ask in ((by_middleware, ask_on_thread), (by_async_middleware, ask_on_loop)):
            model = AnthropicModel("m", base_url=server.base_url, api_key=KEY, middleware=[make(change)])
            for heard in ask(model, request(), request()):
                assert heard.answer.finish_reason == "completed"
                assert "".join(heard.chunks) == expected
        assert server.connections == 2


def by_transport(base_url: str) -> httpx2.Client:
    return httpx2.Client(base_url=base_url, transport=LoudTransport())


def by_hook(base_url: str) -> httpx2.Client:
    return httpx2.Client(base_url=base_url, event_hooks={"response": [loud]})


@pytest.mark.parametrize("make", [by_transport, by_hook])
def test_a_transport_and_a_hook_of_the_host_see_it_too(make: Callable[[str], httpx2.Client]) -> None:
    with MessagesServer(["hello you"] * 2) as server, make(server.base_url) as http:
        client = anthropic.Anthropic(base_url=server.base_url, api_key=KEY, http_client=http)
        for heard in ask_on_thread(AnthropicModel("m", client=client), request(), request()):
            assert "".join(heard.chunks) == "HELLO you"
        assert server.connections == 1


def asked_otherwise(response: httpx2.Response) -> httpx2.Response:
    """Let a response say that it answers a request of the host's, which says no timeout."""
    response.request = httpx2.Request("POST", response.request.url)
    return response


def test_a_silent_server_is_a_timeout_though_middleware_changes_the_request_of_the_response() -> None:
    for make, ask in ((by_middleware, ask_on_thread), (by_async_middleware, ask_on_loop)):
        with MessagesServer([ServerReply(events=(started(),), stall_after=1)]) as server:
            model = AnthropicModel(
                "m",
                base_url=server.base_url,
                api_key=KEY,
                timeout_s=0.2,
                middleware=[make(asked_otherwise)],
            )
            assert ask(model)[0].failure.error_class == "timeout"


ASK: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 9,
    "stream": True,
    "messages": [{"role": "user", "content": "hi"}],
}


def test_a_body_that_nobody_wraps_is_read_past_the_layers() -> None:
    with MessagesServer(["hello"] * 2) as server:
        client = anthropic.Anthropic(base_url=server.base_url, api_key=KEY)
        assert watch(client)
        with client.messages.with_streaming_response.create(**ASK) as response:
            chunks: Any = chunks_of(response.http_response)
            assert chunks.gi_code is WatchedStream.body.__code__
            assert b"message_stop" in b"".join(chunks)

        async def read() -> bytes:
            async with anthropic.AsyncAnthropic(base_url=server.base_url, api_key=KEY) as on_loop:
                assert read_past_parser(on_loop)
                async with on_loop.messages.with_streaming_response.create(**ASK) as response:
                    chunks = achunks_of(response.http_response)
                    assert chunks.ag_code is ReadStream.body.__code__
                    return b"".join([chunk async for chunk in chunks])

        assert b"message_stop" in asyncio.run(read())
        client.close()
