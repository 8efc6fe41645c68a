"""A model whose price nobody knows, a price list that fails, and what an agent charges by when nobody says."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, RunStarted, UsageUpdated, Warning  # noqa: A004 - the event
from agentkit_loop.models.protocol import Answer, ModelRequest, ModelSignal, UsageReport
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.state import UNPRICED, LoopState
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_loop.usage import Cost, Usage

TABLE = PriceTable({"known": Rates(input=Decimal(1), output=Decimal(2))}, source="mine")
USED = Usage(input_tokens=1_000_000, output_tokens=1_000_000)


@tool
def look() -> str:
    """Look."""
    return "seen"


def told(events: list[AgentEvent]) -> list[Warning]:
    return [event for event in events if isinstance(event, Warning) and event.code == UNPRICED]


def costs(events: list[AgentEvent]) -> list[Cost | None]:
    return [event.cost for event in events if isinstance(event, UsageUpdated)]


def two_turns(usage: Usage | None = USED) -> list[Reply]:
    return [Reply(calls=(ScriptedCall(name="look"),), usage=usage), Reply(text="done", usage=usage)]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_unknown_model_has_no_cost_and_one_warning_for_all_its_requests(*, is_async: bool) -> None:
    events: list[AgentEvent] = []
    model = ScriptedModel(two_turns(), name="unknown")
    agent = Agent(model, tools=[look], observers=[events.append], prices=TABLE)
    result = asyncio.run(agent.arun("go")) if is_async else agent.run("go")
    assert result.text == "done"
    assert result.cost is None
    assert not any(costs(events))
    (warning,) = told(events)
    assert warning.message == "no price is known for 'unknown'; its cost stays unknown"
    assert warning.details == {"model": "unknown"}
    place = events.index(warning)
    assert isinstance(events[place - 1], UsageUpdated)  # told where it is first known


def test_the_warning_is_told_once_a_session_since_the_state_is_the_fold_of_its_events() -> None:
    events: list[AgentEvent] = []
    agent = Agent(
        ScriptedModel(two_turns(), name="unknown"), tools=[look], observers=[events.append], prices=TABLE
    )
    agent.run("go")
    state = LoopState()
    for event in events:
        state.apply(event)
    assert state.unpriced == {"unknown"}


def test_a_known_model_and_a_request_of_unknown_usage_warn_of_nothing() -> None:
    for name, usage in (("known", USED), ("unknown", None)):
        events: list[AgentEvent] = []
        model = ScriptedModel(two_turns(usage), name=name)
        Agent(model, tools=[look], observers=[events.append], prices=TABLE).run("go")
        assert told(events) == []


class Broken:
    """A price list with a fault."""

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        del model, usage, at
        raise ZeroDivisionError("no \x1b[31mrates")


def test_a_price_list_that_fails_costs_no_answer() -> None:
    events: list[AgentEvent] = []
    agent = Agent(ScriptedModel(two_turns()), tools=[look], observers=[events.append], prices=Broken())
    assert agent.run("go").text == "done"
    (warning,) = told(events)
    assert "the price list failed" in warning.message
    assert "ZeroDivisionError" in warning.message


class Priced:
    """A model that brings its prices and tells what it sends by itself."""

    name = "known"
    prices = TABLE
    parameters: dict[str, Any] = {"max_tokens": 10, "effort": "low"}  # noqa: RUF012 - never changed

    def stream(self, request: ModelRequest) -> Iterator[ModelSignal]:
        assert request.parameters == {"effort": "high"}  # what is the model's own stays its own
        yield UsageReport(usage=USED)
        yield Answer(finish_reason="refusal", stop_details={"category": "cyber", "explanation": "not this"})

    async def astream(self, request: ModelRequest) -> AsyncIterator[ModelSignal]:
        for signal in self.stream(request):
            yield signal


def test_an_agent_charges_by_its_models_prices_where_nobody_says() -> None:
    assert Agent(Priced(), parameters={"effort": "high"}).run("go").cost == 3
    assert Agent(Priced(), parameters={"effort": "high"}, prices=None).run("go").cost is None
    assert Agent(ScriptedModel(two_turns()), tools=[look]).run("go").cost is None


def test_the_run_tells_the_parameters_that_the_model_sends_by_itself() -> None:
    events: list[AgentEvent] = []
    Agent(Priced(), parameters={"effort": "high"}, observers=[events.append]).run("go")
    started = events[0]
    assert isinstance(started, RunStarted)
    assert started.parameters == {"max_tokens": 10, "effort": "high"}


def test_why_a_model_refused_is_told_after_its_request() -> None:
    events: list[AgentEvent] = []
    result = Agent(Priced(), parameters={"effort": "high"}, observers=[events.append]).run("go")
    assert result.finish_reason == "refusal"
    (warning,) = [event for event in events if isinstance(event, Warning)]
    assert warning.code == "refusal"
    assert warning.message == "the model stopped with refusal: not this"
    assert warning.details == {"category": "cyber", "explanation": "not this"}


def test_prices_that_cannot_tell_a_cost_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"prices='usd' refused; give PriceBook\(\)"):
        Agent(ScriptedModel([]), prices="usd")  # type: ignore[arg-type] # what is tested
