"""What both drivers share below their surface: one session, its state, and the telling of what is decided.

Every event goes one way: the machine decides it, the emitter stamps it, folds it into the state and gives it
to the observers. Signals are judged here, and a run is opened, resumed and closed here.
"""

from __future__ import annotations

import contextlib
import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import msgspec

from agentkit_loop.body_threads import BodyThreads
from agentkit_loop.closing import Ending
from agentkit_loop.content import Item, ToolResultPart
from agentkit_loop.credentials import Credentials
from agentkit_loop.driver_settings import DriverSettings, Resumed
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import HostError, IllegalMoveError, ModelError, ObserverError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    AuthRequired,
    BudgetExceeded,
    CancelRequested,
    ObserverFailed,
    RunFinished,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.family import ChildAsks, Household
from agentkit_loop.interrupts import InterruptGuard
from agentkit_loop.machine import Machine
from agentkit_loop.models.protocol import Answer, UsageReport, prepare_once
from agentkit_loop.moves import Ended
from agentkit_loop.observers import Slot
from agentkit_loop.pricing import cost_or_why
from agentkit_loop.run_context import RunContext
from agentkit_loop.signals import (
    Answered,
    AuthWanted,
    Leaving,
    OutOfTime,
    Signal,
    ToolReturned,
    UsageReported,
    WarningNoted,
)
from agentkit_loop.state import Failure, LoopState
from agentkit_loop.steering import Steering
from agentkit_loop.steps import RunResult
from agentkit_loop.tool_context import CustomFact, ToolContext, ToolProgressed
from agentkit_loop.trace_context import traced
from agentkit_loop.usage import Cost, ErrorInfo, Usage, error_text

LAST_ROUNDS = 100
"""How often the end of a run waits for what its observers caused meanwhile; one may cause something each time."""


