"""The rules of exchanges: turns, cancellation, limits, and what may start at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ApprovalRequired,
    BudgetExceeded,
    BudgetWarning,
    CancelRequested,
    CompactionStarted,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.values import JSON
from agentkit_reporting.conformance.book import EVENT_CLASSES, Book, Exchange, Spent

STARTING = (
    TurnStarted,
    ModelRequestStarted,
    ModelRequestRetrying,
    ToolExecutionStarted,
    CompactionStarted,
    ApprovalRequired,
)
_ANYWHERE = frozenset(
    cls
    for cls in EVENT_CLASSES
    if cls in {RunStarted, *RUN_ENDS, InputAccepted, CancelRequested}
    or cls.category in {"Diagnostic", "Open", "Budget"}
)
"""Events that are told inside and outside of turns."""

WARNED_FROM = Decimal("0.8")
_LONGEST_FIGURE = 100  # digits, and decimal places; no limit has as many
_MOST_BITS = 300  # of a whole number, which is not even written as text before it is known to be one


class ExchangeRules:
    """Looks at turns, cancels and limits, and at whatever starts something."""

    __slots__ = ("_book", "_has_question", "_late", "_warned")

    def __init__(self, book: Book) -> None:
        self._book = book
        self._warned: dict[str, tuple[JSON, object]] = {}  # limit: allowed, and where it was warned of
        self._late = False
        self._has_question = False  # the last request was about input or results

    def header(self, event: AgentEvent) -> None:
        """Judge the turn's id; what is told between turns may still have the last one's."""
        book = self._book
        turn_id = event.turn_id
        if turn_id == book.turn_id or type(event) is TurnStarted:
            return
        if type(event) in _ANYWHERE and (turn_id is None or turn_id == book.last_turn_id):
            return
        book.fault(event, f"turn is {turn_id}, not {book.turn_id}")

    def request_failed(self, event: ModelRequestFailed) -> None:
        """Note that the model has not answered."""
        if self._purpose(event) == "turn" and self._has_question:
            self._book.unasked = True

    def accept(self, event: InputAccepted) -> None:
        """Note that there is input to answer."""
        del event
        book = self._book
        book.unasked = True
        exceeded = book.exchange is not None and book.exchange.exceeded
        self._late = self._late or book.cancelling or bool(exceeded)

    def result(self, event: ToolResultReceived) -> None:
        """Note whether open work was cut."""
        # A body that was measured came to its own end, be it by a host's cancel of that one call.
        if event.interrupted and event.duration_ms is None and event.call_id not in self._book.own_calls:
            self._book.cut = True

    def cancel(self, event: CancelRequested) -> None:
        """Judge whether there is something to cancel."""
        book = self._book
        if book.need(event, not book.cancelling, "a cancel was requested before"):
            self._can_be_cancelled(event)
        book.cancelling = True
        for call in book.open_calls.values():
            approved = call.decision is not None and call.decision.approved
            call.wins = call.status == "ready" or (approved and call.approval is None)

    def _purpose(self, event: ModelRequestFinished | ModelRequestFailed) -> str | None:
        asked = self._book.requests.get(event.request_id)
        return None if asked is None else asked.purpose

    def may_start(self, event: AgentEvent) -> None:
        """Judge whether anything may start now."""
        book = self._book
        if isinstance(event, ToolExecutionStarted) and event.call_id in book.own_calls:
            return  # it belongs to no exchange
        if book.broken is not None:
            book.fault(event, f"the exchange ended as {book.broken}, so the run has to end")
        elif isinstance(event, ToolExecutionStarted) and _wins(book, event):
            return
        elif book.exchange is not None and book.exchange.exceeded:
            book.fault(event, "starts after a limit was exceeded")
        elif book.cancelling:
            undispatched = isinstance(event, TurnStarted) and book.exchange is None
            book.need(event, undispatched, "starts after the cancel")
        elif book.cut:
            book.fault(event, "starts after open work was cut")

    def _can_be_cancelled(self, event: CancelRequested) -> None:
        book = self._book
        # A resumed run may have found the transcript's tail unanswered without any input of its own.
        something = book.exchange is not None or book.unasked or book.first_run != book.last_run
        book.need(event, something, "there is nothing to cancel")
        deadline = book.exchange is not None and bool(book.exchange.exceeded)  # it cuts by itself
        book.need(event, deadline or not book.cut, "requested after something was cut")

    def _nothing_is_open(self, event: AgentEvent) -> None:
        book = self._book
        if book.open_calls:
            book.fault(event, "a call is open")
        if book.request is not None:
            book.fault(event, "a request is open")
        if book.compacting:
            book.fault(event, "a compaction is open")

    def start(self, event: TurnStarted) -> None:
        """Judge the beginning of a turn, and perhaps of an exchange."""
        book = self._book
        self._nothing_is_open(event)
        book.turns += 1
        book.turn_id = book.last_turn_id = f"turn-{book.turns}"
        if event.turn_id != book.turn_id:
            book.fault(event, "turn ids do not count on")
        if book.exchange is None:
            book.exchange = Exchange(run_id=book.run_id)
            book.exchanges += 1
            book.of_exchange = Spent()
        else:
            went_on = book.exchange.answered or book.exchange.turn_run != book.run_id
            book.need(event, went_on, "the last turn has no answer")
        exchange = book.exchange
        exchange.index += 1
        exchange.turn_run, exchange.answered = book.run_id, False
        if event.index != exchange.index:
            book.fault(event, f"index is not {exchange.index}")

    def ask(self, event: ModelRequestStarted) -> None:
        """Judge whether the turn has a question to ask."""
        book = self._book
        if event.purpose == "turn":
            book.need(event, book.exchange is not None, "outside an exchange")
            if book.exchange is not None:
                whole = not book.exchange.answered or bool(book.open_calls)  # an open round is another rule's
                book.need(event, whole, "the turn has its answer")
            # A hand-written loop need not tell its input; what it asked then is no question to anybody else.
            results = book.exchange is not None and book.exchange.asked_calls
            self._has_question = book.unasked or results
            book.unasked = False

    def answer(self, event: ModelRequestFinished) -> None:
        """Note how a request ended."""
        book = self._book
        cut = event.finish_reason == "cancelled"
        book.cut = book.cut or cut
        exchange = book.exchange
        asked = book.requests.get(event.request_id)
        if exchange is None or asked is None or asked.purpose != "turn":
            return
        if cut:
            exchange.cut_in = book.run_id
        else:
            exchange.answered = True
            exchange.answer = event.finish_reason
            exchange.asked_calls = asked.has_calls

    def finish(self, event: TurnFinished) -> None:
        """Judge the end of an exchange."""
        book = self._book
        self._nothing_is_open(event)
        if book.need(event, book.exchange is not None, "no exchange is open") and book.exchange is not None:
            self._reason(event, book.exchange)
            book.need(event, book.told_as_exchange(event.usage), "usage is not the sum over the exchange")
            crossed = book.exchange.run_id != book.run_id
            book.need(
                event, not crossed or event.duration_ms is None, "began in another run, yet is measured"
            )
        book.exchange = book.turn_id = None
        book.cancelling = book.cut = False
        if event.finish_reason != "error":
            book.unasked = self._late  # what came when the exchange was to end is for the next one
        self._late = False

    def _reason(self, event: TurnFinished, exchange: Exchange) -> None:
        """Judge why the exchange ended, and note what that says of the run."""
        book, reason = self._book, event.finish_reason
        if reason == "error":
            book.broken = None if exchange.answer == "error" else reason
        elif exchange.exceeded:
            book.need(event, reason in {"limit", "cancelled"}, "{}, although a limit was exceeded", reason)
        elif reason == "cancelled":
            cut_before = exchange.cut_in not in {None, book.run_id}
            book.broken = None if book.cancelling or cut_before else reason
        elif book.cancelling:
            book.fault(event, f"{reason}, although a cancel was requested")
        else:
            if book.cut:
                book.fault(event, f"{reason}, although open work was cut")
            if book.unasked:
                book.fault(event, "input is unanswered")
            if not _ends_with(exchange, reason):
                book.fault(event, f"{reason} after an answer of {exchange.answer}")

    def limit(self, event: BudgetWarning | BudgetExceeded) -> None:
        """Judge whether a limit is as far used up as is told."""
        book = self._book
        used, allowed = _number(event.used), _number(event.allowed)
        if used is None or allowed is None:
            book.fault(event, "used and allowed are no numbers")
        else:
            share = WARNED_FROM if isinstance(event, BudgetWarning) else Decimal(1)
            book.need(event, used >= allowed * share, "{} of {} is not that much", used, allowed)
        if isinstance(event, BudgetWarning):
            told = (event.allowed, self._scope(event.limit))
            book.need(event, self._warned.get(event.limit) != told, "warned before")
            self._warned[event.limit] = told
        elif book.need(event, book.exchange is not None, "outside an exchange") and book.exchange is not None:
            book.need(event, event.limit not in book.exchange.exceeded, "exceeded before")
            book.exchange.exceeded.add(event.limit)

    def _scope(self, limit: str) -> object:
        """Return what "once" means for a limit: in its exchange, its run, or the session."""
        if "turns" in limit:
            return ("exchange", self._book.exchanges + (self._book.exchange is None))
        return ("run", self._book.run_id) if "seconds" in limit else "session"


def _wins(book: Book, event: ToolExecutionStarted) -> bool:
    """Whether the call was decided before the cancel, so that it runs to its end first."""
    call = book.open_calls.get(event.call_id)
    return call is not None and call.wins and book.cancelling


def _ends_with(exchange: Exchange, reason: str) -> bool:
    """Whether an exchange that nobody stopped may end so: as its last answer says."""
    match exchange.answer:
        case None:
            return reason == "completed"  # there was nothing to do
        case "pause_turn":
            return False
        case "tool_call":
            return reason == "completed" and not exchange.asked_calls
        case answer:
            return reason == answer


def _number(value: JSON) -> Decimal | None:
    """Return a figure of a limit: a number, or an amount as text; None of what cannot be compared."""
    if isinstance(value, int) and (isinstance(value, bool) or value.bit_length() > _MOST_BITS):
        return None
    if not isinstance(value, (int, float, str)) or len(str(value)) > _LONGEST_FIGURE:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < _LONGEST_FIGURE else None


JUDGES: Mapping[type[AgentEvent], Callable[[Any, Any], None]] = {
    TurnStarted: ExchangeRules.start,
    TurnFinished: ExchangeRules.finish,
    ModelRequestStarted: ExchangeRules.ask,
    ModelRequestFinished: ExchangeRules.answer,
    ModelRequestFailed: ExchangeRules.request_failed,
    InputAccepted: ExchangeRules.accept,
    ToolResultReceived: ExchangeRules.result,
    CancelRequested: ExchangeRules.cancel,
    BudgetWarning: ExchangeRules.limit,
    BudgetExceeded: ExchangeRules.limit,
}
"""Which rule looks at which class of events."""
