"""Calls that a person allowed beforehand, by patterns such as `write_file(src/*)`.

The patterns are those of `agentkit_loop.Permissions`; what is stricter here is that a path has to match twice,
as the model gave it and as it is once its links are followed, and what no pattern with a wildcard allows:
files of version control, which make later commands run programs, and changes that no preview shows whole.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable, Sequence

import msgspec

from agentkit_loop.call_patterns import (
    PatternedCall,
    checked_patterns,
    is_literal,
    is_of_version_control,
    split_pattern,
)
from agentkit_loop.content import ToolCallPart
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.file_changes import written
from agentkit_loop.file_reach import Reach
from agentkit_loop.previews import Preview

PATH_TOOLS = ("write_file", "edit_file")
"""Tools whose pattern is for a path."""

ARGUMENTS = {"write_file": "path", "edit_file": "path", "run_command": "command"}
"""The argument of each tool that its pattern is for."""


class AllowedCalls:
    """Patterns, and which of them allows a call.

    reach: what paths are resolved in; None for tools that are not known here, which may only have such names.
    """

    def __init__(self, reach: Reach | None, patterns: Iterable[str] = ()) -> None:
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
        if call.name in PATH_TOOLS and self._reach is not None:
            return self._allows_change(pattern, call, shown, self._reach)
        first = ARGUMENTS.get(call.name)
        if first is None and len(call.input) != 1 and "(" in pattern:
            return False  # which argument the tool has first is not known here
        return PatternedCall(call, first).is_allowed_by(pattern) and (shown.is_whole or is_literal(pattern))

    def literal_pattern(self, call: ToolCallPart) -> str:
        """Return the pattern that is for this path or command alone; of another tool, for all of its calls."""
        value = call.input.get(ARGUMENTS.get(call.name, ""))
        if not isinstance(value, str):
            return call.name
        if call.name in PATH_TOOLS and self._reach is not None:
            value = "/".join(_parts(self._reach, value) or ())
        return f"{call.name}({glob.escape(value)})"

    def _allows_change(self, pattern: str, call: ToolCallPart, shown: Preview, reach: Reach) -> bool:
        path = call.input.get("path")
        if not isinstance(path, str):
            return False
        parts = _parts(reach, path)
        if parts is None:
            return False
        given = [name for name in path.split("/") if name not in ("", ".")]
        for names in (given, parts):
            place = msgspec.structs.replace(call, input={"path": "/".join(names)})
            if not PatternedCall(place, "path").is_allowed_by(pattern, is_path=True):
                return False
        if is_literal(pattern):
            return True
        return (
            shown.is_whole
            and not _replaces_unseen(reach, call)
            and not any(map(is_of_version_control, parts))
        )


def _parts(reach: Reach, path: str) -> tuple[str, ...] | None:
    """Return where a path leads, None where it is out of reach."""
    try:
        return reach.resolve(path)
    except (OSError, ValueError):
        return None


def _replaces_unseen(reach: Reach, call: ToolCallPart) -> bool:
    """Whether a file would be replaced that is too large, or no text, and so is not in the preview."""
    path, content = call.input.get("path"), call.input.get("content")
    if call.name != "write_file" or not isinstance(path, str) or not isinstance(content, str):
        return False  # an edit of such a file is refused by the tool
    try:
        return written(reach, path, content).before is None
    except (OSError, ValueError):
        return True


def usable_patterns(patterns: Sequence[str], tool_names: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns of `--yes`; raises ConfigurationError for one that can allow nothing.

    tool_names: the tools that ask.
    """
    for pattern in checked_patterns(patterns):
        name, argument = split_pattern(pattern)
        named = [tool for tool in tool_names if fnmatch.fnmatchcase(tool, name)]
        if not named:
            known = ", ".join(tool_names)
            remedy = f"give one of {known}" if known else "give --allow-write or --allow-command with it"
            raise ConfigurationError(f"--yes {pattern!r} refused because no tool of that name asks; {remedy}")
        if argument == "":
            raise ConfigurationError(
                f"--yes {pattern!r} refused because nothing is in it; give {name!r} for all"
            )
        if argument is not None and set(named) <= set(PATH_TOOLS) and _is_no_path(argument):
            raise ConfigurationError(
                f"--yes {pattern!r} refused because its path can be no file's; "
                "give one from the root downwards, such as 'write_file(src/*)'"
            )
    return tuple(patterns)


def _is_no_path(argument: str) -> bool:
    return argument.startswith("~") or bool({"", ".", ".."} & set(argument.split("/")))
