"""What a delta costs with many sessions open at once, on threads and on an event loop; and what an idle session holds.

All sessions of a round share one model, one log, one usage and one transcript, as those of a service do. The tool of
each waits for all others, so that they are open at the same time, or the round fails. With 500 at once this process and
the server's have a socket for each: about 600 descriptors, where many systems allow 1,024, and as many of the
loopback's 28,000 ports; the SDK's client keeps 100 connections and makes the others anew for each request.

Beside threads stand what the bare SDK and a bare `os.write` of a line take more with as many: a call that gives up the
interpreter's lock, where others wait for it, is paid with two changes of thread. These cost half as much again where
a second CPU is free, since the lock then goes from one to the other: on one CPU (`taskset -c 0`) the rows are lower.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import attrs

from agentkit_loop import Agent, AnthropicModel, RunResult, ScriptedModel, tool
from agentkit_loop.content import AppendText
from agentkit_loop.events import ContentDelta
from agentkit_loop.models.anthropic_wire import wire_tool
from agentkit_reporting import JsonlReporter, TranscriptReporter, UsageReporter, read_events
from benchmarks.growing import Load, grown, require, sizes_row
from benchmarks.latency import KEY
from benchmarks.measure import Row
from benchmarks.references import BareSDK, Seen
from benchmarks.server import StreamServer
from benchmarks.session import MODEL, PROMPT, SYSTEM, Session, make_session, read_lines

Played = TypeVar("Played")

PATIENCE_S = 60.0
"""How long a tool waits for the others, at most."""


LINE = b"." * 199 + b"\n"


@attrs.frozen
class Crowd:
    """How many sessions are open at once, the few first; deltas: of each turn; lines: written by all."""

    at_once: tuple[int, ...] = (1, 50, 500)
    deltas: int = 100
    lines: int = 50_000

    def sessions(self, at_once: int) -> int:
        """Return how many a round has: a fifth of the most at least, so that enough is measured."""
        return at_once * max(1, self.at_once[-1] // 5 // at_once)


TURNS = 2
"""Of each session: the first calls the tool."""


def session_rows(rounds: int, crowd: Crowd) -> list[Row]:
    """Return the rows of concurrent sessions."""
    session = make_session(TURNS, crowd.deltas)
    found = []
    with StreamServer(TURNS, crowd.deltas) as server, tempfile.TemporaryDirectory() as folder:
        address = server.base_url("event")
        for word, play in (("threads", _on_threads), ("asyncio", _on_loop)):
            loads = [_load(count, crowd, session, Path(folder), address, play) for count in crowd.at_once]
            found += grown(f"delta, sessions on {word}", loads, rounds)
        ends = (crowd.at_once[0], crowd.at_once[-1])
        bare = [_bare_load(count, crowd, session, address) for count in ends]
        found += grown("delta, bare SDK on threads", bare, rounds, bound=None)
        lines = [_lines_load(count, crowd.lines, Path(folder)) for count in ends]
        found += grown("os.write of a line on threads", lines, rounds, bound=None)
    return found


def _load(
    count: int,
    crowd: Crowd,
    session: Session,
    folder: Path,
    address: str,
    play: Callable[[Agents, int, int], list[RunResult]],
) -> Load:
    log, results = folder / "sessions.jsonl", list[RunResult]()
    sessions = crowd.sessions(count)

    def run() -> None:
        log.unlink(missing_ok=True)
        results[:] = play(Agents(address, log), count, sessions)

    def check() -> None:
        deltas = sum(
            isinstance(event, ContentDelta) and isinstance(event.delta, AppendText)
            for event in read_events(log)
        )
        require(deltas, sessions * session.deltas, "deltas of all sessions")
        require({result.text for result in results}, {session.text}, "answers of the sessions")
        require(len({result.session_id for result in results}), sessions, "sessions")

    return Load(name=f"{count} at once", pieces=sessions * session.deltas, play=run, check=check)


@attrs.frozen
class Agents:
    """Makes the agent that all sessions of a round share."""

    address: str
    log: Path

    def agent(self, body: Callable[..., Any]) -> tuple[Agent, AnthropicModel]:
        """Return the agent, which is to be closed, and its model, which is too."""
        model = AnthropicModel(MODEL, base_url=self.address, api_key=KEY)
        observers = [JsonlReporter(self.log), UsageReporter(), TranscriptReporter()]
        return Agent(model, tools=[tool(body)], system=SYSTEM, observers=observers), model


def _waiting_body(at_once: int) -> Callable[[str, int, int], str]:
    """Return `read_lines`, which here waits for the calls of all others."""
    all_are_open = threading.Barrier(at_once, timeout=PATIENCE_S)

    @functools.wraps(read_lines)
    def body(path: str, first: int, last: int) -> str:
        all_are_open.wait()
        return read_lines(path, first, last)

    return body


def _on_threads(agents: Agents, at_once: int, sessions: int) -> list[RunResult]:
    agent, model = agents.agent(_waiting_body(at_once))
    with contextlib.closing(model), agent:
        return _on_own_threads(lambda: agent.run(PROMPT), at_once, sessions)


def _on_own_threads(play: Callable[[], Played], at_once: int, sessions: int) -> list[Played]:
    """Play so many sessions, each on a thread of its own, however many are at once: all pay for their thread."""
    played: list[Played] = []
    for _ in range(sessions // at_once):
        with ThreadPoolExecutor(at_once) as pool:
            played += pool.map(lambda _: play(), range(at_once))
    return played


def _on_loop(agents: Agents, at_once: int, sessions: int) -> list[RunResult]:
    async def play() -> list[RunResult]:
        all_are_open = asyncio.Barrier(at_once)

        @functools.wraps(read_lines)
        async def body(path: str, first: int, last: int) -> str:
            async with asyncio.timeout(PATIENCE_S):
                await all_are_open.wait()
            return read_lines(path, first, last)

        agent, model = agents.agent(body)
        try:
            async with agent:
                found: list[RunResult] = []
                for _ in range(sessions // at_once):
                    runs: list[Coroutine[Any, Any, RunResult]] = [agent.arun(PROMPT) for _ in range(at_once)]
                    found += await asyncio.gather(*runs)
                return found
        finally:
            await model.aclose()

    return asyncio.run(play())


def _bare_load(count: int, crowd: Crowd, session: Session, address: str) -> Load:
    import anthropic  # noqa: PLC0415 - takes seconds, and the other benchmarks need it not

    sessions, seen = crowd.sessions(count), list[Seen]()

    def run() -> None:
        bare = BareSDK(_waiting_body(count), wire_tool(tool(read_lines).spec))
        with anthropic.Anthropic(base_url=address, api_key=KEY) as client:
            seen[:] = _on_own_threads(lambda: bare.run(client), count, sessions)

    def check() -> None:
        require(len(seen), sessions, "sessions of the bare SDK")
        for one in seen:
            one.check(session, "bare SDK")

    return Load(name=f"{count} at once", pieces=sessions * session.deltas, play=run, check=check)


def _lines_load(count: int, lines: int, folder: Path) -> Load:
    """Return the load of a log with nothing around it: a `write` gives up the interpreter's lock to all who wait."""
    path, of_each = folder / "lines", lines // count

    def run() -> None:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        all_have_begun = threading.Barrier(count, timeout=PATIENCE_S)

        def write(_: int) -> None:
            all_have_begun.wait()
            for _ in range(of_each):
                os.write(descriptor, LINE)

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(write, range(count)))
        os.close(descriptor)

    def check() -> None:
        require(path.stat().st_size, count * of_each * len(LINE), "bytes of the lines")

    return Load(name=f"{count} at once", pieces=count * of_each, play=run, check=check)


