"""Random scripts for the loop, and one way to run them with either driver."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import CustomPart, Item
from agentkit_loop.errors import ModelError, ObserverError
from agentkit_loop.events import (
    AgentEvent,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.observers import FailurePolicy, LoopObserver, Registration
from agentkit_loop.retry import Retry
from agentkit_loop.shell import DriverBase
from agentkit_loop.steps import AfterToolResult
from agentkit_loop.testing import (
    EventRecorder,
    Reply,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    ScriptedTool,
    VirtualClock,
)
from agentkit_loop.usage import Usage

texts = st.text(alphabet='ab é\n\u2028\u0085{"', max_size=30)
counts = st.none() | st.integers(0, 10_000)
usages = st.none() | st.builds(
    Usage,
    input_tokens=counts,
    cached_input_tokens=counts,
    output_tokens=counts,
    reasoning_tokens=counts,
)
calls = st.builds(
    ScriptedCall,
    name=st.sampled_from(["work", "work", "work", "add", "missing"]),
    input=st.sampled_from(
        [{}, {"note": "x"}, {"a": 1, "b": 2}, {"a": "one"}, {"note": {"$ref": [1.5, None]}}]
    ),
    id=st.sampled_from(["", "", "", "same", "other"]),
    cut=st.sampled_from([None, None, None, None, '{"a": 1']),
)


def _one_real(asked: list[ScriptedCall]) -> tuple[ScriptedCall, ...]:
    """Leave at most one call whose body really runs on a thread: which of two ends first nobody knows."""
    real = [
        call for call in asked if call.name == "add" and call.cut is None and call.input == {"a": 1, "b": 2}
    ]
    return tuple(call for call in asked if call not in real or call is real[0])


failures = st.builds(
    ScriptedFailure,
    error_class=st.sampled_from(
        ["overloaded", "rate_limited", "stream_cut", "server", "other", "invalid_request"]
    ),
    after_chunks=st.none() | st.integers(0, 3),
    retry_after_ms=st.none() | st.integers(0, 5_000).map(float),
)
replies = st.builds(
    Reply,
    text=texts,
    reasoning=st.just("") | texts,
    signature=st.none() | st.just("sig"),
    calls=st.lists(calls, max_size=4).map(_one_real),
    parts=st.sampled_from([(), (CustomPart(provider="anthropic", value={"type": "server_tool_use"}),)]),
    finish_reason=st.sampled_from(
        [None, None, None, None, "max_tokens", "refusal", "pause_turn", "stop_sequence", "some_new_word"]
    ),
    usage=usages,
    chunk_chars=st.integers(1, 12),
    delay_s=st.sampled_from([0.0, 0.25]),
    fail=st.sampled_from([None, None, None]) | failures,
    ends=st.sampled_from([True, True, True, True, False]),
)


@attrs.frozen(kw_only=True)
class Script:
    """What happens in a run.

    prompts: one exchange each. replies: the model's. order: in which calls of a round end, as sort keys.
    interject: after which rounds input is submitted.
    """

    prompts: Sequence[Sequence[str]]
    replies: Sequence[Reply]
    order: Sequence[int]
    failing: Sequence[bool]
    interject: frozenset[int]
    parallel: int
    asynchronous: bool
    leave_at: int | None
    breaks: tuple[str, int] | None = None


BREAKS = ("fail_fast", "interrupt", "exit")

scripts = st.builds(
    Script,
    prompts=st.lists(st.lists(texts, min_size=1, max_size=2), min_size=1, max_size=3),
    replies=st.lists(replies, min_size=1, max_size=8),
    order=st.lists(st.integers(0, 9), min_size=4, max_size=4),
    failing=st.lists(st.booleans(), min_size=4, max_size=4),
    interject=st.frozensets(st.integers(0, 3), max_size=2),
    parallel=st.integers(1, 4),
    asynchronous=st.booleans(),
    leave_at=st.none() | st.integers(0, 6),
    breaks=st.none() | st.none() | st.tuples(st.sampled_from(BREAKS), st.integers(1, 60)),
)


def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


class Release(LoopObserver):
    """Ends scripted calls in the script's order, one after the other's result is told."""

    wants = (ToolCallRequested, ToolExecutionStarted, ToolResultReceived)

    def __init__(self, tool: ScriptedTool, script: Script) -> None:
        self._tool = tool
        self._script = script
        self._running: list[tuple[int, str]] = []
        self._real: set[str] = set()  # calls whose bodies end by themselves, at a time of their own
        self._number = 0
        self._released: str | None = None
        self._requested = 0
        self._done = 0

    def handle_event(self, event: AgentEvent) -> None:
        match event:
            case ToolCallRequested():
                self._requested += 1
            case ToolExecutionStarted(name="work"):
                rank = self._script.order[self._number % 4]
                self._number += 1
                self._running.append((rank, event.call_id))
                self._running.sort()
            case ToolExecutionStarted():
                self._real.add(event.call_id)
            case ToolResultReceived():
                self._done += 1
                self._real.discard(event.call_id)
                if event.call_id == self._released:
                    self._released = None
            case _:
                pass

    def release_next(self) -> None:
        """End the next call, if none is on its way; called when the driver has started what it could."""
        if self._released is None and self._running and not self._real:
            rank, call_id = self._running.pop(0)
            self._released = call_id
            if self._script.failing[rank % 4]:
                self._tool.fail(call_id, ValueError(f"no luck with {rank}"))
            else:
                self._tool.release(call_id, {"rank": rank})


class Breaker(LoopObserver):
    """Raises on the event of a given number, as an observer under FAIL_FAST or as an interrupt does."""

    def __init__(self, kind: str, seq: int) -> None:
        self._kind = kind
        self._seq = seq

    def handle_event(self, event: AgentEvent) -> None:
        if event.seq != self._seq:
            return
        if self._kind == "interrupt":
            raise KeyboardInterrupt
        if self._kind == "exit":
            raise SystemExit(3)
        raise ValueError("broken on purpose")


class SteppedClock(VirtualClock):
    """A virtual clock that lets the next scripted call end whenever the driver waits."""

    def __init__(self) -> None:
        super().__init__()
        self.release: Release | None = None

    def wait(self, inbox: Any, seconds: float | None, *, busy: bool) -> Any:
        if busy and self.release is not None:
            self.release.release_next()
        return super().wait(inbox, seconds, busy=busy)

    async def await_change(self, changed: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        if busy and self.release is not None:
            self.release.release_next()
        await super().await_change(changed, seconds, busy=busy)


@attrs.frozen
class Outcome:
    """What a run of a script told, and how its transcript looked whenever the driver yielded."""

    events: list[AgentEvent]
    items: list[Item]
    views: list[list[Item]]
    error: type[BaseException] | None


class HostGoneError(Exception):
    """The host's own exception, leaving the `with`."""


