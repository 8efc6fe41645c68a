"""A new session from a point of another one: its transcript, and nothing else of it."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit_loop.content import ToolResultPart
from agentkit_loop.errors import ConfigurationError, ResumeError
from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_loop.models.anthropic_wire import wire_messages
from agentkit_loop.resuming import LOST, read_history
from agentkit_loop.state import FORKED_FROM
from agentkit_loop.steps import AwaitingInput, Finished
from agentkit_loop.testing import check_messages
from tests.loop.crash_checks import on_and_on
from tests.loop.crash_runs import DONE, World, drive, recorded
from tests.rules import faults


def forked(events: list[AgentEvent], at: int | None = None, *prompts: str) -> World:
    """Fork, drive what is open, then each prompt; return what the fork told."""
    world = World()
    with world.agent(on_and_on).fork(events, at=at, session_id="fork") as driver:
        drive(driver)
        for prompt in prompts:
            driver.run(prompt)
    return world


@pytest.mark.parametrize(
    "name", ["tools", "approved", "interjected", "compacted", "cancelled at 30", "max_tokens", "retries"]
)
def test_a_fork_from_every_point_is_a_session_of_its_own(name: str) -> None:
    events = recorded(name)
    for at in range(1, len(events) + 1):
        world = forked(events, at, "more")
        assert faults(world.events) == []
        first = world.events[0]
        assert isinstance(first, RunStarted)
        assert (first.session_id, first.seq, first.resumed_run, first.parent) == ("fork", 1, None, None)
        assert world.bodies == []
        last = read_history(world.events).state.transcript.items
        body = {"model": "m", "max_tokens": 1, "messages": wire_messages(last)}
        assert check_messages(body) is None


def test_a_fork_says_where_it_comes_from() -> None:
    events = recorded("plain")
    world = World()
    with world.agent([DONE]).fork(events, at=11, metadata={"task": "x"}) as driver:
        assert driver.session_id != "session"
    first = world.events[0]
    assert isinstance(first, RunStarted)
    assert first.metadata == {
        "task": "x",
        FORKED_FROM: {"session_id": "session", "seq": 11, "unanswered": False},
    }


def test_a_fork_does_not_touch_its_source() -> None:
    events = recorded("tools")
    before = read_history(events).state
    forked(events, 40)
    assert read_history(events).state == before


def test_a_call_without_a_result_is_told_as_lost() -> None:
    events = recorded("tools")
    at = next(event.seq for event in events if event.type == "tool_execution_started" and event.seq > 32)
    world = World()
    with world.agent([DONE]).fork(events, at=at) as driver:
        results = [part for item in driver.transcript.items for part in item.parts]
        assert isinstance(list(driver)[-1], Finished)
    told = [part for part in results if isinstance(part, ToolResultPart)]
    assert [part.output for part in told] == ["worked", LOST, LOST]
    assert [part.is_error for part in told] == [False, True, True]


def test_a_fork_asks_by_itself_where_its_source_would_have() -> None:
    tools = recorded("tools")
    asked = next(event.seq for event in tools if event.type == "model_request_started")
    cancelled = recorded("cancelled at 2")
    closed = next(event.seq for event in cancelled if event.type == "turn_finished")
    for events, at, expected in (
        (tools, asked, Finished),
        (tools, len(tools), AwaitingInput),
        (cancelled, closed, AwaitingInput),
        (recorded("refused"), 42, Finished),
        (recorded("nothing"), None, AwaitingInput),
    ):
        with World().agent(on_and_on).fork(events, at=at) as driver:
            assert isinstance(driver.next(), expected)


def test_a_fork_can_be_resumed_and_forked_again() -> None:
    events = recorded("tools")
    once = forked(events, 40).events
    twice = World()
    with twice.agent(on_and_on).fork(once) as driver:
        assert driver.run("and now").text == "That is all."
    world = World(events=list(twice.events))
    with world.agent(on_and_on).resume(twice.events) as driver:
        driver.run("more")
    assert faults(world.events) == []


def test_a_point_that_the_log_does_not_hold_is_refused() -> None:
    events = recorded("plain")
    for at in (0, -1, len(events) + 1):
        with pytest.raises(ResumeError, match=rf"^at={at} refused; session session has the events 1 to 22$"):
            World().agent([]).fork(events, at=at)


@pytest.mark.parametrize("at", ["3", 3.0, True])
def test_a_point_that_is_no_number_is_refused(at: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^at=.* refused; give the seq of an event, an int$"):
        World().agent([]).fork(recorded("plain"), at=at)


def test_a_fork_names_the_session_where_there_are_several() -> None:
    events = [*recorded("plain"), *forked(recorded("tools")).events]
    with pytest.raises(ResumeError, match=r"^the log holds the sessions session, fork; say which "):
        World().agent([]).fork(events)
    with World().agent([]).fork(events, source_session_id="fork") as driver:
        assert len(driver.transcript.items) > 5
