"""The calls of an answer: which may run, when, and how each gets its one result.

Told in this order: every call requested, in call order; then, call by call, refused, asked about or started
as there is room; results as they come. A call that waits for a person holds up no other; the model is not
asked again before the last of the round has its result.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from agentkit_loop.closing import INTERRUPTED
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.moves import Ask, Wait
from agentkit_loop.open_calls import Call
from agentkit_loop.permissions import permission_of, summary_of
from agentkit_loop.settings import Catalog, LoopSettings
from agentkit_loop.signals import AuthAnswer, AuthWanted, Decision, ToolReturned
from agentkit_loop.state import LoopState
from agentkit_loop.tool_arguments import ToolInputError
from agentkit_loop.tool_context import ToolProgressed
from agentkit_loop.values import JSON, clean_text, to_json

STOPPING_REASONS = frozenset({"max_tokens", "refusal", "context_window_exceeded"})
"""Finish reasons after which none of the answer's calls runs and the exchange ends."""


DENIED = "The call was denied."
APPROVED_BEFORE = "it was approved before, as only the log says, and not started"
NO_CREDENTIALS = "The call was not finished: the credentials that it needs were not given."


class Calls:
    """Decides about the open round. Holds when each running body started, in seconds, monotonic.

    distrusted: calls that an earlier run approved and did not start; they are asked about again.
    """

    def __init__(self, settings: LoopSettings, catalog: Catalog, state: LoopState) -> None:
        self._settings = settings
        self._catalog = catalog
        self._state = state
        self._started: dict[str, float] = {}
        self._allowed: set[str] = set()
        self.distrusted: set[str] = set()

    @property
    def live(self) -> list[Call]:
        """The calls whose bodies run here; after a crash a call may have started and no body runs."""
        return [
            call for call in self._state.calls.values() if call.is_running and call.part.id in self._started
        ]

    def decide(self, now: float) -> AgentEvent | Wait | Ask:
        """Return the next event of the round, a call to ask about, or until when to wait for its bodies."""
        calls = [call for call in self._state.calls.values() if not call.answered]
        for call in calls:
            if not call.requested:
                return ToolCallRequested(request_id=call.request_id, call=call.part)
        live = self.live
        for call in live:
            if now >= self._deadline(call):
                return self._timed_out(call, now)
        for call in calls:
            event = self._event_of(call, now, room=len(live) < self._settings.max_parallel_tools)
            if event is not None:
                return event
        pending = next((call for call in calls if call.is_pending), None)
        wait = self._wait(live)
        return wait if pending is None else Ask(pending.part.id, wait.until)

    def survivor(self, now: float) -> AgentEvent | Wait | None:
        """Return what a cancel waits for: calls that were approved before it; None without one."""
        survivors = [call for call in self._state.calls.values() if call.survives and not call.answered]
        if not survivors:
            return None
        live = [call for call in self.live if call.survives]
        for call in survivors:
            if call.part.id not in self._started and not call.is_pending:
                return self._event_of(call, now, room=True)
            if now >= self._deadline(call):
                return self._timed_out(call, now)
        return self._wait(live) if live else None

    def _wait(self, live: list[Call]) -> Wait:
        until = min((self._deadline(call) for call in live), default=float("inf"))
        return Wait(None if until == float("inf") else until)

    def _event_of(self, call: Call, now: float, *, room: bool) -> AgentEvent | None:
        """Return the next event of a call, None where it waits or runs."""
        if call.is_pending or (call.is_running and call.part.id in self._started):
            return None
        refused = self._refused(call)
        if refused is not None:
            return refused
        if call.part.id not in self._allowed:
            judged = self._judged(call)
            if judged is not None:
                return judged
            self._allowed.add(call.part.id)
        if not room:
            return None
        self._started[call.part.id] = now
        edited = None if call.approval is None else call.approval.input
        return ToolExecutionStarted(
            call_id=call.part.id,
            name=call.part.name,
            attempt=call.attempts + 1,
            edited=edited is not None,
            input=edited,
        )

    def _refused(self, call: Call) -> ToolResultReceived | None:
        """Return the result of a call that will not run (again)."""
        approval, auth = call.approval, call.auth
        if approval is not None and approval.approved is False:
            return _not_started(call, approval.reason or DENIED, denied=True)
        if auth is not None and auth.outcome == "cancelled" and call.has_to_start:
            return ToolResultReceived(
                call_id=call.part.id, name=call.part.name, output=NO_CREDENTIALS, is_error=True
            )
        refusal = self._refusal(call)  # also of one that starts again: a resume may know other tools
        return None if refusal is None else _not_started(call, refusal)

    def _refusal(self, call: Call) -> str | None:
        """Return why the call cannot run, in the words that the model is told; None if it can."""
        part = call.part
        if self._state.finish_reason in STOPPING_REASONS:
            return f"The call was not started: the answer ended with {self._state.finish_reason}."
        if part.cut is not None:
            return "The call was not started: its input is not a whole JSON object."
        tool = self._catalog.tools.get(part.name)
        if tool is None:
            known = ", ".join(sorted(self._catalog.tools)) or "none"
            return f"The call was not started: there is no tool named {part.name!r}; the tools are: {known}."
        try:
            tool.bind(call.input)
        except ToolInputError as error:
            return f"The call was not started: {error}."
        return None

    def _judged(self, call: Call) -> AgentEvent | None:
        """Return the question about a call, or its denial; None where it may run."""
        asked = call.approval is not None and call.part.id not in self.distrusted
        if asked:
            return None  # and it was approved
        permission = permission_of(self._catalog.tools[call.part.name], self._settings.policy, call.part)
        reason = None if permission.reason is None else clean_text(permission.reason)
        if permission.verdict == "deny":
            return _not_started(call, f"The call was not started: {reason or 'it is denied'}.", denied=True)
        if permission.verdict == "allow" and call.approval is None:
            return None
        if call.part.id in self.distrusted:
            self.distrusted.discard(call.part.id)
            reason = reason or APPROVED_BEFORE
        return ApprovalRequired(
            approval_id=f"approval-{self._state.approvals + 1}",
            call_id=call.part.id,
            summary=summary_of(self._catalog.tools[call.part.name], call.part),
            reason=reason,
        )

    def _deadline(self, call: Call) -> float:
        timeout = self._catalog.tools[call.part.name].timeout_s
        started = self._started.get(call.part.id)
        return float("inf") if timeout is None or started is None else started + timeout

    def _timed_out(self, call: Call, now: float) -> ToolResultReceived:
        timeout = self._catalog.tools[call.part.name].timeout_s
        return ToolResultReceived(
            call_id=call.part.id,
            name=call.part.name,
            output=f"The tool did not finish within {timeout:g} seconds; what it did is not known.",
            is_error=True,
            duration_ms=self._ran_ms(call, now),
        )

    # --- signals

    def progress(self, progress: ToolProgressed) -> Iterator[AgentEvent]:
        """Return the event of a body that says how far it is; none where it does not run any more."""
        call = self._state.calls.get(progress.call_id)
        if call is not None and call.is_running:
            yield ToolExecutionProgress(
                call_id=progress.call_id, message=progress.message, fraction=progress.fraction
            )

    def result(self, returned: ToolReturned) -> Iterator[AgentEvent]:
        """Return the event of a body that ended; none where its call was closed before."""
        call = self._running(returned.call_id, returned.attempt)
        if call is None:
            return  # closed by its timeout or an ending: a late answer changes nothing
        closing = (self._state.cancelling or self._state.exceeded) and not call.survives
        yield ToolResultReceived(
            call_id=returned.call_id,
            name=call.part.name,
            output=INTERRUPTED if closing and returned.is_error else returned.output,
            is_error=returned.is_error,
            interrupted=closing,
            duration_ms=returned.duration_ms,
            error=returned.error,
            child_usage=returned.child_usage,
        )

    def auth_wanted(self, wanted: AuthWanted) -> Iterator[AgentEvent]:
        """Return the event of a body that ended for want of credentials."""
        call = self._running(wanted.call_id, wanted.attempt)
        if call is not None:
            yield AuthRequired(
                auth_id=f"auth-{self._state.auths + 1}",
                call_id=wanted.call_id,
                provider=wanted.provider,
                scopes=wanted.scopes,
                purpose=wanted.purpose,
            )

    def _running(self, call_id: str, attempt: int) -> Call | None:
        call = self._state.calls.get(call_id)
        if call is None or not call.is_running or call.attempts != attempt:
            return None
        self._started.pop(call_id, None)
        return call

    def decided(self, decided: Decision) -> ApprovalResolved:
        """Return the event of a decision; raises IllegalMoveError, or ConfigurationError for a wrong edit."""
        self._refuse_at_the_end()
        for call in self._state.calls.values():
            approval = call.approval
            if approval is not None and approval.id == decided.approval_id and call.is_pending:
                return ApprovalResolved(
                    approval_id=approval.id,
                    call_id=call.part.id,
                    approved=decided.approved,
                    reason=None if decided.reason is None else clean_text(decided.reason),
                    by=None if decided.by is None else clean_text(decided.by),
                    edited=decided.input is not None,
                    input=self._edited(call, decided.input),
                )
        raise self._answered(decided.approval_id)

    def _edited(self, call: Call, given: object) -> dict[str, JSON] | None:
        if given is None:
            return None
        if not isinstance(given, dict):
            raise ConfigurationError(f"edited_input={given!r} refused; give a dict of arguments by name")
        edited: dict[str, JSON] = to_json(given)
        tool = self._catalog.tools.get(call.part.name)
        if tool is None:
            return edited  # a resume may know other tools; the call is refused for that
        try:
            tool.bind(edited)
        except ToolInputError as error:
            raise ConfigurationError(f"edited_input refused: {error}; give what the tool takes") from None
        judged = permission_of(tool, self._settings.policy, msgspec.structs.replace(call.part, input=edited))
        if judged.verdict == "deny":
            raise ConfigurationError(
                f"edited_input refused: {judged.reason or 'the policy denies it'}; give what it allows"
            )
        return edited

    def auth_resolved(self, resolved: AuthAnswer) -> AuthResolved:
        """Return the event of credentials that were given, or not; raises IllegalMoveError."""
        self._refuse_at_the_end()
        for call in self._state.calls.values():
            auth = call.auth
            if auth is not None and auth.id == resolved.auth_id and call.is_pending:
                return AuthResolved(auth_id=auth.id, call_id=call.part.id, outcome=resolved.outcome)
        raise self._answered(resolved.auth_id)

    def _refuse_at_the_end(self) -> None:
        if self._state.cancelling or self._state.exceeded:
            remedy = "its calls are about to be closed; give new input"
            raise IllegalMoveError("answer", "the exchange ends", remedy)

    def _answered(self, name: str) -> IllegalMoveError:
        remedy = f"{name} is not open: it was answered before, or never asked"
        return IllegalMoveError("answer", self._state.phase.value, remedy)

    def _ran_ms(self, call: Call, now: float) -> float | None:
        started = self._started.get(call.part.id)
        return None if started is None else round((now - started) * 1e3, 3)


def _not_started(call: Call, text: str, *, denied: bool = False) -> ToolResultReceived:
    return ToolResultReceived(
        call_id=call.part.id,
        name=call.part.name,
        output=text,
        is_error=True,
        not_started=call.attempts == 0,
        denied=denied,
    )
