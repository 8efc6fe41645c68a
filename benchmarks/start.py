"""What a start takes beyond Python's own: the packages imported, and the command line as far as a help text.

Each start is a process, and what counts is its CPU time, less that of `python -c pass` beside it. Bytecode is kept, as
it is of what is installed; a first start, which does not count, makes it.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks.measure import Row

STARTS = 10


@attrs.frozen
class Start:
    """A start of Python. arguments: its own. allowed_ms: beyond `python -c pass`. says: what is in its output."""

    name: str
    arguments: tuple[str, ...]
    allowed_ms: float
    says: str


NOTHING = ("-c", "pass")
STARTED = (
    Start(
        "import agentkit_loop, agentkit_reporting",
        ("-c", "import agentkit_loop, agentkit_reporting; print(agentkit_reporting.__name__)"),
        150.0,
        "agentkit_reporting",
    ),
    Start(
        "agentkit show --help",
        ("-c", "from agentkit_reporting.cli import main; main(['show', '--help'])"),
        200.0,
        "Usage: agentkit show",
    ),
)


def rows(rounds: int) -> list[Row]:
    """Return the table's rows: of ten starts, or of as many as there are rounds where they are fewer."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        nothing, *started = _starts(min(rounds, STARTS), folder)
    for start, took in zip(STARTED, started, strict=True):
        beyond = [mine - bare for mine, bare in zip(took, nothing, strict=True)]
        found.append(
            Row(
                name=start.name,
                reference=f"what is allowed beyond python -c pass ({statistics.median(nothing):.0f} ms)",
                ours=statistics.median(beyond),
                theirs=start.allowed_ms,
                unit="ms",
                bound=1.0,
                rounds=len(beyond),
            )
        )
    return found


def _starts(rounds: int, folder: str) -> list[list[float]]:
    """Return the milliseconds of CPU that each start took, in turns, that of nothing first."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    ways: Sequence[tuple[tuple[str, ...], str]] = [
        (NOTHING, ""),
        *((start.arguments, start.says) for start in STARTED),
    ]
    milliseconds: list[list[float]] = [[] for _ in ways]
    for timed in (False, *[True] * rounds):
        for (arguments, says), took in zip(ways, milliseconds, strict=True):
            before = _of_children()
            printed = subprocess.run(
                [sys.executable, *arguments],
                cwd=Path(__file__).parent.parent,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            if says not in printed:
                raise AssertionError(f"{arguments}: printed {printed!r}")
            if timed:
                took.append((_of_children() - before) * 1e3)
    return milliseconds


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
