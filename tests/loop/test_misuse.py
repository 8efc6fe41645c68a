"""What a host, an observer or a model adapter does wrong: told in one sentence, and nothing else is hurt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendText, BeginPart, CommitPart, Item, StructuredPart, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError, ModelError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestFailed,
    ObserverFailed,
    RunFinished,
    ToolExecutionStarted,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
)
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.protocol import Answer, ModelRequest
from agentkit_loop.observers import FailurePolicy, LoopObserver, Registration
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel, ScriptedTool
from agentkit_loop.usage import Usage
from agentkit_reporting import decode_event, encode_event
from tests.loop.test_turns import Run
from tests.rules import faults


class Yielding:
    """A model adapter that yields whatever it is given."""

    name = "yielding"

    def __init__(self, *signals: Any) -> None:
        self.signals = signals

    def stream(self, request: ModelRequest) -> Iterator[Any]:
        del request
        yield from self.signals

    async def astream(self, request: ModelRequest) -> AsyncIterator[Any]:
        del request
        for signal in self.signals:
            yield signal


@pytest.mark.parametrize(
    "signals",
    [
        (object(),),
        ("text",),
        (BeginPart("0", "text"), AppendText("0", 5)),  # type: ignore[arg-type] # that it is wrong is the point
        (BeginPart("0", "text"), CommitPart("0", "x")),  # type: ignore[arg-type] # as above
        (Answer(finish_reason=None),),  # type: ignore[arg-type] # as above
        (BeginPart("\ud800", "text"),),
        (BeginPart("0", "text"), AppendText("0", "lost"), Answer(finish_reason="completed")),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_adapter_that_breaks_the_protocol_fails_its_request(signals: Any, asynchronous: bool) -> None:
    recorder = EventRecorder()
    agent = Agent(Yielding(*signals), observers=[recorder])
    with pytest.raises(ModelError, match="broke the protocol"):
        if asynchronous:
            asyncio.run(agent.arun("go"))
        else:
            agent.run("go")
    assert len(recorder.of(ModelRequestFailed)) == 1
    assert faults(recorder.events) == []


@pytest.mark.parametrize(
    "item",
    [
        Item(kind="user", parts=("hello",)),  # type: ignore[arg-type] # that it is wrong is the point
        Item(kind="nobody", parts=()),  # type: ignore[arg-type] # as above
        3,
    ],
)
def test_a_refused_submit_changes_nothing(item: Any) -> None:
    run = Run(["fine"])
    with run.agent.start() as driver:
        with pytest.raises(ConfigurationError):
            driver.submit(item)
        assert run.of(InputAccepted) == []
        assert driver.run("go").text == "fine"


def test_an_absurd_item_id_is_only_an_id() -> None:
    run = Run(["fine"])
    with run.agent.start() as driver:
        driver.run(Item(kind="user", parts=(TextPart(text="x"),), id="item-" + "9" * 5_000))
        assert driver.transcript.items[1].id == "item-1"


def test_fresh_item_ids_never_meet_given_ones() -> None:
    run = Run([Reply(text="one"), "two"])
    first = run.agent.run("a")
    again = Run(["three"])
    with again.agent.start(items=(*first.items, Item.user("new"))) as driver:
        driver.submit("x", Item(kind="user", parts=(TextPart(text="y"),), id="item-4"))
        ids = [item.id for item in driver.transcript.items]
    assert len(set(ids)) == len(ids)


def test_an_empty_text_is_no_input() -> None:
    run = Run(["never"])
    with run.agent.start("") as driver:
        driver.submit("", "")
        assert run.of(InputAccepted) == []
        with pytest.raises(IllegalMoveError, match="give it a prompt"):
            driver.run("")
    assert run.model.requests == []


@pytest.mark.parametrize("wants", [TurnStarted, ("turn_started",), [TurnStarted], (int,)])
def test_a_wrong_wants_is_refused_at_registration(wants: Any) -> None:
    class Wanting(LoopObserver):
        def handle_event(self, event: AgentEvent) -> None:
            del event

    observer = Wanting()
    observer.wants = wants  # type: ignore[misc] # that it is wrong is the point
    with pytest.raises(ConfigurationError, match="give a tuple of event classes"):
        EventEmitter([observer])


def test_an_observer_that_says_nonsense_of_its_drops_does_not_break_the_run() -> None:
    class Odd(LoopObserver):
        dropped = None

        def handle_event(self, event: AgentEvent) -> None:
            del event

    run = Run(["fine"])
    run.agent.observers = (Odd(), *run.agent.observers)
    run.agent.run("go")
    assert run.of(RunFinished)[0].observers[0].dropped == 0


def test_the_result_is_of_the_end_of_the_exchange_even_when_input_follows_at_once() -> None:
    run = Run(["one", "two"])
    with run.agent.start() as driver:

        def ask_once(event: AgentEvent) -> None:
            if isinstance(event, TurnFinished) and len(run.of(InputAccepted)) == 1:
                driver.submit("again")

        driver.add_observer(ask_once)
        assert driver.run("go").text == "one"
        assert driver.run().text == "two"


def test_closing_from_inside_an_observer_is_refused_and_becomes_its_failure() -> None:
    run = Run(["fine"])
    with run.agent.start() as driver:

        def close(event: AgentEvent) -> None:
            if isinstance(event, TurnStarted):
                driver.close()

        driver.add_observer(close)
        assert driver.run("go").text == "fine"
    assert run.of(ObserverFailed)[0].error.type == "IllegalMoveError"
    assert faults(run.recorder.events) == []


def test_a_tool_that_drives_its_own_driver_gets_an_error_result() -> None:
    drivers: list[Any] = []

    def meddle() -> None:
        """Drive."""
        drivers[0].next()

    run = Run([Reply(calls=(ScriptedCall(name="meddle"),)), "noted"], tools=[meddle])
    with run.agent.start() as driver:
        drivers.append(driver)
        assert driver.run("go").text == "noted"
    assert faults(run.recorder.events) == []


def test_closing_an_async_driver_while_another_task_drives_is_refused() -> None:
    scripted = ScriptedTool(asynchronous=True)
    run = Run([Reply(calls=(ScriptedCall(name="work"),)), "ok"], tools=[scripted.tool])

    async def main() -> str:
        async with run.agent.astart("go") as driver:
            first = asyncio.create_task(driver.run())
            while not scripted.started:
                await asyncio.sleep(0)
            with pytest.raises(IllegalMoveError, match="another task drives"):
                await driver.close()
            scripted.release("call-1")
            return (await first).text

    assert asyncio.run(main()) == "ok"
    assert faults(run.recorder.events) == []


def test_a_cancellation_that_comes_during_the_last_flush_is_not_swallowed() -> None:
    began, gate = threading.Event(), threading.Event()

    class Slow(LoopObserver):
        def handle_event(self, event: AgentEvent) -> None:
            del event

        def flush(self) -> None:
            began.set()
            gate.wait()

    run = Run(["fine"])
    run.agent.observers = (Slow(), *run.agent.observers)

    async def main() -> None:
        task = asyncio.create_task(run.agent.arun("go"))
        while not began.is_set():
            await asyncio.sleep(0)
        task.cancel()
        gate.set()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert faults(run.recorder.events) == []


def test_what_another_thread_emits_is_told_on_the_loops_thread() -> None:
    run = Run(["fine"])
    threads: set[int] = set()
    run.agent.observers = (lambda _: threads.add(threading.get_ident()), *run.agent.observers)

    async def main() -> int:
        async with run.agent.astart() as driver:
            worker = threading.Thread(target=lambda: driver.emit("fact", 1))
            worker.start()
            await asyncio.to_thread(worker.join)
            await driver.run("go")
        return threading.get_ident()

    assert threads == {asyncio.run(main())}
    assert len(run.of(CustomEvent)) == 1


def test_leaving_gives_running_bodies_a_moment() -> None:
    scripted = ScriptedTool()
    run = Run([Reply(calls=(ScriptedCall(name="work"),)), "never"], tools=[scripted.tool])
    with run.agent.start("go") as driver:
        while not run.of(ToolExecutionStarted):
            driver.advance()
        scripted.release("call-1", "in time")
    assert [item.kind for item in driver.transcript.items] == ["user", "assistant", "tool"]
    assert run.of(RunFinished)[0].outcome == "suspended"
    assert faults(run.recorder.events) == []


# --- the emitter


def note(name: str = "note") -> CustomEvent:
    return CustomEvent(name=name)


def test_equal_observers_are_removed_by_identity() -> None:
    class Equal(EventRecorder):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        __hash__ = None  # type: ignore[assignment] # as views that compare

    first, second = Equal(), Equal()
    emitter = EventEmitter([first, second])
    emitter.remove_observer(second)
    emitter.emit(note())
    assert (len(first.events), len(second.events)) == (1, 0)


def test_one_event_emitted_twice_inside_a_handler_is_told_once() -> None:
    recorder, refused = EventRecorder(), []
    emitter = EventEmitter()
    again = note("again")

    def echo(event: AgentEvent) -> None:
        if event.seq == 1:
            emitter.emit(again)
            try:
                emitter.emit(again)
            except ConfigurationError as error:
                refused.append(error)

    emitter.add_observer(echo)
    emitter.add_observer(recorder)
    emitter.emit(note())
    assert [event.seq for event in recorder.events] == [1, 2]
    assert len(refused) == 1


def test_fail_fast_loses_none_of_the_events_that_wait() -> None:
    recorder = EventRecorder()
    emitter = EventEmitter()

    def echo(event: AgentEvent) -> None:
        if event.seq == 1:
            emitter.emit(note("waiting"))

    def fail(event: AgentEvent) -> None:
        raise ValueError(event.seq)

    emitter.add_observer(echo)
    emitter.add_observer(Registration(fail, policy=FailurePolicy.FAIL_FAST))
    emitter.add_observer(recorder)
    with pytest.raises(Exception, match="failed on event 1"):
        emitter.emit(note())
    assert [event.seq for event in recorder.events] == [1, 2]


def test_asking_for_the_counts_inside_a_handler_loses_none() -> None:
    emitter = EventEmitter()
    emitter.add_observer(lambda _: emitter.stats())
    for _ in range(5):
        emitter.emit(note())
    assert emitter.stats()[0].handled == 5


def test_a_flush_that_exits_or_hangs_leaves_the_others_their_turn() -> None:
    gate = threading.Event()
    flushed: list[int] = []

    class Flushing(LoopObserver):
        def __init__(self, act: Any) -> None:
            self.act = act

        def handle_event(self, event: AgentEvent) -> None:
            del event

        def flush(self) -> None:
            self.act()

    def leave() -> None:
        raise SystemExit

    emitter = EventEmitter([Flushing(leave), Flushing(gate.wait), Flushing(lambda: flushed.append(1))])
    assert emitter.flush(timeout_s=0.05) is False
    assert flushed == [1]
    gate.set()


def test_what_a_host_puts_into_the_records_of_an_event_is_json_too() -> None:
    recorder = EventRecorder()
    emitter = EventEmitter([recorder])
    usage = Usage(input_tokens=1, raw={"a": {1, 2}, "b": float("nan"), "c": "\ud800"})
    emitter.emit(UsageUpdated(request_id="r\udcff", model="m", usage=usage))
    emitter.emit(ContentDelta(request_id="r", delta=CommitPart("0", TextPart(text="\ud800"))))
    emitter.emit(
        InputAccepted(items=(Item(kind="user", parts=(StructuredPart(value={"x": b"1"}),), id="i"),))
    )
    told = [decode_event(encode_event(event)) for event in recorder.events]
    assert told == recorder.events
    assert told[0].usage.raw == {"a": {"$set": [1, 2]}, "b": {"$float": "nan"}, "c": "\\ud800"}  # type: ignore[attr-defined] # a UsageUpdated


def test_a_session_id_must_be_text() -> None:
    with pytest.raises(ConfigurationError, match="session_id=3 is no id"):
        EventEmitter(session_id=3)  # type: ignore[arg-type] # that it is wrong is the point
    agent = Agent(ScriptedModel(["x"]))
    with pytest.raises(ConfigurationError, match="session_id='' is no id"):
        agent.start(session_id="")


@pytest.mark.parametrize(
    "options",
    [
        {"failure_policy": "fail_fast"},
        {"observers": [Registration(print, policy="log")]},  # type: ignore[arg-type] # that it is wrong is the point
        {"observers": print},
        {"tools": print},
        {"system": 3},
        {"retry": 3},
        {"max_parallel_tools": "a"},
    ],
)
def test_a_wrong_option_of_an_agent_is_refused_in_one_sentence(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        Agent(ScriptedModel(["x"]), **options)


def test_a_script_is_a_list() -> None:
    with pytest.raises(ConfigurationError, match="give a list of replies"):
        ScriptedModel("done")


def test_a_closed_agent_starts_no_run_that_its_log_would_miss() -> None:
    run = Run(["one", "two"])
    with run.agent as agent:
        agent.run("go")
    with pytest.raises(IllegalMoveError, match="the agent is closed"):
        agent.run("again")


@pytest.mark.parametrize("name", ["", "  ", None])
def test_a_model_needs_a_name(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="refused; give one such as"):
        AnthropicModel(name)


def test_content_deltas_after_a_cut_never_come() -> None:
    run = Run([Reply(text="abc", chunk_chars=1), "never"])
    for event in run.agent.stream("go"):
        if isinstance(event, ContentDelta):
            break
    assert run.recorder.types[-1] == "run_cancelled"
