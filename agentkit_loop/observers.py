"""What an observer is, and what is kept of each that is registered; the emitter (emitter.py) tells them events."""

from __future__ import annotations

import abc
import enum
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import attrs
import msgspec

from agentkit_loop.batches import DeltaBatch
from agentkit_loop.content import Delta
from agentkit_loop.errors import ConfigurationError, InnerObserverError, LogError
from agentkit_loop.events import AgentEvent, ObserverFailed
from agentkit_loop.late import late_logger
from agentkit_loop.records import FrozenRecord
from agentkit_loop.usage import ErrorInfo, ObserverStats, error_text

if TYPE_CHECKING:
    import logging

logger = late_logger(__name__)


class FailurePolicy(enum.Enum):
    """What follows when an observer raises."""

    IGNORE = "ignore"
    """Count it."""
    LOG = "log"
    """Count it, tell it, and log it once per observer and kind of error; the default.

    Whether it comes of an event, a flush or a close, and in however many sessions; once more after a run in which
    the observer went well.
    """
    ACCUMULATE = "accumulate"
    """Count it, tell it, and keep the error for `take_errors()`, at most 1,000."""
    FAIL_FAST = "fail_fast"
    """Remove the observer, close what is open, end the run and raise ObserverError."""


EventKind: TypeAlias = type[AgentEvent] | type[Delta]
"""A class of events; a class of deltas stands for the ContentDeltas that hold one."""


class LoopObserver(abc.ABC):
    """Base of observers. `handle_event` is the one method to write; it is called on the driving thread."""

    wants: ClassVar[tuple[EventKind, ...]] = ()
    """The event classes to be called for; empty means all. The rest costs nothing.

    Of ContentDelta, which comes for every piece of a stream, single kinds: `BeginPart`, `CommitPart`, ….
    """

    @abc.abstractmethod
    def handle_event(self, event: AgentEvent) -> None:
        """Take one event; must not change it, and should be quick."""

    def flush(self) -> bool | None:  # noqa: B027 - most observers hold nothing back
        """Hand on whatever is held back. Called around the end of a run. False says that not all arrived."""

    def hand_over(self) -> bool | None:
        """Do what the loop asks around the end of a run: `flush`, unless that would wait for another thread.

        False says that not all has arrived yet, or that something was lost since the last time.
        """
        return self.flush()

    def close(self) -> bool | None:  # noqa: B027 - most observers own nothing
        """Release what the observer owns; called twice is harmless. False says that not all arrived."""


class BatchObserver(LoopObserver):
    """An observer that also takes pieces of a text together which came together, at less cost.

    It is given a batch only where all observers of such pieces take batches, so that none sees a piece before one that
    is registered ahead of it. It takes single events in any case. Who derives from an observer that takes batches, and
    has a `handle_event` but no `handle_batch` of its own, is told each event.
    """

    @abc.abstractmethod
    def handle_batch(self, batch: DeltaBatch) -> Sequence[tuple[AgentEvent, Exception]] | None:
        """Take the events of a batch as `handle_event` takes each.

        Return those it failed on, and with what; nothing, or None, where all went well.
        """


BatchHandler: TypeAlias = Callable[[DeltaBatch], Sequence[tuple[AgentEvent, Exception]] | None]


def _batch_handler(observer: object) -> BatchHandler | None:
    """Return what takes batches, unless a `handle_event` would be passed by that is nearer to the observer."""
    if not isinstance(observer, BatchObserver) or "handle_event" in getattr(observer, "__dict__", ()):
        return None
    nearest = next(
        cls for cls in type(observer).__mro__ if {"handle_batch", "handle_event"} & vars(cls).keys()
    )
    return observer.handle_batch if "handle_batch" in vars(nearest) else None


class Adapter(LoopObserver):
    """An observer that passes events on to others, whose failures are told as if they were registered."""

    @abc.abstractmethod
    def pass_on(self, event: AgentEvent) -> None:
        """Take one event for whoever judges failures: the loop, or an adapter around this one.

        Raises InnerObserverError for what the others raised; it may have been on an earlier event of the
        same session. `handle_event` is for callers that judge none.
        """

    @property
    def behind(self) -> tuple[Observer, ...]:
        """The observers behind it, as deep as they go, in order; the loop names them when it is registered."""
        return ()


class Exclusive(Protocol):
    """A lock that the same thread may take again."""

    def acquire(self) -> object:
        """Take it."""

    def release(self) -> None:
        """Let go of it."""

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread has it."""


class EventHandler(Protocol):
    """Anything with a `handle_event` method."""

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event."""


Observer: TypeAlias = EventHandler | Callable[[AgentEvent], object]
"""A LoopObserver, anything like it, or any callable that takes an event."""


@attrs.frozen(eq=False, repr=False)
class Registration(FrozenRecord):
    """An observer with a policy of its own; give it wherever an observer is accepted.

    policy: None means the loop's. disable_after: failures after which it gets no more events.
    """

    observer: Observer
    policy: FailurePolicy | None = attrs.field(default=None, kw_only=True)
    disable_after: int | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class ObserverFailure(FrozenRecord):
    """A failure kept under ACCUMULATE."""

    observer: str
    event_seq: int
    error: BaseException


