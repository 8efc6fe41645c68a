"""The context of a call: what a running tool may use, and the signals that it sends to the driver."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import NamedTuple, Self, TypeAlias

import attrs

from agentkit_loop.credentials import Credential, Credentials
from agentkit_loop.records import FrozenRecord
from agentkit_loop.trace_context import SpanPlace, place_of_call
from agentkit_loop.values import JSON, clean_text, to_json


@attrs.frozen(eq=False, repr=False)
class ToolProgressed(FrozenRecord):
    """A running tool said how far it is. fraction: 0 to 1, None if unknown."""

    call_id: str
    message: str = attrs.field(converter=clean_text)
    fraction: float | None = None


@attrs.frozen(eq=False, repr=False)
class CustomFact(FrozenRecord):
    """A running tool told a fact of its own. data: JSON already."""

    name: str = attrs.field(converter=clean_text)
    data: JSON = attrs.field(converter=to_json)


ToolSignal: TypeAlias = ToolProgressed | CustomFact
"""What a context sends to the driver."""


class RunningCall(NamedTuple):
    """The call whose body runs, as the events of its run name it."""

    session_id: str
    run_id: str
    call_id: str
    name: str


class TracedCall(RunningCall):
    """A running call that knows what its run's metadata say of the trace; equal to one that does not."""

    run_metadata: Mapping[str, JSON] = MappingProxyType({})

    @classmethod
    def of(cls, context: ToolContext, name: str) -> Self:
        """Return the call of a context."""
        return cls.within(context.run_metadata, context.session_id, context.run_id, context.call_id, name)

    @classmethod
    def within(
        cls, run_metadata: Mapping[str, JSON], session_id: str, run_id: str, call_id: str, name: str
    ) -> Self:
        """Return a call of a run with these metadata."""
        call = cls(session_id, run_id, call_id, name)
        call.run_metadata = run_metadata
        return call

    @property
    def place(self) -> SpanPlace:
        """Where its span is."""
        return place_of_call(self.run_metadata, self.session_id, self.run_id, self.call_id)


running: ContextVar[RunningCall | None] = ContextVar("agentkit_running_call", default=None)
"""Set around each body: by our loop on the tool's thread or task, by a hand-written one's `run.tool_call`."""


def current_call() -> RunningCall | None:
    """Return the call whose body the caller is in; None outside of any. Threads see it in a copied context."""
    return running.get()


def leave_calls(session_id: str, run_id: str, outer: RunningCall | None) -> None:
    """Let the caller be in `outer` again where it is in a call of this run, which is over."""
    inside = running.get()
    if inside is not None and inside[:2] == (session_id, run_id):
        running.set(outer)


