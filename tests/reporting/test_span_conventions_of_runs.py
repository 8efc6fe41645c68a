"""Every span of every kind of run has what the conventions require of it; from a list written down from them alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from agentkit_loop import Agent, Limits, Reply, ScriptedCall, ScriptedFailure, ScriptedModel
from agentkit_loop.errors import AgentKitError
from agentkit_loop.events import AgentEvent
from agentkit_reporting.tracing.conventions import profile_of
from agentkit_reporting.tracing.spans import Span
from tests.reporting.folded_spans import folded

REQUIRED = {
    "invoke_agent": {"gen_ai.operation.name", "gen_ai.provider.name"},
    "chat": {"gen_ai.operation.name", "gen_ai.provider.name"},
    "execute_tool": {"gen_ai.operation.name", "gen_ai.tool.name"},
}
AVAILABLE = {
    "invoke_agent": {"gen_ai.agent.name", "gen_ai.conversation.id", "gen_ai.request.model"},
    "chat": {"gen_ai.conversation.id", "gen_ai.request.model"},
    "execute_tool": set(),
}
"""Conditionally required, under conditions that hold of each of our runs."""

OLD_NAMES = {"gen_ai.provider.name": "gen_ai.system"}

LOOKING = Reply(calls=(ScriptedCall(name="look", input={"place": "Paris"}),))
FAILING = Reply(calls=(ScriptedCall(name="fail", input={}),))
UNKNOWN = Reply(calls=(ScriptedCall(name="nothing", input={}),))


def look(place: str) -> str:
    """Look."""
    return f"rain in {place}"


def fail() -> str:
    """Fail."""
    raise ValueError("no such place")


def run(*replies: Any, **options: Any) -> list[AgentEvent]:
    events: list[AgentEvent] = []
    agent = Agent(
        ScriptedModel(replies), tools=[look, fail], name="fixer", observers=[events.append], **options
    )
    try:
        agent.run("weather?")
    except AgentKitError:
        assert events[-1].type == "run_failed"
    return events


def suspended() -> list[AgentEvent]:
    events: list[AgentEvent] = []
    agent = Agent(ScriptedModel([LOOKING, "late"]), tools=[look], name="fixer", observers=[events.append])
    with agent.start() as driver:
        driver.submit("weather?")
    return events


def with_sub_agent() -> list[AgentEvent]:
    events: list[AgentEvent] = []
    child = Agent(ScriptedModel([LOOKING, "Rain."]), tools=[look], name="finder")
    asking = Reply(calls=(ScriptedCall(name="finder", input={"input": "weather?"}),))
    Agent(
        ScriptedModel([asking, "Done."]),
        tools=[child.as_tool(description="Finds.")],
        name="fixer",
        observers=[events.append],
    ).run("weather?")
    return events


RUNS: dict[str, Callable[[], list[AgentEvent]]] = {
    "answer": lambda: run("Rain."),
    "tool": lambda: run(LOOKING, "Rain."),
    "tool that fails": lambda: run(FAILING, "Oh."),
    "tool that is unknown": lambda: run(UNKNOWN, "Oh."),
    "tools side by side": lambda: run(
        Reply(calls=(ScriptedCall(name="look", input={"place": "a"}), ScriptedCall(name="fail", input={}))),
        "Rain.",
    ),
    "model that fails": lambda: run(ScriptedFailure(error_class="invalid_request")),
    "out of replies": lambda: run(LOOKING),
    "limit": lambda: run(LOOKING, "Rain.", limits=Limits(max_turns=1)),
    "suspended": suspended,
    "sub-agent": with_sub_agent,
}


told_by = functools.cache(lambda kind: RUNS[kind]())


def spans_of(kind: str, profile: str) -> list[Span]:
    return folded(told_by(kind), profile=profile_of(profile))


@pytest.mark.parametrize("profile", ["genai", "genai-1.36", "all"])
@pytest.mark.parametrize("kind", RUNS)
def test_each_span_has_every_attribute_that_is_required_of_it(kind: str, profile: str) -> None:
    spans = spans_of(kind, profile)
    assert {"invoke_agent", "chat"} <= {span.operation for span in spans} or kind == "suspended"
    for span in spans:
        wanted = REQUIRED[span.operation] | AVAILABLE[span.operation]
        if profile == "genai-1.36":
            wanted = {OLD_NAMES.get(name, name) for name in wanted}
        assert wanted <= span.attributes.keys()
        assert span.attributes["gen_ai.operation.name"] == span.operation
        assert ("error.type" in span.attributes) == (span.error is not None)


@pytest.mark.parametrize("kind", RUNS)
def test_usage_and_cost_stand_on_the_spans_of_requests_alone(kind: str) -> None:
    for span in spans_of(kind, "all"):
        if span.operation != "chat":
            assert not any(".usage." in name or "token_count" in name for name in span.attributes)


@pytest.mark.parametrize("kind", RUNS)
def test_under_openinference_each_span_says_its_kind_and_session(kind: str) -> None:
    kinds = {"invoke_agent": "AGENT", "chat": "LLM", "execute_tool": "TOOL"}
    for span in spans_of(kind, "openinference"):
        assert span.attributes["openinference.span.kind"] == kinds[span.operation]
        assert span.attributes["session.id"] == span.session_id
        assert {name: told for name, told in span.attributes.items() if name.startswith("gen_ai.")} == {
            "gen_ai.operation.name": span.operation,
            "gen_ai.conversation.id": span.session_id,
        }
