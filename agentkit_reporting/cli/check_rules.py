"""`agentkit check --rules FILE`: rules of alerts judged over logs, for people and for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from agentkit_reporting.alerts.alert import Alert, json_amount
from agentkit_reporting.alerts.evaluation import Evaluation
from agentkit_reporting.alerts.judging import Judged
from agentkit_reporting.alerts.log_order import LogsInOrder
from agentkit_reporting.alerts.metrics import metric_lines
from agentkit_reporting.alerts.rule import RULE_KEYS, AlertRule
from agentkit_reporting.alerts.rules_file import AlertRulesError, read_alert_rules
from agentkit_reporting.alerts.samples import UnendedRun
from agentkit_reporting.alerts.units import FORMS, quantity_text
from agentkit_reporting.cli.drawing import (
    Cell,
    Pieces,
    Table,
    brief_duration,
    drawn,
    grid,
    named,
    styled_line,
)
from agentkit_reporting.cli.progress import with_progress
from agentkit_reporting.cli.reading import ReaderGoneError, left_out_text, whisper
from agentkit_reporting.terminal import counted, json_text, one_line
from agentkit_reporting.timestamps import utc_text

__all__ = ["judge_logs", "rules_help"]

MOST_SHOWN = 100
"""Alerts that are shown to people; programs get MOST_TOLD of them, and how many there were."""

MOST_TOLD = 10_000
_NAMES = 32  # columns of names in the help

_OF_SESSION = frozenset({"run", "turn", "call", "request"})  # whose ids are of their session
_MOST_BAD = 5
_MOST_OPEN = 3  # runs that are named
_ID_COLUMNS, _MESSAGE_COLUMNS = 60, 500
_LATE_US = 1_000_000  # sooner, a clock was only set


@attrs.define(eq=False)
class _Raised:
    """An alert that fired, and what resolved it."""

    alert: Alert
    resolved: Alert | None = None


class _Alerts:
    """Pairs what fired with what resolved it; keeps the first of very many."""

    def __init__(self, rules: Iterable[AlertRule]) -> None:
        self.speaking = {rule.name for rule in rules if rule.message}
        self.raised: list[_Raised] = []
        self.count = 0
        self._firing: dict[tuple[Any, ...], _Raised] = {}

    def take(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            session = alert.session_id if _OF_SESSION & alert.group.keys() else ""
            place = (alert.rule, session, *alert.group.values())
            if alert.state == "resolved":
                of_group = self._firing.pop(place, None)
                if of_group is not None:
                    of_group.resolved = alert
                continue
            self.count += 1
            if self.count <= MOST_TOLD:
                self.raised.append(_Raised(alert))
                self._firing[place] = self.raised[-1]


def judge_logs(path: str, logs: tuple[str, ...], *, as_json: bool, require_data: bool = False) -> int:
    """Judge logs by a file of rules, print what came of it, and return the exit code.

    require_data: whether every rule counts as required.
    """
    try:
        rules = read_alert_rules(path)
        if require_data:
            rules = tuple(rule.as_required() for rule in rules)
    except AlertRulesError as error:
        for problem in error.problems:
            whisper(problem)
        return 2
    evaluation, alerts, reader = Evaluation(rules), _Alerts(rules), LogsInOrder(logs)
    seen = False
    for event in with_progress(reader):
        seen = True
        found = evaluation.take(event)
        if found:
            alerts.take(found)
    alerts.take(evaluation.finish())
    results = evaluation.results()
    code = 1 if not seen or any(_is_broken(result) for result in results) else 0
    try:
        if as_json:
            sys.stdout.write(json_text(_as_json(results, alerts, reader, evaluation)) + "\n")
        elif seen:
            sys.stdout.write(drawn(lambda console: _draw(console, results, alerts), any_width=True))
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGoneError(code) from None
    _tell(reader, evaluation, results, alerts, ", ".join(logs) if seen else None)
    if not seen:
        whisper(f"no event in {', '.join(logs)}; give a log written by JsonlReporter or `agentkit demo`")
    return code


def _verdict(result: Judged) -> str:
    if result.alerts:
        return "broken"
    return "ok" if result.judged else "no data"


def _is_broken(result: Judged) -> bool:
    return result.alerts > 0 or (result.rule.required and not result.judged)


def _tell(
    reader: LogsInOrder,
    evaluation: Evaluation,
    results: tuple[Judged, ...],
    alerts: _Alerts,
    place: str | None,
) -> None:
    bad = reader.bad
    for each in bad[: _MOST_BAD if place else 1]:
        whisper(f"skipped {each.path}:{each.line}: {each.reason}")
    if reader.bad_count > _MOST_BAD and place:
        whisper(f"skipped {reader.bad_count:,} bad lines in all")
    if reader.left_out:
        whisper(left_out_text(reader.left_out))
    if reader.newer_version is not None:
        whisper(f"the log is of a newer version ({reader.newer_version}); what is not known is not measured")
    if evaluation.late_us > _LATE_US and any(_goes_by_time(result.rule) for result in results):
        late = quantity_text(evaluation.late_us / 1_000, "ms")
        whisper(
            f"an event stands up to {late} behind later ones of its log; windows take the order of the lines"
        )
    for line in _open_lines(evaluation):
        whisper(line)
    for result in results:
        if place and not result.judged:
            required = ", and is required" if result.rule.required else ""
            whisper(f"rule {result.rule.name!r} was not judged{required}: {result.why}")
    broken = sum(map(_is_broken, results))
    if broken and place:
        whisper(
            f"{broken} of {counted(len(results), 'rule')} broken in {place}, {counted(alerts.count, 'alert')}"
        )


def _goes_by_time(rule: AlertRule) -> bool:
    return rule.window_ms is not None or bool(rule.for_ms or rule.cooldown_ms)


def _open_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield what has not ended: such figures are lower bounds."""
    runs, questions = evaluation.open_runs, evaluation.open_questions
    if runs:
        named_runs = ", ".join(map(_run_text, runs[:_MOST_OPEN])) + (", …" if len(runs) > _MOST_OPEN else "")
        have = "has" if len(runs) == 1 else "have"
        yield (
            f"{counted(len(runs), 'run')} {have} no end, crashed or still going on: {named_runs}; what is measured of "
            "such is a lower bound, and the metric runs_open counts them"
        )
    if questions:
        still = "question still waits" if len(questions) == 1 else "questions still wait"
        yield f"{len(questions):,} {still} for an answer; that counts up to the last event"


