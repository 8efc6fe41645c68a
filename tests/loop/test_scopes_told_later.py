"""What a hand-written loop tells late, twice, or not at all; and sessions that go on in another process."""

from __future__ import annotations

import asyncio
import contextvars
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import pytest

from agentkit_loop import EventEmitter, FailurePolicy, Registration, current_call, replay
from agentkit_loop.content import Parent
from agentkit_loop.errors import ConfigurationError, ObserverError
from agentkit_loop.events import (
    AgentEvent,
    CustomEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.testing import EventRecorder, MessagesServer, Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.testing_messages import reply_events, whole_message
from agentkit_reporting import JsonlReporter, UsageReporter, check_log, read_events
from agentkit_reporting.transcript import TranscriptReporter
from tests.rules import faults

SEARCH = {"name": "search", "description": "Search", "input_schema": {"type": "object"}}


def message(*calls: ScriptedCall, text: str = "Look.", number: int = 1) -> dict[str, Any]:
    return whole_message(reply_events(Reply(text=text, calls=calls), number=number))


def told(recorder: EventRecorder, kind: type[AgentEvent]) -> list[Any]:
    return [event for event in recorder.events if isinstance(event, kind)]


def test_results_that_only_the_next_request_sends_are_told_from_it() -> None:
    recorder, transcript = EventRecorder(), TranscriptReporter()
    with EventEmitter([recorder, transcript]).run(tools=[SEARCH], prices=None) as run:
        with run.model_call(messages=[{"role": "user", "content": "Where?"}]) as call:
            call.record(
                message(
                    ScriptedCall(name="search", input={"q": 1}, id="a"), ScriptedCall(name="search", id="b")
                )
            )
        results = [
            {"type": "tool_result", "tool_use_id": "a", "content": "found"},
            {"type": "tool_result", "tool_use_id": "b", "content": "broken", "is_error": True},
        ]
        with run.model_call(messages=[{"role": "user", "content": results}]) as call:
            call.record(message(text="There."))
    assert faults(recorder.events) == []
    assert [(e.output, e.is_error, e.duration_ms) for e in told(recorder, ToolResultReceived)] == [
        ("found", False, None),
        ("broken", True, None),
    ]
    assert [item.kind for item in transcript.items()] == ["user", "assistant", "tool", "tool", "assistant"]


def test_a_call_that_nobody_told_the_result_of_is_no_reason_to_stop() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        run.input("Where?")
        with run.model_call() as call:
            call.record(message(ScriptedCall(name="search")))
        with run.model_call() as call:
            call.record(message(text="There."))
    assert faults(recorder.events) == []
    (result,) = told(recorder, ToolResultReceived)
    assert (result.not_started, result.is_error) == (True, True)
    assert result.output == "The call has no result: nobody told one."


def test_a_chat_tells_each_message_that_was_not_told() -> None:
    recorder = EventRecorder()
    said: list[Any] = []
    with EventEmitter([recorder]).run(prices=None) as run:
        for text in ("one", "two"):
            said.append({"role": "user", "content": text})
            with run.model_call(messages=said) as call:
                call.record(message(text=f"answer to {text}"))
            said.append({"role": "assistant", "content": f"answer to {text}"})
        assert [item.kind for item in run.state.transcript.items] == ["user", "assistant"] * 2
    assert faults(recorder.events) == []
    assert len(told(recorder, TurnFinished)) == 2


def test_what_is_over_is_told_together_with_its_own_times_and_costs() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(model="claude-sonnet-5-5", prices=None) as run:
        run.record_model_call(
            usage={"input_tokens": 1200, "output_tokens": 340},
            stop_reason="tool_use",
            duration_ms=1840,
            cost="0.0087",
        )
        run.record_tool_call("search", {"q": 1}, {"results": []}, duration_ms=240)
        run.record_tool_call("search", {"q": 2}, error="", duration_ms=-3)
        run.record_tool_call("search", {"q": 3}, error=ValueError("no index"))
        run.record_model_call(error=TimeoutError("too slow"), duration_ms=float("nan"))
        run.record_model_call(usage={"input_tokens": 5}, stop_reason="end_turn")
        run.decision("final_response", "done", metadata={"sure": True})
    assert faults(recorder.events) == []
    first, last = told(recorder, ModelRequestFinished)
    assert (first.duration_ms, first.finish_reason, first.first_content_ms) == (1840.0, "tool_call", None)
    assert (last.duration_ms, last.finish_reason) == (None, "completed")
    (failed,) = told(recorder, ModelRequestFailed)
    assert (failed.error.type, failed.duration_ms) == ("TimeoutError", None)
    costs = [event.cost for event in told(recorder, UsageUpdated)]
    assert (costs[0].amount, costs[0].currency, costs[0].source) == (Decimal("0.0087"), "USD", "host")
    assert costs[1] is None
    results = told(recorder, ToolResultReceived)
    assert [(e.output, e.is_error, e.duration_ms) for e in results] == [
        ({"results": []}, False, 240.0),
        ("", True, 0.0),
        ("no index", True, None),
    ]
    assert [e.error and (e.error.type, e.error.message) for e in results] == [
        None,
        ("Error", ""),
        ("ValueError", "no index"),
    ]
    assert {e.request_id for e in told(recorder, ToolCallRequested)} == {""}
    (decision,) = told(recorder, CustomEvent)
    assert decision.data == {
        "step": 1,
        "type": "final_response",
        "detail": "done",
        "metadata": {"sure": True},
    }


def test_an_answer_that_was_told_is_not_told_again() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(prices=None) as run:
        for number in (1, 2):
            answer = message(text="Hello.", number=number)
            with run.model_call() as call:
                call.record(answer)
            run.record_model_call(answer)
        run.record_model_call(message(text="Hello."))
    assert len(told(recorder, ModelRequestFinished)) == 2


def test_a_timeout_around_a_tool_or_a_request_does_not_end_the_loop() -> None:
    recorder = EventRecorder()

    async def main() -> None:
        async with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
            run.input("Where?")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), run.model_call():
                    await asyncio.Event().wait()
            async with run.model_call() as call:
                call.record(message(ScriptedCall(name="search", id="a")))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), run.tool_call({"id": "a", "name": "search", "input": {}}):
                    await asyncio.Event().wait()
            async with run.model_call() as call:
                call.record(message(text="There."))

    asyncio.run(main())
    assert faults(recorder.events) == []
    assert [event.error_class for event in told(recorder, ModelRequestFailed)] == ["other"]
    (result,) = told(recorder, ToolResultReceived)
    assert result.interrupted
    assert result.error.type == "CancelledError"


