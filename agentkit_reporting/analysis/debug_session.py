"""One session as a debug replay has it: its steps, where their events are, and what had been used by when.

The events are read once. Those that any fold reads are kept as lines (`debug_store`), the previews of answers are
only counted. Steps are in the order in which they ended, so that what a step says was true at its point.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias

from agentkit_loop import events as ev
from agentkit_loop.content import AppendBytes, AppendText
from agentkit_loop.events import AgentEvent
from agentkit_reporting.analysis.debug_draft import StepDraft
from agentkit_reporting.analysis.debug_step import DebugStep
from agentkit_reporting.analysis.debug_store import LineStore
from agentkit_reporting.analysis.debug_titles import WAITS_FOR, title_of
from agentkit_reporting.analysis.run_lineage import Lineage
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.usage import UsageReporter, UsageTotals

__all__ = ["RecordedSteps", "RecordedUsage", "SessionEvents", "StepPlaces"]

_PREVIEWS = (AppendText, AppendBytes)


class RecordedSteps(Protocol):
    """What a debug replay needs of what was recorded, be it an event log or a step log."""

    session_id: str
    is_event_log: bool
    steps: list[DebugStep]
    store: LineStore

    def cut(self, count: int) -> int:
        """Return how many stored lines had been told when so many steps were over."""

    def totals(self, count: int) -> UsageTotals:
        """Return what had been used when so many steps were over."""

    def facts(self, number: int) -> dict[str, Any]:
        """Return the facts of a step by its number, from 1."""

    def step_at(self, place: int) -> int:
        """Return the number of the step that a stored line belongs to."""

    def texts_at(self, line: bytes) -> list[Any]:
        """Return the values of a stored line in which a search looks."""


class StepPlaces:
    """Where the stored lines of each step are: by line its step, by step how many lines there were at its end."""

    def __init__(self) -> None:
        self.steps = array("I")  # of each line the number of its step, in the order in which steps began
        self._final = array("I")  # from these numbers to those of the steps
        self._cuts = array("Q")
        self._firsts = array("Q")

    def settle(self, order: Iterable[StepDraft], count: int) -> None:
        """Take the order in which the steps ended. count: how many there are."""
        self._final = array("I", bytes(4 * count))
        for number, draft in enumerate(order, 1):
            self._final[draft.number] = number
            self._cuts.append(draft.cut)
        firsts = [0] * (count + 1)
        for place in range(len(self.steps) - 1, -1, -1):
            firsts[self._final[self.steps[place]]] = place
        self._firsts.extend(firsts)

    def cut(self, count: int) -> int:
        """Return how many lines there were when so many steps were over."""
        return self._cuts[count - 1] if count else 0

    def step_at(self, place: int) -> int:
        """Return the number of the step of a line, from 1."""
        return self._final[self.steps[place]]

    def of_step(self, number: int) -> Iterator[int]:
        """Yield the places of a step's lines."""
        for place in range(self._firsts[number], self._cuts[number - 1]):
            if self._final[self.steps[place]] == number:
                yield place


class RecordedUsage:
    """What had been used by when, as UsageReporter adds it up."""

    def __init__(self) -> None:
        self._reporter = UsageReporter()
        self._cuts = array("Q")
        self._totals: list[UsageTotals] = []
        self._request: tuple[str, str] | None = (
            None  # of the last entry, as long as no step can have ended since
        )

    def note(self, event: AgentEvent, cut: int) -> None:
        """Take an event. cut: how many lines there are with it."""
        if type(event) is not ev.UsageUpdated:
            if type(event) is not ev.ContentDelta:
                self._request = None
            return
        self._reporter.handle_event(event)
        request = (event.run_id, event.request_id)
        if self._request == request:  # nobody can stop between these two
            self._cuts[-1], self._totals[-1] = cut, self._reporter.total
        else:
            self._request = request
            self._cuts.append(cut)
            self._totals.append(self._reporter.total)

    def at(self, cut: int) -> UsageTotals:
        """Return the sum over all requests when there were so many lines."""
        place = bisect_right(self._cuts, cut)
        return self._totals[place - 1] if place else UsageTotals()


class SessionEvents:
    """A session of an event log. Take all its events in the order of the log, then `settle`."""

    is_event_log = True

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.store = LineStore()
        self.steps: list[DebugStep] = []
        self.path = ""
        """The file of its first event, where it was read from one."""
        self.is_redacted = False
        self.superseded: frozenset[int] = frozenset()
        self._lineage = Lineage()
        self._drafts = _Drafts(frozenset())
        self._usage = RecordedUsage()

    def take(self, event: AgentEvent) -> None:
        """Take the session's next event."""
        if type(event) is ev.ContentDelta and type(event.delta) in _PREVIEWS:
            self._drafts.preview(event)
            return
        if ev.is_redacted(event):
            self.is_redacted = True
        place = len(self.store)
        self.store.append(encode_event(event))
        self._lineage.take(event)
        self._usage.note(event, place + 1)
        self._drafts.take(event, place)

    def settle(self) -> None:
        """Make the steps, once all events are in."""
        self.superseded = self._lineage.superseded()
        drafts = self._drafts
        if self.superseded:  # only now it is known which belongs to what: fold once more, previews left out
            drafts = _Drafts(self.superseded)
            for place, event in self.events(0, len(self.store)):
                drafts.take(event, place)
        self.steps, self._places = drafts.settled()
        del self._lineage, self._drafts

    def events(self, first: int, end: int) -> Iterator[tuple[int, AgentEvent]]:
        """Yield places and events, without previews."""
        for place, line in self.store.lines(first, end):
            yield place, decode_event(line)

    def counting(self, first: int, end: int) -> Iterator[tuple[int, AgentEvent]]:
        """Yield the same without those that were superseded."""
        for place, event in self.events(first, end):
            if place not in self.superseded:
                yield place, event

    def cut(self, count: int) -> int:
        """Return how many stored events had been told when so many steps were over."""
        return self._places.cut(count)

    def totals(self, count: int) -> UsageTotals:
        """Return what had been used when so many steps were over."""
        return self._usage.at(self.cut(count))

    def facts(self, number: int) -> dict[str, Any]:
        """Return the facts of a step, read again from its events."""
        draft: StepDraft | None = None
        for place in self._places.of_step(number):
            for _, event in self.events(place, place + 1):
                draft = draft or StepDraft.of(event)
                draft.take(event)
        return {} if draft is None else draft.facts()

    def step_at(self, place: int) -> int:
        """Return the number of the step that an event belongs to."""
        return self._places.step_at(place)

    def texts_at(self, line: bytes) -> list[Any]:
        """Return the values of an event's payload, without its fields' names and its ids."""
        event = decode_event(line)
        names = (name for name in ev.PAYLOAD_FIELDS[type(event)] if not name.endswith("_id"))
        return [getattr(event, name) for name in names if name not in ("digests", "metadata", "observers")]