def idle_row(counts: tuple[int, int]) -> Row:
    """Return the row of what an idle session holds: of so many that are open, one exchange done."""
    few, many = (_held_a_session(count) for count in counts)
    return sizes_row(
        f"an idle session, of {counts[1]:,}",
        [many],
        [few],
        against=f"the same, of {counts[0]:,}; Python's own count",
        unit="kB",
        bound=None,
    )


def _held_a_session(count: int) -> float:
    """Return how many kB a session holds that is open after one exchange, its part of what all share included."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        model = ScriptedModel(["So it is."] * (count + 1))
        observers = [JsonlReporter(Path(folder) / "sessions.jsonl"), UsageReporter(), TranscriptReporter()]
        agent = stack.enter_context(
            Agent(model, tools=[tool(read_lines)], system=SYSTEM, observers=observers)
        )
        require(
            agent.run(PROMPT).text, "So it is.", "an answer"
        )  # what the first of all sets up is no session's
        threads = threading.active_count()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            drivers = [stack.enter_context(agent.start()) for _ in range(count)]
            for driver in drivers:
                require(driver.run(PROMPT).text, "So it is.", "an answer")
            model.requests.clear()
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        # Fewer where a thread of what ran before has ended meanwhile.
        require(max(0, threading.active_count() - threads), 0, "threads of idle sessions")
        return held / count / 1000
