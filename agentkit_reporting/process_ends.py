"""What those who hold events do when the process forks, and when it ends.

A child has a copy of what its parent holds, but none of its threads, and its locks as they stood. What is held
belongs to the parent, which delivers it; the child begins empty. At the interpreter's exit everything still
held is delivered, within a bound: `atexit` runs while daemon threads still do, and `multiprocessing`, whose
children end without `atexit`, has a place of its own for that. Both are registered with the first holder. What could
not be delivered is logged, a line for each holder. A process that a signal ends (SIGTERM, unless the program
handles it) or `os._exit` has no such exit, and takes what is held with it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from typing import Any, Literal, Protocol, overload

from agentkit_loop.forks import do_all
from agentkit_loop.late import late_logger

logger = late_logger(__name__)

EXIT_TIMEOUT_S = 5.0
"""How long the exit of the interpreter waits for everything together."""


class Counting(Protocol):
    """Something with counts or locks."""

    def begin_anew(self) -> None:
        """Forget what is held and counted, with new locks: this is a forked child."""


class Holder(Counting, Protocol):
    """Something that holds events."""

    @property
    def pending(self) -> int:
        """How many it holds that can still be delivered."""

    def flush(self, timeout_s: float | None = None) -> bool:
        """Deliver what is held."""

    def ask_for_flush(self) -> None:
        """Have what is held delivered by another thread, if there is one that does it; waits for nobody."""

    def tell_lost(self) -> None:
        """Log what could not be delivered, if anything."""


_counting: weakref.WeakSet[Counting] = weakref.WeakSet()
_holders: weakref.WeakSet[Holder] = weakref.WeakSet()  # of them, those to be flushed at exit
_guard = threading.Lock()
_registered_in: int | None = None  # the process in which the first holder was, and what was forked from it
_child_watched: int | None = None  # the child of `multiprocessing` whose exit is watched


@overload
def watch(holder: Holder) -> None: ...
@overload
def watch(holder: Counting, *, at_exit: Literal[False]) -> None: ...
def watch(holder: Any, *, at_exit: bool = True) -> None:
    """Have something begin anew after a fork, and what holds events flushed at exit, as long as it lives."""
    global _registered_in  # noqa: PLW0603 - the interpreter's hooks are global and cannot be taken back
    with _guard:
        _counting.add(holder)
        if at_exit:
            _holders.add(holder)
        if _registered_in is None:
            atexit.register(deliver_all)
            if sys.platform != "win32":
                os.register_at_fork(after_in_child=_begin_anew)
            _registered_in = os.getpid()


def watch_child() -> None:
    """Watch the exit of a child of `multiprocessing`, whatever it inherited; called where events are held."""
    global _child_watched  # noqa: PLW0603 - as above
    process = sys.modules.get("multiprocessing.process")
    if process is None or _child_watched == os.getpid() or process.parent_process() is None:
        return
    _child_watched = os.getpid()
    atexit.unregister(deliver_all)  # a spawned one has that as well, later
    util = sys.modules["multiprocessing.util"]  # loaded in every child
    util.Finalize(None, deliver_all, exitpriority=100)  # before its own queues and pools go


def deliver_all(timeout_s: float = EXIT_TIMEOUT_S) -> None:
    """Deliver what everybody holds, all together within the bound; log what is lost.

    Ctrl-C ends the wait, and nothing else: the process ends anyhow, and what is lost is to be known.
    """
    holders = list(_holders)
    with contextlib.suppress(KeyboardInterrupt):
        _flush_all(holders, time.monotonic() + timeout_s)
    for holder in holders:
        holder.tell_lost()


def _flush_all(holders: list[Holder], until: float) -> None:
    """Have all of them flushed, up to a moment of the monotonic clock.

    Who was flushed already may be given more by who is flushed after it, as a webhook is by its dispatcher: so it is
    done again until nobody holds anything, or nothing changes any more.
    """
    for holder in holders:
        holder.ask_for_flush()  # all at the same time, so that one that hangs costs no other its events
    holding, before = holders, [-1]
    while holding and (held := [holder.pending for holder in holders]) != before:
        before = held
        for holder in holding:
            holder.flush(max(0.0, until - time.monotonic()))
        holding = [holder for holder in holders if holder.pending]


def log_lost(name: str, held: int, received: int) -> None:
    """Log, at the end of the process, how many events somebody still holds; nothing where there are none."""
    if held:
        logger.warning(
            "%s still held %d of %d events when the process ended; they are lost", name, held, received
        )


def _begin_anew() -> None:
    global _guard  # noqa: PLW0603 - it may have been held at the fork as well
    _guard = threading.Lock()
    do_all(holder.begin_anew for holder in list(_counting))
