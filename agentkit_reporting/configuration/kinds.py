"""What the value of a key may be, and what is said of another.

Each kind is a test and the end of the sentence that refuses: `…; give a number of at least 1`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import attrs

from agentkit_reporting.toml_source import nearest

__all__ = [
    "AMOUNT",
    "AMOUNT_OR_ZERO",
    "ANYTHING",
    "COUNT",
    "COUNT_OR_ZERO",
    "FILE",
    "FLAG",
    "PATTERN",
    "PORT",
    "RULES_FILE",
    "SWITCH",
    "TEXT",
    "TEXTS",
    "VARIABLE",
    "Kind",
    "choice",
]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_MAX_PORT = 65_535


@attrs.frozen
class Kind:
    """One kind of values. wanted: what would work, as a sentence ends. choices: the words, where there are only some.

    hides: whether a refused value is not shown, since it may be a secret in the wrong place. switches: whether it may
    be a switch, so that a word for one was meant as true or false.
    """

    wanted: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    hides: bool = False
    switches: bool = False

    def remedy(self, value: object) -> str:
        """Return what would work in place of a refused value."""
        if self.choices and isinstance(value, str):
            return nearest(value, self.choices)
        if self.switches and isinstance(value, str) and (meant := _switch_of(value)) is not None:
            return f"give {'true' if meant else 'false'} without quotes"
        return self.wanted


def choice(*words: str) -> Kind:
    """Return the kind of a word out of a few."""
    return Kind(f"use {' or '.join(map(repr, words))}", lambda value: value in words, words)


def kind_of(value: object) -> str:
    """Return what a TOML value is, as a part of a sentence."""
    if isinstance(value, bool):
        return "true" if value else "false"
    for types, word in _WORDS:
        if isinstance(value, types):
            return word
    return "a date or time"


_WORDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((int, float), "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a table"),
)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_pattern(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_text(value.get("pattern")) and set(value) <= {"pattern", "longest", "begins"}
    return _is_text(value)


_ON_WORDS = frozenset({"true", "yes", "on", "y", "1", "enabled", "enable"})
_OFF_WORDS = frozenset({"false", "no", "off", "n", "0", "disabled", "disable", "none"})


def _switch_of(text: str) -> bool | None:
    """Return what a word for a switch says, None for another text."""
    word = text.strip().lower()
    return word in _ON_WORDS if word in _ON_WORDS | _OFF_WORDS else None


FLAG = Kind("give true or false", lambda value: isinstance(value, bool), switches=True)
COUNT = Kind("give a whole number of at least 1", lambda value: _is_count(value) and value >= 1)
COUNT_OR_ZERO = Kind("give a whole number of at least 0", lambda value: _is_count(value) and value >= 0)
AMOUNT = Kind("give a number above 0", lambda value: _is_number(value) and value > 0)
AMOUNT_OR_ZERO = Kind("give a number of at least 0", lambda value: _is_number(value) and value >= 0)
PORT = Kind(
    "give a port from 0 (any that is free) to 65535",
    lambda value: _is_count(value) and 0 <= value <= _MAX_PORT,
)
TEXT = Kind("give text that is not empty", _is_text)
RULES_FILE = Kind("give the name of a file of tables [[rules]]", _is_text)
TEXTS = Kind('give a list of texts, as in ["one", "two"]', _is_texts)
FILE = Kind(
    "give the name of a file, true for the usual one, or false for none",
    lambda value: isinstance(value, bool) or (_is_text(value) and _switch_of(value) is None),
    switches=True,
)
SWITCH = Kind(
    "give true, false or a table of its settings",
    lambda value: isinstance(value, (bool, dict)),
    switches=True,
)
VARIABLE = Kind(
    "give the name of an environment variable, as in 'SLACK_WEBHOOK'; what is secret stays out of the file",
    lambda value: isinstance(value, str) and _VARIABLE.fullmatch(value) is not None,
    hides=True,
)
PATTERN = Kind(
    'give a regular expression, or { pattern = "…", longest = 400, begins = "…" }',
    _is_pattern,
)
ANYTHING = Kind("give a value", lambda value: value is not None)
