"""Who tells: a thread that drives, threads that only signal, and signal handlers in the middle of either."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from types import FrameType
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.errors import HostError, IllegalMoveError
from agentkit_loop.events import AgentEvent, CustomEvent, InputAccepted
from agentkit_loop.observers import LoopObserver
from agentkit_loop.steering import Steering
from agentkit_loop.steps import ApprovalRequest, Finished
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from tests.rules import faults

INPUTS: dict[str, dict[str, Any]] = {"report": {}, "remove": {"path": "a"}}


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


def test_who_wants_to_drive_waits_for_a_signal_that_the_owner_tells() -> None:
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
    assert not steering.begin_signal(), "the thread that drove is the owner now"
    assert steering.is_idle


def test_a_thread_that_is_not_the_owner_tells_nothing() -> None:
    steering = Steering()
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(steering.begin_signal()))
    thread.start()
    thread.join()
    assert taken == [False]
    with steering.driving("next()"):
        assert steering.begin_signal()  # the owner, while it drives
        steering.end_signal()


def test_what_another_thread_wants_is_told_on_the_thread_of_the_host() -> None:
    threads: set[int] = set()
    recorder = EventRecorder()
    agent = Agent(ScriptedModel(["done"]), observers=[recorder, lambda _: threads.add(threading.get_ident())])
    with agent.start() as driver:

        def want() -> None:
            driver.emit("elsewhere")
            driver.submit("go")

        thread = threading.Thread(target=want)
        thread.start()
        thread.join()
        assert "custom_event" not in recorder.types
        assert driver.run().text == "done"
    assert threads == {threading.get_ident()}
    assert faults(recorder.events) == []


def test_what_is_wrong_is_raised_in_the_thread_that_wants_it() -> None:
    replies: list[Reply | str | dict[str, Any]] = [
        Reply(text="", calls=(ScriptedCall(name="remove", input={"path": "a"}),)),
        "done",
    ]
    agent = Agent(ScriptedModel(replies), tools=[remove])
    refused: list[str] = []

    def answer(step: ApprovalRequest, driver: Any) -> None:
        for wrong in (lambda: step.approve(edited_input={}), lambda: driver.submit("more")):
            try:
                wrong()
            except HostError as error:
                refused.append(type(error).__name__)
        step.approve()

    with agent.start("go") as driver:
        for step in driver:
            if isinstance(step, ApprovalRequest):
                thread = threading.Thread(target=answer, args=(step, driver))
                thread.start()
                thread.join()
            elif isinstance(step, Finished):
                assert step.result.text == "done"
    assert refused == ["ConfigurationError", "IllegalMoveError"]


def test_a_consumer_that_emits_never_waits_for_the_observer_that_waits_for_it() -> None:
    room: queue.Queue[AgentEvent | None] = queue.Queue(maxsize=1)
    agent = Agent(ScriptedModel(["done"]), observers=[room.put])
    with agent.start() as driver:

        def consume() -> None:
            while (event := room.get()) is not None:
                if event.type == "input_accepted":
                    for number in range(20):
                        driver.emit("seen", number)

        thread = threading.Thread(target=consume)
        thread.start()
        assert driver.run("go").text == "done"
    room.put(None)
    thread.join()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer (setitimer)")
@pytest.mark.parametrize("on_loop", [False, True], ids=["sync", "async"])
def test_a_signal_handler_in_the_grace_period_tears_no_event_apart(on_loop: bool) -> None:
    recorder = EventRecorder()
    drivers: list[Any] = []

    def tick(_: int, __: FrameType | None) -> None:
        drivers[0].emit("tick")

    @tool
    def report(context: ToolContext) -> str:
        """Report until some ticks were told."""
        while len(recorder.of(CustomEvent)) < 100 and not context.wait_cancelled(0.0002):
            context.progress("on")
        return "x"

    names = ("report", "remove")
    reply = Reply(text="", calls=tuple(ScriptedCall(name=name, input=INPUTS[name]) for name in names))
    agent = Agent(ScriptedModel([reply]), tools=[report, remove], observers=[recorder])

    async def on_a_loop() -> None:
        async with agent.astart("go") as driver:
            drivers.append(driver)
            await driver.next()
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)

    before = signal.signal(signal.SIGALRM, tick)
    try:
        if on_loop:
            asyncio.run(on_a_loop())
        else:
            with agent.start("go") as driver:
                drivers.append(driver)
                driver.next()
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [event.seq for event in recorder.events] == list(range(1, len(recorder.events) + 1))
    assert faults(recorder.events) == []


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
