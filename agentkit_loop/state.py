"""The loop's state: a fold of the events, and nothing else.

`apply` is the only way in which it changes. The same events give an equal state, live or read from a log;
a test folds every prefix of random runs and compares.
"""

from __future__ import annotations

import enum
from decimal import Decimal

import attrs
import msgspec

from agentkit_loop.batches import DeltaBatch
from agentkit_loop.content import AppendText, CommitPart, ToolCallPart, ToolSpec
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    BudgetExceeded,
    BudgetWarning,
    CancelRequested,
    CompactionFinished,
    CompactionStarted,
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
    ToolCatalogChanged,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.open_calls import Approval, Auth, Call
from agentkit_loop.records import Record
from agentkit_loop.transcript import Transcript
from agentkit_loop.usage import Cost, ErrorInfo, Usage, can_be_added, child_costs

FORKED_FROM = "forked_from"
"""Key of RunStarted.metadata: the `session_id` and the event (`seq`) from which a fork goes on, and whether the
model had still to answer there (`unanswered`), so that the fork asks it by itself."""

_OWN = "own-"  # and a number: calls that no model asked for

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
    COMPACTING = "compacting the transcript"
    """A compaction is open, and no request of it."""
    WORKING = "running tools"
    """Calls of the answer have no result yet."""
    PENDING = "an answer is awaited"
    """The same, and at least one of them waits for an approval or for credentials."""
    ANSWERED = "answered"
    """The turn's answer and all its results are in."""


@attrs.define(eq=False, repr=False)
class Request(Record):
    """A request that is open."""

    id: str
    attempt: int
    purpose: str
    model: str
    usage: UsageUpdated | None = None  # the last word, which replaces earlier ones


@attrs.define(eq=False, repr=False)
class Failure(Record):
    """A request that failed, until the next one starts or the exchange ends."""

    request_id: str
    attempt: int
    error: ErrorInfo
    error_class: str
    retry_after_ms: float | None
    purpose: str
    retrying: bool = False  # told as ModelRequestRetrying


@attrs.define(eq=False, repr=False)
class Spent(Record):
    """A sum of usage and cost over requests that have ended."""

    usage: Usage = attrs.Factory(Usage)
    costs: dict[str, Decimal] = attrs.Factory(dict)  # by currency

    def add(self, usage: Usage, cost: Cost | None) -> None:
        """Add one request."""
        self.usage = self.usage + usage
        if cost is not None:
            self._add_cost(cost.currency, cost.amount)

    def add_child(self, usage: Usage) -> None:
        """Add what a sub-agent used; its costs stand in `raw` (see `child_usage`)."""
        self.usage = self.usage + msgspec.structs.replace(usage, raw=None)
        for currency, amount in child_costs(usage).items():
            self._add_cost(currency, amount)

    def _add_cost(self, currency: str, amount: Decimal) -> None:
        if not can_be_added(amount) or amount < 0:
            return  # no price list gives it: somebody wrote it into a log
        self.costs[currency] = self.costs.get(currency, Decimal(0)) + amount


