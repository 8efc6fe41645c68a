"""The state of a session whose loop somebody else wrote: the same fold as that of our own loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.resuming import read_history
from agentkit_loop.state import LoopState

if TYPE_CHECKING:
    from agentkit_loop.emitter import EventEmitter


def state_of(emitter: EventEmitter, resume: Iterable[AgentEvent] | None) -> LoopState:
    """Return the fold of the emitter's session, which it is told from here on; resume: what was told of it before."""
    with emitter.together():
        if emitter.told_by_hand is not None and resume is None:
            return emitter.told_by_hand
        if emitter.told_by_hand is not None or (resume is not None and emitter.seq):
            raise ConfigurationError(
                "resume refused because something was told already; make an emitter for it"
            )
        if emitter.fold is not None:
            raise ConfigurationError("run refused because a driver tells through this emitter; make another")
        state = LoopState(session_id=emitter.session_id, seq=emitter.seq)
        if resume is not None:
            state = read_history(resume).state
            emitter.session_id, emitter.seq = state.session_id, state.seq
            emitter.run_id = state.run_id or emitter.run_id
        emitter.told_by_hand, emitter.fold = state, state.apply
        return state
