"""Seed 002's proposed use of InvocationMetricsCollector, call by call under its Python names, and what it promises."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from agentkit_reporting import InvocationMetric, InvocationMetricsCollector, MetricsAggregate

SEED_FIELDS = {
    *("invocation_id", "agent", "phase", "task_id", "duration_ms", "tokens", "input_tokens", "output_tokens"),
    *(
        "cached_tokens",
        "cost",
        "exit_code",
        "success",
        "attempt",
        "output_parsed",
        "model",
        "tier",
        "timestamp",
    ),
    "error_class",
}
SEED_FIGURES = {
    *(
        "total_invocations",
        "invocations_by_agent",
        "invocations_by_phase",
        "total_retries",
        "retries_by_agent",
    ),
    *("retries_by_phase", "infra_retries", "total_tokens", "total_cost", "total_cached_tokens"),
    *("tokens_by_agent", "cost_by_agent", "total_duration_ms", "avg_duration_by_agent", "success_rate"),
    *("peak_parallel_invocations", "parallelism_over_time", "escalation_count"),
}


def test_the_record_and_the_aggregate_have_the_fields_of_the_seed() -> None:
    fields = [field.name for field in attrs.fields(InvocationMetric)]
    assert {*fields[:18]} == SEED_FIELDS
    assert "premium_requests" in fields
    assert {*SEED_FIGURES, "cost_by_phase"} <= {field.name for field in attrs.fields(MetricsAggregate)}


def test_the_seeds_use_line_by_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics_dir, logger = tmp_path / "metrics", logging.getLogger("pipeline")
    told: list[object] = []

    async def pipeline() -> int:
        collector = InvocationMetricsCollector(metrics_dir, logger, observers=[told.append])
        await collector.arecord(
            InvocationMetric(
                invocation_id="inv-1",
                agent="architect",
                phase=1,
                task_id="design",
                duration_ms=60_000,
                tokens=12_000,
                input_tokens=2_000,
                output_tokens=3_000,
                cached_tokens=7_000,
                cost=0.1,
                exit_code=0,
                success=True,
                attempt=1,
                output_parsed=True,
                model="claude-sonnet-5",
                tier="standard",
                timestamp="2026-05-24T18:40:00.000Z",
            )
        )
        for attempt, error_class in ((1, "rate_limited"), (2, None), (3, None)):
            await collector.arecord(
                InvocationMetric(
                    invocation_id=f"inv-{attempt + 1}",
                    agent="coder",
                    phase=2,
                    task_id="build",
                    duration_ms=30_000,
                    tokens=1_000,
                    cost=0.2,
                    exit_code=0 if attempt == 3 else 1,
                    success=attempt == 3,
                    attempt=attempt,
                    output_parsed=attempt == 3,
                    tier="premium" if attempt == 3 else "standard",
                    timestamp=f"2026-05-24T18:40:{15 * attempt:02}.000Z",
                    error_class=error_class,
                    premium_requests=1 if attempt == 3 else 0,
                )
            )
        assert [metric.invocation_id for metric in collector.get_all()] == [
            "inv-1",
            "inv-2",
            "inv-3",
            "inv-4",
        ]
        return collector.get_count()  # what goes into the checkpoint

    count = asyncio.run(pipeline())
    assert count == 4
    assert [getattr(event, "name", "") for event in told[1:]] == [
        "metric_recorded"
    ] * 4  # one after each record()

    # The process is gone; one line was torn as it went. A new one resumes from the checkpoint.
    collector = InvocationMetricsCollector(metrics_dir, logger)
    with collector.path.open("ab") as file:
        file.write(b'{"invocation_id":"inv-5","agent":')
    assert collector.checkpoint_count() == count
    with caplog.at_level(logging.WARNING):
        collector.load_from_disk(count)
    assert [record.name for record in caplog.records] == ["pipeline"]
    assert collector.get_count() == 4

    found = collector.compute_aggregate()
    # The seed asks which agents were slowest,
    assert max(found.avg_duration_by_agent.items(), key=lambda each: each[1]) == ("architect", 60_000)
    # what was peak parallelism,
    assert found.peak_parallel_invocations == 3
    # how many retries were for infrastructure and how many for code,
    assert (found.total_retries, found.infra_retries) == (2, 1)
    # and what the cost was by phase.
    assert found.cost_by_phase == {1: Decimal("0.1"), 2: Decimal("0.6")}
    assert (found.total_tokens, found.total_cached_tokens, found.total_duration_ms) == (
        15_000,
        7_000,
        150_000,
    )
    assert (found.escalation_count, found.success_rate, found.total_cost) == (1, 0.5, Decimal("0.7"))
    assert found.parallelism_over_time == [
        {"bucket_start": "2026-05-24T18:40:00.000000Z", "concurrent": 3},
        {"bucket_start": "2026-05-24T18:41:00.000000Z", "concurrent": 1},
    ]
