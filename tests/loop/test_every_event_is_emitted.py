"""Every event class is told by some real path."""

from __future__ import annotations

import contextlib
import threading

from agentkit_loop.agent import Agent
from agentkit_loop.compaction import Compaction, KeepRecent
from agentkit_loop.content import Item, TextPart
from agentkit_loop.credentials import NeedsAuth
from agentkit_loop.errors import ModelError
from agentkit_loop.events import EVENT_TYPES, AgentEvent, ToolExecutionStarted, Warning  # noqa: A004 - the event's name
from agentkit_loop.limits import Limits
from agentkit_loop.steps import ApprovalRequest, AuthRequest
from agentkit_loop.testing import (
    EventRecorder,
    Reply,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    ScriptedTool,
)
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from tests.loop.test_turns import Run


def report(context: ToolContext) -> str:
    """Report progress and a fact."""
    context.progress("half", 0.5)
    context.emit("note", 1)
    return "done"


def test_every_class_is_told_by_a_real_path() -> None:
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
    told.update(controlled())
    assert told == set(EVENT_TYPES)


def controlled() -> list[str]:
    """Return what is told of a run with a question, credentials, a cancel, limits, a compaction and other tools."""

    @tool(approval=True)
    def fetch(context: ToolContext) -> str:
        """Fetch."""
        if context.credential("hub") is None:
            raise NeedsAuth("hub")
        return "fetched"

    call = Reply(calls=(ScriptedCall(name="fetch"),), usage=Usage(input_tokens=9))
    recorder = EventRecorder()
    agent = Agent(
        ScriptedModel([call, "done", Reply(text="b", usage=Usage(input_tokens=2))]),
        tools=[fetch],
        observers=[recorder],
        limits=Limits(max_tokens=11),
        compaction=Compaction(strategy=KeepRecent(items=2), max_items=3),
    )
    with agent.start("go") as driver:
        for step in driver:
            if isinstance(step, ApprovalRequest):
                step.approve()
            elif isinstance(step, AuthRequest):
                step.resolve("secret")
        driver.set_tools([report])
        driver.submit("and more")
        driver.cancel("enough")
        driver.run()
        driver.run("again")
        driver.run("and again")
    return recorder.types


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
