"""`agentkit debug`: a recorded session step by step, on a terminal, as a list, or as JSON."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agentkit_reporting.cli.session_option import session_option

if TYPE_CHECKING:
    from agentkit_reporting.analysis.debug_replay import DebugReplay
    from agentkit_reporting.analysis.debug_state import DebugState

_LEAST_COLUMNS = 20
_MOST_DIGITS = 4  # of COLUMNS
_MOST_NAMED = 10  # tools, and steps, that are named


@click.command("debug")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@click.option(
    "--step", "number", type=int, metavar="N", help="Step N, and where the session stands after it."
)
@click.option("--json", "as_json", is_flag=True, help="One object: all steps, or step N with its state.")
@session_option(
    "Which session, or run of a step log; the end of an id is enough.  [default: the one that began last]"
)
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only steps of this kind; may be repeated."
)
@click.option(
    "--tool", "tools", multiple=True, metavar="NAME", help="Only steps of this tool; may be repeated."
)
@click.option("--failed", is_flag=True, help="Only steps that failed, or have no end.")
def command(
    logs: tuple[str, ...],
    *,
    number: int | None,
    as_json: bool,
    session_id: str | None,
    kinds: tuple[str, ...],
    tools: tuple[str, ...],
    failed: bool,
) -> int:
    """Go through a session of LOG… step by step: files, directories, globs, or - for stdin.

    On a terminal it is walked through, forwards and back, with what was said and where the session stood at each
    step; h shows the commands. Elsewhere the steps are listed. Event logs and step logs are read.

    Exit 0, or 1 where there is no such step or session.
    """
    from agentkit_loop.usage import error_text  # noqa: PLC0415 - not for --help
    from agentkit_reporting.analysis.debug_reading import (  # noqa: PLC0415 - as above
        NoSuchSessionError,
        NothingToReplayError,
    )
    from agentkit_reporting.analysis.debug_replay import DebugReplay  # noqa: PLC0415 - as above
    from agentkit_reporting.analysis.debug_step import kinds_of  # noqa: PLC0415 - as above
    from agentkit_reporting.cli.progress import with_progress  # noqa: PLC0415 - as above

    kinds = tuple(kind.replace("-", "_") for kind in kinds)
    kinds_of(kinds)
    try:
        replay = DebugReplay.open(list(logs), session_id, watch=with_progress)
    except (NoSuchSessionError, NothingToReplayError) as error:
        _whisper(error_text(error))
        return 1
    _tell_beside(replay, tells_others=session_id is None)
    shown = replay.filter(kind=kinds or None, tool=tools or None, trouble=failed)
    missing = _missing(replay, shown, number, kinds=kinds, tools=tools, failed=failed)
    if missing:
        _whisper(missing)
        return 1
    if not as_json and "-" not in logs and sys.stdin.isatty() and sys.stdout.isatty():
        from agentkit_reporting.cli.debug_console import DebugConsole  # noqa: PLC0415 - as above

        return DebugConsole(replay, kinds=kinds, tools=tools, failed=failed).walk(number)
    if as_json:
        _write_json(replay, shown, number)
    elif number is None:
        _write_list(replay, shown)
    else:
        _write_step(replay, number)
    return 0


def _missing(
    replay: DebugReplay,
    shown: DebugReplay,
    number: int | None,
    *,
    kinds: tuple[str, ...],
    tools: tuple[str, ...],
    failed: bool,
) -> str:
    """Return what is to be said where nothing is as asked; "" where something is."""
    from agentkit_reporting.terminal import one_line  # noqa: PLC0415 - not for --help

    asked = [
        *(f"of kind {kind}" for kind in kinds),
        *(f"of tool {one_line(name, 40)}" for name in tools),
        *(["that failed or has no end"] if failed else []),
    ]
    what = " ".join(["no step", " or ".join(asked)]) if asked else "no step"
    if not len(shown):
        called = sorted({step.tool for step in replay if step.tool is not None})
        known = ", ".join(one_line(name, 40) for name in called[:_MOST_NAMED])
        return f"{what}{f'; tools: {known}' if tools and known else ''}"
    if number is None or (not asked and 0 <= number <= len(replay)):
        return ""
    if not 0 <= number <= len(replay):
        return f"there is no step {number:,}; give 0 to {len(replay):,}"
    numbers = [step.number for step in shown]
    if number in (0, *numbers):
        return ""
    more = ", …" if len(numbers) > _MOST_NAMED else ""
    steps = ", ".join(f"{each:,}" for each in numbers[:_MOST_NAMED])
    return f"step {number:,} is {what}; those are {steps}{more}"


def _columns() -> int | None:
    """Return the columns of a pipe, as COLUMNS says; None for a terminal, which has its own."""
    given = os.environ.get("COLUMNS", "")
    if sys.stdout is None or sys.stdout.isatty() or not (given.isdecimal() and given.isascii()):
        return None
    return max(int(given[:_MOST_DIGITS]), _LEAST_COLUMNS)


def _write_list(replay: DebugReplay, shown: DebugReplay) -> None:
    """Write how the session went, a line for each step, and whether the log breaks off."""
    from agentkit_reporting.cli.debug_page import DebugPage  # noqa: PLC0415 - not for --help
    from agentkit_reporting.page import TerminalStream  # noqa: PLC0415 - as above

    out = TerminalStream(None, colour=None, width=_columns())
    out.open()
    page = DebugPage(replay, out.width, out.glyphs)
    summary = replay.summary()
    out.write(out.line(page.summary(summary)))
    for step in shown:
        out.write(out.line(page.row(step)))
        if out.stopped:
            return
    for line in page.end(summary):
        out.write(out.line(line))


def _write_step(replay: DebugReplay, number: int) -> None:
    """Write a step and where the session stands after it; 0 is the beginning."""
    from agentkit_reporting.cli.debug_page import DebugPage  # noqa: PLC0415 - not for --help
    from agentkit_reporting.page import TerminalStream  # noqa: PLC0415 - as above

    out = TerminalStream(None, colour=None, width=_columns())
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
        "left_out": list(replay.left_out),
        "other_sessions": list(replay.other_sessions),
    }
    if number is None:
        summary = replay.summary()
        told |= {"steps": [_record(step) for step in shown], "totals": _record(summary.totals)}
        told["summary"] = {
            name: getattr(summary, name)
            for name in ("outcome", "open_runs", "failed_calls", "denied_calls", "failed_requests")
        } | {"duration_ms": summary.duration_ms, "at_the_end": list(summary.at_the_end)}
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
    from agentkit_reporting.cli.reading import tell_of_skipped  # noqa: PLC0415 - not for --help
    from agentkit_reporting.cli.session_table import short_id, tell_of_sessions  # noqa: PLC0415 - as above

    if replay.other_sessions and tells_others:
        kind = "session" if replay.is_event_log else "run"
        mine = short_id(replay.session_id, [each.session_id for each in replay.sessions])
        _whisper(f"{kind} {mine}, which began last, of {len(replay.sessions):,}; for --session:")
        tell_of_sessions(replay.sessions)
    tell_of_skipped(
        replay.bad, replay.bad_count, left_out=replay.left_out, newer_version=replay.newer_version
    )


def _whisper(text: str) -> None:
    from agentkit_reporting.cli.reading import whisper  # noqa: PLC0415 - not for --help

    whisper(text)
