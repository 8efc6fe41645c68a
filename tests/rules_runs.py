"""The rules of headers and runs: numbers, one run at a time, how a run ends, resume and recovery."""

from __future__ import annotations

import datetime as dt

from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    ContentDelta,
    ModelRequestFailed,
    ObserverFailed,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolResultReceived,
)
from tests.rules_book import CLOSING, Book, RunEnd, tells_process_end


def _is_of_recovery(event: AgentEvent) -> bool:
    """Whether a resume may tell the event under the old run's id."""
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
            # What is missing of a committed answer may be told here or in the new run.
            return isinstance(event, ToolCallRequested) or event.category in {"Diagnostic", "Open"}


class RunRules:
    """Looks at every event's header, and at the events that open and close runs."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._seq = 0
        self._session: str | None = None
        self._recovering = False  # the open request was told as process_ended
        self._recoverable_from = 1  # from this number on, nothing but what a recovery tells

    def take(self, event: AgentEvent) -> None:
        """Judge one event."""
        self._header(event)
        if not _is_of_recovery(event):
            self._book.need(event, not self._recovering or isinstance(event, RunStarted), "inside a recovery")
            if not isinstance(event, RunStarted):
                self._recoverable_from = event.seq + 1
        match event:
            case RunStarted():
                self._start(event)
            case ModelRequestFailed() if event.error_class == "process_ended":
                self._recovering = True
                self._book.need(event, event.duration_ms is None, "nobody was there to measure it")
            case ObserverFailed():
                self._book.need(event, 0 < event.event_seq < event.seq, "fails on no earlier event")
            case _ if isinstance(event, CLOSING):
                self._end(event)
            case _:
                pass

    def _header(self, event: AgentEvent) -> None:
        book = self._book
        book.need(event, event.seq == self._seq + 1, f"follows {self._seq}")
        self._seq = event.seq
        book.need(event, event.timestamp.utcoffset() == dt.timedelta(0), "time is not UTC")
        book.need(event, self._session in {None, event.session_id}, "another session")
        self._session = self._session or event.session_id
        if not isinstance(event, ContentDelta):
            self._measures(event)
        if isinstance(event, RunStarted):
            book.need(event, book.run_id is None, "another run is open")
        elif book.run_id is not None:
            book.need(event, event.run_id == book.run_id, "another run")
        else:
            # An observer may fail on the closing event itself; there is no later place to tell it.
            late = bool(book.runs) and isinstance(event, ObserverFailed) and event.run_id == book.runs[-1]
            book.need(event, late, "before RunStarted")

    def _measures(self, event: AgentEvent) -> None:
        for name in ("duration_ms", "first_content_ms", "delay_ms", "retry_after_ms"):
            measured = getattr(event, name, None)
            self._book.need(event, measured is None or measured >= 0, f"{name} is below 0")

    def _start(self, event: RunStarted) -> None:
        book = self._book
        if not book.runs:
            book.need(event, event.resumed_run is None and event.resumed_after is None, "resumes nothing")
        else:
            book.need(event, event.run_id not in book.runs, "run id told before")
            book.need(event, event.resumed_run == book.runs[-1], f"does not go on from {book.runs[-1]}")
            after = event.resumed_after
            # Whether the recovery counts as the old run's is left open: what lies between must be recovery.
            sound = after is not None and self._recoverable_from - 1 <= after < event.seq
            book.need(event, sound, f"resumed after {after}, which leaves out events that count")
            book.need(event, not event.items, "a resume preloads no items")
        book.run_id = event.run_id
        book.runs.append(event.run_id)
        book.cut, book.broken = False, None
        self._recovering = False
        self._recoverable_from = event.seq + 1

    def _end(self, event: RunEnd) -> None:
        book = self._book
        book.need(event, book.request is None, "a request is open")
        book.need(event, not book.compacting, "a compaction is open")
        if book.run_id is not None:
            book.need(event, event.usage == book.usage_of_run(), "usage is not the sum over the run")
        if isinstance(event, RunFailed) and tells_process_end(event.error):
            self._crash(event)
        elif isinstance(event, RunFinished):
            self._leave(event)
        elif book.need(event, not book.open_calls, "a call is open"):
            book.need(event, book.exchange is None, "an exchange is open")
        book.run_id = None
        self._recovering = False

    def _crash(self, event: RunFailed) -> None:
        """Judge the end of a recovery; calls may stay open, and a body that ran must start again."""
        self._book.need(event, event.duration_ms is None, "nobody was there to measure it")
        for call in self._book.open_calls.values():
            if call.status == "running":
                call.status = "orphan"

    def _leave(self, event: RunFinished) -> None:
        book = self._book
        book.need(
            event, book.broken is None, f"the exchange ended as {book.broken}, so the run is not finished"
        )
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
        something = book.exchange is not None or book.unasked or len(book.runs) > 1
        book.need(event, something, "suspended with nothing open")
