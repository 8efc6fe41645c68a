"""The rules of headers and runs: numbers, one run at a time, how a run ends, resume and recovery."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from agentkit_loop.events import (
    EVENT_TYPES,
    PAYLOAD_FIELDS,
    AgentEvent,
    CompactionFinished,
    ModelRequestFailed,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolResultReceived,
)
from agentkit_reporting.conformance.book import EVENT_CLASSES, Book, RunEnd, tells_process_end

_FORKED_FROM = "forked_from"  # of the metadata: whether the model had still to answer where a fork began
_MEASURES = ("duration_ms", "first_content_ms", "delay_ms", "retry_after_ms")
MEASURED: dict[type[AgentEvent], tuple[str, ...]] = {
    cls: tuple(name for name in _MEASURES if name in PAYLOAD_FIELDS[cls]) for cls in EVENT_TYPES.values()
}
"""The fields of each event class that are measured times."""

MAY_BE_OF_RECOVERY = frozenset(
    cls
    for cls in EVENT_CLASSES
    if cls.category in {"Diagnostic", "Open"}
    or cls in {ModelRequestFailed, CompactionFinished, ToolResultReceived, RunFailed, ToolCallRequested}
)
"""Classes of events of which a resume may tell some under the old run's id."""


def is_of_recovery(event: AgentEvent) -> bool:
    """Whether a resume may tell the event under the old run's id."""
    if type(event) not in MAY_BE_OF_RECOVERY:
        return False
    match event:
        case ModelRequestFailed():
            return event.error_class == "process_ended"
        case CompactionFinished():
            return event.plan is None
        case ToolResultReceived():
            return event.interrupted
        case RunFailed():
            return tells_process_end(event.error)
        case _:
            return True  # what is missing of a committed answer may be told here or in the new run