class Teller:
    """A session and the run that is driven over it: the base of the drivers."""

    def __init__(
        self,
        settings: DriverSettings,
        *,
        session_id: str | None = None,
        items: Iterable[Item] = (),
        tap: Callable[[AgentEvent], None] | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        run_id, metadata = RunContext.join(settings.loop.metadata)
        settings = msgspec.structs.replace(
            settings, loop=attrs.evolve(settings.loop, metadata=traced(metadata))
        )
        self._settings = settings
        self._clock = settings.clock
        self._resumed = resumed
        self._state = LoopState() if resumed is None else resumed.state
        self._machine = Machine(settings.loop, self._state)
        self._emitter = EventEmitter(
            settings.observers,
            session_id=session_id if resumed is None else resumed.state.session_id,
            run_id=run_id,
            policy=settings.failure_policy,
            clock=settings.clock,
            fold=self._state.apply,
            fold_batch=self._state.apply_batch,
            seq=self._state.seq,
        )
        family, behind = settings.family, None if resumed is None else resumed.child_usage
        self._household: Household | None = None
        if family is not None or behind or any(tool.is_agent for tool in settings.loop.tools.values()):
            self._found_household(behind)
        if family is not None:
            self._emitter.errors = family.errors  # of the parent's observers; its host asks for them
        if tap is not None:
            self._emitter.tap(tap)
        self._contexts: dict[str, ToolContext] = {}
        self._credentials = Credentials(None if family is None else family.secrets)
        self._threads = BodyThreads()
        self._prepared = False
        self._round: list[ToolResultPart] = []
        self._result = RunResult.of(self._state, "")  # of the last exchange, as it stood at its end
        self._steering = Steering()
        self._working = False  # inside next() or a closing
        self._taking = False  # inside a signal that is told at once
        self._guard = InterruptGuard()
        self._first_items = tuple(items)
        self._no_alarm: Callable[[], object] = lambda: None  # calls the run's deadline off
        self._asked: set[tuple[str, str]] = set()  # sessions and approvals that `approve=` was asked about
        self._unanswered: set[tuple[str, str]] = set()  # the same, of steps that an iteration was left with
        self._repeated: object = None  # such a step, and after which event
        self._repeats = 0

    def _found_household(self, child_usage: dict[str, Usage] | None = None) -> Household:
        """Begin to be a family: with an agent behind a call, or as one."""
        household = self._household = Household(
            self._state,
            lambda asks: self._post((None, asks)),
            limits=self._settings.loop.limits,
            family=self._settings.family,
            child_usage=child_usage,
        )
        self._emitter.exclusive = household.lock
        self._machine.requests.purse = household.purse
        return household

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended."""
        return not self._state.run_is_open

    @property
    def run_id(self) -> str:
        """This driver's run."""
        return self._emitter.run_id

    # --- telling

    def _tell(self, event: AgentEvent) -> None:
        if isinstance(event, TurnStarted):
            self._emitter.turn_id = f"turn-{self._state.turns + 1}"
        try:
            if self._household is None:
                self._emitter.tell(event)
            else:
                self._household.tell(event, self._emitter.tell)
        finally:
            self._told(event)

    def _told(self, event: AgentEvent) -> None:
        """Do what follows from an event, whatever the observers made of it."""
        if isinstance(event, TurnFinished):
            self._emitter.turn_id = None
            self._result = RunResult.of(self._state, event.finish_reason)
        elif isinstance(event, ToolResultReceived):
            self._close_context(event.call_id)
            if not self._state.transcript.open_calls:
                self._round = _last_results(self._state.transcript.items, len(self._state.calls))
        elif isinstance(event, AuthRequired):
            self._close_context(event.call_id)  # of the attempt that ended; the next one gets its own
        elif isinstance(event, (CancelRequested, BudgetExceeded)):
            self._stop_bodies()

    def _close_context(self, call_id: str) -> None:
        context = self._contexts.pop(call_id, None)
        if context is not None:
            self._cancel_body(context)  # a body that is past its timeout may still look
            context.close()
            self._abandon(call_id)

    def _stop_bodies(self) -> None:
        """Ask every body that runs to stop."""
        for context in list(self._contexts.values()):
            self._cancel_body(context)

    def _cancel_body(self, context: ToolContext) -> None:
        for error in context.cancel():
            text = self._credentials.masked_text(error_text(error))
            self._post((None, WarningNoted("on_cancel_failed", text, {"call_id": context.call_id})))

    def _take(self, signal: Signal) -> None:
        now = self._clock.monotonic()
        if isinstance(signal, UsageReport):
            cost, unpriced = self._cost(signal.model, signal.usage)
            signal = UsageReported(usage=signal.usage, model=signal.model, cost=cost, unpriced=unpriced)
        elif isinstance(signal, Answer):
            signal = Answered(signal, *self._cost(signal.response_model, signal.usage))
        elif isinstance(signal, ToolReturned) and signal.fatal is not None:
            call = self._state.calls.get(signal.call_id)
            if (call is not None and call.is_running) or isinstance(signal.fatal, ObserverError):
                raise self._credentials.mask_exception(signal.fatal)
        if self._credentials.are_given:
            signal = _masked(signal, self._credentials)
        for event in self._machine.take(signal, now):
            self._tell(event)

    def _take_posted(self, entry: tuple[Slot | None, Any]) -> None:
        """Judge a signal that came from a thread, a tool or an observer."""
        slot, signal = entry
        if isinstance(signal, ChildAsks):
            if self._household is not None:
                self._household.take(signal)
            return
        if signal is None or isinstance(signal, (OutOfTime, Leaving)):
            return  # somebody only wanted the driver to look around
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
        return any(not getattr(each, "is_prepared", True) for each in self._prepared_parts)

    @property
    def _prepared_parts(self) -> tuple[object, object]:
        return self._settings.model, self._settings.prices

    def _prepare(self) -> None:
        """Let the model and its prices prepare themselves; what fails there fails the request, which says why."""
        for each in self._prepared_parts:
            prepare_once(each)

    def _cost(self, model: str | None, usage: Usage | None) -> tuple[Cost | None, str | None]:
        """Return what the usage costs, or why that is not known; neither where nobody asks for costs."""
        prices, request = self._settings.prices, self._state.request
        if prices is None or usage is None or usage.total_tokens is None or request is None:
            return None, None
        told = request.usage.model if request.usage is not None else None
        name = told or model or request.model
        return cost_or_why(prices, name, usage, self._clock.now())

    # --- the beginning

    def _start(self) -> None:
        """Tell RunStarted; before it, of a session that is resumed, what its process left open."""
        try:
            if self._resumed is None:
                self._tell(self._machine.run_started(self._first_items, self._clock.monotonic()))
            else:
                self._go_on(self._resumed)
            self._set_alarm()
        except BaseException as error:
            if self._state.run_is_open:  # it was told, and an observer broke the run
                self._break(error)
            raise

    def _set_alarm(self) -> None:
        """Have the driving thread woken when the run has used its time; after the machine saw it begin."""
        limits = self._settings.loop.limits
        if limits is not None and limits.max_seconds is not None and self._state.run_is_open:
            self._no_alarm = self._clock.alarm(limits.max_seconds, self._ring)

    def _ring(self) -> None:
        """Wake the driving thread, because the run has used its time."""
        self._post((None, OutOfTime()))

    @abstractmethod
    def _post(self, entry: tuple[Slot | None, Any]) -> None:
        """Put a signal where the driving thread finds it; safe from any thread."""

    def _go_on(self, resumed: Resumed) -> None:
        emitter, state = self._emitter, self._state
        own = emitter.run_id
        emitter.run_id, emitter.turn_id = state.run_id, state.turn_id
        first: BaseException | None = None
        while (event := self._machine.recovery_event()) is not None:
            try:
                self._tell(event)
            except BaseException as error:  # noqa: BLE001 - the old run is closed whole; raised below
                first = first or error
        emitter.run_id, emitter.turn_id = own, None
        if first is not None:
            raise first
        started = self._machine.run_resumed(self._clock.monotonic(), trust_approvals=resumed.trust_approvals)
        try:
            self._tell(started)
        finally:
            emitter.turn_id = state.turn_id
        for note in resumed.notes:
            self._take(WarningNoted("resumed_with_doubt", note, {}))

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
            f"the input stays unanswered in session {self._emitter.session_id}",
            error=failure.error,
            error_class=failure.error_class,
            items=tuple(self._state.transcript.items),
            usage=self._state.run_spent.usage,
            session_id=self._emitter.session_id,
        )

    def _abandon(self, call_id: str) -> None:
        """Let go of a body whose call has its result; most have ended by then."""

    def _is_waiting_for_bodies(self, until: float) -> bool:
        return bool(self._machine.live) and self._clock.monotonic() < until

    def _leave(self, error: BaseException | None) -> None:
        """End the run as its `with` is left: suspended or completed, or by the exception."""
        if self.is_closed:
            return
        if error is not None:
            self._break(error)
            return
        self._end(None)
        self._close_run()

    def _wait_for_children(self) -> None:
        """Let agents behind calls tell their ends before this session's: its observers are theirs."""
        if self._household is not None:
            self._household.wait(self._settings.loop.grace_s)

    @abstractmethod
    def _take_waiting(self) -> bool:
        """Judge the signals that wait; return whether there was one."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the stream and the running bodies."""

    def _close_run(self) -> None:
        """Close the run, and wait for agents behind its calls and for the observers' flushes here."""
        for work in self._closing():
            work()

    def _closing(self) -> Iterator[Callable[[], object]]:
        """Tell what the machine says until the run is closed; yields what is to be waited for in between.

        The first ObserverError is raised at the end.
        """
        first: ObserverError | None = None
        alone = self._household is None  # or all agents behind its calls have ended, or had their time
        hand_over = functools.partial(self._emitter.hand_over, start=self._threads.run)
        rounds = LAST_ROUNDS
        working, self._working = self._working, True
        try:
            while not isinstance(move := self._machine.decide(self._clock.monotonic()), Ended):
                if not isinstance(move, AgentEvent):  # an ending decides nothing else
                    raise IllegalMoveError("close", self._state.phase.value, "this is a bug of the machine")
                if isinstance(move, RUN_ENDS) and rounds:
                    rounds -= 1
                    if self._take_waiting():
                        continue  # what observers and tools caused meanwhile is told before the end
                    if not alone:
                        alone = True
                        yield self._wait_for_children
                        continue
                    yield hand_over
                    if self._take_waiting():
                        continue  # the same, of what a flush caused
                if isinstance(move, RunFinished):
                    move = attrs.evolve(move, observers=self._emitter.stats())
                try:
                    self._tell(move)
                except ObserverError as error:
                    first = first or error
            yield hand_over
        finally:
            self._working = working
            self._threads.close()
            self._no_alarm()
        if first is not None:
            raise first


