"""How many events came in and how many arrived, through every layer: `complete: 412 of 412`."""

from __future__ import annotations

import itertools
import threading

import attrs

from agentkit_loop.records import FrozenRecord


class Tally:
    """A count that any thread may raise, exact and without a lock: `add()`."""

    def __init__(self) -> None:
        counter = itertools.count()
        self.add = counter.__next__  # one step of the interpreter, so that no two threads get the same number
        """Count one more; what it returns says nothing."""
        self._looks = 0  # which count as well
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        """The count as it is now."""
        with self._lock:
            value = self.add() - self._looks
            self._looks += 1
            return value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Account(FrozenRecord):
    """What became of the events that one observer was given, as it was when it was asked.

    name: the observer's. received: events it was given. delivered: those that arrived where it sends them: in
    its file, or taken by the observer behind it. dropped: those it gave up. failed: those on which what is
    behind it raised, those that it refused because it is closed, and those that went with a file that was removed.
    pending: those it still holds. redacted: those delivered, of which something was masked. inner: the accounts of
    what is behind it, in order.
    """

    name: str
    received: int
    delivered: int
    dropped: int = 0
    failed: int = 0
    pending: int = 0
    redacted: int = 0
    inner: tuple[Account, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything that came in arrived, here and behind."""
        return (
            self.delivered == self.received
            and not self.pending
            and not self.dropped
            and not self.failed
            and all(account.is_complete for account in self.inner)
        )

    @property
    def lost(self) -> int:
        """Events that will never arrive, here and behind."""
        here = max(self.dropped + self.failed, self.received - self.delivered - self.pending)
        return here + sum(account.lost for account in self.inner)

    def __str__(self) -> str:
        if self.is_complete:
            return f"complete: {self.delivered} of {self.received}"
        causes = [
            f"{count} {word}"
            for word, count in (
                ("dropped", self.dropped),
                ("failed", self.failed),
                ("pending", self.pending),
            )
            if count
        ]
        causes += [f"{account.name} {account}" for inner in self.inner for account in _at_fault(inner)]
        reasons = f" ({', '.join(causes)})" if causes else ""
        return f"incomplete: {self.delivered} of {self.received}{reasons}"


def _at_fault(account: Account) -> list[Account]:
    """Return the outermost that are incomplete of themselves: not those that only pass on to them."""
    if account.is_complete:
        return []
    if attrs.evolve(account, inner=()).is_complete:
        return [found for inner in account.inner for found in _at_fault(inner)]
    return [account]


def account_of(observer: object) -> Account:
    """Return an observer's own account; of one that keeps none, what `dropped` says, and no more.

    An observer without an account is one that does at once what it does: nothing is known to be missing, so
    its account is of 0 events and complete unless it says that it dropped some. Behind an adapter, which counts
    for it, it has one of what it was given.
    """
    account = getattr(observer, "account", None)
    if callable(account):
        given = account()
        if isinstance(given, Account):
            return given
    dropped = getattr(observer, "dropped", 0)
    if not isinstance(dropped, int):
        dropped = 0
    name = getattr(observer, "__qualname__", type(observer).__name__)  # a function has one
    return Account(name=name, received=dropped, delivered=0, dropped=dropped)


def has_account(observer: object) -> bool:
    """Whether an observer keeps an account of its own."""
    return callable(getattr(observer, "account", None))
