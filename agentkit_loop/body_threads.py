"""Daemon threads for tools' bodies and a run's flushes: one that has nothing to do is used again.

A thread made anew for every call costs as much CPU as the telling of a whole turn. There is no bound here
(the machine has one), and nothing waits for a body: a thread whose body never returns is simply not idle.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

IDLE_S = 10.0
"""Seconds after which a thread without work ends."""

_Work = Callable[[], object]
_Inbox = queue.SimpleQueue[_Work | None]


class BodyThreads:
    """Threads that belong to one driver. Safe to be used from any thread, also after a fork."""

    def __init__(self, *, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._idle: list[_Inbox] = []
        self._closed = False
        self._pid = os.getpid()

    def run(self, name: str, work: _Work) -> None:
        """Run something on an idle thread, or on a new one; what it raises ends that thread. name: of the thread."""

        def named() -> None:
            threading.current_thread().name = name
            work()

        inbox = self._take_idle()
        if inbox is None:
            inbox = queue.SimpleQueue()
            inbox.put(named)
            threading.Thread(target=self._serve, args=(inbox,), name=name, daemon=True).start()
        else:
            inbox.put(named)

    def close(self) -> None:
        """Let the idle threads end; those that are busy end after their work. New work gets new threads."""
        self._renew_after_fork()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _take_idle(self) -> _Inbox | None:
        self._renew_after_fork()
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _renew_after_fork(self) -> None:
        if self._pid != os.getpid():  # a child has the list and not the threads, and perhaps a locked lock
            self._pid, self._idle, self._lock = os.getpid(), [], threading.Lock()

    def _serve(self, inbox: _Inbox) -> None:
        while (work := self._next(inbox)) is not None:
            work()
            del work  # a body's arguments must not live on in an idle thread
            with self._lock:
                if self._closed:
                    return
                self._idle.append(inbox)

    def _next(self, inbox: _Inbox) -> _Work | None:
        """Return what is to be done next, None where the thread is to end."""
        try:
            return inbox.get(timeout=self._idle_s)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()  # it was taken at this very moment; work, or the end, is on its way
