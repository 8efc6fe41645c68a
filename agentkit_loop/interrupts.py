"""Ctrl-C without a torn event: the first one is honoured where nothing is half told.

While a driver works on the main thread under Python's default SIGINT handler, the first interrupt that
arrives between two waits is remembered and raised at the next wait; one that arrives in a wait, and any
second one, is raised at once. The handler is put back when the driver returns to its host.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class InterruptGuard:
    """Holds back KeyboardInterrupt while events are told.

    waiting: true inside a wait. pending: whether one is held back, for `check` to raise.
    """

    def __init__(self) -> None:
        self.waiting = False
        self.pending = False
        self._depth = 0
        self._installed = False

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth == 1:
            main = threading.current_thread() is threading.main_thread()
            if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._interrupt)
                self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth:
            return
        if self._installed and threading.current_thread() is threading.main_thread():
            self._installed = False
            if (
                signal.getsignal(signal.SIGINT) == self._interrupt
            ):  # otherwise the host has one of its own now
                signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.pending and error is None:
            self.check()
        self.pending = False

    def check(self) -> None:
        """Raise the interrupt that was held back, if there is one."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt

    # A generator may be closed by another thread, which cannot put the handler back: it does as the default one then.
    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.waiting or self.pending or not self._depth:
            self.pending = False
            self.waiting = False
            signal.default_int_handler(number, frame)
        self.pending = True
