"""Deliveries of reporters that nobody holds any more: closed by a thread, after what they had was delivered.

A delivery has threads, which would go on for nobody. That its reporter is gone is learned while garbage is collected,
at any place of any thread: nothing is done there but to put it into a queue that is made for that. A thread of the
process has them closed, each within its own bound; what does not arrive is told as of any close.
"""

from __future__ import annotations

import os
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
    """The queue of what is to be closed, and the thread that does it."""

    def __init__(self) -> None:
        super().__init__()
        self._dropped: queue.SimpleQueue[Closing] = queue.SimpleQueue()  # its put may interrupt itself
        self._process: int | None = None  # in which the thread is

    def watch(self, holder: object, delivery: Closing) -> None:
        """Have a delivery closed when its holder is gone."""
        with self._lock:
            if self._process != os.getpid():
                self._dropped = queue.SimpleQueue()
                try:
                    threading.Thread(
                        target=_close_all, args=(self._dropped,), name=_NAME, daemon=True
                    ).start()
                except RuntimeError:
                    return  # the system gives none: it stays until the process ends, as at its exit
                self._process = os.getpid()
        weakref.finalize(holder, self._drop, delivery).atexit = False  # where everything is flushed anyhow

    def _drop(self, delivery: Closing) -> None:
        self._dropped.put(delivery)


_NAME = "agentkit-otlp-dropped"


def _close_all(dropped: queue.SimpleQueue[Closing]) -> None:
    while True:
        try:
            # Each on its own: one that waits for a dead endpoint keeps no other.
            threading.Thread(target=dropped.get().close, name=_NAME, daemon=True).start()
        except RuntimeError:  # the system gives none: it stays until the process ends
            continue


_closer = _Closer()


def close_when_dropped(holder: object, delivery: Closing) -> None:
    """Have a delivery closed, in the background, when nobody has its holder any more. Holds the holder weakly."""
    _closer.watch(holder, delivery)
