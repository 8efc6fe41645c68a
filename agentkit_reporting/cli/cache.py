"""`agentkit cache`: where the prompt cache was lost, what changed, and what it cost."""

from __future__ import annotations

import sys

import click

from agentkit_reporting.analysis.cache_breaks import CacheBreaks
from agentkit_reporting.analysis.cache_breaks_requests import CacheRequest, total_of
from agentkit_reporting.cli.cache_tables import as_json, as_markdown, as_text, cause_text
from agentkit_reporting.cli.drawing import named
from agentkit_reporting.cli.progress import with_progress
from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.cli.session_option import session_option
from agentkit_reporting.log.read import read_events
from agentkit_reporting.terminal import counted, json_text
from agentkit_reporting.timestamps import utc_text

_MOST_TOLD = 5  # requests above the bound that are named


@click.command("cache")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@session_option()
@click.option("--all", "show_all", is_flag=True, help="Every request of every session, also of long ones.")
@click.option(
    "--max-lost",
    type=click.IntRange(min=0),
    metavar="TOKENS",
    help="Exit 1 where one break or miss lost more tokens than this.",
)
@click.option(
    "--json", "for_programs", is_flag=True, help="Print one JSON object; amounts are strings, exact."
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def command(
    logs: tuple[str, ...],
    *,
    session_id: str | None,
    show_all: bool,
    max_lost: int | None,
    for_programs: bool,
    markdown: bool,
) -> int:
    """Say which requests in LOG… lost the prompt cache, and why: files, directories, globs, or - for stdin.

    A break: the prefix is not that of the request before (tools, system prompt, messages, model, settings), or the
    cache's time to live had passed. Missed: the prefix matched, and less was read than the cache held. Lost are the
    tokens that were paid for again; the cost is what that came to above reading them from the cache, by the rates in
    the log. What is not known is a question mark, never zero.
    """
    if for_programs and markdown:
        raise click.UsageError("--json and --markdown exclude each other; give one of them")
    breaks = CacheBreaks()
    reader = read_events(list(logs))
    for event in with_progress(reader):
        breaks.handle_event(event)
    tell_of_bad_lines(reader)
    # All are read, since a fork goes on from another session.
    sessions = [
        each for each in breaks.sessions() if session_id is None or each.session_id.endswith(session_id)
    ]
    if not sessions:
        of_session = "" if session_id is None else f" of a session that ends with {session_id}"
        whisper(f"no request{of_session} in {', '.join(logs)}; give a log of a run that asked a model")
        return 1
    if for_programs:
        sys.stdout.write(json_text(as_json(sessions)) + "\n")
    elif markdown:
        sys.stdout.write(as_markdown(sessions, show_all=show_all))
    else:
        sys.stdout.write(as_text(sessions, show_all=show_all))
    if max_lost is None:
        return 0
    unknown = total_of(sessions).lost_unknown
    if unknown:
        whisper(
            f"{counted(unknown, 'break')} lost nobody knows how many tokens; --max-lost does not count them"
        )
    found = [
        (request, each.agent)
        for each in sessions
        for request in each.requests
        if request.causes and (request.lost_tokens or 0) > max_lost
    ]
    for request, agent in found[:_MOST_TOLD]:
        whisper(_above(request, agent, max_lost))
    if len(found) > _MOST_TOLD:
        whisper(f"and {len(found) - _MOST_TOLD:,} more above --max-lost {max_lost:,}")
    return int(bool(found))


def _above(request: CacheRequest, agent: str, most: int) -> str:
    """Say which request lost more than it may, and why."""
    where = f"{named(request.session_id)} {named(request.turn_id or '-')} {named(request.request_id)}"
    causes = "; ".join(map(cause_text, request.causes))
    lost = f"{request.lost_tokens:,} tokens lost, above --max-lost {most:,}"
    return f"{where} ({named(agent, 24)}, {utc_text(request.timestamp)}): {lost}: {causes}"