class ToolContext:
    """What a running tool may use; made by the driver for each attempt of a call. Safe to share by threads.

    call_id, session_id, run_id, turn_id, attempt: which call this is. send: takes each signal; it is called
    on the tool's thread, one call at a time, and must not wait for the driver. credentials: those of the run.
    family: what an agent behind the call gets of its parent; see children.py. run_metadata: of the call's run.
    """

    def __init__(
        self,
        send: Callable[[ToolSignal], object],
        *,
        call_id: str,
        session_id: str = "",
        run_id: str = "",
        turn_id: str | None = None,
        attempt: int = 1,
        credentials: Credentials | None = None,
        family: object = None,
        run_metadata: Mapping[str, JSON] | None = None,
    ) -> None:
        self.call_id = call_id
        self.session_id = session_id
        self.run_id = run_id
        self.turn_id = turn_id
        self.attempt = attempt
        self._send = send
        self._credentials = credentials
        self.family = family
        self.run_metadata: Mapping[str, JSON] = run_metadata or {}
        self.leaving = False  # the host leaves the session open: an agent behind the call is to be suspended
        self._when_cancelled: list[Callable[[], object]] = []
        self._when_left: list[Callable[[], object]] = []
        self._lock = threading.RLock()
        self._closed = False
        self._cancelled = threading.Event()

    def progress(self, message: str, fraction: float | None = None) -> None:
        """Say how far the work is; after the call was closed this does nothing.

        fraction: of the whole, put between 0 and 1; one that is not finite raises ValueError.
        """
        if fraction is not None:
            if not math.isfinite(fraction):
                raise ValueError(
                    f"fraction {fraction!r} refused because it is not finite; give 0 to 1, or None"
                )
            fraction = min(max(float(fraction), 0.0), 1.0)
        self._tell(ToolProgressed(self.call_id, message, fraction))

    def emit(self, name: str, data: object = None) -> None:
        """Tell a fact as CustomEvent; after the call was closed this does nothing."""
        self._tell(CustomFact(name, data))

    def credential(self, provider: str) -> Credential | None:
        """Return what the host gave for a provider, None where it gave nothing: then raise NeedsAuth."""
        return None if self._credentials is None else self._credentials.get(provider)

    @property
    def traceparent(self) -> str | None:
        """Where the span of this call is, as a `traceparent` of W3C Trace Context; None in a context of no run.

        For headers of what the tool asks others, and for spans of its own below the call's:
        `opentelemetry.propagate.extract({"traceparent": context.traceparent})` is the context of those. It is derived
        of the ids, without OpenTelemetry, so it is there whether or not somebody makes the span: a TracingReporter, or
        an export of the log, that make it with OpenTelemetry's SDK; another implementation of its API gives spans ids
        of its own, and the trace alone of a run that was started within one is the same. Its sampled flag is that of
        the run's parent; a run without one counts as sampled, whatever a provider's sampler says.
        """
        if not (self.session_id and self.run_id):
            return None
        return place_of_call(self.run_metadata, self.session_id, self.run_id, self.call_id).traceparent

    def masked(self, value: JSON) -> JSON:
        """Return a value without the credentials of the run; the driver's."""
        return value if self._credentials is None else self._credentials.masked(value)

    def _tell(self, signal: ToolSignal) -> None:
        with self._lock:
            if not self._closed:
                self._send(signal)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more: stop soon."""
        return self._cancelled.is_set()

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Pause on this thread until the call is cancelled or the time is over; True if it is cancelled.

        An async tool needs none: its task is cancelled.
        """
        return self._cancelled.wait(timeout_s)

    def on_cancel(self, act: Callable[[], object]) -> None:
        """Have something done, on the driving thread, once the call is cancelled; at once if it is.

        Nothing is done where the body ends first. What it raises is told as a Warning.
        """
        with self._lock:
            if not self._cancelled.is_set():
                self._when_cancelled.append(act)
                return
        act()

    def on_leave(self, act: Callable[[], object]) -> None:
        """Have something done once the host leaves the session; `leaving` is true then."""
        with self._lock:
            if not self.leaving:
                self._when_left.append(act)
                return
        act()

    def cancel(self) -> list[Exception]:
        """Ask the tool to stop, and return what the acts of `on_cancel` raised; the driver's."""
        with self._lock:
            self._cancelled.set()
            acts, self._when_cancelled = self._when_cancelled, []
        return _done(acts)

    def leave(self) -> None:
        """Let an agent behind the call be suspended; the driver's."""
        with self._lock:
            self.leaving = True
            acts, self._when_left = self._when_left, []
        _done(acts)

    def returned(self) -> None:
        """Take note that the body has ended: nothing is to be done any more if the call is cancelled."""
        with self._lock:
            self._when_cancelled, self._when_left = [], []

    def close(self) -> None:
        """Let nothing through any more: when this returns, the last signal was sent; the driver's."""
        with self._lock:
            self._closed = True


def _done(acts: list[Callable[[], object]]) -> list[Exception]:
    """Do each; one that fails holds up no other."""
    failures = []
    for act in acts:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - a tool's own; whatever it raises may not break the run
            failures.append(error)
    return failures
