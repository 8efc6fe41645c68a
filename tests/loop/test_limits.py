"""BEHAVIOUR 39 and "Limits": each kind, its warning, its end, over resumes."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any

import pytest

from agentkit_loop.compaction import Compaction, SummariseOlder
from agentkit_loop.content import AppendText, BeginPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    ApprovalResolved,
    BudgetExceeded,
    BudgetWarning,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunFinished,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.limits import Limits
from agentkit_loop.models.protocol import Answer
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.retry import Retry
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.testing import Reply, ScriptedFailure, ScriptedModel, VirtualClock
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from tests.loop.hosts import ActingModel, HurriedClock, Opened, Run, asking, both, call, said
from tests.loop.test_turns import Drive, either


def add(a: int = 1, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


def costing(tokens: int, *, calls: bool = False) -> Reply:
    return Reply(
        text="x", calls=(call("add"),) if calls else (), usage=Usage(input_tokens=tokens, output_tokens=0)
    )


def budget(run: Run) -> list[tuple[str, str, Any, Any]]:
    return [
        (event.type, event.limit, event.used, event.allowed)
        for event in run.recorder.events
        if isinstance(event, (BudgetWarning, BudgetExceeded))
    ]


def finished(run: Run) -> list[str]:
    return [event.finish_reason for event in run.of(TurnFinished)]


# --- turns


@either
def test_max_turns_ends_the_exchange_before_the_turn_that_is_too_much(drive: Drive) -> None:
    run = Run([asking(call("add"))] * 9, tools=[add], limits=Limits(max_turns=5))
    result = drive(run, "go")
    assert result.finish_reason == "limit"
    assert len(run.of(TurnStarted)) == len(run.of(ModelRequestStarted)) == 5
    assert budget(run) == [("budget_warning", "max_turns", 4, 5), ("budget_exceeded", "max_turns", 5, 5)]
    assert run.recorder.types[-3:] == ["budget_exceeded", "turn_finished", "run_finished"]
    assert run.of(RunFinished)[0].outcome == "completed"
    assert run.faults == []


@both
def test_max_turns_counts_in_each_exchange_anew(opened: Opened) -> None:
    run = Run(
        [asking(call("add")), "one", asking(call("add")), "two"], tools=[add], limits=Limits(max_turns=2)
    )
    with opened(run) as host:
        assert host.run("a").text == "one"
        assert host.run("b").text == "two"
    assert {kind for kind, *_ in budget(run)} <= {"budget_warning"}
    assert run.faults == []


@both
def test_an_answer_that_uses_the_last_turn_is_whole(opened: Opened) -> None:
    run = Run(["one"], limits=Limits(max_turns=1))
    with opened(run) as host:
        assert host.run("a").finish_reason == "completed"
    assert budget(run) == []
    assert run.faults == []


@both
def test_interjected_input_needs_a_turn_too(opened: Opened) -> None:
    run = Run([asking(call("add")), "never"], tools=[add], limits=Limits(max_turns=1))
    with opened(run, "go") as host:
        result = host.finish()
        assert result.finish_reason == "limit"
    assert run.faults == []


# --- tokens


@both
def test_tokens_are_of_the_session_and_the_warning_is_told_once(opened: Opened) -> None:
    run = Run([costing(85), costing(10), costing(10), costing(1)], limits=Limits(max_tokens=100))
    with opened(run) as host:
        reasons = [host.run(prompt).finish_reason for prompt in "abcd"]
        assert reasons == ["completed", "completed", "completed", "limit"]
        assert host.run("e").finish_reason == "limit"
    assert len(run.of(ModelRequestStarted)) == 3
    assert budget(run) == [
        ("budget_warning", "max_tokens", 85, 100),
        ("budget_exceeded", "max_tokens", 105, 100),
        ("budget_exceeded", "max_tokens", 105, 100),
    ]
    assert run.faults == []


@either
def test_exactly_what_is_allowed_is_used_up(drive: Drive) -> None:
    run = Run([costing(100, calls=True), "never"], tools=[add], limits=Limits(max_tokens=100))
    assert drive(run, "go").finish_reason == "limit"
    assert budget(run) == [("budget_exceeded", "max_tokens", 100, 100)]
    assert len(run.of(TurnStarted)) == 1
    assert run.faults == []


@both
def test_a_limit_at_the_first_request_is_told_inside_the_turn(opened: Opened) -> None:
    run = Run([costing(100)], limits=Limits(max_tokens=100))
    with opened(run) as host:
        host.run("a")
        assert host.run("b").finish_reason == "limit"
    assert run.recorder.types[-4:] == ["turn_started", "budget_exceeded", "turn_finished", "run_finished"]
    assert run.faults == []


@either
def test_a_limit_is_looked_at_before_another_attempt(drive: Drive) -> None:
    used = Usage(input_tokens=100, output_tokens=0)
    failing = Reply(text="a bit", usage=used, fail=ScriptedFailure(after_chunks=1))
    run = Run([failing, "never"], limits=Limits(max_tokens=100), retry=Retry(max_attempts=3))
    assert drive(run, "go").finish_reason == "limit"
    assert run.told(ModelRequestStarted, ModelRequestRetrying, BudgetExceeded) == [
        "model_request_started",
        "model_request_retrying",
        "budget_exceeded",
    ]
    assert run.faults == []


@both
def test_tokens_count_over_a_resume(opened: Opened) -> None:
    run = Run([costing(85), costing(15), "never"], limits=Limits(max_tokens=100))
    with opened(run) as host:
        host.run("a")
    events = list(run.recorder.events)
    resume = run.agent.resume if opened.__name__ == "sync_host" else run.agent.aresume
    with opened(run, make=lambda: resume(events)) as host:
        assert host.run("b").finish_reason == "completed"
        assert host.run("c").finish_reason == "limit"
    assert budget(run) == [
        ("budget_warning", "max_tokens", 85, 100),
        ("budget_exceeded", "max_tokens", 100, 100),
    ]
    assert run.faults == []


# --- cost

PRICES = PriceTable({"scripted": Rates(input=Decimal(10_000), output=Decimal(0))}, source="test")
"""A cent for a token."""


@both
def test_a_cost_limit_lets_the_request_pass_that_begins_below_it(opened: Opened) -> None:
    run = Run([costing(199), costing(50), costing(1)], prices=PRICES, limits=Limits(max_cost_usd=2))
    with opened(run) as host:
        assert host.run("a").finish_reason == "completed"
        assert host.run("b").finish_reason == "completed"  # 1.99 is used: the request is made
        assert host.run("c").finish_reason == "limit"
    assert budget(run) == [
        ("budget_warning", "max_cost_usd", "1.99", "2"),
        ("budget_exceeded", "max_cost_usd", "2.49", "2"),
    ]
    assert run.faults == []


def test_a_cost_limit_with_a_model_of_unknown_price_is_refused_at_the_start() -> None:
    other = PriceTable({"other": Rates(input=Decimal(1), output=Decimal(1))}, source="test")
    for prices in (None, other):
        run = Run(["one"], prices=prices, limits=Limits(max_cost_usd=2))
        with pytest.raises(ConfigurationError, match=r"Limits\(unpriced='allow'\)"):
            run.agent.run("go")

        async def main(run: Run = run) -> None:
            run.agent.astart()

        with pytest.raises(ConfigurationError):
            asyncio.run(main())
        assert run.recorder.events == []


def test_the_model_that_writes_summaries_needs_a_price_too() -> None:
    compaction = Compaction(strategy=SummariseOlder(model=ScriptedModel([], name="unheard of")), max_items=40)
    run = Run(["one"], prices=PRICES, limits=Limits(max_cost_usd=2), compaction=compaction)
    with pytest.raises(ConfigurationError, match="the price of 'unheard of' in USD is not known"):
        run.agent.run("go")


@either
def test_an_unpriced_model_that_is_allowed_counts_as_free(drive: Drive) -> None:
    run = Run([costing(10_000)], prices=None, limits=Limits(max_cost_usd=2, unpriced="allow"))
    assert drive(run, "go").finish_reason == "completed"


# --- time


@both
def test_the_run_s_time_cuts_a_stream(opened: Opened) -> None:
    clock = VirtualClock()
    slow = [
        BeginPart("0", "text"),
        AppendText("0", "in time"),
        lambda: clock.advance(11),
        AppendText("0", " too late"),
        AppendText("0", " by far"),
        Answer(finish_reason="completed"),
    ]
    run = Run([], model=ActingModel(slow), clock=clock, limits=Limits(max_seconds=10))
    with opened(run) as host:
        result = host.run("go")
        assert result.finish_reason == "limit"
        assert result.text.startswith("in time")
        assert "by far" not in result.text
    assert run.of(ModelRequestFinished)[0].finish_reason == "cancelled"
    assert budget(run) == [("budget_exceeded", "max_seconds", 11.0, 10.0)]
    assert run.faults == []


def test_the_run_s_time_cuts_a_model_that_says_nothing_more() -> None:
    clock = VirtualClock()
    beats = [BeginPart("0", "text"), AppendText("0", "some "), lambda: asyncio.Event().wait()]
    run = Run([], model=ActingModel(beats, said("never")), clock=clock, limits=Limits(max_seconds=10))

    async def main() -> str:
        async with run.agent.astart() as driver:
            running = asyncio.create_task(driver.run("go"))
            while "content_delta" not in run.recorder.types:
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
            clock.advance(10)
            result = await running
            assert running.cancelling() == 0
            return result.finish_reason

    assert asyncio.run(main()) == "limit"
    assert run.faults == []


@both
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_run_s_time_cuts_a_tool(opened: Opened, asynchronous: bool) -> None:
    over = threading.Event()

    def rest() -> None:
        """Rest."""
        over.wait()

    async def rest_later() -> None:
        """Rest."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    made = tool(name="rest")(rest_later if asynchronous else rest)
    run = Run(
        [asking(call("rest")), "never"], tools=[made], clock=HurriedClock(), limits=Limits(max_seconds=10)
    )
    with opened(run) as host:
        assert host.run("go").finish_reason == "limit"
    over.set()
    (result,) = run.of(ToolResultReceived)
    assert (result.interrupted, result.is_error) == (True, True)
    assert budget(run) == [("budget_exceeded", "max_seconds", 10.0, 10.0)]
    assert run.faults == []


