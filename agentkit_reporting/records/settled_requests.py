"""Requests as they count: each once, when it has ended, by its last report of usage.

A report before the end is provisional and replaced by the next; a failed request keeps its last one. Who adds up
what is returned here, and nothing else, counts no token twice and none too few.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    UsageUpdated,
)
from agentkit_loop.usage import Cost, Usage, can_be_added

RunOutcome: TypeAlias = Literal["completed", "suspended", "failed", "cancelled"]
"""How a run ended."""


def outcome_of(end: RunFinished | RunFailed | RunCancelled) -> RunOutcome:
    """Return how a run ended, by the event that told it."""
    if isinstance(end, RunFinished):
        return end.outcome
    return "failed" if isinstance(end, RunFailed) else "cancelled"


@attrs.frozen(kw_only=True)
class SettledRequest:
    """A request that has ended.

    model: the one that was billed, where it reported usage, else the one asked for. usage, cost: None where it
    reported none. end: the event; None where its run ended and it did not, as a log that was cut tells.
    """

    model: str
    usage: Usage | None = None
    cost: Cost | None = None
    end: ModelRequestFinished | ModelRequestFailed | None = None


class OpenRequests:
    """The requests that have not ended, of any number of sessions; not safe for threads by itself."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], dict[str, SettledRequest]] = {}  # by session and run, by request

    def take(self, event: AgentEvent) -> list[SettledRequest]:
        """Take an event; return the requests that it ends."""
        if isinstance(event, ModelRequestStarted):
            self._of(event)[event.request_id] = SettledRequest(model=event.model)
        elif isinstance(event, UsageUpdated):
            cost = event.cost
            if cost is not None and not can_be_added(cost.amount):
                cost = None
            self._of(event)[event.request_id] = SettledRequest(
                model=event.model, usage=event.usage, cost=cost
            )
        elif isinstance(event, (ModelRequestFinished, ModelRequestFailed)):
            requests = self._open.get((event.session_id, event.run_id), {})
            ended = requests.pop(event.request_id, None)
            if not requests:  # or a session that never ends would be kept for ever
                self._open.pop((event.session_id, event.run_id), None)
            return [attrs.evolve(ended or SettledRequest(model=""), end=event)]
        elif isinstance(event, RUN_ENDS):
            return list(self._open.pop((event.session_id, event.run_id), {}).values())
        return []

    def _of(self, event: AgentEvent) -> dict[str, SettledRequest]:
        return self._open.setdefault((event.session_id, event.run_id), {})
