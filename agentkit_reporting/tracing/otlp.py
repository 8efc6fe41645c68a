"""Spans of a log to an OTLP/HTTP endpoint: batch by batch, each waited for, and counted by what the endpoint answered.

OpenTelemetry's own exporter encodes, compresses, sends and tries again. What it says of a batch is not enough: it takes
a redirect for success, looks into no answer, and gives no reason; so its session keeps the last answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.terminal import one_line
from agentkit_reporting.tracing.log_spans import LogSpan, sendable
from agentkit_reporting.tracing.scope import SCHEMA_URL, SCOPE_NAME, scope_version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["OtlpSender", "Sent"]

_MOST_ANSWER = 64 * 2**10  # bytes of an answer that are read
_MOST_SAID = 200  # characters that are told of what an endpoint says
_OK = range(200, 300)
_REDIRECTS = range(300, 400)
_TOO_LARGE = 413
_NO_CREDENTIALS = (401, 403)
_NOT_THERE = (404, 405)


@attrs.frozen
class Sent:
    """What became of a batch. taken: spans that the endpoint took. rejected: that it refused of a batch that it took.

    said: what it says of those, or None. failure: why the batch was not taken, or None; then nothing of it counts.
    """

    taken: int = 0
    rejected: int = 0
    said: str | None = None
    failure: str | None = None

    def and_then(self, other: Sent) -> Sent:
        """Return both as one."""
        return Sent(
            self.taken + other.taken,
            self.rejected + other.rejected,
            self.said or other.said,
            self.failure or other.failure,
        )


class OtlpSender:
    """Sends batches to an endpoint; `with` closes its connections.

    endpoint: the address of traces, whole. headers: in addition to those of OTEL_EXPORTER_OTLP_(TRACES_)HEADERS, and
    before them; time limit, compression and certificates are those of the standard's variables. resource: see
    export_resource. Raises ConfigurationError where OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str, *, headers: Mapping[str, str], resource: Mapping[str, str]) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - slow, and an extra
                OTLPSpanExporter,
            )
            from opentelemetry.metrics import NoOpMeterProvider  # noqa: PLC0415 - the same
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - the same
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - the same
        except ImportError as error:
            raise ConfigurationError(
                "sending spans refused because OpenTelemetry is not installed; install agentkit-loop[otel]"
            ) from error
        self._session = _answering_session()
        self._resource = Resource(dict(resource))
        self._scope = InstrumentationScope(SCOPE_NAME, scope_version() or None, SCHEMA_URL)
        with _quiet():
            self._exporter = OTLPSpanExporter(
                endpoint,
                headers=dict(headers),
                session=self._session,
                max_request_size=0,  # which would drop a batch without a word; batches are bounded before
                meter_provider=NoOpMeterProvider(),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call] # the exporter types all but this

    def send(self, batch: Sequence[LogSpan]) -> Sent:
        """Send a batch and wait for the answer, which takes at most the exporter's time limit (10 s by default).

        A batch that is too large for the endpoint is sent in halves.
        """
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - loaded already

        self._session.forget()
        with _quiet():
            result = self._exporter.export([self._readable(each) for each in batch])
        status = self._session.status
        if status in _OK and self._session.is_page:
            return Sent(failure="it answered with a web page; give an endpoint that takes OTLP over HTTP")
        if result is SpanExportResult.SUCCESS and status in _OK:
            rejected, said = _partial_success(self._session.answer, len(batch))
            return Sent(len(batch) - rejected, rejected, said)
        if status == _TOO_LARGE:
            if len(batch) == 1:
                return Sent(rejected=1, said="larger than it takes")
            first = self.send(batch[: len(batch) // 2])
            return first if first.failure else first.and_then(self.send(batch[len(batch) // 2 :]))
        return Sent(failure=_status_text(status) if status else _error_text(self._session.error))

    def _readable(self, exported: LogSpan) -> ReadableSpan:
        from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415 - loaded already
        from opentelemetry.trace import (  # noqa: PLC0415 - the same
            SpanContext,
            SpanKind,
            Status,
            StatusCode,
            TraceFlags,
            TraceState,
        )

        span = exported.span
        flags = TraceFlags(TraceFlags.SAMPLED)
        state = TraceState.from_header([exported.trace_state]) if exported.trace_state else None
        parent = None
        if span.parent is not None:
            parent = SpanContext(span.trace_id, span.parent.span_id, exported.is_parent_remote, flags, state)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(
                span.trace_id, span.span_id, is_remote=False, trace_flags=flags, trace_state=state
            ),
            parent=parent,
            resource=self._resource,
            attributes=sendable(span.attributes),
            events=[Event(event.name, sendable(event.attributes), event.ns) for event in span.events],
            kind=SpanKind.CLIENT if span.kind == "client" else SpanKind.INTERNAL,
            status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _answering_session() -> Any:
    """Return a session of requests that keeps what the last request came to: status, answer, error."""
    import requests  # noqa: PLC0415 - slow, and an extra

    class AnsweringSession(requests.Session):
        def forget(self) -> None:
            self.status: int | None = None
            self.answer = b""
            self.is_page = False
            self.error: BaseException | None = None

        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            self.forget()
            if isinstance(self.verify, str):  # which REQUESTS_CA_BUNDLE would win over
                kwargs["verify"] = self.verify
            if "authorization" in map(str.lower, kwargs.get("headers") or ()):
                kwargs["auth"] = lambda request: request  # else that of ~/.netrc would win
            try:
                response = super().request(*args, **{**kwargs, "stream": True})
            except Exception as error:
                self.error = error
                raise
            self.status = response.status_code
            self.is_page = response.headers.get("content-type", "").startswith("text/html")
            with contextlib.suppress(
                Exception
            ):  # what was taken was taken, also where the rest is not readable
                self.answer = response.raw.read(_MOST_ANSWER, decode_content=True)
            response.close()
            return response

    return AnsweringSession()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter logs from stderr, where nobody listens to logging: the command says it once."""
    import logging  # noqa: PLC0415 - only where something is sent

    nobody = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("opentelemetry", "urllib3")]
    for logger in loggers:
        logger.addHandler(nobody)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(nobody)


def _partial_success(answer: bytes, most: int) -> tuple[int, str | None]:
    """Return how many spans of a batch were refused, and why; an answer that is no OTLP says nothing of it."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 - loaded already
        ExportTraceServiceResponse,
    )

    with contextlib.suppress(Exception):  # whatever protobuf makes of what a stranger sent
        told = ExportTraceServiceResponse.FromString(answer).partial_success
        said = one_line(told.error_message, _MOST_SAID) or None
        return min(max(told.rejected_spans, 0), most), said
    return 0, None


def _status_text(status: int) -> str:
    from http import HTTPStatus  # noqa: PLC0415 - only for an error

    phrase = ""
    with contextlib.suppress(ValueError):
        phrase = f" ({HTTPStatus(status).phrase})"
    if status in _REDIRECTS:
        return f"it answered {status}{phrase}, and no redirect is followed; give the address that it leads to"
    if status in _NO_CREDENTIALS:
        return f"it answered {status}{phrase}; give its credentials by --header"
    if status in _NOT_THERE:
        return f"it answered {status}{phrase}; give an endpoint that takes OTLP over HTTP"
    return f"it answered {status}{phrase}"


def _error_text(error: BaseException | None) -> str:
    """Return why no answer came; never the error's own text, which may quote headers and addresses."""
    import requests  # noqa: PLC0415 - loaded already

    if isinstance(error, requests.exceptions.Timeout):
        return "it did not answer in time"
    if isinstance(error, requests.exceptions.InvalidHeader):
        return "a header is not valid; look at --header and OTEL_EXPORTER_OTLP_HEADERS"
    reason = _reason(error)
    if isinstance(error, requests.exceptions.SSLError):
        return f"its certificate or TLS was refused{reason}"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy cannot be reached{reason}"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"it cannot be reached{reason}"
    if isinstance(error, OSError) and not isinstance(error, requests.exceptions.RequestException):
        return "a certificate cannot be read; look at OTEL_EXPORTER_OTLP_CERTIFICATE and the like"
    return f"sending failed{reason or f' ({type(error).__name__})'}"


def _reason(error: BaseException | None) -> str:
    """Return what the operating system says, from inside the errors that requests and urllib3 wrap around it."""
    seen: list[object] = [error]
    for each in seen:
        if isinstance(each, OSError) and each.strerror and each.errno is not None:
            return f" ({one_line(str(each.strerror), _MOST_SAID).lower()})"
        if isinstance(each, BaseException) and len(seen) < 16:  # noqa: PLR2004 - they refer to each other
            seen += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return ""
