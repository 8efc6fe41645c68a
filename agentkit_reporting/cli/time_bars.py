"""Where the time went, for people: a bar and a legend for each run, or a line each, and percentiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentkit_reporting.analysis.time_use_groups import PartTime, RunGroup, ToolGroup, is_least
from agentkit_reporting.analysis.time_use_run import RunTime, ToolTime
from agentkit_reporting.analysis.time_use_sweep import PARTS
from agentkit_reporting.cli.drawing import (
    Cell,
    Pieces,
    Table,
    brief_duration,
    can_draw,
    drawn,
    escaped,
    grid,
    markdown_table,
    named,
    styled_line,
)
from agentkit_reporting.terminal import columns_of, counted

__all__ = [
    "MOST_DETAILED",
    "TITLES",
    "group_tables",
    "lines_text",
    "percentile_tables",
    "runs_markdown",
    "runs_text",
    "shares",
    "tool_table",
]

MOST_DETAILED = 5
"""Runs that are told part by part; of more there is a line each."""

TITLES = {
    "first_token": "first token",
    "generation": "generation",
    "tools": "tools",
    "approval": "approval",
    "auth": "auth",
    "retry": "retry",
    "compaction": "compaction",
    "observers": "observers",
    "idle": "idle",
    "loop": "loop",
}
_SIGNS = dict(zip(PARTS, "░█▓▒▞▚▄▀·-", strict=True))
_PLAIN_SIGNS = dict(zip(PARTS, "fgtaurco.-", strict=True))
_STYLES = {"approval": "ask", "auth": "ask", "retry": "bad", "idle": "dim", "loop": "dim"}
_OUTCOMES = {"completed": "good", "failed": "bad", "crashed": "bad", "cancelled": "warn", "suspended": "ask"}
_MOST_TOOLS = 8  # of a run; the rest is counted
_MOST_GROUPS = 50
_NAME = 24
_QUESTION = 44  # of what a person was asked
_WHOLE_ID = 40  # more columns than an id of ours has
_BAR = 28  # columns of a run that has one line
_LEAST_BAR = 10
_SHORT_ID, _SHORT_AGENT = 11, 10  # of a run that has one line: the end of the id tells it apart
_TITLE = 16  # columns of the names in a legend


def runs_text(runs: Sequence[RunTime]) -> str:
    """Return each run with a bar and its parts."""

    def draw(console: Any) -> None:
        for place, run in enumerate(runs):
            if place:
                console.print()
            for line in _run_lines(run, console.width):
                console.print(styled_line(line), no_wrap=True, overflow="ellipsis")

    return drawn(draw)


def lines_text(runs: Sequence[RunTime], left: int) -> str:
    """Return a line for each run, and what the signs mean. left: runs that are not shown."""

    def draw(console: Any) -> None:
        signs = _signs()
        legend = "  ".join(
            f"{signs[name]} {TITLES[name]}" for name in PARTS if any(run.parts[name] for run in runs)
        )
        console.print(styled_line([("dim", legend)]), overflow="fold")
        for run in runs:
            console.print(styled_line(_short_line(run, console.width)), no_wrap=True, overflow="ellipsis")
        if left:
            console.print(styled_line([("dim", f"and {counted(left, 'more run')}; --runs N shows more")]))

    return drawn(draw)


def percentile_tables(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Return tables one below the other, and notes below them."""

    def draw(console: Any) -> None:
        for place, table in enumerate(tables):
            if place:
                console.print()
            if table.title:
                console.print(styled_line([("strong", table.title)]))
            console.print(grid(table, console.width, tells_left_out=True))
        for note in notes:
            console.print(styled_line([("dim", note)]), overflow="fold")

    return drawn(draw)


# --- one run


def _run_lines(run: RunTime, columns: int) -> list[Pieces]:
    """Return the lines of a run: who it was, its bar, its parts, what is to be known of them."""
    lines: list[Pieces] = [_head(run, columns), [("dim", f"  {_place(run)}")]]
    if run.since_us is not None:
        lines.append([("ask" if run.awaited else "dim", f"  {_since(run)}")])
    lines.append(_bar(run, columns))
    signs = _signs()
    for name in PARTS:
        us = run.parts[name]
        if not us and name not in run.least and not (name == "observers" and run.observers_us):
            continue
        style = _STYLES.get(name, "")
        figures = _figures(us, run.duration_us, is_least=name in run.least)
        told = _told(run, name)
        lines.append(
            [
                (style, f"  {signs[name]} {TITLES[name]:<{_TITLE}}{figures}"),
                ("dim", f"  {told}" if told else ""),
            ]
        )
        if name == "tools":
            lines += _tool_lines(run)
    lines += [[("dim", f"  {note}")] for note in _notes(run)]
    return lines


