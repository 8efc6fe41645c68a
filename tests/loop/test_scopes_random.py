"""Random hand-written loops, with every way out of every scope: what they tell keeps all rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import attrs
import hypothesis.strategies as st
from hypothesis import given, settings

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import AgentEvent, RunStarted, TurnFinished, UsageUpdated
from agentkit_loop.scopes import RunScope
from agentkit_loop.state import LoopState
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall
from agentkit_loop.testing_messages import reply_events, whole_message
from agentkit_loop.usage import Usage
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.transcript import TranscriptReporter
from agentkit_reporting.usage import UsageReporter
from tests.rules import faults

TOOL = {"name": "search", "description": "", "input_schema": {"type": "object"}}
WAYS_OUT = st.sampled_from(
    [None, ValueError(""), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1)]
)
STEPS = st.sampled_from(
    ["input", "asked", "asked with messages", "streamed", "left", "failed", "unanswered", "cut", "used", "own tool",
     "recorded tool", "recorded answer", "recorded failure", "turn", "finish", "cancel", "decision", "tools"]
)  # fmt: skip


@attrs.define
class Program:
    """A loop that does what it is told, one step at a time."""

    run: RunScope
    draw: Any
    answers: int = 0
    blocks: list[dict[str, Any]] = attrs.Factory(list)

    def message(self, reason: str | None = None) -> list[dict[str, Any]]:
        self.answers += 1
        calls = self.draw(st.integers(0, 2))
        reply = Reply(
            text=self.draw(st.sampled_from(["", "Look."])) or ("" if calls else "Done."),
            calls=tuple(ScriptedCall(name="search", input={"n": n}) for n in range(calls)),
            finish_reason=reason,
            usage=Usage(input_tokens=self.answers, output_tokens=1),
        )
        return reply_events(reply, number=self.answers)

    def answered(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        whole = whole_message(events)
        self.blocks = [block for block in whole["content"] if block["type"] == "tool_use"]
        return whole

    def ask(self, step: str, way_out: BaseException | None) -> None:
        """Make one request."""
        run = self.run
        match step:
            case "asked" | "cut":
                with run.model_call() as call:
                    leave(way_out)
                    call.record(self.answered(self.message("max_tokens" if step == "cut" else None)))
            case "asked with messages":
                results = [
                    {"type": "tool_result", "tool_use_id": block["id"], "content": "sent"}
                    for block in self.blocks
                ]
                sent = [{"role": "user", "content": [*results, {"type": "text", "text": "and?"}]}]
                with run.model_call(messages=sent) as call:
                    leave(way_out)
                    call.record(self.answered(self.message()))
            case "streamed":
                with run.model_call() as call:
                    events = self.message()
                    for _ in call.stream(events):
                        leave(way_out)
                    self.answered(events)
            case "left":
                with run.model_call() as call:
                    for _ in call.stream(self.message()):
                        break
            case "failed":
                with run.model_call() as call:
                    call.fail(way_out or "overloaded")
            case "unanswered":
                with run.model_call():
                    leave(way_out)
            case "used":
                with run.model_call() as call:
                    call.usage({"input_tokens": 3, "output_tokens": 1}, stop_reason="tool_use", cost="0.5")
            case _:
                self.do(step, way_out)

    def do(self, step: str, way_out: BaseException | None) -> None:
        """Do anything else."""
        run = self.run
        match step:
            case "input":
                run.input("more")
            case "own tool":
                with run.tool_call("search", {"q": 1}) as body:
                    body.progress("half", 0.5)
                    leave(way_out)
            case "recorded tool":
                run.record_tool_call("search", {"q": 1}, {"found": 1}, error=way_out, duration_ms=12.5)
            case "recorded answer":
                run.record_model_call(self.answered(self.message()), duration_ms=3)
            case "recorded failure":
                run.record_model_call(error="", duration_ms=-1)
            case "turn":
                with run.turn():
                    leave(way_out)
            case "finish":
                run.finish()
            case "cancel":
                run.cancel("enough")
            case "decision":
                run.decision("reasoning", "because")
            case _:
                while self.blocks and self.draw(st.booleans()):
                    with run.tool_call(
                        self.blocks.pop(), self.draw(st.sampled_from([None, {"$n": 9}]))
                    ) as body:
                        leave(way_out)
                        body.result("found")


def leave(way_out: BaseException | None) -> None:
    if way_out is not None:
        raise way_out


def told_by(data: st.DataObject) -> tuple[list[AgentEvent], LoopState]:
    recorder = EventRecorder()
    emitter = EventEmitter([recorder])
    run = emitter.run(agent_name="random", model="m", tools=[TOOL], prices=None)
    for number in range(data.draw(st.integers(1, 2))):
        run = emitter.run(agent_name="random", model="m", tools=[TOOL], prices=None) if number else run
        try:
            with run:
                program = Program(run, data.draw)
                for step in data.draw(st.lists(STEPS, max_size=8)):
                    way_out = data.draw(st.one_of(st.none(), WAYS_OUT))
                    try:
                        program.ask(step, way_out)
                    except (Exception, asyncio.CancelledError) as error:
                        # A call that was told already is refused: the loops of this test are careless.
                        if way_out is not error and "asked for it" not in str(error):
                            raise
                        if data.draw(st.booleans()):
                            raise
        except BaseException as error:
            if isinstance(error, (IllegalMoveError, AssertionError, TypeError, KeyError)):
                raise
    return list(recorder.events), run.state


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_what_a_random_loop_tells_keeps_all_rules(data: st.DataObject) -> None:
    events, live = told_by(data)
    assert faults(events) == []
    assert [decode_event(encode_event(event)) for event in events] == events
    watched, used = TranscriptReporter(), UsageReporter()
    state = LoopState(session_id=live.session_id)
    for event in events:
        for fold in (watched.handle_event, used.handle_event, state.apply):
            fold(event)
    assert list(watched.items()) == state.transcript.items == live.transcript.items
    last = {event.request_id: event.usage for event in events if isinstance(event, UsageUpdated)}
    assert used.total.usage.input_tokens == (
        sum(u.input_tokens or 0 for u in last.values()) if last else None
    )


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_run_that_a_crash_cut_anywhere_is_gone_on_with(data: st.DataObject) -> None:
    events, _ = told_by(data)
    cut = data.draw(st.integers(1, len(events)))
    recorder = EventRecorder()
    emitter = EventEmitter([recorder])
    with emitter.run(prices=None, tools=[TOOL], resume=events[:cut]) as run:
        run.input("go on")
        with run.model_call() as call:
            call.usage(Usage(input_tokens=1))
    whole = [*events[:cut], *recorder.events]
    assert faults(whole) == []
    assert sum(isinstance(event, RunStarted) for event in recorder.events) == 1
    assert isinstance(next(iter(finished(recorder.events))), TurnFinished)


def finished(events: list[AgentEvent]) -> Iterator[AgentEvent]:
    return (event for event in events if isinstance(event, TurnFinished))
