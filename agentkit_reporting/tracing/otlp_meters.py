"""A meter provider that sends its totals over OTLP/HTTP from time to time. Needs the extra `otel`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from agentkit_reporting.tracing.delivery import Flusher, Reach, Trouble
from agentkit_reporting.tracing.otlp_exporters import CountedMetricExporter
from agentkit_reporting.tracing.otlp_settings import number_of, reading_headers

__all__ = ["OtlpMeters"]


@attrs.frozen
class _Made:
    provider: SdkMeterProvider
    exporter: CountedMetricExporter


class OtlpMeters(MeterProvider):
    """Gives out meters of the SDK.

    A forked child has others, since those of its parent would send what was measured there once more. The totals are
    collected and sent by a thread, every OTEL_METRIC_EXPORT_INTERVAL milliseconds (60,000).

    describe: makes the resource, that of the process it is called in. flusher: what calls `flush()`; begun when the
    first meter is given out.
    """

    def __init__(
        self,
        address: str,
        describe: Callable[[], Resource],
        options: Mapping[str, Any],
        *,
        trouble: Trouble,
        reach: Reach,
        flusher: Flusher,
    ) -> None:
        self._address = address
        self._describe = describe
        self._trouble = trouble
        self._reach = reach
        self._options = options
        self._interval_ms = number_of("OTEL_METRIC_EXPORT_INTERVAL", 60_000)
        self._timeout_ms = number_of("OTEL_METRIC_EXPORT_TIMEOUT", 30_000)
        self._flusher = flusher
        self._making = threading.Lock()
        self._made: _Made | None = self._make()
        self._parents: list[_Made | None] = []  # kept, so that nothing of them is ended here

    def _make(self) -> _Made:
        exporter = CountedMetricExporter(self._address, self._trouble, reach=self._reach, **self._options)
        reader = PeriodicExportingMetricReader(
            exporter, export_interval_millis=self._interval_ms, export_timeout_millis=self._timeout_ms
        )
        return _Made(SdkMeterProvider([reader], resource=self._describe(), shutdown_on_exit=False), exporter)

    def begin_anew(self) -> None:
        """Give out others from now on: this is a forked child."""
        self._parents.append(self._made)
        self._made = None
        self._making = threading.Lock()

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Meter:
        """Return a meter; see OpenTelemetry's MeterProvider."""
        self._flusher.start()
        with self._making:
            if self._made is None:
                with reading_headers():
                    self._made = self._make()
            return self._made.provider.get_meter(name, version, schema_url, attributes)

    @property
    def last_error(self) -> str | None:
        """Why the last export failed; None if it did not."""
        return None if self._made is None else self._made.exporter.last_error

    def flush(self) -> None:
        """Send the totals as they are now, on this thread."""
        if self._made is not None and not self._made.exporter.is_over:
            self._made.provider.force_flush(self._timeout_ms)

    def end(self) -> None:
        """Send no more, and wait for no next attempt."""
        if self._made is not None:
            self._made.exporter.is_over = True
            self._made.exporter.shutdown()

    def shut_down(self) -> None:
        """End the SDK's thread, and wait for it."""
        if self._made is not None:
            self._made.provider.shutdown()
