"""A TOML file with the places of its keys, so that what is wrong in it can be said with its line.

TOML is read by the standard library, which keeps no places: the line of a key is found by reading beginnings of
the file, the shortest that has the key being looked for by halves. That is done only to say what is wrong.
"""

from __future__ import annotations

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
        if not _has(self.values, keys):
            return 0
        without, having = (
            0,
            len(self._lines),
        )  # beginnings, in lines, that are TOML: the longest, and the shortest
        while True:
            middle = (without + having) // 2
            for count in (*range(middle, having), *range(middle - 1, without, -1)):
                values = self._beginning(count) if count > without else None
                if values is not None:
                    break
            else:
                return self._first_said(without, having)
            without, having = (without, count) if _has(values, keys) else (count, having)

    def _beginning(self, count: int) -> dict[str, Any] | None:
        """Return what the first lines say; None where they are no TOML, as in the midst of a value."""
        try:
            return tomllib.loads("".join(self._lines[:count]))
        except tomllib.TOMLDecodeError:
            return None

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
