"""Agent: the configuration of a loop, and the short ways to run it."""

from __future__ import annotations

import collections
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from agentkit_loop.children import agent_tool
from agentkit_loop.clock import Clock
from agentkit_loop.content import AnyPart, Item
from agentkit_loop.driver import LoopDriver
from agentkit_loop.driver_settings import DriverSettings, Resumed
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import AgentEvent
from agentkit_loop.limits import Limits
from agentkit_loop.models.protocol import Model
from agentkit_loop.observers import FailurePolicy, Observer, Registration
from agentkit_loop.permissions import Approver, Policy, checked_approver, checked_policy_object
from agentkit_loop.pricing import Pricing
from agentkit_loop.resuming import History, awaits_answer, forked_items, read_history
from agentkit_loop.retry import Retry
from agentkit_loop.settings import LoopSettings
from agentkit_loop.shell import BLOCKING
from agentkit_loop.state import FORKED_FROM
from agentkit_loop.steps import AwaitingInput, Finished, RunResult
from agentkit_loop.tools import MAX_OUTPUT_CHARS, ApprovalRule, Summary, Tool, check_catalog
from agentkit_loop.unpriced import refuse_unpriced
from agentkit_loop.values import JSON, clean_text, to_json

if TYPE_CHECKING:
    from agentkit_loop.aio import AsyncLoopDriver
    from agentkit_loop.compaction import Compaction


_STOPPING = (Finished, AwaitingInput, *BLOCKING)
"""Steps at which a stream of events ends."""


