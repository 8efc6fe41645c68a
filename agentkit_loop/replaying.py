"""Replay: run a recorded session again, without a network, and see whether it is the same.

The loop's machine gets what the recorded session got, at the same places: input, what the model said, what the
tools did and in which order, decisions, cancels, changed tools, crashes and resumes. What it makes of it is
compared event by event with what was recorded (`comparable` says what counts), and each request with the
recorded one; at the first difference the replay stops and says where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import attrs

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, ReplayMismatchError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.following import Follower
from agentkit_loop.live_bodies import Awaited, Bodies
from agentkit_loop.models.replay import ReplayModel
from agentkit_loop.observers import FailurePolicy, Observer, Registration
from agentkit_loop.recordings import Recording, comparable, read_recording
from agentkit_loop.retry import Retry
from agentkit_loop.settings import LoopSettings
from agentkit_loop.stand_ins import StandIns
from agentkit_loop.state import LoopState

if TYPE_CHECKING:
    from agentkit_loop.agent import Agent

__all__ = ["ReplayResult", "areplay", "comparable", "replay"]

_NO_BOUND = 1_000_000
"""Bodies at once where the log says which ran."""


@attrs.frozen(kw_only=True)
class ReplayResult:
    """What came of a replay.

    events: those that were told, up to the first difference. mismatch: that difference, None without one.
    """

    session_id: str
    events: tuple[AgentEvent, ...]
    mismatch: ReplayMismatchError | None

    @property
    def is_equal(self) -> bool:
        """Whether the whole session came out as it was recorded."""
        return self.mismatch is None


def replay(
    agent: Agent | None,
    events: Iterable[AgentEvent] | Recording,
    *,
    live_tools: bool = False,
    session_id: str | None = None,
    observers: Iterable[Observer | Registration] = (),
) -> ReplayResult:
    """Run a recorded session again and compare.

    agent: what ran, without its model, whose answers are in the recording; its own observers are told nothing.
    None: rebuilt from the log, so that only the loop itself is compared. events: such as `read_events(…)`.
    live_tools: run the bodies of the agent's tools, with a placeholder for each credential; the first result
    that differs shows in the next request. Agents behind tools are not run. session_id: which session, where the
    events hold several. observers: told what the replay tells; what one raises ends the replay.
    Raises ResumeError for events that do not fit together, ObserverError.
    """
    play = _Play(agent, events, session_id, live=live_tools, observers=observers, bodies=Bodies())
    try:
        for awaited in play.steps():
            play.bodies.wait(awaited)
    finally:
        play.bodies.close()
    return play.result()


async def areplay(
    agent: Agent | None,
    events: Iterable[AgentEvent] | Recording,
    *,
    live_tools: bool = False,
    session_id: str | None = None,
    observers: Iterable[Observer | Registration] = (),
) -> ReplayResult:
    """Do the same on the running event loop, where the bodies of async tools run too; see `replay`."""
    import asyncio  # noqa: PLC0415 - a third of what this package takes to import; only async replays need it

    bodies = Bodies(asyncio.get_running_loop())
    play = _Play(agent, events, session_id, live=live_tools, observers=observers, bodies=bodies)
    try:
        for awaited in play.steps():
            await bodies.await_outcome(awaited)
    finally:
        bodies.close()
    return play.result()


class _Play:
    """A replay of all runs of a session, one after the other."""

    def __init__(
        self,
        agent: Agent | None,
        events: Iterable[AgentEvent] | Recording,
        session_id: str | None,
        *,
        live: bool,
        observers: Iterable[Observer | Registration],
        bodies: Bodies,
    ) -> None:
        if live and agent is None:
            raise ConfigurationError(
                "live_tools=True refused without an agent; give the one that has the tools"
            )
        self.bodies = bodies
        self._recording = read_recording(events, session_id=session_id)
        self._model = ReplayModel(self._recording)
        self._own = None if agent is None else agent.driver_settings().loop
        self._stand_ins = StandIns(None if agent is None else agent.tools, live=live)
        self._listeners = EventEmitter(observers, policy=FailurePolicy.FAIL_FAST)
        self._told = _Told(self._listeners)
        self._mismatch: ReplayMismatchError | None = None

    def result(self) -> ReplayResult:
        """Return what came of it."""
        return ReplayResult(
            session_id=self._recording.session_id, events=tuple(self._told), mismatch=self._mismatch
        )

    def steps(self) -> Iterator[Awaited]:
        """Run everything; yields the bodies that have to be waited for."""
        try:
            for number in range(len(self._recording.starts)):
                yield from self._run(number)
        except ReplayMismatchError as mismatch:
            self._mismatch = mismatch
        self._listeners.hand_over()

    def _run(self, number: int) -> Iterator[Awaited]:
        """Run one of the runs; the one before it is over, or its process ended in the middle of it."""
        recording, position = self._recording, len(self._told) + self._told.gaps
        state = LoopState()
        for event in self._told:
            state.apply(event)
        state.seq = recording.events[position - 1].seq if position else 0
        started = recording.run(number)
        ahead = recording.events[position : recording.end_of(number)]
        follower = Follower(
            recording,
            self._settings(started, _run_again(state, ahead)),
            position=position,
            state=state,
            model=self._model,
            stand_ins=self._stand_ins,
            bodies=self.bodies,
            told=self._told,
        )
        if number == 0:
            follower.start(started.items)
        else:
            follower.go_on(trust_approvals=self._were_trusted(state, ahead))
        yield from follower.follow(recording.end_of(number))
        self._told.gaps = follower.position - len(self._told)

    def _were_trusted(self, state: LoopState, ahead: tuple[AgentEvent, ...]) -> bool:
        """Whether a resume ran what was approved before it without asking again, as far as the machine asks."""
        approved = {
            call.part.id
            for call in state.calls.values()
            if not call.answered and call.approval is not None and call.approval.approved
            if not self._stand_ins.judges(call)
        }
        for event in ahead:
            if isinstance(event, (ApprovalRequired, ToolExecutionStarted)) and event.call_id in approved:
                return isinstance(event, ToolExecutionStarted)
        return not approved

    def _settings(self, started: RunStarted, run_again: frozenset[str]) -> LoopSettings:
        """Return the configuration of a run: the agent's, or as the log has it."""
        tools = self._stand_ins.catalog(started.tools, run_again)
        if self._own is not None:
            return attrs.evolve(self._own, tools=tools, metadata=started.metadata, parent=started.parent)
        return LoopSettings(
            agent_name=started.agent_name,
            model=started.model,
            system=started.system,
            tools=tools,
            parameters=started.parameters,
            model_parameters={},
            retry=Retry(),
            max_parallel_tools=_NO_BOUND,
            metadata=started.metadata,
            parent=started.parent,
        )


class _Told(list[AgentEvent]):
    """The events that were told; each is passed on. gaps: previews among them that the log lacks."""

    def __init__(self, listeners: EventEmitter) -> None:
        super().__init__()
        self.gaps = 0
        self._listeners = listeners

    def append(self, event: AgentEvent) -> None:
        """Keep an event, and tell it to the observers. Raises ObserverError."""
        super().append(event)
        self._listeners.tell_again(event)


def _run_again(state: LoopState, ahead: tuple[AgentEvent, ...]) -> frozenset[str]:
    """Return the names of tools whose calls a crash interrupted, and that the resume did not answer for that."""
    answered: set[str] = set()
    for event in ahead:
        if isinstance(event, ToolResultReceived):
            answered.add(event.call_id)
        elif isinstance(event, RunStarted):
            break
    open_calls = (call for call in state.calls.values() if call.is_running)
    return frozenset(call.part.name for call in open_calls if call.part.id not in answered)
