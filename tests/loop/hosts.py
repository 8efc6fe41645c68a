"""One way to be the host of either driver, step by step, and clocks and tools for control points."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.aio import AsyncLoopDriver
from agentkit_loop.content import AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.driver import LoopDriver
from agentkit_loop.events import AgentEvent
from agentkit_loop.models.protocol import Answer, ModelRequest
from agentkit_loop.steps import Finished, RunResult, Step
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel, VirtualClock
from agentkit_reporting.transcript import TranscriptReporter
from tests.rules import faults


class HurriedClock(VirtualClock):
    """A virtual clock on which nobody waits for a tool: a wait that has an end is over at once."""

    def wait(self, inbox: queue.SimpleQueue[Any], seconds: float | None, *, busy: bool) -> Any | None:
        return super().wait(inbox, seconds, busy=busy and seconds is None)

    async def await_change(self, changed: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        await super().await_change(changed, seconds, busy=busy and seconds is None)


class ActingModel:
    """A model whose replies are signals, and functions that are called where they stand among them."""

    name = "acting"

    def __init__(self, *replies: Sequence[Any]) -> None:
        self._replies = iter(replies)
        self.requests: list[ModelRequest] = []

    def stream(self, request: ModelRequest) -> Iterator[Any]:
        self.requests.append(request)
        for beat in next(self._replies):
            if callable(beat):
                beat()
            else:
                yield beat

    async def astream(self, request: ModelRequest) -> AsyncIterator[Any]:
        self.requests.append(request)
        for beat in next(self._replies):
            if callable(beat):
                waited = beat()
                if waited is not None:
                    await waited
            else:
                yield beat


def said(text: str) -> list[Any]:
    """A whole answer of text."""
    part = TextPart(text=text)
    return [
        BeginPart("0", "text"),
        AppendText("0", text),
        CommitPart("0", part),
        Answer(finish_reason="completed"),
    ]


class Run:
    """An agent on a script, with a recorder, a transcript reporter and a clock that obeys."""

    def __init__(
        self,
        replies: Sequence[Any] | Callable[[ModelRequest], Any],
        *,
        observers: Sequence[Any] = (),
        clock: VirtualClock | None = None,
        model: Any = None,
        **options: Any,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.recorder = EventRecorder()
        self.view = TranscriptReporter()
        self.model: Any = model or ScriptedModel(replies, clock=self.clock)
        self.agent = Agent(
            self.model, observers=[self.view, *observers, self.recorder], clock=self.clock, **options
        )

    def of(self, cls: type[Any]) -> list[Any]:
        return self.recorder.of(cls)

    @property
    def faults(self) -> list[str]:
        """What is wrong with the events, and with the reporter's view of the transcript."""
        return faults(self.recorder.events)

    def told(self, *classes: type[AgentEvent]) -> list[str]:
        """The wire names of the events of some classes, in order."""
        return [event.type for event in self.recorder.events if isinstance(event, classes)]


class Host:
    """A driver of either kind, driven step by step from synchronous code. Everything else is the driver's."""

    def __init__(self, driver: Any, wait: Callable[[Any], Any]) -> None:
        self.driver = driver
        self._wait = wait

    def next(self) -> Step:
        step: Step = self._wait(self.driver.next())
        return step

    def run(self, *content: Any) -> RunResult:
        result: RunResult = self._wait(self.driver.run(*content))
        return result

    def close(self) -> None:
        self._wait(self.driver.close())

    def finish(self) -> RunResult:
        """Go on to the end of the exchange, whatever cooperative steps come."""
        while not isinstance(step := self.next(), Finished):
            assert type(step).__name__ == "AfterToolResult", step
        return step.result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)


def _ready(value: Any) -> Any:
    return value


@contextlib.contextmanager
def sync_host(run: Run, *content: Any, make: Callable[[], LoopDriver] | None = None) -> Iterator[Host]:
    with run.agent.start(*content, session_id="session") if make is None else make() as driver:
        host = Host(driver, _ready)
        yield host
        _compare(run, host)


@contextlib.contextmanager
def async_host(run: Run, *content: Any, make: Callable[[], AsyncLoopDriver] | None = None) -> Iterator[Host]:
    with asyncio.Runner() as runner:

        async def begin() -> AsyncLoopDriver:
            return run.agent.astart(*content, session_id="session") if make is None else make()

        driver = runner.run(begin())
        host = Host(driver, lambda awaitable: runner.run(_awaited(awaitable)))
        try:
            yield host
            _compare(run, host)
        except BaseException as error:
            runner.run(driver.__aexit__(type(error), error, error.__traceback__))
            raise
        runner.run(driver.__aexit__(None, None, None))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _compare(run: Run, host: Host) -> None:
    """The reporter's transcript is the driver's whenever the driver yields."""
    assert run.view.items(host.session_id) == tuple(host.transcript.items)


HOSTS = {"sync": sync_host, "async": async_host}
both = pytest.mark.parametrize("opened", [sync_host, async_host], ids=["sync", "async"])
Opened = Callable[..., contextlib.AbstractContextManager[Host]]


def call(name: str, call_id: str = "", **arguments: Any) -> ScriptedCall:
    return ScriptedCall(name=name, input=arguments, id=call_id)


def asking(*calls: ScriptedCall, text: str = "") -> Reply:
    return Reply(text=text, calls=calls)
