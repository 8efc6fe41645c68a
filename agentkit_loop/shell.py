"""What both drivers share: they perform what the machine decides.

No decision is made here. A driver tells the event that the machine decided (the emitter stamps it, folds it
into the state, gives it to the observers) and then performs it: `ModelRequestStarted` opens the stream,
`ToolExecutionStarted` runs the body.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from agentkit_loop.body_threads import BodyThreads
from agentkit_loop.clock import Clock
from agentkit_loop.closing import Ending
from agentkit_loop.content import (
    AnyPart,
    Item,
    ToolResultPart,
)
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import (
    HostError,
    IllegalMoveError,
    ModelError,
    ObserverError,
)
from agentkit_loop.events import (
    AgentEvent,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.execution import run_body
from agentkit_loop.intake import as_items
from agentkit_loop.interrupts import InterruptGuard
from agentkit_loop.machine import Machine
from agentkit_loop.models.protocol import Answer, Model, UsageReport
from agentkit_loop.moves import Ended, Yield
from agentkit_loop.observers import FailurePolicy, Observer, ObserverFailure, Registration, Slot
from agentkit_loop.pricing import Pricing, cost_or_why
from agentkit_loop.settings import LoopSettings
from agentkit_loop.signals import (
    Answered,
    Signal,
    Submit,
    ToolReturned,
    UsageReported,
    WarningNoted,
)
from agentkit_loop.state import Failure, LoopState, Phase
from agentkit_loop.steps import AfterToolResult, AwaitingInput, Finished, RunResult, Step
from agentkit_loop.tool_context import CustomFact, ToolContext
from agentkit_loop.tools import Tool
from agentkit_loop.transcript import Transcript
from agentkit_loop.usage import Cost, ErrorInfo, ObserverStats, Usage, error_text
from agentkit_loop.values import JSON

_CLOSING = (RunFinished, RunFailed, RunCancelled)
GRACE_S = 2.0
"""How long bodies that run may go on when the host leaves; then they are interrupted."""


_OF_A_ROUND = (ToolExecutionStarted, ToolResultReceived)


@attrs.frozen(kw_only=True)
class DriverSettings:
    """What both drivers are made with. loop: the machine's part. prices: None for no costs."""

    loop: LoopSettings
    model: Model
    observers: tuple[Observer | Registration, ...]
    failure_policy: FailurePolicy
    prices: Pricing | None
    clock: Clock


