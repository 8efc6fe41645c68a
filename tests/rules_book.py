"""What the rules know of a session so far, from its events alone, and the faults that they found.

Independent of the loop's own folds (state.py, transcript.py), which these rules judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TypeAlias

from agentkit_loop.content import AnyPart, ToolCallPart
from agentkit_loop.events import (
    AgentEvent,
    ApprovalResolved,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.usage import ErrorInfo, Usage

RunEnd: TypeAlias = RunFinished | RunFailed | RunCancelled
CLOSING = (RunFinished, RunFailed, RunCancelled)

OfRequest: TypeAlias = ModelRequestStarted | ModelRequestFinished | ModelRequestFailed | ModelRequestRetrying
OF_REQUEST = (ModelRequestStarted, ModelRequestFinished, ModelRequestFailed, ModelRequestRetrying)

OfCall: TypeAlias = ToolCallRequested | ToolExecutionStarted | ToolExecutionProgress | ToolResultReceived
OF_CALL = (ToolCallRequested, ToolExecutionStarted, ToolExecutionProgress, ToolResultReceived)


@dataclasses.dataclass
class Asked:
    """A request. status: open, finished, cut (finished as cancelled), failed. retry: the attempt announced."""

    id: str
    attempt: int
    purpose: str
    run_id: str
    exchange: int | None  # its number
    status: str = "open"
    reason: str | None = None
    retry: int | None = None
    finals: int = 0
    usage: Usage | None = None
    parts: dict[str, AnyPart | None] = dataclasses.field(default_factory=dict)  # None: begun

    @property
    def calls(self) -> list[ToolCallPart]:
        """The calls that were committed, in order of their beginning."""
        return [part for part in self.parts.values() if isinstance(part, ToolCallPart)]


@dataclasses.dataclass
class Called:
    """A call of a finished answer.

    status: committed, requested, running (its body), waiting (for credentials), ready (to start again, the
    credentials came), orphan (its body ran when the process ended), refused (no credentials), answered.
    approval, auth: id of the open one. decision: the last that was made. edits: every edited input so far.
    asked_in: the run that last asked for a decision. wins: decided before the cancel, so it may still start.
    """

    part: ToolCallPart
    request_id: str
    reason: str | None
    status: str = "committed"
    attempts: int = 0
    approval: str | None = None
    decision: ApprovalResolved | None = None
    edits: list[object] = dataclasses.field(default_factory=list)
    asked_in: str | None = None
    auth: str | None = None
    wins: bool = False

    @property
    def may_wait(self) -> bool:
        """Whether it may stay open over a suspended run: it waits for a person, or did before."""
        decided = self.asked_in is not None and self.status == "requested"
        return decided or self.status in {"waiting", "ready", "refused", "orphan"}


@dataclasses.dataclass
class Exchange:
    """The open exchange. run_id: where it began. index: of its turn. answer: why its last answer ended.

    asked_calls: whether that answer has calls. turn_run: the run of its turn's beginning. answered: whether
    its turn has its answer. cut_in: the run in which a request of it was last cut.
    """

    run_id: str | None
    index: int = 0
    answer: str | None = None
    asked_calls: bool = False
    turn_run: str | None = None
    answered: bool = False
    cut_in: str | None = None
    exceeded: set[str] = dataclasses.field(default_factory=set)  # limits


class Book:
    """The facts of a session that more than one area of the rules looks at."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.run_id: str | None = None  # of the open run
        self.runs: list[str] = []
        self.turns = 0
        self.exchanges = 0
        self.exchange: Exchange | None = None  # the open one
        self.cancelling = False  # from CancelRequested to the exchange's end
        self.cut = False  # something was cut, so that nothing starts before the exchange or the run has ended
        self.broken: str | None = None  # the exchange's end says that the run ends too, and how
        self.compacting = False
        self.requests: dict[str, Asked] = {}
        self.request: Asked | None = None  # the open one
        self.calls: dict[str, Called] = {}
        self.round: list[str] = []  # the last answer's calls, in call order
        self.open_calls: dict[str, Called] = {}
        self.approvals: dict[str, str] = {}  # the open ones, with their calls
        self.auths: dict[str, str] = {}  # the same
        self.unasked = False  # input, or a failed request, that no request has answered

    @property
    def turn_id(self) -> str | None:
        """The turn of the open exchange."""
        return None if self.exchange is None else f"turn-{self.turns}"

    def fault(self, event: AgentEvent, text: str) -> None:
        """Note what is wrong with the event."""
        self.faults.append(f"{event.seq} {event.type}: {text}")

    def need(self, event: AgentEvent, claim: bool, text: str) -> bool:
        """Note a fault unless the claim holds; return the claim."""
        if not claim:
            self.fault(event, text)
        return claim

    def usage_of_run(self) -> Usage:
        """Return the sum over the open run's requests."""
        return _sum(asked for asked in self.requests.values() if asked.run_id == self.run_id)

    def usage_of_exchange(self) -> Usage:
        """Return the sum over the open exchange's requests, over its runs."""
        return _sum(asked for asked in self.requests.values() if asked.exchange == self.exchanges)


def _sum(requests: Iterable[Asked]) -> Usage:
    return Usage.total(asked.usage for asked in requests if asked.usage is not None)


def tells_process_end(error: ErrorInfo) -> bool:
    """Whether the error says `process_ended`; an error's type is a class's name, so the spelling is free."""
    return error.type.replace("_", "").lower() == "processended"
