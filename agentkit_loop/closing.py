"""How open work is closed: from the state alone, one event at a time, in one order on every path.

The open request, the compaction, the calls (each told, its approval and its credentials refused, then
answered, in call order); then the exchange, the run. A suspension leaves open what waits for a person; a
recovery closes, under the old run's id, what a crash left behind.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Literal, TypeAlias

import msgspec

from agentkit_loop.content import CommitPart, TextPart
from agentkit_loop.events import (
    AgentEvent,
    ApprovalResolved,
    AuthResolved,
    CompactionFinished,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    RunCancelled,
    RunFailed,
    RunFinished,
    ToolCallRequested,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.open_calls import Call
from agentkit_loop.state import LoopState
from agentkit_loop.usage import PROCESS_ENDED, ErrorInfo

EndingKind: TypeAlias = Literal["left", "failed", "cancelled"]

INTERRUPTED = "The call was interrupted before it finished; what it did is not known."
NOT_STARTED = "The call was not started: the run ended first."
CANCELLED = "The call was not started: the exchange was cancelled first."

_UNFINISHED = "unfinished"  # the strategy of a compaction that did not come to its end
_CUT_SHORT = ErrorInfo(type="Interrupted", message="the compaction was cut short")


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Why the run ends.

    kind: left (the host is done: completed, or suspended where work is open), failed or cancelled.
    error: what failed. reason: what cancelled.
    """

    kind: EndingKind
    error: ErrorInfo | None = None
    reason: str = ""


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """Times since the starts that the machine saw, in milliseconds; None where it saw none."""

    first_content_ms: float | None
    request_ms: float | None
    exchange_ms: float | None
    run_ms: float | None


def closing_event(
    state: LoopState, ending: Ending, texts: dict[str, str], durations: Durations
) -> AgentEvent | None:
    """Return the next event that closes the run and what is open in it, None when nothing is.

    texts: what came of text parts that are not committed, by part id; what is told is removed.
    """
    if not state.run_is_open:
        return None
    ends = state.cancelling or state.exceeded  # the exchange does, whatever becomes of the run
    event = cut_request(state, texts, durations) or close_work(
        state, NOT_STARTED, leave_pending=ending.kind == "left" and not ends
    )
    if event is not None:
        return event
    if ending.kind == "left" and ends:
        if not state.exchange_is_open:
            return TurnStarted(index=1)  # submitted, and not dispatched
        return finished_exchange(state, "cancelled" if state.cancelling else "limit", durations.exchange_ms)
    if ending.kind == "left":
        return _leave(state, durations)
    if state.exchange_is_open:
        reason = "cancelled" if ending.kind == "cancelled" else "error"
        return finished_exchange(state, reason, durations.exchange_ms)
    usage = state.run_spent.usage
    if ending.error is not None:
        return RunFailed(error=ending.error, usage=usage, duration_ms=durations.run_ms)
    return RunCancelled(reason=ending.reason, usage=usage, duration_ms=durations.run_ms)


def cut_request(state: LoopState, texts: dict[str, str], durations: Durations) -> AgentEvent | None:
    """Return the next event that cuts the open request, None without one; texts: as in `closing_event`."""
    if state.request is None:
        return None
    for part_id in list(texts):
        text = texts.pop(part_id)
        if text.strip():  # a provider refuses a text of white space only
            return ContentDelta(request_id=state.request.id, delta=CommitPart(part_id, TextPart(text=text)))
    return ModelRequestFinished(
        request_id=state.request.id,
        finish_reason="cancelled",
        first_content_ms=durations.first_content_ms,
        duration_ms=durations.request_ms,
    )


def close_work(
    state: LoopState, not_started: str, *, leave_pending: bool = False, own_calls: bool = True
) -> AgentEvent | None:
    """Return the next event that closes the compaction and the calls, None when none is open.

    not_started: what the model is told of a call that never ran. leave_pending: leave the calls open that
    wait for a person, or that a person approved and that did not start. own_calls: also close those that no model
    asked for; they belong to no exchange.
    """
    if state.transcript.compacting:
        return _unfinished_compaction(state, _CUT_SHORT)
    for call in state.open_calls:
        if call.is_own and not own_calls:
            continue
        if not call.requested:
            return ToolCallRequested(request_id=call.request_id, call=call.part)
        if leave_pending and _waits_for_a_person(call):
            continue
        return _close_call(call, not_started)
    return None


def finished_exchange(state: LoopState, reason: str, duration_ms: float | None) -> TurnFinished:
    """Return the end of the open exchange."""
    return TurnFinished(
        finish_reason=reason,
        usage=state.exchange_spent.usage,
        item_count=len(state.transcript.items),
        duration_ms=duration_ms,
    )


def recovery_event(state: LoopState, idempotent: Container[str]) -> AgentEvent | None:
    """Return the next event that closes what a crash left open of a run, None when the run is closed.

    idempotent: names of the tools whose interrupted calls run again. Nobody was there to measure durations.
    """
    if not state.run_is_open:
        return None
    if state.request is not None:
        return ModelRequestFailed(
            request_id=state.request.id, error=PROCESS_ENDED, error_class="process_ended"
        )
    if state.transcript.compacting:
        return _unfinished_compaction(state, PROCESS_ENDED)
    for call in state.open_calls:
        if call.is_own:
            return _close_call(call, INTERRUPTED)  # no resume goes on with it
        if call.is_running and call.part.name not in idempotent:
            return _answer(call, INTERRUPTED)
    return RunFailed(error=PROCESS_ENDED, usage=state.run_spent.usage)


def _unfinished_compaction(state: LoopState, error: ErrorInfo) -> CompactionFinished:
    count = len(state.transcript.items)
    return CompactionFinished(strategy=_UNFINISHED, plan=None, item_count=count, error=error)


def _waits_for_a_person(call: Call) -> bool:
    """Whether a suspension leaves the call open."""
    if call.is_pending:
        return True
    decided = call.approval is not None or call.auth is not None
    return decided and call.has_to_start


def _close_call(call: Call, not_started: str) -> AgentEvent:
    approval, auth = call.approval, call.auth
    if approval is not None and approval.approved is None:
        return ApprovalResolved(
            approval_id=approval.id, call_id=call.part.id, approved=False, reason="cancelled"
        )
    if auth is not None and auth.outcome is None:
        return AuthResolved(auth_id=auth.id, call_id=call.part.id, outcome="cancelled")
    return _answer(call, INTERRUPTED if call.attempts else not_started)


def _answer(call: Call, text: str) -> ToolResultReceived:
    return ToolResultReceived(
        call_id=call.part.id,
        name=call.part.name,
        output=text,
        is_error=True,
        interrupted=True,
        not_started=call.attempts == 0,
        denied=call.approval is not None and call.approval.approved is False,
    )


def _leave(state: LoopState, durations: Durations) -> AgentEvent:
    unfinished = state.exchange_is_open or state.input_unanswered
    pending = [call for call in state.calls.values() if call.is_pending]
    return RunFinished(
        outcome="suspended" if unfinished else "completed",
        usage=state.run_spent.usage,
        duration_ms=durations.run_ms,
        open_approvals=tuple(
            call.approval.id
            for call in pending
            if call.approval is not None and call.approval.approved is None
        ),
        open_auths=tuple(
            call.auth.id for call in pending if call.auth is not None and call.auth.outcome is None
        ),
    )
