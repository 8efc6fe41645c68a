"""The order in which events are compared: what ran at the same time has one order, whatever came first.

Parallel calls end as they like, sub-agents behind them tell at the same time, and sessions that share an observer are
interleaved by chance. Here each session stands by itself, in the order of their beginnings; between two events that
are no call's, each call's stand together, in the order in which the model asked; a sub-agent's stand where its call
told the last before them. The order of a session's other events, and of the events of one call, stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

from agentkit_loop.events import (
    AgentEvent,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    RunStarted,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
)

__all__ = ["in_call_order"]

_OF_CALLS = (
    ToolExecutionStarted,
    ToolExecutionProgress,
    ToolResultReceived,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
)
"""What may come at any time while other calls of its round are open."""

_Link = tuple[str, str]
"""A session, and one of its calls."""


def in_call_order(events: Iterable[AgentEvent]) -> list[AgentEvent]:
    """Return the events in the order that does not depend on chance; what is in it already stays as it is."""
    told = list(events)
    return [*_Order(told).by_session(told, 0)]


class _Order:
    """Arranges the events of sessions, of the calls in them, and of the sessions behind these."""

    def __init__(self, events: Iterable[AgentEvent]) -> None:
        self._places: dict[_Link, int] = {}  # of the calls, as they were asked for
        parents: dict[str, _Link] = {}
        sessions: dict[str, None] = {}
        for event in events:
            sessions[event.session_id] = None
            if isinstance(event, ToolCallRequested):
                self._places.setdefault((event.session_id, event.call.id), len(self._places))
            elif isinstance(event, RunStarted) and event.parent is not None:
                parents.setdefault(event.session_id, (event.parent.session_id, event.parent.call_id))
        self._above = {session: _above(session, parents) for session in sessions}

    def by_session(self, events: Iterable[AgentEvent], depth: int) -> Iterator[AgentEvent]:
        """Yield the events of one session after the other. depth: how many sessions are above them."""
        sessions: dict[str, list[AgentEvent]] = {}
        for event in events:
            above = self._above[event.session_id]
            sessions.setdefault(above[depth][0] if depth < len(above) else event.session_id, []).append(event)
        for session_id, told in sessions.items():
            yield from self._of_session(session_id, told, depth)

    def _of_session(self, session_id: str, events: Iterable[AgentEvent], depth: int) -> Iterator[AgentEvent]:
        calls: dict[str, list[AgentEvent]] = {}
        for event in events:
            above = self._above[event.session_id]
            if depth < len(above):
                calls.setdefault(above[depth][1], []).append(event)
            elif isinstance(event, _OF_CALLS):
                calls.setdefault(event.call_id, []).append(event)
            else:
                yield from self._by_call(session_id, calls, depth)
                calls = {}
                yield event
        yield from self._by_call(session_id, calls, depth)

    def _by_call(
        self, session_id: str, calls: Mapping[str, list[AgentEvent]], depth: int
    ) -> Iterator[AgentEvent]:
        for call_id in sorted(calls, key=lambda each: self._places.get((session_id, each), math.inf)):
            parts = itertools.groupby(
                calls[call_id], key=lambda event: len(self._above[event.session_id]) > depth
            )
            for is_below, part in parts:
                told = list(part)
                yield from self.by_session(told, depth + 1) if is_below else told


def _above(session_id: str, parents: Mapping[str, _Link]) -> tuple[_Link, ...]:
    """Return the calls that a session is behind, the uppermost first."""
    found: list[_Link] = []
    seen = {session_id}
    while session_id in parents and parents[session_id][0] not in seen:
        found.append(parents[session_id])
        session_id = parents[session_id][0]
        seen.add(session_id)
    return tuple(reversed(found))
