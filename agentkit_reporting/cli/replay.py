"""`agentkit replay`: run a recorded session again, without a network, and see whether it is the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.cli.reading import KeptEvents, in_words_of_options, tell_of_bad_lines, whisper
from agentkit_reporting.cli.session_option import session_option
from agentkit_reporting.log.read import read_events
from agentkit_reporting.terminal import visible

if TYPE_CHECKING:
    from agentkit_loop.recordings import Recording
    from agentkit_loop.replaying import ReplayResult


@click.command("replay")
@click.argument("log", metavar="LOG")
@click.option(
    "--agent",
    "named",
    metavar="MODULE:NAME",
    help="What ran: its system prompt, tools, limits and so on are compared too. Default: rebuilt from the log.",
)
@click.option(
    "--live-tools",
    is_flag=True,
    help="Run the tools of --agent again, with all that they do; the first result that differs is shown.",
)
@session_option("Which session, where the log holds several; the end of an id is enough.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def command(log: str, *, named: str | None, live_tools: bool, session_id: str | None, as_json: bool) -> int:
    """Run the session in LOG again: the model and the tools answer as they did, and no network is used.

    What the loop makes of that is compared with what was recorded, event by event and request by request.

    Exit 0 if all is equal, 1 at the first difference, which is shown with both values, or where there is no such
    session, 2 for wrong usage or a log that is not whole.
    """
    from agentkit_loop.recordings import read_recording  # noqa: PLC0415 - not for --help
    from agentkit_loop.replaying import replay  # noqa: PLC0415 - as above

    if live_tools and named is None:
        raise ConfigurationError("--live-tools refused without --agent; give the agent that has the tools")
    reader = read_events(log)
    events = KeptEvents(reader)
    meant = events.session_of(session_id)
    if events.is_empty or (meant is not None and not events.holds(meant)):
        tell_of_bad_lines(reader)
        whisper(
            f"no event in {log}; give the log of a run"
            if events.is_empty
            else f"no event of session {session_id} in {log}; give the end of an id that is in it"
        )
        return 1
    with in_words_of_options():
        recording = read_recording(events, session_id=meant)
    tell_of_bad_lines(reader)
    if named is None:
        agent = None
    else:
        from agentkit_reporting.cli.agents import agent_of  # noqa: PLC0415 - not for --help

        agent = agent_of(named)
    result = replay(agent, recording, live_tools=live_tools)
    if as_json:
        click.echo(json.dumps(_record(result, recording)))  # ASCII: nothing in it reaches a terminal
    elif result.mismatch is not None:
        click.echo(visible(str(result.mismatch)))
    else:
        click.echo(f"equal: {_counted(len(result.events), 'event')} of {visible(result.session_id)}")
    return int(result.mismatch is not None)


def _record(result: ReplayResult, recording: Recording) -> dict[str, Any]:
    """Return what --json writes. events: told by the replay; recorded: in the log."""
    found = result.mismatch
    return {
        "session_id": result.session_id,
        "equal": result.is_equal,
        "events": len(result.events),
        "recorded": recording.told_count,
        "difference": None
        if found is None
        else {"path": found.path, "recorded": found.recorded, "now": found.now},
    }


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
