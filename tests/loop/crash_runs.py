"""Sessions that cover each path of the loop, to be cut anywhere and gone on with (crash_checks.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from agentkit_loop.agent import Agent
from agentkit_loop.compaction import Compaction, SummariseOlder
from agentkit_loop.credentials import NeedsAuth
from agentkit_loop.errors import AgentKitError
from agentkit_loop.events import (
    AgentEvent,
)
from agentkit_loop.limits import Limits
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.observers import FailurePolicy, LoopObserver, Registration
from agentkit_loop.retry import Retry
from agentkit_loop.shell import DriverBase
from agentkit_loop.steps import AfterToolResult, ApprovalRequest, AuthRequest, Step
from agentkit_loop.testing import (
    Reply,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    VirtualClock,
)
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import Tool, tool
from agentkit_loop.usage import Usage
from agentkit_reporting.codec import decode_event, encode_event

USAGE = Usage(input_tokens=10, output_tokens=4)


def call(name: str, call_id: str = "", /, **given: Any) -> ScriptedCall:
    """Make a call of a reply."""
    return ScriptedCall(name=name, id=call_id, input=given)


@attrs.define
class World:
    """What outlives a process: whose bodies ran (tool, call, attempt), and the events that were told."""

    bodies: list[tuple[str, str, int]] = attrs.Factory(list)
    events: list[AgentEvent] = attrs.Factory(list)

    def tools(self) -> list[Tool[..., Any]]:
        """Return the tools: those that may run once, one that may run again, one that a person is asked about."""

        def note(context: ToolContext, name: str) -> None:
            self.bodies.append((name, context.call_id, context.attempt))

        def work(context: ToolContext, *, fails: bool = False) -> str:
            """Work once."""
            note(context, "work")
            context.progress("half", 0.5)
            if fails:
                raise ValueError("no luck")
            return "worked"

        def look(context: ToolContext) -> str:
            """Look; as often as one likes."""
            note(context, "look")
            return "seen"

        def gated(context: ToolContext, what: str = "") -> str:
            """Do what a person allows."""
            note(context, "gated")
            return f"done {what}"

        def login(context: ToolContext) -> str:
            """Use a credential."""
            if context.credential("bank") is None:
                raise NeedsAuth("bank", ("read",), "to look")
            note(context, "login")
            return "inside"

        return [tool(work), tool(look, idempotent=True), tool(gated, approval=True), tool(login)]

    def agent(
        self,
        replies: Iterable[Any] | Callable[[ModelRequest], Any],
        *observers: Any,
        **options: Any,
    ) -> Agent:
        """Make an agent with these tools whose events are kept; one body at a time, so that order is certain."""
        clock = VirtualClock()
        settings: dict[str, Any] = {
            "tools": self.tools(),
            "retry": Retry(max_attempts=2, base_ms=10),
            "max_parallel_tools": 1,
            "clock": clock,
            "name": "crashing",
            "system": "be kind",
        }
        return Agent(
            ScriptedModel(replies, clock=clock),
            observers=[*observers, self.events.append],
            **{**settings, **options},
        )


# --- hosts

Host = Callable[[DriverBase, list[Step]], bool]
"""Takes the steps so far; answers the last one, and says whether to go on."""


def agreeable(driver: DriverBase, steps: list[Step]) -> bool:
    """Approve everything, give every credential."""
    del driver
    match steps[-1]:
        case ApprovalRequest() as asked:
            asked.approve(by="ann")
        case AuthRequest() as asked:
            asked.resolve("swordfish-1234")
        case _:
            pass
    return True


def drive(driver: Any, host: Host = agreeable, *prompts: str) -> None:
    """Drive each prompt's exchange to its end on this thread, and what is open already without a prompt."""
    steps: list[Step] = []
    for prompt in prompts or (None,):
        if prompt is not None:
            driver.submit(prompt)
        for step in driver:
            steps.append(step)
            if not host(driver, steps):
                return


async def adrive(driver: Any, host: Host = agreeable, *prompts: str) -> None:
    """Do the same on an event loop."""
    steps: list[Step] = []
    for prompt in prompts or (None,):
        if prompt is not None:
            driver.submit(prompt)
        async for step in driver:
            steps.append(step)
            if not host(driver, steps):
                return


@attrs.frozen
class Scenario:
    """A session's script. failing: the run ends by an error, which is expected. more: a second run's script."""

    replies: Sequence[Any]
    prompts: tuple[str, ...] = ("go",)
    host: Host = agreeable
    options: dict[str, Any] = attrs.Factory(dict)
    observers: Callable[[], Sequence[Any]] = tuple
    then: Scenario | None = None


