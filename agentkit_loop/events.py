"""The events: one immutable class for every kind of fact that a run tells.

An event is made without its header (`CustomEvent(name="note", data={})`); the emitter stamps session, run,
turn, sequence number and time when it tells the event, once. `seq == 0` means: not told yet.
The docstring of each class says when it is told and what each field holds. `EVENT_TYPES` maps the wire
names to the classes.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import ClassVar, Literal, TypeAlias

import attrs

from agentkit_loop.content import AnyDelta, Item, Parent, ToolCallPart, ToolSpec
from agentkit_loop.usage import Cost, ErrorInfo, ObserverStats, Usage
from agentkit_loop.values import JSON

UNTOLD = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The timestamp of an event that has not been told yet."""

HEADER_FIELDS = ("session_id", "run_id", "turn_id", "seq", "timestamp", "unknown_fields")
"""Fields of every event that are not part of its payload."""

EVENT_TYPES: dict[str, type[AgentEvent]] = {}
"""Every event class by its wire name, in the order of the categories."""


@attrs.frozen(kw_only=True)
class AgentEvent:
    """A fact about an agent's run; base of all events.

    session_id: the conversation. run_id: one driver over it. turn_id: `turn-1`, … or None outside a turn.
    seq: 1, 2, 3 … within the session, without gaps. timestamp: when it was told, aware, UTC.
    unknown_fields: payload fields that a newer writer added, kept so that they are written back; under a
    known key, the whole value as it stood where a record inside it has keys of a newer writer.
    """

    type: ClassVar[str] = ""
    category: ClassVar[str] = ""

    session_id: str = ""
    run_id: str = ""
    turn_id: str | None = None
    seq: int = 0
    timestamp: dt.datetime = UNTOLD
    unknown_fields: dict[str, JSON] | None = None

    def __init_subclass__(cls, *, category: str = "") -> None:
        # attrs makes a slotted class of each class, and this runs for both: the last one stands.
        if cls.__name__.startswith("_"):
            return  # the mutable twin of an event class (stamping.py)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        if name == "unknown_event":
            cls.category = category or cls.category
            return
        cls.type = name
        if category:
            cls.category = category
        EVENT_TYPES[name] = cls


# --- Lifecycle


@attrs.frozen(kw_only=True)
class RunStarted(AgentEvent, category="Lifecycle"):
    """A driver starts over a session; first event of its run.

    agent_name: as configured. model: the model asked for. system: the system prompt, None without one.
    tools: what the model is told of. parameters: further request parameters. items: the preloaded
    transcript, empty on a resume. parent: who started this sub-agent. resumed_run, resumed_after: the run
    that this one goes on from, and the last sequence number of it that counts. metadata: the host's own.
    """

    agent_name: str
    model: str
    system: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    parameters: dict[str, JSON] = attrs.field(factory=dict)
    items: tuple[Item, ...] = ()
    parent: Parent | None = None
    resumed_run: str | None = None
    resumed_after: int | None = None
    metadata: dict[str, JSON] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class TurnStarted(AgentEvent, category="Lifecycle"):
    """A step of the exchange begins: one model answer and its tools; first event of its turn.

    index: number of the turn within its exchange, from 1.
    """

    index: int


@attrs.frozen(kw_only=True)
class TurnFinished(AgentEvent, category="Lifecycle"):
    """The exchange has ended; once for each, after its last turn.

    finish_reason: why, see FINISH_REASONS. usage: sum over the exchange's requests, for people: nobody adds
    it. item_count: length of the transcript now. duration_ms: since the exchange's first TurnStarted,
    monotonic; None where the exchange began in an earlier run.
    """

    finish_reason: str
    usage: Usage
    item_count: int
    duration_ms: float | None = None


@attrs.frozen(kw_only=True)
class RunFinished(AgentEvent, category="Lifecycle"):
    """The run ended as intended.

    outcome: completed, or suspended with work left open. usage: sum over the run's requests, for people.
    duration_ms: since RunStarted, monotonic. open_approvals, open_auths: ids that still wait.
    observers: what was counted for each observer.
    """

    outcome: Literal["completed", "suspended"]
    usage: Usage
    duration_ms: float | None = None
    open_approvals: tuple[str, ...] = ()
    open_auths: tuple[str, ...] = ()
    observers: tuple[ObserverStats, ...] = ()


@attrs.frozen(kw_only=True)
class CancelRequested(AgentEvent, category="Lifecycle"):
    """Somebody asked to end the exchange; told once, before anything is closed.

    reason: why, None if not said. by: who, None if not said.
    """

    reason: str | None = None
    by: str | None = None


@attrs.frozen(kw_only=True)
class RunFailed(AgentEvent, category="Lifecycle"):
    """The run ended by an error: of the model, of an observer under FAIL_FAST, or of the host.

    error: what happened. usage: sum over the run's requests, for people. duration_ms: since RunStarted.
    """

    error: ErrorInfo
    usage: Usage
    duration_ms: float | None = None


