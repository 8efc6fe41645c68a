"""Turns: who writes to a log in an order that its writers agree on, one at a time, over threads and processes.

Lines need no turn: each is one write. What depends on the lines before it does: a number that goes on, a header that
comes first. The turn is the exclusive lock of a small file beside the log (`.run.jsonl.order`), which stays where
it is while the log is rotated, and which the system gives back when its holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from agentkit_reporting.log.locks import NO_LOCKS, lock_alone, open_private, unlock
from agentkit_reporting.log.places import make_directories

LONGEST_WAIT_S = 10.0
"""How long another process may hold the turn; a turn takes microseconds, and a process that is stopped holds it on."""

WAIT_AGAIN_S = 0.1
"""How long the next ones wait for a process that held it for so long, until it is given back."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.000_05, 0.002


class Turn:
    """The turn at one log. Not safe for threads: its writer is. Who has it may take it again.

    path: of the log, with all links followed where it is rotated. longest_wait_s: for another process. Where the
    system knows no such locks everybody has it.
    """

    def __init__(self, path: Path, *, longest_wait_s: float = LONGEST_WAIT_S) -> None:
        self._place = path.with_name(f".{path.name}.order")
        self._fd = -1
        self._patience_s = self._longest_wait_s = longest_wait_s
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin anew in the child of a fork, which would hold the parent's turn as long as it lives."""
        self._is_taken = False
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Have the turn; raises OSError, TimeoutError where another process holds it for too long."""
        if self._is_taken:
            yield
            return
        fd = self._locked()
        self._is_taken = True
        try:
            yield
        finally:
            self._is_taken = False
            if fd >= 0:
                unlock(fd)

    def close(self) -> None:
        """Close the lock's file; taken again, it is opened again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _locked(self) -> int:
        """Return the descriptor of the lock's file, locked; -1 where there are no locks."""
        until, pause_s = None, _FIRST_PAUSE_S
        while True:
            if self._fd < 0:
                make_directories(self._place.parent)
                self._fd = open_private(self._place, os.O_RDWR | os.O_NOFOLLOW)
            try:
                is_ours = lock_alone(self._fd)
            except OSError as error:
                if error.errno in NO_LOCKS:
                    return -1
                raise
            if is_ours and os.fstat(self._fd).st_nlink:
                self._patience_s = self._longest_wait_s
                return self._fd
            if is_ours:  # somebody removed it: others lock the new one
                self.close()
                continue
            now = time.monotonic()
            until = now + self._patience_s if until is None else until
            if now >= until:
                self._patience_s = min(WAIT_AGAIN_S, self._longest_wait_s)
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"Another process holds the turn for more than {self._longest_wait_s:g} s",
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
