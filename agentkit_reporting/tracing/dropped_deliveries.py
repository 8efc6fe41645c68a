"""Deliveries of reporters that nobody holds any more: closed by a thread, after what they had was delivered.

A delivery has threads, which would go on for nobody. That its reporter is gone is learned while garbage is collected,
at any place of any thread: nothing is done there but to put it into a queue that is made for that. A thread of the
process has them closed, each within its own bound; what does not arrive is told as of any close.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from typing import Protocol

from agentkit_loop.forks import Locked

__all__ = ["close_when_dropped"]


class Closing(Protocol):
    """Something that is closed within a time."""

    def close(self, timeout_s: float | None = None) -> bool:
        """Deliver what is held, and take no more."""


class _Closer(Locked):
    """The queue of what is to be closed, and the thread that does it as long as somebody may be dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._begin_anew()

    def after_fork(self) -> None:
        """Begin anew in the child of a fork; what it inherited stays until it ends."""
        super().after_fork()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._dropped: queue.SimpleQueue[Closing] = queue.SimpleQueue()  # its put may interrupt itself
        self._watched = 0  # holders that are there, and those whose delivery is not closed yet

    def watch(self, holder: object, delivery: Closing) -> None:
        """Have a delivery closed when its holder is gone."""
        with self._lock:
            if not self._watched:
                try:
                    threading.Thread(target=self._close_all, name=_NAME, daemon=True).start()
                except RuntimeError:
                    return  # the system gives none: it stays until the process ends, as at its exit
            self._watched += 1
            dropping = weakref.finalize(holder, self._dropped.put, delivery)
            dropping.atexit = False  # where all are flushed anyhow

    def _close_all(self) -> None:
        dropped = self._dropped
        while True:
            # Each on its own: one that waits for a dead endpoint keeps no other.
            with contextlib.suppress(RuntimeError):  # the system gives none: it stays until the process ends
                threading.Thread(target=dropped.get().close, name=_NAME, daemon=True).start()
            with self._lock:
                self._watched -= 1
                if not self._watched:
                    return


_NAME = "agentkit-otlp-dropped"

_closer = _Closer()


def close_when_dropped(holder: object, delivery: Closing) -> None:
    """Have a delivery closed, in the background, when nobody has its holder any more. Holds the holder weakly."""
    _closer.watch(holder, delivery)
