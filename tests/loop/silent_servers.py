"""Servers on the loopback that stop at a place of the test's choice and tell when it was reached."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Self

Serve = Callable[[socket.socket], None]


class SilentServer:
    """Serves each connection with a function, and then says nothing until the client goes.

    reached: set once that function has returned. gone: set when a client has gone after that. reads: whether
    what comes after that is read; if not, the client's going is not seen.
    """

    def __init__(self, serve: Serve, *, reads: bool = True) -> None:
        self.reached, self.gone = threading.Event(), threading.Event()
        self._serve, self._reads = serve, reads
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        self._listener.close()

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is shut
            while True:
                connection = self._listener.accept()[0]
                self._start(lambda served=connection: self._keep(served))  # type: ignore[misc] # bound now

    def _keep(self, connection: socket.socket) -> None:
        with connection:
            with contextlib.suppress(OSError):
                self._serve(connection)
                self.reached.set()
                if not self._reads:
                    self._over.wait()
                while connection.recv(2**16):
                    pass
            self.gone.set()


def some_of_it(connection: socket.socket) -> None:
    """Read the first bytes of what comes."""
    connection.recv(16, socket.MSG_WAITALL)


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """Give the port of a listener that has as many connections waiting as it takes: another one is not answered."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def tls(side: int) -> ssl.SSLContext:
    """Return a context for one side of TLS without certificates, so that no key is needed here."""
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones have no such suites
    context.set_ciphers("aNULL:@SECLEVEL=0")
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
