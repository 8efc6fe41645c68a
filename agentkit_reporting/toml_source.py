"""A TOML file with the places of its keys, so that what is wrong in it can be said with its line.

TOML is read by the standard library, which keeps no places: the lines are found by reading the file's statements
one by one. That is done only to say where something is.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.terminal import visible

__all__ = ["Keys", "TomlSource", "nearest", "read_toml"]

Keys: TypeAlias = tuple[str | int, ...]
"""The way to a value: names of keys, and numbers of places in arrays, from 0."""

MAX_BYTES = 2**20
"""A longer file is refused: nobody wrote it by hand."""

MAX_DEPTH = 50
"""Of tables and arrays in each other; what looks through values goes as deep, and a stack ends."""

_TOKEN = re.compile(
    r"""(?P<comment>\#.*)|(?P<long>\"{3}|'{3})|\"(?:[^"\\]|\\.)*\"|'[^']*'|(?P<open>[\[{])|(?P<close>[\]}])"""
)
_ENDS_LONG = {
    '"""': re.compile(r'(?:[^"\\]|\\.|\\$|"{1,2}(?!"))*"{3,5}'),
    "'''": re.compile(r"(?:[^']|'{1,2}(?!'))*'{3,5}"),
}
"""What is left of a text of several lines, up to its end."""


class TomlSource:
    """The tables of a TOML file. path: where it stands, as it is named in messages. values: as `tomllib` gives them."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._lines = text.replace("\r\n", "\n").split("\n")  # only these end lines in TOML
        self._places: dict[Keys, int] | None = None
        try:
            self.values: dict[str, Any] = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigurationError(f"{path}: not TOML: {visible(str(error))}") from None
        if _is_deeper(self.values, MAX_DEPTH):
            raise ConfigurationError(
                f"{path}: refused because tables and arrays lie more than {MAX_DEPTH} deep in each other; make it flat"
            )

    def line_of(self, *keys: str | int) -> int:
        """Return the line, from 1, on which a key or a table begins, given as the way to it; 0 for what is not there.

        A number stands for a place in an array, from 0.
        """
        return self.places().get(keys, 0)

    def places(self) -> dict[Keys, int]:
        """Return the line on which each key, table and member of an array begins, by the way to it."""
        if self._places is None:
            self._places = {}
            around: Keys = ()
            counts: dict[Keys, int] = {}
            for line, said, has_header in _statements(self._lines):
                if has_header:
                    around = _header_keys(said, counts)
                    self._note(around, line)
                else:
                    for keys in _within(said):
                        self._note((*around, *keys), line)
        return self._places

    def _note(self, keys: Keys, line: int) -> None:
        assert self._places is not None  # noqa: S101 - `places` made it
        for end in range(1, len(keys) + 1):
            self._places.setdefault(keys[:end], line)

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


def _is_deeper(value: Any, most: int) -> bool:
    """Whether containers lie in each other more than so deep; looked at level by level, as deep as it may be."""
    level = [value]
    for _ in range(most + 1):
        level = [
            member
            for each in level
            for member in (each.values() if isinstance(each, dict) else each)
            if isinstance(member, (dict, list))
        ]
        if not level:
            return False
    return True


def _statements(lines: list[str]) -> Iterator[tuple[int, dict[str, Any], bool]]:
    """Give the statements of TOML: on which line each begins, what it says by itself, whether it is a header."""
    begun: list[str] = []
    first = depth = 0
    quote = ""
    for number, line in enumerate(lines, 1):
        if not begun:
            bare = line.strip()
            if not bare or bare[0] == "#":
                continue
            first = number
        begun.append(line)
        depth, quote = _left_open(line, depth, quote)
        if depth or quote:
            continue
        with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError):
            yield first, tomllib.loads("\n".join(begun)), begun[0].lstrip()[0] == "["
        begun = []


def _left_open(line: str, depth: int, quote: str) -> tuple[int, str]:
    """Return how many brackets are open after a line of TOML, and the quotes of a text that goes on."""
    place = 0
    while True:
        if quote:
            end = _ENDS_LONG[quote].match(line, place)
            if end is None:
                return depth, quote
            place, quote = end.end(), ""
        token = _TOKEN.search(line, place)
        if token is None:
            return depth, quote
        place = token.end()
        quote = token["long"] or ""
        depth += bool(token["open"]) - bool(token["close"])


def _header_keys(said: dict[str, Any], counts: dict[Keys, int]) -> Keys:
    """Return the way to the table that a header begins: in arrays of tables their last member, or a new one.

    counts: how many members each array of tables has so far.
    """
    keys: Keys = ()
    value: Any = said
    while value:
        if isinstance(value, list):  # `[[name]]`: the next of them
            counts[keys] = counts.get(keys, 0) + 1
            return (*keys, counts[keys] - 1)
        name, value = next(iter(value.items()))
        keys = (*keys, name)
        if isinstance(value, dict) and keys in counts:
            keys = (*keys, counts[keys] - 1)
    return keys


def _within(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    members: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for name, member in members:
        yield (*keys, name)
        yield from _within(member, (*keys, name))
