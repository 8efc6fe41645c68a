"""Sub-agents are below the call that started them, whatever the order in which their logs are read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from agentkit_loop import events as ev
from agentkit_loop.agent import Agent
from agentkit_loop.content import Parent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, RunFinished, RunStarted
from agentkit_loop.testing import EventRecorder
from agentkit_loop.trace_context import SpanPlace
from agentkit_loop.usage import Usage
from tests.loop.families import agent, both, calls, run, says, sessions
from tests.reporting.folded_spans import (
    assert_counts,
    assert_tree,
    folded,
    named,
    outline,
    records,
    told,
    with_places,
)

FAMILY = [
    "invoke_agent chief",
    "  chat scripted",
    "  execute_tool ask_editor",
    "    invoke_agent editor",
    "      chat scripted",
    "      execute_tool ask_reader",
    "        invoke_agent reader",
    "          chat scripted",
    "      chat scripted",
    "  chat scripted",
]


def family(*observers: EventRecorder) -> Agent:
    reader = agent("reader", [says("read", tokens=1)])
    tool = reader.as_tool(name="ask_reader", description="Reads.")
    editor = agent(
        "editor", [calls("ask_reader", prompt="read", tokens=2), says("edited", tokens=3)], tools=[tool]
    )
    tool = editor.as_tool(name="ask_editor", description="Edits.")
    replies = [calls("ask_editor", prompt="edit", tokens=4), says("done", tokens=5)]
    return agent("chief", replies, tools=[tool], observers=[*observers])


def told_of_family(*, on_loop: bool = False) -> list[AgentEvent]:
    recorder = EventRecorder()
    run(family(recorder), on_loop=on_loop)
    return with_places(recorder.events)


def in_files(events: list[AgentEvent]) -> Iterator[list[AgentEvent]]:
    """Yield the events one session's after the other's, in each order of the sessions."""
    for order in itertools.permutations(sessions(events).values()):
        yield list(itertools.chain.from_iterable(order))


@both
def test_a_sub_agent_is_below_its_call_and_nobody_counts_its_tokens_twice(on_loop: bool) -> None:
    events = told_of_family(on_loop=on_loop)
    spans = folded(events)
    assert outline(spans) == FAMILY
    assert_tree(spans)
    assert_counts(spans, events)
    assert len({span.trace_id for span in spans}) == 1


def test_the_files_of_a_family_give_the_same_spans_in_any_order() -> None:
    events = told_of_family()
    expected = records(folded(events))
    orders = list(in_files(events))
    assert len(orders) == 6
    for order in orders:
        assert records(folded(order)) == expected


def test_the_log_of_a_sub_agent_alone_gives_its_part_of_the_trace() -> None:
    events = told_of_family()
    expected = records(folded(events))
    for of_one in sessions(events).values():
        assert records(folded(of_one)).items() <= expected.items()


def test_without_a_recorded_place_a_sub_agent_is_found_in_memory_and_else_by_its_parents_ids() -> None:
    recorder = EventRecorder()
    run(family(recorder), on_loop=False)
    bare = [
        attrs.evolve(event, metadata={}) if isinstance(event, RunStarted) else event
        for event in recorder.events
    ]
    spans = folded(bare)
    assert outline(spans) == FAMILY
    assert_tree(spans)
    editor = named(spans, "invoke_agent editor")
    alone = named(folded(sessions(bare)[editor.session_id]), "invoke_agent editor")
    assert (alone.trace_id, alone.parent_id) == (editor.trace_id, editor.parent_id)


def test_a_place_that_the_host_gave_to_a_sub_agent_counts_before_its_call() -> None:
    place = SpanPlace(trace_id=7, span_id=9)
    events = [
        attrs.evolve(event, metadata={"traceparent": place.traceparent})
        if isinstance(event, RunStarted) and event.agent_name == "editor"
        else event
        for event in told_of_family()
    ]
    expected = records(folded(events))
    editor = named(folded(events), "invoke_agent editor")
    assert (editor.trace_id, editor.parent_id) == (7, 9)
    assert all(records(folded(order)) == expected for order in in_files(events))


def test_a_sub_agent_whose_log_ends_early_ends_with_what_it_told() -> None:
    events = told_of_family()
    reader = named(folded(events), "invoke_agent reader")
    cut = [
        event
        for event in events
        if event.session_id != reader.session_id or not isinstance(event, RunFinished)
    ]
    spans = folded(cut)
    assert outline(spans) == FAMILY
    lost = named(spans, "invoke_agent reader")
    assert lost.attributes["agentkit.unfinished"] is True
    assert lost.start_ns <= lost.end_ns <= reader.end_ns
    assert lost.parent_id == reader.parent_id


@pytest.mark.parametrize("given", ["00-0-0-00", "nonsense", 3, None, ["00"]], ids=str)
def test_a_place_that_is_none_makes_the_run_the_root_of_a_trace(given: object) -> None:
    metadata: Any = {"traceparent": given}
    events = [
        attrs.evolve(event, metadata=metadata)
        if isinstance(event, RunStarted) and event.parent is None
        else event
        for event in told_of_family()
    ]
    assert named(folded(events), "invoke_agent chief").parent is None


def test_parallel_sub_agents_are_each_below_their_own_call() -> None:
    recorder = EventRecorder()
    tools = [
        agent(name, [says(name, tokens=1)]).as_tool(name=f"ask_{name}", description="Helps.")
        for name in ("a", "b")
    ]
    chief = agent(
        "chief", [calls("ask_a", "ask_b", prompt="go"), says("done")], tools=tools, observers=[recorder]
    )
    run(chief, on_loop=False)
    events = with_places(recorder.events)
    spans = folded(events)
    assert_tree(spans)
    for name in ("a", "b"):
        below = named(spans, f"invoke_agent {name}")
        assert below.parent_id == named(spans, f"execute_tool ask_{name}").span_id
    assert all(records(folded(order)) == records(spans) for order in in_files(events))


def by_hand(*, names_parent: bool) -> list[AgentEvent]:
    """Return the events of a session's second run and of a run below it that no call started."""
    recorder = EventRecorder()
    emitter = EventEmitter([recorder])
    with emitter.run(agent_name="first"):
        pass
    with emitter.run(agent_name="outer") as outer:
        parent = Parent(session_id=outer.session_id, run_id=outer.run_id, call_id="")
        with (
            EventEmitter([recorder]).run(agent_name="inner", parent=parent)
            if names_parent
            else outer.child(agent_name="inner")
        ):
            pass
    return recorder.events


