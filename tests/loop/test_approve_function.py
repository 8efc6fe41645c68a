"""`approve=`: asked about each gated call, sync or async, on either driver; whatever it gives or raises."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    ApprovalRequired,
    ApprovalResolved,
    CustomEvent,
    RunCancelled,
    RunFinished,
    ToolExecutionStarted,
    ToolResultReceived,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.permissions import Approve, Deny, Permissions
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.testing import ScriptedTool
from agentkit_loop.tools import tool
from tests.loop.hosts import Opened, Run, asking, both, call
from tests.loop.test_turns import Drive, either


@tool(approval=True)
def write(path: str) -> str:
    """Write a file."""
    return f"wrote {path}"


def giving(answer: Any) -> Callable[[ApprovalRequest], Any]:
    return lambda _: answer


def giving_later(answer: Any) -> Callable[[ApprovalRequest], Any]:
    async def approve(_: ApprovalRequest) -> Any:
        await asyncio.sleep(0)
        return answer

    return approve


class Asker:
    """An object whose call is async."""

    async def __call__(self, step: ApprovalRequest) -> bool:
        await asyncio.sleep(0)
        return step.call.name == "write"


ANSWERS: list[tuple[Any, bool, Any]] = [
    (True, True, "wrote a"),
    (False, False, "The call was denied."),
    (Approve(by="ann", reason="fine"), True, "wrote a"),
    (Approve(edited_input={"path": "b"}), True, "wrote b"),
    (Deny(), False, "The call was denied."),
    (Deny(reason="no writing", by="ann"), False, "no writing"),
]


@either
@pytest.mark.parametrize("wrap", [giving, giving_later])
@pytest.mark.parametrize(("answer", "approved", "output"), ANSWERS)
def test_each_answer_is_what_it_says(
    drive: Drive, wrap: Any, answer: Any, approved: bool, output: str
) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write], approve=wrap(answer))
    assert drive(run, "go").text == "done"
    (resolved,) = run.of(ApprovalResolved)
    assert resolved.approved is approved
    assert (resolved.by, resolved.reason) == (getattr(answer, "by", None), getattr(answer, "reason", None))
    assert [event.output for event in run.of(ToolResultReceived)] == [output]
    assert len(run.of(ApprovalRequired)) == 1
    assert run.faults == []


@either
def test_an_object_with_an_async_call_is_asked(drive: Drive) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write], approve=Asker())
    assert drive(run, "go").text == "done"
    assert run.faults == []


@both
@pytest.mark.parametrize("wrap", [giving, giving_later])
def test_none_leaves_the_call_to_the_host_and_is_not_asked_again(opened: Opened, wrap: Any) -> None:
    asked: list[str] = []
    given = wrap(None)

    def approve(step: ApprovalRequest) -> Any:
        asked.append(step.approval_id)
        return given(step)

    run = Run(
        [asking(call("write", "x", path="a"), call("write", "y", path="b")), "done"],
        tools=[write],
        approve=approve,
    )
    with opened(run) as host:
        result = host.run("go")
        assert result.status == "suspended"
        pending = [step for step in result.pending if isinstance(step, ApprovalRequest)]
        assert [step.approval_id for step in pending] == ["approval-1", "approval-2"]
        assert isinstance(host.next(), ApprovalRequest)
        for step in pending:
            step.approve()
        assert host.run().text == "done"
    assert asked == ["approval-1"]  # the host answered the other one first
    assert run.faults == []


@both
def test_approve_may_answer_the_step_itself(opened: Opened) -> None:
    def approve(step: ApprovalRequest) -> None:
        step.approve(by="itself")

    run = Run([asking(call("write", path="a")), "done"], tools=[write], approve=approve)
    with opened(run) as host:
        assert host.run("go").text == "done"
    assert run.of(ApprovalResolved)[0].by == "itself"
    assert run.faults == []


def assert_left_open(run: Run) -> None:
    """Nobody could be asked: the run is suspended, and its log asks again."""
    assert run.of(ApprovalResolved) == []
    (end,) = run.of(RunFinished)
    assert (end.outcome, end.open_approvals) == ("suspended", ("approval-1",))
    assert [event.code for event in run.of(Warning)] == ["approve_failed"]
    assert run.faults == []


@either
@pytest.mark.parametrize("wrap", [giving, giving_later])
@pytest.mark.parametrize("wrong", ["yes", 1, 0, [], object(), Approve])
def test_any_other_answer_is_raised_and_leaves_the_question_open(drive: Drive, wrap: Any, wrong: Any) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write], approve=wrap(wrong))
    with pytest.raises(ConfigurationError, match="return True, False, Approve"):
        drive(run, "go")
    assert run.of(ToolExecutionStarted) == []
    assert_left_open(run)


@either
def test_an_edit_that_does_not_fit_is_raised_and_leaves_the_question_open(drive: Drive) -> None:
    answer = Approve(edited_input={"path": 3})
    run = Run([asking(call("write", path="a")), "done"], tools=[write], approve=giving(answer))
    with pytest.raises(ConfigurationError, match="edited_input refused"):
        drive(run, "go")
    assert_left_open(run)


@either
@pytest.mark.parametrize("later", [False, True])
def test_an_error_of_approve_propagates_and_leaves_the_question_open(drive: Drive, later: bool) -> None:
    def approve(_: ApprovalRequest) -> bool:
        raise LookupError("the terminal is gone")

    async def approve_later(_: ApprovalRequest) -> bool:
        raise LookupError("the terminal is gone")

    run = Run(
        [asking(call("write", path="a")), "done"],
        tools=[write],
        approve=approve_later if later else approve,
    )
    with pytest.raises(LookupError, match="terminal"):
        drive(run, "go")
    assert_left_open(run)
    assert run.of(Warning)[0].message == (
        "approve= failed on approval-1, which stays open: LookupError: the terminal is gone"
    )
    again = Run(["done"], tools=[write], approve=lambda _: True)
    with again.agent.resume(run.recorder.events) as driver:
        assert driver.run().text == "done"


@either
@pytest.mark.parametrize("later", [False, True])
def test_ctrl_c_at_the_question_cancels_the_run_and_runs_nothing(drive: Drive, later: bool) -> None:
    def approve(_: ApprovalRequest) -> bool:
        raise KeyboardInterrupt

    async def approve_later(_: ApprovalRequest) -> bool:
        raise KeyboardInterrupt

    run = Run(
        [asking(call("write", path="a")), "done"],
        tools=[write],
        approve=approve_later if later else approve,
    )
    with pytest.raises(KeyboardInterrupt):
        drive(run, "go")
    assert run.of(ToolExecutionStarted) == []
    assert isinstance(run.recorder.events[-1], RunCancelled)
    assert run.faults == []


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="give a function of an ApprovalRequest"):
        Run([], approve=True)


def test_without_approve_an_agents_run_is_suspended_and_its_steps_are_dead_afterwards() -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    result = run.agent.run("go")
    assert result.status == "suspended"
    (finished,) = run.of(RunFinished)
    assert (finished.outcome, finished.open_approvals) == ("suspended", ("approval-1",))
    with pytest.raises(IllegalMoveError, match="closed"):
        result.pending[0].approve()  # type: ignore[union-attr] # it is an ApprovalRequest
    assert run.faults == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_ends_at_a_pending_step(asynchronous: bool) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])

    async def all_of_it() -> list[Any]:
        return [event async for event in run.agent.astream("go")]

    told = asyncio.run(all_of_it()) if asynchronous else list(run.agent.stream("go"))
    assert told == run.recorder.events
    assert isinstance(told[-1], RunFinished)
    assert told[-1].outcome == "suspended"
    assert run.faults == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_asks_approve_and_goes_on(asynchronous: bool) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write], approve=giving(Approve()))

    async def all_of_it() -> list[Any]:
        return [event async for event in run.agent.astream("go")]

    told = asyncio.run(all_of_it()) if asynchronous else list(run.agent.stream("go"))
    assert isinstance(told[-1], RunFinished)
    assert told[-1].outcome == "completed"
    assert run.faults == []


# --- on an event loop


@pytest.mark.parametrize("later", [False, True])
def test_the_event_loop_goes_on_while_a_person_thinks(later: bool) -> None:
    answer = threading.Event()
    answer_later = asyncio.Event()

    def approve(_: ApprovalRequest) -> bool:
        return answer.wait()

    async def approve_later(_: ApprovalRequest) -> bool:
        return await answer_later.wait()

    run = Run(
        [asking(call("write", path="a")), "done"],
        tools=[write],
        approve=approve_later if later else approve,
    )

    async def main() -> str:
        async with run.agent.astart() as driver:
            running = asyncio.create_task(driver.run("go"))
            while not run.of(ApprovalRequired):
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)  # the loop is free
            assert run.of(ApprovalResolved) == []
            answer.set()
            answer_later.set()
            return (await running).text

    assert asyncio.run(main()) == "done"
    assert run.faults == []


@pytest.mark.parametrize("later", [False, True])
def test_results_of_siblings_are_told_while_a_person_thinks(later: bool) -> None:
    answer = threading.Event()
    answer_later = asyncio.Event()

    def approve(_: ApprovalRequest) -> bool:
        return answer.wait()

    async def approve_later(_: ApprovalRequest) -> bool:
        return await answer_later.wait()

    slow = ScriptedTool(asynchronous=True)
    run = Run(
        [asking(call("write", "x", path="a"), call("work", "w")), "done"],
        tools=[write, slow.tool],
        approve=approve_later if later else approve,
    )

    async def main() -> str:
        async with run.agent.astart() as driver:
            running = asyncio.create_task(driver.run("go"))
            while not run.of(ToolExecutionStarted):
                await asyncio.sleep(0)
            slow.release("w")
            driver.emit("meanwhile")
            while not (run.of(ToolResultReceived) and run.of(CustomEvent)):
                await asyncio.sleep(0)
            assert run.of(ApprovalResolved) == []
            answer.set()
            answer_later.set()
            return (await running).text

    assert asyncio.run(main()) == "done"
    assert run.faults == []


@pytest.mark.parametrize("later", [False, True])
def test_a_cancel_ends_the_wait_for_a_person(later: bool) -> None:
    never = threading.Event()

    def approve(_: ApprovalRequest) -> bool:
        return never.wait()

    async def approve_later(_: ApprovalRequest) -> bool:
        return await asyncio.Event().wait()

    run = Run(
        [asking(call("write", "x", path="a")), "again"],
        tools=[write],
        approve=approve_later if later else approve,
    )

    async def main() -> list[str]:
        async with run.agent.astart() as driver:
            running = asyncio.create_task(driver.run("go"))
            while not run.of(ApprovalRequired):
                await asyncio.sleep(0)
            driver.cancel("enough")
            first = await running
            never.set()  # a late answer changes nothing
            return [first.finish_reason, (await driver.run("and now")).text]

    assert asyncio.run(main()) == ["cancelled", "again"]
    assert [event.approved for event in run.of(ApprovalResolved)] == [False]
    assert run.of(ToolExecutionStarted) == []
    assert run.faults == []


def test_ctrl_c_while_somebody_is_asked_is_raised_at_once_and_ends_the_run() -> None:
    reached: list[str] = []

    def approve(step: ApprovalRequest) -> bool:
        signal.raise_signal(signal.SIGINT)
        reached.append(step.approval_id)  # a prompt that would go on reading
        return True

    run = Run([asking(call("write", path="a")), "done"], tools=[write], approve=approve)
    with pytest.raises(KeyboardInterrupt):
        run.agent.run("go")
    assert reached == []
    assert run.of(ToolExecutionStarted) == []
    assert len(run.of(RunCancelled)) == 1
    assert run.faults == []


@both
def test_a_cancel_that_comes_while_somebody_is_asked_wins_over_the_answer(opened: Opened) -> None:
    hosts: list[Any] = []

    def approve(step: ApprovalRequest) -> bool:
        del step
        elsewhere = threading.Thread(target=hosts[0].driver.cancel, args=("enough",))
        elsewhere.start()
        elsewhere.join()
        return True

    run = Run([asking(call("write", path="a")), "done"], tools=[write], approve=approve)
    with opened(run, "go") as host:
        hosts.append(host)
        assert host.run().finish_reason == "cancelled"
    assert run.of(ToolExecutionStarted) == []
    assert [event.approved for event in run.of(ApprovalResolved)] == [False]
    assert run.faults == []


@both
def test_an_edit_does_not_go_round_what_the_policy_denies(opened: Opened) -> None:
    run = Run(
        [asking(call("write", path="a")), "done"],
        tools=[write],
        permissions=Permissions(deny=["write(secret*)"], default="allow"),
    )
    with opened(run, "go") as host:
        step = host.next()
        assert isinstance(step, ApprovalRequest)
        with pytest.raises(ConfigurationError, match=r"the rule 'write\(secret\*\)' denies it"):
            step.approve(edited_input={"path": "secret.txt"})
        step.approve(edited_input={"path": "b"})
        assert host.run().text == "done"
    assert [event.output for event in run.of(ToolResultReceived)] == ["wrote b"]
    assert run.faults == []
