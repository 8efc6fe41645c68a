"""Metrics made of runs: attempts, tiers, tokens, costs and errors, all from the events."""

from __future__ import annotations

import contextlib
import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ModelError
from agentkit_loop.events import AgentEvent, CustomEvent, RunStarted
from agentkit_loop.price_book import PriceBook
from agentkit_loop.retry import Retry
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedFailure, ScriptedModel, VirtualClock
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting import InvocationMetricsCollector, JsonlReporter, read_events
from agentkit_reporting.records.invocation_metric import moment_of
from tests.reporting.metric_samples import metric

USED = Usage(input_tokens=10_000, cached_input_tokens=90_000, output_tokens=1_234)
MODEL = "claude-opus-5"


def run(collector: InvocationMetricsCollector, *replies: Reply, **metadata: Any) -> list[AgentEvent]:
    told: list[AgentEvent] = []
    model = ScriptedModel(list(replies) or [Reply(text="hi", usage=USED)], name=MODEL)
    agent = Agent(  # not closed: that would close its observers, and the collector is for several
        model,
        name="coder",
        observers=[collector, told.append],
        prices=PriceBook(),
        retry=Retry(max_attempts=2),
        clock=VirtualClock(),
    )
    with contextlib.suppress(ModelError):
        agent.run("go", metadata=metadata)
    return told


def failing(error_class: str) -> Reply:
    return Reply(fail=ScriptedFailure(error_class=error_class))


@pytest.fixture
def collector(tmp_path: Path) -> InvocationMetricsCollector:
    return InvocationMetricsCollector(tmp_path / "metrics")


def test_a_run_becomes_a_metric(collector: InvocationMetricsCollector) -> None:
    told = run(collector, phase=2, task_id="t-7", tier="small", premium_requests=3)
    (found,) = collector.get_all()
    started = next(event for event in told if isinstance(event, RunStarted))
    assert (found.invocation_id, found.agent, found.model) == (started.run_id, "coder", MODEL)
    assert (found.phase, found.task_id, found.tier, found.attempt) == (2, "t-7", "small", 1)
    assert (found.tokens, found.input_tokens, found.cached_tokens, found.output_tokens) == (
        101_234,
        10_000,
        90_000,
        1_234,
    )
    assert found.cost == Decimal("0.12585")
    assert (found.exit_code, found.success, found.output_parsed, found.error_class) == (0, True, True, None)
    assert moment_of(found.timestamp) == started.timestamp
    assert found.duration_ms == told[-1].duration_ms  # type: ignore[attr-defined] # RunFinished
    assert (found.premium_requests, found.derived) == (3, True)


def test_a_request_of_an_unknown_model_has_no_cost_and_not_zero(tmp_path: Path) -> None:
    collector = InvocationMetricsCollector(tmp_path)
    with Agent(ScriptedModel([Reply(text="hi", usage=USED)], name="llama3"), observers=[collector]) as agent:
        agent.run("go")
    (found,) = collector.get_all()
    assert (found.cost, found.tokens) == (None, 101_234)
    assert (found.phase, found.task_id, found.tier) == (None, None, None)


@pytest.mark.parametrize(
    ("error_class", "told"),
    [("overloaded", "overloaded"), ("connection", "connection"), ("invalid_request", None), ("auth", None)],
)
def test_infrastructure_errors_are_told_apart_from_others(
    collector: InvocationMetricsCollector, error_class: str, told: str | None
) -> None:
    run(collector, failing(error_class), failing(error_class))
    (found,) = collector.get_all()
    assert (found.exit_code, found.success, found.output_parsed) == (1, False, False)
    assert found.error_class == told


def test_a_request_that_was_retried_makes_no_failed_run(collector: InvocationMetricsCollector) -> None:
    run(collector, failing("overloaded"), Reply(text="hi", usage=USED))
    (found,) = collector.get_all()
    assert (found.success, found.error_class) == (True, None)


