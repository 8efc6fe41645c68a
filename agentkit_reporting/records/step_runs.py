"""Step logs that are read back: the steps of a run, and what many runs say together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import JSON
from agentkit_reporting.log.sources import Source
from agentkit_reporting.percentiles import Percentiles
from agentkit_reporting.records.reading import read_records
from agentkit_reporting.records.step_records import Step, StepHeader, ToolCallStep, step_of
from agentkit_reporting.records.step_summary import (
    FILTERS,
    StepSummary,
    matching,
    refuse_other_filters,
    summary_of,
)

__all__ = ["RunSteps", "StepRuns", "read_steps"]

_FILTERS = FILTERS - {"run_id"}


class RunSteps:
    """Steps in the order of their numbers in each run, with the headers of their runs.

    headers, steps: all of them. bad_count: lines of the files that are no records.
    """

    def __init__(self, headers: Iterable[StepHeader], steps: Iterable[Step], *, bad_count: int = 0) -> None:
        self.headers = tuple(headers)
        self.steps = tuple(steps)
        self.bad_count = bad_count

    def __repr__(self) -> str:
        bad = f", {_counted(self.bad_count, 'bad line')}" if self.bad_count else ""
        return f"<RunSteps of {_counted(len(self.run_ids), 'run')}: {_counted(len(self.steps), 'step')}{bad}>"

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs, in the order in which they were met."""
        return tuple(dict.fromkeys(each.run_id for each in (*self.headers, *self.steps)))

    @property
    def metadata(self) -> dict[str, JSON]:
        """What the headers say of the run; the first word on each key holds."""
        told: dict[str, JSON] = {}
        for header in self.headers:
            told = {**header.metadata, **told}
        return told

    def filter(self, **which: Any) -> tuple[Step, ...]:
        """Return the steps that are as asked: `type=`, `tool=`, `stop_reason="max_tokens"`, …; see `matching`.

        Raises ConfigurationError for what is no filter.
        """
        refuse_other_filters(which)
        return matching(self.steps, **which)

    def summarize(self, run_id: str | None = None) -> StepSummary:
        """Return the figures of a run; of the only one where none is named. Raises ConfigurationError."""
        return summarized(run_id, self.headers, self.steps)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def summarized(run_id: str | None, headers: Iterable[StepHeader], steps: Iterable[Step]) -> StepSummary:
    """Return the figures of the run that is named, or of the only one."""
    headers, steps = tuple(headers), tuple(steps)
    if run_id is None:
        known = tuple(dict.fromkeys(each.run_id for each in (*headers, *steps)))
        if len(known) > 1:
            raise ConfigurationError(f"run_id=None refused because there are {len(known)} runs; name one")
        run_id = known[0] if known else ""
    mine = (step for step in steps if step.run_id == run_id)
    return summary_of(run_id, mine, (header for header in headers if header.run_id == run_id))


class StepRuns(Mapping[str, RunSteps]):
    """The runs of step logs, by id, in the order in which they were met."""

    def __init__(self, runs: Mapping[str, RunSteps], *, bad_count: int = 0) -> None:
        self._runs = dict(runs)
        self._summaries: dict[str, StepSummary] | None = None
        self.bad_count = bad_count
        """Lines of the files that are no records."""

    def __getitem__(self, run_id: str) -> RunSteps:
        return self._runs[run_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def summaries(self) -> dict[str, StepSummary]:
        """The figures of each run."""
        if self._summaries is None:
            self._summaries = {run_id: run.summarize(run_id) for run_id, run in self._runs.items()}
        return dict(self._summaries)

    def filter(self, *, metadata: Mapping[str, JSON] | None = None, **which: Any) -> StepRuns:
        """Return the runs that have a step as asked, `stop_reason="max_tokens"`, and such metadata.

        which: see `matching`. metadata: values that a run's headers must have, as `{"environment": "prod"}`.
        """
        refuse_other_filters(which, _FILTERS)

        def is_meant(run: RunSteps) -> bool:
            told = run.metadata
            fits = all(key in told and told[key] == value for key, value in (metadata or {}).items())
            return fits and (not which or bool(run.filter(**which)))

        return self._those(is_meant)

    def _those(self, is_meant: Callable[[RunSteps], bool]) -> StepRuns:
        return StepRuns({run_id: run for run_id, run in self._runs.items() if is_meant(run)})

    @property
    def tool_latency_ms(self) -> Percentiles:
        """How long the calls of tools took, those of all runs together."""
        calls = (step for run in self._runs.values() for step in run.steps if isinstance(step, ToolCallStep))
        return Percentiles.of(step.duration_ms for step in calls)

    @property
    def run_duration_ms(self) -> Percentiles:
        """How long the runs took."""
        return Percentiles.of(summary.duration_ms for summary in self.summaries.values())


def read_steps(
    source: Source, *, run_id: str | None = None, payloads: bool = True, strict: bool = False
) -> RunSteps:
    """Read step logs; see `StepLog.read`. payloads: keep what tools were given and gave."""
    headers: list[StepHeader] = []
    known: dict[tuple[str, float], list[StepHeader]] = {}  # by run and time
    steps: list[Step] = []
    with read_records(source, strict=strict) as reader:
        for record in reader:
            made = step_of(record)
            if made is None or run_id not in (None, made.run_id):
                continue
            if isinstance(made, StepHeader):
                alike = known.setdefault((made.run_id, made.ts), [])
                if made not in alike:  # each segment begins with one again
                    alike.append(made)
                    headers.append(made)
            elif isinstance(made, ToolCallStep) and not payloads:
                steps.append(msgspec.structs.replace(made, input={}, output=None))
            else:
                steps.append(made)
        return RunSteps(headers, steps, bad_count=reader.bad_count)


def by_run(read: RunSteps) -> StepRuns:
    """Return what was read, run by run."""
    headers: dict[str, list[StepHeader]] = {run_id: [] for run_id in read.run_ids}
    steps: dict[str, list[Step]] = {run_id: [] for run_id in headers}
    for header in read.headers:
        headers[header.run_id].append(header)
    for step in read.steps:
        steps[step.run_id].append(step)
    runs = {run_id: RunSteps(headers[run_id], steps[run_id]) for run_id in headers}
    return StepRuns(runs, bad_count=read.bad_count)
