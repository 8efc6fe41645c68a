"""Who tells: a thread that drives, threads that only signal, and signal handlers in the middle of either."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import AgentEvent, CustomEvent, InputAccepted
from agentkit_loop.observers import LoopObserver
from agentkit_loop.steering import Steering
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from tests.rules import faults


@tool(approval=True)
def remove(path: str) -> str:
    """Remove a file."""
    return f"removed {path}"


def test_one_thread_drives_and_another_is_refused() -> None:
    steering = Steering()
    refused: list[IllegalMoveError] = []

    def second() -> None:
        try:
            with steering.driving("next()"):
                pass
        except IllegalMoveError as error:
            refused.append(error)

    with steering.driving("next()"), steering.driving("close()"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert [str(error) for error in refused] == [
        "next() refused while another thread drives this session; leave it to that thread"
    ]
    second()
    assert len(refused) == 1


def test_who_wants_to_drive_waits_for_a_signal_that_is_told() -> None:
    steering = Steering()
    told, driven = threading.Event(), threading.Event()

    def drive() -> None:
        with steering.driving("next()"):
            assert told.is_set()
            driven.set()

    assert steering.begin_signal()
    thread = threading.Thread(target=drive)
    thread.start()
    told.set()
    assert not driven.is_set()
    steering.end_signal()
    thread.join()
    assert driven.is_set()


def test_a_signal_is_not_told_here_while_another_thread_holds_the_steering() -> None:
    steering = Steering()
    taken: list[bool] = []
    with steering.driving("next()"):
        thread = threading.Thread(target=lambda: taken.append(steering.begin_signal()))
        thread.start()
        thread.join()
        assert steering.begin_signal()  # the same thread
        steering.end_signal()
    assert taken == [False]


def test_signals_of_other_threads_between_two_steps_never_disturb_the_one_that_drives() -> None:
    recorder = EventRecorder()
    agent = Agent(
        ScriptedModel(
            lambda request: (
                Reply(text="", calls=(ScriptedCall(name="remove", input={"path": "a"}),))
                if request.items[-1].kind == "user"
                else "done"
            )
        ),
        tools=[remove],
        observers=[recorder],
    )
    each = 2_000

    def emit(driver: Any) -> None:
        for number in range(each):
            driver.emit("tick", number)

    with agent.start() as driver:
        threads = [threading.Thread(target=emit, args=(driver,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        submitted = 0
        while submitted < 20 or any(thread.is_alive() for thread in threads):
            driver.submit("go")
            submitted += 1
            for step in driver:
                if isinstance(step, ApprovalRequest):
                    step.approve()
        for thread in threads:
            thread.join()
    assert len(recorder.of(InputAccepted)) == submitted
    assert len(recorder.of(CustomEvent)) == 2 * each
    assert faults(recorder.events) == []


def test_an_observer_that_causes_something_each_time_does_not_keep_a_run_from_its_end() -> None:
    drivers: list[Any] = []
    recorder = EventRecorder()

    class Restless(LoopObserver):
        def handle_event(self, event: AgentEvent) -> None:
            if drivers:
                drivers[0].emit("again", event.seq)

    agent = Agent(ScriptedModel(["done"]), observers=[recorder, Restless()])
    with agent.start("go") as driver:
        drivers.append(driver)
        assert driver.run().text == "done"
    assert recorder.types[-1] == "run_finished"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer (setitimer)")
def test_a_signal_handler_that_emits_tears_no_event_apart() -> None:
    recorder = EventRecorder()
    inside: list[str] = []
    overlaps: list[str] = []

    def watch(event: AgentEvent) -> None:
        overlaps.extend(inside)
        inside.append(event.type)
        for _ in range(50):
            pass  # a handler may run between any two of these
        inside.pop()

    agent = Agent(ScriptedModel(lambda _: "done"), observers=[recorder, watch])
    with agent.start() as driver:

        def tick(_: int, __: FrameType | None) -> None:
            driver.emit("tick")

        before = signal.signal(signal.SIGALRM, tick)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        try:
            while len(recorder.of(CustomEvent)) < 500:
                driver.submit("go")
                driver.run()
                driver.emit("mine")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert overlaps == []
    assert faults(recorder.events) == []


def test_approve_may_not_drive_the_session_that_asks() -> None:
    refused: list[str] = []
    drivers: list[Any] = []

    def approve(_: ApprovalRequest) -> bool:
        for move in (drivers[0].next, drivers[0].run, drivers[0].close):
            with pytest.raises(IllegalMoveError) as caught:
                move()
            refused.append(str(caught.value))
        return True

    replies: list[Reply | str | dict[str, Any]] = [
        Reply(text="", calls=(ScriptedCall(name="remove", input={"path": "a"}),)),
        "done",
    ]
    recorder = EventRecorder()
    agent = Agent(ScriptedModel(replies), tools=[remove], approve=approve, observers=[recorder])
    with agent.start() as driver:
        drivers.append(driver)
        assert driver.run("go").text == "done"
    assert refused == [
        "next() refused while this thread drives already; answer, or return, first",
        "next() refused while this thread drives already; answer, or return, first",
        "close() refused while this thread drives already; answer, or return, first",
    ]
    assert faults(recorder.events) == []


def test_what_the_host_raises_ends_a_run_that_another_thread_drives() -> None:
    begun = threading.Event()

    @tool
    def hold(context: ToolContext) -> str:
        """Hold."""
        begun.set()
        context.wait_cancelled(30)
        return "left"

    replies: list[Reply | str | dict[str, Any]] = [
        Reply(text="", calls=(ScriptedCall(name="hold", input={}),)),
        "never",
    ]
    recorder = EventRecorder()
    agent = Agent(ScriptedModel(replies), tools=[hold], observers=[recorder])
    thread: threading.Thread | None = None
    with pytest.raises(ValueError, match="of the host"), agent.start("go") as driver:
        thread = threading.Thread(target=driver.run)
        thread.start()
        assert begun.wait(30)
        raise ValueError("of the host")
    assert driver.is_closed
    assert thread is not None
    thread.join()
    assert recorder.types[-1] == "run_failed"
    assert faults(recorder.events) == []
