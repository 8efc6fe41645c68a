"""The machine's moves: what it may decide, and what a signal may do in each phase, as one table.

A signal is taken, comes too late and changes nothing, or is illegal: then IllegalMoveError is raised and
nothing has changed. A test walks the whole table.
"""

from __future__ import annotations

import enum
from typing import Any, TypeAlias

import msgspec

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart
from agentkit_loop.events import AgentEvent
from agentkit_loop.signals import (
    Answered,
    AuthAnswer,
    AuthWanted,
    Cancel,
    Decision,
    RequestFault,
    SetTools,
    Submit,
    ToolReturned,
    UsageReported,
    WarningNoted,
)
from agentkit_loop.state import Failure, Phase
from agentkit_loop.tool_context import CustomFact, ToolProgressed


class Verdict(enum.Enum):
    """What the table says of a signal in a phase."""

    TAKEN = "taken"
    LATE = "late"
    ILLEGAL = "illegal"


_ANYWHERE_OPEN = frozenset(Phase) - {Phase.CLOSED}
_IN_A_ROUND = frozenset({Phase.WORKING, Phase.PENDING})
_PENDING = frozenset({Phase.PENDING})

MOVES: dict[type[Any], tuple[frozenset[Phase], frozenset[Phase], str]] = {
    Submit: (
        _ANYWHERE_OPEN - _PENDING,
        frozenset(),
        "start or resume a run where it is closed, answer the open steps where one is awaited",
    ),
    Decision: (_PENDING, frozenset(), "an approval is answered once, while it is open"),
    AuthAnswer: (_PENDING, frozenset(), "a request for credentials is answered once, while it is open"),
    Cancel: (_ANYWHERE_OPEN - {Phase.IDLE}, frozenset({Phase.IDLE, Phase.CLOSED}), ""),
    SetTools: (_ANYWHERE_OPEN, frozenset(), "start a new run"),
    BeginPart: (frozenset({Phase.STREAMING}), frozenset(), "a model may stream only into its open request"),
    AppendText: (frozenset({Phase.STREAMING}), frozenset(), "a model may stream only into its open request"),
    AppendBytes: (frozenset({Phase.STREAMING}), frozenset(), "a model may stream only into its open request"),
    CommitPart: (frozenset({Phase.STREAMING}), frozenset(), "a model may stream only into its open request"),
    UsageReported: (frozenset({Phase.STREAMING}), frozenset(), "a model may report only on its open request"),
    Answered: (frozenset({Phase.STREAMING}), frozenset(), "a model may answer only its open request"),
    RequestFault: (frozenset({Phase.STREAMING}), frozenset(), "only an open request can fail"),
    ToolProgressed: (_IN_A_ROUND, frozenset(Phase) - _IN_A_ROUND, ""),
    ToolReturned: (_IN_A_ROUND, frozenset(Phase) - _IN_A_ROUND, ""),
    AuthWanted: (_IN_A_ROUND, frozenset(Phase) - _IN_A_ROUND, ""),
    CustomFact: (_ANYWHERE_OPEN, frozenset({Phase.CLOSED}), ""),
    WarningNoted: (_ANYWHERE_OPEN, frozenset({Phase.CLOSED}), ""),
}
"""For each signal: the phases in which it is taken, those in which it is late, and what would work."""


def verdict(signal: type[Any], phase: Phase) -> Verdict:
    """Look a signal up in the table."""
    taken, late, _ = MOVES[signal]
    if phase in taken:
        return Verdict.TAKEN
    return Verdict.LATE if phase in late else Verdict.ILLEGAL


class Stream(msgspec.Struct, frozen=True):
    """The open request's signals are to be read."""


class Wait(msgspec.Struct, frozen=True):
    """Nothing can be told before a signal comes or the moment `until` (seconds, None: no bound)."""

    until: float | None


class Ask(msgspec.Struct, frozen=True):
    """A call waits for a person; the host gets its step. until: as of Wait, for the bodies that run meanwhile."""

    call_id: str
    until: float | None = None


class GiveUp(msgspec.Struct, frozen=True):
    """The request failed for good; the driver ends the run and raises ModelError."""

    failure: Failure


class Ended(msgspec.Struct, frozen=True):
    """The run is closed."""


class Yield(enum.Enum):
    """The host is to be asked or told something; see steps.py."""

    AWAITING_INPUT = "awaiting input"
    AFTER_TOOL_RESULT = "after a round of tool results"
    FINISHED = "finished"


Move: TypeAlias = AgentEvent | Stream | Wait | Ask | GiveUp | Ended | Yield
