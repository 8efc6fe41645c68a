"""The options of the commands that look for secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.redaction.own_patterns import OwnPattern
from agentkit_reporting.redaction.rule_set import RULE_GROUPS, RULE_NAMES, SECRETS, RuleChoice

_KNOWN = ", ".join((*RULE_GROUPS, *RULE_NAMES))


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--rule` and `--pattern`; see `chosen_rules`."""
    for option in (
        click.option(
            "--pattern",
            "patterns",
            multiple=True,
            metavar="NAME=REGEX",
            help="A pattern of your own; may be given again.",
        ),
        click.option(
            "--rule",
            "rules",
            multiple=True,
            metavar="RULE",
            help=f"Look for this; may be given again. One of {_KNOWN}.  [default: {SECRETS}]",
        ),
    ):
        command = option(command)
    return command


def chosen_rules(rules: tuple[str, ...], patterns: tuple[str, ...]) -> list[RuleChoice]:
    """Return the rules that options name; patterns alone are beside the secret rules."""
    chosen: list[RuleChoice] = list(rules or (SECRETS,))
    for pattern in patterns:
        name, sign, expression = pattern.partition("=")
        if not sign:
            raise ConfigurationError(f"--pattern {pattern!r} refused because it has no name; give NAME=REGEX")
        chosen.append(OwnPattern(name, expression))
    return chosen
