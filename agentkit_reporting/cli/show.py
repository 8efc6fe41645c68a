"""`agentkit show`: a log as people read it."""

from __future__ import annotations

import click

from agentkit_reporting.cli.session_option import session_option

_MIN_WIDTH = 20
"""That of StdoutReporter, which is not loaded for a help text."""


@click.command("show")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@session_option()
@click.option("--width", type=click.IntRange(min=_MIN_WIDTH), help="Columns; default: the terminal's.")
@click.option(
    "--colour/--no-colour",
    "colour",
    default=None,
    help="Default: as NO_COLOR, FORCE_COLOR and the terminal say.",
)
@click.option(
    "--reasoning/--no-reasoning", default=True, show_default=True, help="Show the model's reasoning."
)
@click.option("-v", "--verbose", is_flag=True, help="Also turns, requests and the frames of errors.")
@click.option("--strict", is_flag=True, help="Stop at the first bad line.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C; for logs to come, too.")
@click.option("--until-run-end", is_flag=True, help="Follow, and stop when the run is over.")
def command(
    logs: tuple[str, ...],
    *,
    session_id: str | None,
    width: int | None,
    colour: bool | None,
    reasoning: bool,
    verbose: bool,
    strict: bool,
    follow: bool,
    until_run_end: bool,
) -> int:
    """Show runs from LOG… as they were on the terminal: files, directories, globs, or - for stdin."""
    from agentkit_reporting.cli.showing import show  # noqa: PLC0415 - not for a help text

    return show(
        logs,
        session_id=session_id,
        width=width,
        colour=colour,
        reasoning=reasoning,
        verbose=verbose,
        strict=strict,
        follow=follow or until_run_end,
        until_run_end=until_run_end,
    )
