"""Following a recording: the loop's machine decides again, and each event that it tells is compared.

What came from outside (input, decisions, cancels, what the model and the tools said, the host's own facts) is
taken from the recording, at its place; what follows from it the machine has to find by itself. An event of the
first kind is known by its class and the state. Everything else is asked of the machine; where it would tell
something else than was recorded, the host left there, or its process ended, if that is how the run ended;
otherwise the replay differs.

Time is what was recorded: nobody waits, and a limit of seconds is reached where it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import attrs

from agentkit_loop.clock import Clock
from agentkit_loop.closing import Ending
from agentkit_loop.content import Item
from agentkit_loop.differences import Difference, first_difference
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import HostError, ReplayMismatchError
from agentkit_loop.events import (
    UNTOLD,
    AgentEvent,
    AuthRequired,
    AuthResolved,
    BudgetExceeded,
    BudgetWarning,
    CancelRequested,
    CompactionFinished,
    ContentDelta,
    ModelRequestStarted,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCatalogChanged,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.live_bodies import PLACEHOLDER, Awaited, Bodies
from agentkit_loop.machine import Machine
from agentkit_loop.models.replay import ReplayModel
from agentkit_loop.moves import Wait, Yield
from agentkit_loop.observers import FailurePolicy
from agentkit_loop.recorded_signals import Outside
from agentkit_loop.recordings import Recording, comparable_payload, is_gap, named_event
from agentkit_loop.settings import LoopSettings
from agentkit_loop.signals import (
    SetTools,
    Signal,
)
from agentkit_loop.stand_ins import StandIns
from agentkit_loop.state import LoopState
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.usage import PROCESS_ENDED
from agentkit_loop.values import clean_text

_SEEN_IN_REQUESTS: dict[type[AgentEvent], frozenset[str]] = {
    RunStarted: frozenset({"model", "system", "tools", "parameters"}),
    ModelRequestStarted: frozenset({"model", "message_count", "digests"}),
}
"""Fields that are not compared here: the comparison of the request itself says more."""

_OF_BODIES = frozenset({"output", "is_error", "error", "child_usage"})
"""Of ToolResultReceived: what a body that really runs may say otherwise; the next request shows it."""

_TIMES = ("duration_ms", "first_content_ms")


class RecordedClock(Clock):
    """A clock that says what was recorded; it moves where somebody would have waited."""

    def __init__(self) -> None:
        self.at = UNTOLD
        self._seconds = 0.0
        self.now = self._now

    def _now(self) -> dt.datetime:
        return self.at

    def monotonic(self) -> float:
        """Return the seconds that were waited."""
        return self._seconds

    def advance_to(self, seconds: float) -> None:
        """Move on to a moment; never back."""
        self._seconds = max(self._seconds, seconds)


class _DiffersError(Exception):
    """The machine would tell something else than was recorded."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.path)
        self.difference = difference


class _OverError(Exception):
    """The recording ends here, in the middle of what the machine tells at once."""


