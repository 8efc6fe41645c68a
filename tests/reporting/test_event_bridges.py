"""Events as topics and topics as events: names, aliases, every ending, live as replayed, and no echo."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop import Agent, ScriptedModel
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ModelError
from agentkit_loop.events import AgentEvent, CustomEvent, RunCancelled, UnknownEvent
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.usage import Cost, Usage
from agentkit_reporting import (
    EventDispatcher,
    JsonlReporter,
    TopicPayload,
    decode_event,
    encode_event,
    forward_topics,
    read_events,
)
from tests.reporting.adapters import chunk, note
from tests.reporting.topics import payload
from tests.strategies import event_lists


class Prices:
    """A cent a token."""

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost:
        del model
        amount = Decimal(usage.total_tokens or 0) / 100
        return Cost(amount=amount, currency="USD", components={"all": amount}, source="test", priced_at=at)


def search(query: str) -> str:
    """Search."""
    return f"found {query}"


USAGE = Usage(input_tokens=6, output_tokens=4)
ROUNDS = [
    Reply(calls=(ScriptedCall(name="search", input={"query": "x"}),), usage=USAGE),
    Reply(text="Done.", usage=USAGE),
]


def complete(dispatcher: EventDispatcher) -> list[TopicPayload]:
    got: list[TopicPayload] = []
    dispatcher.subscribe("agent.session_complete", got.append)
    return got


def agent_of(*observers: Any, replies: Any = None, **options: Any) -> Agent:
    model = ScriptedModel(ROUNDS if replies is None else replies)
    return Agent(model=model, tools=[search], observers=list(observers), prices=Prices(), **options)


def test_every_event_of_a_run_is_a_topic_in_order() -> None:
    dispatcher, recorder = EventDispatcher(), EventRecorder()
    got: list[TopicPayload] = []
    dispatcher.subscribe("agent.**", got.append)
    agent_of(recorder, dispatcher).run("go")
    own = [each for each in got if each.alias_of is None]
    assert [(each.topic, each["seq"], each.event) for each in own] == [
        (f"agent.{event.type}", event.seq, event) for event in recorder.events
    ]
    requested = next(each for each in got if each.topic == "agent.tool_call_requested")
    assert requested["call"]["input"] == {"query": "x"}
    assert {"session_id", "run_id", "turn_id", "seq", "timestamp", "type"} <= requested.keys()
    assert dispatcher.account().is_complete


def test_the_seeds_names_are_aliases_with_payloads_of_their_own() -> None:
    dispatcher = EventDispatcher()
    invoked: list[TopicPayload] = []
    dispatcher.subscribe("agent.tool_invoked", invoked.append)
    ended = complete(dispatcher)
    result = agent_of(dispatcher).run("go")
    (call,) = invoked
    assert (call["tool"], call["args"], call["session_id"]) == ("search", {"query": "x"}, result.session_id)
    (end,) = ended
    assert (end["outcome"], end["cost"], end["currency"]) == ("completed", 0.2, "USD")
    assert (end["costs"], end["steps"], end["turns"]) == ({"USD": "0.2"}, 1, 2)


@pytest.mark.parametrize("pattern", ["agent.*", "agent.**", "**"])
def test_a_wildcard_gets_an_alias_right_after_the_event_and_is_told_of_what(pattern: str) -> None:
    dispatcher = EventDispatcher()
    got: list[TopicPayload] = []
    dispatcher.subscribe(pattern, got.append)
    agent_of(dispatcher).run("go")
    aliases = [number for number, each in enumerate(got) if each.alias_of is not None]
    assert [got[number].topic for number in aliases] == ["agent.tool_invoked", "agent.session_complete"]
    for number in aliases:
        event, alias = got[number - 1 : number + 1]
        assert alias.alias_of == alias["alias_of"] == event.topic
        assert (event.event, event.alias_of) == (alias.event, None)
        assert "alias_of" not in event


def test_a_failed_run_is_complete_too() -> None:
    dispatcher = EventDispatcher()
    ended = complete(dispatcher)
    with pytest.raises(ModelError):
        agent_of(
            dispatcher, replies=[ROUNDS[0], Reply(fail=ScriptedFailure(error_class="invalid_request"))]
        ).run("go")
    assert [(each["outcome"], each["cost"], each["steps"]) for each in ended] == [("failed", 0.1, 1)]
    assert ended[0]["error"]["type"]


def test_what_was_not_seen_of_a_run_is_unknown_and_not_zero() -> None:
    dispatcher = EventDispatcher()
    ended = complete(dispatcher)
    EventEmitter([dispatcher]).emit(RunCancelled(reason="process_ended", usage=USAGE))
    assert [(each["steps"], each["turns"], each["cost"]) for each in ended] == [(None, None, None)]


def test_a_run_that_an_exception_leaves_or_a_cancel_ends_is_complete_too() -> None:
    dispatcher = EventDispatcher()
    ended = complete(dispatcher)
    for kind in (ValueError, KeyboardInterrupt, asyncio.CancelledError):
        with pytest.raises(kind), EventEmitter([dispatcher]).run(agent_name="mine") as run:
            run.input("hello")
            raise kind
    with EventEmitter([dispatcher]).run() as run:
        run.input("hello")
    assert [each["outcome"] for each in ended] == ["failed", "cancelled", "cancelled", "suspended"]
    assert [each["cost"] for each in ended] == [None] * 4


def test_streamed_pieces_reach_only_who_subscribes_to_them() -> None:
    dispatcher = EventDispatcher()
    everything: list[TopicPayload] = []
    emitter = EventEmitter([dispatcher])
    emitter.emit(chunk())
    assert dispatcher.account().received == 0
    subscription = dispatcher.subscribe("agent.content_delta", everything.append)
    emitter.emit(chunk("some"))
    subscription.unsubscribe()
    emitter.emit(chunk())
    assert [each["delta"]["chunk"] for each in everything] == ["some"]
    assert dispatcher.account().received == 1


def test_an_unknown_event_is_told_whatever_its_name() -> None:
    dispatcher, topics = EventDispatcher(), []
    dispatcher.subscribe("**", lambda given: topics.append((given.topic, given["seq"])))
    for number, name in enumerate(("newer", "of a*newer.log\x1b"), 1):
        dispatcher.handle_event(UnknownEvent(session_id="s", seq=number, type=name, payload={"type": "own"}))
    assert topics == [("agent.newer", 1), ("agent.unknown_event", 2)]


@given(st.data())
def test_an_observer_cannot_tell_live_from_replayed(data: st.DataObject) -> None:
    events: list[AgentEvent] = data.draw(event_lists())

    def told_of(given: list[AgentEvent]) -> list[tuple[str, dict[str, Any]]]:
        got: list[tuple[str, dict[str, Any]]] = []
        dispatcher = EventDispatcher()
        for pattern in ("agent.**", "agent.session_complete", "agent.tool_invoked"):
            dispatcher.subscribe(pattern, lambda each: got.append((each.topic, dict(each))))
        for event in given:
            dispatcher.handle_event(event)
        assert dispatcher.account().is_complete
        return got

    assert told_of(events) == told_of([decode_event(encode_event(event)) for event in events])


# --- the other way


def test_a_topic_becomes_an_event_in_the_log_and_nothing_echoes(tmp_path: Path) -> None:
    dispatcher = EventDispatcher()
    topics: list[str] = []
    dispatcher.subscribe("**", lambda given: topics.append(given.topic))
    with EventEmitter([JsonlReporter(tmp_path / "run.jsonl"), dispatcher]) as emitter:
        forward_topics(dispatcher, emitter)
        emitter.emit(note("mine"))
        dispatcher.emit("billing.paid", payload(7, **{"$key": {"$$two": 2}}))
        emitter.emit(note("also mine"))
    events = [event for event in read_events(tmp_path / "run.jsonl") if isinstance(event, CustomEvent)]
    assert [event.name for event in events] == ["mine", "topic", "also mine"]
    assert events[1].data["topic"] == "billing.paid"
    assert events[1].data["payload"] == {**payload(7), "$$key": {"$$$two": 2}}
    assert topics == ["agent.custom_event", "billing.paid", "agent.custom_event", "agent.custom_event"]


@pytest.mark.parametrize("background", [False, True], ids=["in front", "behind"])
def test_two_dispatchers_that_watch_one_emitter_and_tell_it_do_not_echo(*, background: bool) -> None:
    recorder = EventRecorder()
    one, two = (EventDispatcher(async_dispatch=background) for _ in range(2))
    emitter = EventEmitter([recorder, one, two])
    for dispatcher in (one, two):
        forward_topics(dispatcher, emitter)
    one.emit("a", payload(1))
    two.emit("b", payload(2))
    assert one.flush(30.0)
    assert two.flush(30.0)  # so that it tells the emitter, and with it the first, nothing more
    assert one.close(30.0)
    assert two.close(30.0)
    assert sorted(event.data["topic"] for event in recorder.events if isinstance(event, CustomEvent)) == [
        "a",
        "b",
    ]


def test_a_handler_may_emit_from_inside_an_observed_run() -> None:
    dispatcher, recorder = EventDispatcher(), EventRecorder()
    emitter = EventEmitter([recorder, dispatcher])
    forward_topics(dispatcher, emitter)

    @dispatcher.on("agent.tool_invoked")
    def counts(given: Mapping[str, Any]) -> None:
        dispatcher.emit("mine.tool", payload(tool=given["tool"]))

    with emitter.run() as run, run.tool_call("search", {"query": "x"}) as call:
        call.result("found")
    topics = [event.data["payload"]["tool"] for event in recorder.events if isinstance(event, CustomEvent)]
    assert topics == ["search"]
    assert dispatcher.account().is_complete


def test_the_seeds_composition_emits_as_it_is_written() -> None:
    dispatcher = EventDispatcher(async_dispatch=True, stamp=True)
    got: list[TopicPayload] = []
    for topic in ("agent.tool_invoked", "agent.session_complete"):
        dispatcher.subscribe(topic, got.append)
    emit: Callable[..., None] = dispatcher.emit
    emit("agent.tool_invoked", {"session_id": "s", "tool": "search_web", "args": {"query": "q"}})
    emit("agent.session_complete", {"session_id": "s", "cost": 0.5, "steps": 1})
    assert dispatcher.close(30.0)
    assert [each.get("tool") or each["steps"] for each in got] == ["search_web", 1]
    assert all(dt.datetime.fromisoformat(each["timestamp"]).tzinfo for each in got)


def test_a_log_tells_a_dispatcher_what_the_run_told(tmp_path: Path) -> None:
    live, offline = EventDispatcher(), EventDispatcher()
    seen, read = complete(live), complete(offline)
    log = JsonlReporter(tmp_path / "run.jsonl")
    agent_of(log, live).run("go")
    log.close()
    for event in read_events(tmp_path / "run.jsonl"):
        offline.handle_event(event)
    assert read == seen
    assert len(seen) == 1


def test_runs_of_several_sessions_are_added_up_apart() -> None:
    dispatcher = EventDispatcher()
    ended = complete(dispatcher)
    recorders = [EventRecorder() for _ in range(2)]
    for recorder in recorders:
        agent_of(recorder).run("go")
    for pair in zip(*(recorder.events for recorder in recorders), strict=True):
        for event in pair:
            dispatcher.handle_event(event)
    assert [each["costs"] for each in ended] == [{"USD": "0.2"}] * 2


@pytest.mark.parametrize("background", [False, True], ids=["in front", "behind"])
def test_threads_that_tell_both_ways_at_once_do_not_wait_for_each_other(*, background: bool) -> None:
    dispatcher, recorder = EventDispatcher(async_dispatch=background), EventRecorder()
    emitter = EventEmitter([recorder, dispatcher])
    forward_topics(dispatcher, emitter)
    observed: list[int] = []
    dispatcher.subscribe("agent.custom_event", lambda given: observed.append(given["seq"]))

    def emits() -> None:
        for number in range(200):
            dispatcher.emit("a", payload(number))

    def tells() -> None:
        for _ in range(200):
            emitter.emit(note())

    threads = [threading.Thread(target=work, daemon=True) for work in (emits, tells, emits, tells)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert not any(thread.is_alive() for thread in threads)
    assert dispatcher.close(30.0)
    assert len(recorder.events) == 800
    assert observed == list(range(1, 801))


def test_an_ending_is_told_also_where_a_handler_of_it_interrupts() -> None:
    dispatcher = EventDispatcher()
    ended = complete(dispatcher)

    def interrupts(_: TopicPayload) -> None:
        raise KeyboardInterrupt

    dispatcher.subscribe("agent.run_finished", interrupts)
    with pytest.raises(KeyboardInterrupt):
        agent_of(dispatcher).run("go")
    assert ended[0]["outcome"] == "completed"