@both
def test_the_run_s_time_ends_a_back_off(opened: Opened) -> None:
    failing = Reply(fail=ScriptedFailure(retry_after_ms=20_000))
    run = Run(
        [failing, "never"], limits=Limits(max_seconds=10), retry=Retry(max_attempts=3, max_delay_ms=60_000)
    )
    with opened(run) as host:
        assert host.run("go").finish_reason == "limit"
    assert len(run.of(ModelRequestStarted)) == 1
    assert run.faults == []


@both
def test_time_that_a_person_takes_counts(opened: Opened) -> None:
    gated = tool(add, approval=True)
    run = Run([asking(call("add")), "never"], tools=[gated], limits=Limits(max_seconds=10))
    with opened(run, "go") as host:
        assert isinstance(host.next(), ApprovalRequest)
        run.clock.advance(20)
        assert host.finish().finish_reason == "limit"
    assert [event.approved for event in run.of(ApprovalResolved)] == [False]
    assert run.faults == []


@both
def test_time_is_of_the_run_and_warned_of_once_in_each(opened: Opened) -> None:
    run = Run(["one", "two", "three", "four"], limits=Limits(max_seconds=10))
    with opened(run) as host:
        run.clock.advance(8)
        assert host.run("a").finish_reason == "completed"
        assert host.run("b").finish_reason == "completed"
        run.clock.advance(2)
        assert host.run("c").finish_reason == "limit"
    resume = run.agent.resume if opened.__name__ == "sync_host" else run.agent.aresume
    events = list(run.recorder.events)
    with opened(run, make=lambda: resume(events)) as host:
        assert host.run("d").finish_reason == "completed"
        run.clock.advance(9)
        assert host.run("e").finish_reason == "completed"
    assert [kind for kind, *_ in budget(run)] == ["budget_warning", "budget_exceeded", "budget_warning"]
    assert run.faults == []


@both
def test_after_a_limit_of_one_exchange_the_next_one_is_normal(opened: Opened) -> None:
    run = Run([asking(call("add")), "as ever"], tools=[add], limits=Limits(max_turns=1))
    with opened(run) as host:
        assert host.run("go").finish_reason == "limit"
        assert host.run("and now").text == "as ever"
    assert finished(run) == ["limit", "completed"]
    assert run.faults == []
