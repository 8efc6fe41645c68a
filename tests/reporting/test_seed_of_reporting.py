"""Seed 003's chapter, ported line by line: its custom observers, its composite, and its timeline of a typical turn."""

from __future__ import annotations

import io
import json
from typing import TextIO

import pytest

from agentkit_loop import (
    Agent,
    AgentEvent,
    ApprovalRequired,
    ContentDelta,
    FailurePolicy,
    LoopObserver,
    ScriptedModel,
    ToolCallRequested,
    tool,
)
from agentkit_loop.models.scripted import Reply, ScriptedCall
from agentkit_loop.testing import EventRecorder
from agentkit_loop.usage import Usage
from agentkit_reporting import (
    CompositeReporter,
    JsonlReporter,
    StdoutReporter,
    TranscriptReporter,
    UsageReporter,
    decode_event,
)


class ToolCallCounter(LoopObserver):
    """The seed's first custom observer."""

    def __init__(self) -> None:
        self.count = 0

    def handle_event(self, event: AgentEvent) -> None:
        if isinstance(event, ToolCallRequested):
            self.count += 1


class AuditLogger(LoopObserver):
    """The seed's second custom observer."""

    def __init__(self, writer: TextIO) -> None:
        self.writer = writer

    def handle_event(self, event: AgentEvent) -> None:
        match event:
            case ToolCallRequested(call=call):
                self.writer.write(f"TOOL_CALL: {call.name} input={json.dumps(call.input)}\n")
            case ApprovalRequired():
                self.writer.write(f"APPROVAL_REQUIRED: {event.summary} reason={event.reason!r}\n")
            case _:
                pass


@tool
def read_file(path: str) -> str:
    """Read a file."""
    return f"contents of {path}"


@tool(name="replace_in_file", approval=True)
def replace_in_file(path: str) -> str:
    """Replace text in a file."""
    return f"replaced in {path}"


def fix_the_bug(*observers: LoopObserver) -> None:
    replies = [
        Reply(
            text="I'll read the file.",
            calls=(ScriptedCall(name="read_file", input={"path": "bug.py"}),),
            chunk_chars=6,
            usage=Usage(input_tokens=1500, output_tokens=200),
        ),
        Reply(calls=(ScriptedCall(name="replace_in_file", input={"path": "bug.py"}),)),
        Reply(text="Fixed."),
    ]
    agent = Agent(
        ScriptedModel(replies),
        tools=[read_file, replace_in_file],
        observers=observers,
        approve=lambda _: True,
    )
    assert agent.run("Fix the bug").text == "Fixed."


def test_the_custom_observers_see_what_the_seed_says() -> None:
    counter, written = ToolCallCounter(), io.StringIO()
    fix_the_bug(counter, AuditLogger(written))
    assert counter.count == 2
    first, second, third = written.getvalue().splitlines()
    assert first == 'TOOL_CALL: read_file input={"path": "bug.py"}'
    assert second == 'TOOL_CALL: replace_in_file input={"path": "bug.py"}'
    assert third.startswith("APPROVAL_REQUIRED: ")


def test_the_composite_of_the_seed_reports_to_the_terminal_the_log_and_the_totals() -> None:
    shown, log, used = io.StringIO(), io.BytesIO(), UsageReporter()
    reporter = (
        CompositeReporter()
        .with_observer(StdoutReporter(shown))
        .with_observer(JsonlReporter(log, redact=False))
        .with_observer(used)
    )
    recorder = EventRecorder()
    fix_the_bug(reporter, recorder)
    assert "I'll read the file." in shown.getvalue()
    assert [decode_event(line) for line in log.getvalue().splitlines()] == list(recorder.events)
    assert used.total.usage.input_tokens is not None
    assert used.total.usage.input_tokens >= 1500


def test_a_typical_turn_is_told_in_the_order_of_the_seeds_timeline() -> None:
    recorder, transcript = EventRecorder(), TranscriptReporter()
    fix_the_bug(recorder, transcript)
    told = [event.type for event in recorder.events]
    first_turn = told[: told.index("turn_started", told.index("turn_started") + 1)]
    assert list(dict.fromkeys(first_turn)) == [
        "run_started",
        "input_accepted",
        "turn_started",
        "model_request_started",
        "usage_updated",
        "content_delta",
        "model_request_finished",
        "tool_call_requested",
        "tool_execution_started",
        "tool_result_received",
    ]
    assert [type(event.delta).__name__ for event in recorder.events if isinstance(event, ContentDelta)][
        :6
    ] == [
        "BeginPart",
        "AppendText",
        "AppendText",
        "AppendText",
        "AppendText",
        "CommitPart",
    ]
    assert {event.turn_id for event in recorder.events if event.type == "tool_call_requested"} == {
        "turn-1",
        "turn-2",
    }
    assert told[-2:] == ["turn_finished", "run_finished"]
    assert [item.kind for item in transcript.items()] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "assistant",
    ]


@pytest.mark.parametrize("policy", list(FailurePolicy))
def test_an_observer_that_fails_is_no_reason_to_stop_unless_the_policy_says_so(policy: FailurePolicy) -> None:
    counter = ToolCallCounter()

    def broken(event: AgentEvent) -> None:
        raise OSError(event.type)

    agent = Agent(ScriptedModel(["Hello."]), observers=[broken, counter], failure_policy=policy)
    if policy is FailurePolicy.FAIL_FAST:
        with pytest.raises(Exception, match="broken"):
            agent.run("Hi")
    else:
        assert agent.run("Hi").text == "Hello."
