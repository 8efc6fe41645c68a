"""Dispatch off the emitter's thread: bounded, counted, drained; async functions on a loop of its own; forks, exits."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import ChannelFullError, EventDispatcher, TopicPayload
from tests.reporting.topics import GatedHandler, Taken, payload


def test_the_emitter_waits_for_no_handler() -> None:
    gated = GatedHandler()
    dispatcher = EventDispatcher(async_dispatch=True)
    dispatcher.subscribe("a", gated)
    for number in range(100):
        dispatcher.emit("a", payload(number))  # would hang: nobody has opened the gate
    gated.entered.wait()
    assert gated.threads.isdisjoint({threading.get_ident()})
    assert dispatcher.account().pending == 100
    assert dispatcher.flush(0.0) is False
    assert dispatcher.hand_over() is False
    gated.gate.set()
    assert dispatcher.close(30.0) is True
    assert gated.got == list(range(100))
    assert len(gated.threads) == 1
    assert str(dispatcher.account()) == "complete: 100 of 100"


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", [0, 4, 5]), ("drop_newest", [0, 1, 2])], ids=["oldest", "newest"]
)
def test_what_finds_the_queue_full_is_dropped_and_counted(
    overflow: Any, kept: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    gated = GatedHandler()
    dispatcher = EventDispatcher(async_dispatch=True, max_queue=2, overflow=overflow)
    dispatcher.subscribe("a", gated)
    dispatcher.emit("a", payload(0))
    gated.entered.wait()
    for number in range(1, 6):
        dispatcher.emit("a", payload(number))
    gated.gate.set()
    assert dispatcher.close(30.0) is False
    assert gated.got == kept
    assert dispatcher.dropped == 3
    assert str(dispatcher.account()) == "incomplete: 3 of 6 (3 dropped)"
    assert len(caplog.records) == 1
    assert "the dispatcher's queue drops" in caplog.text


def test_under_error_a_full_queue_refuses() -> None:
    gated = GatedHandler()
    dispatcher = EventDispatcher(async_dispatch=True, max_queue=1, overflow="error")
    dispatcher.subscribe("a", gated)
    dispatcher.emit("a", payload(0))
    gated.entered.wait()
    dispatcher.emit("a", payload(1))
    with pytest.raises(ChannelFullError):
        dispatcher.emit("a", payload(2))
    gated.gate.set()
    assert dispatcher.close(30.0) is False
    assert gated.got == [0, 1]
    assert dispatcher.account().dropped == 1


def test_under_block_nothing_is_lost_from_many_threads() -> None:
    dispatcher, taken = EventDispatcher(async_dispatch=True, max_queue=3, overflow="block"), Taken()
    dispatcher.subscribe("a", taken)

    def emits(first: int) -> None:
        for step in range(100):
            dispatcher.emit("a", payload(first + step))

    threads = [threading.Thread(target=emits, args=(first,)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dispatcher.close(30.0) is True
    assert sorted(taken) == list(range(800))
    for first in range(0, 800, 100):
        assert [number for number in taken if first <= number < first + 100] == list(
            range(first, first + 100)
        )


def test_block_is_refused_on_an_event_loop_which_would_stand_still() -> None:
    dispatcher = EventDispatcher(async_dispatch=True, overflow="block")
    dispatcher.subscribe("a", Taken())

    async def emits() -> None:
        with pytest.raises(ConfigurationError, match="overflow='block' refused"):
            dispatcher.emit("a", payload())

    asyncio.run(emits())
    assert dispatcher.close(30.0) is False


# --- async handlers


@pytest.mark.parametrize("background", [False, True], ids=["in front", "behind"])
def test_async_functions_run_on_the_dispatchers_own_loop_in_order(*, background: bool) -> None:
    order: list[Any] = []
    loops: set[int] = set()

    async def slow(given: TopicPayload) -> None:
        await asyncio.sleep(0)
        loops.add(id(asyncio.get_running_loop()))
        order.append(("slow", given["number"], threading.get_ident() != emitting))

    class Called:
        async def __call__(self, given: TopicPayload) -> None:
            order.append(("called", given["number"], threading.get_ident() != emitting))

    emitting = threading.get_ident()
    with EventDispatcher(async_dispatch=background) as dispatcher:
        dispatcher.subscribe("a", slow)
        dispatcher.subscribe("a", Called())
        dispatcher.emit("a", payload(1))
        dispatcher.emit("a", payload(2))
        assert dispatcher.flush(30.0)
    assert order == [("slow", 1, True), ("called", 1, True), ("slow", 2, True), ("called", 2, True)]
    assert len(loops) == 1


def test_an_async_function_that_fails_or_is_cancelled_is_isolated() -> None:
    failures: list[Any] = []

    async def fails(given: TopicPayload) -> None:
        raise asyncio.CancelledError if given["number"] else ValueError

    with EventDispatcher(on_error=failures.append) as dispatcher:
        taken = Taken()
        dispatcher.subscribe("a", fails)
        dispatcher.subscribe("a", taken)
        dispatcher.emit("a", payload(0))
        dispatcher.emit("a", payload(1))
    assert [type(each.error) for each in failures] == [ValueError, asyncio.CancelledError]
    assert taken == [0, 1]
    assert dispatcher.account().failed == 2


def test_a_task_that_a_handler_leaves_behind_ends_with_the_dispatcher() -> None:
    ended: list[str] = []

    async def lasts() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async def leaves(_: TopicPayload) -> None:
        tasks.append(asyncio.ensure_future(lasts()))
        await asyncio.sleep(0)

    tasks: list[Any] = []
    with EventDispatcher() as dispatcher:
        dispatcher.subscribe("a", leaves)
        dispatcher.emit("a", payload())
    assert ended == ["ended"]


def test_a_plain_function_that_returns_an_awaitable_is_awaited_behind_and_refused_in_front() -> None:
    failures: list[Any] = []
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)

    for background in (True, False):
        with EventDispatcher(async_dispatch=background, on_error=failures.append) as dispatcher:
            dispatcher.subscribe("a", lambda given: work(given["number"]))
            dispatcher.emit("a", payload(int(background)))
    assert done == [1]
    assert ["async def" in str(each.error) for each in failures] == [True]


def test_an_asynchronous_program_closes_without_holding_up_its_loop() -> None:
    async def main() -> list[int]:
        taken = Taken()
        async with EventDispatcher(async_dispatch=True) as dispatcher:
            dispatcher.subscribe("a", taken)
            for number in range(100):
                dispatcher.emit("a", payload(number))
            assert await dispatcher.aflush(30.0)
        assert dispatcher.account().is_complete
        return taken

    assert asyncio.run(main()) == list(range(100))


# --- the end


def test_close_keeps_to_its_bound_while_a_handler_hangs() -> None:
    gated = GatedHandler()
    dispatcher = EventDispatcher(async_dispatch=True)
    dispatcher.subscribe("a", gated)
    dispatcher.emit("a", payload())
    gated.entered.wait()
    assert dispatcher.close(0.01) is False
    gated.gate.set()
    assert dispatcher.close(30.0) is True
    assert gated.got == [0]


def test_a_handler_may_close_its_dispatcher() -> None:
    dispatcher = EventDispatcher(async_dispatch=True)
    answers: list[bool] = []
    dispatcher.subscribe("a", lambda _: answers.append(dispatcher.close()))
    dispatcher.emit("a", payload())
    assert dispatcher.close(30.0) is True
    assert answers == [False]


def test_a_dispatcher_that_nobody_has_any_more_ends_its_thread() -> None:
    threads: list[threading.Thread] = []
    dispatcher = EventDispatcher(async_dispatch=True)
    dispatcher.subscribe("a", lambda _: threads.append(threading.current_thread()))
    dispatcher.emit("a", payload())
    assert dispatcher.flush(30.0)
    gone = weakref.ref(dispatcher)
    del dispatcher
    gc.collect()
    assert gone() is None
    threads[0].join(30.0)
    assert not threads[0].is_alive()


HEAD = """
import os, sys
from agentkit_reporting import EventDispatcher
from tests.reporting.topics import GatedHandler, Taken, payload
"""


def said_by(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HEAD + program], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_what_is_held_at_exit_is_delivered() -> None:
    program = """
dispatcher = EventDispatcher(async_dispatch=True)
async def say(given): os.write(1, b"%d " % given["number"])
dispatcher.subscribe("a", say)
for number in range(50): dispatcher.emit("a", payload(number))
"""
    assert said_by(program).split() == [str(number) for number in range(50)]


def test_a_forked_child_delivers_its_own_and_not_its_parents() -> None:
    program = """
gated = GatedHandler()
dispatcher = EventDispatcher(async_dispatch=True)
dispatcher.subscribe("a", gated)
async def waits(given): pass
dispatcher.subscribe("a", waits)
for number in range(10): dispatcher.emit("a", payload(number))
gated.entered.wait()
child = os.fork()
gated.gate.set()
if child == 0:
    for number in range(10, 20): dispatcher.emit("a", payload(number))
    well = dispatcher.close(30.0) and gated.got == list(range(10, 20)) and dispatcher.account().received == 10
    os._exit(0 if well else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert dispatcher.close(30.0), dispatcher.account()
assert gated.got == list(range(10)), gated.got
"""
    assert said_by(program) == ""