class CancelAt(LoopObserver):
    """Cancels when the event of a number is told."""

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self.driver: DriverBase | None = None

    def handle_event(self, event: AgentEvent) -> None:
        if event.seq == self._seq and self.driver is not None:
            self.driver.cancel("enough")


class BreakAt(LoopObserver):
    """Raises on the event of a number."""

    def __init__(self, seq: int, error: BaseException) -> None:
        self._seq = seq
        self._error = error

    def handle_event(self, event: AgentEvent) -> None:
        if event.seq == self._seq:
            raise self._error


class SubmitAt(CancelAt):
    """Submits when the event of a number is told."""

    def handle_event(self, event: AgentEvent) -> None:
        if event.seq == self._seq and self.driver is not None:
            self.driver.submit("and another thing")


def breaking(seq: int, error: BaseException) -> Callable[[], Sequence[Any]]:
    """Make observers of which one breaks the run."""
    return lambda: [Registration(BreakAt(seq, error), policy=FailurePolicy.FAIL_FAST)]


def refusing(driver: DriverBase, steps: list[Step]) -> bool:
    """Deny everything, give no credential."""
    match steps[-1]:
        case ApprovalRequest() as asked:
            asked.deny("not on Fridays", by="ann")
        case AuthRequest() as asked:
            asked.cancel()
        case _:
            return agreeable(driver, steps)
    return True


def _edit(driver: DriverBase, steps: list[Step]) -> bool:
    match steps[-1]:
        case ApprovalRequest() as asked:
            asked.approve(edited_input={"what": "less"})
            return True
        case _:
            return agreeable(driver, steps)


def _leave_blocked(driver: DriverBase, steps: list[Step]) -> bool:
    del driver
    return not isinstance(steps[-1], (ApprovalRequest, AuthRequest))


def _cancel_blocked(driver: DriverBase, steps: list[Step]) -> bool:
    if isinstance(steps[-1], (ApprovalRequest, AuthRequest, AfterToolResult)):
        driver.cancel("changed my mind", by="ann")
    return True


def _approve_then_cancel(driver: DriverBase, steps: list[Step]) -> bool:
    asked = steps[-1]
    if isinstance(asked, ApprovalRequest):
        asked.approve()
        driver.cancel("but that call first")
    return True


def _approve_then_leave(driver: DriverBase, steps: list[Step]) -> bool:
    agreeable(driver, steps)
    return not isinstance(steps[-1], ApprovalRequest)


def _interject(driver: DriverBase, steps: list[Step]) -> bool:
    step = steps[-1]
    if isinstance(step, AfterToolResult) and len(steps) < 3:
        step.submit("and quickly")
    return agreeable(driver, steps)


def _change_tools(driver: DriverBase, steps: list[Step]) -> bool:
    if isinstance(steps[-1], AfterToolResult):
        driver.set_tools([each for each in World().tools() if each.name != "login"])
    return agreeable(driver, steps)


def said(*calls: ScriptedCall, text: str = "I work. ", **fields: Any) -> Reply:
    """Make a reply with usage."""
    return Reply(text=text, calls=calls, usage=USAGE, chunk_chars=4, **fields)


CALLS = said(call("work"), call("look"), call("work", fails=True), reasoning="hm", signature="sig")
MIXED = said(call("work"), call("gated", what="all"), call("missing"), call("work", fails=3), call("look"))
DONE = said(text="All done.")
PENDING = said(call("gated", what="one"), call("look"), call("gated", what="two"), call("login"))
OVERLOADED = Reply(text="I star", chunk_chars=3, usage=USAGE, fail=ScriptedFailure(after_chunks=1))
REFUSED = Reply(fail=ScriptedFailure(error_class="invalid_request"))
EXCEEDED = Reply(fail=ScriptedFailure(error_class="context_exceeded"))
SHORTENING = {"compaction": Compaction(strategy=SummariseOlder(keep_items=2))}
SUMMING = {"compaction": Compaction(strategy=SummariseOlder(keep_items=3), max_items=5)}

