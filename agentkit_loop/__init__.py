"""An agent loop that tells everything it does, as typed events to synchronous observers.

Nothing heavy is loaded here: the provider's SDK is imported when an AnthropicModel makes its first request.
Helpers for tests are in `agentkit_loop.testing`.

PYTEST_DONT_REWRITE: a distribution with a pytest plugin is marked for its assertion rewriting, which warns of what
was imported before.
"""

from typing import TYPE_CHECKING, Any

from agentkit_loop.agent import Agent
from agentkit_loop.clock import Clock
from agentkit_loop.compaction import (
    Compaction,
    CompactionError,
    DropFailedResults,
    DropReasoning,
    KeepRecent,
    Plan,
    Strategy,
    SummariseOlder,
    SummaryWanted,
)
from agentkit_loop.content import (
    AnyDelta,
    AnyPart,
    AppendBytes,
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    Parent,
    ReasoningPart,
    StructuredPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
)
from agentkit_loop.credentials import Credential, NeedsAuth
from agentkit_loop.driver import LoopDriver
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import (
    AgentKitError,
    ConfigurationError,
    HostError,
    IllegalMoveError,
    InnerObserverError,
    LogError,
    ModelError,
    ModelRequestError,
    ObserverError,
    RedactionError,
    ReplayMismatchError,
    ResumeError,
)
from agentkit_loop.events import (
    EVENT_TYPES,
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
    CustomEvent,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolCatalogChanged,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UnknownEvent,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.file_tools import file_tools
from agentkit_loop.ids import new_id
from agentkit_loop.limits import Limits
from agentkit_loop.models.protocol import Answer, Model, ModelRequest, ModelSignal, UsageReport
from agentkit_loop.observers import (
    Adapter,
    FailurePolicy,
    InnerFailure,
    LoopObserver,
    ObserverFailure,
    Registration,
)
from agentkit_loop.permissions import Approve, Deny, Permission, Permissions
from agentkit_loop.pricing import PriceTable, Pricing, Rates
from agentkit_loop.retry import Retry
from agentkit_loop.run_context import RunContext, RunContextFilter, add_run_context
from agentkit_loop.state import LoopState
from agentkit_loop.steps import (
    AfterToolResult,
    ApprovalRequest,
    AuthRequest,
    AwaitingInput,
    Finished,
    RunResult,
    Step,
)
from agentkit_loop.tool_context import RunningCall, ToolContext, current_call
from agentkit_loop.tools import Tool, tool
from agentkit_loop.transcript import Transcript
from agentkit_loop.usage import Cost, ErrorInfo, ObserverStats, Usage

if TYPE_CHECKING:
    from agentkit_loop.aio import AsyncLoopDriver
    from agentkit_loop.commands import command_tool
    from agentkit_loop.file_reach import Reach
    from agentkit_loop.file_writing import change_tools
    from agentkit_loop.models.anthropic import AnthropicModel
    from agentkit_loop.models.replay import ReplayModel
    from agentkit_loop.models.scripted import Reply, ScriptedCall, ScriptedFailure, ScriptedModel
    from agentkit_loop.previews import Preview, preview
    from agentkit_loop.price_book import PriceBook
    from agentkit_loop.replaying import ReplayResult, areplay, comparable, replay
    from agentkit_loop.scope_calls import ToolCallScope
    from agentkit_loop.scope_requests import ModelCallScope
    from agentkit_loop.scopes import RunScope

__all__ = [
    "EVENT_TYPES",
    "Adapter",
    "AfterToolResult",
    "Agent",
    "AgentEvent",
    "AgentKitError",
    "Answer",
    "AnthropicModel",
    "AnyDelta",
    "AnyPart",
    "AppendBytes",
    "AppendText",
    "ApprovalRequest",
    "ApprovalRequired",
    "ApprovalResolved",
    "Approve",
    "AsyncLoopDriver",
    "AuthRequest",
    "AuthRequired",
    "AuthResolved",
    "AwaitingInput",
    "BeginPart",
    "BudgetExceeded",
    "BudgetWarning",
    "CancelRequested",
    "Clock",
    "CommitPart",
    "Compaction",
    "CompactionError",
    "CompactionFinished",
    "CompactionStarted",
    "ConfigurationError",
    "ContentDelta",
    "Cost",
    "Credential",
    "CustomEvent",
    "CustomPart",
    "Deny",
    "DropFailedResults",
    "DropReasoning",
    "ErrorInfo",
    "EventEmitter",
    "FailurePolicy",
    "FilePart",
    "Finished",
    "HostError",
    "IllegalMoveError",
    "InnerFailure",
    "InnerObserverError",
    "InputAccepted",
    "Item",
    "KeepRecent",
    "Limits",
    "LogError",
    "LoopDriver",
    "LoopObserver",
    "LoopState",
    "MediaPart",
    "Model",
    "ModelCallScope",
    "ModelError",
    "ModelRequest",
    "ModelRequestError",
    "ModelRequestFailed",
    "ModelRequestFinished",
    "ModelRequestRetrying",
    "ModelRequestStarted",
    "ModelSignal",
    "NeedsAuth",
    "ObserverError",
    "ObserverFailed",
    "ObserverFailure",
    "ObserverStats",
    "Parent",
    "Permission",
    "Permissions",
    "Plan",
    "Preview",
    "PriceBook",
    "PriceTable",
    "Pricing",
    "Rates",
    "Reach",
    "ReasoningPart",
    "RedactionError",
    "Registration",
    "ReplayMismatchError",
    "ReplayModel",
    "ReplayResult",
    "Reply",
    "ResumeError",
    "Retry",
    "RunCancelled",
    "RunContext",
    "RunContextFilter",
    "RunFailed",
    "RunFinished",
    "RunResult",
    "RunScope",
    "RunStarted",
    "RunningCall",
    "ScriptedCall",
    "ScriptedFailure",
    "ScriptedModel",
    "Step",
    "Strategy",
    "StructuredPart",
    "SummariseOlder",
    "SummaryWanted",
    "TextPart",
    "Tool",
    "ToolCallPart",
    "ToolCallRequested",
    "ToolCallScope",
    "ToolCatalogChanged",
    "ToolContext",
    "ToolExecutionProgress",
    "ToolExecutionStarted",
    "ToolResultPart",
    "ToolResultReceived",
    "ToolSpec",
    "Transcript",
    "TurnFinished",
    "TurnStarted",
    "UnknownEvent",
    "Usage",
    "UsageReport",
    "UsageUpdated",
    "Warning",
    "add_run_context",
    "areplay",
    "change_tools",
    "command_tool",
    "comparable",
    "current_call",
    "file_tools",
    "new_id",
    "preview",
    "replay",
    "tool",
]

_LATER = {
    "AnthropicModel": "agentkit_loop.models.anthropic",
    "AsyncLoopDriver": "agentkit_loop.aio",
    "ModelCallScope": "agentkit_loop.scope_requests",
    "Preview": "agentkit_loop.previews",
    "PriceBook": "agentkit_loop.price_book",
    "Reach": "agentkit_loop.file_reach",
    "ReplayModel": "agentkit_loop.models.replay",
    "ReplayResult": "agentkit_loop.replaying",
    "Reply": "agentkit_loop.models.scripted",
    "RunScope": "agentkit_loop.scopes",
    "ScriptedCall": "agentkit_loop.models.scripted",
    "ScriptedFailure": "agentkit_loop.models.scripted",
    "ScriptedModel": "agentkit_loop.models.scripted",
    "ToolCallScope": "agentkit_loop.scope_calls",
    "areplay": "agentkit_loop.replaying",
    "change_tools": "agentkit_loop.file_writing",
    "command_tool": "agentkit_loop.commands",
    "comparable": "agentkit_loop.replaying",
    "preview": "agentkit_loop.previews",
    "replay": "agentkit_loop.replaying",
}
"""What is loaded when it is first asked for, by name."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only for these names

    return getattr(import_module(_LATER[name]), name)
