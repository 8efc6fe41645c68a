"""From events to the records of a step log: what is open in each session, and what it became."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping
from typing import Any

import attrs

from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    UsageUpdated,
    is_redacted,
)
from agentkit_loop.models.anthropic_stream import FINISH_REASONS
from agentkit_loop.usage import Cost, ErrorInfo, Usage
from agentkit_loop.values import JSON, compact_json
from agentkit_reporting.records.open_sessions import OpenSessions
from agentkit_reporting.records.step_records import LlmCallStep, Step, StepHeader, ToolCallStep, ToolStatus

BEGAN_AT = "began_at"
"""The key of a run's metadata that says, in ISO 8601, since when the run goes that was told of later."""

STOP_REASONS = {told: wire for wire, told in FINISH_REASONS.items()}
"""The API's word for a finish reason of the loop's; every other word is the API's own."""

_UNKNOWN = "unknown"  # the finish reason of an answer of which nobody said why it ended
_NO_TYPE = "Error"  # of an error of which a host told the text only


@attrs.define
class _Request:
    """A request that is open."""

    model: str
    attempt: int
    purpose: str
    usage: Usage = attrs.Factory(Usage)
    cost: Cost | None = None
    is_final: bool = False


@attrs.define
class _Call:
    """A call that has no result."""

    input: dict[str, JSON]
    is_redacted: bool = False


@attrs.define
class _Open:
    """What is open in a session."""

    requests: dict[str, _Request] = attrs.Factory(dict)
    calls: dict[str, _Call] = attrs.Factory(dict)


