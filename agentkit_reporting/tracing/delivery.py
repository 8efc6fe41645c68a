"""What became of spans that are sent elsewhere: counted exactly, told once, and waited for within a bound only.

No OpenTelemetry in here. A span is *ended*, and then one of: delivered (the endpoint said so), failed (it did not),
rejected (the endpoint took the request and said that it did not take this span), dropped (the queue was full), refused
(it came after the close), or pending.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias

import attrs

from agentkit_reporting.accounting import Account, Tally

__all__ = [
    "CLOSE_TIMEOUT_S",
    "SPEAKER",
    "DeliveryCounts",
    "Flusher",
    "Reach",
    "SpanTally",
    "Trouble",
    "VainWait",
    "left_until",
]

logger = logging.getLogger(__name__)

SPEAKER: Final = "TracingReporter"
"""Who says in a log what became of spans: the one that the host knows."""

CLOSE_TIMEOUT_S: Final = 4.0
"""How long a flush and a close wait where nobody says: less than the loop waits for its observers (5 s)."""


@attrs.frozen(kw_only=True)
class DeliveryCounts:
    """What became of the spans that ended, as it was when it was asked.

    ended: sampled spans that ended. delivered, failed, rejected, dropped, refused, pending: see above; they add up to
    it. last_error: why something was not delivered the last time, in one line without a secret; None if nothing was.
    """

    ended: int
    delivered: int
    failed: int
    rejected: int
    dropped: int
    refused: int
    pending: int
    last_error: str | None

    @property
    def is_complete(self) -> bool:
        """Whether every span that ended was delivered."""
        return self.delivered == self.ended

    def account(self, name: str) -> Account:
        """Return them as the account of an observer: what was rejected or refused has failed."""
        return Account(
            name=name,
            received=self.ended,
            delivered=self.delivered,
            dropped=self.dropped,
            failed=self.failed + self.rejected + self.refused,
            pending=self.pending,
        )

    def __str__(self) -> str:
        return f"{self.delivered:,} of {self.ended:,} spans were delivered{self.missing}"

    @property
    def missing(self) -> str:
        """What was not delivered, in the words of the account, in brackets after a space; "" where nothing is."""
        of_failed = _told((self.rejected, "rejected"), (self.refused, "after the close"))
        why = f": {of_failed}" if of_failed else ""
        causes = _told(
            (self.failed + self.rejected + self.refused, f"failed{why}"),
            (self.dropped, "dropped by the full queue"),
            (self.pending, "pending"),
            between="; ",
        )
        return f" ({causes})" if causes else ""

    def at_the_end(self) -> DeliveryCounts:
        """Return them where nothing is sent any more: what is pending has failed."""
        return attrs.evolve(self, failed=self.failed + self.pending, pending=0)


def _told(*counted: tuple[int, str], between: str = ", ") -> str:
    return between.join(f"{count:,} {word}" for count, word in counted if count)


class SpanTally:
    """Counts spans on their way, and admits no more than fit: nobody who ends a span takes a lock or waits.

    capacity: spans that may wait for the exporter. What is more than that is dropped here, in front of the queue, as
    the specification of the batching processor has it ("after the size is reached spans are dropped"): so the queue
    itself is never full, and what it would have dropped without a count is counted.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.is_closed = False
        self.is_given_up = False  # what is still held will not be sent any more
        self.begin_anew()

    def begin_anew(self) -> None:
        """Count from nothing: at first, and in a forked child."""
        self.last_error: str | None = None
        self._places = collections.deque(itertools.repeat(None, self.capacity))  # pop and extend are atomic
        self._ended, self._dropped, self._refused = Tally(), Tally(), Tally()
        self._delivered = self._failed = self._rejected = 0
        self._settling = threading.Lock()  # among those who export

    def admit(self) -> bool:
        """Count a span that ended; whether there is room for it."""
        self._ended.add()
        if self.is_closed:
            self._refused.add()
            return False
        try:
            self._places.pop()
        except IndexError:
            self._dropped.add()
            return False
        return True

    def take(self, number: int) -> None:
        """Spans left the queue, to be exported."""
        self._places.extend(itertools.repeat(None, number))

    def settle(
        self, *, delivered: int = 0, failed: int = 0, rejected: int = 0, error: str | None = None
    ) -> None:
        """Spans were exported, or not."""
        with self._settling:
            self._delivered += delivered
            self._failed += failed
            self._rejected += rejected
            self.last_error = error or self.last_error

    def counts(self) -> DeliveryCounts:
        """Return the counts; of a delivery that gave up, what it still held has failed."""
        with self._settling:
            delivered, failed, rejected = self._delivered, self._failed, self._rejected
        dropped, refused = self._dropped.value, self._refused.value
        ended = self._ended.value  # last, so that nothing is settled that has not ended
        held = ended - delivered - failed - rejected - dropped - refused
        abandoned = held if self.is_given_up else 0
        return DeliveryCounts(
            ended=ended,
            delivered=delivered,
            failed=failed + abandoned,
            rejected=rejected,
            dropped=dropped,
            refused=refused,
            pending=held - abandoned,
            last_error=self.last_error,
        )


