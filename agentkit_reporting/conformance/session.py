"""All rules over the events of one session, over all its runs, without what a resume superseded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentkit_loop.content import AppendText
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_reporting.conformance import calls, exchanges, requests, runs, transcript
from agentkit_reporting.conformance.book import EVENT_CLASSES, Book, Teller

_AREAS = (runs.JUDGES, exchanges.JUDGES, requests.JUDGES, calls.JUDGES, transcript.JUDGES)


def _table(cls: type[AgentEvent]) -> tuple[tuple[int, Callable[[Any, Any], None]], ...]:
    """Return which rule of which area looks at a class, in the order of the areas."""
    own = [(place, judges[cls]) for place, judges in enumerate(_AREAS) if cls in judges]
    if runs.MEASURED.get(cls):
        own.insert(0, (0, runs.RunRules.measures))
    if cls in exchanges.STARTING:
        own.insert(0, (1, exchanges.ExchangeRules.may_start))
    return tuple(own)


_TABLE = {cls: _table(cls) for cls in EVENT_CLASSES}


class SessionRules:
    """Judges the events of a session, one after the other; `tell` hears of each fault."""

    __slots__ = ("_areas", "_calls", "_exchanges", "_requests", "book", "runs")

    def __init__(self, tell: Teller) -> None:
        self.book = Book(tell)
        self.runs = runs.RunRules(self.book)
        self._exchanges = exchanges.ExchangeRules(self.book)
        self._requests = requests.RequestRules(self.book)
        self._areas = (
            self.runs,
            self._exchanges,
            self._requests,
            calls.CallRules(self.book, self._requests),
            transcript.TranscriptRules(self.book),
        )

    def take(self, event: AgentEvent) -> None:
        """Judge the session's next event."""
        if type(event) not in runs.PLAIN or not self.runs.passes(event):
            self.header(event)
        self.judge(event)

    def header(self, event: AgentEvent) -> None:
        """Judge the header of an event that is not simply the next one of a turn."""
        self.runs.header(event)
        self._exchanges.header(event)

    def judge(self, event: AgentEvent) -> None:
        """Judge an event whose header was judged."""
        kind = type(event)
        if kind is ContentDelta and self._is_preview(event):  # type: ignore[arg-type] # `kind` says so
            return
        for place, judge in _TABLE[kind]:
            judge(self._areas[place], event)

    def told_call(self, call_id: str) -> bool:
        """Whether a call of that id was ever told in the session."""
        return self._requests.was_told(call_id)

    def _is_preview(self, event: ContentDelta) -> bool:
        """Judge a chunk of text: nearly all events of a log are such, and nearly all are right."""
        asked, delta = self.book.request, event.delta
        if (
            type(delta) is not AppendText
            or asked is None
            or event.request_id != asked.id
            or asked.parts.get(delta.part_id, delta) is not None
        ):
            return False
        self.book.previewed = event.run_id
        return True
