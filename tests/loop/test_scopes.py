"""Runs of hand-written loops: the SDK's answers in every form, and every way out; what is told keeps the contract."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import anthropic
import pytest

from agentkit_loop.content import Item, ReasoningPart, TextPart, ToolCallPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    UsageUpdated,
)
from agentkit_loop.scopes import RunScope
from agentkit_loop.testing import EventRecorder, MessagesServer, Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.testing_messages import reply_events, whole_message
from agentkit_loop.usage import Usage
from tests.rules import faults

SEARCH = {
    "name": "search_web",
    "description": "Search the web",
    "input_schema": {"type": "object", "properties": {"query": {"type": "string"}}},
}
REPLIES = [
    Reply(
        text="Let me look.",
        reasoning="Two questions.",
        calls=tuple(ScriptedCall(name="search_web", input={"query": word}) for word in ("north", "south")),
        usage=Usage(input_tokens=10, cache_write_input_tokens=100, output_tokens=5),
    ),
    Reply(text="Both are there.", usage=Usage(input_tokens=30, cached_input_tokens=100, output_tokens=7)),
]
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "Where?"}]
REQUEST: dict[str, Any] = {"model": "claude-sonnet-5-5", "max_tokens": 100, "tools": [SEARCH]}


def told(recorder: EventRecorder, kind: type[AgentEvent]) -> list[Any]:
    return [event for event in recorder.events if isinstance(event, kind)]


def client_of(server: MessagesServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.base_url, api_key="sk-any", max_retries=0)


# --- the SDK's answers, as they are

Asking = Callable[[Any, anthropic.Anthropic, dict[str, Any]], Any]


def whole(call: Any, client: anthropic.Anthropic, request: dict[str, Any]) -> Any:
    response = client.messages.create(**request)
    call.record(response)
    return response


def helper(call: Any, client: anthropic.Anthropic, request: dict[str, Any]) -> Any:
    with client.messages.stream(**request) as stream:
        for _ in call.stream(stream):
            pass
        return stream.get_final_message()


def final_message(call: Any, client: anthropic.Anthropic, request: dict[str, Any]) -> Any:
    with client.messages.stream(**request) as stream:
        "".join(stream.text_stream)
        call.record(stream.get_final_message())
        return stream.get_final_message()


def raw(call: Any, client: anthropic.Anthropic, request: dict[str, Any]) -> Any:
    events = [event.to_dict() for event in call.stream(client.messages.create(**request, stream=True))]
    return anthropic.types.Message.model_validate(whole_message(events))


def drive(run: RunScope, client: anthropic.Anthropic, ask: Asking) -> None:
    """A loop as people write it."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Where?"}]
    while True:
        with run.model_call(messages=messages) as call:
            response = ask(call, client, {**REQUEST, "messages": messages})
        messages.append({"role": "assistant", "content": response.content})
        results = []
        for block in response.content:
            if block.type == "tool_use":
                with run.tool_call(block) as body:
                    found = body.result(f"found {block.input['query']}")
                results.append({"type": "tool_result", "tool_use_id": block.id, "content": found})
        if not results:
            return
        messages.append({"role": "user", "content": results})


@pytest.mark.parametrize("ask", [whole, helper, final_message, raw])
def test_the_sdks_answers_are_taken_as_they_are(ask: Asking) -> None:
    recorder = EventRecorder()
    with (
        MessagesServer(REPLIES) as server,
        EventEmitter([recorder]) as emitter,
        emitter.run(agent_name="finder", model="claude-sonnet-5-5", tools=[SEARCH]) as run,
        client_of(server) as client,
    ):
        drive(run, client, ask)
    assert faults(recorder.events) == []
    assert [item.kind for item in run.state.transcript.items] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    assert [type(part) for part in run.state.transcript.items[1].parts] == [
        ReasoningPart,
        TextPart,
        ToolCallPart,
        ToolCallPart,
    ]
    final = [event.usage for event in told(recorder, UsageUpdated) if event.final]
    assert [(usage.total_input_tokens, usage.output_tokens) for usage in final] == [(110, 5), (130, 7)]
    assert [str(event.cost.amount) for event in told(recorder, UsageUpdated) if event.final] == [
        "0.00032",
        "0.00014",
    ]
    (finished,) = told(recorder, TurnFinished)
    assert (finished.finish_reason, finished.usage.output_tokens, finished.item_count) == ("completed", 12, 5)
    assert [event.output for event in told(recorder, ToolResultReceived)] == ["found north", "found south"]