Signal: TypeAlias = Literal["spans", "metrics"]

_REST: Final[dict[Signal, str]] = {
    "spans": "this is told once, the account counts the rest",
    "metrics": "this is told once, the account counts spans alone",
}


class Trouble:
    """Says once that something is not delivered: for spans and for metrics, and for each kind of trouble.

    What comes after that is counted. Takes no lock, since it may be told where spans end.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is told: at first, and in a forked child."""
        self._told: dict[tuple[str, str], object] = {}
        self._causes: dict[str, None] = {}
        self.is_told_at_the_end = False  # the end is near, which tells what is missing, and why

    def tell(
        self, what: Signal, endpoint: str, reason: str, *, kind: Literal["failed", "full"] = "failed"
    ) -> None:
        """Log it. endpoint: as it may be shown. kind: the endpoint does not take them, or too many wait for it."""
        ours = object()
        if self.is_told_at_the_end or self._told.setdefault((what, kind), ours) is not ours:
            return
        self._causes[reason] = None
        logger.warning("%s: %s are not delivered to %s: %s; %s", SPEAKER, what, endpoint, reason, _REST[what])

    def tell_not_taken(self, endpoint: str, reason: str) -> None:
        """Log that metrics are not taken there, whatever else was told: it has a cure of its own."""
        ours = object()
        if self._told.setdefault(("metrics", "not taken"), ours) is ours:
            logger.warning(
                "%s: metrics are not taken at %s: %s; they are not sent again, give metrics=False for a backend that "
                "takes spans alone",
                SPEAKER,
                endpoint,
                reason,
            )

    def is_told(self, reason: str) -> bool:
        """Whether this is known to who reads the log."""
        return reason in self._causes


class Reach:
    """Whether an endpoint answers, as far as its last request told; shared by what is sent there.

    is_dead: nothing answered that took the last request, its retries included, or only that it is busy. waiting: how
    many wait for a flush at the moment, on whose account nothing is tried again there: one last try is enough.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is known, and nobody waits: at first, and in a forked child."""
        self.is_dead = False
        self.waiting = 0
        self._counting = threading.Lock()

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Somebody waits for what is sent there."""
        with self._counting:
            self.waiting += 1
        try:
            yield
        finally:
            with self._counting:
                self.waiting -= 1

    @property
    def is_last_try(self) -> bool:
        """Whether a request that fails now is not tried again."""
        return self.is_dead and self.waiting > 0


class VainWait:
    """How long somebody waited for what is still under way, so that nobody waits for the same once more."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nobody waited, or not in vain."""
        self._waited: tuple[int, float] | None = None

    def note(self, settled: int, seconds: float) -> None:
        """Take note of a wait without an outcome. settled: how many spans were settled when it was given up."""
        self._waited = (settled, seconds)

    def seconds(self, settled: int) -> float:
        """Return how long it was; 0.0 where spans were settled since, so that a next wait may be worth it."""
        return self._waited[1] if self._waited is not None and self._waited[0] == settled else 0.0


class Flusher:
    """Does a piece of work that may take long on a thread of its own, when it is asked to; many asks are one.

    The thread, a daemon's, is started with the first thing that can be flushed: at the interpreter's exit, when most
    is asked for, none can be started any more (Python 3.12).
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self._is_ended = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Have no thread: at first, and in a forked child."""
        self._changed = threading.Condition()
        self._asked = self._done = 0
        self.is_running = False

    def start(self) -> None:
        """Have a thread from now on. Where the system gives none, nothing can be flushed."""
        with self._changed:
            if self.is_running or self._is_ended:
                return
            self.is_running = True
            try:
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            except RuntimeError:
                self.is_running = False

    def ask(self) -> int:
        """Have the work done from its beginning once more; return what to wait for. Waits for nobody."""
        with self._changed:
            if self.is_running:
                self._asked += 1
                self._changed.notify_all()
            return self._asked

    def wait(self, asked: int, timeout_s: float) -> bool:
        """Wait until what was asked for is done; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._done >= asked, timeout_s)

    def end(self) -> None:
        """End the thread, after what it does at the moment."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_ended or self._asked > self._done)
                if self._is_ended:
                    self._done = self._asked
                    self._changed.notify_all()
                    self.is_running = False
                    return
                doing = self._asked
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - a library's; what it did not send is counted as such
                logger.debug("a flush raised %s", type(error).__name__)
            with self._changed:
                self._done = doing
                self._changed.notify_all()


def left_until(until: float) -> float:
    """Return the seconds until a moment of the monotonic clock, at least 0."""
    return max(0.0, until - time.monotonic())
