"""compute_aggregate: all figures, exact, whatever the order."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import InvocationMetric, compute_aggregate
from agentkit_reporting.records.aggregate import retry_causes
from tests.reporting.metric_samples import METRICS, metric


def test_nothing_comes_to_nothing() -> None:
    found = compute_aggregate([])
    assert (found.total_invocations, found.total_cost, found.total_duration_ms) == (0, Decimal(0), 0.0)
    assert (found.peak_parallel_invocations, found.parallelism_over_time, found.success_rate) == (0, [], 0.0)
    assert (found.avg_duration_by_agent, found.cost_by_phase, found.escalation_count) == ({}, {}, 0)


def test_every_figure_of_a_pipeline() -> None:
    metrics = [
        metric(0, agent="planner", phase=1, task_id="a", tokens=100, cached_tokens=40, tier="small"),
        metric(1, agent="coder", phase=2, task_id="b", cost=0.2, success=False, error_class="overloaded"),
        metric(2, agent="coder", phase=2, task_id="b", cost=0.1, attempt=2, success=False, tier="small"),
        metric(
            3, agent="coder", phase="2", task_id="b", cost=None, attempt=3, tier="large", duration_ms=4_000
        ),
        metric(3, agent="reviewer", phase=None, cost="0.3", duration_ms=0, tokens=None),
    ]
    found = compute_aggregate(metrics, bucket_ms=2_000)
    assert found.total_invocations == 5
    assert found.invocations_by_agent == {"planner": 1, "coder": 3, "reviewer": 1}
    assert found.invocations_by_phase == {1: 1, 2: 3, "": 1}
    assert (found.total_retries, found.infra_retries) == (2, 1)
    assert (found.retries_by_agent, found.retries_by_phase) == ({"coder": 2}, {2: 2})
    assert (found.total_tokens, found.total_cached_tokens) == (400, 40)
    assert found.total_cost == Decimal("0.7")  # 0.1 + 0.2 + 0.1 + 0.3, which floats do not add up to
    assert found.cost_by_agent == {
        "planner": Decimal("0.10"),
        "coder": Decimal("0.3"),
        "reviewer": Decimal("0.3"),
    }
    assert found.cost_by_phase == {1: Decimal("0.10"), 2: Decimal("0.3"), "": Decimal("0.3")}
    assert found.unknown_costs == 1
    assert found.total_duration_ms == 7_000
    assert found.avg_duration_by_agent == {"planner": 1_000, "coder": 2_000, "reviewer": 0}
    assert found.peak_parallel_invocations == 2
    assert found.parallelism_over_time == [
        {"bucket_start": "2026-01-01T00:00:00.000000Z", "concurrent": 1},
        {"bucket_start": "2026-01-01T00:00:02.000000Z", "concurrent": 2},
        {"bucket_start": "2026-01-01T00:00:04.000000Z", "concurrent": 1},
        {"bucket_start": "2026-01-01T00:00:06.000000Z", "concurrent": 1},
    ]
    assert found.escalation_count == 1
    assert found.success_rate == 0.6
    assert found.tokens_by_agent == {"planner": 100, "coder": 300, "reviewer": 0}


def test_as_json_costs_are_exact_text_and_keys_are_text() -> None:
    told = compute_aggregate([metric(1, cost="0.1"), metric(2, cost="0.2", phase=None)]).as_json()
    assert (told["total_cost"], told["cost_by_phase"]) == ("0.3", {"1": "0.1", "": "0.2"})
    assert list(told)[:3] == ["total_invocations", "invocations_by_agent", "invocations_by_phase"]
    msgspec.json.encode(told)


@given(st.lists(METRICS, max_size=10, unique_by=lambda each: each.timestamp), st.randoms())
def test_the_order_of_the_metrics_changes_nothing(metrics: list[InvocationMetric], random: object) -> None:
    shuffled = list(metrics)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # a Random
    assert compute_aggregate(shuffled) == compute_aggregate(metrics)


@given(st.lists(METRICS, max_size=10))
def test_the_parts_add_up_to_the_whole(metrics: list[InvocationMetric]) -> None:
    found = compute_aggregate(metrics)
    assert sum(found.cost_by_agent.values()) == sum(found.cost_by_phase.values()) == found.total_cost
    assert found.total_cost == sum(each.cost for each in metrics if each.cost is not None)
    assert (
        sum(found.invocations_by_phase.values()) == sum(found.invocations_by_agent.values()) == len(metrics)
    )
    assert sum(found.retries_by_agent.values()) == sum(found.retries_by_phase.values()) == found.total_retries
    assert sum(found.tokens_by_agent.values()) == found.total_tokens
    assert 0 <= found.infra_retries <= found.total_retries <= len(metrics)
    buckets = [bucket["concurrent"] for bucket in found.parallelism_over_time]
    assert max(buckets, default=0) == found.peak_parallel_invocations


def test_a_retry_is_for_what_the_attempt_before_failed_by() -> None:
    metrics = [
        metric(3, task_id="a", attempt=3, success=True),
        metric(1, task_id="a", success=False, error_class="timeout"),
        metric(2, task_id="a", attempt=2, success=False),
        metric(4, task_id="b", attempt=2, error_class="rate_limited"),  # nobody knows the first
        metric(5, task_id="c", attempt=2),
    ]
    assert retry_causes(metrics) == {0: "code", 2: "infrastructure", 3: "infrastructure", 4: "code"}


def test_an_escalation_is_an_attempt_on_another_known_tier() -> None:
    metrics = [
        metric(1, task_id="a", tier="small"),
        metric(2, task_id="a", tier="large", attempt=2),
        metric(3, task_id="a", tier="large", attempt=3),
        metric(4, task_id="b", tier="small"),
        metric(5, task_id="b", attempt=2),
        metric(6, task_id="c", tier="large"),
    ]
    assert compute_aggregate(metrics).escalation_count == 1


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf"), True, "60", 0.0001])
def test_a_width_that_is_none_is_refused(width: object) -> None:
    with pytest.raises(ConfigurationError, match=r"bucket_ms=.* refused"):
        compute_aggregate([metric()], bucket_ms=width)  # type: ignore[arg-type] # the point


def test_the_width_by_default_grows_with_the_time() -> None:
    year = [metric(1), metric(2, timestamp="2027-01-01T00:00:00Z")]
    assert compute_aggregate(year[:1]).bucket_ms == 60_000
    assert len(compute_aggregate(year).parallelism_over_time) < 1_500


@pytest.mark.parametrize(
    "fields",
    [
        {"invocation_id": ""},
        {"invocation_id": 7},
        {"agent": None},
        {"phase": True},
        {"phase": float("nan")},
        {"duration_ms": -1},
        {"duration_ms": float("nan")},
        {"duration_ms": True},
        {"tokens": -1},
        {"tokens": 1.5},
        {"tokens": 2**63},
        {"cost": float("nan")},
        {"cost": "9E+999"},
        {"cost": "much"},
        {"attempt": 0},
        {"success": 1},
        {"timestamp": "yesterday"},
        {"timestamp": 5},
        {"timestamp": "0001-01-01T00:00:00+23:00"},
        {"timestamp": "9999-12-31T00:00:00Z"},
    ],
    ids=str,
)
def test_values_that_a_metric_cannot_have_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="of a metric refused; give"):
        metric(1, **fields)


@given(METRICS)
def test_a_metric_comes_back_from_its_json(each: InvocationMetric) -> None:
    line = msgspec.json.encode(each.as_record())
    assert InvocationMetric.of_record(msgspec.json.decode(line)) == each


def test_in_json_a_cost_is_a_number_where_a_number_can_hold_it() -> None:
    def told(cost: object) -> object:
        return metric(1, cost=cost).as_record()["cost"]

    assert told("0.1") == 0.1
    assert told(2) == 2
    assert told(None) is None
    assert told("0.12345678901234567890123") == "0.12345678901234567890123"


def test_what_was_cancelled_is_no_failure_and_in_no_rate() -> None:
    metrics = [
        metric(1, task_id="a", success=False, exit_code=130),
        metric(2, task_id="a", attempt=2),
        metric(3, task_id="b", success=False, exit_code=1),
    ]
    found = compute_aggregate(metrics)
    assert (found.cancelled, found.success_rate, found.infra_retries) == (1, 0.5, 0)
    assert retry_causes(metrics) == {1: "cancelled"}
    assert compute_aggregate(metrics[:1]).success_rate == 0.0


def test_who_has_no_known_cost_has_none_of_zero() -> None:
    found = compute_aggregate([metric(1, agent="a", cost=None), metric(2, agent="b", cost=0)])
    assert (found.cost_by_agent, found.unknown_costs) == ({"b": Decimal(0)}, 1)
