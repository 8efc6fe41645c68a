"""What each metric measures: one session that has something for all of them, and what every metric says of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agentkit_loop.content import ToolCallPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    CompactionFinished,
    ModelRequestFailed,
    ModelRequestRetrying,
    ModelRequestStarted,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    ToolCallRequested,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting import AlertReporter, AlertRule
from agentkit_reporting.alerts.metrics import DIMENSIONS, METRICS, Metric
from agentkit_reporting.alerts.samples import Labels, Sampler
from tests.reporting.alert_samples import Telling

BROKEN = ErrorInfo(type="ValueError", message="x")
USED = Usage(
    input_tokens=100,
    cached_input_tokens=300,
    cache_write_input_tokens=100,
    output_tokens=50,
    reasoning_tokens=20,
)


def session() -> list[AgentEvent]:
    telling = Telling().begin(0).tell(TurnStarted(index=1), 1)
    telling.request(2, usage=USED, cost="0.25", duration_ms=800, first_content_ms=150.0)
    telling.request(3, usage=Usage(), cost=None, duration_ms=200, first_content_ms=50.0)
    asked = ModelRequestStarted(
        request_id="bad", attempt=1, purpose="turn", model="m", message_count=1, digests={}
    )
    telling.tell(asked, 4)
    telling.tell(
        ModelRequestFailed(request_id="bad", error=BROKEN, error_class="overloaded", duration_ms=9_999), 5
    )
    telling.tell(ModelRequestRetrying(request_id="bad", delay_ms=1, next_attempt=2), 5)
    call = ToolCallPart(id="c", name="edit", input={})
    telling.tell(ToolCallRequested(request_id="q", call=call), 6)
    telling.tell(ApprovalRequired(approval_id="approval-1", call_id="c", summary="x"), 6)
    telling.tell(ApprovalResolved(approval_id="approval-1", call_id="c", approved=False), 36)
    denied = ToolResultReceived(
        call_id="c", name="edit", output="", is_error=True, not_started=True, denied=True
    )
    telling.tell(denied, 36).call(37, 40).call(38, 2_500).call(39, 100, failed=True)
    telling.tell(CompactionFinished(strategy="s", plan=(), item_count=1), 40)
    telling.tell(CompactionFinished(strategy="s", plan=None, item_count=1, error=BROKEN), 41)
    telling.tell(ObserverFailed(observer="o", event_seq=1, error=BROKEN), 42)
    for reason in ("limit", "max_tokens", "refusal", "completed"):
        telling.tell(TurnFinished(finish_reason=reason, usage=Usage(), item_count=1), 43)
    telling.end(44, took_ms=44_000).begin(50, run="r-2")
    telling.tell(RunFailed(error=BROKEN, usage=Usage(), duration_ms=1_000), 51, run="r-2")
    telling.begin(52, run="r-3")
    telling.tell(RunCancelled(reason="x", usage=Usage(), duration_ms=3_000), 53, run="r-3")
    telling.begin(54, run="r-4")
    telling.tell(TurnFinished(finish_reason="max_tokens", usage=Usage(), item_count=1), 55, run="r-4")
    return telling.end(56, run="r-4", took_ms=2_000).events


EXPECTED: dict[str, Any] = {
    "tool_latency_p50": 100,
    "tool_latency_p95": 2_260,
    "tool_latency_p99": 2_452,
    "tool_latency_max": 2_500,
    "tool_calls": 4,
    "tool_errors": 2,
    "tool_error_rate": 0.5,
    "tool_denials": 1,
    "approvals_waiting_ms": 30_000,
    "model_latency_p50": 500,
    "model_latency_p95": 770,
    "model_latency_p99": 794,
    "model_latency_max": 800,
    "first_token_p50": 100,
    "first_token_p95": 145,
    "first_token_p99": 149,
    "first_token_max": 150,
    "requests": 3,
    "request_errors": 1,
    "request_error_rate": 1 / 3,
    "retries": 1,
    "cost": Decimal("0.25"),
    "tokens": 550,
    "total_input_tokens": 500,
    "input_tokens": 100,
    "cached_input_tokens": 300,
    "cache_write_input_tokens": 100,
    "output_tokens": 50,
    "reasoning_tokens": 20,
    "cache_hit_rate": 0.6,
    "unpriced": 1,
    "turns": 1,
    "limit_finishes": 1,
    "max_tokens_finishes": 2,
    "refusals": 1,
    "run_duration_p50": 2_500,
    "run_duration_p95": 37_850,
    "run_duration_p99": 42_770,
    "run_duration": 44_000,
    "runs": 4,
    "runs_failed": 2,
    "runs_open": 0,
    "failure_rate": 2 / 3,
    "compactions": 1,
    "compaction_failures": 1,
    "observer_failures": 1,
}


def of_end(metric: Metric) -> Any:
    """Return what a metric says of the whole session."""
    reporter = AlertReporter([AlertRule(metric.name, "!=", 1 if metric.unit == "share" else 10**9)])
    for event in session():
        reporter.handle_event(event)
    reporter.close()
    return reporter.results[0].worst


@pytest.mark.parametrize("name", list(METRICS))
def test_a_metric_measures_what_it_says(name: str) -> None:
    expected = EXPECTED[name]
    assert of_end(METRICS[name]) == (
        expected if isinstance(expected, Decimal) else pytest.approx(expected, rel=1e-12)
    )


@pytest.mark.parametrize("name", list(METRICS))
def test_a_metric_can_be_judged_by_each_of_its_dimensions_and_by_no_other(name: str) -> None:
    metric = METRICS[name]
    assert set(metric.per) <= set(DIMENSIONS)
    assert set(DIMENSIONS) <= set(Labels._fields)
    for dimension in metric.per:
        reporter = AlertReporter([AlertRule(name, ">=", 0, per=dimension)])
        for event in session():
            reporter.handle_event(event)
        reporter.close()
        groups = [alert.group[dimension] for alert in reporter.alerts]
        assert groups, dimension
        assert dimension == "turn" or all(groups), dimension


def test_filters_choose_by_patterns() -> None:
    telling = Telling().begin(0, agent="fixer").call(1, tool="read_file").call(2, tool="write_file")
    telling.begin(3, session="s-2", run="r-2", agent="tester").call(
        4, tool="read_url", session="s-2", run="r-2"
    )
    rules = [
        AlertRule("tool_calls", "==", 2, tool="read_*"),
        AlertRule("tool_calls", "==", 2, tool=["write_file", "read_u?l"]),
        AlertRule("tool_calls", "==", 2, agent="fix*"),
        AlertRule("tool_calls", "==", 0, agent="tester", tool="write*", per="run"),
        AlertRule("tool_calls", ">", 0, tool="READ_*"),
    ]
    reporter = AlertReporter(rules)
    for event in telling.events:
        reporter.handle_event(event)
    reporter.close()
    assert [alert.rule for alert in reporter.alerts] == [rule.name for rule in rules[:4]]
    assert [alert.run_id for alert in reporter.alerts][-1] == "r-2"


def test_a_request_that_a_log_leaves_open_counts_by_its_last_report_when_its_run_ends() -> None:
    telling = Telling().begin(0).request(1, cost="0.40")
    telling.events.pop()  # its end
    reporter = AlertReporter([AlertRule("cost", ">", "0.30", per="run"), AlertRule("requests", ">", 0)])
    for event in [*telling.events, *Telling().begin(0).call(1).call(1).call(1).call(1).end(2).events[5:]]:
        reporter.handle_event(event)
    assert [(alert.rule, alert.value) for alert in reporter.alerts] == [
        ("cost > $0.30 per run", Decimal("0.40"))
    ]


def test_what_broke_off_is_remembered_within_a_bound() -> None:
    sampler = Sampler()
    for event in Telling().begin(0).request(1).call(2).end(3).events:
        assert not sampler.is_known(event)
        assert sampler.is_known(event)
        sampler.take(event)
    assert not sampler._runs


def waiting() -> list[AgentEvent]:
    """Two runs, one of which never ends and waits for an answer; what another asked has become moot."""
    telling = (
        Telling().begin(0).tell(ApprovalRequired(approval_id="approval-1", call_id="c", summary="x"), 10)
    )
    telling.begin(20, session="t").tell(
        ApprovalRequired(approval_id="approval-1", call_id="c", summary="x"), 21, session="t"
    )
    denied = ToolResultReceived(call_id="c", name="edit", output="", is_error=True, not_started=True)
    telling.tell(denied, 30, session="t").end(40, session="t")
    return telling.tell(ObserverFailed(observer="o", event_seq=1, error=BROKEN), 41, session="t").events


def test_runs_without_an_end_and_questions_that_wait_count_once_nothing_comes_any_more() -> None:
    rules = [
        AlertRule("runs_open", ">", 0, per="run"),
        AlertRule("runs_open", "==", 0, name="all ended"),
        AlertRule("approvals_waiting_ms", ">", "30s"),
        AlertRule("turns", ">", 9),
    ]
    reporter = AlertReporter(rules)
    for event in waiting():
        reporter.handle_event(event)
    assert list(reporter.alerts) == []
    reporter.close()
    reporter.close()
    told = [(alert.rule, alert.value, alert.session_id) for alert in reporter.alerts]
    assert sorted(told) == [("approvals_waiting_ms > 30 s", 31_000.0, "s"), ("runs_open > 0 per run", 1, "s")]
    assert [(each.at_least, each.worst) for each in reporter.results] == [
        (False, 1), (False, 1), (True, 31_000.0), (True, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"window": "5m"}, "window of a rule that is judged at the end refused; leave it out"),
        ({"for_": "5m"}, "for of a rule that is judged at the end refused; leave it out"),
        ({"when": "always"}, "when 'always' of runs_open refused, which is known at the end; leave it out"),
    ],
    ids=["window", "for", "when"],
)
def test_what_is_known_at_the_end_is_judged_there(keys: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        AlertRule("runs_open", ">", 0, **keys)
    assert str(raised.value) == message
    assert AlertRule("runs_open", ">", 0).when == "at_end"


WHY: dict[str, tuple[AlertRule, str]] = {
    "nothing": (AlertRule("compactions", ">", 0, min_count=1, agent="a"), "there is no compaction"),
    "name": (AlertRule("tool_calls", ">", 0, tool="nope"), "no tool of that name; tools: work, sk"),
    "few": (AlertRule("tool_error_rate", ">", 0, min_count=9), "2 samples, and min_count is 9"),
    "currency": (AlertRule("cost", ">", "1 EUR"), "none of 2 requests is priced in EUR; currencies: USD"),
    "unknown": (AlertRule("reasoning_tokens", ">", 0), "none of 2 requests says it"),
}


@pytest.mark.parametrize("name", WHY)
def test_a_rule_that_was_never_judged_says_why(name: str) -> None:
    rule, why = WHY[name]
    reporter = AlertReporter([rule])
    for event in Telling().begin(0).request(1).request(2, cost="1").call(3).call(4, tool="sk").end(5).events:
        reporter.handle_event(event)
    reporter.close()
    (result,) = reporter.results
    assert (result.judged, result.why) == (0, why)
