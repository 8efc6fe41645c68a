"""The rules of calls: each is asked for once and answered once, and nothing runs that may not."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

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
    is_redacted,
)
from agentkit_reporting.conformance.book import Asked, Book, Called, OfCall
from agentkit_reporting.conformance.requests import RequestRules

_STARTABLE = {"requested", "ready", "orphan"}


class CallRules:
    """Looks at calls, their bodies and results, and at the decisions that they wait for."""

    __slots__ = ("_answered_in", "_approvals", "_asked_in", "_auths", "_book", "_cut_at", "_requests")

    def __init__(self, book: Book, requests: RequestRules) -> None:
        self._book = book
        self._requests = requests
        self._approvals = 0
        self._auths = 0
        self._asked_in: dict[str, str | None] = {}  # open approval: the run that asked
        self._answered_in: str | None = (
            None  # the run that last answered an approval of its own for the round
        )
        self._cut_at = -1  # place in the round of the last call that was cut

    def begin_anew(self, event: RunStarted | TurnFinished) -> None:
        """Forget which calls were cut."""
        del event
        self._cut_at = -1

    def commit(self, event: ModelRequestFinished) -> None:
        """Note the calls that the answer asks for; a cut answer and a compaction's ask for none."""
        book = self._book
        asked = book.requests.get(event.request_id)
        if asked is None or asked.status != "finished" or asked.purpose != "turn":
            return
        if book.calls or asked.has_calls:
            self._begin_round(event, asked)

    def _begin_round(self, event: ModelRequestFinished, asked: Asked) -> None:
        book = self._book
        book.calls = book.open_calls.copy()  # none, but for another fault
        parts = asked.calls
        for place, part in enumerate(parts):
            call = Called(part, asked.id, event.finish_reason, place, masked=asked.masked)
            book.calls[part.id] = book.open_calls[part.id] = call
        book.round = [part.id for part in reversed(parts)]
        self._answered_in, self._cut_at = None, -1

    def _known(self, event: OfCall) -> Called | None:
        """Return the call that an event is about, None where no answer asks for it."""
        call_id = event.call.id if isinstance(event, ToolCallRequested) else event.call_id
        call = self._book.calls.get(call_id) or self._book.own_calls.get(call_id)
        if call is None:
            told = self._requests.was_told(call_id)
            self._book.fault(event, "no finished answer asks for it" + (" any more" if told else ""))
        return call

    def request(self, event: ToolCallRequested) -> None:
        """Judge that a call is told as it was committed, in its place."""
        if not event.request_id:
            self._request_own(event)
            return
        book, call = self._book, self._known(event)
        if call is None or not book.need(event, call.status == "committed", "call is {}", call.status):
            return
        call.masked = call.masked or is_redacted(event)
        same = event.call == call.part or (call.masked and event.call.name == call.part.name)
        book.need(event, same and event.request_id == call.request_id, "not what was committed")
        while book.round and book.calls[book.round[-1]].status != "committed":
            book.round.pop()
        first = book.round[-1] if book.round else event.call.id
        book.need(event, event.call.id == first, "{} comes first", first)
        call.status = "requested"

    def _request_own(self, event: ToolCallRequested) -> None:
        """Judge a call that a hand-written loop made by itself, for no model; it is part of no round."""
        book, part = self._book, event.call
        book.need(event, not self._requests.was_told(part.id), "call id told before")
        book.need(event, part.cut is None, "its input is cut")
        call = Called(part, "", None, place=-1, masked=is_redacted(event), status="requested")
        book.own_calls[part.id] = call
        self._requests.note_call(part.id)

    def start(self, event: ToolExecutionStarted) -> None:
        """Judge whether a body may run, and with which input."""
        book, call = self._book, self._known(event)
        if call is None:
            return
        if book.need(event, call.status in _STARTABLE, "call is {}", call.status):
            book.need(event, call.approval is None, "{} is open", call.approval)
            denied = call.decision is not None and not call.decision.approved
            book.need(event, not denied, "it was denied")
            book.need(event, call.part.cut is None, "its input is cut")
            book.need(event, call.reason != "max_tokens", "its message was cut by max_tokens")
            catalog = self._requests.catalog  # empty also where a hand-written loop told no tools
            known = call.is_own or not catalog or event.name in catalog
            book.need(event, known, "there is no tool {}", event.name)
        book.need(event, event.name == call.part.name, "the call is of {}", call.part.name)
        call.attempts += 1
        book.need(event, event.attempt == call.attempts, "attempt is not {}", call.attempts)
        book.need(event, event.edited is (event.input is not None), "edited without input, or the other way")
        call.masked = call.masked or is_redacted(event)
        # Where nobody was asked, a hand-written loop may have changed it by itself.
        free = call.masked or call.decision is None
        book.need(event, free or event.input in _inputs(call), "not the input that was decided")
        call.status = "running"

    def progress(self, event: ToolExecutionProgress) -> None:
        """Judge that a body runs which tells how far it is."""
        call = self._known(event)
        if call is not None:
            self._book.need(event, call.status == "running", "call is {}", call.status)

    def answer(self, event: ToolResultReceived) -> None:
        """Judge a call's result."""
        book, call = self._book, self._known(event)
        if call is None:
            return
        if not book.need(event, call.status not in {"committed", "answered"}, "call is {}", call.status):
            return
        book.need(event, event.name == call.part.name, "the call is of {}", call.part.name)
        book.need(event, event.not_started is (call.attempts == 0), "{} attempts were started", call.attempts)
        waits = call.approval or call.auth
        book.need(event, waits is None, "{} is open", waits)
        ran = call.status in {"running", "waiting"}  # a waiting one is judged just above
        book.need(event, ran or event.is_error, "no error, and call is {}", call.status)
        # A body may still return in time after a cancel; then its result is told, and measured.
        by_body = ran and event.duration_ms is not None
        odd = event.denied or (event.interrupted and not by_body)
        book.need(event, event.is_error or not odd, "denied or interrupted, and no error")
        self._denial(event, call)
        counts = not call.is_own and not (call.wins and book.cancelling)
        if event.interrupted and not by_body and counts:
            book.need(event, call.place > self._cut_at, "open calls are cut in call order")
            self._cut_at = call.place
        call.status = "answered"
        book.open_calls.pop(event.call_id, None)
        book.own_calls.pop(event.call_id, None)

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
        return call if book.need(event, status in statuses, "call is {}", status) else None

    def ask_approval(self, event: ApprovalRequired) -> None:
        """Judge that a person is asked about a call that waits for it."""
        book = self._book
        self._approvals += 1
        expected = f"approval-{self._approvals}"
        book.need(event, event.approval_id == expected, "approval ids do not count on to {}", expected)
        call = self._waiting_call(event, {"requested", "orphan"})
        if call is None:
            return
        if book.need(event, call.approval is None, "{} is open for the call", call.approval):
            denied = call.decision is not None and not call.decision.approved
            book.need(event, not denied, "it was denied")
            decided = call.decision is not None and call.decision.run_id == book.run_id
            book.need(event, denied or not decided, "decided in this run already")
        book.need(event, call.part.cut is None, "its input is cut")
        # An answer needs a step, and all of a message are told before the first step.
        book.need(event, self._answered_in != book.run_id, "after an answer to another of the message")
        call.approval, call.asked_in = event.approval_id, book.run_id
        book.approvals[event.approval_id] = event.call_id
        self._asked_in[event.approval_id] = book.run_id

    def resolve_approval(self, event: ApprovalResolved) -> None:
        """Judge the answer of a person."""
        book = self._book
        call_id = book.approvals.pop(event.approval_id, None)
        if not book.need(event, call_id is not None, "no such approval is open") or call_id is None:
            return
        book.need(event, event.call_id == call_id, "the approval is for {}", call_id)
        book.need(event, event.edited is (event.input is not None), "edited without input, or the other way")
        book.need(event, event.approved or not event.edited, "denied and edited")
        call = book.calls.get(call_id)
        if call is None:
            return  # it was answered all the same, which is another rule's matter
        call.approval, call.decision = None, event
        if event.edited:
            call.edits = (*call.edits, event.input)
        call.masked = call.masked or is_redacted(event)
        if self._asked_in.pop(event.approval_id, None) == book.run_id:
            self._answered_in = book.run_id

    def ask_auth(self, event: AuthRequired) -> None:
        """Judge that credentials are asked for by a body that runs."""
        book = self._book
        self._auths += 1
        expected = f"auth-{self._auths}"
        book.need(event, event.auth_id == expected, "auth ids do not count on to {}", expected)
        call = self._waiting_call(event, {"running"})
        if call is not None:
            call.status, call.auth = "waiting", event.auth_id
            book.auths[event.auth_id] = event.call_id

    def resolve_auth(self, event: AuthResolved) -> None:
        """Judge the end of a request for credentials."""
        book = self._book
        call_id = book.auths.pop(event.auth_id, None)
        if not book.need(event, call_id is not None, "no such auth request is open") or call_id is None:
            return
        book.need(event, event.call_id == call_id, "the auth request is for {}", call_id)
        book.need(event, event.outcome in {"resolved", "cancelled"}, "outcome is {}", event.outcome)
        call = book.calls.get(call_id)
        if call is not None:
            call.status, call.auth = ("ready" if event.outcome == "resolved" else "refused"), None


def _inputs(call: Called) -> list[object]:
    """Return what a start may tell as its input: the last decision's, None where nothing was edited.

    Where a resume asked again and the last decision edits nothing, an earlier edit may stand or not.
    """
    if call.decision is not None and call.decision.edited:
        return [call.decision.input]
    return [None, *call.edits]


JUDGES: Mapping[type[AgentEvent], Callable[[Any, Any], None]] = {
    RunStarted: CallRules.begin_anew,
    TurnFinished: CallRules.begin_anew,
    ModelRequestFinished: CallRules.commit,
    ToolCallRequested: CallRules.request,
    ToolExecutionStarted: CallRules.start,
    ToolExecutionProgress: CallRules.progress,
    ToolResultReceived: CallRules.answer,
    ApprovalRequired: CallRules.ask_approval,
    ApprovalResolved: CallRules.resolve_approval,
    AuthRequired: CallRules.ask_auth,
    AuthResolved: CallRules.resolve_auth,
}
"""Which rule looks at which class of events."""
