"""Goes on with a session that was cut, and says what does not hold then."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Sequence
from typing import Any

import attrs

from agentkit_loop.content import Item
from agentkit_loop.events import (
    AgentEvent,
    AuthRequired,
    BudgetExceeded,
    CancelRequested,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.models.anthropic_wire import wire_messages
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.state import LoopState
from agentkit_loop.testing import Reply, check_messages
from agentkit_reporting.transcript import TranscriptReporter
from tests.loop.crash_runs import USAGE, Host, World, adrive, agreeable, drive
from tests.rules import faults

IDEMPOTENT = frozenset({"look"})


def on_and_on(request: ModelRequest) -> Reply:
    """Answer whatever is asked."""
    return Reply(text="summary" if request.purpose == "compaction" else "That is all.", usage=USAGE)


@attrs.frozen
class Continued:
    """A session that was cut and gone on with. before: how many events were left of it."""

    events: list[AgentEvent]
    before: int
    world: World
    items: list[Item]

    @property
    def after(self) -> list[AgentEvent]:
        """What the resume told."""
        return self.events[self.before :]


def go_on(
    prefix: Sequence[AgentEvent], *, asynchronous: bool = False, host: Host = agreeable, **options: Any
) -> Continued:
    """Resume from the events with a fresh agent, drive to the end, then have one more exchange."""
    world = World(events=list(prefix))
    agent = world.agent(on_and_on, **options)
    if not asynchronous:
        with agent.resume(prefix) as driver:
            drive(driver, host)
            drive(driver, host, "more")
            return Continued(world.events, len(prefix), world, driver.transcript.items)

    async def main() -> list[Item]:
        async with agent.aresume(prefix) as driver:
            await adrive(driver, host)
            await adrive(driver, host, "more")
            return driver.transcript.items

    return Continued(world.events, len(prefix), world, asyncio.run(main()))


def what_is_wrong(went: Continued) -> list[str]:
    """Return what does not hold of a session that was gone on with; nothing where all does."""
    events = went.events
    wrong = faults(events)
    limited = any(isinstance(event, BudgetExceeded) for event in went.after)
    if went.items[-1].kind != "assistant" and not limited:
        wrong.append("the last exchange was not answered")
    body = {"model": "m", "max_tokens": 1, "messages": wire_messages([*went.items, Item.user("next")])}
    refusal = check_messages(body)
    if refusal is not None:
        wrong.append(f"the provider would refuse it: {refusal}")
    view = TranscriptReporter()
    folded = LoopState()
    for event in events:
        view.handle_event(event)
        folded.apply(event)
    if view.sessions["session"].items != went.items or folded.transcript.items != went.items:
        wrong.append("the transcript is not the fold of the events")
    return wrong + _wrong_bodies(went)


def _wrong_bodies(went: Continued) -> list[str]:
    """Compare the bodies that ran after the cut with the calls as they stood there."""
    prefix, wrong = went.events[: went.before], []
    ran = collections.Counter((name, call_id) for name, call_id, _ in went.world.bodies)
    begun = {event.call_id: event.attempt for event in prefix if isinstance(event, ToolExecutionStarted)}
    excused = {event.call_id for event in prefix if isinstance(event, AuthRequired)}
    answered = {event.call_id for event in prefix if isinstance(event, ToolResultReceived)}
    for (name, call_id), times in ran.items():
        if times > 1:
            wrong.append(f"the body of {call_id} ran {times} times")
        if call_id in begun and name not in IDEMPOTENT and call_id not in excused:
            wrong.append(f"{name} ran again for {call_id}")
        if call_id in answered:
            wrong.append(f"{call_id} had its result and ran again")
    for name, call_id, attempt in went.world.bodies:
        if name in IDEMPOTENT and attempt != begun.get(call_id, 0) + 1:
            wrong.append(f"{call_id} ran as attempt {attempt} after {begun.get(call_id, 0)}")
    return wrong + [
        f"{call_id} should have run again" for call_id in _owed(prefix) if call_id not in {c for _, c in ran}
    ]


def _owed(prefix: Sequence[AgentEvent]) -> set[str]:
    """Return the calls of idempotent tools that a crash interrupted, where nothing ends their exchange."""
    owed: set[str] = set()
    for event in prefix:
        match event:
            case ToolExecutionStarted(name=name) if name in IDEMPOTENT:
                owed.add(event.call_id)
            case ToolResultReceived():
                owed.discard(event.call_id)
            case CancelRequested() | BudgetExceeded() | TurnFinished():
                owed.clear()
            case _:
                pass
    return owed


def resumed_of(events: Sequence[AgentEvent]) -> list[RunStarted]:
    """Return the runs that went on from another."""
    return [event for event in events if isinstance(event, RunStarted) and event.resumed_run is not None]