def _masked(signal: Signal, credentials: Credentials) -> Signal:
    """Return what a tool tells without the credentials that it was given."""
    match signal:
        case ToolReturned(error=error):
            masked = None if error is None else _masked_error(error, credentials)
            return msgspec.structs.replace(signal, output=credentials.masked(signal.output), error=masked)
        case AuthWanted(purpose=purpose):
            return msgspec.structs.replace(
                signal,
                provider=credentials.masked_text(signal.provider),
                scopes=tuple(credentials.masked_text(scope) for scope in signal.scopes),
                purpose=None if purpose is None else credentials.masked_text(purpose),
            )
        case ToolProgressed():
            return attrs.evolve(signal, message=credentials.masked_text(signal.message))
        case CustomFact():
            return attrs.evolve(
                signal, name=credentials.masked_text(signal.name), data=credentials.masked(signal.data)
            )
        case _:
            return signal


def _masked_error(error: ErrorInfo, credentials: Credentials) -> ErrorInfo:
    return ErrorInfo(
        type=credentials.masked_text(error.type),
        message=credentials.masked_text(error.message),
        frames=error.frames,
        retryable=error.retryable,
    )


def _last_results(items: list[Item], count: int) -> list[ToolResultPart]:
    """Return the results of the round that just joined: the last `count` tool items, before any input."""
    found: list[ToolResultPart] = []
    for item in reversed(items):
        found.extend(part for part in item.parts if isinstance(part, ToolResultPart))
        if len(found) >= count:
            break
    return found[::-1]
