"""The state of a session whose loop somebody else wrote: the same fold as that of our own loop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_loop.resuming import read_history
from agentkit_loop.state import LoopState

if TYPE_CHECKING:
    from agentkit_loop.emitter import EventEmitter


class _Watched:
    """The events of a log, of which the last beginning of a run is noted."""

    def __init__(self, events: Iterable[AgentEvent]) -> None:
        self._events = events
        self.start: RunStarted | None = None

    def __iter__(self) -> Iterator[AgentEvent]:
        for event in self._events:
            if isinstance(event, RunStarted) and event.parent is None:
                self.start = event
            yield event

    def __getattr__(self, name: str) -> Any:  # what a log's reader knows of it
        return getattr(self._events, name)


def state_of(
    emitter: EventEmitter, resume: Iterable[AgentEvent] | None
) -> tuple[LoopState, RunStarted | None]:
    """Return the fold of the emitter's session, which it is told from here on, and how its last run began.

    resume: what was told of the session before; None: nothing, and there was no run.
    """
    with emitter.together():
        if emitter.told_by_hand is not None and resume is None:
            return emitter.told_by_hand, None
        if emitter.told_by_hand is not None or (resume is not None and emitter.seq):
            raise ConfigurationError(
                "resume refused because something was told already; make an emitter for it"
            )
        if emitter.fold is not None:
            raise ConfigurationError("run refused because a driver tells through this emitter; make another")
        state = LoopState(session_id=emitter.session_id, seq=emitter.seq)
        start = None
        if resume is not None:
            watched = resume if isinstance(resume, (str, bytes, os.PathLike)) else _Watched(resume)
            state = read_history(watched).state
            start = getattr(watched, "start", None)
            emitter.session_id, emitter.seq = state.session_id, state.seq
            emitter.run_id = state.run_id or emitter.run_id
        emitter.told_by_hand, emitter.fold = state, state.apply
        return state, start
