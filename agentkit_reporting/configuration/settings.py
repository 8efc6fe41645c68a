"""What holds: an argument before the environment, the environment before the file, the file before a default."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.configuration.environment import content_told, is_disabled
from agentkit_reporting.configuration.faults import FaultList, name_of
from agentkit_reporting.configuration.finding import ConfigurationFile, current_directory
from agentkit_reporting.configuration.keys import KEYS, SUBSCRIBER_KINDS, Key
from agentkit_reporting.configuration.kinds import SWITCH
from agentkit_reporting.configuration.validation import subscriber_kind
from agentkit_reporting.toml_source import Keys

__all__ = ["ARGUMENT", "DEFAULT", "Setting", "Settings"]

_LAST_NAME = re.compile(r'(?:^|\.)(?:"[^"]*"|[^."]+)$')  # as `name_of` writes it
ARGUMENT, DEFAULT = "argument", "default"


@attrs.frozen
class Setting:
    """One value that holds. name: the whole name of its key. origin: `FILE:LINE`, a variable, argument or default."""

    name: str
    value: Any
    origin: str

    @property
    def section(self) -> str:
        """The table that the key is in; empty for the top of the file."""
        return _LAST_NAME.sub("", self.name)


class Settings:
    """Every value that holds, and where it came from.

    file: what was read, None for nothing. arguments: by the name of the key; None is none. faults: gets what is wrong
    with variables and arguments; of keys that have a fault the default holds.
    """

    def __init__(
        self,
        file: ConfigurationFile | None,
        environ: Mapping[str, str],
        arguments: Mapping[str, Any],
        faults: FaultList,
    ) -> None:
        self.file = file
        self.environ = environ
        self._values = {} if file is None else file.values
        self._faults = faults
        self._over: dict[str, Setting] = {}
        for key in KEYS:
            if key.variable is not None:
                self._look_over(key, arguments.get(key.name))

    def _look_over(self, key: Key, argument: Any) -> None:
        """Take note of an argument, or else a variable, that wins over the file."""
        variable = key.variable or ""
        try:
            if argument is not None:
                value = _of_variable(key, {variable: _as_text(argument)})
                origin = ARGUMENT
            else:
                value, origin = _of_variable(key, self.environ), variable
        except ConfigurationError as error:
            text = str(error)
            if argument is not None:
                text = text.replace(f"{variable}=", f"{key.path[-1]}=", 1)
            self._faults.add_variable(variable if argument is None else key.name, text)
            return
        if value is not None:
            self._over[key.name] = Setting(key.name, value, origin)

    # --- single values

    def __getitem__(self, name: str) -> Any:
        return self.setting(name).value

    def setting(self, name: str) -> Setting:
        """Return the value of a key of the table, with its origin."""
        over = self._over.get(name)
        if over is not None:
            return over
        key = _FIXED[name]
        found = self._in_file(key.path)
        if found is None or not key.kind.accepts(found):
            return Setting(name, key.default, DEFAULT)
        value = True if key.kind is SWITCH and isinstance(found, dict) else found
        return Setting(name, value, self.origin(key.path))

    def origin(self, keys: Keys) -> str:
        """Return where a key of the file stands."""
        path = "" if self.file is None else self.file.source.path
        line = self._faults.line_of(keys)
        return f"{path}:{line}" if line else path

    def given(self, section: str, *names: str) -> dict[str, Any]:
        """Return what is set of a section by the names of its keys, without defaults; names: only these."""
        found = {}
        for key in KEYS:
            head, _, name = key.name.rpartition(".")
            if head == section and "*" not in name and (not names or name in names):
                setting = self.setting(key.name)
                if setting.origin != DEFAULT:
                    found[name] = setting.value
        return found

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of the file as it stands there; empty where there is none."""
        found = self._in_file(tuple(name.split(".")))
        return found if isinstance(found, dict) else {}

    def has_table(self, name: str) -> bool:
        """Whether the file has the table, be it an empty one."""
        return isinstance(self._in_file(tuple(name.split("."))), dict)

    def place(self, name: str) -> Path:
        """Return a path as it is meant: one of the file from the file's directory on, another from here."""
        setting = self.setting(name)
        return self.beside(setting.value, is_of_file=setting.origin not in (ARGUMENT, DEFAULT, *_VARIABLES))

    def beside(self, path: str, *, is_of_file: bool = True) -> Path:
        """Return a path that stands in the file, from the file's directory on; as it is where that is this one."""
        plain = Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser() raises where there is no home
        if (
            self.file is None
            or not is_of_file
            or plain.is_absolute()
            or self.file.directory == current_directory()
        ):
            return plain
        return self.file.directory / plain

    def is_on(self, name: str) -> bool:
        """Whether a switch is on: true, or a table."""
        value = self._in_file(tuple(name.split(".")))
        return value is True or isinstance(value, dict)

    def _in_file(self, keys: Keys) -> Any:
        found: Any = self._values
        for name in keys:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    # --- all of them

    def all(self) -> Iterator[Setting]:
        """Iterate over every value that holds, in the order of the table; what the host named where it belongs."""
        told: set[str] = set()
        for key in KEYS:
            section = _host_named(key)
            if section is None:
                yield self.setting(key.name)
            elif section not in told:
                told.add(section)
                yield from self._of_host(section)

    def _of_host(self, section: str) -> Iterator[Setting]:
        for name, value in self.table(section).items():
            keys = (*section.split("."), name)
            if section == "subscribers" and isinstance(value, dict):
                known = {key.name: key for key in SUBSCRIBER_KINDS.get(subscriber_kind(name, value), ())}
                for inner in dict.fromkeys((*value, *known)):
                    yield self._inner((*keys, inner), value, inner, known.get(inner))
            elif section == "policies.observers" and isinstance(value, dict):
                for inner in value:
                    yield self._inner((*keys, inner), value, inner, None)
            else:
                yield Setting(name_of(keys), value, self.origin(keys))

    def _inner(self, keys: Keys, table: dict[str, Any], name: str, key: Key | None) -> Setting:
        if name in table:
            return Setting(name_of(keys), table[name], self.origin(keys))
        return Setting(name_of(keys), None if key is None else key.default, DEFAULT)


_FIXED = {key.name: key for key in KEYS}
_VARIABLES = {key.variable for key in KEYS if key.variable is not None}


def _host_named(key: Key) -> str | None:
    """Return the section in which the host chooses the names, None for a key that has one name."""
    if key.path[0] == "subscribers":
        return "subscribers"
    return key.name.partition(".*")[0] if "*" in key.path else None


def _of_variable(key: Key, environ: Mapping[str, str]) -> Any:
    if key.name == "disabled":
        return is_disabled(environ)
    if key.name == "redaction.content":
        return content_told(environ)
    return environ.get(key.variable or "") or None


def _as_text(argument: Any) -> str:
    return ("1" if argument else "0") if isinstance(argument, bool) else os.fspath(argument)
