"""How a request of an OTLP exporter went, looked at where it is posted: the exporter itself says yes or no only.

The exporter is given an `Exchange` in place of a session of `requests`. So it is known what the endpoint answered, with
the spans that it says it did not take; and a forked child, which must not write to its parent's connections, has its
own. Needs the extra `otel`.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import requests
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # generated, without types
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from agentkit_loop.credentials import MASK
from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.terminal import one_line
from agentkit_reporting.tracing.delivery import Reach
from agentkit_reporting.tracing.otlp_endpoint import GRPC_PORT, Signal

__all__ = ["Exchange", "Outcome", "reason_of"]

logger = logging.getLogger(__name__)

_MOST_BYTES: Final = 64 * 1024  # of an answer; a partial success is a number and a sentence
_MOST_COLUMNS: Final = 200
_SHORTEST_SECRET: Final = 6  # characters of a piece of a header's value that is masked in an answer
_NO_SECRETS: Final = frozenset({"content-type", "content-encoding", "user-agent"})
_MOST_NESTED: Final = 3  # as in {"errors": [{"message": "…"}]}
_SENTENCES: Final = ("error", "errors", "message", "detail", "title", "reason", "error_description")
_MOST_SAID: Final = 120  # characters of what an endpoint says beside a status
_BUSY: Final = frozenset({429, 502, 503, 504})  # that are tried again, by the specification of OTLP
_UNKNOWN: Final = frozenset({404, 405, 501})
_WEB_PAGE: Final = "a web page answered, not a receiver of OTLP"
_PROVIDERS: Final = "opentelemetry_otlp_credential_provider"


@attrs.frozen
class Outcome:
    """How a request went.

    reason: None where all of it was taken, else why not, in one line without a secret. status: of the answer, if there
    was one. rejected: items that were not taken of a request that was. message: what the endpoint says of those.
    is_posted: False where nothing could be sent at all.
    """

    reason: str | None
    status: int | None = None
    rejected: int = 0
    message: str | None = None
    is_posted: bool = True

    @property
    def is_busy(self) -> bool:
        """Whether the endpoint says that it may take the same later."""
        return self.status in _BUSY

    @property
    def is_other_signal(self) -> bool:
        """Whether who answered knows nothing of what was posted: there is no such place, or it is a web page."""
        return self.reason is not None and (self.status in _UNKNOWN or self.reason == _WEB_PAGE)


class _LastTryError(requests.RequestException):
    """No further try: of a connection's error, and of some statuses, the exporter would make one."""


class Exchange:
    """Posts for an exporter of one signal, as a session of `requests` does, and keeps how it went.

    verify, cert: set by the exporter, from the variables for certificates. reach: what is known of the endpoint; where
    that says that this is the last try, the exporter makes no other.
    """

    def __init__(self, signal: Signal, reach: Reach | None = None) -> None:
        self._reach = Reach() if reach is None else reach
        self.verify: bool | str = True
        self.cert: str | tuple[str, str] | None = None
        self.outcome: Outcome | None = None
        """How the last request went; None before there is one."""
        self._signal = signal
        self._open = _opener(signal)
        self._session: requests.Session | None = None
        # The parent's, kept so that nothing of them is closed here.
        self._inherited: list[requests.Session] = []

    def begin_anew(self) -> None:
        """Open connections of its own: this is a forked child."""
        if self._session is not None:
            self._inherited.append(self._session)
        self._session = self.outcome = None

    def forget(self) -> None:
        """Have no outcome: nothing was posted of what comes next."""
        self.outcome = None

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], timeout: float, **options: Any
    ) -> requests.Response:
        """Post; keeps the outcome, raises what `requests` raises."""
        if timeout <= 0:  # the attempts before have used it up, or a variable says so
            self.outcome = self.outcome or Outcome(
                "no time to send it; OTEL_EXPORTER_OTLP_TIMEOUT is in seconds"
            )
            raise requests.Timeout
        self.outcome = Outcome("no answer yet")
        if self._session is None:
            self._session = self._open()
        self._session.cert = self.cert
        # Given here, a certificate of OTEL_…_CERTIFICATE wins over those that requests reads of the environment.
        options["verify"] = None if self.verify is True else self.verify
        if any(name.lower() == "authorization" for name in headers):
            options["auth"] = _unchanged  # else what ~/.netrc says of the host would win
        try:
            response = self._session.request(
                method, url, headers=dict(headers), timeout=timeout, stream=True, **options
            )
        except Exception as error:
            self.outcome = Outcome(_with_hint(reason_of(error), url))
            if self._reach.is_last_try:
                raise _LastTryError from error
            raise
        self.outcome = _judged(
            self._signal, response, _beginning(response, timeout), _secrets(response, headers)
        )
        if self.outcome.is_busy and self._reach.is_last_try:
            raise _LastTryError
        return response

    def note_end(self) -> None:
        """Take note that what was posted last is not tried again."""
        if self.outcome is not None:
            self._reach.is_dead = self.outcome.status is None or self.outcome.is_busy

    def close(self) -> None:
        """Close the connections that wait for a next request."""
        if self._session is not None:
            self._session.close()


