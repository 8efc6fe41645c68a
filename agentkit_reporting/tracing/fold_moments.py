"""Moments within spans: what is told of an event that neither begins nor ends one.

A moment is called `agentkit.` and the event's wire name. Words of people, models and tools are not among what it
tells: those are content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agentkit_loop import events as ev
from agentkit_loop.events import AgentEvent
from agentkit_reporting.tracing.attribute import Facts
from agentkit_reporting.tracing.conventions import Profile
from agentkit_reporting.tracing.own_attributes import brief_text, brief_texts, plain_value
from agentkit_reporting.tracing.spans import Span, SpanEvent

__all__ = ["MOMENTS", "MOST_EVENTS", "MOST_ROUTINE_EVENTS", "add_moment", "tool_error"]

MOST_EVENTS: Final = 128
"""Events of one span: as many as the SDK keeps by default (OTEL_SPAN_EVENT_COUNT_LIMIT). The first ones stay."""

MOST_ROUTINE_EVENTS: Final = 64
"""Up to here there is room for progress and a host's own facts, so that a flood of them hides no cancel."""

_TIMED_OUT = "The tool did not finish within "  # how the loop's answer in place of a tool's begins
_ROUTINE = frozenset({ev.ToolExecutionProgress, ev.CustomEvent, ev.ToolResultReceived, ev.ObserverFailed})


def tool_error(event: ev.ToolResultReceived) -> str | None:
    """Return the `error.type` of a call's result: the exception's class where there was one; None for no error."""
    if not event.is_error:
        return None
    if event.denied:
        return "denied"
    if event.interrupted:
        return "interrupted"
    if event.error is not None:
        return brief_text(event.error.type)
    if event.not_started:
        return "not_started"
    is_late = isinstance(event.output, str) and event.output.startswith(_TIMED_OUT)
    return "timeout" if is_late else "tool_error"


def add_moment(span: Span, event: AgentEvent, ns: int, profile: Profile, told: Facts | None = None) -> None:
    """Add a moment to a span, or count that there was no room for it. told: what the event alone does not tell."""
    most = MOST_ROUTINE_EVENTS if type(event) in _ROUTINE else MOST_EVENTS
    if len(span.events) >= most:
        span.dropped_events += 1
        return
    named = profile.named({**MOMENTS[type(event)](event), **(told or {})})
    span.events = (*span.events, SpanEvent(f"agentkit.{event.type}", ns, named))


# --- what is told of each


def _retrying(event: ev.ModelRequestRetrying) -> Facts:
    return {
        "request.id": brief_text(event.request_id),
        "retry.delay_ms": event.delay_ms,
        "retry.next_attempt": event.next_attempt,
    }


def _never_ran(event: ev.ToolResultReceived) -> Facts:
    return {
        "tool.name": brief_text(event.name) or None,
        "tool.call_id": brief_text(event.call_id),
        "tool.not_started": event.not_started,
        "error": tool_error(event),
    }


def _progress(event: ev.ToolExecutionProgress) -> Facts:
    return {"progress.fraction": event.fraction}


def _approval_required(event: ev.ApprovalRequired) -> Facts:
    return {"approval.id": brief_text(event.approval_id), "tool.call_id": brief_text(event.call_id)}


def _approval_resolved(event: ev.ApprovalResolved) -> Facts:
    return {
        "approval.id": brief_text(event.approval_id),
        "tool.call_id": brief_text(event.call_id),
        "approval.approved": event.approved,
        "approval.edited": event.edited or None,
    }


def _auth_required(event: ev.AuthRequired) -> Facts:
    return {
        "auth.id": brief_text(event.auth_id),
        "tool.call_id": brief_text(event.call_id),
        "auth.provider": brief_text(event.provider),
    }


def _auth_resolved(event: ev.AuthResolved) -> Facts:
    return {
        "auth.id": brief_text(event.auth_id),
        "tool.call_id": brief_text(event.call_id),
        "auth.outcome": event.outcome,
    }


def _compaction_started(event: ev.CompactionStarted) -> Facts:
    return {
        "compaction.reason": brief_text(event.reason),
        "compaction.item_count": plain_value(event.item_count),
        "compaction.token_count": plain_value(event.token_count),
    }


def _compaction_finished(event: ev.CompactionFinished) -> Facts:
    return {
        "compaction.strategy": brief_text(event.strategy),
        "compaction.item_count": plain_value(event.item_count),
        "compaction.token_count": plain_value(event.token_count),
        "error": None if event.error is None else brief_text(event.error.type),
    }


def _budget(event: ev.BudgetWarning | ev.BudgetExceeded) -> Facts:
    return {
        "budget.limit": brief_text(event.limit),
        "budget.used": plain_value(event.used),
        "budget.allowed": plain_value(event.allowed),
    }


def _catalog_changed(event: ev.ToolCatalogChanged) -> Facts:
    return {
        "tools.added": brief_texts(tuple(each.name for each in event.added)),
        "tools.removed": brief_texts(event.removed),
        "tools.changed": brief_texts(tuple(each.name for each in event.changed)),
    }


def _observer_failed(event: ev.ObserverFailed) -> Facts:
    return {
        "observer.name": brief_text(event.observer),
        "observer.event_seq": plain_value(event.event_seq),
        "observer.disabled": event.disabled or None,
        "error": brief_text(event.error.type),
    }


MOMENTS: Final[Mapping[type[AgentEvent], Callable[[Any], Facts]]] = {
    ev.ModelRequestRetrying: _retrying,
    ev.ToolResultReceived: _never_ran,
    ev.ToolExecutionProgress: _progress,
    ev.ApprovalRequired: _approval_required,
    ev.ApprovalResolved: _approval_resolved,
    ev.AuthRequired: _auth_required,
    ev.AuthResolved: _auth_resolved,
    ev.CompactionStarted: _compaction_started,
    ev.CompactionFinished: _compaction_finished,
    ev.CancelRequested: lambda _: {},
    ev.BudgetWarning: _budget,
    ev.BudgetExceeded: _budget,
    ev.ToolCatalogChanged: _catalog_changed,
    ev.Warning: lambda event: {"warning.code": brief_text(event.code)},
    ev.ObserverFailed: _observer_failed,
    ev.CustomEvent: lambda event: {"custom.name": brief_text(event.name)},
}
"""What is told of each kind of event that is a moment; of results, those of calls that have no span."""
