"""The sessions of the soak: a scripted agent with tools, over and over, on threads and on an event loop.

Worker w plays sessions `w-1`, `w-2`, … one after the other, so that who reads the log knows what comes next. Each is
a session of its own with an agent of its own, as a service would make them: what grows with one ends with it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from agentkit_loop import Agent, tool
from agentkit_loop.models.scripted import Reply, ScriptedCall, ScriptedModel
from agentkit_loop.observers import Observer, Registration
from agentkit_reporting import UsageReporter

SECRET = "sk-ant-api03-" + "Zx9" * 30 + "AA"
"""What no log may hold; every session says it once, in pieces."""

WORDS = "the export reads each page in turn and the last one is closed before its rows are written " * 20

REPLIES = (
    Reply(text=WORDS, calls=tuple(ScriptedCall(name="look", input={"page": page}) for page in (1, 2, 3))),
    Reply(text=f"the key is {SECRET} and I will not use it; " + WORDS, calls=(ScriptedCall(name="look"),)),
    Reply(text=WORDS + "so that is the answer"),
)


@tool
def look(page: int = 0) -> str:
    """Look at a page.

    Args:
        page: Which one.
    """
    return f"page {page}: " + "a row of the export, " * 10


def agent_of(observers: Sequence[Observer | Registration], usage: UsageReporter) -> Agent:
    """Return the agent of one session; usage: a view of that session alone, which would grow with all of them."""
    return Agent(ScriptedModel(REPLIES), tools=[look], observers=[*observers, usage])


class Workers:
    """So many threads, and tasks of one event loop, that play sessions until they are told to stop.

    on_threads, on_loop: the observers of either. failures: what a worker raised, and what did not add up.
    """

    def __init__(
        self,
        on_threads: Sequence[Observer | Registration],
        on_loop: Callable[[], Sequence[Observer | Registration]],
        *,
        threads: int = 3,
        tasks: int = 3,
    ) -> None:
        self.failures: list[str] = []
        self.sessions = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(self._work, number, on_threads), name=f"worker-{number}"
            )
            for number in range(threads)
        ]
        self._threads.append(
            threading.Thread(
                target=self._guarded, args=(self._loop, threads, tasks, on_loop), name="event-loop"
            )
        )

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have the sessions that are played ended, and wait for that."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - told at the end, which fails for it
            self.failures.append(f"{threading.current_thread().name}: {type(error).__name__}: {error}")

    def _work(self, worker: int, observers: Sequence[Observer | Registration]) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            usage = UsageReporter(keep_requests=False)
            with agent_of(observers, usage).start(session_id=f"{worker}-{number}") as driver:
                self._judge(driver.run("why is the last page missing?").usage.output_tokens, usage)

    def _loop(
        self, first: int, tasks: int, observers: Callable[[], Sequence[Observer | Registration]]
    ) -> None:
        async def work(worker: int, shared: Sequence[Observer | Registration]) -> None:
            number = 0
            while not self._stop.is_set():
                number += 1
                usage = UsageReporter(keep_requests=False)
                async with agent_of(shared, usage).astart(session_id=f"{worker}-{number}") as driver:
                    result = await driver.run("why is the last page missing?")
                    self._judge(result.usage.output_tokens, usage)
                await asyncio.sleep(0.01)  # the loop's telling must not keep the threads from theirs

        async def work_all() -> None:
            shared = observers()  # made on the loop, for the channel that delivers there
            await asyncio.gather(*(work(first + task, shared) for task in range(tasks)))
            await asyncio.sleep(0.5)  # what waits for this loop is delivered on it

        asyncio.run(work_all())

    def _judge(self, expected: int | None, usage: UsageReporter) -> None:
        counted = usage.total.usage.output_tokens
        with self._lock:
            self.sessions += 1
            if counted != expected:
                self.failures.append(f"usage of a session: {counted!r} counted, {expected!r} by the run")
