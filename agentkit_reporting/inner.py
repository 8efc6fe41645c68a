"""An observer behind an adapter: called, isolated, accounted for; and how its failures reach whoever judges them.

An adapter does not judge. It passes failures up (`Adapter.pass_on`) until somebody does: the loop, which knows
the policies, or the `handle_event` of the outermost adapter, for callers that judge nothing.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import attrs
import msgspec

from agentkit_loop.endings import Ending, endings, unfinished
from agentkit_loop.errors import InnerObserverError, LogError, ObserverError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ContentDelta,
    ObserverFailed,
)
from agentkit_loop.late import late_logger
from agentkit_loop.observers import (
    Adapter,
    EventKind,
    FailurePolicy,
    InnerFailure,
    Judged,
    Observer,
    Registration,
    Slot,
    ToldAs,
    log_error,
    note_failure,
    slot_of,
    unfolded,
)
from agentkit_reporting.accounting import Account, account_of, has_account

logger = late_logger(__name__)

MAX_UNTOLD = 1_000
"""How many failures wait to be told; older ones make room."""


_REMEMBERED = 64  # failures of one observer whose ObserverFailed may still come


class Inner:
    """One observer behind an adapter.

    handle: its handler, called without isolation. wants: what it wants. is_active: False once it was retired.
    failed: events on which it raised. on_retire: called then.
    """

    def __init__(
        self, observer: Observer | Registration, *, on_retire: Callable[[], object] | None = None
    ) -> None:
        registration = observer if isinstance(observer, Registration) else Registration(observer)
        slot = slot_of(registration, FailurePolicy.LOG, set())  # refuses what cannot observe
        self.observer = registration.observer
        self.name = slot.name
        self.handle = slot.handle
        self.wants = slot.wants
        self.policy = registration.policy
        self.disable_after = registration.disable_after
        self.is_active = True
        self.failed = 0
        self._on_retire = on_retire
        self._counts: collections.Counter[int] = collections.Counter()
        self._recent: collections.deque[tuple[str, int, ToldAs]] = collections.deque(maxlen=_REMEMBERED)

    def retire(self) -> None:
        """Let it get no more events."""
        self.is_active = False
        if self._on_retire is not None:
            self._on_retire()

    def wants_kind(self, kind: EventKind) -> bool:
        """Whether it is called for events of this class, or ContentDeltas of this class of deltas."""
        cls = kind if issubclass(kind, AgentEvent) else ContentDelta
        return not self.wants or issubclass(cls, self.wants) or kind in self.wants

    def failures(self, event: AgentEvent, error: Exception) -> tuple[InnerFailure, ...]:
        """Return what is to be told of an exception from `handle`: its own, or of those behind it."""
        if isinstance(error, InnerObserverError):
            found = error.failures
        else:
            self.failed += 1
            own = InnerFailure(
                observer=self.observer, name=self.name, event=event, error=error, retire=self.retire
            )
            self._recent.append((event.session_id, event.seq, own.told))  # no error, which holds its frames
            found = (own,)
        for failure in found:
            self._claim(failure)
        return found

    def _claim(self, failure: InnerFailure) -> None:
        """Put what was set here on a failure that has nothing of its own: what is nearest to it wins."""
        if failure.policy is None:
            failure.policy = self.policy
        if failure.disable_after is None and self.disable_after is not None:
            failure.disable_after = self.disable_after
            self._counts[id(failure.observer)] += 1
            if self._counts[id(failure.observer)] >= self.disable_after:
                failure.disabled = True
        if failure.disabled or failure.policy is FailurePolicy.FAIL_FAST:
            failure.retire()

    def failed_itself(self, event: AgentEvent) -> bool:
        """Whether the event tells of a failure of this observer, which is never told to it."""
        return isinstance(event, ObserverFailed) and any(
            (session_id, seq, told.observer) == (event.session_id, event.event_seq, event.observer)
            for session_id, seq, told in list(self._recent)
        )

    def account(self, delivered: int = 0, failed: int = 0) -> Account:
        """Return its account; one that keeps none has that of what it was given here.

        delivered, failed: events that it took, and on which it raised where that is not counted in front of it.
        """
        account = account_of(self.observer)
        if not has_account(self.observer):
            took = max(delivered, account.dropped)
            return attrs.evolve(
                account,
                name=self.name,
                received=took + failed,
                delivered=took - account.dropped,
                failed=failed,
            )
        if failed and account.is_complete:  # it raised all the same
            return attrs.evolve(account, received=account.received + failed, failed=failed)
        return account


class Untold:
    """Failures that wait for the next event of their session, to be raised with it."""

    def __init__(self) -> None:
        self._waiting: collections.deque[InnerFailure] = collections.deque(maxlen=MAX_UNTOLD)
        self._interrupts: collections.deque[BaseException] = collections.deque(maxlen=1)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._interrupts)

    def add(self, failures: Iterable[InnerFailure]) -> None:
        """Keep failures."""
        self._waiting.extend(failures)

    def interrupt(self, error: BaseException) -> None:
        """Keep a KeyboardInterrupt or SystemExit from another thread; the last one is raised."""
        self._interrupts.append(error)

    def raise_for(self, session_id: str) -> None:
        """Raise what waits for an event of this session; interrupts before anything else."""
        if self._interrupts:
            raise self._interrupts.popleft()
        mine: list[InnerFailure] = []
        others: list[InnerFailure] = []
        while self._waiting:
            failure = self._waiting.popleft()
            (mine if failure.event.session_id == session_id else others).append(failure)
        self._waiting.extend(others)
        if mine:
            raise InnerObserverError(tuple(mine)) from mine[0].error

    def take_ended(self) -> Untold:
        """Take out those of sessions whose run has ended: the observer raised on the last event of it."""
        waiting, ended = list(self._waiting), Untold()
        over = {failure.event.session_id for failure in waiting if isinstance(failure.event, RUN_ENDS)}
        if over:
            ended.add(failure for failure in waiting if failure.event.session_id in over)
            for failure in ended._waiting:
                with contextlib.suppress(ValueError):  # told by another thread meanwhile
                    self._waiting.remove(failure)
        return ended

    def log(self) -> None:
        """Log, once per observer and kind, what no event came for any more."""
        book = Book()
        while self._waiting:
            failure = self._waiting.popleft()
            failure.policy = failure.policy or FailurePolicy.LOG
            if failure.policy is not FailurePolicy.FAIL_FAST:
                book.judge((failure,))
            else:
                log_error(logger, f"observer {failure.name} failed at the end", failure.error)


class Book:
    """Judges failures where no loop does: each by the policy that it came with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slot = Slot(
            observer=_nobody,
            handle=_nobody,
            name="",
            policy=FailurePolicy.LOG,
            disable_after=None,
            wants=(),
        )

    def judge(self, failures: tuple[InnerFailure, ...]) -> None:
        """Log or pass over failures that have a policy; raise for the others, and under FAIL_FAST.

        Raises ObserverError from the first failure under FAIL_FAST, InnerObserverError for those without
        a policy.
        """
        own = tuple(failure for failure in failures if failure.policy is not None)
        unjudged = tuple(failure for failure in failures if failure.policy is None)
        fatal: ObserverError | None = None
        with self._lock:
            judged = self._judged(own) if own else []
        for failure in judged:
            if failure.slot.policy is not FailurePolicy.FAIL_FAST:
                note_failure(failure)
            elif fatal is None:
                fatal = ObserverError(failure.slot.name, failure.event.seq, failure.event.type)
                fatal.__cause__ = failure.error
        if fatal is not None:
            raise fatal
        if unjudged:
            raise InnerObserverError(unjudged) from unjudged[0].error

    def _judged(self, failures: tuple[InnerFailure, ...]) -> list[Judged]:
        return unfolded(self._slot, failures[0].event, InnerObserverError(failures), set)


