"""EventDispatcher: topics with wildcards, on the emitter's thread or off it; also an observer of loops.

Handlers are called in the order of their registration, each with a copy of the payload of its own. What one raises
reaches neither the others nor the emitter, but `on_error`; KeyboardInterrupt and SystemExit reach the emitter.
"""

from __future__ import annotations

import collections
import functools
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import AgentEvent, ContentDelta, ToolCallRequested
from agentkit_loop.observers import LoopObserver
from agentkit_loop.values import JSON, copy_json
from agentkit_reporting.accounting import Account, account_of
from agentkit_reporting.delivery import ThreadDelivery
from agentkit_reporting.event_queue import DEFAULT_PATIENCE_S, is_on_event_loop
from agentkit_reporting.process_ends import watch
from agentkit_reporting.records.bridges import (
    CompletedRuns,
    event_payload,
    invoked_payload,
    topic_of,
)
from agentkit_reporting.records.courier import Courier, enveloped
from agentkit_reporting.records.patterns import check_topic
from agentkit_reporting.records.subscriptions import (
    DispatchFailure,
    Subscribers,
    Subscription,
    TopicHandler,
)
from agentkit_reporting.records.topics import (
    DELTAS,
    SESSION_COMPLETE,
    TOOL_INVOKED,
    Message,
    checked_payload,
)

H = TypeVar("H", bound=TopicHandler)

DispatchOverflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "error"]
"""What happens to a payload when the queue is full: see `Overflow`."""

_RULES = ("block", "drop_oldest", "drop_newest", "error")


