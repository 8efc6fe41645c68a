"""Time as an argument: the one place where the drivers read a clock and wait.

`agentkit_loop.testing.VirtualClock` is the same surface for tests, where waiting moves time.
"""

from __future__ import annotations

import datetime as dt
import functools
import queue
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import threading


class Clock:
    """The machine's clock. Subclass it to control time."""

    now: Callable[[], dt.datetime] = staticmethod(functools.partial(dt.datetime.now, dt.UTC))
    """Return the time of day, aware, UTC. Not a Python function: it is called for every event."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    def wait(self, inbox: queue.SimpleQueue[Any], seconds: float | None, *, busy: bool) -> Any | None:
        """Return the inbox's next entry, or None after `seconds` (None: no bound).

        busy: whether somebody else (a tool) is at work who may fill the inbox.
        """
        del busy  # real time passes by itself
        try:
            return inbox.get(timeout=seconds)
        except queue.Empty:
            return None

    async def await_change(self, changed: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        """Return when `changed` is set, or after `seconds` (None: no bound)."""
        import asyncio  # noqa: PLC0415 - a third of what this package takes to import; only async runs need it

        del busy
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return

    def alarm(self, seconds: float, act: Callable[[], object]) -> Callable[[], object]:
        """Have something done on another thread after so many seconds; return what calls it off."""
        import threading  # noqa: PLC0415 - only runs with a deadline need it

        timer = threading.Timer(seconds, act)
        timer.daemon = True
        timer.start()
        return timer.cancel

    def sleep(self, seconds: float) -> None:
        """Wait on the calling thread; for scripted models and tools."""
        time.sleep(seconds)

    def pause(self, seconds: float, cut: threading.Event) -> bool:
        """Wait on the calling thread, until `cut` is set at the latest; return whether it is."""
        return cut.wait(seconds)

    async def asleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        import asyncio  # noqa: PLC0415 - as above

        await asyncio.sleep(seconds)
