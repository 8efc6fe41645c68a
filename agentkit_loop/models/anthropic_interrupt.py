"""How another thread ends a request wherever it waits: connecting, in TLS, sending, for the head, in the body.

On a thread nothing but the other end of a connection ends a read or a write before its timeout, so the socket is
shut. Which one it is tells a network backend of ours that `watch` puts around the transport's: a request has a
connection from the moment that it writes to it until the response is closed. A wait for a connection has no
socket that could be shut; it looks every LOOK_S seconds whether it is to go on.

What cannot be cut ends by its timeout: the look-up of a host's name, and, in a client that a host made, the wait
for a free connection of its pool, connections that are older than `watch`, a transport or network backend of the
host's own (their bodies can be cut where they show their socket), and HTTP/2, whose connections are shared.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from agentkit_loop.errors import ModelRequestError
from agentkit_loop.late import late_module
from agentkit_loop.models.anthropic_drain import shut
from agentkit_loop.models.http_chunks import READ_BYTES, BodyReader, is_http2

if TYPE_CHECKING:
    import anthropic

    from agentkit_loop.models.protocol import ModelRequest

if TYPE_CHECKING:
    import socket
else:
    socket = late_module("socket")  # 1 ms, and loaded with the SDK

LOOK_S = 0.02
"""Seconds between two looks of a request that connects at whether it was interrupted."""

_UNDER_WAY = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK})

_thread = threading.local()


class OpenRequest:
    """What is known of a request from the call of `stream` to its end: whether to go on, and on which socket.

    Its lock may be taken again on the thread that has it: a signal's handler may cancel at any place.
    """

    def __init__(self, request: ModelRequest) -> None:
        self.request = request  # held, so that its `id` stays its own
        self.is_interrupted = False
        self._lock = threading.RLock()
        self._socket: socket.socket | None = None

    def interrupt(self) -> None:
        """Let it end at its next look or, by shutting the socket that it has, at once."""
        with self._lock:
            self.is_interrupted = True
            shut(self._socket)

    def check(self) -> None:
        """Raise ModelRequestError once it was interrupted."""
        if self.is_interrupted:
            raise ModelRequestError("the request was interrupted", error_class="stream_cut")

    def hold(self, used: socket.socket | None) -> None:
        """Take note of the socket that is its own from here on; raises as `check` does."""
        with self._lock:
            self._socket = used
            self.check()  # after it: an interrupt in between has shut the socket

    def let_go(self, used: socket.socket | None = None) -> None:
        """Forget the socket, or only this one: from here on another request may have it."""
        with self._lock:
            if used is None or used is self._socket:
                self._socket = None

    @contextlib.contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """Let what this thread connects and writes to count as this request's."""
        before, _thread.request = current(), self
        try:
            yield
        finally:
            _thread.request = before


class OpenRequests:
    """The requests whose `stream` was called and is not yet over; one that is dropped unread is forgotten."""

    def __init__(self) -> None:
        self._found: weakref.WeakValueDictionary[int, OpenRequest] = weakref.WeakValueDictionary()

    def add(self, request: ModelRequest) -> OpenRequest:
        """Return the entry of a request, which is found as long as the caller holds it."""
        entry = self._found[id(request)] = OpenRequest(request)
        return entry

    def interrupt(self, request: ModelRequest) -> None:
        """Interrupt this very request, if it is open."""
        entry = self._found.get(id(request))
        if entry is not None:
            entry.interrupt()


def current() -> OpenRequest | None:
    """Return the request that this thread opens, if it opens one."""
    return getattr(_thread, "request", None)


_watching = threading.Lock()


def watch(client: anthropic.Anthropic) -> int:
    """Let the connections that a client makes from now on be known to `current`; return how many pools make them.

    Where the transport has other names one day, interrupts only wait for more than they had to.
    """
    return around_backends(client, WatchedBackend)


def around_backends(client: anthropic.Anthropic | anthropic.AsyncAnthropic, wrapper: type) -> int:
    """Put a wrapper around the network backend of each pool of a client; return how many pools have one.

    Neither the SDK nor its transport has a public way to a pool's network backend that leaves proxies and
    settings as they are.
    """
    http = getattr(client, "_client", None)
    mounts = getattr(http, "_mounts", None)
    wrapped = 0
    with _watching:
        for transport in (
            getattr(http, "_transport", None),
            *(mounts.values() if isinstance(mounts, dict) else ()),
        ):
            pool = getattr(transport, "_pool", None)
            backend = getattr(pool, "_network_backend", None)
            if pool is not None and backend is not None:
                if not isinstance(backend, wrapper):
                    pool._network_backend = wrapper(backend)  # noqa: SLF001 - as said above
                wrapped += 1
    return wrapped


