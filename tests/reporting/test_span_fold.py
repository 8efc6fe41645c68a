"""What a run, a request and a call tell as spans: when, how they ended, and whose they are."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal
from typing import Any

import attrs
import pytest

from agentkit_loop import events as ev
from agentkit_loop.agent import Agent
from agentkit_loop.content import ToolCallPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_loop.trace_context import SpanPlace, call_span_id, span_id_of, trace_id_of
from agentkit_loop.usage import Cost, ErrorInfo, Usage
from agentkit_reporting.tracing.spans import Span
from tests.loop.crash_runs import recorded
from tests.reporting.folded_spans import COST, CURRENCY, folded, named, outline, seconds_of, told

BROKEN = ErrorInfo(type="ValueError", message="the secret is hunter2")
USED = Usage(
    input_tokens=3, cached_input_tokens=4, cache_write_input_tokens=5, output_tokens=6, reasoning_tokens=2
)


def begun(**fields: Any) -> ev.RunStarted:
    return ev.RunStarted(agent_name="fixer", model="claude-x", **fields)


def asked(request_id: str = "request-1", *, attempt: int = 1) -> ev.ModelRequestStarted:
    return ev.ModelRequestStarted(
        request_id=request_id, attempt=attempt, purpose="turn", model="claude-x", message_count=1, digests={}
    )


def used(
    request_id: str = "request-1", *, final: bool = True, dollars: str | None = "0.25"
) -> ev.UsageUpdated:
    priced = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    cost = dollars and Cost(
        amount=Decimal(dollars), currency="USD", components={}, source="test", priced_at=priced
    )
    return ev.UsageUpdated(
        request_id=request_id, model="claude-x", usage=USED, cost=cost or None, final=final
    )


def answered(request_id: str = "request-1", **fields: Any) -> ev.ModelRequestFinished:
    return ev.ModelRequestFinished(request_id=request_id, **{"finish_reason": "completed", **fields})


def called(call_id: str = "call-1", **fields: Any) -> ev.ToolExecutionStarted:
    return ev.ToolExecutionStarted(call_id=call_id, name="search", **fields)


def result(call_id: str = "call-1", **fields: Any) -> ev.ToolResultReceived:
    return ev.ToolResultReceived(call_id=call_id, name="search", **{"output": "found", **fields})


def ended() -> ev.RunFinished:
    return ev.RunFinished(outcome="completed", usage=Usage())


def spans_of(*events: AgentEvent) -> list[Span]:
    return folded(told(*events))


# --- what each tells


def test_a_run_its_request_and_its_call_tell_whose_they_are_and_what_came_of_them() -> None:
    exchange = ev.TurnFinished(finish_reason="completed", usage=USED, item_count=2)
    finished = answered(
        finish_reason="tool_call", response_id="msg_1", response_model="claude-x-1", first_content_ms=250.0
    )
    chat, call, run = spans_of(begun(), asked(), used(), finished, called(), result(), exchange, ended())
    shared = {"gen_ai.conversation.id": "s", "gen_ai.agent.name": "fixer", "agentkit.run_id": "r"}
    assert run.attributes.items() >= shared.items()
    assert (run.name, run.kind, run.error) == ("invoke_agent fixer", "internal", None)
    assert (
        run.attributes["agentkit.run.outcome"] == run.attributes["agentkit.run.finish_reason"] == "completed"
    )
    assert (
        chat.attributes.items()
        >= {
            **shared,
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "claude-x",
            "gen_ai.response.model": "claude-x-1",
            "gen_ai.response.id": "msg_1",
            "gen_ai.response.finish_reasons": ("tool_call",),
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 6,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "gen_ai.usage.cache_write.input_tokens": 5,
            "gen_ai.usage.reasoning.output_tokens": 2,
            COST: 0.25,
            CURRENCY: "USD",
            "agentkit.turn_id": "turn-1",
            "agentkit.request_id": "request-1",
            "agentkit.request.attempt": 1,
            "agentkit.request.purpose": "turn",
        }.items()
    )
    assert (chat.name, chat.kind) == ("chat claude-x", "client")
    assert (
        call.attributes.items()
        >= {
            **shared,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.id": "call-1",
            "agentkit.turn_id": "turn-1",
            "agentkit.tool.attempt": 1,
        }.items()
    )
    assert (call.name, call.kind, call.parent_id) == ("execute_tool search", "internal", run.span_id)


def test_ids_come_from_session_run_and_number_so_that_who_comes_later_knows_them() -> None:
    chat, call, run = spans_of(begun(), asked(), answered(), called(), result(), ended())
    assert run.trace_id == chat.trace_id == call.trace_id == trace_id_of("s", "r")
    assert (run.span_id, chat.span_id) == (span_id_of("s", "r", 1), span_id_of("s", "r", 2))
    assert call.span_id == call_span_id("s", "r", "call-1")


def test_a_run_is_below_the_place_that_its_metadata_name() -> None:
    place = SpanPlace(trace_id=3, span_id=4, flags=0, state="vendor=1")
    (run,) = spans_of(begun(metadata={"traceparent": place.traceparent, "tracestate": "vendor=1"}), ended())
    assert (run.trace_id, run.parent) == (3, place)


def test_a_run_that_goes_on_or_is_forked_says_from_what() -> None:
    earlier = told(begun(), ended())
    later = told(
        begun(resumed_run="r", resumed_after=2, metadata={"forked_from": {"session_id": "origin", "seq": 3}}),
        ended(),
        run_id="r2",
        seq=3,
        at_s=100,
    )
    first, second = folded([*earlier, *later])
    assert second.attributes["agentkit.run.resumed_run"] == "r"
    assert second.attributes["agentkit.run.forked_from"] == "origin"
    assert first.trace_id != second.trace_id
    assert second.parent is None


def test_without_words_in_its_name_a_span_is_named_by_its_operation() -> None:
    bare = ev.RunStarted(agent_name="", model="")
    request = attrs.evolve(asked(), model="")
    chat, run = spans_of(bare, request, answered(), ended())
    assert (run.name, chat.name) == ("invoke_agent", "chat")
    assert "gen_ai.agent.name" not in run.attributes
    assert "gen_ai.request.model" not in chat.attributes


def test_a_request_that_names_no_model_is_one_of_the_runs() -> None:
    chat, _ = spans_of(begun(), attrs.evolve(asked(), model=""), answered(), ended())
    assert (chat.name, chat.attributes["gen_ai.request.model"]) == ("chat claude-x", "claude-x")


# --- when


def test_times_are_those_of_the_events() -> None:
    chat, call, run = spans_of(begun(), asked(), answered(duration_ms=900.0), called(), result(), ended())
    assert (seconds_of(chat), seconds_of(call), seconds_of(run)) == ((1, 2), (3, 4), (0, 5))


def test_what_is_told_all_at_once_began_as_long_before_its_end_as_it_took_and_not_before_its_run() -> None:
    events = told(
        begun(),
        asked(),
        answered(duration_ms=1_500.0),
        called(),
        result(duration_ms=9e9),
        ended(),
        step_s=0.0,
    )
    late = [
        event if event.seq == 1 else attrs.evolve(event, timestamp=event.timestamp + THREE_S)
        for event in events
    ]
    chat, call, run = folded(late)
    assert (seconds_of(chat), seconds_of(call), seconds_of(run)) == ((1.5, 3), (0, 3), (0, 3))


THREE_S = dt.timedelta(seconds=3)


def test_a_clock_that_is_being_set_right_moves_no_beginning() -> None:
    chat, call, _ = spans_of(
        begun(), asked(), answered(duration_ms=1_000.4), called(), result(duration_ms=1_900.0), ended()
    )
    assert (seconds_of(chat), seconds_of(call)) == ((1, 2), (3, 4))


@pytest.mark.parametrize("duration_ms", [-5.0, 0.0, 1e300, float("inf"), float("nan")], ids=str)
def test_a_duration_that_cannot_be_changes_no_time(duration_ms: float) -> None:
    chat, _ = spans_of(begun(), asked(), answered(duration_ms=duration_ms), ended())
    assert seconds_of(chat) == (1, 2)


def test_a_clock_that_is_set_back_makes_no_span_end_before_it_began_nor_outlast_its_run() -> None:
    before = told(begun(), asked(), at_s=3_600)
    after = told(answered(), called(), result(), ended(), seq=3)
    chat, call, run = folded([*before, *after])
    assert seconds_of(chat) == (3_601, 3_601)
    assert seconds_of(call) == (3_601, 3_601)
    assert seconds_of(run) == (3_600, 3_601)


@pytest.mark.parametrize("year", [1, 9999])
def test_times_that_no_span_can_have_become_the_nearest_that_it_can(year: int) -> None:
    moment = dt.datetime(year, 6, 1, tzinfo=dt.UTC)
    (run,) = folded([attrs.evolve(event, timestamp=moment) for event in told(begun(), ended())])
    assert run.start_ns == run.end_ns == (0 if year == 1 else 2**63 - 1)


# --- how it ended


def test_a_request_that_failed_tells_its_class_and_not_what_was_said() -> None:
    failed = ev.ModelRequestFailed(
        request_id="request-1", error=BROKEN, error_class="rate_limited", retry_after_ms=2_000.0
    )
    again = [asked("request-2", attempt=2), answered("request-2")]
    first, second, _ = spans_of(begun(), asked(), used(final=False), failed, *again, ended())
    assert (first.error, first.attributes["error.type"]) == ("rate_limited", "rate_limited")
    assert first.attributes["agentkit.request.retry_after_ms"] == 2_000
    assert first.attributes["gen_ai.usage.input_tokens"] == 12
    assert (second.error, second.attributes["agentkit.request.attempt"]) == (None, 2)
    assert "gen_ai.usage.input_tokens" not in second.attributes


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, None),
        ({"is_error": True}, "tool_error"),
        ({"is_error": True, "error": BROKEN}, "ValueError"),
        ({"is_error": True, "interrupted": True}, "interrupted"),
        ({"is_error": True, "interrupted": True, "denied": True}, "denied"),
        ({"interrupted": True}, None),
    ],
    ids=["fine", "an error", "an exception", "interrupted", "denied", "returned after a cancel"],
)
def test_a_call_tells_the_kind_of_its_error_and_not_what_was_said(
    fields: dict[str, Any], error: str | None
) -> None:
    call, run = spans_of(begun(), called(), result(**fields), ended())
    assert (call.error, call.attributes.get("error.type")) == (error, error)
    assert call.attributes.get("agentkit.tool.interrupted") == (True if "interrupted" in fields else None)
    assert "hunter2" not in repr((call, run))


def test_a_tool_that_takes_too_long_is_a_timeout() -> None:
    recorder, is_told = EventRecorder(), threading.Event()

    @tool(timeout_s=0.01)
    def slow() -> str:
        """Wait for the end."""
        is_told.wait()
        return "late"

    def look(event: AgentEvent) -> None:
        if isinstance(event, ev.ToolResultReceived):
            is_told.set()

    model = ScriptedModel([Reply(calls=(ScriptedCall(name="slow", input={}),)), Reply(text="done")])
    with Agent(model, tools=[slow], observers=[recorder, look]) as agent:
        agent.run("go")
    assert named(folded(recorder.events), "execute_tool slow").error == "timeout"


def test_a_run_that_failed_is_an_error_and_one_that_was_cancelled_or_suspended_is_none() -> None:
    ends: list[tuple[AgentEvent, str, str | None]] = [
        (ended(), "completed", None),
        (ev.RunFinished(outcome="suspended", usage=Usage()), "suspended", None),
        (ev.RunCancelled(reason="KeyboardInterrupt", usage=Usage()), "cancelled", None),
        (ev.RunFailed(error=BROKEN, usage=Usage()), "failed", "ValueError"),
    ]
    for end, outcome, error in ends:
        (run,) = spans_of(begun(), end)
        assert run.attributes["agentkit.run.outcome"] == outcome
        assert (run.error, run.attributes.get("error.type")) == (error, error)
        assert "hunter2" not in repr(run)


def test_a_call_that_waits_for_credentials_is_one_span_over_both_attempts() -> None:
    asked_for = ev.AuthRequired(auth_id="auth-1", call_id="call-1", provider="bank")
    given = ev.AuthResolved(auth_id="auth-1", call_id="call-1", outcome="resolved")
    call, run = spans_of(begun(), called(), asked_for, given, called(attempt=2), result(), ended())
    assert seconds_of(call) == (1, 5)
    assert call.attributes["agentkit.tool.attempt"] == 2
    assert [each.name for each in call.events] == ["agentkit.auth_required", "agentkit.auth_resolved"]
    assert not run.events


def test_a_call_that_a_person_approved_later_is_in_the_run_in_which_it_ran() -> None:
    assert outline(folded(recorded("pending"))) == [
        "invoke_agent crashing",
        "  chat scripted",
        "  execute_tool look",
        "  execute_tool login",
        "invoke_agent crashing",
        "  execute_tool gated",
        "  execute_tool gated",
        "  execute_tool login",
        "  chat scripted",
    ]


def test_a_log_that_ends_in_the_middle_says_what_was_unfinished_and_keeps_what_was_used() -> None:
    chat, call, run = spans_of(begun(), called(), asked(), used(final=False))
    for span in (chat, call, run):
        assert span.attributes["agentkit.unfinished"] is True
        assert (span.error, seconds_of(span)[1]) == (None, 3)
    assert chat.attributes["gen_ai.usage.input_tokens"] == 12
    assert "agentkit.run.outcome" not in run.attributes


def test_a_request_and_a_call_that_a_failed_run_leaves_open_end_with_it() -> None:
    failed = ev.RunFailed(error=BROKEN, usage=Usage())
    chat, call, run = spans_of(begun(), called(), asked(), failed)
    assert (chat.attributes["agentkit.unfinished"], chat.end_ns) == (True, run.end_ns)
    assert (call.error, call.attributes["error.type"], call.end_ns) == (
        "interrupted",
        "interrupted",
        run.end_ns,
    )


def test_what_a_hand_written_loop_does_by_itself_is_below_its_run() -> None:
    recorder = EventRecorder()
    with EventEmitter(observers=[recorder]).run(agent_name="helper", model="claude-x") as run:
        run.record_model_call(usage={"input_tokens": 3, "output_tokens": 1}, duration_ms=20)
        run.record_tool_call("search", {"q": 1}, "found")
        with run.tool_call(ToolCallPart(id="mine", name="own", input={})) as body:
            body.result("done")
    assert outline(folded(recorder.events)) == [
        "invoke_agent helper",
        "  chat claude-x",
        "  execute_tool search",
        "  execute_tool own",
    ]


# --- crashes


DAY_S = 86_400.0
DEAD = ErrorInfo(type="ProcessEnded", message="the process ended before this did", retryable=True)


def test_what_a_resume_closes_days_later_lasted_until_the_last_that_its_run_told() -> None:
    before = told(begun(), called("call-1"), called("call-2"), asked())
    closed = told(
        ev.ModelRequestFailed(request_id="request-1", error=DEAD, error_class="process_ended"),
        result("call-1", is_error=True, interrupted=True),
        ev.ObserverFailed(observer="Printer", event_seq=6, error=BROKEN),
        ev.RunFailed(error=DEAD, usage=Usage()),
        seq=5,
        at_s=DAY_S,
    )
    spans = folded([*before, *closed])
    assert [(span.name, span.error) for span in spans] == [
        ("chat claude-x", "process_ended"),
        ("execute_tool search", "interrupted"),
        ("execute_tool search", "interrupted"),
        ("invoke_agent fixer", "ProcessEnded"),
    ]
    assert [seconds_of(span)[1] for span in spans] == [3, 3, 3, 3]
    assert spans[-1].attributes["agentkit.run.outcome"] == "failed"


def test_calls_alone_that_a_resume_closes_last_until_the_last_that_their_run_told_too() -> None:
    before = told(begun(), called("call-1"), called("call-2"))
    closed = told(
        result("call-1", is_error=True, interrupted=True),
        result("call-2", is_error=True, interrupted=True),
        ev.RunFailed(error=DEAD, usage=Usage()),
        seq=4,
        at_s=DAY_S,
    )
    assert [seconds_of(span) for span in folded([*before, *closed])] == [(1, 2), (2, 2), (0, 2)]


def test_calls_that_the_run_itself_interrupts_end_when_it_says_so() -> None:
    interrupted = [result(call_id, is_error=True, interrupted=True) for call_id in ("call-1", "call-2")]
    suspended = ev.RunFinished(outcome="suspended", usage=Usage())
    one, two, run = spans_of(begun(), called("call-1"), called("call-2"), *interrupted, suspended)
    assert (seconds_of(one), seconds_of(two), seconds_of(run)) == ((1, 3), (2, 4), (0, 5))
    one, two, run = spans_of(begun(), called("call-1"), called("call-2"), *interrupted)  # and then no more
    assert (seconds_of(one), seconds_of(two), seconds_of(run)) == ((1, 3), (2, 4), (0, 4))
