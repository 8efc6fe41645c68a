"""BEHAVIOUR "Turns": what a run tells, case by case, with both drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import Item, TextPart
from agentkit_loop.errors import ConfigurationError, IllegalMoveError, ModelError
from agentkit_loop.events import (
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
)
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.retry import Retry
from agentkit_loop.steps import AwaitingInput, Finished, RunResult
from agentkit_loop.testing import (
    EventRecorder,
    Reply,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    VirtualClock,
)
from agentkit_loop.usage import Usage
from tests.rules import faults


class Run:
    """An agent on a script, with a recorder and a clock that obeys."""

    def __init__(self, replies: Sequence[Any] | Callable[[ModelRequest], Any], **options: Any) -> None:
        self.clock = VirtualClock()
        self.recorder = EventRecorder()
        self.model = ScriptedModel(replies, clock=self.clock)
        self.agent = Agent(self.model, observers=[self.recorder], clock=self.clock, **options)

    def of(self, cls: type[Any]) -> list[Any]:
        return self.recorder.of(cls)


def drive_sync(run: Run, *prompt: str) -> RunResult:
    return run.agent.run(*prompt)


def drive_async(run: Run, *prompt: str) -> RunResult:
    return asyncio.run(run.agent.arun(*prompt))


either = pytest.mark.parametrize("drive", [drive_sync, drive_async])
Drive = Callable[..., RunResult]


def test_advancing_without_input_yields_awaiting_input_and_tells_nothing_else() -> None:
    run = Run(["never"])
    with run.agent.start() as driver:
        assert isinstance(driver.next(), AwaitingInput)
        assert run.recorder.types == ["run_started"]
        assert [type(step) for step in driver] == [AwaitingInput]
    assert run.model.requests == []
    assert run.of(RunFinished)[0].outcome == "completed"


@either
def test_one_text_answer_is_one_turn(drive: Drive) -> None:
    run = Run([Reply(text="hello", usage=Usage(input_tokens=3, output_tokens=1))])
    result = drive(run, "hi")
    assert (result.text, result.finish_reason, result.status) == ("hello", "completed", "completed")
    assert result.usage == Usage(input_tokens=3, output_tokens=1)
    assert [event.index for event in run.of(TurnStarted)] == [1]
    assert [event.finish_reason for event in run.of(TurnFinished)] == ["completed"]
    assert faults(run.recorder.events) == []


def test_input_given_at_the_start_is_dispatched_by_the_first_advance() -> None:
    run = Run(["hello"])
    with run.agent.start("hi") as driver:
        assert [item.text for item in driver.transcript.items] == ["hi"]
        assert run.model.requests == []
        assert isinstance(driver.next(), Finished)
    assert [item.text for item in run.model.requests[0].items] == ["hi"]


def test_a_preloaded_transcript_alone_asks_nothing() -> None:
    run = Run(["never"])
    items = [Item.user("before"), Item.assistant("yes")]
    with run.agent.start(items=items) as driver:
        assert isinstance(driver.next(), AwaitingInput)
        assert [item.text for item in driver.transcript.items] == ["before", "yes"]
        assert [item.id for item in driver.transcript.items] == ["item-1", "item-2"]
    assert run.model.requests == []
    assert [item.text for item in run.of(RunStarted)[0].items] == ["before", "yes"]


def test_two_submits_before_advancing_are_one_turn() -> None:
    run = Run(["both"])
    with run.agent.start() as driver:
        driver.submit("one")
        driver.submit("two")
        driver.next()
        assert [item.text for item in driver.transcript.items] == ["one", "two", "both"]
    assert len(run.of(InputAccepted)) == 2
    assert len(run.of(TurnStarted)) == 1


def test_an_empty_submit_tells_nothing_and_asks_nothing() -> None:
    run = Run(["never"])
    with run.agent.start() as driver:
        driver.submit()
        assert isinstance(driver.next(), AwaitingInput)
    assert run.of(InputAccepted) == []
    assert run.model.requests == []


@either
def test_a_stream_without_its_final_event_fails_after_retries(drive: Drive) -> None:
    run = Run([Reply(text="half", ends=False)] * 2, retry=Retry(max_attempts=2))
    with pytest.raises(ModelError, match="without its final event") as caught:
        drive(run, "hi")
    assert caught.value.error_class == "stream_cut"
    assert [item.text for item in caught.value.items] == ["hi"]
    assert [event.error_class for event in run.of(ModelRequestFailed)] == ["stream_cut"] * 2
    assert len(run.of(ModelRequestRetrying)) == 1
    assert [event.finish_reason for event in run.of(TurnFinished)] == ["error"]
    assert isinstance(run.recorder.events[-1], RunFailed)
    assert faults(run.recorder.events) == []


@either
@pytest.mark.parametrize("after_chunks", [None, 0, 3])
def test_a_retry_that_succeeds_leaves_one_clean_item(drive: Drive, after_chunks: int | None) -> None:
    fail = ScriptedFailure(error_class="overloaded", after_chunks=after_chunks)
    run = Run([Reply(text="a broken answer", chunk_chars=2, fail=fail), "a whole answer"])
    result = drive(run, "hi")
    assert [item.text for item in result.items] == ["hi", "a whole answer"]
    started = run.of(ModelRequestStarted)
    assert [(event.request_id, event.attempt) for event in started] == [("request-1", 1), ("request-2", 2)]
    assert len(run.of(TurnStarted)) == 1
    assert started[0].digests == started[1].digests


def test_back_off_grows_is_capped_and_honours_what_the_provider_asks() -> None:
    fails = [
        ScriptedFailure(error_class="rate_limited", retry_after_ms=ms) for ms in (None, None, 1_500.0, 9e9)
    ]
    run = Run(
        [*[Reply(fail=fail) for fail in fails], "done"],
        retry=Retry(max_attempts=5, base_ms=100, max_delay_ms=2_000, jitter=0.0),
    )
    run.agent.run("hi")
    assert [event.delay_ms for event in run.of(ModelRequestRetrying)] == [100.0, 200.0, 1_500.0, 2_000.0]
    assert run.clock.monotonic() == pytest.approx(3.8)


def test_a_failure_that_no_attempt_mends_is_not_retried() -> None:
    run = Run([Reply(fail=ScriptedFailure(error_class="invalid_request", message="no such model"))])
    with pytest.raises(ModelError, match="no such model"):
        run.agent.run("hi")
    assert run.of(ModelRequestRetrying) == []
    error = run.of(RunFailed)[0].error
    assert (error.type, error.message) == ("ModelRequestError", "no such model")


def test_an_adapter_that_raises_anything_fails_the_request_as_other() -> None:
    def broken(_: ModelRequest) -> Reply:
        raise ZeroDivisionError("in the adapter")

    run = Run(broken)
    with pytest.raises(ModelError, match="in the adapter"):
        run.agent.run("hi")
    failed = run.of(ModelRequestFailed)[0]
    assert (failed.error_class, failed.error.type) == ("other", "ZeroDivisionError")


@either
def test_a_cut_answer_runs_none_of_its_calls(drive: Drive) -> None:
    ran: list[str] = []

    def work(note: str) -> str:
        """Work."""
        ran.append(note)
        return note

    calls = (ScriptedCall(name="work", input={"note": "x"}), ScriptedCall(name="work", cut='{"note": "y'))
    run = Run([Reply(text="I will", calls=calls, finish_reason="max_tokens")], tools=[work])
    result = drive(run, "hi")
    assert ran == []
    assert result.finish_reason == "max_tokens"
    results = run.of(ToolResultReceived)
    assert [(event.not_started, event.is_error) for event in results] == [(True, True)] * 2
    assert "max_tokens" in results[0].output
    assert run.of(ToolExecutionStarted) == []
    cut = run.of(ToolCallRequested)[1].call
    assert (cut.input, cut.cut) == ({}, '{"note": "y')
    assert faults(run.recorder.events) == []


@either
def test_a_cut_text_is_kept(drive: Drive) -> None:
    result = drive(Run([Reply(text="half a sen", finish_reason="max_tokens")]), "hi")
    assert (result.text, result.finish_reason) == ("half a sen", "max_tokens")


@either
def test_an_empty_answer_completes_with_unknown_usage(drive: Drive) -> None:
    run = Run([Reply()])
    result = drive(run, "hi")
    assert (result.text, result.finish_reason) == ("", "completed")
    assert [item.kind for item in result.items] == ["user"]
    assert result.cost is None
    assert result.usage == Usage()
    assert [(event.usage, event.final) for event in run.of(UsageUpdated)] == [(Usage(), True)]


@either
def test_pause_turn_goes_on_by_itself(drive: Drive) -> None:
    run = Run([Reply(text="searching", finish_reason="pause_turn"), "found"])
    result = drive(run, "hi")
    assert [item.text for item in result.items] == ["hi", "searching", "found"]
    assert [event.index for event in run.of(TurnStarted)] == [1, 2]
    assert len(run.of(TurnFinished)) == 1


@either
@pytest.mark.parametrize("reason", ["refusal", "context_window_exceeded", "stop_sequence", "a_new_word"])
def test_other_reasons_reach_the_host_as_they_are(drive: Drive, reason: str) -> None:
    assert drive(Run([Reply(text="no", finish_reason=reason)]), "hi").finish_reason == reason


def test_several_exchanges_count_turns_on_in_one_session() -> None:
    run = Run(["one", "two"])
    with run.agent.start() as driver:
        assert driver.run("a").text == "one"
        assert driver.run("b").text == "two"
    assert [event.turn_id for event in run.of(TurnStarted)] == ["turn-1", "turn-2"]
    assert [event.index for event in run.of(TurnStarted)] == [1, 1]
    assert [event.item_count for event in run.of(TurnFinished)] == [2, 4]
    assert faults(run.recorder.events) == []


def test_input_given_while_the_model_streams_is_answered_before_the_exchange_ends() -> None:
    run = Run(["first", "second"])
    with run.agent.start() as driver:

        def interject(event: object) -> None:
            if isinstance(event, ContentDelta) and len(run.of(InputAccepted)) == 1:
                driver.submit("and also")

        driver.add_observer(interject)
        result = driver.run("hi")
    assert [item.text for item in result.items] == ["hi", "first", "and also", "second"]
    assert len(run.of(TurnFinished)) == 1
    assert faults(run.recorder.events) == []


def test_a_closed_run_takes_nothing_more() -> None:
    run = Run(["one"])
    with run.agent.start() as driver:
        driver.run("hi")
    with pytest.raises(IllegalMoveError, match="Submit refused while closed; "):
        driver.submit("more")
    with pytest.raises(IllegalMoveError, match="the run is closed"):
        driver.next()
    driver.close()
    assert len(run.of(RunFinished)) == 1


def test_running_without_a_prompt_is_refused_and_changes_nothing() -> None:
    run = Run(["one"])
    with run.agent.start() as driver:
        with pytest.raises(IllegalMoveError, match="give it a prompt"):
            driver.run()
        assert driver.run("hi").text == "one"


def test_item_ids_of_the_host_are_kept_and_must_be_new() -> None:
    run = Run(["one"])
    with run.agent.start(items=[Item(kind="user", parts=(TextPart(text="x"),), id="item-7")]) as driver:
        driver.run(Item(kind="user", parts=(TextPart(text="y"),), id="mine"))
        assert [item.id for item in driver.transcript.items] == ["item-7", "mine", "item-8"]
        with pytest.raises(ConfigurationError, match="'mine' is taken"):
            driver.submit(Item(kind="user", parts=(TextPart(text="z"),), id="mine"))


def test_a_prompt_of_ten_megabytes_goes_through() -> None:
    run = Run(["read it"])
    assert run.agent.run("x" * 10_000_000).text == "read it"
    assert len(run.model.requests[0].items[0].text) == 10_000_000


def test_durations_are_of_the_monotonic_clock() -> None:
    run = Run([Reply(text="abc", chunk_chars=1, delay_s=1.0, chunk_delay_s=0.5)])
    run.agent.run("hi")
    finished = run.of(ModelRequestFinished)[0]
    assert finished.duration_ms == pytest.approx(2_500)
    assert finished.first_content_ms == pytest.approx(1_000)
    assert run.of(TurnFinished)[0].duration_ms == pytest.approx(2_500)


def test_lone_surrogates_from_a_model_become_their_escape_everywhere() -> None:
    run = Run([Reply(text="a\ud800b", chunk_chars=1)])
    result = run.agent.run("hi")
    assert result.text == "a\\ud800b"
    chunks = [e.delta.chunk for e in run.of(ContentDelta) if hasattr(e.delta, "chunk")]
    assert "".join(chunks) == "a\\ud800b"


def test_a_pause_before_a_failure_is_gone_on_with_by_a_resume() -> None:
    replies = [
        Reply(text="searching", finish_reason="pause_turn"),
        Reply(fail=ScriptedFailure(error_class="invalid_request")),
    ]
    first = Run(replies)
    with pytest.raises(ModelError), first.agent.start("go") as driver:
        driver.run()
    second = Run(["found"])
    with second.agent.resume(first.recorder.events) as driver:
        assert driver.run().text == "found"
    assert faults([*first.recorder.events, *second.recorder.events]) == []


def test_an_item_id_that_leaves_no_numbers_after_it_is_refused() -> None:
    run = Run(["done"])
    with run.agent.start() as driver:
        with pytest.raises(ConfigurationError, match="leave it empty"):
            driver.submit(Item(kind="user", parts=(TextPart(text="a"),), id="item-" + "9" * 18))
        driver.submit(Item(kind="user", parts=(TextPart(text="a"),), id="item-" + "9" * 15))
        driver.run("b")
        ids = [item.id for item in driver.transcript.items]
    assert len(set(ids)) == len(ids) == 3
