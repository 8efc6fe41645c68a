"""Where the time of runs goes that are cancelled, or so long that they are divided on the way."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.driver import LoopDriver
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, ToolResultReceived, UsageUpdated
from agentkit_loop.observers import LoopObserver
from agentkit_loop.testing import EventRecorder, Reply, ScriptedModel, VirtualClock
from agentkit_loop.usage import Usage
from tests.reporting.test_time_use import START, ms_of, only_run


def test_a_request_that_was_cancelled_before_its_answer_began_waited_for_the_first_token() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    model = ScriptedModel([Reply(text="never", delay_s=3, usage=Usage(input_tokens=3))], clock=clock)
    with Agent(model, observers=[events], clock=clock) as agent, agent.start() as driver:
        driver.add_observer(_CancelAtUsage(driver))
        driver.run("go")
    run = only_run(events.events)
    assert (ms_of(run), run.least) == ({"first_token": 3_000}, frozenset())


class _CancelAtUsage(LoopObserver):
    wants = (UsageUpdated,)

    def __init__(self, driver: LoopDriver) -> None:
        self._driver = driver

    def handle_event(self, event: AgentEvent) -> None:
        assert isinstance(event, UsageUpdated)
        self._driver.cancel("not needed")


@pytest.mark.parametrize("stands_still", [False, True], ids=["a-tool-that-never-ends", "a-clock-that-stands"])
def test_what_is_open_for_long_is_not_divided_again_and_again(stands_still: bool) -> None:
    clock, events = VirtualClock(START), EventRecorder()
    with EventEmitter([events], clock=clock).run(agent_name="mine", model="m", prices=None) as run:
        for _ in range(8_000):
            clock.sleep(0 if stands_still else 1)
            run.record_tool_call("grep", {}, "found", duration_ms=1_000)
    told = events.events
    if not stands_still:
        told.remove(next(event for event in told if isinstance(event, ToolResultReceived)))
    divisions = _Divisions()
    sys.setprofile(divisions)
    try:
        run_time = only_run(told)
    finally:
        sys.setprofile(None)
    assert 0 < divisions.count < 10
    assert run_time.tools[0].calls == 8_000


class _Divisions:
    """Counts how often a run is divided."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        del argument
        self.count += event == "call" and frame.f_code.co_name == "_divide_older"