@pytest.mark.parametrize("names_parent", [False, True], ids=["child", "parent"])
@pytest.mark.parametrize("has_place", [False, True], ids=["bare", "placed"])
def test_what_a_run_by_hand_starts_without_a_call_is_below_it_whatever_its_number(
    names_parent: bool, has_place: bool
) -> None:
    events = by_hand(names_parent=names_parent)
    if not has_place:
        events = [
            attrs.evolve(event, metadata={}) if isinstance(event, RunStarted) else event for event in events
        ]
    spans = folded(events)
    assert outline(spans) == ["invoke_agent first", "invoke_agent outer", "  invoke_agent inner"]
    assert_tree(spans)
    assert all(records(folded(order)) == records(spans) for order in in_files(events))


def test_a_sub_agent_that_begins_when_its_call_has_ended_is_below_it_in_any_order_of_files() -> None:
    call = ev.ToolExecutionStarted(call_id="c", name="ask")
    result = ev.ToolResultReceived(call_id="c", name="ask", output="later")
    finished = ev.RunFinished(outcome="completed", usage=Usage())
    above = told(ev.RunStarted(agent_name="above", model="m"), call, result, finished, session_id="above")
    parent = Parent(session_id="above", run_id="r", call_id="c")
    late = told(ev.RunStarted(agent_name="late", model="m", parent=parent), finished, session_id="late")
    expected = records(folded([*above, *late]))
    assert records(folded([*above[:3], *late, *above[3:]])) == expected
    assert records(folded([*late, *above])) == expected
    assert outline(folded([*late, *above])) == [
        "invoke_agent above",
        "  execute_tool ask",
        "    invoke_agent late",
    ]
