"""`agentkit time`: where the time of runs went: the model, each tool, people, retries, the loop."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import click

from agentkit_reporting.analysis.time_use import TimeUse
from agentkit_reporting.analysis.time_use_groups import (
    DIMENSIONS,
    RunGroup,
    ToolGroup,
    grouped_runs,
    grouped_tools,
)
from agentkit_reporting.analysis.time_use_run import RunTime
from agentkit_reporting.cli.drawing import Table, brief_duration
from agentkit_reporting.cli.progress import with_progress
from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.cli.session_option import session_option
from agentkit_reporting.cli.time_bars import (
    MOST_DETAILED,
    group_tables,
    lines_text,
    percentile_tables,
    runs_markdown,
    runs_text,
    tool_table,
)
from agentkit_reporting.log.read import read_events
from agentkit_reporting.percentiles import Percentiles
from agentkit_reporting.terminal import counted, json_text
from agentkit_reporting.timestamps import utc_text

_SHOWN = 20  # runs that have a line, unless --runs says otherwise


@click.command("time")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@click.option(
    "--by", type=click.Choice(DIMENSIONS), help="Percentiles of each part by this, in place of the runs."
)
@session_option()
@click.option(
    "--runs", "most", type=click.IntRange(min=1), default=_SHOWN, show_default=True, help="Runs to show."
)
@click.option("--slowest", is_flag=True, help="The slowest runs first.")
@click.option("--json", "for_programs", is_flag=True, help="Print one JSON object; times in ms.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def command(
    logs: tuple[str, ...],
    *,
    by: str | None,
    session_id: str | None,
    most: int,
    slowest: bool,
    for_programs: bool,
    markdown: bool,
) -> int:
    """Say where the time of the runs in LOG… went: files, directories, globs, or - for stdin.

    The parts of a run add up to its duration; what runs at the same time counts once: a compaction before the model,
    the model before tools, tools before people; of parallel tools the one that ends last. Each tool's own time is
    told beside. What nobody measured is marked (>= or ?), never zero. Idle is the time between exchanges; loop is what
    is left. Up to 5 runs are told part by part, of more there is a line each, and percentiles.
    """
    if for_programs and markdown:
        raise click.UsageError("--json and --markdown exclude each other; give one of them")
    use = TimeUse()
    reader = read_events(list(logs))
    for event in with_progress(reader):
        if session_id is None or event.session_id.endswith(session_id):
            use.handle_event(event)
    tell_of_bad_lines(reader)
    runs = use.runs()
    if not runs:
        of_session = "" if session_id is None else f" of a session that ends with {session_id}"
        whisper(f"no run{of_session} in {', '.join(logs)}; give a log of one")
        return 1
    found = _Found(runs, use.bodies_ms(), by)
    if by == "tool" and not found.tools:
        whisper(f"no call of a tool in {', '.join(logs)}; ask by agent, model, session or day")
        return 1
    shown = sorted(runs, key=lambda run: -run.duration_us) if slowest else runs
    if for_programs:
        sys.stdout.write(json_text(_as_json(found, shown[:most])) + "\n")
    elif markdown:
        sys.stdout.write(runs_markdown(() if by else shown[:most], found.tables(), found.notes))
    else:
        sys.stdout.write(_as_text(found, shown[:most]))
    return 0


class _Found:
    """What the runs come to."""

    def __init__(
        self, runs: Sequence[RunTime], bodies_ms: Mapping[str, Sequence[float]], by: str | None
    ) -> None:
        self.by = by
        self.runs = len(runs)
        self.groups: list[RunGroup] = [] if by == "tool" else grouped_runs(runs, by)
        self.tools: list[ToolGroup] = grouped_tools(runs, bodies_ms)
        self._waited = [run for run in runs if run.since_us is not None and run.awaited]
        self.without_end = sum(run.outcome in ("crashed", "open") for run in runs)

    def tables(self) -> list[Table]:
        """Return the tables of percentiles, where there is more than can be read run by run, or they were asked for."""
        if self.by == "tool":
            return [tool_table(self.tools)]
        if self.by is None and self.runs <= MOST_DETAILED:
            return []
        return group_tables(self.groups, self.by)

    @property
    def notes(self) -> list[str]:
        """What is to be known of the tables."""
        notes = []
        shown = len(self.tables())
        if shown and self.by != "tool" and len(self.groups) > shown:
            notes.append(f"and {len(self.groups) - shown:,} more; --json has them all")
        if shown and self.without_end:
            are = "run has" if self.without_end == 1 else "runs have"
            notes.append(f"{self.without_end:,} {are} no end: up to the last event, and >= where it went on")
        if shown and self._waited:
            told = brief_duration(sum(run.since_us or 0 for run in self._waited) / 1_000)
            what = counted(sum(len(run.awaited) for run in self._waited), "question")
            notes.append(f"and {told} between runs, while {what} waited for a person: in no run's time")
        return notes


def _as_text(found: _Found, shown: Sequence[RunTime]) -> str:
    text = ""
    if found.by is None:
        brief = found.runs > MOST_DETAILED and len(shown) > MOST_DETAILED
        text = lines_text(shown, found.runs - len(shown)) if brief else runs_text(shown)
    tables = found.tables()
    if not tables:
        return text
    return text + ("\n" if text else "") + percentile_tables(tables, found.notes)


# --- for programs


def _as_json(found: _Found, shown: Sequence[RunTime]) -> dict[str, Any]:
    told: dict[str, Any] = {"by": found.by}
    if found.by != "tool":
        told["groups"] = [_group_json(group) for group in found.groups]
    told["tools"] = [
        {
            "name": tool.name,
            "calls": tool.calls,
            "runs": tool.runs,
            "wall_ms": tool.wall_us / 1_000,
            "busy_ms": tool.busy_us / 1_000,
            "least": tool.least,
            "body_ms": _percentiles_json(tool.body),
        }
        for tool in found.tools
    ]
    told["runs"] = [_run_json(run) for run in shown]
    told["runs_in_all"] = found.runs
    return told


def _group_json(group: RunGroup) -> dict[str, Any]:
    return {
        "key": group.key,
        "runs": group.runs,
        "sub_agent_runs": group.sub_agent_runs,
        "parts": {
            part.name: {
                "total_ms": part.total_us / 1_000,
                "runs": part.runs,
                "least": part.least,
                "each_run_ms": _percentiles_json(part.each_run),
            }
            for part in (group.duration, *group.parts)
        },
    }


def _percentiles_json(found: Percentiles) -> dict[str, float | int | None]:
    told: dict[str, float | int | None] = attrs.asdict(found)
    return told


def _run_json(run: RunTime) -> dict[str, Any]:
    return {
        "session_id": run.session_id,
        "run_id": run.run_id,
        "parent_session": run.parent_session,
        "agent": run.agent,
        "model": run.model,
        "started": utc_text(run.started),
        "number": run.number,
        "since_ms": None if run.since_us is None else run.since_us / 1_000,
        "awaited": run.awaited,
        "left_open": run.left_open,
        "outcome": run.outcome,
        "is_whole": run.is_whole,
        "duration_ms": run.duration_us / 1_000,
        "parts_ms": {name: us / 1_000 for name, us in run.parts.items()},
        "least": sorted(run.least),
        "observers_ms": None if run.observers_us is None else run.observers_us / 1_000,
        "observers": {name: us / 1_000 for name, us in run.observers.items()},
        "tools": [
            {
                "name": tool.name,
                "calls": tool.calls,
                "wall_ms": tool.wall_us / 1_000,
                "busy_ms": tool.busy_us / 1_000,
                "is_least": tool.is_least,
            }
            for tool in run.tools
        ],
        "requests": run.requests,
        "failed_requests": run.failed_requests,
        "approvals": run.approvals,
        "clock_off_ms": run.clock_off_us / 1_000,
    }
