"""`agentkit scan`: which secrets stand in logs, and where."""

from __future__ import annotations

import sys

import attrs
import click

from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.cli.redaction_options import chosen_rules, rule_options
from agentkit_reporting.log.read import read_events
from agentkit_reporting.redaction.findings import Finding, find_secrets
from agentkit_reporting.terminal import counted, json_text, one_line

_MAX_FIELD = 200


@click.command("scan")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@rule_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each finding, a line each.")
@click.option("--strict", is_flag=True, help="Stop at the first bad line.")
def command(
    logs: tuple[str, ...], *, rules: tuple[str, ...], patterns: tuple[str, ...], as_json: bool, strict: bool
) -> int:
    """Find secrets in LOG…: files, directories, globs, or - for stdin. Exit 1 where there is one.

    A finding is a place and a rule, never the secret. `agentkit scrub` takes them out. A log of
    nothing is no clean log: exit 1 too.
    """
    reader = read_events(list(logs), strict=strict)
    found = 0
    for finding in find_secrets(reader, chosen_rules(rules, patterns)):
        found += finding.count
        sys.stdout.write(f"{_as_json(finding) if as_json else _as_line(finding)}\n")
    tell_of_bad_lines(reader)
    if not reader.line:
        whisper(f"no event in {', '.join(logs)}; give a log written by JsonlReporter or `agentkit demo`")
        return 1
    if not as_json:
        whisper(f"{counted(found, 'secret')} found" if found else "no secret found")
    return 1 if found else 0


def _as_json(finding: Finding) -> str:
    return json_text(attrs.asdict(finding))


def _as_line(finding: Finding) -> str:
    seq = "" if finding.seq is None else f" seq {finding.seq}"
    times = "" if finding.count == 1 else f" ({finding.count} times)"
    place = one_line(f"{finding.path}:{finding.line}", _MAX_FIELD)
    return f"{place}:{seq} {finding.rule} in {one_line(finding.field, _MAX_FIELD)}{times}"
