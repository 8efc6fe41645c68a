"""What tests of agents need: a scripted model, scripted tools, a clock that obeys, a recorder, a server.

Users test with these, and so does this project. Nothing here is loaded by `import agentkit_loop`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import datetime as dt
import queue
import threading
from collections.abc import Callable
from typing import Any

from agentkit_loop.clock import Clock
from agentkit_loop.events import AgentEvent
from agentkit_loop.models.scripted import Reply, ScriptedCall, ScriptedFailure, ScriptedModel
from agentkit_loop.observers import LoopObserver
from agentkit_loop.testing_messages import check_messages
from agentkit_loop.testing_server import MessagesServer, ServerReply
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, tool
from agentkit_loop.values import JSON

__all__ = [
    "EventRecorder",
    "MessagesServer",
    "Reply",
    "ScriptedCall",
    "ScriptedFailure",
    "ScriptedModel",
    "ScriptedTool",
    "ServerReply",
    "VirtualClock",
    "check_messages",
]

_WAKE = object()


class VirtualClock(Clock):
    """A clock that moves only when it is told to, or when everybody only waits for it.

    `sleep` moves it. A driver that waits with nobody at work moves it to the moment that it waits for; with
    a tool at work it waits until the tool answers or somebody calls `advance`. Safe for threads.
    """

    def __init__(self, start: dt.datetime | None = None) -> None:
        self._start = start or dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._seconds = 0.0
        self._lock = threading.Lock()
        self._wakers: dict[int, tuple[float | None, Callable[[], None]]] = {}
        self.now = self._read_now

    def _read_now(self) -> dt.datetime:
        return self._start + dt.timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        """Return the virtual seconds since the clock was made."""
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Move time on and wake whoever waited for a moment that has come."""
        with self._lock:
            self._seconds += seconds
            due = [wake for until, wake in self._wakers.values() if until is None or until <= self._seconds]
        for wake in due:
            wake()

    def alarm(self, seconds: float, act: Callable[[], object]) -> Callable[[], object]:
        """See Clock.alarm; the act is done by whoever moves time there."""

        def ring() -> None:
            if self._wakers.pop(key, None) is not None:
                act()

        key = self._enter(self._seconds + seconds, ring)
        return lambda: self._wakers.pop(key, None)

    def sleep(self, seconds: float) -> None:
        """Move time on."""
        self.advance(seconds)

    def pause(self, seconds: float, cut: threading.Event) -> bool:
        """Move time on, unless `cut` is set."""
        if not cut.is_set():
            self.advance(seconds)
        return cut.is_set()

    async def asleep(self, seconds: float) -> None:
        """Move time on, and let others run."""
        self.advance(seconds)
        await asyncio.sleep(0)

    def wait(self, inbox: queue.SimpleQueue[Any], seconds: float | None, *, busy: bool) -> Any | None:
        """See Clock.wait."""
        if not busy and seconds is not None and inbox.empty():
            self.advance(seconds)
            return None
        until = None if seconds is None else self._seconds + seconds
        key = self._enter(until, lambda: inbox.put(_WAKE))
        try:
            while True:
                entry = inbox.get()
                if entry is not _WAKE:
                    return entry
                if until is not None and self._seconds >= until:
                    return None
        finally:
            self._wakers.pop(key, None)

    async def await_change(self, changed: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        """See Clock.await_change."""
        if not busy and seconds is not None and not changed.is_set():
            self.advance(seconds)
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        until = None if seconds is None else self._seconds + seconds
        key = self._enter(until, lambda: loop.call_soon_threadsafe(changed.set))
        try:
            await changed.wait()
        finally:
            self._wakers.pop(key, None)

    def _enter(self, until: float | None, wake: Callable[[], Any]) -> int:
        with self._lock:
            key = max(self._wakers, default=0) + 1
            self._wakers[key] = (until, wake)
            return key


class EventRecorder(LoopObserver):
    """An observer that keeps every event."""

    def __init__(self) -> None:
        self.events: list[AgentEvent] = []

    def handle_event(self, event: AgentEvent) -> None:
        """Keep the event."""
        self.events.append(event)

    @property
    def types(self) -> list[str]:
        """The wire names, in order."""
        return [event.type for event in self.events]

    def of(self, cls: type[AgentEvent]) -> list[Any]:
        """Return the events of a class, in order."""
        return [event for event in self.events if isinstance(event, cls)]


class ScriptedTool:
    """A tool whose calls end when the test says so.

    `release(call_id, output)` ends a call, before or after it started; `fail` ends it with an error.
    started: the ids of the calls whose body began, in order. Give `tool` to the agent.
    """

    def __init__(
        self, name: str = "work", *, timeout_s: float | None = None, asynchronous: bool = False
    ) -> None:
        self.name = name
        self.started: list[str] = []
        self._condition = threading.Condition()
        self._outcomes: dict[str, Callable[[], object]] = {}
        self._futures: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self._contexts: collections.OrderedDict[str, ToolContext] = collections.OrderedDict()
        body: Callable[..., object] = self._abody if asynchronous else self._body
        described = "Works until the test says that it is done."
        self.tool: Tool[..., Any] = tool(name=name, description=described, timeout_s=timeout_s)(body)

    def release(self, call_id: str, output: object = "done") -> None:
        """End a call with its output."""
        self._decide(call_id, lambda: output)

    def fail(self, call_id: str, error: BaseException) -> None:
        """End a call with an error."""

        def raise_it() -> object:
            raise error

        self._decide(call_id, raise_it)

    def release_all(self, output: object = "done") -> None:
        """End every call that has started and was not ended."""
        for call_id in [call_id for call_id in self.started if call_id not in self._outcomes]:
            with contextlib.suppress(RuntimeError):  # its event loop is gone, and the body with it
                self.release(call_id, output)

    def context(self, call_id: str) -> ToolContext:
        """Return the context of a call that has started."""
        return self._contexts[call_id]

    def _decide(self, call_id: str, outcome: Callable[[], object]) -> None:
        with self._condition:
            self._outcomes[call_id] = outcome
            self._condition.notify_all()
            waiting = self._futures.get(call_id)
        if waiting is not None:
            waiting[0].call_soon_threadsafe(waiting[1].set)

    def _begin(self, context: ToolContext) -> None:
        self.started.append(context.call_id)
        self._contexts[context.call_id] = context

    def _body(self, context: ToolContext, note: JSON = None) -> object:
        del note
        with self._condition:
            self._begin(context)
            self._condition.wait_for(lambda: context.call_id in self._outcomes)
            outcome = self._outcomes[context.call_id]
        return outcome()

    async def _abody(self, context: ToolContext, note: JSON = None) -> object:
        del note
        released = asyncio.Event()
        with self._condition:
            self._begin(context)
            self._futures[context.call_id] = (asyncio.get_running_loop(), released)
            known = context.call_id in self._outcomes
        if not known:
            await released.wait()
        return self._outcomes[context.call_id]()
