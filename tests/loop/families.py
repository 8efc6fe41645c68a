"""Families of agents for tests: a parent, its tools that are agents, and one recorder for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent, UsageUpdated
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.steps import ApprovalRequest, AuthRequest, Finished, RunResult, Step
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.usage import Usage
from tests.rules import faults

A_DOLLAR_A_TOKEN = PriceTable(
    {"scripted": Rates(input=Decimal(1_000_000), output=Decimal(1_000_000))}, source="test"
)

both = pytest.mark.parametrize("on_loop", [False, True], ids=["sync", "async"])


def used(tokens: int) -> Usage:
    """Return a usage of so many tokens, all of the input."""
    return Usage(input_tokens=tokens, output_tokens=0)


def calls(*names: str, tokens: int = 0, **given: Any) -> Reply:
    """Return an answer that calls tools, all with the same input."""
    scripted = tuple(ScriptedCall(name=name, input=given) for name in names)
    return Reply(text="", calls=scripted, usage=used(tokens))


def calls_each(**given: dict[str, Any]) -> Reply:
    """Return an answer that calls tools, each with its own input."""
    return Reply(text="", calls=tuple(ScriptedCall(name=name, input=each) for name, each in given.items()))


def says(text: str, *, tokens: int = 0) -> Reply:
    """Return an answer of text."""
    return Reply(text=text, usage=used(tokens))


def agent(name: str, replies: Any, **options: Any) -> Agent:
    """Return an agent with a model of its own."""
    return Agent(ScriptedModel(replies), name=name, prices=A_DOLLAR_A_TOKEN, **options)


def run(of: Agent, *, on_loop: bool) -> RunResult:
    """Run one exchange."""
    return asyncio.run(of.arun("go")) if on_loop else of.run("go")


def drive(of: Agent, answer: Callable[[Any, Step], None], *, on_loop: bool) -> RunResult:
    """Drive one exchange; `answer` gets the driver and each step that blocks."""

    async def on_a_loop() -> RunResult:
        async with of.astart("go") as driver:
            async for step in driver:
                if isinstance(step, Finished):
                    return step.result
                if isinstance(step, (ApprovalRequest, AuthRequest)):
                    answer(driver, step)
        raise AssertionError("no end")

    if on_loop:
        return asyncio.run(on_a_loop())
    with of.start("go") as driver:
        for step in driver:
            if isinstance(step, Finished):
                return step.result
            if isinstance(step, (ApprovalRequest, AuthRequest)):
                answer(driver, step)
    raise AssertionError("no end")


def sessions(events: list[AgentEvent]) -> dict[str, list[AgentEvent]]:
    """Return the events by session, in the order of their beginning."""
    found: dict[str, list[AgentEvent]] = {}
    for event in events:
        found.setdefault(event.session_id, []).append(event)
    return found


def assert_rules(recorder: EventRecorder) -> None:
    """Hold every session to the rules of the contract."""
    for events in sessions(recorder.events).values():
        assert faults(events) == []


def cost_of(events: list[AgentEvent]) -> Decimal:
    """Return what all requests cost that the events tell of."""
    last = {
        (event.session_id, event.request_id): event for event in events if isinstance(event, UsageUpdated)
    }
    return sum((event.cost.amount for event in last.values() if event.cost is not None), Decimal(0))
