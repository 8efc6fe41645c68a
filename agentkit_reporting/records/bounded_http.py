"""The standard library's HTTP client, with answers that come within a time and redirects that are not followed.

Its own timeout is one for each wait, so that a server that sends a byte now and then, or `100 Continue` for ever,
holds its client as long as it likes. Here a connection's timeout is also that of its whole answer. Loads http and
ssl: imported where the first request is made.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LOOPBACK = ("localhost", "::1")


def opener_for(url: str) -> OpenerDirector:
    """Return what opens requests to a URL: through the proxies of the environment, none for loopback."""
    name = urlsplit(url).hostname or ""
    local = name in _LOOPBACK or name.startswith("127.")
    return build_opener(_Http, _Https, _NoRedirect, *([ProxyHandler({})] if local else []))


class _TimedSocket(io.RawIOBase):
    """What is read of a socket, within its timeout all in all."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw = sock, raw
        timeout_s = sock.gettimeout()
        self._until = None if timeout_s is None else time.monotonic() + timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_TimedSocket(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(HTTPSHandler):
    def __init__(self) -> None:
        super().__init__()
        self._trusted: ssl.SSLContext | None = None  # made once: it reads all certificates of the system

    def https_open(self, req: Request) -> HTTPResponse:
        if self._trusted is None:
            self._trusted = ssl.create_default_context()
        return self.do_open(_SecureConnection, req, context=self._trusted)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none: the token in the URL or a header is for this host alone."""
