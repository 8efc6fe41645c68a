"""Agents behind tools: sessions of their own, one stream of events, one purse, one host to ask."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.credentials import NeedsAuth
from agentkit_loop.errors import ObserverError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    BudgetExceeded,
    CancelRequested,
    RunFinished,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    UsageUpdated,
)
from agentkit_loop.limits import Limits
from agentkit_loop.observers import FailurePolicy
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.steps import ApprovalRequest, AuthRequest, Finished, Step
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage, child_costs
from agentkit_reporting import JsonlReporter, UsageReporter, read_events
from tests.loop.families import assert_rules, both, drive, run
from tests.loop.families import sessions as by_session

USED = Usage(input_tokens=10, output_tokens=5)
PRICES = PriceTable({"scripted": Rates(input=Decimal(1_000), output=Decimal(1_000))}, source="test")


@tool(approval=True)
def remove(path: str) -> str:
    """Remove a file."""
    return f"removed {path}"


def calling(name: str, **given: Any) -> Reply:
    return Reply(text="", calls=(ScriptedCall(name=name, input=given),), usage=USED)


def said(text: str) -> Reply:
    return Reply(text=text, usage=USED)


def helper(*replies: Reply | str, name: str = "helper", **options: Any) -> Agent:
    return Agent(ScriptedModel(list(replies)), name=name, **options)


def family(child: Agent, *, prompt: str = "do it", **options: Any) -> tuple[Agent, EventRecorder]:
    recorder = EventRecorder()
    model = ScriptedModel([calling(child.name, prompt=prompt), said("all done"), said("and more")])
    observers = [recorder, *options.pop("observers", ())]
    tools = [child.as_tool(description="helps"), *options.pop("tools", ())]
    return Agent(model, tools=tools, observers=observers, **options), recorder


def sessions(recorder: EventRecorder) -> dict[str, list[AgentEvent]]:
    return by_session(recorder.events)


@both
def test_a_child_answers_and_tells_everything_to_its_parents_observers(on_loop: bool) -> None:
    own = EventRecorder()
    child = helper(said("from the child"), observers=[own])
    agent, recorder = family(child)
    assert run(agent, on_loop=on_loop).text == "all done"
    parent_id, child_id = sessions(recorder)
    assert [event.session_id for event in own.events] == [child_id] * len(own.events)
    assert own.events == sessions(recorder)[child_id]
    started = recorder.of(RunStarted)[1]
    call = recorder.of(ToolExecutionStarted)[0]
    assert started.parent is not None
    assert (started.parent.session_id, started.parent.call_id) == (parent_id, call.call_id)
    (result,) = recorder.of(ToolResultReceived)
    assert (result.output, result.is_error) == ("from the child", False)
    assert result.child_usage is not None
    assert result.child_usage.total_tokens == 15
    assert_rules(recorder)


@both
def test_no_token_of_a_child_is_counted_twice(on_loop: bool) -> None:
    usage = UsageReporter()
    agent, recorder = family(helper(said("x"), prices=PRICES), observers=[usage], prices=PRICES)
    result = run(agent, on_loop=on_loop)
    assert (
        usage.total.usage.total_tokens
        == 3 * 15
        == sum(event.usage.total_tokens or 0 for event in recorder.of(UsageUpdated) if event.final)
    )
    assert result.usage.total_tokens == 2 * 15
    (told,) = recorder.of(ToolResultReceived)
    assert told.child_usage is not None
    assert child_costs(told.child_usage) == {"USD": Decimal("0.015")}


@both
def test_what_a_child_asks_surfaces_from_its_parent(on_loop: bool) -> None:
    child = helper(calling("remove", path="a"), said("gone"), tools=[remove])
    agent, recorder = family(child)
    asked: list[ApprovalRequest] = []

    def answer(_: Any, step: Step) -> None:
        if isinstance(step, ApprovalRequest):
            asked.append(step)
            step.approve(by="ann", edited_input={"path": "b"})

    assert drive(agent, answer, on_loop=on_loop).text == "all done"
    (required,) = recorder.of(ApprovalRequired)
    assert [(step.session_id, step.approval_id) for step in asked] == [
        (required.session_id, required.approval_id)
    ]
    assert recorder.of(ToolResultReceived)[0].output == "removed b"
    assert_rules(recorder)


@both
def test_steps_surface_from_any_depth(on_loop: bool) -> None:
    @tool
    def fetch(context: ToolContext) -> str:
        """Fetch."""
        credential = context.credential("hub")
        if credential is None:
            raise NeedsAuth("hub", ["read"])
        return f"fetched with {len(credential.reveal())} characters"

    grandchild = helper(calling("fetch"), said("deep"), name="grandchild", tools=[fetch])
    child = helper(
        calling("remove", path="a"),
        calling("grandchild", prompt="go on"),
        said("middle"),
        tools=[remove, grandchild.as_tool(description="deeper")],
    )
    agent, recorder = family(child)

    def answer(_: Any, step: Step) -> None:
        if isinstance(step, ApprovalRequest):
            step.deny("no")
        elif isinstance(step, AuthRequest):
            step.resolve("topsecret")

    assert drive(agent, answer, on_loop=on_loop).text == "all done"
    outputs = [event.output for event in recorder.of(ToolResultReceived)]
    assert outputs == ["no", "fetched with 9 characters", "deep", "middle"]
    assert len(sessions(recorder)) == 3
    assert_rules(recorder)


@both
def test_an_approver_of_the_parent_is_asked_for_the_child(on_loop: bool) -> None:
    seen: list[str] = []

    def approve(step: ApprovalRequest) -> bool:
        seen.append(step.session_id)
        return True

    child = helper(calling("remove", path="a"), said("gone"), tools=[remove])
    agent, recorder = family(child, approve=approve)
    assert run(agent, on_loop=on_loop).text == "all done"
    assert seen == [recorder.of(ApprovalRequired)[0].session_id]


@both
def test_a_child_spends_from_its_parents_purse(on_loop: bool) -> None:
    child = helper(
        *[calling("look") for _ in range(9)], tools=[tool(lambda: "x", name="look", description="l")]
    )
    agent, recorder = family(child, limits=Limits(max_tokens=50))
    result = run(agent, on_loop=on_loop)
    assert result.finish_reason == "limit"
    assert len(recorder.of(BudgetExceeded)) == 2  # the child's, of what was left to it, and the parent's own
    by_session = {event.session_id: event.finish_reason for event in recorder.of(TurnFinished)}
    assert set(by_session.values()) == {"limit"}
    total = sum(event.usage.total_tokens or 0 for event in recorder.of(UsageUpdated) if event.final)
    assert 50 <= total < 50 + 15
    assert_rules(recorder)


@both
def test_a_cancel_of_the_parent_cancels_the_child(on_loop: bool) -> None:
    begun = threading.Event()

    @tool
    def hold(context: ToolContext) -> str:
        """Hold."""
        begun.set()
        context.wait_cancelled(30)
        return "stopped"

    agent, recorder = family(helper(calling("hold"), said("never"), tools=[hold]))

    def cancel(driver: Any) -> None:
        begun.wait(30)
        driver.cancel("enough")

    async def on_a_loop() -> str:
        async with agent.astart("go") as driver:
            threading.Thread(target=cancel, args=(driver,)).start()
            return (await driver.run()).finish_reason

    if on_loop:
        assert asyncio.run(on_a_loop()) == "cancelled"
    else:
        with agent.start("go") as driver:
            threading.Thread(target=cancel, args=(driver,)).start()
            assert driver.run().finish_reason == "cancelled"
    assert len(recorder.of(CancelRequested)) == 2
    assert [event.finish_reason for event in recorder.of(TurnFinished)] == ["cancelled"] * 2
    assert_rules(recorder)


@both
def test_a_parent_that_suspends_suspends_its_child_which_goes_on_by_itself(
    on_loop: bool, tmp_path: Path
) -> None:
    log = JsonlReporter(tmp_path / "all.jsonl")
    child = helper(calling("remove", path="a"), said("gone"), tools=[remove])
    agent, recorder = family(child, observers=[log])
    result = run(agent, on_loop=on_loop)
    assert result.status == "suspended"
    (pending,) = result.pending
    assert isinstance(pending, ApprovalRequest)
    parent_end, child_end = sorted(
        recorder.of(RunFinished), key=lambda event: event.session_id != result.session_id
    )
    assert parent_end.session_id == result.session_id
    assert (child_end.outcome, child_end.open_approvals) == ("suspended", (pending.approval_id,))
    assert_rules(recorder)
    log.close()
    again = helper(said("gone after all"), tools=[remove])
    events = read_events(tmp_path / "all.jsonl")
    with again.resume(events, session_id=pending.session_id) as driver:
        for step in driver:
            if isinstance(step, ApprovalRequest):
                step.approve()
            elif isinstance(step, Finished):
                assert step.result.text == "gone after all"


@both
def test_a_child_whose_model_fails_is_an_error_result(on_loop: bool) -> None:
    agent, recorder = family(helper())
    assert run(agent, on_loop=on_loop).text == "all done"
    (result,) = recorder.of(ToolResultReceived)
    assert result.is_error
    assert_rules(recorder)


@both
def test_an_observer_that_fails_fast_on_a_childs_event_ends_the_family(on_loop: bool) -> None:
    child_events: list[str] = []

    def strict(event: AgentEvent) -> None:
        if isinstance(event, RunStarted) and event.parent is not None:
            child_events.append(event.session_id)
            raise ValueError("not in my house")

    agent, recorder = family(helper(said("x")), observers=[strict], failure_policy=FailurePolicy.FAIL_FAST)
    with pytest.raises(ObserverError):
        run(agent, on_loop=on_loop)
    assert len(child_events) == 1
    assert_rules(recorder)


def test_children_at_once_tell_one_event_at_a_time() -> None:
    inside = threading.Semaphore(1)
    overlaps: list[str] = []

    def watch(event: AgentEvent) -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(event.type)
            return
        inside.release()

    children = [helper(said(f"{number}"), name=f"child{number}") for number in range(6)]
    calls = tuple(ScriptedCall(name=child.name, input={"prompt": "go"}) for child in children)
    recorder = EventRecorder()
    agent = Agent(
        ScriptedModel([Reply(text="", calls=calls), "done"]),
        tools=[child.as_tool(description="c") for child in children],
        observers=[recorder, watch],
    )
    assert agent.run("go").text == "done"
    assert overlaps == []
    assert len(sessions(recorder)) == 7
    assert_rules(recorder)


def test_an_observer_of_parent_and_child_is_told_each_event_once() -> None:
    events: list[AgentEvent] = []
    agent, recorder = family(helper(said("x"), observers=[events.append]), observers=[events.append])
    agent.run("go")
    assert events == recorder.events
