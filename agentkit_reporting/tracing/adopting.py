"""The spans that the provider's SDK makes, put below ours: `anthropic.Anthropic(open_telemetry=client_option(keeper))`.

The SDK knows only the current span, and ours never are. This provider finds the span of the request that is being
sent (`sent_now`), gives it as the parent by an explicit context, and leaves out `gen_ai.usage.*`: our spans tell the
usage, and what adds up a trace would count it twice. Everything else of theirs stays.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer, TracerProvider

from agentkit_loop.models.current_request import CurrentRequest, sent_now
from agentkit_loop.models.sdk_spans import SpanKeeper, keepers

if TYPE_CHECKING:
    from opentelemetry.util.types import Attributes, AttributeValue

__all__ = ["AdoptingTracerProvider", "client_option"]

_USAGE = "gen_ai.usage."


def client_option(keeper: SpanKeeper, inner: TracerProvider | None = None) -> Any:
    """Return the `open_telemetry` option of a client of the SDK whose spans are to join those of a keeper.

    inner: makes them; None: the keeper's provider, as it is when the first span begins.
    """
    return {"tracer_provider": AdoptingTracerProvider(inner, keeper)}


class AdoptingTracerProvider(TracerProvider):
    """Makes spans with another provider, below the spans of a keeper, and without usage.

    A span that begins while no request is being sent has the parent that it had without this. What is said here holds
    as long as the keeper stands in (`keepers()`); after that everything is passed on as it is.
    """

    def __init__(self, inner: TracerProvider | None, keeper: SpanKeeper) -> None:
        self._inner = inner
        self._keeper = weakref.ref(keeper)

    @property
    def keeper(self) -> SpanKeeper | None:
        """The keeper as long as it stands in."""
        keeper = self._keeper()
        return keeper if any(each is keeper for each in keepers()) else None

    @property
    def inner(self) -> TracerProvider:
        """Who makes the spans."""
        keeper = self._keeper()
        return self._inner or (keeper and keeper.tracer_provider) or trace.get_tracer_provider()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes | None = None,
    ) -> Tracer:
        """Return a tracer of that scope."""
        scope = (instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        return _AdoptingTracer(self, scope)


class _AdoptingTracer(Tracer):
    def __init__(self, provider: AdoptingTracerProvider, scope: tuple[Any, ...]) -> None:
        self._provider = provider
        self._scope = scope
        self._inner: Tracer | None = None  # a keeper may get its provider later than a client its tracer

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        *args: Any,
        **options: Any,
    ) -> Span:
        if self._inner is None:
            self._inner = self._provider.inner.get_tracer(*self._scope)
        keeper = self._provider.keeper
        if keeper is None:
            return self._inner.start_span(name, context, kind, attributes, *args, **options)
        request = sent_now()
        below = _place_of(keeper, request, context) or context
        told = _without_usage(attributes)
        return _AdoptedSpan(self._inner.start_span(name, below, kind, told, *args, **options), request)

    @contextlib.contextmanager
    def start_as_current_span(  # type: ignore[override] # the API's own kind of context manager is private
        self, name: str, context: Context | None = None, *args: Any, end_on_exit: bool = True, **options: Any
    ) -> Iterator[Span]:
        span = self.start_span(name, context, *args, **options)
        with trace.use_span(
            span,
            end_on_exit=end_on_exit,
            record_exception=options.get("record_exception", True),
            set_status_on_exception=options.get("set_status_on_exception", True),
        ):
            yield span


def _place_of(keeper: SpanKeeper, request: CurrentRequest | None, context: Context | None) -> Context | None:
    """Return the context below the span of a request; None where the span's own parent stands."""
    if request is None or request.session_id is None or request.run_id is None:
        return None
    around = trace.get_current_span(context)
    if isinstance(around, _AdoptedSpan) and around.request == request:
        return None  # below another one of theirs, which is below ours
    place: Context | None = keeper.place_of_request(request.session_id, request.run_id, request.request_id)
    return place


class _AdoptedSpan(Span):
    """A span of the SDK's; request: which was being sent as it began."""

    def __init__(self, inner: Span, request: CurrentRequest | None) -> None:
        self._inner = inner
        self.request = request

    def __getattr__(self, name: str) -> Any:  # what the SDK of OpenTelemetry has besides
        return getattr(self._inner, name)

    def end(self, end_time: int | None = None) -> None:
        self._inner.end(end_time)

    def get_span_context(self) -> SpanContext:
        return self._inner.get_span_context()

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self._inner.set_attributes(_without_usage(attributes) or {})

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if not key.startswith(_USAGE):
            self._inner.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        self._inner.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self._inner.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self._inner.update_name(name)

    def is_recording(self) -> bool:
        return self._inner.is_recording()

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self._inner.set_status(status, description)

    def record_exception(self, exception: BaseException, *args: Any, **options: Any) -> None:
        self._inner.record_exception(exception, *args, **options)


def _without_usage(attributes: Attributes) -> Attributes:
    if not attributes:
        return attributes
    return {key: value for key, value in attributes.items() if not key.startswith(_USAGE)}
