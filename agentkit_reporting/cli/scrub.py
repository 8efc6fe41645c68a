"""`agentkit scrub`: a log without its secrets, as another log."""

from __future__ import annotations

import sys
from typing import IO, get_args

import click

from agentkit_loop.events import REDACTIONS_FIELD
from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.cli.redaction_options import chosen_rules, rule_options
from agentkit_reporting.cli.whole_output import whole_output
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.read import LogReader, read_events
from agentkit_reporting.redaction.masking import PSEUDONYM_KEY_VARIABLE, RedactionMode
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.terminal import counted, json_text


@click.command("scrub")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@click.option("-o", "--output", required=True, metavar="OUT", help="A file that is not there yet, or -.")
@rule_options
@click.option(
    "--mode",
    type=click.Choice(get_args(RedactionMode)),
    default="mask",
    show_default=True,
    help=f"What stands in place of a secret; a pseudonym's key is in {PSEUDONYM_KEY_VARIABLE}.",
)
@click.option(
    "--keep-argument",
    "kept",
    multiple=True,
    metavar="[TOOL.]NAME",
    help="Of the arguments of calls show only this; may be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was masked as one JSON object.")
def command(
    logs: tuple[str, ...],
    *,
    output: str,
    rules: tuple[str, ...],
    patterns: tuple[str, ...],
    mode: RedactionMode,
    kept: tuple[str, ...],
    as_json: bool,
) -> int:
    """Write LOG… without its secrets to OUT.

    LOG… are files, directories, globs, or - for stdin. What is no event is left
    out, since nobody can say what is in it. OUT is whole or not there.
    """
    redactor = Redactor(chosen_rules(rules, patterns), mode=mode, keep_arguments=kept or None)
    reader = read_events(list(logs))
    try:
        with whole_output(output) as file:
            events, changed = _scrub(reader, redactor, file)
    except _NoEventError:
        tell_of_bad_lines(reader)
        whisper(f"no event in {', '.join(logs)}; give a log written by JsonlReporter or `agentkit demo`")
        return 1
    tell_of_bad_lines(reader)
    receipt = redactor.receipt()
    if as_json:
        told = {"events": events, "changed": changed, "left_out": reader.bad_count, "masked": receipt}
        # Data is on stdout, unless that is the log.
        (sys.stderr if output == "-" else sys.stdout).write(json_text(told) + "\n")
    else:
        by_rule = f" ({', '.join(f'{name} {count}' for name, count in receipt.items())})" if receipt else ""
        left_out = reader.bad_count
        rest = f"; {counted(left_out, 'line')} that are no event left out" if left_out else ""
        whisper(
            f"{counted(sum(receipt.values()), 'secret')} masked in {changed} of {counted(events, 'event')}"
            f"{by_rule}{rest}"
        )
    return 0


class _NoEventError(Exception):
    """There is nothing to write."""


def _scrub(reader: LogReader, redactor: Redactor, file: IO[bytes]) -> tuple[int, int]:
    """Write the events; return how many, and in how many of them something was masked."""
    events = changed = 0
    for event in reader:
        told = redactor.event(event)
        events += 1
        before = (event.unknown_fields or {}).get(REDACTIONS_FIELD)
        changed += told is not event and (told.unknown_fields or {}).get(REDACTIONS_FIELD) != before
        file.write(encode_event(told) + b"\n")
    if not events:
        raise _NoEventError
    return events, changed
