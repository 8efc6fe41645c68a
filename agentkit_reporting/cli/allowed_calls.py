"""Calls that a person allowed beforehand, by patterns such as `write_file(src/*)`.

The patterns are those of `agentkit_loop.Permissions`; what is stricter here is that a path has to match twice,
as the model gave it and as it is once its links are followed, and what no pattern with a wildcard allows:
files of version control, which make later commands run programs, and changes that no preview shows whole.
"""

from __future__ import annotations

import fnmatch
import glob
import re
import unicodedata
from collections.abc import Iterable, Sequence

import msgspec

from agentkit_loop.content import ToolCallPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.file_changes import written
from agentkit_loop.file_reach import Reach
from agentkit_loop.permissions import Permissions, matches
from agentkit_loop.previews import Preview

PATH_TOOLS = ("write_file", "edit_file")
"""Tools whose pattern is for a path."""

ARGUMENTS = {"write_file": "path", "edit_file": "path", "run_command": "command"}
"""The argument of each tool that its pattern is for."""

VERSION_CONTROL = frozenset({".git", ".hg", ".svn"})
"""Directories in which no pattern with a wildcard allows a change."""

_OF_ONE_CHARACTER = re.compile(r"\[[*?[]\]")  # how a pattern says `*`, `?` and `[` themselves


class AllowedCalls:
    """Patterns, and which of them allows a call. reach: what paths are resolved in."""

    def __init__(self, reach: Reach, patterns: Iterable[str] = ()) -> None:
        self._reach = reach
        self._patterns = list(patterns)

    def add(self, pattern: str) -> None:
        """Allow what a pattern is for, from now on."""
        if pattern not in self._patterns:
            self._patterns.append(pattern)

    def pattern_for(self, call: ToolCallPart, shown: Preview) -> str | None:
        """Return a pattern that allows a call, None without one. shown: its preview."""
        return next((pattern for pattern in self._patterns if self.is_allowed_by(pattern, call, shown)), None)

    def is_allowed_by(self, pattern: str, call: ToolCallPart, shown: Preview) -> bool:
        """Whether a pattern allows a call; raises ConfigurationError for what is no pattern."""
        if call.name in PATH_TOOLS:
            return self._allows_change(pattern, call, shown)
        first = ARGUMENTS.get(call.name)
        if first is None and len(call.input) != 1 and "(" in pattern:
            return False  # which argument the tool has first is not known here
        return matches(pattern, call, first, wary=True) and (shown.is_whole or is_literal(pattern))

    def literal_pattern(self, call: ToolCallPart) -> str:
        """Return the pattern that is for this path or command alone; of another tool, for all of its calls."""
        value = call.input.get(ARGUMENTS.get(call.name, ""))
        if not isinstance(value, str):
            return call.name
        if call.name in PATH_TOOLS:
            value = "/".join(self._parts(value) or ())
        return f"{call.name}({glob.escape(value)})"

    def _allows_change(self, pattern: str, call: ToolCallPart, shown: Preview) -> bool:
        path = call.input.get("path")
        if not isinstance(path, str):
            return False
        parts = self._parts(path)
        if parts is None:
            return False
        given = [name for name in path.split("/") if name not in ("", ".")]
        for names in (given, parts):
            place = msgspec.structs.replace(call, input={"path": "/".join(names)})
            if not matches(pattern, place, "path", wary=False):  # a path means nothing to a shell
                return False
        if is_literal(pattern):
            return True
        return (
            shown.is_whole and not self._replaces_unseen(call) and not any(map(_is_of_version_control, parts))
        )

    def _parts(self, path: str) -> tuple[str, ...] | None:
        """Return where a path leads, None where it is out of reach."""
        try:
            return self._reach.resolve(path)
        except (OSError, ValueError):
            return None

    def _replaces_unseen(self, call: ToolCallPart) -> bool:
        """Whether a file would be replaced that is too large, or no text, and so is not in the preview."""
        path, content = call.input.get("path"), call.input.get("content")
        if call.name != "write_file" or not isinstance(path, str) or not isinstance(content, str):
            return False  # an edit of such a file is refused by the tool
        try:
            return written(self._reach, path, content).before is None
        except (OSError, ValueError):
            return True


def is_literal(pattern: str) -> bool:
    """Whether a pattern is for one text alone, without a wildcard."""
    return "(" in pattern and not set(_OF_ONE_CHARACTER.sub("", pattern)) & set("*?[")


def checked_patterns(patterns: Sequence[str], tool_names: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns of `--yes`; raises ConfigurationError for one that can allow nothing.

    tool_names: the tools that ask.
    """
    Permissions(allow=patterns)
    for pattern in patterns:
        name, bracket, rest = pattern.partition("(")
        named = [tool for tool in tool_names if fnmatch.fnmatchcase(tool, name)]
        if not named:
            known = ", ".join(tool_names)
            remedy = f"give one of {known}" if known else "give --allow-write or --allow-command with it"
            raise ConfigurationError(f"--yes {pattern!r} refused because no tool of that name asks; {remedy}")
        if bracket and rest == ")":
            raise ConfigurationError(
                f"--yes {pattern!r} refused because nothing is in it; give {name!r} for all"
            )
        if bracket and set(named) <= set(PATH_TOOLS) and _is_no_path(rest[:-1]):
            raise ConfigurationError(
                f"--yes {pattern!r} refused because its path can be no file's; "
                "give one from the root downwards, such as 'write_file(src/*)'"
            )
    return tuple(patterns)


def _is_no_path(argument: str) -> bool:
    return argument.startswith(("/", "~", "./")) or ".." in argument.split("/")


def _is_of_version_control(name: str) -> bool:
    """Whether some file system takes a name for one of VERSION_CONTROL: case and invisible characters differ."""
    kept = "".join(char for char in unicodedata.normalize("NFKC", name) if unicodedata.category(char) != "Cf")
    return kept.casefold().rstrip(" .") in VERSION_CONTROL
