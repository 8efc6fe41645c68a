"""All rules over the events of one session, over all its runs, without what a resume superseded."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeAlias

from agentkit_loop.content import AppendText
from agentkit_loop.events import AgentEvent, ContentDelta, RunStarted, TurnStarted, is_redacted
from agentkit_reporting.conformance import calls, digests, exchanges, requests, runs, transcript
from agentkit_reporting.conformance.book import EVENT_CLASSES, Book, Teller

_AREAS = (runs.JUDGES, exchanges.JUDGES, requests.JUDGES, calls.JUDGES, transcript.JUDGES, digests.JUDGES)

_Judges: TypeAlias = tuple[tuple[int, Callable[[Any, Any], None]], ...]
"""Areas by their places, and which rule of each looks at an event."""


def _judges(cls: type[AgentEvent]) -> _Judges:
    """Return which rule of which area looks at a class, in the order of the areas."""
    own = [(place, judges[cls]) for place, judges in enumerate(_AREAS) if cls in judges]
    if runs.MEASURED.get(cls):
        own.insert(0, (0, runs.RunRules.measures))
    if cls in exchanges.STARTING:
        own.insert(0, (1, exchanges.ExchangeRules.may_start))
    return tuple(own)


_TABLE = {cls: _judges(cls) for cls in EVENT_CLASSES}


class SessionRules:
    """Judges the events of a session, one after the other; `tell` hears of each fault."""

    __slots__ = ("_areas", "_exchanges", "_requests", "book", "runs")

    def __init__(self, tell: Teller) -> None:
        self.book = book = Book(tell)
        self.runs = runs.RunRules(book)
        self._exchanges = exchanges.ExchangeRules(book)
        self._requests = requests.RequestRules(book)
        messages = digests.MessageDigests()
        self._areas = (
            self.runs,
            self._exchanges,
            self._requests,
            calls.CallRules(book, self._requests),
            transcript.TranscriptRules(book, messages),
            digests.DigestRules(book, messages, self._tools),
        )

    def take(self, event: AgentEvent) -> None:
        """Judge the session's next event, in memory: what a log's reader sees to is judged as well."""
        is_usual = event.session_id == self.runs.session_id and event.timestamp.tzinfo is dt.UTC
        if not (is_usual and self.take_next(event)):
            self.header(event)
            self.judge(event)
        if is_redacted(event):
            self.book.is_doubted = True

    def take_next(self, event: AgentEvent) -> bool:
        """Judge an event of this session that is simply the next of the open turn, as nearly all are; say if it is."""
        book, rules, cls = self.book, self.runs, event.__class__
        seq = event.seq
        if (
            seq != book.seq + 1
            or event.run_id != book.run_id
            or (event.turn_id != book.turn_id and cls is not TurnStarted)
            or not rules.is_followed
            or rules.is_recovering
            or cls is RunStarted
        ):
            return False
        book.seq = seq
        if cls not in runs.MAY_BE_OF_RECOVERY or not runs.is_of_recovery(event):
            rules.recoverable_from = seq + 1
        # Nearly all events of a log are chunks of text, and nearly all of them are right.
        if cls is ContentDelta and self._is_preview(event):  # type: ignore[arg-type] # the class says so
            return True
        areas = self._areas
        try:
            for place, judge in _TABLE[cls]:
                judge(areas[place], event)
        except RecursionError:
            self._give_up(event)
        return True

    def header(self, event: AgentEvent) -> None:
        """Judge the header of an event that is not simply the next one of a turn."""
        self.runs.header(event)
        self._exchanges.header(event)

    def judge(self, event: AgentEvent) -> None:
        """Judge an event whose header was judged."""
        areas = self._areas
        try:
            for place, judge in _TABLE[event.__class__]:
                judge(areas[place], event)
        except RecursionError:
            self._give_up(event)

    def _give_up(self, event: AgentEvent) -> None:
        """Tell of two values that differ only a thousand levels down."""
        self.book.tell(event, "nested too deeply to be judged")

    def _tools(self) -> dict[str, bytes]:
        return self._requests.catalog

    def told_call(self, call_id: str) -> bool:
        """Whether a call of that id was ever told in the session."""
        return self._requests.was_told(call_id)

    def _is_preview(self, event: ContentDelta) -> bool:
        """Judge a chunk of text; False where it is none, or wrong."""
        asked, delta = self.book.request, event.delta
        if delta.__class__ is not AppendText or asked is None or event.request_id != asked.id:
            return False
        shown = asked.parts.get(delta.part_id)
        if shown.__class__ is not int:
            return False
        asked.parts[delta.part_id] = shown + len(delta.chunk)
        return True
