"""RunFold: from the events of runs to one record for each run that ended. Every figure is the events' own.

How a run becomes an InvocationMetric:

- invocation_id is the run's id; agent, model and timestamp are RunStarted's; phase, task_id, tier, premium_requests
  and attempt are read from its metadata, where they fit.
- attempt, where the metadata do not say it: one more than the last attempt of the same agent, phase and task_id; a
  run that goes on with a session counts on from the run before where that failed or crashed; where that was suspended
  or cancelled it goes on as the same attempt, and where that did what it was for it is a first one. Otherwise 1.
- tokens and cost: each request by its last report, those of failed requests too; of the session's own requests alone
  (a sub-agent's run is an invocation of its own). cost is the sum of the known costs in USD, None where the run made
  requests and none of them has one.
- exit_code: 0 for RunFinished, 1 for RunFailed, 130 for RunCancelled. success: RunFinished, and the last exchange was
  not ended by an error, a limit, a cut, a refusal or a cancel. A suspended run is an invocation that did well; the
  run that goes on is the next one, so that the time between counts for neither.
- output_parsed: it was a success, and no call's input was cut.
- error_class, of a run that failed: that of its last request, where that failed by the infrastructure;
  `process_ended` where a resume closed it.
- duration_ms: the closing event's; where nobody was there to measure, up to the last event that told of work.

A run that only carried `metric_recorded` events is no invocation. One whose beginning is in no log has no agent, and
began as long before its end as it lasted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Hashable, Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Protocol

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    CustomEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    UsageUpdated,
)
from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON
from agentkit_reporting.records.invocation_metric import INFRASTRUCTURE_ERRORS, INTERRUPTED, InvocationMetric
from agentkit_reporting.records.report_figures import Money
from agentkit_reporting.records.request_report import Report, summable
from agentkit_reporting.timestamps import utc_text

METRIC_RECORDED = "metric_recorded"
"""The name of the CustomEvent that carries a metric of the host's, as `{"metric": {…}}`."""

FOLDED: tuple[type[AgentEvent], ...] = (
    RunStarted,
    ModelRequestStarted,
    UsageUpdated,
    ModelRequestFinished,
    ModelRequestFailed,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    CustomEvent,
    RunFinished,
    RunFailed,
    RunCancelled,
)
"""The events that the fold looks at."""

UNDONE = frozenset({"error", "limit", "max_tokens", "refusal", "cancelled", "context_window_exceeded"})
"""Finish reasons of an exchange that did not do what it was for."""
_PROCESS_ENDED = "ProcessEnded"  # the type of the error by which a resume closes a run

Place = tuple[str, str]
"""Session and run."""


class Head(Protocol):
    """Where and when an event was told: the event itself, or its line."""

    @property
    def session_id(self) -> str:
        """See AgentEvent."""

    @property
    def timestamp(self) -> dt.datetime:
        """See AgentEvent."""


@attrs.frozen(kw_only=True)
class EndedRun:
    """A run that ended. metric: what it comes to. reports: the last of each request, by its id, in their order.

    usage, money: what these used and cost.
    """

    metric: InvocationMetric
    reports: Mapping[str, Report]
    usage: Usage
    money: Money


@attrs.define(kw_only=True)
class OpenRun:
    """What is known of a run that has not ended."""

    agent: str = ""
    model: str = ""
    metadata: dict[str, JSON] = attrs.field(factory=dict)
    started: dt.datetime | None = None
    attempt: int | None = None
    worked_until: dt.datetime
    reports: dict[str, Report] = attrs.field(factory=dict)
    requests: int = 0
    calls: int = 0
    carried: int = 0
    failed_by: str | None = None
    finish_reason: str = ""
    was_cut: bool = False

    @property
    def only_carries(self) -> bool:
        """Whether it is there for metrics that the host recorded, and no invocation."""
        return self.carried > 0 and not self.requests and not self.calls


