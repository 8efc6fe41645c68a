"""TracingReporter: runs as OpenTelemetry spans and metrics, while they happen.

Spans are folded from the events (fold.py) and made with the API (api_spans.py), so a log that is told to it makes the
same spans as the run did. What becomes of them is the business of the provider, which belongs to the host.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Never, Self

from agentkit_loop.content import BeginPart, CommitPart
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import RUN_ENDS, AgentEvent, ContentDelta, RunStarted
from agentkit_loop.models.sdk_spans import stand_in, withdraw
from agentkit_loop.observers import EventKind, LoopObserver, log_error
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.process_ends import watch, watch_child
from agentkit_reporting.redaction.content_marks import Content
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.tracing.api_spans import ApiSpans
from agentkit_reporting.tracing.capture import check_capture, content_of
from agentkit_reporting.tracing.content import CONTENT_EVENTS
from agentkit_reporting.tracing.conventions import ProfileName, chosen_profile
from agentkit_reporting.tracing.delivery import CLOSE_TIMEOUT_S
from agentkit_reporting.tracing.dropped_deliveries import close_when_dropped
from agentkit_reporting.tracing.fold import SPAN_EVENTS, SpanFold
from agentkit_reporting.tracing.metrics import ApiMetrics
from agentkit_reporting.tracing.otlp_endpoint import shown_endpoint
from agentkit_reporting.tracing.run_claims import RunClaims
from agentkit_reporting.tracing.scope import schema_url_of
from agentkit_reporting.tracing.spans import Span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from agentkit_reporting.tracing.otlp_provider import OtlpTracing

__all__ = ["TracingReporter"]

logger = logging.getLogger(__name__)

_MOST_ELSEWHERE: Final = 512  # runs that another tells: one whose end is missing is forgotten some time


class TracingReporter(LoopObserver):
    """Makes a span of each run, request and tool call; may be shared by sessions and threads.

    tracer_provider, meter_provider: the host's; None for both takes the global ones, also where they are set later than
    this is made. With a tracer_provider alone nothing is measured, and with a meter_provider alone spans are made with
    the global provider. As long as there is no tracer provider spans go nowhere, which is logged once;
    `NoOpTracerProvider()` says that none are wanted. content: whether spans tell messages, arguments, results and error
    texts; None leaves it to the environment (capture.py), which is off. redact: what is masked in them first, our own
    rules or a Redactor that nobody else uses. profile: under which names attributes are told (conventions.py). metrics:
    whether durations and tokens are recorded as well.

    Ids are derived from session and run: the same log gives the same spans, live, told again, or exported. The parent
    of a run is what its `metadata["traceparent"]` names, never the span that is current where an event is told, and
    none of its own spans is ever current. The provider's sampler is asked as for any span.

    Of several that share a provider, or are `over_otlp` to one endpoint with the same headers, the first that is told
    of a run tells it; the others leave it out: no span and no token is there twice. What they leave out they count in
    `told_elsewhere`. A run is that one's until it is closed or nobody holds it any more: to tell a log once more to
    where its run was told live, close the reporter of the run first, or make spans with another provider.

    What a provider's processor raises is raised by `handle_event`, when the event is folded and all its spans are
    ended, and judged by the loop as any observer's failure. Nothing waits for the network, and for another thread only
    while that folds an event.

    Raises ConfigurationError where OpenTelemetry's API is not installed (the extra `otel`), and for a wrong option.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        content: bool | Content | None = None,
        redact: Redactor | bool = True,
        profile: ProfileName | None = None,
        metrics: bool = True,
    ) -> None:
        self._profile = chosen_profile(profile, os.environ)
        self._content: dict[str, Any] = {"content": content, "redact": redact}
        self._delivery: OtlpTracing | None = None  # its own: over_otlp
        self._spans = ApiSpans(tracer_provider, schema_url=schema_url_of(self._profile))
        # The spans of a log may be told to a provider of their own; what is measured globally was measured live.
        is_measured = metrics and (tracer_provider is None or meter_provider is not None)
        self._metrics = ApiMetrics(meter_provider) if is_measured else None
        self._closed = False
        self.begin_anew()
        watch(self)
        stand_in(self)

    @classmethod
    def over_otlp(
        cls,
        endpoint: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        service_name: str | None = None,
        resource: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        compression: Literal["none", "gzip", "deflate"] | None = None,
        content: bool | Content | None = None,
        redact: Redactor | bool = True,
        profile: ProfileName | None = None,
        metrics: bool = True,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> Self:
        """Return one that sends its spans and metrics over OTLP/HTTP by itself, in the background.

        endpoint: of a collector or backend, `http://localhost:4318` by default; `/v1/traces` is added. What is not
        given is as OpenTelemetry's variables say (`OTEL_EXPORTER_OTLP_…`, `OTEL_SERVICE_NAME`, …). metrics: False for
        a backend that takes spans alone. An endpoint that is dead or slow delays nobody: it is told once, counted in
        `account()`, and `close()` returns False. close_timeout_s: how long `flush` and `close` wait for it where nobody
        says. Keep it as long as something is told to it or made with its `tracer_provider`: when nobody holds it any
        more, what it has is delivered and its threads end. Raises ConfigurationError for what is no endpoint or header.
        """
        from agentkit_reporting.tracing.otlp_provider import otlp_tracing  # noqa: PLC0415 - an extra, and slow

        chosen_profile(profile, os.environ)  # refuses before there are threads, which would go on for nobody
        check_capture(content, redact)
        made = otlp_tracing(
            endpoint,
            headers=headers,
            service_name=service_name,
            resource=resource,
            timeout_s=timeout_s,
            compression=compression,
            metrics=metrics,
            close_timeout_s=close_timeout_s,
        )
        providers = (made.tracer_provider, made.meter_provider)
        reporter = cls(*providers, content=content, redact=redact, profile=profile, metrics=metrics)
        reporter._delivery = made
        close_when_dropped(reporter, made)
        return reporter

    def begin_anew(self) -> None:
        """Forget what is open, with new locks, and count from zero: this is a forked child."""
        self._lock = threading.RLock()  # re-entrant: a signal handler may tell an event within another
        self._spans.begin_anew()
        if self._metrics is not None:
            self._metrics.begin_anew()
        self._fold = self._new_fold()
        self._received, self._failed, self._left_out = Tally(), Tally(), Tally()
        self._elsewhere: dict[tuple[str, str], None] = {}

    def _new_fold(self) -> SpanFold:
        content = content_of(**self._content)
        self._tells_content = content is not None
        more: tuple[EventKind, ...] = ()
        if content is not None:
            said = tuple(kind for kind in CONTENT_EVENTS if kind not in (*SPAN_EVENTS, ContentDelta))
            more = (*said, BeginPart, CommitPart)  # no previews, of which nothing is told
        self.wants: tuple[EventKind, ...] = (*SPAN_EVENTS, *more)  # type: ignore[misc] # of this one observer
        return SpanFold(profile=self._profile, content=content)

    def __repr__(self) -> str:
        told = [f"profile {self._profile.name}"]
        told += [f"content {'on' if self._tells_content else 'off'}"]
        told += [f"metrics {'off' if self._metrics is None else 'on'}"]
        endpoint = getattr(self._delivery, "endpoint", None)  # of our own delivery
        told += [f"to {shown_endpoint(endpoint)}"] if isinstance(endpoint, str) else []
        return f"<{type(self).__name__}: {', '.join(told)}>"

    # --- events

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event. Raises IllegalMoveError once it is closed, and what a processor of the provider raised."""
        self._received.add()
        try:
            with self._lock:  # around our own fold alone: the provider is called without it
                if self._closed:
                    self._refuse()
                if event.__class__ is RunStarted:
                    spans = self._begin(event)
                else:
                    if self._elsewhere:
                        self._leave_out(event)
                    spans = self._fold.take(event)
            if spans:
                self._tell(spans)
        except BaseException:
            self._failed.add()
            raise

    def _begin(self, event: RunStarted) -> Sequence[Span]:
        """Take the beginning of a run, as far as no other reporter tells it to the same place."""
        watch_child()
        run, own, metrics = (event.session_id, event.run_id), self._delivery, self._metrics
        is_traced = _claims.claim(self._spans.tracer_provider if own is None else own.spans_to, run, self)
        is_measured = metrics is not None and _claims.claim(
            metrics.provider if own is None else own.metrics_to, run, self
        )
        if not (is_traced or is_measured):
            self._begin_elsewhere(event)
            return self._fold.supersede(event)
        return self._fold.begin(event, "metrics" if not is_traced else "all" if is_measured else "spans")

    def _begin_elsewhere(self, event: AgentEvent) -> None:
        self._left_out.add()
        self._elsewhere[event.session_id, event.run_id] = None
        if len(self._elsewhere) > _MOST_ELSEWHERE:
            del self._elsewhere[next(iter(self._elsewhere))]
        logger.debug("no span of run %.60r here: another reporter tells it to the same place", event.run_id)

    def _leave_out(self, event: AgentEvent) -> None:
        """Count an event of a run that another reporter tells."""
        run = event.session_id, event.run_id
        if run in self._elsewhere:
            self._left_out.add()
            if isinstance(event, RUN_ENDS):
                del self._elsewhere[run]

    def _refuse(self) -> Never:
        raise IllegalMoveError("event", "the reporter is closed", "make a new one")

    def _tell(self, spans: Sequence[Span]) -> None:
        error = self._spans.end(spans)
        if self._metrics is not None:
            for span in spans:
                if span.share != "spans":
                    self._metrics.record(span, self._spans.finished_context(span))
        if error is not None:
            raise error

    @property
    def open_spans(self) -> int:
        """How many spans have begun and are not over."""
        with self._lock:
            return self._fold.open_count

    @property
    def told_elsewhere(self) -> int:
        """How many events it took and made nothing of, since another reporter tells their run to the same place.

        The account has them among the delivered: nothing is lost.
        """
        return self._left_out.value

    # --- who makes spans of requests (agentkit_loop/models/sdk_spans.py)

    @property
    def tracer_provider(self) -> TracerProvider:
        """The provider that spans are made with: the given one, else the global one as it is now."""
        return self._spans.tracer_provider

    def place_of_request(self, session_id: str, run_id: str, request_id: str) -> Context | None:
        """Return the context in which this request's span is the parent, begun now; None if it is not open here."""
        with self._lock:
            span = self._fold.span_of_request(session_id, run_id, request_id)
        return None if span is None else self._spans.context_of(span)

    def client_option(self) -> Any:
        """Return what a client of the SDK is given as `open_telemetry`, so that its own spans join ours.

        They stand below the span of the request that is being sent, and tell no usage, which ours tell.
        """
        from agentkit_reporting.tracing.adopting import client_option  # noqa: PLC0415 - needs the extra

        return client_option(self)

    # --- ends

    def account(self) -> Account:
        """Return what became of the events, and behind that of what its own delivery was given.

        What a host's provider does with the spans, only that knows.
        """
        failed, received = self._failed.value, self._received.value
        return Account(
            name=type(self).__name__,
            received=received,
            delivered=received - failed,
            failed=failed,
            inner=() if self._delivery is None else (self._delivery.account(),),
        )

    @property
    def pending(self) -> int:
        """How many spans are open; they are ended when the process is."""
        return self.open_spans

    def flush(self, timeout_s: float | None = None) -> bool:
        """Have its own delivery deliver what has ended; return whether everything so far arrived.

        A host's provider is not flushed, and nothing else is held back.
        """
        went_well = self._delivery is None or self._delivery.flush(timeout_s)
        return went_well and not self.account().lost

    def hand_over(self) -> bool:
        """Do nothing: who delivers spans does that by itself. That events were lost is told with those."""
        return True

    def ask_for_flush(self) -> None:
        """End what is open: the process ends, and with it every run. Raises nothing: others are to be ended too."""
        try:
            self._end_open()
        except Exception as error:  # noqa: BLE001 - a processor of the host's
            log_error(logger, f"{type(self).__name__} failed to end its spans", error)

    def tell_lost(self) -> None:
        """Log nothing: what was open has been ended."""

    def close(self, timeout_s: float | None = None) -> bool:
        """End what is open, as unfinished, at the time of its run's last event; return whether everything arrived.

        Its own delivery is closed with it, within a time; a host's provider is not. Twice is harmless. Events that come
        later are refused.
        """
        withdraw(self)
        with self._lock:
            self._closed = True
        _claims.release(self)
        try:
            self._end_open()
        finally:
            went_well = self._delivery is None or self._delivery.close(timeout_s)
        return went_well and self.account().is_complete

    def _end_open(self) -> None:
        with self._lock:
            spans = self._fold.close()
        self._tell(spans)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_claims = RunClaims()
