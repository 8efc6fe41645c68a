"""What a start takes beyond Python's own: the packages imported, and the command line as far as a help text.

Names of the packages are loaded when they are asked for, so two more starts say what a program waits for: one with an
agent, a model, a log and totals at hand, and one that shows a log. The same is allowed for them.

Each start is a process, and what counts is its CPU time, less that of `python -c pass` beside it. Bytecode is kept, as
it is of what is installed; a first start, which does not count, makes it.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from agentkit_loop import Agent, ScriptedModel
from agentkit_reporting import JsonlReporter
from benchmarks.measure import Row, with_bytecode

ROOT = Path(__file__).parent.parent
STARTS = 10


@attrs.frozen
class Start:
    """A start of Python.

    arguments: its own. allowed_ms: beyond `python -c pass`. says: what is in its output.
    """

    name: str
    arguments: tuple[str, ...]
    allowed_ms: float
    says: str


NOTHING = ("-c", "pass")
LOG = "answer.jsonl"
ANSWER = "So it is."
_AT_HAND = """
from agentkit_loop import Agent, AnthropicModel
from agentkit_reporting import JsonlReporter, UsageReporter
print(Agent.__name__, AnthropicModel.__name__, JsonlReporter.__name__, UsageReporter.__name__)
"""
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
    Start(
        "Agent, model, log, totals imported",
        ("-c", _AT_HAND),
        150.0,
        "Agent AnthropicModel JsonlReporter UsageReporter",
    ),
    Start(
        "agentkit show LOG, one answer",
        ("-c", "import sys; from agentkit_reporting.cli import main; main(['show', sys.argv[1]])", LOG),
        200.0,
        ANSWER,
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
    environment = {**with_bytecode(folder), "PYTHONPATH": str(ROOT)}
    ways: Sequence[tuple[tuple[str, ...], str]] = [
        (NOTHING, ""),
        *((start.arguments, start.says) for start in STARTED),
    ]
    with Agent(ScriptedModel([ANSWER]), observers=[JsonlReporter(Path(folder, LOG))]) as agent:
        agent.run("Is it?")
    milliseconds: list[list[float]] = [[] for _ in ways]
    for timed in (False, *[True] * rounds):
        for (arguments, says), took in zip(ways, milliseconds, strict=True):
            before = _of_children()
            printed = subprocess.run(
                [sys.executable, *arguments],
                cwd=folder,
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
