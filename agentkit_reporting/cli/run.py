"""`agentkit run`: a real agent over the files of a directory.

What it is made of is in file_agent.py, how its answer is told in answering.py.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentkit_loop.errors import ConfigurationError, ModelError
from agentkit_reporting.cli.answering import answer_options
from agentkit_reporting.cli.file_agent import DEFAULT_LOG_DIRECTORY, agent_options

if TYPE_CHECKING:
    from agentkit_loop.driver import LoopDriver
    from agentkit_loop.steps import RunResult
    from agentkit_reporting.cli.run_log import RunLog


@click.command("run")
@click.argument("prompt", metavar="PROMPT|-")
@agent_options
@click.option(
    "--log",
    metavar="PATH",
    help="A file, or a directory (one that exists, or with a / at its end) for a file each session. Out of "
    f"the agent's reach.  [default: the directory AGENTKIT_LOG_DIR, or {DEFAULT_LOG_DIRECTORY}/]",
)
@click.option("--no-log", is_flag=True, help="Write no log.")
@answer_options
@click.pass_context
def command(context: click.Context, /, *, prompt: str, **options: Any) -> int:
    """Ask an agent that can list, read and search files; PROMPT - is read from stdin.

    On a terminal the run is shown as it goes; elsewhere stdout gets the answer alone. The key is
    ANTHROPIC_API_KEY, or what else the provider's SDK finds.

    With --allow-write and --allow-command it can also change files and run commands: each call is shown on the
    terminal and waits for a yes, a no, or to be left open for `agentkit resume`. Without a terminal it is
    denied, and the run goes on.

    Files that may hold secrets (.env, *.pem, *.key, .ssh and the like) are named and never read or changed by
    the tools for files.

    Exit 0 for a whole answer, 1 for a failure or an answer that was cut or refused, 2 for wrong usage or no
    key, 130 after Ctrl-C, which ends the run; a second one ends the program at once.
    """
    from agentkit_reporting.cli.answering import Answering  # noqa: PLC0415 - not for --help
    from agentkit_reporting.cli.file_agent import file_agent, model_of, system_text  # noqa: PLC0415 - as above

    asked, system = prompt_of(prompt), system_text(options["system"])
    model = model_of(context, options)
    log = _log(options["log"], no_log=options["no_log"])
    answering = Answering(options, log)
    agent = file_agent(
        model, options, observers=answering.observers, prices=answering.prices, log=log, system=system
    )
    if log is not None:
        log.try_it()

    def drive(driver: LoopDriver) -> RunResult:
        with contextlib.nullcontext() if log is None else log.held(driver.session_id):
            return driver.run(asked)

    with contextlib.closing(model):
        outcome = answering.run(agent, agent.start, drive)
    if isinstance(outcome.error, ModelError) and context.obj:  # --debug
        raise outcome.error
    return outcome.exit_code


def prompt_of(given: str) -> str:
    """Return the prompt that an argument gives, `-` on stdin; raises ConfigurationError."""
    if given != "-":
        text = given
    elif sys.stdin is None:
        raise ConfigurationError("prompt - refused while stdin is closed; pipe one in")
    else:
        if sys.stdin.isatty():
            click.echo("agentkit: type the prompt, then Ctrl-D", err=True)
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not text.strip():
        raise ConfigurationError("empty prompt refused; give one, or - with one on stdin")
    return text


def _log(path: str | None, *, no_log: bool) -> RunLog | None:
    """Return the log; raises LogError for a path that cannot work."""
    from agentkit_reporting.cli.run_log import RunLog  # noqa: PLC0415 - not for --help

    if no_log:
        if path is not None:
            raise ConfigurationError("--log refused beside --no-log; give one of them")
        return None
    from agentkit_reporting.configuration.environment import DISABLED, is_disabled  # noqa: PLC0415 - as above

    disabled = is_disabled(os.environ)
    if path is None:
        from agentkit_reporting.cli.reading import whisper  # noqa: PLC0415 - as above

        if disabled:
            whisper(f"no log is written, since {DISABLED} is set; --log PATH writes one")
            return None
        named = os.environ.get("AGENTKIT_LOG_DIR")
        return RunLog(named or DEFAULT_LOG_DIRECTORY, per_session=True, is_default=not named)
    if path == "-":
        raise ConfigurationError("--log - refused because stdout has the answer; give a file or a directory")
    return RunLog(path, per_session=path.endswith("/") or Path(path).is_dir())
