"""What the tests of broken sinks share: one run, on a thread or an event loop, and every way to wrap a sink."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import FailurePolicy, LoopObserver, Observer
from agentkit_loop.steps import RunResult
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_reporting import (
    BufferedReporter,
    ChannelReporter,
    CompositeReporter,
    PolicyReporter,
    RedactingReporter,
)

ROOT = Path(__file__).parent.parent.parent
UNPRIVILEGED = 65_534

WRAPS: dict[str, Callable[[Observer], Observer]] = {
    "nothing": lambda sink: sink,
    "composite": CompositeReporter,
    "buffered": lambda sink: BufferedReporter(sink, 7),
    "channel": ChannelReporter.threaded,
    "policy": lambda sink: PolicyReporter(sink, FailurePolicy.LOG),
    "redacting": RedactingReporter,
    "all": lambda sink: CompositeReporter(
        ChannelReporter.threaded(
            BufferedReporter(RedactingReporter(PolicyReporter(sink, FailurePolicy.LOG)), 3)
        )
    ),
}
"""A sink by itself, and behind each adapter."""


@tool
def work() -> str:
    """Do some work."""
    return "done"


REPLIES = (
    Reply(text="let me look at it first ", calls=(ScriptedCall(name="work", id="call-7"),)),
    Reply(text="and this is the answer to it"),
)


def run_on_thread(agent: Agent) -> RunResult:
    return agent.run("go")


def run_on_loop(agent: Agent) -> RunResult:
    return asyncio.run(agent.arun("go"))


Play = Callable[[Agent], RunResult]

PLAYS: dict[str, Play] = {"sync": run_on_thread, "async": run_on_loop}

on_thread_and_loop = pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
"""Runs a test that takes `play` on a thread and on an event loop."""


def agent_of(*observers: Observer, runs: int = 1, **options: Any) -> Agent:
    return Agent(ScriptedModel(REPLIES * runs), tools=[work], observers=observers, **options)


def essence(result: RunResult) -> RunResult:
    """Return a result without the ids that differ from run to run."""
    return attrs.evolve(result, session_id="", run_id="")


def undisturbed(play: Play = run_on_thread) -> RunResult:
    """Return what the run comes to with nobody looking."""
    with agent_of() as agent:
        return essence(play(agent))


class Around(LoopObserver):
    """Something around a sink."""

    def __init__(self, sink: Any) -> None:
        self.sink = sink

    def handle_event(self, event: AgentEvent) -> None:
        self.sink.handle_event(event)

    def flush(self) -> None:
        self.sink.flush()

    def close(self) -> None:
        self.sink.close()


class Breaking(Around):
    """A sink to which something happens right before some of its events, by how many it got so far."""

    def __init__(self, sink: Any, acts: dict[int, Callable[[], object]]) -> None:
        super().__init__(sink)
        self._acts = acts
        self._count = 0

    def handle_event(self, event: AgentEvent) -> None:
        self._count += 1
        if self._count in self._acts:
            self._acts[self._count]()
        self.sink.handle_event(event)


class Acknowledged(Around):
    """Hands events to a sink and keeps the numbers of those that it took, by session."""

    def __init__(self, sink: Any) -> None:
        super().__init__(sink)
        self.taken: dict[str, list[int]] = {}

    def handle_event(self, event: AgentEvent) -> None:
        self.sink.handle_event(event)
        self.taken.setdefault(event.session_id, []).append(event.seq)


class Records(logging.Handler):
    """Keeps the messages of what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def program(module: str, *arguments: object) -> Any:
    """Run a module of the tests in a process of its own; return what it printed, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def descriptors_of(path: Path) -> list[int]:
    """Return the descriptors of this process for a file."""
    found = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers, some of which are gone at the second look
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), path.stat()):
                found.append(int(name))
    return found


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[bool]:
    """Mount a file system of that size in memory; gives False where that is not permitted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)]
    try:
        mounted = (
            os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)
