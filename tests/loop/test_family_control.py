"""Control over agents behind calls: answers that do not fit, leaving, timeouts, what is told by whom."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendText, BeginPart
from agentkit_loop.credentials import NeedsAuth
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    CancelRequested,
    ContentDelta,
    CustomEvent,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFinished,
    RunStarted,
    ToolResultReceived,
)
from agentkit_loop.limits import Limits
from agentkit_loop.observers import FailurePolicy
from agentkit_loop.steps import ApprovalRequest, AuthRequest, Step
from agentkit_loop.testing import EventRecorder, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from agentkit_loop.usage import Cost, Usage
from tests.loop.families import (
    A_DOLLAR_A_TOKEN,
    agent,
    assert_rules,
    both,
    calls,
    calls_each,
    drive,
    says,
    sessions,
)
from tests.loop.hosts import ActingModel, said


@tool(approval=True)
def remove(path: str) -> str:
    """Remove a file."""
    return f"removed {path}"


@tool(approval=True)
def erase(path: str) -> str:
    """Erase a file."""
    return f"erased {path}"


@both
def test_an_edit_that_does_not_fit_a_childs_tool_is_refused_and_the_step_stays(on_loop: bool) -> None:
    child = agent("child", [calls("remove", path="a"), says("gone")], tools=[remove])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", prompt="p"), says("end")],
        tools=[child.as_tool(description="helps")],
        observers=[recorder],
    )
    shown: list[str] = []

    def answer(driver: Any, step: Step) -> None:
        assert isinstance(step, ApprovalRequest)
        shown.append(step.approval_id)
        if len(shown) == 1:
            with pytest.raises(ConfigurationError, match="missing argument `path`"):
                step.approve(edited_input={"nope": 1})
            assert len(driver.pending) == 1
        else:
            step.approve()
            with pytest.raises(IllegalMoveError, match="was answered before"):
                step.deny()

    assert drive(parent, answer, on_loop=on_loop).text == "end"
    assert shown == ["approval-1", "approval-1"]
    assert recorder.of(ToolResultReceived)[0].output == "removed a"
    assert_rules(recorder)


@both
def test_a_wrong_answer_to_a_grandchild_is_refused_at_the_root(on_loop: bool) -> None:
    grandchild = agent("grandchild", [calls("remove", path="a"), says("gone")], tools=[remove])
    child = agent(
        "child", [calls("grandchild", prompt="p"), says("c")], tools=[grandchild.as_tool(description="g")]
    )
    parent = agent(
        "parent", [calls("child", prompt="p"), says("end")], tools=[child.as_tool(description="c")]
    )
    refused: list[str] = []

    def answer(_: Any, step: Step) -> None:
        assert isinstance(step, ApprovalRequest)
        if not refused:
            with pytest.raises(ConfigurationError) as caught:
                step.approve(edited_input={})
            refused.append(str(caught.value))
        else:
            step.approve()

    assert drive(parent, answer, on_loop=on_loop).text == "end"
    assert len(refused) == 1


@both
def test_what_one_of_a_family_was_given_is_masked_in_the_events_of_all(on_loop: bool) -> None:
    found: list[str] = []

    @tool
    def login(context: ToolContext) -> str:
        """Log in."""
        credential = context.credential("hub")
        if credential is None:
            raise NeedsAuth("hub")
        found.append(credential.reveal())
        return "in"

    @tool
    def leak(context: ToolContext) -> str:
        """Tell what should not be told."""
        return f"token {found[0]}; own: {context.credential('hub')}"

    child = agent("child", [calls("leak"), says("c")], tools=[leak])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("login"), calls("child", prompt="p"), says("end")],
        tools=[login, child.as_tool(description="c")],
        observers=[recorder],
    )

    def answer(_: Any, step: Step) -> None:
        if isinstance(step, AuthRequest):
            step.resolve("topsecret-123")

    drive(parent, answer, on_loop=on_loop)
    outputs = [event.output for event in recorder.of(ToolResultReceived)]
    assert outputs[1] == "token ***; own: None"


@both
def test_a_parent_that_leaves_suspends_a_child_that_is_streaming(on_loop: bool) -> None:
    streaming, release = threading.Event(), threading.Event()
    started = [BeginPart("0", "text"), AppendText("0", "some ")]
    child = Agent(
        ActingModel([*started, streaming.set, lambda: release.wait(30)], said("more")), name="child"
    )
    recorder = EventRecorder()

    parent = agent(
        "parent",
        [calls_each(child={"prompt": "p"}, remove={"path": "a"})],
        tools=[child.as_tool(description="c"), remove],
        observers=[recorder],
    )
    if on_loop:

        async def leave_on_a_loop() -> None:
            async with parent.astart("go") as driver:
                assert isinstance(await driver.next(), ApprovalRequest)
                await asyncio.to_thread(streaming.wait, 30)
                release.set()

        asyncio.run(leave_on_a_loop())
    else:
        with parent.start("go") as driver:
            assert isinstance(driver.next(), ApprovalRequest)
            assert streaming.wait(30)
            release.set()
    ends = recorder.of(RunFinished)
    assert len(ends) == 2
    assert ends[1].session_id == recorder.events[0].session_id, "the parent's end is the last"
    assert recorder.of(CancelRequested) == []
    assert recorder.of(RunCancelled) == []
    assert_rules(recorder)


@both
def test_a_child_whose_time_is_over_tells_its_end_before_its_parent_does(on_loop: bool) -> None:
    go_on = threading.Event()

    @tool
    def linger(context: ToolContext) -> str:
        """Go on for a while after the cancel."""
        context.wait_cancelled(30)
        go_on.wait(30)
        return "late"

    child = agent("child", [calls("linger"), says("never")], tools=[linger])
    recorder = EventRecorder()

    def watch(event: AgentEvent) -> None:
        if isinstance(event, ModelRequestFinished) and event.finish_reason == "completed":
            go_on.set()  # the parent's last answer

    parent = agent(
        "parent",
        [calls("child", prompt="p"), says("end")],
        tools=[child.as_tool(description="c", timeout_s=0.1)],
        observers=[recorder, watch],
    )
    if on_loop:
        asyncio.run(parent.arun("go"))
    else:
        parent.run("go")
    assert recorder.events[-1].session_id == recorder.events[0].session_id
    assert len(recorder.of(RunFinished)) == 2
    assert_rules(recorder)


@both
def test_what_an_observer_of_a_childs_event_wants_of_the_parent_is_told_after_it(on_loop: bool) -> None:
    inside: list[str] = []
    overlaps: list[tuple[str, str]] = []
    drivers: list[Any] = []

    def watch(event: AgentEvent) -> None:
        overlaps.extend((outer, event.type) for outer in inside)
        inside.append(event.type)
        if isinstance(event, ContentDelta) and drivers and event.session_id != drivers[0].session_id:
            drivers[0].emit("seen", {"type": event.type})
            with pytest.raises(IllegalMoveError):
                drivers[0]._refuse_reentry()
        inside.pop()

    child = agent("child", [says("one two three")])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls_each(child={"prompt": "p"}, remove={"path": "a"}), says("end")],
        tools=[child.as_tool(description="c"), remove],
        observers=[recorder, watch],
    )

    async def on_a_loop() -> None:
        async with parent.astart("go") as driver:
            drivers.append(driver)
            async for step in driver:
                if isinstance(step, ApprovalRequest):
                    step.approve()

    if on_loop:
        asyncio.run(on_a_loop())
    else:
        with parent.start("go") as driver:
            drivers.append(driver)
            for step in driver:
                if isinstance(step, ApprovalRequest):
                    step.approve()
    assert overlaps == []
    told = [event for event in recorder.of(CustomEvent) if event.name == "seen"]
    assert told
    assert {event.session_id for event in told} == {drivers[0].session_id}
    assert_rules(recorder)


@both
def test_an_agent_as_a_tool_may_need_approval_itself(on_loop: bool) -> None:
    child = agent("child", [says("c" * 500)])
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", prompt="spend money"), says("end")],
        tools=[
            child.as_tool(
                description="c",
                approval=lambda given: "money" in given["prompt"],
                summary=lambda given: f"ask the child to {given['prompt']}",
                max_output_chars=100,
            )
        ],
        observers=[recorder],
    )
    asked: list[str] = []

    def answer(_: Any, step: Step) -> None:
        assert isinstance(step, ApprovalRequest)
        asked.append(step.summary)
        step.approve()

    drive(parent, answer, on_loop=on_loop)
    assert asked == ["ask the child to spend money"]
    assert len(str(recorder.of(ToolResultReceived)[0].output)) < 300
    assert len(recorder.of(RunStarted)) == 2
    assert len(sessions(recorder.events)) == 2


@both
def test_all_that_a_child_asks_can_be_answered_in_any_order(on_loop: bool) -> None:
    child = agent(
        "child", [calls_each(remove={"path": "a"}, erase={"path": "b"}), says("c")], tools=[remove, erase]
    )
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", prompt="p"), says("end")],
        tools=[child.as_tool(description="c")],
        observers=[recorder],
    )
    answered: list[str] = []

    def answer(driver: Any, _: Step) -> None:
        if len(driver.pending) + len(answered) == 2:
            answered.append(driver.pending[-1].approval_id)
            driver.pending[-1].approve()

    assert drive(parent, answer, on_loop=on_loop).text == "end"
    assert answered == ["approval-2", "approval-1"]
    assert_rules(recorder)


@both
def test_a_child_that_is_cancelled_before_its_input_makes_no_request(on_loop: bool) -> None:
    starting, cancelled = threading.Event(), threading.Event()

    class WaitingPrices:
        """Asked for a price just before the child begins."""

        def cost(self, model: str, usage: Usage, at: datetime) -> Cost | None:
            starting.set()
            cancelled.wait(30)
            return A_DOLLAR_A_TOKEN.cost(model, usage, at)

    def watch(event: AgentEvent) -> None:
        if isinstance(event, CancelRequested):
            cancelled.set()

    child = Agent(ScriptedModel(["never"]), name="child", prices=WaitingPrices())
    recorder = EventRecorder()
    parent = agent(
        "parent",
        [calls("child", prompt="p")],
        tools=[child.as_tool(description="c")],
        observers=[recorder, watch],
        limits=Limits(max_cost_usd=10),
    )

    def cancel(driver: Any) -> None:
        starting.wait(30)
        driver.cancel("too late")

    async def on_a_loop() -> None:
        async with parent.astart("go") as driver:
            thread = threading.Thread(target=cancel, args=(driver,))
            thread.start()
            assert (await driver.run()).finish_reason == "cancelled"

    if on_loop:
        asyncio.run(on_a_loop())
    else:
        with parent.start("go") as driver:
            thread = threading.Thread(target=cancel, args=(driver,))
            thread.start()
            assert driver.run().finish_reason == "cancelled"
    assert [event.session_id for event in recorder.of(ModelRequestStarted)] == [recorder.events[0].session_id]
    assert recorder.events[-1].session_id == recorder.events[0].session_id
    assert_rules(recorder)


def test_failures_of_a_familys_observer_are_kept_for_the_parents_host() -> None:
    def failing(event: AgentEvent) -> None:
        if isinstance(event, RunStarted) and event.parent is not None:
            raise ValueError("of a child's event")

    child = agent("child", [says("c")])
    parent = agent(
        "parent",
        [calls("child", prompt="p"), says("end")],
        tools=[child.as_tool(description="c")],
        observers=[failing],
        failure_policy=FailurePolicy.ACCUMULATE,
    )
    with parent.start("go") as driver:
        driver.run()
        assert [str(failure.error) for failure in driver.take_errors()] == ["of a child's event"]


def test_an_agent_that_a_tool_runs_by_itself_breaks_nothing_but_its_call() -> None:
    def strict(_: AgentEvent) -> None:
        raise ValueError("no")

    other = agent("other", [says("x")], observers=[strict], failure_policy=FailurePolicy.FAIL_FAST)

    @tool
    def ask_other() -> str:
        """Ask an agent of no relation."""
        return other.run("go").text

    recorder = EventRecorder()
    parent = agent("parent", [calls("ask_other"), says("end")], tools=[ask_other], observers=[recorder])
    assert parent.run("go").text == "end"
    (result,) = recorder.of(ToolResultReceived)
    assert result.is_error


@both
def test_a_suspended_child_says_what_it_waits_for_and_where(on_loop: bool) -> None:
    child = agent("child", [calls("remove", path="a")], tools=[remove])
    recorder = EventRecorder()
    parent = agent(
        "parent", [calls("child", prompt="p")], tools=[child.as_tool(description="c")], observers=[recorder]
    )
    result = asyncio.run(parent.arun("go")) if on_loop else parent.run("go")
    assert result.status == "suspended"
    (told,) = recorder.of(ToolResultReceived)
    name = result.pending[0].session_id
    assert told.output == f'(the agent was suspended, waiting for remove(path="a"); its session is {name})'
