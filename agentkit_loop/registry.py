"""Who is told of events: the observers that are registered, which of them each kind goes to, and how they end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

from agentkit_loop.endings import Start, endings, unfinished
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.forks import Locked
from agentkit_loop.observers import (
    EventKind,
    FailurePolicy,
    Observer,
    Registration,
    Slot,
    checked_policy,
    forget_heard,
    slot_of,
)
from agentkit_loop.usage import ObserverStats


class Route(list[tuple[Callable[[AgentEvent], object], Slot]]):
    """The observers that one kind of event goes to, in order, and how many events went.

    takers: the same, where all of them take batches; None where one does not.
    """

    __slots__ = ("takers", "told")  # in a list's __dict__ they take twice the time, each event

    def __init__(self, slots: Iterable[Slot]) -> None:
        super().__init__((slot.handle, slot) for slot in slots)
        self.told = 0
        takers = [(slot.handle_batch, slot) for _, slot in self if slot.handle_batch is not None]
        self.takers = takers if len(takers) == len(self) else None


class ObserverRegistry(Locked):
    """The observers of an emitter, in order of registration.

    policy: of those that have none of their own. seq: the number of the last event that they were told.
    """

    def __init__(self, policy: FailurePolicy, seq: int) -> None:
        super().__init__()
        self.policy = checked_policy(policy)
        self.seq = seq
        self._slots: tuple[Slot, ...] = ()
        self._retired: list[Slot] = []
        self._routes: dict[EventKind, Route] = {}

    # --- registration

    def add_observer(self, observer: Observer | Registration) -> None:
        """Register an observer, last in order, from the next event on; refuses what cannot observe."""
        registration = observer if isinstance(observer, Registration) else Registration(observer)
        with self._lock:
            slot = slot_of(registration, self.policy, self._names())
            self._slots = (*self._slots, slot)
            self._reroute()

    def tap(self, collect: Callable[[AgentEvent], object]) -> None:
        """Register a driver's own collector, which no statistics name."""
        self.add_observer(collect)
        self._slots[-1].counted = False

    def remove_observer(self, observer: Observer) -> None:
        """Forget an observer from the next event on; it is neither flushed nor closed."""
        with self._lock:
            same = [slot for slot in self._slots if slot.observer is observer]
            # A bound method is a new object each time it is looked up; other equal objects are not the same.
            alike = [
                slot for slot in self._slots if inspect.isroutine(observer) and slot.observer == observer
            ]
            if not (same or alike):
                raise ConfigurationError(f"{observer!r} is not registered; give the object that was added")
            self._retire((same or alike)[0])

    def _retire(self, slot: Slot) -> None:
        self._slots = tuple(other for other in self._slots if other is not slot)
        self._retired.append(slot)
        self._reroute()

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """The registered observers with the policies that hold for them, without a driver's own collectors."""
        return tuple(
            Registration(slot.observer, policy=slot.policy, disable_after=slot.disable_after)
            for slot in self._slots
            if slot.counted
        )

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The registered observers, in order."""
        return tuple(slot.observer for slot in self._slots)

    # --- which of them a kind of event goes to

    def _route(self, kind: EventKind) -> Route:
        cls = kind if issubclass(kind, AgentEvent) else ContentDelta
        route = self._routes[kind] = Route(
            slot
            for slot in self._slots
            if not slot.wants or issubclass(cls, slot.wants) or kind in slot.wants
        )
        return route

    def _reroute(self) -> None:
        """Forget the routes, after their counts went to their slots."""
        for route in self._routes.values():
            for _, slot in route:
                slot.handled += route.told
        self._routes = {}

    def _names(self) -> set[str]:
        slots = (*self._slots, *self._retired)
        return {name for slot in slots for name in (slot.name, *slot.reserved.values())}

    # --- the end

    def stats(self) -> tuple[ObserverStats, ...]:
        """Return what was counted for each observer, those that were removed last."""
        self._reroute()
        return tuple(slot.stats() for slot in (*self._slots, *self._retired) if slot.counted)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Flush every observer that has something to flush; True if all returned within the bound.

        The flushes run on a thread of their own, so that one that hangs cannot hold up the caller.
        """
        return self._flush("flush", timeout_s)

    def hand_over(self, timeout_s: float = 5.0, *, start: Start | None = None) -> bool:
        """Flush as at the end of a run: as `flush`, but an adapter waits for no other thread.

        See `LoopObserver.hand_over`. Leaving `with EventEmitter(…)` does the same. start: gives each flush its thread.
        """
        return self._flush("hand_over", timeout_s, start)

    def _flush(self, method: str, timeout_s: float, start: Start | None = None) -> bool:
        went_well = self._end(method, timeout_s, start)
        if self.seq:  # something was told
            for slot in self._slots:
                if not slot.failed and not slot.ended_badly:
                    forget_heard(slot.observer)
        return went_well

    def close(self, timeout_s: float = 5.0) -> bool:
        """Flush and close every observer, each within the bound; True if all returned in time."""
        flushed = self.flush(timeout_s)
        return self._end("close", timeout_s) and flushed

    def _end(self, method: str, timeout_s: float, start: Start | None = None) -> bool:
        slots = {id(slot.observer): slot for slot in self._slots}
        work = endings([(slot.observer, slot.name, slot.policy) for slot in self._slots], method)
        bad = unfinished(work, timeout_s) if start is None else unfinished(work, timeout_s, start)
        for ending in bad:
            slots[id(ending.observer)].ended_badly = True
        return not bad