def test_the_asynchronous_client_tells_the_same() -> None:
    recorder = EventRecorder()

    async def main(server: MessagesServer) -> None:
        async with (
            anthropic.AsyncAnthropic(base_url=server.base_url, api_key="sk-any") as client,
            EventEmitter([recorder]).run(model="claude-sonnet-5-5", tools=[SEARCH]) as run,
        ):
            run.input("Where?")
            async with run.model_call() as call:
                stream: Any = await client.messages.create(**{**REQUEST, "messages": ASKED, "stream": True})
                kinds = [event.type async for event in call.astream(stream)]
            assert kinds[-1] == "message_stop"
            parts = [call.part for call in run.state.calls.values()]

            async def search(part: ToolCallPart) -> None:
                async with run.tool_call(part) as body:
                    await asyncio.sleep(0)
                    body.result(part.input["query"])

            await asyncio.gather(*map(search, parts))

    with MessagesServer(REPLIES[:1]) as server:
        asyncio.run(main(server))
    assert faults(recorder.events) == []
    assert [event.output for event in told(recorder, ToolResultReceived)] == ["north", "south"]
    (finished,) = told(recorder, RunFinished)
    assert finished.outcome == "suspended"  # the results were never answered


def test_a_failure_of_the_sdk_is_told_as_what_it_is_and_another_attempt_as_one() -> None:
    recorder = EventRecorder()
    busy = Reply(fail=ScriptedFailure(error_class="rate_limited", retry_after_ms=1_500))
    with (
        MessagesServer([busy, "At last."]) as server,
        EventEmitter([recorder]) as emitter,
        emitter.run(model="claude-sonnet-5-5") as run,
        client_of(server) as client,
    ):
        messages = ASKED
        with pytest.raises(anthropic.RateLimitError), run.model_call(messages=messages):
            client.messages.create(**{**REQUEST, "messages": messages})
        with run.model_call(messages=messages) as call:
            call.record(client.messages.create(**{**REQUEST, "messages": messages}))
    assert faults(recorder.events) == []
    (failed,) = told(recorder, ModelRequestFailed)
    assert (failed.error_class, failed.retry_after_ms) == ("rate_limited", 1_500)
    assert [event.next_attempt for event in told(recorder, ModelRequestRetrying)] == [2]
    assert [event.items[0].text for event in told(recorder, InputAccepted)] == ["Where?"]


def test_a_stream_that_is_cut_fails_and_one_that_is_left_is_cancelled() -> None:
    recorder = EventRecorder()
    events = list(_events("Hello there"))
    with EventEmitter([recorder]) as emitter, emitter.run(model="m", prices=None) as run:
        run.input("hi")
        with run.model_call() as call:
            list(call.stream(events[:4]))
        with pytest.raises(KeyboardInterrupt), run.model_call() as call:
            for event in call.stream(events):
                if event["type"] == "content_block_delta":
                    raise KeyboardInterrupt
    assert faults(recorder.events) == []
    (failed,) = told(recorder, ModelRequestFailed)
    assert failed.error_class == "stream_cut"
    (finished,) = told(recorder, ModelRequestFinished)
    assert finished.finish_reason == "cancelled"


def _events(text: str) -> Iterator[dict[str, Any]]:
    yield from reply_events(Reply(text=text, chunk_chars=2))


# --- every way out