SCENARIOS: dict[str, Scenario] = {
    "plain": Scenario([said(text="one"), said(text="two")], ("first", "second")),
    "nothing": Scenario([], ()),
    "tools": Scenario([CALLS, MIXED, DONE]),
    "tools at once": Scenario([CALLS, MIXED, DONE], options={"max_parallel_tools": 8}),
    "same ids": Scenario(
        [said(call("work", "same"), call("look", "same")), said(call("work", "same")), DONE]
    ),
    "retries": Scenario([Reply(fail=ScriptedFailure()), DONE, OVERLOADED, DONE], ("a", "b")),
    "cut stream": Scenario([Reply(text="I st", ends=False, usage=USAGE), CALLS, DONE]),
    "failed": Scenario([said(text="one"), OVERLOADED, OVERLOADED], ("a", "b"), then=Scenario([DONE], ())),
    "refused": Scenario([CALLS, REFUSED], then=Scenario([REFUSED], (), then=Scenario([DONE], ()))),
    "max_tokens": Scenario(
        [said(call("work"), ScriptedCall(name="work", cut='{"a'), finish_reason="max_tokens"), DONE],
        ("a", "b"),
    ),
    "pause_turn": Scenario([said(finish_reason="pause_turn"), said(text="x", finish_reason="refusal")]),
    "approved": Scenario([PENDING, said(call("gated")), DONE]),
    "denied": Scenario([PENDING, DONE], host=refusing),
    "edited": Scenario([PENDING, DONE], host=_edit),
    "policy": Scenario([PENDING, DONE], options={"approve": lambda step: step.call.input != {"what": "two"}}),
    "pending": Scenario([PENDING], host=_leave_blocked, then=Scenario([DONE], ())),
    "pending twice": Scenario(
        [PENDING],
        host=_leave_blocked,
        then=Scenario([], (), _approve_then_leave, then=Scenario([DONE], ())),
    ),
    "cancelled while blocked": Scenario([PENDING, DONE], ("a", "b"), host=_cancel_blocked),
    "approved, then cancelled": Scenario([said(call("gated")), DONE], ("a", "b"), _approve_then_cancel),
    "cancelled after results": Scenario([CALLS, DONE], ("a", "b"), host=_cancel_blocked),
    "interjected": Scenario([CALLS, CALLS, DONE], host=_interject),
    "interjected anywhere": Scenario([CALLS, DONE, DONE], observers=lambda: [SubmitAt(9), SubmitAt(31)]),
    "other tools": Scenario([CALLS, CALLS, DONE], host=_change_tools),
    "turn limit": Scenario(
        [CALLS, CALLS, DONE], ("a", "b"), options={"limits": Limits(max_turns=1, max_tokens=1_000)}
    ),
    "token limit": Scenario([CALLS, CALLS, DONE], options={"limits": Limits(max_tokens=28)}),
    "compacted": Scenario(
        [CALLS, DONE, said(text="summary"), CALLS, said(text="more"), DONE], ("a", "b"), options=SUMMING
    ),
    "not compacted": Scenario([CALLS, DONE, OVERLOADED, OVERLOADED, DONE], ("a", "b"), options=SUMMING),
    "context exceeded": Scenario(
        [CALLS, DONE, EXCEEDED, said(text="summary"), DONE], ("a", "b"), options=SHORTENING
    ),
    "broken early": Scenario([CALLS, DONE], observers=breaking(9, ValueError("broken"))),
    "broken late": Scenario([CALLS, DONE], observers=breaking(30, ValueError("broken"))),
    "interrupted": Scenario([CALLS, DONE], observers=breaking(10, KeyboardInterrupt())),
    "interrupted in a round": Scenario([CALLS, DONE], observers=breaking(33, KeyboardInterrupt())),
    **{
        f"cancelled at {seq}": Scenario([CALLS, DONE], ("a", "b"), observers=lambda seq=seq: [CancelAt(seq)])  # type: ignore[misc] # a default binds the number
        for seq in (2, 3, 4, 6, 11, 14, 20, 25, 26, 27, 28, 30, 33, 35)
    },
}


def run(scenario: Scenario, world: World | None = None) -> World:
    """Play a scenario on this thread; return what came of it."""
    world = world or World()
    observers = list(scenario.observers())
    agent = world.agent([*scenario.replies], *observers, **scenario.options)
    driver = (
        agent.resume(list(world.events), trust_approvals=True)
        if world.events
        else agent.start(session_id="session")
    )
    for each in observers:
        if isinstance(each, CancelAt):
            each.driver = driver
    try:
        with driver:
            drive(driver, scenario.host, *scenario.prompts)
    except (AgentKitError, KeyboardInterrupt):
        pass
    return world if scenario.then is None else run(scenario.then, world)


def recorded(name: str) -> list[AgentEvent]:
    """Return the events of a scenario, after a trip through the log."""
    return [decode_event(encode_event(event)) for event in run(SCENARIOS[name]).events]


def until(events: Sequence[AgentEvent], kind: type[AgentEvent], number: int = 1) -> list[AgentEvent]:
    """Return the events up to the nth of a class."""
    places = [place for place, event in enumerate(events, 1) if isinstance(event, kind)]
    return list(events[: places[number - 1]])
