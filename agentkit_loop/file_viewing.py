"""Built-in tools that read: list, read and search the files under one directory.

    agent = Agent(model, tools=file_tools("docs", hidden=["docs/logs"]))

What is in reach, and how that is held, is in file_reach.py. Every answer is text: a line in brackets says
what it is, what was left out and how to get it; behind it come lines of files or names of files. Answers are
bounded, and the same for the same files.

Searching is for literal text: a pattern that a model writes can keep a regular expression engine for years.
"""

from __future__ import annotations

import collections
import fnmatch
import os
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from msgspec import Meta

from agentkit_loop.file_reach import MAX_ENTRIES, Found, Parts, Reach, Walk, quoted, shown
from agentkit_loop.file_reading import (
    MAX_MATCHES,
    MAX_QUERY_CHARS,
    Search,
    fitting,
    is_binary,
    is_cancelled,
    many,
    read_page,
    some,
)
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, tool

MAX_LISTED = 1_000
"""Files that list_files names."""

DEFAULT_LINES = 500
"""Lines that read_file gives where the model does not say."""

MAX_LINES = 2_000
"""Lines that read_file gives at most."""

MAX_MATCHES_A_FILE = 50
"""Lines of one file that search_files gives, where it searches several."""

MAX_PATTERN_CHARS = 200

_Pattern = Annotated[
    str,
    "glob for file names such as '*.py'; with a '/' for paths below `path`, where '**' is any directories",
]


def file_tools(
    root: str | os.PathLike[str],
    *,
    hidden: Iterable[str | os.PathLike[str]] = (),
    secrets: bool = False,
) -> list[Tool[..., Any]]:
    """Return `list_files`, `read_file` and `search_files` over the files under `root`; they change nothing.

    hidden: files and directories that are out of reach, such as the agent's own log; they need not exist
    yet. secrets: let files be read whose names say that they may hold some (file_reach.SECRET_NAMES: `.env`,
    `*.pem`, `.ssh` and the like). Raises ConfigurationError for a root that is no directory or lies in what
    is hidden.
    """
    bound = _FileTools(Reach(root, hidden=hidden, secrets=secrets))
    functions = (bound.list_files, bound.read_file, bound.search_files)
    return [tool(function, idempotent=True) for function in functions]


