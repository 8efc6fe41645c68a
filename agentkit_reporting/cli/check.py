"""`agentkit check`: whether logs keep every rule of the event contract, and whether they are complete.

With `--rules` they are judged by rules of alerts instead (check_rules.py).
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Any

import click

from agentkit_reporting.cli.check_rules import judge_logs, rules_help
from agentkit_reporting.cli.reading import ReaderGoneError, left_out_text, whisper
from agentkit_reporting.conformance.check import check_log
from agentkit_reporting.conformance.findings import Conformance, SessionCheck
from agentkit_reporting.terminal import counted, json_text, visible


@click.command("check", epilog=rules_help())
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@click.option(
    "--rules",
    metavar="FILE",
    help="Judge by the rules of this TOML file instead; exit 1 where an alert would have been raised.",
)
@click.option(
    "--require-data",
    is_flag=True,
    help="With --rules: exit 1 also where a rule found nothing to be judged by.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(logs: tuple[str, ...], *, rules: str | None, require_data: bool, as_json: bool) -> int:
    """Judge LOG… by every rule of the event contract: files, directories, globs, or - for stdin.

    One line for each fault, one for each session that says whether it is complete, and one for all of
    several sessions. Exit 1 where there is a fault. A run that has not ended, previews that were not logged
    and redactions are told, and are no faults. Files of other records beside the logs are left out.
    """
    if rules is not None:
        return judge_logs(rules, logs, as_json=as_json, require_data=require_data)
    if require_data:
        raise click.UsageError("--require-data goes with --rules")
    with _without_collections():
        found = check_log(list(logs))
    code = 0 if found.is_sound and found.sessions else 1
    try:
        for line in [json_text(_as_json(found))] if as_json else map(_flat, _lines(found)):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGoneError(code) from None  # who read the first line only still learns what was found
    _tell(found, ", ".join(logs))
    return code


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Spare the search for circular garbage, of which a check makes none: a fifth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _tell(found: Conformance, place: str) -> None:
    if found.newer_version is not None:
        whisper(
            f"the log is of a newer version ({found.newer_version}); what is not known here cannot be judged"
        )
    if found.left_out:
        whisper(left_out_text(found.left_out))
    if not found.sessions:
        whisper(f"no event in {place}; give a log written by JsonlReporter or `agentkit demo`")
    elif not found.is_sound:
        sessions = counted(len(found.sessions), "session")
        whisper(f"{counted(found.fault_count, 'fault')} in {sessions} of {place}")


def _lines(found: Conformance) -> Iterator[str]:
    for fault in found.faults:
        yield str(fault)
    left = found.fault_count - sum(1 + fault.more for fault in found.faults)
    if left > 0:
        yield f"and {counted(left, 'fault')} more"
    for session in found.sessions:
        yield "; ".join((f"session {session.session_id}: {session}", *_remarks(session)))
    if len(found.sessions) > 1:
        yield f"{counted(len(found.sessions), 'session')}: {found}"


def _remarks(session: SessionCheck) -> Iterator[str]:
    """Yield what is worth telling of a session and is no fault."""
    if session.runs > 1:
        yield counted(session.runs, "run")
    if session.open_run is not None:
        yield f"run {session.open_run} has no end: it crashed, or it is still going on"
    if session.not_counted:
        yield f"{counted(session.not_counted, 'event')} of superseded runs or out of place"
    if session.redactions:
        yield f"{counted(session.redactions, 'event')} redacted"
    if not session.is_judged:
        yield "judged by its numbers alone"


def _flat(text: str) -> str:
    return visible(text).replace("\n", " ").replace("\t", " ")


# --- for programs


def _as_json(found: Conformance) -> dict[str, Any]:
    faults = [
        {
            "path": fault.path,
            "line": fault.line,
            "session_id": fault.session_id,
            "seq": fault.seq,
            "type": fault.type,
            "text": fault.text,
            "more": fault.more,
        }
        for fault in found.faults
    ]
    return {
        "sound": found.is_sound and bool(found.sessions),
        "complete": found.is_complete,
        "fault_count": found.fault_count,
        "faults": faults,
        "bad_lines": found.bad_count,
        "newer_version": found.newer_version,
        "left_out": found.left_out,
        "sessions": [_session_json(session) for session in found.sessions],
    }


def _session_json(session: SessionCheck) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "parent": session.parent,
        "runs": session.runs,
        "open_run": session.open_run,
        "complete": session.is_complete,
        "last_seq": session.last_seq,
        "present": session.present,
        "missing": session.missing,
        "removed": session.removed,
        "unlogged_previews": session.unlogged,
        "not_counted": session.not_counted,
        "redacted": session.redactions,
        "judged": session.is_judged,
        "faults": session.faults,
    }
