"""Where a session stands at a point, and how that is found again quickly.

The state is folded from the events, as the loop's own is. While a fold goes over a session it leaves copies of itself
behind, at most 32 and evenly over what it has seen; the next question starts at the nearest one before its point. The
copies share their items, so they cost little beside the transcript of the furthest point that was looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import attrs

from agentkit_loop.content import Item, ToolResultPart
from agentkit_loop.events import AgentEvent
from agentkit_loop.open_calls import Approval, Auth, Call
from agentkit_loop.state import Failure, LoopState, Request, Spent
from agentkit_loop.transcript import Transcript
from agentkit_loop.values import JSON
from agentkit_reporting.usage import UsageTotals

__all__ = ["DebugState", "LoopFold", "OpenCall", "StateFinder", "state_of"]

_MOST_COPIES = 32
_FIRST_SPACING = 4  # blocks of stored lines between two copies, while the session is short


@attrs.frozen(kw_only=True)
class OpenCall:
    """A call that has no result yet.

    status: asked (by the model, nothing else was told), running, approved, waits_for_approval, waits_for_credentials.
    input: what the body gets, as far as that was decided. waits_for: id of the open question, None without one.
    """

    call_id: str
    tool: str
    status: str
    input: dict[str, JSON]
    waits_for: str | None = None


@attrs.frozen(kw_only=True)
class DebugState:
    """Where a session stands when so many of its steps are over. A step log tells of the totals alone.

    number: how many steps are over. seq: of the last event that counts. phase: as the loop names it (`idle`,
    `streaming`, `running tools`, …); None for a step log. turn_id: of the open exchange. transcript: what the model
    would be shown. waiting_input: given, and joins the transcript when nothing is open. open_round: results that are
    in while others of their round are not. request_id, request_model: of the open request. open_calls: those without
    a result, in order. totals: what all requests used up to here, also those of superseded runs. misfits: events that
    do not follow from those before them, as in a log without its beginning; the state is then what can be known.
    is_stale: a step before was edited, and this is the state as it was recorded.
    """

    number: int
    session_id: str
    run_id: str = ""
    run_is_open: bool = False
    seq: int = 0
    phase: str | None = None
    turn_id: str | None = None
    transcript: tuple[Item, ...] = ()
    waiting_input: tuple[Item, ...] = ()
    open_round: tuple[ToolResultPart, ...] = ()
    request_id: str | None = None
    request_model: str | None = None
    open_calls: tuple[OpenCall, ...] = ()
    totals: UsageTotals = attrs.Factory(UsageTotals)
    misfits: int = 0
    is_stale: bool = False

    @property
    def pending_approvals(self) -> tuple[OpenCall, ...]:
        """The open calls that wait for a person's decision."""
        return tuple(call for call in self.open_calls if call.status == "waits_for_approval")

    @property
    def pending_auths(self) -> tuple[OpenCall, ...]:
        """The open calls that wait for credentials."""
        return tuple(call for call in self.open_calls if call.status == "waits_for_credentials")


def state_of(
    fold: LoopFold, *, number: int, session_id: str, last_seq: int, totals: UsageTotals, is_stale: bool
) -> DebugState:
    """Return a state that no later event changes. last_seq: of the step before, whose last events may be previews."""
    loop = fold.loop
    request = loop.request
    return DebugState(
        number=number,
        session_id=session_id,
        run_id=loop.run_id,
        run_is_open=loop.run_is_open,
        seq=max(loop.seq, last_seq),
        phase=loop.phase.value,
        turn_id=loop.turn_id,
        transcript=tuple(loop.transcript.items),
        waiting_input=tuple(loop.transcript.waiting),
        open_round=loop.transcript.open_round,
        request_id=None if request is None else request.id,
        request_model=None if request is None else request.model,
        open_calls=tuple(_open_call(call) for call in loop.open_calls),
        totals=totals,
        misfits=fold.misfits,
        is_stale=is_stale,
    )


def _open_call(call: Call) -> OpenCall:
    approval, auth = call.approval, call.auth
    status, waits_for = "asked", None
    if approval is not None and approval.approved is None:
        status, waits_for = "waits_for_approval", approval.id
    elif auth is not None and auth.outcome is None:
        status, waits_for = "waits_for_credentials", auth.id
    elif call.is_running:
        status = "running"
    elif approval is not None and approval.approved:
        status = "approved"
    return OpenCall(
        call_id=call.part.id, tool=call.part.name, status=status, input=call.input, waits_for=waits_for
    )


class LoopFold:
    """The loop's state over events that need not fit together. misfits: how many did not."""

    def __init__(self, loop: LoopState | None = None, misfits: int = 0) -> None:
        self.loop = LoopState() if loop is None else loop
        self.misfits = misfits

    def take(self, event: AgentEvent) -> None:
        """Take one event; of one that does not follow from those before, what can be taken."""
        try:
            self.loop.apply(event)
        except (KeyError, IndexError, AttributeError, TypeError):
            self.misfits += 1

    def copy(self) -> LoopFold:
        """Return a fold that goes on by itself."""
        return LoopFold(_copied(self.loop), self.misfits)


_MUTABLE = (LoopState, Transcript, Request, Failure, Spent, Call, Approval, Auth)
"""What an event changes in place. Everything else in a state is replaced, never changed."""

_Value = TypeVar("_Value")


def _copied(value: _Value) -> _Value:
    """Return a value that can be changed without the other; what no event changes is shared."""
    if isinstance(value, _MUTABLE):
        fresh = copy.copy(value)
        for field in attrs.fields(type(value)):
            setattr(fresh, field.name, _copied(getattr(value, field.name)))
        return fresh
    found: Any = value
    if isinstance(found, list):
        found = found.copy()
    elif isinstance(found, dict):
        found = {key: _copied(member) for key, member in found.items()}
    elif isinstance(found, set):
        found = found.copy()
    return found  # type: ignore[no-any-return] # of the type that was given


class StateFinder:
    """Finds the state after any number of stored events. events: yields those of a range that count.

    block_of: the number of the block that an event is stored in; copies are left at their borders.
    """

    def __init__(
        self, events: Callable[[int, int], Iterable[tuple[int, AgentEvent]]], block_of: Callable[[int], int]
    ) -> None:
        self._events = events
        self._block_of = block_of
        self._copies: list[tuple[int, LoopFold]] = []  # how many events, and the state after them; rising
        self._spacing = _FIRST_SPACING
        self._fold = LoopFold()
        self._count = 0  # of the events that were folded

    def at(self, count: int) -> LoopFold:
        """Return the state after so many events; it is only to be looked at, and changes with the next call."""
        before = [(seen, fold) for seen, fold in self._copies if seen <= count]
        nearest = before[-1][0] if before else 0
        if not nearest <= self._count <= count:
            self._count = nearest
            self._fold = before[-1][1].copy() if before else LoopFold()
        for place, event in self._events(self._count, count):
            self._leave_copy(place)
            self._fold.take(event)
        self._count = count
        return self._fold

    def _leave_copy(self, place: int) -> None:
        """Leave a copy before the event at this place, where the last one is far enough behind."""
        last = self._copies[-1][0] if self._copies else 0
        if place <= last or self._block_of(place) < self._block_of(last) + self._spacing:
            return
        self._copies.append((place, self._fold.copy()))
        if len(self._copies) > _MOST_COPIES:
            self._copies = self._copies[1::2]
            self._spacing *= 2
