"""Agent: the configuration of a loop, and the short ways to run it."""

from __future__ import annotations

import collections
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from agentkit_loop.clock import Clock
from agentkit_loop.content import AnyPart, Item
from agentkit_loop.driver import LoopDriver
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import AgentEvent
from agentkit_loop.models.protocol import Model
from agentkit_loop.observers import FailurePolicy, Observer, Registration
from agentkit_loop.pricing import Pricing
from agentkit_loop.retry import Retry
from agentkit_loop.settings import LoopSettings
from agentkit_loop.shell import DriverSettings
from agentkit_loop.steps import AwaitingInput, Finished, RunResult
from agentkit_loop.tools import Tool, check_catalog
from agentkit_loop.values import JSON, clean_text, to_json

if TYPE_CHECKING:
    from agentkit_loop.aio import AsyncLoopDriver


class Agent:
    """A model, its tools and its observers.

    model: anything with `name`, `stream` and `astream`. tools: functions or Tools. system: the system
    prompt. observers: told every event, in this order; closed by `agent.close()` or by leaving
    `with Agent(…)`. failure_policy: what follows when an observer raises. retry: how failed requests are
    made again. max_parallel_tools: tool bodies at once. parameters: further request parameters, handed to
    the model. prices: what requests cost, as a PriceBook or anything with a `cost` method; left out, the
    model's own `prices`, where it has some (AnthropicModel has a PriceBook); None tells no costs. clock: for
    tests.
    Raises ConfigurationError for what cannot work.
    """

    def __init__(
        self,
        model: Model,
        *,
        tools: Iterable[object] = (),
        system: str | None = None,
        name: str = "agent",
        observers: Iterable[Observer | Registration] = (),
        failure_policy: FailurePolicy = FailurePolicy.LOG,
        retry: Retry | None = None,
        max_parallel_tools: int = 8,
        parameters: Mapping[str, JSON] | None = None,
        prices: Pricing | Literal["model"] | None = "model",
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(model, Model):
            raise ConfigurationError(
                f"{model!r} is not a model; give AnthropicModel(…), ScriptedModel(…) or an object with "
                "name, stream and astream"
            )
        if not _is_a(max_parallel_tools, int) or max_parallel_tools < 1:
            raise ConfigurationError(
                f"max_parallel_tools={max_parallel_tools!r} must be a number of at least 1"
            )
        if not _is_a(retry, Retry | None):
            raise ConfigurationError(f"retry={retry!r} refused; give Retry(max_attempts=…)")
        if not _is_a(system, str | None) or not _is_a(name, str):
            raise ConfigurationError(f"system={system!r} and name={name!r} must be text")
        if prices == "model":
            prices = getattr(model, "prices", None)
        elif prices is not None and not callable(getattr(prices, "cost", None)):
            raise ConfigurationError(f"prices={prices!r} refused; give PriceBook(), PriceTable(…) or None")
        for given, word in ((tools, "tools"), (observers, "observers")):
            if not _is_a(given, Iterable) or _is_a(given, str):
                raise ConfigurationError(f"{word}={given!r} refused; give a list of them")
        self.model = model
        self.name = clean_text(name)
        self.system = None if system is None else clean_text(system)
        self.tools: dict[str, Tool[..., Any]] = check_catalog(tools)
        self.observers = tuple(observers)
        self.failure_policy = failure_policy
        self._retry = retry or Retry()
        self._max_parallel_tools = max_parallel_tools
        self._parameters: dict[str, JSON] = to_json(dict(parameters or {}))
        self._prices = prices
        self._clock = clock or Clock()
        self._closed = False
        EventEmitter(self.observers, policy=failure_policy)  # refuses what cannot observe, before a run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close the observers that were given to this agent; it starts no further run."""
        self._closed = True
        EventEmitter(self.observers, policy=self.failure_policy).close()

    def start(
        self,
        *content: str | AnyPart | Item,
        session_id: str | None = None,
        items: Iterable[Item] = (),
        metadata: Mapping[str, object] | None = None,
    ) -> LoopDriver:
        """Start a run and return its driver; RunStarted is told, and InputAccepted where content is given.

        items: a transcript to begin with, which is not input. metadata: the host's own, told once.
        """
        driver = LoopDriver(self._settings(metadata), session_id=session_id, items=items)
        if content:
            driver.submit(*content)
        return driver

    def astart(
        self,
        *content: str | AnyPart | Item,
        session_id: str | None = None,
        items: Iterable[Item] = (),
        metadata: Mapping[str, object] | None = None,
    ) -> AsyncLoopDriver:
        """Start a run on the running event loop; see `start`."""
        from agentkit_loop.aio import AsyncLoopDriver  # noqa: PLC0415 - brings asyncio, for async runs only

        driver = AsyncLoopDriver(self._settings(metadata), session_id=session_id, items=items)
        if content:
            driver.submit(*content)
        return driver

    def run(self, *content: str | AnyPart | Item, metadata: Mapping[str, object] | None = None) -> RunResult:
        """Run one exchange in a session of its own. Raises ModelError, ObserverError."""
        with self.start(metadata=metadata) as driver:
            return driver.run(*content)

    async def arun(
        self, *content: str | AnyPart | Item, metadata: Mapping[str, object] | None = None
    ) -> RunResult:
        """Run one exchange in a session of its own, on the running event loop."""
        async with self.astart(metadata=metadata) as driver:
            return await driver.run(*content)

    def stream(
        self, *content: str | AnyPart | Item, metadata: Mapping[str, object] | None = None
    ) -> Iterator[AgentEvent]:
        """Run one exchange and yield its events as they are told; leaving early cancels the run."""
        told: collections.deque[AgentEvent] = collections.deque()
        driver = LoopDriver(self._settings(metadata), tap=told.append)
        try:
            with driver:
                driver.submit(*content)
                step = None
                while not isinstance(step, (Finished, AwaitingInput)):
                    yield from _drained(told)
                    step = driver.advance()
        except GeneratorExit:
            raise
        except BaseException:
            yield from _drained(told)
            raise
        yield from _drained(told)

    async def astream(
        self, *content: str | AnyPart | Item, metadata: Mapping[str, object] | None = None
    ) -> AsyncIterator[AgentEvent]:
        """Run one exchange and yield its events as they are told; leaving early cancels the run."""
        from agentkit_loop.aio import AsyncLoopDriver  # noqa: PLC0415 - brings asyncio, for async runs only

        told: collections.deque[AgentEvent] = collections.deque()
        driver = AsyncLoopDriver(self._settings(metadata), tap=told.append)
        try:
            async with driver:
                driver.submit(*content)
                step = None
                while not isinstance(step, (Finished, AwaitingInput)):
                    for event in _drained(told):
                        yield event
                    step = await driver.advance()
        except GeneratorExit:
            raise
        except BaseException:
            for event in _drained(told):
                yield event
            raise
        for event in _drained(told):
            yield event

    def _settings(self, metadata: Mapping[str, object] | None) -> DriverSettings:
        if self._closed:
            raise IllegalMoveError("start", "the agent is closed", "make a new one, or close it later")
        loop = LoopSettings(
            agent_name=self.name,
            model=clean_text(self.model.name),
            system=self.system,
            tools=self.tools,
            parameters=self._parameters,
            model_parameters=to_json(dict(getattr(self.model, "parameters", None) or {})),
            retry=self._retry,
            max_parallel_tools=self._max_parallel_tools,
            metadata=to_json(dict(metadata or {})),
        )
        return DriverSettings(
            loop=loop,
            model=self.model,
            observers=self.observers,
            failure_policy=self.failure_policy,
            prices=self._prices,
            clock=self._clock,
        )


def _drained(told: collections.deque[AgentEvent]) -> Iterator[AgentEvent]:
    while told:
        yield told.popleft()


def _is_a(value: object, kind: Any) -> bool:
    """Check what a caller without a type checker may have got wrong."""
    return isinstance(value, kind)
