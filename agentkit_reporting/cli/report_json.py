"""A report as JSON, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentkit_reporting.percentiles import percentile_of_ordered
from agentkit_reporting.records.aggregate import compute_aggregate
from agentkit_reporting.records.invocation_metric import InvocationMetric
from agentkit_reporting.records.report import (
    SHARES,
    Money,
    RunFigures,
    RunReport,
    chart_bucket_ms,
    in_order,
)


def as_json(report: RunReport, by: Sequence[str]) -> dict[str, Any]:
    """Return the report as JSON values; with `by`, one table alone is in `tables`.

    What is not known is null or counted, never zero. `aggregate` is of the runs that ended, and a suspended one is a
    success there, as its metric says; in `succeeded` it is not. `costs_not_all_told` counts requests that make the
    costs lower bounds; tokens, costs and tables
    are of all, those without an end too.
    """
    metrics = report.metrics()
    figures = report.runs(()).get((), RunFigures())
    asked = [tuple(by)] if by else [("agent",), ("phase",), ("model",), ("tool",)]
    return {
        "aggregate": _aggregate_json(metrics),
        "duration_ms": _percentile_json(figures.durations_ms),
        "tokens": figures.tokens,
        "cached_tokens": figures.cached_tokens,
        "costs": figures.money.amounts,
        "unknown_costs": figures.money.unknown,
        "costs_not_all_told": figures.money.least,
        "failures": report.failures(),
        "cancelled": figures.cancelled,
        "suspended": figures.suspended,
        "succeeded": sum(metric.success for metric in metrics) - figures.suspended,
        "requests_retried": dict(sorted(report.retried_for.items())),
        "open_runs": report.open_runs,
        "open_costs": report.open_money().amounts,
        "open_unknown_costs": report.open_money().unknown,
        "tables": [{"by": each, "rows": _rows_json(report, each)} for each in asked],
    }


def _aggregate_json(metrics: list[InvocationMetric]) -> dict[str, Any]:
    told = compute_aggregate(metrics, bucket_ms=chart_bucket_ms(metrics)).as_json()
    if metrics and all(metric.cost is None for metric in metrics):
        told["total_cost"] = None
    if metrics and all(metric.tokens is None for metric in metrics):
        told["total_tokens"] = None
    return told


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
            **({"session_id": each.session_id or None} if "run" in by else {}),
            "runs": each.runs,
            "open": each.open,
            "failed": each.failed,
            "cancelled": each.cancelled,
            "suspended": each.suspended,
            "retries": each.retries,
            "infra_retries": each.infra_retries,
            "duration_ms": _percentile_json(each.durations_ms),
            "tokens": each.tokens,
            **_money_json(each.money),
        }
        for key, each in report.runs(by).items()
    ]


def _money_json(money: Money) -> dict[str, Any]:
    return {"costs": money.amounts, "unknown_costs": money.unknown, "costs_not_all_told": money.least}


def _percentile_json(durations_ms: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(durations_ms)
    return {name: percentile_of_ordered(ordered, share) for name, share in SHARES}
