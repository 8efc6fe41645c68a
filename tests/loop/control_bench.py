"""A machine that is played by hand, without a driver; a crash drops everything but what was told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentkit_loop.closing import Ending
from agentkit_loop.compaction import Compaction, SummariseOlder
from agentkit_loop.content import Item
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    ModelRequestFinished,
    ToolExecutionStarted,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.limits import Limits
from agentkit_loop.machine import Machine
from agentkit_loop.moves import Ask, Ended, GiveUp, Stream, Verdict, Wait, Yield, verdict
from agentkit_loop.permissions import Permissions
from agentkit_loop.resuming import read_history
from agentkit_loop.retry import Retry
from agentkit_loop.settings import LoopSettings
from agentkit_loop.signals import Signal
from agentkit_loop.state import LoopState
from agentkit_loop.testing import VirtualClock
from agentkit_loop.tools import Tool, tool
from agentkit_loop.usage import ErrorInfo
from agentkit_reporting.codec import decode_event, encode_event
from tests.rules import Rules

BROKEN = ErrorInfo(type="ValueError", message="broken on purpose")
NAMES = ("work", "look", "gated", "slow", "denied", "missing")


def body(note: str = "") -> str:
    """Do nothing: bodies are played."""
    return note


def tools_of(*names: str) -> dict[str, Tool[..., Any]]:
    """Return the tools of these names."""
    made = (
        tool(body, name="work"),
        tool(body, name="look", idempotent=True),
        tool(body, name="gated", approval=True, idempotent=True),
        tool(body, name="slow", timeout_s=5.0),
        tool(body, name="denied"),
    )
    return {each.name: each for each in made if each.name in names}


def settings_of(*, parallel: int, compacts: bool, limits: Limits | None) -> LoopSettings:
    """Return a machine's configuration."""
    return LoopSettings(
        agent_name="a",
        model="m",
        system=None,
        tools=tools_of(*NAMES),
        parameters={},
        model_parameters={},
        retry=Retry(max_attempts=2, base_ms=1_000, jitter=0.0),
        max_parallel_tools=parallel,
        metadata={},
        policy=Permissions(deny=("denied",), default="allow"),
        limits=limits,
        compaction=Compaction(strategy=SummariseOlder(keep_items=2), max_items=4) if compacts else None,
    )


class Bench:
    """A session, its machine, and the bodies that run in it.

    now: seconds, monotonic. asked: whether the host was shown a step of the open round, and may answer.
    """

    def __init__(self, settings: LoopSettings) -> None:
        self.settings = settings
        self.events: list[AgentEvent] = []
        self.rules = Rules()
        self.now = 0.0
        self.bodies: list[tuple[str, int]] = []  # that run: call and attempt
        self.begun: dict[str, str] = {}  # calls whose body ever began, and the tool
        self._runs = 0
        self.state = LoopState()
        self._take_over()
        self.tell(self.machine.run_started((), self.now))

    def _take_over(self) -> None:
        self._runs += 1
        self.asked = False
        self.machine = Machine(self.settings, self.state)
        self.emitter = EventEmitter(
            session_id="s",
            run_id=f"run-{self._runs}",
            clock=VirtualClock(),
            fold=self.state.apply,
            seq=self.state.seq,
        )

    def tell(self, event: AgentEvent) -> None:
        """Tell as the drivers do, and look at the rules."""
        if isinstance(event, TurnStarted):
            self.emitter.turn_id = f"turn-{self.state.turns + 1}"
        again = isinstance(event, ToolExecutionStarted) and event.call_id in self.begun
        waited = again and self.state.calls[event.call_id].auth is not None  # type: ignore[attr-defined] # a start
        self.emitter.tell(event)
        if isinstance(event, TurnFinished):
            self.emitter.turn_id = None
        elif isinstance(event, ModelRequestFinished):
            self.asked = False
        elif isinstance(event, ToolExecutionStarted):
            assert not again or waited or event.name in {"look", "gated"}, "a body ran twice"
            self.begun[event.call_id] = event.name
            self.bodies.append((event.call_id, event.attempt))
        self.events.append(decode_event(encode_event(event)))
        assert self.events[-1] == event
        self.rules.take(event)
        assert self.rules.faults == []

    def take(self, signal: Signal) -> None:
        """Give the machine a signal; what the table calls illegal is refused and changes nothing."""
        before = len(self.events)
        expected = verdict(type(signal), self.state.phase)
        try:
            for event in self.machine.take(signal, self.now):
                self.tell(event)
        except IllegalMoveError:
            assert len(self.events) == before
            assert expected is not Verdict.LATE
        else:
            assert expected is not Verdict.ILLEGAL
            assert expected is Verdict.TAKEN or len(self.events) == before

    def step(self, *, patient: bool = True) -> Any:
        """Do one thing as a driver would; return the move. patient: let the time pass that it waits for."""
        move = self.machine.decide(self.now)
        match move:
            case AgentEvent():
                self.tell(move)
            case Wait(until) if until is not None and patient:
                self.now = max(self.now, until)
            case GiveUp(failure):
                self.end(Ending(kind="failed", error=failure.error))
            case Ask():
                self.asked = True
            case Yield.FINISHED:
                self.machine.show_finished()
            case _:
                pass
        return move

    def settle(self, most: int = 60) -> Any:
        """Step until somebody else has to do something; return the last move."""
        for _ in range(most):
            move = self.step(patient=not self.bodies)
            if isinstance(move, (Stream, Ended)) or move is Yield.AWAITING_INPUT:
                return move
            if not isinstance(move, AgentEvent) and not isinstance(move, (GiveUp, Yield)):
                return move
        raise AssertionError(f"no end in sight: {[event.type for event in self.events[-most:]]}")

    def end(self, ending: Ending) -> None:
        """End the run as a driver does."""
        self.machine.end(ending)
        for _ in range(200):
            move = self.machine.decide(self.now)
            if isinstance(move, Ended):
                self.bodies.clear()
                return
            assert isinstance(move, AgentEvent)
            self.tell(move)
        raise AssertionError("the run does not end")

    def go_on(self, *, trust_approvals: bool = False) -> None:
        """Resume from the events, whether the run was closed or its process is gone."""
        self.bodies.clear()
        self.state = read_history(self.events).state
        old, turn_id = self.state.run_id, self.state.turn_id
        self._take_over()
        own, self.emitter.run_id, self.emitter.turn_id = self.emitter.run_id, old, turn_id
        while (event := self.machine.recovery_event()) is not None:
            self.tell(event)
        self.emitter.run_id, self.emitter.turn_id = own, None
        self.tell(self.machine.run_resumed(self.now, trust_approvals=trust_approvals))
        self.emitter.turn_id = self.state.turn_id

    def folded(self) -> LoopState:
        """Return the state that the events give when they are folded anew."""
        state = LoopState()
        for event in self.events:
            state.apply(event)
        return state

    @property
    def is_delicate(self) -> bool:
        """Whether something is open that a crash makes hard to go on with."""
        state = self.state
        decided = any(call.approval or call.auth for call in state.calls.values() if not call.answered)
        return state.run_is_open and (state.transcript.compacting or state.cancelling or decided)

    @property
    def items(self) -> Sequence[Item]:
        """The transcript."""
        return self.state.transcript.items
