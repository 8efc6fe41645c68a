"""What a dispatcher delivers: payloads with a topic, checked at the boundary, each handler's copy its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.values import JSON, to_json
from agentkit_reporting.timestamps import utc_text

DELTAS = "agent.content_delta"
"""The topic of streamed pieces, which cost nothing unless somebody subscribes to them."""

TOOL_INVOKED, SESSION_COMPLETE = "agent.tool_invoked", "agent.session_complete"
"""The aliases, under which events are told beside their own topic; see bridges.py."""


_FIRST_S, _AFTER_S = (
    -62_135_596_800,
    253_402_300_800,
)  # the years 1 to 9999; what milliseconds say lies beyond


_MAX_SHOWN = 10**18  # Python refuses to write numbers of thousands of digits


class PayloadError(ConfigurationError, ValueError):
    """A payload was refused at the boundary: it is no mapping, or says no session id or time."""


class TopicPayload(dict[str, JSON]):
    """What a handler is given: the payload, a copy of its own, and what it came as.

    topic: under which it was emitted, which is how the handler of a wildcard tells one from another. event: the event
    of an observed loop that it tells, None for what was emitted directly. alias_of: the topic under which that event
    is told as well, `agent.run_finished` for `agent.session_complete`; None for what is no alias. replayed: whether it
    was emitted before the handler subscribed.
    """

    __slots__ = ("alias_of", "event", "replayed", "topic")

    def __init__(
        self,
        payload: Mapping[str, JSON],
        *,
        topic: str = "",
        event: AgentEvent | None = None,
        alias_of: str | None = None,
        replayed: bool = False,
    ) -> None:
        super().__init__(payload)
        self.topic = topic
        self.event = event
        self.alias_of = alias_of
        self.replayed = replayed


@attrs.define(eq=False, kw_only=True)
class Message:
    """One payload on its way.

    number: 1, 2, 3 … of its dispatcher. make: returns a new copy of the payload. event: that it tells, if any.
    alias_of: the topic under which that event is told as well, None for its own. has_failed: whether a handler raised
    on it.
    """

    number: int
    topic: str
    session_id: str
    make: Callable[[], dict[str, JSON]]
    event: AgentEvent | None = None
    alias_of: str | None = None
    has_failed: bool = False


def checked_payload(payload: object, stamp: Clock | None) -> dict[str, JSON]:
    """Return the payload as JSON, detached from the caller's; raises PayloadError for what is refused.

    stamp: the clock that gives the time where the payload has none; None: that is refused.
    """
    if not isinstance(payload, Mapping):
        raise PayloadError(f"payload {_short(payload)} refused; give a mapping with session_id and timestamp")
    session_id, timestamp = payload.get("session_id"), payload.get("timestamp")
    if session_id is None and timestamp is None and stamp is None:
        raise PayloadError(
            'payload without session_id and timestamp refused; give {"session_id": …, "timestamp": …}, an id as text '
            "and an aware datetime, its ISO text or unix seconds, or leave the time to EventDispatcher(stamp=True)"
        )
    if not isinstance(session_id, str) or not session_id:
        raise PayloadError(
            f"payload with session_id={_short(session_id)} refused; give the session's id as text"
        )
    added: dict[str, Any] = {}
    if timestamp is None and stamp is not None:
        added["timestamp"] = timestamp = stamp.now()
    if not _is_time(timestamp):
        raise PayloadError(
            f"payload with timestamp={_short(timestamp)} refused; give an aware datetime, its ISO text or unix "
            "seconds (not milliseconds), or make the dispatcher with stamp=True"
        )
    converted: dict[str, JSON] = to_json({**payload, **added})
    if "session_id" not in converted:  # it became one value as a whole, see values.py
        raise PayloadError("payload whose keys are no names, or without an end, refused; give text as keys")
    return converted


def _is_time(value: object) -> bool:
    if isinstance(value, dt.datetime):
        return value.tzinfo is not None
    if isinstance(value, str):
        try:
            return dt.datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            return False
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _FIRST_S <= value < _AFTER_S


def time_text(value: JSON) -> str | None:
    """Return a payload's time as ISO text in UTC; None for what is none."""
    if not _is_time(value):
        return None
    try:
        moment = (
            dt.datetime.fromisoformat(value)
            if isinstance(value, str)
            else dt.datetime.fromtimestamp(value, dt.UTC)
        )
        return utc_text(moment)
    except (ValueError, OverflowError, OSError):  # a year that no calendar has
        return None


def _short(value: object) -> str:
    """Return what a refused value is: no more of it than its kind where it may hold what is not for a log."""
    if value is None or isinstance(value, (bool, float)) or value == "":
        return repr(value)
    if isinstance(value, int) and abs(value) < _MAX_SHOWN:
        return repr(value)
    return f"<{type(value).__name__}>"
