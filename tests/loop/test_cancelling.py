"""BEHAVIOUR "Cancellation": at every point of an exchange, with both drivers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit_loop.content import (
    AppendText,
    BeginPart,
    CommitPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalResolved,
    CancelRequested,
    ContentDelta,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    ObserverFailed,
    RunFinished,
    ToolExecutionStarted,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.models.anthropic_wire import wire_messages
from agentkit_loop.models.protocol import Answer, UsageReport
from agentkit_loop.retry import Retry
from agentkit_loop.steps import AfterToolResult, AwaitingInput, Finished
from agentkit_loop.testing import Reply, ScriptedFailure, check_messages
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from tests.loop.hosts import (
    ActingModel,
    Host,
    Opened,
    Run,
    asking,
    both,
    call,
    said,
)


def add(a: int = 1, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@tool(approval=True)
def write(path: str = "a") -> str:
    """Write a file."""
    return f"wrote {path}"


def cancel_at(host: Host, when: Callable[[AgentEvent], bool]) -> None:
    """Cancel from inside an observer, at the first event that `when` is about."""
    done: list[int] = []

    def look(event: AgentEvent) -> None:
        if not done and when(event):
            done.append(event.seq)
            host.cancel("enough", by="ann")

    host.add_observer(look)


def goes_on_normally(run: Run, host: Host, text: str = "as ever") -> None:
    """After a cancelled exchange, new input gives a normal one, from a transcript that a provider takes."""
    turns = len(run.of(TurnStarted))
    result = host.run("and now")
    assert (result.text, result.finish_reason) == (text, "completed")
    assert len(run.of(TurnStarted)) == turns + 1
    items = run.model.requests[-1].items
    assert check_messages({"messages": wire_messages(items), "model": "m", "max_tokens": 9}) is None


def finished(run: Run) -> list[str]:
    return [event.finish_reason for event in run.of(TurnFinished)]


# --- while the model answers


@both
def test_the_text_that_came_stays_and_its_usage_is_provisional(opened: Opened) -> None:
    used = Usage(input_tokens=10, output_tokens=5)
    run = Run([Reply(text="one two three", chunk_chars=4, usage=used), "as ever"])
    with opened(run) as host:
        cancel_at(
            host, lambda event: isinstance(event, ContentDelta) and event.delta == AppendText("0", "two ")
        )
        result = host.run("go")
        assert (result.text, result.finish_reason, result.status) == ("one two ", "cancelled", "completed")
        assert result.usage == Usage(input_tokens=10, output_tokens=0)
        goes_on_normally(run, host)
    (requested,) = run.of(CancelRequested)
    assert (requested.reason, requested.by) == ("enough", "ann")
    assert not run.of(UsageUpdated)[0].final
    assert run.of(ModelRequestFinished)[0].finish_reason == "cancelled"
    assert finished(run) == ["cancelled", "completed"]
    assert run.faults == []


@both
def test_calls_and_unsigned_reasoning_of_a_cut_answer_are_dropped(opened: Opened) -> None:
    beats: list[Any] = [
        UsageReport(usage=Usage(input_tokens=3)),
        BeginPart("r", "reasoning"),
        CommitPart("r", ReasoningPart(text="hm")),
        BeginPart("s", "reasoning"),
        CommitPart("s", ReasoningPart(text="so", signature="proof")),
        BeginPart("t", "text"),
        CommitPart("t", TextPart(text="whole")),
        BeginPart("c", "tool_call"),
        CommitPart("c", ToolCallPart(id="call-1", name="add", input={})),
        BeginPart("o", "text"),
        AppendText("o", "half"),
        AppendText("o", "never told"),
        Answer(finish_reason="tool_call"),
    ]
    run = Run([], model=ActingModel(beats, said("as ever")), tools=[add])
    with opened(run) as host:
        cancel_at(host, lambda e: isinstance(e, ContentDelta) and e.delta == AppendText("o", "half"))
        assert host.run("go").text == "wholehalf"
        parts = host.transcript.items[-1].parts
        assert parts == (
            ReasoningPart(text="so", signature="proof"),
            TextPart(text="whole"),
            TextPart(text="half"),
        )
        goes_on_normally(run, host)
    assert run.of(ToolExecutionStarted) == []
    assert run.faults == []


@both
@pytest.mark.parametrize(
    "content", [[], [BeginPart("0", "text")], [BeginPart("0", "text"), AppendText("0", " \n")]]
)
def test_with_nothing_left_of_the_answer_there_is_no_item(opened: Opened, content: list[Any]) -> None:
    run = Run(
        [],
        model=ActingModel([*content, UsageReport(usage=Usage(input_tokens=1)), *said("x")], said("as ever")),
    )
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, UsageUpdated))
        assert host.run("go").text == ""
        assert [item.kind for item in host.transcript.items] == ["user"]
        goes_on_normally(run, host)
    assert run.faults == []


@both
def test_another_thread_cancels_while_the_model_answers(opened: Opened) -> None:
    hosts: list[Host] = []

    def elsewhere() -> None:
        thread = threading.Thread(target=lambda: hosts[0].cancel("from elsewhere"))
        thread.start()
        thread.join()

    beats = [
        BeginPart("0", "text"),
        AppendText("0", "some "),
        elsewhere,
        AppendText("0", "more"),
        AppendText("0", "!"),
    ]
    run = Run([], model=ActingModel(beats, said("as ever")))
    threads: set[int] = set()
    with opened(run) as host:
        hosts.append(host)
        host.add_observer(lambda _: threads.add(threading.get_ident()))
        assert host.run("go").text == "some "
        goes_on_normally(run, host)
    assert threads == {threading.get_ident()}
    assert run.of(CancelRequested)[0].reason == "from elsewhere"
    assert run.faults == []


@pytest.mark.parametrize("from_thread", [False, True])
def test_a_task_or_a_thread_cuts_a_model_that_says_nothing_more(from_thread: bool) -> None:
    beats = [BeginPart("0", "text"), AppendText("0", "some "), lambda: asyncio.Event().wait()]
    run = Run([], model=ActingModel(beats, said("as ever")))

    async def main() -> None:
        async with run.agent.astart(session_id="session") as driver:
            running = asyncio.create_task(driver.run("go"))
            while "content_delta" not in run.recorder.types:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            if from_thread:
                await asyncio.to_thread(driver.cancel)
            else:
                driver.cancel()
            assert (await running).finish_reason == "cancelled"
            assert running.cancelling() == 0
            assert (await driver.run("and now")).text == "as ever"

    asyncio.run(main())
    assert run.faults == []


@both
def test_a_cancel_ends_the_wait_between_two_attempts(opened: Opened) -> None:
    run = Run(
        [Reply(text="a bit", fail=ScriptedFailure(after_chunks=1)), "as ever"], retry=Retry(max_attempts=5)
    )
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, ModelRequestRetrying))
        result = host.run("go")
        assert (result.text, result.finish_reason) == ("", "cancelled")
        goes_on_normally(run, host)
    assert len(run.of(ModelRequestStarted)) == 2
    assert run.faults == []


@both
def test_a_cancel_at_the_start_of_the_turn_asks_no_model(opened: Opened) -> None:
    run = Run(["as ever"])
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, TurnStarted))
        assert host.run("go").finish_reason == "cancelled"
        assert run.model.requests == []
        goes_on_normally(run, host)
    assert run.faults == []


# --- while nothing runs


@both
def test_while_idle_a_cancel_does_nothing(opened: Opened) -> None:
    run = Run(["one", "as ever"])
    with opened(run) as host:
        host.cancel()
        assert isinstance(host.next(), AwaitingInput)
        host.run("go")
        host.cancel()
        goes_on_normally(run, host)
    host.cancel()
    assert run.of(CancelRequested) == []
    assert finished(run) == ["completed", "completed"]
    assert run.faults == []


@both
def test_input_that_was_not_dispatched_is_told_as_a_cancelled_turn(opened: Opened) -> None:
    run = Run(["as ever"])
    with opened(run, "go") as host:
        host.cancel()
        assert host.finish().finish_reason == "cancelled"
        assert run.told(TurnStarted, TurnFinished, CancelRequested) == [
            "cancel_requested",
            "turn_started",
            "turn_finished",
        ]
        goes_on_normally(run, host)
    assert run.faults == []


@both
def test_two_cancels_end_one_exchange_once(opened: Opened) -> None:
    run = Run([asking(call("add")), "as ever"], tools=[add])
    with opened(run, "go") as host:
        assert isinstance(host.next(), AfterToolResult)
        host.cancel("first")
        host.cancel("second")
        assert host.finish().finish_reason == "cancelled"
        host.cancel("third")
        goes_on_normally(run, host)
    assert [event.reason for event in run.of(CancelRequested)] == ["first"]
    assert finished(run) == ["cancelled", "completed"]
    assert run.faults == []


@both
def test_a_cancel_after_a_round_is_honoured_before_the_model_is_asked(opened: Opened) -> None:
    run = Run([asking(call("add")), "as ever"], tools=[add])
    with opened(run, "go") as host:
        assert isinstance(host.next(), AfterToolResult)
        host.cancel()
        assert isinstance(step := host.next(), Finished)
        assert step.result.finish_reason == "cancelled"
        assert len(run.model.requests) == 1
        goes_on_normally(run, host)
    assert run.faults == []


@both
def test_a_cancel_when_the_answer_is_in_ends_the_exchange_as_cancelled_once(opened: Opened) -> None:
    run = Run(["one", "as ever"])
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, ModelRequestFinished))
        assert host.run("go").text == "one"
        goes_on_normally(run, host)
    assert finished(run) == ["cancelled", "completed"]
    assert run.faults == []


@both
def test_a_cancel_when_the_exchange_has_ended_kills_no_later_one(opened: Opened) -> None:
    run = Run(["one", "as ever"])
    with opened(run) as host:
        cancel_at(host, lambda event: isinstance(event, TurnFinished))
        assert host.run("go").text == "one"
        goes_on_normally(run, host)
    assert run.of(CancelRequested) == []
    assert run.of(ObserverFailed) == []
    assert run.faults == []


@both
def test_input_given_after_the_cancel_gets_a_turn_of_its_own(opened: Opened) -> None:
    run = Run([asking(call("add")), "as ever", "more"], tools=[add])
    with opened(run, "go") as host:
        host.next()
        host.cancel()
        host.submit("do this instead")
        assert host.finish().finish_reason == "cancelled"
        assert host.finish().text == "as ever"
        goes_on_normally(run, host, "more")
    assert finished(run) == ["cancelled", "completed", "completed"]
    assert run.faults == []


@both
def test_run_after_a_cancel_returns_the_answer_to_its_own_input(opened: Opened) -> None:
    run = Run([asking(call("add")), "as ever"], tools=[add])
    with opened(run, "go") as host:
        host.next()
        host.cancel()
        assert host.run("do this instead").text == "as ever"
    assert finished(run) == ["cancelled", "completed"]
    assert run.faults == []


@both
def test_leaving_after_a_cancel_ends_the_exchange_and_completes_the_run(opened: Opened) -> None:
    run = Run([asking(call("write"))], tools=[write])
    with opened(run, "go") as host:
        host.next()
        host.cancel("bye")
    assert finished(run) == ["cancelled"]
    assert [event.approved for event in run.of(ApprovalResolved)] == [False]
    assert [event.outcome for event in run.of(RunFinished)] == ["completed"]
    assert run.faults == []


@both
def test_leaving_after_a_cancel_of_undispatched_input_tells_its_turn(opened: Opened) -> None:
    run = Run([])
    with opened(run, "go") as host:
        host.cancel()
    assert finished(run) == ["cancelled"]
    assert [event.outcome for event in run.of(RunFinished)] == ["completed"]
    assert run.faults == []


@both
def test_a_closed_run_is_not_cancelled(opened: Opened) -> None:
    run = Run([])
    with opened(run, "go") as host:
        pass
    host.cancel()
    assert run.of(CancelRequested) == []
    with pytest.raises(IllegalMoveError):
        host.submit("x")


@both
def test_what_is_said_of_a_cancel_is_cleaned(opened: Opened) -> None:
    run = Run([])
    with opened(run, "go") as host:
        host.cancel("\ud800", by="\udc00")
    assert run.of(Warning) == []
    assert run.faults == []
