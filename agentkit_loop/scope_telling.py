"""What comes between nothing: other threads, and a first Ctrl-C, wait while a hand-written loop's events are told.

Without that an interrupt would cut an event out of the log, and no resume goes on after a gap.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agentkit_loop.interrupts import InterruptGuard

if TYPE_CHECKING:
    from agentkit_loop.emitter import EventEmitter


class Telling:
    """Keeps together what a run tells."""

    def __init__(self, emitter: EventEmitter) -> None:
        self._emitter = emitter
        self._interrupts = InterruptGuard()  # touched by the main thread alone

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Let nothing come between what is told inside; raises IllegalMoveError while an event is told."""
        if not _is_main():
            with self._emitter.together():
                yield
            return
        guard = self._interrupts
        with guard:
            waiting, guard.waiting = guard.waiting, False
            try:
                with self._emitter.together():
                    yield
            finally:
                guard.waiting = waiting
            if waiting:
                guard.check()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Look at Ctrl-C for as long as a stream is read: cheaper than for each of its events."""
        guard = self._interrupts
        if not _is_main():
            yield
            return
        with guard:
            waiting, guard.waiting = guard.waiting, True
            try:
                yield
            finally:
                guard.waiting = waiting


def _is_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident


async def beside_the_loop(work: Callable[[], object]) -> None:
    """Do what may wait for a disk on another thread; here where that is not possible."""
    try:
        import asyncio  # noqa: PLC0415 - who is here has loaded it, but for loops of another kind

        done = asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:  # another library's loop, or one that takes no more work
        work()
    else:
        await done
