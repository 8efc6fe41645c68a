"""A TOML file with the places of its keys, so that what is wrong in it can be said with its line.

TOML is read by the standard library, which keeps no places: the line of a key is found by reading the file's
beginnings, line by line, until the key is there. That is done only to say what is wrong.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.terminal import visible

__all__ = ["TomlSource", "nearest", "read_toml"]

MAX_BYTES = 2**20
"""A longer file is refused: nobody wrote it by hand."""


class TomlSource:
    """The tables of a TOML file. path: where it stands, as it is named in messages. values: as `tomllib` gives them."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._lines = text.splitlines(keepends=True)
        try:
            self.values: dict[str, Any] = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigurationError(f"{path}: not TOML: {visible(str(error))}") from None

    def line_of(self, *keys: str | int) -> int:
        """Return the line, from 1, on which a key or a table begins, given as the way to it; 0 for what is not there.

        A number stands for a place in an array, from 0.
        """
        whole = 0  # lines of the longest beginning that is TOML and has no such key
        for count in range(1, len(self._lines) + 1):
            with contextlib.suppress(tomllib.TOMLDecodeError):
                if _has(tomllib.loads("".join(self._lines[:count])), keys):
                    return self._first_said(whole, count)
                whole = count
        return 0

    def _first_said(self, whole: int, count: int) -> int:
        """Return the first line after the `whole` ones that says something."""
        said = (n for n in range(whole, count) if self._lines[n].strip() and self._lines[n].strip()[0] != "#")
        return next(said, whole) + 1

    def refuse(self, reason: str, *keys: str | int) -> NoReturn:
        """Raise ConfigurationError that names the file, the line of a key or of what is around it, and why."""
        line = 0
        while keys and not line:
            line = self.line_of(*keys)
            keys = keys[:-1]
        place = f"{self.path}:{line}" if line else self.path
        raise ConfigurationError(f"{place}: {reason}")


def read_toml(path: str | os.PathLike[str]) -> TomlSource:
    """Read a TOML file; raises ConfigurationError for one that cannot be read, or is none."""
    name = visible(os.fspath(path))
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{name}: cannot be read: {error.strerror or error}; check the path"
        ) from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(
            f"{name}: refused because it is longer than {MAX_BYTES:,} bytes; give a TOML file"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    return TomlSource(name, text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that refuses a name: which one was meant, or else which there are."""
    names = sorted(known)
    found = difflib.get_close_matches(name, names, n=1)
    if found:
        return f"did you mean {found[0]!r}?"
    return f"known: {', '.join(names)}"


def _has(values: Any, keys: tuple[str | int, ...]) -> bool:
    for key in keys:
        if isinstance(key, int):
            if not isinstance(values, list) or not key < len(values):
                return False
            values = values[key]
        else:
            if not isinstance(values, dict) or key not in values:
                return False
            values = values[key]
    return True