class Agent:
    """A model, its tools and its observers.

    model: anything with `name`, `stream` and `astream`. tools: functions or Tools. system: the system prompt.
    observers: told every event, in this order; closed by `agent.close()`, `await agent.aclose()`, or by leaving `with
    Agent(…)` or `async with Agent(…)`. failure_policy: what follows when an observer raises. retry: how failed
    requests are made again. max_parallel_tools: tool bodies at once. parameters: further request parameters, handed
    to the model. prices: what requests cost, as a PriceBook or anything with a `cost` method; left out, the model's
    own `prices`, where it has some (AnthropicModel has a PriceBook); None tells no costs. approve: asked about each
    call that needs approval, sync or async. permissions: which calls run, are asked about, or are denied. limits:
    what a session may use. compaction: when and how its transcript is shortened. clock: for tests.
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
        approve: Approver | None = None,
        permissions: Policy | None = None,
        limits: Limits | None = None,
        compaction: Compaction | None = None,
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
        self._approve = checked_approver(approve)
        self._policy = checked_policy_object(permissions)
        if not _is_a(limits, Limits | None) or not _is_compaction(compaction):
            raise ConfigurationError(
                f"limits={limits!r} or compaction={compaction!r} refused; give Limits(…) and Compaction(…)"
            )
        self._limits, self._compaction = limits, compaction
        self._clock = clock or Clock()
        self._closed = False
        EventEmitter(self.observers, policy=failure_policy)  # refuses what cannot observe, before a run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Do what `close` does, and hold up no task of the running event loop with it."""
        self._closed = True  # before another task gets its turn
        from agentkit_loop.scope_telling import beside_the_loop  # noqa: PLC0415 - for async hosts only

        await beside_the_loop(self.close)

    def close(self) -> None:
        """Flush and close the observers that were given to this agent; it starts no further run.

        What an adapter still holds is waited for: the flushes at most 5 s, the closes as long again.
        """
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

        items: a transcript to begin with, which is not input. metadata: the host's own, told once; a `traceparent`
        among them is the parent of the run's span (trace_context.py says what is, where there is none).
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

    def resume(
        self,
        events: Iterable[AgentEvent],
        *,
        session_id: str | None = None,
        replay_to: Iterable[Observer] = (),
        trust_approvals: bool = False,
        force: bool = False,
        metadata: Mapping[str, object] | None = None,
    ) -> LoopDriver:
        """Go on with a session from its events, such as `read_events(…)` of its log; return the driver.

        What a crash left open is closed first, under the old run's id; calls of tools that are idempotent run
        again, approvals and requests for credentials are pending again. session_id: which session, where the
        events hold several. replay_to: observers that have not seen the past and are told it. trust_approvals:
        run what was approved and not started without asking again; a log is an input that someone may have
        edited. force: see `read_history`. Raises ResumeError for events that do not fit together.
        """
        history = self._history(events, session_id, replay_to, force=force)
        resumed = _resumed(history, trust_approvals=trust_approvals)
        return LoopDriver(self._settings(metadata), resumed=resumed)

    def aresume(
        self,
        events: Iterable[AgentEvent],
        *,
        session_id: str | None = None,
        replay_to: Iterable[Observer] = (),
        trust_approvals: bool = False,
        force: bool = False,
        metadata: Mapping[str, object] | None = None,
    ) -> AsyncLoopDriver:
        """Go on with a session on the running event loop; see `resume`."""
        from agentkit_loop.aio import AsyncLoopDriver  # noqa: PLC0415 - brings asyncio, for async runs only

        history = self._history(events, session_id, replay_to, force=force)
        resumed = _resumed(history, trust_approvals=trust_approvals)
        return AsyncLoopDriver(self._settings(metadata), resumed=resumed)

    def fork(
        self,
        events: Iterable[AgentEvent],
        *,
        at: int | None = None,
        source_session_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> LoopDriver:
        """Start a new session with the transcript of another one; return its driver.

        at: the last event that counts, by its `seq`; left out, all. source_session_id: which session, where the
        events hold several. session_id: of the new one. Raises ResumeError as `resume` does.
        """
        state = read_history(events, session_id=source_session_id, at=at).state
        origin = {
            FORKED_FROM: {
                "session_id": state.session_id,
                "seq": state.seq,
                "unanswered": awaits_answer(state),
            }
        }
        return self.start(
            session_id=session_id, items=forked_items(state), metadata={**(metadata or {}), **origin}
        )

    def as_tool(
        self,
        *,
        name: str | None = None,
        description: str,
        timeout_s: float | None = None,
        max_output_chars: int = MAX_OUTPUT_CHARS,
        approval: ApprovalRule = False,
        summary: Summary | None = None,
    ) -> Tool[..., Any]:
        """Return a tool that gives a prompt to this agent and answers with its text.

        name: as the model calls it, else the agent's. description: what the agent is good for. The rest: as of
        `tool`. The child has a session of its own whose `parent` names the call; see children.py.
        """
        return agent_tool(
            lambda: self._settings(None),
            name=self.name if name is None else name,
            description=description,
            timeout_s=timeout_s,
            max_output_chars=max_output_chars,
            approval=approval,
            summary=summary,
        )

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
                while not isinstance(step, _STOPPING):
                    yield from _drained(told)
                    step = driver.advance()
        except Exception:
            yield from _drained(told)
            raise  # an interrupt goes straight through: who leaves at one of these events would never see it
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
                while not isinstance(step, _STOPPING):
                    for event in _drained(told):
                        yield event
                    step = await driver.advance()
        except Exception:
            for event in _drained(told):
                yield event
            raise  # an interrupt goes straight through, as above
        for event in _drained(told):
            yield event

    def _history(
        self,
        events: Iterable[AgentEvent],
        session_id: str | None,
        replay_to: Iterable[Observer],
        *,
        force: bool,
    ) -> History:
        observers = tuple(replay_to)
        if not observers:
            return read_history(events, session_id=session_id, force=force)
        past = EventEmitter(observers, policy=self.failure_policy)
        return read_history(events, session_id=session_id, force=force, tell=past.tell_again)

    def driver_settings(self) -> DriverSettings:
        """Return what this agent's drivers are made with; for who drives a session otherwise, as a replay does."""
        return self._settings(None)

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
            policy=self._policy,
            limits=self._limits,
            compaction=self._compaction,
        )
        settings = DriverSettings(
            loop=loop,
            model=self.model,
            observers=self.observers,
            failure_policy=self.failure_policy,
            prices=self._prices,
            clock=self._clock,
            approve=self._approve,
        )
        refuse_unpriced(settings, self._limits)
        return settings


def _resumed(history: History, *, trust_approvals: bool) -> Resumed:
    return Resumed(
        state=history.state,
        trust_approvals=trust_approvals,
        notes=history.notes,
        child_usage=history.child_usage,
    )


def _drained(told: collections.deque[AgentEvent]) -> Iterator[AgentEvent]:
    while told:
        yield told.popleft()


def _is_compaction(value: object) -> bool:
    if value is None:
        return True
    from agentkit_loop.compaction import Compaction  # noqa: PLC0415 - 3 ms; most agents have none

    return _is_a(value, Compaction)


def _is_a(value: object, kind: Any) -> bool:
    """Check what a caller without a type checker may have got wrong."""
    return isinstance(value, kind)
