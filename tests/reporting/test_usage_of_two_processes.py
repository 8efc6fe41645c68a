"""A process that was taken for dead goes on beside the resume of its session: what both used was paid."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent, UsageUpdated
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting import CostLedger, UsageReporter, UsageStore

PRICES = PriceTable({"m": Rates(input=Decimal(1_000_000), output=Decimal(1_000_000))}, source="test")


@tool(idempotent=True)
def look() -> str:
    """Look."""
    return "seen"


def told_by(replies: list[Reply], recorded: list[AgentEvent] | None = None) -> list[AgentEvent]:
    told = EventRecorder()
    agent = Agent(ScriptedModel(replies, name="m"), tools=[look], observers=[told], prices=PRICES)
    with agent, agent.start(session_id="s") if recorded is None else agent.resume(recorded) as driver:
        if recorded is None:
            driver.submit("go")
        for _ in driver:
            pass
    return told.events


@pytest.fixture(scope="module")
def events() -> list[AgentEvent]:
    """Return a session of two requests, resumed from the middle of the first turn, and the first process's rest."""
    calling = Reply(
        calls=(ScriptedCall(name="look", input={}),), usage=Usage(input_tokens=10, output_tokens=1)
    )
    first = told_by([calling, Reply(text="done", usage=Usage(input_tokens=100, output_tokens=1))])
    cut = next(place for place, event in enumerate(first) if event.type == "tool_execution_started") + 1
    resumed = told_by([Reply(text="again", usage=Usage(input_tokens=1_000, output_tokens=1))], first[:cut])
    ids = {event.request_id for event in first if isinstance(event, UsageUpdated)}
    assert ids == {"request-1", "request-2"}
    assert {event.request_id for event in resumed if isinstance(event, UsageUpdated)} == {"request-2"}
    return [*first[:cut], *resumed, *first[cut:]]


@pytest.mark.parametrize("keep", [True, False])
def test_the_totals_are_of_both(events: list[AgentEvent], keep: bool) -> None:
    usage = UsageReporter(keep_requests=keep)
    for event in events:
        usage.handle_event(event)
    assert usage.total.usage.input_tokens == 1_110
    assert usage.total.requests == 3


def test_the_ledger_and_the_store_have_an_entry_for_each(events: list[AgentEvent], tmp_path: Path) -> None:
    ledger, store = CostLedger(), UsageStore(tmp_path / "usage.jsonl")
    for event in events:
        ledger.handle_event(event)
        store.handle_event(event)
    assert [entry.usage.input_tokens for entry in ledger.entries()] == [10, 1_000, 100]
    assert store.total_cost() == Decimal(1_113)
    assert store.close()
