"""Providers of spans and metrics that send over OTLP/HTTP, with an account of what arrived.

The SDK's batching processor and exporter do the work; what is added is that they are not believed: `force_flush` says
True whatever became of the batches, so that the answers of the endpoint are counted. Nobody who ends a span waits; a
flush, a close and the end of the process wait within a bound. Loads OpenTelemetry when the providers are made.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.accounting import Account
from agentkit_reporting.event_queue import is_on_event_loop
from agentkit_reporting.process_ends import watch
from agentkit_reporting.tracing.delivery import (
    CLOSE_TIMEOUT_S,
    SPEAKER,
    DeliveryCounts,
    Flusher,
    Reach,
    SpanTally,
    Trouble,
    VainWait,
    left_until,
)
from agentkit_reporting.tracing.otlp_endpoint import checked_headers, endpoint_of, shown_endpoint
from agentkit_reporting.tracing.otlp_settings import (
    is_disabled,
    queue_settings,
    reading_headers,
    reading_limits,
)
from agentkit_reporting.tracing.run_claims import Destination, destination_of

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    from agentkit_reporting.tracing.otlp_exchange import Outcome
    from agentkit_reporting.tracing.otlp_exporters import CountedSpanExporter
    from agentkit_reporting.tracing.otlp_meters import OtlpMeters

__all__ = ["OtlpTracing", "otlp_tracing"]

logger = logging.getLogger(__name__)


def otlp_tracing(
    endpoint: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    service_name: str | None = None,
    resource: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    compression: Literal["none", "gzip", "deflate"] | None = None,
    metrics: bool = True,
    close_timeout_s: float = CLOSE_TIMEOUT_S,
) -> OtlpTracing:
    """Return providers that send to an endpoint; what is not given comes from the standard variables (OTEL_…).

    endpoint: the base address of a receiver, such as `http://localhost:4318`, to which the signal's path is added.
    headers: of each request, such as an API key; never shown. service_name: `service.name` of the resource, `agentkit`
    where nobody says. resource: more attributes of it. timeout_s: how long one batch is tried, its retries included.
    metrics: whether metrics are sent as well; a receiver of spans alone says 404 to them. close_timeout_s: how long
    `flush` and `close` wait where nobody says. Raises ConfigurationError for what cannot be sent to, and without the
    extra `otel`.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise ConfigurationError(f"timeout_s={timeout_s!r} refused; give seconds, more than 0")
    if not close_timeout_s >= 0:
        raise ConfigurationError(f"close_timeout_s={close_timeout_s!r} refused; give seconds, 0 or more")
    if compression not in {None, "none", "gzip", "deflate"}:
        raise ConfigurationError(f"compression={compression!r} refused; use 'gzip', 'deflate' or 'none'")
    options = {"headers": checked_headers(headers), "timeout_s": timeout_s, "compression": compression}
    addresses = endpoint_of("traces", endpoint), endpoint_of("metrics", endpoint)
    try:
        with reading_limits():
            from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: F401, PLC0415 - an extra

            from agentkit_reporting.tracing.otlp_resource import delivery_resource  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "a delivery over OTLP refused because opentelemetry-exporter-otlp-proto-http is not installed; "
            "install agentkit-loop[otel]"
        ) from None
    describe = functools.partial(
        delivery_resource, service_name, None if resource is None else dict(resource)
    )
    return OtlpTracing(addresses, describe, options, metrics=metrics, close_timeout_s=close_timeout_s)


