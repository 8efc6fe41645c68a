"""How open work is closed: from the state alone, one event at a time, in one order on every path.

The open request, the calls (each told, then answered, in call order), the exchange, the run.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from agentkit_loop.content import CommitPart, TextPart
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFinished,
    RunCancelled,
    RunFailed,
    RunFinished,
    ToolCallRequested,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.state import Call, LoopState
from agentkit_loop.usage import ErrorInfo

EndingKind: TypeAlias = Literal["left", "failed", "cancelled"]

INTERRUPTED = "The call was interrupted before it finished; what it did is not known."
NOT_STARTED = "The call was not started: the run ended first."


@attrs.frozen(kw_only=True)
class Ending:
    """Why the run ends.

    kind: left (the host is done: completed, or suspended where work is open), failed or cancelled.
    error: what failed. reason: what cancelled.
    """

    kind: EndingKind
    error: ErrorInfo | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class Durations:
    """Times since the starts that the machine saw, in milliseconds; None where it saw none."""

    first_content_ms: float | None
    request_ms: float | None
    exchange_ms: float | None
    run_ms: float | None


def closing_event(
    state: LoopState, ending: Ending, texts: dict[str, str], durations: Durations
) -> AgentEvent | None:
    """Return the next event that closes what is open, None when nothing is.

    texts: what came of text parts that are not committed, by part id; what is told is removed.
    """
    if not state.run_is_open:
        return None
    if state.request is not None:
        return _cut_request(state.request.id, texts, durations)
    for call in state.calls.values():
        if not call.answered:
            return _close_call(call)
    if ending.kind == "left":
        return _leave(state, durations)
    if state.exchange_is_open:
        return TurnFinished(
            finish_reason="cancelled" if ending.kind == "cancelled" else "error",
            usage=state.exchange_spent.usage,
            item_count=len(state.transcript.items),
            duration_ms=durations.exchange_ms,
        )
    usage = state.run_spent.usage
    if ending.error is not None:
        return RunFailed(error=ending.error, usage=usage, duration_ms=durations.run_ms)
    return RunCancelled(reason=ending.reason, usage=usage, duration_ms=durations.run_ms)


def _cut_request(request_id: str, texts: dict[str, str], durations: Durations) -> AgentEvent:
    for part_id in list(texts):
        text = texts.pop(part_id)
        if text.strip():  # a provider refuses a text of white space only
            return ContentDelta(request_id=request_id, delta=CommitPart(part_id, TextPart(text=text)))
    return ModelRequestFinished(
        request_id=request_id,
        finish_reason="cancelled",
        first_content_ms=durations.first_content_ms,
        duration_ms=durations.request_ms,
    )


def _close_call(call: Call) -> AgentEvent:
    if not call.requested:
        return ToolCallRequested(request_id=call.request_id, call=call.part)
    started = call.attempts > 0
    return ToolResultReceived(
        call_id=call.part.id,
        name=call.part.name,
        output=INTERRUPTED if started else NOT_STARTED,
        is_error=True,
        interrupted=True,
        not_started=not started,
    )


def _leave(state: LoopState, durations: Durations) -> AgentEvent:
    unfinished = state.exchange_is_open or state.input_unanswered
    return RunFinished(
        outcome="suspended" if unfinished else "completed",
        usage=state.run_spent.usage,
        duration_ms=durations.run_ms,
    )
