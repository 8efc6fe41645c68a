"""What every request of ours does to the SDK's transport; installed as the SDK's middleware.

- No redirect is followed. The SDK would follow one and send its key along, to whatever host it points at.
- The page of a refusal is read up to a bound, and one that stalls or breaks off is taken as far as it came:
  its status and headers say what happened, and the SDK alone would lose them to the broken page.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from agentkit_loop.models.anthropic_async_chunks import ReadStream
from agentkit_loop.models.anthropic_drain import socket_of
from agentkit_loop.models.anthropic_interrupt import WatchedStream, current

if TYPE_CHECKING:
    import anthropic
    import httpx2

MAX_REFUSAL_BYTES = 2**20
"""How much of a refusal's page is read; the API's own are a few hundred bytes."""

REFUSAL_S = 2.0
"""Seconds for which a refusal's page is read where it comes in drops; what came is enough to say what it is."""

_OF_THE_WIRE = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


def once(request: anthropic.APIRequest, call_next: Callable[[anthropic.APIRequest], Any]) -> Any:
    """Send a request, follow no redirect, and read what a refusal says."""
    request.options.follow_redirects = False
    response = call_next(request)
    http: httpx2.Response = response.http_response
    if not http.is_success:
        response.http_response = _with_page(http, _page_of(http))
    return response


def _page_of(http: httpx2.Response) -> bytearray:
    """Read what a refusal says, and close it."""
    page, asked = bytearray(), current()
    try:
        if asked is not None:
            asked.hold(socket_of(http))
        with contextlib.suppress(*_broken()):
            until = time.monotonic() + REFUSAL_S
            for chunk in chunks_of(http):
                page += chunk
                if len(page) >= MAX_REFUSAL_BYTES or time.monotonic() > until:
                    break
    finally:
        if asked is not None:
            asked.let_go()  # before it is closed: then another request may have the connection
        http.close()
    return page


async def aonce(
    request: anthropic.APIRequest, call_next: Callable[[anthropic.APIRequest], Awaitable[Any]]
) -> Any:
    """Do the same on an event loop."""
    request.options.follow_redirects = False
    response = await call_next(request)
    http: httpx2.Response = response.http_response
    if not http.is_success:
        page = bytearray()
        with contextlib.suppress(*_broken()):
            async with contextlib.aclosing(http.aiter_bytes()) as chunks:
                until = time.monotonic() + REFUSAL_S
                async for chunk in chunks:
                    page += chunk
                    if len(page) >= MAX_REFUSAL_BYTES or time.monotonic() > until:
                        break
        await http.aclose()
        response.http_response = _with_page(http, page)
    return response


def chunks_of(response: httpx2.Response) -> Iterator[bytes]:
    """Return the body as it comes, with its content encoding undone, and leave the response open at its end.

    `iter_bytes` closes it there: another request may then have the connection before the reader knows. And
    where nothing is encoded it costs 2 µs a chunk.
    """
    if response.is_stream_consumed:  # by a host's middleware, which keeps what it read
        return response.iter_bytes()
    raw: Iterator[bytes] = iter(response.stream)  # type: ignore[arg-type] # that of a synchronous client
    stream = response.extensions.get("network_stream")
    if isinstance(stream, WatchedStream) and is_as_made(response.stream, LAYERS):
        raw = stream.body(raw)
    if "content-encoding" not in response.headers:
        return raw
    import httpx2  # noqa: PLC0415 - on first use: it takes a tenth of a second

    encoded = {"content-encoding": response.headers["content-encoding"]}
    return httpx2.Response(200, headers=encoded, content=raw).iter_bytes()


def achunks_of(response: httpx2.Response) -> Any:
    """Return the body on an event loop, where nobody shuts sockets; an asynchronous generator."""
    if "content-encoding" in response.headers or response.is_stream_consumed:
        return response.aiter_bytes()
    raw: Any = aiter(response.stream)  # type: ignore[arg-type] # as above
    stream = response.extensions.get("network_stream")
    if isinstance(stream, ReadStream) and is_as_made(response.stream, LAYERS_ON_LOOP):
        raw = stream.body(raw)
    return raw


LAYERS = (
    ("httpx2._client", "BoundSyncStream", "_stream"),
    ("httpx2._transports.default", "ResponseStream", "_httpcore_stream"),
    ("httpcore2._sync.connection_pool", "PoolByteStream", "_stream"),
)
LAYERS_ON_LOOP = (
    ("httpx2._client", "BoundAsyncStream", "_stream"),
    ("httpx2._transports.default", "AsyncResponseStream", "_httpcore_stream"),
    ("httpcore2._async.connection_pool", "PoolByteStream", "_stream"),
)
"""What the transport puts around the body of a connection, from the outside: module, class, what is within."""


def is_as_made(stream: Any, layers: tuple[tuple[str, str, str], ...]) -> bool:
    """Whether nobody put a stream of their own around a body: middleware, a hook or a transport of the host's.

    What is read past the layers passes such a stream by. Where the classes have other names one day, none is.
    """
    for module, name, within in layers:
        if type(stream) is not _class_of(module, name):
            return False
        stream = getattr(stream, within, None)
    return True


@functools.cache
def _class_of(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _broken() -> tuple[type[Exception], ...]:
    import httpx2  # noqa: PLC0415 - on first use: it takes a tenth of a second

    return httpx2.TransportError, httpx2.DecodingError


def _with_page(http: httpx2.Response, page: bytearray) -> httpx2.Response:
    import httpx2  # noqa: PLC0415 - the same

    # Raw, because a header may hold bytes of any kind.
    headers = [(name, value) for name, value in http.headers.raw if name.lower() not in _OF_THE_WIRE]
    return httpx2.Response(http.status_code, headers=headers, content=bytes(page), request=http.request)
