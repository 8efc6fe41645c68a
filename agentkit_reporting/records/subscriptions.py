"""Who is subscribed to what, and the calling of handlers: in order, isolated, counted.

A message is given to those who were subscribed before it was emitted, and no other; what a late subscriber is
replayed was emitted before. Both are read off one number, so that nothing is lost or doubled in between.
"""

from __future__ import annotations

import collections
import functools
import inspect
import itertools
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import is_unheard, log_error
from agentkit_loop.usage import error_text
from agentkit_loop.values import JSON
from agentkit_reporting.accounting import has_account
from agentkit_reporting.records.patterns import TopicPattern, parse_pattern
from agentkit_reporting.records.topics import DELTAS, Message, TopicPayload

logger = logging.getLogger(__name__)

TopicHandler: TypeAlias = Callable[[TopicPayload], object]
"""Takes a payload, whose `topic` says how it came; an async function is awaited on the dispatcher's own thread."""

Waiter: TypeAlias = Callable[[Awaitable[object]], object]

_MAX_ROUTES = 1_024  # topics whose subscribers are remembered


@attrs.frozen(kw_only=True)
class DispatchFailure:
    """What a handler raised.

    topic, session_id: of the payload. pattern: that it is subscribed to. handler: its name. error: what it raised.
    """

    topic: str
    session_id: str
    pattern: str
    handler: str
    error: BaseException


class Subscription:
    """A handler's place at a dispatcher; `unsubscribe()` gives it up, as does leaving its `with`.

    pattern, handler, once: as given. delivered, failed: payloads that it took, and on which it raised.
    """

    def __init__(
        self,
        table: Subscribers,
        pattern: TopicPattern,
        handler: TopicHandler,
        *,
        once: bool,
        observed: bool,
        in_background: bool,
    ) -> None:
        self.pattern = pattern.text
        self.handler = handler
        self.once = once
        self.observed = observed
        self.in_background = in_background
        self.is_active = True
        self.delivered = self.failed = 0
        self.since = 0  # the number of the last message before it
        self.backlog: collections.deque[Message] | None = None  # to be replayed first; None when that is done
        self.matches = pattern.matches
        self._table = table

    def __repr__(self) -> str:
        state = "" if self.is_active else ", ended"
        return f"<Subscription {self.pattern!r} -> {self.name}{state}>"

    @property
    def name(self) -> str:
        """The handler's name."""
        target = self.handler.func if isinstance(self.handler, functools.partial) else self.handler
        return str(getattr(target, "__qualname__", type(target).__name__))

    def unsubscribe(self) -> None:
        """Get no more, not even what waits already; twice is harmless."""
        self._table.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unsubscribe()