def _nobody(event: AgentEvent) -> None:
    del event


class ReportingAdapter(Adapter):
    """Base of the adapters of this package: what all of them do alike."""

    def __init__(self) -> None:
        self._book = Book()
        self._lost_before = 0  # at the last `hand_over`

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event, and judge the failures whose policy was set behind here.

        Raises InnerObserverError for failures without a policy, ObserverError for those under FAIL_FAST.
        """
        try:
            self.pass_on(event)
        except InnerObserverError as error:
            self._book.judge(error.failures)

    @property
    @abstractmethod
    def inners(self) -> tuple[Inner, ...]:
        """Those directly behind it, in order."""

    @property
    def behind(self) -> tuple[Observer, ...]:
        """The observers behind it, as deep as they go, in order."""
        found: list[Observer] = []
        for inner in self.inners:
            observer = inner.observer
            found.extend(observer.behind if isinstance(observer, Adapter) else (observer,))
        return tuple(found)

    @abstractmethod
    def account(self) -> Account:
        """Return what became of the events so far."""

    @property
    def dropped(self) -> int:
        """Events that were given up, here and behind; what `RunFinished.observers` tells."""
        return dropped_in(self.account())

    @abstractmethod
    def flush(self, timeout_s: float | None = None) -> bool:
        """Hand on what is held, through every layer; return whether everything received so far arrived."""

    def hand_over(self) -> bool:
        """Flush around the end of a run, as the loop does: nobody waits for a channel.

        Returns whether everything went on, and nothing was lost since the last time.
        """
        return finish(self.inners, "hand_over", None) and self._lost_nothing_more()

    def _lost_nothing_more(self) -> bool:
        """Whether no event was lost since this was asked last."""
        lost, before = self.account().lost, self._lost_before
        self._lost_before = lost
        return lost <= before

    @abstractmethod
    def close(self, timeout_s: float | None = None) -> bool:
        """Flush, and close what is behind; return whether everything arrived. Twice is harmless.

        A policy changes nothing about the answer: what was lost under IGNORE did not arrive.
        """


def dropped_in(account: Account) -> int:
    """Return how many events were dropped, here and behind."""
    return account.dropped + sum(map(dropped_in, account.inner))


def union(wanted: Iterable[tuple[EventKind, ...]]) -> tuple[EventKind, ...]:
    """Return what several observers want together; empty, which is everything, where one wants all."""
    found: dict[EventKind, None] = {}
    for kinds in wanted:
        if not kinds:
            return ()
        found.update(dict.fromkeys(kinds))
    return tuple(found)


def finish(inners: Iterable[Inner], method: str, timeout_s: float | None) -> bool:
    """Flush, hand over or close observers in order; True if all returned in time and none answered False.

    What one raises is logged and does not stop the others, as with the loop's own. None: on this thread,
    without a bound.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    went_well = True
    for ending in endings([(inner.observer, inner.name, inner.policy) for inner in inners], method):
        left = None if until is None else max(0.0, until - time.monotonic())
        if left is None or not isinstance(ending.observer, ReportingAdapter):
            went_well = bounded(ending, left) and went_well
        else:  # an adapter keeps to a bound by itself
            step: Callable[..., Any] = ending.step
            went_well = (
                bounded(msgspec.structs.replace(ending, step=functools.partial(step, left)), None)
                and went_well
            )
    return went_well


def bounded(ending: Ending, timeout_s: float | None) -> bool:
    """Do something; within a bound, on a thread of its own, so that it may hang. True if it ended, not with False."""
    if timeout_s is not None:
        try:
            return not unfinished([ending], timeout_s)
        except RuntimeError:  # no thread can be started any more: the interpreter ends
            pass
    try:
        return ending.step() is not False
    except Exception as error:  # noqa: BLE001 - told; the others are ended as well
        ending.failed(error)
        return False


def ended_within(timeout_s: float | None, owner: object, method: str, step: Callable[[], object]) -> bool:
    """Do what a file needs within a bound, on a thread of its own where there is one; return whether it was done.

    Raises LogError as `step` does, where that comes in time.
    """
    if timeout_s is None:
        step()
        return True
    trouble: list[LogError] = []

    def kept() -> bool:
        try:
            step()
        except LogError as error:
            trouble.append(error)
        return not trouble

    in_time = bounded(Ending(owner, type(owner).__name__, method, kept), timeout_s)
    if trouble:
        raise trouble[0]
    return in_time
