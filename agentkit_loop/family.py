"""Agents behind the calls of a session: what parent and child share, and how a child's questions surface.

A family tells its events one at a time, to observers that may be shared; it spends from one purse; what one of
it was given in confidence is masked in the events of all. A child runs on the thread of its call and is left
alone there: what its parent wants of it is posted, and what it wants of its parent's host as well.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from agentkit_loop.credentials import Secrets
from agentkit_loop.errors import IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    BudgetWarning,
    ModelRequestFailed,
    ModelRequestFinished,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.limits import Limits
from agentkit_loop.observers import ObserverFailure, Registration
from agentkit_loop.purse import Purse
from agentkit_loop.steps import ApprovalRequest, AuthRequest, key_of
from agentkit_loop.usage import Usage

if TYPE_CHECKING:
    from agentkit_loop.state import LoopState

OF_THE_GRACE = 0.75
"""How much of its parent's grace period a child gives to its own tools, so that it can tell its end in time."""


class FamilyLock:
    """Held while any session of a family tells an event; a thread may take it again, and ask whether it has it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holder: int | None = None
        self._depth = 0

    def acquire(self) -> None:
        """Wait for it and take it."""
        self._lock.acquire()
        self._depth += 1
        self._holder = threading.get_ident()

    def release(self) -> None:
        """Let go of it."""
        self._depth -= 1
        if not self._depth:
            self._holder = None
        self._lock.release()

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread has it: an event of the family is being told here."""
        return self._holder == threading.get_ident()


class ChildAsks(msgspec.Struct, frozen=True):
    """An agent behind a call asks; what it wants to know surfaces from its parent's driver."""

    call_id: str
    step: ApprovalRequest | AuthRequest


@attrs.frozen(kw_only=True, eq=False)
class Family:
    """What a call gives to the agent behind it.

    observers: the parent's. lock: held while any of the family tells an event. limits: the parent's that are
    not of the purse, with the time that is left. purse: for the child, below the parent's. secrets: searched
    for in every event of the family. errors: where failures of observers under ACCUMULATE are kept. grace_s:
    how long the child's tools may go on when it is to end.
    """

    observers: tuple[Registration, ...]
    lock: FamilyLock
    limits: Limits | None
    purse: Purse
    secrets: Secrets
    errors: deque[ObserverFailure]
    grace_s: float
    _household: Household
    _call_id: str

    def ask(self, step: ApprovalRequest | AuthRequest, *, is_answered: Callable[[], bool]) -> None:
        """Let a step surface from the parent, unless it does already.

        is_answered: whether an answer, to this step or another, is on its way to the child. Where one was
        given and the child shows the step again, it was refused there, and is asked once more.
        """
        self._household.ask(self._call_id, step, is_answered)


