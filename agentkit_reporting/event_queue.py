"""A bounded queue of events between threads, or a thread and an event loop, with a rule for when it is full.

The fast path of `put` takes no lock: a look at the length of a deque and an append, both atomic; a lock would cost
twice as much as all the rest. So the bound may be passed by as many events as threads put at the same moment. Only
who holds the lock takes events out or drops them, which keeps the counts exact: every event that came in is taken,
dropped, in the deque, or in the hands of a producer that waits. A waiting consumer is woken once for all that came
meanwhile. Whatever stands in the way of the fast path (a consumer to be started, failures to be told, an end that is
gone) makes its room negative.
"""

from __future__ import annotations

import collections
import enum
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

from agentkit_loop.content import AppendBytes, AppendText
from agentkit_loop.errors import AgentKitError, ConfigurationError, IllegalMoveError
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.observers import InnerFailure
from agentkit_reporting.inner import Untold

logger = logging.getLogger(__name__)

Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "drop_deltas", "error"]
"""What happens to an event when the queue is full.

block: its producer waits, until the consumer took some; refused for a producer on an event loop. drop_oldest: the
one that waits longest is dropped for it. drop_newest: it is dropped. drop_deltas: appended text and bytes, which
are previews, are dropped; for everything else there is as much room again, and beyond that a thread waits as
under block, and on an event loop it is an error. error: it is dropped, and the producer gets a ChannelFullError.
"""

DEFAULT_MAXSIZE = 10_000
DEFAULT_OVERFLOW: Overflow = "drop_deltas"
DEFAULT_PATIENCE_S = 30.0

_MOST_AT_ONCE = 256  # events that a consumer takes in one go


class ChannelFullError(AgentKitError):
    """A channel was full and its rule lets nothing be dropped; the event is lost and counted."""