@attrs.frozen(kw_only=True)
class RunCancelled(AgentEvent, category="Lifecycle"):
    """The run was interrupted: Ctrl-C, a cancelled task, SystemExit from a tool.

    reason: what interrupted it. usage: sum over the run's requests, for people. duration_ms: since
    RunStarted.
    """

    reason: str
    usage: Usage
    duration_ms: float | None = None


# --- Input


@attrs.frozen(kw_only=True)
class InputAccepted(AgentEvent, category="Input"):
    """Input was submitted; told inside `submit()`.

    items: what was submitted, with their ids.
    """

    items: tuple[Item, ...]


# --- Streaming


@attrs.frozen(kw_only=True)
class ContentDelta(AgentEvent, category="Streaming"):
    """A fragment of an answer.

    request_id: the request that it belongs to. delta: begin, append or commit of a part.
    """

    request_id: str
    delta: AnyDelta


# --- Model


@attrs.frozen(kw_only=True)
class ModelRequestStarted(AgentEvent, category="Model"):
    """A request to the model begins; the driver sends it after this event was told.

    request_id: new for every attempt. attempt: 1 for the first. purpose: turn, or compaction (whose answer
    joins no transcript). model: the model asked for. message_count: items sent. digests: `tools`, `system`,
    `settings`, `messages`: what was sent, as hashes; that of the messages is chained item by item.
    """

    request_id: str
    attempt: int
    purpose: Literal["turn", "compaction"]
    model: str
    message_count: int
    digests: dict[str, str]


@attrs.frozen(kw_only=True)
class ModelRequestRetrying(AgentEvent, category="Model"):
    """A failed request will be made again after a pause.

    request_id: the failed request. delay_ms: the pause. next_attempt: number of the coming attempt.
    """

    request_id: str
    delay_ms: float
    next_attempt: int


@attrs.frozen(kw_only=True)
class ModelRequestFinished(AgentEvent, category="Model"):
    """The model answered; the committed parts of the request join the transcript as one item.

    request_id: which request. finish_reason: see FINISH_REASONS; unknown words of a provider are kept.
    response_id, response_model: the provider's. first_content_ms, duration_ms: since ModelRequestStarted,
    monotonic; first_content_ms is None where nothing was streamed.
    """

    request_id: str
    finish_reason: str
    response_id: str | None = None
    response_model: str | None = None
    first_content_ms: float | None = None
    duration_ms: float | None = None


@attrs.frozen(kw_only=True)
class ModelRequestFailed(AgentEvent, category="Model"):
    """The request failed; its parts are dropped, the usage that it reported counts.

    request_id: which request. error: what happened. error_class: rate_limited, overloaded, timeout,
    connection, server, stream_cut, context_exceeded, invalid_request, auth, process_ended or other.
    retry_after_ms: what the provider asked to wait. duration_ms: since ModelRequestStarted, monotonic.
    """

    request_id: str
    error: ErrorInfo
    error_class: str
    retry_after_ms: float | None = None
    duration_ms: float | None = None


# --- Tools


@attrs.frozen(kw_only=True)
class ToolCallRequested(AgentEvent, category="Tools"):
    """The committed answer asks for a tool; told after ModelRequestFinished, once for each call.

    request_id: the request that asked. call: id, name, input, and cut for an input that did not parse.
    """

    request_id: str
    call: ToolCallPart


@attrs.frozen(kw_only=True)
class ToolExecutionStarted(AgentEvent, category="Tools"):
    """A tool's body is about to run; never told for a call that is unknown, invalid, denied or cut.

    call_id, name: which call. attempt: 1 for the first. edited: whether an approval changed the input.
    input: the changed input, only where edited.
    """

    call_id: str
    name: str
    attempt: int = 1
    edited: bool = False
    input: dict[str, JSON] | None = None


@attrs.frozen(kw_only=True)
class ToolExecutionProgress(AgentEvent, category="Tools"):
    """A running tool says how far it is.

    call_id: which call. message: for people. fraction: 0 to 1, None if unknown.
    """

    call_id: str
    message: str
    fraction: float | None = None


@attrs.frozen(kw_only=True)
class ToolResultReceived(AgentEvent, category="Tools"):
    """A requested call has its answer; exactly one for each.

    call_id, name: which call. output: exactly what the model sees, after bounding. is_error: whether it is
    an error. not_started: no attempt ever started. denied: an approval or policy refused it. interrupted:
    closed by a cancel, a suspension or a crash. duration_ms: wall clock of the body, monotonic. error: the
    tool's exception, with frames that the model does not see. child_usage: what a sub-agent behind the
    call used, for limits; nobody adds it to totals.
    """

    call_id: str
    name: str
    output: JSON
    is_error: bool = False
    not_started: bool = False
    denied: bool = False
    interrupted: bool = False
    duration_ms: float | None = None
    error: ErrorInfo | None = None
    child_usage: Usage | None = None


