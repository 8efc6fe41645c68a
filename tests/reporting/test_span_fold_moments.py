"""Moments within spans: each on the span that it belongs to, bounded, and without anybody's words."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from agentkit_loop import events as ev
from agentkit_loop.content import ToolSpec
from agentkit_loop.events import EVENT_TYPES, AgentEvent
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting.tracing.fold import SPAN_EVENTS
from agentkit_reporting.tracing.fold_moments import MOMENTS, MOST_EVENTS, MOST_ROUTINE_EVENTS
from agentkit_reporting.tracing.spans import Span
from tests.reporting.folded_spans import folded, moments, named, told

SAID = "hunter2"
BROKEN = ErrorInfo(type="ValueError", message=SAID, frames=(SAID,))
SPEC = ToolSpec(name="extra", description=SAID, input_schema={})
BEGIN = ev.RunStarted(
    agent_name="fixer", model="claude-x", tools=(ToolSpec(name="gated", description="", input_schema={}),)
)

TOLD: list[tuple[AgentEvent, str, dict[str, Any]]] = [
    (
        ev.ModelRequestRetrying(request_id="request-1", delay_ms=12.5, next_attempt=2),
        "run",
        {
            "agentkit.request_id": "request-1",
            "agentkit.retry.delay_ms": 12.5,
            "agentkit.retry.next_attempt": 2,
        },
    ),
    (
        ev.ApprovalRequired(approval_id="approval-1", call_id="other", summary=SAID, reason=SAID),
        "run",
        {"agentkit.approval.id": "approval-1", "gen_ai.tool.call.id": "other"},
    ),
    (
        ev.ApprovalResolved(
            approval_id="approval-1",
            call_id="other",
            approved=True,
            reason=SAID,
            edited=True,
            input={"a": SAID},
        ),
        "run",
        {
            "agentkit.approval.id": "approval-1",
            "gen_ai.tool.call.id": "other",
            "agentkit.approval.approved": True,
            "agentkit.approval.edited": True,
        },
    ),
    (
        ev.AuthRequired(auth_id="auth-1", call_id="call-1", provider="bank", purpose=SAID),
        "call",
        {"agentkit.auth.id": "auth-1", "gen_ai.tool.call.id": "call-1", "agentkit.auth.provider": "bank"},
    ),
    (
        ev.AuthResolved(auth_id="auth-1", call_id="call-1", outcome="cancelled"),
        "call",
        {"agentkit.auth.id": "auth-1", "gen_ai.tool.call.id": "call-1", "agentkit.auth.outcome": "cancelled"},
    ),
    (
        ev.ToolExecutionProgress(call_id="call-1", message=SAID, fraction=0.5),
        "call",
        {"agentkit.progress.fraction": 0.5},
    ),
    (ev.ToolExecutionProgress(call_id="call-1", message=SAID), "call", {}),
    (
        ev.CompactionStarted(reason="max_items", item_count=9, token_count=800),
        "run",
        {
            "agentkit.compaction.reason": "max_items",
            "agentkit.compaction.item_count": 9,
            "agentkit.compaction.token_count": 800,
        },
    ),
    (
        ev.CompactionFinished(strategy="keep_recent", plan=None, item_count=9, error=BROKEN),
        "run",
        {
            "agentkit.compaction.strategy": "keep_recent",
            "agentkit.compaction.item_count": 9,
            "error.type": "ValueError",
        },
    ),
    (ev.CancelRequested(reason=SAID, by=SAID), "run", {}),
    (
        ev.BudgetWarning(limit="max_cost_usd", used="1.60", allowed="2"),
        "run",
        {
            "agentkit.budget.limit": "max_cost_usd",
            "agentkit.budget.used": "1.60",
            "agentkit.budget.allowed": "2",
        },
    ),
    (
        ev.BudgetExceeded(limit="max_tokens", used=2**70, allowed=[1]),
        "run",
        {
            "agentkit.budget.limit": "max_tokens",
            "agentkit.budget.used": 2**63 - 1,
            "agentkit.budget.allowed": "[1]",
        },
    ),
    (
        ev.ToolCatalogChanged(added=(SPEC,), removed=("old", "older"), changed=()),
        "run",
        {"agentkit.tools.added": ("extra",), "agentkit.tools.removed": ("old", "older")},
    ),
    (
        ev.Warning(code="unpriced", message=SAID, details={"a": SAID}),
        "run",
        {"agentkit.warning.code": "unpriced"},
    ),
    (
        ev.ObserverFailed(observer="Printer", event_seq=4, error=BROKEN, disabled=True),
        "run",
        {
            "agentkit.observer.name": "Printer",
            "agentkit.observer.event_seq": 4,
            "agentkit.observer.disabled": True,
            "error.type": "ValueError",
        },
    ),
    (ev.CustomEvent(name="app.saved", data={"a": SAID}), "run", {"agentkit.custom.name": "app.saved"}),
    (
        ev.ToolResultReceived(
            call_id="other", name="gated", output=SAID, is_error=True, not_started=True, denied=True
        ),
        "run",
        {
            "gen_ai.tool.name": "gated",
            "gen_ai.tool.call.id": "other",
            "agentkit.tool.not_started": True,
            "error.type": "denied",
        },
    ),
    (
        ev.ToolResultReceived(call_id="other", name=SAID, output=SAID, is_error=True, not_started=True),
        "run",
        {  # the name of no tool is a word of the model's
            "gen_ai.tool.call.id": "other",
            "agentkit.tool.not_started": True,
            "error.type": "unknown_tool",
        },
    ),
    (
        ev.ToolResultReceived(call_id="other", name="gated", output=SAID, is_error=True, not_started=True),
        "run",
        {
            "gen_ai.tool.name": "gated",
            "gen_ai.tool.call.id": "other",
            "agentkit.tool.not_started": True,
            "error.type": "not_started",
        },
    ),
]


def with_open_call(*events: AgentEvent) -> list[Span]:
    """Return the spans of a run that tells these while a call is open."""
    start = ev.ToolExecutionStarted(call_id="call-1", name="search")
    result = ev.ToolResultReceived(call_id="call-1", name="search", output="found")
    return folded(told(BEGIN, start, *events, result, ev.RunFinished(outcome="completed", usage=Usage())))


@pytest.mark.parametrize(
    ("event", "where", "attributes"), TOLD, ids=[f"{place}-{each[0].type}" for place, each in enumerate(TOLD)]
)
def test_a_moment_is_on_its_span_with_names_that_stay(
    event: AgentEvent, where: str, attributes: dict[str, Any]
) -> None:
    call, run = with_open_call(event)
    here, elsewhere = (call, run) if where == "call" else (run, call)
    (moment,) = here.events
    assert not elsewhere.events
    assert (moment.name, moment.attributes) == (f"agentkit.{event.type}", attributes)
    assert moment.ns == int(event.timestamp.timestamp()) * 10**9
    assert SAID not in repr((call, run))


def test_every_kind_of_moment_is_tried_here() -> None:
    assert {type(event) for event, _, _ in TOLD} == MOMENTS.keys()


def test_every_event_is_of_a_span_or_known_to_be_of_none() -> None:
    of_none = {
        "turn_started",  # each span of it tells the turn
        "input_accepted",
        "content_delta",
        "tool_call_requested",  # content
    }
    assert {cls.type for cls in SPAN_EVENTS} == EVENT_TYPES.keys() - of_none


def test_questions_about_a_call_that_does_not_run_are_on_the_run() -> None:
    asked = ev.AuthRequired(auth_id="auth-1", call_id="other", provider="bank")
    progress = ev.ToolExecutionProgress(call_id="other", message="late", fraction=1.0)
    call, run = with_open_call(asked, progress)
    assert (moments(call), moments(run)) == ([], ["auth_required", "tool_execution_progress"])


def test_a_span_keeps_its_first_events_and_counts_the_rest() -> None:
    warnings = [ev.Warning(code=f"w{number}", message="") for number in range(MOST_EVENTS + 9)]
    _, run = with_open_call(*warnings)
    assert len(run.events) == MOST_EVENTS
    assert run.events[-1].attributes == {"agentkit.warning.code": f"w{MOST_EVENTS - 1}"}
    assert run.attributes["agentkit.dropped_events"] == 9


def test_a_flood_of_progress_and_of_a_hosts_own_facts_hides_no_budget_and_no_cancel() -> None:
    own = [ev.CustomEvent(name="app.tick") for _ in range(500)]
    progress = [ev.ToolExecutionProgress(call_id="call-1", message="", fraction=0.1) for _ in range(500)]
    asked = ev.AuthRequired(auth_id="auth-1", call_id="call-1", provider="bank")
    exceeded = ev.BudgetExceeded(limit="max_turns", used=1, allowed=1)
    call, run = with_open_call(*own, *progress, asked, exceeded, ev.CancelRequested())
    assert len(call.events) == MOST_ROUTINE_EVENTS + 1
    assert (moments(call)[-1], moments(run)[-2:]) == (
        "auth_required",
        ["budget_exceeded", "cancel_requested"],
    )
    assert call.attributes["agentkit.dropped_events"] == 500 - MOST_ROUTINE_EVENTS


def test_names_of_others_stand_on_one_line_and_end_somewhere() -> None:
    hostile = "\x1b[31m\u202e\n" + "x" * 100_000
    begin = ev.RunStarted(agent_name=hostile, model=hostile)
    start = ev.ToolExecutionStarted(call_id=hostile, name=hostile)
    many = ev.ToolCatalogChanged(removed=(hostile,) * 500)
    finish = ev.RunFinished(outcome="completed", usage=Usage())
    spans = folded(told(begin, start, ev.CustomEvent(name=hostile), many, finish))
    texts = [span.name for span in spans]
    for attributes in (*(span.attributes for span in spans), *(each.attributes for each in spans[-1].events)):
        for value in attributes.values():
            texts.extend([value] if isinstance(value, str) else value if isinstance(value, tuple) else [])
    assert len(texts) > 30
    assert all(text.isprintable() and len(text) < 300 for text in texts)


def test_the_summary_request_of_a_compaction_says_what_it_was_for() -> None:
    asked = ev.ModelRequestStarted(
        request_id="request-1", attempt=1, purpose="compaction", model="claude-x", message_count=1, digests={}
    )
    spans = folded(
        told(BEGIN, asked, ev.ModelRequestFinished(request_id="request-1", finish_reason="completed"))
    )
    assert named(spans, "chat claude-x").attributes["agentkit.request.purpose"] == "compaction"


def test_requests_after_a_compaction_say_that_the_history_is_shorter_and_none_says_that_it_is_not() -> None:
    def asked(number: int, purpose: Literal["turn", "compaction"] = "turn") -> list[AgentEvent]:
        request = f"request-{number}"
        return [
            ev.ModelRequestStarted(
                request_id=request, attempt=1, purpose=purpose, model="m", message_count=1, digests={}
            ),
            ev.ModelRequestFinished(request_id=request, finish_reason="completed"),
        ]

    failed = ev.CompactionFinished(strategy="summarise", plan=None, item_count=9, error=BROKEN)
    made = ev.CompactionFinished(strategy="summarise", plan=((0, 1),), item_count=1)
    *chats, _ = folded(
        told(BEGIN, *asked(1), failed, *asked(2), made, *asked(3), *asked(4, "compaction"), *asked(5))
    )
    compacted = [span.attributes.get("gen_ai.conversation.compacted") for span in chats]
    assert compacted == [None, None, True, None, True]
