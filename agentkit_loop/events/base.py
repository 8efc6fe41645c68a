"""What every event has, and the table of event classes."""

from __future__ import annotations

import datetime as dt
import re
from typing import ClassVar

import attrs

from agentkit_loop.records import FrozenRecord
from agentkit_loop.values import JSON

UNTOLD = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The timestamp of an event that has not been told yet."""

HEADER_FIELDS = ("session_id", "run_id", "turn_id", "seq", "timestamp", "unknown_fields")
"""Fields of every event that are not part of its payload."""

EVENT_TYPES: dict[str, type[AgentEvent]] = {}
"""Every event class by its wire name, in the order of the categories."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AgentEvent(FrozenRecord):
    """A fact about an agent's run; base of all events.

    session_id: the conversation. run_id: one driver over it. turn_id: `turn-1`, … or None outside a turn.
    seq: 1, 2, 3 … within the session, without gaps. timestamp: when it was told, aware, UTC.
    unknown_fields: payload fields that a newer writer added, kept so that they are written back; under a
    known key, the whole value as it stood where a record inside it has keys of a newer writer.
    """

    type: ClassVar[str] = ""
    category: ClassVar[str] = ""

    session_id: str = ""
    run_id: str = ""
    turn_id: str | None = None
    seq: int = 0
    timestamp: dt.datetime = UNTOLD
    unknown_fields: dict[str, JSON] | None = None

    def __init_subclass__(cls, *, category: str = "") -> None:
        # attrs makes a slotted class of each class, and this runs for both: the last one stands.
        if cls.__name__.startswith("_"):
            return  # the mutable twin of an event class (stamping.py)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        if name == "unknown_event":
            cls.category = category or cls.category
            return
        cls.type = name
        if category:
            cls.category = category
        EVENT_TYPES[name] = cls


REDACTIONS_FIELD = "redactions"
"""The unknown field that says how many masks stand in a redacted event (DESIGN.md section 6)."""


def is_redacted(event: AgentEvent) -> bool:
    """Whether something was masked in an event, as it says itself."""
    return event.unknown_fields is not None and REDACTIONS_FIELD in event.unknown_fields
