"""Sessions whose process is killed: each life is a forked child, the next one resumes from the log.

Run as a program of its own (`python -m tests.loop.killed_lives DIRECTORY KILLS SEED [BASE_URL]`), since only a
process without threads forks safely. It writes `N.jsonl` and `N.bodies` for each session into the directory, and
a line of JSON with what it did to it; with BASE_URL the model is the real one, at that server.

A moment is a number of events or of bodies, never a time: the child kills itself before an event is written, in
the middle of its line, after it, or inside a body; or it tells its parent through a pipe and goes on, and the
parent kills it wherever it is by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_wire import wire_messages
from agentkit_loop.models.protocol import Model, ModelRequest
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedModel, check_messages
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, tool
from agentkit_loop.usage import Usage
from agentkit_reporting.codec import encode_event
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events

PROMPTS = ("Begin.", "Go on.")
KINDS = ("before", "half", "after", "body", "parent", "parent")
MAX_EVENTS = 160
"""About as many as a session tells that nobody kills."""

_USAGE = Usage(input_tokens=20, output_tokens=8)


def reply_to(answered: int) -> Reply:
    """Return the model's answer after so many: three of four ask for tools, the fourth ends the exchange."""
    if answered % 4 == 3:
        return Reply(text="That was all of it.", chunk_chars=6, usage=_USAGE)
    names = (("work", "look"), ("work", "gated", "work"), ("look", "missing"))[answered % 4]
    calls = tuple(
        ScriptedCall(name=name, id=f"call_{answered}_{place}", input={"note": "x" * 9})
        for place, name in enumerate(names)
    )
    return Reply(text="I look into it.", calls=calls, chunk_chars=5, usage=_USAGE)


def scripted_reply(request: ModelRequest) -> Reply:
    """Answer as the served model does, and refuse what it would refuse."""
    refusal = check_messages({"model": "m", "max_tokens": 1, "messages": wire_messages(request.items)})
    if refusal is not None:
        raise ValueError(refusal)
    return reply_to(sum(item.kind == "assistant" for item in request.items))


def served_reply(body: Any) -> Reply:
    """Answer a request's body."""
    return reply_to(sum(message["role"] == "assistant" for message in body["messages"]))


@attrs.frozen
class Moment:
    """When a life ends. at: the number of the event or body. write: the pipe to the parent."""

    kind: str
    at: int
    write: int


class Death:
    """Ends the process at its moment; `before` and `after` are observers around the log."""

    def __init__(self, moment: Moment | None, log: Path) -> None:
        self._moment = moment
        self._log = log
        self._told = 0
        self._bodies = 0
        self._lock = threading.Lock()

    def before(self, event: AgentEvent) -> None:
        self._told += 1
        if self._is("half", self._told):
            with self._log.open("ab", buffering=0) as log:
                log.write(encode_event(event)[:30])
            die()
        if self._is("before", self._told):
            die()

    def after(self, event: AgentEvent) -> None:
        del event
        if self._is("after", self._told):
            die()
        if self._moment is not None and self._is("parent", self._told):
            os.write(self._moment.write, b"!")

    def in_body(self) -> None:
        with self._lock:
            self._bodies += 1
            if self._is("body", self._bodies):
                die()

    def _is(self, kind: str, number: int) -> bool:
        return self._moment is not None and (self._moment.kind, self._moment.at) == (kind, number)


def die() -> None:
    """End the process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def make_tools(bodies: Path, death: Death) -> list[Tool[..., Any]]:
    """Return the tools; each notes in a file that its body ran, before it does anything else."""

    def note(context: ToolContext, name: str) -> None:
        line = f"{name} {context.call_id} {context.attempt}\n".encode()
        fd = os.open(bodies, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, line)
        os.close(fd)
        death.in_body()

    return [_noting(name, note) for name in ("work", "look", "gated")]


def _noting(name: str, note_run: Callable[[ToolContext, str], None]) -> Tool[..., Any]:
    def body(context: ToolContext, note: str = "") -> str:
        """Work."""
        note_run(context, name)
        return f"{name}: {note}"

    return tool(body, name=name, idempotent=name == "look", approval=name == "gated")


def live(log: Path, moment: Moment | None, base_url: str | None, *, asynchronous: bool) -> None:
    """Begin the session or go on with it, to the end of both prompts or of the process."""
    death = Death(moment, log)
    model: Model = (
        ScriptedModel(scripted_reply)
        if base_url is None
        else AnthropicModel("claude-sonnet-5", base_url=base_url, api_key="sk-test")
    )
    agent = Agent(
        model,
        tools=make_tools(log.with_suffix(".bodies"), death),
        observers=[death.before, JsonlReporter(log, fsync="never"), death.after],
        approve=lambda _: True,
    )
    begun = log.exists() and any(True for _ in read_events(log))
    if asynchronous:
        asyncio.run(_alive(agent, log, begun=begun))
        return
    with agent.resume(read_events(log)) if begun else agent.start(session_id="session") as driver:
        for prompt in (None, *PROMPTS[_asked(log) :]):
            if prompt is not None:
                driver.submit(prompt)
            for _ in driver:
                pass


async def _alive(agent: Agent, log: Path, *, begun: bool) -> None:
    driver = agent.aresume(read_events(log)) if begun else agent.astart(session_id="session")
    async with driver:
        for prompt in (None, *PROMPTS[_asked(log) :]):
            if prompt is not None:
                driver.submit(prompt)
            async for _ in driver:
                pass


def _asked(log: Path) -> int:
    """Return how many prompts the log has."""
    return sum(event.type == "input_accepted" for event in read_events(log))


def fork_life(log: Path, kind: str | None, at: int, base_url: str | None, *, asynchronous: bool) -> int:
    """Live once in a child; return the signal that ended it, 0 where it came to its end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        with contextlib.suppress(BaseException):
            try:
                live(
                    log,
                    None if kind is None else Moment(kind, at, write),
                    base_url,
                    asynchronous=asynchronous,
                )
                status = 0
            except BaseException:  # noqa: BLE001 - a child of a fork never returns
                traceback.print_exc()
        os._exit(status)
    os.close(write)
    if os.read(read, 1):  # nothing comes where the child ended before
        os.kill(child, signal.SIGKILL)
    os.close(read)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError(f"the child that was to die {kind} {at} failed with {os.WEXITSTATUS(status)}")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main() -> None:
    """Kill as often as is asked for; each session is killed one to three times, then lives to its end."""
    directory, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    base_url = sys.argv[4] if len(sys.argv) > 4 else None
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    if base_url is not None:
        import anthropic  # noqa: F401, PLC0415 - once here, and not in each child
    done = session = 0
    while done < kills:
        session += 1
        log = directory / f"{session}.jsonl"
        deaths: list[str] = []
        for _ in range(min(chance.randint(1, 3), kills - done)):
            kind = chance.choice(KINDS)
            at = chance.randint(1, 4 if kind == "body" else MAX_EVENTS)
            mode = chance.random() < 0.5
            if fork_life(log, kind, at, base_url, asynchronous=mode) == signal.SIGKILL:
                deaths.append(f"{kind} {at}{' async' if mode else ''}")
        done += len(deaths)
        fork_life(log, None, 0, base_url, asynchronous=chance.random() < 0.5)
        print(json.dumps({"session": session, "deaths": deaths}), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