class WatchedBackend:
    """A network backend of httpcore2 around another: its streams know which request writes to them."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.sleep = inner.sleep
        self._plain_stream = _plain_stream(inner)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Any:
        """Connect; raises what the backend does, and as `OpenRequest.check` does."""
        request, plain_stream = current(), self._plain_stream
        if request is None or plain_stream is None:
            return WatchedStream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))
        with _told_as_httpcore():
            made = _connected(host, port, timeout, local_address, request.check)
            try:
                for option in (*(socket_options or ()), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)):
                    made.setsockopt(*option)
            except BaseException:
                made.close()
                raise
        return WatchedStream(plain_stream(made))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> Any:
        """Connect on this machine."""
        return WatchedStream(self._inner.connect_unix_socket(path, timeout, socket_options))


class WatchedStream:
    """A network stream of httpcore2 around another; of a response to HTTP/1.1, `body` reads what is chunked."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._reader: BodyReader | None = None  # of a connection of HTTP/1.1, from its first request on
        self._timeout: float | None = None  # of a read, in seconds: the one that the head was read with
        found = inner.get_extra_info("socket")
        self._socket = found if isinstance(found, socket.socket) else None
        self._request: OpenRequest | None = None
        self._is_shared: bool | None = (
            None  # by several requests at a time; unknown before anything is written
        )

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, as a part of the request that this thread opens."""
        request = current()
        if request is not self._request:
            self._belong_to(request, buffer)
        if self._reader is not None:
            self._reader.begin()
        self._inner.write(buffer, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read for the protocol's parser."""
        self._timeout = timeout
        reader = self._reader
        if reader is None:
            data: bytes = self._inner.read(max_bytes, timeout)
            return data
        held = reader.held()
        return reader.feed(self._inner.read(max_bytes, timeout)) if held is None else held

    def body(self, parsed: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the body of a response as it comes. parsed: the same by the parser."""
        reader = self._reader
        if reader is not None and reader.is_past:
            if data := reader.take(b""):
                yield data
            read = self._reading()
            while reader.is_past:
                try:
                    came = read(READ_BYTES)
                except Exception as error:  # noqa: BLE001 - raised where the layers above expect it
                    reader.failure = _as_httpcore(error)
                    break
                if not came:
                    break
                if data := reader.take(came):
                    yield data
            reader.is_past = False
        yield from parsed

    def _reading(self) -> Callable[[int], bytes]:
        """Return what reads at most so many bytes: of a socket that is read as it is without a call in between."""
        if self._socket is None or type(self._inner) is not _socket_stream():
            return functools.partial(self._inner.read, timeout=self._timeout)
        self._socket.settimeout(self._timeout)
        return self._socket.recv

    def _belong_to(self, request: OpenRequest | None, written: bytes) -> None:
        if self._is_shared is None:
            self._is_shared = is_http2(written)
            if not self._is_shared:
                self._reader = BodyReader()
        self._let_go()
        if request is not None and not self._is_shared:
            request.hold(self._socket)
            self._request = request

    def _let_go(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.let_go(self._socket)

    def close(self) -> None:
        """Close it."""
        self._let_go()  # before the descriptor's number is free for another socket
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> WatchedStream:
        """Return the stream of a connection with TLS over this one."""
        self._let_go()
        request, plain = current(), self._socket
        if request is None or plain is None:
            return WatchedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))
        # The socket that we have is emptied while it is wrapped. One that is TLS already is not, and has no second.
        kept = plain.dup() if type(plain) is socket.socket else plain
        try:
            request.hold(kept)
            return WatchedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))
        except ModelRequestError:
            self._inner.close()
            raise
        finally:
            request.let_go(kept)
            if kept is not plain:
                kept.close()

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection, as httpcore2 names it."""
        if info == "is_readable":  # asked of an idle connection, before any other request may have it
            self._let_go()
        return self._inner.get_extra_info(info)


def _plain_stream(backend: Any) -> Callable[[socket.socket], Any] | None:
    """Return what httpcore2's own backend makes of a socket; None for another backend, which connects itself."""
    try:
        own = importlib.import_module("httpcore2").SyncBackend
    except (ImportError, AttributeError):
        return None
    return _socket_stream() if type(backend) is own else None


def _socket_stream() -> Any:
    """Return httpcore2's class of streams that are a socket and no more; None where it has another name one day."""
    try:
        return importlib.import_module("httpcore2._backends.sync").SyncStream
    except (ImportError, AttributeError):
        return None


@contextlib.contextmanager
def _told_as_httpcore() -> Iterator[None]:
    import httpcore2  # noqa: PLC0415 - on first use: it takes a tenth of a second

    try:
        yield
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout(error) from error
    except OSError as error:
        raise httpcore2.ConnectError(error) from error


def _as_httpcore(error: Exception) -> Exception:
    """Return what a read raised as httpcore2 tells it."""
    import httpcore2  # noqa: PLC0415 - as above

    if not isinstance(error, OSError):
        return error
    told = httpcore2.ReadTimeout(error) if isinstance(error, TimeoutError) else httpcore2.ReadError(error)
    told.__cause__ = error
    return told


def _connected(
    host: str, port: int, timeout: float | None, local_address: str | None, check: Callable[[], None]
) -> socket.socket:
    """Do what `socket.create_connection` does, with a look at `check` every LOOK_S seconds."""
    check()
    failed: OSError | None = None
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        check()
        made = None
        try:
            made = socket.socket(family, kind, protocol)
            if local_address is not None:
                made.bind((local_address, 0))
            _connect(made, place, timeout, check)
        except BaseException as error:
            if made is not None:
                made.close()
            if not isinstance(error, OSError):
                raise
            failed = error
        else:
            return made
    raise failed or OSError(f"no address found for {host!r}; give base_url= a host that has one")


def _connect(made: socket.socket, place: Any, timeout: float | None, check: Callable[[], None]) -> None:
    import selectors  # noqa: PLC0415 - loaded with the SDK

    made.settimeout(0)
    code = made.connect_ex(place)
    if code not in _UNDER_WAY:
        raise OSError(code, os.strerror(code))
    until = None if timeout is None else time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        selector.register(made, selectors.EVENT_WRITE)
        while not selector.select(LOOK_S):
            check()
            if until is not None and time.monotonic() > until:
                raise TimeoutError("timed out")
    code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    made.settimeout(timeout)
