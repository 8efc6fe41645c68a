"""A budget of a session: who is told of it, once, and that nothing of it steers the loop."""

# ruff: noqa: ARG001, ARG005 - a callback need not look at the notice
from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agentkit_loop import Agent, ConfigurationError, EventEmitter, IllegalMoveError, ScriptedModel, Usage
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.testing import Reply
from agentkit_reporting import BudgetNotice, SessionBudget, SessionProfiler

TABLE = PriceTable({"m": Rates(input=Decimal(1), output=Decimal(10))}, source="mine 1")


def test_a_session_is_told_of_once_when_most_and_once_when_all_is_used() -> None:
    told: list[BudgetNotice] = []
    profiler = SessionProfiler(budget=1, on_budget=told.append)
    with profiler.session("s") as span:
        for _ in range(15):
            span.record_tokens(1, 1, "0.1")
    assert [(each.session_id, each.limit, each.is_reached, each.used) for each in told] == [
        ("s", "usd", False, Decimal("0.8")),
        ("s", "usd", True, Decimal("1.0")),
    ]
    assert told[0].share == 0.8


def test_tokens_can_be_bounded_too_and_the_share_be_chosen() -> None:
    told: list[BudgetNotice] = []
    budget = SessionBudget(usd=Decimal(1), tokens=100, warn_share=0.5)
    profiler = SessionProfiler(budget=budget, on_budget=told.append)
    with profiler.session("s") as span:
        span.record_tokens(20, 20, 0, cached=10)
        assert [(each.limit, each.used) for each in told] == [("tokens", 50)]
        span.record_tokens(500, 0, "0.6")
    assert [(each.limit, each.is_reached) for each in told[1:]] == [("usd", False), ("tokens", True)]


def test_each_session_has_a_budget_of_its_own_over_all_its_runs() -> None:
    told: list[tuple[str, bool]] = []
    profiler = SessionProfiler(
        budget="1", on_budget=lambda each: told.append((each.session_id, each.is_reached))
    )
    for cost in ("0.5", "0.6"):
        for name in ("a", "b"):
            with profiler.session(name) as span:
                span.record_tokens(1, 1, cost)
    assert told == [("a", False), ("a", True), ("b", False), ("b", True)]


def test_what_the_callback_raises_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    def fail(notice: BudgetNotice) -> None:
        raise RuntimeError("no")

    profiler = SessionProfiler(budget=1, on_budget=fail)
    with profiler.session("s") as span:
        span.record_tokens(1, 1, 2)
    assert (profiler.records[0].outcome, profiler.records[0].total_cost_usd) == ("completed", Decimal(2))
    assert caplog.text.count("on_budget failed") == 2


def test_a_callback_may_not_end_the_span_but_may_set_a_flag() -> None:
    refused: list[type[BaseException]] = []

    def close(notice: BudgetNotice) -> None:
        try:
            span.close()
        except IllegalMoveError as error:
            refused.append(type(error))

    profiler = SessionProfiler(budget=1, on_budget=close)
    span = profiler.start_session("s")
    span.record_tokens(1, 1, 2)
    assert refused == [IllegalMoveError, IllegalMoveError]
    assert span.is_open
    assert span.close() is not None


def test_a_host_stops_our_loop_by_a_cancel_from_the_callback() -> None:
    model = ScriptedModel([Reply(text="one", usage=Usage(input_tokens=10, output_tokens=5))] * 3, name="m")
    profiler = SessionProfiler(budget="0.00005", on_budget=lambda notice: driver.cancel("budget"))
    driver: Any
    with Agent(model, observers=[profiler], prices=TABLE).start() as driver:
        result = driver.run("go")
    assert result.finish_reason == "cancelled"


@pytest.mark.parametrize(
    "make",
    [
        lambda: SessionProfiler(budget=0),
        lambda: SessionProfiler(budget="much"),
        lambda: SessionProfiler(on_budget=print),
        SessionBudget,
        lambda: SessionBudget(tokens=-1),
        lambda: SessionBudget(usd=1, warn_share=1),
        lambda: SessionProfiler(emitter=EventEmitter(session_id="a")).start_session("b"),
    ],
    ids=["zero", "text", "no budget", "nothing", "tokens", "share", "session"],
)
def test_budgets_and_sessions_that_are_none_are_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()
