"""Spans made with the OpenTelemetry API of a host's tracer provider, under the ids that the events give them.

Every parent is given explicitly: nothing is attached to a context, nothing of ours is ever current, and what is current
where an event is told is never looked at. A span is made when it is over, with its own times; one that has children
is made before the first of them is over, since they need it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.forks import Locked
from agentkit_loop.trace_context import SpanPlace
from agentkit_loop.values import safe_repr
from agentkit_reporting.tracing.scope import SCHEMA_URL, SCOPE_NAME, scope_version
from agentkit_reporting.tracing.spans import Span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as ApiSpan
    from opentelemetry.trace import SpanContext, Tracer, TracerProvider

__all__ = ["ApiSpans", "DerivedIds"]

logger = logging.getLogger(__name__)

_NOWHERE = (
    "no tracer provider is set, so spans go nowhere; call opentelemetry.trace.set_tracer_provider(…), give one as "
    "TracingReporter(tracer_provider), or have TracingReporter.over_otlp(…) send them"
)


class _Asked(threading.local):
    """What was asked for on this thread: trace id and span id."""

    ids: tuple[int, int] | None = None


class DerivedIds:
    """A tracer's generator of ids that gives those that were asked for next on this thread, else those of `inner`.

    asked: trace id and span id of the next span of this thread.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.asked = _Asked()

    def generate_trace_id(self) -> int:
        """Return the id of a new trace, 128 bits."""
        ids = self.asked.ids
        return int(self.inner.generate_trace_id()) if ids is None else ids[0]

    def generate_span_id(self) -> int:
        """Return the id of a new span, 64 bits."""
        asked = self.asked
        ids, asked.ids = asked.ids, None  # each is for one span
        return int(self.inner.generate_span_id()) if ids is None else ids[1]

    def is_trace_id_random(self) -> bool:
        """Whether the next trace id is drawn by chance: a derived one is as even, and not random."""
        if self.asked.ids is not None:
            return False
        told = getattr(self.inner, "is_trace_id_random", None)  # newer than the interface
        return bool(told()) if callable(told) else False


class _Wrapping(Locked):
    """Puts our generator around that of a tracer, one for all reporters that share it."""

    def wrapped(self, tracer: Any) -> DerivedIds | None:
        """Return the generator of a tracer, which is of our scope alone; None where it has none to be changed."""
        with self._lock:
            inner = getattr(tracer, "id_generator", None)
            if inner is None or isinstance(inner, DerivedIds):
                return inner
            try:
                tracer.id_generator = DerivedIds(inner)
            except AttributeError:
                return None
            return tracer.id_generator  # type: ignore[no-any-return] # what was set


_wrapping = _Wrapping()


