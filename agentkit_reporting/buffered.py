"""BufferedReporter: events in batches, for an observer that is cheaper when it is given many at once."""

from __future__ import annotations

import collections
import math
import threading
from collections.abc import Callable

from agentkit_loop.clock import Clock
from agentkit_loop.endings import Ending
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.observers import Observer, Registration
from agentkit_reporting.accounting import Account
from agentkit_reporting.inner import Inner, ReportingAdapter, Untold, bounded, finish
from agentkit_reporting.process_ends import log_lost, watch, watch_child


class BufferedReporter(ReportingAdapter):
    """Holds events and gives them to `inner` when `capacity` have come, at `flush` and at `close`.

    capacity: how many it holds at most, at least 1. max_age_s: how long the oldest is held at most, None without
    a bound; a timer thread of `clock` (`Clock.alarm`) delivers then, unless a batch came first.

    Delivers inside its lock, so that the order is kept, whoever delivers. A failure of `inner` on an event of a
    batch does not stop the batch; it is told with the event that completed it, or with the next one. Safe for
    threads; a forked child begins empty. What is held when the interpreter exits is delivered then, within 5 s, and
    what could not be is logged. A signal that ends the process without an exit, as SIGTERM does unless the program
    handles it, takes what is held with it; so does giving up the reporter without `flush` or `close`, unless
    `max_age_s` delivers it first. An event after `close` is refused and counts as failed.
    """

    def __init__(
        self,
        inner: Observer | Registration,
        capacity: int = 100,
        *,
        max_age_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        if type(capacity) is not int:
            raise ConfigurationError(
                f"capacity={capacity!r} refused because it is no whole number; give how many events to hold"
            )
        if capacity < 1:
            raise ConfigurationError(
                f"capacity={capacity!r} refused because nothing can be held; give 1 or more"
            )
        if max_age_s is not None and not _is_period(max_age_s):
            raise ConfigurationError(
                f"max_age_s={max_age_s!r} refused because it is no period; give seconds above 0, or None"
            )
        self._inner = Inner(inner)
        self.wants = self._inner.wants  # type: ignore[misc] # of this one observer
        self.capacity = capacity
        self._max_age_s = max_age_s
        self._clock = clock or Clock()
        self._no_alarm: Callable[[], object] | None = None  # calls off the alarm that is set
        self._closed = self._delivering = False
        self._begin()
        watch(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may flush what it interrupted
        self._held: collections.deque[AgentEvent] = collections.deque()
        self._untold = Untold()
        self._received = self._delivered = self._dropped = self._failed = 0

    @property
    def inners(self) -> tuple[Inner, ...]:
        """The observer behind, as it is called."""
        return (self._inner,)

    def pass_on(self, event: AgentEvent) -> None:
        """Hold one event, or deliver it with those that are held."""
        with self._lock:
            if self._closed:
                self._received += 1
                self._failed += 1
                raise IllegalMoveError("event", "the reporter is closed", "make a new one")
            self._received += 1
            self._held.append(event)
            if len(self._held) >= self.capacity:
                self._deliver()
            elif self._max_age_s is not None and self._no_alarm is None:
                self._no_alarm = self._clock.alarm(self._max_age_s, self._deliver_old)
        watch_child()
        if self._untold:
            self._untold.raise_for(event.session_id)

    def _deliver_old(self) -> None:
        """Deliver because the oldest has waited long enough; on the clock's thread."""
        with self._lock:
            self._no_alarm = None
            try:
                self._deliver()
            except (KeyboardInterrupt, SystemExit) as error:  # nobody is here who could let it pass
                self._untold.interrupt(error)

    def _deliver_held(self) -> None:
        with self._lock:
            self._deliver()

    def _deliver(self) -> None:
        """Give everything held to the observer behind; with the lock."""
        if self._no_alarm is not None:
            self._no_alarm()
            self._no_alarm = None
        if self._delivering:
            return  # the observer told something itself: the loop below comes to it
        inner, held = self._inner, self._held
        self._delivering = True
        try:
            while held:
                event = held.popleft()
                if not inner.is_active:
                    self._dropped += 1
                    continue
                try:
                    if event.__class__ is not ObserverFailed or not inner.failed_itself(event):
                        inner.handle(event)
                    self._delivered += 1
                except Exception as error:  # noqa: BLE001 - told with an event; see Untold
                    self._note(event, error)
                except BaseException:
                    self._failed += 1
                    raise
        finally:
            self._delivering = False

    def _note(self, event: AgentEvent, error: Exception) -> None:
        failed_before = self._inner.failed
        self._untold.add(self._inner.failures(event, error))
        if self._inner.failed > failed_before:
            self._failed += 1
        else:
            self._delivered += 1  # it took the event; those behind it failed, perhaps on another one

    def account(self) -> Account:
        """Return what became of the events."""
        # Without the lock, which is held while a batch is delivered, and the one behind may hang. What came in is
        # looked at last, so that it is never less than what became of it.
        delivered, dropped, failed = self._delivered, self._dropped, self._failed
        received = self._received
        return Account(
            name=type(self).__name__,
            received=received,
            delivered=delivered,
            dropped=dropped,
            failed=failed,
            pending=received - delivered - dropped - failed,
            inner=(self._inner.account(delivered),),
        )

    def flush(self, timeout_s: float | None = None) -> bool:
        """Deliver what is held and flush the observer behind; return whether everything so far arrived."""
        delivery = Ending(self, type(self).__name__, "delivery", self._deliver_held)
        went_well = bounded(delivery, timeout_s)
        return finish((self._inner,), "flush", timeout_s) and went_well and not self.account().lost

    def hand_over(self) -> bool:
        """Deliver what is held, and hand it on behind; nobody waits for a channel."""
        self._deliver_held()
        self._untold.take_ended().log()
        return finish((self._inner,), "hand_over", None) and self._lost_nothing_more()

    @property
    def pending(self) -> int:
        """How many events are held."""
        return self.account().pending

    def ask_for_flush(self) -> None:
        """Do nothing: it is flushed by who asks."""

    def tell_lost(self) -> None:
        """Log what the end of the process takes with it."""
        account = self.account()
        log_lost(f"the buffer of {self._inner.name}", account.pending, account.received)
        self._untold.log()

    def close(self, timeout_s: float | None = None) -> bool:
        """Deliver what is held and close the observer behind; return whether everything arrived."""
        self._closed = True
        flushed = self.flush(timeout_s)
        closed = finish((self._inner,), "close", timeout_s)
        self._untold.log()
        return flushed and closed and self.account().is_complete

    def begin_anew(self) -> None:
        """Forget what is held: this is a forked child, and the parent delivers it."""
        self._no_alarm = None
        self._delivering = False
        self._begin()


def _is_period(given: object) -> bool:
    return (
        isinstance(given, (int, float)) and not isinstance(given, bool) and given > 0 and math.isfinite(given)
    )