def _run_text(run: UnendedRun) -> str:
    labels = run.labels
    began = "" if run.began is None else f", {run.began:%Y-%m-%d %H:%M:%S}"
    session, agent = one_line(labels.session, _ID_COLUMNS), one_line(labels.agent, _ID_COLUMNS) or "?"
    return f"session {session} (agent {agent}{began})"


# --- for people

_STYLES = {"broken": "bad", "ok": "good", "no data": "dim"}
_SEVERITY_STYLES = {"critical": "bad", "error": "bad", "warning": "warn", "info": ""}


def _draw(console: Any, results: tuple[Judged, ...], alerts: _Alerts) -> None:
    if alerts.raised:
        console.print(grid(_alert_table(alerts), console.width))
        if alerts.count > MOST_SHOWN:
            console.print(f"and {alerts.count - MOST_SHOWN:,} more")
        for line in _message_lines(alerts):
            console.print(styled_line(line), soft_wrap=True)
        console.print()
    console.print(grid(_rule_table(results), console.width))


def _alert_table(alerts: _Alerts) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for raised in alerts.raised[:MOST_SHOWN]:
        alert = raised.alert
        ended = raised.resolved
        lasted = "-" if ended is None else brief_duration((ended.at - alert.at).total_seconds() * 1_000)
        rows.append(
            (
                f"{alert.at:%Y-%m-%d %H:%M:%S}",
                named(alert.rule, 40),
                named(alert.where),
                (_SEVERITY_STYLES[alert.severity], alert.severity),
                (_SEVERITY_STYLES[alert.severity], alert.comparison),
                lasted,
            )
        )
    head: tuple[str, ...] = ("at (UTC)", "rule", "where", "severity", "value", "lasted")
    if all(raised.resolved is None for raised in alerts.raised[:MOST_SHOWN]):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Table("", head, rows, 3, leaves=("lasted", "severity"), whole=("at (UTC)",))


