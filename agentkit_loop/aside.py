"""Work that may block, done beside an event loop: on a daemon thread, which nobody has to wait for.

The loop's own executor will not do: its threads may all be busy with the host's work, and the interpreter waits
for them at its exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from agentkit_loop.body_threads import BodyThreads
from agentkit_loop.permissions import Approver
from agentkit_loop.steps import ApprovalRequest

Outcome: TypeAlias = tuple[object, BaseException | None]
"""What a piece of work gave, or raised."""


def elsewhere(
    loop: asyncio.AbstractEventLoop, threads: BodyThreads, work: Callable[[], object]
) -> asyncio.Future[Outcome]:
    """Do something on a thread, with the context variables of this task; return what it gives, or raises."""
    outcome: asyncio.Future[Outcome] = loop.create_future()

    def settle(told: Outcome) -> None:
        if not outcome.done():
            outcome.set_result(told)

    def run() -> None:
        told: Outcome
        try:
            told = (work(), None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the driving task raises it
            told = (None, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it
            loop.call_soon_threadsafe(settle, told)

    threads.run("agentkit-aside", functools.partial(contextvars.copy_context().run, run))
    return outcome


async def answer_of(
    approve: Approver,
    step: ApprovalRequest,
    aside: Callable[[Callable[[], object]], asyncio.Future[Outcome]],
) -> Outcome:
    """Return what `approve=` answers, or raises; a KeyboardInterrupt may not end the event loop from here.

    One that is not async may wait for a person: it is asked aside.
    """
    answer: Any
    try:
        if inspect.iscoroutinefunction(approve) or inspect.iscoroutinefunction(type(approve).__call__):
            answer = approve(step)
        else:
            answer, error = await aside(functools.partial(approve, step))
            if error is not None:
                return None, error
        return (await answer if inspect.isawaitable(answer) else answer), None
    except BaseException as error:  # noqa: BLE001 - as above
        return None, error