class EventDispatcher(LoopObserver):
    """Gives payloads to the handlers that subscribed to their topic.

    async_dispatch: False calls handlers on the emitter's thread, before `emit` returns. True calls them all on a
    thread of the dispatcher's own, so that none delays the emitter. Async functions run there in both, on an event loop
    of its own, each to its end before the next handler; tasks that one leaves behind end with the dispatcher.
    max_queue, overflow: how many payloads wait for that thread at most, and what happens beyond that; by default the
    oldest is dropped and counted, for "block" see `ChannelReporter`. on_error: called with a DispatchFailure for
    each payload that a handler raised on; None logs it, once for each handler and kind of error. replay: how many
    payloads are kept for late subscribers, of all topics together. stamp: give payloads without a timestamp one;
    otherwise they are refused. clock: for that.

    As an observer (`EventEmitter([dispatcher])`, `Agent(observers=[dispatcher])`) it tells every event as
    `agent.<type>`: `agent.run_started`, `agent.turn_started`, `agent.tool_call_requested`, `agent.run_finished`, …,
    all types of `agentkit_loop.events`. Some it tells a second time, right after that, under an alias:

    - `agent.tool_invoked`, of `agent.tool_call_requested`: a tool and its arguments;
    - `agent.session_complete`, of `agent.run_finished`, `agent.run_failed` and `agent.run_cancelled`: any ending, with
      outcome, cost and duration.

    An alias is a topic as any other: `agent.*` and `**` get it beside the event. Who counts events leaves out those
    whose `payload.alias_of`, also a key of the payload, is not None. bridges.py says what is in them. Of streamed
    deltas only a subscriber to them costs more than a look at a flag, and they are not kept for replay.

    Handlers of this process see payloads as they are, secrets too: nothing is masked here, but in what leaves the
    process (WebhookSink, as in logs).

    A handler that is a sink, an object with `account`, `flush` and `close`, is flushed and closed with the
    dispatcher. Safe for threads; with `async_dispatch=False` handlers run on whatever threads emit, at the same time.
    A forked child begins empty, with the same subscribers. What is held at the interpreter's exit is delivered.
    """

    def __init__(
        self,
        *,
        async_dispatch: bool = False,
        max_queue: int = 10_000,
        overflow: DispatchOverflow = "drop_oldest",
        on_error: Callable[[DispatchFailure], object] | None = None,
        replay: int = 100,
        stamp: bool = False,
        clock: Clock | None = None,
    ) -> None:
        _check(max_queue, overflow, replay)
        self._async = async_dispatch
        self._stamp = (clock or Clock()) if stamp else None
        self._table = Subscribers(replay, on_error)
        self._keeps = replay > 0
        self._runs = CompletedRuns()
        self._courier = Courier(self._table)
        self._delivery = ThreadDelivery(
            self._courier, maxsize=max_queue, overflow=overflow, patience_s=DEFAULT_PATIENCE_S
        )
        self._delivery.queue.name = "the dispatcher's queue"
        self.begin_anew()
        watch(self, at_exit=False)
        weakref.finalize(self, self._delivery.queue.close).atexit = False  # at exit it is flushed, not ended

    def begin_anew(self) -> None:
        """Hold and count nothing: at first, and in a forked child."""
        self._table.begin_anew()
        self._runs.begin_anew()
        self._courier.begin_anew()
        self._nested = threading.local()
        self._told = 0  # messages that the emitter's thread is done with
        self._refused = 0  # after it was closed
        self._is_closed = False

    # --- subscribing

    def subscribe(
        self,
        pattern: str,
        handler: TopicHandler,
        *,
        once: bool = False,
        replay: int = 0,
        observed: bool = True,
    ) -> Subscription:
        """Have a handler called for each payload whose topic a pattern names; return the handle that ends it.

        pattern: `a.b`, `a.*` for exactly one segment more, `a.**` for one or more. handler: takes a TopicPayload, a
        dict of its own; `payload.topic` is the topic that it came under; may be async. once: only for the first.
        replay: give it the last so many of those emitted before, first; it then gets every later one, none twice.
        observed: also what is observed of a loop, not only what is emitted directly.

        Raises ConfigurationError for a pattern or handler that is none, IllegalMoveError after `close`.
        """
        if self._is_closed:
            raise IllegalMoveError("subscribe", "closed", "make a new EventDispatcher")
        added = self._table.add(
            pattern, handler, once=once, replay=replay, observed=observed, background=self._async
        )
        if added.backlog is not None:
            if added.in_background:
                self._delivery.queue.begin()
                self._delivery.ask_for_flush()
            else:
                _raise_first(self._table.replay(added, None))
        return added

    def on(self, pattern: str, *, once: bool = False, replay: int = 0) -> Callable[[H], H]:
        """Subscribe a function by decorating it: `@dispatcher.on("agent.*")`."""

        def subscribed(handler: H) -> H:
            self.subscribe(pattern, handler, once=once, replay=replay)
            return handler

        return subscribed

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """Those that hold, in order."""
        return self._table.all

    # --- emitting

    def emit(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Give a payload to everybody who subscribed to the topic.

        payload: a mapping with `session_id`, text, and `timestamp`: an aware datetime, its ISO text, or unix seconds.
        It is converted to JSON here (see values.py), so that nothing done to it later is seen.

        Raises PayloadError for a payload without those, ConfigurationError for a topic that is none,
        IllegalMoveError after `close`, ChannelFullError under overflow="error".
        """
        check_topic(topic)
        checked = checked_payload(payload, self._stamp)
        self._publish(topic, checked["session_id"], functools.partial(copy_json, checked))

    def handle_event(self, event: AgentEvent) -> None:
        """Tell an event of an observed loop as a topic."""
        if event.__class__ is ContentDelta:
            if self._table.wants_deltas:
                self._observe(event, DELTAS, functools.partial(event_payload, event), keep=False)
            return
        complete = self._runs.take(event)
        topic = topic_of(event)
        try:
            self._observe(event, topic, functools.partial(event_payload, event))
        finally:  # told on every ending, whatever a handler of the event itself does
            if isinstance(event, ToolCallRequested):
                self._observe(event, TOOL_INVOKED, functools.partial(invoked_payload, event), alias_of=topic)
            elif complete is not None:
                self._observe(event, SESSION_COMPLETE, functools.partial(copy_json, complete), alias_of=topic)

    def _observe(
        self,
        event: AgentEvent,
        topic: str,
        make: Callable[[], dict[str, JSON]],
        *,
        alias_of: str | None = None,
        keep: bool = True,
    ) -> None:
        self._publish(topic, event.session_id, make, event=event, alias_of=alias_of, keep=keep)

    def _publish(
        self,
        topic: str,
        session_id: str,
        make: Callable[[], dict[str, JSON]],
        *,
        event: AgentEvent | None = None,
        alias_of: str | None = None,
        keep: bool = True,
    ) -> None:
        table = self._table
        with table.lock:
            if self._is_closed:
                self._refused += 1
                raise IllegalMoveError("topic", "the dispatcher is closed", "make a new EventDispatcher")
            message = table.number_next(
                topic, session_id, make, event=event, alias_of=alias_of, keep=keep and self._keeps
            )
            route = table.route(topic, is_observed=event is not None)
            in_front = any(not subscription.in_background for subscription in route)
            behind = any(subscription.in_background for subscription in route)
            self._told += not in_front
        if in_front or behind:
            try:
                if in_front:
                    self._tell(message)
            finally:
                if behind:
                    self._delivery.send(enveloped(message))
        self._courier.raise_interrupt()

    def _tell(self, message: Message) -> None:
        """Call the handlers of this thread; what one of them emits comes after what it was called with.

        What it causes to be observed comes at once, since its loop tells the next event when this returns.
        """
        waiting: collections.deque[Message] | None = getattr(self._nested, "waiting", None)
        if waiting is not None and message.event is None:
            waiting.append(message)
            return
        if waiting is not None:
            _raise_first(self._deliver(message))
            return
        waiting = self._nested.waiting = collections.deque((message,))
        interrupts: list[BaseException] = []
        try:
            while waiting:
                interrupts += self._deliver(waiting.popleft())
        finally:
            self._nested.waiting = None
        _raise_first(interrupts)

    def _deliver(self, message: Message) -> list[BaseException]:
        interrupts = self._table.deliver(message, None)
        with self._table.lock:
            self._told += 1
        return interrupts

    # --- account, flush, close

    def account(self) -> Account:
        """Return what became of the payloads; `inner` has the sinks that subscribed.

        A payload counts as delivered when all who wanted it took it, or nobody wanted it, and as failed when
        one of them raised.
        """
        table = self._table
        with table.lock:
            received, dropped, done = self._delivery.queue.counts()
            pending = table.number - self._told + received - dropped - done
            delivered = table.number - pending - dropped - table.failed
            return Account(
                name="EventDispatcher",
                received=table.number + self._refused,
                delivered=max(0, delivered),
                dropped=dropped,
                failed=table.failed + self._refused,
                pending=pending,
                inner=tuple(account_of(sink) for sink in table.sinks),
            )

    @property
    def dropped(self) -> int:
        """Payloads that found the queue full; what `RunFinished.observers` tells."""
        return self._delivery.queue.counts()[1]

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until what was emitted is delivered, and flush the sinks; whether everything so far arrived.

        Does not wait on an event loop, nor inside a handler: use `aflush` there. timeout_s: None waits without a bound,
        for a sink as long as it is its way.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        went_well = self._delivery.flush(timeout_s)
        went_well = self._table.finish_sinks("flush", until) and went_well
        self._courier.raise_interrupt()
        return went_well and not self.account().lost

    def hand_over(self) -> bool:
        """Have what is held delivered, and wait for it no longer than quick handlers need; see ChannelReporter."""
        return self._delivery.hand_over()

    def close(self, timeout_s: float | None = None) -> bool:
        """Deliver what is held, take no more, close the sinks; whether everything arrived. Twice is harmless.

        What handlers emit while that is delivered is still taken. On an event loop and inside a handler it waits for
        nothing: what is held is delivered, and the sinks are closed, behind it.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._is_closed:
            self._delivery.flush(timeout_s)
        with self._table.lock:
            self._is_closed = True
        end_sinks = self._courier.end_sinks = functools.partial(self._table.finish_sinks, "close", until)
        left = None if until is None else max(0.0, until - time.monotonic())
        went_well = self._delivery.close(left)
        queue = self._delivery.queue
        if not (
            is_on_event_loop() or queue.consumer == threading.get_ident()
        ):  # there it is waited for nothing
            went_well = end_sinks() and went_well
        self._courier.raise_interrupt()
        return went_well and self.account().is_complete

    async def aflush(self, timeout_s: float | None = None) -> bool:
        """Do as `flush` does, without holding up the event loop."""
        import asyncio  # noqa: PLC0415 - a third of what this package takes to import

        return await asyncio.to_thread(self.flush, timeout_s)

    async def aclose(self, timeout_s: float | None = None) -> bool:
        """Do as `close` does, without holding up the event loop."""
        import asyncio  # noqa: PLC0415 - as above

        return await asyncio.to_thread(self.close, timeout_s)

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


def _raise_first(interrupts: list[BaseException]) -> None:
    if interrupts:
        raise interrupts[0]


def _check(max_queue: object, overflow: object, replay: object) -> None:
    if type(max_queue) is not int or max_queue < 1:
        raise ConfigurationError(f"max_queue={max_queue!r} refused because nothing fits in; give 1 or more")
    if overflow not in _RULES:
        raise ConfigurationError(
            f"overflow={overflow!r} refused because it is no rule; use one of {', '.join(_RULES)}"
        )
    if type(replay) is not int or replay < 0:
        raise ConfigurationError(f"replay={replay!r} refused; give how many payloads are kept, 0 or more")
