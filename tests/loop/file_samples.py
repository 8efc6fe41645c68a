"""A directory for the tools that read files, and the tools as the loop calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.file_viewing import file_tools

UNREACHABLE = "what nobody inside may read"


def make_root(tmp_path: Path) -> Path:
    """Make a directory with files in it, and one beside it with a file that is out of reach."""
    root = tmp_path / "root"
    for name, text in {
        "notes.txt": "one\ntwo\nthree\n",
        "src/main.py": "print('Hello')\n",
        "src/deep/util.py": "def hello(): ...\n",
        ".git/config": "hello\n",
        "node_modules/x/index.js": "hello\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(UNREACHABLE)
    return root


class Tools:
    """The tools over a root, called as the loop calls them."""

    def __init__(self, root: Path, *hidden: Path) -> None:
        self._tools = {tool.name: tool for tool in file_tools(root, hidden=hidden)}

    def call(self, name: str, **arguments: Any) -> str:
        tool = self._tools[name]
        text = tool(**tool.bind(arguments))
        assert isinstance(text, str)
        return text

    def ls(self, path: str = ".", **arguments: Any) -> list[str]:
        return self.call("list_files", path=path, **arguments).split("\n")

    def read(self, path: str, **arguments: Any) -> list[str]:
        return self.call("read_file", path=path, **arguments).split("\n")

    def search(self, query: str, **arguments: Any) -> list[str]:
        return self.call("search_files", query=query, **arguments).split("\n")

    def refusal(self, name: str, **arguments: Any) -> str:
        with pytest.raises((OSError, ValueError)) as caught:
            self.call(name, **arguments)
        return str(caught.value)
