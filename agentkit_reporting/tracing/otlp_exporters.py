"""The SDK's exporters over OTLP/HTTP, and what stands in front of its batching processor, with every span counted.

Needs the extra `otel`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExportResult

from agentkit_reporting.process_ends import watch_child
from agentkit_reporting.tracing.delivery import Flusher, Reach, SpanTally, Trouble
from agentkit_reporting.tracing.otlp_endpoint import shown_endpoint
from agentkit_reporting.tracing.otlp_exchange import Exchange, Outcome, reason_of
from agentkit_reporting.tracing.sdk_logs import EXPORT_LOGGERS, quieted

__all__ = ["CountedMetricExporter", "CountedSpanExporter", "CountedSpanProcessor", "SpanPost"]


class CountedSpanProcessor(SpanProcessor):
    """Counts the spans that end, and gives those for which there is room to the batching processor; never waits."""

    def __init__(
        self, inner: SpanProcessor, tally: SpanTally, trouble: Trouble, endpoint: str, flusher: Flusher
    ) -> None:
        self._inner = inner
        self._flusher = flusher
        self._tally = tally
        self._trouble = trouble
        self._endpoint = shown_endpoint(endpoint)

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that is over; one that is not sampled is nobody's."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        watch_child()
        if not self._flusher.is_running:
            self._flusher.start()
        if self._tally.admit():
            self._inner.on_end(span)
        elif not self._tally.is_closed:
            capacity = self._tally.capacity
            reason = f"{capacity:,} wait already, more are dropped"
            self._trouble.tell("spans", self._endpoint, reason, kind="full")

    def shutdown(self) -> None:
        """Take no more; ends the batching processor, which may wait for a request of it."""
        self._tally.is_closed = True
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits, on this thread and however long it takes; whether everything so far was delivered."""
        return self._inner.force_flush(timeout_millis) and self._tally.counts().is_complete


class SpanPost(OTLPSpanExporter):
    """Exports batches, and says of each part of one what became of it.

    A batch that cannot be encoded, or that the endpoint finds too large (413), is sent in halves, so that one span
    does not take 511 others with it. timeout_s, compression: None for those of the standard's variables.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float | None = None,
        compression: str | None = None,
        reach: Reach | None = None,
    ) -> None:
        self.exchange = Exchange("traces", reach)
        self._is_over = False
        super().__init__(
            endpoint=endpoint,
            headers=headers,
            timeout=timeout_s,
            compression=None if compression is None else Compression(compression),
            session=cast("Any", self.exchange),  # what is used of a session, it has
        )

    def outcomes(self, spans: Sequence[ReadableSpan]) -> Iterator[tuple[int, Outcome]]:
        """Send a batch; yield how many spans each part had, and how it went, when it is answered or given up."""
        parts = [spans]
        while parts:
            part = parts.pop()
            outcome = self._sent(part)
            is_too_large = outcome.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            if (is_too_large or not outcome.is_posted) and len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            elif is_too_large:
                message = "a span that is larger than it takes"
                yield 1, Outcome(f"1 rejected by the receiver: {message}", outcome.status, 1, message)
            else:
                yield len(part), outcome

    def shutdown(self) -> None:
        """Wait for no next attempt; twice is harmless."""
        if not self._is_over:
            self._is_over = True
            super().shutdown()  # type: ignore[no-untyped-call] # the SDK's, without an annotation

    def _sent(self, spans: Sequence[ReadableSpan]) -> Outcome:
        self.exchange.forget()
        reason = "spans that cannot be encoded"
        try:
            with quieted(*EXPORT_LOGGERS):
                super().export(spans)
        except Exception as error:  # noqa: BLE001 - whatever it is, the spans did not arrive and the next may
            reason = reason_of(error)
        self.exchange.note_end()
        return self.exchange.outcome or Outcome(reason, is_posted=False)


class CountedSpanExporter(SpanPost):
    """Exports batches and counts what became of each span."""

    def __init__(
        self,
        endpoint: str,
        tally: SpanTally,
        trouble: Trouble,
        *,
        reach: Reach,
        headers: Mapping[str, str],
        timeout_s: float | None,
        compression: str | None,
    ) -> None:
        self._tally = tally
        self._trouble = trouble
        self._shown = shown_endpoint(endpoint)
        super().__init__(endpoint, headers=headers, timeout_s=timeout_s, compression=compression, reach=reach)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, in parts if it must be; called by one thread at a time."""
        self._tally.take(len(spans))
        went_well = True
        for number, outcome in self.outcomes(spans):
            went_well &= outcome.reason is None
            self._settle(outcome, number)
        return SpanExportResult.SUCCESS if went_well else SpanExportResult.FAILURE

    def _sent(self, spans: Sequence[ReadableSpan]) -> Outcome:
        if self._tally.is_given_up:
            return Outcome(self._tally.last_error or "given up")
        return super()._sent(spans)

    def _settle(self, outcome: Outcome, number: int) -> None:
        rejected = min(outcome.rejected, number)
        is_taken = outcome.reason is None or rejected > 0
        self._tally.settle(
            delivered=number - rejected if is_taken else 0,
            failed=0 if is_taken else number,
            rejected=rejected,
            error=outcome.reason,
        )
        if outcome.reason is not None and not self._tally.is_given_up:
            self._trouble.tell("spans", self._shown, outcome.reason)


class CountedMetricExporter(OTLPMetricExporter):
    """Exports metrics and keeps how it went the last time; they are totals, so that a next export has what one lost."""

    def __init__(
        self,
        endpoint: str,
        trouble: Trouble,
        *,
        reach: Reach,
        headers: Mapping[str, str],
        timeout_s: float | None,
        compression: str | None,
    ) -> None:
        self.is_over = False  # nothing is sent any more
        self._is_shut = False
        self.last_error: str | None = None
        """Why the last export failed; None if it did not, and where nobody takes metrics."""
        self._exchange = Exchange("metrics", reach)
        self._trouble = trouble
        self._shown = shown_endpoint(endpoint)
        self._process = os.getpid()
        super().__init__(
            endpoint=endpoint,
            headers=headers,
            timeout=timeout_s,
            compression=None if compression is None else Compression(compression),
            session=cast("Any", self._exchange),  # what is used of a session, it has
        )

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **options: Any
    ) -> MetricExportResult:
        """Send the totals. In a forked child nothing: they are its parent's, which sends them itself."""
        if self.is_over or os.getpid() != self._process:
            return MetricExportResult.FAILURE
        self._exchange.forget()
        try:
            with quieted(*EXPORT_LOGGERS):
                super().export(metrics_data, timeout_millis, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next export has the totals again
            outcome = Outcome(reason_of(error))
        else:
            outcome = self._exchange.outcome or Outcome("metrics that cannot be encoded")
        self._exchange.note_end()
        if outcome.is_other_signal:
            self.is_over, self.last_error = True, None
            self._trouble.tell_not_taken(self._shown, str(outcome.reason))
            return MetricExportResult.FAILURE
        self.last_error = outcome.reason
        if outcome.reason is None:
            return MetricExportResult.SUCCESS
        if not self.is_over:
            self._trouble.tell("metrics", self._shown, outcome.reason)
        return MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        """Wait for no next attempt; twice is harmless."""
        if not self._is_shut:
            self._is_shut = True
            super().shutdown(timeout_millis, **options)
