"""An agent that a command is given by name: `MODULE:NAME`, found from the directory where the command runs."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.usage import error_text

if TYPE_CHECKING:
    from agentkit_loop.agent import Agent


def agent_of(named: str) -> Agent:
    """Return the agent that a name stands for: an Agent, or a function without arguments that makes one.

    The module is imported, so what stands in it runs. Raises ConfigurationError.
    """
    from agentkit_loop.agent import Agent  # noqa: PLC0415 - not for --help

    module_name, _, name = named.partition(":")
    if not module_name or not name:
        raise ConfigurationError(f"--agent {named!r} refused; give MODULE:NAME, as in 'app.agents:fixer'")
    here = os.getcwd()  # noqa: PTH109 - as sys.path has it
    if here not in sys.path:
        sys.path.insert(0, here)
    with _refused(named, "its import raised"):
        module = importlib.import_module(module_name)
    found = getattr(module, name, None)
    if not isinstance(found, Agent) and callable(found):
        with _refused(named, f"{name}() raised"):
            found = found()
    if not isinstance(found, Agent):
        raise ConfigurationError(
            f"--agent {named!r} refused because {name!r} is no Agent there; give the name of one, or of a "
            "function that makes one"
        )
    return found


@contextlib.contextmanager
def _refused(named: str, what: str) -> Iterator[None]:
    """Make one sentence of whatever somebody's module raises, also where it ends the program, as a script does."""
    try:
        yield
    except (Exception, SystemExit) as error:
        said = " ".join(f"{type(error).__name__}: {error_text(error)}".split())
        raise ConfigurationError(
            f"--agent {named!r} refused because {what} {said}; --debug shows where"
        ) from error