def test_attempts_of_a_task_count_on_and_another_tier_is_an_escalation(
    collector: InvocationMetricsCollector,
) -> None:
    bad = (failing("timeout"), failing("timeout"))
    run(collector, *bad, phase=1, task_id="a", tier="small")
    run(collector, *bad, phase=1, task_id="a", tier="small")
    run(collector, phase=1, task_id="a", tier="large")
    run(collector, phase=2, task_id="a")
    run(collector, phase=1)
    run(collector, phase=1)
    run(collector, phase=1, task_id="b", attempt=4)
    run(collector, phase=1, task_id="b")
    assert [each.attempt for each in collector.get_all()] == [1, 2, 3, 1, 1, 1, 4, 5]
    found = collector.compute_aggregate()
    assert (found.total_retries, found.infra_retries, found.escalation_count) == (4, 2, 1)


def test_attempts_count_on_in_another_process_that_loaded_the_file(
    collector: InvocationMetricsCollector,
) -> None:
    run(collector, failing("timeout"), failing("timeout"), phase=1, task_id="a")
    collector.record(metric(1, agent="coder", phase=1, task_id="b", attempt=3))
    again = InvocationMetricsCollector(collector.path.parent)
    again.load_from_disk(1)
    run(again, phase=1, task_id="a")
    run(again, phase=1, task_id="b")
    assert [(each.task_id, each.attempt) for each in again.get_all()] == [
        ("a", 1),
        ("b", 3),
        ("a", 2),
        ("b", 4),
    ]


def test_a_host_that_fails_and_one_that_is_interrupted(collector: InvocationMetricsCollector) -> None:
    for error in (ValueError("mine"), KeyboardInterrupt()):
        emitter = EventEmitter([collector])
        with pytest.raises(type(error)), emitter.run(agent_name="own"):
            raise error
    assert [(each.exit_code, each.success, each.error_class) for each in collector.get_all()] == [
        (1, False, None),
        (130, False, None),
    ]
    assert [each.tokens for each in collector.get_all()] == [0, 0]
    assert [each.cost for each in collector.get_all()] == [Decimal(0), Decimal(0)]


def test_an_answer_that_was_cut_is_no_success(collector: InvocationMetricsCollector) -> None:
    run(collector, Reply(text="half", usage=USED, finish_reason="max_tokens"))
    (found,) = collector.get_all()
    assert (found.exit_code, found.success, found.output_parsed) == (0, False, False)


def test_a_suspended_run_and_the_one_that_goes_on_are_one_attempt(
    collector: InvocationMetricsCollector,
) -> None:
    @tool(approval=True)
    def pay() -> str:
        """Pay."""
        return "paid"

    told: list[AgentEvent] = []
    model = ScriptedModel([Reply(calls=(ScriptedCall(name="pay"),)), Reply(text="done")])
    with Agent(model, tools=[pay], observers=[collector, told.append]) as agent:
        agent.run("go", metadata={"task_id": "t"})
        with agent.resume(list(told), metadata={"task_id": "t"}) as driver:
            for step in driver:
                if isinstance(step, ApprovalRequest):
                    step.approve()
    first, second = collector.get_all()
    assert (first.success, first.attempt, first.exit_code) == (True, 1, 0)
    assert (second.success, second.attempt) == (True, 1)
    assert first.invocation_id != second.invocation_id


def test_a_run_that_crashed_is_an_invocation_once_its_resume_closed_it(
    collector: InvocationMetricsCollector,
) -> None:
    told: list[AgentEvent] = []
    model = ScriptedModel([Reply(text="hi", usage=USED), Reply(text="again", usage=USED)])
    with Agent(model, observers=[told.append]) as agent:
        agent.run("go", metadata={"task_id": "t"})
        crashed = told[: next(place for place, event in enumerate(told) if event.type == "content_delta")]
        for event in crashed:
            collector.handle_event(event)
        assert collector.get_all() == []
        told.clear()
        with agent.resume(crashed, metadata={"task_id": "t"}) as driver:
            driver.run()
        for event in told:
            collector.handle_event(event)
    first, second = collector.get_all()
    assert (first.exit_code, first.success, first.error_class, first.attempt) == (
        1,
        False,
        "process_ended",
        1,
    )
    worked = crashed[-1].timestamp - crashed[0].timestamp
    assert first.duration_ms == pytest.approx(worked / dt.timedelta(milliseconds=1), abs=0.001)
    assert (second.success, second.attempt) == (True, 2)