def _message_lines(alerts: _Alerts) -> Iterator[Pieces]:
    """Yield what the rules that have a message say, an alert a line."""
    for raised in alerts.raised[:MOST_SHOWN]:
        alert = raised.alert
        if alert.rule in alerts.speaking:
            yield [
                ("dim", f"{alert.at:%H:%M:%S} {named(alert.rule, 40)}: "),
                one_line(alert.message, _MESSAGE_COLUMNS),
            ]


def _rule_table(results: tuple[Judged, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        rule, verdict = result.rule, _verdict(result)
        condition = rule.condition if rule.name != rule.condition else ""
        rows.append(
            (
                (_STYLES[verdict], verdict),
                named(rule.name, 60),
                named(condition, 80),
                f"{result.samples:,}",
                _worst_text(result),
                f"{result.alerts:,}" if result.judged else "-",
            )
        )
    head = ("", "rule", "condition", "samples", "worst", "alerts")
    return Table("", head, rows, 3, leaves=("samples",), whole=("",))


def _worst_text(result: Judged) -> str:
    rule = result.rule
    text = quantity_text(result.worst, rule.metric.unit, rule.currency)
    return f">= {text}" if result.at_least and result.worst is not None else text


def rules_help() -> str:
    """Return how rules are written, for the end of a help page; lines of at most 76 columns."""
    lines = [
        "\b",
        "Rules of --rules: a TOML file of tables [[rules]], each with metric, op and",
        "value, and if wanted:",
    ]
    optional = [key for key in RULE_KEYS if key not in ("metric", "op", "value")]
    lines += [f"  {key:<12} {_wrapped(RULE_KEYS[key], 15)}" for key in optional]
    lines += ["", "\b", "A value, by the metric's unit:"]
    lines += [f"  {unit:<7} {_wrapped(form, 10)}" for unit, form in FORMS.items()]
    lines += ["", "\b", "Metrics, with their unit:"]
    lines += [f"  {names:<{_NAMES}}  {unit:<6} {meaning}" for names, unit, meaning in metric_lines()]
    return "\n".join(lines)


def _wrapped(text: str, indent: int) -> str:
    import textwrap  # noqa: PLC0415 - only for the help

    return f"\n{' ' * indent}".join(textwrap.wrap(text, 76 - indent))


# --- for programs


def _as_json(
    results: tuple[Judged, ...], alerts: _Alerts, reader: LogsInOrder, evaluation: Evaluation
) -> dict[str, Any]:
    return {
        "ok": not any(map(_is_broken, results)),
        "rules": [
            {
                "name": result.rule.name,
                "condition": result.rule.condition,
                "metric": result.rule.metric.name,
                "unit": result.rule.metric.unit,
                "currency": result.rule.currency,
                "op": result.rule.op,
                "threshold": json_amount(result.rule.threshold),
                "severity": result.rule.severity,
                "required": result.rule.required,
                "verdict": _verdict(result).replace(" ", "_"),
                "samples": result.samples,
                "worst": json_amount(result.worst),
                "worst_is_at_least": result.at_least,
                "alerts": result.alerts,
                "message": result.rule.message or None,
                "why_not_judged": result.why or None,
            }
            for result in results
        ],
        "alert_count": alerts.count,
        "alerts": [
            {
                **raised.alert.as_json(),
                "resolved": None if raised.resolved is None else raised.resolved.as_json()["timestamp"],
            }
            for raised in alerts.raised
        ],
        "open_run_count": len(evaluation.open_runs),
        "open_runs": [_open_json(run) for run in evaluation.open_runs[:MOST_SHOWN]],
        "open_questions": len(evaluation.open_questions),
        "bad_lines": reader.bad_count,
        "newer_version": reader.newer_version,
        "left_out": reader.left_out,
    }


def _open_json(run: UnendedRun) -> dict[str, Any]:
    labels = run.labels
    began = None if run.began is None else utc_text(run.began)
    return {"session_id": labels.session, "run_id": labels.run, "agent": labels.agent, "began": began}
