"""What events say of a span: who provides the model, the parameters of requests, the agent, the tool."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.content import ToolSpec
from agentkit_loop.events import ModelRequestStarted, RunStarted
from agentkit_reporting.tracing.conventions import profile_of
from agentkit_reporting.tracing.facts import parameter_facts, request_facts, run_facts, tool_facts
from agentkit_reporting.tracing.provider_names import openinference_provider, provider_of
from tests.strategies import json_objects, json_values, texts


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-sonnet-5", "anthropic"),
        ("Claude-Opus-4-5", "anthropic"),
        ("anthropic/claude-haiku-4-5", "anthropic"),
        ("anthropic.claude-sonnet-4-20250514-v1:0", "aws.bedrock"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "aws.bedrock"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/x", "aws.bedrock"),
        ("claude-sonnet-4@20250514", "gcp.vertex_ai"),
        ("publishers/anthropic/models/claude-x", "gcp.vertex_ai"),
        ("gpt-5", "openai"),
        ("o3", "openai"),
        ("o4-mini", "openai"),
        ("openai/gpt-4o", "openai"),
        ("gemini-2.5-pro", "gcp.gemini"),
        ("mistral-large", "mistral_ai"),
        ("codestral-2501", "mistral_ai"),
        ("deepseek-chat", "deepseek"),
        ("grok-4", "x_ai"),
        ("command-r", "cohere"),
        ("kimi-k2", "moonshot_ai"),
        ("sonar-pro", "perplexity"),
        ("granite-3", "ibm.watsonx.ai"),
        ("scripted", "scripted"),
        ("scripted-judge", "scripted"),
        ("my-own-model", "unknown"),
        ("oscar", "unknown"),
        ("commander", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_models_name_says_who_provides_it(model: str, provider: str) -> None:
    assert provider_of(model) == provider


def test_the_hosts_own_word_for_the_provider_wins() -> None:
    assert provider_of("claude-sonnet-5", {"provider": "aws.bedrock"}) == "aws.bedrock"
    assert provider_of("claude-sonnet-5", {"provider": " x " + "y" * 100})[:3] == "x y"


@pytest.mark.parametrize("given", [None, 3, "", "  ", ["aws"], {"name": "aws"}])
def test_what_is_no_word_for_a_provider_is_none(given: Any) -> None:
    assert provider_of("gpt-5", {"provider": given}) == "openai"


@settings(deadline=None, max_examples=40)
@given(texts(60), json_objects())
def test_any_name_has_a_provider(model: str, metadata: dict[str, Any]) -> None:
    provider = provider_of(model, metadata)
    assert 0 < len(provider) <= 64
    assert openinference_provider(provider)


def test_parameters_of_requests_are_told_under_the_conventions_names() -> None:
    told = profile_of("all").named(
        parameter_facts(
            {
                "max_tokens": 1024,
                "temperature": 1,
                "top_p": 0.9,
                "top_k": 40,
                "seed": 7,
                "n": 2,
                "frequency_penalty": 0.1,
                "presence_penalty": 0.2,
                "stop_sequences": ["END"],
                "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {}}},
            }
        )
    )
    parameters = told.pop("llm.invocation_parameters")
    assert told == {
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.2,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.output.type": "json",
    }
    assert '"temperature":1.0' in str(parameters)


def test_one_choice_is_what_everybody_asks_for_and_is_not_told() -> None:
    assert profile_of().named(parameter_facts({"n": 1})) == {}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, "json"),
        ({"output_format": {"type": "json_schema"}}, "json"),
        ({"response_format": "text"}, "text"),
        ({"response_format": {"type": "yaml"}}, None),
        ({"output_config": "json"}, None),
        ({}, None),
    ],
)
def test_the_kind_of_output_is_told_where_one_was_asked_for(
    parameters: dict[str, Any], expected: str | None
) -> None:
    assert parameter_facts(parameters)["output.type"] == expected


NAMES = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "n",
    "stop",
    "stop_sequences",
    "output_config",
)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.sampled_from((*NAMES, "reasoning", "response_format")), json_values()))
def test_no_parameters_that_a_log_may_hold_break_a_span(parameters: dict[str, Any]) -> None:
    told = profile_of("all").named(parameter_facts(parameters))
    assert all(isinstance(value, (str, int, float, tuple)) for value in told.values())


def test_a_run_says_who_the_agent_is() -> None:
    started = RunStarted(
        session_id="s",
        run_id="r",
        agent_name="fixer",
        model="claude-sonnet-5",
        parameters={"max_tokens": 9, "top_k": 3},
        metadata={"agent_id": "a-1", "agent_version": "2.0", "agent_description": "mends things"},
    )
    assert profile_of().named(run_facts(started)) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.conversation.id": "s",
        "gen_ai.agent.name": "fixer",
        "gen_ai.agent.id": "a-1",
        "gen_ai.agent.version": "2.0",
        "gen_ai.agent.description": "mends things",
        "gen_ai.request.model": "claude-sonnet-5",
        "gen_ai.request.max_tokens": 9,
        "agentkit.run_id": "r",
    }


@pytest.mark.parametrize("purpose", ["turn", "compaction"])
def test_a_request_has_the_agents_parameters_unless_it_is_a_compactions(purpose: Any) -> None:
    started = RunStarted(agent_name="a", model="claude-sonnet-5", parameters={"max_tokens": 9})
    event = ModelRequestStarted(
        session_id="s", request_id="q", attempt=1, purpose=purpose, model="gpt-5", message_count=1, digests={}
    )
    told = profile_of().named(request_facts(event, started, parameter_facts(started.parameters)))
    assert told["gen_ai.provider.name"] == "openai"
    assert ("gen_ai.request.max_tokens" in told) == (purpose == "turn")


def test_a_tool_is_a_function_with_the_description_that_the_model_sees() -> None:
    specs = {"look": ToolSpec(name="look", description="Looks.", input_schema={})}
    assert profile_of().named(tool_facts("look", specs)) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.description": "Looks.",
    }
    assert tool_facts("gone", specs)["tool.description"] is None


def test_a_request_without_a_model_of_its_own_asks_the_runs() -> None:
    started = RunStarted(agent_name="a", model="claude-sonnet-5")
    event = ModelRequestStarted(
        request_id="q", attempt=1, purpose="turn", model="", message_count=1, digests={}
    )
    told = profile_of().named(request_facts(event, started, {}))
    assert told["gen_ai.request.model"] == "claude-sonnet-5"
    assert told["gen_ai.provider.name"] == "anthropic"


def test_parameters_without_measure_are_bounded() -> None:
    huge = {"seed": 10**30, "temperature": 10**400, "stop_sequences": ["x" * 10_000] * 1_000, "max_tokens": 1}
    told = profile_of("all").named(parameter_facts(huge))
    assert set(told) == {
        "gen_ai.request.max_tokens",
        "gen_ai.request.stop_sequences",
        "llm.invocation_parameters",
    }
    assert len(str(told["llm.invocation_parameters"])) < 5_000


def test_descriptions_are_told_without_secrets() -> None:
    key = "sk-ant-api03-" + "a1B2c3D4e5F6g7H8" * 5 + "-abcdefAA"
    spec = ToolSpec(name="look", description=f"Looks with {key}.", input_schema={})
    started = RunStarted(agent_name="a", model="m", metadata={"agent_description": f"has {key}"})
    told = [
        tool_facts("look", {"look": spec})["tool.description"],
        run_facts(started)["agent.description"],
    ]
    assert all(str(text).startswith(("Looks with ", "has ")) for text in told)
    assert "a1B2" not in str(told)