class Follower:
    """Follows one run of a recording; made anew for each. position: of the event that is told next.

    settings: the machine's. state: what the runs before it left. model: compares the requests. bodies: of the
    tools that really run. tell: is given every event that was told.
    """

    def __init__(
        self,
        recording: Recording,
        settings: LoopSettings,
        *,
        position: int,
        state: LoopState,
        model: ReplayModel,
        stand_ins: StandIns,
        bodies: Bodies,
        told: list[AgentEvent],
    ) -> None:
        self.position = position
        self.state = state
        self._told = told
        self._events = recording.events
        self._end = len(self._events)
        self._settings = settings
        self._model = model
        self._stand_ins = stand_ins
        self._bodies = bodies
        self._clock = RecordedClock()
        self._machine = Machine(settings, state)
        self._outside = Outside(recording, self._machine, stand_ins, bodies)
        self._emitter = EventEmitter(
            session_id=recording.session_id,
            policy=FailurePolicy.IGNORE,
            clock=self._clock,
            fold=state.apply,
            seq=state.seq,
        )
        self._ended_by: Difference | None = None  # what showed that the host left

    # --- the run

    def start(self, items: tuple[Item, ...]) -> None:
        """Tell RunStarted of the first run. Raises ReplayMismatchError."""
        try:
            self._tell(self._machine.run_started(items, self._clock.monotonic()))
        except _DiffersError as error:
            raise _mismatch(error.difference) from None

    def go_on(self, *, trust_approvals: bool) -> None:
        """Close what the last process left open, and tell RunStarted of the run that resumes."""
        emitter, state = self._emitter, self.state
        own, emitter.run_id, emitter.turn_id = emitter.run_id, state.run_id, state.turn_id
        try:
            while (event := self._machine.recovery_event()) is not None:
                self._tell(event)
            emitter.run_id, emitter.turn_id = own, None
            self._tell(self._machine.run_resumed(self._clock.monotonic(), trust_approvals=trust_approvals))
        except _DiffersError as error:
            raise _mismatch(error.difference) from None
        emitter.turn_id = state.turn_id

    def follow(self, end: int) -> Iterator[Awaited]:
        """Tell the run's events up to a place, or up to where its process ended; yields bodies to wait for.

        Raises ReplayMismatchError at the first difference.
        """
        self._end = end
        while self._skip_gaps() < end:
            before = self.position
            try:
                yield from self._step(self._events[before])
                if self.position == before:
                    raise self._unexpected()
            except _DiffersError as error:
                if not self._leave(error.difference):
                    return
            except _OverError:
                return

    def _leave(self, difference: Difference) -> bool:
        """Let the host leave, where that is how the run ended; False where its process ended."""
        if self._ended_by is not None:
            raise _mismatch(self._ended_by)
        match self._events[self._end - 1]:
            case RunFailed(error=error) if error == PROCESS_ENDED:
                return False
            case RunFinished():
                ending = Ending(kind="left")
            case RunFailed(error=error):
                ending = Ending(kind="failed", error=error)
            case RunCancelled(reason=reason):
                ending = Ending(kind="cancelled", reason=reason)
            case _:
                raise _mismatch(difference)
        self._ended_by = difference
        self._machine.end(ending)
        return True

    def _unexpected(self) -> _DiffersError:
        """Return what says that nothing here leads to the recorded event."""
        recorded = self._events[self.position]
        return _DiffersError(
            Difference(
                f"events[{recorded.seq}].type",
                named_event(recorded, self._events),
                "nothing that follows by itself",
            )
        )

    # --- one step

    def _step(self, recorded: AgentEvent) -> Iterator[Awaited]:
        """Tell what was recorded: as it was, of a signal, or as the machine decides."""
        if self._outside.told(recorded):
            self._tell_as_it_was(recorded)
            return
        try:
            signal = yield from self._outside.signal_of(recorded, self.position)
            if signal is None:
                self._decide(recorded)
            else:
                self._take(signal)
        except HostError:
            raise self._unexpected() from None

    def _take(self, signal: Signal) -> None:
        for event in self._machine.take(signal, self._clock.monotonic()):
            self._tell(event)

    def _decide(self, recorded: AgentEvent) -> None:
        """Tell what the machine decides next."""
        if isinstance(recorded, ToolCatalogChanged):
            self._take(SetTools(self._stand_ins.changed(self._machine.catalog.tools, recorded)))
        self._reach_limit(recorded)
        while True:
            now = self._clock.monotonic()
            move = self._machine.decide(now)
            if isinstance(move, AgentEvent):
                self._tell(move)
                self._perform(move)
                return
            if isinstance(move, Wait) and move.until is not None and move.until > now:
                self._clock.advance_to(move.until)
            elif move is not Yield.AFTER_TOOL_RESULT:
                raise self._unexpected()

    def _reach_limit(self, recorded: AgentEvent) -> None:
        """Let so much time pass as the run had used where a limit of seconds is told."""
        if not isinstance(recorded, (BudgetWarning, BudgetExceeded)) or recorded.limit != "max_seconds":
            return
        self._outside.fill_previews(self.position)
        if isinstance(recorded.used, (int, float)):
            self._clock.advance_to((self._machine.requests.run_started or 0.0) + recorded.used)

    def _perform(self, event: AgentEvent) -> None:
        requests = self._machine.requests
        if isinstance(event, ModelRequestStarted):
            own = requests.model  # of a summary that another model writes
            self._model.check(
                requests.model_request(),
                model=self._settings.model if own is None else clean_text(own.name),
                parameters=requests.parameters if own is None else {},
            )
        elif isinstance(event, ToolExecutionStarted):
            self._start_body(event)

    def _start_body(self, event: ToolExecutionStarted) -> None:
        tool = self._stand_ins.live(event.name)
        if tool is None:
            return
        context = ToolContext(
            lambda _: None,  # what it tells besides its result is in the recording
            call_id=event.call_id,
            session_id=self._emitter.session_id,
            run_id=self._emitter.run_id,
            turn_id=self._emitter.turn_id,
            attempt=event.attempt,
            credentials=self._bodies.credentials,
        )
        self._bodies.start(tool, context, self.state.calls[event.call_id].input)

    # --- telling

    def _tell_as_it_was(self, recorded: AgentEvent) -> None:
        emitter = self._emitter
        turn_id, emitter.turn_id = emitter.turn_id, recorded.turn_id
        try:
            self._tell(attrs.evolve(recorded))
        finally:
            emitter.turn_id = turn_id

    def _tell(self, event: AgentEvent) -> None:
        """Compare an event with the recorded one, and tell it. Raises _DiffersError."""
        if self._skip_gaps() >= self._end:
            raise _OverError
        recorded, emitter = self._events[self.position], self._emitter
        turn_id = f"turn-{self.state.turns + 1}" if isinstance(event, TurnStarted) else emitter.turn_id
        found = self._difference(recorded, event, turn_id)
        if found is not None:
            raise _DiffersError(found)
        emitter.turn_id = turn_id
        self._clock.at = recorded.timestamp
        if type(event) is not ContentDelta:
            times = {name: getattr(recorded, name) for name in _TIMES if hasattr(recorded, name)}
            event = attrs.evolve(event, **times) if times else event
        emitter.tell(event)
        self.position += 1
        self._told.append(event)
        while self.position < self._end and isinstance(self._events[self.position], ObserverFailed):
            self._tell_as_it_was(self._events[self.position])
        self._follow_up(event)

    def _follow_up(self, event: AgentEvent) -> None:
        if isinstance(event, TurnFinished):
            self._emitter.turn_id = None
            if self._machine.finished is not None:
                self._machine.show_finished()
        elif isinstance(event, (ToolResultReceived, AuthRequired)):
            self._bodies.let_go(event.call_id)
        elif isinstance(event, (CancelRequested, BudgetExceeded)):
            self._bodies.stop()
        elif isinstance(event, AuthResolved) and event.outcome == "resolved":
            auth = self.state.calls[event.call_id].auth
            if auth is not None:
                self._bodies.credentials.put(auth.provider, PLACEHOLDER)

    def _difference(self, recorded: AgentEvent, now: AgentEvent, turn_id: str | None) -> Difference | None:
        """Return where an event that is about to be told differs from the recorded one."""
        path = f"events[{recorded.seq}]"
        if type(recorded) is not type(now):
            told, would = named_event(recorded, self._events), named_event(now, self._events)
            return Difference(f"{path}.type", told, would)
        if (
            isinstance(recorded, ContentDelta)
            and isinstance(now, ContentDelta)
            and recorded.delta == now.delta
        ):
            return None
        blank = _SEEN_IN_REQUESTS.get(type(now), frozenset())
        if isinstance(now, ToolResultReceived) and self._stand_ins.live(now.name) and not now.not_started:
            blank = _OF_BODIES
        header = first_difference(recorded.turn_id, turn_id, f"{path}.turn_id") or first_difference(
            recorded.seq, self._emitter.seq + 1, f"{path}.seq"
        )
        return header or first_difference(_without(recorded, blank), _without(now, blank), path)

    def _skip_gaps(self) -> int:
        """Count the previews that the log lacks; return the position."""
        while self.position < self._end and is_gap(self._events[self.position]):
            self._outside.has_gaps = True
            self.position += 1
            self._emitter.seq += 1
            self.state.seq += 1
        return self.position


def _without(event: AgentEvent, names: frozenset[str]) -> dict[str, Any]:
    told = {name: value for name, value in comparable_payload(event).items() if name not in names}
    if isinstance(event, CompactionFinished) and event.error is not None:
        del told["error"]["frames"]  # of a strategy that raised: where its code and ours stand now
    return told


def _mismatch(found: Difference) -> ReplayMismatchError:
    return ReplayMismatchError(found.path, recorded=found.recorded, now=found.now)