@pytest.mark.parametrize("raised", [ValueError("broken"), KeyboardInterrupt(), SystemExit(2), None])
@pytest.mark.parametrize("where", ["run", "turn", "model call", "tool call"])
def test_what_began_ends_wherever_the_loop_is_left(where: str, raised: BaseException | None) -> None:
    recorder = EventRecorder()

    def leave(place: str) -> None:
        if place == where and raised is not None:
            raise raised

    def loop(run: RunScope) -> None:
        run.input("hi")
        leave("run")
        with run.turn():
            leave("turn")
            with run.model_call() as call:
                leave("model call")
                call.record(_message(ScriptedCall(name="search_web", input={"query": "x"})))
            (part,) = [call.part for call in run.state.calls.values()]
            with run.tool_call(part):
                leave("tool call")

    emitter = EventEmitter([recorder])
    if raised is None:
        with emitter.run(tools=[SEARCH], prices=None) as run:
            loop(run)
    else:
        with pytest.raises(type(raised)), emitter.run(tools=[SEARCH], prices=None) as run:
            loop(run)
    assert faults(recorder.events) == []
    ends = {ValueError: RunFailed, type(None): RunFinished}.get(type(raised), RunCancelled)
    assert isinstance(recorder.events[-1], ends)


def _message(*calls: ScriptedCall, text: str = "Look.", reason: str | None = None) -> dict[str, Any]:
    return whole_message(reply_events(Reply(text=text, calls=calls, finish_reason=reason)))


def test_a_tools_exception_is_its_result_and_goes_on_to_the_host() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        run.input("hi")
        with run.model_call() as call:
            call.record(_message(ScriptedCall(name="search_web", input={"query": "x"})))
        (part,) = [call.part for call in run.state.calls.values()]
        with pytest.raises(LookupError), run.tool_call(part):
            raise LookupError("nothing found")
        with run.model_call() as call:
            call.record(_message(text="I could not."))
    assert faults(recorder.events) == []
    (result,) = told(recorder, ToolResultReceived)
    assert (result.is_error, result.output) == (True, "LookupError: nothing found")
    assert result.error is not None
    assert result.error.frames


def test_calls_of_an_answer_that_was_cut_do_not_run() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        run.input("hi")
        with run.model_call() as call:
            call.record(_message(ScriptedCall(name="search_web"), reason="max_tokens"))
    assert faults(recorder.events) == []
    (result,) = told(recorder, ToolResultReceived)
    assert result.not_started
    assert told(recorder, TurnFinished)[0].finish_reason == "max_tokens"


def test_tools_in_parallel_threads_tell_whole_rounds() -> None:
    recorder = EventRecorder()
    calls = tuple(ScriptedCall(name="search_web", input={"query": str(n)}) for n in range(8))
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        run.input("hi")
        with run.model_call() as call:
            call.record(_message(*calls))
        barrier = threading.Barrier(len(calls))

        def work(part: ToolCallPart) -> None:
            with run.tool_call(part) as body:
                barrier.wait()
                body.result(part.input["query"])

        threads = [threading.Thread(target=work, args=(call.part,)) for call in run.state.calls.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with run.model_call() as call:
            call.record(_message(text="Done."))
    assert faults(recorder.events) == []
    results = [item.parts[0] for item in run.state.transcript.items if item.kind == "tool"]
    assert [part.output for part in results] == [str(n) for n in range(8)]  # type: ignore[union-attr] # results


# --- sessions and misuse


def test_one_emitter_may_tell_several_runs_of_its_session() -> None:
    recorder = EventRecorder()
    emitter = EventEmitter([recorder], session_id="ses_1")
    for prompt in ("one", "two"):
        with emitter.run(prices=None) as run:
            run.input(prompt)
            with run.model_call() as call:
                call.record(_message(text=prompt))
    assert faults(recorder.events) == []
    assert len({event.run_id for event in recorder.events}) == len(told(recorder, RunStarted)) == 2
    assert [event.turn_id for event in told(recorder, TurnFinished)] == ["turn-1", "turn-2"]


def test_several_exchanges_in_one_run_each_have_their_end() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(prices=None) as run:
        for prompt in ("one", "two"):
            run.input(prompt)
            with run.model_call() as call:
                call.record(_message(text=prompt))
        run.finish()
        run.finish()
        run.cancel("there is nothing to cancel")
        run.input("three")
        with run.model_call() as call:
            call.record(_message(ScriptedCall(name="search_web")))
        run.cancel("enough steps")
    assert faults(recorder.events) == []
    reasons = [event.finish_reason for event in told(recorder, TurnFinished)]
    assert reasons == ["completed", "completed", "cancelled"]


def misuses() -> Iterable[Callable[[RunScope], object]]:
    yield lambda run: run.__enter__()
    yield lambda run: run.tool_call({"type": "text", "text": "no call"}).__enter__()
    yield lambda run: run.input(3)
    yield lambda run: run.record_model_call(cost="much")
    yield lambda run: run.record_tool_call("search", {}, duration_ms="long")  # type: ignore[arg-type] # misuse

    def twice(run: RunScope) -> None:
        with run.model_call() as call:
            call.record(_message())
            call.usage(Usage())

    yield twice

    def inside(run: RunScope) -> None:
        with run.model_call(), run.model_call():
            pass

    yield inside

    def running(run: RunScope) -> None:
        with run.model_call() as call:
            call.record(_message(ScriptedCall(name="search_web")))
        with run.tool_call(next(iter(run.state.calls.values())).part):
            run.turn()

    yield running


@pytest.mark.parametrize("misuse", list(misuses()))
def test_misuse_is_refused_and_the_run_is_still_told_whole(misuse: Callable[[RunScope], object]) -> None:
    recorder = EventRecorder()
    with (
        pytest.raises((IllegalMoveError, ConfigurationError)) as caught,
        EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run,
    ):
        run.input("hi")
        misuse(run)
    assert "; " in str(caught.value)
    assert faults(recorder.events) == []


def test_input_is_text_messages_blocks_or_items() -> None:
    run = EventEmitter().run(prices=None)
    with run:
        run.input("a")
        run.input(
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "image", "source": {}}]}
        )
        run.input(Item.user("c"))
    kinds = [[type(part).__name__ for part in item.parts] for item in run.state.transcript.items]
    assert kinds == [["TextPart"], ["TextPart", "CustomPart"], ["TextPart"]]


