"""A report in words and tables: for people, and as Markdown."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from agentkit_reporting.cli.drawing import (
    NAME_COLUMNS,
    WIDTH,
    Table,
    brief_duration,
    can_draw,
    drawn,
    escaped,
    grid,
    markdown_table,
    money_text,
    named,
    short_count,
)
from agentkit_reporting.percentiles import percentile
from agentkit_reporting.records.aggregate import MetricsAggregate, compute_aggregate, retry_causes
from agentkit_reporting.records.invocation_metric import InvocationMetric, moment_of
from agentkit_reporting.records.report import (
    SHARES,
    Money,
    RunFigures,
    RunReport,
    chart_bucket_ms,
    in_order,
)
from agentkit_reporting.terminal import counted

_ID_COLUMNS = 1_000
_SESSION = "session"
_LEAVES = ("p50", "tokens", "p99", "infra", "retried", "p95", "retries", "failed", "runs")
"""Columns that a narrow terminal goes without, in this order."""
_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " .:-=+*#@"
_DAY_MS = 86_400_000
_MOST_SLOW = 3  # agents that are named as the slowest


# --- what is told


def _facts(report: RunReport) -> list[tuple[str, str]]:
    """Return what the whole comes to, each with its heading."""
    metrics = report.metrics()
    figures = report.runs(()).get((), RunFigures())
    found = compute_aggregate(metrics, bucket_ms=chart_bucket_ms(metrics))
    facts = [("Invocations", _invocations(metrics, figures))]
    if metrics:
        first, last = metrics[0].started_us, max(metric.ended_us for metric in metrics)
        facts.append(("Time", f"{_clock(first)} to {_clock(last)} UTC"))
        facts.append(
            (
                "Duration",
                f"{_percentiles(figures.durations_ms)}, {_ms(found.total_duration_ms)} in all"
                + (f" of the {counted(figures.runs, 'run')} that ended" if report.open_runs else ""),
            )
        )
        facts.append(("Slowest", _slowest(found)))
    facts += [
        ("Parallel", f"{found.peak_parallel_invocations} at the peak"),
        ("Retries", _retries(found, metrics)),
        ("Requests retried", _by_class(report.retried_for)),
        ("Failures", _by_class(report.failures())),
    ]
    if found.cancelled:
        facts.append(("Cancelled", f"{found.cancelled:,}, neither successes nor failures"))
    if figures.suspended:
        facts.append(("Suspended", f"{figures.suspended:,}, neither successes nor failures"))
    facts += [
        ("Escalations", f"{found.escalation_count:,}"),
        ("Tokens", _tokens(figures)),
        ("Cost", _whole_cost(figures)),
    ]
    if report.open_runs:
        facts.append(
            (
                "Without an end",
                f"{counted(report.open_runs, 'run')}, {_money(report.open_money(), 'run', is_least=True)} of the cost",
            )
        )
    return facts


def _invocations(metrics: list[InvocationMetric], figures: RunFigures) -> str:
    succeeded = sum(metric.success for metric in metrics) - figures.suspended
    rated = figures.runs - figures.cancelled - figures.suspended
    return f"{figures.runs:,}, {succeeded:,} succeeded" + (f" ({succeeded / rated:.1%})" if rated else "")


def _whole_cost(figures: RunFigures) -> str:
    told = _money(figures.money, "run", is_least=bool(figures.open))
    if figures.money.least:
        told += f"; a lower bound: {counted(figures.money.least, 'request')} did not tell all that was used"
    return told


def _tokens(figures: RunFigures) -> str:
    if figures.tokens is None:
        return "unknown" if figures.runs or figures.open else "0"
    least = ">= " if figures.open else ""
    cached = "?" if figures.cached_tokens is None else f"{figures.cached_tokens:,}"
    return f"{least}{figures.tokens:,}, {cached} of them from the cache"


def _slowest(found: MetricsAggregate) -> str:
    slow = sorted(found.avg_duration_by_agent.items(), key=lambda each: (-each[1], each[0]))[:_MOST_SLOW]
    return ", ".join(f"{named(agent, 24)} {_ms(average)}" for agent, average in slow) + " on average"


def _retries(found: MetricsAggregate, metrics: list[InvocationMetric]) -> str:
    cancelled = sum(cause == "cancelled" for cause in retry_causes(metrics).values())
    code = found.total_retries - found.infra_retries - cancelled
    told = f"{found.total_retries:,}: {found.infra_retries:,} for infrastructure, {code:,} for code"
    return f"{told}, {cancelled:,} after a cancel" if cancelled else told


def _by_class(classes: Mapping[str, int]) -> str:
    total = sum(classes.values())
    told = ", ".join(f"{number:,} {named(each, 20)}" for each, number in sorted(classes.items()))
    return f"{total:,}: {told}" if told else "0"


def _tables(report: RunReport, by: Sequence[str]) -> list[Table]:
    if "tool" in by:
        return [_tool_table(report, by)]
    if "model" in by:
        return [_request_table(report, by)]
    if by:
        return [_run_table(report, by)]
    tables = [_run_table(report, ("agent",)), _run_table(report, ("phase",))]
    return [
        each
        for each in (*tables, _request_table(report, ("model",)), _tool_table(report, ("tool",)))
        if each.rows
    ]


def _run_table(report: RunReport, by: Sequence[str]) -> Table:
    has_session = "run" in by
    rows = [
        (
            *_names(key, by),
            *((named(each.session_id, _ID_COLUMNS),) if has_session else ()),
            _runs(each),
            f"{each.failed:,}",
            f"{each.retries:,}",
            f"{each.infra_retries:,}",
            *(brief_duration(percentile(each.durations_ms, share)) for _, share in SHARES[:2]),
            (">= " if each.open and each.tokens is not None else "") + short_count(each.tokens),
            _money(each.money, is_least=bool(each.open)),
        )
        for key, each in report.runs(by).items()
    ]
    names = (*by, _SESSION) if has_session else by
    head = (*names, "runs", "failed", "retries", "infra", "p50", "p95", "tokens", "cost")
    leaves = (_SESSION, *_LEAVES) if has_session else _LEAVES
    return Table(
        f"Runs by {' and '.join(by)}", head, rows, len(names), leaves=leaves, whole=("run", _SESSION)
    )


def _runs(figures: RunFigures) -> str:
    texts = [f"{figures.runs:,}"] if figures.runs or not figures.open else []
    return " + ".join([*texts, f"{figures.open:,} open"] if figures.open else texts)


def _request_table(report: RunReport, by: Sequence[str]) -> Table:
    rows = [
        (
            *_names(key, by),
            f"{each.calls:,}",
            f"{each.failed:,}",
            f"{each.retried:,}",
            *(brief_duration(percentile(each.durations_ms, share)) for _, share in SHARES[:2]),
            short_count(each.usage.total_tokens),
            _money(each.money),
        )
        for key, each in in_order(report.requests)
    ]
    head = (*by, "requests", "failed", "retried", "p50", "p95", "tokens", "cost")
    return Table(f"Requests by {' and '.join(by)}", head, rows, len(by), leaves=_LEAVES)


def _tool_table(report: RunReport, by: Sequence[str]) -> Table:
    rows = [
        (
            *_names(key, by),
            f"{each.calls:,}",
            f"{each.failed:,}",
            *(brief_duration(percentile(each.durations_ms, share)) for _, share in SHARES),
        )
        for key, each in in_order(report.tools)
    ]
    title = "Tools" if tuple(by) == ("tool",) else f"Tools by {' and '.join(by)}"
    return Table(title, (*by, "calls", "errors", "p50", "p95", "p99"), rows, len(by), leaves=_LEAVES)


# --- for people


def as_text(report: RunReport, by: Sequence[str]) -> str:
    """Return the report as people read it on a terminal."""

    def draw(console: Any) -> None:
        if not by:
            console.print(_facts_grid(report))
            chart = _chart(report.metrics(), columns=console.width, plain=not can_draw(_BARS))
            if chart:
                console.print(f"\n{chart}")
        for place, table in enumerate(_tables(report, by)):
            if place or not by:
                console.print()
            console.print(grid(table, console.width, tells_left_out=True))

    return drawn(draw, any_width="run" in by)  # ids are whole where a program may read them


def _facts_grid(report: RunReport) -> Any:
    from rich.table import Table as Grid  # noqa: PLC0415 - only where something is printed
    from rich.text import Text  # noqa: PLC0415 - the same

    grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, told in _facts(report):
        grid.add_row(Text(name, style="bold"), Text(told))
    return grid


def _chart(metrics: list[InvocationMetric], *, columns: int, plain: bool) -> str:
    """Return how many ran at once over time, as a row of bars that fits."""
    if not metrics:
        return ""
    bucket_ms = chart_bucket_ms(metrics, columns - 2)
    bars = _PLAIN_BARS if plain else _BARS
    buckets = compute_aggregate(metrics, bucket_ms=bucket_ms).parallelism_over_time
    peak = max(bucket["concurrent"] for bucket in buckets)
    drawn = "".join(bars[-(-bucket["concurrent"] * (len(bars) - 1) // peak)] for bucket in buckets)
    return f"In parallel, a bar for each {_width_text(bucket_ms)}, up to {peak}:\n|{drawn}|"


def _width_text(bucket_ms: float) -> str:
    days, rest = divmod(bucket_ms, _DAY_MS)
    return brief_duration(bucket_ms) if rest or not days else counted(int(days), "day")


# --- Markdown


def as_markdown(report: RunReport, by: Sequence[str]) -> str:
    """Return the report as Markdown; what names hold of its signs is escaped."""
    parts = []
    if not by:
        facts = [(name, told) for name, told in _facts(report)]
        parts.append("# Report\n\n" + "\n".join(f"- **{name}**: {escaped(told)}" for name, told in facts))
        chart = _chart(report.metrics(), columns=WIDTH, plain=False)
        if chart:
            parts.append(f"```text\n{chart}\n```")
    parts += map(markdown_table, _tables(report, by))
    return "\n\n".join(parts) + "\n"


# --- words


def _names(key: Sequence[str], by: Sequence[str]) -> tuple[str, ...]:
    """Return a key as names; an id is whole, or one could not go on with it."""
    return tuple(
        named(each, _ID_COLUMNS if dimension == "run" else NAME_COLUMNS)
        for dimension, each in zip(by, key, strict=True)
    )


def _percentiles(durations_ms: Sequence[float]) -> str:
    return ", ".join(f"{name} {_ms(percentile(durations_ms, share))}" for name, share in SHARES)


def _ms(duration_ms: float | None) -> str:
    return brief_duration(duration_ms)


def _money(money: Money, noun: str = "", *, is_least: bool = False) -> str:
    """Return amounts, and how many are not known: never as zero. is_least: they are a lower bound in any case."""
    texts = [money_text(amount, currency) for currency, amount in sorted(money.amounts.items())]
    if texts and (is_least or money.least):
        texts[0] = f">= {texts[0]}"
    if money.unknown:
        texts.append(
            f"{counted(money.unknown, noun)} of unknown cost" if noun else f"{money.unknown:,} unknown"
        )
    return " + ".join(texts) or money_text(Decimal(0), "USD")


def _clock(moment_us: int) -> str:
    moment = moment_of("1970-01-01") + dt.timedelta(microseconds=moment_us)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
