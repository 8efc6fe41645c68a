"""A real HTTP server on loopback for tests of webhooks: answers as it is told, and keeps what it was sent."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec


class Answer(NamedTuple):
    """One answer; status 0 shuts the connection without any."""

    status: int = 200
    headers: Mapping[str, str] = {}


class Sent(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: Any


class HookServer:
    """Gives the answers in turn, and after them 200; waits before each while `gate` is not set."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[Sent] = []
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hooks.answer(self)

            do_GET = do_POST  # noqa: N815 - as the base asks for it

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base names it
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/services/T0/sk-token"

    @property
    def bodies(self) -> list[Any]:
        return [sent.body for sent in self.sent]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self.sent.append(Sent(request.path, dict(request.headers), msgspec.json.decode(body or b"null")))
            answer = self.answers.pop(0) if self.answers else Answer()
        self.entered.set()
        self.gate.wait()
        if answer.status:
            request.send_response(answer.status)
            for name, value in answer.headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", "0")
            request.end_headers()
        request.close_connection = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
