"""The rules of the event contract (DESIGN sections 3 and 4) as one check over the events of a session.

The list holds one session, over all its runs, without what a resume superseded. Each area has a module:
rules_runs (headers, runs, resume, recovery), rules_exchanges (turns, cancel, limits), rules_requests
(requests, deltas, usage, the catalog), rules_calls (calls, approvals, auth), rules_transcript (items, input,
compaction); rules_book holds what they share. Their folds are their own: the loop's are what they judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from agentkit_loop.events import PAYLOAD_FIELDS, AgentEvent
from agentkit_loop.transcript import Transcript
from tests.rules_book import Book
from tests.rules_calls import CallRules
from tests.rules_exchanges import ExchangeRules
from tests.rules_requests import RequestRules
from tests.rules_runs import RunRules
from tests.rules_transcript import TranscriptRules


class Rules:
    """Walks the events once; `faults` says what is wrong, one line each. fold: the one that is compared."""

    def __init__(self, fold: Transcript | None = None) -> None:
        self._book = Book()
        requests = RequestRules(self._book)
        self._areas = (
            RunRules(self._book),
            ExchangeRules(self._book),
            requests,
            CallRules(self._book, requests),
            TranscriptRules(self._book, fold or Transcript()),
        )

    @property
    def faults(self) -> list[str]:
        """What is wrong so far."""
        return self._book.faults

    def take(self, event: AgentEvent) -> None:
        """Judge the session's next event; for those who look after each step."""
        for area in self._areas:
            area.take(event)

    def walk(self, events: Sequence[AgentEvent], *, closed: bool = True) -> list[str]:
        """Judge the events, and with `closed` that they end with their run; return the faults."""
        for event in events:
            self.take(event)
        if closed and events:
            self._book.need(events[-1], self._book.run_id is None, "the log ends with an open run")
        return self.faults


def faults(events: Sequence[AgentEvent], *, closed: bool = True) -> list[str]:
    """Return what is wrong with the events of one session; closed: they end with the end of a run."""
    return Rules().walk(events, closed=closed)


def is_json(value: object) -> bool:
    """Whether the value is JSON as the contract wants it."""
    match value:
        case None | bool():
            return True
        case str():
            return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace").isascii() or not any(
                0xD800 <= ord(character) <= 0xDFFF for character in value
            )
        case int():
            return True
        case float():
            return math.isfinite(value)
        case list():
            return all(is_json(member) for member in value)
        case dict():
            return all(
                isinstance(key, str) and is_json(key) and is_json(member) for key, member in value.items()
            )
        case _:
            return False


def payload_is_json(event: AgentEvent) -> bool:
    """Whether every free value in the event is JSON, and every typed one survives being written as JSON."""
    for name in PAYLOAD_FIELDS[type(event)]:
        value = getattr(event, name)
        if value is None or isinstance(value, (dict, list, str, int, float)):
            if not is_json(value):
                return False
        elif not is_json(msgspec.json.decode(msgspec.json.encode(value))):
            return False
    return True