class ApiSpans:
    """Makes spans of those that are over.

    tracer_provider: None takes the global one, looked up whenever a span is to be made until there is one; what is over
    before that is told to nobody, which is logged once. schema_url: of the attributes' names. With the SDK, whose
    tracers have an `id_generator`, ids are those of the events; with another implementation they are its own, and only
    the tree is the same. Safe for threads: nothing is locked while a span is ended; to begin one that several threads
    may need takes a lock.

    Raises ConfigurationError where OpenTelemetry's API is not installed, and for what is no provider.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, *, schema_url: str | None = SCHEMA_URL
    ) -> None:
        try:
            from opentelemetry import trace  # noqa: PLC0415 - an extra
            from opentelemetry.context import Context  # noqa: PLC0415 - the same
        except ImportError:
            raise ConfigurationError(
                "a TracingReporter refused because opentelemetry-api is not installed; install agentkit-loop[otel]"
            ) from None
        if tracer_provider is not None and not callable(getattr(tracer_provider, "get_tracer", None)):
            raise ConfigurationError(
                f"tracer_provider={safe_repr(tracer_provider)} refused because it makes no tracers; give one of "
                "OpenTelemetry's, or None for the global one"
            )
        self._api = trace
        self._nowhere = Context()
        self._given = tracer_provider
        self._schema_url = schema_url
        self._has_warned = False
        self._tracer: Tracer | None = None
        self._ids: DerivedIds | None = None
        internal, client = trace.SpanKind.INTERNAL, trace.SpanKind.CLIENT
        self._kinds = {"invoke_agent": internal, "chat": client, "execute_tool": internal}
        self._making = threading.RLock()

    def begin_anew(self) -> None:
        """Take a new lock: this is a forked child, and nobody may be left who releases the old one."""
        self._making = threading.RLock()

    @property
    def tracer_provider(self) -> TracerProvider:
        """The provider that spans are made with: the given one, else the global one as it is now."""
        return self._api.get_tracer_provider() if self._given is None else self._given

    def end(self, spans: Iterable[Span]) -> BaseException | None:
        """Make, where they are not made, and end spans that are over; children come before their parents.

        Left out are those of runs of which only metrics are told.
        Returns the first exception of the provider's (a processor of a host that raises), None where there was none;
        an interrupt rather than another.
        """
        first: BaseException | None = None
        for span in spans:
            if span.share == "metrics":
                continue
            try:
                made, is_new = self._made(span)
                if made is None:
                    self._warn()
                elif is_new and not span.events and span.error is None:
                    made.end(span.end_ns)  # most: it was begun with all that it tells
                else:
                    self._complete(span, made, is_new=is_new)
            except BaseException as error:  # noqa: BLE001 - the others are ended as well; it is raised by the caller
                if first is None or not isinstance(error, Exception):
                    first = error
        return first

    def context_of(self, span: Span) -> Context | None:
        """Return a context in which this span is the parent, begun now if it was not; None without a provider."""
        made, _ = self._made(span)
        return None if made is None else self._within(span, made)

    def finished_context(self, span: Span) -> Context:
        """Return a context with a span that is over, for exemplars; an empty one where it was not made."""
        made: Any = span.made
        return self._nowhere if made is None else self._within(span, made)

    def _complete(self, span: Span, made: ApiSpan, *, is_new: bool) -> None:
        try:
            if made.is_recording():
                if not is_new:  # it was begun for a child, with what was known then
                    made.update_name(span.name)
                    made.set_attributes(dict(span.attributes))
                for event in span.events:
                    made.add_event(event.name, event.attributes, event.ns)
                if span.error is not None:
                    made.set_status(self._api.Status(self._api.StatusCode.ERROR, span.error or None))
        finally:
            made.end(span.end_ns)

    def _warn(self) -> None:
        with self._making:
            has_warned, self._has_warned = self._has_warned, True
        if not has_warned and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
            logger.warning(_NOWHERE)  # where it is switched off nobody is meant to set one

    def _made(self, span: Span) -> tuple[ApiSpan | None, bool]:
        """Return the API's span, and whether it was begun just now; None without a provider."""
        found: Any = span.made  # nobody else puts something there
        tracer = self._tracer or self._found_tracer()
        if found is not None or tracer is None:
            return found, False
        with self._making:
            if span.made is not None:
                found = span.made
                return found, False
            parent, ids = span.parent, self._ids
            context: Any = (parent.within if type(parent) is Span else None) or self._context_within(parent)
            if ids is not None:
                ids.asked.ids = span.trace_id, span.span_id
            # A copy where the fold goes on with its own.
            attributes = span.attributes if span.end_ns else dict(span.attributes)
            try:
                span.made = found = tracer.start_span(
                    span.name, context, self._kinds[span.operation], attributes, start_time=span.start_ns
                )
            finally:
                if ids is not None:
                    ids.asked.ids = None
        return found, True

    def _context_within(self, parent: Span | SpanPlace | None) -> Context:
        if parent is None:
            return self._nowhere
        if isinstance(parent, SpanPlace):
            return self._around(self._api.NonRecordingSpan(self._remote(parent)))
        made, _ = self._made(parent)
        return self._nowhere if made is None else self._within(parent, made)

    def _within(self, span: Span, made: ApiSpan) -> Context:
        context: Any = span.within
        if context is None:
            span.within = context = self._around(made)
        return context  # type: ignore[no-any-return] # as above

    def _around(self, made: ApiSpan) -> Context:
        return self._api.set_span_in_context(made, self._nowhere)

    def _remote(self, place: SpanPlace) -> SpanContext:
        return self._api.SpanContext(
            place.trace_id,
            place.span_id,
            is_remote=True,
            trace_flags=self._api.TraceFlags(place.flags),
            trace_state=self._api.TraceState(_states(place.state)),
        )

    def _found_tracer(self) -> Tracer | None:
        if self._tracer is None:
            provider = self.tracer_provider
            if isinstance(provider, self._api.ProxyTracerProvider):  # nobody has set one so far
                return None
            tracer = provider.get_tracer(SCOPE_NAME, scope_version() or None, schema_url=self._schema_url)
            self._ids = _wrapping.wrapped(tracer)
            self._tracer = tracer
        return self._tracer


def _states(header: str | None) -> list[tuple[str, str]]:
    """Return the members of a tracestate that is valid."""
    pairs = [member.partition("=") for member in (header or "").split(",") if member]
    return [(key, value) for key, _, value in pairs]
