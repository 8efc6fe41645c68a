"""The table of moves: every signal in every phase is taken, late, or refused with nothing changed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest

from agentkit_loop.clock import Clock
from agentkit_loop.compaction import Compaction, Plan
from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart, Item, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import AgentEvent, RunFinished
from agentkit_loop.machine import Machine
from agentkit_loop.models.protocol import Answer
from agentkit_loop.moves import MOVES, Verdict, Wait, Yield, verdict
from agentkit_loop.retry import Retry
from agentkit_loop.settings import LoopSettings
from agentkit_loop.signals import (
    Answered,
    AuthAnswer,
    AuthWanted,
    Cancel,
    Decision,
    RequestFault,
    SetTools,
    Submit,
    ToolReturned,
    UsageReported,
    WarningNoted,
)
from agentkit_loop.state import LoopState, Phase
from agentkit_loop.tool_context import CustomFact, ToolProgressed
from agentkit_loop.tools import as_tool, tool
from agentkit_loop.usage import ErrorInfo, Usage

SIGNALS: dict[type[Any], Any] = {
    Submit: Submit((Item.user("hi"),)),
    BeginPart: BeginPart("0", "text"),
    AppendText: AppendText("begun", "x"),
    AppendBytes: AppendBytes("begun", b"x"),
    CommitPart: CommitPart("begun", TextPart(text="x")),
    UsageReported: UsageReported(usage=Usage(input_tokens=1), model=None, cost=None),
    Answered: Answered(Answer(finish_reason="completed"), None),
    RequestFault: RequestFault(error=ErrorInfo(type="E", message="m"), error_class="other"),
    ToolProgressed: ToolProgressed("call-1", "half", 0.5),
    ToolReturned: ToolReturned(call_id="call-1", attempt=1, output="done", duration_ms=1.0),
    CustomFact: CustomFact("note", 1),
    WarningNoted: WarningNoted("code", "text", {}),
    AuthWanted: AuthWanted(call_id="call-1", attempt=1, provider="p"),
    Decision: Decision(approval_id="approval-1", approved=True),
    AuthAnswer: AuthAnswer("auth-1", "resolved"),
    Cancel: Cancel("enough"),
    SetTools: SetTools({}),
}


def work() -> str:
    """Work."""
    return "done"


class FewItems:
    """A strategy that fails: nothing is asked of it here."""

    name = "few items"

    def plan(self, items: Sequence[Item]) -> Plan:
        """Refuse."""
        raise ValueError(f"{len(items)} items are few")


class Bench:
    """A machine whose events are folded into its state, and nothing else: no driver, no I/O."""

    def __init__(self) -> None:
        settings = LoopSettings(
            agent_name="a",
            model="m",
            system=None,
            tools={"work": as_tool(work), "gated": tool(work, name="gated", approval=True)},
            parameters={},
            model_parameters={},
            retry=Retry(max_attempts=2, base_ms=1_000, jitter=0.0),
            max_parallel_tools=2,
            metadata={},
            compaction=Compaction(strategy=FewItems()),
        )
        self.state = LoopState()
        self.machine = Machine(settings, self.state)
        self.emitter = EventEmitter(session_id="s", run_id="r", clock=Clock(), fold=self.state.apply)

    def tell(self, event: AgentEvent) -> None:
        self.emitter.tell(event)

    def take(self, signal: Any) -> list[AgentEvent]:
        told = []
        for event in self.machine.take(signal, 0.0):
            self.tell(event)
            told.append(event)
        return told

    def decide(self) -> Any:
        move = self.machine.decide(0.0)
        if isinstance(move, AgentEvent):
            self.tell(move)
        return move

    def start(self) -> None:
        self.tell(self.machine.run_started((), 0.0))

    def stream(self) -> None:
        self.start()
        self.take(SIGNALS[Submit])
        self.decide()
        self.decide()
        self.take(BeginPart("begun", "text"))

    def answer(self, *calls: Any, reason: str = "completed") -> None:
        self.stream()
        self.take(CommitPart("begun", TextPart(text="x")))
        for number, call in enumerate(calls):
            self.take(BeginPart(f"c{number}", "tool_call"))
            self.take(CommitPart(f"c{number}", call))
        self.take(Answered(Answer(finish_reason=reason), None))


def in_phase(phase: Phase) -> Bench:
    """Return a machine in the phase, brought there by legal moves."""
    from agentkit_loop.content import ToolCallPart  # noqa: PLC0415 - only here

    bench = Bench()
    match phase:
        case Phase.CLOSED:
            bench.start()
            bench.tell(RunFinished(outcome="completed", usage=Usage()))
        case Phase.IDLE:
            bench.start()
        case Phase.ASKING:
            bench.start()
            bench.take(SIGNALS[Submit])
        case Phase.STREAMING:
            bench.stream()
        case Phase.FAILED | Phase.BACKING_OFF:
            bench.stream()
            bench.take(RequestFault(error=ErrorInfo(type="E", message="m"), error_class="overloaded"))
            if phase is Phase.BACKING_OFF:
                bench.decide()
        case Phase.WORKING:
            bench.answer(ToolCallPart(id="call-1", name="work", input={}))
            bench.decide()
            bench.decide()
        case Phase.COMPACTING:
            bench.stream()
            error = ErrorInfo(type="E", message="m")
            bench.take(RequestFault(error=error, error_class="context_exceeded"))
            bench.decide()
        case Phase.PENDING:
            bench.answer(
                ToolCallPart(id="call-2", name="gated", input={}),
                ToolCallPart(id="call-1", name="work", input={}),
                ToolCallPart(id="call-3", name="work", input={}),
            )
            for _ in range(6):
                bench.decide()
            bench.take(AuthWanted(call_id="call-3", attempt=1, provider="p"))
        case Phase.ANSWERED:
            bench.answer()
    assert bench.state.phase is phase
    return bench


@pytest.mark.parametrize("phase", [Phase.CLOSED, Phase.PENDING])
def test_a_refused_submit_says_what_would_work_in_its_phase(phase: Phase) -> None:
    with pytest.raises(IllegalMoveError) as refused:
        in_phase(phase).machine.take(SIGNALS[Submit], 0.0)
    assert str(refused.value) == (
        f"Submit refused while {phase.value}; start or resume a run where it is closed, answer the open steps where "
        "one is awaited"
    )


def test_the_table_knows_every_signal() -> None:
    assert set(MOVES) == set(SIGNALS)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("signal", list(SIGNALS))
def test_every_cell_of_the_table_does_what_it_says(signal: type[Any], phase: Phase) -> None:
    bench = in_phase(phase)
    before = copy.deepcopy(bench.state)
    expected = verdict(signal, phase)
    if expected is Verdict.ILLEGAL:
        with pytest.raises(IllegalMoveError, match=f"^{signal.__name__} refused while {phase.value}; "):
            bench.machine.take(SIGNALS[signal], 0.0)
        assert bench.state == before
    elif expected is Verdict.LATE:
        assert bench.take(SIGNALS[signal]) == []
        assert bench.state == before
    elif signal is SetTools:  # told with the next request
        assert bench.take(SIGNALS[signal]) == []
        assert bench.machine.catalog.wanted == {}
    else:
        assert bench.take(SIGNALS[signal]) != []
        assert bench.state != before


def test_a_back_off_waits_for_its_moment_and_then_asks_again() -> None:
    bench = in_phase(Phase.BACKING_OFF)
    assert bench.machine.decide(0.999) == Wait(1.0)
    move = bench.machine.decide(1.0)
    assert isinstance(move, AgentEvent)
    assert (move.type, move.attempt) == ("model_request_started", 2)  # type: ignore[attr-defined] # the type says so


def test_a_machine_that_nobody_asks_anything_awaits_input() -> None:
    assert in_phase(Phase.IDLE).decide() is Yield.AWAITING_INPUT


def test_a_fragment_out_of_order_fails_the_request() -> None:
    for wrong in (
        AppendText("never", "x"),
        CommitPart("never", TextPart(text="x")),
        BeginPart("begun", "text"),
    ):
        bench = in_phase(Phase.STREAMING)
        (failed,) = bench.take(wrong)
        assert failed.type == "model_request_failed"
        assert "broke the protocol" in failed.error.message  # type: ignore[attr-defined] # the type says so
