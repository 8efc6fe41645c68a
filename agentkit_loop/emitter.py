"""The emitter: stamp an event, give it to each observer in order, isolate failures.

This is the hot path; it stands alone. The rules (DESIGN section 4, "Observers"):

- every event to every observer, in order of registration, before the next event;
- whatever one observer does, the others still get that event;
- an event caused while another is told is told after it;
- `ObserverFailed` is told once per observer and kind of error (under LOG and ACCUMULATE), never to the
  one that failed, and a failure while handling one tells none.
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from agentkit_loop.batches import DeltaBatch
from agentkit_loop.clock import Clock
from agentkit_loop.content import AnyDelta, AppendText, Item, Parent
from agentkit_loop.errors import ConfigurationError, IllegalMoveError, ObserverError
from agentkit_loop.events import AgentEvent, ContentDelta, ObserverFailed
from agentkit_loop.ids import new_id
from agentkit_loop.observers import (
    BatchHandler,
    EventKind,
    Exclusive,
    FailurePolicy,
    Judged,
    Observer,
    ObserverFailure,
    Registration,
    Slot,
    note_failure,
    unfolded,
)
from agentkit_loop.registry import ObserverRegistry, Route
from agentkit_loop.stamping import MutableDelta, convert_payload, is_emittable, stamp
from agentkit_loop.values import checked_id

if TYPE_CHECKING:
    from agentkit_loop.pricing import Pricing
    from agentkit_loop.scopes import RunScope
    from agentkit_loop.state import LoopState

_clock_s = time.perf_counter  # floats: cheaper to subtract and add than integers of nanoseconds

MAX_KEPT_ERRORS = 1_000
"""How many failures ACCUMULATE keeps; older ones make room."""


class EventEmitter(ObserverRegistry):
    """Stamps events and tells them to observers; the loop has one, and a hand-written loop may.

    session_id, run_id: made up where not given (a run context gives its own run an id, run_context.py); `run_id` and
    `turn_id` may be set between events.
    `emit` may be called from any thread and from inside an observer. The forked child of a process tells through
    one of its own: the session is the parent's.
    """

    def __init__(
        self,
        observers: Iterable[Observer | Registration] = (),
        *,
        session_id: str | None = None,
        run_id: str | None = None,
        policy: FailurePolicy = FailurePolicy.LOG,
        clock: Clock | None = None,
        fold: Callable[[AgentEvent], None] | None = None,
        fold_batch: Callable[[DeltaBatch], None] | None = None,
        seq: int = 0,
    ) -> None:
        super().__init__(policy, seq)
        self.session_id = new_id("ses") if session_id is None else checked_id("session_id", session_id)
        self.run_id = new_id("run") if run_id is None else checked_id("run_id", run_id)
        self.made_run_id = self.run_id if run_id is None else None  # which a run context may replace
        self.turn_id: str | None = None
        self.telling: Slot | None = None  # whose handler runs now
        self.clock = clock or Clock()
        self._now = self.clock.now
        self.fold = fold  # is told each event first …
        self._fold_batch = fold_batch  # … but those of a batch, which come here
        self._is_folded_whole = (fold is None) == (fold_batch is None)
        self.told_by_hand: LoopState | None = None  # the fold of what `run` tells
        self.open_run: RunScope | None = None  # the one that it tells now
        self.errors: collections.deque[ObserverFailure] = collections.deque(maxlen=MAX_KEPT_ERRORS)
        self._queued: collections.deque[AgentEvent] = collections.deque()
        self.exclusive: Exclusive | None = None  # held while observers are told that others tell as well
        for observer in observers:
            self.add_observer(observer)

    def after_fork(self) -> None:
        """Begin anew in the child of a fork."""
        super().after_fork()
        self.telling = None
        self._queued.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hand_over()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from agentkit_loop.scope_telling import beside_the_loop  # noqa: PLC0415 - on a floor above

        await beside_the_loop(self.hand_over)

    # --- a loop that somebody else wrote

    def run(
        self,
        *,
        agent_name: str = "",
        model: str = "",
        system: str | None = None,
        tools: Iterable[object] = (),
        items: Iterable[Item] = (),
        parameters: Mapping[str, Any] | None = None,
        parent: Parent | None = None,
        metadata: Mapping[str, Any] | None = None,
        prices: Pricing | Literal["default"] | None = "default",
        resume: Iterable[AgentEvent] | None = None,
    ) -> RunScope:
        """Return the scope of a run: `with` it, and tell a loop of one's own through it.

        agent_name, model, system, parameters, parent, metadata: as RunStarted has them. tools: what the model is told
        of: dicts of the API, ToolSpecs or functions. items: the transcript before. prices: what requests cost, by
        default by the tables of `PriceBook()`; None: no costs. resume: the events of the session so far, as of
        `read_events(path)`, which goes on: what a crash left open is closed first, and what is not given here is as in
        its last run. Raises ResumeError.
        """
        from agentkit_loop.scope_state import state_of  # noqa: PLC0415 - on a floor above; who only logs needs it not
        from agentkit_loop.scopes import RunScope  # noqa: PLC0415 - the same

        state, before = state_of(self, resume)
        return RunScope(
            self,
            state,
            before,
            agent_name=agent_name,
            model=model,
            system=system,
            tools=tools,
            items=items,
            parameters=parameters,
            parent=parent,
            metadata=metadata,
            prices=prices,
        )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Keep other threads from telling anything between what is told inside.

        Raises IllegalMoveError inside an observer: what it causes is told after the event that it looks at.
        """
        with self._lock:
            if self.telling is not None:
                raise IllegalMoveError(
                    "telling", "an event is being told", "observers watch; emit a CustomEvent instead"
                )
            yield

    # --- telling

    def emit(self, event: AgentEvent, *, is_json: bool = False) -> None:
        """Convert, stamp and tell an event of the host's; from inside an observer: after the current one.

        is_json: all of it is converted already. Raises ConfigurationError for an event that was told before,
        ObserverError under FAIL_FAST.
        """
        with self._lock:
            if not is_emittable(event) or any(event is queued for queued in self._queued):
                raise ConfigurationError(
                    f"{type(event).__name__} seq {getattr(event, 'seq', '?')} cannot be emitted; "
                    "make a new event"
                )
            if not is_json:
                convert_payload(event)
            self._queued.append(event)
            if self.telling is None:  # otherwise this thread tells an event right now, and then the queue
                self._tell_queued()

    def emit_delta(self, request_id: str, delta: AnyDelta) -> None:
        """Tell a fragment whose values are JSON already: `emit(ContentDelta(…))` the fast way, inside `together`."""
        try:
            self.tell_delta(request_id, delta)
        finally:
            if self._queued:
                self._tell_queued()

    def _tell_queued(self) -> None:
        first: BaseException | None = None
        while self._queued:
            try:
                self.tell(self._queued.popleft())
            except BaseException as error:  # noqa: BLE001 - the others in the queue are facts too
                first = _graver(first, error)
        if first is not None:
            raise first

    def tell(self, event: AgentEvent) -> None:
        """Stamp and dispatch an event whose values are JSON already; only on the thread that drives."""
        self.seq += 1
        stamp(event, self.session_id, self.run_id, self.turn_id, self.seq, self._now())
        self._dispatch(event, event.delta.__class__ if isinstance(event, ContentDelta) else event.__class__)

    def tell_delta(self, request_id: str, delta: AnyDelta) -> None:
        """Make, stamp and dispatch a ContentDelta: the fast way, for every chunk of a stream.

        It is `tell(ContentDelta(…))`, filled in place (stamping.py): a call for that would cost a tenth of it all.
        """
        event = MutableDelta()
        self.seq = event.seq = self.seq + 1
        event.session_id = self.session_id
        event.run_id = self.run_id
        event.turn_id = self.turn_id
        now = self._now  # called as an attribute it would be looked for in the class first, each time
        event.timestamp = now()
        event.unknown_fields = None
        event.request_id = request_id
        event.delta = delta
        event.__class__ = ContentDelta
        self._dispatch(event, delta.__class__)

    @property
    def takes_batches(self) -> bool:
        """Whether all who are told of pieces of text take those together that came together."""
        return self._is_folded_whole and self._text_route().takers is not None

    def _text_route(self) -> Route:
        route = self._routes.get(AppendText)
        return self._route(AppendText) if route is None else route

    def tell_batch(self, request_id: str, part_id: str, chunks: list[str]) -> None:
        """Tell pieces of a part's text that came together: as `tell_delta` each, where it may be at once.

        One time, one dispatch and one measurement for all of them.
        """
        exclusive = self.exclusive
        if exclusive is not None:
            exclusive.acquire()
        try:
            route = self._text_route()  # here: another thread may register who takes no batches
            if route.takers is None or not self._is_folded_whole:
                for chunk in chunks:
                    self.tell_delta(request_id, AppendText(part_id, chunk))
                return
            batch = DeltaBatch(
                self.session_id,
                self.run_id,
                self.turn_id,
                self.seq + 1,
                self._now(),
                request_id=request_id,
                part_id=part_id,
                chunks=chunks,
            )
            self.seq = batch.last_seq
            if self._fold_batch is not None:
                self._fold_batch(batch)
            route.told += len(batch)
            self._dispatch_batch(batch, route.takers)
        finally:
            if exclusive is not None:
                exclusive.release()

    def _dispatch_batch(self, batch: DeltaBatch, takers: list[tuple[BatchHandler, Slot]]) -> None:
        """Tell a batch to observers that all take batches, and judge what they failed on."""
        failures: list[tuple[Slot, AgentEvent, BaseException]] = []
        before = _clock_s()
        try:
            for handle, slot in takers:
                self.telling = slot
                try:
                    failures += [(slot, event, failure) for event, failure in handle(batch) or ()]
                except BaseException as error:  # noqa: BLE001 - the others still get it; see _settle
                    failures.append((slot, batch.event(0, batch.chunks[0]), error))
                after = _clock_s()
                slot.spent_s += after - before
                before = after
        finally:
            self.telling = None
        first: BaseException | None = None
        for slot, event, failure in failures:
            if slot in self._slots:  # an earlier failure may have been its last
                try:
                    self._settle(event, [(slot, failure)])
                except BaseException as raised:  # noqa: BLE001 - the others are to be judged too
                    first = _graver(first, raised)
        if first is not None:
            raise first

    def tell_again(self, event: AgentEvent) -> None:
        """Dispatch an event that was told before, as it is: for observers that have not seen the past."""
        self.seq = event.seq
        self._dispatch(event, event.delta.__class__ if isinstance(event, ContentDelta) else event.__class__)

    def _dispatch(self, event: AgentEvent, kind: EventKind) -> None:
        """Tell a stamped event. kind: its class, that of its delta where it is a ContentDelta."""
        if (fold := self.fold) is not None:
            fold(event)
        exclusive = self.exclusive
        if exclusive is not None:
            exclusive.acquire()
        try:
            route = self._routes.get(kind)
            if route is None:
                route = self._route(kind)
            route.told += 1  # here: an observer may ask for the counts, or change who is registered
            failures: list[tuple[Slot, BaseException]] | None = None
            before = _clock_s()
            for handle, slot in route:
                self.telling = slot
                try:
                    handle(event)
                except BaseException as error:  # noqa: BLE001 - the others still get the event; see _settle
                    failures = failures or []
                    failures.append((slot, error))
                after = _clock_s()
                slot.spent_s += after - before
                before = after
            if failures is not None:
                self.telling = None
                self._settle(event, failures)
        finally:
            self.telling = None  # also where an interrupt came between
            if exclusive is not None:
                exclusive.release()

    # --- failures

    def _settle(self, event: AgentEvent, failures: list[tuple[Slot, BaseException]]) -> None:
        fatal: BaseException | None = None
        told: list[tuple[Slot, ObserverFailed]] = []
        for slot, raised in failures:
            if not isinstance(raised, Exception):  # KeyboardInterrupt, SystemExit: never swallowed
                fatal = raised
                continue
            for failure in unfolded(slot, event, raised, self._names):
                failing = failure.slot
                if failing.policy is FailurePolicy.FAIL_FAST:
                    self._take_out(failure)
                    if fatal is None:
                        fatal = ObserverError(failing.name, failure.event.seq, failure.event.type)
                        fatal.__cause__ = failure.error
                    continue
                if failure.disabled:
                    self._take_out(failure)
                if failing.policy is FailurePolicy.ACCUMULATE:
                    self.errors.append(ObserverFailure(failing.name, failure.event.seq, failure.error))
                failed = note_failure(failure)
                if failed is not None and not isinstance(failure.event, ObserverFailed):
                    told.append((failing, failed))
        for slot, failed in told:
            self._tell_failure(slot, failed)
        if fatal is not None:
            raise fatal

    def _take_out(self, failure: Judged) -> None:
        """Let an observer get no more events: the loop's own, or one behind an adapter."""
        if failure.retire is None:
            self._retire(failure.slot)
        else:
            failure.slot.retired = True
            failure.retire()

    def _tell_failure(self, failing: Slot, failed: ObserverFailed) -> None:
        self._reroute()
        self._routes[ObserverFailed] = Route(
            slot for _, slot in self._route(ObserverFailed) if slot is not failing
        )
        try:
            self.tell(failed)
        finally:
            self._reroute()

    def take_errors(self) -> tuple[ObserverFailure, ...]:
        """Return and forget the failures kept under ACCUMULATE, oldest first."""
        taken = []
        while self.errors:
            taken.append(self.errors.popleft())
        return tuple(taken)


def _graver(first: BaseException | None, second: BaseException) -> BaseException:
    """Return which of two is raised: the first, unless only the other is one that is never swallowed, as Ctrl-C."""
    if first is None or (isinstance(first, Exception) and not isinstance(second, Exception)):
        return second
    return first
