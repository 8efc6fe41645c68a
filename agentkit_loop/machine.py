"""The loop's state machine: everything that decides what happens next lives here.

`decide` looks at the state and its configuration and returns one event to tell, or what to wait for, or a
step for the host. `take` turns a signal into events, one at a time. The state changes only by the events
that the driver tells in between. No I/O, no clock: the time comes with each call, in seconds, monotonic.

What a signal may do depends on the phase (state.py); moves.py has the table. What the open request says is
in streaming.py, what becomes of its calls in calls.py, how everything is closed in closing.py.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import msgspec

from agentkit_loop.calls import STOPPING_REASONS, Calls
from agentkit_loop.closing import Durations, Ending, closing_event
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
from agentkit_loop.digest import MessageChain, fixed_digests
from agentkit_loop.errors import RETRYABLE_CLASSES, ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    CustomEvent,
    InputAccepted,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunStarted,
    TurnFinished,
    TurnStarted,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.moves import MOVES, Ended, GiveUp, Move, Stream, Verdict, Wait, Yield, verdict
from agentkit_loop.settings import LoopSettings
from agentkit_loop.signals import (
    Answered,
    RequestFault,
    Signal,
    Submit,
    ToolReturned,
    UsageReported,
    WarningNoted,
)
from agentkit_loop.state import LoopState, Phase
from agentkit_loop.streaming import OpenRequest, since
from agentkit_loop.tool_context import CustomFact, ToolProgressed
from agentkit_loop.transcript import item_number
from agentkit_loop.values import clean_text


class Machine:
    """Decides; see the module's text. state: the fold that the driver's emitter applies events to."""

    def __init__(self, settings: LoopSettings, state: LoopState) -> None:
        self.settings = settings
        self.state = state
        self.finished: TurnFinished | None = None  # told, and not yet shown to the host
        self._open = OpenRequest(state)
        self._calls = Calls(settings, state)
        # Moments that the machine saw, in seconds; not part of the state, since a log has its own times.
        self._run_started: float | None = None
        self._exchange_started: float | None = None
        self._retry_at: float | None = None
        self._open_texts: dict[str, str] = {}  # of the request that an ending cuts
        self._ending: Ending | None = None
        self._yielded_turn: str | None = state.turn_id
        self._chain = MessageChain()
        self._specs = tuple(tool.spec for tool in settings.tools.values())
        self._parameters = {**settings.model_parameters, **settings.parameters}
        self._digests = fixed_digests(
            self._specs, settings.system, {"model": settings.model, **self._parameters}
        )

    # --- what happens by itself

    def run_started(self, items: Sequence[Item], now: float) -> RunStarted:
        """Return the event that opens the run."""
        self._run_started = now
        return RunStarted(
            agent_name=self.settings.agent_name,
            model=self.settings.model,
            system=self.settings.system,
            tools=self._specs,
            parameters=self._parameters,
            items=self._numbered(items),
            metadata=self.settings.metadata,
        )

    def decide(self, now: float) -> Move:
        """Return the next event to tell, or what to wait for, or a step for the host."""
        if self._ending is not None:
            return closing_event(self.state, self._ending, self._open_texts, self._durations(now)) or Ended()
        if self.finished is not None:
            return Yield.FINISHED
        match self.state.phase:
            case Phase.CLOSED:
                return Ended()
            case Phase.IDLE:
                return Yield.AWAITING_INPUT
            case Phase.ASKING:
                return self._ask(now)
            case Phase.STREAMING:
                return Stream()
            case Phase.FAILED:
                return self._after_failure(now)
            case Phase.BACKING_OFF:
                return self._back_off(now)
            case Phase.WORKING:
                return self._calls.decide(now)
            case Phase.ANSWERED:
                return self._after_answer(now)

    @property
    def previews(self) -> dict[str, list[str]]:
        """What came of the open request's parts; the drivers append to it on the fast way."""
        return self._open.previews

    def end(self, ending: Ending) -> None:
        """From now on, `decide` closes what is open; the first ending counts."""
        if self._ending is None:
            self._ending = ending
            self._open_texts = self._open.open_texts()

    def show_finished(self) -> TurnFinished:
        """Return the end of the exchange, once, as the host is shown it."""
        finished, self.finished = self.finished, None
        if finished is None:
            raise IllegalMoveError("finish", self.state.phase.value, "an exchange must have ended")
        return finished

    def model_request(self) -> ModelRequest:
        """Return the open request as the model is to get it."""
        request = self.state.request
        if request is None:
            raise IllegalMoveError("request", self.state.phase.value, "a request must have been told")
        return ModelRequest(
            request_id=request.id,
            purpose=request.purpose,
            system=self.settings.system,
            tools=self._specs,
            items=tuple(self.state.transcript.items),
            parameters=self.settings.parameters,
        )

    def _ask(self, now: float) -> AgentEvent:
        if not self.state.exchange_is_open:
            self._exchange_started = now
            return TurnStarted(index=1)
        return self._request(1, now)

    def _request(self, attempt: int, now: float) -> ModelRequestStarted:
        self._open.begin(now)
        self._retry_at = None
        items = self.state.transcript.items
        return ModelRequestStarted(
            request_id=f"request-{self.state.requests + 1}",
            attempt=attempt,
            purpose="turn",
            model=self.settings.model,
            message_count=len(items),
            digests={**self._digests, "messages": self._chain.of(items)},
        )

    def _after_failure(self, now: float) -> AgentEvent | GiveUp:
        failure = self.state.failure
        assert failure is not None  # noqa: S101 - the phase says so
        retry = self.settings.retry
        if failure.error_class not in RETRYABLE_CLASSES or failure.attempt >= retry.max_attempts:
            return GiveUp(failure)
        seed = f"{self.state.session_id}/{failure.request_id}"
        delay = retry.delay_ms(failure.attempt, failure.retry_after_ms, seed)
        self._retry_at = now + delay / 1e3
        return ModelRequestRetrying(
            request_id=failure.request_id, delay_ms=delay, next_attempt=failure.attempt + 1
        )

    def _back_off(self, now: float) -> AgentEvent | Wait:
        failure = self.state.failure
        assert failure is not None  # noqa: S101 - the phase says so
        retry_at = self._retry_at
        if retry_at is not None and now < retry_at:
            return Wait(retry_at)
        return self._request(failure.attempt + 1, now)

    def _after_answer(self, now: float) -> AgentEvent | Yield:
        state = self.state
        reason = state.finish_reason or "completed"
        goes_on = state.round_unanswered and reason not in STOPPING_REASONS
        if not (goes_on or state.input_unanswered or reason == "pause_turn"):
            return self._finish("completed" if reason == "tool_call" else reason, now)
        if state.round_unanswered and self._yielded_turn != state.turn_id:
            self._yielded_turn = state.turn_id
            return Yield.AFTER_TOOL_RESULT
        return TurnStarted(index=state.turn_index + 1)

    def _finish(self, reason: str, now: float) -> TurnFinished:
        self.finished = TurnFinished(
            finish_reason=reason,
            usage=self.state.exchange_spent.usage,
            item_count=len(self.state.transcript.items),
            duration_ms=since(self._exchange_started, now),
        )
        return self.finished

    def _durations(self, now: float) -> Durations:
        return Durations(
            first_content_ms=self._open.first_content_ms,
            request_ms=since(self._open.started, now),
            exchange_ms=since(self._exchange_started, now),
            run_ms=since(self._run_started, now),
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
            case CustomFact(name, data):
                return iter((CustomEvent(name=clean_text(name), data=data),))
            case WarningNoted(code, message, details):
                return iter((Warning(code=code, message=message, details=details),))
            case _:
                raise IllegalMoveError(type(signal).__name__, self.state.phase.value, "see MOVES")

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
    if item.kind not in ITEM_KINDS or not all(isinstance(part, Part) for part in item.parts):
        raise ConfigurationError(
            f"{item!r} is no whole item; its kind must be one of {ITEM_KINDS}, its parts Parts"
        )
    return item
