"""CompositeReporter: several observers as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self, TypeAlias

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ContentDelta, ObserverFailed
from agentkit_loop.observers import EventKind, InnerFailure, Observer, Registration
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.inner import Inner, ReportingAdapter, Untold, finish, union
from agentkit_reporting.process_ends import watch

_Calls: TypeAlias = tuple[tuple[Callable[[AgentEvent], object], Inner], ...]


class _Route(NamedTuple):
    """The children that one kind of event goes to, and how many events went."""

    calls: _Calls
    told: Tally


class CompositeReporter(ReportingAdapter):
    """Gives each event to each of its children, in order, and isolates them as the loop does.

    children: observers, or Registrations with a policy of their own. Whatever one raises, the others get the
    event; the loop then treats the failure as that child's: its name, its policy, its `disable_after`. Each child
    is called for what it `wants`, and the composite wants what they want together.
    """

    def __init__(self, *children: Observer | Registration) -> None:
        super().__init__()
        self._children: tuple[Inner, ...] = ()
        self._routes: dict[EventKind, _Route] = {}
        self._all_routes: list[_Route] = []  # with those of before: their counts stay
        self._asked: tuple[EventKind, ...] = ()  # what somebody was told that is wanted
        self.begin_anew()
        for child in children:
            if isinstance(child, (list, tuple, set)):
                raise ConfigurationError(
                    f"a {type(child).__name__} of children refused; give them one by one: CompositeReporter(*children)"
                )
            self.with_observer(child)
        watch(self, at_exit=False)

    def with_observer(self, observer: Observer | Registration) -> Self:
        """Add a child, last in order, from the next event on; return self.

        Raises ConfigurationError where the composite has told what it wants (it is registered) and this child
        wants more: those events would never come.
        """
        children = (*self._children, Inner(observer, on_retire=self._reroute))
        wanted = union(child.wants for child in children)
        if self._asked and set(wanted) != set(self._asked):
            raise ConfigurationError(
                f"{observer!r} refused because the composite is registered for fewer events than it wants; "
                "add it before that, or register it beside the composite"
            )
        self._children, self._routes = children, {}
        return self

    @property
    def wants(self) -> tuple[EventKind, ...]:  # type: ignore[override] # the children's, together
        """What the children want together."""
        self._asked = union(child.wants for child in self._children)
        return self._asked

    @property
    def inners(self) -> tuple[Inner, ...]:
        """The children, as they are called."""
        return self._children

    @property
    def children(self) -> tuple[Observer, ...]:
        """The children, in order."""
        return tuple(child.observer for child in self._children)

    def pass_on(self, event: AgentEvent) -> None:
        """Give the event to each child that wants it."""
        kind = event.delta.__class__ if isinstance(event, ContentDelta) else event.__class__
        route = self._routes.get(kind)
        if route is None:
            route = self._route(kind)
        calls, told = route
        told.add()
        failures: list[InnerFailure] | None = None
        fatal: BaseException | None = None
        for handle, child in calls:
            if kind is ObserverFailed and child.failed_itself(event):
                continue
            try:
                handle(event)
            except Exception as error:  # noqa: BLE001 - the others still get the event
                failures = failures or []
                failures.extend(child.failures(event, error))
            except BaseException as error:  # noqa: BLE001 - the same; raised below
                fatal = error
        if fatal is not None or failures is not None or self._untold:
            self._end(event, failures or (), fatal)

    def _end(self, event: AgentEvent, failures: Sequence[InnerFailure], fatal: BaseException | None) -> None:
        if fatal is not None:
            self._interrupted.add()
        self._untold.add(failures)
        if fatal is not None:
            raise fatal
        self._untold.raise_for(event.session_id)

    def _reroute(self) -> None:
        self._routes = {}

    def _route(self, kind: EventKind) -> _Route:
        calls = tuple(
            (child.handle, child) for child in self._children if child.is_active and child.wants_kind(kind)
        )
        route = self._routes[kind] = _Route(calls, Tally())
        self._all_routes.append(route)
        return route

    def account(self) -> Account:
        """Return what became of the events: those that it received went to its children, whose accounts tell more.

        One on which a child was interrupted counts as failed.
        """
        failed, received, given = self._interrupted.value, 0, dict.fromkeys(self._children, 0)
        for calls, told in list(self._all_routes):
            count = told.value
            received += count
            for _, child in calls:
                given[child] += count
        return Account(
            name=type(self).__name__,
            received=received,
            delivered=received - failed,
            failed=failed,
            inner=tuple(
                child.account(max(0, count - child.failed), child.failed) for child, count in given.items()
            ),
        )

    def flush(self, timeout_s: float | None = None) -> bool:
        """Flush the children in order; return whether everything so far arrived."""
        return finish(self._children, "flush", timeout_s) and not self.account().lost

    def close(self, timeout_s: float | None = None) -> bool:
        """Close the children in order; return whether everything arrived."""
        closed = finish(self._children, "close", timeout_s)
        self._untold.log()
        return closed and self.account().is_complete

    def begin_anew(self) -> None:
        """Forget what was counted: this is a forked child."""
        self._interrupted = Tally()
        self._all_routes.clear()
        self._reroute()
        for child in self._children:
            child.failed = 0
        self._untold = Untold()  # what an interrupt kept from being told