class Subscribers:
    """The table of subscriptions, and the last messages.

    kept: messages kept for late subscribers. on_error: told of each failure; None logs it.
    """

    def __init__(self, kept: int, on_error: Callable[[DispatchFailure], object] | None) -> None:
        self._kept = kept
        self._on_error = on_error
        self.all: tuple[Subscription, ...] = ()
        self.sinks: list[Any] = []
        self.wants_deltas = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Count and keep nothing: at first, and in a forked child, whose parent delivers what was emitted there."""
        self.lock = threading.RLock()  # re-entrant: a signal handler may emit inside what it interrupted
        self._numbers = itertools.count(1)
        self.number = 0  # of the last message
        self.failed = 0  # messages on which a handler raised
        self._last: collections.deque[Message] = collections.deque(maxlen=self._kept)
        self._routes: dict[tuple[str, bool], tuple[Subscription, ...]] = {}
        for subscription in self.all:
            subscription.since, subscription.backlog = 0, None

    # --- who is subscribed

    def add(
        self,
        pattern: str,
        handler: TopicHandler,
        *,
        once: bool,
        replay: int,
        observed: bool,
        background: bool,
    ) -> Subscription:
        """Subscribe a handler, last in order; refuses what is none."""
        parsed = parse_pattern(pattern)
        if isinstance(handler, type) or not callable(handler):
            raise ConfigurationError(f"handler {handler!r} refused; give a function that takes a payload")
        if type(replay) is not int or not 0 <= replay <= self._kept:
            raise ConfigurationError(
                f"replay={replay!r} refused because this dispatcher keeps the last {self._kept}; "
                f"make it with EventDispatcher(replay=…) for more"
            )
        added = Subscription(
            self,
            parsed,
            handler,
            once=once,
            observed=observed,
            in_background=background or is_async(handler),
        )
        with self.lock:
            added.since = self.number
            past = [message for message in self._last if replay and _is_for(added, message)]
            added.backlog = collections.deque(past[-replay:]) if past else None
            self.all = (*self.all, added)
            self._reroute()
            if is_sink(handler) and not any(sink is handler for sink in self.sinks):
                self.sinks.append(handler)
        return added

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        with self.lock:
            self._forget(subscription)
            handler = subscription.handler
            if not any(other.handler is handler for other in self.all):
                self.sinks = [sink for sink in self.sinks if sink is not handler]

    def _forget(self, subscription: Subscription) -> None:
        subscription.is_active = False
        subscription.backlog = None
        self.all = tuple(other for other in self.all if other is not subscription)
        self._reroute()

    def _reroute(self) -> None:
        self._routes = {}
        self.wants_deltas = bool(self.route(DELTAS, is_observed=True))

    def route(self, topic: str, *, is_observed: bool) -> tuple[Subscription, ...]:
        """Return who wants a topic, in order of registration."""
        key = (topic, is_observed)
        route = self._routes.get(key)
        if route is None:
            with self.lock:
                if len(self._routes) >= _MAX_ROUTES:
                    self._routes = {}
                route = self._routes[key] = tuple(
                    subscription
                    for subscription in self.all
                    if _is_wanted(subscription, topic, is_observed=is_observed)
                )
        return route

    def number_next(
        self,
        topic: str,
        session_id: str,
        make: Callable[[], dict[str, JSON]],
        *,
        event: AgentEvent | None,
        alias_of: str | None,
        keep: bool,
    ) -> Message:
        """Return a new message, kept for late subscribers; with the lock."""
        self.number = next(self._numbers)
        message = Message(
            number=self.number, topic=topic, session_id=session_id, make=make, event=event, alias_of=alias_of
        )
        if keep:
            self._last.append(message)
        return message

    def finish_sinks(self, method: str, until: float | None) -> bool:
        """Flush or close the sinks; whether everything arrived. until: by then, of `time.monotonic`."""
        went_well = True
        for sink in tuple(self.sinks):
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                went_well = getattr(sink, method)(left) is not False and went_well
            except Exception as error:  # noqa: BLE001 - the others are ended as well
                went_well = False
                said = (
                    f"{method} of {type(sink).__name__} failed: {type(error).__name__}: {error_text(error)}"
                )
                log_error(logger, said, error)
        return went_well

    # --- calling them

    def deliver(self, message: Message, wait: Waiter | None) -> list[BaseException]:
        """Call those who want a message, in order; return the interrupts that they raised.

        wait: awaits what an async handler returns, in the background; None on the emitter's thread.
        """
        interrupts: list[BaseException] = []
        for subscription in self.route(message.topic, is_observed=message.event is not None):
            if subscription.in_background is (wait is None) or subscription.since >= message.number:
                continue
            if subscription.backlog is not None:
                if self._is_put_behind(subscription, message, wait):
                    continue
                interrupts += self.replay(subscription, wait)
            interrupts += self._call(subscription, message, wait)
        return interrupts

    def _is_put_behind(self, subscription: Subscription, message: Message, wait: Waiter | None) -> bool:
        """Whether a message went behind what another thread is replaying to its subscriber."""
        with self.lock:
            if wait is not None or subscription.backlog is None:
                return False
            subscription.backlog.append(message)
            return True

    def replay(self, subscription: Subscription, wait: Waiter | None) -> list[BaseException]:
        """Deliver what a late subscriber missed; return the interrupts that it raised."""
        interrupts: list[BaseException] = []
        while True:
            with self.lock:
                if not subscription.backlog:
                    subscription.backlog = None
                    return interrupts
                message = subscription.backlog.popleft()
            interrupts += self._call(subscription, message, wait)

    def _call(self, subscription: Subscription, message: Message, wait: Waiter | None) -> list[BaseException]:
        with self.lock:
            if not subscription.is_active:
                return []
            if subscription.once:
                self._forget(subscription)
        try:
            payload = TopicPayload(
                message.make(),
                topic=message.topic,
                event=message.event,
                alias_of=message.alias_of,
                replayed=message.number <= subscription.since,
            )
            result: Any = subscription.handler(payload)
            if inspect.isawaitable(result):
                _awaited(result, wait)
        except BaseException as error:  # noqa: BLE001 - the others still get it; interrupts are raised after that
            with self.lock:
                subscription.failed += 1
                self.failed += not message.has_failed
                message.has_failed = True
            if not isinstance(error, Exception) and not _is_cancelled(error):
                return [error]
            return self._tell_failure(subscription, message, error)
        with self.lock:
            subscription.delivered += 1
        return []

    def _tell_failure(
        self, subscription: Subscription, message: Message, error: BaseException
    ) -> list[BaseException]:
        failure = DispatchFailure(
            topic=message.topic,
            session_id=message.session_id,
            pattern=subscription.pattern,
            handler=subscription.name,
            error=error,
        )
        if self._on_error is not None:
            try:
                self._on_error(failure)
            except Exception as second:  # noqa: BLE001 - it is the last instance
                log_error(logger, f"on_error failed: {type(second).__name__}: {error_text(second)}", second)
            except BaseException as interrupt:  # noqa: BLE001 - raised by who calls this, after the others
                return [interrupt]
        elif is_unheard(subscription, type(error).__name__):
            said = f"handler {failure.handler} of {failure.pattern} failed on {failure.topic}"
            log_error(logger, f"{said}: {type(error).__name__}: {error_text(error)}", error)
        return []


def is_sink(handler: object) -> bool:
    """Whether a handler holds payloads back and is flushed and closed with its dispatcher."""
    return has_account(handler) and all(callable(getattr(handler, step, None)) for step in ("flush", "close"))


def _is_wanted(subscription: Subscription, topic: str, *, is_observed: bool) -> bool:
    return subscription.matches(topic) and (subscription.observed or not is_observed)


def _is_for(subscription: Subscription, message: Message) -> bool:
    return _is_wanted(subscription, message.topic, is_observed=message.event is not None)


def is_async(handler: object) -> bool:
    """Whether a handler is an async function, or an object that is called as one."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    call = handler if inspect.isroutine(handler) else type(handler).__call__
    return inspect.iscoroutinefunction(call)


def _awaited(result: Any, wait: Waiter | None) -> None:
    if wait is not None:
        wait(result)
        return
    if inspect.iscoroutine(result):
        result.close()
    raise ConfigurationError(
        "a handler that returns an awaitable refused on the emitter's thread; write it as `async def`"
    )


def _is_cancelled(error: BaseException) -> bool:
    """Whether an async handler was cancelled, which is its failure and nobody's interrupt."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)
