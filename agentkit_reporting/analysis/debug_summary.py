"""How a session of a debug replay went as a whole, told from its steps: what a person asks first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import attrs

from agentkit_reporting.analysis.debug_step import DebugStep
from agentkit_reporting.usage import UsageTotals

__all__ = ["DebugSummary", "summary_of"]

_OUTCOMES = {"ok": "completed", "waiting": "suspended"}
_FAILED = ("failed", "not_started", "interrupted")


@attrs.frozen(kw_only=True)
class DebugSummary:
    """A session as a whole; what a run told after another had gone on from it does not count, but was paid for.

    outcome: of the last run: completed, suspended, failed, cancelled, or `open`: no end was told, so that all figures
    are lower bounds; "" of a step log, which does not tell. open_runs: runs without an end. failed_calls: calls that
    failed, were not started or interrupted; denied_calls; failed_requests. duration_ms: of all runs, None where nobody
    measured one. totals: what was used. at_the_end: titles of what was under way when the log ended, and of what waits.
    """

    outcome: str
    open_runs: int
    failed_calls: int
    denied_calls: int
    failed_requests: int
    duration_ms: float | None
    totals: UsageTotals
    at_the_end: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Whether the log ends while a run goes on: it crashed, or is still going."""
        return self.outcome == "open"


@attrs.define
class _Run:
    first: dt.datetime
    last: dt.datetime
    outcome: str = "open"
    duration_ms: float | None = None

    def took_ms(self) -> float | None:
        """Return how long it took; where no end was told, up to its last step."""
        if self.outcome != "open":
            return self.duration_ms
        return max(0.0, (self.last - self.first) / dt.timedelta(milliseconds=1))


def summary_of(steps: Sequence[DebugStep], totals: UsageTotals, *, is_event_log: bool) -> DebugSummary:
    """Return the whole of a session. totals: what all its steps used."""
    counting = [step for step in steps if not step.is_superseded]
    runs = _runs(counting) if is_event_log else {}
    outcomes = [run.outcome for run in runs.values()]
    took = [run.took_ms() for run in runs.values()]
    known = [each for each in took if each is not None]
    calls = [step.status for step in counting if step.kind == "tool_call"]
    return DebugSummary(
        outcome=outcomes[-1] if outcomes else "",
        open_runs=outcomes.count("open"),
        failed_calls=sum(status in _FAILED for status in calls),
        denied_calls=calls.count("denied"),
        failed_requests=sum(step.kind == "model_request" and step.status == "failed" for step in counting),
        duration_ms=sum(known) if known and len(known) == len(took) else None,
        totals=totals,
        at_the_end=tuple(_words(step) for step in counting if is_event_log and _is_left(step)),
    )


def _runs(steps: Iterable[DebugStep]) -> dict[str, _Run]:
    """Return the runs in the order in which they began."""
    runs: dict[str, _Run] = {}
    for step in sorted(steps, key=lambda each: each.number):
        run = runs.setdefault(step.run_id, _Run(step.time, step.time))
        run.first, run.last = min(run.first, step.time), max(run.last, step.time)
        if step.kind == "run_ended":
            run.outcome, run.duration_ms = _OUTCOMES.get(step.status, step.status), step.duration_ms
    return runs


def _is_left(step: DebugStep) -> bool:
    return step.status == "open" or (step.status == "waiting" and step.kind == "tool_call")


def _words(step: DebugStep) -> str:
    if step.kind == "tool_call":
        return step.title
    return "a model request was open" if step.kind == "model_request" else f"a {step.kind} was open"
