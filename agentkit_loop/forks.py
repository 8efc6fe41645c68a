"""Locks in the child of a fork: one that another thread held at that moment would stay locked there for ever."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable

__all__ = ["Locked", "do_all"]


class Locked:
    """Something with a lock that a child gets anew after a fork, when nobody may be left to release it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may flush what it interrupted
        _survive_fork(self)

    def after_fork(self) -> None:
        """Begin anew in the child of a fork; the interpreter calls it there."""
        self._lock = threading.RLock()


_locked: weakref.WeakValueDictionary[int, Locked] = weakref.WeakValueDictionary()  # some cannot be hashed
_watching = threading.Lock()
_watched = False


def _survive_fork(holder: Locked) -> None:
    global _watched  # noqa: PLW0603 - the interpreter's fork hooks are global and cannot be taken back
    with _watching:
        _locked[id(holder)] = holder
        if not _watched and sys.platform != "win32":
            os.register_at_fork(after_in_child=_after_fork)
            _watched = True


def _after_fork() -> None:
    global _watching  # noqa: PLW0603 - it may have been held at the fork as well
    _watching = threading.Lock()
    do_all(holder.after_fork for holder in list(_locked.values()))


def do_all(acts: Iterable[Callable[[], object]]) -> None:
    """Do everything, whatever one of them raises; then raise the first of what was raised.

    For hooks of the interpreter, which reports it: an object that was never made whole, since its constructor raised or
    another thread was amid it, keeps no other from beginning anew.
    """
    first: BaseException | None = None
    for act in acts:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised below
            first = first or error
    if first is not None:
        raise first