class _FileTools:
    """The functions; their docstrings are what the model reads."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def list_files(
        self,
        path: Annotated[str, "directory, from the root; '.' is the root"] = ".",
        pattern: _Pattern | None = None,
        context: ToolContext | None = None,
    ) -> str:
        """List the files below a directory, in its subdirectories too, as paths from the root.

        Symbolic links are named, not followed. Version control, caches and installed packages (.git, .venv,
        __pycache__, node_modules …) are named, not entered; give one as path to look inside. What may hold
        secrets (.env, *.pem, .ssh …) is named and kept out.
        """
        matches = _Glob(pattern)
        if not self._reach.is_directory(path):
            raise NotADirectoryError(f"{quoted(path)} is a file; read_file reads it")
        walk = self._reach.walk(path, cancelled=lambda: is_cancelled(context))
        nearest: list[Found] = []
        count = 0
        for found in walk:
            if matches(found.below):
                count += 1
                if len(nearest) < MAX_LISTED:
                    nearest.append(found)
        nearest.sort(key=lambda found: found.parts)
        lines = fitting(map(_named, nearest))
        where = f"below {quoted(path)}" + (f" that match {quoted(pattern)}" if pattern else "")
        told = f"{many(count, 'file')} {where}" if count else f"no files {where}"
        if len(lines) < count:
            told = f"{len(lines):,} of {told}; for others list a subdirectory or give a pattern"
        return "\n".join((f"[{'; '.join((told, *_notes(walk)))}]", *lines))

    def read_file(
        self,
        path: Annotated[str, "file, from the root"],
        start_line: Annotated[int, Meta(ge=1), "number of the first line"] = 1,
        line_count: Annotated[int, Meta(ge=1), f"how many lines, at most {MAX_LINES}"] = DEFAULT_LINES,
        context: ToolContext | None = None,
    ) -> str:
        """Read lines of a text file, unless it is kept out since it may hold secrets (.env, *.pem, .ssh …).

        The answer begins with a line in brackets: which these are, what follows.
        """
        with self._reach.open(self._reach.resolve(path), path) as file:
            if is_binary(file):
                size = os.fstat(file.fileno()).st_size
                return f"[{quoted(path)} is binary, {many(size, 'byte')}; not shown]"
            return read_page(file, start_line, min(line_count, MAX_LINES), context=context).text(path)

    def search_files(
        self,
        query: Annotated[str, "literal text within a line; no regular expression"],
        path: Annotated[str, "directory or file, from the root; '.' is the root"] = ".",
        pattern: _Pattern | None = None,
        *,
        ignore_case: bool = False,
        context: ToolContext | None = None,
    ) -> str:
        """Find the lines that contain a text, in all files below a directory or in one file.

        Each is given as `path:line: text`. Binary files, symbolic links, what may hold secrets (.env, *.pem,
        .ssh …), and version control, caches and installed packages (.git, .venv, __pycache__, node_modules …)
        are left out; give one of these last directories as path to search it.
        """
        if not 0 < len(query) <= MAX_QUERY_CHARS or "\n" in query or "\r" in query:
            most = f"{MAX_QUERY_CHARS:,}"
            raise ValueError(f"query {quoted(query)} refused; give 1 to {most} characters of one line")
        matches = _Glob(pattern)
        search = Search(self._reach, query, ignore_case=ignore_case, context=context)
        if not self._reach.is_directory(path):
            search.look_into(self._reach.resolve(path), most=MAX_MATCHES)
            return search.text(f"in {quoted(path)}")
        walk = self._reach.walk(path, cancelled=lambda: is_cancelled(context))
        for found in walk:
            if search.is_over:
                break
            if not found.note and matches(found.below):
                search.look_into(found.parts, most=MAX_MATCHES_A_FILE)
        where = f"below {quoted(path)}" + (f" in {quoted(pattern)}" if pattern else "")
        return search.text(where, _notes(walk))


def _named(found: Found) -> str:
    return f"{shown(found.parts)} ({found.note})" if found.note else shown(found.parts)


def _notes(walk: Walk) -> Iterator[str]:
    if walk.stopped:
        yield f"stopped after {MAX_ENTRIES:,} entries; name a subdirectory"
    if walk.not_entered:
        yield f"not entered: {some(_by_name(walk.not_entered))}"
    if walk.unreadable:
        plural = "directory" if walk.unreadable == 1 else "directories"
        yield f"{walk.unreadable:,} {plural} could not be read"


def _by_name(directories: Iterable[Parts]) -> Iterator[str]:
    """Yield each directory that is alone with its name, and for those of one name how many they are."""
    named = collections.defaultdict(list)
    for parts in directories:
        named[parts[-1]].append(parts)
    for name, those in named.items():
        yield shown(those[0]) if len(those) == 1 else f"{shown((name,))} ({len(those):,} directories)"


class _Glob:
    """Whether a path below the start matches a pattern; raises ValueError for one that cannot be meant.

    A pattern of one name is for the file's own name, in whatever directory.
    """

    def __init__(self, pattern: str | None) -> None:
        if pattern is not None and not 0 < len(pattern) <= MAX_PATTERN_CHARS:
            raise ValueError(f"pattern {quoted(pattern)} refused; give one such as '*.py', or none")
        if pattern is not None and "{" in pattern:
            raise ValueError(
                f"pattern {quoted(pattern)} holds braces, which are not expanded; ask for each alone"
            )
        self._names = [name for name in (pattern or "").split("/") if name not in ("", ".")]
        if pattern is not None and "/" not in pattern:
            self._names.insert(0, "**")

    def __call__(self, below: Parts) -> bool:
        if not self._names:
            return True
        reached = self._closed(
            {0}
        )  # how many names of the pattern may be used up, as the path is gone through
        for part in below:
            reached = self._closed(
                {
                    place + (self._names[place] != "**")
                    for place in reached
                    if place < len(self._names)
                    and (self._names[place] == "**" or fnmatch.fnmatchcase(part, self._names[place]))
                }
            )
        return len(self._names) in reached

    def _closed(self, reached: set[int]) -> set[int]:
        """Add the places behind each `**`, which may stand for nothing."""
        for place, name in enumerate(self._names):
            if name == "**" and place in reached:
                reached.add(place + 1)
        return reached