@attrs.define(eq=False)
class ToldAs:
    """The name that a failure was told under, by which an adapter keeps that ObserverFailed from who failed."""

    observer: str = ""


@attrs.define(eq=False, kw_only=True)
class InnerFailure:
    """What an observer behind an adapter raised, on its way to whoever judges it.

    event: on which, perhaps an earlier one than is told now. policy, disable_after: its own; None means those
    of the adapter. retire: has the adapter call it no more. disabled: it did so already. told: what the judge
    tells it as.
    """

    observer: Observer
    name: str
    event: AgentEvent
    error: Exception
    retire: Callable[[], object]
    policy: FailurePolicy | None = None
    disable_after: int | None = None
    disabled: bool = False
    told: ToldAs = attrs.Factory(ToldAs)


@attrs.define(eq=False)
class Slot:
    """One registered observer and what was counted for it."""

    observer: Observer
    handle: Callable[[AgentEvent], object]
    name: str
    policy: FailurePolicy
    disable_after: int | None
    wants: tuple[EventKind, ...]
    handle_batch: BatchHandler | None = None
    counted: bool = True  # False for a tap, which no statistics name
    handled: int = 0
    failed: int = 0
    spent_s: float = 0.0  # inside handle, monotonic
    kinds: set[str] = attrs.Factory(set)  # kinds of error told already
    inner: dict[int, Slot] = attrs.Factory(dict)  # those behind an adapter that failed, by identity
    reserved: dict[int, str] = attrs.Factory(dict)  # their names, by identity
    retired: bool = False
    ended_badly: bool = False  # a flush or close raised, hung or answered False

    def stats(self) -> ObserverStats:
        """Return the counts as they are now."""
        return ObserverStats(
            name=self.name,
            handled=self.handled,
            failed=self.failed,
            dropped=_dropped(self.observer),
            time_ms=self.spent_s * 1e3,
        )


def checked_policy(policy: object) -> FailurePolicy:
    """Return the policy; raises ConfigurationError for what is none, such as its name."""
    if not isinstance(policy, FailurePolicy):
        names = ", ".join(f"FailurePolicy.{known.name}" for known in FailurePolicy)
        raise ConfigurationError(f"{policy!r} is no failure policy; give one of {names}")
    return policy


def slot_of(registration: Registration, policy: FailurePolicy, taken: set[str]) -> Slot:
    """Return the slot of an observer under a name that is not taken; refuses what cannot observe."""
    observer = registration.observer
    handle: Any = (
        observer.pass_on if isinstance(observer, Adapter) else getattr(observer, "handle_event", observer)
    )
    if isinstance(observer, type) or not callable(handle):
        raise ConfigurationError(
            f"{observer!r} cannot observe; give an object with handle_event(event), or a callable"
        )
    target = handle if inspect.isroutine(handle) else type(handle).__call__
    if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        raise ConfigurationError(
            f"{observer!r} has an async handler; observers are synchronous, "
            "put slow work behind a channel or a thread"
        )
    wants = getattr(observer, "wants", ())
    if not isinstance(wants, tuple) or not all(
        isinstance(cls, type) and issubclass(cls, (AgentEvent, Delta)) for cls in wants
    ):
        raise ConfigurationError(
            f"wants={wants!r} of {observer!r} is no choice; give a tuple of event classes"
        )
    if registration.disable_after is not None and registration.disable_after < 1:
        raise ConfigurationError(f"disable_after={registration.disable_after!r} must be at least 1")
    name = _unique(_name(observer), taken)
    return Slot(
        observer=observer,
        handle=handle,
        name=name,
        policy=checked_policy(policy if registration.policy is None else registration.policy),
        disable_after=registration.disable_after,
        wants=wants,
        handle_batch=_batch_handler(observer),
        reserved=_reserved(observer.behind, {*taken, name}) if isinstance(observer, Adapter) else {},
    )