@attrs.frozen(kw_only=True)
class ToolCatalogChanged(AgentEvent, category="Tools"):
    """The tools changed between turns; told before the next request.

    added: new tools. removed: names that are gone. changed: tools whose description or schema changed.
    """

    added: tuple[ToolSpec, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[ToolSpec, ...] = ()


# --- Approval


@attrs.frozen(kw_only=True)
class ApprovalRequired(AgentEvent, category="Approval"):
    """A call waits for a person's decision.

    approval_id: `approval-1`, … call_id: which call. summary: what it would do, one line. reason: why it
    must be asked for, None if no reason is known.
    """

    approval_id: str
    call_id: str
    summary: str
    reason: str | None = None


@attrs.frozen(kw_only=True)
class ApprovalResolved(AgentEvent, category="Approval"):
    """The decision was made.

    approval_id, call_id: which one. approved: the decision. reason: why. by: who. edited: whether the
    input was changed. input: the changed input, only where edited.
    """

    approval_id: str
    call_id: str
    approved: bool
    reason: str | None = None
    by: str | None = None
    edited: bool = False
    input: dict[str, JSON] | None = None


# --- Auth


@attrs.frozen(kw_only=True)
class AuthRequired(AgentEvent, category="Auth"):
    """A tool needs credentials before it can do anything.

    auth_id: `auth-1`, … call_id: which call. provider: whose credentials. scopes: what they must allow.
    purpose: for the person who is asked.
    """

    auth_id: str
    call_id: str
    provider: str
    scopes: tuple[str, ...] = ()
    purpose: str | None = None


@attrs.frozen(kw_only=True)
class AuthResolved(AgentEvent, category="Auth"):
    """The request for credentials was answered; the event never holds a credential.

    auth_id, call_id: which one. outcome: resolved or cancelled.
    """

    auth_id: str
    call_id: str
    outcome: Literal["resolved", "cancelled"]


# --- Compaction

PlanStep: TypeAlias = tuple[int, int] | Item
"""A half-open range of the old transcript that is kept, or a new item."""


@attrs.frozen(kw_only=True)
class CompactionStarted(AgentEvent, category="Compaction"):
    """The transcript is about to be shortened.

    reason: what triggered it. item_count: items now. token_count: input tokens of the last request, None
    if unknown.
    """

    reason: str
    item_count: int
    token_count: int | None = None


@attrs.frozen(kw_only=True)
class CompactionFinished(AgentEvent, category="Compaction"):
    """The transcript was shortened, or the strategy failed and it is as before.

    strategy: which. plan: in order, `[first, end)` ranges of the old transcript that are kept and new
    items; None where it failed. item_count: items now. token_count: an estimate, None if unknown.
    error: why it failed.
    """

    strategy: str
    plan: tuple[PlanStep, ...] | None
    item_count: int
    token_count: int | None = None
    error: ErrorInfo | None = None


# --- Usage


@attrs.frozen(kw_only=True)
class UsageUpdated(AgentEvent, category="Usage"):
    """What a request used so far; replaces earlier ones of the same request, adds across requests.

    request_id: which request. model: which model is billed. usage: the counts. cost: None where the model
    has no known price or nothing is known to be billed. final: the provider's last word, exactly once for
    a finished request.
    """

    request_id: str
    model: str
    usage: Usage
    cost: Cost | None = None
    final: bool = False


# --- Budget


@attrs.frozen(kw_only=True)
class BudgetWarning(AgentEvent, category="Budget"):
    """A limit is 80 % used; told once for each limit.

    limit: its name. used, allowed: in the limit's own unit, Decimal amounts as text.
    """

    limit: str
    used: JSON
    allowed: JSON


@attrs.frozen(kw_only=True)
class BudgetExceeded(AgentEvent, category="Budget"):
    """A limit is used up; the exchange ends with `limit`.

    limit: its name. used, allowed: in the limit's own unit, Decimal amounts as text.
    """

    limit: str
    used: JSON
    allowed: JSON


# --- Diagnostic


@attrs.frozen(kw_only=True)
class Warning(AgentEvent, category="Diagnostic"):  # noqa: A001 - the event's name in the contract
    """Something that a person should know of, without consequence for the run.

    code: for programs. message: for people. details: whatever explains it.
    """

    code: str
    message: str
    details: dict[str, JSON] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ObserverFailed(AgentEvent, category="Diagnostic"):
    """An observer raised; told once for each observer and kind of error, never to the one that failed.

    observer: its name. event_seq: the event that it failed on. error: what it raised. disabled: whether it
    gets no further events.
    """

    observer: str
    event_seq: int
    error: ErrorInfo
    disabled: bool = False


# --- Open


@attrs.frozen(kw_only=True)
class CustomEvent(AgentEvent, category="Open"):
    """A fact of the host's own.

    name: dotted, lower case. data: any JSON value.
    """

    name: str
    data: JSON = None


@attrs.frozen(kw_only=True)
class UnknownEvent(AgentEvent, category="Open"):
    """An event of a newer log that this version has no class for; written back unchanged.

    type: its wire name. payload: its payload as it stood.
    """

    type: str  # type: ignore[misc] # the wire name is a field here, a class constant elsewhere
    payload: dict[str, JSON]


PAYLOAD_FIELDS: dict[type[AgentEvent], tuple[str, ...]] = {
    cls: tuple(field.name for field in attrs.fields(cls) if field.name not in HEADER_FIELDS)
    for cls in (*EVENT_TYPES.values(), UnknownEvent)
}
"""The payload's keys of each class, in order."""
