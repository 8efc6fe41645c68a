"""What a fold remembers of sessions until it is settled, so that sessions nobody goes on with take no memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["MOST_SUSPENDED", "OpenSessions"]

T = TypeVar("T")

MOST_SUSPENDED = 1_000
"""Sessions that are remembered whose run has ended with something open, which a further run may settle."""


class OpenSessions(Generic[T]):
    """What is open, by session. Not safe for threads. make: of a session that begins."""

    def __init__(self, make: Callable[[], T], *, most_suspended: int = MOST_SUSPENDED) -> None:
        self._make = make
        self._most = most_suspended
        self._live: dict[str, T] = {}
        self._suspended: dict[str, T] = {}  # in the order in which their runs ended

    def __len__(self) -> int:
        return len(self._live) + len(self._suspended)

    def of(self, session_id: str) -> T:
        """Return what is open in a session, which goes on."""
        found = self._live.get(session_id)
        if found is None:
            found = self._suspended.pop(session_id, None) or self._make()
            self._live[session_id] = found
        return found

    def suspend(self, session_id: str) -> None:
        """Remember a session whose run has ended, as one of the last ones."""
        self._suspended[session_id] = self._live.pop(session_id)
        if len(self._suspended) > self._most:
            del self._suspended[next(iter(self._suspended))]

    def drop(self, session_id: str) -> None:
        """Forget a session."""
        self._live.pop(session_id, None)
        self._suspended.pop(session_id, None)
