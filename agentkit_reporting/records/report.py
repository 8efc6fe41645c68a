"""RunReport: what runs came to, from events and metrics, in tables by agent, phase, model, tool and so on.

Keeps a metric for each run (about 1 kB) and eight bytes for each request and call of a tool; no events.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    CustomEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunFinished,
    RunStarted,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.usage import Usage
from agentkit_reporting.log.blocks import LINES, Line, event_of, line_of
from agentkit_reporting.records.aggregate import is_cancelled, is_infrastructure, phase_key, retry_causes
from agentkit_reporting.records.ended_runs import METRIC_RECORDED, OF_RECOVERY, EndedRun, OpenRun, RunFold
from agentkit_reporting.records.invocation_metric import InvocationMetric, moment_of
from agentkit_reporting.records.report_figures import CallFigures, Money, RunFigures
from agentkit_reporting.records.request_report import Report

DIMENSIONS = ("run", "agent", "phase", "model", "tool", "day")
"""What a table can be by. With `tool` it is of calls of tools, with `model` of requests, else of runs."""

SHARES = (("p50", 50), ("p95", 95), ("p99", 99))
"""The percentiles that are told, by their names."""

_BY_NAME = (("model",), ("tool",))
_WIDTHS_MS = (1, 10, 100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 21_600_000, 86_400_000, 604_800_000)
_MOST_BUCKETS = 60
_Key = tuple[str, ...]


@attrs.define
class _Run:
    """What is known of a run that has not ended: its dimensions, which model each request asked for, and which ended.

    work: the same run in the fold; None where that does not see it. error_class: of the last request that failed.
    """

    run: str
    day: str
    agent: str = ""
    phase: str = ""
    asked: dict[str, str] = attrs.field(factory=dict)
    settled: set[str] = attrs.field(factory=set)
    error_class: str = "other"
    work: OpenRun | None = None

    def requests(self) -> Iterable[str]:
        """Return the ids of the requests, those whose beginning is in no log behind the others."""
        if self.settled <= self.asked.keys():  # as most often
            return self.asked
        return {**self.asked, **dict.fromkeys(sorted(self.settled))}

    def key(self, by: Sequence[str], name: str) -> _Key:
        if by in _BY_NAME:  # as most often, and asked for with each request and call
            return (name,)
        return tuple(name if each in ("model", "tool") else str(getattr(self, each)) for each in by)


class RunReport:
    """Takes events and metrics in any order; then ask. by: the dimensions of a table of requests or calls of tools."""

    def __init__(self, by: Sequence[str] = ()) -> None:
        check_dimensions(by)
        self._requests: dict[_Key, CallFigures] = {}  # but for what those of open runs cost
        self.tools: dict[_Key, CallFigures] = {}
        self.retried_for: Counter[str] = Counter()
        """Requests that were made again, by the class of the error before."""
        self.events = 0
        self._requests_by = tuple(by) if "model" in by else ("model",)
        self._tools_by = tuple(by) if "tool" in by else ("tool",)
        self._fold = RunFold()
        self._runs: dict[tuple[str, str], _Run] = {}
        self._sessions: dict[str, str] = {}  # of runs
        self._filed: Counter[InvocationMetric] = Counter()  # of files of metrics
        self._told: Counter[InvocationMetric] = Counter()  # by events
        self._derived: dict[str, InvocationMetric] = {}
        self._suspended: set[str] = set()  # runs
        self._ordered: list[InvocationMetric] | None = None  # what `metrics` told, until there are more
        self._causes: dict[int, str] | None = None  # why which of them were retries
        self._money: dict[str, Money] = {}  # of runs that did not cost known USD alone

    # --- taking

    def add(self, metric: InvocationMetric) -> None:
        """Take a metric of a file of metrics."""
        self._add(metric, self._filed)

    def _add(self, metric: InvocationMetric, places: Counter[InvocationMetric]) -> None:
        self._ordered = None
        if metric.derived:
            self._derived.setdefault(metric.invocation_id, metric)
        else:
            places[metric] += 1

    def take(self, event: AgentEvent) -> None:
        """Take an event."""
        self.take_lines([line_of(event)])

    def take_lines(self, lines: Sequence[Line]) -> None:
        """Take events as lines: only what they hold of the figures is looked at, and no event is made of them."""
        self.events += len(lines)
        kinds, fold = _KINDS, self._fold  # looked up once, and not for each line
        session_id = run_id = ""
        run: Any = None
        work: OpenRun | None = None
        latest: Any = None
        for line in lines:
            # Lines of one run most often follow each other: two comparisons in place of a look-up by a new pair. Until
            # another one follows, the time up to which it worked is kept here.
            if work is None or line.run_id != run_id or line.session_id != session_id:
                if work is not None:
                    work.worked_until = latest
                session_id, run_id = line.session_id, line.run_id
                run = self._runs.get((session_id, run_id)) or self._begun(line)
                work = run.work or self._worked_on(run, line)
                latest = line.ts if work is None else work.worked_until
            moment = line.ts
            if line.__class__ not in kinds:  # most lines
                if moment > latest:  # noqa: PLR1730 - `max` takes twice as long
                    latest = moment
                continue
            note, folded, how = kinds[line.__class__]
            if how is _END:
                if work is not None:
                    work.worked_until = latest
                self._end(run, line)
                work = None
                continue
            told = line.payload  # type: ignore[attr-defined] # of a kind that is known
            if note is not None:
                note(self, run, told)
            if work is not None:
                if folded is not None:
                    folded(fold, work, told, line)
                if moment > latest and not (how is _RECOVERY and told.duration_ms is None):
                    latest = moment
        if work is not None:
            work.worked_until = latest

    def _begun(self, line: Line) -> _Run:
        self._sessions[line.run_id] = line.session_id
        run = _Run(line.run_id, day=line.ts.astimezone(dt.UTC).date().isoformat())
        self._runs[line.session_id, line.run_id] = run
        return run

    def _worked_on(self, run: _Run, line: Line) -> OpenRun | None:
        is_custom = line.__class__ is LINES[CustomEvent]
        run.work = self._fold.opened((line.session_id, line.run_id), line.ts, is_custom=is_custom)
        return run.work

    def _end(self, run: _Run, line: Line) -> None:
        place = (line.session_id, line.run_id)
        event: Any = event_of(line)
        ended = None if run.work is None else self._fold.end(run.work, place, event)
        if ended is not None:
            self._note_end(ended, run)
        if isinstance(event, RunFinished) and event.outcome == "suspended":
            self._suspended.add(event.run_id)
        del self._runs[place]

    def _note_custom(self, run: _Run, told: CustomEvent) -> None:
        del run
        if told.name != METRIC_RECORDED:
            return
        data: Any = told.data
        try:
            self._add(
                InvocationMetric.of_record(data.get("metric") if isinstance(data, dict) else data), self._told
            )
        except ConfigurationError:
            return  # whoever told it was refused when it did

    def _note_start(self, run: _Run, told: RunStarted) -> None:
        phase = told.metadata.get("phase")
        is_phase = isinstance(phase, (str, int, float)) and not isinstance(phase, bool)
        run.agent, run.phase = told.agent_name, str(phase_key(phase)) if is_phase else ""

    def _note_asked(self, run: _Run, told: ModelRequestStarted) -> None:
        run.asked[told.request_id] = told.model

    def _note_usage(self, run: _Run, told: UsageUpdated) -> None:
        run.asked.setdefault(told.request_id, told.model)  # where its beginning is in no log

    def _note_retry(self, run: _Run, told: ModelRequestRetrying) -> None:
        self.retried_for[run.error_class] += 1
        self._of_request(run, told.request_id).retried += 1

    def _note_result(self, run: _Run, told: ToolResultReceived) -> None:
        _figures(self.tools, run.key(self._tools_by, told.name)).note(told.duration_ms, failed=told.is_error)

    def _note_finish(self, run: _Run, told: ModelRequestFinished) -> None:
        run.settled.add(told.request_id)
        self._of_request(run, told.request_id).note(told.duration_ms)

    def _note_failure(self, run: _Run, told: ModelRequestFailed) -> None:
        run.error_class = told.error_class
        run.settled.add(told.request_id)
        self._of_request(run, told.request_id).note(None, failed=True)

    def _of_request(self, run: _Run, request_id: str) -> CallFigures:
        return _figures(self._requests, run.key(self._requests_by, run.asked.get(request_id, "")))

    def _bill(self, figures: dict[_Key, CallFigures], run: _Run, reports: Mapping[str, Report]) -> None:
        """Add what the requests of a run cost; those that did not end count as well."""
        by_model: dict[str, list[Report | None]] = {}  # most often one, so that all are added up in one go
        for request_id in run.requests():
            model = run.asked.get(request_id, "")
            by_model.setdefault(model, []).append(reports.get(request_id))
            if request_id not in run.settled:
                _figures(figures, run.key(self._requests_by, model)).note(None)
        for model, each in by_model.items():
            of_model = _figures(figures, run.key(self._requests_by, model))
            of_model.money.bill(each)
            of_model.use([report.usage for report in each if report is not None])

    def _note_end(self, ended: EndedRun, run: _Run) -> None:
        metric, money = ended.metric, _cost_of(ended.money, ended.reports, run)
        self._bill(self._requests, run, ended.reports)
        self._ordered = None
        self._derived.setdefault(metric.invocation_id, metric)
        if money.unknown or money.least or any(currency != "USD" for currency in money.amounts):
            self._money.setdefault(metric.invocation_id, money)

    NOTES: ClassVar[dict[type[AgentEvent], Callable[[RunReport, _Run, Any], None]]] = {
        CustomEvent: _note_custom,
        RunStarted: _note_start,
        ModelRequestStarted: _note_asked,
        UsageUpdated: _note_usage,
        ModelRequestFinished: _note_finish,
        ModelRequestFailed: _note_failure,
        ModelRequestRetrying: _note_retry,
        ToolResultReceived: _note_result,
    }

    # --- asking

    def metrics(self) -> list[InvocationMetric]:
        """Return the metrics in order of their beginning; one told by the host in place of one made of its run.

        What was recorded is in a log and in the file of metrics: given both, it counts once.
        """
        if self._ordered is not None:
            return list(self._ordered)
        metrics = list((self._filed | self._told).elements())
        own = {each.invocation_id for each in metrics}
        metrics += [each for name, each in self._derived.items() if name not in own]
        self._ordered = sorted(metrics, key=lambda metric: (metric.started_us, metric.invocation_id))
        self._causes = None
        return list(self._ordered)

    @property
    def open_runs(self) -> int:
        """How many runs have no end."""
        return self._fold.open_runs

    @property
    def requests(self) -> dict[_Key, CallFigures]:
        """The figures of requests, those of runs without an end too, in no order."""
        figures = {key: each.copied() for key, each in self._requests.items()}
        for place, reports in self._fold.open_reports():
            self._bill(figures, self._runs[place], reports)
        return figures

    def open_money(self) -> Money:
        """Return what the runs without an end cost so far, which the tables hold too. unknown: runs."""
        money = Money()
        for place, reports in self._fold.open_reports():
            cost = _cost_so_far(reports, self._runs[place])
            money.add(cost.amounts, cost.unknown, cost.least)
        return money

    def is_suspended(self, metric: InvocationMetric) -> bool:
        """Whether an invocation was made of a run that was left to go on later; what a host tells is its own word."""
        return metric.derived and metric.invocation_id in self._suspended

    def cost_of(self, metric: InvocationMetric) -> Money:
        """Return what an invocation cost, by currency."""
        if metric.derived and metric.invocation_id in self._money:
            return self._money[metric.invocation_id]
        return Money(unknown=1) if metric.cost is None else Money({"USD": metric.cost})

    def runs(self, by: Sequence[str]) -> dict[_Key, RunFigures]:
        """Return the figures of runs by run, agent, phase and day, in order of their keys; () for all together."""
        metrics = self.metrics()
        causes = self._causes = retry_causes(metrics) if self._causes is None else self._causes
        groups: dict[_Key, RunFigures] = {}
        for place, metric in enumerate(metrics):
            key = tuple([_value(metric, each) for each in by])
            figures = groups.get(key)
            if figures is None:  # not by `setdefault`, which makes new ones each time
                figures = groups[key] = RunFigures()
            figures.runs += 1
            if not metric.success:
                was_cancelled = is_cancelled(metric)
                figures.cancelled += was_cancelled
                figures.failed += not was_cancelled
            figures.suspended += self.is_suspended(metric)
            figures.retries += place in causes
            figures.infra_retries += causes.get(place) == "infrastructure"
            figures.durations_ms.append(metric.duration_ms)
            figures.bill(metric.tokens, metric.cached_tokens, self.cost_of(metric))
            figures.session_id = self._sessions.get(metric.invocation_id, "")
        self._add_open_runs(groups, by, {metric.invocation_id for metric in metrics})
        return dict(sorted(groups.items(), key=lambda group: sort_key(group[0])))

    def _add_open_runs(self, groups: dict[_Key, RunFigures], by: Sequence[str], known: set[str]) -> None:
        """Add what the runs without an end used so far, but for those whose metric was told elsewhere."""
        for place, reports in self._fold.open_reports():
            run = self._runs[place]
            if run.run in known:
                continue
            figures = groups.setdefault(run.key(by, ""), RunFigures())
            figures.open += 1
            usage = Usage.total(report.usage for report in reports.values())
            was_asked = bool(run.asked or run.settled)
            tokens = usage.total_tokens if was_asked or reports else 0
            figures.bill(tokens, usage.cached_input_tokens, _cost_so_far(reports, run))
            figures.session_id = place[0]

    def failures(self) -> dict[str, int]:
        """Return how many invocations failed by each class of the infrastructure's errors, and by `code`.

        Those that were cancelled did not fail.
        """
        classes = Counter(
            str(metric.error_class) if is_infrastructure(metric) else "code"
            for metric in self.metrics()
            if not metric.success and not is_cancelled(metric)
        )
        return dict(sorted(classes.items()))


_WORK, _RECOVERY, _END = "work", "recovery", "end"

_KINDS: dict[type[Line], tuple[Any, Any, str]] = {
    LINES[kind]: (
        RunReport.NOTES.get(kind),
        RunFold.NOTES.get(kind),
        _END if kind in RUN_ENDS else _RECOVERY if kind in OF_RECOVERY else _WORK,
    )
    for kind in (*RunReport.NOTES, *RunFold.NOTES, *RUN_ENDS)
}
"""The lines that are looked at: what is noted here, what the fold notes, and what they say of their run."""


def _figures(figures: dict[_Key, CallFigures], key: _Key) -> CallFigures:
    found = figures.get(key)
    if found is None:  # not by `setdefault`, which makes new ones each time
        found = figures[key] = CallFigures()
    return found


def sort_key(key: _Key) -> tuple[tuple[int, int, str], ...]:
    """Order keys: numbers by their value, before text."""
    return tuple(
        (0, int(each), "") if each.isascii() and each.isdecimal() and len(each) < 16 else (1, 0, each)  # noqa: PLR2004 - no id of digits
        for each in key
    )


def chart_bucket_ms(metrics: list[InvocationMetric], bars: int = _MOST_BUCKETS) -> float:
    """Return the width of buckets that makes no more than so many bars, and never more than 60."""
    if not metrics:
        return _WIDTHS_MS[0]
    span_ms = (max(each.ended_us for each in metrics) - min(each.started_us for each in metrics)) / 1_000
    most = max(1, min(bars, _MOST_BUCKETS) - 1)  # a span touches one bucket more than it is long
    width = next((width for width in _WIDTHS_MS if span_ms / width < most), float(_WIDTHS_MS[-1]))
    while span_ms / width >= most:
        width *= 2
    return width


def in_order(figures: Mapping[tuple[str, ...], CallFigures]) -> Iterable[tuple[tuple[str, ...], CallFigures]]:
    """Return figures in order of their keys."""
    return sorted(figures.items(), key=lambda each: sort_key(each[0]))


def check_dimensions(by: Sequence[str]) -> None:
    """Raise ConfigurationError for what a table cannot be by."""
    for each in by:
        if each not in DIMENSIONS:
            raise ConfigurationError(f"dimension {each!r} refused; give one of {', '.join(DIMENSIONS)}")
    if {"model", "tool"} <= {*by}:
        raise ConfigurationError(
            "dimensions 'model' and 'tool' together refused; ask for one of them at a time"
        )


def _cost_so_far(reports: Mapping[str, Report], run: _Run) -> Money:
    money = Money()
    money.bill(reports.values())
    return _cost_of(money, reports, run)


def _cost_of(money: Money, reports: Mapping[str, Report], run: _Run) -> Money:
    """Return what a run cost. unknown: 1 where a request that told its usage has no cost, or none told any."""
    was_asked = bool(run.asked or run.settled)
    money.unknown = min(1, money.unknown + (was_asked and not reports))
    if reports:
        money.least += len((run.asked.keys() | run.settled) - reports.keys())
    return money


def _value(metric: InvocationMetric, dimension: str) -> str:
    match dimension:
        case "run":
            return metric.invocation_id
        case "agent":
            return metric.agent
        case "phase":
            return str(phase_key(metric.phase))
        case _:
            return moment_of(metric.timestamp).date().isoformat()


__all__ = [
    "DIMENSIONS",
    "SHARES",
    "CallFigures",
    "Money",
    "RunFigures",
    "RunReport",
    "chart_bucket_ms",
    "check_dimensions",
    "in_order",
    "sort_key",
]