class DriverBase:
    """What the synchronous and the asynchronous driver share; use one of those."""

    def __init__(
        self,
        settings: DriverSettings,
        *,
        session_id: str | None = None,
        items: Iterable[Item] = (),
        tap: Callable[[AgentEvent], None] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = settings.clock
        self._state = LoopState()
        self._machine = Machine(settings.loop, self._state)
        self._emitter = EventEmitter(
            settings.observers,
            session_id=session_id,
            policy=settings.failure_policy,
            clock=settings.clock,
            fold=self._state.apply,
        )
        if tap is not None:
            self._emitter.tap(tap)
        self._contexts: dict[str, ToolContext] = {}
        self._threads = BodyThreads()
        self._prepared = False
        self._round: list[ToolResultPart] = []
        self._result = RunResult.of(self._state, "")  # of the last exchange, as it stood at its end
        self._lock = threading.RLock()
        self._working = False  # inside next() or a closing
        self._guard = InterruptGuard()
        self._first_items = tuple(items)

    # --- what a host may look at

    @property
    def session_id(self) -> str:
        """The session."""
        return self._emitter.session_id

    @property
    def run_id(self) -> str:
        """This driver's run."""
        return self._emitter.run_id

    @property
    def state(self) -> LoopState:
        """The fold of the events so far; to look at, not to change."""
        return self._state

    @property
    def transcript(self) -> Transcript:
        """The transcript; `transcript.items` is what the model is shown."""
        return self._state.transcript

    @property
    def open_round(self) -> tuple[ToolResultPart, ...]:
        """Results of the open round, which are in no transcript yet."""
        return self._state.transcript.open_round

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return not self._state.run_is_open

    def observer_stats(self) -> tuple[ObserverStats, ...]:
        """Return what was counted for each observer so far."""
        return self._emitter.stats()

    def take_errors(self) -> tuple[ObserverFailure, ...]:
        """Return and forget the observers' failures kept under ACCUMULATE."""
        return self._emitter.take_errors()

    # --- what a host may do, from any thread and from inside an observer

    def submit(self, *content: str | AnyPart | Item) -> None:
        """Give input: texts and parts make one user item, Items stay as they are.

        Told at once as InputAccepted; from inside an observer or another thread, when its turn comes.
        Raises IllegalMoveError on a closed run.
        """
        self._signal(Submit(as_items(content)))

    def emit(self, name: str, data: object = None) -> None:
        """Tell a CustomEvent of the host's own."""
        self._signal(CustomFact(name, data))

    def add_observer(self, observer: Observer | Registration) -> None:
        """Register an observer from the next event on."""
        self._emitter.add_observer(observer)

    def remove_observer(self, observer: Observer) -> None:
        """Forget an observer from the next event on."""
        self._emitter.remove_observer(observer)

    def _signal(self, signal: Signal) -> None:
        if not self._drives() or not self._lock.acquire(blocking=False):
            self._post((None, signal))  # another thread drives
            return
        try:
            if self._emitter.telling is not None or self._working:
                self._post((self._emitter.telling, signal))
                return
            with self._guard:
                seq = self._state.seq
                try:
                    self._take(signal)
                except BaseException as error:
                    if self._state.seq != seq or not isinstance(error, Exception):
                        self._break(error)  # otherwise it was refused, with nothing changed
                    raise
        finally:
            self._lock.release()

    def _drives(self) -> bool:
        """Whether the calling thread may tell events, as far as its identity says."""
        return True

    @abstractmethod
    def _post(self, entry: tuple[Slot | None, Any]) -> None:
        """Put a signal where the driving thread finds it; safe from any thread."""

    # --- telling

    def _tell(self, event: AgentEvent) -> None:
        if isinstance(event, TurnStarted):
            self._emitter.turn_id = f"turn-{self._state.turns + 1}"
        try:
            self._emitter.tell(event)
        finally:
            if isinstance(event, TurnFinished):
                self._emitter.turn_id = None
                self._result = RunResult.of(self._state, event.finish_reason)
            elif isinstance(event, ToolResultReceived):
                self._closed_call(event)

    def _closed_call(self, event: ToolResultReceived) -> None:
        context = self._contexts.pop(event.call_id, None)
        if context is not None:
            context.cancel()  # a body that is past its timeout may still look
            context.close()
            self._abandon(event.call_id)
        if not self._state.transcript.open_calls:
            self._round = _last_results(self._state.transcript.items, len(self._state.calls))

    def _take(self, signal: Signal) -> None:
        now = self._clock.monotonic()
        if isinstance(signal, UsageReport):
            cost, unpriced = self._cost(signal.model, signal.usage)
            signal = UsageReported(usage=signal.usage, model=signal.model, cost=cost, unpriced=unpriced)
        elif isinstance(signal, Answer):
            signal = Answered(signal, *self._cost(signal.response_model, signal.usage))
        elif isinstance(signal, ToolReturned) and signal.fatal is not None:
            call = self._state.calls.get(signal.call_id)
            if call is not None and call.is_running:
                raise signal.fatal
        for event in self._machine.take(signal, now):
            self._tell(event)

    def _take_posted(self, entry: tuple[Slot | None, Any]) -> None:
        """Judge a signal that came from a thread, a tool or an observer."""
        slot, signal = entry
        try:
            self._take(signal)
        except HostError as error:
            if slot is None:
                self._take(
                    WarningNoted("signal_refused", error_text(error), {"signal": type(signal).__name__})
                )
            else:
                self._tell(
                    ObserverFailed(observer=slot.name, event_seq=self._state.seq, error=ErrorInfo.of(error))
                )

    @property
    def _has_to_prepare(self) -> bool:
        return not getattr(self._settings.model, "is_prepared", True)

    def _prepare(self) -> None:
        """Let the model prepare itself; what fails there fails the request, which says why."""
        with contextlib.suppress(Exception):
            self._settings.model.prepare()  # type: ignore[attr-defined] # of those that have `is_prepared`

    def _cost(self, model: str | None, usage: Usage | None) -> tuple[Cost | None, str | None]:
        """Return what the usage costs, or why that is not known; neither where nobody asks for costs."""
        prices, request = self._settings.prices, self._state.request
        if prices is None or usage is None or usage.total_tokens is None or request is None:
            return None, None
        told = request.usage.model if request.usage is not None else None
        name = told or model or request.model
        return cost_or_why(prices, name, usage, self._clock.now())

    # --- performing

    def _do(self, event: AgentEvent) -> None:
        """Tell and perform what was decided.

        Of a round, all that may start starts and all that cannot is answered before the result of a body is
        judged, so that a body that ends at once changes no order.
        """
        while True:
            self._tell(event)
            self._perform(event)
            if not isinstance(event, _OF_A_ROUND) or self._state.phase is not Phase.WORKING:
                return
            following = self._machine.decide(self._clock.monotonic())
            if not isinstance(following, _OF_A_ROUND):
                return  # decided anew when its turn comes
            event = following

    @abstractmethod
    def _perform(self, event: AgentEvent) -> None:
        """Do what the event says: open the stream, run the body."""

    def _run_on_thread(self, tool: Tool[..., Any], context: ToolContext, arguments: dict[str, JSON]) -> None:
        """Run a body on a daemon thread, with the context variables of this one."""

        def work() -> None:
            self._post((None, run_body(tool, context, arguments, self._clock)))

        carried = contextvars.copy_context()
        self._threads.run(f"tool-{tool.name}", functools.partial(carried.run, work))

    def _context(self, call_id: str) -> ToolContext:
        call = self._state.calls[call_id]
        context = ToolContext(
            call_id=call_id,
            session_id=self.session_id,
            run_id=self.run_id,
            turn_id=self._state.turn_id or "",
            attempt=call.attempts,
            send=lambda signal: self._post((None, signal)),
        )
        self._contexts[call_id] = context
        return context

    def _step(self, move: Yield) -> Step:
        match move:
            case Yield.AWAITING_INPUT:
                return AwaitingInput()
            case Yield.AFTER_TOOL_RESULT:
                return AfterToolResult(tuple(self._round), self.submit)
            case Yield.FINISHED:
                self._machine.show_finished()
                return Finished(self._result)

    # --- the end

    def _end(self, error: BaseException | None) -> None:
        """Set how the run ends: left, or broken by an exception."""
        if error is None:
            self._machine.end(Ending(kind="left"))
        elif isinstance(error, Exception):
            info = error.error if isinstance(error, ModelError) else ErrorInfo.of(error)
            self._machine.end(Ending(kind="failed", error=info))
        else:
            self._machine.end(Ending(kind="cancelled", reason=type(error).__name__))
        self._release()

    def _break(self, error: BaseException) -> None:
        """Close everything because of an exception, which the caller lets through."""
        self._end(error)
        with contextlib.suppress(ObserverError):  # the first error is the one that propagates
            self._close_run()

    def _model_error(self, failure: Failure) -> ModelError:
        attempts = "attempt" if failure.attempt == 1 else "attempts"
        return ModelError(
            f"{failure.error.message} ({failure.error_class}, {failure.attempt} {attempts}); "
            f"the input stays unanswered in session {self.session_id}",
            error=failure.error,
            error_class=failure.error_class,
            items=tuple(self._state.transcript.items),
            usage=self._state.run_spent.usage,
            session_id=self.session_id,
        )

    def _abandon(self, call_id: str) -> None:
        """Let go of a body whose call has its result; most have ended by then."""

    def _is_waiting_for_bodies(self, until: float) -> bool:
        running = any(call.is_running for call in self._state.calls.values())
        return running and self._clock.monotonic() < until

    @abstractmethod
    def _take_waiting(self) -> bool:
        """Judge the signals that wait; return whether there was one."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the stream and the running bodies."""

    def _close_run(self) -> None:
        """Close the run, and wait for the observers' flushes here."""
        for _ in self._closing():
            self._emitter.flush()

    def _closing(self) -> Iterator[None]:
        """Tell what the machine says until the run is closed; yields where the observers are to be flushed.

        The first ObserverError is raised at the end.
        """
        first: ObserverError | None = None
        working, self._working = self._working, True
        try:
            while not isinstance(move := self._machine.decide(self._clock.monotonic()), Ended):
                if not isinstance(move, AgentEvent):  # an ending decides nothing else
                    raise IllegalMoveError("close", self._state.phase.value, "this is a bug of the machine")
                if isinstance(move, _CLOSING):
                    if self._take_waiting():
                        continue  # what observers and tools caused meanwhile is told before the end
                    yield
                    if self._take_waiting():
                        continue  # the same, of what a flush caused
                if isinstance(move, RunFinished):
                    move = attrs.evolve(move, observers=self._emitter.stats())
                try:
                    self._tell(move)
                except ObserverError as error:
                    first = first or error
            yield
        finally:
            self._working = working
            self._threads.close()
        if first is not None:
            raise first

    def _start(self) -> None:
        """Tell RunStarted."""
        try:
            self._tell(self._machine.run_started(self._first_items, self._clock.monotonic()))
        except BaseException as error:
            if self._state.run_is_open:  # it was told, and an observer broke the run
                self._break(error)
            raise

    def _leave(self, error: BaseException | None) -> None:
        """End the run as its `with` is left: suspended or completed, or by the exception."""
        if self.is_closed:
            return
        if error is not None:
            self._break(error)
            return
        self._end(None)
        self._close_run()

    def _refuse_reentry(self, move: str = "next()") -> None:
        if self._emitter.telling is not None:
            raise IllegalMoveError(move, "an event is being told", "observers watch; submit instead")


def _last_results(items: list[Item], count: int) -> list[ToolResultPart]:
    """Return the results of the round that just joined: the last `count` tool items, before any input."""
    found: list[ToolResultPart] = []
    for item in reversed(items):
        found.extend(part for part in item.parts if isinstance(part, ToolResultPart))
        if len(found) >= count:
            break
    return found[::-1]
