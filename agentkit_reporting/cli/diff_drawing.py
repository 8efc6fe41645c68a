"""A difference of two runs as it is shown: on a terminal, as Markdown for a pull request, as JSON."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

from agentkit_reporting.analysis.run_diff import ComparedRun, RunDiff
from agentkit_reporting.analysis.run_diff_rules import RuleVerdict
from agentkit_reporting.cli.diff_lines import (
    Marked,
    call_lines,
    divergence_sections,
    metric_table,
    notes,
    setting_lines,
    side_text,
    summary,
    text_lines,
    tool_table,
    verdict_text,
)
from agentkit_reporting.cli.drawing import drawn, escaped, grid, markdown_table, styled_line
from agentkit_reporting.terminal import clipped, columns_of

__all__ = ["as_json", "as_markdown", "as_text"]

_STYLES = {"=": "dim", "~": "warn", "-": "bad", "+": "good", " ": ""}
_INDENT = 2
_FENCE = re.compile(r"`{3,}")


def as_text(diff: RunDiff, logs: tuple[str, str], verdicts: Sequence[RuleVerdict], *, whole: bool) -> str:
    """Return what a terminal shows. logs: the names of both. whole: equal calls and long lists too."""

    def draw(console: Any) -> None:
        width = console.width
        for side, log, told in zip("AB", logs, (diff.before, diff.after), strict=True):
            console.print(styled_line([("strong", side), "  ", clipped(side_text(told, log), width - 3)]))
        style = "good" if diff.is_equal else "warn"
        console.print(styled_line([(style, clipped(summary(diff), width))]))
        for note in notes(diff):
            console.print(styled_line([("dim", clipped(note, width))]))
        console.print()
        console.print(grid(metric_table(diff), width))
        tools = tool_table(diff)
        if tools.rows:
            console.print()
            console.print(grid(tools, width))
        for title, lines in _sections(diff, whole=whole):
            console.print()
            console.print(styled_line([("strong", clipped(title, width))]))
            for line in lines:
                console.print(styled_line([(_STYLES[line.sign], _plain(line, width))]))
        if verdicts:
            console.print()
        for verdict in verdicts:
            style = "good" if verdict.verdict == "kept" else "bad"
            console.print(styled_line([(style, verdict_text(verdict))]))

    return drawn(draw)


def _sections(diff: RunDiff, *, whole: bool) -> Iterator[tuple[str, list[Marked]]]:
    """Yield what is told line by line, each with its title; nothing where nothing differs."""
    final = [] if diff.final is None or diff.final in diff.answers else [diff.final]
    sections = [
        *divergence_sections(diff),
        ("Settings", setting_lines(diff)),
        ("Input", text_lines("input", diff.inputs, whole=whole)),
        ("Calls", call_lines(diff, whole=whole)),
        ("Answers", text_lines("answer", diff.answers, whole=whole)),
        ("Final answer", text_lines("answer", final, whole=whole)),
    ]
    yield from ((title, lines) for title, lines in sections if lines)


def _plain(line: Marked, width: int) -> str:
    told = f"{line.sign} {' ' * (_INDENT * line.depth)}{line.text}"
    return told if columns_of(told) <= width else clipped(told, width)


# --- Markdown


def as_markdown(diff: RunDiff, logs: tuple[str, str], verdicts: Sequence[RuleVerdict], *, whole: bool) -> str:
    """Return Markdown with a table and folded details; what logs say does nothing in it."""
    blocks = [f"### agentkit diff: {escaped(summary(diff))}"]
    sides = zip("AB", logs, (diff.before, diff.after), strict=True)
    blocks.append("\n".join(f"- **{side}**: {escaped(side_text(told, log))}" for side, log, told in sides))
    if verdicts:
        blocks.append(
            "\n".join(
                f"- {'✅' if verdict.verdict == 'kept' else '❌'} {escaped(verdict_text(verdict))}"
                for verdict in verdicts
            )
        )
    blocks.append(markdown_table(metric_table(diff)))
    told = notes(diff)
    if told:
        blocks.append("\n".join(f"- {escaped(note)}" for note in told))
    tools = tool_table(diff)
    if tools.rows:
        blocks.append(_folded("Tools", markdown_table(tools)))
    for title, lines in _sections(diff, whole=whole):
        blocks.append(_folded(_in_html(title), _fenced(lines)))
    return "\n\n".join(blocks) + "\n"


def _in_html(text: str) -> str:
    """Return a line as the text of an element of HTML, which Markdown does not look into either."""
    return escaped(html.escape(text))


def _folded(title: str, content: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n\n</details>"


def _fenced(lines: Sequence[Marked]) -> str:
    """Return lines as a block of code; its fence is longer than any in them."""
    told = "\n".join(f"{line.sign} {' ' * (_INDENT * line.depth)}{line.text}".rstrip() for line in lines)
    fence = max((*_FENCE.findall(told), "``"), key=len) + "`"
    return f"{fence}diff\n{told}\n{fence}"


# --- for programs


def as_json(diff: RunDiff, logs: tuple[str, str], verdicts: Sequence[RuleVerdict]) -> dict[str, Any]:
    """Return all of it as one object; amounts of money are exact texts."""
    return {
        "a": _side(diff.before, logs[0]),
        "b": _side(diff.after, logs[1]),
        **_compared(diff),
        "rules": verdicts,
    }


def _compared(diff: RunDiff) -> dict[str, Any]:
    return {
        "equal": diff.is_equal,
        "divergence": diff.divergence,
        "call_divergence": diff.call_divergence,
        "metrics": [
            {
                "name": metric.name,
                "unit": metric.unit,
                "currency": metric.currency,
                "a": metric.before,
                "b": metric.after,
                "change": metric.change,
                "share": metric.share,
                "a_at_least": metric.before_at_least,
                "b_at_least": metric.after_at_least,
            }
            for metric in diff.metrics
        ],
        "settings": diff.settings,
        "calls": diff.calls,
        "answers": diff.answers,
        "inputs": diff.inputs,
        "final": diff.final,
        "masked": diff.masked,
        "sub_agents": [
            {"tool": tool, "a": child.before, "b": child.after, **_compared(child)}
            for tool, child in diff.children
        ],
    }


def _side(side: ComparedRun, log: str) -> dict[str, Any]:
    return {
        "log": log,
        "session_id": side.session_id,
        "agent": side.agent,
        "models": side.models,
        "finish_reasons": side.finish_reasons,
        "outcomes": side.outcomes,
        "failures": side.failures,
        "sub_agents": side.children,
        "redacted": side.redacted,
    }