def test_a_stream_that_the_host_stops_reading_ends_the_exchange_and_the_next_begins() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(prices=None) as run:
        run.input("one")
        with run.model_call() as call:
            for event in call.stream(reply_events(Reply(text="Hello there", chunk_chars=2))):
                if event["type"] == "content_block_delta":
                    break
        run.input("two")
        with run.model_call() as call:
            call.record(message(text="Hello."))
    assert faults(recorder.events) == []
    assert [event.finish_reason for event in told(recorder, TurnFinished)] == ["cancelled", "completed"]


def test_a_session_goes_on_in_another_process_from_its_log(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    broken = EventEmitter([JsonlReporter(path)])

    def killed() -> None:
        run = broken.run(tools=[SEARCH], prices=None)
        run.__enter__()
        run.input("Where?")
        with run.model_call() as call:
            call.record(message(ScriptedCall(name="search", id="a")))
        run.tool_call({"id": "a", "name": "search", "input": {}}).__enter__()
        run.tool_call("cleanup").__enter__()  # and then the process is gone

    contextvars.copy_context().run(killed)
    recorder = EventRecorder()
    with (
        EventEmitter([JsonlReporter(path), recorder]) as emitter,
        emitter.run(tools=[SEARCH], prices=None, resume=read_events(path)) as again,
    ):
        assert again.session_id == broken.session_id
        with again.model_call() as call:
            call.record(message(text="There.", number=2))
    assert check_log(path).faults == ()
    (started,) = told(recorder, RunStarted)
    assert (started.resumed_run, started.run_id == broken.run_id) == (broken.run_id, False)
    assert [event.interrupted for event in told(recorder, ToolResultReceived)] == [True, True]
    assert [event.turn_id for event in told(recorder, TurnStarted)] == ["turn-2"]


def test_a_session_goes_on_under_its_name_where_no_other_is_given(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    async def main() -> None:
        async with EventEmitter([JsonlReporter(path)]) as emitter:
            fields: dict[str, Any] = {"model": "m", "system": "Be brief.", "parameters": {"max_tokens": 9}}
            async with emitter.run(agent_name="finder", tools=[SEARCH], prices=None, **fields) as run:
                run.record_model_call(message(text="Hello."))
            recorder = EventRecorder()
            async with EventEmitter([recorder]).run(resume=read_events(path), model="n", prices=None):
                pass
        (started,) = told(recorder, RunStarted)
        assert (started.agent_name, started.model, started.system) == ("finder", "n", "Be brief.")
        assert ([spec.name for spec in started.tools], started.parameters) == (["search"], {"max_tokens": 9})

    asyncio.run(main())


def test_a_session_is_gone_on_with_only_before_anything_else_is_told() -> None:
    recorder = EventRecorder()
    emitter = EventEmitter([recorder])
    with emitter.run(prices=None) as run:
        run.input("hello")
    with pytest.raises(ConfigurationError, match="make an emitter for it"):
        emitter.run(resume=recorder.events)


def test_the_call_that_runs_is_known_to_what_it_calls() -> None:
    seen = []
    with EventEmitter().run(tools=[SEARCH], prices=None) as run:
        assert current_call() is None
        with run.tool_call("outer", {"a": 1}):
            seen.append(current_call())
            with run.tool_call("inner"):
                seen.append(current_call())
            seen.append(current_call())
        assert current_call() is None
    assert [call and (call.name, call.call_id) for call in seen] == [
        ("outer", "own-1"),
        ("inner", "own-2"),
        ("outer", "own-1"),
    ]


def test_nobody_is_within_a_call_whose_run_is_over() -> None:
    with EventEmitter().run(tools=[SEARCH], prices=None) as outer, outer.tool_call("outer") as around:
        with EventEmitter().run(tools=[SEARCH], prices=None) as run:
            left_open = run.tool_call("inner")
            left_open.__enter__()
        inside = current_call()
        assert inside is not None
        assert inside.call_id == around.call_id
        assert inside.run_id == outer.run_id
        left_open.__exit__(None, None, None)
        assert current_call() == inside
    assert current_call() is None


def test_the_log_of_a_hand_written_loop_can_be_replayed() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        run.record_tool_call("warm_up", {"n": 1}, "warm", duration_ms=12)
        run.input("Where?")
        with run.model_call() as call:
            call.record(message(ScriptedCall(name="search", id="a")))
        with run.tool_call({"id": "a", "name": "search", "input": {}}) as body:
            run.record_tool_call("look_up", error="")
            body.progress("half", 0.5)
            body.result("found")
        with run.model_call() as call:
            call.record(message(text="There.", number=2))
    result = replay(None, recorder.events)
    assert result.is_equal, result.mismatch


def test_calls_of_the_hosts_own_may_last_longer_than_a_turn() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        run.input("go")
        with run.tool_call("index") as body:
            for text in ("one", "two"):
                with run.model_call() as call:
                    call.record(message(text=text))
            body.result("indexed")
    assert faults(recorder.events) == []
    assert [event.name for event in told(recorder, ToolExecutionStarted)] == ["index"]


def test_what_a_tool_asks_a_model_is_a_run_of_its_own_told_to_the_same_observers() -> None:
    recorder, used = EventRecorder(), UsageReporter()
    with EventEmitter([recorder, used]).run(agent_name="outer", tools=[SEARCH], prices=None) as run:
        run.input("Where?")
        with run.model_call() as call:
            call.record(message(ScriptedCall(name="search", id="a")))
        with run.tool_call({"id": "a", "name": "search", "input": {}}) as body:
            with run.child(agent_name="inner") as inner:
                inner.record_model_call(usage={"input_tokens": 7}, stop_reason="end_turn")
            body.result("found")
        with run.child() as beside:
            pass
    assert faults([event for event in recorder.events if event.session_id == run.session_id]) == []
    assert faults([event for event in recorder.events if event.session_id == inner.session_id]) == []
    parents = {event.session_id: event.parent for event in told(recorder, RunStarted)}
    assert parents[inner.session_id] == Parent(session_id=run.session_id, run_id=run.run_id, call_id="a")
    assert parents[beside.session_id] == Parent(session_id=run.session_id, run_id=run.run_id, call_id="")
    assert used.by_session[inner.session_id].usage.input_tokens == 7


@pytest.mark.parametrize("place", [TurnFinished, RunFinished])
def test_an_observer_that_fails_fast_at_the_end_leaves_the_run_ended(place: type[AgentEvent]) -> None:
    recorder = EventRecorder()

    def broken(event: AgentEvent) -> None:
        if isinstance(event, place):
            raise OSError("no space")

    emitter = EventEmitter([Registration(broken, policy=FailurePolicy.FAIL_FAST), recorder])
    with pytest.raises(ObserverError, match="broken"), emitter.run(prices=None) as run:
        run.input("Hello?")
        with run.model_call() as call:
            call.record(message(text="Hello."))
    assert isinstance(recorder.events[-1], RunFinished)
    assert not run.is_open
    with emitter.run(prices=None) as again:
        assert again.is_open
    assert faults(recorder.events) == []


def test_the_ids_of_calls_that_no_model_asked_for_are_no_others() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        for _ in range(3):
            run.record_tool_call("own")
        with run.model_call() as call:
            call.record(
                message(ScriptedCall(name="search", id="own-2"), ScriptedCall(name="search", id="own-5"))
            )
        for _ in range(3):
            run.record_tool_call("own")
    assert faults(recorder.events) == []
    ids = [event.call.id for event in told(recorder, ToolCallRequested)]
    assert ids == ["own-1", "own-2", "own-3", "own-2~2", "own-5", "own-4", "own-6", "own-7"]
    assert run.state.seen_calls == {"own-2~2", "own-5"}


def test_another_result_than_was_told_is_warned_of_where_the_request_sends_it() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(tools=[SEARCH], prices=None) as run:
        run.input("Where?")
        with run.model_call() as call:
            call.record(message(*(ScriptedCall(name="search", id=name) for name in "ab")))
        for name in "ab":
            with run.tool_call({"id": name, "name": "search", "input": {}}) as body:
                body.result(f"told {name}")
        sent = [
            {"type": "tool_result", "tool_use_id": "a", "content": "told a"},
            {"type": "tool_result", "tool_use_id": "b", "content": "sent b"},
        ]
        with run.model_call(messages=[{"role": "user", "content": sent}]) as call:
            call.record(message(text="There."))
    assert faults(recorder.events) == []
    (warning,) = told(recorder, Warning)
    assert (warning.code, warning.details) == ("result_differs", {"call_id": "b"})


def test_a_loop_that_told_no_tools_may_run_them_all_the_same() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(prices=None) as run:
        run.input("Where?")
        with run.model_call() as call:
            call.record(message(ScriptedCall(name="search", id="a")))
        with run.tool_call({"id": "a", "name": "search", "input": {}}) as body:
            body.result("found")
    assert faults(recorder.events) == []


def test_messages_that_are_no_list_are_refused() -> None:
    with (
        pytest.raises(ConfigurationError, match="messages='go' refused; give the list that is sent"),
        EventEmitter().run(prices=None) as run,
    ):
        run.model_call(messages="go")


@pytest.mark.parametrize("error_class", ["overloaded", "rate_limited", "timeout"])
def test_a_failure_inside_a_stream_that_the_sdk_reads_is_told_as_what_it_is(error_class: str) -> None:
    recorder = EventRecorder()
    reply = Reply(
        text="Hello there", chunk_chars=2, fail=ScriptedFailure(error_class=error_class, after_chunks=2)
    )
    with (
        MessagesServer([reply]) as server,
        anthropic.Anthropic(base_url=server.base_url, api_key="any", max_retries=0) as client,
        EventEmitter([recorder]).run(prices=None) as run,
        pytest.raises(anthropic.APIStatusError),
        run.model_call() as call,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream,
    ):
        list(call.stream(stream))
    (failed,) = told(recorder, ModelRequestFailed)
    assert (failed.error_class, failed.error.retryable) == (error_class, True)


def test_a_check_that_is_printed_says_how_many_rules_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with EventEmitter([JsonlReporter(path)]).run(prices=None) as run:
        run.input("hi")
    assert str(check_log(path)).startswith("complete: ")
    whole = path.read_text().replace('"finish_reason"', '"reason"').splitlines(keepends=True)
    path.write_text("".join([whole[0], *whole[:1], *whole[1:]]).replace('"suspended"', '"completed"'))
    found = check_log(path)
    assert found.fault_count
    assert str(found).startswith(f"{found.fault_count} fault")


def test_what_is_no_answer_is_refused_before_anything_is_told() -> None:
    recorder = EventRecorder()
    with EventEmitter([recorder]).run(prices=None) as run:
        with pytest.raises(ConfigurationError, match="or tell its usage alone"):
            run.record_model_call({"model": "m", "usage": {"input_tokens": 3}})
        assert [event.type for event in recorder.events] == ["run_started"]
    assert faults(recorder.events) == []
