"""What is known of a connection on an event loop is what httpcore2's own stream says of it."""

from __future__ import annotations

import asyncio
import socket

from httpcore2 import AnyIOBackend

from agentkit_loop.models.anthropic_async_chunks import ReadingBackend, ReadStream
from agentkit_loop.testing import MessagesServer
from tests.loop.messages_api import ask_on_loop, model_at, request

INFOS = ("is_readable", "client_addr", "server_addr", "ssl_object", "later")


def told(stream: ReadStream) -> list[object]:
    """Return what a stream says; the same as the one within."""
    said = [stream.get_extra_info(info) for info in INFOS]
    assert said == [stream._inner.get_extra_info(info) for info in INFOS]
    return said


def test_a_connection_is_readable_once_something_came_or_it_ended() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            stream = await ReadingBackend(AnyIOBackend()).connect_tcp(*listener.getsockname())
            peer, _ = listener.accept()
            with peer:
                assert told(stream)[:2] == [False, peer.getpeername()]
                peer.sendall(b"x")
                assert told(stream)[0] is True
                assert await stream.read(9) == b"x"
                assert told(stream)[0] is False
            assert told(stream)[0] is True  # closed by the other end
            await stream.aclose()
            assert stream.get_extra_info("is_readable") is True

    asyncio.run(main())


def test_the_connection_of_one_request_is_the_next_ones() -> None:
    with MessagesServer(lambda _: "ok") as server:
        assert [heard.error for heard in ask_on_loop(model_at(server), *[request()] * 3)] == [None] * 3
        assert server.connections == 1
