"""What a host passes on beside the conversation: how it reaches the body, and what of it may be told."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import ToolSpec
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.models.anthropic import DEFAULT_MAX_TOKENS, AnthropicModel
from agentkit_loop.models.anthropic_parameters import OURS, check_parameters, told_parameters
from agentkit_loop.testing_server import MessagesServer
from agentkit_loop.values import to_json
from tests.loop.messages_api import KEY, Ask, model_at, on_thread_and_loop, request
from tests.strategies import json_objects

PASSED: dict[str, Any] = {
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
    "output_config": {"effort": "low"},
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "temperature": 0.5,
    "mcp_servers": [{"type": "url", "url": "https://x/y", "name": "z"}],
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    "later_parameter": {"a": [1, None, "ä"]},
}


@on_thread_and_loop
@pytest.mark.parametrize("name", sorted(PASSED))
def test_a_parameter_reaches_the_body_whether_the_sdk_knows_it_or_not(ask: Ask, name: str) -> None:
    with MessagesServer(lambda _: "ok") as server:
        ask(model_at(server, **{name: PASSED[name]}))
        ask(model_at(server), request("hi", **{name: PASSED[name]}))
        ask(model_at(server, **{name: "another"}), request("hi", **{name: PASSED[name]}))
        assert [one.body[name] for one in server.requests] == [PASSED[name]] * 3


@on_thread_and_loop
def test_max_tokens_is_in_the_body(ask: Ask) -> None:
    with MessagesServer(lambda _: "ok") as server:
        ask(model_at(server))
        ask(model_at(server, max_tokens=100))
        ask(model_at(server, max_tokens=100), request("hi", max_tokens=7))
        assert [one.body["max_tokens"] for one in server.requests] == [DEFAULT_MAX_TOKENS, 100, 7]


@on_thread_and_loop
def test_what_is_none_is_not_sent(ask: Ask) -> None:
    with MessagesServer(["ok"]) as server:
        ask(model_at(server, thinking=None, later_parameter=None))
        assert sorted(server.requests[0].body) == ["max_tokens", "messages", "model", "stream", "system"]


def test_an_agents_parameters_reach_the_body() -> None:
    with MessagesServer(["ok"]) as server, contextlib.closing(model_at(server)) as model:
        with Agent(model, parameters={"thinking": PASSED["thinking"]}) as agent:
            agent.run("hi")
        assert server.requests[0].body["thinking"] == PASSED["thinking"]


@on_thread_and_loop
def test_headers_and_query_of_a_host_are_sent(ask: Ask) -> None:
    with MessagesServer(["ok"]) as server:
        ask(model_at(server, extra_headers={"anthropic-beta": "x"}, extra_query={"a": "b"}, timeout=5.0))
        assert server.requests[0].headers["anthropic-beta"] == "x"
        assert server.requests[0].path.endswith("/v1/messages?a=b")
        assert "extra_query" not in server.requests[0].body


class Odd:
    """Something of a host's."""


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"metadata": {"tags": {1}}}, "metadata.tags is of type set"),
        ({"metadata": {"a": [0, Odd()]}}, "metadata.a[1] is of type Odd"),
        ({"metadata": {1: "a"}}, "metadata has the key 1"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"later": b"x"}, "later is of type bytes"),
        ({"later": "\ud83d"}, "later has half of a character"),
        ({"later": CYCLE}, "later contains itself"),
    ],
)
def test_a_value_that_is_no_json_is_refused_with_its_place(parameters: dict[str, Any], sentence: str) -> None:
    (name,) = parameters
    with pytest.raises(ConfigurationError) as refusal:
        AnthropicModel("m", **parameters)
    assert str(refusal.value) == f"parameter {name!r} refused: {sentence}; give a value that JSON can hold"


@pytest.mark.parametrize("tools", [3, "read", [Odd.__name__], {"name": "x"}])
def test_tools_are_a_list_of_definitions(tools: Any) -> None:
    with pytest.raises(ConfigurationError, match="parameter 'tools' refused"):
        AnthropicModel("m", tools=tools)


