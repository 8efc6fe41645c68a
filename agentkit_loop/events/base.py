"""What every event has, and the table of event classes.

Events are equal where their class and all their values are. The methods for that, and for `repr`, stand here once, and
each class says `eq=False, repr=False`: attrs would make and compile them anew for each, in half of the time that the
classes take to make, with which every program begins.
"""

from __future__ import annotations

import datetime as dt
import re
import reprlib
from typing import Any, ClassVar

import attrs

from agentkit_loop.values import JSON

UNTOLD = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The timestamp of an event that has not been told yet."""

HEADER_FIELDS = ("session_id", "run_id", "turn_id", "seq", "timestamp", "unknown_fields")
"""Fields of every event that are not part of its payload."""

EVENT_TYPES: dict[str, type[AgentEvent]] = {}
"""Every event class by its wire name, in the order of the categories."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AgentEvent:
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

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash((self.__class__, _values(self)))

    @reprlib.recursive_repr()  # of one that is not told yet, and whose data holds the event itself
    def __repr__(self) -> str:
        values = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}" for field in attrs.fields(type(self))
        )
        return f"{type(self).__qualname__}({values})"


def _values(event: Any) -> tuple[Any, ...]:
    return tuple([getattr(event, field.name) for field in attrs.fields(event.__class__)])


REDACTIONS_FIELD = "redactions"
"""The unknown field that says how many masks stand in a redacted event (DESIGN.md section 6)."""


def is_redacted(event: AgentEvent) -> bool:
    """Whether something was masked in an event, as it says itself."""
    return event.unknown_fields is not None and REDACTIONS_FIELD in event.unknown_fields
