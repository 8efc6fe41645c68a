"""Runs that belong together, and how their parts are distributed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from agentkit_reporting.analysis.time_use_run import RunTime
from agentkit_reporting.analysis.time_use_sweep import PARTS
from agentkit_reporting.percentiles import Percentiles

__all__ = ["DIMENSIONS", "PartTime", "RunGroup", "ToolGroup", "grouped_runs", "grouped_tools", "is_least"]

DIMENSIONS = ("agent", "model", "tool", "session", "day")
"""What runs can be grouped by; `tool` is of calls."""


@attrs.frozen(kw_only=True)
class PartTime:
    """A part over many runs.

    total_us: of all runs. runs: in which there was some. each_run: of these runs, in ms. least: runs in which it is a
    lower bound, or of which nobody told it; the former count with that in the others.
    """

    name: str
    total_us: int
    runs: int
    least: int
    each_run: Percentiles


@attrs.frozen(kw_only=True)
class RunGroup:
    """Runs that belong together. key: what they share, "" for all. parts: the duration first, then those of PARTS."""

    key: str
    runs: int
    sub_agent_runs: int
    duration: PartTime
    parts: tuple[PartTime, ...]


@attrs.frozen(kw_only=True)
class ToolGroup:
    """The calls of one tool over many runs. body: how long the bodies ran that ended, in ms."""

    name: str
    calls: int
    runs: int
    wall_us: int
    busy_us: int
    least: int
    body: Percentiles


def grouped_runs(runs: Iterable[RunTime], by: str | None) -> list[RunGroup]:
    """Return the runs by agent, model, session or day, what took longest first; None: all in one group."""
    groups: dict[str, list[RunTime]] = {}
    for run in runs:
        groups.setdefault(_key(run, by), []).append(run)
    found = [_group(key, each) for key, each in groups.items()]
    return sorted(
        found, key=lambda group: (-group.duration.total_us, group.key) if by != "day" else (0, group.key)
    )


def grouped_tools(runs: Iterable[RunTime], bodies_ms: Mapping[str, Iterable[float]]) -> list[ToolGroup]:
    """Return the calls by tool, what took most of the wall clock first."""
    found: dict[str, list[int]] = {}
    for run in runs:
        for tool in run.tools:
            sums = found.setdefault(tool.name, [0, 0, 0, 0, 0])
            for place, more in enumerate((tool.calls, 1, tool.wall_us, tool.busy_us, tool.is_least)):
                sums[place] += more
    groups = [
        ToolGroup(
            name=name,
            calls=calls,
            runs=runs_of,
            wall_us=wall_us,
            busy_us=busy_us,
            least=least,
            body=Percentiles.of(bodies_ms.get(name, ())),
        )
        for name, (calls, runs_of, wall_us, busy_us, least) in found.items()
    ]
    return sorted(groups, key=lambda group: (-group.wall_us, -group.busy_us, group.name))


def _key(run: RunTime, by: str | None) -> str:
    match by:
        case "agent":
            return run.agent
        case "model":
            return run.model
        case "session":
            return run.session_id
        case "day":
            return run.day
        case _:
            return ""


def _group(key: str, runs: list[RunTime]) -> RunGroup:
    return RunGroup(
        key=key,
        runs=len(runs),
        sub_agent_runs=sum(run.parent_session is not None for run in runs),
        duration=_part("duration", [run.duration_us for run in runs], sum(not run.has_end for run in runs)),
        parts=tuple(
            _part(
                name,
                [run.parts[name] for run in runs if run.parts[name]],
                sum(is_least(run, name) for run in runs),
            )
            for name in PARTS
        ),
    )


def is_least(run: RunTime, part: str) -> bool:
    """Whether a part of a run is a lower bound, or nobody told how long it took."""
    return part in run.least or (part == "observers" and run.observers_us is None)


def _part(name: str, times_us: list[int], least: int) -> PartTime:
    return PartTime(
        name=name,
        total_us=sum(times_us),
        runs=len(times_us),
        least=least,
        each_run=Percentiles.of(us / 1_000 for us in times_us),
    )
