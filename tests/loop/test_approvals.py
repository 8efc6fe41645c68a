"""BEHAVIOUR "Approval": steps, rules and policies, answers in any order, edits, suspended results."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit_loop.content import ToolCallPart, ToolResultPart
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    ApprovalRequired,
    ApprovalResolved,
    InputAccepted,
    ModelRequestStarted,
    RunFinished,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.steps import AfterToolResult, ApprovalRequest, Finished
from agentkit_loop.testing import ScriptedTool
from agentkit_loop.tools import tool
from tests.loop.hosts import Host, Opened, Run, asking, both, call

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool(approval=True)
def write(path: str, text: str = "") -> str:
    """Write a file."""
    RAN.append((path, text))
    return f"wrote {path}"


@tool
def look(path: str = ".") -> str:
    """Look at a file."""
    RAN.append(path)
    return f"saw {path}"


def asked(host: Host) -> ApprovalRequest:
    step = host.next()
    assert isinstance(step, ApprovalRequest), step
    return step


ROUND = (ApprovalRequired, ApprovalResolved, ToolExecutionStarted, ToolResultReceived)


@both
def test_a_gated_call_waits_for_its_step_and_runs_once_approved(opened: Opened) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    with opened(run, "go") as host:
        step = asked(host)
        assert (step.call.name, step.call.input) == ("write", {"path": "a"})
        assert step.summary == 'write(path="a")'
        assert (step.reason, step.session_id) == (None, "session")
        assert run.of(ToolExecutionStarted) == []
        step.approve(by="ann", reason="looks right")
        resolved = run.of(ApprovalResolved)
        assert [(e.approved, e.by, e.reason, e.edited) for e in resolved] == [
            (True, "ann", "looks right", False)
        ]
        assert host.finish().text == "done"
    assert run.told(*ROUND) == [
        "approval_required",
        "approval_resolved",
        "tool_execution_started",
        "tool_result_received",
    ]
    assert RAN == [("a", "")]
    assert run.faults == []


@both
@pytest.mark.parametrize(
    ("reason", "told"), [("not on Fridays", "not on Fridays"), (None, "The call was denied.")]
)
def test_a_denied_call_never_runs_and_the_model_is_told_why(
    opened: Opened, reason: str | None, told: str
) -> None:
    run = Run([asking(call("write", path="a")), "a pity"], tools=[write])
    with opened(run, "go") as host:
        asked(host).deny(reason, by="bob")
        assert host.finish().text == "a pity"
    (result,) = run.of(ToolResultReceived)
    assert (result.output, result.is_error, result.denied, result.not_started) == (told, True, True, True)
    assert run.of(ApprovalResolved)[0].by == "bob"
    assert run.of(ToolExecutionStarted) == []
    assert RAN == []
    assert run.faults == []


@both
def test_advancing_without_an_answer_gives_the_same_step_and_tells_nothing(opened: Opened) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    with opened(run, "go") as host:
        first = asked(host)
        told = len(run.recorder.events)
        assert asked(host) == first
        assert host.pending == (first,)
        assert len(run.recorder.events) == told
        with pytest.raises(IllegalMoveError, match="Submit refused while an answer is awaited"):
            host.submit("and this")
        assert len(run.recorder.events) == told
        first.approve()
        host.finish()
    assert len(run.of(InputAccepted)) == 1
    assert run.faults == []


@both
def test_a_second_answer_is_refused_and_tells_nothing(opened: Opened) -> None:
    run = Run([asking(call("write", "x", path="a"), call("write", "y", path="b")), "done"], tools=[write])
    with opened(run, "go") as host:
        step = asked(host)
        step.approve()
        told = len(run.recorder.events)
        for again in (step.approve, step.deny):
            with pytest.raises(IllegalMoveError, match="approval-1 is not open"):
                again()
        assert len(run.recorder.events) == told
        asked(host).deny()
        with pytest.raises(IllegalMoveError):
            step.deny()
        host.finish()
        with pytest.raises(IllegalMoveError):
            step.approve()
    with pytest.raises(IllegalMoveError, match="closed"):
        step.approve()
    assert [event.approved for event in run.of(ApprovalResolved)] == [True, False]
    assert run.faults == []


@both
def test_a_step_of_another_session_answers_nothing_here(opened: Opened) -> None:
    runs = [Run([asking(call("write", path=name)), "done"], tools=[write]) for name in "ab"]
    with opened(runs[0], "go") as one, opened(runs[1], "go") as other:
        step = asked(one)
        asked(other)
        step.approve()
        assert runs[1].of(ApprovalResolved) == []
        assert isinstance(other.next(), ApprovalRequest)


@both
def test_two_pending_calls_are_answered_in_any_order(opened: Opened) -> None:
    run = Run([asking(call("write", "x", path="a"), call("write", "y", path="b")), "done"], tools=[write])
    with opened(run, "go") as host:
        first = asked(host)
        assert [e.call_id for e in run.of(ApprovalRequired)] == ["x", "y"]  # all before the first step
        second = host.pending[1]
        second.approve()
        again = asked(host)
        assert again == first
        again.deny("no")
        assert host.finish().text == "done"
    assert [(e.approval_id, e.call_id, e.approved) for e in run.of(ApprovalResolved)] == [
        ("approval-2", "y", True),
        ("approval-1", "x", False),
    ]
    assert RAN == [("b", "")]
    parts = [part for item in run.model.requests[1].items for part in item.parts]
    assert [part.call_id for part in parts if isinstance(part, ToolResultPart)] == ["x", "y"]
    assert run.faults == []


@both
def test_ungated_siblings_run_meanwhile_and_the_model_waits_for_the_round(opened: Opened) -> None:
    run = Run(
        [asking(call("write", "x", path="a"), call("look", "y", path="b")), "done"], tools=[write, look]
    )
    with opened(run, "go") as host:
        step = asked(host)
        while not run.of(ToolResultReceived):
            assert asked(host) == step  # next() does not wait for tools; what they bring is told as it comes
        assert [part.call_id for part in host.open_round] == ["y"]
        assert len(run.of(ModelRequestStarted)) == 1
        step.approve()
        assert host.finish().text == "done"
    started = run.recorder.types.index("model_request_started", 8)
    assert run.recorder.types[:started].count("tool_result_received") == 2
    assert run.faults == []


@both
def test_a_slow_sibling_does_not_hold_up_the_step(opened: Opened) -> None:
    slow = ScriptedTool()
    run = Run([asking(call("work", "w"), call("write", "x", path="a")), "done"], tools=[slow.tool, write])
    with opened(run, "go") as host:
        step = asked(host)
        assert run.of(ToolResultReceived) == []
        step.approve()
        slow.release("w")
        assert host.finish().text == "done"
    assert run.faults == []


@both
def test_there_is_room_for_a_sibling_while_a_call_waits(opened: Opened) -> None:
    run = Run(
        [asking(call("write", "x", path="a"), call("look", "y"), call("look", "z", path="c")), "done"],
        tools=[write, look],
        max_parallel_tools=1,
    )
    with opened(run, "go") as host:
        step = asked(host)
        while len(run.of(ToolResultReceived)) < 2:
            assert asked(host) == step
        step.approve()
        host.finish()
    assert sorted(map(str, RAN)) == sorted(["('a', '')", ".", "c"])
    assert run.faults == []


# --- edits


@both
def test_an_edited_input_is_what_runs_and_the_transcript_keeps_the_original(opened: Opened) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    with opened(run, "go") as host:
        asked(host).approve(edited_input={"path": "b", "text": "t"}, by="ann")
        host.finish()
    assert RAN == [("b", "t")]
    (resolved,) = run.of(ApprovalResolved)
    assert (resolved.edited, resolved.input) == (True, {"path": "b", "text": "t"})
    (started,) = run.of(ToolExecutionStarted)
    assert (started.edited, started.input) == (True, {"path": "b", "text": "t"})
    (part,) = [p for item in run.model.requests[1].items for p in item.parts if isinstance(p, ToolCallPart)]
    assert part.input == {"path": "a"}
    assert run.faults == []


@both
@pytest.mark.parametrize(
    ("edited", "said"),
    [
        ({"path": 3}, "edited_input refused: .*path"),
        ({}, "edited_input refused: .*path"),
        ({"path": "a", "more": 1}, "edited_input refused: .*more"),
        ("a", "give a dict of arguments by name"),
        ([], "give a dict of arguments by name"),
        ({1: "a"}, "edited_input refused"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_and_the_step_stays_open(
    opened: Opened, edited: Any, said: str
) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    with opened(run, "go") as host:
        step = asked(host)
        with pytest.raises(ConfigurationError, match=said):
            step.approve(edited_input=edited)
        assert asked(host) == step
        assert run.of(ApprovalResolved) == []
        step.approve()
        host.finish()
    assert RAN == [("a", "")]
    assert run.faults == []


@both
def test_what_a_person_says_is_cleaned(opened: Opened) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    with opened(run, "go") as host:
        asked(host).approve(by="a\udc80", reason="\ud800", edited_input={"path": "\ud800x"})
        host.finish()
    assert run.faults == []
    assert "\ud800" not in repr(run.recorder.events)


# --- suspended results


@both
def test_run_without_an_answer_is_suspended_and_goes_on_after_one(opened: Opened) -> None:
    run = Run([asking(call("write", path="a"), text="let me"), "done"], tools=[write])
    with opened(run) as host:
        result = host.run("go")
        assert (result.status, result.finish_reason, result.text) == ("suspended", "", "let me")
        (step,) = result.pending
        assert isinstance(step, ApprovalRequest)
        assert host.run().pending == (step,)
        step.approve()
        whole = host.run()
        assert (whole.status, whole.text, whole.pending) == ("completed", "done", ())
    assert run.of(RunFinished)[0].outcome == "completed"
    assert run.faults == []


@both
def test_leaving_with_an_approval_pending_keeps_it_open(opened: Opened) -> None:
    run = Run([asking(call("write", "x", path="a"), call("look", "y")), "done"], tools=[write, look])
    with opened(run, "go") as host:
        asked(host)
    (finished,) = run.of(RunFinished)
    assert (finished.outcome, finished.open_approvals) == ("suspended", ("approval-1",))
    assert run.of(TurnFinished) == []
    assert [event.call_id for event in run.of(ToolResultReceived)] == ["y"]
    assert run.faults == []


@both
def test_leaving_after_an_approval_whose_call_did_not_start_leaves_it_to_a_resume(opened: Opened) -> None:
    run = Run([asking(call("write", "x", path="a"), call("write", "y", path="b")), "done"], tools=[write])
    with opened(run, "go") as host:
        asked(host).approve()
    assert run.of(RunFinished)[0].outcome == "suspended"
    assert run.of(ToolResultReceived) == []
    assert RAN == []
    assert run.faults == []


@both
def test_an_exception_of_the_host_denies_what_is_pending(opened: Opened) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    with pytest.raises(LookupError), opened(run, "go") as host:
        asked(host)
        raise LookupError
    assert [event.approved for event in run.of(ApprovalResolved)] == [False]
    assert run.recorder.types[-2:] == ["turn_finished", "run_failed"]
    assert RAN == []
    assert run.faults == []


@both
def test_an_observer_may_answer_a_step_that_it_was_given(opened: Opened) -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    with opened(run, "go") as host:
        step = asked(host)
        host.add_observer(lambda event: step.approve() if event.type == "custom_event" else None)
        host.emit("ann says yes")
        assert host.finish().text == "done"
    assert RAN == [("a", "")]
    assert run.faults == []


def test_steps_end_with_the_exchange() -> None:
    run = Run([asking(call("write", path="a")), "done"], tools=[write])
    kinds = []
    with run.agent.start("go") as driver:
        for step in driver:
            kinds.append(type(step))
            if isinstance(step, ApprovalRequest):
                step.approve()
    assert kinds == [ApprovalRequest, AfterToolResult, Finished]
