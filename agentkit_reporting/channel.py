"""ChannelReporter: events on their way to somebody else: a queue, a thread, an event loop.

What it costs the one who tells: a lock and a place in a deque. Drops are told in three places, none of which is an
event, because an observer must not see what the log does not have: `dropped` of the channel in
`RunFinished.observers`, one warning through `logging`, and for the observer behind it the gap in `seq`. The exact
counts are in `account()`.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from agentkit_loop.endings import Ending
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import EventKind, Observer, Registration
from agentkit_reporting.accounting import Account
from agentkit_reporting.delivery import Delivery, LoopDelivery, ThreadDelivery
from agentkit_reporting.event_queue import (
    DEFAULT_MAXSIZE,
    DEFAULT_OVERFLOW,
    DEFAULT_PATIENCE_S,
    ChannelFullError,
    EventQueue,
    Overflow,
)
from agentkit_reporting.inner import Inner, ReportingAdapter, bounded
from agentkit_reporting.process_ends import watch

if TYPE_CHECKING:
    import asyncio

__all__ = ["ChannelFullError", "ChannelReceiver", "ChannelReporter", "Overflow", "Sender"]


@runtime_checkable
class Sender(Protocol):
    """Where a channel puts events. It may also have `flush(timeout_s)`, `close(timeout_s)` and `account()`."""

    def send(self, event: AgentEvent) -> object:
        """Take one event, at once; raises where it cannot."""


class ChannelReporter(ReportingAdapter):
    """Forwards events to a sender: an object with `send(event)`, or a callable such as `queue.put_nowait`.

    A sender that raises has lost that event: it counts as failed, and is judged by the policy of this observer.
    Made ready: `pair` (a receiver for somebody else's thread or event loop), `threaded` (an observer on its own
    thread), `on_loop` (an observer or async function on an event loop). These are bounded, and take:

    maxsize: events that wait at most. overflow: what happens beyond that, see `Overflow`. patience_s: how long a
    producer waits under "block" for a consumer that takes nothing at all, before events are dropped instead.

    No run waits for a consumer: around its end the loop has what is held delivered and flushed where it is delivered
    (`hand_over`), and waits 0.1 s at most, which a quick one needs; one that was not done by then is not waited for
    again before it has caught up. `flush` and `close` wait as told. `Agent.close()` waits 5 s for a flush and 5 s for a
    close. When the interpreter exits what is held is delivered, for at most 5 s, and what is lost is logged; a signal
    that ends the process without an exit, as SIGTERM does unless the program handles it, takes it along.

    Safe for threads. A forked child begins empty. An event after `close` is refused and counts as failed. Neither
    `flush` nor `close` waits on an event loop: use `aflush` and `aclose` there.
    """

    def __init__(self, sender: Sender | Callable[[AgentEvent], object]) -> None:
        super().__init__()
        send: Any = getattr(sender, "send", sender)
        if isinstance(sender, type) or not callable(send):
            raise ConfigurationError(
                f"{sender!r} refused because it takes no events; give an object with send(event), or a callable"
            )
        self._counts: _Counted | None = None
        if not callable(getattr(sender, "account", None)):
            self._counts = _Counted(sender, send)
            send = self._counts.send
        self._sender: Any = self._counts or sender
        self.pass_on = send  # type: ignore[method-assign] # without a frame in between: every delta passes here

    def pass_on(self, event: AgentEvent) -> None:
        """Send one event; what raises is the sender, or what the observer behind it raised since the last one."""
        self._sender.send(event)

    # --- the ready made

    @classmethod
    def pair(
        cls,
        maxsize: int = DEFAULT_MAXSIZE,
        overflow: Overflow = DEFAULT_OVERFLOW,
        *,
        patience_s: float | None = DEFAULT_PATIENCE_S,
        wants: tuple[EventKind, ...] = (),
    ) -> tuple[ChannelReporter, ChannelReceiver]:
        """Return a reporter and the receiver of its events. wants: what the receiver wants, empty for all.

        Its `flush` and `close` wait for the receiver only as long as they are told to; without a time not at
        all, since it may be read by the very thread that closes.
        """
        events = EventQueue("the channel", maxsize=maxsize, overflow=overflow, patience_s=patience_s)
        reporter = cls(_Pipe(events))
        reporter.wants = wants  # type: ignore[misc] # of this one observer
        weakref.finalize(reporter, events.close).atexit = False  # nobody can send any more
        return reporter, ChannelReceiver(events)

    @classmethod
    def threaded(
        cls,
        inner: Observer | Registration,
        *,
        maxsize: int = DEFAULT_MAXSIZE,
        overflow: Overflow = DEFAULT_OVERFLOW,
        patience_s: float | None = DEFAULT_PATIENCE_S,
    ) -> ChannelReporter:
        """Run an observer on a thread of its own, started with the first event.

        What it raises is told with the next event. `close` closes it, on its thread.
        """
        return cls._to(ThreadDelivery(inner, maxsize=maxsize, overflow=overflow, patience_s=patience_s))

    @classmethod
    def on_loop(
        cls,
        inner: Observer | Registration | Callable[[AgentEvent], Awaitable[object]],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        maxsize: int = DEFAULT_MAXSIZE,
        overflow: Overflow = DEFAULT_OVERFLOW,
        patience_s: float | None = DEFAULT_PATIENCE_S,
    ) -> ChannelReporter:
        """Run an observer, or an async function, on an event loop: the running one where none is given.

        The loop is woken once for all events that came meanwhile. Raises ConfigurationError where none runs.
        """
        return cls._to(LoopDelivery(inner, loop, maxsize=maxsize, overflow=overflow, patience_s=patience_s))

    @classmethod
    def _to(cls, delivery: Delivery) -> ChannelReporter:
        reporter = cls(delivery)
        reporter.wants = delivery.inner.wants  # type: ignore[misc] # of this one observer
        weakref.finalize(reporter, delivery.let_go).atexit = False  # at exit it is flushed, not ended
        return reporter

    @property
    def inners(self) -> tuple[Inner, ...]:
        """The observer behind, as it is called; none where the sender is somebody else's."""
        return (self._sender.inner,) if isinstance(self._sender, Delivery) else ()

    # --- account, flush, close

    def account(self) -> Account:
        """Return what became of the events; those of a pair are delivered when the receiver took them."""
        account: Account = self._sender.account()
        return account

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until what is held is delivered, and flush what is behind; whether everything so far arrived.

        timeout_s: None waits without a bound; of a pair, not at all.
        """
        return self._ask("flush", timeout_s) and not self.account().lost

    def hand_over(self) -> bool:
        """Have what is held delivered and flushed behind, and wait for it no longer than a quick consumer needs, 0.1 s.

        Returns whether that was done, and nothing was lost since the last time. A sender of one's own is flushed.
        """
        step = getattr(self._sender, "hand_over", None)
        handed_over = step() is not False if callable(step) else self._ask("flush", None)
        return handed_over and self._lost_nothing_more()

    def close(self, timeout_s: float | None = None) -> bool:
        """Take no more, deliver what is held, close what is behind; whether everything arrived."""
        return self._ask("close", timeout_s) and self.account().is_complete

    async def aflush(self, timeout_s: float | None = None) -> bool:
        """Do as `flush` does, without holding up the event loop."""
        import asyncio  # noqa: PLC0415 - a third of what this package takes to import

        return await asyncio.to_thread(self.flush, timeout_s)

    async def aclose(self, timeout_s: float | None = None) -> bool:
        """Do as `close` does, without holding up the event loop."""
        import asyncio  # noqa: PLC0415 - as above

        return await asyncio.to_thread(self.close, timeout_s)

    def _ask(self, method: str, timeout_s: float | None) -> bool:
        step = getattr(self._sender, method, None)
        return not callable(step) or step(timeout_s) is not False


class ChannelReceiver:
    """The other end of `ChannelReporter.pair`: iterable, also with `async for`; ends when the reporter is closed.

    An event counts as delivered when it was taken. Several threads or tasks may take; each event goes to one of
    them. Once the receiver is closed, or nobody has it any more, events are dropped and counted.
    """

    def __init__(self, events: EventQueue) -> None:
        self._events = events
        weakref.finalize(self, events.abandon).atexit = False

    def get(self, timeout_s: float | None = None) -> AgentEvent | None:
        """Return the next event, None at the end; raises queue.Empty after `timeout_s`. Not for an event loop."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while (event := self._events.take_one()) is None:
            if self._events.is_closed:
                return self._events.take_one()  # the last may have come in between
            gate = threading.Lock()
            gate.acquire()
            left = -1 if until is None else until - time.monotonic()
            if until is not None and left <= 0:
                raise queue.Empty
            if self._events.ask_to_be_woken(gate.release) and not gate.acquire(timeout=left):
                self._events.forget(gate.release)
        return event

    def __iter__(self) -> Iterator[AgentEvent]:
        """Iterate over the events as they come, until the reporter is closed."""
        while (event := self.get()) is not None:
            yield event

    async def aget(self) -> AgentEvent | None:
        """Return the next event, None at the end, without holding up the event loop."""
        import asyncio  # noqa: PLC0415 - as above

        loop = asyncio.get_running_loop()
        while (event := self._events.take_one()) is None:
            if self._events.is_closed:
                return self._events.take_one()
            woken = asyncio.Event()
            wake = functools.partial(loop.call_soon_threadsafe, woken.set)
            if self._events.ask_to_be_woken(wake):
                try:
                    await woken.wait()
                finally:
                    self._events.forget(wake)
        return event

    async def __aiter__(self) -> AsyncIterator[AgentEvent]:
        """Iterate over the events as they come; the loop is woken once for all that came meanwhile."""
        while (event := await self.aget()) is not None:
            yield event

    def close(self) -> None:
        """Take no more; what was not taken is dropped, and counted."""
        self._events.abandon()


