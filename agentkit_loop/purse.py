"""What a session and the agents behind its calls use, while they use it: one purse for a family.

A session's own state knows what an agent behind a call used once the call has its result. Limits hold before
that as well: so each session of a family reports its requests here, to itself and to all above it, and each
looks before a request at every limit that holds for it, its own and those of the sessions above.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import attrs

from agentkit_loop.limits import Above, Limits
from agentkit_loop.state import LoopState, Spent
from agentkit_loop.usage import Cost, Usage, child_usage


@attrs.define(eq=False)
class _Account:
    """What is used of a session's limits. open: what open requests were reported to use, by session and id.

    is_closed: whether nothing of it counts for those above any more.
    """

    limits: Limits | None
    is_closed: bool = False
    warned: set[str] = attrs.Factory(
        set
    )  # limits of which somebody below was told that they are nearly used up
    settled: Spent = attrs.Factory(Spent)
    open: dict[tuple[Purse, str], tuple[Usage, Cost | None]] = attrs.Factory(dict)

    def sum(self) -> Spent:
        """Return the sums, open requests included."""
        total = Spent(self.settled.usage, dict(self.settled.costs))
        for usage, cost in self.open.values():
            total.add(usage, cost)
        return total


class Purse:
    """The sums of one session and of all below it. Safe to share by threads.

    limits: what the session may use, None for no limits of its own.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._account = _Account(limits)
        self._accounts: tuple[_Account, ...] = (
            self._account,
        )  # its own, then those above, the nearest first
        self._lock = threading.Lock()  # one for the family

    @classmethod
    def of(cls, state: LoopState, limits: Limits | None) -> Purse:
        """Return the purse of a session that has spent already."""
        purse = cls(limits)
        spent, request = state.session_spent, state.request
        purse.add(child_usage(spent.usage, spent.costs))
        if request is not None and request.usage is not None:
            purse.report(request.id, request.usage.usage, request.usage.cost)
        return purse

    def below(self) -> Purse:
        """Return a purse that spends from this one."""
        purse = Purse()
        purse._accounts = (*purse._accounts, *self._accounts)
        purse._lock = self._lock
        return purse

    def limit(self, limits: Limits | None) -> None:
        """Set what the session may use."""
        self._account.limits = limits

    def close(self) -> None:
        """Let what comes from now on count for nobody above: the call's result was told, and no log has more."""
        with self._lock:
            for account in self._accounts[1:]:
                for key in self._account.open:
                    reported = account.open.pop(key, None)
                    if reported is not None:
                        account.settled.add(*reported)
            self._account.is_closed = True

    def _counting(self) -> Iterator[_Account]:
        for account in self._accounts:
            yield account
            if account.is_closed:
                return

    def report(self, request_id: str, usage: Usage, cost: Cost | None) -> None:
        """Take what a request of this session was reported to use; the last word replaces earlier ones."""
        with self._lock:
            for account in self._counting():
                account.open[self, request_id] = (usage, cost)

    def settle(self, request_id: str) -> None:
        """Take note that a request has ended: what was reported of it last stays."""
        with self._lock:
            for account in self._counting():
                reported = account.open.pop((self, request_id), None)
                if reported is not None:
                    account.settled.add(*reported)

    def add(self, used: Usage) -> None:
        """Add what was used and reported to no purse of the family; costs stand in `raw` (see `child_usage`)."""
        with self._lock:
            for account in self._counting():
                account.settled.add_child(used)

    def spent(self) -> Spent:
        """Return the sums."""
        with self._lock:
            return self._account.sum()

    def used(self) -> Usage | None:
        """Return the sums as a call's result tells them; None where nothing was used."""
        spent = self.spent()
        if spent.usage == Usage() and not spent.costs:
            return None
        return child_usage(spent.usage, spent.costs)

    def note_warning(self, name: str) -> None:
        """Take note that this session was told of a limit that is nearly used up."""
        with self._lock:
            for account in self._accounts[1:]:
                account.warned.add(name)

    def above(self) -> list[Above]:
        """Return the limits of the sessions above, the nearest first, each with what is used of it."""
        with self._lock:
            return [
                Above(account.limits, account.sum(), frozenset(account.warned))
                for account in self._accounts[1:]
                if account.limits is not None
            ]
