"""Which runs, of those that direct use opened, were used last; the others are ended, so that memory has a bound."""

from __future__ import annotations

import collections
import threading

__all__ = ["MOST_OPEN_RUNS", "RecentRuns"]

MOST_OPEN_RUNS = 200
"""Runs that a view keeps open at a time, where nobody says when one ends."""


class RecentRuns:
    """Sessions in the order of their last use. Safe for threads."""

    def __init__(self, most: int = MOST_OPEN_RUNS) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._used: collections.OrderedDict[str, int] = (
            collections.OrderedDict()
        )  # with the calls in progress

    def begin(self, session_id: str) -> list[str]:
        """Take note that a session is used from now on; return those whose run may be ended."""
        with self._lock:
            self._used[session_id] = self._used.pop(session_id, 0) + 1
            excess = len(self._used) - self._most
            if excess <= 0:
                return []
            ended = [each for each, uses in self._used.items() if not uses][:excess]
            for each in ended:
                del self._used[each]
            return ended

    def end(self, session_id: str) -> None:
        """Take note that one use of a session is over."""
        with self._lock:
            if session_id in self._used:
                self._used[session_id] -= 1
