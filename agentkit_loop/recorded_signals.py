"""What came from outside in a recorded session, event by event: the signal behind it, or the event as it was."""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from agentkit_loop.content import CommitPart, Item, TextPart
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    BudgetExceeded,
    BudgetWarning,
    CancelRequested,
    CompactionStarted,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ObserverFailed,
    RunStarted,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    UnknownEvent,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.live_bodies import Awaited, Bodies
from agentkit_loop.machine import Machine
from agentkit_loop.recordings import Recording, answer_at
from agentkit_loop.signals import (
    Answered,
    AuthAnswer,
    AuthWanted,
    Cancel,
    RequestFault,
    Signal,
    Submit,
    ToolReturned,
    UsageReported,
)
from agentkit_loop.stand_ins import StandIns
from agentkit_loop.state import UNPRICED
from agentkit_loop.tool_context import ToolProgressed
from agentkit_loop.usage import PROCESS_ENDED

_OUTSIDE = (ObserverFailed, CustomEvent, Warning, ApprovalResolved, UnknownEvent)
"""Told as they were recorded: they come of what was outside, and of nothing else."""

_OF_SETTINGS = (BudgetWarning, BudgetExceeded, CompactionStarted, ModelRequestRetrying)
"""Decided by settings that a log does not hold: told as recorded where the agent was rebuilt from one."""


_OF_A_PURSE = ("max_tokens", "max_cost_usd")


class Outside:
    """Says what was behind a recorded event, as far as the machine's state allows it.

    has_gaps: whether previews were missing in the log.
    """

    def __init__(self, recording: Recording, machine: Machine, stand_ins: StandIns, bodies: Bodies) -> None:
        self.has_gaps = False
        self._events = recording.events
        self._is_child = recording.run(0).parent is not None
        self._machine = machine
        self._state = machine.state
        self._stand_ins = stand_ins
        self._bodies = bodies

    def told(self, recorded: AgentEvent) -> bool:
        """Whether an event is to be told as it was: nothing that is replayed leads to it."""
        calls, stand_ins = self._state.calls, self._stand_ins
        match recorded:
            case ToolCallRequested(request_id=""):
                return True  # a hand-written loop made it by itself, and what follows of it
            case ToolExecutionStarted() | ToolExecutionProgress() | ToolResultReceived() if (
                recorded.call_id in self._state.own_calls
            ):
                return True
            case ApprovalRequired(call_id=call_id):
                return stand_ins.judges(calls.get(call_id))
            case ToolResultReceived(call_id=call_id, interrupted=False) if not self._runs(call_id):
                return stand_ins.judges(calls.get(call_id))
            case _ if isinstance(recorded, _OUTSIDE):
                return True
            case BudgetWarning() | BudgetExceeded() if self._is_child and recorded.limit in _OF_A_PURSE:
                return True  # the limit may be one of a session above, which is not replayed here
            case _:
                of_settings = isinstance(recorded, _OF_SETTINGS) or self._state.transcript.compacting
                return stand_ins.is_rebuilt and of_settings

    def signal_of(self, recorded: AgentEvent, place: int) -> Generator[Awaited, None, Signal | None]:
        """Return the signal that a recorded event came of, None where the machine decided it."""
        is_open = self._state.request is not None
        match recorded:
            case InputAccepted(items=items):
                return Submit(self._unnumbered(items))
            case CancelRequested(reason=reason, by=by):
                self.fill_previews(place)
                return Cancel(reason, by)
            case AuthResolved(auth_id=auth_id, outcome=outcome) if not self._is_closing:
                return AuthAnswer(auth_id, outcome)
            case ToolExecutionProgress():
                return ToolProgressed(recorded.call_id, recorded.message, recorded.fraction)
            case AuthRequired() | ToolResultReceived():
                return (yield from self._outcome(recorded))
            case ContentDelta(delta=delta) if is_open and not self._closes_by_itself:
                return delta
            case UsageUpdated() if is_open:
                return self._usage(recorded, place)
            case ModelRequestFailed(error=error) if is_open and error != PROCESS_ENDED:
                return RequestFault(
                    error=error,
                    error_class=recorded.error_class,
                    retry_after_ms=recorded.retry_after_ms,
                )
            case _:
                return None

    def _outcome(
        self, recorded: AuthRequired | ToolResultReceived
    ) -> Generator[Awaited, None, Signal | None]:
        """Return what came of a body: as recorded, or really; None where the call was closed otherwise."""
        state, call_id = self._state, recorded.call_id
        if not self._runs(call_id):
            return None
        interrupted = isinstance(recorded, ToolResultReceived) and recorded.interrupted
        if interrupted and not self._is_closing:
            return None
        attempt = state.calls[call_id].attempts
        awaited = None if interrupted else self._bodies.awaited(call_id, attempt)
        if awaited is not None:
            yield awaited
            outcome = self._bodies.outcome(awaited)
            return (
                msgspec.structs.replace(outcome, fatal=None) if isinstance(outcome, ToolReturned) else outcome
            )
        if isinstance(recorded, AuthRequired):
            return AuthWanted(
                call_id=call_id,
                attempt=attempt,
                provider=recorded.provider,
                scopes=recorded.scopes,
                purpose=recorded.purpose,
            )
        return ToolReturned(
            call_id=call_id,
            attempt=attempt,
            output=recorded.output,
            duration_ms=recorded.duration_ms or 0.0,
            is_error=recorded.is_error,
            error=recorded.error,
            child_usage=recorded.child_usage,
        )

    @property
    def _closes_by_itself(self) -> bool:
        """Whether the machine knows that the exchange ends, and what came of the open request."""
        return self._state.cancelling or (self._state.exceeded and not self._stand_ins.is_rebuilt)

    @property
    def _is_closing(self) -> bool:
        return self._state.cancelling or self._state.exceeded

    def fill_previews(self, place: int) -> None:
        """Give the machine what came of open texts where the log lacks the previews: what the cut commits."""
        for event in self._events[place:] if self.has_gaps else ():
            if isinstance(event, (ModelRequestFinished, ModelRequestFailed, RunStarted)):
                return
            if isinstance(event, ContentDelta) and isinstance(event.delta, CommitPart):
                part, previews = event.delta.part, self._machine.previews.get(event.delta.part_id)
                if previews is not None and isinstance(part, TextPart):
                    previews[:] = [part.text]

    def _usage(self, recorded: UsageUpdated, place: int) -> UsageReported | Answered:
        unpriced = None
        following = (self._events[number] for number in range(place + 1, len(self._events)))
        event = next((event for event in following if not isinstance(event, ObserverFailed)), None)
        if isinstance(event, Warning) and event.code == UNPRICED:
            unpriced = event.message
        if recorded.final:
            return Answered(answer_at(self._events, place), recorded.cost, unpriced)
        return UsageReported(
            usage=recorded.usage, model=recorded.model, cost=recorded.cost, unpriced=unpriced
        )

    def _unnumbered(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        """Return input as the host gave it: without the ids that the session gave."""
        first = self._state.transcript.numbered + 1
        if any(item.id != f"item-{number}" for number, item in enumerate(items, first)):
            return items
        return tuple(msgspec.structs.replace(item, id="") for item in items)

    def _runs(self, call_id: str) -> bool:
        return any(call.part.id == call_id for call in self._machine.live)
