"""The table of benchmarks: on a terminal, as Markdown, and kept with date and commit (`results.json`, RESULTS.md)."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.measure import Row

__all__ = ["Results", "in_short", "kept_results", "printed", "run_on", "save"]

RESULTS = Path(__file__).parent / "results.json"
FULL_TABLE = Path(__file__).parent / "RESULTS.md"
_SHOWN = ("attrs", "msgspec", "anthropic")
_IN_SHORT = {
    "loop": ("a delta, event, sync", "a delta, whole, sync", "a delta, paced, sync"),
    "peers": ("a delta, log on",),
    "emit": ("log + usage + transcript", "make, stamp, dispatch to 3", "decode a line"),
    "tracing": ("an event to spans",),
    "growth": (
        "turn 320: more than turn 20",
        "delta, sessions on threads, 500 at once",
        "an idle session, of 1,000",
    ),
    "reading": ("read_events, an event", "agentkit report, an event", "agentkit report, most memory"),
    "start": ("import agentkit_loop, agentkit_reporting", "agentkit show --help"),
}
"""What of each benchmark stands in the short table."""


@attrs.frozen(kw_only=True)
class Results:
    """What was measured, and where. rows: by the name of their benchmark. versions: of what takes part."""

    date: str
    commit: str
    python: str
    cpu: str
    versions: Mapping[str, str]
    rows: Mapping[str, Sequence[Row]]

    @classmethod
    def of_dict(cls, told: dict[str, Any]) -> Results:
        """Return what `json.loads` made of kept results."""
        rows = {name: [Row(**row) for row in rows] for name, rows in told["rows"].items()}
        return cls(**{**told, "rows": rows})


def run_on(rows: Mapping[str, Sequence[Row]], versions: Mapping[str, str] | None = None) -> Results:
    """Return rows with the date, the commit that is checked out and what they were measured with.

    versions: of what is not installed here.
    """
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whichever git there is
        cwd=FULL_TABLE.parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return Results(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        commit=commit or "unknown",
        python=platform.python_version(),
        cpu=f"{platform.machine()}, {os.cpu_count()} CPUs",
        versions={**{name: importlib.metadata.version(name) for name in _SHOWN}, **(versions or {})},
        rows=rows,
    )


def printed(results: Results) -> str:
    """Return the table for a terminal."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [f"Python {results.python}, {versions}; medians, µs of CPU unless a row says otherwise"]
    lines.append(
        f"{'what':<36}{'ours':>11}{'reference':>11} {'':<4}{'ratio':>7}{'paired':>8}{'bound':>7}{'goal':>6}  reference"
    )
    for rows in results.rows.values():
        for row in rows:
            paired, bound, goal = (
                "" if value is None else f"{value:.2f}" for value in (row.paired, row.bound, row.goal)
            )
            figures = f"{row.ours:>11,.3f}{row.theirs:>11,.3f} {row.unit:<4}{row.ratio:>7.2f}{paired:>8}"
            mark = " missed" if row.is_missed else " short of its goal" if row.is_short else ""
            lines.append(f"{row.name:<36}{figures}{bound:>7}{goal:>6}  {row.reference}{mark}")
    return "\n".join(lines)


def as_markdown(results: Results) -> str:
    """Return the whole table as Markdown, rows that are missed shown as missed."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [
        "# Results of the benchmarks",
        "",
        f"Measured on {results.date} at {results.commit}: Python {results.python}, {results.cpu}; {versions}.",
        "",
        "Medians of interleaved rounds (A B A B …), microseconds of CPU time a piece unless a row says otherwise.",
        "*Ratio* is of the medians, *paired* the median of each round's ratio; what both exceed is missed.",
        "Made by `python -m benchmarks --save`; the machine is shared: runs differ by some per cent.",
    ]
    for name, rows in results.rows.items():
        lines += ["", f"## {name}", ""]
        lines += [
            "| what | ours | reference | | ratio | paired | at most | | against |",
            "|---|--:|--:|---|--:|--:|--:|---|---|",
        ]
        for row in rows:
            aim, mark = _aim(row)
            paired = "" if row.paired is None else f"{row.paired:.2f}"
            figures = f"{row.ours:,.3f} | {row.theirs:,.3f} | {row.unit} | {row.ratio:.2f} | {paired}"
            lines.append(f"| {row.name} | {figures} | {aim} | {mark} | {row.reference} |")
    return "\n".join(lines) + "\n"


def in_short(results: Results) -> str:
    """Return the rows that most people ask for as a Markdown table, those that are missed as well."""
    lines = [
        "| | what | ours | reference | | ratio | at most | | against |",
        "|---|---|--:|--:|---|--:|--:|---|---|",
    ]
    for name, shown in _IN_SHORT.items():
        first = name
        for row in results.rows.get(name, ()):
            if row.name in shown:
                aim, mark = _aim(row)
                figures = f"{row.ours:,.1f} | {row.theirs:,.1f} | {row.unit} | {row.ratio:.2f}"
                lines.append(f"| {first} | {row.name} | {figures} | {aim} | {mark} | {row.reference} |")
                first = ""
    return "\n".join(lines)


def _aim(row: Row) -> tuple[str, str]:
    """Return what a row is to be at most, and whether it is."""
    most = row.bound if row.goal is None else row.goal
    if most is None:
        return "", ""
    return f"{most:.2f}", "**missed**" if row.is_short else "met"


def kept_results() -> Results | None:
    """Return the results that were kept last; None before there are any."""
    return Results.of_dict(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.exists() else None


def save(results: Results) -> None:
    """Keep results: those of benchmarks that were not run stay as they are."""
    before = kept_results()
    if before is not None:
        results = attrs.evolve(
            results,
            rows={**before.rows, **results.rows},
            versions={**before.versions, **results.versions},
        )
    RESULTS.write_text(
        json.dumps(attrs.asdict(results), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    FULL_TABLE.write_text(as_markdown(results), encoding="utf-8")
