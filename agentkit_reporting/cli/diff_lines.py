"""What a difference of two runs comes to in words: lines with signs, figures, verdicts; for a terminal and Markdown.

All text of logs is visible and on one line here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal

import attrs

from agentkit_reporting.analysis.run_diff import ComparedRun, RunDiff
from agentkit_reporting.analysis.run_diff_figures import DIFFERENCES, Amount, RunMetric
from agentkit_reporting.analysis.run_diff_parts import CallPair, Changes, ComparedCall, Divergence, TextPair
from agentkit_reporting.analysis.run_diff_rules import RuleVerdict
from agentkit_reporting.analysis.run_diff_values import TextChange
from agentkit_reporting.cli.drawing import Table, brief_duration, named
from agentkit_reporting.terminal import clipped, counted, one_line, visible

__all__ = [
    "Marked",
    "call_lines",
    "divergence_sections",
    "metric_table",
    "notes",
    "setting_lines",
    "side_text",
    "summary",
    "text_lines",
    "tool_table",
    "verdict_text",
]

MAX_COLUMNS = 300
"""Of one line; a narrow terminal cuts it further."""

_NEAR = 2  # equal calls that are shown before and behind one that differs
_MOST_LINES = 200  # of a list; of a longer one the rest is counted
_MOST_TOOLS = 20
_MOST_WORDS = 8  # of how exchanges ended
_MOST_FAILURES = 3
_MOST_SHARE = 100  # of a change; what a hundredfold is in percent tells nobody anything
_LARGE = Decimal(10) ** 12  # beyond this a figure is written with an exponent
_ONE_LINE = 64  # characters of a path and two values that stand on one line
_WHOLE = "…"

_ALWAYS = ("tokens", "turns", "requests", "calls", "errors", "duration")
_BUSY = ("tool_time", "model_time")  # the sum over what ran, which may be more than the clock's time
_ALLOWED = {
    ">": "at most",
    ">=": "less than",
    "<": "at least",
    "<=": "more than",
    "==": "anything but",
    "!=": "only",
}
"""What a rule that forbids a comparison allows."""

_NOUNS = {
    "calls_differ": "call",
    "results_differ": "result",
    "text_differs": "answer",
    "input_differs": "input",
    "settings_differ": "setting",
}


@attrs.frozen
class Marked:
    """A line. sign: =, ~, -, + or a blank; text: what follows. depth: steps to the right."""

    sign: str
    text: str
    depth: int = 0


# --- the whole


def side_text(side: ComparedRun, log: str) -> str:
    """Return which run a side is: log, session, agent and model."""
    who = ", ".join(one_line(each, 40) for each in (side.agent, *side.models) if each)
    behind = f", with {counted(side.children, 'sub-agent')}" if side.children else ""
    place = f"{one_line(log, 60)}#{one_line(side.session_id, 40)}"
    return f"{place}  {who}{behind}" if who or behind else place


def summary(diff: RunDiff) -> str:
    """Return in one line whether they are equal, and what differs."""
    if diff.is_equal:
        figures = ", ".join(named(each, 40) for each in diff.figures_differ)
        return f"equal in what they said and did; not in {figures}" if figures else "equal"
    told = [
        counted(int(found.after or 0), noun)
        for name, noun in _NOUNS.items()
        if (found := diff.metric(name)) is not None and found.after
    ]
    finish = diff.metric("finish_differs")
    if finish is not None and finish.after:
        told.append("how they ended")
    return f"different: {', '.join(told)}"


def notes(diff: RunDiff) -> list[str]:
    """Return what is to be known of the comparison."""
    told = []
    if diff.before.redacted or diff.after.redacted:
        equal = f", as {counted(diff.masked, 'content')} here" if diff.masked else ""
        told.append(f"redacted: what is masked counts as equal to anything{equal}")
    ends = [_ending(side) for side in (diff.before, diff.after)]
    if ends[0] != ends[1]:
        told += [f"{side} ended: {end}" for side, end in zip("AB", ends, strict=True)]
    for side, told_of in zip("AB", (diff.before, diff.after), strict=True):
        if "open" in told_of.outcomes:
            runs = told_of.outcomes.count("open")
            what = "a run has" if runs == 1 else f"{runs:,} runs have"
            told.append(f"{side}: {what} no end (a crash, or still going); figures are lower bounds")
    sides = (diff.before.failures, diff.after.failures)
    for side, failures in zip("AB", sides, strict=True) if sides[0] != sides[1] else ():
        found = Counter(failures)  # in the order in which they were first told
        for failure, count in list(found.items())[:_MOST_FAILURES]:
            often = f"{count:,} x " if count > 1 else ""
            told.append(f"{side}: {often}{one_line(failure, MAX_COLUMNS)}")
        rest = sum(list(found.values())[_MOST_FAILURES:])
        if rest:
            told.append(f"{side}: {counted(rest, 'more failure')}")
    return told


def _ending(side: ComparedRun) -> str:
    last = side.outcomes[-1:]
    reasons = _joined(side.finish_reasons)
    if last == ("suspended",):
        return f"{reasons}, then suspended" if reasons else "suspended, which is no end"
    reasons = reasons or "no answer"
    return f"{reasons} (run {_joined(side.outcomes[-1:])})" if side.outcomes else reasons


def _joined(words: Iterable[str]) -> str:
    """Return words in order, those that follow each other once."""
    told: list[list[str]] = []
    for word in words:
        if told and told[-1][0] == word:
            told[-1].append(word)
        else:
            told.append([word])
    return ", ".join(
        f"{len(each)} x {named(each[0], 30)}" if len(each) > 1 else named(each[0], 30)
        for each in told[:_MOST_WORDS]
    ) + (f", {_WHOLE}" if len(told) > _MOST_WORDS else "")


# --- figures


def metric_table(diff: RunDiff) -> Table:
    """Return the figures that matter always, and those that differ."""
    rows = []
    for metric in diff.metrics:
        name = metric.name
        is_told = name in _ALWAYS or metric.unit == "money"
        is_measured = name in _BUSY and bool(metric.before or metric.after)
        is_other = (
            "." not in name and name not in (*DIFFERENCES, "differences") and metric.before != metric.after
        )
        if is_told or is_measured or is_other:
            rows.append(
                (
                    f"{name} (busy)" if name in _BUSY else named(name, 30),
                    *_sides(metric),
                    change_text(metric),
                )
            )
    return Table("", ("metric", "A", "B", "change"), rows, 1, leaves=("change",))


def tool_table(diff: RunDiff) -> Table:
    """Return how often each tool was called, and how long that took."""
    calls = [each for each in diff.metrics if each.name.startswith("calls.")]
    calls.sort(key=lambda each: -(int(each.before or 0) + int(each.after or 0)))
    rows = []
    for metric in calls[:_MOST_TOOLS]:
        tool = metric.name.removeprefix("calls.")
        time = diff.metric(f"tool_time.{tool}")
        times = _sides(time) if time is not None else ("-", "-")
        counts = _sides(metric)
        rows.append((named(tool, 40), *counts, *times))
    return Table("", ("tool", "calls A", "calls B", "busy A", "busy B"), rows, 1)


def _sides(metric: RunMetric) -> tuple[str, str]:
    return (
        _value(metric, metric.before, at_least=metric.before_at_least),
        _value(metric, metric.after, at_least=metric.after_at_least),
    )


def _value(metric: RunMetric, amount: Amount | None, *, at_least: bool = False) -> str:
    if amount is None:
        return "?"
    return f"{'>= ' if at_least else ''}{_amount_text(metric, amount)}"


def _amount_text(metric: RunMetric, amount: Amount) -> str:
    sign = "-" if amount < 0 else ""
    if metric.unit == "ms":
        return f"{sign}{brief_duration(abs(float(amount)))}"
    if metric.unit == "count":
        return f"{sign}{_plain(Decimal(str(abs(amount))))}"
    money = Decimal(str(abs(amount)))
    figure = f"{money:,.6f}" if money < _LARGE else f"{money:.3e}"
    return (
        f"{sign}${figure}"
        if metric.currency in ("USD", "")
        else f"{sign}{figure} {named(metric.currency, 8)}"
    )


def _plain(amount: Decimal) -> str:
    if amount >= _LARGE:
        return f"{amount:.3e}"
    return f"{int(amount):,}" if amount == amount.to_integral_value() else f"{amount:,.2f}"


def change_text(metric: RunMetric) -> str:
    """Return the change with its sign and its share; a dash for none, a question mark where it is unknown."""
    change = metric.change
    if change is None or metric.before_at_least or metric.after_at_least:
        return "?"
    if not change:
        return "-"
    told = f"{'+' if change > 0 else ''}{_amount_text(metric, change)}"
    share = metric.share
    return told if share is None or abs(share) > _MOST_SHARE else f"{told} ({share:+,.1%})"


def verdict_text(verdict: RuleVerdict) -> str:
    """Return what became of a rule: what it forbids, and what was found."""
    rule = one_line(verdict.rule, 60)
    if verdict.found is None or verdict.allowed is None or verdict.metric is None:
        return f"{rule}: {verdict.verdict}, which counts as broken: {one_line(verdict.reason, 200)}"
    metric = verdict.metric
    limit, found = (_signed(verdict, each) for each in (verdict.allowed, verdict.found))
    what = f"change of {named(metric.name)}" if verdict.compared == "change" else f"{named(metric.name)} of B"
    told = f"{rule}: {verdict.verdict}: {what} {found}, allowed {_ALLOWED[verdict.comparison]} {limit}"
    return f"{told}; {verdict.reason}, which counts as broken" if verdict.reason else told


def _signed(verdict: RuleVerdict, amount: Decimal) -> str:
    assert verdict.metric is not None  # noqa: S101 - the caller looked
    sign = "+" if verdict.compared == "change" and amount > 0 else ""
    return f"{sign}{_amount_text(verdict.metric, amount)}"


# --- where they part


def divergence_sections(diff: RunDiff) -> Iterator[tuple[str, list[Marked]]]:
    """Yield the first step that differs, and the first call where that is another, each under its title."""
    found, call = diff.divergence, diff.call_divergence
    if found is not None:
        yield f"First divergence: {found.kind} at step {found.step:,}{_at(found)}", _both(found)
        if call is not None and found.kind != "call":
            yield f"First call that differs: call {call.step:,}{_at(call)}", _both(call)


def _at(found: Divergence) -> str:
    turns = _turns(found.before_turn, found.after_turn)
    return f", {turns}" if turns else ""


def _both(found: Divergence) -> list[Marked]:
    return [
        Marked(sign, one_line(told, MAX_COLUMNS), 1)
        for sign, told in (("-", found.before), ("+", found.after))
    ]


def _turns(before: str | None, after: str | None) -> str:
    told = dict.fromkeys(named(each, 20) for each in (before, after) if each)
    return " / ".join(told)


# --- calls


def call_lines(diff: RunDiff, *, whole: bool) -> list[Marked]:
    """Return the calls side by side; whole: with all that are equal, and however many lines that takes."""
    lines: list[Marked] = []
    for equal, pairs in _stretches(diff.calls, whole=whole):
        if equal:
            lines.append(Marked("=", f"{_WHOLE} {counted(len(pairs), 'call')} alike"))
        else:
            for pair in pairs:
                lines += _call(pair)
    for tool, child in diff.children:
        if not child.is_equal:
            lines.append(Marked(" ", f"sub-agent behind {named(tool)}: {summary(child)}"))
            lines += [attrs.evolve(line, depth=line.depth + 1) for line in call_lines(child, whole=whole)]
    return _bounded(lines, whole=whole)


def _bounded(lines: list[Marked], *, whole: bool) -> list[Marked]:
    if whole or len(lines) <= _MOST_LINES:
        return lines
    rest = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], Marked(" ", f"{_WHOLE} {counted(rest, 'more line')}; --all shows them")]


def _stretches(pairs: tuple[CallPair, ...], *, whole: bool) -> Iterator[tuple[bool, list[CallPair]]]:
    """Yield stretches: those that are told by their number alone, and those that are shown."""
    near: set[int] = set()
    for place, pair in enumerate(pairs):
        if pair.sign != "=":
            near.update(range(place - _NEAR, place + _NEAR + 1))
    stretch: list[CallPair] = []
    was_hidden = False
    for place, pair in enumerate(pairs):
        is_hidden = not whole and place not in near
        if stretch and is_hidden != was_hidden:
            yield was_hidden, stretch
            stretch = []
        was_hidden = is_hidden
        stretch.append(pair)
    if stretch:
        yield was_hidden, stretch


def _call(pair: CallPair) -> Iterator[Marked]:
    before, after = pair.before, pair.after
    call = after if before is None else before
    assert call is not None  # noqa: S101 - a pair has one
    turns = _turns(before.turn_id if before else None, after.turn_id if after else None)
    told = f"{turns}  " if turns else ""
    yield Marked(pair.sign, f"{told}{one_line(call.tool + call.arguments, MAX_COLUMNS)}")
    if pair.sign in "+-" and call.outcome != "ok":
        why = one_line(call.error or call.result, MAX_COLUMNS)
        yield Marked(" ", f"{_outcome(call)}{f': {why}' if why else ''}", 2)
    if pair.arguments is not None:
        yield from _changes("", pair.arguments)
    if pair.outcome_differs and before is not None and after is not None:
        yield Marked(" ", f"outcome: {_outcome(before)} -> {_outcome(after)}", 2)
    if pair.result is not None:
        yield from _changes("result", pair.result)


def _outcome(call: ComparedCall) -> str:
    return named(call.outcome.replace("_", " "), 20)


def _changes(what: str, found: Changes, *, name: str = "arguments") -> Iterator[Marked]:
    """Yield how values differ. what: the way to them; name: what they are called where there is none."""
    if found.text is not None:
        yield Marked(" ", f"{what or name}: {_size(found.text)}", 2)
        yield from _pieces(found.text, 3)
    for value in found.values:
        path = f"{what}.{value.path}" if what and value.path[:1] not in ("", "[") else f"{what}{value.path}"
        if value.text is not None:
            yield Marked(" ", f"{one_line(path, 80)}: {_size(value.text)}", 2)
            yield from _pieces(value.text, 3)
            continue
        told = f"{one_line(value.before, 120)} -> {one_line(value.after, 120)}"
        if len(path) + len(told) <= _ONE_LINE:
            yield Marked(" ", f"{one_line(path, 80) or name}: {told}", 2)
        else:
            yield Marked(" ", f"{one_line(path, 80) or name}:", 2)
            yield Marked("-", one_line(value.before, MAX_COLUMNS), 3)
            yield Marked("+", one_line(value.after, MAX_COLUMNS), 3)
    if found.is_cut:
        yield Marked(" ", f"{_WHOLE} and more", 2)


def _size(text: TextChange) -> str:
    return f"{counted(text.removed, text.unit)} removed, {text.added:,} added"


def _pieces(text: TextChange, depth: int) -> Iterator[Marked]:
    for sign, piece in text.pieces:
        if text.unit == "word":
            shown = one_line(piece, MAX_COLUMNS)
        else:  # with the blanks that a line begins with, since they may be all that differs
            shown = clipped(visible(piece.replace("\t", "    ")), MAX_COLUMNS)
        if sign in "-+":
            yield Marked(sign, shown, depth)
        elif shown:
            yield Marked(" ", f"{sign.strip()}{shown}", depth)


# --- texts


def text_lines(title: str, pairs: Iterable[TextPair], *, whole: bool) -> list[Marked]:
    """Return the answers or inputs that differ; none where all are alike."""
    lines: list[Marked] = []
    for pair in pairs:
        if pair.sign == "=":
            continue
        turns = _turns(pair.before_turn, pair.after_turn)
        told = pair.after if pair.before is None else pair.before
        head = f"{turns}  " if turns else ""
        lines.append(Marked(pair.sign, f"{head}{one_line(told or '', MAX_COLUMNS)}"))
        if pair.finish_reasons is not None:
            reasons = " -> ".join(named(each.replace("_", " "), 30) for each in pair.finish_reasons)
            lines.append(Marked(" ", f"finished: {reasons}", 2))
        if pair.change is not None:
            lines += (
                _changes(title, pair.change) if pair.change.text is None else _pieces(pair.change.text, 2)
            )
    return _bounded(lines, whole=whole)


def setting_lines(diff: RunDiff) -> list[Marked]:
    """Return the settings that differ."""
    lines = []
    for setting in diff.settings:
        told = list(_changes("", setting.change, name=setting.name))
        is_text = setting.change.text is not None or not setting.change.values[0].path
        lines += (
            [Marked("~", told[0].text), *told[1:]] if is_text else [Marked("~", named(setting.name)), *told]
        )
    return lines
