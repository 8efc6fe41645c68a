"""Flushes and closes of observers: bounded, in order, and what goes wrong with them told once."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence

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


def unfinished(work: Sequence[Ending], timeout_s: float) -> list[Ending]:
    """Do each piece on a thread of its own, one after the other unless one hangs; return what did not end well.

    That is what raised, hangs, or answered False. What still hangs from an earlier time is not begun again, so
    that it costs one thread and one wait, however often it is asked. Where the interpreter takes its last objects
    apart nothing is begun: what is held was flushed before, at exit, and a thread would not start. Raises RuntimeError
    where it ends and says that it starts no thread any more.
    """
    if (
        sys.is_finalizing()
    ):  # a stream that a program left is closed so late; to start a thread then waits forever
        return list(work)
    bad: list[Ending] = []

    def do(ending: Ending) -> None:
        try:
            if ending.step() is False:  # an adapter's answer: not all arrived
                bad.append(ending)
        except BaseException as error:  # noqa: BLE001 - nobody is above this
            bad.append(ending)
            ending.failed(error)

    workers: list[tuple[Ending, threading.Thread]] = []
    overdue = time.monotonic() + timeout_s
    for ending in work:
        if is_hanging(ending):
            bad.append(ending)
            continue
        worker = threading.Thread(target=do, args=(ending,), name="agentkit-flush", daemon=True)
        worker.start()
        workers.append((ending, worker))
        worker.join(min(timeout_s / 2, max(0.0, overdue - time.monotonic())))  # in order, unless one hangs
    for ending, worker in workers:
        worker.join(max(0.0, overdue - time.monotonic()))
        if worker.is_alive():
            _hanging[id(ending.observer), ending.method] = worker
            bad.append(ending)
            ending.is_late(timeout_s)
    return bad


_hanging: dict[tuple[int, str], threading.Thread] = {}
"""Threads that were given up, by the observer that they hold, so that its identity is no other's meanwhile."""


def is_hanging(ending: Ending) -> bool:
    """Whether it was begun before and has not returned."""
    key = (id(ending.observer), ending.method)
    worker = _hanging.get(key)
    if worker is not None and not worker.is_alive():
        _hanging.pop(key, None)
        return False
    return worker is not None
