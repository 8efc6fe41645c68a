"""Every record of a capture says which request of the events it is; with retries, cancels and hand-written loops."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

from agentkit_loop import Agent, AnthropicModel, EventEmitter, Retry, tool
from agentkit_loop.errors import ConfigurationError, ModelRequestError
from agentkit_loop.events import AgentEvent, ModelRequestFinished, ModelRequestStarted
from agentkit_loop.models.current_request import sent_now
from agentkit_loop.scope_requests import ModelCallScope
from agentkit_loop.scopes import RunScope
from agentkit_loop.testing import MessagesServer, Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.testing_server import ServerReply
from agentkit_reporting import JsonlReporter, WireCapture, read_events
from agentkit_reporting.wire.messages import streamed_message
from tests.loop.messages_api import request
from tests.reporting.wire_runs import ASK, KEY, exchanges

MODEL = "claude-sonnet-5-5"
REPLIES = [
    Reply(fail=ScriptedFailure(error_class="overloaded", message="busy", retry_after_ms=1)),
    Reply(
        text="I look.",
        calls=(
            ScriptedCall(name="look", input={"path": "a"}),
            ScriptedCall(name="look", input={"path": "b"}),
        ),
    ),
    Reply(text="cut", fail=ScriptedFailure(error_class="stream_cut", message="gone", after_chunks=1)),
    Reply(text="Both seen."),
]


@tool
def look(path: str) -> str:
    """Look at a file."""
    return f"seen {path}"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_every_record_of_a_run_is_linked_to_a_request_of_its_log(is_async: bool, tmp_path: Path) -> None:
    log, wire = tmp_path / "log.jsonl", tmp_path / "wire.jsonl"
    with MessagesServer(REPLIES) as server, WireCapture(wire) as capture:
        model = AnthropicModel(
            MODEL, base_url=server.base_url, api_key=KEY, middleware=[capture.middleware()]
        )
        settings: dict[str, Any] = {
            "tools": [look],
            "observers": [JsonlReporter(log)],
            "retry": Retry(max_attempts=3, base_ms=1),
        }

        async def arun() -> str:
            async with model:
                return str((await Agent(model, **settings).arun("look")).text)

        if is_async:
            assert asyncio.run(arun()) == "Both seen."
        else:
            with model, Agent(model, **settings) as agent:
                assert agent.run("look").text == "Both seen."
    events = list(read_events(log))
    started = {event.request_id: event for event in events if isinstance(event, ModelRequestStarted)}
    found = exchanges(wire)
    assert [one.text("request_id") for one in found] == list(started)
    assert len(found) == 4
    for one in found:
        event = started[one.text("request_id") or ""]
        for name in ("session_id", "run_id", "turn_id"):
            assert one.text(name) == getattr(event, name)
            assert (one.response or {})[name] == getattr(event, name)
        assert (one.attempt, one.request_attempt) == (1, event.attempt)
    answers = {
        event.request_id: event.response_id for event in events if isinstance(event, ModelRequestFinished)
    }
    for one in found:
        message = streamed_message(one.response_body.text or "")
        if one.status == 200 and one.outcome == "complete":
            assert message is not None
            assert message.message is not None
            assert message.message["id"] == answers[one.text("request_id") or ""]
    assert [one.outcome for one in found] == ["complete", "complete", "cut", "complete"]
    assert [one.request_attempt for one in found] == [1, 2, 1, 2]


def test_a_clients_requests_within_a_hand_written_loop_have_the_ids_of_its_events(tmp_path: Path) -> None:
    told: list[AgentEvent] = []
    wire = tmp_path / "wire.jsonl"
    emitter = EventEmitter([told.append])
    with (
        MessagesServer(
            [ServerReply.refusal(529, "overloaded_error", "x", retry_after_ms="1"), "a", "b"]
        ) as server,
        WireCapture(wire) as capture,
        anthropic.Anthropic(
            api_key=KEY, base_url=server.base_url, max_retries=2, middleware=[capture.middleware()]
        ) as client,
        emitter.run(model=MODEL) as run,
    ):
        with run.model_call(messages=ASK["messages"]) as call:
            call.record(client.messages.create(**ASK))
        with run.model_call(messages=ASK["messages"]) as call:
            for event in call.stream(client.messages.create(**ASK, stream=True)):
                assert (sent_now() is None) == (event.type == "message_stop")
        assert sent_now() is None
    found = exchanges(wire)
    assert [(one.text("request_id"), one.attempt, one.request_attempt) for one in found] == [
        ("request-1", 1, 1), ("request-1", 2, 1), ("request-2", 1, 1),
    ]  # fmt: skip
    started = next(event for event in told if isinstance(event, ModelRequestStarted))
    assert {(one.text("session_id"), one.text("run_id")) for one in found} == {
        (started.session_id, started.run_id)
    }


def test_what_is_sent_outside_of_any_request_has_no_ids(tmp_path: Path) -> None:
    wire = tmp_path / "wire.jsonl"
    with MessagesServer(["a"]) as server, WireCapture(wire) as capture:
        options: dict[str, Any] = {"api_key": KEY, "base_url": server.base_url}
        with anthropic.Anthropic(**options, middleware=[capture.middleware()]) as client:
            client.messages.create(**ASK)
    assert exchanges(wire)[0].text("request_id") is None


def test_the_current_request_is_never_left_set_across_a_yield() -> None:
    seen: list[str] = []

    def note(asked: anthropic.APIRequest, call_next: Any) -> Any:
        now = sent_now()
        seen.append("" if now is None else now.request_id)
        return call_next(asked)

    with (
        MessagesServer(["one two three"]) as server,
        AnthropicModel(MODEL, base_url=server.base_url, api_key=KEY, middleware=[note]) as model,
    ):
        for _ in model.stream(request()):
            assert sent_now() is None
    assert seen == ["request-1"]


def test_two_streams_on_one_event_loop_know_their_own_request(tmp_path: Path) -> None:
    wire = tmp_path / "wire.jsonl"

    async def ask(model: AnthropicModel) -> None:
        async def read(prompt: str) -> None:
            agent = Agent(model)
            await agent.arun(prompt)

        async with model:
            await asyncio.gather(*(read(f"prompt {number}.") for number in range(5)))

    def echo(body: dict[str, Any]) -> str:
        return str(body["messages"][0]["content"][0]["text"])

    with MessagesServer(echo) as server, WireCapture(wire) as capture:
        options: dict[str, Any] = {"base_url": server.base_url, "api_key": KEY}
        asyncio.run(ask(AnthropicModel(MODEL, middleware=[capture.middleware()], **options)))
    found = exchanges(wire)
    assert len({one.text("session_id") for one in found}) == 5
    for one in found:
        prompt = one.request_body.json()["messages"][0]["content"][0]["text"]
        assert prompt in (one.response_body.text or "")


def test_a_cancel_in_the_middle_of_a_stream_cuts_at_once_with_the_capture_on(tmp_path: Path) -> None:
    wire = tmp_path / "wire.jsonl"
    first = {"type": "message_start", "message": {"id": "msg_1", "usage": {}}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "begun"}}
    stalled = ServerReply(events=(first, block, piece, {"type": "message_stop"}), stall_after=3)
    begun = threading.Event()
    with MessagesServer([stalled]) as server, WireCapture(wire) as capture:
        model = AnthropicModel(
            MODEL, base_url=server.base_url, api_key=KEY, middleware=[capture.middleware()], timeout_s=60
        )
        asked = request()
        failures: list[Exception] = []

        def read() -> None:
            try:
                for signals in model.stream(asked):
                    if any(getattr(signal, "chunk", "") == "begun" for signal in signals):
                        begun.set()
            except ModelRequestError as error:
                failures.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(20)
        model.interrupt(asked)
        thread.join(20)  # of sixty that the server would be given
        assert not thread.is_alive()
        assert failures
        assert server.wait_for_abort()
        model.close()
    (one,) = exchanges(wire)
    assert one.outcome in {"cut", "abandoned"}
    assert '"begun"' in (one.response_body.text or "")


def test_a_middleware_beside_a_client_is_refused() -> None:
    with (
        anthropic.Anthropic(api_key=KEY) as client,
        pytest.raises(ConfigurationError, match="with_middleware"),
    ):
        AnthropicModel(MODEL, client=client, middleware=[anthropic.Middleware()])


def test_a_middleware_that_is_in_no_list_is_refused() -> None:
    alone: Any = anthropic.Middleware()
    with pytest.raises(ConfigurationError, match="give a list"):
        AnthropicModel(MODEL, middleware=alone)


def test_a_task_that_outlives_its_request_sends_as_nobodys() -> None:
    async def main() -> None:
        over, told = asyncio.Event(), []

        async def outlive() -> None:
            told.append(sent_now())
            await over.wait()
            told.append(sent_now())

        with EventEmitter().run(model=MODEL) as run:
            with run.model_call(messages=ASK["messages"]) as call:
                task = asyncio.create_task(outlive())
                await asyncio.sleep(0)
                call.usage({"input_tokens": 1, "output_tokens": 1})
            over.set()
            await task
        assert [found and found.request_id for found in told] == ["request-1", None]

    asyncio.run(main())


def test_a_request_that_is_left_on_another_thread_is_current_nowhere() -> None:
    with EventEmitter().run(model=MODEL) as run:
        call = run.model_call(messages=ASK["messages"]).__enter__()
        assert sent_now() is not None
        thread = threading.Thread(target=call.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        assert sent_now() is None
        with run.model_call(messages=ASK["messages"]) as second:
            found = sent_now()
            assert found is not None
            assert found.request_id == second.request_id == "request-2"
            second.usage({"input_tokens": 1, "output_tokens": 1})
        assert sent_now() is None


def enter(run: RunScope) -> ModelCallScope:
    """Enter a request that nobody leaves."""
    call = run.model_call(messages=ASK["messages"]).__enter__()
    found = sent_now()
    assert (found and found.request_id) == call.request_id
    return call


ENDS: dict[str, Callable[[RunScope, ModelCallScope], object]] = {
    "answered": lambda _, call: call.usage({"input_tokens": 1, "output_tokens": 1}),
    "failed": lambda _, call: call.fail("it broke"),
    "its run cancelled": lambda run, _: run.cancel("enough"),
    "its run ended": lambda run, _: run.end(),
    "its run failed": lambda run, _: run.end(OSError("gone")),
    "interrupted": lambda run, _: run.interrupt_request("left"),
}


@pytest.mark.parametrize("way", ENDS)
def test_a_scope_that_is_never_left_is_current_no_more_once_its_request_is_over(way: str) -> None:
    run = EventEmitter().run(model=MODEL).__enter__()
    call = enter(run)
    ENDS[way](run, call)
    assert sent_now() is None
    run.end()


def test_a_scope_that_is_gone_is_current_no_more() -> None:
    run = EventEmitter().run(model=MODEL).__enter__()
    enter(run)
    gc.collect()
    assert sent_now() is None
    run.end()


def test_a_request_around_an_abandoned_one_is_current_again() -> None:
    with (
        EventEmitter().run(model=MODEL) as outer,
        outer.model_call(messages=ASK["messages"]) as call,
    ):
        inner = EventEmitter().run(model=MODEL).__enter__()
        left = enter(inner)
        inner.end()
        found = sent_now()
        assert left.request_id == "request-1"
        assert (found and found.session_id) == outer.session_id
        call.usage({"input_tokens": 1, "output_tokens": 1})
