"""What spans tell of content: messages, instructions, tools, arguments and results, in the conventions' shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from agentkit_loop import Agent, Reply, ScriptedCall, ScriptedModel
from agentkit_loop import events as ev
from agentkit_loop.content import (
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    StructuredPart,
    ToolCallPart,
    ToolSpec,
)
from agentkit_loop.events import AgentEvent
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.tracing.content import CONTENT_EVENTS, SpanContent
from agentkit_reporting.tracing.conventions import profile_of
from agentkit_reporting.tracing.messages import shape_of
from tests.reporting.content_runs import (
    accepted,
    answered,
    ended,
    requested,
    said,
    started,
    text_message,
    told,
)
from tests.strategies import event_lists

LOOK = ToolSpec(name="look", description="Looks.", input_schema={"type": "object", "properties": {}})
CALL = ToolCallPart(id="c1", name="look", input={"place": "Paris"})
KEY = "sk-ant-api03-" + "a1B2c3D4e5F6g7H8" * 5 + "-abcdefAA"


def called(call: ToolCallPart = CALL, output: Any = "rainy", **fields: Any) -> list[AgentEvent]:
    return [
        ev.ToolCallRequested(request_id="q1", call=call),
        ev.ToolExecutionStarted(call_id=call.id, name=call.name),
        ev.ToolResultReceived(call_id=call.id, name=call.name, output=output, **fields),
    ]


def test_a_run_tells_its_instructions_and_tools_when_it_begins() -> None:
    (heard,) = said(told([started(system="Be brief.", tools=(LOOK,))]), SpanContent(None))
    assert heard == {
        "system": [{"type": "text", "content": "Be brief."}],
        "tool.definitions": [
            {"type": "function", "name": "look", "description": "Looks.", "parameters": LOOK.input_schema}
        ],
    }


def test_an_exchange_with_a_tool_is_told_span_by_span() -> None:
    events = told(
        [
            started(),
            accepted("weather?"),
            requested(),
            *answered("Let me see.", CALL, finish_reason="tool_call"),
            *called(),
            requested("q2", count=3),
            *answered("Rain.", request_id="q2"),
            ended(),
        ]
    )
    question, answer = text_message("user", "weather?"), text_message("assistant", "Rain.")
    call = {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"place": "Paris"}}
    asked = {"role": "assistant", "parts": [{"type": "text", "content": "Let me see."}, call]}
    result = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rainy"}]}
    content = SpanContent(None)
    assert said(events, content) == [
        {"input.messages": [question]},
        {"output.messages": [{**asked, "finish_reason": "tool_call"}]},
        {"tool.arguments": {"place": "Paris"}},
        {"tool.result": "rainy"},
        {"input.messages": [question, asked, result]},
        {"output.messages": [{**answer, "finish_reason": "stop"}]},
        {"agent.input": [question], "agent.output": [{**answer, "finish_reason": "stop"}]},
    ]
    assert content.open_count == 0


def test_a_real_agents_run_is_told_as_the_model_was_asked() -> None:
    events: list[AgentEvent] = []

    def look(place: str) -> str:
        """Look."""
        return f"rain in {place}"

    replies = [Reply(calls=(ScriptedCall(name="look", input={"place": "Paris"}),)), Reply(text="Rain.")]
    model = ScriptedModel(replies)
    Agent(model, tools=[look], system="Be brief.", observers=[events.append]).run("weather?")
    heard = said(events, SpanContent(Redactor()))
    asked = [each["input.messages"] for each in heard if "input.messages" in each]
    assert [len(messages) for messages in asked] == [len(request.items) for request in model.requests]
    assert [message["role"] for message in asked[-1]] == ["user", "assistant", "tool"]
    assert asked[-1][2]["parts"][0]["response"] == "rain in Paris"
    assert not any("content.left_out" in each or "content.truncated" in each for each in heard)


def test_a_request_that_is_made_again_tells_the_same_messages() -> None:
    failed = ev.ModelRequestFailed(
        request_id="q1", error=ErrorInfo(type="Overloaded", message="busy\nnow"), error_class="overloaded"
    )
    events = told([started(), accepted("hi"), requested(), failed, requested("q2", attempt=2)])
    first, status, second = said(events, SpanContent(None))
    assert first == second == {"input.messages": [text_message("user", "hi")]}
    assert status == {"status": "busy now"}


def test_a_compactions_request_tells_its_answer_and_later_requests_the_shorter_transcript() -> None:
    events = told(
        [
            started(items=(Item.user("one"), Item.assistant("two"), Item.user("three"))),
            ev.CompactionStarted(reason="items", item_count=3),
            requested("q1", purpose="compaction", count=2),
            *answered("Summed up.", request_id="q1"),
            ev.CompactionFinished(strategy="s", plan=(Item.user("Summed up."), (2, 3)), item_count=2),
            requested("q2", count=2),
        ]
    )
    summary, later = said(events, SpanContent(None))
    assert summary == {
        "output.messages": [{**text_message("assistant", "Summed up."), "finish_reason": "stop"}]
    }
    assert later == {"input.messages": [text_message("user", "Summed up."), text_message("user", "three")]}


def test_arguments_that_an_approval_changed_are_told_as_the_body_got_them() -> None:
    edited = {"place": "Rome"}
    events = told(
        [
            started(),
            ev.ToolCallRequested(request_id="q1", call=CALL),
            ev.ToolExecutionStarted(call_id="c1", name="look", edited=True, input=edited),
        ]
    )
    assert said(events, SpanContent(None)) == [{"tool.arguments": edited}]


def test_a_failed_call_tells_why_in_place_of_a_result() -> None:
    error = ErrorInfo(type="ValueError", message="no such\tplace")
    events = told([started(), *called(output="boom", is_error=True, error=error)])
    assert said(events, SpanContent(None))[1:] == [{"status": "no such place"}]


def test_tools_that_change_are_told_with_the_next_request() -> None:
    other = ToolSpec(name="other", description="", input_schema={})
    events = told(
        [started(tools=(LOOK,)), ev.ToolCatalogChanged(added=(other,), removed=("look",)), requested(count=0)]
    )
    assert [tool["name"] for tool in said(events, SpanContent(None))[-1]["tool.definitions"]] == ["other"]


def test_a_resumed_run_says_how_many_messages_it_does_not_know() -> None:
    events = told([started(resumed_run="r0"), accepted("and now?"), requested(count=8)], run_id="r1")
    (heard,) = said(events, SpanContent(None))
    assert heard["content.left_out"] == 7
    assert heard["content.truncated"] is True


def test_what_a_superseded_run_still_tells_is_not_mixed_in() -> None:
    content = SpanContent(None)
    said(told([started(), accepted("old")], run_id="r0"), content)
    said(told([started(), accepted("new")], run_id="r1"), content)
    assert said(told([accepted("late"), requested(), ended()], run_id="r0"), content) == []
    assert said(told([requested()], run_id="r1"), content) == [
        {"input.messages": [text_message("user", "new")]}
    ]


def test_sessions_that_interleave_do_not_hear_of_each_other() -> None:
    content = SpanContent(None)
    runs = [told([started(), accepted(f"I am {n}"), requested()], session_id=f"s{n}") for n in range(3)]
    heard = [said([event], content) for events in zip(*runs, strict=True) for event in events]
    assert [each[0]["input.messages"] for each in heard[-3:]] == [
        [text_message("user", f"I am {n}")] for n in range(3)
    ]


# --- shapes


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (ReasoningPart(text="Hm.", signature="x"), {"type": "reasoning", "content": "Hm."}),
        (
            ToolCallPart(id="c", name="t", input={}, cut='{"a": '),
            {"type": "tool_call", "id": "c", "name": "t", "arguments": '{"a": '},
        ),
        (
            MediaPart(media_type="image/png", data="AAAA"),
            {"type": "blob", "mime_type": "image/png", "modality": "image", "content": ""},
        ),
        (
            MediaPart(media_type="image/png", url="data:image/png;base64,AAAA"),
            {"type": "blob", "mime_type": "image/png", "modality": "image", "content": ""},
        ),
        (
            MediaPart(media_type="audio/mp3", url="https://example.com/a"),
            {
                "type": "uri",
                "mime_type": "audio/mp3",
                "modality": "audio",
                "uri": "https://example.com/a",
            },
        ),
        (
            FilePart(name="a.pdf", media_type="application/pdf", file_id="f-1"),
            {"type": "file", "mime_type": "application/pdf", "modality": "document", "file_id": "f-1"},
        ),
        (StructuredPart(value=[1]), {"type": "structured", "value": [1]}),
        (
            CustomPart(
                provider="anthropic",
                value={"type": "server_tool_use", "id": "u", "name": "web_search", "input": {"q": 1}},
            ),
            {
                "type": "server_tool_call",
                "id": "u",
                "name": "web_search",
                "server_tool_call": {"type": "web_search", "input": {"q": 1}},
            },
        ),
        (
            CustomPart(
                provider="anthropic",
                value={"type": "web_search_tool_result", "tool_use_id": "u", "content": []},
            ),
            {
                "type": "server_tool_call_response",
                "id": "u",
                "server_tool_call_response": {"type": "web_search_tool_result", "content": []},
            },
        ),
        (
            CustomPart(provider="anthropic", value={"type": "compaction", "content": "so far"}),
            {"type": "compaction", "content": "so far"},
        ),
        (
            CustomPart(provider="anthropic", value={"type": "odd", "secret": 1}),
            {"type": "anthropic_odd"},
        ),
        (CustomPart(provider="other", value=3), {"type": "other_custom"}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_each_kind_of_part_has_the_conventions_shape(part: Any, shape: dict[str, Any]) -> None:
    assert shape_of(part) == shape


def test_bytes_that_are_left_out_are_said_to_be() -> None:
    item = Item(kind="user", parts=(MediaPart(media_type="image/png", data="AAAA"),))
    events = told([started(), ev.InputAccepted(items=(item,)), requested()])
    assert said(events, SpanContent(None))[0]["content.truncated"] is True


# --- secrets


def test_no_secret_is_told_wherever_it_stands() -> None:
    call = ToolCallPart(id="c1", name="look", input={"password": "hunter2", "text": f"use {KEY}"})
    error = ErrorInfo(type="ValueError", message=f"refused {KEY}")
    events = told(
        [
            started(
                system=f"Key: {KEY}",
                tools=(ToolSpec(name="look", description=f"With {KEY}.", input_schema={"default": KEY}),),
                items=(Item.user(f"I have {KEY}"),),
            ),
            accepted(f"and {KEY}"),
            requested(count=2),
            *answered(f"so {KEY}", call, finish_reason="tool_call"),
            *called(call, output={"token": "hunter2", "text": KEY}),
            *called(ToolCallPart(id="c2", name="look", input={}), output=KEY, is_error=True, error=error),
            requested("q2", count=4),
            ev.ModelRequestFailed(request_id="q2", error=error, error_class="other"),
            ev.RunFailed(error=error, usage=Usage()),
        ]
    )
    heard = said(events, SpanContent(Redactor()))
    text = json.dumps(heard)
    assert "a1B2c3D4" not in text
    assert "hunter2" not in text
    assert text.count("redacted") >= 10
    assert {"status", "system", "tool.definitions", "tool.arguments", "tool.result", "agent.input"} <= {
        key for each in heard for key in each
    }


def test_a_schema_keeps_its_names_that_look_secret() -> None:
    schema = {"type": "object", "properties": {"password": {"type": "string"}}}
    spec = ToolSpec(name="login", description="", input_schema=schema)
    (heard,) = said(told([started(tools=(spec,))]), SpanContent(Redactor()))
    assert heard["tool.definitions"][0]["parameters"] == schema


def test_an_allowlist_of_arguments_is_obeyed() -> None:
    call = ToolCallPart(id="c1", name="look", input={"place": "Paris", "note": "private"})
    events = told([started(), ev.ToolCallRequested(request_id="q1", call=call), *called(call)[1:]])
    heard = said(events, SpanContent(Redactor(keep_arguments=["place"])))
    assert heard[0]["tool.arguments"]["place"] == "Paris"
    assert "private" not in json.dumps(heard)


class Breaking(Redactor):
    """A redactor whose rules fail."""

    def event(self, event: AgentEvent) -> AgentEvent:
        raise ZeroDivisionError(event.type)

    def value(self, value: Any) -> Any:
        raise ZeroDivisionError(str(value)[:3])


def test_what_cannot_be_redacted_is_not_told() -> None:
    events = told(
        [
            started(system="private", tools=(LOOK,), items=(Item.user("private"),)),
            accepted("private"),
            requested(count=2),
            *answered("private", CALL, finish_reason="tool_call"),
            *called(output="private"),
            ev.CompactionFinished(strategy="s", plan=(Item.user("private"),), item_count=1),
            ev.ToolCatalogChanged(added=(LOOK,)),
            ev.ToolExecutionStarted(call_id="c1", name="look", edited=True, input={"a": "private"}),
            ev.RunFailed(error=ErrorInfo(type="E", message="private"), usage=Usage()),
        ]
    )
    text = json.dumps(said(events, SpanContent(Breaking())))
    assert "private" not in text
    assert "Paris" not in text
    assert "left out: it could not be redacted" in text


# --- any events


PROFILES = (profile_of("genai"), profile_of("all"))


@settings(deadline=None, max_examples=40)
@given(event_lists(max_size=20))
def test_any_events_say_values_that_every_profile_can_name(events: list[AgentEvent]) -> None:
    content = SpanContent(Redactor(), most_bytes=600)
    for event in events:
        content.take(event)
        heard = dict(content.told_by(event))
        heard.pop("status", None)
        for profile in PROFILES:
            profile.named(heard)
        for key, value in heard.items():
            if isinstance(value, str):
                assert len(value.encode()) <= 600
                if key != "tool.result":
                    json.loads(value)


def test_the_events_that_are_asked_for_are_all_that_content_needs() -> None:
    events = told(
        [started(), accepted("hi"), requested(), *answered("Hello."), *called(), requested("q2"), ended()]
    )
    wanted = [event for event in events if isinstance(event, CONTENT_EVENTS)]
    assert said(wanted, SpanContent(None)) == said(events, SpanContent(None))
