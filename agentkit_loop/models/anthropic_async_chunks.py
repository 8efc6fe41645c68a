"""On an event loop: chunked bodies are read past the protocol's parser there as well (http_chunks.py).

On a thread the backend that knows whose a connection is does it by the way (anthropic_interrupt.py).
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from agentkit_loop.models.anthropic_interrupt import around_backends
from agentkit_loop.models.http_chunks import READ_BYTES, BodyReader, is_http2

if TYPE_CHECKING:
    import anthropic

__all__ = ["ReadingBackend", "read_past_parser"]


def read_past_parser(client: anthropic.AsyncAnthropic) -> int:
    """Have the connections that a client makes from now on read so; return how many pools make them."""
    return around_backends(client, ReadingBackend)


class ReadingBackend:
    """An asynchronous network backend of httpcore2 around another."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.sleep = inner.sleep

    async def connect_tcp(self, *args: Any, **options: Any) -> Any:
        """Connect, as the other one does."""
        return ReadStream(await self._inner.connect_tcp(*args, **options))

    async def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        """Connect on this machine."""
        return ReadStream(await self._inner.connect_unix_socket(*args, **options))


class ReadStream:
    """A network stream of httpcore2 around another; see WatchedStream."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._reader: BodyReader | None = None  # of a connection of HTTP/1.1, from its first request on
        self._timeout: float | None = None  # of a read, in seconds: the one that the head was read with
        self._is_shared: bool | None = None  # unknown before anything is written
        self._socket: Any = None  # once it was asked for
        self.aclose = inner.aclose

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection, as httpcore2 names it.

        Whether it is readable is asked of each idle connection before each request. The stream within makes a table of
        all that is known for the answer, the peer's address too: four fifths of the cost.
        """
        if info != "is_readable" or not hasattr(select, "poll"):
            return self._inner.get_extra_info(info)
        if self._socket is None:
            self._socket = self._inner.get_extra_info("socket")
        descriptor = -1 if self._socket is None else self._socket.fileno()
        if descriptor < 0:
            return self._inner.get_extra_info(info)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        """Read for the protocol's parser."""
        self._timeout = timeout
        reader = self._reader
        if reader is None:
            data: bytes = await self._inner.read(max_bytes, timeout)
            return data
        held = reader.held()
        return reader.feed(await self._inner.read(max_bytes, timeout)) if held is None else held

    async def body(self, parsed: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        """Yield the body of a response as it comes. parsed: the same by the parser."""
        reader = self._reader
        async with contextlib.aclosing(parsed):
            if reader is not None and reader.is_past:
                if data := reader.take(b""):
                    yield data
                while reader.is_past:
                    try:
                        came = await self._inner.read(READ_BYTES, self._timeout)
                    except Exception as error:  # noqa: BLE001 - raised where the layers above expect it
                        reader.failure = error
                        break
                    if not came:
                        break
                    if data := reader.take(came):
                        yield data
                reader.is_past = False
            async for chunk in parsed:
                yield chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the same
        if self._is_shared is None and buffer:
            self._is_shared = is_http2(buffer)
            self._reader = None if self._is_shared else BodyReader()
        if self._reader is not None:
            self._reader.begin()
        await self._inner.write(buffer, timeout)

    async def start_tls(self, *args: Any, **options: Any) -> ReadStream:
        return ReadStream(await self._inner.start_tls(*args, **options))
