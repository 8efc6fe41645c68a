"""Loops that people write and no contract foresees: they go on, nothing counts twice, and every rule is kept."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

from agentkit_loop import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunCancelled,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.scope_calls import NOT_TOLD
from agentkit_loop.scopes import RunScope
from agentkit_loop.testing import EventRecorder, MessagesServer, Reply, ScriptedCall
from agentkit_loop.testing_messages import reply_events, whole_message
from agentkit_loop.usage import Usage
from agentkit_reporting import UsageReporter, decode_event, encode_event
from tests.rules import faults

SEARCH = {"name": "search", "description": "Search", "input_schema": {"type": "object"}}
REPLY = Reply(
    text="Let me look.",
    reasoning="Hm.",
    calls=(ScriptedCall(name="search", input={"q": "x" * 20}, id="a"),),
    usage=Usage(input_tokens=10, output_tokens=5),
)
REQUEST: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Where?"}],
}
BLOCK: dict[str, Any] = {"type": "tool_use", "id": "a", "name": "search", "input": {"q": "x" * 20}}


def message(*calls: ScriptedCall, text: str = "Look.", number: int = 1, **fields: Any) -> dict[str, Any]:
    return whole_message(reply_events(Reply(text=text, calls=calls, **fields), number=number))


def told(recorder: EventRecorder, kind: type[AgentEvent]) -> list[Any]:
    return [event for event in recorder.events if isinstance(event, kind)]


def ask(run: RunScope, **fields: Any) -> None:
    """One request, whose answer asks for the call of BLOCK."""
    with run.model_call(messages=REQUEST["messages"]) as call:
        call.record(message(ScriptedCall(name="search", input=BLOCK["input"], id="a"), **fields))


# --- tools


def of_a_cut_answer(run: RunScope) -> None:
    ask(run, finish_reason="max_tokens")
    with run.tool_call(BLOCK) as body:
        body.result("found")


def tried_again(run: RunScope) -> None:
    ask(run)
    for attempt in (1, 2):
        with contextlib.suppress(TimeoutError), run.tool_call(BLOCK) as body:
            if attempt == 1:
                raise TimeoutError
            body.result("found")


def of_an_answer_that_was_not_told(run: RunScope) -> None:
    run.input("Where?")
    with run.tool_call(BLOCK) as body:
        body.result("found")


def while_the_answer_streams(run: RunScope) -> None:
    with run.model_call(messages=REQUEST["messages"]) as call:
        for event in call.stream(reply_events(REPLY)):
            if event["type"] == "content_block_stop" and event["index"] == 2:
                with run.tool_call(BLOCK) as body:
                    body.result("found")


@pytest.mark.parametrize(
    "loop", [of_a_cut_answer, tried_again, of_an_answer_that_was_not_told, while_the_answer_streams]
)
def test_a_call_that_no_open_answer_asks_for_is_told_as_the_loops_own(
    loop: Callable[[RunScope], None],
) -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        loop(run)
    assert faults(recorder.events) == []
    (own,) = [event for event in told(recorder, ToolCallRequested) if not event.request_id]
    assert (own.call.name, own.call.input) == ("search", BLOCK["input"])
    (result,) = [event for event in told(recorder, ToolResultReceived) if event.call_id == own.call.id]
    assert result.output == "found"


def test_a_tool_may_go_on_while_the_model_is_asked_with_a_stand_in_for_its_result() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        ask(run)
        began, may_end = threading.Event(), threading.Event()

        def work() -> None:
            with run.tool_call(BLOCK) as body:
                began.set()
                may_end.wait()
                body.progress("done")
                body.result("late")

        thread = threading.Thread(target=work)
        thread.start()
        began.wait()
        sent = {"type": "tool_result", "tool_use_id": "a", "content": "It runs."}
        with run.model_call(messages=[{"role": "user", "content": [sent]}]) as call:
            call.record(message(text="I wait.", number=2))
        may_end.set()
        thread.join()
    assert faults(recorder.events) == []
    (result,) = told(recorder, ToolResultReceived)
    assert (result.output, result.interrupted) == ("It runs.", False)


def test_a_tool_whose_result_nobody_waits_for_has_none() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        ask(run)
        thread = threading.Thread(target=lambda: run.tool_call(BLOCK).__enter__())
        thread.start()
        thread.join()
        with run.model_call() as call:
            call.record(message(text="I go on.", number=2))
    assert faults(recorder.events) == []
    (result,) = told(recorder, ToolResultReceived)
    assert (result.is_error, result.not_started) == (True, False)
    assert result.output == NOT_TOLD


def test_what_is_told_after_a_cancel_or_the_end_of_the_run_changes_nothing() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        ask(run)
        with run.tool_call(BLOCK) as body:
            run.cancel("the user left")
            run.input("Something else.")
            body.progress("half")
            body.result("late")
            with pytest.raises(IllegalMoveError):
                body.result("twice")
        with run.model_call() as call:
            heard = 0
            for event in call.stream(reply_events(Reply(text="Hello there", chunk_chars=2))):
                heard += 1
                if event["type"] == "content_block_delta":
                    run.cancel("the user left again")
            call.record(message(text="late", number=7))
        with run.tool_call("index") as last:
            pass
        late = run.tool_call("index")
        late.__enter__()
    late.result("late")
    late.__exit__(None, None, None)
    assert heard > 5
    assert last.call_id
    assert faults(recorder.events) == []
    assert isinstance(recorder.events[-1], RunFinished)


LATE: list[Callable[[RunScope], object]] = [
    lambda run: run.input("late"),
    lambda run: run.turn(),
    lambda run: run.custom("late", 1),
    lambda run: run.decision("late", "late"),
    lambda run: run.record_model_call(message(text="late", number=9)),
    lambda run: run.record_tool_call("late", {}, "late"),
    lambda run: list(run.model_call().__enter__().stream(reply_events(REPLY))),
    lambda run: run.tool_call("late").__enter__().result("late"),
]


@pytest.mark.parametrize("tell", LATE, ids=range(len(LATE)))
def test_a_run_tells_nothing_after_its_end_and_refuses_before_its_beginning(
    tell: Callable[[RunScope], object],
) -> None:
    recorder = EventRecorder()
    emitter = EventEmitter([recorder])
    early = emitter.run(prices=None)
    with pytest.raises(IllegalMoveError, match="enter the run first"):
        tell(early)
    with emitter.run(prices=None) as run:
        run.input("hi")
    before = len(recorder.events)
    contextvars.copy_context().run(tell, run)  # a call that is entered and not left is no other test's
    assert len(recorder.events) == before
    with emitter.run(prices=None) as again:
        again.record_model_call(message())
    assert faults(recorder.events) == []


def test_a_loop_that_is_a_generator_may_be_closed_by_another_thread() -> None:
    recorder = EventRecorder()
    before = signal.getsignal(signal.SIGINT)

    def loop() -> Iterator[object]:
        with (
            EventEmitter([recorder]).run(prices=None) as run,
            run.model_call(messages=REQUEST["messages"]) as call,
        ):
            yield from call.stream(reply_events(REPLY))

    generator = loop()
    next(generator)
    thread = threading.Thread(target=generator.close)  # type: ignore[attr-defined] # it is a generator
    thread.start()
    thread.join()
    assert faults(recorder.events) == []
    assert isinstance(recorder.events[-1], RunCancelled)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_tool_that_asks_a_model_is_refused_in_words_that_say_where_that_is_told() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        ask(run)
        with (
            pytest.raises(IllegalMoveError, match=r"a run of its own: with run.child\(\)"),
            run.tool_call(BLOCK),
        ):
            run.record_model_call(message(text="inner", number=5))
    assert faults(recorder.events) == []


# --- streams


def malformed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stray = {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "?"}}
    return [*events[:3], stray, *events[3:]]


def failing(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    return [*events[:3], error, {"type": "ping"}]


@pytest.mark.parametrize("broken", [malformed, failing])
def test_the_loop_reads_on_where_a_stream_is_none(broken: Callable[[list[Any]], list[Any]]) -> None:
    recorder = EventRecorder()
    events = broken(list(reply_events(REPLY)))
    with EventEmitter([recorder]).run(prices=None) as run:
        run.input("hi")
        with run.model_call() as call:
            assert list(call.stream(events)) == events
    assert faults(recorder.events) == []
    assert len(told(recorder, ModelRequestFailed)) == 1


@pytest.mark.parametrize("read", range(12))
def test_a_final_message_after_a_stream_read_in_part_adds_the_rest(read: int) -> None:
    recorder, used = EventRecorder(), UsageReporter()
    with (
        MessagesServer([REPLY]) as server,
        EventEmitter([recorder, used]).run(model="claude-sonnet-5-5", tools=[SEARCH], prices=None) as run,
        run.model_call(messages=REQUEST["messages"]) as call,
        client_of(server) as client,
        client.messages.stream(**REQUEST) as stream,
    ):
        for number, _ in enumerate(call.stream(stream)):
            if number == read:
                break
        call.record(stream.get_final_message())
        run.record_model_call(stream.get_final_message())
    assert faults(recorder.events) == []
    assert (used.total.usage.input_tokens, used.total.usage.output_tokens) == (10, 5)
    (request,) = told(recorder, ModelRequestFinished)
    assert request.finish_reason == "tool_call"
    said = [item for item in run.state.transcript.items if item.kind == "assistant"]
    assert [getattr(part, "text", "call") for part in said[0].parts] == ["Hm.", "Let me look.", "call"]


def test_a_stream_read_once_more_is_another_attempt() -> None:
    recorder, used = EventRecorder(), UsageReporter()
    events = list(reply_events(REPLY))
    with EventEmitter([recorder, used]).run(tools=[SEARCH], prices=None) as run:
        run.input("hi")
        with run.model_call() as call:
            for event in call.stream(events):
                if event["type"] == "content_block_delta":
                    break
            list(call.stream(events))
        assert len(told(recorder, ModelRequestRetrying)) == 1
        with run.model_call() as call:
            call.record(message(text="one", number=2))
            call.record(message(text="one", number=2))
            call.record(message(text="two", number=3))
    assert faults(recorder.events) == []
    assert [event.attempt for event in told(recorder, ModelRequestStarted)] == [1, 2, 1, 1]
    assert [event.error_class for event in told(recorder, ModelRequestFailed)] == ["stream_cut"]


def test_answers_without_an_id_are_not_taken_for_one() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(prices=None) as run:
        for _ in range(3):
            run.record_model_call({**message(), "id": ""})
    assert len(told(recorder, ModelRequestFinished)) == 3


def client_of(server: MessagesServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.base_url, api_key="sk-any", max_retries=0)


def raw_response(call: Any, client: anthropic.Anthropic) -> None:
    call.record(client.messages.with_raw_response.create(**REQUEST))


def streamed_response(call: Any, client: anthropic.Anthropic) -> None:
    with client.messages.with_streaming_response.create(**REQUEST) as response:
        call.record(response)


def beta(call: Any, client: anthropic.Anthropic) -> None:
    call.record(client.beta.messages.create(**REQUEST))


def beta_helper(call: Any, client: anthropic.Anthropic) -> None:
    with client.beta.messages.stream(**REQUEST) as stream:
        for _ in call.stream(stream):
            pass
        call.record(stream.get_final_message())


@pytest.mark.parametrize("how", [raw_response, streamed_response, beta, beta_helper])
def test_every_form_of_the_sdks_answer_is_taken(how: Callable[[Any, anthropic.Anthropic], None]) -> None:
    recorder = EventRecorder()
    with (
        MessagesServer([REPLY]) as server,
        EventEmitter([recorder]).run(prices=None) as run,
        run.model_call(messages=REQUEST["messages"]) as call,
        client_of(server) as client,
    ):
        how(call, client)
    assert faults(recorder.events) == []
    (usage,) = [event.usage for event in told(recorder, UsageUpdated) if event.final]
    assert (usage.input_tokens, usage.output_tokens) == (10, 5)


def test_what_is_no_message_is_refused_and_the_words_say_what_is() -> None:
    with (
        MessagesServer([REPLY]) as server,
        EventEmitter().run(prices=None) as run,
        run.model_call(messages=REQUEST["messages"]) as call,
        client_of(server) as client,
        client.messages.stream(**REQUEST) as stream,
    ):
        for bad in (stream, None, "text", {"type": "text"}):
            with pytest.raises(ConfigurationError, match=r"call\.stream"):
                call.record(bad)


def test_the_helpers_own_events_are_not_looked_into() -> None:
    class Added:
        type = "input_json"

        def to_dict(self) -> dict[str, Any]:
            raise AssertionError("it repeats all that came so far")

    events: list[Any] = list(reply_events(REPLY))
    events[2:2] = [Added()]
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(prices=None) as run:
        run.input("hi")
        with run.model_call() as call:
            assert len(list(call.stream(events))) == len(events)
    assert told(recorder, ModelRequestFinished)


# --- interrupts and other event loops


def test_ctrl_c_while_an_event_is_told_waits_until_everybody_has_it() -> None:
    seen: list[int] = []

    def interrupted(event: AgentEvent) -> None:
        if isinstance(event, ContentDelta) and not hit.is_set():
            hit.set()
            signal.raise_signal(signal.SIGINT)
        seen.append(event.seq)

    hit = threading.Event()
    recorder = EventRecorder()
    before = signal.getsignal(signal.SIGINT)
    with (
        pytest.raises(KeyboardInterrupt),
        EventEmitter([interrupted, recorder]).run(prices=None) as run,
        run.model_call(messages=REQUEST["messages"]) as call,
    ):
        for number, _ in enumerate(call.stream(reply_events(REPLY))):  # noqa: B007 - how far it came is looked at
            pass
    assert number < 3
    assert seen == list(range(1, len(recorder.events) + 1))
    assert faults(recorder.events) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_that_the_host_sets_while_it_reads_a_stream_stays() -> None:
    before = signal.getsignal(signal.SIGINT)
    own: Callable[..., None] = lambda *_: None  # noqa: E731 - a handler
    try:
        with EventEmitter().run(prices=None) as run, run.model_call(messages=REQUEST["messages"]) as call:
            for _ in call.stream(reply_events(REPLY)):
                signal.signal(signal.SIGINT, own)
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_asynchronous_run_ends_on_a_loop_that_is_not_asyncios() -> None:
    recorder = EventRecorder()

    async def main() -> None:
        async with EventEmitter([recorder]).run(prices=None) as run:
            run.input("hi")

    with pytest.raises(StopIteration):
        main().send(None)
    assert faults(recorder.events) == []
    assert isinstance(recorder.events[-1], RunFinished)
    asyncio.run(main())
    assert isinstance(recorder.events[-1], RunFinished)


# --- what a run is told at its beginning


def test_a_run_takes_what_the_sdks_request_takes() -> None:
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Say the weather.

        Args:
            city: where
        """
        return city

    recorder = EventRecorder()
    system: Any = [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}]
    parameters = {"stop": anthropic.NOT_GIVEN, "until": dt.datetime(2026, 5, 24, tzinfo=dt.UTC)}
    for tools in ([get_weather], [SEARCH], None, anthropic.NOT_GIVEN, anthropic.omit):
        given: Any = tools
        with EventEmitter([recorder]).run(
            system=system, tools=given, parameters=parameters, prices=None
        ) as run:
            run.record_model_call(message())
    started = told(recorder, RunStarted)
    assert [[spec.name for spec in event.tools] for event in started] == [
        ["get_weather"],
        ["search"],
        [],
        [],
        [],
    ]
    assert started[0].tools[0].input_schema["properties"]
    assert {event.system for event in started} == {"Be kind.\n\nBe brief."}
    assert all(decode_event(encode_event(event)) == event for event in recorder.events)
