"""The end of a response whose answer is whole: only once it is read is its connection used again.

Most often it came with the answer. A server that goes on talking, or never ends the response, has DRAIN_S;
then the connection is let go. On a thread nothing but the other end can end a read before its timeout, so one
daemon thread looks after the sockets that are read from here; it ends when there was nothing to do for a while.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from agentkit_loop.late import late_module

if TYPE_CHECKING:
    import socket
else:
    socket = late_module("socket")  # 1 ms, and loaded with the SDK

DRAIN_S = 1.0
"""Seconds for the end of a response whose answer is whole."""

LOOK_S = 0.25
"""Seconds between two looks at what is overdue."""

IDLE_S = 10.0
"""Seconds without a socket to look after, after which the thread ends."""


def drain(response: Any, chunks: Iterator[bytes]) -> None:
    """Read to the end of the response; raises TimeoutError, or what the transport says of a shut socket."""
    until = time.monotonic() + DRAIN_S
    with _overdue.shut(socket_of(response), until):
        for _ in chunks:
            if time.monotonic() > until:
                raise TimeoutError


async def adrain(chunks: AsyncIterator[bytes]) -> None:
    """Do the same on an event loop."""
    import asyncio  # noqa: PLC0415 - a tenth of what a start takes; who is here has loaded it

    async with asyncio.timeout(DRAIN_S):
        async for _ in chunks:
            pass


def socket_of(response: Any) -> socket.socket | None:
    """Return the socket that an open response of httpx2 has for itself, None where its transport shows none.

    A response that was read to its end has given it back, and one of HTTP/2 shares it.
    """
    if response.is_closed or response.extensions.get("http_version") == b"HTTP/2":
        return None
    stream = response.extensions.get("network_stream")
    found = None if stream is None else stream.get_extra_info("socket")
    return found if isinstance(found, socket.socket) else None


def shut(read: socket.socket | None) -> None:
    """Let whoever reads from a socket find its end, from any thread."""
    if read is not None:
        with contextlib.suppress(OSError):  # gone already
            # Past what a TLS socket would do to itself while it is read from.
            socket.socket.shutdown(read, socket.SHUT_RDWR)


class _Overdue:
    """Shuts sockets that are read from for too long, so that the read ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[socket.socket, float] = {}  # until when
        self._serving = False
        self._pid = os.getpid()

    @contextlib.contextmanager
    def shut(self, read: socket.socket | None, until: float) -> Iterator[None]:
        """Shut the socket unless the block is left before `until`, monotonic, or up to LOOK_S after it."""
        if read is None:
            yield
            return
        if self._pid != os.getpid():  # a child has no thread, and perhaps a locked lock
            self.__init__()  # type: ignore[misc] # everything anew
        with self._lock:
            self._read[read] = until
            if not self._serving:
                self._serving = True
                threading.Thread(target=self._serve, name="agentkit-drain", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:  # from here on it is left alone: another request may have it
                self._read.pop(read, None)

    def _serve(self) -> None:
        idle = threading.Event()  # never set: it only waits
        ends = time.monotonic() + IDLE_S
        while True:
            idle.wait(LOOK_S)
            now = time.monotonic()
            with self._lock:
                if self._read:
                    ends = now + IDLE_S
                elif now > ends:
                    self._serving = False
                    return
                for read in [each for each, until in self._read.items() if now > until]:
                    del self._read[read]
                    shut(read)


_overdue = _Overdue()
