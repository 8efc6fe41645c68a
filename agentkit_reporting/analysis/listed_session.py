"""What a person knows a session by: when it began, which agent ran, how it stands."""

from __future__ import annotations

import datetime as dt

import attrs

from agentkit_loop.events import AgentEvent, RunCancelled, RunFailed, RunFinished, RunStarted
from agentkit_reporting.records.settled_requests import outcome_of

__all__ = ["ListedSession", "SessionList"]


@attrs.frozen(kw_only=True)
class ListedSession:
    """A session, or a run of a step log, where one of several is to be named.

    began: None where nobody told. outcome: of the last run: completed, suspended, failed, cancelled, or `open`: no end
    was told; "" where the log does not say. is_child: a sub-agent's.
    """

    session_id: str
    agent: str = ""
    began: dt.datetime | None = None
    outcome: str = ""
    is_child: bool = False


@attrs.define
class _Seen:
    began: dt.datetime
    agent: str = ""
    outcome: str = "open"
    is_child: bool = False


class SessionList:
    """Takes events, of several sessions as they come; what it holds of each is a line."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def take(self, event: AgentEvent) -> None:
        """Take the next event."""
        seen = self._seen.get(event.session_id)
        if seen is None:
            seen = self._seen[event.session_id] = _Seen(event.timestamp)
        match event:
            case RunStarted():
                seen.agent, seen.outcome = seen.agent or event.agent_name, "open"
                seen.is_child = seen.is_child or event.parent is not None
            case RunFinished() | RunFailed() | RunCancelled():
                seen.outcome = outcome_of(event)
            case _:
                pass

    def listed(self) -> tuple[ListedSession, ...]:
        """Return the sessions in the order of their first events."""
        return tuple(
            ListedSession(
                session_id=session_id,
                agent=seen.agent,
                began=seen.began,
                outcome=seen.outcome,
                is_child=seen.is_child,
            )
            for session_id, seen in self._seen.items()
        )
