"""One way to run `agentkit run` in a process: piped or on a terminal, with a key that nobody may see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs

from agentkit_loop.events import AgentEvent, ToolResultReceived
from agentkit_loop.testing import ScriptedCall
from agentkit_loop.usage import Usage
from agentkit_reporting import read_events
from tests.cli.terminals import OnTerminal

PROJECT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "agentkit_reporting.cli", "run")
KEY = "sk-ant-never-to-be-seen-0123456789"
USAGE = Usage(input_tokens=400, output_tokens=30)


def environment(home: Path, **extra: str) -> dict[str, str]:
    """Return one in which nobody's own credentials and settings are found."""
    return {
        "PYTHONPATH": str(PROJECT),
        "PYTHONIOENCODING": "utf-8",
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        **extra,
    }


@attrs.frozen
class Ended:
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str


def agentkit(*arguments: str, cwd: Path, given: bytes = b"", key: str = KEY, **extra: str) -> Ended:
    """Run `agentkit run …` to its end; its key is in nothing that it wrote."""
    result = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        check=False,
        env=environment(cwd, **({"ANTHROPIC_API_KEY": key} if key else {}), **extra),
    )
    check_no_key(cwd, result.stdout + result.stderr)
    return Ended(result.returncode, result.stdout.decode(), result.stderr.decode())


def check_no_key(folder: Path, output: bytes) -> None:
    assert KEY.encode() not in output
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def log_of(folder: Path) -> list[AgentEvent]:
    """Return the events of the one session that was logged by default."""
    (path,) = (folder / "agentkit-logs").glob("*.jsonl")
    return list(read_events(path, strict=True))


def outputs(events: list[AgentEvent]) -> list[str]:
    """Return the results in the order of their calls; they come as they are ready."""
    results = [event for event in events if isinstance(event, ToolResultReceived)]
    return [str(event.output) for event in sorted(results, key=lambda event: event.call_id)]


def call(name: str, **arguments: Any) -> ScriptedCall:
    return ScriptedCall(name=name, input=arguments)


def run_on_terminal(arguments: tuple[str, ...], cwd: Path, **extra: str) -> OnTerminal:
    """Run the command on a terminal of its own."""
    told = environment(cwd, ANTHROPIC_API_KEY=KEY, TERM="xterm-256color", **extra)
    return OnTerminal([*COMMAND, *arguments], cwd, told)
