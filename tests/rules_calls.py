"""The rules of calls: each is asked for once and answered once, and nothing runs that may not."""

from __future__ import annotations

from collections.abc import Container

from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    ModelRequestFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
)
from tests.rules_book import OF_CALL, Book, Called, OfCall
from tests.rules_requests import RequestRules

STARTABLE = {"requested", "ready", "orphan"}


class CallRules:
    """Looks at calls, their bodies and results, and at the decisions that they wait for."""

    def __init__(self, book: Book, requests: RequestRules) -> None:
        self._book = book
        self._requests = requests
        self._approvals = 0
        self._auths = 0
        self._asked_in: dict[str, str | None] = {}  # approval: the run that asked
        self._answered_in: str | None = (
            None  # the run that last answered an approval of its own for the round
        )
        self._cut_at = -1  # place in the round of the last call that was cut

    def take(self, event: AgentEvent) -> None:
        """Judge one event."""
        match event:
            case ModelRequestFinished():
                self._commit(event)
            case RunStarted() | TurnFinished():
                self._cut_at = -1
            case ApprovalRequired():
                self._ask_approval(event)
            case ApprovalResolved():
                self._resolve_approval(event)
            case AuthRequired():
                self._ask_auth(event)
            case AuthResolved():
                self._resolve_auth(event)
            case _ if isinstance(event, OF_CALL):
                self._call(event)
            case _:
                pass

    def _commit(self, event: ModelRequestFinished) -> None:
        """Note the calls that the answer asks for; a cut answer and a compaction's ask for none."""
        book = self._book
        asked = book.requests.get(event.request_id)
        if asked is None or asked.purpose != "turn" or event.finish_reason == "cancelled":
            return
        for part in asked.calls:
            call = Called(part=part, request_id=asked.id, reason=event.finish_reason)
            book.calls[part.id] = book.open_calls[part.id] = call
        book.round = [part.id for part in asked.calls]
        self._answered_in, self._cut_at = None, -1

    def _call(self, event: OfCall) -> None:
        book = self._book
        call = book.calls.get(event.call.id if isinstance(event, ToolCallRequested) else event.call_id)
        if call is None:
            book.fault(event, "no finished answer asks for it")
            return
        match event:
            case ToolCallRequested():
                self._request(event, call)
            case ToolExecutionStarted():
                self._start(event, call)
            case ToolExecutionProgress():
                book.need(event, call.status == "running", f"call is {call.status}")
            case ToolResultReceived():
                self._answer(event, call)

    def _request(self, event: ToolCallRequested, call: Called) -> None:
        book = self._book
        if not book.need(event, call.status == "committed", f"call is {call.status}"):
            return
        same = event.call == call.part and event.request_id == call.request_id
        book.need(event, same, "not what was committed")
        first = next(name for name in book.round if book.calls[name].status == "committed")
        book.need(event, event.call.id == first, f"{first} comes first")
        call.status = "requested"

    def _start(self, event: ToolExecutionStarted, call: Called) -> None:
        book = self._book
        if book.need(event, call.status in STARTABLE, f"call is {call.status}"):
            book.need(event, call.approval is None, f"{call.approval} is open")
            denied = call.decision is not None and not call.decision.approved
            book.need(event, not denied, "it was denied")
            book.need(event, call.part.cut is None, "its input is cut")
            book.need(event, call.reason != "max_tokens", "its message was cut by max_tokens")
            book.need(event, event.name in self._requests.catalog, f"there is no tool {event.name}")
        book.need(event, event.name == call.part.name, f"the call is of {call.part.name}")
        call.attempts += 1
        book.need(event, event.attempt == call.attempts, f"attempt is not {call.attempts}")
        book.need(event, event.edited is (event.input is not None), "edited without input, or the other way")
        book.need(event, event.input in _inputs(call), "not the input that was decided")
        call.status = "running"

    def _answer(self, event: ToolResultReceived, call: Called) -> None:
        book = self._book
        if not book.need(event, call.status not in {"committed", "answered"}, f"call is {call.status}"):
            return
        book.need(event, event.name == call.part.name, f"the call is of {call.part.name}")
        book.need(event, event.not_started is (call.attempts == 0), f"{call.attempts} attempts were started")
        waits = call.approval or call.auth
        book.need(event, waits is None, f"{waits} is open")
        ran = call.status in {"running", "waiting"}  # a waiting one is judged just above
        book.need(event, ran or event.is_error, f"no error, and call is {call.status}")
        # A body may still return in time after a cancel; then its result is told, and measured.
        by_body = ran and event.duration_ms is not None
        odd = event.denied or (event.interrupted and not by_body)
        book.need(event, event.is_error or not odd, "denied or interrupted, and no error")
        self._denial(event, call)
        if event.interrupted and not by_body and not (call.wins and book.cancelling):
            place = book.round.index(event.call_id) if event.call_id in book.round else -1
            book.need(event, place > self._cut_at, "open calls are cut in call order")
            self._cut_at = place
        call.status = "answered"
        book.open_calls.pop(event.call_id, None)

    def _denial(self, event: ToolResultReceived, call: Called) -> None:
        book, decision = self._book, call.decision
        if call.approval is not None:
            return
        if decision is not None and not decision.approved:
            # A cancel resolves what is open as not approved; its result is interrupted, denied or both.
            book.need(event, event.denied or event.interrupted, "it was denied, and the result is not")
        elif event.denied:
            # A policy may deny without asking, and after a resume also what was approved before.
            denied_now = event.not_started and (decision is None or decision.run_id != book.run_id)
            book.need(event, denied_now, "denied, although it was approved or had started")

    # --- decisions

    def _waiting_call(
        self, event: ApprovalRequired | AuthRequired, statuses: Container[str]
    ) -> Called | None:
        book = self._book
        call = book.open_calls.get(event.call_id)
        status = "not open" if call is None else call.status
        return call if book.need(event, status in statuses, f"call is {status}") else None

    def _ask_approval(self, event: ApprovalRequired) -> None:
        book = self._book
        self._approvals += 1
        expected = f"approval-{self._approvals}"
        book.need(event, event.approval_id == expected, f"approval ids do not count on to {expected}")
        self._asked_in[event.approval_id] = book.run_id
        call = self._waiting_call(event, {"requested", "orphan"})
        if call is None:
            return
        if book.need(event, call.approval is None, f"{call.approval} is open for the call"):
            denied = call.decision is not None and not call.decision.approved
            book.need(event, not denied, "it was denied")
            decided = call.decision is not None and call.decision.run_id == book.run_id
            book.need(event, denied or not decided, "decided in this run already")
        book.need(event, call.part.cut is None, "its input is cut")
        # An answer needs a step, and all of a message are told before the first step.
        book.need(event, self._answered_in != book.run_id, "after an answer to another of the message")
        call.approval, call.asked_in = event.approval_id, book.run_id
        book.approvals[event.approval_id] = event.call_id

    def _resolve_approval(self, event: ApprovalResolved) -> None:
        book = self._book
        call_id = book.approvals.pop(event.approval_id, None)
        if not book.need(event, call_id is not None, "no such approval is open") or call_id is None:
            return
        book.need(event, event.call_id == call_id, f"the approval is for {call_id}")
        book.need(event, event.edited is (event.input is not None), "edited without input, or the other way")
        book.need(event, event.approved or not event.edited, "denied and edited")
        call = book.calls[call_id]
        call.approval, call.decision = None, event
        if event.edited:
            call.edits.append(event.input)
        if self._asked_in[event.approval_id] == book.run_id:
            self._answered_in = book.run_id

    def _ask_auth(self, event: AuthRequired) -> None:
        book = self._book
        self._auths += 1
        expected = f"auth-{self._auths}"
        book.need(event, event.auth_id == expected, f"auth ids do not count on to {expected}")
        call = self._waiting_call(event, {"running"})
        if call is not None:
            call.status, call.auth = "waiting", event.auth_id
            book.auths[event.auth_id] = event.call_id

    def _resolve_auth(self, event: AuthResolved) -> None:
        book = self._book
        call_id = book.auths.pop(event.auth_id, None)
        if not book.need(event, call_id is not None, "no such auth request is open") or call_id is None:
            return
        book.need(event, event.call_id == call_id, f"the auth request is for {call_id}")
        book.need(event, event.outcome in {"resolved", "cancelled"}, f"outcome is {event.outcome}")
        call = book.calls[call_id]
        call.status, call.auth = ("ready" if event.outcome == "resolved" else "refused"), None


def _inputs(call: Called) -> list[object]:
    """Return what a start may tell as its input: the last decision's, None where nothing was edited.

    Where a resume asked again and the last decision edits nothing, an earlier edit may stand or not.
    """
    if call.decision is not None and call.decision.edited:
        return [call.decision.input]
    return [None, *call.edits]
