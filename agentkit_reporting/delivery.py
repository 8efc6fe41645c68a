"""What takes events out of a queue and gives them to an observer: a thread, or a task on an event loop.

A delivery begins with the first event. Flush and close are done where the events are delivered, so that the observer
is never called from two places at once; neither waits on an event loop, nor where the events are delivered.
"""

from __future__ import annotations

import collections
import functools
import inspect
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.observers import LoopObserver, Observer, Registration
from agentkit_reporting.accounting import Account
from agentkit_reporting.event_queue import EventQueue, is_on_event_loop
from agentkit_reporting.inner import Inner, finish
from agentkit_reporting.process_ends import log_lost, watch, watch_child

if TYPE_CHECKING:
    import asyncio


_TASK_NAME = "agentkit-channel"

HAND_OVER_S = 0.1
"""How long a hand-over waits for a consumer that is not behind; a quick one writes thousands of events in it."""


class Flush:
    """A flush of the observer that was asked for, on its way to where the events are delivered.

    due_at: the count of `done` from which on it may be done. method: "flush", or "hand_over", which waits for no
    channel behind.
    """

    def __init__(self, due_at: int, method: str = "flush") -> None:
        self.due_at = due_at
        self.method = method
        self.went_well = False
        self.ended = threading.Event()


class Delivery(ABC):
    """A queue and the observer behind it; what both forms of delivery share.

    limits: maxsize, overflow and patience_s of the queue.
    """

    def __init__(self, inner: Observer | Registration, **limits: Any) -> None:
        self.inner = Inner(inner)
        self.queue = EventQueue(f"the channel to {self.inner.name}", start=self._begin, **limits)
        self.send = self.queue.put
        self._forget()
        watch(self)

    def _forget(self) -> None:
        self._flushes: collections.deque[Flush] = collections.deque()
        self._asking = threading.RLock()  # re-entrant: a signal handler may flush what it interrupted
        self._is_behind = False  # a hand-over was not done in its time, and has not been since
        self._failed = self._unwanted = (
            0  # events on which the observer raised; that came after it was retired
        )
        self._is_let_go = self._closed_well = False
        self._ending = threading.Lock()  # two that close at once, before anything was delivered
        self._ended = threading.Event()

    def begin_anew(self) -> None:
        """Begin empty: this is a forked child, which has neither the thread nor the loop."""
        self.queue.begin_anew()
        self._forget()

    def _begin(self) -> None:
        watch_child()
        self._start()

    @abstractmethod
    def _start(self) -> None:
        """Have events delivered from now on."""

    # --- where the events are delivered

    def _is_for_nobody(self, event: AgentEvent) -> bool:
        if not self.inner.is_active:
            self._unwanted += 1
            return True
        return self.inner.failed_itself(event)

    def _note(self, event: AgentEvent, error: BaseException) -> None:
        """Account for what the observer raised, and have it told with the next event."""
        if not isinstance(error, Exception):
            self._failed += 1
            self.queue.interrupt(error)
            return
        failed_before = self.inner.failed
        failures = self.inner.failures(event, error)
        self._failed += self.inner.failed - failed_before
        self.queue.fail(failures)

    def _do_flushes(self, *, all_of_them: bool = True) -> bool:
        """Flush the observer for everybody who asked, or those whose events are delivered; whether anybody did."""
        if not self._flushes:
            return False
        with self._asking:
            done = self.queue.done
            asked = [flush for flush in self._flushes if all_of_them or flush.due_at <= done]
            for flush in asked:
                self._flushes.remove(flush)
        if asked:
            explicit = any(flush.method == "flush" for flush in asked)
            went_well = self._finish("flush" if explicit else "hand_over")
            self.queue.log_ended()
            self._is_behind = False
            for flush in asked:
                flush.went_well = went_well
                flush.ended.set()
        return bool(asked)

    def _end(self) -> None:
        """Close the observer, after the last event."""
        flushed = self._finish("flush")
        self._closed_well = (self._is_let_go or self._finish("close")) and flushed
        self._ended.set()
        self._do_flushes()
        if self._is_let_go:
            self.queue.untold.log()
        self.queue.abandon()  # what a producer put in the moment that this took to end

    def _finish(self, method: str) -> bool:
        try:
            return finish((self.inner,), method, None)
        except BaseException as error:  # noqa: BLE001 - an interrupt is raised where the events come from
            self.queue.interrupt(error)
            return False

    # --- from outside

    @property
    def pending(self) -> int:
        """How many events are held, or being delivered."""
        return self.queue.pending

    def account(self) -> Account:
        """Return what became of the events."""
        (received, dropped, done), refused = self.queue.counts(), self.queue.refused
        failed, unwanted = self._failed, self._unwanted
        delivered = done - failed - unwanted
        return Account(
            name="ChannelReporter",
            received=received + refused,
            delivered=delivered,
            dropped=dropped + unwanted,
            failed=failed + refused,
            pending=received - dropped - done,
            inner=(self.inner.account(delivered),),
        )

    @property
    def _is_delivering(self) -> bool:
        return self.queue.is_started and not self.queue.is_abandoned and not self._ended.is_set()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until what is held is delivered, and have the observer flushed."""
        if not self._is_delivering:
            return finish((self.inner,), "flush", timeout_s) and not self.account().lost
        until = None if timeout_s is None else time.monotonic() + timeout_s
        if not self.queue.wait_until_done(timeout_s):
            return False
        flush = self._ask_for(Flush(0))
        left = None if until is None else max(0.0, until - time.monotonic())
        return self._wait(flush.ended, left) and flush.went_well and not self.account().lost

    def hand_over(self) -> bool:
        """Have what is held delivered and the observer flushed; waits only for one that is quick."""
        if not self._is_delivering:
            return finish((self.inner,), "hand_over", None)
        was_behind, flush = self._is_behind, self._ask_to_hand_over()
        if not self._wait(flush.ended, 0.0 if was_behind else HAND_OVER_S):
            self._is_behind = not flush.ended.is_set()
            return False
        return flush.went_well

    def ask_for_flush(self) -> None:
        """Have what is held delivered and the observer flushed, without waiting."""
        if self._is_delivering:
            self._ask_to_hand_over()

    def _ask_to_hand_over(self) -> Flush:
        """Ask for it after what is held now; of very many that wait for a consumer that hangs two are kept."""
        due_at = self.queue.done + self.queue.pending
        with self._asking:
            waiting = [flush for flush in self._flushes if flush.method == "hand_over"]
            if len(waiting) > 1:
                waiting[-1].due_at = due_at
                return waiting[-1]
            return self._ask_for(Flush(due_at, "hand_over"))

    def _ask_for(self, flush: Flush) -> Flush:
        with self._asking:
            self._flushes.append(flush)
        self.queue.wake()
        if self._ended.is_set():  # by a close in between: nobody looks any more
            self._do_flushes()
        return flush

    def tell_lost(self) -> None:
        """Log what the end of the process takes with it."""
        received, dropped, done = self.queue.counts()
        log_lost(self.queue.name, received - dropped - done, received)
        self.queue.untold.log()

    def close(self, timeout_s: float | None = None) -> bool:
        """Take no more, deliver what is held, close the observer."""
        self.queue.close()
        if not self._is_delivering:  # and it will not be any more
            with self._ending:
                if not self._ended.is_set():
                    self._closed_well = finish((self.inner,), "close", timeout_s)
                    self._ended.set()
        if not self._wait(self._ended, timeout_s):
            return False
        self.queue.untold.log()
        return self._closed_well and self.account().is_complete

    def let_go(self) -> None:
        """Deliver what is held and end: nobody can give more. The observer is flushed and stays open."""
        self._is_let_go = True
        self.queue.close()

    def _wait(self, happened: threading.Event, timeout_s: float | None) -> bool:
        if is_on_event_loop() or self.queue.consumer == threading.get_ident():
            return happened.is_set()
        return happened.wait(timeout_s)


class ThreadDelivery(Delivery):
    """Gives the events to an observer on a thread of its own, a daemon's."""

    def _start(self) -> None:
        threading.Thread(target=self._run, name=f"agentkit-channel-{self.inner.name}", daemon=True).start()

    def _run(self) -> None:
        queue, inner, handle = self.queue, self.inner, self.inner.handle
        queue.consumer = threading.get_ident()
        gate = threading.Lock()
        gate.acquire()
        while True:
            events = queue.take_some()
            for event in events:
                try:
                    if event.__class__ is ObserverFailed or not inner.is_active:
                        if not self._is_for_nobody(event):
                            handle(event)
                    else:
                        handle(event)
                except BaseException as error:  # noqa: BLE001 - told with the next event; nobody is above this
                    self._note(event, error)
                queue.done += 1
            if self._do_flushes(all_of_them=not events) or events:
                continue
            if queue.is_closed:
                break
            if queue.ask_to_be_woken(gate.release):
                gate.acquire()
        self._end()


