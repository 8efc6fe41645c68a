"""On an event loop: what came together is read as one chunk there as well (http_chunks.py).

On a thread the backend that knows whose a connection is does it by the way (anthropic_interrupt.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentkit_loop.models.anthropic_interrupt import around_backends
from agentkit_loop.models.http_chunks import ChunkMerger, is_http2

if TYPE_CHECKING:
    import anthropic

__all__ = ["MergingBackend", "merge_chunks"]


def merge_chunks(client: anthropic.AsyncAnthropic) -> int:
    """Have the connections that a client makes from now on read so; return how many pools make them."""
    return around_backends(client, MergingBackend)


class MergingBackend:
    """An asynchronous network backend of httpcore2 around another."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.sleep = inner.sleep

    async def connect_tcp(self, *args: Any, **options: Any) -> Any:
        """Connect, as the other one does."""
        return _Stream(await self._inner.connect_tcp(*args, **options))

    async def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        """Connect on this machine."""
        return _Stream(await self._inner.connect_unix_socket(*args, **options))


class _Stream:
    """A network stream of httpcore2 around another."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._merger: ChunkMerger | None = None  # of a connection of HTTP/1.1, from its first request on
        self._is_shared: bool | None = None  # unknown before anything is written
        self.aclose = inner.aclose
        self.get_extra_info = inner.get_extra_info

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        data: bytes = await self._inner.read(max_bytes, timeout)
        return data if self._merger is None else self._merger.feed(data)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the same
        if self._is_shared is None and buffer:
            self._is_shared = is_http2(buffer)
            self._merger = None if self._is_shared else ChunkMerger()
        if self._merger is not None:
            self._merger.begin()
        await self._inner.write(buffer, timeout)

    async def start_tls(self, *args: Any, **options: Any) -> _Stream:
        return _Stream(await self._inner.start_tls(*args, **options))
