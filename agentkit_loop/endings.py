"""Flushes and closes of observers: bounded, in order, and what goes wrong with them told once."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from agentkit_loop.late import late_logger
from agentkit_loop.observers import FailurePolicy, is_unheard, log_error, own_method
from agentkit_loop.usage import error_text

logger = late_logger(__name__)


class Ending(msgspec.Struct, frozen=True):
    """A flush or close of an observer. policy: what follows where it fails; None: as under LOG."""

    observer: object
    name: str  # as its failures are told
    method: str
    step: Callable[[], object]
    policy: FailurePolicy | None = None

    def failed(self, error: BaseException) -> None:
        """Log what it raised, once per observer and kind, whether that came of an event, a flush or a close."""
        kind = type(error).__name__
        if self.policy is not FailurePolicy.IGNORE and is_unheard(self.observer, kind):
            log_error(
                logger, f"observer {self.name} failed in {self.method}: {kind}: {error_text(error)}", error
            )

    def is_late(self, timeout_s: float) -> None:
        """Log that it has not returned, once per observer; the thread that it hangs on is given up."""
        if self.policy is not FailurePolicy.IGNORE and is_unheard(self.observer, "has not returned"):
            late = "observer %s has not returned from %s within %g s; it is not waited for any more"
            logger.error(late, self.name, self.method, timeout_s)


def endings(observers: Iterable[tuple[object, str, FailurePolicy | None]], method: str) -> list[Ending]:
    """Return the flushes or closes of observers, each with its name and policy, as far as they have one.

    method: "flush", "close", or "hand_over", which is told, and hangs, as the flush that it is.
    """
    steps = [(each, own_method(each[0], method)) for each in observers]
    return [
        Ending(observer, name, "flush" if method == "hand_over" else method, step, policy)
        for (observer, name, policy), step in steps
        if step is not None
    ]


Start: TypeAlias = Callable[[str, Callable[[], object]], object]
"""Runs something on a thread, given the name that the thread has meanwhile."""

_NAME, _NAME_AFTERWARDS = "agentkit-flush", "agentkit-idle"


def _on_new_thread(name: str, work: Callable[[], object]) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()


class _Begun:
    """A piece that was begun. went_well: None as long as it has not returned."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        self.went_well: bool | None = None
        self.pid = os.getpid()  # a child has not the thread that it is on
        self._runs = threading.Lock()
        self._runs.acquire()

    def do(self) -> None:
        """Do it, on a thread that may be somebody else's afterwards."""
        went_well = False
        try:
            went_well = self.ending.step() is not False  # an adapter's answer: not all arrived
        except BaseException as error:  # noqa: BLE001 - nobody is above this
            self.ending.failed(error)
        finally:
            threading.current_thread().name = _NAME_AFTERWARDS
            self.went_well = went_well
            self._runs.release()

    def wait(self, seconds: float) -> None:
        """Wait until it has returned, so long at most."""
        if self.went_well is None and self._runs.acquire(timeout=max(0.0, seconds)):
            self._runs.release()


def unfinished(work: Sequence[Ending], timeout_s: float, start: Start = _on_new_thread) -> list[Ending]:
    """Do each piece on a thread of its own, one after the other unless one hangs; return what did not end well.

    That is what raised, hangs, or answered False. What still hangs from an earlier time is not begun again, so
    that it costs one thread and one wait, however often it is asked. Where the interpreter takes its last objects
    apart nothing is begun: what is held was flushed before, at exit, and a thread would not start. Raises RuntimeError
    where it ends and says that it starts no thread any more.

    start: what gives it a thread; a new one for each piece takes as much CPU as the telling of 20 events.
    """
    if (
        sys.is_finalizing()
    ):  # a stream that a program left is closed so late; to start a thread then waits forever
        return list(work)
    bad: list[Ending] = []
    begun: list[_Begun] = []
    overdue = time.monotonic() + timeout_s
    for ending in work:
        if is_hanging(ending):
            bad.append(ending)
            continue
        piece = _Begun(ending)
        start(_NAME, piece.do)
        begun.append(piece)
        piece.wait(min(timeout_s / 2, overdue - time.monotonic()))  # in order, unless one hangs
    for piece in begun:
        piece.wait(overdue - time.monotonic())
        if not piece.went_well:
            bad.append(piece.ending)
        if piece.went_well is None:
            _hanging[id(piece.ending.observer), piece.ending.method] = piece
            piece.ending.is_late(timeout_s)
    return bad


_hanging: dict[tuple[int, str], _Begun] = {}
"""What was given up, by the observer that it holds, so that its identity is no other's meanwhile."""


def is_hanging(ending: Ending) -> bool:
    """Whether it was begun before and has not returned."""
    key = (id(ending.observer), ending.method)
    piece = _hanging.get(key)
    if piece is not None and (piece.went_well is not None or piece.pid != os.getpid()):
        _hanging.pop(key, None)
        return False
    return piece is not None
