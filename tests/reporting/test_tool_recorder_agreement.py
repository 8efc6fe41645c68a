"""Live, direct and over a log a recorder says the same; and what is told already is not told again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop import (
    Agent,
    AgentEvent,
    EventEmitter,
    FailurePolicy,
    LoopObserver,
    ObserverError,
    ScriptedModel,
    ToolCallRequested,
    ToolExecutionStarted,
)
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall
from agentkit_reporting import (
    JsonlReporter,
    SessionProfiler,
    ToolRecord,
    ToolRecorder,
    current_session,
    decode_event,
    encode_event,
    read_events,
)
from tests.rules import faults
from tests.strategies import event_lists, json_objects

quick = settings(deadline=None, max_examples=60)

OUTCOMES = st.sampled_from(["ok", "error", "interrupted"])
CALLS = st.lists(st.tuples(st.sampled_from(["search", "fetch"]), json_objects(), OUTCOMES), max_size=5)


def offline(events: list[Any], **options: Any) -> list[ToolRecord]:
    recorder = ToolRecorder(**options)
    for event in events:
        recorder.handle_event(decode_event(encode_event(event)))
    return recorder.records()


@quick
@given(CALLS)
def test_what_is_told_directly_keeps_the_contract_and_reads_the_same_from_a_log(
    calls: list[tuple[str, dict[str, Any], str]],
) -> None:
    told = EventRecorder()
    live = ToolRecorder(allow=["a", "b"])
    emitter = EventEmitter([told, live])
    direct = ToolRecorder(emitter=emitter, allow=["a", "b"])

    def body(outcome: str, **given: Any) -> object:
        if outcome != "ok":
            raise ValueError("no") if outcome == "error" else KeyboardInterrupt
        return given

    for name, arguments, outcome in calls:
        made: Any = direct.instrument(name, lambda outcome=outcome, **given: body(outcome, **given))
        try:
            made(**arguments)
        except (ValueError, KeyboardInterrupt):
            assert outcome != "ok"
    assert direct.close()
    assert faults(told.events) == []
    assert [(each.tool_name, each.status) for each in direct.records()] == [(n, o) for n, _, o in calls]
    assert direct.records() == live.records() == offline(told.events, allow=["a", "b"])


@quick
@given(event_lists(max_size=20))
def test_any_log_gives_the_records_that_its_events_gave_live(events: list[Any]) -> None:
    live = ToolRecorder()
    for event in events:
        live.handle_event(event)
    assert live.records() == offline(events)


def kinds(recorder: ToolRecorder) -> list[Any]:
    """Make a tool of each kind."""

    @recorder.tool
    def plain(query: str) -> str:
        return query

    @recorder.tool
    async def coroutine(query: str) -> str:
        await asyncio.sleep(0)
        return query

    @recorder.tool
    def generator(query: str) -> Iterator[str]:
        yield query

    @recorder.tool
    async def async_generator(query: str) -> AsyncIterator[str]:
        yield query

    return [plain, coroutine, generator, async_generator]


NAMES = ["plain", "coroutine", "generator", "async_generator"]


@pytest.mark.parametrize("is_async", [False, True], ids=["run", "arun"])
def test_a_tool_of_our_agent_is_recorded_once_by_its_own_call(is_async: bool) -> None:
    recorder, told = ToolRecorder(), EventRecorder()
    calls = tuple(ScriptedCall(name=name, input={"query": name}) for name in NAMES)
    agent = Agent(
        ScriptedModel([Reply(calls=calls), Reply(text="done")]),
        tools=kinds(recorder),
        observers=[recorder, told],
    )
    if is_async:
        asyncio.run(agent.arun("go"))
    else:
        agent.run("go")
    ids = [event.call.id for event in told.events if isinstance(event, ToolCallRequested)]
    assert sorted(each.call_id for each in recorder.records()) == sorted(ids)
    assert {each.tool_name: each.args for each in recorder.records()} == {n: {"query": n} for n in NAMES}
    assert {each.status for each in recorder.records()} == {"ok"}
    assert offline(told.events) == recorder.records()


def test_a_recorder_that_does_not_observe_the_agent_records_its_tools_itself() -> None:
    recorder = ToolRecorder()
    calls = tuple(ScriptedCall(name=name, input={"query": name}) for name in NAMES)
    agent = Agent(ScriptedModel([Reply(calls=calls), Reply(text="done")]), tools=kinds(recorder))
    result = agent.run("go")
    assert sorted(each.tool_name for each in recorder.records()) == sorted(NAMES)
    assert {each.session_id for each in recorder.records()} == {result.session_id}


def test_a_call_told_by_a_hand_written_loop_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorder = ToolRecorder(tmp_path / "tools.jsonl")
    plain, coroutine, generator, _ = kinds(recorder)
    with EventEmitter([JsonlReporter(path), recorder]) as emitter, emitter.run() as run:
        for made in (
            plain,
            lambda query: asyncio.run(coroutine(query)),
            lambda query: list(generator(query)),
        ):
            name = NAMES[len(recorder.records())]
            with run.tool_call(name, {"query": "a"}) as body:
                body.result(made(query="a"))
        with run.tool_call("outer", {}) as body:
            body.result(plain("inside"))  # another tool, which nobody told
    names = [each.tool_name for each in recorder.records()]
    assert names == ["plain", "coroutine", "generator", "plain", "outer"]
    assert recorder.records()[3].session_id == run.session_id
    assert recorder.records()[4].args == {}
    again = ToolRecorder()
    for event in read_events(path):
        again.handle_event(event)
    assert again.records() == [each for place, each in enumerate(recorder.records()) if place != 3]


def test_one_emitter_tells_direct_calls_beside_those_of_the_run() -> None:
    told = EventRecorder()
    emitter = EventEmitter([told])
    recorder = ToolRecorder(emitter=emitter)
    plain = kinds(recorder)[0]
    with emitter.run() as run:
        with run.tool_call("plain", {"query": "a"}) as body:
            body.result(plain("a"))
        plain("b")
    assert [(each.args["query"], each.run_id) for each in recorder.records()] == [
        ("a", run.run_id),
        ("b", run.run_id),
    ]
    assert faults(told.events) == []
    assert offline(told.events) == recorder.records()


def test_direct_calls_belong_to_the_session_that_is_named_or_current_or_to_the_recorders_own() -> None:
    named, free = ToolRecorder(session_id="mine"), ToolRecorder()
    profiler = SessionProfiler()
    plain_named, plain = kinds(named)[0], kinds(free)[0]
    plain_named("a")
    plain("a")
    with profiler.session("outer"):
        plain("b")
        with profiler.session("inner"):
            plain("c")
        assert current_session() == "outer"
    assert current_session() is None
    plain("d")
    own, outer, inner, again = (each.session_id for each in free.records())
    assert (named.records()[0].session_id, outer, inner) == ("mine", "outer", "inner")
    assert own == again
    assert own.startswith("ses_")


def test_sessions_of_threads_and_tasks_are_told_apart() -> None:
    recorder, profiler = ToolRecorder(), SessionProfiler()
    plain, coroutine, _, _ = kinds(recorder)
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        with profiler.session(name):
            barrier.wait()
            plain(name)

    async def task(name: str) -> None:
        async with profiler.session(name):
            await asyncio.sleep(0)
            await coroutine(name)

    async def tasks() -> None:
        await asyncio.gather(*(task(f"task {number}") for number in range(4)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [f"thread {number}" for number in range(4)]))
    asyncio.run(tasks())
    assert len(recorder.records()) == 8
    assert all(each.session_id == each.args["query"] for each in recorder.records())


def test_very_many_sessions_do_not_stay_open() -> None:
    told = EventRecorder()
    recorder, profiler = ToolRecorder(observers=[told]), SessionProfiler()
    plain = kinds(recorder)[0]
    for number in range(250):
        with profiler.session(f"s{number}"):
            plain("a")
    assert sum(event.type == "run_finished" for event in told.events) == 50
    assert recorder.close()
    assert sum(event.type == "run_finished" for event in told.events) == 250


def test_sessions_whose_calls_were_refused_do_not_stay_open_either() -> None:
    class Refuses(LoopObserver):
        wants = (ToolExecutionStarted,)

        def handle_event(self, event: AgentEvent) -> None:
            raise ValueError(event.type)

    told = EventRecorder()
    recorder = ToolRecorder(observers=[told, Refuses()], policy=FailurePolicy.FAIL_FAST)
    plain = kinds(recorder)[0]
    for number in range(250):
        with SessionProfiler().session(f"s{number}"), pytest.raises(ObserverError):
            plain("a")
    assert sum(event.type == "run_finished" for event in told.events) == 50


def test_a_call_that_was_asked_for_before_a_resume_keeps_its_arguments() -> None:
    told = EventRecorder()
    recorder = ToolRecorder(observers=[told], session_id="s")
    kinds(recorder)[0]("a")
    from attrs import evolve  # noqa: PLC0415 - for this test only

    moved = [evolve(e, run_id="later") if e.type == "tool_result_received" else e for e in told.events]
    (record,) = offline(moved)
    assert (record.run_id, record.args) == ("later", {"query": "a"})


def test_a_forked_process_has_a_session_of_its_own(tmp_path: Path) -> None:
    program = """
import os, sys
from agentkit_reporting import ToolRecorder
recorder = ToolRecorder(sys.argv[1])
echo = recorder.instrument("echo", lambda number: number)
echo(0)
child = os.fork()
for number in range(3): echo(number)
assert recorder.close()
if child == 0: os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    path = tmp_path / "tools.jsonl"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
    records = list(ToolRecorder.read(path))
    assert len(records) == len({(each["run_id"], each["call_id"]) for each in records}) == 7
    assert len({each["session_id"] for each in records}) == 2
