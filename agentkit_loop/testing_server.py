"""MessagesServer: a real server on the loopback that speaks the Messages API, for tests of what talks to it.

It serves scripted replies as server-sent events over HTTP/1.1, in any framing, breaks off where the script
says so, and refuses what the real API refuses, in its words. It starts on `with`, never on import.

    with MessagesServer(["hello"]) as server:
        model = AnthropicModel("claude-sonnet-5", base_url=server.base_url, api_key="test")
"""

from __future__ import annotations

import contextlib
import http.server
import json
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.models.scripted import Reply, ScriptedFailure, as_reply
from agentkit_loop.testing_messages import Event, check_messages, reply_events, whole_message
from agentkit_loop.usage import error_text

__all__ = ["AnyServed", "MessagesServer", "ServedRequest", "ServerReply", "check_messages", "encode_event"]

Framing: TypeAlias = Literal["event", "whole", "byte"]
"""How the body is written: a write an event, all at once, or one byte a write."""

_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
_LOOK_S = 0.02  # how often a stalled reply looks whether it may go on


class ServerReply(msgspec.Struct, frozen=True, kw_only=True):
    """One response, down to its bytes.

    events: dicts are written as events by their `type`, bytes as they are. body: in place of events, for
    what is no stream. headers: beside those of a stream, or in their place; an empty one is left out.
    framing, line_end, gzip: how they are written; None is the server's. cut_after: drop the connection after
    so many events. stall_after: be silent after so many, until `release()` or until the client goes; None for
    neither. stall_head: be silent so before anything, the status too. pause_s: before each event.
    """

    events: tuple[Event | bytes, ...] = ()
    status: int = 200
    headers: dict[str, str] = {}
    body: bytes | None = None
    framing: Framing | None = None
    line_end: str = "\n"
    gzip: bool | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    stall_head: bool = False
    pause_s: float = 0.0

    @classmethod
    def refusal(cls, status: int, error_type: str, message: str, **headers: str) -> Self:
        """Make an error response as the API writes it; `retry_after` is the header `retry-after`."""
        error = {"type": "error", "error": {"type": error_type, "message": message}}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(
            status=status,
            headers={"content-type": "application/json", **named},
            body=json.dumps(error).encode(),
        )


AnyServed: TypeAlias = ServerReply | Reply | str | dict[str, Any]
"""A response in full, or what ScriptedModel takes."""


@attrs.frozen(kw_only=True)
class ServedRequest:
    """A request as it came.

    headers: names in lower case, without credentials. body: None where not JSON. authorized: whether it came
    with a credential.
    """

    path: str
    headers: dict[str, str]
    body: Any
    authorized: bool = False


