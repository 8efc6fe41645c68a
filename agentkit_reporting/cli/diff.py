"""`agentkit diff`: two runs side by side, and rules that their difference must keep."""

from __future__ import annotations

import os
import sys

import attrs
import click

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_reporting.analysis.listed_session import ListedSession
from agentkit_reporting.analysis.run_diff import diff_outlines, outlines_in
from agentkit_reporting.analysis.run_diff_outline import Outline
from agentkit_reporting.analysis.run_diff_reading import roots_of
from agentkit_reporting.analysis.run_diff_rules import DiffRule
from agentkit_reporting.cli.diff_drawing import as_json, as_markdown, as_text
from agentkit_reporting.cli.progress import with_progress
from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.cli.session_option import SESSION_END
from agentkit_reporting.cli.session_table import tell_of_sessions
from agentkit_reporting.log.read import read_events
from agentkit_reporting.records.step_log import StepLog
from agentkit_reporting.terminal import json_text


@click.command("diff")
@click.argument("log_a", metavar="A")
@click.argument("log_b", metavar="B")
@click.option(
    "--session-a", type=SESSION_END, metavar="ID", help="The session of A; the end of an id is enough."
)
@click.option("--session-b", type=SESSION_END, metavar="ID", help="The session of B.")
@click.option(
    "--fail-on",
    "rules",
    multiple=True,
    metavar="RULE",
    help="Exit 1 if this is so, such as 'cost>+10%', 'errors>0', 'calls!='; may be given again.",
)
@click.option("--all", "whole", is_flag=True, help="Show equal calls and long lists as a whole.")
@click.option(
    "--json", "for_programs", is_flag=True, help="Print one JSON object; amounts are strings, exact."
)
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
def command(
    log_a: str,
    log_b: str,
    *,
    session_a: str | None,
    session_b: str | None,
    rules: tuple[str, ...],
    whole: bool,
    for_programs: bool,
    markdown: bool,
) -> int:
    """Compare the runs in logs A and B: a file, directory or glob each, - for stdin, LOG#SESSION for one of several.

    Calls of tools are aligned by tool and arguments. Ids, times and a model's reasoning are no differences; what is
    masked is equal to anything. Of a log with sub-agents the session that started them is compared, its figures are
    those of all of them, and sub-agents are compared behind calls that both have. Step logs are taken too.

    A rule is METRIC, a comparison (> >= < <= == !=) and a value: '0.50' is the value of B, '+0.05' and '-500' the
    change from A to B, '+10%' that as a share of A, nothing the value of A. Times have a unit (ms, s, m, h). METRIC:
    cost, cost.CURRENCY, tokens, input_tokens, output_tokens, turns, requests, retries, calls, calls.TOOL, errors,
    open_runs, failed_runs, duration, tool_time, tool_time.TOOL, model_time, differences, calls_differ, results_differ,
    text and others. Times of tools and models are busy times: the sum over what ran, also where it ran at once. What a
    rule needs and nobody knows, such as a price, or how a run without an end went on, counts as broken. Without a rule
    the exit code is 0, equal or not.
    """
    if for_programs and markdown:
        raise click.UsageError("--json and --markdown exclude each other; give one of them")
    asked = [DiffRule.parse(rule) for rule in rules]  # what is no rule is refused before a long log is read
    sides = [_side(log_a, session_a, "a"), _side(log_b, session_b, "b")]
    if all(side == _Side("-", None) for side in sides):
        raise click.UsageError(
            "stdin can be read once; give - once, or both with --session-a and --session-b"
        )
    read: dict[str, dict[str, Outline]] = {}
    for side in sides:
        if side.log not in read:
            read[side.log] = _read(side.log)
        if not _has(read[side.log], side):
            return 1
        _check_choice(read[side.log], side)
    one, other = sides
    diff = diff_outlines(
        read[one.log],
        read[other.log],
        session_before=one.session,
        session_after=other.session,
        names=(one.log, other.log),
    )
    verdicts = [rule.judge(diff) for rule in asked]
    logs = (one.log, other.log)
    if for_programs:
        sys.stdout.write(json_text(as_json(diff, logs, verdicts)) + "\n")
    elif markdown:
        sys.stdout.write(as_markdown(diff, logs, verdicts, whole=whole))
    else:
        sys.stdout.write(as_text(diff, logs, verdicts, whole=whole))
    return int(any(verdict.verdict != "kept" for verdict in verdicts))


@attrs.frozen
class _Side:
    """A log and the session that is meant; None: the only one."""

    log: str
    session: str | None


def _side(given: str, session: str | None, side: str) -> _Side:
    log, sign, named = given.rpartition("#")
    if not sign or not log or os.path.exists(given):  # noqa: PTH110 - which takes any text, a name that is too long too
        return _Side(given, session)
    if session is not None:
        raise click.UsageError(f"{given!r} names a session, and so does --session-{side}; give one of them")
    return _Side(log, named or None)


def _read(log: str) -> dict[str, Outline]:
    """Return the sessions of a log, or the runs of a step log."""
    reader = read_events([log])
    outlines = outlines_in(with_progress(reader))
    if not outlines and log != "-":
        try:
            outlines = outlines_in(StepLog.read(log))
        except LogError:
            outlines = {}
        if outlines:
            return outlines
    tell_of_bad_lines(reader)
    return outlines


def _check_choice(outlines: dict[str, Outline], side: _Side) -> None:
    """Refuse a log of several sessions of which none is named, and say which there are."""
    roots = roots_of(outlines)
    if side.session is not None or len(roots) == 1:
        return
    tell_of_sessions(
        [
            ListedSession(
                session_id=each.session_id,
                agent=each.agent,
                began=each.began,
                outcome=each.outcomes[-1] if each.outcomes else "",
            )
            for each in roots
        ]
    )
    raise ConfigurationError(
        f"{side.log} refused because it holds {len(roots)} sessions; say which by the end of its id: "
        "--session-a and --session-b, or LOG#SESSION"
    )


def _has(outlines: dict[str, Outline], side: _Side) -> bool:
    """Say on stderr what is not there; whether all is."""
    if not outlines:
        whisper(f"no event in {side.log}; give the log of a run")
        return False
    if side.session is not None and not any(each.endswith(side.session) for each in outlines):
        whisper(f"no event of session {side.session} in {side.log}; give the end of an id that is in it")
        return False
    return True
