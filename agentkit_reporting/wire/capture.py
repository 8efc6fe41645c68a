"""WireCapture: every request to a model's provider and its response, as they went over the wire.

capture = WireCapture("logs/wire.jsonl")
model = AnthropicModel("claude-sonnet-5", middleware=[capture.middleware()])
client = anthropic.Anthropic(middleware=[capture.middleware()])              # or a client of one's own
client = anthropic.Anthropic(http_client=httpx2.Client(transport=capture.transport()))
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import attrs

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.models.current_request import sent_now
from agentkit_reporting.accounting import Account
from agentkit_reporting.log.remote import Uploads
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.syncing import DEFAULT_FSYNC_INTERVAL_MS, FsyncPolicy
from agentkit_reporting.process_ends import watch
from agentkit_reporting.records.store import RecordStore
from agentkit_reporting.redaction.redactor import Redaction, Redactor, redactor_of
from agentkit_reporting.wire.bodies import Redactors
from agentkit_reporting.wire.client_keys import environment_keys
from agentkit_reporting.wire.credentials import LEAST, literal_redactor, secrets_in
from agentkit_reporting.wire.exchange import Exchange, SentRequest
from agentkit_reporting.wire.records import request_record, response_record
from agentkit_reporting.wire.writing import RecordThread

if TYPE_CHECKING:
    import anthropic
    import httpx2

__all__ = ["WireCapture"]

logger = logging.getLogger(__name__)

DEFAULT_MAX_BODY_BYTES = 4 * 2**20
"""Bytes of a body that are recorded: more than a context window of a million tokens takes."""

MOST_BODY_BYTES = 8 * 2**20
"""The highest bound: a line of more could not be read back in every case (`log.read.MAX_LINE_BYTES`)."""

_MOST_REDACTORS = 64  # sets of credentials whose patterns are kept

_captured: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar("agentkit_captured", default=())


class WireCapture:
    """Records what its middleware and transports see, in a file of records (`read_records`, `agentkit wire`).

    path, rotation, remote, fsync, fsync_interval_ms, clock: see `RecordStore`. redact: what is masked in bodies, names
    and values beside credentials: True, the secret rules; rules of one's own; a Redactor; False, nothing more.
    max_body_bytes: how much of a body is recorded; what is longer says by how much. secrets: texts that are masked
    wherever they stand, beside those that the requests themselves show.

    Credentials are always removed: the values of headers that hold some (`x-api-key`, `authorization`, cookies, names
    that look secret), user and password of an address, key-like query parameters, and these same texts, the client's
    own key among them, wherever else in the exchange they stand.

    An exchange is two lines with one `id`, so that a process which dies between them has told what it asked:

        {"type": "wire_request", "id", "session_id", "run_id", "turn_id", "request_id",      of the events, else null
         "ts", "attempt": 1 and more: the SDK's, "request_attempt": that of the events, else null,
         "via": "middleware" | "transport", "model",
         "method", "url", "headers": [[name, value], …], "body": {…}}
        {"type": "wire_response", "id", "session_id", "run_id", "turn_id", "request_id",
         "outcome": "complete" | "cut": it broke off | "abandoned": its reader let go of it | "failed": there was none
                    | "unfinished": the capture was closed before its end | "replaced": another middleware answered,
         "status", "provider_request_id", "http_version", "head_ms", "first_byte_ms", "duration_ms": since the request,
         "chunks", "headers", "body": {…},
         "error": {"type", "message", "cause", "cause_message"},
         "sent": {"method", "url", "headers", "body"}: the request as it left, as far as the first line could not know}

    A body is as `wire/bodies.py` says. The middleware sees one attempt after the other, whatever the SDK sends itself
    (headers that only the transport adds are in `sent`); the transport sees each redirect as well. Where both are of
    one capture the middleware's record is the one.

    Whatever goes wrong here, the request goes on: it is logged once until something goes well, and `account` counts
    it. Records are made by a thread, which begins with the first; `flush` waits for it, and so does the end of the
    process, for some seconds. May be shared by clients, threads and event loops. Raises LogError for a path that
    cannot work, ConfigurationError for options that are none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        redact: Redaction = True,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        secrets: Iterable[str] = (),
        rotation: Rotation | None = None,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        clock: Clock | None = None,
        remote: str | None = None,
    ) -> None:
        if type(max_body_bytes) is not int or not 0 <= max_body_bytes <= MOST_BODY_BYTES:
            raise ConfigurationError(
                f"max_body_bytes={max_body_bytes!r} refused; give a number from 0 to {MOST_BODY_BYTES:,}"
            )
        self._redactor = redactor_of(redact)
        if self._redactor is not None and self._redactor.is_of_events:
            raise ConfigurationError(
                f"{self._redactor!r} refused because it hides what only events tell, arguments or content; "
                "give rules or a Redactor of rules only"
            )
        self._secrets = (*_checked(secrets), *environment_keys())
        self._is_closed = self._told_closed = False
        self._most = max_body_bytes
        self._clock = clock or Clock()
        self._store = RecordStore(
            path,
            redact=False,  # bodies are scrubbed with all that is known of them
            rotation=rotation,
            fsync=fsync,
            fsync_interval_ms=fsync_interval_ms,
            clock=clock,
            remote=remote,
            file_name="wire.jsonl",
        )
        self._thread = RecordThread(f"WireCapture({str(self._store.path)!r})")
        self.begin_anew()
        watch(self, at_exit=False)

    def __repr__(self) -> str:
        return f"WireCapture({str(self.path)!r})"  # its options hold secrets

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> os.PathLike[str]:
        """The file."""
        return self._store.path

    # --- what captures

    def middleware(self) -> anthropic.Middleware:
        """Return a middleware for the SDK's clients, synchronous and asynchronous ones; loads the SDK."""
        from agentkit_reporting.wire.sdk import CaptureMiddleware  # noqa: PLC0415 - it takes a second or two

        return CaptureMiddleware(self)

    def transport(self, inner: httpx2.BaseTransport | None = None) -> httpx2.BaseTransport:
        """Return a transport for httpx2's client around another, a plain one where none is given."""
        from agentkit_reporting.wire.transports import CaptureTransport  # noqa: PLC0415 - it loads httpx2

        return CaptureTransport(self, inner)

    def async_transport(self, inner: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncBaseTransport:
        """Return the same for its asynchronous client."""
        from agentkit_reporting.wire.transports import AsyncCaptureTransport  # noqa: PLC0415 - as above

        return AsyncCaptureTransport(self, inner)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Let a transport of this capture leave to its middleware what is sent within."""
        before = _captured.get()
        _captured.set((*before, id(self)))
        try:
            yield
        finally:
            _captured.set(before)

    def is_recording(self) -> bool:
        """Whether a middleware of this capture records what is sent here."""
        return id(self) in _captured.get()

    # --- what they tell

    def begin(
        self, request: SentRequest | None, *, attempt: int, via: str, keys: Iterable[str]
    ) -> Exchange | None:
        """Return a new exchange, None where nothing is recorded any more.

        request: None where it is not known before it is sent. keys: what its client knows as secret.
        """
        if self._is_closed:
            if not self._told_closed:
                self._told_closed = True
                with contextlib.suppress(Exception):  # a filter of the host's for logs
                    logger.warning("%s is closed; requests go on without being recorded", self._thread.name)
            return None
        exchange = Exchange(
            most=self._most,
            attempt=attempt,
            via=via,
            event=sent_now(),
            now=self._clock.now(),
            monotonic=self._clock.monotonic,
            told=self._ended,
        )
        with self._lock:
            self._open.add(exchange)
        exchange.secrets = secrets_in((), "", (*keys, *self._secrets))
        if request is not None:
            self._tell_request(exchange, request)
        return exchange

    def note_sent(self, exchange: Exchange, request: SentRequest) -> None:
        """Take note of how the request left; of one whose end is told already nothing more."""
        if exchange.outcome is not None:
            return
        exchange.secrets |= secrets_in(request.headers, request.url)
        told = exchange.request
        if told is None:
            self._tell_request(exchange, request)
        elif told.content is None or told.content == request.content:
            exchange.sent = attrs.evolve(request, content=None)  # as it was told, or too much to be told
        else:
            exchange.sent = request

    def trouble(self, error: BaseException) -> None:
        """Take note that something went wrong while an exchange was looked at."""
        with self._lock:
            self._failed += 1
        self._thread.tell(error)

    def _tell_request(self, exchange: Exchange, request: SentRequest) -> None:
        exchange.secrets |= secrets_in(request.headers, request.url)
        size = len(request.content or b"")
        if not self._thread.has_room(size):
            request = attrs.evolve(request, content=None, size=size)
            size = 0
        exchange.request = request
        self._give(request_record, exchange, size)

    def _ended(self, exchange: Exchange) -> None:
        try:
            with self._lock:
                self._open.discard(exchange)
            exchange.secrets |= secrets_in(exchange.headers)
            size = len(exchange.kept or b"") + len((exchange.sent and exchange.sent.content) or b"")
            if not self._thread.has_room(size):
                exchange.kept, size = None, 0
                exchange.sent = exchange.sent and attrs.evolve(exchange.sent, content=None)
            if exchange.request is None:
                return self.trouble(ValueError("a request was not sent, and is not known"))
            self._give(response_record, exchange, size)
        except Exception as error:  # noqa: BLE001 - the request goes on
            self.trouble(error)

    def _give(
        self, make: Callable[[Exchange, Redactors, int], dict[str, Any]], exchange: Exchange, size: int
    ) -> None:
        secrets = exchange.secrets  # as they are known now

        def write() -> None:
            try:
                self._store.append(make(exchange, self._redactors(secrets), self._most), is_json=True)
            finally:
                if make is response_record:
                    exchange.let_go()

        self._thread.give(write, size)

    def _redactors(self, secrets: frozenset[str]) -> Redactors:
        """Return what masks an exchange: its credentials first, so that they have their name."""
        found = self._of_secrets.get(secrets)
        if found is None:
            if len(self._of_secrets) >= _MOST_REDACTORS:
                del self._of_secrets[next(iter(self._of_secrets))]
            both: tuple[Redactor | None, ...] = (literal_redactor(secrets), self._redactor)
            found = self._of_secrets[secrets] = tuple(each for each in both if each is not None)
        return found

    # --- as reporters are asked

    def account(self) -> Account:
        """Return what became of the records: two an exchange."""
        written = self._store.account().delivered
        failed = self._thread.failed + self._failed
        pending = self._thread.pending
        return Account(
            name=type(self).__name__,
            received=written + failed + pending,
            delivered=written,
            failed=failed,
            pending=pending,
        )

    def uploads(self) -> Uploads | None:
        """Return what became of the files in remote storage; None without one."""
        return self._store.uploads()

    def begin_anew(self) -> None:
        """Forget what is open and was counted, with a new lock: this is a forked child."""
        self._lock = threading.RLock()  # re-entrant: a stream that the collector lets go of ends an exchange
        self._open: weakref.WeakSet[Exchange] = weakref.WeakSet()
        self._of_secrets: dict[frozenset[str], Redactors] = {}
        self._failed = 0

    def flush(self, timeout_s: float | None = None) -> bool:
        """Write what was noted so far and force it to the disk; return whether all of it is there. Raises LogError.

        timeout_s: None waits without a bound.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        is_done = self._thread.flush(timeout_s)
        left = None if until is None else max(0.0, until - time.monotonic())
        return self._store.flush(left) and is_done and not self.account().lost

    def close(self, timeout_s: float | None = None) -> bool:
        """Record what is open as unfinished, write all and close; return whether all was written. Twice is harmless.

        Requests that go through it later go on, without being recorded. timeout_s: see `RecordStore.close`.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            self._is_closed = True
            waiting = list(self._open)
        for exchange in waiting:
            exchange.end("unfinished")
        is_done = self._thread.end(timeout_s)
        left = None if until is None else max(0.0, until - time.monotonic())
        return self._store.close(left) and is_done and self.account().is_complete


def _checked(secrets: Iterable[str]) -> tuple[str, ...]:
    given: tuple[Any, ...] = (secrets,) if isinstance(secrets, str) else tuple(secrets)
    for secret in given:
        if not isinstance(secret, str) or len(secret) < LEAST:
            kind = type(secret).__name__
            raise ConfigurationError(
                f"secrets= refused because of a {kind} that is too short or no text; give texts of {LEAST} characters"
            )
    return given
