"""That a log breaks off: which runs have no end, and what was under way when the log ended."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_reporting.terminal import brief_arguments, one_line

__all__ = ["OpenRuns", "breaks_off"]

_LABEL_COLUMNS = 60
_MOST_TOLD = 3
_ASKED = " was asked for, without a result"
_WAITS = " waits for approval"


def breaks_off(under_way: Sequence[str], *, agent: str = "") -> str:
    """Return the sentence for a log whose last run has no end. under_way: clauses, such as `fetch() was running`."""
    told = [one_line(each, 3 * _LABEL_COLUMNS) for each in under_way[:_MOST_TOLD]]
    if len(under_way) > _MOST_TOLD:
        told.append(f"and {len(under_way) - _MOST_TOLD:,} more")
    whose = f" of {one_line(agent, _LABEL_COLUMNS)}" if agent else ""
    return f"the log ends here: {', '.join((f'the run{whose} is open', *told))}"


@attrs.define
class _Run:
    agent: str
    under_way: dict[str, str] = attrs.field(factory=dict)  # by call or request


class OpenRuns:
    """Takes events as they come, and holds what is open."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def take(self, event: AgentEvent) -> None:
        """Take the next event of any session."""
        if isinstance(event, RunStarted):
            self._runs.pop(event.resumed_run or "", None)
            self._runs[event.run_id] = _Run(event.agent_name)
        run = self._runs.get(event.run_id)
        if run is None:
            return
        match event:
            case RunFinished() | RunFailed() | RunCancelled():
                del self._runs[event.run_id]
            case ToolCallRequested(call=call):
                run.under_way[call.id] = _label(call.name, call.input) + _ASKED
            case ToolExecutionStarted():
                label = run.under_way.get(event.call_id, event.name).removesuffix(_WAITS)
                run.under_way[event.call_id] = f"{label.removesuffix(_ASKED)} was running"
            case ApprovalRequired(call_id=call_id) if call_id in run.under_way:
                run.under_way[call_id] = run.under_way[call_id].removesuffix(_ASKED) + _WAITS
            case ApprovalResolved(call_id=call_id) if call_id in run.under_way:
                run.under_way[call_id] = run.under_way[call_id].removesuffix(_WAITS) + _ASKED
            case ToolResultReceived():
                run.under_way.pop(event.call_id, None)
            case ModelRequestStarted():
                run.under_way[event.request_id] = "a model request was open"
            case ModelRequestFinished() | ModelRequestFailed():
                run.under_way.pop(event.request_id, None)
            case _:
                pass

    def told(self) -> list[str]:
        """Return a sentence for each run without an end, in the order in which they began."""
        return [breaks_off(tuple(run.under_way.values()), agent=run.agent) for run in self._runs.values()]


def _label(tool: str, arguments: object) -> str:
    shown = brief_arguments(arguments, _LABEL_COLUMNS) if isinstance(arguments, dict) else "()"
    cut = shown if len(shown) <= _LABEL_COLUMNS else f"{shown[: _LABEL_COLUMNS - 3]}..."
    return one_line(f"{tool}{cut}", 2 * _LABEL_COLUMNS)