class _Drafts:
    """Makes steps of events. superseded: places of those that do not count."""

    def __init__(self, superseded: frozenset[int]) -> None:
        self._superseded = superseded
        self._open: dict[_Key, StepDraft] = {}
        self._places = StepPlaces()
        self._ended: list[StepDraft] = []
        self._arrivals = 0
        self._count = 0
        self._cut = 0

    def preview(self, event: ev.ContentDelta) -> None:
        """Take a piece of an answer that is told whole later."""
        self._arrivals += 1
        draft = self._open.get(("model_request", event.run_id, event.request_id))
        if draft is not None:
            draft.last_seq, draft.arrival, draft.cut = event.seq, self._arrivals, self._cut

    def take(self, event: AgentEvent, place: int) -> None:
        """Take a stored event."""
        self._arrivals += 1
        self._cut = place + 1
        is_superseded = place in self._superseded
        key = _key(event, event.run_id if is_superseded else "")
        draft = None if key is None else self._open.get(key)
        if draft is None:
            draft = StepDraft.of(event)
            draft.number, draft.is_superseded = self._count, is_superseded
            self._count += 1
            if key is not None:
                self._open[key] = draft
            elif draft.kind in ("approval", "auth"):
                self._ask(draft, event)
        draft.take(event)
        draft.arrival, draft.cut = self._arrivals, self._cut
        self._places.steps.append(draft.number)
        if draft.is_over:
            if key is not None:
                del self._open[key]
            self._end(draft)

    def _ask(self, draft: StepDraft, event: AgentEvent) -> None:
        """Take the tool of the call that a question is about, as far as it is open; and that it waits, or no more."""
        call_id = getattr(event, "call_id", "")
        call = self._open.get(("tool_call", event.run_id, call_id)) or self._open.get(
            ("tool_call", "", call_id)
        )
        if call is None:
            return
        draft.tool = call.tool
        match event:
            case ev.ApprovalRequired():
                call.waits_for = "approval"
            case ev.AuthRequired():
                call.waits_for = "credentials"
            case _:
                call.waits_for = ""

    def _end(self, draft: StepDraft) -> None:
        """Word a step that is over; its facts are read again when they are asked for."""
        facts = draft.facts()
        if draft.status == "open" and draft.waits_for:
            draft.status = "waiting"
            facts[WAITS_FOR] = draft.waits_for
        draft.title = title_of(draft.kind, draft.tool, draft.status, facts)
        draft.content = {}
        self._ended.append(draft)

    def settled(self) -> tuple[list[DebugStep], StepPlaces]:
        """Return the steps in order, and where their events are; what has no end is open."""
        for draft in self._open.values():
            self._end(draft)
        self._open = {}
        self._ended.sort(key=lambda draft: draft.arrival)
        self._places.settle(self._ended, self._count)
        return [_step(draft, number) for number, draft in enumerate(self._ended, 1)], self._places


_Key: TypeAlias = tuple[str, str, str]


def _key(event: AgentEvent, scope: str) -> _Key | None:
    """Return by what the events of a step know each other; None for one that is a step alone.

    Ids of requests are the run's here, since a run that another went on from may tell the same ones; those of calls
    are the session's, over its runs. scope: the run, of an event that does not count.
    """
    match event:
        case (
            ev.ContentDelta(request_id=request_id)
            | ev.UsageUpdated(request_id=request_id)
            | ev.ModelRequestStarted(request_id=request_id)
            | ev.ModelRequestFinished(request_id=request_id)
            | ev.ModelRequestFailed(request_id=request_id)
        ):
            return ("model_request", event.run_id, request_id)
        case ev.ToolCallRequested():
            return ("tool_call", scope, event.call.id)
        case (
            ev.ToolExecutionStarted(call_id=call_id)
            | ev.ToolExecutionProgress(call_id=call_id)
            | ev.ToolResultReceived(call_id=call_id)
        ):
            return ("tool_call", scope, call_id)
        case ev.CompactionStarted() | ev.CompactionFinished():
            return ("compaction", event.run_id, "")
        case _:
            return None


def _step(draft: StepDraft, number: int) -> DebugStep:
    return DebugStep(
        number=number,
        kind=draft.kind,
        title=draft.title,
        status=draft.status,
        run_id=sys.intern(draft.run_id),
        first_seq=draft.first_seq,
        last_seq=draft.last_seq,
        time=draft.time,
        tool=None if draft.tool is None else sys.intern(draft.tool),
        turn_id=None if draft.turn_id is None else sys.intern(draft.turn_id),
        duration_ms=draft.duration_ms,
        is_superseded=draft.is_superseded,
    )