class MessagesServer:
    """Serves one reply a request, at `base_url`; a context manager.

    replies: any number of them, or a function from a request's body to one. framing, gzip: of the replies
    that do not say. strict: refuse what the real API refuses (`check_messages`). requests: what came so far,
    refused ones too. connections: how many were opened.
    """

    def __init__(
        self,
        replies: Iterable[AnyServed] | Callable[[Any], AnyServed] = (),
        *,
        framing: Framing = "event",
        gzip: bool = False,
        strict: bool = True,
    ) -> None:
        self.requests: list[ServedRequest] = []
        self.connections = 0
        self.framing: Framing = framing
        self.gzip = gzip
        self.strict = strict
        self._function = replies if callable(replies) else None
        self._replies = iter(()) if callable(replies) else iter(list(replies))
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._aborted = threading.Semaphore(0)
        self._server: _Listener | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._server is not None:
            raise ConfigurationError("the server is running already; make another one")
        self._server = _Listener(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LOOK_S,), name="messages-server", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, thread = self._server, self._thread
        self._released.set()
        if server is not None and thread is not None:
            server.shutdown()
            server.drop_connections()
            server.server_close()
            thread.join()
        self._server = self._thread = None

    @property
    def base_url(self) -> str:
        """Where it listens, for `base_url=`."""
        if self._server is None:
            raise ConfigurationError("base_url refused while the server is not running; use it inside `with`")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def release(self) -> None:
        """Let stalled replies go on, those to come too."""
        self._released.set()

    def wait_for_abort(self, seconds: float = 5.0) -> bool:
        """Wait until a client has gone in the middle of a reply; each one is counted once."""
        return self._aborted.acquire(timeout=seconds)

    def answer(self, request: ServedRequest) -> tuple[ServerReply, int]:
        """Take note of a request and return what to answer it with, and its number."""
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            if not request.path.partition("?")[0].endswith("/v1/messages"):
                return ServerReply.refusal(404, "not_found_error", f"Not found: {request.path}"), number
            if not request.authorized:
                return ServerReply.refusal(
                    401, "authentication_error", "x-api-key header is required"
                ), number
            sentence = check_messages(request.body) if self.strict else None
            if sentence is not None:
                return ServerReply.refusal(400, "invalid_request_error", sentence), number
            try:
                reply = next(self._replies, None) if self._function is None else self._function(request.body)
            except Exception as error:  # noqa: BLE001 - whatever a script raises; its client must not wait for it
                failed = (
                    f"the script failed on request {number} ({type(error).__name__}: {error_text(error)})"
                )
                return ServerReply.refusal(400, "invalid_request_error", failed), number
        if reply is None:
            sentence = f"the script has no reply for request {number}"
            return ServerReply.refusal(400, "invalid_request_error", sentence), number
        if isinstance(reply, ServerReply):
            return reply, number
        served = _served(as_reply(reply), str(request.body.get("model")), number)
        return (served if request.body.get("stream") else _unstreamed(served)), number

    def note_connection(self) -> None:
        """Count a connection."""
        with self._lock:
            self.connections += 1

    def note_abort(self) -> None:
        """Take note that a client has gone in the middle of a reply."""
        self._aborted.release()

    def stall(self, connection: socket.socket) -> bool:
        """Wait until `release()` or until the client has gone; return whether it is still there."""
        while not self._released.wait(_LOOK_S):
            if select.select([connection], [], [], 0)[0] and not connection.recv(1, socket.MSG_PEEK):
                return False
        return True


def encode_event(event: Event | bytes, line_end: str = "\n") -> bytes:
    """Return an event as it is written; bytes as they are."""
    if isinstance(event, bytes):
        return event
    lines = (f"event: {event['type']}", f"data: {json.dumps(event, ensure_ascii=False)}", "", "")
    return line_end.join(lines).encode()


_STATUSES = {
    "rate_limited": (429, "rate_limit_error"),
    "overloaded": (529, "overloaded_error"),
    "timeout": (408, "timeout_error"),
    "server": (500, "api_error"),
    "context_exceeded": (400, "invalid_request_error"),
    "auth": (401, "authentication_error"),
}


def _served(reply: Reply, model: str, number: int) -> ServerReply:
    """Return a scripted reply as a response."""
    events = reply_events(reply, model=model, number=number)
    fail = reply.fail
    if fail is None:
        return ServerReply(events=tuple(events), pause_s=reply.chunk_delay_s)
    status, error_type = _STATUSES.get(fail.error_class, (400, "invalid_request_error"))
    message = (
        f"prompt is too long: {fail.message}" if fail.error_class == "context_exceeded" else fail.message
    )
    dropped = fail.error_class in {"connection", "stream_cut"}
    if fail.after_chunks is None and not dropped:
        wait = {} if fail.retry_after_ms is None else {"retry_after_ms": str(fail.retry_after_ms)}
        return ServerReply.refusal(status, error_type, message, **wait)
    kept = _before_chunk(events, fail)
    if dropped:
        return ServerReply(events=tuple(kept), cut_after=len(kept), pause_s=reply.chunk_delay_s)
    error = {"type": "error", "error": {"type": error_type, "message": message}}
    return ServerReply(events=(*kept, error), pause_s=reply.chunk_delay_s)


def _unstreamed(served: ServerReply) -> ServerReply:
    """Return what a request that asks for no stream gets: the message, whole; a failure inside it has no place."""
    events = [event for event in served.events if isinstance(event, dict)]
    if served.body is not None or not events or events[-1]["type"] != "message_stop":
        return served
    body = json.dumps(whole_message(events), ensure_ascii=False).encode()
    return ServerReply(headers={"content-type": "application/json"}, body=body)