class LoopDelivery(Delivery):
    """Gives the events to an observer, or to an async function, on an event loop.

    loop: the one that runs here where None. The loop is woken once for all events that came meanwhile, and others on
    it have a turn after each batch. When the loop ends as `asyncio.run` ends it, by cancelling its tasks, what is
    held and what those tasks still tell is delivered first. What comes later is dropped and counted.
    """

    def __init__(
        self,
        inner: Observer | Registration | Callable[[AgentEvent], Awaitable[object]],
        loop: asyncio.AbstractEventLoop | None,
        **limits: Any,
    ) -> None:
        import asyncio  # noqa: PLC0415 - a third of what this package takes to import; only this form needs it

        try:
            self._loop = asyncio.get_running_loop() if loop is None else loop
        except RuntimeError:
            raise ConfigurationError(
                "a channel to an event loop refused where none runs; give it as loop="
            ) from None
        self._task: asyncio.Task[None] | None = None  # held here: the loop holds tasks weakly
        self._has_begun = False
        super().__init__(_observer(inner), **limits)

    def begin_anew(self) -> None:
        """Take nothing: this is a forked child, where the loop does not run."""
        super().begin_anew()
        self.queue.abandon()

    def _start(self) -> None:
        if is_on_event_loop(self._loop):
            self._create_task()
        else:
            self._loop.call_soon_threadsafe(self._create_task)

    def _create_task(self, *, at_the_end: bool = False) -> None:
        self._task = self._loop.create_task(self._run(at_the_end=at_the_end), name=_TASK_NAME)
        self._task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and not self._has_begun:  # the loop ends, and has a few turns left
            self._create_task(at_the_end=True)

    async def _run(self, *, at_the_end: bool) -> None:
        import asyncio  # noqa: PLC0415 - as above

        self._has_begun = True
        queue, woken = self.queue, asyncio.Event()
        wake = functools.partial(self._loop.call_soon_threadsafe, woken.set)
        others: set[asyncio.Task[Any]] | None = set() if at_the_end else None  # None until the loop ends
        while True:
            try:
                delivered = await self._deliver_some()
                if self._do_flushes(all_of_them=not delivered) or delivered:
                    if not at_the_end:
                        await asyncio.sleep(0)
                    continue
                if queue.is_closed or (others is not None and all(other.done() for other in others)):
                    break
                if queue.ask_to_be_woken(wake):
                    await woken.wait()
                    woken.clear()
            except asyncio.CancelledError:
                if others is None:  # those that are cancelled with this one may still tell how they end
                    others = {task for task in asyncio.all_tasks() if not _is_delivery(task)}
                    for other in others:
                        other.add_done_callback(lambda _: woken.set())
        if not queue.is_closed:
            queue.abandon()
        self._end()

    async def _deliver_some(self) -> bool:
        import asyncio  # noqa: PLC0415 - as above

        cancelled: asyncio.CancelledError | None = None
        events = self.queue.take_some()
        for event in events:
            try:
                if not self._is_for_nobody(event):
                    result = self.inner.handle(event)
                    if inspect.isawaitable(result):
                        await result
            except asyncio.CancelledError as error:
                self._failed += 1
                cancelled = error
            except BaseException as error:  # noqa: BLE001 - told with the next event; nobody is above this
                self._note(event, error)
            self.queue.done += 1
        if cancelled is not None:
            raise cancelled
        return bool(events)


def _is_delivery(task: asyncio.Task[Any]) -> bool:
    return task.get_name().startswith(_TASK_NAME)


class _AsyncHandler(LoopObserver):
    """An async function as an observer; what it returns is awaited by who calls it."""

    def __init__(self, function: Callable[[AgentEvent], Awaitable[object]]) -> None:
        self._function = function
        self.__wrapped__ = function  # whose name it goes by

    def handle_event(self, event: AgentEvent) -> Any:
        """Return what is to be awaited."""
        return self._function(event)


def _observer(given: Any) -> Observer | Registration:
    if inspect.iscoroutinefunction(given):
        return _AsyncHandler(given)
    return cast("Observer | Registration", given)
