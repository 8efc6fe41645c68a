"""How runs end: left, broken by the host, by an observer, by Ctrl-C, by a cancelled task."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.content import AppendText, CommitPart, TextPart
from agentkit_loop.errors import IllegalMoveError, ModelError, ObserverError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestFinished,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.observers import FailurePolicy, LoopObserver, Registration
from agentkit_loop.steps import AfterToolResult, Finished
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedFailure, ScriptedTool
from tests.loop.test_tool_rounds import add
from tests.loop.test_turns import Run
from tests.rules import faults

ADDING = Reply(calls=(ScriptedCall(name="add", input={"a": 1, "b": 2}),))


def test_leaving_with_an_open_exchange_suspends() -> None:
    run = Run([ADDING], tools=[add])
    with run.agent.start("go") as driver:
        assert isinstance(driver.next(), AfterToolResult)
    assert run.of(RunFinished)[0].outcome == "suspended"
    assert run.of(TurnFinished) == []
    assert faults(run.recorder.events) == []


def test_leaving_with_undispatched_input_suspends() -> None:
    run = Run([])
    with run.agent.start("go"):
        pass
    assert run.of(RunFinished)[0].outcome == "suspended"


def test_an_exception_of_the_host_fails_the_run_and_propagates() -> None:
    run = Run([ADDING], tools=[add])
    with pytest.raises(LookupError, match="host"), run.agent.start("go") as driver:
        driver.next()
        raise LookupError("host's own")
    assert run.of(TurnFinished)[0].finish_reason == "error"
    assert run.of(RunFailed)[0].error.type == "LookupError"
    assert faults(run.recorder.events) == []


def test_after_a_model_failure_the_driver_is_closed_and_the_error_tells_everything() -> None:
    run = Run(["one", Reply(fail=ScriptedFailure(error_class="auth", message="bad key"))])
    with run.agent.start() as driver:
        driver.run("a")
        with pytest.raises(ModelError, match=r"bad key \(auth, 1 attempt\)") as caught:
            driver.run("b")
        assert driver.is_closed
    assert [item.text for item in caught.value.items] == ["a", "one", "b"]
    assert caught.value.session_id == driver.session_id
    assert faults(run.recorder.events) == []


class FailOn(LoopObserver):
    """Raises on the first event of a class."""

    def __init__(self, cls: type[AgentEvent]) -> None:
        self.cls = cls

    def handle_event(self, event: AgentEvent) -> None:
        if isinstance(event, self.cls):
            raise ValueError("broken on purpose")  # noqa: TRY004 - any error will do


@pytest.mark.parametrize(
    "cls", [TurnStarted, ContentDelta, ModelRequestFinished, ToolExecutionStarted, ToolResultReceived]
)
def test_fail_fast_closes_what_is_open_and_raises_the_original_as_cause(cls: type[AgentEvent]) -> None:
    ran: list[int] = []

    def work() -> str:
        """Work."""
        ran.append(1)
        return "done"

    run = Run(
        [Reply(text="now", calls=(ScriptedCall(name="work"), ScriptedCall(name="work"))), "ok"], tools=[work]
    )
    run.agent.observers = (Registration(FailOn(cls), policy=FailurePolicy.FAIL_FAST), *run.agent.observers)
    with pytest.raises(ObserverError, match="FailOn failed on event") as caught:
        run.agent.run("go")
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(run.recorder.events[-1], RunFailed)
    assert run.of(TurnFinished)[0].finish_reason == "error"
    assert faults(run.recorder.events) == []
    if cls is ToolExecutionStarted:
        assert ran == []  # a body whose Started event failed does not run


def test_fail_fast_at_the_start_and_at_submit_raises_there() -> None:
    run = Run([])
    run.agent.observers = (
        Registration(FailOn(InputAccepted), policy=FailurePolicy.FAIL_FAST),
        *run.agent.observers,
    )
    driver = run.agent.start()
    with pytest.raises(ObserverError):
        driver.submit("hi")
    assert driver.is_closed
    assert faults(run.recorder.events) == []


def test_a_failing_observer_under_log_changes_nothing_of_the_run() -> None:
    run = Run(["fine"])
    run.agent.observers = (FailOn(ContentDelta), *run.agent.observers)
    assert run.agent.run("hi").text == "fine"
    told = run.of(ObserverFailed)
    assert len(told) == 1
    stats = {entry.name: entry for entry in run.of(RunFinished)[0].observers}
    assert stats["FailOn"].failed == len(run.of(ContentDelta))
    assert stats["EventRecorder"].failed == 0
    assert faults(run.recorder.events) == []


def test_statistics_name_every_observer_with_what_it_was_given() -> None:
    run = Run(["fine"])
    list(run.agent.stream("hi"))
    (entry,) = run.of(RunFinished)[0].observers
    assert entry.name == "EventRecorder"
    assert entry.handled == len(run.recorder.events) - 1  # RunFinished itself is not counted in itself


# --- from inside an observer, from other threads


def test_what_an_observer_submits_is_told_after_the_current_event() -> None:
    run = Run(["first", "second"])
    with run.agent.start() as driver:

        def ask_once(event: AgentEvent) -> None:
            if (
                isinstance(event, TurnFinished)
                and event.finish_reason == "completed"
                and len(run.of(InputAccepted)) == 1
            ):
                driver.submit("again")

        driver.add_observer(ask_once)
        driver.run("hi")
        assert driver.run().text == "second"
    assert faults(run.recorder.events) == []


def test_next_from_inside_an_observer_is_refused_and_becomes_its_failure() -> None:
    run = Run(["first"])
    with run.agent.start() as driver:

        def steer(event: AgentEvent) -> None:
            if isinstance(event, TurnStarted):
                driver.next()

        driver.add_observer(steer)
        driver.run("hi")
    assert run.of(ObserverFailed)[0].error.type == "IllegalMoveError"
    assert faults(run.recorder.events) == []


def test_what_an_observer_emits_is_told_even_while_the_run_closes() -> None:
    run = Run(["first"])
    with run.agent.start() as driver:
        driver.add_observer(
            lambda event: driver.emit("seen", event.seq) if isinstance(event, TurnFinished) else None
        )
        driver.run("hi")
    assert [event.type for event in run.recorder.events[-2:]] == ["custom_event", "run_finished"]
    assert faults(run.recorder.events) == []


def test_an_illegal_signal_of_an_observer_becomes_its_failure() -> None:
    run = Run(["first"])
    with run.agent.start() as driver:

        def steer(event: AgentEvent) -> None:
            if isinstance(event, TurnStarted):
                driver.submit(3)  # type: ignore[arg-type] # a wrong argument is the point

        driver.add_observer(steer)
        driver.run("hi")
    assert len(run.of(ObserverFailed)) == 1
    assert faults(run.recorder.events) == []


def test_input_and_facts_from_another_thread_are_told_on_the_driving_thread() -> None:
    scripted = ScriptedTool()
    run = Run([Reply(calls=(ScriptedCall(name="work"),)), "ok", "and that"], tools=[scripted.tool])
    threads: set[int] = set()
    run.agent.observers = (lambda _: threads.add(threading.get_ident()), *run.agent.observers)
    with run.agent.start("go") as driver:

        def elsewhere() -> None:
            driver.submit("from elsewhere")
            driver.emit("fact", 1)
            scripted.release("call-1")

        def act(event: AgentEvent) -> None:
            if isinstance(event, ToolExecutionStarted):
                threading.Thread(target=elsewhere).start()

        driver.add_observer(act)
        driver.run()
    assert threads == {threading.get_ident()}
    assert [event.name for event in run.of(CustomEvent)] == ["fact"]
    assert len(run.of(InputAccepted)) == 2
    assert run.of(Warning) == []
    assert faults(run.recorder.events) == []


# --- streams


def test_stream_yields_the_events_as_they_are_told() -> None:
    run = Run([Reply(text="hello you", chunk_chars=3), "never"])
    seen: list[AgentEvent] = []
    for event in run.agent.stream("hi"):
        assert len(run.recorder.events) - len(seen) <= 3  # nothing is held back until the end
        seen.append(event)
    assert seen == run.recorder.events
    assert isinstance(seen[-1], RunFinished)


def test_leaving_a_stream_early_cancels() -> None:
    run = Run([Reply(text="hello you", chunk_chars=3), "never"])
    for event in run.agent.stream("hi"):
        if isinstance(event, ContentDelta) and isinstance(event.delta, AppendText):
            break
    assert isinstance(run.recorder.events[-1], RunCancelled)
    finished = run.of(ModelRequestFinished)[0]
    assert finished.finish_reason == "cancelled"
    committed = [e.delta.part for e in run.of(ContentDelta) if isinstance(e.delta, CommitPart)]
    assert committed == [TextPart(text="hel")]
    assert faults(run.recorder.events) == []


def test_a_stream_that_fails_yields_the_closing_events_before_it_raises() -> None:
    run = Run([Reply(fail=ScriptedFailure(error_class="auth"))])
    seen: list[AgentEvent] = []
    with pytest.raises(ModelError):
        seen.extend(run.agent.stream("hi"))
    assert run.recorder.types[-1] == "run_failed"
    streamed: list[AgentEvent] = []
    with pytest.raises(ModelError):
        for event in Run([Reply(fail=ScriptedFailure(error_class="auth"))]).agent.stream("hi"):
            streamed.append(event)
    assert isinstance(streamed[-1], RunFailed)


def test_astream_yields_the_events_and_cancels_when_left() -> None:
    run = Run([Reply(text="hello you", chunk_chars=3), "never"])

    async def main() -> list[AgentEvent]:
        seen: list[AgentEvent] = []
        stream = run.agent.astream("hi")
        async for event in stream:
            seen.append(event)
            if isinstance(event, ContentDelta):
                break
        await stream.aclose()  # type: ignore[attr-defined] # an async generator has it
        return seen

    seen = asyncio.run(main())
    assert seen == run.recorder.events[: len(seen)]
    assert isinstance(run.recorder.events[-1], RunCancelled)
    whole = Run(["hello"])

    async def all_of_it() -> list[AgentEvent]:
        return [event async for event in whole.agent.astream("hi")]

    assert asyncio.run(all_of_it()) == whole.recorder.events


# --- interrupts


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_cancelled_task_closes_everything_and_propagates(asynchronous: bool) -> None:
    scripted = ScriptedTool(asynchronous=asynchronous)
    run = Run(
        [Reply(text="now", calls=(ScriptedCall(name="work"), ScriptedCall(name="work")))],
        tools=[scripted.tool],
    )

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None

        def cancel(event: AgentEvent) -> None:
            if isinstance(event, ToolExecutionStarted):
                task.cancel()

        run.agent.observers = (*run.agent.observers, cancel)
        await run.agent.arun("go")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    scripted.release_all()
    assert isinstance(run.recorder.events[-1], RunCancelled)
    assert [event.interrupted for event in run.of(ToolResultReceived)] == [True, True]
    assert faults(run.recorder.events) == []


def test_two_tasks_cannot_drive_one_session() -> None:
    scripted = ScriptedTool(asynchronous=True)
    run = Run([Reply(calls=(ScriptedCall(name="work"),)), "ok"], tools=[scripted.tool])

    async def main() -> Any:
        async with run.agent.astart("go") as driver:
            first = asyncio.create_task(driver.run())
            while not scripted.started:
                await asyncio.sleep(0)
            with pytest.raises(IllegalMoveError, match="another task drives"):
                await driver.next()
            scripted.release("call-1")
            return (await first).text

    assert asyncio.run(main()) == "ok"


CTRL_C = """
import os, signal, sys
from agentkit_loop import Agent
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_reporting.jsonl import JsonlReporter

