"""The command line: `agentkit COMMAND`.

Data goes to stdout, chatter to stderr. Exit 0 ok, 1 a check failed, 2 usage, 130 interrupted; a closed pipe
is quiet. Commands import what they need when they run, so that `agentkit --help` stays quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, NoReturn

import click

from agentkit_loop.errors import AgentKitError

_COMMANDS = {
    name: name
    for name in (
        "cache",
        "check",
        "config",
        "cost",
        "debug",
        "demo",
        "diff",
        "export",
        "replay",
        "report",
        "resume",
        "run",
        "scan",
        "schema",
        "scrub",
        "show",
        "time",
        "wire",
    )
}
"""Command: the module of this package that has it, as `command`."""


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        from importlib import import_module  # noqa: PLC0415 - only when a command runs

        found: click.Command = import_module(f"agentkit_reporting.cli.{_COMMANDS[cmd_name]}").command
        return found


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="agentkit-loop", prog_name="agentkit")
@click.pass_context
def agentkit(context: click.Context, *, debug: bool) -> None:
    """Run agents that tell everything they do, and look at what they told."""
    context.obj = debug


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; the console script `agentkit`."""
    given, stdout = sys.argv[1:] if arguments is None else arguments, sys.stdout
    try:
        code: Any = agentkit.main(given, prog_name="agentkit", standalone_mode=False)
        if sys.stdout is not None:  # it is None where the program was started with it closed
            sys.stdout.flush()
    except click.ClickException as error:
        _show_refusal(error)
        raise SystemExit(error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        raise SystemExit(130) from None
    except (BrokenPipeError, SystemExit) as error:
        # click exits by itself for nothing but a closed pipe, and gives sys.stdout another object before; to us
        # that is the reader's choice.
        if isinstance(error, SystemExit) and sys.stdout is stdout:
            _say(f"what the agent ran ended the program (SystemExit: {error}); let the tool return instead")
            raise SystemExit(1) from None
        _forget_stdout()
        code = getattr(error, "code", 0) if isinstance(error, BrokenPipeError) else 0
        raise SystemExit(code) from None
    except OSError as error:
        if "--debug" in given:
            _show_traceback(error)
        _say(f"cannot write the output: {error.strerror or _text_of(error)}")
        _forget_stdout()
        raise SystemExit(1) from None
    except AgentKitError as error:
        if "--debug" in given:
            _show_traceback(error)
        _say(_text_of(error))
        raise SystemExit(2) from None
    except Exception as error:  # noqa: BLE001 - a fault of ours is shown whole, but what it quotes controls nothing
        _show_traceback(error)
    raise SystemExit(code if isinstance(code, int) else 0)


def _show_refusal(error: click.ClickException) -> None:
    """Say what is wrong with the command line; visibly, since a shell's pattern may give hostile names of files."""
    import io  # noqa: PLC0415 - only for an error

    from agentkit_reporting.terminal import visible  # noqa: PLC0415 - as above

    said = io.StringIO()
    error.show(said)
    with contextlib.suppress(OSError):
        sys.stderr.write(visible(said.getvalue()))


def _show_traceback(error: Exception) -> NoReturn:
    """Write a traceback as Python does, with everything visible that the error quotes, and exit."""
    import traceback  # noqa: PLC0415 - only for an error

    from agentkit_reporting.terminal import visible  # noqa: PLC0415 - as above

    with contextlib.suppress(OSError):
        sys.stderr.write(visible("".join(traceback.format_exception(error))))
    raise SystemExit(1) from None


def _text_of(error: Exception) -> str:
    from agentkit_loop.usage import error_text  # noqa: PLC0415 - only for an error

    return error_text(error)


def _say(text: str) -> None:
    from agentkit_reporting.terminal import visible  # noqa: PLC0415 - only for an error

    with contextlib.suppress(OSError):
        sys.stderr.write(f"agentkit: {' '.join(visible(text).split())}\n")


def _forget_stdout() -> None:
    """Point stdout nowhere, so that nothing is said of the closed pipe at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
