"""Content is bounded: each attribute, what is kept of a session, what a request costs; and it says what is missing."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentkit_loop import events as ev
from agentkit_loop.content import Item, ToolCallPart, ToolSpec
from agentkit_loop.events import AgentEvent
from agentkit_reporting.tracing.content import FEWEST_BYTES, SpanContent
from agentkit_reporting.tracing.conventions import profile_of
from agentkit_reporting.tracing.fitting import fitted_part, fitted_parts, fitted_text, fitted_value
from agentkit_reporting.tracing.fold import SpanFold
from tests.reporting.content_runs import accepted, answered, ended, requested, said, started, told
from tests.reporting.folded_spans import taken_by
from tests.strategies import json_values

BOUND = 2_000
AWKWARD = '\x00"\\\u2028😀é\n' * 2_000


def exchanges(count: int, text: str) -> Iterator[AgentEvent]:
    """A long session: question and answer, again and again."""
    for turn in range(count):
        name = f"q{turn}"
        yield accepted(f"{turn}: {text}")
        yield requested(name, count=2 * turn + 1)
        yield from answered(f"answer {turn} {text}", request_id=name)


@pytest.mark.parametrize("text", ["short", "x" * 700, AWKWARD], ids=["short", "long", "awkward"])
def test_the_newest_messages_are_told_as_many_as_fit(text: str) -> None:
    events = told([started(), *exchanges(40, text)])
    asked = [each for each in said(events, SpanContent(None, most_bytes=BOUND)) if "input.messages" in each]
    assert len(asked) == 40
    for turn, each in enumerate(asked):
        messages = each["input.messages"]
        assert messages[-1]["parts"][0]["content"].startswith(f"{turn}: ")
        assert each.get("content.left_out", 0) == 2 * turn + 1 - len(messages)
        assert (each.get("content.truncated") is True) == (len(messages) <= 2 * turn or text == AWKWARD)
    assert asked[-1]["content.left_out"] > 0


@pytest.mark.parametrize("most", [FEWEST_BYTES, 300, 1_000, 50_000])
def test_no_attribute_has_more_bytes_than_it_may(most: int) -> None:
    call = ToolCallPart(id="c1", name="look", input={f"key {n}": AWKWARD for n in range(3)})
    spec = ToolSpec(name="look", description=AWKWARD, input_schema={})
    events = told(
        [
            started(system=AWKWARD, tools=(spec,) * 30, items=(Item.user(*[AWKWARD] * 20),)),
            accepted(AWKWARD),
            requested(count=2),
            *answered(AWKWARD, call, *[AWKWARD] * 5, finish_reason="x" * 5_000),
            ev.ToolCallRequested(request_id="q1", call=call),
            ev.ToolExecutionStarted(call_id="c1", name="look"),
            ev.ToolResultReceived(call_id="c1", name="look", output=AWKWARD),
            requested("q2", count=4),
            ended(),
        ]
    )
    content = SpanContent(None, most_bytes=most)
    keys = set()
    for event in events:
        content.take(event)
        for key, value in content.told_by(event).items():
            if isinstance(value, str):
                keys.add(key)
                assert len(value.encode()) <= most
                if key != "tool.result":
                    json.loads(value)
    assert {"system", "tool.arguments", "tool.result", "agent.output", "input.messages"} <= keys


def test_of_many_tools_all_names_are_told_and_of_the_first_the_rest() -> None:
    specs = tuple(
        ToolSpec(name=f"tool-{n}", description="d" * 200, input_schema={"type": "object"}) for n in range(20)
    )
    (heard,) = said(told([started(tools=specs)]), SpanContent(None, most_bytes=BOUND))
    tools = heard["tool.definitions"]
    assert [tool["name"] for tool in tools] == [f"tool-{n}" for n in range(20)]
    assert "description" in tools[0]
    assert "description" not in tools[-1]
    assert heard["content.truncated"] is True


def test_after_a_compaction_no_message_that_was_let_go_of_comes_back() -> None:
    events = told(
        [
            started(items=tuple(Item.user(f"{n} " + "x" * 500) for n in range(20))),
            ev.CompactionStarted(reason="items", item_count=20),
            ev.CompactionFinished(strategy="s", plan=((0, 2), Item.user("sum"), (18, 20)), item_count=5),
            requested(count=5),
        ]
    )
    heard = said(events, SpanContent(None, most_bytes=BOUND))[-1]
    first = [message["parts"][0]["content"].split()[0] for message in heard["input.messages"]]
    assert first == ["sum", "18", "19"]
    assert heard["content.left_out"] == 2


def test_a_long_session_keeps_no_more_than_the_bound() -> None:
    content = SpanContent(None, most_bytes=8_000)
    told_long = told([started(), *exchanges(400, "y" * 4_000)])
    said(told_long[:100], content)
    tracemalloc.start()
    try:
        said(told_long[100:], content)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000  # of 3 MB that were said: the bound, and a word for each message


def test_what_is_kept_of_a_run_is_let_go_of_at_its_end() -> None:
    content = SpanContent(None)
    for number in range(50):
        said(told([started(), accepted("hi"), ended()], session_id=f"s{number}"), content)
    assert content.open_count == 0
    said(told([started()], session_id="left open"), content)
    content.close()
    assert content.open_count == 0


def test_of_very_many_open_sessions_the_first_are_forgotten() -> None:
    content = SpanContent(None)
    (event,) = told([started()])
    for number in range(4_200):
        content.take(told([started()], session_id=f"s{number}")[0])
    assert content.open_count == 4_096
    assert content.told_by(event) == {}


# --- one value


@settings(deadline=None, max_examples=150)
@given(json_values(20), st.integers(0, 400))
@example(AWKWARD, 100)
@example({"a": AWKWARD}, 100)
def test_any_value_is_fitted_into_any_room_as_json(value: Any, most: int) -> None:
    fitted = fitted_value(value, most)
    if fitted is None:
        assert most < 48
        return
    assert fitted.size == len(fitted.text.encode()) <= most
    again = json.loads(fitted.text)
    assert isinstance(again, str) if fitted.is_cut else again == value


@settings(deadline=None)
@given(st.text(max_size=300) | st.just(AWKWARD), st.integers(48, 400))
def test_a_text_is_cut_between_characters_and_says_how_many_are_missing(text: str, most: int) -> None:
    for fitted, told_text in (
        (fitted_text(text, most), lambda each: each),
        (fitted_value(text, most), json.loads),
    ):
        assert fitted is not None
        shown = told_text(fitted.text)
        if not fitted.is_cut:
            assert shown == text
            continue
        beginning, _, ending = shown.rpartition("… [")
        assert text.startswith(beginning)
        assert ending == f"{len(text) - len(beginning)} characters left out]"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["a", "b" * 60, "c" * 900, AWKWARD]), max_size=6), st.integers(2, 3_000))
def test_short_parts_stay_whole_and_long_ones_share_what_is_left(texts: list[str], most: int) -> None:
    parts = [{"type": "text", "content": text} for text in texts]
    fitted = fitted_parts(parts, most)
    assert len(fitted.text.encode()) <= most
    shown = json.loads(fitted.text)
    assert (shown == parts) != fitted.is_cut
    if sum(len(json.dumps(part, ensure_ascii=False).encode()) for part in parts) + 20 < most:
        assert shown == parts


def test_a_part_without_a_text_to_cut_is_left_out_where_it_does_not_fit() -> None:
    part = {"type": "server_tool_call", "server_tool_call": {"type": "x", "input": "y" * 500}}
    assert fitted_part(part, 100) is None
    assert fitted_part({"type": "uri", "uri": "y" * 500}, 100) is None


def test_what_is_nested_more_deeply_than_the_stack_is_left_out_and_its_spans_end_all_the_same() -> None:
    deep: Any = "x"
    for _ in range(3_000):
        deep = [deep]
    call = ToolCallPart(id="c1", name="look", input={"a": deep})
    spec = ToolSpec(name="look", description="Looks.", input_schema={"type": deep})
    events = told(
        [
            started(tools=(spec,)),
            requested(),
            *answered("Hello.", call),
            ev.ToolCallRequested(request_id="q1", call=call),
            ev.ToolExecutionStarted(call_id="c1", name="look"),
            ev.ToolResultReceived(call_id="c1", name="look", output=deep),
            ended(),
        ]
    )
    fold = SpanFold(profile=profile_of("all"), content=SpanContent(None))
    _, body, run = taken_by(fold, events)
    for span in (body, run):
        assert "agentkit.unfinished" not in span.attributes
        assert span.attributes["agentkit.content.truncated"] is True
    assert body.attributes["gen_ai.tool.call.arguments"] == '"[left out: nested too deeply]"'
    assert body.attributes["gen_ai.tool.call.result"] == '"[left out: nested too deeply]"'
    assert fold.open_count == 0
