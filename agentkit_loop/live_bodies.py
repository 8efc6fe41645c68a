"""Bodies of tools that really run in a replay: on daemon threads, async ones on the event loop if there is one."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from typing import TYPE_CHECKING, Any

import attrs

from agentkit_loop.body_threads import BodyThreads
from agentkit_loop.clock import Clock
from agentkit_loop.credentials import Credentials
from agentkit_loop.execution import arun_body, run_body
from agentkit_loop.signals import AuthWanted, ToolReturned
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool
from agentkit_loop.values import JSON

if TYPE_CHECKING:
    import asyncio

PLACEHOLDER = "credential-of-the-replay"
"""What a tool gets for a credential that the recorded session was given."""


@attrs.frozen
class Awaited:
    """A body whose outcome is needed now. timeout_s: how long it may take, None for no bound."""

    call_id: str
    attempt: int
    timeout_s: float | None

    @property
    def late(self) -> ToolReturned:
        """The outcome of a body that takes longer, as the loop tells it."""
        return ToolReturned(
            call_id=self.call_id,
            attempt=self.attempt,
            output=f"The tool did not finish within {self.timeout_s:g} seconds; what it did is not known.",
            duration_ms=0.0,
            is_error=True,
        )


class Bodies:
    """The bodies of one replay. loop: where async ones run; None without one. Threads may come and go."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.credentials = Credentials()
        self._loop = loop
        self._clock = Clock()
        self._threads = BodyThreads()
        self._condition = threading.Condition()
        self._outcomes: dict[tuple[str, int], ToolReturned | AuthWanted] = {}
        self._contexts: dict[str, ToolContext] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timeouts: dict[tuple[str, int], float | None] = {}
        self._wake: asyncio.Event | None = None

    def start(self, tool: Tool[..., Any], context: ToolContext, arguments: dict[str, JSON]) -> None:
        """Run a body; its outcome is kept until it is asked for."""
        self._contexts[context.call_id] = context
        self._timeouts[context.call_id, context.attempt] = tool.timeout_s
        if tool.is_async and self._loop is not None:

            async def body() -> None:
                self._put(await arun_body(tool, context, arguments, self._clock))

            self._tasks[context.call_id] = self._loop.create_task(body(), name=f"tool-{tool.name}")
            return

        def work() -> None:
            self._put(run_body(tool, context, arguments, self._clock))

        carried = contextvars.copy_context()
        self._threads.run(f"tool-{tool.name}", functools.partial(carried.run, work))

    def awaited(self, call_id: str, attempt: int) -> Awaited | None:
        """Return what has to be waited for before `outcome`; None where no body of the call was started here."""
        key = (call_id, attempt)
        return Awaited(call_id, attempt, self._timeouts[key]) if key in self._timeouts else None

    def outcome(self, awaited: Awaited) -> ToolReturned | AuthWanted:
        """Return what came of a body that was waited for."""
        with self._condition:
            outcome = self._outcomes.pop((awaited.call_id, awaited.attempt), None)
        return awaited.late if outcome is None else outcome

    def wait(self, awaited: Awaited) -> None:
        """Wait for a body on this thread."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_in(awaited), awaited.timeout_s)

    async def await_outcome(self, awaited: Awaited) -> None:
        """Wait for a body on the event loop."""
        import asyncio  # noqa: PLC0415 - a third of what this package takes to import; only async replays need it

        self._wake = self._wake or asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(awaited.timeout_s):
                while not self._is_in(awaited):
                    await self._wake.wait()
                    self._wake.clear()

    def stop(self) -> None:
        """Ask every body that runs to stop."""
        for context in self._contexts.values():
            context.cancel()

    def let_go(self, call_id: str) -> None:
        """Forget a call that has its result; a body that still runs is abandoned."""
        context, task = self._contexts.pop(call_id, None), self._tasks.pop(call_id, None)
        if context is not None:
            context.cancel()
            context.close()
        if task is not None and not task.done():
            task.cancel()

    def close(self) -> None:
        """Abandon what still runs."""
        for call_id in list(self._contexts):
            self.let_go(call_id)
        self._threads.close()

    def _is_in(self, awaited: Awaited) -> bool:
        return (awaited.call_id, awaited.attempt) in self._outcomes

    def _put(self, outcome: ToolReturned | AuthWanted) -> None:
        with self._condition:
            self._outcomes[outcome.call_id, outcome.attempt] = outcome
            self._condition.notify_all()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        if self._wake is not None:
            self._wake.set()