def test_deltas_are_told_as_they_come() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(prices=None) as run:
        run.input("hi")
        with run.model_call() as call:
            for number, _ in enumerate(call.stream(_events("Hello there")), 1):
                last = recorder.events[-1]
                assert last.timestamp <= dt.datetime.now(dt.UTC)
                assert len(told(recorder, ContentDelta)) <= number
    chunks = [getattr(event.delta, "chunk", "") for event in told(recorder, ContentDelta)]
    assert "".join(chunks) == "Hello there"


def test_what_a_host_hands_over_is_converted_once() -> None:
    recorder = EventRecorder()
    call = ScriptedCall(name="search_web", input={"query": "x"})
    with EventEmitter([recorder]) as emitter, emitter.run() as run:
        with run.tool_call("own", {"ids": {1, 2}}) as body:
            assert body.result({3}, duration_ms=240) == {"$set": [3]}
        run.record_model_call(answer := _message(call), duration_ms=0.1)
        (block,) = (each for each in answer["content"] if each["type"] == "tool_use")
        with run.tool_call(block, {"$top": b"x"}) as body:
            body.result("")
        run.custom("note", {"$all": {4}})
    results = told(recorder, ToolResultReceived)
    assert (results[0].output, results[0].duration_ms) == ({"$set": [3]}, 240)
    assert told(recorder, ToolCallRequested)[0].call.input == {"ids": {"$set": [1, 2]}}
    assert told(recorder, ToolExecutionStarted)[1].input == {"$$top": {"$bytes": "eA=="}}
    assert told(recorder, CustomEvent)[0].data == {"$$all": {"$set": [4]}}
    assert told(recorder, ModelRequestFinished)[0].duration_ms == 0.1


def test_what_is_told_is_converted_once_and_shown_to_the_model_as_the_event_has_it() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]) as emitter, emitter.run() as run:
        with run.tool_call("search", {"$key": b"a"}) as body:
            shown = body.result({"$key": b"b"})
        run.decision("reasoning", "why", metadata={"$key": {1}})
    (asked,) = told(recorder, ToolCallRequested)
    (result,) = told(recorder, ToolResultReceived)
    (decided,) = told(recorder, CustomEvent)
    assert asked.call.input == {"$$key": {"$bytes": "YQ=="}}
    assert shown == result.output == {"$$key": {"$bytes": "Yg=="}}
    assert decided.data["metadata"] == {"$$key": {"$set": [1]}}
