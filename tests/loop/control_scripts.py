"""Random sessions for both drivers: what the host answers at each step, and how each of its processes ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import msgspec
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import Item
from agentkit_loop.errors import AgentKitError
from agentkit_loop.events import AgentEvent
from agentkit_loop.state import LoopState
from agentkit_loop.steps import AfterToolResult, ApprovalRequest, AuthRequest, Step
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.usage import Usage
from tests.loop.crash_runs import CancelAt, World

ACTIONS = ("agree", "agree", "agree", "edit", "refuse", "cancel", "leave", "submit", "tools")

_calls = st.builds(
    ScriptedCall,
    name=st.sampled_from(["work", "look", "gated", "login", "missing"]),
    input=st.sampled_from([{}, {}, {"what": "x"}]),
    id=st.sampled_from(["", "same"]),
)
_failures = st.builds(
    ScriptedFailure,
    error_class=st.sampled_from(["overloaded", "stream_cut", "context_exceeded", "invalid_request"]),
    after_chunks=st.none() | st.integers(0, 3),
)
_replies = st.builds(
    Reply,
    text=st.sampled_from(["", "I look. ", "Done."]),
    reasoning=st.sampled_from(["", "hm"]),
    calls=st.lists(_calls, max_size=4).map(tuple),
    finish_reason=st.sampled_from([None, None, None, None, "max_tokens", "pause_turn"]),
    usage=st.sampled_from([None, Usage(input_tokens=9, output_tokens=1)]),
    chunk_chars=st.just(5),
    fail=st.sampled_from([None, None, None]) | _failures,
)


@attrs.frozen(kw_only=True)
class Life:
    """One process. actions: at its steps, over and over. cut: the share of its events that reached the log; None
    where it closes its run. cancel_at: by an observer, so many events after its first."""

    replies: Sequence[Reply]
    actions: Sequence[str]
    prompts: int
    cut: float | None
    cancel_at: int | None
    trust_approvals: bool


lives = st.builds(
    Life,
    replies=st.lists(_replies, min_size=1, max_size=5),
    actions=st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=6),
    prompts=st.integers(0, 2),
    cut=st.none() | st.floats(0, 1),
    cancel_at=st.none() | st.none() | st.integers(1, 40),
    trust_approvals=st.booleans(),
)


def without_races(life: Life) -> Life:
    """Leave out what two runs may tell in two orders: a cancel from inside, an answer while a sibling's body runs."""
    replies = []
    for reply in life.replies:
        asking = [call for call in reply.calls if call.name in {"gated", "login"}]
        replies.append(msgspec.structs.replace(reply, calls=tuple(asking[:1]) or reply.calls))
    return attrs.evolve(life, replies=replies, cancel_at=None)


class LeftError(Exception):
    """The host leaves in the middle."""


def _answer(driver: Any, step: Step, action: str) -> None:
    """Do what the action is at this step; what does not fit it is agreement."""
    match step, action:
        case _, "cancel":
            driver.cancel("enough")
        case _, "leave":
            raise LeftError
        case AfterToolResult(), "submit":
            driver.submit("and quickly")
        case AfterToolResult(), "tools":
            driver.set_tools(World().tools()[:3])
        case ApprovalRequest(), "refuse":
            step.deny("no")
        case ApprovalRequest(call=call), "edit" if call.name == "gated":
            step.approve(edited_input={"what": "less"})
        case ApprovalRequest(), _:
            step.approve()
        case AuthRequest(), "refuse":
            step.cancel()
        case AuthRequest(), _:
            step.resolve("swordfish-1234")
        case _:
            pass


def _prompts(life: Life, *, begun: bool) -> Iterator[str | None]:
    if begun:
        yield None
    yield from ["go"] * max(life.prompts, not begun)


def _agent(life: Life, world: World) -> tuple[Agent, CancelAt]:
    left = iter(life.replies)
    seq = 0 if life.cancel_at is None else len(world.events) + life.cancel_at
    canceller = CancelAt(seq)
    return world.agent(lambda _: next(left, "That is all."), canceller), canceller


def live(life: Life, world: World, *, asynchronous: bool) -> tuple[list[Item], LoopState]:
    """Live once, on a thread or an event loop; return the driver's transcript and state at its end."""
    agent, canceller = _agent(life, world)
    past, actions = list(world.events), itertools.cycle(life.actions)
    drivers: list[Any] = []

    def attach(driver: Any) -> Any:
        canceller.driver = driver
        drivers.append(driver)
        return driver

    def on_thread() -> None:
        begun = (
            agent.resume(past, trust_approvals=life.trust_approvals)
            if past
            else agent.start(session_id="session")
        )
        with attach(begun) as driver:
            for prompt in _prompts(life, begun=bool(past)):
                if prompt is not None:
                    driver.submit(prompt)
                for step in driver:
                    _answer(driver, step, next(actions))

    async def on_loop() -> None:
        begun = (
            agent.aresume(past, trust_approvals=life.trust_approvals)
            if past
            else agent.astart(session_id="session")
        )
        async with attach(begun) as driver:
            for prompt in _prompts(life, begun=bool(past)):
                if prompt is not None:
                    driver.submit(prompt)
                async for step in driver:
                    _answer(driver, step, next(actions))

    with contextlib.suppress(AgentKitError, LeftError):
        if asynchronous:
            asyncio.run(on_loop())
        else:
            on_thread()
    driver = drivers[0]
    return driver.transcript.items, driver.state


def cut(events: Sequence[AgentEvent], before: int, share: float) -> list[AgentEvent]:
    """Return what reached the log: the past, and a share of what was told since."""
    return list(events[: max(1, before + round(share * (len(events) - before)))])
