"""A request by a client of our own is the one that the SDK's `messages.create` would send."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest

from agentkit_loop.content import Item, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, ToolSpec
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.testing_server import MessagesServer, ServedRequest, ServerReply
from tests.loop.messages_api import KEY, Ask, ask_on_thread, model_at, on_thread_and_loop, request

TOOL = ToolSpec(name="look", description="Look.", input_schema={"type": "object", "properties": {}})
ITEMS = [
    Item.user("grüße \u2028 \U0001f600 <&>"),
    Item(
        kind="assistant",
        parts=(
            ReasoningPart(text="hm", signature="c2ln"),
            TextPart(text="I look."),
            ToolCallPart(id="toolu_1", name="look", input={"a": [1, 2.5, None, True, {"ü": "\x00"}]}),
        ),
    ),
    Item(kind="tool", parts=(ToolResultPart(call_id="toolu_1", name="look", output="seen"),)),
]
GIVEN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "what the SDK knows": {"thinking": {"type": "adaptive"}, "stop_sequences": ["END"], "max_tokens": 77},
    "what it does not know": {"later": {"a": 1}, "extra_body": {"max_tokens": 5, "later_too": [1]}},
    "headers and a query": {
        "extra_headers": {"X-Own": "1"},
        "extra_query": {"beta": "true"},
        "betas": ["b-1"],
    },
    "a timeout": {"timeout": 17.5},
    "what becomes a header": {"user_profile_id": "u-1", "workspace_id": "w-1"},
}
VARYING = frozenset({"idempotency-key", "x-stainless-async", "x-stainless-idempotency-key"})


def served(ask: Ask, *, own: bool, **parameters: Any) -> ServedRequest:
    asked = request(*ITEMS, tools=(TOOL,))
    with MessagesServer(["ok"]) as server:
        options: dict[str, Any] = {"base_url": server.base_url, "api_key": KEY}

        async def ask_given_client() -> None:
            async with anthropic.AsyncAnthropic(**options) as client:
                model = AnthropicModel("claude-sonnet-5", async_client=client, **parameters)
                assert [signal async for signal in model.astream(asked)]

        if own:
            assert ask(model_at(server, **parameters), asked)[0].error is None
        elif ask is ask_on_thread:
            with anthropic.Anthropic(**options) as client:
                assert list(AnthropicModel("claude-sonnet-5", client=client, **parameters).stream(asked))
        else:
            asyncio.run(ask_given_client())
        (one,) = server.requests
        return one


@on_thread_and_loop
@pytest.mark.parametrize("name", GIVEN)
def test_body_and_headers_are_those_of_messages_create(ask: Ask, name: str) -> None:
    ours, theirs = (served(ask, own=own, **GIVEN[name]) for own in (True, False))
    assert ours.body == theirs.body
    assert ours.path == theirs.path

    def told(one: ServedRequest) -> dict[str, str]:
        return {key: value for key, value in one.headers.items() if key not in VARYING | {"host"}}

    assert told(ours) == told(theirs)


@on_thread_and_loop
@pytest.mark.parametrize("behind", ["", "/", "/gateway", "/gateway/", "/a b/%7Eu/", "/a#b"])
def test_the_address_is_the_one_that_messages_create_asks(ask: Ask, behind: str) -> None:
    with MessagesServer(lambda _: "ok") as server:
        base_url = server.base_url + behind
        with anthropic.Anthropic(base_url=base_url, api_key=KEY) as client:
            client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])
        for middleware in ((), (_passed_on,) if ask is ask_on_thread else (_apassed_on,)):
            model = AnthropicModel("m", base_url=base_url, api_key=KEY, middleware=middleware)
            assert ask(model)[0].error is None
    theirs, *ours = [one.path for one in server.requests]
    assert ours == [theirs, theirs]


_seen: list[str] = []


def _passed_on(asked: Any, call_next: Any) -> Any:
    _seen.append(asked.options.url)
    return call_next(asked)


async def _apassed_on(asked: Any, call_next: Any) -> Any:
    _seen.append(asked.options.url)
    return await call_next(asked)


@on_thread_and_loop
def test_middleware_of_a_host_sees_the_path_that_messages_create_gives(ask: Ask) -> None:
    _seen.clear()
    passed = (_passed_on,) if ask is ask_on_thread else (_apassed_on,)
    with MessagesServer(["ok"]) as server:
        assert ask(model_at(server, middleware=passed))[0].error is None
    assert _seen == ["/v1/messages"]


@on_thread_and_loop
def test_a_refused_post_is_a_failure_of_its_class(ask: Ask) -> None:
    with MessagesServer([ServerReply.refusal(529, "overloaded_error", "busy")]) as server:
        assert ask(model_at(server))[0].failure.error_class == "overloaded"


def test_a_posts_connection_is_used_again() -> None:
    with MessagesServer(["one", "two", "three"]) as server:
        ask_on_thread(model_at(server), request(), request(), request())
        assert len(server.requests) == 3
        assert server.connections == 1