class RunFold:
    """Takes events, returns each run as it ends. Not for several threads at once.

    Keeps about 1 kB for each request of the runs that are open, and for the rest a number for each task and session.
    """

    def __init__(self) -> None:
        self._open: dict[Place, OpenRun] = {}
        self._ended: set[Place] = set()
        self._attempts: dict[Hashable, int] = {}  # of tasks: the last
        self._runs: dict[
            str, tuple[str, int]
        ] = {}  # of sessions: last run, attempt of one that goes on with it

    def take(self, event: AgentEvent) -> EndedRun | None:
        """Take one event; return the run that it ended."""
        kind, moment = event.__class__, event.timestamp
        place = (event.session_id, event.run_id)
        run = self.opened(place, moment, is_custom=kind is CustomEvent)
        if run is None:
            return None
        if kind in RUN_ENDS:
            return self.end(run, place, event)  # type: ignore[arg-type] # it is one of them
        note = self.NOTES.get(kind)  # a look-up, where a `match` asks of each class in turn
        if note is not None:
            note(self, run, event, event)
        if not (kind in OF_RECOVERY and event.duration_ms is None):  # type: ignore[attr-defined] # both have it
            run.worked_until = max(run.worked_until, moment)
        return None

    # Who reads a log does the same with what stands in its lines, and makes no event of each: see RunReport.

    def opened(self, place: Place, moment: dt.datetime, *, is_custom: bool) -> OpenRun | None:
        """Return the run of an event, open from its first one on; None where it is over, has no id, or did not begin.

        is_custom: whether that is a CustomEvent, which is told outside of any run as well.
        """
        run = self._open.get(place)
        if run is None:
            if is_custom or place in self._ended or not place[1]:
                return None
            run = self._open[place] = OpenRun(worked_until=moment)
        return run

    def end(
        self, run: OpenRun, place: Place, event: RunFinished | RunFailed | RunCancelled
    ) -> EndedRun | None:
        """Take the end of an open run; return what it was, None where it was no invocation."""
        del self._open[place]
        self._ended.add(place)
        self._runs[event.session_id] = (event.run_id, _attempt_after(run, event))
        if run.only_carries:
            return None
        money = Money()
        money.bill(run.reports.values())
        usage = Usage.total([report.usage for report in run.reports.values()])
        try:
            metric = _metric(run, event, usage, money)
        except ConfigurationError:  # a log may say that a run took minus a day
            return None
        return EndedRun(metric=metric, reports=run.reports, usage=usage, money=money)

    def count_on(self, metric: InvocationMetric) -> None:
        """Let the attempts of a task count on from one that was recorded elsewhere, by another process or the host."""
        if metric.task_id is not None:
            task = (metric.agent, metric.phase, metric.task_id)
            self._attempts[task] = max(metric.attempt, self._attempts.get(task, 0))

    @property
    def open_runs(self) -> int:
        """How many runs have no end so far, but for those that only carry metrics."""
        return sum(not run.only_carries for run in self._open.values())

    def open_reports(self) -> Iterator[tuple[Place, Mapping[str, Report]]]:
        """Yield session, run and the last report of each request, of each run that has no end so far."""
        for place, run in self._open.items():
            if not run.only_carries:
                yield place, run.reports

    def _note_start(self, run: OpenRun, told: RunStarted, head: Head) -> None:
        run.agent, run.model, run.metadata = told.agent_name, told.model, told.metadata
        run.started = head.timestamp
        run.attempt = self._attempt(told, head.session_id)

    def _note_request(self, run: OpenRun, told: ModelRequestStarted, head: Head) -> None:
        del told, head
        run.requests += 1
        run.failed_by = None

    def _note_usage(self, run: OpenRun, told: UsageUpdated, head: Head) -> None:
        del head
        run.reports[told.request_id] = summable(told)

    def _note_failure(self, run: OpenRun, told: ModelRequestFailed, head: Head) -> None:
        del head
        run.failed_by = told.error_class

    def _note_call(self, run: OpenRun, told: ToolCallRequested, head: Head) -> None:
        del head
        run.calls += 1
        run.was_cut |= told.call.cut is not None

    def _note_turn(self, run: OpenRun, told: TurnFinished, head: Head) -> None:
        del head
        run.finish_reason = told.finish_reason

    def _note_custom(self, run: OpenRun, told: CustomEvent, head: Head) -> None:
        del head
        run.carried += told.name == METRIC_RECORDED

    NOTES: ClassVar[dict[type[AgentEvent], Callable[[Any, OpenRun, Any, Any], None]]] = {
        RunStarted: _note_start,
        ModelRequestStarted: _note_request,
        UsageUpdated: _note_usage,
        ModelRequestFailed: _note_failure,
        ToolCallRequested: _note_call,
        TurnFinished: _note_turn,
        CustomEvent: _note_custom,
    }
    """What is done with each kind of event: of this, the open run, the event or what its line holds, and its head."""

    def _attempt(self, told: RunStarted, session_id: str) -> int:
        """Return the number of a run's attempt, and count it."""
        task = self._task(told.agent_name, told.metadata)
        given = told.metadata.get("attempt")
        if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
            attempt = given
        else:
            attempt = 1
            last = self._runs.get(session_id)
            if last is not None and told.resumed_run == last[0]:
                attempt = last[1]
            elif task is not None:
                attempt = self._attempts.get(task, 0) + 1
        if task is not None:
            self._attempts[task] = max(attempt, self._attempts.get(task, 0))
        return attempt

    def _task(self, agent: str, metadata: dict[str, JSON]) -> Hashable:
        task_id = _text(metadata.get("task_id"))
        return None if task_id is None else (agent, _phase(metadata), task_id)


