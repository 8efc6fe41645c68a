"""Ctrl-C around `run()`: held back while events are told, raised where it waits, never lost."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType

import pytest

from agentkit_loop.driver import LoopDriver
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import AgentEvent, InputAccepted
from tests.loop.test_turns import Run
from tests.rules import faults

PATIENCE_S = 30.0


def test_ctrl_c_of_a_run_that_has_nothing_to_do_is_not_lost() -> None:
    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "_step":  # after the last look at what is held back
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    run = Run([])
    with pytest.raises(KeyboardInterrupt), run.agent.start() as driver:
        sys.setprofile(interrupt)
        try:
            driver.run()
        finally:
            sys.setprofile(None)
    assert faults(run.recorder.events) == []


def waits_in(thread: threading.Thread, function: str) -> bool:
    """Whether a thread is somewhere below a function."""
    assert thread.ident is not None
    frame = sys._current_frames()[thread.ident]
    return any(each.name == function for each in traceback.extract_stack(frame))


def submitted_elsewhere(run: Run, then: Callable[[], None]) -> tuple[LoopDriver, threading.Thread]:
    """Have another thread submit to a session of its own; `then` is done there while its InputAccepted is told."""
    main, begun = threading.current_thread(), threading.Event()
    made: list[LoopDriver] = []

    def slow(event: AgentEvent) -> None:
        if isinstance(event, InputAccepted):
            begun.set()
            while not waits_in(main, "driving"):
                pass
            then()

    def work() -> None:
        made.append(run.agent.start())
        made[0].add_observer(slow)
        made[0].submit("go")

    elsewhere = threading.Thread(target=work)
    elsewhere.start()
    assert begun.wait(PATIENCE_S)
    return made[0], elsewhere


def test_a_run_after_a_submit_of_another_thread_holds_ctrl_c_back() -> None:
    run, held = Run(["done"]), []

    def look(event: AgentEvent) -> None:
        if threading.current_thread() is threading.main_thread():
            held.append((event.type, signal.getsignal(signal.SIGINT) is not signal.default_int_handler))

    driver, elsewhere = submitted_elsewhere(run, lambda: None)
    driver.add_observer(look)
    assert driver.run().text == "done"
    elsewhere.join(PATIENCE_S)
    assert held
    assert all(is_held for _, is_held in held)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    driver.close()


def test_ctrl_c_is_raised_at_once_where_a_run_waits_for_another_thread_to_submit() -> None:
    interrupted = threading.Event()
    in_time: list[bool] = []

    def interrupt() -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        in_time.append(interrupted.wait(PATIENCE_S / 3))

    driver, elsewhere = submitted_elsewhere(Run(["done"]), interrupt)
    with pytest.raises(KeyboardInterrupt):
        driver.run()
    interrupted.set()
    elsewhere.join(PATIENCE_S)
    assert in_time == [True]
    driver.close()


def test_a_run_with_nothing_to_do_is_refused() -> None:
    with Run([]).agent.start() as driver, pytest.raises(IllegalMoveError, match="no input is unanswered"):
        driver.run()