@attrs.define(eq=False, repr=False)
class LoopState(Record):
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
    own_calls: dict[str, Call] = attrs.Factory(dict)  # open ones that a hand-written loop made by itself
    own_call_count: int = 0  # ever, in the session
    seen_calls: set[str] = attrs.Factory(set)
    input_unanswered: bool = False  # input joined after the last answer
    round_unanswered: bool = False  # results joined after the last answer
    approvals: int = 0  # asked for ever, in the session
    auths: int = 0  # the same
    input_after_end: bool = False  # input came when the exchange was to end: it is for the next one
    cancelling: bool = False  # a cancel was requested and its exchange is open
    exceeded: bool = False  # a limit is used up and the exchange is open
    warned: set[str] = attrs.Factory(set)  # limits of which it was told that they are nearly used up
    compacted: str | None = None  # why the transcript was last compacted in this turn
    compaction_failed: bool = False  # in this exchange
    tools: dict[str, ToolSpec] = attrs.Factory(dict)  # what the model was last told of
    session_spent: Spent = attrs.Factory(Spent)  # over all runs, children included
    last_input_tokens: int | None = None  # of the last request of a turn
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
        failed = self.failure
        if failed is not None and (failed.purpose == "compaction" or not self.transcript.compacting):
            return Phase.BACKING_OFF if failed.retrying else Phase.FAILED
        if self.transcript.compacting:
            return Phase.COMPACTING
        if self.transcript.open_calls:
            pending = any(call.is_pending for call in self.calls.values())
            return Phase.PENDING if pending else Phase.WORKING
        if self.finish_reason is not None:
            return Phase.ANSWERED
        if self.exchange_is_open or self.input_unanswered:
            return Phase.ASKING
        return Phase.IDLE

    @property
    def open_calls(self) -> list[Call]:
        """The calls without a result: those of the answer in order, then those that no model asked for."""
        return [call for call in (*self.calls.values(), *self.own_calls.values()) if not call.answered]

    @property
    def next_own_call(self) -> str:
        """The id of the next call that no model asks for."""
        number = self.own_call_count + 1
        while f"{_OWN}{number}" in self.seen_calls:
            number += 1
        return f"{_OWN}{number}"

    def has_seen(self, call_id: str) -> bool:
        """Whether the session has a call of that id; those that no model asked for are numbered, and not remembered."""
        number = call_id.removeprefix(_OWN)
        is_own = number != call_id and number.isdecimal() and int(number[:18]) <= self.own_call_count
        return is_own or call_id in self.seen_calls

    def find_call(self, call_id: str) -> Call | None:
        """Return a call of the answer, or an open one that no model asked for."""
        return self.calls.get(call_id) or self.own_calls.get(call_id)

    def call(self, call_id: str) -> Call:
        """Return a call of the answer, or one that no model asked for; raises KeyError."""
        found = self.calls.get(call_id)
        return self.own_calls[call_id] if found is None else found

    def asked_call(self, wire_id: str) -> Call | None:
        """Return the open call of the answer that the provider knows by that id."""
        for call in self.calls.values():
            if wire_id in (call.part.id, call.part.wire_id) and not call.answered:
                return call
        return None

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

    def apply_batch(self, batch: DeltaBatch) -> None:
        """Take pieces of text that came together: no fold reads them."""
        self.seq = batch.last_seq

    def _apply(self, event: AgentEvent) -> None:
        match event:
            case RunStarted():
                self._start_run(event)
            case InputAccepted():
                self.input_unanswered = self.input_unanswered or not self.transcript.waiting
                self.input_after_end = self.input_after_end or self.cancelling or self.exceeded
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
                self._request_call(event)
            case ToolExecutionStarted():
                self.call(event.call_id).attempts = event.attempt
            case ToolResultReceived():
                self._answer_call(event)
            case TurnFinished():
                self._finish_exchange(event)
            case RunFinished() | RunFailed() | RunCancelled():
                self.run_is_open = False
            case Warning(code=code, details=details) if code == UNPRICED:
                self.unpriced.add(str(details.get("model")))
            case _:
                self._apply_control(event)

    def _apply_control(self, event: AgentEvent) -> None:
        match event:
            case ApprovalRequired():
                self.approvals += 1
                self.calls[event.call_id].approval = Approval(event.approval_id, event.summary, event.reason)
            case ApprovalResolved():
                self._resolve_approval(event)
            case AuthRequired():
                self.auths += 1
                call = self.calls[event.call_id]
                call.auth = Auth(event.auth_id, event.provider, event.scopes, event.purpose, call.attempts)
            case AuthResolved():
                auth = self.calls[event.call_id].auth
                if auth is not None and auth.id == event.auth_id:
                    auth.outcome = event.outcome
            case CancelRequested():
                self.cancelling = True
                for call in self.calls.values():
                    call.survives = (
                        call.has_to_start and call.approval is not None and call.approval.approved is True
                    )
            case BudgetWarning(limit=limit):
                self.warned.add(limit)
            case BudgetExceeded():
                self.exceeded = True
            case ToolCatalogChanged():
                changed = {spec.name: spec for spec in (*event.changed, *event.added)}
                kept = {name: spec for name, spec in self.tools.items() if name not in event.removed}
                self.tools = {**kept, **changed}
            case CompactionStarted():
                self.compacted = event.reason
            case CompactionFinished():
                failed = self.failure
                self.compaction_failed = event.plan is None
                if event.plan is not None:
                    self.last_input_tokens = None  # it is of a longer transcript
                if event.plan is not None or (failed is not None and failed.purpose == "compaction"):
                    self.failure = None  # the turn's request is made, or made again with what is left
            case _:
                pass

    def _resolve_approval(self, event: ApprovalResolved) -> None:
        approval = self.calls[event.call_id].approval
        if approval is not None and approval.id == event.approval_id:
            approval.approved, approval.reason, approval.input = event.approved, event.reason, event.input

    def _request_call(self, event: ToolCallRequested) -> None:
        call = event.call
        if event.request_id:
            self.calls[call.id].requested = True
            return
        self.own_calls[call.id] = Call(call, "", requested=True)
        number = call.id.removeprefix(_OWN)
        self.own_call_count = max(self.own_call_count + 1, int(number[:18]) if number.isdecimal() else 0)

    def _answer_call(self, event: ToolResultReceived) -> None:
        self.call(event.call_id).answered = True
        if self.own_calls.pop(event.call_id, None) is not None:
            return
        self.round_unanswered = not self.transcript.open_calls
        if event.child_usage is not None:
            self.session_spent.add_child(event.child_usage)

    def _start_run(self, event: RunStarted) -> None:
        self.session_id, self.run_id = event.session_id, event.run_id
        self.run_is_open = True
        self.run_spent = Spent()
        self.failure = self.compacted = None  # what a crash left open is asked again, and shortened again
        self.tools = {spec.name: spec for spec in event.tools}
        self.warned.discard("max_seconds")
        origin = event.metadata.get(FORKED_FROM)
        if isinstance(origin, dict) and origin.get("unanswered") is True and event.items:
            self.input_unanswered = True  # as it was in the session that this one was forked from
        self.seen_calls.update(call.id for item in event.items for call in item.calls)

    def _start_turn(self, event: TurnStarted) -> None:
        if not self.exchange_is_open:
            self.exchange_spent = Spent()
            self.compaction_failed = False
            self.warned.discard("max_turns")
        self.exchange_is_open = True
        self.compacted = None
        self.turns += 1
        self.turn_id, self.turn_index = event.turn_id, event.index
        self.finish_reason, self.calls = None, {}

    def _end_request(self, request: Request, event: ModelRequestFinished | ModelRequestFailed) -> None:
        self.request = None
        if request.usage is not None:
            for spent in (self.run_spent, self.exchange_spent, self.session_spent):
                spent.add(request.usage.usage, request.usage.cost)
            if request.purpose == "turn":
                self.last_input_tokens = request.usage.usage.total_input_tokens
        if isinstance(event, ModelRequestFailed):
            self.failure = Failure(
                request_id=request.id,
                attempt=request.attempt,
                error=event.error,
                error_class=event.error_class,
                retry_after_ms=event.retry_after_ms,
                purpose=request.purpose,
            )
        elif request.purpose == "turn":
            self.finish_reason = event.finish_reason
            items = self.transcript.items
            # What was cut before it said a word has answered nothing.
            if event.finish_reason != "cancelled" or (items and items[-1].kind == "assistant"):
                self.input_unanswered = (
                    event.finish_reason == "pause_turn"
                )  # it is to be asked again for the rest
                self.round_unanswered = False
            if self.transcript.open_calls:
                parts = self.transcript.items[-1].calls
                self.calls = {part.id: Call(part, request.id) for part in parts}

    def _finish_exchange(self, event: TurnFinished) -> None:
        self.exchange_is_open = self.cancelling = self.exceeded = False
        self.turn_id, self.turn_index = None, 0
        self.finish_reason, self.failure, self.calls = None, None, {}
        # A failed exchange leaves what it did not answer to the next one, so that a resume asks again by itself.
        failed = event.finish_reason == "error"
        left = self.input_unanswered or self.round_unanswered
        self.input_unanswered = (failed and left) or self.input_after_end
        self.round_unanswered = self.input_after_end = False
