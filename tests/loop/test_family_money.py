"""One purse for a family: whatever becomes of a child, what it used counts against its parent's limits."""

from __future__ import annotations

import threading
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import (
    ApprovalRequired,
    BudgetExceeded,
    BudgetWarning,
    ModelRequestStarted,
    RunStarted,
    ToolResultReceived,
)
from agentkit_loop.limits import Limits
from agentkit_loop.purse import Purse
from agentkit_loop.replaying import replay
from agentkit_loop.state import LoopState
from agentkit_loop.steps import ApprovalRequest, Finished
from agentkit_loop.testing import EventRecorder, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from agentkit_loop.usage import Cost, Usage, child_costs
from agentkit_reporting import JsonlReporter, read_events
from tests.loop.families import (
    A_DOLLAR_A_TOKEN,
    agent,
    assert_rules,
    both,
    calls,
    cost_of,
    drive,
    run,
    says,
    sessions,
    used,
)


@tool
def look() -> str:
    """Look."""
    return "seen"


@tool
def stay(context: ToolContext) -> str:
    """Stay until nobody waits any more."""
    context.wait_cancelled(30)
    return "left"


@both
def test_children_at_once_share_what_is_left(on_loop: bool) -> None:
    child = agent("child", lambda _: calls("look", tokens=1), tools=[look])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls(*["child"] * 5, tokens=1, prompt="p"), says("end", tokens=1)],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
        limits=Limits(max_cost_usd=10),
    )
    assert run(parent, on_loop=on_loop).finish_reason == "limit"
    # Each looks before its request; five may look at the same moment, and then each makes one.
    assert 10 <= cost_of(recorder.events) < 10 + 5
    assert_rules(recorder)


def test_a_child_whose_time_is_over_is_paid_for() -> None:
    child = agent("child", lambda _: calls("stay", tokens=8), tools=[stay])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        lambda _: calls("child", prompt="p"),
        tools=[child.as_tool(description="helps", timeout_s=0.1)],
        observers=[recorder],
        limits=Limits(max_cost_usd=10),
    )
    with parent.start() as driver:
        assert driver.run("go").finish_reason == "limit"
        assert driver.state.session_spent.costs == {"USD": Decimal(16)}
    assert [
        child_costs(event.child_usage or Usage())
        for event in recorder.of(ToolResultReceived)
        if event.name == "child"
    ] == [{"USD": Decimal(8)}] * 2
    assert_rules(recorder)


@both
def test_a_parent_that_is_over_its_limit_gives_its_children_nothing(on_loop: bool) -> None:
    child = agent("child", lambda _: says("k", tokens=50))
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls(*["child"] * 5, tokens=20, prompt="p")],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
        limits=Limits(max_cost_usd=10),
    )
    assert run(parent, on_loop=on_loop).finish_reason == "limit"
    assert len(recorder.of(ModelRequestStarted)) == 1
    assert [(event.limit, event.used, event.allowed) for event in recorder.of(BudgetExceeded)] == [
        ("max_cost_usd", "20", "10")
    ] * 6
    assert_rules(recorder)


@both
def test_a_child_of_unknown_price_is_refused_under_its_parents_cost_limit(on_loop: bool) -> None:
    child = Agent(ScriptedModel(["never"], name="a riddle"), name="child", prices=A_DOLLAR_A_TOKEN)
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", prompt="p"), says("end")],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
        limits=Limits(max_cost_usd=10),
    )
    assert run(parent, on_loop=on_loop).finish_reason == "completed"
    (result,) = recorder.of(ToolResultReceived)
    assert result.is_error
    assert "the price of 'a riddle' in USD is not known" in str(result.output)
    assert len(recorder.of(RunStarted)) == 1


@both
def test_a_grandchild_spends_from_the_purse_of_all_above(on_loop: bool) -> None:
    grandchild = agent("grandchild", lambda _: calls("look", tokens=3), tools=[look])
    child = agent(
        "child",
        [calls("grandchild", tokens=1, prompt="p"), says("c", tokens=1)],
        tools=[grandchild.as_tool(description="helps")],
        limits=Limits(max_cost_usd=1000),
    )
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", tokens=1, prompt="p"), says("end", tokens=1)],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
        limits=Limits(max_cost_usd=10),
    )
    assert run(parent, on_loop=on_loop).finish_reason == "limit"
    assert cost_of(recorder.events) == 1 + 1 + 3 * 3
    assert {event.used for event in recorder.of(BudgetExceeded)} == {"11"}
    assert [event.allowed for event in recorder.of(BudgetWarning)] == ["10"]
    assert_rules(recorder)


@both
def test_a_child_that_is_left_alone_is_paid_for(on_loop: bool) -> None:
    gated = tool(lambda: "x", name="gated", description="g", approval=True)
    child = agent("child", [calls("gated", tokens=7)], tools=[gated])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", tokens=1, prompt="p")],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
    )

    def cancel(driver: object, step: object) -> None:
        assert isinstance(step, ApprovalRequest)
        driver.cancel()  # type: ignore[attr-defined] # one of both drivers

    assert drive(parent, cancel, on_loop=on_loop).finish_reason == "cancelled"
    told = [event.child_usage for event in recorder.of(ToolResultReceived) if event.name == "child"]
    assert [usage is not None and usage.total_tokens for usage in told] == [7]
    assert_rules(recorder)


