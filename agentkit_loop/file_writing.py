"""Built-in tools that change files under one directory: write a whole one, edit one at one place.

    agent = Agent(model, tools=[*file_tools("src"), *change_tools("src")])

What is in reach is that of the reading tools (file_reach.py), and `hidden` and `secrets` mean the same. They
ask nobody: whether a call is approved is decided before it runs, by what previews.py shows. Answers are one
line that says how many lines were added and removed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Annotated, Any

from agentkit_loop.file_changes import carry_out, edited, extent, written
from agentkit_loop.file_reach import Reach, quoted
from agentkit_loop.previews import summary_of_edit, summary_of_write
from agentkit_loop.tools import Tool, tool

# The calls of one answer run at once, and two edits of one file must not start from the same text.
_one_at_a_time = threading.Lock()


def change_tools(
    root: str | os.PathLike[str],
    *,
    hidden: Iterable[str | os.PathLike[str]] = (),
    secrets: bool = False,
) -> tuple[Tool[..., Any], ...]:
    """Return `write_file` and `edit_file` for the files under `root`.

    hidden, secrets: as file_tools has them; what cannot be read cannot be changed, nor made. Raises
    ConfigurationError for a root that is no directory or lies in what is hidden.
    """
    bound = _ChangeTools(Reach(root, hidden=hidden, secrets=secrets))
    return (
        tool(bound.write_file, summary=summary_of_write),
        tool(bound.edit_file, summary=summary_of_edit),
    )


class _ChangeTools:
    """The functions; their docstrings are what the model reads."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def write_file(
        self,
        path: Annotated[str, "file, from the root; directories that are missing are made"],
        content: Annotated[str, "all of its text; written as UTF-8, with the line ends given"],
    ) -> str:
        """Create a text file, or replace one whole; to change a part of it use edit_file."""
        with _one_at_a_time:
            change = written(self._reach, path, content)
            carry_out(self._reach, change)
        return f"wrote {quoted(path)} ({extent(change, change.diff())})"

    def edit_file(
        self,
        path: Annotated[str, "file, from the root; its text is UTF-8"],
        old: Annotated[str, "text that is there exactly once, with its spaces; it may be several lines"],
        new: Annotated[str, "text in its place; may be empty"],
    ) -> str:
        """Replace a text in a file by another; the file keeps its kind of line ends.

        Give as much of `old` as makes it the only one; no regular expression. A file is created with write_file.
        """
        with _one_at_a_time:
            change = edited(self._reach, path, old, new)
            carry_out(self._reach, change)
        return f"edited {quoted(path)} ({extent(change, change.diff())})"