def _reserved(observers: tuple[Observer, ...], taken: set[str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for observer in observers:
        names.setdefault(id(observer), _unique(_name(observer), taken | set(names.values())))
    return names


class Judged(msgspec.Struct, frozen=True):
    """One failure, of an observer itself or of one behind it."""

    slot: Slot
    event: AgentEvent
    error: Exception
    retire: Callable[[], object] | None = None  # of one behind an adapter
    disabled: bool = False


def unfolded(slot: Slot, event: AgentEvent, error: Exception, taken: Callable[[], set[str]]) -> list[Judged]:
    """Return the failures that an exception stands for, each counted. taken: the names in use."""
    slot.failed += 1
    if not isinstance(error, InnerObserverError):
        return [Judged(slot, event, error, None, _is_enough(slot))]
    slot.failed += len(error.failures) - 1
    found = []
    for failure in error.failures:
        inner = slot.inner.get(id(failure.observer))
        if inner is None:
            name = slot.reserved.get(id(failure.observer)) or _unique(failure.name, taken())
            slot.reserved[id(failure.observer)] = name
            inner = slot.inner[id(failure.observer)] = _behind(slot, failure, name)
        failure.told.observer = inner.name
        inner.failed += 1
        if not inner.retired:  # what was under way when it was retired is counted, no more
            disabled = failure.disabled or _is_enough(inner)
            found.append(Judged(inner, failure.event, failure.error, failure.retire, disabled))
            inner.retired = disabled
    return found


def _behind(slot: Slot, failure: InnerFailure, name: str) -> Slot:
    return Slot(
        observer=failure.observer,
        handle=slot.handle,
        name=name,
        policy=failure.policy or slot.policy,
        disable_after=slot.disable_after
        if failure.disable_after is None
        else None,  # its own is counted there
        wants=(),
    )


def _is_enough(slot: Slot) -> bool:
    return slot.disable_after is not None and slot.failed >= slot.disable_after


def note_failure(failure: Judged) -> ObserverFailed | None:
    """Log a failure by its observer's policy; return what is to be told of it, if anything."""
    slot, event, error = failure.slot, failure.event, failure.error
    if slot.policy is FailurePolicy.IGNORE:
        return None
    kind = type(error).__name__
    new = kind not in slot.kinds
    slot.kinds.add(kind)
    if not (new or failure.disabled):
        return None
    if slot.policy is FailurePolicy.LOG:
        unheard = is_unheard(slot.observer, kind)
        if unheard or failure.disabled:
            said = f"observer {slot.name} failed on event {event.seq} ({event.type}): {kind}: {error_text(error)}"
            log_error(
                logger,
                said + ("; it gets no more events" if failure.disabled else ""),
                error if unheard else None,
            )
    return ObserverFailed(
        observer=slot.name, event_seq=event.seq, error=ErrorInfo.of(error), disabled=failure.disabled
    )


def log_error(log: logging.Logger, text: str, error: BaseException | None = None) -> None:
    """Log an error so that nothing that it quotes controls a terminal or passes for a record of its own.

    `logging` writes texts and tracebacks as they are, by default to stderr, and an observer's error may quote what
    a model said. error: for its traceback, which is indented; the record's `exc_info` has it as it is. A LogError
    has none: a full disk is no fault of a program, and the text says all.
    """
    import logging  # noqa: PLC0415 - most programs have no such error
    import traceback  # noqa: PLC0415 - as above

    if not log.isEnabledFor(logging.ERROR):
        return
    if isinstance(error, LogError):
        error = None
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = log.makeRecord(log.name, logging.ERROR, "agentkit", 0, "%s", (_printable(text),), exc_info)
    if error is not None:
        lines = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
        record.exc_text = "\n".join(f"  {_printable(line)}" for line in lines)
    log.handle(record)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _dropped(observer: object) -> int:
    """Return how many events the observer says it dropped; 0 where it does not say it with a number."""
    try:
        dropped = getattr(observer, "dropped", 0)
    except Exception:  # noqa: BLE001 - a foreign property may raise anything
        return 0
    return dropped if isinstance(dropped, int) else 0


def _name(observer: object) -> str:
    wrapped = getattr(observer, "__wrapped__", None)  # as functools.wraps sets it
    if inspect.isroutine(wrapped):
        observer = wrapped
    if inspect.isroutine(observer):
        return str(getattr(observer, "__qualname__", type(observer).__name__))
    return type(observer).__name__


def _unique(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}#{number}"
    return candidate


def own_method(observer: object, method: str) -> Callable[[], object] | None:
    """Return the observer's own flush, hand_over or close; None where it has none or inherits the empty one."""
    if method == "hand_over" and (
        not isinstance(observer, LoopObserver) or type(observer).hand_over is LoopObserver.hand_over
    ):
        method = "flush"
    bound: Any = getattr(observer, method, None)
    if not callable(bound) or getattr(type(observer), method, None) is getattr(LoopObserver, method):
        return None
    return bound  # type: ignore[no-any-return]


# --- what was logged already

_heard: dict[int, dict[str, object]] = {}  # kinds of error, by the identity of the observer


def is_unheard(observer: object, kind: str) -> bool:
    """Whether this kind of error was not logged of this observer yet, by any loop or adapter; it is from now on."""
    kinds = _heard.get(id(observer))
    if kinds is None:
        try:
            weakref.finalize(observer, _heard.pop, id(observer), None).atexit = False
        except TypeError:  # nothing says when it is gone and its identity another's
            return True
        kinds = _heard.setdefault(id(observer), {})
    mine = object()
    return kinds.setdefault(kind, mine) is mine  # one step, so that of two threads one is first


def forget_heard(observer: object) -> None:
    """Have the errors of an observer, and of those behind it, logged again: it has gone well for a whole run."""
    for each in (observer, *(observer.behind if isinstance(observer, Adapter) else ())):
        kinds = _heard.get(id(each))
        if kinds:
            kinds.clear()
