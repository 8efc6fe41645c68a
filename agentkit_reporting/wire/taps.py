"""Streams of httpx2 around others: what passes is noted, at once passed on, and never kept back.

The module loads httpx2; it is imported by what captures, at its first use.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import httpx2

from agentkit_reporting.wire.exchange import Exchange, SentRequest

__all__ = ["AsyncTap", "Tap", "headers_of", "note_response", "sent_request"]

ABANDONED = "abandoned"
"""Whoever read a response let go of it before its end."""


class _TapBase:
    """What both forms share. It ends the exchange when it is let go of, at the latest."""

    def __init__(self, inner: Any, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)  # `elapsed`, which the response asks for

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the end of the interpreter nothing may be left to tell
            self._exchange.end(ABANDONED)


class Tap(_TapBase, httpx2.SyncByteStream):
    """A synchronous body on its way."""

    def __iter__(self) -> Iterator[bytes]:
        exchange = self._exchange
        note = exchange.note_chunk
        try:
            for chunk in self._inner:
                note(chunk)
                yield chunk
        except GeneratorExit:
            raise  # it may be read on; `close` says that it is not
        except BaseException as error:
            exchange.end("cut" if isinstance(error, Exception) else ABANDONED, error)
            raise
        exchange.end("complete")

    def close(self) -> None:
        """Close the stream within, and take note that it was."""
        try:
            self._inner.close()
        finally:
            self._exchange.end(ABANDONED)


class AsyncTap(_TapBase, httpx2.AsyncByteStream):
    """An asynchronous body on its way."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange = self._exchange
        note = exchange.note_chunk
        chunks = self._inner.__aiter__()
        try:
            async for chunk in chunks:
                note(chunk)
                yield chunk
        except GeneratorExit:
            raise  # as above
        except BaseException as error:
            exchange.end("cut" if isinstance(error, Exception) else ABANDONED, error)
            raise
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        exchange.end("complete")

    async def aclose(self) -> None:
        """Close the stream within, and take note that it was."""
        try:
            await self._inner.aclose()
        finally:
            self._exchange.end(ABANDONED)


def note_response(exchange: Exchange, response: httpx2.Response) -> None:
    """Take note of a response: whole where it was read already, else of what is read of it from here on."""
    version = response.extensions.get("http_version")
    exchange.note_head(
        response.status_code,
        headers_of(response.headers),
        version.decode("ascii", "replace") if isinstance(version, bytes) else None,
    )
    if response.is_stream_consumed or response.is_closed:
        try:
            content = response.content
        except httpx2.ResponseNotRead:
            exchange.end(ABANDONED)
            return
        exchange.is_unpacked = True
        exchange.note_chunk(content)
        exchange.end("complete")
    elif isinstance(response.stream, httpx2.AsyncByteStream) and not isinstance(
        response.stream, httpx2.SyncByteStream
    ):
        response.stream = AsyncTap(response.stream, exchange)
    elif isinstance(response.stream, httpx2.AsyncByteStream):  # of bytes that are there: it is both
        exchange.is_unpacked = False
        exchange.note_chunk(b"".join(response.stream))
        exchange.end("complete")
    else:
        response.stream = Tap(response.stream, exchange)


def headers_of(headers: httpx2.Headers) -> list[tuple[str, str]]:
    """Return headers as they were sent; bytes of any kind as latin-1, as HTTP has them."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw]


def sent_request(request: httpx2.Request) -> SentRequest:
    """Return a request as it leaves."""
    content: bytes | None
    try:
        content = request.content
    except httpx2.RequestNotRead:
        content = None
    return SentRequest(
        method=request.method,
        url=str(request.url),
        headers=headers_of(request.headers),
        content=content,
        size=None if content is None else len(content),
    )
