"""What reaches the machine from outside: the host's signals, the model's and the tools'.

A signal is a wish or a report; only the event that the machine makes of it is a fact. The model's own
signals (deltas, `Answer`) are in models/protocol.py, a tool's progress and facts in tools.py.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart, Item
from agentkit_loop.models.protocol import Answer, UsageReport
from agentkit_loop.tool_context import CustomFact, ToolProgressed
from agentkit_loop.tools import Tool
from agentkit_loop.usage import Cost, ErrorInfo, Usage
from agentkit_loop.values import JSON


class Submit(msgspec.Struct, frozen=True):
    """The host gives input. items: with ids or without."""

    items: tuple[Item, ...]


class UsageReported(msgspec.Struct, frozen=True, kw_only=True):
    """The provider reported usage, and the driver priced it. unpriced: why there is no cost, to be told."""

    usage: Usage
    model: str | None
    cost: Cost | None
    unpriced: str | None = None


class Answered(msgspec.Struct, frozen=True):
    """The model answered, and the driver priced its last word on usage, if it had one. unpriced: as above."""

    answer: Answer
    cost: Cost | None
    unpriced: str | None = None


class RequestFault(msgspec.Struct, frozen=True, kw_only=True):
    """The open request failed."""

    error: ErrorInfo
    error_class: str
    retry_after_ms: float | None = None


class ToolReturned(msgspec.Struct, frozen=True, kw_only=True):
    """A tool's body ended.

    output: JSON already, and bounded. duration_ms: wall clock of the body. error: what it raised. fatal:
    SystemExit or KeyboardInterrupt, which the driver raises on its own thread. child_usage: what a sub-agent
    behind the call used.
    """

    call_id: str
    attempt: int
    output: JSON
    duration_ms: float
    is_error: bool = False
    error: ErrorInfo | None = None
    fatal: BaseException | None = None
    child_usage: Usage | None = None


class AuthWanted(msgspec.Struct, frozen=True, kw_only=True):
    """A body ended for want of credentials; `attempt` is the one that ended."""

    call_id: str
    attempt: int
    provider: str
    scopes: tuple[str, ...] = ()
    purpose: str | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A person decided about a call. input: the arguments as edited, JSON; None where they stand."""

    approval_id: str
    approved: bool
    reason: str | None = None
    by: str | None = None
    input: dict[str, JSON] | None = None


class AuthAnswer(msgspec.Struct, frozen=True):
    """The credentials of a call were given, or were not."""

    auth_id: str
    outcome: Literal["resolved", "cancelled"]


class Cancel(msgspec.Struct, frozen=True):
    """Somebody wants the exchange to end."""

    reason: str | None = None
    by: str | None = None


class OutOfTime(msgspec.Struct, frozen=True):
    """The run has used its time; the machine looks at the clock itself, this only wakes who waits."""


class Leaving(msgspec.Struct, frozen=True):
    """The host of a parent leaves: the agent behind its call is to be suspended; this only wakes who waits."""


class SetTools(msgspec.Struct, frozen=True):
    """The host wants other tools, from the next request on."""

    tools: dict[str, Tool[..., Any]]


class WarningNoted(msgspec.Struct, frozen=True):
    """The driver has something to tell that has no consequence for the run."""

    code: str
    message: str
    details: dict[str, JSON]


CUTTING = (Cancel, OutOfTime, Leaving)
"""What ends the wait for a model, where it is posted by another thread."""

Signal: TypeAlias = (
    Submit
    | BeginPart
    | AppendText
    | AppendBytes
    | CommitPart
    | UsageReport
    | UsageReported
    | Answer
    | Answered
    | RequestFault
    | ToolProgressed
    | ToolReturned
    | AuthWanted
    | Decision
    | AuthAnswer
    | Cancel
    | SetTools
    | CustomFact
    | WarningNoted
)
"""Everything that the machine takes."""
