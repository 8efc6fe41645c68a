"""From events to spans: `invoke_agent` for a run, and in it `chat` for each request, `execute_tool` for each call.

Everything is taken from the events: so spans that are made live and spans of a log that is read next week are equal.
Whatever was started is ended: by its own end, else by its run's, else, where the log has no more, by `close()` with the
time of the last event of its session.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

import attrs

from agentkit_loop import events as ev
from agentkit_loop.events import AgentEvent
from agentkit_loop.trace_context import SpanPlace, call_span_id, place_of, span_id_of, trace_id_of
from agentkit_loop.usage import Cost, Usage
from agentkit_reporting.tracing.conventions import Profile, profile_of
from agentkit_reporting.tracing.spans import AttributeValue, Span, SpanEvent, SpanSink

__all__ = ["SPAN_EVENTS", "SpanFold"]

SPAN_EVENTS: Final[tuple[type[AgentEvent], ...]] = tuple(
    kind for kind in ev.EVENT_TYPES.values() if kind is not ev.ContentDelta
)
"""What spans are made of: everything but the pieces of a stream."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def epoch_ns(moment: dt.datetime) -> int:
    """Return nanoseconds since 1970; a log's times are exact to a microsecond."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


@attrs.define(eq=False)
class OpenRun:
    """A run that has not ended, and what is open in it."""

    span: Span
    last_ns: int
    started: ev.RunStarted
    requests: dict[str, Span] = attrs.field(factory=dict)
    usage: dict[str, tuple[Usage, Cost | None]] = attrs.field(factory=dict)  # by request, the last word
    calls: dict[str, Span] = attrs.field(factory=dict)


class SpanFold:
    """Turns events of any number of sessions into spans, and gives each to `sink` when it is over.

    One session's events come from one thread; different sessions' may come from different ones.
    """

    def __init__(self, sink: SpanSink, *, profile: Profile | None = None) -> None:
        self._sink = sink
        self._profile = profile or profile_of()
        self._runs: dict[tuple[str, str], OpenRun] = {}

    @property
    def open_count(self) -> int:
        """How many spans have begun and are not over."""
        return sum(1 + len(run.requests) + len(run.calls) for run in list(self._runs.values()))

    def take(self, event: AgentEvent) -> None:
        """Take an event; the session's events come in order."""
        ns = epoch_ns(event.timestamp)
        if isinstance(event, ev.RunStarted):
            self._begin(event, ns)
            return
        run = self._runs.get((event.session_id, event.run_id))
        if run is None:
            return  # of a run whose beginning nobody told here
        run.last_ns = max(run.last_ns, ns)
        match event:
            case ev.ModelRequestStarted():
                self._request_begins(run, event, ns)
            case ev.UsageUpdated():
                run.usage[event.request_id] = (event.usage, event.cost)
            case ev.ModelRequestFinished() | ev.ModelRequestFailed():
                self._request_ends(run, event, ns)
            case ev.ToolExecutionStarted():
                self._call_begins(run, event, ns)
            case ev.ToolResultReceived():
                self._call_ends(run, event, ns)
            case ev.ModelRequestRetrying():
                told: dict[str, AttributeValue] = {
                    "agentkit.request_id": event.request_id,
                    "agentkit.retry.delay_ms": event.delay_ms,
                }
                run.span.events.append(SpanEvent("agentkit.model_request_retrying", ns, told))
            case ev.RunFinished() | ev.RunFailed() | ev.RunCancelled():
                self._end_run(run, event, ns)
            case _:
                pass

    def close(self) -> None:
        """End every span that is still open, at the time of the last event of its run."""
        for run in list(self._runs.values()):
            self._end_run(run, None, run.last_ns)

    def span_of_request(self, session_id: str, run_id: str, request_id: str) -> Span | None:
        """Return a request's span while it is open."""
        run = self._runs.get((session_id, run_id))
        return None if run is None else run.requests.get(request_id)

    # --- runs

    def _begin(self, event: ev.RunStarted, ns: int) -> None:
        parent = self._parent_of(event)
        session, run_id = event.session_id, event.run_id
        span = Span(
            operation="invoke_agent",
            name=f"invoke_agent {event.agent_name}" if event.agent_name else "invoke_agent",
            trace_id=trace_id_of(session, run_id) if parent is None else parent.trace_id,
            span_id=span_id_of(session, run_id, event.seq),
            parent=parent,
            start_ns=ns,
            session_id=session,
            run_id=run_id,
            attributes=self._profile.named(
                {
                    "operation": "invoke_agent",
                    "conversation": session,
                    "agent.name": event.agent_name or None,
                    "request.model": event.model or None,
                    "provider": "anthropic",
                }
            ),
        )
        self._runs[session, run_id] = OpenRun(span=span, last_ns=ns, started=event)

    def _parent_of(self, event: ev.RunStarted) -> Span | SpanPlace | None:
        if event.parent is not None:
            above = self._runs.get((event.parent.session_id, event.parent.run_id))
            if above is not None:
                return above.calls.get(event.parent.call_id, above.span)
        place = place_of(event.metadata)
        if place is None and event.parent is not None:
            session, run_id, call_id = event.parent.session_id, event.parent.run_id, event.parent.call_id
            return SpanPlace(
                trace_id=trace_id_of(session, run_id), span_id=call_span_id(session, run_id, call_id)
            )
        return place

    def _end_run(
        self, run: OpenRun, event: ev.RunFinished | ev.RunFailed | ev.RunCancelled | None, ns: int
    ) -> None:
        for span in [*run.requests.values(), *run.calls.values()]:
            span.attributes.update(self._profile.named({"unfinished": True}))
            self._finish(span, ns)
        if isinstance(event, ev.RunFailed):
            run.span.error = event.error.message
            run.span.attributes.update(self._profile.named({"error": event.error.type}))
        if event is None:
            run.span.attributes.update(self._profile.named({"unfinished": True}))
        del self._runs[run.span.session_id, run.span.run_id]
        self._finish(run.span, ns)

    # --- requests and calls

    def _child(
        self,
        run: OpenRun,
        operation: str,
        subject: str,
        span_id: int,
        ns: int,
        told: Mapping[str, AttributeValue | None],
    ) -> Span:
        return Span(
            operation=operation,  # type: ignore[arg-type]
            name=f"{operation} {subject}" if subject else operation,
            trace_id=run.span.trace_id,
            span_id=span_id,
            parent=run.span,
            start_ns=ns,
            session_id=run.span.session_id,
            run_id=run.span.run_id,
            kind="client" if operation == "chat" else "internal",
            attributes=self._profile.named(
                {"operation": operation, "conversation": run.span.session_id, **told}
            ),
        )

    def _request_begins(self, run: OpenRun, event: ev.ModelRequestStarted, ns: int) -> None:
        span_id = span_id_of(event.session_id, event.run_id, event.seq)
        told = {"provider": "anthropic", "request.model": event.model or None}
        run.requests[event.request_id] = self._child(run, "chat", event.model, span_id, ns, told)

    def _request_ends(
        self, run: OpenRun, event: ev.ModelRequestFinished | ev.ModelRequestFailed, ns: int
    ) -> None:
        span = run.requests.get(event.request_id)
        if span is None:
            return
        if event.duration_ms is not None:
            span.start_ns = min(span.start_ns, ns - int(event.duration_ms * 1_000_000))
        told: dict[str, AttributeValue | None] = {}
        if isinstance(event, ev.ModelRequestFailed):
            span.error = event.error.message
            told["error"] = event.error_class
        else:
            told["response.id"] = event.response_id
            told["response.model"] = event.response_model
            told["finish_reasons"] = (event.finish_reason,)
            if event.first_content_ms is not None:
                told["time_to_first_chunk"] = event.first_content_ms / 1000
        usage, cost = run.usage.pop(event.request_id, (None, None))
        if usage is not None:
            told["usage.input"] = usage.total_input_tokens
            told["usage.output"] = usage.output_tokens
            told["usage.cache_read"] = usage.cached_input_tokens
            told["usage.cache_write"] = usage.cache_write_input_tokens
            told["usage.reasoning"] = usage.reasoning_tokens
        if cost is not None:
            told["cost"] = float(cost.amount)
        span.attributes.update(self._profile.named(told))
        self._finish(span, ns)
        del run.requests[event.request_id]

    def _call_begins(self, run: OpenRun, event: ev.ToolExecutionStarted, ns: int) -> None:
        if event.call_id not in run.calls:
            span_id = call_span_id(event.session_id, event.run_id, event.call_id)
            told = {"tool.name": event.name, "tool.call_id": event.call_id}
            run.calls[event.call_id] = self._child(run, "execute_tool", event.name, span_id, ns, told)

    def _call_ends(self, run: OpenRun, event: ev.ToolResultReceived, ns: int) -> None:
        span = run.calls.pop(event.call_id, None)
        if span is None:
            return
        if event.is_error:
            span.error = "the tool failed" if event.error is None else event.error.message
            error = "tool_error" if event.error is None else event.error.type
            span.attributes.update(self._profile.named({"error": error}))
        self._finish(span, ns)

    def _finish(self, span: Span, ns: int) -> None:
        span.end_ns = max(span.start_ns, ns)
        self._sink.take(span)