def _before_chunk(events: list[Event], fail: ScriptedFailure) -> list[Event]:
    """Return the events before the failure: so many deltas, or all of the content where there are fewer."""
    if fail.after_chunks is None:
        return []
    kept: list[Event] = []
    chunks = 0
    for event in events:
        chunks += event["type"] == "content_block_delta"
        if chunks > fail.after_chunks or event["type"] == "message_delta":
            break
        kept.append(event)
    return kept


class _Listener(http.server.HTTPServer):
    """A thread for each connection; all end with the server."""

    def __init__(self, owner: MessagesServer) -> None:
        self.owner = owner
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__(("127.0.0.1", 0), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.owner.note_connection()
        serve = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        self._open[request] = serve
        serve.start()

    def _serve(self, connection: socket.socket, client_address: Any) -> None:
        with contextlib.suppress(ConnectionError):  # a client may go at any time
            self.finish_request(connection, client_address)
        self._open.pop(connection, None)
        self.shutdown_request(connection)

    def drop_connections(self) -> None:
        """Close every connection and wait for its thread."""
        for connection, thread in list(self._open.items()):
            with contextlib.suppress(OSError):  # the client may have been faster
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()


class _Connection(http.server.BaseHTTPRequestHandler):
    """One connection and its requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing: tests read `requests`."""

    def do_GET(self) -> None:
        """Refuse: nothing is read by GET here."""
        self._serve()

    def do_POST(self) -> None:
        """Serve a request."""
        self._serve()

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        request = ServedRequest(
            path=self.path,
            headers={name: value for name, value in headers.items() if name not in _CREDENTIALS},
            body=body,
            authorized=bool(headers.get("x-api-key") or headers.get("authorization")),
        )
        reply, number = self.server.owner.answer(request)
        try:
            self._write(reply, number)
        except ConnectionError:
            self.server.owner.note_abort()
            self.close_connection = True

    def _write(self, reply: ServerReply, number: int) -> None:
        if reply.stall_head and not self.server.owner.stall(self.connection):
            raise ConnectionResetError
        gzip = self.server.owner.gzip if reply.gzip is None else reply.gzip
        self.send_response(reply.status)
        named = {name.lower(): value for name, value in reply.headers.items()}
        named.setdefault("request-id", f"req_{number}")
        named.setdefault("content-type", "text/event-stream; charset=utf-8")
        if reply.body is not None:
            named["content-length"] = str(len(reply.body))
        else:
            named["transfer-encoding"] = "chunked"
            if gzip:
                named["content-encoding"] = "gzip"
        for name, value in named.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if reply.body is not None:
            self.wfile.write(reply.body)
            return
        packed = zlib.compressobj(wbits=31) if gzip else None
        for piece in self._pieces(reply):
            raw = piece if packed is None else packed.compress(piece) + packed.flush(zlib.Z_SYNC_FLUSH)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(raw), raw))
        if self.close_connection:
            return
        rest = b"" if packed is None else packed.flush()
        if rest:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(rest), rest))
        self.wfile.write(b"0\r\n\r\n")

    def _pieces(self, reply: ServerReply) -> Iterator[bytes]:
        """Yield what is written at once; a cut sets `close_connection`."""
        framing = reply.framing or self.server.owner.framing
        stops = {len(reply.events) if stop is None else stop for stop in (reply.cut_after, reply.stall_after)}
        waiting: list[bytes] = []
        for index in range(len(reply.events) + 1):
            if index in stops or index == len(reply.events):
                whole, waiting = b"".join(waiting), []
                if whole:
                    yield whole
            if index == reply.stall_after and not self.server.owner.stall(self.connection):
                raise ConnectionResetError
            if index == reply.cut_after:
                self.close_connection = True
                return
            if index == len(reply.events):
                return
            time.sleep(reply.pause_s)
            encoded = encode_event(reply.events[index], reply.line_end)
            if framing == "event":
                yield encoded
            elif framing == "byte":
                yield from (encoded[place : place + 1] for place in range(len(encoded)))
            else:
                waiting.append(encoded)