class RunRules:
    """Looks at every event's header, and at the events that open and close runs."""

    __slots__ = ("_book", "is_followed", "is_recovering", "recoverable_from", "session_id")

    def __init__(self, book: Book) -> None:
        self._book = book
        self.session_id: str | None = None
        self.is_followed = True  # by its numbers too; if not, no event is simply the next one
        self.is_recovering = False  # the open request was told as process_ended
        self.recoverable_from = 1  # from this number on, nothing but what a recovery tells

    def header(self, event: AgentEvent) -> None:
        """Judge what every event has."""
        book = self._book
        if event.seq != book.seq + 1:
            book.fault(event, f"follows {book.seq}")
        book.seq = event.seq
        if event.timestamp.tzinfo is not dt.UTC:
            book.need(event, event.timestamp.utcoffset() == dt.timedelta(0), "time is not UTC")
        if event.session_id != self.session_id:
            book.need(event, self.session_id is None, "another session")
            self.session_id = self.session_id or event.session_id
        if event.run_id != book.run_id or type(event) is RunStarted:
            self._belongs(event)
        if not is_of_recovery(event):
            started = type(event) is RunStarted
            if self.is_recovering and not started:
                book.fault(event, "inside a recovery")
            if not started:
                self.recoverable_from = event.seq + 1

    def _belongs(self, event: AgentEvent) -> None:
        """Judge the run's id, where it is not that of the open run."""
        book = self._book
        if isinstance(event, RunStarted):
            book.need(event, book.run_id is None, "another run is open")
        elif book.run_id is not None:
            book.fault(event, "another run")
        else:
            # An observer may fail on the closing event itself; there is no later place to tell it.
            late = isinstance(event, ObserverFailed) and event.run_id == book.last_run
            book.need(event, late, "before RunStarted")

    def measures(self, event: AgentEvent) -> None:
        """Judge measured times, for the classes that have some."""
        for name in MEASURED[type(event)]:
            measured = getattr(event, name)
            if measured is not None and measured < 0:
                self._book.fault(event, f"{name} is below 0")

    def start(self, event: RunStarted) -> None:
        """Judge the beginning of a run."""
        book = self._book
        if book.last_run is None:
            book.need(event, event.resumed_run is None and event.resumed_after is None, "resumes nothing")
            book.first_run = event.run_id
            origin = event.metadata.get(_FORKED_FROM)
            if isinstance(origin, dict) and origin.get("unanswered") is True and event.items:
                book.unasked = True  # as it was in the session that this one was forked from
        else:
            told = event.run_id == book.last_run or event.run_id in book.runs
            book.need(event, not told, "run id told before")
            book.runs[book.last_run] = None
            book.need(event, event.resumed_run == book.last_run, "does not go on from {}", book.last_run)
            after = event.resumed_after
            # Whether the recovery counts as the old run's is left open: what lies between must be recovery.
            sound = after is not None and self.recoverable_from - 1 <= after < event.seq
            book.need(event, sound, "resumed after {}, which leaves out events that count", after)
            book.need(event, not event.items, "a resume preloads no items")
        book.run_id = book.last_run = event.run_id
        book.cut, book.broken = False, None
        self.is_recovering = False
        self.recoverable_from = event.seq + 1

    def request_failed(self, event: ModelRequestFailed) -> None:
        """Judge a request that a crash cut."""
        if event.error_class == "process_ended":
            self.is_recovering = True
            self._book.need(event, event.duration_ms is None, "nobody was there to measure it")

    def observer_failed(self, event: ObserverFailed) -> None:
        """Judge on which event an observer failed."""
        self._book.need(event, 0 < event.event_seq < event.seq, "fails on no earlier event")

    def end(self, event: RunEnd) -> None:
        """Judge the end of a run."""
        book = self._book
        if book.request is not None:
            book.fault(event, "a request is open")
            if book.request.holes is not None:
                book.request.holes.end(is_whole=True)
        if book.compacting:
            book.fault(event, "a compaction is open")
        book.need(event, not book.own_calls, "a call is open that no model asked for")
        if book.run_id is not None and not book.told_as_run(event.usage):
            book.fault(event, "usage is not the sum over the run")
        if isinstance(event, RunFailed) and tells_process_end(event.error):
            self._crash(event)
        elif isinstance(event, RunFinished):
            self._leave(event)
        elif book.need(event, not book.open_calls, "a call is open"):
            book.need(event, book.exchange is None, "an exchange is open")
        book.rest()
        self.is_recovering = False

    def _crash(self, event: RunFailed) -> None:
        """Judge the end of a recovery; calls may stay open, and a body that ran must start again."""
        self._book.need(event, event.duration_ms is None, "nobody was there to measure it")
        for call in self._book.open_calls.values():
            if call.status == "running":
                call.status = "orphan"

    def _leave(self, event: RunFinished) -> None:
        book = self._book
        book.need(
            event, book.broken is None, "the exchange ended as {}, so the run is not finished", book.broken
        )
        if event.open_approvals or event.open_auths or book.approvals or book.auths:
            told = sorted((*event.open_approvals, *event.open_auths))
            book.need(event, told == sorted((*book.approvals, *book.auths)), "not what is open")
        if event.outcome == "completed":
            if book.need(event, not book.open_calls, "a call is open"):
                open_exchange = book.exchange is not None
                book.need(event, not open_exchange, "an exchange is open")
                book.need(event, open_exchange or not book.unasked, "input is unanswered")
            return
        waits = all(call.may_wait for call in book.open_calls.values())
        book.need(event, waits, "a call is open that waits for nobody")
        # A resumed run may have found the transcript's tail unanswered without any input of its own.
        something = book.exchange is not None or book.unasked or book.first_run != book.last_run
        book.need(event, something, "suspended with nothing open")


JUDGES: Mapping[type[AgentEvent], Callable[[Any, Any], None]] = {
    RunStarted: RunRules.start,
    ModelRequestFailed: RunRules.request_failed,
    ObserverFailed: RunRules.observer_failed,
    RunFinished: RunRules.end,
    RunFailed: RunRules.end,
    RunCancelled: RunRules.end,
}
"""Which rule looks at which class of events."""
