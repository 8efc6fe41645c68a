"""Which thread tells a session's events: one at a time, a driving one or one that only signals.

A thread that signals (submit, cancel, emit, an answer) while nobody drives tells the consequence itself, in a
moment; who wants to drive waits for that. A second thread that wants to drive is refused.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from agentkit_loop.errors import IllegalMoveError


class _Held(threading.local):
    """How often the thread holds any session's steering: then it may not wait for another's."""

    count = 0


class Steering:
    """Held by one thread, as often as it likes. A signal handler may come in between at any point."""

    _held = _Held()

    def __init__(self) -> None:
        self._changed = threading.Condition()  # over a lock that the same thread may take again
        self._holder: int | None = None
        self._depth = 0
        self._drives = False  # the holder does, it does not only signal
        self._line: list[int] = []  # the threads that wait, in the order of coming

    @contextlib.contextmanager
    def driving(self, move: str, *, patience_s: float = 0.0) -> Iterator[None]:
        """Hold it as the one that drives; raises IllegalMoveError while another thread does.

        patience_s: how long to wait for that one first.
        """
        until = time.monotonic() + patience_s
        with self._changed:
            if not self._wait(lambda: not self._drives or time.monotonic() < until, patience_s):
                raise IllegalMoveError(move, "another thread drives this session", "leave it to that thread")
            self._take()
            before, self._drives = self._drives, True
        try:
            yield
        finally:
            self._let_go(drives=before)

    def begin_signal(self) -> bool:
        """Hold it for a signal, until `end_signal`; False where another thread drives.

        Another one that signals as well is waited for; not by a thread that tells an event of any session, since
        two such threads might wait for each other: False then, too.
        """
        with self._changed:
            if not self._wait(lambda: not (self._drives or self._held.count)):
                return False
            self._take()
            return True

    def _wait(self, may_wait: Callable[[], bool], patience_s: float = 0.0) -> bool:
        """Wait in line until it is free; False as soon as that may not be waited for. With the lock held."""
        me = threading.get_ident()
        if self._holder == me:
            return True
        self._line.append(me)
        try:
            # A signal handler stands in line behind its own thread, which cannot go on before it: it passes.
            while self._holder is not None or self._line[0] != me:
                if not may_wait():
                    return False
                self._changed.wait(patience_s or None)
            return True
        finally:
            self._line.remove(me)
            self._changed.notify_all()

    def end_signal(self) -> None:
        """Let go of it."""
        self._let_go(drives=self._drives)

    def _take(self) -> None:
        self._holder = threading.get_ident()
        self._depth += 1
        self._held.count += 1

    def _let_go(self, *, drives: bool) -> None:
        with self._changed:
            self._drives = drives
            self._held.count -= 1
            self._depth -= 1
            if not self._depth:
                self._holder, self._drives = None, False
                self._changed.notify_all()
