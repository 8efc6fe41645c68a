"""`agentkit debug`: a recorded session step by step, on a terminal, as a list, or as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from agentkit_reporting.analysis.debug_replay import DebugReplay
    from agentkit_reporting.analysis.debug_state import DebugState

_MAX_TOLD = 5  # sessions and bad lines that are named; the rest is counted


@click.command("debug")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@click.option(
    "--step", "number", type=int, metavar="N", help="Step N, and where the session stands after it."
)
@click.option("--json", "as_json", is_flag=True, help="One object: all steps, or step N with its state.")
@click.option(
    "--session",
    "session_id",
    metavar="ID",
    help="Which session, or run of a step log; the end of an id is enough.  [default: the first]",
)
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only steps of this kind; may be repeated."
)
@click.option(
    "--tool", "tools", multiple=True, metavar="NAME", help="Only steps of this tool; may be repeated."
)
def command(
    logs: tuple[str, ...],
    *,
    number: int | None,
    as_json: bool,
    session_id: str | None,
    kinds: tuple[str, ...],
    tools: tuple[str, ...],
) -> int:
    """Go through a session of LOG… step by step: files, directories, globs, or - for stdin.

    On a terminal it is walked through, forwards and back, with what was said and where the session stood at each
    step; h shows the commands. Elsewhere the steps are listed. Event logs and step logs are read.

    Exit 0, or 1 where no step is as asked.
    """
    from agentkit_reporting.analysis.debug_replay import DebugReplay  # noqa: PLC0415 - not for --help
    from agentkit_reporting.analysis.debug_step import kinds_of  # noqa: PLC0415 - as above
    from agentkit_reporting.cli.progress import with_progress  # noqa: PLC0415 - as above

    kinds = tuple(kind.replace("-", "_") for kind in kinds)
    kinds_of(kinds)
    replay = DebugReplay.open(list(logs), session_id, watch=with_progress)
    _tell_beside(replay, tells_others=session_id is None)
    is_walked = not as_json and "-" not in logs and sys.stdin.isatty() and sys.stdout.isatty()
    if number is not None and not 0 <= number <= len(replay):
        raise click.UsageError(f"--step {number} refused; give 0 to {len(replay)}")
    if is_walked:
        from agentkit_reporting.cli.debug_console import DebugConsole  # noqa: PLC0415 - as above

        return DebugConsole(replay, kinds=kinds, tools=tools).walk(number)
    shown = replay.filter(kind=kinds or None, tool=tools or None) if kinds or tools else replay
    if number is None and not len(shown):
        _whisper("no step is of that kind and tool; leave one of --kind and --tool out")
        return 1
    if as_json:
        _write_json(replay, shown, number)
    elif number is None:
        _write_list(shown)
    else:
        _write_step(replay, number)
    return 0


def _write_list(shown: DebugReplay) -> None:
    """Write a line for each step."""
    from agentkit_reporting.cli.debug_page import DebugPage  # noqa: PLC0415 - not for --help
    from agentkit_reporting.page import TerminalStream  # noqa: PLC0415 - as above

    out = TerminalStream(None, colour=None, width=None)
    out.open()
    page = DebugPage(shown, out.width, out.glyphs)
    for step in shown:
        out.write(out.line(page.row(step)))
        if out.stopped:
            return


def _write_step(replay: DebugReplay, number: int) -> None:
    """Write a step and where the session stands after it; 0 is the beginning."""
    from agentkit_reporting.cli.debug_page import DebugPage  # noqa: PLC0415 - not for --help
    from agentkit_reporting.page import TerminalStream  # noqa: PLC0415 - as above

    out = TerminalStream(None, colour=None, width=None)
    out.open()
    page = DebugPage(replay, out.width, out.glyphs)
    if number:
        for line in (*page.head(replay[number - 1], len(replay)), *page.facts(replay.content(number - 1))):
            out.write(out.line(line))
        out.write("\n")
    for line in page.state(replay.state_after(number), is_event_log=replay.is_event_log):
        out.write(out.line(line))


def _write_json(replay: DebugReplay, shown: DebugReplay, number: int | None) -> None:
    """Write one object."""
    from agentkit_reporting.terminal import json_text  # noqa: PLC0415 - not for --help

    told: dict[str, Any] = {
        "session_id": replay.session_id,
        "kind": "event_log" if replay.is_event_log else "step_log",
        "steps_in_all": len(replay),
        "bad_lines": replay.bad_count,
        "other_sessions": list(replay.other_sessions),
    }
    if number is None:
        last = replay.state_after(len(replay)).totals
        told |= {"steps": [_record(step) for step in shown], "totals": _record(last)}
    else:
        if number:
            told |= {"step": _record(replay[number - 1]), "content": replay.content(number - 1)}
        told["state"] = _state_record(replay.state_after(number))
    sys.stdout.write(json_text(told) + "\n")


def _state_record(state: DebugState) -> dict[str, Any]:
    record: dict[str, Any] = _record(state)
    record["pending_approvals"] = [call.waits_for for call in state.pending_approvals]
    record["pending_auths"] = [call.waits_for for call in state.pending_auths]
    return record


def _record(told: object) -> Any:
    return msgspec.to_builtins(told)  # amounts become text, exact


def _tell_beside(replay: DebugReplay, *, tells_others: bool) -> None:
    """Say on stderr what is not shown: other sessions, bad lines."""
    others = replay.other_sessions
    if others and tells_others:
        names = ", ".join(others[:_MAX_TOLD])
        more = f" and {len(others) - _MAX_TOLD:,} more" if len(others) > _MAX_TOLD else ""
        kind = "session" if replay.is_event_log else "run"
        _whisper(f"{kind} {replay.session_id}; others, for --session: {names}{more}")
    for bad in replay.bad[:_MAX_TOLD]:
        _whisper(f"skipped {bad.path}:{bad.line}: {bad.reason}")
    if replay.bad_count > _MAX_TOLD:
        _whisper(f"skipped {replay.bad_count:,} bad lines in all")
    if replay.newer_version is not None:
        _whisper(
            f"the log is of a newer version ({replay.newer_version}); what is not known is shown by name"
        )


def _whisper(text: str) -> None:
    from agentkit_reporting.cli.reading import whisper  # noqa: PLC0415 - not for --help

    whisper(text)
