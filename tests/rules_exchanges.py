"""The rules of exchanges: turns, cancellation, limits, and what may start at all."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from agentkit_loop.events import (
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
from tests.rules_book import CLOSING, Book, Exchange

STARTING = (
    TurnStarted,
    ModelRequestStarted,
    ModelRequestRetrying,
    ToolExecutionStarted,
    CompactionStarted,
    ApprovalRequired,
)
_ANYWHERE = (RunStarted, *CLOSING, InputAccepted, CancelRequested)
"""Events that are told inside and outside of turns."""

WARNED_FROM = Decimal("0.8")


class ExchangeRules:
    """Looks at turns, cancels and limits, and at whatever starts something."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._warned: dict[str, tuple[JSON, object]] = {}  # limit: allowed, and where it was warned of
        self._late = False

    def take(self, event: AgentEvent) -> None:
        """Judge one event."""
        self._header(event)
        if isinstance(event, STARTING):
            self._may_start(event)
        book = self._book
        match event:
            case TurnStarted():
                self._start(event)
            case TurnFinished():
                self._finish(event)
            case ModelRequestStarted():
                self._ask(event)
            case ModelRequestFinished():
                self._answer(event)
            case ModelRequestFailed() if self._purpose(event) == "turn":
                book.unasked = True
            case InputAccepted():
                book.unasked = True
                exceeded = book.exchange is not None and book.exchange.exceeded
                self._late = self._late or book.cancelling or bool(exceeded)
            case ToolResultReceived() if event.interrupted:
                book.cut = True
            case CancelRequested():
                if book.need(event, not book.cancelling, "a cancel was requested before"):
                    self._can_be_cancelled(event)
                book.cancelling = True
                for call in book.open_calls.values():
                    approved = call.decision is not None and call.decision.approved
                    call.wins = call.status == "ready" or (approved and call.approval is None)
            case BudgetWarning() | BudgetExceeded():
                self._limit(event)
            case _:
                pass

    def _purpose(self, event: ModelRequestFinished | ModelRequestFailed) -> str | None:
        asked = self._book.requests.get(event.request_id)
        return None if asked is None else asked.purpose

    def _header(self, event: AgentEvent) -> None:
        """Judge the turn's id; what is told between turns may still have the last one's."""
        book = self._book
        expected = {book.turn_id}
        if isinstance(event, TurnStarted):
            return
        if isinstance(event, _ANYWHERE) or event.category in {"Diagnostic", "Open", "Budget"}:
            expected |= {None, f"turn-{book.turns}"}
        book.need(event, event.turn_id in expected, f"turn is {event.turn_id}, not {book.turn_id}")

    def _may_start(self, event: AgentEvent) -> None:
        book = self._book
        if book.broken is not None:
            book.fault(event, f"the exchange ended as {book.broken}, so the run has to end")
        elif isinstance(event, ToolExecutionStarted) and _wins(book, event):
            return
        elif book.exchange is not None and book.exchange.exceeded:
            book.fault(event, "starts after a limit was exceeded")
        elif book.cancelling:
            undispatched = isinstance(event, TurnStarted) and book.exchange is None
            book.need(event, undispatched, "starts after the cancel")
        else:
            book.need(event, not book.cut, "starts after open work was cut")

    def _can_be_cancelled(self, event: CancelRequested) -> None:
        book = self._book
        # A resumed run may have found the transcript's tail unanswered without any input of its own.
        something = book.exchange is not None or book.unasked or len(book.runs) > 1
        book.need(event, something, "there is nothing to cancel")
        deadline = book.exchange is not None and bool(book.exchange.exceeded)  # it cuts by itself
        book.need(event, deadline or not book.cut, "requested after something was cut")

    def _nothing_is_open(self, event: AgentEvent) -> None:
        book = self._book
        book.need(event, not book.open_calls, "a call is open")
        book.need(event, book.request is None, "a request is open")
        book.need(event, not book.compacting, "a compaction is open")

    def _start(self, event: TurnStarted) -> None:
        book = self._book
        self._nothing_is_open(event)
        book.turns += 1
        book.need(event, event.turn_id == f"turn-{book.turns}", "turn ids do not count on")
        if book.exchange is None:
            book.exchange = Exchange(run_id=book.run_id)
            book.exchanges += 1
        else:
            went_on = book.exchange.answered or book.exchange.turn_run != book.run_id
            book.need(event, went_on, "the last turn has no answer")
        exchange = book.exchange
        exchange.index += 1
        exchange.turn_run, exchange.answered = book.run_id, False
        book.need(event, event.index == exchange.index, f"index is not {exchange.index}")

    def _ask(self, event: ModelRequestStarted) -> None:
        book = self._book
        if event.purpose == "turn":
            book.need(event, book.exchange is not None, "outside an exchange")
            if book.exchange is not None:
                whole = not book.exchange.answered or bool(book.open_calls)  # an open round is another rule's
                book.need(event, whole, "the turn has its answer")
            book.unasked = False

    def _answer(self, event: ModelRequestFinished) -> None:
        book = self._book
        cut = event.finish_reason == "cancelled"
        book.cut = book.cut or cut
        exchange = book.exchange
        if exchange is None or self._purpose(event) != "turn":
            return
        if cut:
            exchange.cut_in = book.run_id
        else:
            exchange.answered = True
            exchange.answer = event.finish_reason
            exchange.asked_calls = bool(book.requests[event.request_id].calls)

    def _finish(self, event: TurnFinished) -> None:
        book = self._book
        self._nothing_is_open(event)
        if book.need(event, book.exchange is not None, "no exchange is open") and book.exchange is not None:
            self._reason(event, book.exchange)
            book.need(
                event, event.usage == book.usage_of_exchange(), "usage is not the sum over the exchange"
            )
            crossed = book.exchange.run_id != book.run_id
            book.need(
                event, not crossed or event.duration_ms is None, "began in another run, yet is measured"
            )
        book.exchange = None
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
            book.need(event, reason in {"limit", "cancelled"}, f"{reason}, although a limit was exceeded")
        elif reason == "cancelled":
            cut_before = exchange.cut_in not in {None, book.run_id}
            book.broken = None if book.cancelling or cut_before else reason
        elif book.need(event, not book.cancelling, f"{reason}, although a cancel was requested"):
            book.need(event, not book.cut, f"{reason}, although open work was cut")
            book.need(event, not book.unasked, "input is unanswered")
            book.need(event, _ends_with(exchange, reason), f"{reason} after an answer of {exchange.answer}")

    def _limit(self, event: BudgetWarning | BudgetExceeded) -> None:
        book = self._book
        used, allowed = _number(event.used), _number(event.allowed)
        if book.need(event, used is not None and allowed is not None, "used and allowed are no numbers"):
            assert used is not None
            assert allowed is not None
            share = WARNED_FROM if isinstance(event, BudgetWarning) else Decimal(1)
            book.need(event, used >= allowed * share, f"{used} of {allowed} is not that much")
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
    """Return a figure of a limit: a number, or an amount as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None
