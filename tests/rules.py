"""The rules of the event contract over a list of events in memory, for tests of the loop.

The rules are those of `agentkit_reporting.conformance`, which checks logs. Only here the transcript is folded
with its whole content, and the package's own fold is compared with it (`tests/rules_transcript.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from agentkit_loop.events import PAYLOAD_FIELDS, AgentEvent
from agentkit_loop.transcript import Transcript
from agentkit_reporting.conformance.session import SessionRules
from tests.rules_transcript import FoldRules


class Rules:
    """Walks the events once; `faults` says what is wrong, one line each. fold: the one that is compared."""

    def __init__(self, fold: Transcript | None = None) -> None:
        self.faults: list[str] = []
        self._session = SessionRules(self._tell)
        self._fold = FoldRules(self._tell, fold or Transcript())

    def _tell(self, event: AgentEvent, text: str) -> None:
        self.faults.append(f"{event.seq} {event.type}: {text}")

    def take(self, event: AgentEvent) -> None:
        """Judge the session's next event; for those who look after each step."""
        self._session.take(event)
        self._fold.take(event)

    def walk(self, events: Sequence[AgentEvent], *, closed: bool = True) -> list[str]:
        """Judge the events, and with `closed` that they end with their run; return the faults."""
        for event in events:
            self.take(event)
        if closed and events and self._session.book.run_id is not None:
            self._tell(events[-1], "the log ends with an open run")
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