def test_a_metric_of_the_host_takes_the_place_of_the_one_of_its_run(
    collector: InvocationMetricsCollector,
) -> None:
    before, after = EventEmitter([collector]), EventEmitter([collector])
    with before.run(agent_name="own") as scope, scope.tool_call("look", {}) as body:
        own = metric(1, invocation_id=before.run_id)
        before.emit(CustomEvent(name="metric_recorded", data={"metric": own.as_record()}))
        body.result("seen")
    with after.run(agent_name="own") as scope, scope.tool_call("look", {}) as body:
        body.result("seen")
    late = metric(2, invocation_id=after.run_id)
    collector.record(late)
    assert collector.get_all() == [own, late]
    assert collector.checkpoint_count() == 3  # nothing is rewritten
    again = InvocationMetricsCollector(collector.path.parent)
    again.load_from_disk(3)
    assert again.get_all() == [own, late]


def test_live_and_offline_use_agree_and_seeing_a_run_twice_changes_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    live = InvocationMetricsCollector(tmp_path / "live")
    reporter = JsonlReporter(log)
    for number in range(3):
        for event in run(live, failing("server"), Reply(text="hi", usage=USED), task_id="t", phase=number):
            reporter.handle_event(event)
    reporter.close()
    offline = InvocationMetricsCollector(tmp_path / "offline")
    for _ in range(2):
        for event in read_events(log):
            offline.handle_event(event)
    assert offline.get_all() == live.get_all()
    assert offline.get_count() == 3
    assert offline.path.read_bytes() == live.path.read_bytes()


def test_it_can_be_told_not_to_look_at_runs(tmp_path: Path) -> None:
    collector = InvocationMetricsCollector(tmp_path, derive=False)
    run(collector)
    assert collector.get_all() == []


def test_children_are_invocations_of_their_own_and_not_added_to_their_parents(
    collector: InvocationMetricsCollector,
) -> None:
    child = Agent(
        ScriptedModel([Reply(text="found", usage=USED)], name=MODEL), name="child", prices=PriceBook()
    )
    parent = ScriptedModel(
        [
            Reply(calls=(ScriptedCall(name="child", input={"prompt": "look"}),), usage=USED),
            Reply(text="ok", usage=USED),
        ],
        name=MODEL,
    )
    with Agent(
        parent,
        tools=[child.as_tool(description="looks")],
        name="parent",
        observers=[collector],
        prices=PriceBook(),
    ) as agent:
        agent.run("go")
    tokens = {each.agent: each.tokens for each in collector.get_all()}
    assert tokens == {"child": 101_234, "parent": 202_468}


def test_to_go_on_with_a_session_counts_on_only_after_a_failure(
    collector: InvocationMetricsCollector,
) -> None:
    told: list[AgentEvent] = []
    replies = [Reply(text="done", usage=USED), failing("invalid_request"), Reply(text="again", usage=USED)]
    model = ScriptedModel([*replies, Reply(text="more", usage=USED)])
    with Agent(model, observers=[collector, told.append]) as agent:
        agent.run("go")
        for _ in range(3):
            with contextlib.suppress(ModelError), agent.resume(list(told)) as driver:
                driver.run("go on")
    assert [(each.success, each.attempt) for each in collector.get_all()] == [
        (True, 1),
        (False, 1),  # goes on with what was finished: a first attempt of its own
        (True, 2),  # after the failure
        (True, 1),
    ]
    assert collector.compute_aggregate().total_retries == 1


def test_to_go_on_after_a_cancel_is_the_same_attempt(collector: InvocationMetricsCollector) -> None:
    told: list[AgentEvent] = []
    model = ScriptedModel([Reply(text="done"), Reply(text="done")])
    with Agent(model, observers=[collector, told.append]) as agent:
        with contextlib.suppress(KeyboardInterrupt), agent.start("go") as driver:
            next(iter(driver))
            raise KeyboardInterrupt
        with agent.resume(list(told)) as driver:
            driver.run("go on")
    assert [(each.exit_code, each.attempt) for each in collector.get_all()] == [(130, 1), (0, 1)]
