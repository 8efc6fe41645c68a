"""An OTLP/HTTP receiver: takes what exporters post, decodes the protobuf, and keeps it for a test to look at."""

from __future__ import annotations

import gzip
import http.server
import threading
from typing import Any, Self

from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


class OtlpReceiver:
    """A server on loopback, used in a `with`.

    statuses: what the first requests are answered with, in order; 200 after that. `release` is waited for before each
    answer, and is set to begin with: clear it for an endpoint that hangs. `arrived` is told of each request that comes,
    and of each that is kept.
    """

    def __init__(self, *, statuses: tuple[int, ...] = (), rejected: int = 0) -> None:
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.statuses = list(statuses)
        self.rejected = rejected  # spans of which a partial success says that they were not taken
        self.release = threading.Event()
        self.release.set()
        self.arrived = threading.Condition()
        self.requests = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one packet, for which no client's kernel waits

            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """The base address, as OTEL_EXPORTER_OTLP_ENDPOINT takes it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        with self.arrived:
            self.requests += 1
            self.arrived.notify_all()
            status = self.statuses.pop(0) if self.statuses else 200
        self.release.wait()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        response = ExportTraceServiceResponse()
        if status == 200:
            with self.arrived:
                self.headers.append({name.lower(): value for name, value in request.headers.items()})
                self._keep(request.path, body)
                self.arrived.notify_all()
            response.partial_success.rejected_spans = self.rejected
        content = response.SerializeToString()
        request.send_response(status)
        request.send_header("content-type", "application/x-protobuf")
        request.send_header("content-length", str(len(content)))
        request.send_header("retry-after", "0")  # at once, where the status is one that is tried again
        request.end_headers()
        request.wfile.write(content)

    def _keep(self, path: str, body: bytes) -> None:
        kinds: dict[str, tuple[type[Message], list[Any]]] = {
            "/v1/traces": (ExportTraceServiceRequest, self.traces),
            "/v1/metrics": (ExportMetricsServiceRequest, self.metrics),
        }
        kind, kept = kinds[path]
        kept.append(kind.FromString(body))

    @property
    def spans(self) -> list[Any]:
        """All spans that came, in order; protobuf messages."""
        return [
            span
            for request in list(self.traces)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return the attributes of a span, an event, a resource or a scope as Python values."""
    return {pair.key: _value(pair.value) for pair in thing.attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(each) for each in value.array_value.values)
    return None if kind is None else getattr(value, kind)
