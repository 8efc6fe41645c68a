"""What is required under a condition is told exactly where the events meet it, and content where it is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit_loop import Agent, Reply, ScriptedCall, ScriptedFailure, ScriptedModel
from agentkit_loop.events import AgentEvent, ModelRequestFailed, ModelRequestFinished, UsageUpdated
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.tracing.content import SpanContent
from agentkit_reporting.tracing.conventions import profile_of
from agentkit_reporting.tracing.fold import SpanFold
from agentkit_reporting.tracing.spans import Span
from tests.reporting.content_runs import requested, started, told
from tests.reporting.folded_spans import folded, taken_by

PARAMETERS = {
    "max_tokens": 99,
    "temperature": 1,
    "seed": 7,
    "n": 2,
    "top_k": 5,
    "output_config": {"effort": "low", "format": {"type": "json_schema"}},
}
ON_BOTH = {
    "gen_ai.request.max_tokens": 99,
    "gen_ai.request.temperature": 1.0,
    "gen_ai.request.seed": 7,
    "gen_ai.request.choice.count": 2,
    "gen_ai.output.type": "json",
    "gen_ai.provider.name": "anthropic",
}
ON_REQUESTS = {"gen_ai.request.top_k": 5, "gen_ai.request.reasoning.level": "low"}
CUT = ErrorInfo(type="Cut", message="cut")
METADATA = {"agent_id": "a-1", "agent_version": "2.0", "agent_description": "mends things"}


def look(place: str) -> str:
    """Look."""
    if place == "nowhere":
        raise ValueError("no such place, nowhere")
    return f"rain in {place}"


def looking(place: str) -> Reply:
    return Reply(calls=(ScriptedCall(name="look", input={"place": place}),))


@pytest.fixture(scope="module")
def events() -> list[AgentEvent]:
    told: list[AgentEvent] = []
    replies: list[Any] = [
        looking("Paris"),
        ScriptedFailure(error_class="overloaded"),
        looking("nowhere"),
        "Rain.",
    ]
    agent = Agent(
        ScriptedModel(replies, name="claude-sonnet-5"),
        tools=[look],
        system="Be brief.",
        name="fixer",
        parameters=PARAMETERS,
        observers=[told.append],
    )
    with agent.start(metadata=METADATA) as driver:
        driver.run("weather?")
    return told


def spans_of(events: list[AgentEvent], profile: str = "genai", *, says_content: bool = False) -> list[Span]:
    content = SpanContent(Redactor()) if says_content else None
    fold = SpanFold(profile=profile_of(profile), content=content)
    spans = taken_by(fold, events)
    assert fold.open_count == 0
    assert content is None or content.open_count == 0
    return spans


def of(spans: list[Span], operation: str) -> list[dict[str, Any]]:
    return [dict(span.attributes) for span in spans if span.operation == operation]


def test_parameters_stand_on_the_run_and_on_its_requests(events: list[AgentEvent]) -> None:
    spans = spans_of(events)
    for attributes in of(spans, "invoke_agent"):
        assert attributes.items() >= ON_BOTH.items()
        assert not ON_REQUESTS.keys() & attributes.keys()
    for attributes in of(spans, "chat"):
        assert attributes.items() >= {**ON_BOTH, **ON_REQUESTS}.items()


def test_the_hosts_words_about_the_agent_stand_on_its_run(events: list[AgentEvent]) -> None:
    (run,) = of(spans_of(events), "invoke_agent")
    words = ("mends things", "a-1", "2.0")
    names = ("gen_ai.agent.description", "gen_ai.agent.id", "gen_ai.agent.version")
    assert tuple(run[name] for name in names) == words


def test_a_request_that_streamed_says_so_and_when_the_first_piece_came(events: list[AgentEvent]) -> None:
    streamed = [
        event.first_content_ms is not None for event in events if isinstance(event, ModelRequestFinished)
    ]
    told = [
        each.get("gen_ai.request.stream") for each in of(spans_of(events), "chat") if "error.type" not in each
    ]
    assert told == [True if each else None for each in streamed]
    assert any(streamed)


def test_without_content_no_span_has_a_word_that_was_said(events: list[AgentEvent]) -> None:
    text = json.dumps([(span.attributes, span.error) for span in spans_of(events, "all")])
    for word in ("weather?", "Paris", "nowhere", "Rain.", "Be brief."):
        assert word not in text


@pytest.mark.parametrize("profile", ["genai", "all"])
def test_with_content_each_span_says_what_was_said_in_it(events: list[AgentEvent], profile: str) -> None:
    spans = spans_of(events, profile, says_content=True)
    (run,) = of(spans, "invoke_agent")
    assert json.loads(run["gen_ai.input.messages"])[0]["parts"][0]["content"] == "weather?"
    assert json.loads(run["gen_ai.output.messages"])[0]["parts"][0]["content"] == "Rain."
    for chat in of(spans, "chat"):
        assert {
            "gen_ai.input.messages",
            "gen_ai.system_instructions",
            "gen_ai.tool.definitions",
        } <= chat.keys()
        assert ("gen_ai.output.messages" in chat) == ("error.type" not in chat)
    paris, nowhere = of(spans, "execute_tool")
    assert json.loads(paris["gen_ai.tool.call.arguments"]) == {"place": "Paris"}
    assert paris["gen_ai.tool.call.result"] == "rain in Paris"
    assert "gen_ai.tool.call.result" not in nowhere
    failed = next(span for span in spans if span.attributes == nowhere)
    assert "no such place" in str(failed.error)


def test_with_content_no_span_has_more_attributes_than_the_sdk_keeps(events: list[AgentEvent]) -> None:
    assert all(len(span.attributes) <= 128 for span in spans_of(events, "all", says_content=True))


def test_version_1_36_has_no_attributes_for_content(events: list[AgentEvent]) -> None:
    told = [span.attributes for span in spans_of(events, "genai-1.36", says_content=True)]
    assert not any("gen_ai.input.messages" in each or "gen_ai.tool.call.result" in each for each in told)


@pytest.mark.parametrize(
    ("heard", "parameters", "is_told"),
    [
        ([UsageUpdated(request_id="q1", model="m", usage=Usage(input_tokens=3))], {}, True),
        ([UsageUpdated(request_id="q1", model="m", usage=Usage(input_tokens=3), final=True)], {}, None),
        ([], {}, None),
        ([], {"stream": True}, True),
        ([], {"stream": "yes"}, None),
        ([ModelRequestFailed(request_id="q1", error=CUT, error_class="stream_cut")], {}, True),
    ],
    ids=["usage-so-far", "last-usage", "nothing", "asked", "strange", "cut"],
)
@pytest.mark.parametrize("ending", ["failed", "missing"])
def test_a_request_without_an_answer_says_that_it_streamed_where_that_is_known(
    heard: list[AgentEvent], parameters: dict[str, Any], is_told: bool | None, ending: str
) -> None:
    failed = ModelRequestFailed(request_id="q1", error=CUT, error_class="overloaded")
    last: list[AgentEvent] = [failed] if ending == "failed" else []
    spans = folded(told([started(parameters=parameters), requested("q1"), *heard, *last]))
    (chat,) = of(spans, "chat")
    assert chat.get("gen_ai.request.stream") is is_told
    (run,) = of(spans, "invoke_agent")
    assert "gen_ai.request.stream" not in run