def reason_of(error: BaseException) -> str:
    """Return why a request failed, in words that hold no address, header or credential."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.InvalidHeader):
        return "a header's value that HTTP does not allow"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = getattr(cause, "verify_message", "")  # set where the TLS library raises it
            return one_line(f"the certificate is not accepted: {why}", _MOST_COLUMNS)
        if isinstance(cause, ssl.SSLError):
            return f"no secure connection: {getattr(cause, 'reason', None) or 'TLS failed'}"
        if isinstance(cause, TimeoutError):
            return "no answer in time"
        if isinstance(cause, http.client.HTTPException | ConnectionResetError):
            return "the connection was closed without an answer"
        # Of requests: a certificate's file that is not there.
        if type(cause) is OSError and not cause.strerror:
            return one_line(str(cause), _MOST_COLUMNS)
        if isinstance(cause, OSError) and cause.strerror and type(cause).__module__ in {"builtins", "socket"}:
            return one_line(cause.strerror, _MOST_COLUMNS)
    return type(error).__name__


def _causes(error: BaseException) -> Iterable[BaseException]:
    """Walk down to what an error comes from: requests wraps urllib3's, and that the system's."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (each.__context__, each.__cause__, getattr(each, "reason", None), *each.args)
        waiting.extend(cause for cause in inner if isinstance(cause, BaseException))


def _with_hint(reason: str, url: str) -> str:
    if f":{GRPC_PORT}/" not in url:
        return reason
    return f"{reason}: {GRPC_PORT} is the port of OTLP over gRPC, over HTTP it is {GRPC_PORT + 1}"


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _beginning(response: requests.Response, timeout_s: float) -> bytes:
    """Return the beginning of an answer, as far as it comes in time.

    What was taken was taken, and what was refused was refused, also where the rest of the answer does not come: to
    raise here would have the same items sent again.
    """
    body, until = bytearray(), time.monotonic() + timeout_s
    try:
        while piece := response.raw.read1(8192, decode_content=True):
            body += piece
            if len(body) >= _MOST_BYTES or time.monotonic() >= until:
                break
        else:
            response.raw.release_conn()
            return bytes(body)
    except Exception as error:  # noqa: BLE001 - of urllib3, of the decompression, of the system
        logger.debug("the answer ends early: %s", type(error).__name__)
    response.close()  # the rest is not read, so that the connection cannot be used again
    return bytes(body)


def _judged(signal: Signal, response: requests.Response, body: bytes, secrets: Iterable[str]) -> Outcome:
    """Say how it went. The exporter takes a redirect for a success, which brings nothing anywhere; it is none here."""
    status = response.status_code
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES:
        words = f"{status} {http.client.responses.get(status, '')}".rstrip()
        said = one_line(_masked(_words_of(kind, body), secrets), _MOST_SAID)
        return Outcome(f"{words}: {said}" if said else words, status)
    if kind == "text/html" and body.lstrip().startswith(b"<"):
        return Outcome(_WEB_PAGE, status)
    rejected, said = _partial_success(signal, kind, body)
    if rejected <= 0:
        return Outcome(None, status)
    message = one_line(_masked(said, secrets), _MOST_COLUMNS) or None
    reason = f"{rejected:,} rejected by the receiver{f': {message}' if message else ''}"
    return Outcome(reason, status, rejected, message)


def _words_of(kind: str, body: bytes) -> str:
    """Return what a refusal says in words: a text, the sentence in JSON, or OTLP's own Status; never a page."""
    if kind == "application/x-protobuf":
        with contextlib.suppress(DecodeError):
            return str(Status.FromString(body).message)
        return ""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<") or not (kind.startswith("text/") or kind.endswith("json")) or kind == "text/html":
        return ""
    return _sentence(text) if kind.endswith("json") else text


def _sentence(text: str) -> str:
    """Return the sentence that a JSON text holds under one of the usual names, else the text."""
    with contextlib.suppress(ValueError, RecursionError):
        told: object = json.loads(text)
        for _ in range(_MOST_NESTED):
            if isinstance(told, list) and told:
                told = told[0]
            elif isinstance(told, dict):
                told = next((told[name] for name in _SENTENCES if told.get(name)), None)
        if isinstance(told, str):
            return told
    return text


def _partial_success(signal: Signal, kind: str, body: bytes) -> tuple[int, str]:
    """Return how many items an answer says were not taken, and its words; 0 for what cannot be read."""
    try:
        if kind == "application/json":
            told = json.loads(body).get("partialSuccess") or {}
            key = "rejectedSpans" if signal == "traces" else "rejectedDataPoints"
            return int(told.get(key) or 0), str(told.get("errorMessage") or "")
        if signal == "traces":
            spans = ExportTraceServiceResponse.FromString(body).partial_success
            return spans.rejected_spans, spans.error_message
        points = ExportMetricsServiceResponse.FromString(body).partial_success
    except (DecodeError, ValueError, TypeError, AttributeError, RecursionError):
        return 0, ""
    return points.rejected_data_points, points.error_message


def _secrets(response: requests.Response, headers: Mapping[str, str]) -> list[str]:
    """Return what may be a credential of what was sent: some endpoints repeat the one that they refuse."""
    sent = {**headers, "authorization": response.request.headers.get("authorization") or ""}
    address = urlsplit(response.request.url or "")
    given = [value for name, value in sent.items() if name.lower() not in _NO_SECRETS]
    given += [
        address.username or "",
        address.password or "",
        *(value for _, value in parse_qsl(address.query)),
    ]
    pieces = {piece for value in given for piece in (unquote(value), *value.split())}
    return sorted(filter(lambda piece: len(piece) >= _SHORTEST_SECRET, pieces), key=len, reverse=True)


def _masked(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _opener(signal: Signal) -> Callable[[], requests.Session]:
    """Return what opens a session: a plain one, else of the credential provider that the environment names."""
    variable = f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{signal.upper()}_CREDENTIAL_PROVIDER"
    name = os.environ.get("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER") or os.environ.get(variable)
    if not name:
        return requests.Session
    found = next(iter(entry_points(group=_PROVIDERS, name=name)), None)
    if found is None:
        raise ConfigurationError(
            f"the credential provider {name!r:.60} refused, which is not installed; install the package that brings "
            f"it, or unset {variable}"
        )
    opener: Callable[[], requests.Session] = found.load()
    return opener
