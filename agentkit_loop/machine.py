"""The loop's state machine: everything that decides what happens next lives here.

`decide` looks at the state and its configuration and returns one event to tell, or what to wait for, or a
step for the host. `take` turns a signal into events, one at a time. The state changes only by the events
that the driver tells in between. No I/O, no clock: the time comes with each call, in seconds, monotonic.

What a signal may do depends on the phase (state.py); moves.py has the table. What the open request says is
in streaming.py, what becomes of its calls in calls.py, how everything is closed in closing.py, what a
session may use in limits.py, how its transcript is shortened in compacting.py.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import attrs
import msgspec

from agentkit_loop.calls import STOPPING_REASONS, Calls
from agentkit_loop.closing import (
    CANCELLED,
    Durations,
    Ending,
    close_work,
    closing_event,
    cut_request,
    finished_exchange,
    recovery_event,
)
from agentkit_loop.content import (
    ITEM_KINDS,
    AppendBytes,
    AppendText,
    BeginPart,
    CommitPart,
    Item,
    Part,
    clean_item,
)
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    BudgetExceeded,
    CancelRequested,
    CustomEvent,
    InputAccepted,
    RunStarted,
    TurnFinished,
    TurnStarted,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.limits import Limits
from agentkit_loop.moves import MOVES, Ask, Ended, Move, Stream, Verdict, Wait, Yield, verdict
from agentkit_loop.open_calls import Call
from agentkit_loop.requests import Requests
from agentkit_loop.settings import Catalog, LoopSettings
from agentkit_loop.signals import (
    Answered,
    AuthAnswer,
    AuthWanted,
    Cancel,
    Decision,
    RequestFault,
    SetTools,
    Signal,
    Submit,
    ToolReturned,
    UsageReported,
    WarningNoted,
)
from agentkit_loop.state import LoopState, Phase
from agentkit_loop.streaming import since
from agentkit_loop.tool_context import CustomFact, ToolProgressed
from agentkit_loop.transcript import item_number
from agentkit_loop.values import clean_text

MAX_ITEM_NUMBER = 10**15
"""The highest N of an id `item-N` that a host may give: the session counts on from it."""


class Machine:
    """Decides; see the module's text. state: the fold that the driver's emitter applies events to."""

    def __init__(self, settings: LoopSettings, state: LoopState) -> None:
        self.settings = settings
        self.state = state
        self.finished: TurnFinished | None = None  # told, and not yet shown to the host
        self.catalog = Catalog(settings.tools)
        self.requests = Requests(settings, self.catalog, state)
        self._open = self.requests.open
        self._calls = Calls(settings, self.catalog, state)
        # Moments that the machine saw, in seconds; not part of the state, since a log has its own times.
        self._exchange_started: float | None = None
        self._open_texts: dict[str, str] = {}  # of the request that an ending cuts
        self._close_at: float | None = None  # when the bodies of an exchange that is closed are abandoned
        self._ending: Ending | None = None
        # A round that was whole before a resume is not yielded again.
        self._yielded_turn = None if state.transcript.open_calls else state.turn_id

    # --- what happens by itself

    def recovery_event(self) -> AgentEvent | None:
        """Return the next event that closes, under its own id, a run that ended with its process."""
        return recovery_event(
            self.state, {name for name, tool in self.catalog.tools.items() if tool.idempotent}
        )

    def run_resumed(self, now: float, *, trust_approvals: bool) -> RunStarted:
        """Return the event that goes on with the session in a new run."""
        if not trust_approvals:
            self._calls.distrusted = {
                call.part.id
                for call in self.state.calls.values()
                if not call.answered and call.approval is not None and call.approval.approved
            }
        started = self.run_started((), now)
        return attrs.evolve(started, resumed_run=self.state.run_id, resumed_after=self.state.seq)

    def run_started(self, items: Sequence[Item], now: float) -> RunStarted:
        """Return the event that opens the run."""
        self.requests.run_started = now
        return RunStarted(
            agent_name=self.settings.agent_name,
            model=self.settings.model,
            system=self.settings.system,
            tools=self.catalog.specs,
            parameters=self.requests.parameters,
            items=self._numbered(items),
            parent=self.settings.parent,
            metadata=self.settings.metadata,
        )

    def decide(self, now: float) -> Move:
        """Return the next event to tell, or what to wait for, or a step for the host."""
        if self._ending is not None:
            return closing_event(self.state, self._ending, self._open_texts, self._durations(now)) or Ended()
        if self.finished is not None:
            return Yield.FINISHED
        if self.state.run_is_open:
            if self.state.cancelling or self.state.exceeded:
                return self._close_exchange(now)
            overdue = self._overdue(now)
            if overdue is not None:
                return overdue
        match self.state.phase:
            case Phase.CLOSED:
                return Ended()
            case Phase.IDLE:
                return Yield.AWAITING_INPUT
            case Phase.ASKING:
                return self.requests.ask(now) if self.state.exchange_is_open else self._begin(now)
            case Phase.STREAMING:
                return Stream()
            case Phase.FAILED:
                return self.requests.after_failure(now)
            case Phase.BACKING_OFF:
                return self._until_deadline(self.requests.back_off(now))
            case Phase.COMPACTING:
                return self.requests.compact(now)
            case Phase.WORKING | Phase.PENDING:
                return self._until_deadline(self._calls.decide(now))
            case Phase.ANSWERED:
                return self._after_answer(now)

    @property
    def previews(self) -> dict[str, list[str]]:
        """What came of the open request's parts; the drivers append to it on the fast way."""
        return self._open.previews

    @property
    def ends(self) -> bool:
        """Whether an exchange is about to be closed, or was and is not shown to the host yet."""
        return self.state.cancelling or self.state.exceeded or self.finished is not None

    @property
    def takes_answers(self) -> bool:
        """Whether an answer to an open step still matters: not while its exchange is being closed."""
        return not (self.state.cancelling or self.state.exceeded)

    @property
    def live(self) -> list[Call]:
        """The calls whose bodies run."""
        return self._calls.live

    def end(self, ending: Ending) -> None:
        """From now on, `decide` closes what is open; the first ending counts."""
        if self._ending is None:
            self._ending = ending
            if self._close_at is None:
                self._open_texts = self._open.open_texts()

    def _close_exchange(self, now: float) -> Move:
        """Return what closes an exchange that was cancelled, or that a limit ends."""
        state = self.state
        if not state.exchange_is_open:
            return TurnStarted(index=1)  # submitted, and not dispatched
        cut = cut_request(state, self._open_texts, self._durations(now))
        if cut is not None:
            return cut
        # What an earlier run approved would be asked about again, and nobody is asked any more.
        survives = state.cancelling and not self._calls.distrusted
        in_time = self.deadline is None or now < self.deadline
        survivor = self._calls.survivor(now) if survives and in_time else None
        if survivor is not None:
            return self._until_deadline(survivor)
        if self._close_at is not None and now < self._close_at and self._calls.live:
            return Wait(self._close_at)
        closed = close_work(state, CANCELLED)
        if closed is not None:
            return closed
        self._close_at = None
        return self._finish("cancelled" if state.cancelling else "limit", now)

    def _begin_closing(self, now: float) -> None:
        self._close_at = now + self.settings.grace_s
        self._open_texts = self._open.open_texts()

    def limits_left(self, now: float) -> Limits | None:
        """Return what holds for an agent behind a call by itself, with the time that is left."""
        limits = self.settings.limits
        return None if limits is None else limits.left(seconds=self.requests.seconds(now))

    @property
    def deadline(self) -> float | None:
        """When the run has used its `max_seconds`; None without."""
        limits, started = self.settings.limits, self.requests.run_started
        if limits is None or limits.max_seconds is None or started is None:
            return None
        return started + limits.max_seconds

    def _overdue(self, now: float) -> BudgetExceeded | None:
        """Return the end of a run's time, in the middle of whatever it does."""
        deadline, limits = self.deadline, self.settings.limits
        if deadline is None or limits is None or now < deadline or not self.state.exchange_is_open:
            return None
        if self.state.phase is Phase.ANSWERED:
            return None  # what came is whole; nothing is asked any more
        self._begin_closing(now)
        return limits.out_of_time(self.requests.seconds(now))

    def _until_deadline(self, move: Move) -> Move:
        """Let no wait go past the run's time."""
        deadline = self.deadline
        if not isinstance(move, (Wait, Ask)) or deadline is None:
            return move
        return msgspec.structs.replace(
            move, until=deadline if move.until is None else min(move.until, deadline)
        )

    def show_finished(self) -> TurnFinished:
        """Return the end of the exchange, once, as the host is shown it."""
        finished, self.finished = self.finished, None
        if finished is None:
            raise IllegalMoveError("finish", self.state.phase.value, "an exchange must have ended")
        return finished

    def _begin(self, now: float) -> TurnStarted:
        self._exchange_started = now
        return TurnStarted(index=1)

    def _after_answer(self, now: float) -> AgentEvent | Yield:
        state = self.state
        reason = state.finish_reason or "completed"
        goes_on = state.round_unanswered and reason not in STOPPING_REASONS
        if not (goes_on or state.input_unanswered or reason == "pause_turn"):
            return self._finish("completed" if reason == "tool_call" else reason, now)
        over = self.requests.over(now, state.turn_index)
        if over is not None:
            return over
        if state.round_unanswered and self._yielded_turn != state.turn_id:
            self._yielded_turn = state.turn_id
            return Yield.AFTER_TOOL_RESULT
        return TurnStarted(index=state.turn_index + 1)

    def _finish(self, reason: str, now: float) -> TurnFinished:
        self.finished = finished_exchange(self.state, reason, since(self._exchange_started, now))
        return self.finished

    def _durations(self, now: float) -> Durations:
        return Durations(
            first_content_ms=self._open.first_content_ms,
            request_ms=since(self._open.started, now),
            exchange_ms=since(self._exchange_started, now),
            run_ms=since(self.requests.run_started, now),
        )

    # --- signals

    def take(self, signal: Signal, now: float) -> Iterator[AgentEvent]:
        """Return the events that a signal causes; raises IllegalMoveError, with nothing changed.

        The driver tells each before it asks for the next.
        """
        kind = type(signal)
        phase = self.state.phase
        match verdict(kind, phase):
            case Verdict.ILLEGAL:
                raise IllegalMoveError(kind.__name__, phase.value, MOVES[kind][2])
            case Verdict.LATE:
                return iter(())
            case Verdict.TAKEN:
                return self._events_of(signal, now)

    def check(self, signal: Signal) -> None:
        """Raise what taking a signal would raise now: IllegalMoveError, ConfigurationError of an answer."""
        phase = self.state.phase
        if verdict(type(signal), phase) is Verdict.ILLEGAL:
            raise IllegalMoveError(type(signal).__name__, phase.value, MOVES[type(signal)][2])
        if isinstance(signal, Decision):
            self._calls.decided(signal)
        elif isinstance(signal, AuthAnswer):
            self._calls.auth_resolved(signal)

    def _events_of(self, signal: Signal, now: float) -> Iterator[AgentEvent]:
        match signal:
            case Submit(items):
                return iter((InputAccepted(items=self._numbered(items)),) if items else ())
            case BeginPart() | AppendText() | AppendBytes() | CommitPart():
                return self._open.delta(signal, now)
            case UsageReported():
                return self._open.report(signal)
            case Answered():
                return self._open.answer(signal, now)
            case RequestFault():
                return iter((self._open.fault(signal, now),))
            case ToolProgressed():
                return self._calls.progress(signal)
            case ToolReturned():
                return self._calls.result(signal)
            case AuthWanted():
                return self._calls.auth_wanted(signal)
            case Decision():
                return iter((self._calls.decided(signal),))
            case AuthAnswer():
                return iter((self._calls.auth_resolved(signal),))
            case Cancel():
                return self._cancel(signal, now)
            case SetTools(tools):
                self.catalog.wanted = dict(tools)
                return iter(())
            case CustomFact(name, data):
                return iter((CustomEvent(name=clean_text(name), data=data),))
            case WarningNoted(code, message, details):
                return iter((Warning(code=code, message=message, details=details),))
            case _:
                raise IllegalMoveError(type(signal).__name__, self.state.phase.value, "see MOVES")

    def _cancel(self, cancel: Cancel, now: float) -> Iterator[AgentEvent]:
        if self.ends or (self._ending is not None and self._ending.kind != "left"):
            return  # it ends already
        self._begin_closing(now)
        yield CancelRequested(
            reason=None if cancel.reason is None else clean_text(cancel.reason),
            by=None if cancel.by is None else clean_text(cancel.by),
        )

    def _numbered(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Check and clean the items, and give those without one an id of this session."""
        transcript = self.state.transcript
        given = [_checked(item).id for item in items if _checked(item).id]
        if given:
            taken = [item.id for item in (*transcript.items, *transcript.waiting)] + given
            twice = next((name for name, count in collections.Counter(taken).items() if count > 1), None)
            if twice is not None:
                raise ConfigurationError(f"item id {twice!r} is taken in this session; leave it empty")
        number = max((item_number(item) for item in items), default=0)
        result: list[Item] = []
        for item in items:
            if not item.id:
                number = max(number, transcript.numbered) + 1
                item = msgspec.structs.replace(item, id=f"item-{number}")  # noqa: PLW2901
            result.append(clean_item(item))
        return tuple(result)


def _checked(item: object) -> Item:
    """Return the item; raises ConfigurationError for what is none."""
    if not isinstance(item, Item) or not isinstance(item.id, str):
        raise ConfigurationError(f"{item!r} is not an item; give text, parts or Items")
    if item_number(item) > MAX_ITEM_NUMBER:
        raise ConfigurationError(f"item id {item.id!r} refused; leave it empty, and the session numbers it")
    if item.kind not in ITEM_KINDS or not all(isinstance(part, Part) for part in item.parts):
        raise ConfigurationError(
            f"{item!r} is no whole item; its kind must be one of {ITEM_KINDS}, its parts Parts"
        )
    return item