class StepFold:
    """Makes records of events, of any number of sessions; remembers what is open. Not safe for threads.

    Of a run that ended with open calls, the calls are remembered for the next run of its session, of the last 1,000
    such sessions.
    """

    wants = (
        RunStarted,
        ModelRequestStarted,
        UsageUpdated,
        ModelRequestFinished,
        ModelRequestFailed,
        ToolCallRequested,
        ToolExecutionStarted,
        ToolResultReceived,
        RunFinished,
        RunFailed,
        RunCancelled,
    )

    def __init__(self, run_id: str | None, metadata: Mapping[str, JSON]) -> None:
        self._run_id = run_id
        self._metadata = dict(metadata)
        self._sessions = OpenSessions(_Open)
        self.is_redacted = False
        """Whether something was masked in what the last record was made of."""

    def take(self, event: AgentEvent) -> StepHeader | Step | None:
        """Return the record that the event makes, numbered 0; None where it makes none."""
        open_ = self._sessions.of(event.session_id)
        self.is_redacted = is_redacted(event)
        made: StepHeader | Step | None = None
        match event:
            case RunStarted():
                open_.requests.clear()  # of a run whose end was lost
                made = self._header(event)
            case ModelRequestStarted():
                open_.requests[event.request_id] = _Request(event.model, event.attempt, event.purpose)
            case UsageUpdated():
                request = open_.requests.get(event.request_id)
                if request is not None:
                    request.usage, request.cost, request.is_final = event.usage, event.cost, event.final
            case ModelRequestFinished() | ModelRequestFailed():
                request = open_.requests.pop(event.request_id, None)
                made = self._llm_call(event, request or _Request("", 1, "turn"))
            case ToolCallRequested():
                open_.calls[event.call.id] = _Call(event.call.input, self.is_redacted)
            case ToolExecutionStarted(edited=True) if event.call_id in open_.calls:
                open_.calls[event.call_id] = _Call(event.input or {}, self.is_redacted)
            case ToolResultReceived():
                made = self._tool_call(event, open_.calls.pop(event.call_id, _Call({})))
            case _:
                pass
        if not open_.requests and not open_.calls:
            self._sessions.drop(event.session_id)
        elif isinstance(event, RUN_ENDS):
            self._sessions.suspend(event.session_id)
        return made

    def _run_of(self, event: AgentEvent) -> str:
        return self._run_id or event.run_id

    def _header(self, event: RunStarted) -> StepHeader:
        metadata = {**event.metadata, **self._metadata}
        ts = event.timestamp.timestamp()
        began_at = _moment(event.metadata.get(BEGAN_AT))
        if began_at is not None:
            ts = min(ts, began_at)
            metadata.pop(BEGAN_AT)
        return StepHeader(
            run_id=self._run_of(event),
            type="header",
            metadata=metadata,
            ts=ts,
            agent_name=event.agent_name,
            model=event.model,
            session_id=event.session_id,
            parent_run_id=None if event.parent is None else event.parent.run_id,
            resumed_run=event.resumed_run,
        )

    def _llm_call(self, event: ModelRequestFinished | ModelRequestFailed, request: _Request) -> LlmCallStep:
        usage, cost = request.usage, request.cost
        facts: dict[str, Any]
        if isinstance(event, ModelRequestFinished):
            reason = event.finish_reason
            facts = {"first_content_ms": event.first_content_ms}
            model = event.response_model or request.model
            stop_reason = None if reason == _UNKNOWN else STOP_REASONS.get(reason, reason)
        else:
            model, stop_reason = request.model, None
            facts = {
                **_error_facts(event.error),
                "error": event.error.message,
                "error_class": event.error_class,
            }
        return LlmCallStep(
            run_id=self._run_of(event),
            step=0,
            type="llm_call",
            model=model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            stop_reason=stop_reason,
            duration_ms=event.duration_ms,
            ts=event.timestamp.timestamp(),
            cached_input_tokens=usage.cached_input_tokens,
            cache_write_input_tokens=usage.cache_write_input_tokens,
            cache_write_1h_input_tokens=usage.cache_write_1h_input_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost=None if cost is None else str(cost.amount),
            currency=None if cost is None else cost.currency,
            attempt=request.attempt,
            purpose=request.purpose,
            is_provisional=not request.is_final and usage.total_tokens is not None,
            session_id=event.session_id,
            turn_id=event.turn_id,
            request_id=event.request_id,
            **facts,
        )

    def _tool_call(self, event: ToolResultReceived, call: _Call) -> ToolCallStep:
        self.is_redacted = self.is_redacted or call.is_redacted
        error = _error_text(event)
        return ToolCallStep(
            run_id=self._run_of(event),
            step=0,
            type="tool_call",
            tool=event.name,
            input=call.input,
            output=None if error is not None and _says_only(event, error) else event.output,
            error=error,
            duration_ms=event.duration_ms,
            ts=event.timestamp.timestamp(),
            **_error_facts(event.error),
            status=_status(event),
            session_id=event.session_id,
            turn_id=event.turn_id,
            call_id=event.call_id,
        )


def _error_facts(error: ErrorInfo | None) -> dict[str, Any]:
    if error is None or (error.type == _NO_TYPE and not error.frames):
        return {}
    return {"error_type": error.type, "error_frames": error.frames}


def _error_text(event: ToolResultReceived) -> str | None:
    """Return what went wrong; the words of the exception, else what the model was told."""
    if event.error is not None:
        return event.error.message
    if not event.is_error:
        return None
    return event.output if isinstance(event.output, str) else compact_json(event.output)


def _says_only(event: ToolResultReceived, error: str) -> bool:
    """Whether the output is the error and nothing else."""
    kind = "" if event.error is None else f"{event.error.type}: "
    return event.output in (error, f"{kind}{error}")


def _status(event: ToolResultReceived) -> ToolStatus:
    if event.denied:
        return "denied"
    if event.not_started:
        return "not_started"
    if event.interrupted:
        return "interrupted"
    return "error" if event.is_error or event.error is not None else "ok"


def _moment(told: object) -> float | None:
    """Return the unix seconds of an ISO text with a time zone; None for anything else."""
    if isinstance(told, str):
        with contextlib.suppress(ValueError, OverflowError):
            moment = dt.datetime.fromisoformat(told)
            if moment.tzinfo is not None:
                return moment.timestamp()
    return None
