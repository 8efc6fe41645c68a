"""Rules in a TOML file: `[[rules]]` tables, all that is wrong with them told at once, each with its line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.alerts.rule import AlertRule, Problem, parsed_rule
from agentkit_reporting.terminal import counted, one_line
from agentkit_reporting.toml_source import TomlSource, nearest, read_toml

__all__ = ["AlertRulesError", "read_alert_rules"]

MOST_RULES = 200
"""Of one file."""

_MOST_TOLD = 20  # problems; each takes a look for its line


class AlertRulesError(ConfigurationError):
    """A file of rules was refused. problems: each a sentence with file and line, in the order of the file."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def read_alert_rules(path: str | os.PathLike[str]) -> tuple[AlertRule, ...]:
    """Return the rules of a TOML file, in order.

    Raises ConfigurationError for what is no TOML, AlertRulesError, which is one, for rules that are wrong.
    """
    source = read_toml(path)
    problems = [
        ((key,), f"unknown key {one_line(repr(key), 60)} refused; {nearest(key, ['rules'])}")
        for key in source.values
        if key != "rules"
    ]
    tables = source.values.get("rules", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append((("rules",), "rules refused; begin each with a line [[rules]]"))
    elif not tables or len(tables) > MOST_RULES:
        asked = "give one, under a line [[rules]]" if not tables else f"give at most {MOST_RULES}"
        problems.append((("rules",), f"a file of {counted(len(tables), 'rule')} refused; {asked}"))
    if problems:
        raise AlertRulesError(_placed(source, problems))
    return _rules(source, tables)


def _rules(source: TomlSource, tables: list[dict[str, Any]]) -> tuple[AlertRule, ...]:
    rules: list[AlertRule] = []
    problems: list[tuple[tuple[str | int, ...], str]] = []
    names: dict[str, int] = {}
    for place, table in enumerate(tables):
        fields, found = parsed_rule(table)
        if not found and fields["name"] in names:
            found = [_twice(source, fields["name"], names[fields["name"]], has_name="name" in table)]
        problems += [(("rules", place, key) if key else ("rules", place), reason) for key, reason in found]
        if not found:
            names[fields["name"]] = place
            rules.append(AlertRule.of_fields(fields))
    if problems:
        raise AlertRulesError(_placed(source, problems))
    return tuple(rules)


def _twice(source: TomlSource, name: str, first: int, *, has_name: bool) -> Problem:
    line = source.line_of("rules", first)
    return (
        "name" if has_name else "",
        f"name {one_line(repr(name), 60)} refused because the rule of line {line} has it; give another",
    )


def _line_of(source: TomlSource, keys: tuple[Any, ...]) -> int:
    """Return the line of a key, or of what is around it."""
    while keys and not (line := source.line_of(*keys)):
        keys = keys[:-1]
    return line if keys else 0


def _placed(source: TomlSource, problems: list[tuple[tuple[Any, ...], str]]) -> list[str]:
    """Return the sentences with their places, in the order of the file; of very many the first."""
    placed = []
    for keys, reason in sorted(problems, key=lambda problem: _line_of(source, problem[0]))[:_MOST_TOLD]:
        try:
            source.refuse(reason, *keys)
        except ConfigurationError as error:
            placed.append(str(error))
    if len(problems) > _MOST_TOLD:
        placed.append(f"{source.path}: {counted(len(problems) - _MOST_TOLD, 'more fault')}")
    return placed
