"""Between events and topics, both ways.

Every event of an observed loop is the topic `agent.<type>`; seed 000's two names are aliases:

| topic | told after | payload beside session_id, timestamp, run_id, turn_id, seq and alias_of, the event's topic |
|---|---|---|
| `agent.tool_invoked` | ToolCallRequested | tool, args, call_id, request_id |
| `agent.session_complete` | what ends a run | outcome, cost, currency, costs, steps, turns, duration_ms, error |

That is RunFinished, RunFailed or RunCancelled; outcome: completed, suspended, failed or cancelled. cost: what the
run's own requests cost, in its only currency, None where no price was known or there are several currencies; costs:
by currency, exact, as text. steps: rounds of tools after which the model was asked again, as the seed counts; turns:
answers of the model; both None of a run whose end alone was told here, as a resume ends one that a crash left open.
An alias is told to all who ask for it, by name or by a wildcard, right after the event itself.

The other way, `forward_topics` makes a topic a CustomEvent, so that a log has it. What a dispatcher has from an
observed loop is never forwarded, since a log has that already: nothing echoes between the two.
"""

from __future__ import annotations

import functools
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

import attrs
import msgspec

from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    CustomEvent,
    ModelRequestStarted,
    RunFailed,
    RunStarted,
    ToolCallRequested,
    TurnStarted,
    UsageUpdated,
)
from agentkit_loop.usage import EXACT_SUMS
from agentkit_loop.values import JSON, copy_json
from agentkit_reporting.codec import encode_event
from agentkit_reporting.records.patterns import is_topic
from agentkit_reporting.records.settled_requests import OpenRequests, SettledRequest, outcome_of
from agentkit_reporting.records.topics import TOOL_INVOKED
from agentkit_reporting.timestamps import utc_text

if TYPE_CHECKING:
    from agentkit_reporting.records.dispatcher import EventDispatcher
    from agentkit_reporting.records.subscriptions import Subscription
    from agentkit_reporting.records.topics import TopicPayload

TOPIC_EVENT = "topic"
"""The name of the CustomEvent that a forwarded topic becomes; its data is `{topic, payload}`."""

_BEGINNINGS = (RunStarted, TurnStarted, ModelRequestStarted, UsageUpdated)  # a log may begin in a run
_HEADER = ("session_id", "run_id", "turn_id", "seq", "type")


class Emits(Protocol):
    """Where host's events go: an EventEmitter."""

    def emit(self, event: AgentEvent) -> None:
        """Tell an event."""


def forward_topics(dispatcher: EventDispatcher, emitter: Emits, pattern: str = "**") -> Subscription:
    """Tell each topic that is emitted directly as `CustomEvent("topic", {topic, payload})`; return the subscription.

    It is told in the emitter's session, whatever session the payload names. What the dispatcher observes is not told
    again. Keys keep their names; the forms of what is no JSON (`$bytes`, `$set`; values.py) get a second `$`.
    """

    def forward_topic(payload: TopicPayload) -> None:
        emitter.emit(
            CustomEvent(name=TOPIC_EVENT, data={"topic": payload.topic, "payload": _unescaped(dict(payload))})
        )

    return dispatcher.subscribe(pattern, forward_topic, observed=False)


def _unescaped(value: JSON) -> JSON:
    """Return a value whose conversion, which the emitter does, gives the keys that it has now."""
    if isinstance(value, dict):
        return {key[1:] if key.startswith("$$") else key: _unescaped(item) for key, item in value.items()}
    return [_unescaped(item) for item in value] if isinstance(value, list) else value


def topic_of(event: AgentEvent) -> str:
    """Return the topic of an event; one of a newer log may have a name that is none."""
    return _topic_named(event.type)


@functools.lru_cache(maxsize=256)
def _topic_named(event_type: str) -> str:
    topic = f"agent.{event_type}"
    return topic if is_topic(topic) else "agent.unknown_event"


def event_payload(event: AgentEvent) -> dict[str, JSON]:
    """Return an event as a payload: the fields of its log line and of its payload, side by side."""
    line = msgspec.json.decode(encode_event(event))
    head = {name: line[name] for name in _HEADER}
    return {**line["payload"], **head, "timestamp": line["ts"]}


def invoked_payload(event: ToolCallRequested) -> dict[str, JSON]:
    """Return what `agent.tool_invoked` tells."""
    call = event.call
    own = {
        "tool": call.name,
        "args": copy_json(call.input),
        "call_id": call.id,
        "request_id": event.request_id,
    }
    return {**_head(event), **own}


def told_payload(topic: str, event: AgentEvent) -> dict[str, JSON] | None:
    """Return what a topic tells of an event; None where that takes more than the event, as an ending does."""
    if topic == TOOL_INVOKED and isinstance(event, ToolCallRequested):
        return invoked_payload(event)
    return event_payload(event) if topic == topic_of(event) else None


@attrs.define(eq=False)
class _RunSoFar:
    turns: int = 0
    steps: int = 0
    costs: dict[str, Decimal] = attrs.Factory(dict)
    open: OpenRequests = attrs.Factory(OpenRequests)

    def add(self, settled: list[SettledRequest]) -> None:
        for request in settled:
            if request.cost is not None:
                before = self.costs.get(request.cost.currency, Decimal(0))
                self.costs[request.cost.currency] = EXACT_SUMS.add(before, request.cost.amount)


class CompletedRuns:
    """Adds up what `agent.session_complete` tells of each run; safe for threads.

    Holds what is not ended: a few hundred bytes for each open run.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know of no run: at first, and in a forked child."""
        self._lock = threading.RLock()
        self._runs: dict[tuple[str, str], _RunSoFar] = {}

    def take(self, event: AgentEvent) -> dict[str, JSON] | None:
        """Take an event; return the payload of `agent.session_complete` where it ends a run."""
        place = (event.session_id, event.run_id)
        with self._lock:
            run, is_seen = self._runs.get(place), place in self._runs
            if run is None:
                run = _RunSoFar()
                if isinstance(event, _BEGINNINGS):
                    self._runs[place] = run
            if isinstance(event, TurnStarted):
                run.turns += 1
                run.steps += event.index > 1
            run.add(run.open.take(event))
            if not isinstance(event, RUN_ENDS):
                return None
            self._runs.pop(place, None)
        costs = run.costs
        only = next(iter(costs.items())) if len(costs) == 1 else (None, None)
        return {
            **_head(event),
            "outcome": outcome_of(event),
            "cost": None if only[1] is None else float(only[1]),
            "currency": only[0],
            "costs": {currency: str(amount) for currency, amount in costs.items()},
            "steps": run.steps if is_seen else None,
            "turns": run.turns if is_seen else None,
            "duration_ms": event.duration_ms,
            "error": msgspec.to_builtins(event.error) if isinstance(event, RunFailed) else None,
        }


def _head(event: AgentEvent) -> dict[str, JSON]:
    return {
        "session_id": event.session_id,
        "timestamp": utc_text(event.timestamp),
        "run_id": event.run_id,
        "turn_id": event.turn_id,
        "seq": event.seq,
        "alias_of": topic_of(event),
    }
