"""A report as JSON, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentkit_reporting.records.aggregate import compute_aggregate
from agentkit_reporting.records.report import (
    SHARES,
    Money,
    RunFigures,
    RunReport,
    chart_bucket_ms,
    in_order,
    percentile,
)


def as_json(report: RunReport, by: Sequence[str]) -> dict[str, Any]:
    """Return the report as JSON values; with `by`, one table alone is in `tables`."""
    metrics = report.metrics()
    figures = report.runs(()).get((), RunFigures())
    asked = [tuple(by)] if by else [("agent",), ("phase",), ("model",), ("tool",)]
    return {
        "aggregate": compute_aggregate(metrics, bucket_ms=chart_bucket_ms(metrics)).as_json(),
        "duration_ms": _percentile_json(figures.durations_ms),
        "costs": figures.money.amounts,
        "unknown_costs": figures.money.unknown,
        "failures": report.failures(),
        "requests_retried": dict(sorted(report.retried_for.items())),
        "open_runs": report.open_runs,
        "open_costs": report.open_money().amounts,
        "tables": [{"by": each, "rows": _rows_json(report, each)} for each in asked],
    }


def _rows_json(report: RunReport, by: Sequence[str]) -> list[dict[str, Any]]:
    if "tool" in by or "model" in by:
        calls = report.tools if "tool" in by else report.requests
        return [
            {
                "key": dict(zip(by, key, strict=True)),
                "calls": each.calls,
                "failed": each.failed,
                "duration_ms": _percentile_json(each.durations_ms),
                **(
                    {}
                    if "tool" in by
                    else {"retried": each.retried, "usage": each.usage, **_money_json(each.money)}
                ),
            }
            for key, each in in_order(calls)
        ]
    return [
        {
            "key": dict(zip(by, key, strict=True)),
            "runs": each.runs,
            "failed": each.failed,
            "retries": each.retries,
            "infra_retries": each.infra_retries,
            "duration_ms": _percentile_json(each.durations_ms),
            "tokens": each.tokens,
            **_money_json(each.money),
        }
        for key, each in report.runs(by).items()
    ]


def _money_json(money: Money) -> dict[str, Any]:
    return {"costs": money.amounts, "unknown_costs": money.unknown}


def _percentile_json(durations_ms: Sequence[float]) -> dict[str, float | None]:
    return {name: percentile(durations_ms, share) for name, share in SHARES}