@on_thread_and_loop
def test_a_request_with_an_odd_parameter_is_refused_before_it_is_sent(ask: Ask) -> None:
    with MessagesServer(["ok"]) as server:
        with pytest.raises(ConfigurationError, match=r"metadata\.a is of type set"):
            ask(model_at(server), request("hi", metadata={"a": {1}}))
        assert server.requests == []


LOGIN = {
    "name": "login",
    "input_schema": {"type": "object", "properties": {"password": {"type": "string"}}},
}


def test_the_parameters_are_told_without_secrets() -> None:
    model = AnthropicModel(
        "m",
        api_key=KEY,
        max_tokens=7,
        cache="1h",
        thinking={"type": "adaptive"},
        metadata={"user_id": f"who knows {KEY}"},
        extra_headers={"x-team": "a", "authorization": "b"},
        extra_query={"key": "c"},
        extra_body={"api_key": "d", "headers": {"e": "f"}, "deep": [{"Password": "g", "kept": 1}]},
        default_headers={"x": "h"},
        fallback_credit_token="i",  # noqa: S106 - a name of the API's
        mcp_servers=[{"type": "url", "url": "https://ann:j@x/y?token=k#l", "authorization_token": "m"}],
        tools=[LOGIN],
    )
    assert model.parameters == {
        "max_tokens": 7,
        "cache": "1h",
        "thinking": {"type": "adaptive"},
        "metadata": {"user_id": "who knows ***"},
        "extra_body": {"deep": [{"kept": 1}]},
        "mcp_servers": [{"type": "url", "url": "https://x/y"}],
        "tools": [LOGIN],
    }


def test_the_key_of_a_client_is_not_told_either() -> None:
    with anthropic.Anthropic(api_key=KEY) as client:
        model = AnthropicModel("m", client=client, metadata={"note": KEY})
        assert model.parameters == {
            "max_tokens": DEFAULT_MAX_TOKENS,
            "cache": "5m",
            "metadata": {"note": "***"},
        }


def test_the_parameters_are_read_only_and_everyones_own() -> None:
    model = AnthropicModel("m", metadata={"a": [1]})
    model.parameters["metadata"]["a"].append(2)
    assert model.parameters["metadata"] == {"a": [1]}
    with pytest.raises(AttributeError):
        model.parameters = {}  # type: ignore[misc] # that is what is tested


@given(parameters=json_objects())
def test_json_is_taken_and_told_as_json(parameters: dict[str, Any]) -> None:
    parameters = {name: value for name, value in parameters.items() if name not in {*OURS, "tools"}}
    check_parameters(parameters)
    told = told_parameters(parameters, ())
    assert json.loads(json.dumps(told)) == told
    assert told.keys() <= to_json(parameters).keys()


@given(secret=st.text("abc", min_size=4, max_size=6), parameters=json_objects())
def test_a_secret_is_told_nowhere(secret: str, parameters: dict[str, Any]) -> None:
    told = told_parameters({"metadata": {"a": [f"x{secret}y", parameters]}, "b": secret}, (secret,))
    assert not any(secret in text for text in texts_in(told))


def texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for member in members for text in texts_in(member)]


def test_a_tool_of_the_provider_stands_behind_the_agents() -> None:
    own = ToolSpec(name="read", description="", input_schema={"type": "object"})
    search = {"type": "web_search_20260209", "name": "web_search"}
    with MessagesServer(["ok"]) as server:
        model = model_at(server, tools=(search,), cache=None)
        assert list(model.stream(request("hi", tools=(own,))))
        model.close()
        assert server.requests[0].body["tools"] == [
            {"name": "read", "input_schema": {"type": "object"}},
            search,
        ]
    assert search == {"type": "web_search_20260209", "name": "web_search"}


@on_thread_and_loop
def test_betas_go_into_their_header_beside_the_hosts_own(ask: Ask) -> None:
    with MessagesServer(["hi"], strict=True) as server:
        headers = {"Anthropic-Beta": "mine-1, both-1"}
        model = model_at(server, betas=["both-1", "new-1"], extra_headers=headers)
        assert ask(model)[0].error is None
        (served,) = server.requests
    assert served.headers["anthropic-beta"] == "mine-1,both-1,new-1"
    assert "betas" not in served.body


def test_betas_that_are_no_names_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="parameter 'betas' refused, 'new-1'; give a list of names"):
        AnthropicModel("m", betas="new-1")
