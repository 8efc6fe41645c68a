"""The tools that change files as the loop calls them, and a check that nothing is changed."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.file_writing import change_tools


class Changes:
    """The tools over a root, called as the loop calls them."""

    def __init__(self, root: Path, *hidden: Path, secrets: bool = False) -> None:
        self._tools = {tool.name: tool for tool in change_tools(root, hidden=hidden, secrets=secrets)}

    def write(self, path: str, content: str = "new\n") -> str:
        return self._call("write_file", path=path, content=content)

    def edit(self, path: str, old: str = "one", new: str = "1") -> str:
        return self._call("edit_file", path=path, old=old, new=new)

    def refusals(self, path: str) -> set[str]:
        """Return what the tools say where neither may change a path."""
        said = set()
        for change in (self.write, self.edit):
            with pytest.raises((OSError, ValueError)) as caught:
                change(path)
            said.add(str(caught.value))
        return said

    def _call(self, name: str, **arguments: Any) -> str:
        tool = self._tools[name]
        text = tool(**tool.bind(arguments))
        assert isinstance(text, str)
        assert "\n" not in text
        return text


@contextlib.contextmanager
def unchanged(directory: Path) -> Iterator[None]:
    """Check that nothing below a directory is made, changed or removed."""
    before = snapshot(directory)
    yield
    assert snapshot(directory) == before


def snapshot(directory: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        found[str(path)] = (status.st_mode, status.st_ino, content)
    return found
