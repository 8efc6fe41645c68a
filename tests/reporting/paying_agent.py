"""A run for tests of what tests look at: an agent that pays, with two requests and one call."""

from __future__ import annotations

from typing import Any

from agentkit_loop.agent import Agent
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel, VirtualClock
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting.testing.recorded_events import RecordedEvents

USAGE = Usage(input_tokens=30, output_tokens=12)


@tool
def pay(amount: int, to: str) -> str:
    """Pay somebody."""
    return f"paid {amount} to {to}"


def paying(amount: int = 3, to: str = "bob", text: str = "Done.") -> list[Reply]:
    """Return the replies of a model that pays."""
    call = ScriptedCall(name="pay", input={"amount": amount, "to": to})
    return [Reply(text="I pay.", calls=(call,), usage=USAGE), Reply(text=text, usage=USAGE)]


def recorded(
    replies: Any = None, *, prompts: tuple[str, ...] = ("Pay bob.",), **settings: Any
) -> RecordedEvents:
    """Return what a session with these replies told."""
    events, clock = RecordedEvents(), VirtualClock()
    model = ScriptedModel(paying() if replies is None else replies, clock=clock)
    agent = Agent(model, **{"tools": [pay], "observers": [events], "clock": clock, **settings})
    with agent.start() as driver:
        for prompt in prompts:
            driver.run(prompt)
    return events