class OtlpTracing:
    """A tracer provider and a meter provider whose spans and metrics are sent, and what became of them.

    Made by `otlp_tracing()`. May be shared by threads. A forked child has counts, connections and threads of its own,
    and nothing of what its parent holds; instruments are to be asked of `meter_provider` again there.
    """

    def __init__(
        self,
        addresses: tuple[str, str],
        describe: Callable[[], Resource],
        options: dict[str, Any],
        *,
        metrics: bool,
        close_timeout_s: float,
    ) -> None:
        self._close_timeout_s = close_timeout_s
        self.spans_to, self.metrics_to = _destinations(addresses, options["headers"])
        """What stands for where they are sent, the same object for all that send there."""
        self.endpoint = shown_endpoint(addresses[0])
        """Where spans are sent, without credentials."""
        queue = queue_settings()
        self._tally = SpanTally(queue["max_queue_size"])
        self._trouble = Trouble()
        self._reach = Reach()
        is_one_place = urlsplit(addresses[0]).netloc == urlsplit(addresses[1]).netloc
        self._metrics_reach = self._reach if is_one_place else Reach()
        self._metrics_endpoint = shown_endpoint(addresses[1])
        self._in_vain = VainWait()
        self._meters: OtlpMeters | None = None
        self._exporter: CountedSpanExporter | None = None
        # Their threads keep this as well, so that what nobody else holds is flushed at exit.
        self._flushers = [Flusher("agentkit-otlp-spans", self._flush_spans)]
        with reading_headers():
            self.tracer_provider = self._provider(
                addresses[0], describe(), options, {} if is_disabled("TRACES") else queue
            )
            if metrics and not is_disabled("METRICS"):
                from agentkit_reporting.tracing.otlp_meters import OtlpMeters  # noqa: PLC0415 - an extra

                flusher = Flusher("agentkit-otlp-metrics", self._flush_metrics)
                self._flushers.append(flusher)
                self._meters = OtlpMeters(
                    addresses[1],
                    describe,
                    options,
                    trouble=self._trouble,
                    reach=self._metrics_reach,
                    flusher=flusher,
                )
        self._told_lost = 0
        self._ending = threading.Lock()
        watch(self)

    def _provider(
        self, address: str, resource: Resource, options: dict[str, Any], queue: dict[str, Any]
    ) -> TracerProvider:
        """Return a provider; without a queue one that sends nothing."""
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra

        with reading_limits():
            # Its wait at exit has no bound.
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        if queue:
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - an extra

            from agentkit_reporting.tracing.otlp_exporters import (  # noqa: PLC0415 - an extra
                CountedSpanExporter,
                CountedSpanProcessor,
            )

            exporter = CountedSpanExporter(address, self._tally, self._trouble, reach=self._reach, **options)
            processor = CountedSpanProcessor(
                BatchSpanProcessor(exporter, **queue), self._tally, self._trouble, address, self._flushers[0]
            )
            provider.add_span_processor(processor)
            self._exporter = exporter
        return provider

    def __repr__(self) -> str:
        return f"<OtlpTracing to {self.endpoint}: {self.counts()}>"

    @property
    def meter_provider(self) -> MeterProvider:
        """What metrics are recorded with; one that records nothing where metrics are not sent."""
        if self._meters is not None:
            return self._meters
        from opentelemetry.metrics import NoOpMeterProvider  # noqa: PLC0415 - an extra

        return NoOpMeterProvider()

    def begin_anew(self) -> None:
        """Count from nothing, with connections of its own: this is a forked child."""
        self._tally.begin_anew()
        self._trouble.begin_anew()
        self._reach.begin_anew()
        self._metrics_reach.begin_anew()
        self._in_vain.forget()
        self._told_lost = 0
        self._ending = threading.Lock()
        if self._exporter is not None:
            self._exporter.exchange.begin_anew()
        if self._meters is not None:
            self._meters.begin_anew()
        for flusher in self._flushers:
            flusher.begin_anew()

    # --- what became of it

    def counts(self) -> DeliveryCounts:
        """Return what became of the spans that ended."""
        return self._tally.counts()

    def account(self) -> Account:
        """Return the same as the account of an observer."""
        return self.counts().account("OtlpTracing")

    @property
    def metrics_error(self) -> str | None:
        """Why the last export of metrics failed; None where it did not, or there was none."""
        return None if self._meters is None else self._meters.last_error

    @property
    def pending(self) -> int:
        """How many spans are held that can still be delivered."""
        return self.counts().pending

    @property
    def _is_all_there(self) -> bool:
        return self.counts().is_complete and self.metrics_error is None

    # --- flush and close

    def ask_for_flush(self) -> None:
        """Have everything sent by other threads, since the process ends; waits for nobody."""
        self._trouble.is_told_at_the_end = True
        for flusher in self._flushers:
            flusher.ask()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Have everything sent, and wait for it within a bound; whether every span so far, and the metrics, arrived.

        timeout_s: None waits for `close_timeout_s`. While somebody waits, an endpoint that is dead, since its last
        batch failed after its retries, gets one try of each batch. Does not wait on an event loop, where others would
        wait with it.
        """
        began = time.monotonic()
        is_tried = self._flushed(self._end_of(timeout_s))
        self._in_vain.forget()
        if not is_tried:
            self._in_vain.note(self._settled, time.monotonic() - began)
        return is_tried and self._is_all_there

    @property
    def _settled(self) -> int:
        """How many spans were sent, or tried in vain: as long as that is equal, nothing has come of waiting."""
        counts = self.counts()
        return counts.delivered + counts.failed + counts.rejected

    def _end_of(self, timeout_s: float | None) -> float:
        return time.monotonic() + (self._close_timeout_s if timeout_s is None else timeout_s)

    def _flushed(self, until: float) -> bool:
        """Have everything sent; whether it was tried to its end within the time, or is not tried any more."""
        if self._tally.is_given_up:
            return True
        with self._reach.awaited(), self._metrics_reach.awaited():
            asked = [(flusher, flusher.ask()) for flusher in self._flushers]
            if is_on_event_loop():
                return not self.pending and all(flusher.wait(number, 0.0) for flusher, number in asked[1:])
            return all(flusher.wait(number, left_until(until)) for flusher, number in asked)

    def _flush_spans(self) -> None:
        self.tracer_provider.force_flush()

    def _flush_metrics(self) -> None:
        if self._meters is not None:
            self._meters.flush()

    def close(self, timeout_s: float | None = None) -> bool:
        """Take no more, send what is held within a bound, and give up what is left; whether everything arrived.

        timeout_s: None waits for `close_timeout_s`; what a flush has just waited for in vain is taken off it. Twice is
        harmless. On an event loop, where nothing is waited for, what is held is sent by other threads, until the
        process ends.
        """
        until = self._end_of(timeout_s) - self._in_vain.seconds(self._settled)
        self._tally.is_closed = self._trouble.is_told_at_the_end = True
        is_tried = self._flushed(until)
        if not is_tried and is_on_event_loop():
            return False
        with self._ending:
            if not self._tally.is_given_up:
                self._tally.is_given_up = True
                self._shut_down(left_until(until))
        self.tell_lost()
        return self._is_all_there

    def _shut_down(self, timeout_s: float) -> None:
        """End the SDK's threads; one that is in a request ends with it, which nobody waits for beyond the bound."""
        if self._meters is not None:
            self._meters.end()
        if self._exporter is not None:
            self._exporter.shutdown()  # ends its waits between attempts
        for flusher in self._flushers:
            flusher.end()
        ending = threading.Thread(target=self._end, name="agentkit-otlp-end", daemon=True)
        with contextlib.suppress(RuntimeError):  # at the interpreter's exit, which ends them as well
            ending.start()
            ending.join(timeout_s)

    def _end(self) -> None:
        self.tracer_provider.shutdown()
        if self._meters is not None:
            self._meters.shut_down()

    @property
    def _trying(self) -> str | None:
        """Why the last attempt failed, of a batch that will be tried again."""
        outcome: Outcome | None = None if self._exporter is None else self._exporter.exchange.outcome
        return None if outcome is None else outcome.reason

    def tell_lost(self) -> None:
        """Log, in one line, what was not delivered; nothing where everything was, or where it was said already."""
        counts = self.counts().at_the_end()
        missing = counts.ended - counts.delivered
        of_metrics = self.metrics_error
        if missing <= self._told_lost:
            if of_metrics and not missing and not self._trouble.is_told(of_metrics):
                self._trouble.is_told_at_the_end = False
                self._trouble.tell("metrics", self._metrics_endpoint, of_metrics)
            return
        self._told_lost = missing
        error = counts.last_error or self._trying
        told = {f"; last error: {error}": error, f"; of the metrics: {of_metrics}": of_metrics}
        why = "".join(text for text, reason in told.items() if reason and not self._trouble.is_told(reason))
        sent = f"{counts.delivered:,} of {counts.ended:,} spans were delivered to {self.endpoint}"
        logger.warning("%s: %s%s%s", SPEAKER, sent, counts.missing, why)


def _destinations(addresses: tuple[str, str], headers: Mapping[str, str]) -> tuple[Destination, Destination]:
    """Return where spans and metrics go; headers of the environment are part of that."""
    variables = {"": os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")}
    spans, metrics = (
        destination_of(
            address, {**headers, **variables, ":": os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_HEADERS", "")}
        )
        for address, signal in zip(addresses, ("TRACES", "METRICS"), strict=True)
    )
    return spans, metrics
