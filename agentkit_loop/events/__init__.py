"""The events: one immutable class for every kind of fact that a run tells.

An event is made without its header (`CustomEvent(name="note", data={})`); the emitter stamps session, run,
turn, sequence number and time when it tells the event, once. `seq == 0` means: not told yet.
The docstring of each class says when it is told and what each field holds. `EVENT_TYPES` maps the wire
names to the classes.
"""

from __future__ import annotations

import attrs

from agentkit_loop.events.base import (
    EVENT_TYPES,
    HEADER_FIELDS,
    REDACTIONS_FIELD,
    UNTOLD,
    AgentEvent,
    is_redacted,
)
from agentkit_loop.events.run import (
    RUN_ENDS,
    CancelRequested,
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
    TurnFinished,
    TurnStarted,
    UsageUpdated,
)
from agentkit_loop.events.work import (
    ApprovalRequired,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    BudgetExceeded,
    BudgetWarning,
    CompactionFinished,
    CompactionStarted,
    CustomEvent,
    ObserverFailed,
    PlanStep,
    ToolCallRequested,
    ToolCatalogChanged,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    UnknownEvent,
    Warning,  # noqa: A004 - the name in the contract
)

__all__ = [
    "EVENT_TYPES",
    "HEADER_FIELDS",
    "PAYLOAD_FIELDS",
    "REDACTIONS_FIELD",
    "RUN_ENDS",
    "UNTOLD",
    "AgentEvent",
    "ApprovalRequired",
    "ApprovalResolved",
    "AuthRequired",
    "AuthResolved",
    "BudgetExceeded",
    "BudgetWarning",
    "CancelRequested",
    "CompactionFinished",
    "CompactionStarted",
    "ContentDelta",
    "CustomEvent",
    "InputAccepted",
    "ModelRequestFailed",
    "ModelRequestFinished",
    "ModelRequestRetrying",
    "ModelRequestStarted",
    "ObserverFailed",
    "PlanStep",
    "RunCancelled",
    "RunFailed",
    "RunFinished",
    "RunStarted",
    "ToolCallRequested",
    "ToolCatalogChanged",
    "ToolExecutionProgress",
    "ToolExecutionStarted",
    "ToolResultReceived",
    "TurnFinished",
    "TurnStarted",
    "UnknownEvent",
    "UsageUpdated",
    "Warning",
    "is_redacted",
]

PAYLOAD_FIELDS: dict[type[AgentEvent], tuple[str, ...]] = {
    cls: tuple(field.name for field in attrs.fields(cls) if field.name not in HEADER_FIELDS)
    for cls in (*EVENT_TYPES.values(), UnknownEvent)
}
"""The payload's keys of each class, in order."""