def _head(run: RunTime, columns: int) -> Pieces:
    """Return who it was, how it ended, and how long it took; an id is whole where there is room, to be asked for."""
    pieces: list[Cell] = [
        ("lead", named(run.session_id, _NAME if columns < _WHOLE_ID + 40 else _WHOLE_ID)),
        "  ",
        (_OUTCOMES.get(run.outcome, "warn"), run.outcome),
        ("strong", f"  {_duration(run)}"),
        f"  {named(run.agent, _NAME)}",
        ("dim", f"  {named(run.model, _NAME)}"),
    ]
    if run.parent_session is not None:
        pieces.append(("dim", f"  sub-agent of {named(run.parent_session, _NAME)}"))
    return pieces


def _place(run: RunTime) -> str:
    """Return when it began, and which run of its session it is."""
    told = f"{run.started:%Y-%m-%d %H:%M:%S} UTC"
    return told if run.number in (None, 1) else f"{told}, run {run.number:,} of its session"


def _since(run: RunTime) -> str:
    """Return the time that is in no run: before this one, since the one before it."""
    told = f"{brief_duration((run.since_us or 0) / 1_000)} between the runs"
    return f"{told}, while {_asked(run.awaited)} waited" if run.awaited else told


def _asked(what: Sequence[str]) -> str:
    more = f" and {len(what) - 1:,} more" if len(what) > 1 else ""
    return f"{named(what[0], _QUESTION)}{more}"


def _duration(run: RunTime) -> str:
    return ("" if run.has_end else ">= ") + brief_duration(run.duration_us / 1_000)


def _bar(run: RunTime, columns: int) -> Pieces:
    """Return the bar: cells in proportion, which add up to its width."""
    if not run.duration_us:
        return [("dim", "no time passed")]
    signs = _signs()
    cells = shares([run.parts[name] for name in PARTS], columns)
    return [
        (_STYLES.get(name, ""), signs[name] * count)
        for name, count in zip(PARTS, cells, strict=True)
        if count
    ]


