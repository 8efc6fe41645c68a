"""Golden logs of what ran at the same time: one order, whatever came first."""

from __future__ import annotations

import itertools
import random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.credentials import NeedsAuth
from agentkit_loop.events import (
    AgentEvent,
    AuthRequired,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.steps import AuthRequest
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_reporting.testing.call_order import in_call_order
from agentkit_reporting.testing.golden_logs import log_differences
from agentkit_reporting.testing.normal_form import normal_form
from tests.strategies import event_lists

NAMES = ("first", "second", "third")


def with_parallel_agents() -> list[AgentEvent]:
    """Return a run with three sub-agents behind calls of one message, which look at something each."""

    @tool
    def look(at: str) -> str:
        """Look at something."""
        return f"{at} looks fine"

    children = [
        Agent(
            ScriptedModel([Reply(calls=(ScriptedCall(name="look", input={"at": name}),)), f"I am {name}"]),
            tools=[look],
            name=name,
        ).as_tool(description="Look.")
        for name in NAMES
    ]
    calls = tuple(ScriptedCall(name=name, input={"prompt": "look"}) for name in NAMES)
    recorder = EventRecorder()
    with Agent(
        ScriptedModel([Reply(calls=calls), "It is there."]), tools=children, observers=[recorder]
    ) as agent:
        agent.run("go")
    return recorder.events


def changed(event: AgentEvent, **fields: Any) -> AgentEvent:
    return attrs.evolve(event, **fields)


def renumbered(events: list[AgentEvent]) -> list[AgentEvent]:
    counts: dict[str, itertools.count[int]] = {}
    return [
        attrs.evolve(event, seq=next(counts.setdefault(event.session_id, itertools.count(1))))
        for event in events
    ]


def of_calls(
    events: list[AgentEvent],
) -> tuple[list[AgentEvent], dict[str, list[AgentEvent]], list[AgentEvent]]:
    """Return what came before the calls ran, what each of them and its sub-agent told, and what came after."""
    root = events[0].session_id
    behind = {
        event.session_id: event.parent.call_id
        for event in events
        if isinstance(event, RunStarted) and event.parent is not None
    }
    before: list[AgentEvent] = []
    after: list[AgentEvent] = []
    calls: dict[str, list[AgentEvent]] = {}
    for event in events:
        if event.session_id != root:
            calls.setdefault(behind[event.session_id], []).append(event)
        elif isinstance(event, (ToolExecutionStarted, ToolResultReceived)):
            calls.setdefault(event.call_id, []).append(event)
        else:
            (after if calls else before).append(event)
    return before, calls, after


RECORDED = with_parallel_agents()


@given(st.randoms(use_true_random=False))
def test_parallel_calls_and_the_agents_behind_them_have_one_order_whatever_came_first(
    chance: random.Random,
) -> None:
    before, calls, after = of_calls(RECORDED)
    assert len(calls) == len(NAMES)
    turns = [call_id for call_id, told in calls.items() for _ in told]
    chance.shuffle(turns)
    left = {call_id: iter(told) for call_id, told in calls.items()}
    mixed = renumbered([*before, *(next(left[call_id]) for call_id in turns), *after])
    assert normal_form(mixed) == normal_form(RECORDED)
    assert list(log_differences(RECORDED, mixed)) == []


@given(st.randoms(use_true_random=False))
def test_sessions_that_share_an_observer_have_one_order(chance: random.Random) -> None:
    told: dict[str, list[AgentEvent]] = {event.session_id: [] for event in RECORDED}
    for event in RECORDED:
        is_child = isinstance(event, RunStarted) and event.parent is not None
        told[event.session_id].append(changed(event, parent=None) if is_child else event)
    first = [events.pop(0) for events in told.values()]
    turns = [session_id for session_id, events in told.items() for _ in events]
    one_by_one = [*first, *(event for events in told.values() for event in events)]
    chance.shuffle(turns)
    mixed = [*first, *(told[session_id].pop(0) for session_id in turns)]
    assert normal_form(mixed) == normal_form(one_by_one)


def test_another_result_of_a_parallel_call_is_told_still() -> None:
    place = next(i for i, event in enumerate(RECORDED) if isinstance(event, ToolResultReceived))
    other = [*RECORDED]
    other[place] = changed(other[place], output="something else")
    (found,) = log_differences(RECORDED, other)
    assert (found.field, found.now) == ("output", "'something else'")


@given(event_lists())
def test_no_event_is_lost_and_what_is_in_order_stays(told: list[AgentEvent]) -> None:
    once = in_call_order(told)
    assert sorted(map(id, once)) == sorted(map(id, told))
    assert in_call_order(once) == once


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["as-asked", "the-other-way"])
def test_credentials_that_parallel_calls_ask_for_are_named_in_the_order_of_the_calls(
    order: tuple[int, int],
) -> None:
    @tool
    def post(to: str) -> str:
        """Post something."""
        raise NeedsAuth(to)

    calls = tuple(ScriptedCall(name="post", input={"to": to}) for to in ("a", "b"))
    recorder = EventRecorder()
    with (
        Agent(ScriptedModel([Reply(calls=calls), "done"]), tools=[post], observers=[recorder]) as agent,
        agent.start() as driver,
    ):
        driver.submit("go")
        for step in driver:
            if isinstance(step, AuthRequest):
                break
    asked = [(place, event) for place, event in enumerate(recorder.events) if isinstance(event, AuthRequired)]
    mixed = [*recorder.events]
    for (place, event), which in zip(asked, order, strict=True):
        mixed[place] = changed(asked[which][1], auth_id=event.auth_id)
    assert normal_form(renumbered(mixed)) == normal_form(renumbered(recorder.events))
