"""Metrics for tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from agentkit_reporting.records.invocation_metric import InvocationMetric


def metric(number: int = 1, **fields: Any) -> InvocationMetric:
    """Return a metric of one second, the `number`th second of 2026; fields over its own."""
    given: dict[str, Any] = {
        "invocation_id": f"inv-{number}",
        "agent": "planner",
        "phase": 1,
        "duration_ms": 1_000,
        "tokens": 100,
        "cost": "0.10",
        "timestamp": f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000Z",
        **fields,
    }
    return InvocationMetric(**given)


NAMES = st.sampled_from(["planner", "coder", "revi\u2028ewer", ""])
METRICS = st.builds(
    metric,
    st.integers(0, 3_000),
    agent=NAMES,
    phase=st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["1", "build"])),
    task_id=st.one_of(st.none(), st.sampled_from(["t1", "t2"])),
    duration_ms=st.one_of(st.integers(0, 5_000), st.floats(0, 5_000)),
    tokens=st.one_of(st.none(), st.integers(0, 10**9)),
    cached_tokens=st.one_of(st.none(), st.integers(0, 10**9)),
    cost=st.one_of(
        st.none(), st.decimals(0, 100, places=12), st.floats(0, 100).map(lambda cost: round(cost, 12))
    ),
    success=st.booleans(),
    attempt=st.integers(1, 4),
    tier=st.sampled_from([None, "small", "large"]),
    error_class=st.sampled_from([None, "overloaded", "invalid_request"]),
    premium_requests=st.sampled_from([None, 0, 3]),
)
