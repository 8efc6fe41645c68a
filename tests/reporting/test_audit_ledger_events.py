"""Decisions that come of the events by themselves: reasons, selections, answers, approvals, limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from agentkit_loop import Agent, Limits, ScriptedModel
from agentkit_loop.content import CommitPart, ReasoningPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import (
    AgentEvent,
    ApprovalResolved,
    BudgetExceeded,
    ContentDelta,
    ModelRequestFinished,
    ToolCallRequested,
    ToolResultReceived,
)
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events
from agentkit_reporting.records.audit import AuditLedger, DecisionEntry
from tests.loop.scripts import Script as RandomScript
from tests.loop.scripts import run_async, run_sync, scripts
from tests.reporting.written_sessions import Script, cut_by_max_tokens, decisions, notices, parallel_sessions

quick = settings(deadline=None, max_examples=40)


def search(query: str) -> str:
    """Search the web."""
    return f"Results for {query}"


def asking(*queries: str, **options: Any) -> Reply:
    return Reply(
        calls=tuple(ScriptedCall(name="search", input={"query": each}) for each in queries), **options
    )


def run(*replies: Reply, **options: Any) -> tuple[list[DecisionEntry], list[AgentEvent]]:
    """Return what an agent decided, and told."""
    ledger, recorder = AuditLedger(), EventRecorder()
    agent = Agent(ScriptedModel(replies), tools=[search], observers=[ledger, recorder], **options)
    result = agent.run("Where?")
    return ledger.get_trace(result.session_id), recorder.events


def evidence(trace: list[DecisionEntry], events: list[AgentEvent]) -> list[type[AgentEvent]]:
    by_seq = {event.seq: type(event) for event in events}
    return [by_seq[entry.evidence_seq] for entry in trace]


def test_thinking_that_was_captured_is_the_reason_that_was_observed() -> None:
    trace, events = run(
        asking("north", "south", reasoning="North before south.", text="Let me look."),
        Reply(reasoning="Both are there.", text="It is there."),
    )
    assert [(entry.step, entry.type, entry.detail, entry.basis) for entry in trace] == [
        (0, "reasoning", "North before south.", "observed"),
        (0, "tool_selection", "Selected search", "observed"),
        (0, "tool_selection", "Selected search", "observed"),
        (1, "reasoning", "Both are there.", "observed"),
        (1, "final_response", "It is there.", "observed"),
    ]
    assert evidence(trace, events) == [
        ContentDelta, ToolCallRequested, ToolCallRequested, ContentDelta, ModelRequestFinished
    ]  # fmt: skip
    (thought,) = [event for event in events if event.seq == trace[0].evidence_seq]
    assert isinstance(thought, ContentDelta)
    assert isinstance(thought.delta, CommitPart)
    assert isinstance(thought.delta.part, ReasoningPart)
    assert [entry.metadata for entry in trace[1:3]] == [
        {"tool": "search", "args": {"query": query}, "call_id": call_id}
        for query, call_id in zip(
            ("north", "south"),
            [event.call.id for event in events if isinstance(event, ToolCallRequested)],
            strict=True,
        )
    ]
    assert trace[-1].metadata == {"stop_reason": "end_turn"}


@pytest.mark.parametrize("signature", [None, "sig"])
def test_without_thinking_or_with_its_signature_alone_reasons_are_inferred(signature: str | None) -> None:
    hidden = () if signature is None else (ReasoningPart(text="", signature=signature),)
    trace, _ = run(asking("north", parts=hidden, text="Let me look."), Reply(text="It is there."))
    assert [(entry.type, entry.detail, entry.basis) for entry in trace] == [
        ("reasoning", "Let me look.", "inferred"),
        ("tool_selection", "Selected search", "inferred"),
        ("final_response", "It is there.", "inferred"),
    ]


def test_thinking_that_the_provider_redacted_was_not_observed() -> None:
    trace, _ = run(asking("north", parts=(ReasoningPart(text="", redacted="b3BhcXVl"),)), Reply(text="Yes."))
    assert [(entry.type, entry.basis) for entry in trace] == [
        ("tool_selection", "inferred"), ("final_response", "inferred")
    ]  # fmt: skip


def test_the_thinking_of_one_answer_is_no_reason_of_the_next() -> None:
    trace, _ = run(asking("north", reasoning="Hm."), asking("south"), Reply(text="Yes."))
    assert [(entry.step, entry.type, entry.basis) for entry in trace] == [
        (0, "reasoning", "observed"),
        (0, "tool_selection", "observed"),
        (1, "tool_selection", "inferred"),
        (2, "final_response", "inferred"),
    ]


def test_an_answer_that_goes_on_after_a_pause_has_the_thinking_before_it() -> None:
    ledger = AuditLedger()
    emitter = EventEmitter([ledger])
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    asked = {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {}}
    with emitter.run(model="m") as run_:
        run_.input("hi")
        for number, (part, reason) in enumerate([(thinking, "pause_turn"), (asked, "tool_use")]):
            usage = {"input_tokens": 1, "output_tokens": 1}
            about = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "m"}
            run_.record_model_call({**about, "content": [part], "stop_reason": reason, "usage": usage})
    assert [(entry.type, entry.basis) for entry in ledger.get_trace(emitter.session_id)] == [
        ("reasoning", "observed"),
        ("tool_selection", "observed"),
    ]


def test_a_limit_that_ends_the_exchange_is_a_decision() -> None:
    trace, events = run(asking("north"), asking("south"), limits=Limits(max_turns=1))
    assert [entry.type for entry in trace] == ["tool_selection", "limit"]
    assert (trace[1].basis, trace[1].metadata) == (
        "observed", {"limit": "max_turns", "used": 1, "allowed": 1}
    )  # fmt: skip
    assert evidence(trace, events)[1] is BudgetExceeded


def told_by(session: Callable[..., None]) -> AuditLedger:
    ledger = AuditLedger()
    session(lambda event: ledger.handle_event(event) if isinstance(event, wanted(ledger)) else None)
    return ledger


def wanted(ledger: AuditLedger) -> tuple[type[AgentEvent], ...]:
    return tuple(ContentDelta if each is CommitPart else each for each in ledger.wants)  # type: ignore[misc] # the rest are classes of events


def test_approvals_say_who_decided_what_and_why() -> None:
    trace = told_by(decisions).get_trace("ses_0005")
    assert [(entry.type, entry.detail) for entry in trace] == [
        ("tool_selection", "Selected delete"),
        ("tool_selection", "Selected delete"),
        ("tool_selection", "Selected open_issue"),
        ("approval", "Approved delete by ann, edited"),
        ("approval", "Denied delete: not on Fridays"),
    ]
    assert trace[3].metadata == {
        "tool": "delete", "call_id": "call-1", "approval_id": "approval-1", "approved": True, "by": "ann",
        "reason": None, "edited": True, "args": {"path": "build/tmp"},
    }  # fmt: skip
    assert [entry.basis for entry in trace[3:]] == ["observed", "observed"]


def test_what_a_rule_denies_is_told_once_and_what_a_person_denied_is_not_told_again() -> None:
    ledger = AuditLedger()
    script = Script("s", ledger.handle_event)
    script.start()
    script.turn(1)
    script.request()
    script.answer("tool_call")
    script.call("call-1", "delete", path="src")
    script.call("call-2", "delete", path="src")
    refused: dict[str, Any] = {"name": "delete", "is_error": True, "denied": True, "not_started": True}
    script.tell(
        ToolResultReceived(call_id="call-1", output="deletes nothing", **refused),
        ApprovalResolved(approval_id="approval-1", call_id="call-2", approved=False, by="ann"),
        ToolResultReceived(call_id="call-2", output="no", **refused),
    )
    assert [(entry.type, entry.detail) for entry in ledger.get_trace("s")[2:]] == [
        ("denial", "deletes nothing"), ("approval", "Denied delete by ann")
    ]  # fmt: skip


def test_limits_are_told_once_and_sessions_are_kept_apart() -> None:
    limited = told_by(notices).get_trace("ses_0006")
    assert [(entry.type, entry.detail) for entry in limited] == [("limit", "max_turns: 50 used of 50")]
    ledger = told_by(cut_by_max_tokens)
    cut = ledger.get_trace(ledger.session_ids[0])
    assert ("final_response", {"stop_reason": "max_tokens"}) in [
        (entry.type, entry.metadata) for entry in cut
    ]
    assert set(told_by(parallel_sessions).session_ids) == {"ses_000a", "ses_000b"}


@given(script=scripts)
@quick
def test_a_ledger_is_equal_live_and_afterwards(script: RandomScript) -> None:
    live = AuditLedger()
    events = (run_async if script.asynchronous else run_sync)(script, live).events
    later = AuditLedger()
    for event in events:
        if isinstance(event, wanted(later)):
            later.handle_event(decode_event(encode_event(event)))
    assert live.get_trace("session") == later.get_trace("session")
    told = live.get_trace("session")
    assert len({(entry.evidence_seq, entry.type) for entry in told}) == len(told)
    asked = [event for event in events if isinstance(event, ToolCallRequested)]
    assert [entry.evidence_seq for entry in told if entry.type == "tool_selection"] == [
        event.seq for event in asked
    ]


def test_a_ledger_over_a_log_on_the_disk_says_the_same(tmp_path: Path) -> None:
    ledger = AuditLedger(tmp_path / "decisions.jsonl")
    agent = Agent(
        ScriptedModel([asking("north", reasoning="Hm."), Reply(text="Yes.")]),
        tools=[search],
        observers=[JsonlReporter(tmp_path / "run.jsonl"), ledger],
    )
    session_id = agent.run("Where?").session_id
    later = AuditLedger()
    for event in read_events(tmp_path / "run.jsonl"):
        later.handle_event(event)
    assert ledger.get_trace(session_id) == later.get_trace(session_id)
    assert AuditLedger.read(tmp_path / "decisions.jsonl").get_trace(session_id) == later.get_trace(session_id)
    assert ledger.close()