class Household:
    """A session's side of its family.

    post: leaves something for the driving thread. family: of the parent, where the session is a child itself.
    child_usage: what agents behind open calls of a resumed session had used, by call.
    """

    def __init__(
        self,
        state: LoopState,
        post: Callable[[ChildAsks | None], None],
        *,
        limits: Limits | None,
        family: Family | None = None,
        child_usage: dict[str, Usage] | None = None,
    ) -> None:
        self._post = post
        self.lock = FamilyLock() if family is None else family.lock
        self.purse = Purse.of(state, limits) if family is None else family.purse
        self.purse.limit(limits)
        self._calls: dict[str, Purse] = {}  # of the open calls
        for call_id, used in (child_usage or {}).items():
            self._purse_of(call_id).add(used)
        # Held from the root's down to the child's where an answer passes, never the other way.
        self._answering = threading.RLock()
        self._shown: dict[str, set[tuple[str, str]]] = {}  # sessions and ids of what surfaced, by call
        self._steps: dict[str, list[ApprovalRequest | AuthRequest]] = {}  # what the host is to be shown
        self._gone = threading.Condition()
        self._running = 0

    def family_of(
        self,
        call_id: str,
        *,
        observers: tuple[Registration, ...],
        limits: Limits | None,
        secrets: Secrets,
        errors: deque[ObserverFailure],
        grace_s: float,
    ) -> Family:
        """Return what the agent behind a call gets; it counts as running until `left`."""
        with self._gone:
            self._running += 1
        return Family(
            observers=observers,
            lock=self.lock,
            limits=limits,
            purse=self._purse_of(call_id).below(),
            secrets=secrets,
            errors=errors,
            grace_s=grace_s * OF_THE_GRACE,
            household=self,
            call_id=call_id,
        )

    def _purse_of(self, call_id: str) -> Purse:
        if call_id not in self._calls:
            self._calls[call_id] = self.purse.below()
        return self._calls[call_id]

    def left(self) -> None:
        """Take note that an agent behind a call tells nothing any more; on its thread."""
        with self._gone:
            self._running -= 1
            self._gone.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until no agent behind a call runs any more; False where one still does."""
        with self._gone:
            return self._gone.wait_for(lambda: not self._running, timeout_s)

    # --- what is used

    def tell(self, event: AgentEvent, tell: Callable[[AgentEvent], object]) -> None:
        """Tell an event of the session and count what it says, as one step for all of the family.

        A call's result gets what the agent behind it used; here, because a call is closed in many ways.
        """
        self.lock.acquire()
        try:
            if isinstance(event, ToolResultReceived) and event.child_usage is None:
                purse = self._calls.get(event.call_id)
                event = attrs.evolve(event, child_usage=None if purse is None else purse.used())
            try:
                tell(event)
            finally:
                self._count(event)
        finally:
            self.lock.release()

    def _count(self, event: AgentEvent) -> None:
        match event:
            case UsageUpdated():
                self.purse.report(event.request_id, event.usage, event.cost)
            case ModelRequestFinished() | ModelRequestFailed():
                self.purse.settle(event.request_id)
            case BudgetWarning():
                self.purse.note_warning(event.limit)
            case ToolResultReceived():
                with self._answering:
                    self._shown.pop(event.call_id, None)
                    self._steps.pop(event.call_id, None)
                purse = self._calls.pop(event.call_id, None)
                if purse is not None:
                    purse.close()
                elif event.child_usage is not None:
                    self.purse.add(event.child_usage)
            case _:
                pass

    # --- what is asked

    @property
    def steps(self) -> tuple[ApprovalRequest | AuthRequest, ...]:
        """What agents behind calls ask, in the order in which it came, call by call."""
        return tuple(step for steps in list(self._steps.values()) for step in steps)

    @property
    def asking(self) -> tuple[str, ...]:
        """The calls behind which somebody asks."""
        return tuple(call_id for call_id, steps in list(self._steps.items()) if steps)

    def take(self, asks: ChildAsks) -> None:
        """Show a step from now on, on the driving thread; not where its call was closed meanwhile."""
        if asks.call_id in self._calls:
            with self._answering:
                self._steps[asks.call_id] = [*self._steps.get(asks.call_id, ()), asks.step]

    def ask(self, call_id: str, step: ApprovalRequest | AuthRequest, is_answered: Callable[[], bool]) -> None:
        """See `Family.ask`; on the child's thread."""
        key = key_of(step)
        with self._answering:
            if call_id not in self._calls:
                return  # it was closed meanwhile, and nobody is asked any more
            shown = self._shown.setdefault(call_id, set())
            if key in shown or is_answered():
                return
            shown.add(key)
        self._post(ChildAsks(call_id, self._surfacing(call_id, key, step)))

    def _surfacing(
        self, call_id: str, key: tuple[str, str], step: ApprovalRequest | AuthRequest
    ) -> ApprovalRequest | AuthRequest:
        """Return a child's step as it is shown here: it goes once it is answered."""
        original = step._answer  # noqa: SLF001 - the step is ours

        def answer(*given: Any) -> None:
            with self._answering:
                if key not in self._shown.get(call_id, ()):
                    raise IllegalMoveError("answer", "the step is not open", f"{key[1]} was answered before")
                original(*given)  # raises for an answer that the child would refuse
                self._shown[call_id].discard(key)
                self._steps[call_id] = [
                    other for other in self._steps.get(call_id, ()) if key_of(other) != key
                ]
            self._post(None)

        surfacing: Any = step
        return attrs.evolve(surfacing, answer=answer)  # type: ignore[no-any-return] # of the step's own class
