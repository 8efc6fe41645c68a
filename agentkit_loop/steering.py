"""Which thread tells a session's events: its owner, the one that drove it last (at first, the one that made it).

What other threads want is posted, and told by the owner when its turn comes: they never wait for it, so that
nothing an observer does can hold them up, nor they it. Another thread may take over by driving, once the owner
is not at it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from agentkit_loop.errors import IllegalMoveError


class Steering:
    """Held by one thread, as often as it likes. A signal handler may come in between at any point."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # over a lock that the same thread may take again
        self._owner = threading.get_ident()
        self._depth = 0
        self._drives = False  # the owner does, it does not only signal

    @contextlib.contextmanager
    def driving(self, move: str, *, patience_s: float = 0.0) -> Iterator[None]:
        """Hold it as the one that drives; raises IllegalMoveError while another thread does.

        patience_s: how long to wait for that one first; one that only signals is waited for in any case.
        """
        with self._changed:
            if patience_s:
                self._changed.wait_for(self._is_free, patience_s)
            while not self._is_free():
                if self._drives:
                    raise IllegalMoveError(
                        move, "another thread drives this session", "leave it to that thread"
                    )
                self._changed.wait()
            self._owner = threading.get_ident()
            self._depth += 1
            before, self._drives = self._drives, True
        try:
            yield
        finally:
            self._let_go(drives=before)

    def begin_signal(self) -> bool:
        """Hold it for a signal, until `end_signal`; False where another thread is the owner."""
        with self._changed:
            if self._owner != threading.get_ident():
                return False
            self._depth += 1
            return True

    def end_signal(self) -> None:
        """Let go of it."""
        self._let_go(drives=self._drives)

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds it."""
        return not self._depth

    def _is_free(self) -> bool:
        return not self._depth or self._owner == threading.get_ident()

    def _let_go(self, *, drives: bool) -> None:
        with self._changed:
            self._drives = drives
            self._depth -= 1
            if not self._depth:
                self._drives = False
                self._changed.notify_all()
