"""Hypothesis strategies for everything that can stand in a log: values, parts, items, deltas, events.

Event strategies are derived from the classes' own type hints, so a new event class is covered by itself.
"""

from __future__ import annotations

import datetime as dt
import functools
import types
import typing
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, Union

import msgspec
from hypothesis import strategies as st

from agentkit_loop.content import AnyDelta, AnyPart, Item, ToolCallPart, ToolSpec
from agentkit_loop.events import EVENT_TYPES, PAYLOAD_FIELDS, AgentEvent, UnknownEvent
from agentkit_loop.stamping import stamp
from agentkit_loop.usage import Cost, ErrorInfo, Usage

AWKWARD_TEXTS = (
    "",
    "line\nline\r\n",
    'quote " back \\ slash',
    "\u2028\u2029\x85\x0b\x0c\x1c",  # what str.splitlines() splits at and a log must not
    "\x1b[31mred\x1b[0m\x9b2J\x07\x7f\x00",
    "\u202egnp.exe \u200b\u2066",
    "ä€😀",
    '{"v":1,"seq":1,"ts":"',
)
"""Texts that break careless writers, readers and terminals."""

UTC_TIMES = st.datetimes(
    min_value=dt.datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis takes naive bounds and adds the zone
    max_value=dt.datetime(2100, 1, 1),  # noqa: DTZ001 - the same
    timezones=st.just(dt.UTC),
)
"""Aware moments in UTC, to the microsecond."""


def texts(max_size: int = 12) -> st.SearchStrategy[str]:
    """Texts without lone surrogates, now and then an awkward one."""
    return st.text(max_size=max_size) | st.sampled_from(AWKWARD_TEXTS)


def ids(prefix: str = "id") -> st.SearchStrategy[str]:
    """Few enough ids that events meet each other's: `id-1` to `id-5`."""
    return st.integers(1, 5).map(lambda number: f"{prefix}-{number}")


def counts() -> st.SearchStrategy[int]:
    """Whole numbers from 0, mostly small."""
    return st.integers(0, 5_000) | st.integers(0, 2**53)


def json_values(max_leaves: int = 6) -> st.SearchStrategy[Any]:
    """JSON values as events hold them: what `to_json` leaves as it is."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts()
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(6), inner, max_size=3),
        max_leaves=max_leaves,
    )


def json_objects() -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects."""
    return st.dictionaries(texts(6), json_values(3), max_size=3)


def parts(*kinds: type[AnyPart]) -> st.SearchStrategy[AnyPart]:
    """Parts of the given classes, or of every class."""
    return st.one_of(*map(_values, kinds or typing.get_args(AnyPart)))


def deltas() -> st.SearchStrategy[AnyDelta]:
    """Deltas of every kind."""
    return _values(AnyDelta)


def items() -> st.SearchStrategy[Item]:
    """Transcript items of every kind."""
    return _values(Item)


def tool_calls() -> st.SearchStrategy[ToolCallPart]:
    """Tool calls."""
    return _values(ToolCallPart)


def tool_specs() -> st.SearchStrategy[ToolSpec]:
    """Descriptions of tools."""
    return _values(ToolSpec)


def usages() -> st.SearchStrategy[Usage]:
    """Usage with any counts unknown."""
    return _values(Usage)


def costs() -> st.SearchStrategy[Cost]:
    """Costs with exact amounts."""
    return _values(Cost)


def errors() -> st.SearchStrategy[ErrorInfo]:
    """Errors as data."""
    return _values(ErrorInfo)


class Header(typing.NamedTuple):
    """What the emitter stamps on an event."""

    session_id: str
    run_id: str
    turn_id: str | None
    seq: int
    timestamp: dt.datetime


def headers() -> st.SearchStrategy[Header]:
    """Headers of events that were told."""
    return st.builds(
        Header,
        session_id=ids("ses") | texts(),
        run_id=ids("run"),
        turn_id=st.none() | ids("turn"),
        seq=st.integers(1, 1_000_000),
        timestamp=UTC_TIMES,
    )


def payloads_of(cls: type[AgentEvent]) -> st.SearchStrategy[dict[str, Any]]:
    """Payloads of a class, by field."""
    if cls is UnknownEvent:
        new_types = texts().filter(lambda name: name not in EVENT_TYPES)
        return st.fixed_dictionaries({"type": new_types, "payload": json_objects()})
    hints = typing.get_type_hints(cls)
    return st.fixed_dictionaries({name: _values(hints[name]) for name in PAYLOAD_FIELDS[cls]})


def events_of(*classes: type[AgentEvent]) -> st.SearchStrategy[AgentEvent]:
    """Stamped events of the given classes."""
    return st.one_of(*map(_events_of, classes))


_MADE: dict[type[AgentEvent], st.SearchStrategy[AgentEvent]] = {}


def _events_of(cls: type[AgentEvent]) -> st.SearchStrategy[AgentEvent]:
    if cls not in _MADE:
        _MADE[cls] = st.builds(functools.partial(_told, cls), headers(), payloads_of(cls))
    return _MADE[cls]


def events() -> st.SearchStrategy[AgentEvent]:
    """Stamped events of every class, unknown ones included."""
    return events_of(*EVENT_TYPES.values(), UnknownEvent)


def event_lists(max_size: int = 8, session_id: str = "ses-1") -> st.SearchStrategy[list[AgentEvent]]:
    """Any events one after another in one session, `seq` 1, 2, 3 …; they need not make sense together."""
    return st.lists(events(), max_size=max_size).map(functools.partial(_renumbered, session_id))


def _told(cls: type[AgentEvent], header: Header, payload: dict[str, Any]) -> AgentEvent:
    event = cls(**payload)
    stamp(event, *header)
    return event


def _renumbered(session_id: str, told: list[AgentEvent]) -> list[AgentEvent]:
    fresh = []
    for seq, event in enumerate(told, 1):
        payload = {name: getattr(event, name) for name in PAYLOAD_FIELDS[type(event)]}
        header = Header(session_id, event.run_id, event.turn_id, seq, event.timestamp)
        fresh.append(_told(type(event), header, payload))
    return fresh


_SIMPLE: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
    Any: json_values,
    bool: st.booleans,
    bytes: lambda: st.binary(max_size=8),
    float: lambda: st.floats(0, 1e9),
    int: counts,
    str: texts,
    type(None): st.none,
    Decimal: lambda: st.decimals(0, 1000, places=8),
    dt.datetime: lambda: UTC_TIMES,
    dict[str, Any]: json_objects,
}


@functools.cache
def _values(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a type hint of an event or of a record in one."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]()
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{name: _values(hints[name]) for name in hint.__struct_fields__})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(_values, arguments))
    if origin is dict:
        return st.dictionaries(texts(6), _values(arguments[1]), max_size=3)
    if origin is not tuple:
        raise TypeError(f"no strategy for {hint!r}; teach it to tests/strategies.py")
    if arguments[-1] is Ellipsis:
        return st.lists(_values(arguments[0]), max_size=3).map(tuple)
    return st.tuples(*map(_values, arguments))
