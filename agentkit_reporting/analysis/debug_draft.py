"""A step while its events come in: which facts it has by now.

`content` has them by name, and is what `DebugReplay.content` gives and `edit` changes. A draft takes the events of its
own step only, and none of the previews of an answer.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import attrs

from agentkit_loop import events as ev
from agentkit_loop.content import BeginPart, CommitPart
from agentkit_loop.events import AgentEvent

__all__ = ["StepDraft", "kind_of"]

_KINDS: dict[type[AgentEvent], str] = {
    ev.RunStarted: "run_started",
    ev.RunFinished: "run_ended",
    ev.RunFailed: "run_ended",
    ev.RunCancelled: "run_ended",
    ev.InputAccepted: "input",
    ev.TurnStarted: "turn",
    ev.TurnFinished: "exchange_ended",
    ev.ContentDelta: "model_request",
    ev.ModelRequestStarted: "model_request",
    ev.ModelRequestFinished: "model_request",
    ev.ModelRequestFailed: "model_request",
    ev.UsageUpdated: "model_request",
    ev.ModelRequestRetrying: "retry",
    ev.ToolCallRequested: "tool_call",
    ev.ToolExecutionStarted: "tool_call",
    ev.ToolExecutionProgress: "tool_call",
    ev.ToolResultReceived: "tool_call",
    ev.ToolCatalogChanged: "tools_changed",
    ev.ApprovalRequired: "approval",
    ev.ApprovalResolved: "approval",
    ev.AuthRequired: "auth",
    ev.AuthResolved: "auth",
    ev.CompactionStarted: "compaction",
    ev.CompactionFinished: "compaction",
    ev.CancelRequested: "cancel",
    ev.BudgetWarning: "budget",
    ev.BudgetExceeded: "budget",
    ev.Warning: "warning",
    ev.ObserverFailed: "observer_failed",
    ev.CustomEvent: "custom",
    ev.UnknownEvent: "unknown",
}

_ENDS = {"error": "failed", "cancelled": "cancelled"}
"""Status by finish reason; ok for all others."""


def kind_of(event: AgentEvent) -> str:
    """Return the kind of the step that an event belongs to."""
    return _KINDS[type(event)]


@attrs.define(eq=False)
class StepDraft:
    """The facts of a step so far. arrival: place of its last event among all of the session, previews too.

    cut: how many of the stored events there were by then. number: in the order in which steps began.
    """

    kind: str
    run_id: str
    turn_id: str | None
    first_seq: int
    time: dt.datetime
    number: int = 0
    last_seq: int = 0
    arrival: int = 0
    cut: int = 0
    tool: str | None = None
    status: str = "ok"
    duration_ms: float | None = None
    is_superseded: bool = False
    is_over: bool = False
    waits_for: str = ""  # of a call: approval or credentials, while nobody answered
    title: str = ""
    content: dict[str, Any] = attrs.Factory(dict)

    @classmethod
    def of(cls, event: AgentEvent) -> StepDraft:
        """Begin the step of an event, which is to be taken as well."""
        return cls(
            kind=kind_of(event),
            run_id=event.run_id,
            turn_id=event.turn_id,
            first_seq=event.seq,
            time=event.timestamp,
        )

    def take(self, event: AgentEvent) -> None:
        """Take one event of the step."""
        self.last_seq = event.seq
        match self.kind:
            case "model_request":
                self._take_of_request(event)
            case "tool_call":
                self._take_of_call(event)
            case "compaction":
                self._take_all(event)
                self.is_over = isinstance(event, ev.CompactionFinished)
                self.status = "ok" if self.is_over else "open"
                if isinstance(event, ev.CompactionFinished) and event.plan is None:
                    self.status = "failed"
            case _:
                self._take_alone(event)

    def _take_all(self, event: AgentEvent) -> None:
        """Take every field of the event's payload as a fact."""
        for name in ev.PAYLOAD_FIELDS[type(event)]:
            self.content[name] = getattr(event, name)

    def _take_alone(self, event: AgentEvent) -> None:
        """Take the only event of a step."""
        self._take_all(event)
        self.is_over = True
        match event:
            case ev.TurnFinished(finish_reason=reason):
                self.status, self.duration_ms = _ENDS.get(reason, "ok"), event.duration_ms
            case ev.RunFinished() | ev.RunFailed() | ev.RunCancelled():
                words = {"run_failed": "failed", "run_cancelled": "cancelled"}
                self.status, self.duration_ms = words.get(event.type, "ok"), event.duration_ms
                if isinstance(event, ev.RunFinished) and event.outcome == "suspended":
                    self.status = "waiting"
            case ev.ApprovalRequired() | ev.AuthRequired():
                self.status = "waiting"
            case ev.ApprovalResolved(approved=False) | ev.AuthResolved(outcome="cancelled"):
                self.status = "denied"
            case ev.BudgetExceeded() | ev.ObserverFailed():
                self.status = "failed"
            case _:
                pass

    def _take_of_request(self, event: AgentEvent) -> None:
        content = self.content
        match event:
            case ev.ContentDelta(delta=BeginPart(part_id)):
                content.setdefault("parts", {})[part_id] = None
            case ev.ContentDelta(delta=CommitPart(part_id, part)):
                content.setdefault("parts", {})[part_id] = part
            case ev.UsageUpdated():
                content |= {"billed_model": event.model, "usage": event.usage, "cost": event.cost}
                content["usage_is_final"] = event.final
            case ev.ModelRequestStarted():
                self._take_all(event)
                content.setdefault("parts", {})
                self.status = "open"
            case ev.ModelRequestFinished():
                self._take_all(event)
                self.status = _ENDS.get(event.finish_reason, "ok")
                self.duration_ms, self.is_over = event.duration_ms, True
            case ev.ModelRequestFailed():
                self._take_all(event)
                self.status, self.duration_ms, self.is_over = "failed", event.duration_ms, True
            case _:
                pass

    def _take_of_call(self, event: AgentEvent) -> None:
        content = self.content
        match event:
            case ev.ToolCallRequested(call=call):
                self.tool, self.status = call.name, "open"
                content |= {"call_id": call.id, "request_id": event.request_id, "input": call.input}
                if call.cut is not None:
                    content["cut"] = call.cut
            case ev.ToolExecutionStarted():
                self.tool = event.name
                content |= {"call_id": event.call_id, "attempt": event.attempt}
                if event.edited:
                    content["edited_input"] = event.input
            case ev.ToolExecutionProgress():
                content |= {"call_id": event.call_id, "progress": event.message, "fraction": event.fraction}
            case ev.ToolResultReceived():
                self._take_all(event)
                self.tool = content.pop("name")
                self.duration_ms, self.is_over = event.duration_ms, True
                self.status = _status_of(event)
            case _:
                pass

    def facts(self) -> dict[str, Any]:
        """Return the facts by name, without the duration, which the step has; parts as a list in their order."""
        told = {name: value for name, value in self.content.items() if name != "duration_ms"}
        parts = told.get("parts")
        if self.kind == "model_request" and isinstance(parts, dict):
            told["parts"] = [part for part in parts.values() if part is not None]
        return told


def _status_of(event: ev.ToolResultReceived) -> str:
    """Return how a call ended; the rarer word wins."""
    if event.denied:
        return "denied"
    if event.not_started:
        return "not_started"
    if event.interrupted:
        return "interrupted"
    return "failed" if event.is_error else "ok"