def wait(context):
    "Wait for ever."
    import threading
    print("waiting", flush=True)
    threading.Event().wait()

where, log = sys.argv[1], sys.argv[2]
shots = int(sys.argv[3]) if len(sys.argv) > 3 else 0

def shoot(event):
    # In the middle of telling an event, before the log has it.
    if event.seq == shots:
        os.kill(os.getpid(), signal.SIGINT)

reply = Reply(text="thinking about it", chunk_chars=1, calls=(ScriptedCall(name="wait"),) if where == "tool" else ())
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
wait.__annotations__["context"] = ToolContext
agent = Agent(ScriptedModel([reply, "ok"]), tools=[tool(wait)], observers=[shoot, JsonlReporter(log)])
try:
    agent.run("go")
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(130)
"""


def _events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_ctrl_c_in_a_tool_closes_everything(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CTRL_C), "tool", str(log)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert output.readline() == "interrupted\n"
    assert process.wait() == 130
    told = _events(log)
    assert [event["type"] for event in told[-3:]] == [
        "tool_result_received",
        "turn_finished",
        "run_cancelled",
    ]
    assert told[-3]["payload"]["interrupted"] is True
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))


@pytest.mark.parametrize("seq", [1, 2, 4, 6, 9, 14, 25, 26, 27])
def test_ctrl_c_while_an_event_is_told_tears_no_event(tmp_path: Path, seq: int) -> None:
    log = tmp_path / "run.jsonl"
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CTRL_C), "stream", str(log), str(seq)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = _events(log)
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert told[-1]["type"] in {"run_cancelled", "run_finished"}
    assert process.returncode == 130 or told[-1]["type"] == "run_finished", process.stderr


LEFT = """
import sys
from agentkit_loop.agent import Agent
from agentkit_loop.testing import ScriptedModel
from agentkit_reporting import JsonlReporter

stream = Agent(ScriptedModel(["hi"]), observers=[JsonlReporter(sys.argv[1])]).stream("go")
next(iter(stream))
"""


def test_a_program_may_leave_a_stream_to_the_end_of_the_interpreter(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEFT, str(log)], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert [event["type"] for event in _events(log)] == ["run_started", "input_accepted", "run_cancelled"]


def test_steps_are_what_a_host_sees() -> None:
    run = Run([ADDING, "three"], tools=[add])
    with run.agent.start("go") as driver:
        assert [type(step) for step in driver] == [AfterToolResult, Finished]
