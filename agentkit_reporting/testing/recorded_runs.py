"""The calls and the runs of recorded events: what belongs together of them, joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import attrs

from agentkit_loop.events import (
    AgentEvent,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.values import JSON
from agentkit_reporting.records.settled_requests import RunOutcome, outcome_of

__all__ = ["RecordedCall", "RecordedRun", "calls_in", "runs_in"]

RunEnd: TypeAlias = RunFinished | RunFailed | RunCancelled


@attrs.define(kw_only=True)
class RecordedCall:
    """A tool call from what the model asked for to its result.

    input: what the tool was given: as a person changed it, else as the model asked. edited: whether it was changed.
    attempts: how often its body started. asked, result: the events; no result while it is open.
    """

    session_id: str
    id: str
    name: str
    input: dict[str, JSON]
    asked: ToolCallRequested
    edited: bool = False
    attempts: int = 0
    result: ToolResultReceived | None = None

    @property
    def output(self) -> JSON:
        """What the model sees; None while the call is open."""
        return None if self.result is None else self.result.output

    @property
    def is_error(self) -> bool:
        """Whether its result is an error."""
        return self.result is not None and self.result.is_error

    @property
    def denied(self) -> bool:
        """Whether an approval or a rule refused it."""
        return self.result is not None and self.result.denied


@attrs.define(kw_only=True)
class RecordedRun:
    """A run from its start to its end.

    started: None where the beginning was not recorded. ended: None while it is open, or after a crash. event_count:
    how many events it told.
    """

    session_id: str
    run_id: str
    started: RunStarted | None = None
    ended: RunEnd | None = None
    event_count: int = 0

    @property
    def outcome(self) -> RunOutcome | Literal["open"]:
        """How it ended."""
        return "open" if self.ended is None else outcome_of(self.ended)


def calls_in(events: Iterable[AgentEvent]) -> list[RecordedCall]:
    """Return the calls, in the order in which they were asked for."""
    calls: dict[tuple[str, str], RecordedCall] = {}
    for event in events:
        match event:
            case ToolCallRequested(call=part):
                calls[event.session_id, part.id] = RecordedCall(
                    session_id=event.session_id, id=part.id, name=part.name, input=part.input, asked=event
                )
            case ToolExecutionStarted() if (event.session_id, event.call_id) in calls:
                call = calls[event.session_id, event.call_id]
                call.attempts += 1
                if event.edited and event.input is not None:
                    call.edited, call.input = True, event.input
            case ToolResultReceived() if (event.session_id, event.call_id) in calls:
                calls[event.session_id, event.call_id].result = event
            case _:
                pass
    return list(calls.values())


def runs_in(events: Iterable[AgentEvent]) -> list[RecordedRun]:
    """Return the runs, in the order of their first events; those of sub-agents too."""
    runs: dict[tuple[str, str], RecordedRun] = {}
    for event in events:
        run = runs.get((event.session_id, event.run_id))
        if run is None:
            run = RecordedRun(session_id=event.session_id, run_id=event.run_id)
            runs[event.session_id, event.run_id] = run
        run.event_count += 1
        if isinstance(event, RunStarted):
            run.started = event
        elif isinstance(event, RunEnd):
            run.ended = event
    return list(runs.values())
