"""The events of the work around the model: tools, decisions, upkeep, and what else is worth telling."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from agentkit_loop.content import Item, ToolCallPart, ToolSpec
from agentkit_loop.events.base import AgentEvent
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_loop.values import JSON

# --- Tools


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ToolCallRequested(AgentEvent, category="Tools"):
    """The committed answer asks for a tool; told after ModelRequestFinished, once for each call.

    request_id: the request that asked; empty for a call that a hand-written loop made by itself, which is of no
    round and in no transcript. call: id, name, input, and cut for an input that did not parse.
    """

    request_id: str
    call: ToolCallPart


@attrs.frozen(kw_only=True, eq=False, repr=False)
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


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ToolExecutionProgress(AgentEvent, category="Tools"):
    """A running tool says how far it is.

    call_id: which call. message: for people. fraction: 0 to 1, None if unknown.
    """

    call_id: str
    message: str
    fraction: float | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
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


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ToolCatalogChanged(AgentEvent, category="Tools"):
    """The tools changed between turns; told before the next request.

    added: new tools. removed: names that are gone. changed: tools whose description or schema changed.
    """

    added: tuple[ToolSpec, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[ToolSpec, ...] = ()


# --- Approval


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ApprovalRequired(AgentEvent, category="Approval"):
    """A call waits for a person's decision.

    approval_id: `approval-1`, … call_id: which call. summary: what it would do, one line. reason: why it
    must be asked for, None if no reason is known.
    """

    approval_id: str
    call_id: str
    summary: str
    reason: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
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


@attrs.frozen(kw_only=True, eq=False, repr=False)
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


@attrs.frozen(kw_only=True, eq=False, repr=False)
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


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CompactionStarted(AgentEvent, category="Compaction"):
    """The transcript is about to be shortened.

    reason: what triggered it. item_count: items now. token_count: input tokens of the last request, None
    if unknown.
    """

    reason: str
    item_count: int
    token_count: int | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
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


# --- Budget


@attrs.frozen(kw_only=True, eq=False, repr=False)
class BudgetWarning(AgentEvent, category="Budget"):
    """A limit is 80 % used; told once for each limit.

    limit: its name. used, allowed: in the limit's own unit, Decimal amounts as text.
    """

    limit: str
    used: JSON
    allowed: JSON


@attrs.frozen(kw_only=True, eq=False, repr=False)
class BudgetExceeded(AgentEvent, category="Budget"):
    """A limit is used up; the exchange ends with `limit`.

    limit: its name. used, allowed: in the limit's own unit, Decimal amounts as text.
    """

    limit: str
    used: JSON
    allowed: JSON


# --- Diagnostic


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Warning(AgentEvent, category="Diagnostic"):  # noqa: A001 - the event's name in the contract
    """Something that a person should know of, without consequence for the run.

    code: for programs. message: for people. details: whatever explains it.
    """

    code: str
    message: str
    details: dict[str, JSON] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False, repr=False)
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


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CustomEvent(AgentEvent, category="Open"):
    """A fact of the host's own.

    name: dotted, lower case. data: any JSON value.
    """

    name: str
    data: JSON = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class UnknownEvent(AgentEvent, category="Open"):
    """An event of a newer log that this version has no class for; written back unchanged.

    type: its wire name. payload: its payload as it stood.
    """

    type: str  # type: ignore[misc] # the wire name is a field here, a class constant elsewhere
    payload: dict[str, JSON]