def test_after_a_crash_inside_a_child_its_cost_still_counts() -> None:
    child = agent("child", lambda _: calls("look", tokens=9), tools=[look], limits=Limits(max_turns=3))
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", prompt="p"), says("end", tokens=1)],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
    )
    parent.run("go")
    events = recorder.events
    cut = next(
        number
        for number, event in enumerate(events)
        if isinstance(event, ToolResultReceived) and event.name == "child"
    )
    again = EventRecorder()
    heir = agent("parent", [says("end", tokens=1)], observers=[again], limits=Limits(max_cost_usd=20))
    with heir.resume(events[:cut]) as driver:
        assert driver.run().finish_reason == "limit"
        assert driver.state.session_spent.costs == {"USD": Decimal(27)}
    (told,) = again.of(ToolResultReceived)
    assert told.interrupted
    assert child_costs(told.child_usage or Usage()) == {"USD": Decimal(27)}


@both
@pytest.mark.parametrize("per", [None, "session"], ids=["one log", "one each"])
def test_a_parent_goes_on_from_one_log_or_one_each(
    per: Literal["session"] | None, on_loop: bool, tmp_path: Path
) -> None:
    target = tmp_path if per else tmp_path / "all.jsonl"
    grandchild = agent("grandchild", [says("g", tokens=4)])
    child = agent(
        "child",
        [calls("grandchild", tokens=2, prompt="p"), calls("gated", tokens=2)],
        tools=[grandchild.as_tool(description="g"), tool(look.function, name="gated", approval=True)],
    )
    parent = agent(
        "parent",
        [calls("child", tokens=1, prompt="p")],
        tools=[child.as_tool(description="c")],
        observers=[JsonlReporter(target, per=per)],
    )
    with parent:
        asked: list[ApprovalRequest] = []

        def die(_: object, step: object) -> None:
            assert isinstance(step, ApprovalRequest)
            asked.append(step)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            drive(parent, die, on_loop=on_loop)
    # As a crash leaves it: every log ends where the child asks.
    last = next(event.timestamp for event in read_events(target) if isinstance(event, ApprovalRequired))
    events = [event for event in read_events(target) if event.timestamp <= last]
    assert len(sessions(events)) == 3
    root = next(
        event.session_id for event in events if isinstance(event, RunStarted) and event.parent is None
    )
    again = EventRecorder()
    heir = agent("parent", [says("end", tokens=1)], tools=[child.as_tool(description="c")], observers=[again])
    with heir.resume(events) as driver:
        assert driver.session_id == root
        assert driver.run().text == "end"
        assert driver.state.session_spent.costs == {"USD": Decimal(1 + 2 + 2 + 4 + 1)}
    heir = agent("child", [says("looked")], tools=[tool(look.function, name="gated", approval=True)])
    with heir.resume(events, session_id=asked[0].session_id) as driver:
        for step in driver:
            if isinstance(step, ApprovalRequest):
                step.approve()
            elif isinstance(step, Finished):
                assert step.result.text == "looked"


@pytest.mark.parametrize("spent_before", [0, 5])
def test_a_purse_adds_what_is_open_and_what_has_ended_for_all_above(spent_before: int) -> None:
    state = LoopState()
    state.session_spent.add(used(spent_before), None)
    parent = Purse.of(state, Limits(max_tokens=100))
    call = parent.below()
    children = [call.below() for _ in range(8)]

    def spend(child: Purse) -> None:
        for number in range(200):
            child.report(f"request-{number}", used(1), None)
            child.report(f"request-{number}", used(2), None)  # the last word replaces
            child.settle(f"request-{number}")
        child.report("open", used(3), None)

    threads = [threading.Thread(target=spend, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert call.spent().usage.total_tokens == 8 * (200 * 2 + 3)
    assert parent.spent().usage.total_tokens == spent_before + 8 * (200 * 2 + 3)
    (above,) = children[0].above()
    assert above.limits == Limits(max_tokens=100)
    assert above.spent == parent.spent()


def test_a_purse_tells_costs_as_a_calls_result_does() -> None:
    purse = Purse()
    assert purse.used() is None
    cost = A_DOLLAR_A_TOKEN.cost("scripted", used(3), None)  # type: ignore[arg-type] # a table has one time
    assert isinstance(cost, Cost)
    purse.report("request-1", used(3), cost)
    told = purse.used()
    assert told is not None
    assert (told.total_tokens, child_costs(told)) == (3, {"USD": Decimal(3)})


def test_what_a_child_uses_after_its_calls_result_counts_for_nobody_above() -> None:
    purse = Purse(Limits(max_tokens=100))
    call = purse.below()
    child = call.below()
    child.report("request-1", used(3), None)
    call.close()  # its result is told
    child.report("request-1", used(5), None)
    child.settle("request-1")
    child.report("request-2", used(7), None)
    assert purse.spent().usage.total_tokens == 3
    assert child.spent().usage.total_tokens == 5 + 7


@both
def test_of_a_limit_above_the_children_are_told_once(on_loop: bool) -> None:
    child = agent("child", [says("k", tokens=1) for _ in range(5)])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls(*["child"] * 5, tokens=17, prompt="p"), says("end", tokens=1)],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
        limits=Limits(max_cost_usd=100, max_tokens=20),
        max_parallel_tools=1,
    )
    run(parent, on_loop=on_loop)
    by_session = [event.session_id for event in recorder.of(BudgetWarning)]
    assert len(by_session) == len(set(by_session)) <= 2


def test_a_child_that_its_parents_limit_ended_replays_by_itself() -> None:
    child = agent("child", lambda _: calls("look", tokens=4), tools=[look])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", tokens=1, prompt="p")],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
        limits=Limits(max_cost_usd=10),
    )
    assert parent.run("go").finish_reason == "limit"
    of_child = next(events for events in sessions(recorder.events).values() if events[0].parent is not None)  # type: ignore[attr-defined] # a RunStarted
    assert replay(child, of_child).is_equal
