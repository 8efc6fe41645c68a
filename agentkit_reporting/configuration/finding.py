"""Where a configuration is read from: an argument, AGENTKIT_CONFIG, ./agentkit.toml, or the nearest pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.configuration.environment import CONFIG
from agentkit_reporting.toml_source import Keys, TomlSource, read_toml

__all__ = ["FILE_NAME", "TABLE", "ConfigurationFile", "current_directory", "find_file"]

FILE_NAME, PROJECT = "agentkit.toml", "pyproject.toml"
TABLE = ("tool", "agentkit")
"""The table of a pyproject.toml that is a configuration."""


@attrs.frozen
class ConfigurationFile:
    """A file that was read. source: its tables and lines. prefix: the tables around ours. directory: that it is in."""

    source: TomlSource
    prefix: Keys
    directory: Path

    @property
    def values(self) -> dict[str, Any]:
        """What is configured; empty where the table is no table, which `table_fault` tells."""
        found = self._table()
        return found if isinstance(found, dict) else {}

    @property
    def is_no_table(self) -> bool:
        """Whether what should be a table is something else."""
        return not isinstance(self._table(), dict)

    def _table(self) -> Any:
        found: Any = self.source.values
        for name in self.prefix:
            found = found.get(name, {}) if isinstance(found, dict) else found
        return found


def find_file(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> ConfigurationFile | None:
    """Return the file that holds; None where there is none. Raises ConfigurationError for one that cannot be read."""
    if path is not None:
        return _read(Path(path), "")
    named = environ.get(CONFIG, "")
    if named:
        return _read(Path(named), f" ({CONFIG})")
    if os.path.lexists(FILE_NAME):
        return _read(Path(FILE_NAME), "")
    here = current_directory()
    if here is None:
        return None
    for directory in (here, *here.parents):
        found = _of_project(directory / PROJECT, here)
        if found is not None:
            return found
    return None


def current_directory() -> Path | None:
    """Return the directory that the process is in; None where somebody removed it."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _read(path: Path, told_by: str) -> ConfigurationFile:
    try:
        source = read_toml(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}{told_by}") from None
    prefix = TABLE if path.name == PROJECT else ()
    if prefix and not _has_table(source.values):
        raise ConfigurationError(
            f"{source.path}: refused because it has no table [{'.'.join(TABLE)}]; add it, or give another file"
        )
    here = path.parent if path.is_absolute() else (current_directory() or Path()) / path.parent
    return ConfigurationFile(source, prefix, here)


def _of_project(path: Path, here: Path) -> ConfigurationFile | None:
    """Return the configuration of a pyproject.toml; None where that says nothing of us, or is broken elsewhere."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if TABLE[1].encode() not in content:
        return None
    name = os.path.relpath(path, here)
    try:
        source = read_toml(name)
    except ConfigurationError:
        if b"[tool.agentkit" in content:
            raise
        return None
    if not _has_table(source.values):
        return None
    return ConfigurationFile(source, TABLE, path.parent)


def _has_table(values: dict[str, Any]) -> bool:
    tools = values.get(TABLE[0])
    return isinstance(tools, dict) and TABLE[1] in tools
