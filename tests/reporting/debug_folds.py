"""What a debug replay must say at each point, folded from the plain events once more, in the simplest way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentkit_loop.events import AgentEvent
from agentkit_loop.state import LoopState
from agentkit_reporting import DebugState, DebugStep, UsageReporter


def last_event(events: Sequence[AgentEvent], step: DebugStep) -> int:
    """Return the place of the last event of a step, in a session of which all events count."""
    places = [place for place, event in enumerate(events) if event.seq == step.last_seq]
    assert len(places) == 1
    return places[0]


def facts_of(state: DebugState) -> dict[str, Any]:
    """Return what of a state is compared."""
    return {
        "seq": state.seq,
        "phase": state.phase,
        "run": (state.run_id, state.run_is_open),
        "turn": state.turn_id,
        "items": state.transcript,
        "waiting": state.waiting_input,
        "round": state.open_round,
        "request": state.request_id,
        "open": [call.call_id for call in state.open_calls],
        "pending": [call.waits_for for call in state.open_calls],
        "totals": state.totals,
    }


def expected(events: Sequence[AgentEvent]) -> dict[str, Any]:
    """Return the same of a prefix of a session that is whole, by the loop's own fold and UsageReporter."""
    loop, usage = LoopState(), UsageReporter()
    for event in events:
        loop.apply(event)
        usage.handle_event(event)
    pending = []
    for call in loop.open_calls:
        approval, auth = call.approval, call.auth
        asked = approval.id if approval is not None and approval.approved is None else None
        login = auth.id if auth is not None and auth.outcome is None else None
        pending.append(asked or login)
    return {
        "seq": loop.seq,
        "phase": loop.phase.value,
        "run": (loop.run_id, loop.run_is_open),
        "turn": loop.turn_id,
        "items": tuple(loop.transcript.items),
        "waiting": tuple(loop.transcript.waiting),
        "round": loop.transcript.open_round,
        "request": None if loop.request is None else loop.request.id,
        "open": [call.part.id for call in loop.open_calls],
        "pending": pending,
        "totals": usage.total,
    }
