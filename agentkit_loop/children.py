"""Agents as tools: the driver of a sub-agent, on the thread of its call.

The child tells its events to the parent's observers and to its own, one at a time with the parent's, spends from
the parent's purse, and what it has to ask surfaces from the parent's `next()`, with the child's `session_id`. A
parent that is cancelled cancels it; one that suspends suspends it. After a crash the parent's call is
interrupted, and the child's session can be resumed by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from agentkit_loop.content import Parent
from agentkit_loop.driver import LoopDriver
from agentkit_loop.driver_settings import DriverSettings
from agentkit_loop.errors import ConfigurationError, ModelError
from agentkit_loop.execution import ChildOutcome
from agentkit_loop.family import Family
from agentkit_loop.limits import tighter
from agentkit_loop.observers import Observer, Registration
from agentkit_loop.signals import Cancel, Leaving, Signal
from agentkit_loop.steps import ApprovalRequest, AuthRequest, AwaitingInput, Finished, Step
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, tool
from agentkit_loop.trace_context import place_of_call, traced
from agentkit_loop.unpriced import refuse_unpriced
from agentkit_loop.usage import ErrorInfo

CANCELLED = "the call of the parent was cancelled"


def agent_tool(
    settings: Callable[[], DriverSettings], *, name: str, description: str, **options: Any
) -> Tool[..., Any]:
    """Return the tool of an agent; see `Agent.as_tool`. settings: the agent's own, for each call."""

    def run(prompt: str, context: ToolContext) -> ChildOutcome:
        family = context.family
        if not isinstance(family, Family):
            raise ConfigurationError(
                f"agent {name!r} refused outside of a loop; give it to an agent as a tool"
            )
        of_child = _of_child(settings(), family, context)
        for above in family.purse.above():  # its own were looked at with its settings
            refuse_unpriced(of_child, above.limits)
        with ChildDriver(of_child, family) as driver:
            driver.submit(prompt)  # before it can be cancelled: while idle a cancel is nothing
            context.on_cancel(driver.stop)
            context.on_leave(driver.leave)
            return driver.outcome(lambda: context.leaving)

    return attrs.evolve(tool(run, name=name, description=description, **options), is_agent=True)


class ChildDriver(LoopDriver):
    """Drives a sub-agent for its parent's call."""

    def __init__(self, settings: DriverSettings, family: Family) -> None:
        self._family_of_parent = family
        super().__init__(settings)

    def stop(self) -> None:
        """Have the exchange cancelled; from the parent's thread."""
        self._post((None, Cancel(CANCELLED)))

    def leave(self) -> None:
        """Wake the child, whatever it waits for, since it is to be suspended; from the parent's thread."""
        self._post((None, Leaving()))

    def outcome(self, leaving: Callable[[], bool]) -> ChildOutcome:
        """Drive to the end of the exchange, or until the parent leaves; return what the call brings."""
        while True:
            try:
                step = self._next_unless(leaving)
            except ModelError as error:
                return _outcome(str(error), error=ErrorInfo.of(error))
            match step:
                case None:
                    return _outcome(self._left_open(), is_error=True)
                case Finished(result=result):
                    if result.finish_reason == "completed":
                        return _outcome(result.text)
                    note = f"(the agent ended with {result.finish_reason})"
                    text = f"{result.text}\n{note}" if result.text else note
                    return _outcome(text, is_error=not result.text)
                case ApprovalRequest() | AuthRequest():
                    for each in self.pending:  # all of them: they are answered in any order
                        asked = self._posting(each) if each.session_id == self.session_id else each
                        self._family_of_parent.ask(asked, is_answered=self._is_posted)
                    self._wait_for_answer()
                case AwaitingInput():
                    return _outcome("(the agent was given nothing to do)", is_error=True)
                case _:
                    pass

    def _left_open(self) -> str:
        """Say what becomes of a child whose parent leaves: its session is there, and can be gone on with by itself."""
        asks = ", ".join(
            step.summary if isinstance(step, ApprovalRequest) else f"credentials for {step.provider}"
            for step in self.pending
        )
        waits = f", waiting for {asks}" if asks else ""
        return f"(the agent was suspended{waits}; its session is {self.session_id})"

    def _next_unless(self, stopped: Callable[[], bool]) -> Step | None:
        """Do what `next()` does; None once the parent leaves."""
        with self._alone("next()"), self._working_on():
            while not stopped():
                step = self._advance()
                if step is not None:
                    return step
        return None

    def _is_posted(self) -> bool:
        return not self._inbox.empty()

    def _posting(self, step: ApprovalRequest | AuthRequest) -> ApprovalRequest | AuthRequest:
        """Return the step with its answer left for the child's own thread, which alone tells the child's events.

        What the child would refuse is refused here, where the host hears of it.
        """
        if isinstance(step, ApprovalRequest):

            def decide(signal: Signal) -> None:
                self._machine.check(signal)
                self._post((None, signal))

            return attrs.evolve(step, answer=decide)
        provider = step.provider

        def resolve(signal: Signal, secret: str | None) -> None:
            self._machine.check(signal)
            if secret is not None:
                self._credentials.put(provider, secret)
            self._post((None, signal))

        return attrs.evolve(step, answer=resolve)


def _of_child(settings: DriverSettings, family: Family, context: ToolContext) -> DriverSettings:
    parent = Parent(session_id=context.session_id, run_id=context.run_id, call_id=context.call_id)
    told = [registration.observer for registration in family.observers]
    own = tuple(
        each for each in settings.observers if not any(_is_same(_observer(each), other) for other in told)
    )
    limits = tighter(settings.loop.limits, family.limits)
    place = place_of_call(context.run_metadata, context.session_id, context.run_id, context.call_id)
    loop = attrs.evolve(
        settings.loop,
        parent=parent,
        limits=limits,
        grace_s=family.grace_s,
        metadata=traced(settings.loop.metadata, above=place),
    )
    return msgspec.structs.replace(settings, loop=loop, observers=(*family.observers, *own), family=family)


def _observer(given: Observer | Registration) -> object:
    return given.observer if isinstance(given, Registration) else given


def _is_same(one: object, other: object) -> bool:
    """Whether two observers are one; a bound method is a new object each time it is looked up."""
    return one is other or (inspect.isroutine(one) and one == other)


def _outcome(output: str, *, is_error: bool = False, error: ErrorInfo | None = None) -> ChildOutcome:
    return ChildOutcome(output=output, is_error=is_error or error is not None, error=error)
