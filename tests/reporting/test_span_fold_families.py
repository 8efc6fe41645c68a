"""Sub-agents are below the call that started them, whatever the order in which their logs are read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent, RunFinished, RunStarted
from agentkit_loop.testing import EventRecorder
from agentkit_loop.trace_context import SpanPlace
from tests.loop.families import agent, both, calls, run, says, sessions
from tests.reporting.folded_spans import (
    assert_counts,
    assert_tree,
    folded,
    named,
    outline,
    records,
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
    for told in orders:
        assert records(folded(told)) == expected


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
    assert all(records(folded(told)) == expected for told in in_files(events))


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
    assert all(records(folded(told)) == records(spans) for told in in_files(events))