def shares(values: Sequence[int], cells: int) -> list[int]:
    """Return whole numbers in proportion that add up to `cells`; what has the largest remainder is rounded up."""
    total = sum(values)
    if not total:
        return [0] * len(values)
    found = [value * cells // total for value in values]
    order = sorted(range(len(values)), key=lambda place: -(values[place] * cells % total))
    for place in order[: cells - sum(found)]:
        found[place] += 1
    return found


def _figures(us: int, whole_us: int, *, is_least: bool) -> str:
    if is_least and not us:
        return f"{'?':>11}{'-':>8}"
    took = brief_duration(us / 1_000)
    share = f"{us / whole_us:.1%}" if whole_us else "-"
    return f"{'>= ' + took if is_least else took:>11}{share:>8}"


def _told(run: RunTime, name: str) -> str:
    """Return what is to be said of a part beside its time."""
    match name:
        case "first_token":
            return counted(run.requests, "request")
        case "approval":
            asked = [counted(run.approvals, "question")] if run.approvals else []
            asked += [f"{len(run.awaited):,} of the run before"] if run.awaited else []
            return ", ".join([*asked, "a person was waited for"])
        case "auth":
            return "a person was waited for"
        case "retry":
            return counted(run.failed_requests, "failed request")
        case "observers":
            inside = (run.observers_us or 0) - run.parts["observers"]
            return f"{brief_duration(inside / 1_000)} more within the others" if inside > 0 else ""
        case "idle":
            return "nothing was asked for"
        case _:
            return ""


def _tool_lines(run: RunTime) -> list[Pieces]:
    lines: list[Pieces] = []
    for tool in run.tools[:_MOST_TOOLS]:
        figures = _figures(tool.wall_us, run.duration_us, is_least=tool.is_least)
        name = named(tool.name, _TITLE + 1)
        lines.append(
            [f"    {name}{' ' * (_TITLE - columns_of(name))}{figures}", ("dim", f"  {_calls(tool)}")]
        )
    if len(run.tools) > _MOST_TOOLS:
        rest = run.tools[_MOST_TOOLS:]
        figures = _figures(sum(tool.wall_us for tool in rest), run.duration_us, is_least=False)
        lines.append([f"    {f'{len(rest):,} more':<{_TITLE}}{figures}"])
    return lines


def _calls(tool: ToolTime) -> str:
    told = counted(tool.calls, "call")
    if tool.busy_us != tool.wall_us:
        told += f", {brief_duration(tool.busy_us / 1_000)} busy in all"
    return told


def _notes(run: RunTime) -> list[str]:
    notes = [f"left open: {_asked(run.left_open)}"] if run.left_open else []
    if run.outcome in ("crashed", "open"):
        what = "the process ended" if run.outcome == "crashed" else "no end in the log"
        notes.append(f"{what}: up to the last event; >= and ? where something went on")
    if not run.is_whole:
        notes.append("its beginning is not in the log: all is from the first event on")
    if run.observers_us is None and run.parts["loop"]:
        notes.append("nobody told what the observers took: it is within the others")
    if "first_token" in run.least and run.outcome not in ("crashed", "open"):
        notes.append("an answer was not streamed: its first token is within generation")
    if run.clock_off_us:
        off = brief_duration(abs(run.clock_off_us) / 1_000)
        notes.append(f"timestamps and measured duration differ by {off}: the division is not sure")
    return notes


def _short_line(run: RunTime, columns: int) -> Pieces:
    room = _SHORT_ID - 2 * (run.parent_session is not None)
    end = f"…{run.session_id[1 - room :]}" if len(run.session_id) > room else run.session_id
    name = f"{'  ' if run.parent_session else ''}{named(end, room)}"
    agent = named(run.agent, _SHORT_AGENT)
    bar = max(_LEAST_BAR, min(_BAR, columns - 70))
    worst = max(PARTS, key=lambda part: run.parts[part])
    what = named(run.tools[0].name, 16) if worst == "tools" and run.tools else TITLES[worst]
    share = f"{run.parts[worst] / run.duration_us:.0%} " if run.duration_us else ""
    outcome = f" {run.outcome}," if run.outcome != "completed" else ""
    return [
        ("lead", name + " " * (_SHORT_ID - columns_of(name))),
        f" {agent}{' ' * (_SHORT_AGENT - columns_of(agent))}",
        ("dim", f" {run.started:%m-%d %H:%M}"),
        (_OUTCOMES.get(run.outcome, "warn") if run.outcome != "completed" else "", f" {_duration(run):>9} "),
        *_bar(run, bar),
        (_OUTCOMES.get(run.outcome, "warn"), outcome),
        ("dim", f" {share}{what}"),
    ]


def _signs() -> Mapping[str, str]:
    return _SIGNS if can_draw("".join(_SIGNS.values())) else _PLAIN_SIGNS


# --- many runs


def group_tables(groups: Sequence[RunGroup], by: str | None) -> list[Table]:
    """Return a table of the parts of each group."""
    return [_group_table(group, by) for group in groups[:_MOST_GROUPS]]


def _group_table(group: RunGroup, by: str | None) -> Table:
    title = counted(group.runs, "run") if by is None else f"{named(group.key)}: {counted(group.runs, 'run')}"
    if group.sub_agent_runs:
        title += f", {group.sub_agent_runs:,} of sub-agents, whose time is in their parents' tools, too"
    parts = [part for part in group.parts if part.total_us or (part.least and part.name != "observers")]
    rows = [_part_row(part, TITLES[part.name], group.duration.total_us) for part in parts]
    rows.append(_part_row(group.duration, "duration", group.duration.total_us))
    return Table(
        title=title,
        head=("part", "runs", "total", "share", "p50", "p95", "p99", "max"),
        rows=rows,
        names=1,
        leaves=("runs", "max", "total"),
    )


def _part_row(part: PartTime, title: str, whole_us: int) -> tuple[Cell, ...]:
    each = part.each_run
    times = (each.p50, each.p95, each.p99, each.maximum)
    least = ">= " if part.least else ""
    return (
        title,
        f"{part.runs:,}",
        least + brief_duration(part.total_us / 1_000) if part.total_us or not least else "?",
        f"{part.total_us / whole_us:.1%}" if whole_us else "-",
        *map(brief_duration, times),
    )


def tool_table(groups: Sequence[ToolGroup]) -> Table:
    """Return a table of tools: each by its bodies, and by what it took of the runs' wall clock."""
    return Table(
        title="",
        head=("tool", "calls", "runs", "wall", "busy", "p50", "p95", "p99", "max"),
        rows=[
            (
                named(group.name),
                f"{group.calls:,}",
                f"{group.runs:,}",
                (">= " if group.least else "") + brief_duration(group.wall_us / 1_000),
                (">= " if group.least else "") + brief_duration(group.busy_us / 1_000),
                *map(brief_duration, (group.body.p50, group.body.p95, group.body.p99, group.body.maximum)),
            )
            for group in groups
        ],
        names=1,
        leaves=("runs", "max", "busy"),
    )


def runs_markdown(runs: Sequence[RunTime], tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Return the runs as a Markdown table, their parts as columns, then other tables."""
    shown = [name for name in PARTS if any(run.parts[name] or name in run.least for run in runs)]
    rows = [
        (
            named(run.session_id),
            "?" if run.number is None else f"{run.number:,}",
            f"{run.started:%Y-%m-%d %H:%M:%S}",
            named(run.agent),
            run.outcome,
            _duration(run),
            *(_markdown_part(run, name) for name in shown),
        )
        for run in runs
    ]
    head = ("session", "run", "started", "agent", "outcome", "duration", *(TITLES[name] for name in shown))
    texts = (
        [markdown_table(Table(title="Where the time went", head=head, rows=rows, names=5))] if runs else []
    )
    texts += [markdown_table(table) for table in tables]
    since = (run for run in runs if run.since_us is not None)
    texts += [escaped(f"{named(run.session_id)}, run {run.number or '?'}: {_since(run)}") for run in since]
    texts += [escaped(note) for note in notes]
    return "\n\n".join(texts) + "\n"


def _markdown_part(run: RunTime, name: str) -> str:
    return " ".join(_figures(run.parts[name], run.duration_us, is_least=is_least(run, name)).split())
