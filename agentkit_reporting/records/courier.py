"""The calling of handlers off the emitter's thread, async functions among them, on an event loop of its own."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from agentkit_loop.events import AgentEvent, CustomEvent
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.records.subscriptions import Subscribers
from agentkit_reporting.records.topics import Message

if TYPE_CHECKING:
    import asyncio


class Courier(LoopObserver):
    """Calls the handlers of the background, on its thread; knows no dispatcher, so that one can be given up."""

    def __init__(self, table: Subscribers) -> None:
        self._table = table
        self._inherited: list[object] = []  # loops of a parent process, which must not be closed here
        self._runner: asyncio.Runner | None = None
        self.begin_anew()

    def begin_anew(self) -> None:
        """Run nothing: at first, and in a forked child."""
        if self._runner is not None:
            self._inherited.append(self._runner)
        self._runner = None
        self._interrupts: collections.deque[BaseException] = collections.deque(maxlen=1)
        self.end_sinks: Callable[[], object] | None = None
        """Closes what subscribed and holds payloads, after the last one; None until the dispatcher is closed."""

    def raise_interrupt(self) -> None:
        """Raise, where payloads come from, what a handler interrupted with."""
        if self._interrupts:
            with contextlib.suppress(IndexError):  # another thread raises it
                raise self._interrupts.popleft()

    def handle_event(self, event: AgentEvent) -> None:
        """Call those who want the message in an envelope."""
        assert isinstance(event, CustomEvent)  # noqa: S101 - an envelope, see enveloped
        self._interrupts.extend(self._table.deliver(event.data, self._wait))

    def flush(self) -> None:
        """Deliver what late subscribers missed."""
        for subscription in self._table.all:
            if subscription.in_background and subscription.backlog is not None:
                self._interrupts.extend(self._table.replay(subscription, self._wait))

    def close(self) -> None:
        """End the loop, with the tasks that handlers left behind, then the sinks, whose accounts say how it went."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()
        if self.end_sinks is not None:
            self.end_sinks()

    def _wait(self, awaitable: Awaitable[object]) -> object:
        import asyncio  # noqa: PLC0415 - only async handlers need it

        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(_outcome(awaitable))


async def _outcome(awaitable: Awaitable[object]) -> object:
    return await awaitable


def enveloped(message: Message) -> CustomEvent:
    """Return a message as what a channel takes."""
    return CustomEvent(session_id=message.session_id, seq=message.number, name=message.topic, data=message)
