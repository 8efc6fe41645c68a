"""The loop's state: a fold of the events, and nothing else.

`apply` is the only way in which it changes. The same events give an equal state, live or read from a log;
a test folds every prefix of random runs and compares.
"""

from __future__ import annotations

import enum
from decimal import Decimal

import attrs

from agentkit_loop.content import AppendText, CommitPart, ToolCallPart
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.transcript import Transcript
from agentkit_loop.usage import Cost, ErrorInfo, Usage

UNPRICED = "unpriced_model"
"""Code of the warning that a model's requests have no cost; its details name the `model`."""


class Phase(enum.Enum):
    """Where a session stands; derived from the state, the rows of the machine's table."""

    CLOSED = "closed"
    """No run is open."""
    IDLE = "idle"
    """A run is open and nobody waits for an answer."""
    ASKING = "about to ask the model"
    """Input or results wait for a request."""
    STREAMING = "streaming"
    """A request is open."""
    FAILED = "after a failed request"
    """A request failed and nothing was decided yet."""
    BACKING_OFF = "waiting to ask again"
    """A retry was told."""
    WORKING = "running tools"
    """Calls of the answer have no result yet."""
    ANSWERED = "answered"
    """The turn's answer and all its results are in."""


@attrs.define
class Request:
    """A request that is open."""

    id: str
    attempt: int
    purpose: str
    model: str
    usage: UsageUpdated | None = None  # the last word, which replaces earlier ones


@attrs.define
class Failure:
    """A request that failed, until the next one starts or the exchange ends."""

    request_id: str
    attempt: int
    error: ErrorInfo
    error_class: str
    retry_after_ms: float | None
    retrying: bool = False  # told as ModelRequestRetrying


@attrs.define
class Call:
    """A call of the current answer. attempts: how often its body was started."""

    part: ToolCallPart
    request_id: str
    requested: bool = False
    attempts: int = 0
    answered: bool = False

    @property
    def is_running(self) -> bool:
        """Whether the body was started and has no result."""
        return self.attempts > 0 and not self.answered


@attrs.define
class Spent:
    """A sum of usage and cost over requests that have ended."""

    usage: Usage = attrs.Factory(Usage)
    costs: dict[str, Decimal] = attrs.Factory(dict)  # by currency

    def add(self, usage: Usage, cost: Cost | None) -> None:
        """Add one request."""
        self.usage = self.usage + usage
        if cost is not None:
            self.costs[cost.currency] = self.costs.get(cost.currency, Decimal(0)) + cost.amount


@attrs.define
class LoopState:
    """Everything the machine decides from, apart from its configuration."""

    session_id: str = ""
    run_id: str = ""
    seq: int = 0
    transcript: Transcript = attrs.Factory(Transcript)
    run_is_open: bool = False
    exchange_is_open: bool = False
    turn_id: str | None = None  # of the open exchange
    turn_index: int = 0  # within the exchange
    turns: int = 0  # ever, in the session
    requests: int = 0  # ever, in the session
    request: Request | None = None
    failure: Failure | None = None
    finish_reason: str | None = None  # of the current turn's answer
    calls: dict[str, Call] = attrs.Factory(dict)  # of the current turn's answer
    seen_calls: set[str] = attrs.Factory(set)
    input_unanswered: bool = False  # input joined after the last answer
    round_unanswered: bool = False  # results joined after the last answer
    run_spent: Spent = attrs.Factory(Spent)
    exchange_spent: Spent = attrs.Factory(Spent)
    unpriced: set[str] = attrs.Factory(set)  # models of which it was told that their cost is unknown

    @property
    def phase(self) -> Phase:
        """Where the session stands."""
        if not self.run_is_open:
            return Phase.CLOSED
        if self.request is not None:
            return Phase.STREAMING
        if self.failure is not None:
            return Phase.BACKING_OFF if self.failure.retrying else Phase.FAILED
        if any(not call.answered for call in self.calls.values()):
            return Phase.WORKING
        if self.finish_reason is not None:
            return Phase.ANSWERED
        if self.exchange_is_open or self.input_unanswered:
            return Phase.ASKING
        return Phase.IDLE

    def apply(self, event: AgentEvent) -> None:
        """Take one event."""
        self.seq = event.seq
        if isinstance(event, ContentDelta):
            delta = event.delta
            if type(delta) is AppendText:
                return  # for every chunk of a stream: no fold reads it
            if type(delta) is CommitPart and isinstance(delta.part, ToolCallPart):
                self.seen_calls.add(delta.part.id)
            self.transcript.apply(event)
            return
        waited = bool(self.transcript.waiting)
        self.transcript.apply(event)
        self._apply(event)
        if waited and not self.transcript.waiting:
            self.input_unanswered = True  # what waited has joined

    def _apply(self, event: AgentEvent) -> None:
        match event:
            case RunStarted():
                self._start_run(event)
            case InputAccepted():
                self.input_unanswered = self.input_unanswered or not self.transcript.waiting
            case TurnStarted():
                self._start_turn(event)
            case ModelRequestStarted():
                self.requests += 1
                self.failure = None
                self.request = Request(event.request_id, event.attempt, event.purpose, event.model)
            case UsageUpdated() if self.request is not None and event.request_id == self.request.id:
                self.request.usage = event
            case ModelRequestFinished() | ModelRequestFailed() if self.request is not None:
                self._end_request(self.request, event)
            case ModelRequestRetrying() if self.failure is not None:
                self.failure.retrying = True
            case ToolCallRequested():
                self.calls[event.call.id].requested = True
            case ToolExecutionStarted():
                self.calls[event.call_id].attempts = event.attempt
            case ToolResultReceived():
                self.calls[event.call_id].answered = True
                self.round_unanswered = not self.transcript.open_calls
            case TurnFinished():
                self._finish_exchange(event)
            case RunFinished() | RunFailed() | RunCancelled():
                self.run_is_open = False
            case Warning(code=code, details=details) if code == UNPRICED:
                self.unpriced.add(str(details.get("model")))
            case _:
                pass

    def _start_run(self, event: RunStarted) -> None:
        self.session_id, self.run_id = event.session_id, event.run_id
        self.run_is_open = True
        self.run_spent = Spent()
        self.seen_calls.update(call.id for item in event.items for call in item.calls)

    def _start_turn(self, event: TurnStarted) -> None:
        if not self.exchange_is_open:
            self.exchange_spent = Spent()
        self.exchange_is_open = True
        self.turns += 1
        self.turn_id, self.turn_index = event.turn_id, event.index
        self.finish_reason, self.calls = None, {}

    def _end_request(self, request: Request, event: ModelRequestFinished | ModelRequestFailed) -> None:
        self.request = None
        if request.usage is not None:
            self.run_spent.add(request.usage.usage, request.usage.cost)
            self.exchange_spent.add(request.usage.usage, request.usage.cost)
        if isinstance(event, ModelRequestFailed):
            self.failure = Failure(
                request.id, request.attempt, event.error, event.error_class, event.retry_after_ms
            )
        elif request.purpose == "turn":
            self.finish_reason = event.finish_reason
            self.input_unanswered = self.round_unanswered = False
            if self.transcript.open_calls:
                parts = self.transcript.items[-1].calls
                self.calls = {part.id: Call(part, request.id) for part in parts}

    def _finish_exchange(self, event: TurnFinished) -> None:
        self.exchange_is_open = False
        self.turn_id, self.turn_index = None, 0
        self.finish_reason, self.failure, self.calls = None, None, {}
        if event.finish_reason != "error":
            # A failed exchange leaves its input unanswered, so that a resume asks again by itself.
            self.input_unanswered = self.round_unanswered = False