class _Pipe:
    """The sender of a pair."""

    def __init__(self, events: EventQueue) -> None:
        self._events = events
        self.send = events.put
        watch(self, at_exit=False)

    def begin_anew(self) -> None:
        self._events.begin_anew()

    def flush(self, timeout_s: float | None = None) -> bool:
        return self._events.wait_until_done(timeout_s or 0.0)

    def hand_over(self) -> bool:
        return self.flush(0.0)

    def close(self, timeout_s: float | None = None) -> bool:
        self._events.close()
        return self._events.wait_until_done(timeout_s or 0.0)

    def account(self) -> Account:
        (received, dropped, done), refused = self._events.counts(), self._events.refused
        return Account(
            name="ChannelReporter",
            received=received + refused,
            delivered=done,
            dropped=dropped,
            failed=refused,
            pending=received - dropped - done,
        )


class _Counted:
    """A sender of somebody else's, with an account."""

    def __init__(self, sender: object, send: Callable[[AgentEvent], object]) -> None:
        self._sender, self._send = sender, send
        self.begin_anew()
        watch(self, at_exit=False)

    def begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._received = self._failed = 0

    def send(self, event: AgentEvent) -> None:
        with self._lock:
            self._received += 1
        try:
            self._send(event)
        except BaseException:
            with self._lock:
                self._failed += 1
            raise

    def flush(self, timeout_s: float | None = None) -> bool:
        return self._pass("flush", timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        return self._pass("close", timeout_s)

    def _pass(self, method: str, timeout_s: float | None) -> bool:
        step = getattr(self._sender, method, None)
        return not callable(step) or bounded(
            Ending(self._sender, type(self._sender).__name__, method, step), timeout_s
        )

    def account(self) -> Account:
        with self._lock:
            received, failed = self._received, self._failed
        return Account(name="ChannelReporter", received=received, delivered=received - failed, failed=failed)
