"""Spans of a log to an OTLP/HTTP endpoint: batch by batch, each waited for, and counted by what the endpoint answered.

The same exporter as of a live delivery (otlp_exporters.py); what is its own is that spans are made as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.tracing.log_spans import LogSpan
from agentkit_reporting.tracing.otlp_settings import reading_headers, reading_limits
from agentkit_reporting.tracing.scope import SCHEMA_URL, SCOPE_NAME, scope_version
from agentkit_reporting.tracing.spans import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from agentkit_reporting.tracing.otlp_exchange import Outcome

__all__ = ["OtlpSender", "Sent"]


@attrs.frozen
class Sent:
    """What became of spans. taken: that the endpoint took. rejected: that it refused by themselves.

    said: why those were rejected, or None. failure: why nothing more is taken, in one line without a secret, or None.
    status: of the answer that says so.
    """

    taken: int = 0
    rejected: int = 0
    said: str | None = None
    failure: str | None = None
    status: int | None = None

    def and_then(self, other: Sent) -> Sent:
        """Return both as one."""
        return Sent(
            self.taken + other.taken,
            self.rejected + other.rejected,
            self.said or other.said,
            self.failure or other.failure,
            self.status or other.status,
        )


class OtlpSender:
    """Sends batches to an endpoint; `with` closes its connections.

    endpoint: the address of traces, whole. headers: in addition to those of OTEL_EXPORTER_OTLP_(TRACES_)HEADERS, and
    before them; time limit, compression and certificates are those of the standard's variables. resource: see
    export_resource. schema_url: of the spans (scope.py). Raises ConfigurationError without OpenTelemetry.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        resource: Mapping[str, str],
        schema_url: str | None = SCHEMA_URL,
    ) -> None:
        try:
            with reading_limits():
                from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - slow, and an extra
                from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - the same

                from agentkit_reporting.tracing.otlp_exporters import SpanPost  # noqa: PLC0415 - the same
        except ImportError as error:
            raise ConfigurationError(
                "sending spans refused because OpenTelemetry is not installed; install agentkit-loop[otel]"
            ) from error
        self._resource = Resource(dict(resource))
        self._scope = InstrumentationScope(SCOPE_NAME, scope_version() or None, schema_url)
        with reading_headers("agentkit"):
            self._post = SpanPost(endpoint, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._post.shutdown()

    def send(self, batch: Sequence[LogSpan]) -> Sent:
        """Send a batch and wait for the answer, which takes at most the exporter's time limit (10 s by default).

        A batch that is too large for the endpoint is sent in halves. What comes after a failure is not sent.
        """
        sent = Sent()
        for number, outcome in self._post.outcomes([self._readable(each) for each in batch]):
            sent = sent.and_then(_sent(number, outcome))
            if sent.failure is not None:
                break
        return sent

    def _events(self, span: Span) -> Sequence[Any]:
        """Return the events of a span, with the number of those that found no room."""
        from opentelemetry.sdk.trace import Event  # noqa: PLC0415 - loaded already
        from opentelemetry.sdk.util import BoundedList  # noqa: PLC0415 - the same

        events = [Event(event.name, event.attributes, event.ns) for event in span.events]
        kept: BoundedList[Any] = BoundedList.from_seq(None, events)
        kept.dropped = span.dropped_events
        return kept

    def _readable(self, exported: LogSpan) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - loaded already
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
            attributes=span.attributes,
            events=cast("Any", self._events(span)),  # by its own property, what the SDK counts drops in
            kind=SpanKind.CLIENT if span.kind == "client" else SpanKind.INTERNAL,
            status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _sent(number: int, outcome: Outcome) -> Sent:
    if outcome.reason is None:
        return Sent(number)
    if outcome.rejected:
        rejected = min(outcome.rejected, number)
        return Sent(number - rejected, rejected, outcome.message)
    if not outcome.is_posted:  # by itself: what is around it can be sent
        return Sent(rejected=number, said=outcome.reason)
    return Sent(failure=outcome.reason, status=outcome.status)