class EventQueue:
    """The queue.

    name: for people. maxsize: events held at most, beside the one that is being delivered. patience_s: how long a
    producer waits for a consumer that takes nothing; after that it is not waited for until it takes one.
    start: has the consumer begin; called with the lock, before the first event is held.
    """

    def __init__(
        self,
        name: str,
        *,
        maxsize: int = DEFAULT_MAXSIZE,
        overflow: Overflow = DEFAULT_OVERFLOW,
        patience_s: float | None = DEFAULT_PATIENCE_S,
        start: Callable[[], object] | None = None,
    ) -> None:
        _check(maxsize, overflow, patience_s)
        self.name = name
        self.maxsize = maxsize
        self.overflow: Overflow = overflow
        self.put = self._put_unless_on_a_loop if overflow == "block" else self._put
        """Hold one event for the consumer, or do what the rule says; for any thread."""
        self._patience_s = -1 if patience_s is None else patience_s
        self._start = start
        self.begin_anew()

    def begin_anew(self) -> None:
        """Be empty, with new locks: at first, and in a forked child, whose parent delivers what was held."""
        self._lock = threading.RLock()  # re-entrant: a signal handler may emit inside what it interrupted
        self._items: collections.deque[AgentEvent] = collections.deque()
        self._room = self.maxsize  # without what the consumer has beside the event that it delivers
        self._wakers: list[Callable[[], object]] = []  # of consumers that wait for events
        self._watchers: list[Callable[[], object]] = []  # of those who wait for the consumer
        self._watched = 0  # the count of `done` that the first of them waits for
        self._is_called = False  # somebody wants the consumer to look around
        self._stuck_at = -1  # the count of `done` when a producer lost its patience
        self._warned = False
        self._at_the_door = 0  # events whose producers wait
        self.untold = Untold()
        self.consumer: int | None = None  # the thread that must not wait for itself
        self.dropped = self.done = 0
        self.refused = 0  # events that came after it was closed; in no other count
        self._taken = 0  # out of the deque by the consumer, who may not be done with them
        self.is_started = self._start is None
        self.is_closed = self.is_abandoned = False
        self._why_abandoned = ""
        self._look_around()

    @property
    def pending(self) -> int:
        """Events that are held, or that the consumer or a waiting producer has in hand."""
        received, dropped, done = self.counts()
        return received - dropped - done

    def counts(self) -> tuple[int, int, int]:
        """Return the events received, dropped, and those that the consumer is done with, of one moment."""
        with self._lock:
            if self.is_abandoned:
                self._drop_held()
            received = self._taken + self.dropped + len(self._items) + self._at_the_door
            return received, self.dropped, self.done

    # --- the producers' side

    def _put(self, event: AgentEvent) -> None:
        items = self._items
        if len(items) < self._fast_room:
            items.append(event)
            if self._wakers:
                self._wake()
            return
        self._put_slowly(event)

    def _put_unless_on_a_loop(self, event: AgentEvent) -> None:
        if is_on_event_loop():
            with self._lock:
                self.dropped += 1
            raise ConfigurationError(
                "overflow='block' refused for an event that is told on an event loop, which would stand still; "
                "use drop_deltas, drop_oldest, drop_newest or error"
            )
        self._put(event)

    def _put_slowly(self, event: AgentEvent) -> None:
        with self._lock:
            if self.is_closed:
                self.refused += 1
                raise IllegalMoveError("event", "the channel is closed", "make a new one")
            if not self.is_started and self._start is not None:
                self._begin(self._start)
            fate = self._offer(event)
            self._at_the_door += fate is _Fate.WAITS
        if fate is _Fate.WAITS:
            fate = self._wait_and_offer(event)
        if fate is not _Fate.HELD:
            self._warn()
        if fate is _Fate.REFUSED:
            raise ChannelFullError(f"event {event.seq} ({event.type}) refused while {self.name} is full")
        if self.untold:
            try:
                self.untold.raise_for(event.session_id)
            finally:
                with self._lock:
                    self._look_around()

    def begin(self) -> None:
        """Have the consumer begin before there is an event, for what else it does."""
        with self._lock:
            if not (self.is_started or self.is_closed) and self._start is not None:
                self._begin(self._start)

    def _begin(self, start: Callable[[], object]) -> None:
        self.is_started = True
        self._look_around()
        try:
            start()
        except RuntimeError:  # the event loop is closed; the interpreter ends and starts no thread any more
            self.abandon()

    def _offer(self, event: AgentEvent) -> _Fate:
        """Hold the event, or say what becomes of it; with the lock."""
        rule, waiting = self.overflow, len(self._items)
        reserve = self.maxsize if rule == "drop_deltas" and not _is_preview(event) else 0
        if self.is_abandoned or self.is_closed:  # closed while its producer waited
            self.dropped += 1
            return _Fate.DROPPED
        if waiting < self._room + reserve:
            return self._hold(event)
        if rule == "drop_oldest":
            self._items.popleft()
            self.dropped += 1
            self._hold(event)
            return _Fate.DROPPED  # another one
        if rule == "block" or reserve:
            if self.consumer == threading.get_ident():
                return self._hold(event)  # what an observer tells itself: it cannot wait for itself
            if not is_on_event_loop() and self._stuck_at != self.done:
                return _Fate.WAITS
            self.dropped += 1
            return _Fate.REFUSED if reserve else _Fate.DROPPED
        self.dropped += 1
        return _Fate.REFUSED if rule == "error" else _Fate.DROPPED

    def _hold(self, event: AgentEvent) -> _Fate:
        self._items.append(event)
        if self._wakers:
            self._wake()
        return _Fate.HELD

    def _wait_and_offer(self, event: AgentEvent) -> _Fate:
        """Wait for room as long as the consumer gets on, or patience lasts."""
        fate = _Fate.WAITS
        try:
            while True:
                with self._lock:
                    fate = self._offer(event)
                    if fate is not _Fate.WAITS:
                        return fate
                    gate, before = self._watch(0), self.done
                if not gate.acquire(timeout=self._patience_s):
                    with self._lock:
                        self._forget(gate)
                        if self.done == before:
                            self._stuck_at = before
        finally:
            with self._lock:
                self._at_the_door -= 1
                self.dropped += fate is _Fate.WAITS  # an interrupt: the event is on no way any more

    def _wake(self) -> None:
        """Wake the consumers that wait."""
        with self._lock:
            wakers, self._wakers = self._wakers, []
            for wake in wakers:
                try:
                    wake()
                except RuntimeError:  # its event loop is closed: nobody will ever take these
                    self.abandon()

    def _warn(self) -> None:
        """Say once that events are dropped; the counts say how many."""
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            why = f"{self.maxsize} wait already (overflow={self.overflow!r})"
            if self.is_abandoned:
                why = self._why_abandoned
            logger.warning("%s drops events: %s; its account counts them", self.name, why)

    def _look_around(self) -> None:
        """Set the room of the fast path; with the lock."""
        special = not self.is_started or self.is_closed or self.is_abandoned or self.untold
        self._fast_room = -1 if special else self._room

    # --- the consumer's side

    def take_some(self, most: int | None = None) -> list[AgentEvent]:
        """Return what waits, and be done with what was taken before; empty where nothing waits.

        most: None for as many as are good at once.
        """
        with self._lock:
            items = self._items
            most = min(len(items), most or max(1, min(_MOST_AT_ONCE, self.maxsize // 4)))
            taken = [items.popleft() for _ in range(most)]  # others append meanwhile
            self._taken += most
            self._room = self.maxsize - max(0, most - 1)
            self._look_around()
            if self._watchers:
                self._notify()
            return taken

    def take_one(self) -> AgentEvent | None:
        """Return the next event, which counts as done; None where nothing waits."""
        with self._lock:
            if not self._items:
                return None
            self._taken += 1
            self.done += 1
            event = self._items.popleft()
            if self._watchers and (len(self._items) <= self.maxsize // 2 or self.done >= self._watched):
                self._notify()
            return event

    def ask_to_be_woken(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called when there is something to do; False where there is already."""
        with self._lock:
            self._wakers.append(wake)  # first: a producer looks for it after it has put, without a lock
            if self._items or self.is_closed or self._is_called:
                self._wakers.remove(wake)
                self._is_called = False
                return False
            return True

    def forget(self, wake: Callable[[], object]) -> None:
        """Call it no more, if it was not called yet: its consumer waits no longer."""
        with self._lock:
            if wake in self._wakers:
                self._wakers.remove(wake)

    def wake(self) -> None:
        """Have the consumer look around, also where it is about to wait."""
        with self._lock:
            self._is_called = not self._wakers
            self._wake()

    def fail(self, failures: tuple[InnerFailure, ...]) -> None:
        """Have failures told with the next event of their session."""
        with self._lock:
            self.untold.add(failures)
            self._look_around()

    def log_ended(self) -> None:
        """Log the failures that no event will come for."""
        with self._lock:
            ended = self.untold.take_ended()
            self._look_around()
        ended.log()

    def interrupt(self, error: BaseException) -> None:
        """Have an interrupt raised with the next event."""
        with self._lock:
            self.untold.interrupt(error)
            self._look_around()

    def abandon(self, why: str = "nobody takes them") -> None:
        """Let nothing be held any more, because the consumer is gone; what it did not take is dropped.

        why: what the log says of that.
        """
        with self._lock:
            if self.is_abandoned:
                return
            before, self.is_abandoned, self._why_abandoned = self.dropped, True, why
            self._look_around()
            self._drop_held()
            lost = self.dropped - before
            self._notify()
        if lost:
            self._warn()

    def _drop_held(self) -> None:
        """Drop what nobody will take, and what a consumer had in hand that is gone; with the lock."""
        self.dropped += self._taken - self.done
        self._taken = self.done
        while self._items:
            self._items.popleft()
            self.dropped += 1

    # --- both

    def close(self) -> None:
        """Take no more; what is held stays until it is taken."""
        with self._lock:
            self.is_closed = True
            self._look_around()
            self._wake()

    def wait_until_done(self, timeout_s: float | None = None) -> bool:
        """Wait until the consumer is done with all that is held now; True if it is.

        Does not wait on an event loop, nor on the consumer's own thread: the answer is that of the moment.
        """
        target: int | None = None
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._lock:
                pending = self.pending
                target = self.done + pending if target is None else target
                if not pending or self.done >= target:
                    return True
                if is_on_event_loop() or self.consumer == threading.get_ident():
                    return False
                gate = self._watch(target)
            left = -1 if until is None else max(0.0, until - time.monotonic())
            if not gate.acquire(timeout=left):
                with self._lock:
                    self._forget(gate)
                return False

    def _watch(self, target: int) -> threading.Lock:
        """Return a gate that opens when the consumer got on; with the lock."""
        gate = threading.Lock()
        gate.acquire()
        self._watched = min(self._watched, target) if self._watchers else target
        self._watchers.append(gate.release)
        return gate

    def _forget(self, gate: threading.Lock) -> None:
        if gate.release in self._watchers:
            self._watchers.remove(gate.release)

    def _notify(self) -> None:
        watchers, self._watchers = self._watchers, []
        for opened in watchers:
            opened()


class _Fate(enum.Enum):
    HELD = enum.auto()
    DROPPED = enum.auto()  # this event, or one for it
    REFUSED = enum.auto()
    WAITS = enum.auto()


def _is_preview(event: AgentEvent) -> bool:
    return isinstance(event, ContentDelta) and isinstance(event.delta, (AppendText, AppendBytes))


def is_on_event_loop(loop: object = None) -> bool:
    """Whether this thread runs an event loop at the moment, or that one; loads no asyncio to find out."""
    events = sys.modules.get("asyncio.events")
    if events is None:
        return False
    running = events._get_running_loop()  # noqa: SLF001 - in its __all__; the other one raises where none runs
    return running is not None and loop in (None, running)


def _check(maxsize: int, overflow: str, patience_s: float | None) -> None:
    if type(maxsize) is not int or maxsize < 1:
        raise ConfigurationError(f"maxsize={maxsize!r} refused because nothing fits in; give 1 or more")
    if overflow not in get_args(Overflow):
        rules = ", ".join(get_args(Overflow))
        raise ConfigurationError(f"overflow={overflow!r} refused because it is no rule; use one of {rules}")
    if patience_s is not None and not 0 <= patience_s <= threading.TIMEOUT_MAX:
        raise ConfigurationError(
            f"patience_s={patience_s!r} refused because it is no time; give seconds, or None to wait for ever"
        )
