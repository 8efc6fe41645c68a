"""The table of benchmarks: on a terminal, as Markdown, and kept with date and commit (`results.json`, RESULTS.md)."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import attrs
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Row

__all__ = ["Measured", "as_markdown", "in_short", "kept", "measured", "print_table", "save"]

RESULTS = Path(__file__).parent / "results.json"
FULL_TABLE = Path(__file__).parent / "RESULTS.md"
WIDTH = 150
"""Columns of a table that goes to no terminal."""

_SHOWN = ("attrs", "msgspec", "anthropic")
_IN_SHORT = {
    "loop": ("a delta, event, sync", "a delta, whole, sync", "a delta, paced, sync"),
    "peers": ("a delta, log on",),
    "emit": ("log + usage + transcript", "make, stamp, dispatch to 3", "decode a line"),
    "tracing": ("an event to spans",),
    "growth": (
        "turn 320: more than turn 20",
        "delta, sessions on threads, 500 at once",
        "delta, sessions on asyncio, 500 at once",
        "an idle session, of 1,000",
    ),
    "reading": (
        "read_events, an event",
        "UsageReporter, an event",
        "agentkit report, an event",
        "agentkit report, most memory",
    ),
    "start": (
        "import agentkit_loop, agentkit_reporting",
        "Agent, model, log, totals imported",
        "agentkit show --help",
        "agentkit show LOG, one answer",
    ),
}
"""What of each benchmark stands in the short table."""

_HEAD = ("what", "ours", "reference", "", "ratio", "paired", "at most", "", "against")
_ALIGNED = ("---", "--:", "--:", "---", "--:", "--:", "--:", "---", "---")
_MADE_HERE = ("benchmarks/results.json", "benchmarks/RESULTS.md", "README.md")


@attrs.frozen(kw_only=True)
class Measured:
    """What one benchmark found, when and on what. commit: as `git describe` tells it. versions: of what took part."""

    name: str
    date: str
    commit: str
    machine: str
    versions: Mapping[str, str]
    rows: Sequence[Row]

    @classmethod
    def of_dict(cls, told: dict[str, Any]) -> Measured:
        """Return what `json.loads` made of kept results."""
        return cls(**{**told, "rows": [Row(**row) for row in told["rows"]]})

    @property
    def heading(self) -> str:
        """When and on what it was measured."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        rounds = sorted({row.rounds for row in self.rows})
        return (
            f"{self.date} at {self.commit}, rounds: {rounds[-1] if rounds else 0}; {self.machine}; {versions}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON, each row with its ratio and verdict."""
        rows = [{**attrs.asdict(row), "ratio": row.ratio, "verdict": row.verdict} for row in self.rows]
        return {**attrs.asdict(self), "rows": rows}


def measured(name: str, rows: Sequence[Row], versions: Mapping[str, str] | None = None) -> Measured:
    """Return rows with the date, the commit that is checked out and what they were measured with.

    versions: of what is not always there.
    """
    changed = _git("status", "--porcelain", "--", ".", *(f":!{path}" for path in _MADE_HERE))
    return Measured(
        name=name,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        commit=(_git("describe", "--always") or "unknown") + ("-dirty" if changed else ""),
        machine=f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs",
        versions={**{each: importlib.metadata.version(each) for each in _SHOWN}, **(versions or {})},
        rows=rows,
    )


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607 - whichever git there is
        cwd=FULL_TABLE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def print_table(results: Measured, stream: TextIO | None = None) -> None:
    """Print the rows of one benchmark as a table, as wide as the terminal."""
    stream = stream or sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else WIDTH
    table = Table(box=None, title=f"{results.name}: {results.heading}", title_justify="left", pad_edge=False)
    for number, name in enumerate(_HEAD):
        is_figure = name in ("ours", "reference", "ratio", "paired", "at most")
        table.add_column(name, justify="right" if is_figure else "left", no_wrap=0 < number < len(_HEAD) - 1)
    for row in results.rows:
        table.add_row(row.name, *_figures(row, 3), row.verdict, row.reference)
    Console(file=stream, width=width, highlight=False, markup=False, emoji=False).print(table)


def _figures(row: Row, digits: int) -> tuple[str, ...]:
    paired, most = ("" if value is None else f"{value:.2f}" for value in (row.paired, row.bound))
    return f"{row.ours:,.{digits}f}", f"{row.theirs:,.{digits}f}", row.unit, f"{row.ratio:.2f}", paired, most


def as_markdown(results: Sequence[Measured]) -> str:
    """Return the whole table as Markdown, rows that are missed shown as missed."""
    lines = [
        "# Results of the benchmarks",
        "",
        "Medians of interleaved rounds (A B A B …), microseconds of CPU time a piece unless a row says otherwise.",
        "*Ratio* is of the medians, *paired* the median of each round's ratio; what both exceed is missed.",
        "Made by `python -m benchmarks --save`; the machine is shared: runs differ by some per cent.",
    ]
    for each in results:
        lines += ["", f"## {each.name}", "", f"Measured on {each.heading}.", ""]
        lines += _rows_as_markdown([("", row) for row in each.rows], 3)
    return "\n".join(lines) + "\n"


def in_short(results: Sequence[Measured]) -> str:
    """Return the rows that most people ask for as a Markdown table, those that are missed as well."""
    rows: list[tuple[str, Row]] = []
    for each in results:
        shown = [row for row in each.rows if row.name in _IN_SHORT[each.name]]
        rows += zip([each.name, *[""] * len(shown)], shown, strict=False)
    return "\n".join(_rows_as_markdown(rows, 1, is_named=True))


def _rows_as_markdown(rows: Sequence[tuple[str, Row]], digits: int, *, is_named: bool = False) -> list[str]:
    lines = [_line(*_HEAD), f"|{'|'.join(_ALIGNED)}|"]
    if is_named:
        lines = [_line("", *_HEAD), f"|---|{'|'.join(_ALIGNED)}|"]
    for name, row in rows:
        verdict = f"**{row.verdict}**" if row.is_missed else row.verdict
        lines.append(
            _line(*((name,) if is_named else ()), row.name, *_figures(row, digits), verdict, row.reference)
        )
    return lines


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def kept() -> dict[str, Measured]:
    """Return the results that were kept last, by name; raises ValueError where the file is none of ours."""
    if not RESULTS.exists():
        return {}
    try:
        return {
            each["name"]: Measured.of_dict(each) for each in json.loads(RESULTS.read_text(encoding="utf-8"))
        }
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{RESULTS} holds no results of this program; mend it or remove it ({error})"
        ) from error


def save(results: Measured, order: Sequence[str]) -> None:
    """Keep the results of one benchmark; those of others stay as they are. order: of all of them."""
    found = {**kept(), results.name: results}
    ordered = [found[name] for name in order if name in found]
    told = [attrs.asdict(each) for each in ordered]
    RESULTS.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    FULL_TABLE.write_text(as_markdown(ordered), encoding="utf-8")
