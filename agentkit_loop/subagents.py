"""Sub-agents: an agent behind a tool, with a session of its own.

The child runs on the thread of its call. It tells its events to the parent's observers and to its own, one at a
time with the parent's (a lock over the whole family), gets what is left of the parent's limits, and what it has
to ask surfaces from the parent's `next()`, with the child's `session_id`. A parent that is cancelled cancels it;
one that suspends suspends it. After a crash the parent's call is interrupted, and the child's session can be
resumed by itself.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from agentkit_loop.content import Parent
from agentkit_loop.errors import ConfigurationError, ModelError
from agentkit_loop.execution import ChildOutcome
from agentkit_loop.limits import Limits, tighter
from agentkit_loop.observers import Registration
from agentkit_loop.signals import Cancel, Signal
from agentkit_loop.steps import ApprovalRequest, AuthRequest, AwaitingInput, Finished
from agentkit_loop.telling import DriverSettings
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, tool
from agentkit_loop.usage import ErrorInfo, child_usage

if TYPE_CHECKING:
    from agentkit_loop.driver import LoopDriver

CANCELLED = "the call of the parent was cancelled"


@attrs.frozen(kw_only=True)
class Family:
    """What a call gives to the agent behind it.

    observers: the parent's. lock: held while any of the family tells an event. limits: what is left of the
    parent's. ask: shows a step of the child to the parent's host.
    """

    observers: tuple[Registration, ...]
    lock: threading.RLock
    limits: Limits | None
    ask: Callable[[ApprovalRequest | AuthRequest], None]


def agent_tool(
    start: Callable[[DriverSettings, threading.RLock], LoopDriver],
    settings: Callable[[], DriverSettings],
    *,
    name: str,
    description: str,
    **options: Any,
) -> Tool[..., Any]:
    """Return the tool of an agent; see `Agent.as_tool`. start: makes the driver. settings: the agent's own."""

    def run(prompt: str, context: ToolContext) -> ChildOutcome:
        family = context.family
        if not isinstance(family, Family):
            raise ConfigurationError(
                f"agent {name!r} refused outside of a loop; give it to an agent as a tool"
            )
        with start(_of_child(settings(), family, context), family.lock) as driver:
            context.on_cancel(lambda: driver.post(Cancel(CANCELLED)))
            context.on_leave(lambda: driver.post(None))
            driver.submit(prompt)
            return _driven(driver, context, family)

    return attrs.evolve(tool(run, name=name, description=description, **options), is_agent=True)


def _of_child(settings: DriverSettings, family: Family, context: ToolContext) -> DriverSettings:
    parent = Parent(session_id=context.session_id, run_id=context.run_id, call_id=context.call_id)
    told = [registration.observer for registration in family.observers]
    own = tuple(
        each
        for each in settings.observers
        if not any(
            _is_same(each.observer if isinstance(each, Registration) else each, other) for other in told
        )
    )
    return attrs.evolve(
        settings,
        loop=attrs.evolve(settings.loop, parent=parent, limits=tighter(settings.loop.limits, family.limits)),
        observers=(*family.observers, *own),
    )


def _is_same(one: object, other: object) -> bool:
    """Whether two observers are one; a bound method is a new object each time it is looked up."""
    return one is other or (inspect.isroutine(one) and one == other)


def _driven(driver: LoopDriver, context: ToolContext, family: Family) -> ChildOutcome:
    """Drive the child to the end of its exchange, or until the parent leaves."""
    asked: set[tuple[str, str]] = set()
    while not context.leaving:
        try:
            step = driver.next()
        except ModelError as error:
            return _outcome(driver, str(error), error=ErrorInfo.of(error))
        match step:
            case Finished(result=result):
                text = result.text
                if result.finish_reason == "completed":
                    return _outcome(driver, text)
                note = f"(the agent ended with {result.finish_reason})"
                return _outcome(driver, f"{text}\n{note}" if text else note, is_error=not text)
            case ApprovalRequest() | AuthRequest():
                name = step.approval_id if isinstance(step, ApprovalRequest) else step.auth_id
                if (step.session_id, name) not in asked:
                    asked.add((step.session_id, name))
                    family.ask(_posting(step, driver) if step.session_id == driver.session_id else step)
                driver.wait()
            case AwaitingInput():
                return _outcome(driver, "(the agent was given nothing to do)", is_error=True)
            case _:
                pass
    return _outcome(driver, "(the agent was suspended)", is_error=True)


def _posting(step: ApprovalRequest | AuthRequest, driver: LoopDriver) -> ApprovalRequest | AuthRequest:
    """Return the step with its answer left for the child's own thread, which alone tells the child's events."""
    if isinstance(step, ApprovalRequest):
        return attrs.evolve(step, answer=driver.post)
    provider = step.provider

    def answer(signal: Signal, secret: str | None) -> None:
        if secret is not None:
            driver.credentials().put(provider, secret)
        driver.post(signal)

    return attrs.evolve(step, answer=answer)


def _outcome(
    driver: LoopDriver, output: str, *, is_error: bool = False, error: ErrorInfo | None = None
) -> ChildOutcome:
    spent = driver.state.session_spent
    return ChildOutcome(
        output=output,
        is_error=is_error or error is not None,
        error=error,
        usage=child_usage(spent.usage, spent.costs),
    )
