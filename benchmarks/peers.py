"""What a streamed delta costs in the SDK's own loops and in frameworks: 20 turns of 200 deltas, 19 calls of a tool.

Ours has the log, usage and transcript attached; each of the others one handler that counts what it is told. Each
way is a process of its own (`benchmarks/peer_programs/`), which stays for all rounds and says what a session cost it
in CPU; the frameworks run in environments of their own (`peer_environments.py`). All talk to the server of the
loop's benchmark, an HTTP chunk for each event, and each session is compared with what was served before its time
counts. A framework whose environment cannot be made is left out; the table's versions and standard error say so.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from benchmarks.loop import BARE, BOUNDS, DELTAS, TURNS
from benchmarks.measure import Row
from benchmarks.peer_environments import ENVIRONMENTS, EnvironmentUnavailableError, environments_folder
from benchmarks.references import Seen
from benchmarks.server import StreamServer, end_process
from benchmarks.session import Session, make_session

FRAMING = "event"
FRAMEWORK_BOUND = 0.25
"""At least four times less CPU than each framework."""

SDK_WAYS = {
    BARE: "sdk_create",
    "the SDK, messages.stream()": "sdk_stream",
    "the SDK, tool_runner(stream=True, thread=False)": "sdk_tool_runner",
}
FRAMEWORK_WAYS = {
    "pydantic-ai": ("pydantic-ai, one event stream handler", "pydantic_ai_agent"),
    "langchain": ("langchain create_agent, one callback handler", "langchain_agent"),
    "strands": ("strands, one callback handler", "strands_agent"),
}
"""By the name of the environment: what the table says, and the program."""

_PASSED_ON = ("PATH", "HOME", "TMPDIR")
_QUIET = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "OTEL_SDK_DISABLED": "true"}


@attrs.frozen
class Answer:
    """What a session cost, and what it was."""

    cpu_s: float
    seen: Seen


class Worker:
    """A process that plays a session when it is asked; it lives until `with` is left.

    It is given little of this process's environment: no keys, proxies, profiles or tracing.
    """

    def __init__(self, name: str, command: Sequence[str], *, bound: float | None = None) -> None:
        self.name, self.bound = name, bound
        passed_on = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=Path(__file__).parent.parent,
            env={**passed_on, **_QUIET},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_process(self._process)

    def play(self) -> Answer:
        """Play a session; raise RuntimeError where the process has ended instead."""
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(b"\n")  # type: ignore[union-attr] # a pipe
        line = self._process.stdout.readline()  # type: ignore[union-attr] # a pipe
        if not line:
            raise RuntimeError(f"{self.name}: the program ended before it had played; see standard error")
        told = json.loads(line)
        return Answer(told["cpu_s"], Seen(**told["seen"]))


def rows(
    rounds: int, *, turns: int = TURNS, deltas: int = DELTAS, environments: Path | None = None
) -> list[Row]:
    """Return the table's rows. environments: the folder of the frameworks' environments."""
    session = make_session(turns, deltas)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(StreamServer(turns, deltas))
        workers = [
            stack.enter_context(_worker(server, name, sys.executable, program, bound))
            for name, program, bound in [
                ("ours", "ours", None),
                *((name, program, BOUNDS[FRAMING]) for name, program in SDK_WAYS.items()),
            ]
        ]
        folder = environments or environments_folder()
        for environment in ENVIRONMENTS:
            name, program = FRAMEWORK_WAYS[environment.name]
            try:
                python = str(environment.python(folder))
            except EnvironmentUnavailableError as error:
                print(f"{environment.name} is left out, it has no environment: {error}", file=sys.stderr)
                continue
            stack.enter_context(worker := _worker(server, name, python, program, FRAMEWORK_BOUND))
            workers.append(worker)
        return compared(workers, session, rounds)


def compared(workers: Sequence[Worker], session: Session, rounds: int) -> list[Row]:
    """Let all play in turns (A B C A B C …), after a first time that does not count; the first is ours.

    Raises AssertionError where a session was not the one that was served.
    """
    seconds: list[list[float]] = [[] for _ in workers]
    for timed in (False, *[True] * rounds):
        for worker, spent in zip(workers, seconds, strict=True):
            answer = worker.play()
            answer.seen.check(session, worker.name)
            if timed:
                spent.append(answer.cpu_s)
    ours, *others = seconds
    return [
        Row.of(
            "a delta, log on",
            ours,
            theirs,
            against=worker.name,
            pieces=session.deltas,
            bound=worker.bound,
        )
        for worker, theirs in zip(workers[1:], others, strict=True)
    ]


def versions() -> dict[str, str]:
    """Return the versions of the frameworks, each with that of its SDK."""
    folder = environments_folder()
    return {environment.name: environment.version(folder) for environment in ENVIRONMENTS}


def _worker(server: StreamServer, name: str, python: str, program: str, bound: float | None) -> Worker:
    command = [python, "-m", f"benchmarks.peer_programs.{program}", server.base_url(FRAMING)]
    return Worker(name, command, bound=bound)
