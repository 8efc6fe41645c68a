"""The calls of an answer: which may run, when, and how each gets its one result.

Told in this order: every call requested, in call order; then, call by call, refused or started as there is
room; results as they come.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentkit_loop.content import ToolCallPart
from agentkit_loop.events import (
    AgentEvent,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.moves import Wait
from agentkit_loop.settings import LoopSettings
from agentkit_loop.signals import ToolReturned
from agentkit_loop.state import Call, LoopState
from agentkit_loop.tool_arguments import ToolInputError
from agentkit_loop.tool_context import ToolProgressed

STOPPING_REASONS = frozenset({"max_tokens", "refusal", "context_window_exceeded"})
"""Finish reasons after which none of the answer's calls runs and the exchange ends."""


class Calls:
    """Decides about the open round. Holds when each running body started, in seconds, monotonic."""

    def __init__(self, settings: LoopSettings, state: LoopState) -> None:
        self._settings = settings
        self._state = state
        self._started: dict[str, float] = {}

    def decide(self, now: float) -> AgentEvent | Wait:
        """Return the next event of the round, or until when to wait for its bodies."""
        calls = [call for call in self._state.calls.values() if not call.answered]
        for call in calls:
            if not call.requested:
                return ToolCallRequested(request_id=call.request_id, call=call.part)
        running = [call for call in calls if call.is_running]
        for call in running:
            if now >= self._deadline(call):
                return self._timed_out(call, now)
        for call in calls:
            if call.attempts == 0:
                refusal = self._refusal(call.part)
                if refusal is not None:
                    return _not_started(call, refusal)
                if len(running) < self._settings.max_parallel_tools:
                    self._started[call.part.id] = now
                    return ToolExecutionStarted(call_id=call.part.id, name=call.part.name)
        until = min((self._deadline(call) for call in running), default=float("inf"))
        return Wait(None if until == float("inf") else until)

    def _refusal(self, part: ToolCallPart) -> str | None:
        """Return why the call cannot run, in the words that the model is told; None if it can."""
        if self._state.finish_reason in STOPPING_REASONS:
            return f"The call was not started: the answer ended with {self._state.finish_reason}."
        if part.cut is not None:
            return "The call was not started: its input is not a whole JSON object."
        tool = self._settings.tools.get(part.name)
        if tool is None:
            known = ", ".join(sorted(self._settings.tools)) or "none"
            return f"The call was not started: there is no tool named {part.name!r}; the tools are: {known}."
        try:
            tool.bind(part.input)
        except ToolInputError as error:
            return f"The call was not started: {error}."
        return None

    def _deadline(self, call: Call) -> float:
        timeout = self._settings.tools[call.part.name].timeout_s
        started = self._started.get(call.part.id)
        return float("inf") if timeout is None or started is None else started + timeout

    def _timed_out(self, call: Call, now: float) -> ToolResultReceived:
        timeout = self._settings.tools[call.part.name].timeout_s
        return ToolResultReceived(
            call_id=call.part.id,
            name=call.part.name,
            output=f"The tool did not finish within {timeout:g} seconds; what it did is not known.",
            is_error=True,
            duration_ms=self._ran_ms(call, now),
        )

    def progress(self, progress: ToolProgressed) -> Iterator[AgentEvent]:
        """Return the event of a body that says how far it is; none where it does not run any more."""
        call = self._state.calls.get(progress.call_id)
        if call is not None and call.is_running:
            yield ToolExecutionProgress(
                call_id=progress.call_id, message=progress.message, fraction=progress.fraction
            )

    def result(self, returned: ToolReturned) -> Iterator[AgentEvent]:
        """Return the event of a body that ended; none where its call was closed before."""
        call = self._state.calls.get(returned.call_id)
        if call is None or not call.is_running or call.attempts != returned.attempt:
            return  # closed by its timeout or an ending: a late answer changes nothing
        self._started.pop(returned.call_id, None)
        yield ToolResultReceived(
            call_id=returned.call_id,
            name=call.part.name,
            output=returned.output,
            is_error=returned.is_error,
            duration_ms=returned.duration_ms,
            error=returned.error,
        )

    def _ran_ms(self, call: Call, now: float) -> float | None:
        started = self._started.get(call.part.id)
        return None if started is None else round((now - started) * 1e3, 3)


def _not_started(call: Call, text: str) -> ToolResultReceived:
    return ToolResultReceived(
        call_id=call.part.id, name=call.part.name, output=text, is_error=True, not_started=True
    )
