"""AnthropicModel over the SDK and a real socket: what is sent, clients, connections, credentials."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import anthropic
import pytest

from agentkit_loop.content import (
    BeginPart,
    TextPart,
    ToolSpec,
)
from agentkit_loop.errors import ConfigurationError, ModelRequestError
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_failures import NO_KEY
from agentkit_loop.models.protocol import Model
from agentkit_loop.testing_server import MessagesServer, ServerReply
from tests.loop.messages_api import (
    KEY,
    Ask,
    ask_on_loop,
    ask_on_thread,
    ended,
    hear,
    model_at,
    on_thread_and_loop,
    request,
    started,
    stream_of,
    text_block,
)


def test_a_missing_key_is_told_in_one_line(tmp_path: Any) -> None:
    script = (
        "import asyncio\n"
        "from agentkit_loop.errors import ModelRequestError\n"
        "from agentkit_loop.models.anthropic import AnthropicModel\n"
        "from agentkit_loop.models.protocol import ModelRequest\n"
        "request = ModelRequest(request_id='r', purpose='turn', system=None, tools=(), items=(), parameters={})\n"
        "model = AnthropicModel('m', base_url='http://127.0.0.1:9')\n"
        "try:\n    next(model.stream(request))\n"
        "except ModelRequestError as error:\n    print(error.error_class, error, sep=': ')\n"
        "try:\n    asyncio.run(anext(model.astream(request)))\n"
        "except ModelRequestError as error:\n    print(error.error_class, error, sep=': ')\n"
    )
    bare = {"HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], env=bare, capture_output=True, text=True, check=True)
    line = "auth: no API key for the Messages API; set ANTHROPIC_API_KEY or pass api_key="
    assert run.stdout.splitlines() == [line, line]


def told_chain(error: BaseException | None) -> str:
    """Return all that a traceback would say of an error."""
    said = []
    while error is not None:
        said.append(f"{error} {error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " ".join(said)


@on_thread_and_loop
def test_a_key_that_the_server_repeats_is_masked(ask: Ask) -> None:
    failure = hear(ask, ServerReply.refusal(401, "authentication_error", f"bad key {KEY}!")).failure
    assert str(failure) == "HTTP 401 authentication_error: bad key ***!"
    assert KEY not in told_chain(failure)


@on_thread_and_loop
def test_a_key_that_the_stream_repeats_is_masked(ask: Ask) -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": f"key {KEY}"}}
    failure = hear(ask, stream_of(started(), error)).failure
    assert KEY not in told_chain(failure)


@on_thread_and_loop
@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", f"{KEY}\u00e9", f"{KEY}\x00"])
def test_a_key_that_no_header_carries_is_not_shown(ask: Ask, key: str) -> None:
    failure = ask(AnthropicModel("m", base_url="http://127.0.0.1:9", api_key=key))[0].failure
    assert failure.error_class == "auth"
    assert KEY not in told_chain(failure)


@on_thread_and_loop
def test_an_empty_key_is_a_missing_one(ask: Ask) -> None:
    failure = ask(AnthropicModel("m", base_url="http://127.0.0.1:9", api_key=""))[0].failure
    assert (failure.error_class, str(failure)) == ("auth", NO_KEY)


def test_no_key_is_in_a_repr() -> None:
    model = AnthropicModel("claude-sonnet-5", api_key=KEY)
    assert repr(model) == "AnthropicModel('claude-sonnet-5')"
    assert model.name == "claude-sonnet-5"
    assert isinstance(model, Model)


@on_thread_and_loop
def test_the_request_holds_parameters_of_both_and_tools_of_both(ask: Ask) -> None:
    spec = ToolSpec(name="read", description="Read", input_schema={"type": "object"})
    search = {"type": "web_search_20260209", "name": "web_search"}
    with MessagesServer(["ok"]) as server:
        model = model_at(
            server,
            max_tokens=100,
            cache=None,
            tools=[search],
            thinking={"type": "adaptive"},
            top_k=3,
            extra_headers={"anthropic-beta": "x"},
            stop_sequences=None,
        )
        ask(model, request("hi", tools=(spec,), max_tokens=50, later_parameter={"a": 1}))
        (sent,) = server.requests
    assert sent.body == {
        "model": "claude-sonnet-5",
        "max_tokens": 50,
        "stream": True,
        "system": [{"type": "text", "text": "be kind"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "tools": [{"name": "read", "description": "Read", "input_schema": {"type": "object"}}, search],
        "thinking": {"type": "adaptive"},
        "top_k": 3,
        "later_parameter": {"a": 1},
    }
    assert sent.headers["anthropic-beta"] == "x"


def test_closing_early_closes_the_connection() -> None:
    reply = stream_of(started(), text_block("a", "b"), ended(), stall_after=3)
    with MessagesServer([reply, reply]) as server:
        model = model_at(server)
        signals = model.stream(request())
        assert isinstance(next(signals)[0], BeginPart)
        signals.close()  # type: ignore[attr-defined] # a generator
        assert server.wait_for_abort()

        async def leave_early() -> None:
            coming = model.astream(request())
            assert isinstance((await anext(coming))[0], BeginPart)
            await coming.aclose()  # type: ignore[attr-defined] # a generator
            assert await asyncio.to_thread(server.wait_for_abort)
            await model.aclose()

        asyncio.run(leave_early())


def test_a_cancelled_task_closes_the_connection() -> None:
    with MessagesServer([stream_of(started(), text_block("a"), ended(), stall_after=3)]) as server:
        model = model_at(server)

        async def cancelled() -> None:
            heard = asyncio.Event()

            async def listen() -> None:
                async for _ in model.astream(request()):
                    heard.set()

            task = asyncio.create_task(listen())
            await heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.wait_for_abort)
            await model.aclose()

        asyncio.run(cancelled())


def test_one_model_serves_several_event_loops_and_threads() -> None:
    with MessagesServer(lambda _: "hello") as server:
        model = model_at(server)
        for ask in (ask_on_loop, ask_on_thread, ask_on_loop, ask_on_thread):
            assert ask(model)[0].parts == [TextPart(text="hello")]


def test_a_clients_own_settings_hold_and_its_retries_do_not() -> None:
    refusal = ServerReply.refusal(529, "overloaded_error", "busy")
    with MessagesServer([refusal, "hello"] * 2) as server:
        options: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": KEY,
            "default_headers": {"x-team": "a"},
        }
        with anthropic.Anthropic(**options) as client:
            heard = ask_on_thread(AnthropicModel("m", client=client), request(), request())
            assert not client.is_closed()

        async def ask_by_async_client() -> None:
            async with anthropic.AsyncAnthropic(**options) as client:
                model = AnthropicModel("m", async_client=client, timeout_s=5)
                with pytest.raises(ModelRequestError):
                    await anext(model.astream(request()))
                assert [signal async for signal in model.astream(request())]
                await model.aclose()
                assert not client.is_closed()

        asyncio.run(ask_by_async_client())
        assert [one.error is None for one in heard] == [False, True]
        assert [one.headers["x-team"] for one in server.requests] == ["a"] * 4


def test_a_client_of_the_other_kind_is_refused() -> None:
    client = anthropic.Anthropic(api_key=KEY)
    with pytest.raises(ConfigurationError, match="async_client="):
        ask_on_loop(AnthropicModel("m", client=client))
    with pytest.raises(ConfigurationError, match="client="):
        ask_on_thread(AnthropicModel("m", async_client=anthropic.AsyncAnthropic(api_key=KEY)))
    with pytest.raises(ConfigurationError, match="beside a client"):
        AnthropicModel("m", client=client, api_key=KEY)
    client.close()


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"timeout_s": 0}, {"system": "x"}, {"messages": []}])
def test_wrong_options_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        AnthropicModel("m", **options)


def test_importing_the_model_imports_no_sdk_and_no_network_library() -> None:
    script = (
        "import sys, agentkit_loop.models.anthropic as a; a.AnthropicModel('m', api_key='k')\n"
        "print(sorted({'anthropic', 'httpx2', 'httpx', 'http.client', 'http.server'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
