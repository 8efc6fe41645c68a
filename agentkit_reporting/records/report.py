"""RunReport: what runs came to, from events and metrics, in tables by agent, phase, model, tool and so on.

Keeps a metric for each run (about 1 kB) and eight bytes for each request and call of a tool; no events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ContentDelta,
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
from agentkit_reporting.records.report_figures import (
    CallFigures,
    Key,
    Money,
    RunFigures,
    in_order,
    sort_key,
)
from agentkit_reporting.records.report_runs import RunSoFar, cost_of_run, cost_so_far
from agentkit_reporting.records.request_report import Report

DIMENSIONS = ("run", "agent", "phase", "model", "tool", "day")
"""What a table can be by. With `tool` it is of calls of tools, with `model` of requests, else of runs."""

SHARES = (("p50", 50), ("p95", 95), ("p99", 99))
"""The percentiles that are told, by their names."""

_WIDTHS_MS = (1, 10, 100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 21_600_000, 86_400_000, 604_800_000)
_MOST_BUCKETS = 60


class RunReport:
    """Takes events and metrics in any order; then ask. by: the dimensions of a table of requests or calls of tools."""

    def __init__(self, by: Sequence[str] = ()) -> None:
        check_dimensions(by)
        self._requests: dict[Key, CallFigures] = {}  # but for what those of open runs cost
        self.tools: dict[Key, CallFigures] = {}
        self.retried_for: Counter[str] = Counter()
        """Requests that were made again, by the class of the error before."""
        self.events = 0
        # Only where it is not by the name alone, as most often: a key for each request and call is made at once then.
        self._requests_by = tuple(by) if "model" in by and len(by) > 1 else None
        self._tools_by = tuple(by) if "tool" in by and len(by) > 1 else None
        self._fold = RunFold()
        self._runs: dict[tuple[str, str], RunSoFar] = {}
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
        line: Any
        kinds, deltas, fold = _KINDS, _DELTAS, self._fold  # looked up once, and not for each line
        session_id = run_id = ""
        run: Any = None
        work: OpenRun | None = None
        latest: Any = None
        for line in lines:
            # Lines of one run most often follow each other: two comparisons in place of a look-up by a new pair. Until
            # another one follows, the time up to which it worked is kept here.
            if (
                type(line) is deltas  # most lines: attributes of one class alone are read three times as fast
                and line.run_id == run_id
                and line.session_id == session_id
                and work is not None
            ):
                if line.ts > latest:  # noqa: PLR1730 - `max` takes twice as long
                    latest = line.ts
                continue
            if work is None or line.run_id != run_id or line.session_id != session_id:
                if work is not None:
                    work.worked_until = latest
                session_id, run_id = line.session_id, line.run_id
                run = self._runs.get((session_id, run_id)) or self._begun(line)
                work = run.work or self._worked_on(run, line)
                latest = line.ts if work is None else work.worked_until
            note, folded, how = kinds[type(line)]
            if how is _END:
                if work is not None:
                    work.worked_until = latest
                self._end(run, line)
                work = None
                continue
            if note is not None:
                note(self, run, line.payload)
            if work is not None:
                if folded is not None:
                    folded(fold, work, line.payload, line)
                if line.ts > latest and not (how is _RECOVERY and line.payload.duration_ms is None):
                    latest = line.ts
        if work is not None:
            work.worked_until = latest

    def _begun(self, line: Line) -> RunSoFar:
        self._sessions[line.run_id] = line.session_id
        run = RunSoFar(line.run_id, line.ts)
        self._runs[line.session_id, line.run_id] = run
        return run

    def _worked_on(self, run: RunSoFar, line: Line) -> OpenRun | None:
        is_custom = line.__class__ is LINES[CustomEvent]
        run.work = self._fold.opened((line.session_id, line.run_id), line.ts, is_custom=is_custom)
        return run.work

    def _end(self, run: RunSoFar, line: Line) -> None:
        place = (line.session_id, line.run_id)
        event: Any = event_of(line)
        ended = None if run.work is None else self._fold.end(run.work, place, event)
        if ended is not None:
            self._note_end(ended, run)
        if isinstance(event, RunFinished) and event.outcome == "suspended":
            self._suspended.add(event.run_id)
        del self._runs[place]

    def _note_custom(self, run: RunSoFar, told: CustomEvent) -> None:
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

    def _note_start(self, run: RunSoFar, told: RunStarted) -> None:
        phase = told.metadata.get("phase")
        is_phase = isinstance(phase, (str, int, float)) and not isinstance(phase, bool)
        run.agent, run.phase = told.agent_name, str(phase_key(phase)) if is_phase else ""

    def _note_asked(self, run: RunSoFar, told: ModelRequestStarted) -> None:
        run.asked[told.request_id] = told.model

    def _note_usage(self, run: RunSoFar, told: UsageUpdated) -> None:
        run.asked.setdefault(told.request_id, told.model)  # where its beginning is in no log

    def _note_retry(self, run: RunSoFar, told: ModelRequestRetrying) -> None:
        self.retried_for[run.error_class] += 1
        self._of_request(run, told.request_id).retried += 1

    def _note_result(self, run: RunSoFar, told: ToolResultReceived) -> None:
        name, by = told.name, self._tools_by
        key = (name,) if by is None else run.key(by, name)
        _figures(self.tools, key).note(told.duration_ms, failed=told.is_error)

    def _note_finish(self, run: RunSoFar, told: ModelRequestFinished) -> None:
        run.settled.add(told.request_id)
        self._of_request(run, told.request_id).note(told.duration_ms)

    def _note_failure(self, run: RunSoFar, told: ModelRequestFailed) -> None:
        run.error_class = told.error_class
        run.settled.add(told.request_id)
        self._of_request(run, told.request_id).note(None, failed=True)

    def _of_request(self, run: RunSoFar, request_id: str) -> CallFigures:
        return _figures(self._requests, self._key(run, run.asked.get(request_id, "")))

    def _key(self, run: RunSoFar, model: str) -> Key:
        by = self._requests_by
        return (model,) if by is None else run.key(by, model)

    def _bill(self, figures: dict[Key, CallFigures], run: RunSoFar, reports: Mapping[str, Report]) -> None:
        """Add what the requests of a run cost; those that did not end count as well."""
        by_model: dict[str, list[Report | None]] = {}  # most often one, so that all are added up in one go
        for request_id in run.requests():
            model = run.asked.get(request_id, "")
            by_model.setdefault(model, []).append(reports.get(request_id))
            if request_id not in run.settled:
                _figures(figures, self._key(run, model)).note(None)
        for model, each in by_model.items():
            of_model = _figures(figures, self._key(run, model))
            of_model.money.bill(each)
            of_model.use([report.usage for report in each if report is not None])

    def _note_end(self, ended: EndedRun, run: RunSoFar) -> None:
        metric, money, models = ended.metric, ended.money, {*run.asked.values()}
        requests, told = len(run.asked), len(ended.reports)
        if len(models) == 1 and run.settled == run.asked.keys():
            # One model, and all requests ended, as most often: what was added up for the run is not added up again.
            of_model = _figures(self._requests, self._key(run, *models))
            of_model.money.add(money.amounts, money.unknown + requests - told, money.least)
            of_model.use([ended.usage] if told else ())
        else:
            requests = len(run.requests())
            self._bill(self._requests, run, ended.reports)
        money = cost_of_run(money, requests, told)
        self._ordered = None
        self._derived.setdefault(metric.invocation_id, metric)
        if money.unknown or money.least or any(currency != "USD" for currency in money.amounts):
            self._money.setdefault(metric.invocation_id, money)

    NOTES: ClassVar[dict[type[AgentEvent], Callable[[RunReport, RunSoFar, Any], None]]] = {
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
    def requests(self) -> dict[Key, CallFigures]:
        """The figures of requests, those of runs without an end too, in no order."""
        figures = {key: each.copied() for key, each in self._requests.items()}
        for place, reports in self._fold.open_reports():
            self._bill(figures, self._runs[place], reports)
        return figures

    def open_money(self) -> Money:
        """Return what the runs without an end cost so far, which the tables hold too. unknown: runs."""
        money = Money()
        for place, reports in self._fold.open_reports():
            cost = cost_so_far(reports, self._runs[place])
            money.add(cost.amounts, cost.unknown, cost.least)
        return money

    def is_suspended(self, metric: InvocationMetric) -> bool:
        """Whether an invocation was made of a run that was left to go on later; what a host tells is its own word."""
        return metric.derived and metric.invocation_id in self._suspended

    def runs(self, by: Sequence[str]) -> dict[Key, RunFigures]:
        """Return the figures of runs by run, agent, phase and day, in order of their keys; () for all together."""
        metrics = self.metrics()
        causes = self._causes = retry_causes(metrics) if self._causes is None else self._causes
        places: dict[Key, list[int]] = {}
        for place, metric in enumerate(metrics):
            places.setdefault(tuple([_value(metric, each) for each in by]), []).append(place)
        groups = {
            key: self._figures_of(
                [metrics[place] for place in each], list(filter(None, map(causes.get, each)))
            )
            for key, each in places.items()
        }
        self._add_open_runs(groups, by, {metric.invocation_id for metric in metrics})
        return dict(sorted(groups.items(), key=lambda group: sort_key(group[0])))

    def _figures_of(self, metrics: list[InvocationMetric], causes: list[str]) -> RunFigures:
        """Return the figures of the runs of a group. causes: why those of them that are retries were made."""
        # Figure by figure, where to add each run to all of them takes almost twice as long.
        undone = [metric for metric in metrics if not metric.success]
        cancelled = sum(map(is_cancelled, undone))
        tokens = [metric.tokens for metric in metrics if metric.tokens is not None]
        cached_tokens = [metric.cached_tokens for metric in metrics if metric.cached_tokens is not None]
        money = Money()
        for metric in metrics:
            if metric.derived and metric.invocation_id in self._money:
                cost = self._money[metric.invocation_id]
                money.add(cost.amounts, cost.unknown, cost.least)
            elif metric.cost is None:
                money.unknown += 1
            else:
                money.add_amount("USD", metric.cost)
        return RunFigures(
            runs=len(metrics),
            failed=len(undone) - cancelled,
            cancelled=cancelled,
            suspended=sum(map(self.is_suspended, metrics)) if self._suspended else 0,
            retries=len(causes),
            infra_retries=causes.count("infrastructure"),
            durations_ms=[metric.duration_ms for metric in metrics],
            tokens=sum(tokens) if tokens else None,
            cached_tokens=sum(cached_tokens) if cached_tokens else None,
            money=money,
            session_id=self._sessions.get(metrics[-1].invocation_id, ""),
        )

    def _add_open_runs(self, groups: dict[Key, RunFigures], by: Sequence[str], known: set[str]) -> None:
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
            figures.bill(tokens, usage.cached_input_tokens, cost_so_far(reports, run))
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


_DELTAS = LINES[ContentDelta]
_WORK, _RECOVERY, _END = "work", "recovery", "end"

_KINDS: dict[type[Line], tuple[Any, Any, str]] = {Line: (None, None, _WORK)} | {
    line: (
        RunReport.NOTES.get(kind),
        RunFold.NOTES.get(kind),
        _END if kind in RUN_ENDS else _RECOVERY if kind in OF_RECOVERY else _WORK,
    )
    for kind, line in LINES.items()
}
"""Of each kind of line what is noted here, what the fold notes, and what it says of its run. `Line`: not known."""


def _figures(figures: dict[Key, CallFigures], key: Key) -> CallFigures:
    found = figures.get(key)
    if found is None:  # not by `setdefault`, which makes new ones each time
        found = figures[key] = CallFigures()
    return found


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


def check_dimensions(by: Sequence[str]) -> None:
    """Raise ConfigurationError for what a table cannot be by."""
    for each in by:
        if each not in DIMENSIONS:
            raise ConfigurationError(f"dimension {each!r} refused; give one of {', '.join(DIMENSIONS)}")
    if {"model", "tool"} <= {*by}:
        raise ConfigurationError(
            "dimensions 'model' and 'tool' together refused; ask for one of them at a time"
        )


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
