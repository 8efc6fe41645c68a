"""What a command prints, held to a file in tests/golden: piped at 80 columns without colour, and on a terminal with it.

A module of tests has OUTPUTS, the arguments by the name of the file, and
`if __name__ == "__main__": write_goldens(OUTPUTS, make)`, so that `python -m tests.cli.test_x` writes them anew. A
name that ends with `_colour.txt` is of a terminal of 80 columns.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.cli.terminals import OnTerminal
from tests.cli.test_command_line import ENVIRONMENT, agentkit

GOLDEN = Path(__file__).parent.parent / "golden"


def printed(name: str, arguments: Sequence[str], cwd: Path) -> str:
    """Return what the command writes to stdout; on a terminal of its own where the name says so."""
    if not name.endswith("_colour.txt"):
        return agentkit(*arguments, cwd=cwd).stdout
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "HOME": str(cwd)}
    command = [sys.executable, "-m", "agentkit_reporting.cli", *arguments]
    terminal = OnTerminal(command, cwd, environment, columns=80)
    terminal.end()
    return terminal.shown.decode().replace("\r\n", "\n")


def check_golden(name: str, arguments: Sequence[str], cwd: Path) -> None:
    """Require that the command prints what the golden file of this name holds."""
    shown = printed(name, arguments, cwd)
    assert shown == (GOLDEN / name).read_text(encoding="utf-8")
    has_colour = "\x1b[" in shown
    assert has_colour == name.endswith("_colour.txt")
    if not has_colour and not name.endswith((".md", ".json")):
        assert all(len(line) <= 80 for line in shown.splitlines())


def write_goldens(outputs: Mapping[str, Sequence[str]], make: Callable[[Path], object]) -> None:
    """Write the golden files anew; make: puts into a directory what the commands read."""
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        for file_name, arguments in outputs.items():
            (GOLDEN / file_name).write_text(printed(file_name, arguments, Path(name)), encoding="utf-8")