def raise_or_leave(script: Script) -> None:
    if script.leave_at is not None and script.leave_at % 2:
        raise HostGoneError


def make_agent(script: Script, *extra: Any) -> tuple[Agent, EventRecorder, ScriptedTool]:
    clock = SteppedClock()
    tool = ScriptedTool(asynchronous=script.asynchronous)
    clock.release = Release(tool, script)
    recorder = EventRecorder()
    left = iter(script.replies)
    model = ScriptedModel(lambda _: next(left, Reply(text="that is all")), clock=clock)
    breaker = (
        []
        if script.breaks is None
        else [Registration(Breaker(*script.breaks), policy=FailurePolicy.FAIL_FAST)]
    )
    agent = Agent(
        model,
        tools=[tool.tool, add],
        observers=[*breaker, clock.release, *extra, recorder],
        retry=Retry(max_attempts=3, base_ms=10),
        max_parallel_tools=script.parallel,
        clock=clock,
        name="scripted",
    )
    return agent, recorder, tool


def attach(driver: DriverBase, observers: Sequence[Any]) -> None:
    for observer in observers:
        if hasattr(observer, "attach"):
            observer.attach(driver)


EXPECTED = (ModelError, ObserverError, HostGoneError, KeyboardInterrupt, SystemExit)


def run_sync(script: Script, *extra: Any) -> Outcome:
    """Run a script with the synchronous driver."""
    agent, recorder, tool = make_agent(script, *extra)
    views: list[list[Item]] = []
    items: list[Item] = []
    error: type[BaseException] | None = None
    try:
        driver = agent.start(session_id="session", metadata={"script": True})
        attach(driver, extra)
        items = driver.transcript.items
        with driver:
            rounds = 0
            for prompt in script.prompts:
                driver.submit(*prompt)
                for step in driver:
                    views.append(list(driver.transcript.items))
                    if script.leave_at is not None and len(views) > script.leave_at:
                        raise_or_leave(script)
                        driver.close()
                        break
                    if isinstance(step, AfterToolResult):
                        if rounds in script.interject:
                            step.submit("and another thing")
                        rounds += 1
                if driver.is_closed:
                    break
    except EXPECTED as caught:
        error = type(caught)
    tool.release_all()
    return Outcome(recorder.events, items, views, error)


def run_async(script: Script, *extra: Any) -> Outcome:
    """Run a script with the asynchronous driver."""
    agent, recorder, tool = make_agent(script, *extra)
    views: list[list[Item]] = []
    items: list[Item] = []

    async def main() -> type[BaseException] | None:
        nonlocal items
        try:
            driver = agent.astart(session_id="session", metadata={"script": True})
            attach(driver, extra)
            items = driver.transcript.items
            async with driver:
                rounds = 0
                for prompt in script.prompts:
                    driver.submit(*prompt)
                    async for step in driver:
                        views.append(list(driver.transcript.items))
                        if script.leave_at is not None and len(views) > script.leave_at:
                            raise_or_leave(script)
                            await driver.close()
                            break
                        if isinstance(step, AfterToolResult):
                            if rounds in script.interject:
                                step.submit("and another thing")
                            rounds += 1
                    if driver.is_closed:
                        break
        except EXPECTED as caught:
            return type(caught)
        return None

    error = asyncio.run(main())
    tool.release_all()
    return Outcome(recorder.events, items, views, error)


def comparable(events: Sequence[AgentEvent]) -> list[dict[str, Any]]:
    """Return the events without what may differ from run to run: the run's id and observers' times."""
    result = []
    for event in events:
        fields = attrs.asdict(event, recurse=False)
        del fields["run_id"]
        if fields.get("error") is not None:  # where the drivers' own frames are
            fields["error"] = msgspec.structs.replace(fields["error"], frames=())
        if "observers" in fields:
            fields["observers"] = [(s.name, s.handled, s.failed) for s in fields["observers"]]
        result.append({"type": event.type, **msgspec.to_builtins(fields)})
    return result
