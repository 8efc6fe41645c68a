"""The agent of `agentkit run`, over the files of a directory: its options, its model and key, its tools.

`agentkit resume` goes on with the same one.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.cli.allowance import ALLOWANCE_OPTIONS, allowance, fitting_prompt, system_prompt
from agentkit_reporting.terminal import visible

if TYPE_CHECKING:
    from agentkit_loop.agent import Agent
    from agentkit_loop.models.anthropic import AnthropicModel
    from agentkit_loop.observers import Observer
    from agentkit_loop.price_book import PriceBook
    from agentkit_reporting.cli.run_log import RunLog

DEFAULT_MODEL = "claude-sonnet-5-5"
DEFAULT_LOG_DIRECTORY = "agentkit-logs"

SYSTEM = system_prompt()
"""The system prompt where none is given and nothing is allowed."""

NO_KEY = "no API key; set ANTHROPIC_API_KEY, or give --base-url for a server that needs none"

PLACEHOLDER_KEY = "no-key"
"""Sent to a --base-url where no key is set: the SDK sends no request without one, and local servers ignore it."""

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
_OTHER_CREDENTIALS = ("ANTHROPIC_PROFILE", "ANTHROPIC_CONFIG_DIR", "ANTHROPIC_FEDERATION_RULE_ID")

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--model", default=DEFAULT_MODEL, envvar="AGENTKIT_MODEL", show_default=True, show_envvar=True
    ),
    click.option(
        "--system", default=SYSTEM, metavar="TEXT|@FILE", help="In place of a short one about the files."
    ),
    click.option(
        "--root",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        show_default=True,
        help="What the agent may list, read and search, and nothing outside of it.",
    ),
    *ALLOWANCE_OPTIONS,
    click.option(
        "--base-url",
        metavar="URL",
        envvar="ANTHROPIC_BASE_URL",
        show_envvar=True,
        help="A server that speaks the Messages API: Ollama, vLLM, a gateway. The key goes there, as gateways "
        f"want it; where none is set, the word {PLACEHOLDER_KEY}.",
    ),
    click.option("--max-tokens", type=click.IntRange(min=1), help="Bound of each answer of the model."),
    click.option(
        "--timeout", "timeout_s", type=float, metavar="SECONDS", help="Longest silence of the server."
    ),
)


def agent_options(command: Any) -> Any:
    """Give a command the options of the agent; they are in the keywords of the same names."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def file_agent(
    model: AnthropicModel,
    options: dict[str, Any],
    *,
    observers: Iterable[Observer],
    prices: PriceBook,
    log: RunLog | None,
    system: str | None,
    leave_open: bool = False,
) -> Agent:
    """Return the agent that the options describe.

    log: where its run is written, out of its own reach. leave_open: what waits for an approval where there is
    no terminal to ask on; else it is denied.
    """
    from agentkit_loop.agent import Agent  # noqa: PLC0415 - not for --help
    from agentkit_loop.file_viewing import file_tools  # noqa: PLC0415 - as above
    from agentkit_reporting.cli.run_log import hidden_logs  # noqa: PLC0415 - as above

    root = options["root"]
    hidden = hidden_logs(root, log, _default_places())
    allowed = allowance(options, hidden=hidden, leave_open=leave_open, may_leave=log is not None)
    allows = {name: options[name] for name in ("allow_write", "allow_command")}
    return Agent(
        model,
        tools=(*file_tools(root, hidden=hidden), *allowed.tools),
        system=fitting_prompt(system, **allows),
        observers=observers,
        prices=prices,
        approve=allowed.approve,
        permissions=allowed.permissions,
    )


def system_text(given: str) -> str | None:
    """Return the system prompt that an option gives, as it is or by its file; raises ConfigurationError."""
    if not given.startswith("@"):
        return given or None
    try:
        return Path(given[1:]).read_text(encoding="utf-8") or None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigurationError(
            f"--system {given!r} refused because of its file: {reason.lower()}; give another"
        ) from error


def _default_places() -> tuple[str, ...]:
    """Return the directories where logs go by default; earlier runs may have left some in either."""
    return DEFAULT_LOG_DIRECTORY, os.environ.get("AGENTKIT_LOG_DIR") or DEFAULT_LOG_DIRECTORY


def model_of(context: click.Context, options: dict[str, Any]) -> AnthropicModel:
    """Return the model that the options name; raises ConfigurationError, also where no key is found."""
    from agentkit_loop.models.anthropic import AnthropicModel  # noqa: PLC0415 - not for --help

    base_url, timeout_s = options["base_url"], options["timeout_s"]
    if timeout_s is not None and not 0 < timeout_s < math.inf:
        raise ConfigurationError(f"--timeout {timeout_s!r} refused; give seconds above 0")
    if base_url is not None and not (base_url.startswith(("http://", "https://")) and _host(base_url)):
        raise ConfigurationError(
            f"--base-url {base_url!r} refused; give one such as 'http://localhost:11434'"
        )
    api_key = None
    if not _finds_credentials():
        if base_url is None or _is_the_providers(_host(base_url)):
            raise ConfigurationError(NO_KEY)
        api_key = PLACEHOLDER_KEY
    elif context.get_parameter_source("base_url") is click.core.ParameterSource.COMMANDLINE:
        _tell_where_the_key_goes(_host(base_url))
    given = {} if options["max_tokens"] is None else {"max_tokens": options["max_tokens"]}
    return AnthropicModel(options["model"], api_key=api_key, base_url=base_url, timeout_s=timeout_s, **given)


def _finds_credentials() -> bool:
    """Whether the SDK would find something; its order of search, without the seconds that its import takes."""
    if any(os.environ.get(name, "").strip() for name in (*_KEYS, *_OTHER_CREDENTIALS)):
        return True
    headers = os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").lower()
    if "authorization:" in headers or "x-api-key:" in headers:
        return True
    try:
        profiles = Path.home() / ".config" / "anthropic"
    except RuntimeError:  # a user without a home
        return False
    return (profiles / "active_config").is_file() or (profiles / "configs" / "default.json").is_file()


def _tell_where_the_key_goes(host: str) -> None:
    """Say so where it goes to another machine, which is not the provider's."""
    key = next((name for name in _KEYS if os.environ.get(name, "").strip()), None)
    near = host in ("localhost", "::1") or host.startswith("127.") or _is_the_providers(host)
    if key is not None and not near:
        click.echo(f"agentkit: {key} goes to {visible(host)}; unset it to send none", err=True)


def _host(base_url: str) -> str:
    with contextlib.suppress(ValueError):  # the request will say what is wrong with it
        return urlsplit(base_url).hostname or ""
    return ""


def _is_the_providers(host: str) -> bool:
    return host == "anthropic.com" or host.endswith(".anthropic.com")
