"""What is wrong in a configuration: every fault with its file and line, told together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import safe_repr
from agentkit_reporting.redaction.rule_set import secret_rules
from agentkit_reporting.terminal import visible
from agentkit_reporting.toml_source import Keys, TomlSource

__all__ = ["ConfigurationFault", "FaultList", "InvalidConfigurationError", "holds_secret", "name_of", "shown"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")  # what TOML takes as a key without quotes
_MOST_SHOWN = 60  # characters of a refused value


@attrs.frozen
class ConfigurationFault:
    """One fault. place: `FILE:LINE`, a file, or empty. key: its whole name, or that of an environment variable."""

    place: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class InvalidConfigurationError(ConfigurationError):
    """A configuration is refused. faults: all that is wrong, in the order of the file; its text has them all."""

    def __init__(self, faults: Sequence[ConfigurationFault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[type[InvalidConfigurationError], tuple[tuple[ConfigurationFault, ...]]]:
        return type(self), (self.faults,)


class FaultList:
    """Gathers faults. source: the file, None for none. prefix: the tables around the configuration in it."""

    def __init__(self, source: TomlSource | None, prefix: Keys = ()) -> None:
        self._source = source
        self._prefix = prefix
        self._faults: list[ConfigurationFault] = []
        self._at: set[Keys] = set()

    def add(self, keys: Keys, text: str) -> None:
        """Note what is wrong at a key; a key that has a fault gets no second one."""
        if keys in self._at:
            return
        self._at.add(keys)
        line = self.line_of(keys)
        name = "" if self._source is None else self._source.path
        place = f"{name}:{line}" if line else name
        self._faults.append(ConfigurationFault(place, line, name_of(keys), visible(text)))

    def add_variable(self, variable: str, text: str) -> None:
        """Note what is wrong with an environment variable, or an argument."""
        self._faults.append(ConfigurationFault("", 0, variable, visible(text)))

    def line_of(self, keys: Keys) -> int:
        """Return the line of a key, or of the nearest table around it that is there; 0 without a file."""
        if self._source is None:
            return 0
        places = self._source.places()
        for end in range(len(keys), -1, -1):
            line = places.get((*self._prefix, *keys[:end]), 0)
            if line:
                return line
        return 0

    def has_any(self, *sections: Keys) -> bool:
        """Whether there is a fault in one of these keys or tables."""
        return any(keys[: len(section)] == section for keys in self._at for section in sections)

    def raise_all(self) -> None:
        """Raise InvalidConfigurationError where anything is wrong."""
        if self._faults:
            raise InvalidConfigurationError(sorted(self._faults, key=lambda fault: fault.line))


def holds_secret(text: str) -> bool:
    """Whether a text looks as if a secret stood in it."""
    return bool(secret_rules().spans(text))


def name_of(keys: Keys) -> str:
    """Return the whole name of a key, as it is told; a name that looks like a secret is none."""
    told = ""
    for key in keys:
        if isinstance(key, int):
            told += f"[{key}]"
        else:
            plain = "…" if holds_secret(key) else key
            plain = plain if _BARE.fullmatch(plain) or plain in ("*", "…") else f'"{plain}"'
            told += f".{plain}" if told else plain
    return told


def shown(value: object) -> str:
    """Return a value as a refusal quotes it: bounded, and not at all where it may be a secret."""
    text = safe_repr(value)
    if _any_secret(_texts(value)):
        return "…"
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"


def _any_secret(texts: Iterable[str]) -> bool:
    return any(map(holds_secret, texts))


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield str(name)
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)
