"""Every event class is told by some real path, or stands on the list of those whose emitters are to come."""

from __future__ import annotations

import contextlib
import threading

import pytest

from agentkit_loop.content import Item, TextPart
from agentkit_loop.errors import ModelError
from agentkit_loop.events import EVENT_TYPES, AgentEvent, ToolExecutionStarted, Warning  # noqa: A004 - the event's name
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedFailure, ScriptedTool
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.usage import Usage
from tests.loop.test_turns import Run

PENDING = {
    "approval_required",
    "approval_resolved",
    "auth_required",
    "auth_resolved",
    "budget_exceeded",
    "budget_warning",
    "cancel_requested",
    "compaction_finished",
    "compaction_started",
    "tool_catalog_changed",
}
"""Told once the loop has approvals, auth, cancellation, limits, compaction and `set_tools`."""


def report(context: ToolContext) -> str:
    """Report progress and a fact."""
    context.progress("half", 0.5)
    context.emit("note", 1)
    return "done"


def test_every_class_is_told_by_a_real_path_or_named_as_pending() -> None:
    told: set[str] = set()
    working = Run(
        [
            Reply(fail=ScriptedFailure()),
            Reply(text="now", calls=(ScriptedCall(name="report"),), usage=Usage(input_tokens=1)),
            "done",
        ],
        tools=[report],
    )

    def fail(event: AgentEvent) -> None:
        if isinstance(event, ToolExecutionStarted):
            raise ValueError("broken on purpose")  # noqa: TRY004 - any error will do

    working.agent.observers = (fail, *working.agent.observers)
    working.agent.run("go")
    told.update(working.recorder.types)
    failing = Run([Reply(fail=ScriptedFailure(error_class="auth"))])
    with contextlib.suppress(ModelError):
        failing.agent.run("go")
    told.update(failing.recorder.types)
    left = Run(["one"])
    next(iter(left.agent.stream("go")))
    told.update(left.recorder.types)
    told.update(refused_from_another_thread().recorder.types)
    assert told | PENDING == set(EVENT_TYPES)
    assert told & PENDING == set()


def refused_from_another_thread() -> Run:
    scripted = ScriptedTool()
    run = Run([Reply(calls=(ScriptedCall(name="work"),)), "ok"], tools=[scripted.tool])
    with run.agent.start("go") as driver:

        def elsewhere() -> None:
            driver.submit(Item(kind="user", parts=(TextPart(text="x"),), id="item-1"))
            scripted.release("call-1")

        def act(event: AgentEvent) -> None:
            if isinstance(event, ToolExecutionStarted):
                threading.Thread(target=elsewhere).start()

        driver.add_observer(act)
        driver.run()
    return run


def test_an_illegal_signal_from_another_thread_is_a_warning() -> None:
    (warning,) = refused_from_another_thread().of(Warning)
    assert warning.code == "signal_refused"
    assert "'item-1' is taken" in warning.message


@pytest.mark.parametrize("name", sorted(PENDING))
def test_a_pending_class_exists_with_its_fields(name: str) -> None:
    assert EVENT_TYPES[name].category in {"Approval", "Auth", "Budget", "Compaction", "Lifecycle", "Tools"}
