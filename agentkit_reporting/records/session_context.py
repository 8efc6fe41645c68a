"""The session that the running code belongs to, through threads with a copied context and tasks.

What is told directly and names no session is of this one: `SessionSpan` sets it while it is open.
"""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["SessionPlace", "current_session"]


class SessionPlace:
    """A session as the current one, from `enter` to `leave`; the one before is then current again.

    It may be left in another context (thread, task) than it was entered in: a place that was left is no longer
    anybody's.
    """

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.is_open = False
        self._outer: SessionPlace | None = None

    def enter(self) -> None:
        """Make it the current session of the calling context."""
        self.is_open = True
        self._outer = _open_place()
        _current.set(self)

    def leave(self) -> None:
        """Let it be current no longer; twice is harmless."""
        self.is_open = False
        if _current.get() is self:
            _current.set(_open_place())


_current: ContextVar[SessionPlace | None] = ContextVar("agentkit_session", default=None)


def current_session() -> str | None:
    """Return the id of the current session; None outside of any."""
    place = _open_place()
    return None if place is None else place.session_id


def _open_place() -> SessionPlace | None:
    place = _current.get()
    while place is not None and not place.is_open:
        place = place._outer  # noqa: SLF001 - its own class's
    return place
