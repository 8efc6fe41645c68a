"""Host, model, tools, cancels and crashes play against the machine and both drivers, and every rule holds.

After each step of the state machine the rules of the contract have no fault and folding the events anew gives
the state that the machine decides from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentkit_loop.closing import Ending
from agentkit_loop.content import (
    AppendText,
    BeginPart,
    CommitPart,
    Item,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.errors import ERROR_CLASSES
from agentkit_loop.events import AgentEvent
from agentkit_loop.limits import Limits
from agentkit_loop.models.anthropic_wire import wire_messages
from agentkit_loop.models.protocol import Answer
from agentkit_loop.moves import Ask, Stream, Wait, Yield
from agentkit_loop.open_calls import Call
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
)
from agentkit_loop.state import LoopState, Phase
from agentkit_loop.testing import check_messages
from agentkit_loop.tool_context import CustomFact, ToolProgressed
from agentkit_loop.usage import Usage
from tests.loop.control_bench import BROKEN, NAMES, Bench, settings_of, tools_of
from tests.loop.control_scripts import Life, cut, live, lives, without_races
from tests.loop.crash_checks import go_on, what_is_wrong
from tests.loop.crash_runs import World
from tests.loop.scripts import comparable
from tests.rules import faults

indexes = st.integers(0, 5)
rarely = st.integers(0, 2)
asked_names = st.sampled_from(NAMES)
call_ids = st.sampled_from(["a", "b", "c", "d"])
REASONS = ("completed", "completed", "tool_call", "max_tokens", "refusal", "pause_turn", "stop_sequence")
FAILURES = (*sorted(ERROR_CLASSES - {"process_ended"}), *["overloaded"] * 6)
limit_choices = st.sampled_from(
    [None, None, None, Limits(max_turns=3), Limits(max_tokens=90), Limits(max_seconds=60.0)]
)
ENDINGS = (
    Ending(kind="left"),
    Ending(kind="left"),
    Ending(kind="failed", error=BROKEN),
    Ending(kind="cancelled", reason="Ctrl-C"),
)


class Control(RuleBasedStateMachine):
    """Everybody who has a part in a session, in any order."""

    bench: Bench

    @initialize(parallel=st.integers(1, 3), compacts=st.booleans(), limits=limit_choices)
    def begin(self, parallel: int, compacts: bool, limits: Limits | None) -> None:
        self.bench = Bench(settings_of(parallel=parallel, compacts=compacts, limits=limits))
        self.parts = 0

    @property
    def phase(self) -> Phase:
        return self.bench.state.phase

    @property
    def is_streaming(self) -> bool:
        """Whether a driver would read the model's stream now: not where the request is about to be cut."""
        state = self.bench.state
        return self.phase is Phase.STREAMING and not (state.cancelling or state.exceeded)

    def pending(self) -> list[Call]:
        """Return the calls whose steps the host was shown."""
        calls = self.bench.state.calls.values() if self.bench.asked else ()
        return [call for call in calls if call.is_pending]

    # --- the host

    @precondition(lambda self: self.phase not in (Phase.CLOSED, Phase.PENDING))
    @rule(text=st.sampled_from(["go", "and then?"]))
    def submit(self, text: str) -> None:
        self.bench.take(Submit((Item.user(text),)))

    @precondition(lambda self: self.phase is not Phase.PENDING)
    @rule()
    def have_the_model_asked(self) -> None:
        """Bring the session to an open request, as far as nothing else is open."""
        if self.phase is Phase.CLOSED:
            self.bench.go_on()
        if self.bench.settle() is Yield.AWAITING_INPUT:
            self.bench.take(Submit((Item.user("please"),)))
            self.bench.settle()

    @precondition(lambda self: self.is_streaming)
    @rule(names=st.lists(asked_names, min_size=1, max_size=4), starts=st.integers(0, 12))
    def answer_with_calls(self, names: list[str], starts: int) -> None:
        """Ask for tools; starts: how many of the events that follow are told at once."""
        self.finish_parts()
        for name in names:
            self.ask(name, "same", None)
        self.answer("tool_call", 3)
        for _ in range(starts):
            self.bench.step(patient=False)

    def finish_parts(self) -> None:
        """Commit what was begun: an answer with an open part is a fault of the model's."""
        for part_id in list(self.bench.machine.previews):
            self.bench.take(CommitPart(part_id, TextPart(text="some")))

    @rule(patient=st.booleans(), times=st.integers(1, 3))
    def step(self, patient: bool, times: int) -> None:
        for _ in range(times):
            self.bench.step(patient=patient)

    @rule()
    def settle(self) -> None:
        self.bench.settle()

    @precondition(lambda self: self.pending())
    @rule(which=indexes, approved=st.booleans(), edited=st.booleans(), stale=st.booleans())
    def decide(self, which: int, approved: bool, edited: bool, stale: bool) -> None:
        approvals = [
            call.approval for call in self.pending() if call.approval and call.approval.approved is None
        ]
        if stale or not approvals:
            self.bench.take(Decision(approval_id="approval-99", approved=True))
            return
        asked = approvals[which % len(approvals)]
        arguments: dict[str, Any] | None = {"note": "less"} if edited and approved else None
        self.bench.take(Decision(approval_id=asked.id, approved=approved, reason="why not", input=arguments))

    @precondition(lambda self: any(call.auth for call in self.pending()))
    @rule(which=indexes, outcome=st.sampled_from(["resolved", "resolved", "cancelled"]))
    def resolve(self, which: int, outcome: Any) -> None:
        asked = [call.auth for call in self.pending() if call.auth is not None]
        self.bench.take(AuthAnswer(asked[which % len(asked)].id, outcome))

    @rule(chance=rarely)
    def cancel(self, chance: int) -> None:
        if chance == 0:
            self.bench.take(Cancel("enough"))

    @rule(names=st.frozensets(asked_names, min_size=4))
    def change_tools(self, names: frozenset[str]) -> None:
        self.bench.take(SetTools(tools_of(*names)))

    @rule()
    def note(self) -> None:
        self.bench.take(CustomFact("note", 1))

    @precondition(lambda self: self.bench.state.run_is_open)
    @rule(ending=st.sampled_from(ENDINGS), chance=rarely)
    def leave(self, ending: Ending, chance: int) -> None:
        if chance == 0:
            self.bench.end(ending)

    # --- the process

    @rule(trust_approvals=st.booleans(), chance=rarely)
    def crash(self, trust_approvals: bool, chance: int) -> None:
        if chance == 0 or self.phase is Phase.CLOSED:
            self.bench.go_on(trust_approvals=trust_approvals)

    @precondition(lambda self: self.bench.is_delicate)
    @rule(trust_approvals=st.booleans())
    def crash_in_a_delicate_moment(self, trust_approvals: bool) -> None:
        self.bench.go_on(trust_approvals=trust_approvals)

    # --- the model

    @precondition(lambda self: self.is_streaming)
    @rule(kind=st.sampled_from(["text", "text", "reasoning"]), signed=st.booleans(), whole=st.booleans())
    def write(self, kind: Any, signed: bool, whole: bool) -> None:
        self.parts += 1
        part_id = f"part-{self.parts}"
        self.bench.take(BeginPart(part_id, kind))
        self.bench.take(AppendText(part_id, "some"))
        if not whole:
            return
        text = TextPart(text="some text")
        part = text if kind == "text" else ReasoningPart(text="hm", signature="sig" if signed else None)
        self.bench.take(CommitPart(part_id, part))

    @precondition(lambda self: self.is_streaming)
    @rule(name=asked_names, call_id=call_ids, cut=st.sampled_from([None, None, None, '{"a']))
    def ask(self, name: str, call_id: str, cut: str | None) -> None:
        self.parts += 1
        self.bench.take(BeginPart(f"part-{self.parts}", "tool_call"))
        self.bench.take(
            CommitPart(f"part-{self.parts}", ToolCallPart(id=call_id, name=name, input={}, cut=cut))
        )

    @precondition(lambda self: self.is_streaming)
    @rule(tokens=st.integers(0, 9))
    def report(self, tokens: int) -> None:
        self.bench.take(UsageReported(usage=Usage(input_tokens=tokens), model=None, cost=None))

    @precondition(lambda self: self.is_streaming)
    @rule(reason=st.sampled_from(REASONS), tokens=st.none() | st.integers(0, 9), untidy=st.booleans())
    def answer(self, reason: str, tokens: int | None, *, untidy: bool = False) -> None:
        if not untidy:
            self.finish_parts()
        usage = None if tokens is None else Usage(input_tokens=tokens, output_tokens=tokens)
        self.bench.take(Answered(Answer(finish_reason=reason, usage=usage), None))

    @precondition(lambda self: self.is_streaming)
    @rule(error_class=st.sampled_from(FAILURES))
    def fail(self, error_class: str) -> None:
        self.bench.take(RequestFault(error=BROKEN, error_class=error_class))

    # --- the tools

    @precondition(lambda self: self.bench.bodies)
    @rule(which=indexes, is_error=st.booleans(), again=st.booleans())
    def end_body(self, which: int, is_error: bool, again: bool) -> None:
        call_id, attempt = self.bench.bodies[which % len(self.bench.bodies)]
        if not again:  # otherwise it may answer twice
            self.bench.bodies.remove((call_id, attempt))
        self.bench.take(
            ToolReturned(call_id=call_id, attempt=attempt, output="done", duration_ms=1.0, is_error=is_error)
        )

    @precondition(lambda self: self.bench.bodies)
    @rule(which=indexes)
    def want_credentials(self, which: int) -> None:
        call_id, attempt = self.bench.bodies.pop(which % len(self.bench.bodies))
        self.bench.take(AuthWanted(call_id=call_id, attempt=attempt, provider="bank"))

    @precondition(lambda self: self.bench.bodies)
    @rule(which=indexes)
    def progress(self, which: int) -> None:
        call_id, _ = self.bench.bodies[which % len(self.bench.bodies)]
        self.bench.take(ToolProgressed(call_id, "half", 0.5))

    # --- all of them, more likely than not in a useful order

    @rule(seed=st.integers(0, 2**32), moves=st.integers(5, 60))
    def play(self, seed: int, moves: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - a play, no secret
        for _ in range(moves):
            self.play_one(chance)
            self.the_state_is_the_fold_of_the_events()

    def play_one(self, chance: random.Random) -> None:
        """Make one move that can be made now."""
        bench, number = self.bench, chance.randrange(6)
        coin = chance.random() < 0.5
        possible: list[tuple[float, Callable[[], object]]] = [
            (8, lambda: bench.step(patient=not bench.bodies or chance.random() < 0.1)),
            (self.phase is not Phase.PENDING, lambda: self.submit("go")),
            (0.6, lambda: self.cancel(0)),
            (0.3, lambda: bench.take(SetTools(tools_of(*chance.sample(NAMES, 5))))),
            (1.0 + 4 * bench.is_delicate, lambda: bench.go_on(trust_approvals=coin)),
        ]
        if self.phase is Phase.CLOSED:
            possible = [(1, lambda: bench.go_on(trust_approvals=coin))]
        else:
            possible.append((0.4, lambda: bench.end(chance.choice(ENDINGS))))
        if self.is_streaming:
            names = chance.choices(NAMES, k=chance.randint(1, 3))
            possible += [
                (6, lambda: self.answer_with_calls(names, 0)),
                (2, lambda: self.write("text", signed=coin, whole=chance.random() < 0.7)),
                (1, lambda: self.ask(names[0], "same", None)),
                (2, lambda: self.answer(chance.choice(REASONS), number)),
                (1, lambda: self.fail(chance.choice(FAILURES))),
            ]
        if bench.bodies:
            possible += [
                (4, lambda: self.end_body(number, is_error=coin, again=False)),
                (1.5, lambda: self.want_credentials(number)),
                (0.5, lambda: self.progress(number)),
            ]
        if self.pending():
            possible.append(
                (3, lambda: self.decide(number, approved=chance.random() < 0.8, edited=coin, stale=False))
            )
        if any(call.auth for call in self.pending()):
            possible.append((3, lambda: self.resolve(number, "resolved" if coin else "cancelled")))
        chance.choices([move for _, move in possible], [weight for weight, _ in possible])[0]()

    # --- what holds

    @invariant()
    def the_state_is_the_fold_of_the_events(self) -> None:
        if hasattr(self, "bench"):
            assert self.bench.folded() == self.bench.state

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            play_to_the_end(self.bench)


def play_to_the_end(bench: Bench) -> None:
    """Resume, answer whatever is open, and see that the provider would take what came of it."""
    bench.settings = attrs.evolve(bench.settings, limits=None)
    bench.go_on()
    for _ in range(300):
        move = bench.settle()
        if move is Yield.AWAITING_INPUT:
            break
        if isinstance(move, Stream):
            bench.take(Answered(Answer(finish_reason="completed"), None))
        elif isinstance(move, Ask):
            call = bench.state.calls[move.call_id]
            if call.approval is not None and call.approval.approved is None:
                bench.take(Decision(approval_id=call.approval.id, approved=True))
            elif call.auth is not None:
                bench.take(AuthAnswer(call.auth.id, "cancelled"))
        else:
            assert isinstance(move, Wait)
            call_id, attempt = bench.bodies.pop()
            bench.take(ToolReturned(call_id=call_id, attempt=attempt, output="done", duration_ms=1.0))
    else:
        raise AssertionError("no end in sight")
    bench.end(Ending(kind="left"))
    assert bench.rules.walk([], closed=True) == []
    assert bench.events[-1].type == "run_finished"
    body = {"model": "m", "max_tokens": 1, "messages": wire_messages([*bench.items, Item.user("next")])}
    assert check_messages(body) is None


TestControl = Control.TestCase
TestControl.settings = settings(
    max_examples=100,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def _lived(script: Sequence[Life], *, asynchronous: bool) -> World:
    """Play the lives one after the other, and look at each."""
    world = World()
    for life in script:
        before = len(world.events)
        items, state = live(life, world, asynchronous=asynchronous)
        folded = LoopState()
        for event in world.events:
            folded.apply(event)
        assert folded == state
        assert folded.transcript.items == items
        assert faults(world.events) == []
        if life.cut is not None:
            world = World(events=cut(world.events, before, life.cut))
    return world


@settings(max_examples=60, deadline=None)
@given(script=st.lists(lives, min_size=1, max_size=4))
def test_lives_with_both_drivers_keep_every_rule(script: list[Life]) -> None:
    for asynchronous in (False, True):
        world = _lived(script, asynchronous=asynchronous)
        assert what_is_wrong(go_on(world.events)) == []


@settings(max_examples=40, deadline=None)
@given(script=st.lists(lives.map(without_races), min_size=1, max_size=3))
def test_both_drivers_tell_equal_lives(script: list[Life]) -> None:
    sync, other = (_lived(script, asynchronous=asynchronous) for asynchronous in (False, True))
    assert _comparable(sync.events) == _comparable(other.events)


def _comparable(events: Sequence[AgentEvent]) -> list[dict[str, Any]]:
    return [{**told, "resumed_run": told.get("resumed_run") is None} for told in comparable(events)]