OF_RECOVERY = (ToolResultReceived, ModelRequestFailed)
"""What a resume tells for a run that broke off, without a duration: no work of that run."""


def _metric(
    run: OpenRun, event: RunFinished | RunFailed | RunCancelled, usage: Usage, money: Money
) -> InvocationMetric:
    reports = run.reports.values()
    duration_ms = event.duration_ms
    if duration_ms is None:
        began = run.started or run.worked_until
        duration_ms = max(0.0, (run.worked_until - began) / dt.timedelta(milliseconds=1))
    started = run.started or event.timestamp - dt.timedelta(milliseconds=duration_ms)
    success = isinstance(event, RunFinished) and run.finish_reason not in UNDONE
    premium = run.metadata.get("premium_requests")
    return InvocationMetric(
        invocation_id=event.run_id,
        agent=run.agent,
        phase=_phase(run.metadata),
        task_id=_text(run.metadata.get("task_id")),
        duration_ms=duration_ms,
        tokens=usage.total_tokens if reports or run.requests else 0,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_input_tokens,
        cost=_cost(run, money),
        exit_code=_exit_code(event),
        success=success,
        attempt=run.attempt or 1,
        output_parsed=success and not run.was_cut,
        model=run.model or next((report.model for report in reports), None),
        tier=_text(run.metadata.get("tier")),
        timestamp=utc_text(started),
        error_class=_error_class(run, event),
        premium_requests=premium if _is_count(premium) else None,
        cache_write_tokens=usage.cache_write_input_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        derived=True,
    )


def _attempt_after(run: OpenRun, event: RunFinished | RunFailed | RunCancelled) -> int:
    """Return which attempt it is to go on with a session after a run that ended so."""
    attempt = run.attempt or 1
    if isinstance(event, RunCancelled) or (isinstance(event, RunFinished) and event.outcome == "suspended"):
        return attempt
    return attempt + 1 if isinstance(event, RunFailed) or run.finish_reason in UNDONE else 1


def _exit_code(event: RunFinished | RunFailed | RunCancelled) -> int:
    if isinstance(event, RunFinished):
        return 0
    return 1 if isinstance(event, RunFailed) else INTERRUPTED


def _error_class(run: OpenRun, event: RunFinished | RunFailed | RunCancelled) -> str | None:
    if not isinstance(event, RunFailed):
        return None
    if event.error.type == _PROCESS_ENDED:
        return "process_ended"
    return run.failed_by if run.failed_by in INFRASTRUCTURE_ERRORS else None


def _cost(run: OpenRun, money: Money) -> Decimal | None:
    known = money.amounts.get("USD")
    if known is None and (run.reports or run.requests):
        return None
    return Decimal(0) if known is None else known


def _text(value: JSON) -> str | None:
    """Return a name of the metadata's; a number is one as well."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else None


def _phase(metadata: dict[str, JSON]) -> Any:
    phase = metadata.get("phase")
    return phase if isinstance(phase, (int, float, str)) and not isinstance(phase, bool) else None


def _is_count(value: JSON) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


__all__ = ["FOLDED", "METRIC_RECORDED", "UNDONE", "EndedRun", "OpenRun", "RunFold"]
