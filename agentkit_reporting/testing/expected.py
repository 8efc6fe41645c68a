"""What a test expects of one event: its class, its wire name, a predicate, a class with fields, or `...` for a gap."""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import EllipsisType
from typing import Any, TypeAlias

import attrs
import msgspec

from agentkit_loop.content import AnyDelta, AnyPart, Delta, Item, Parent, ToolCallPart, ToolSpec
from agentkit_loop.differences import first_difference, shown
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    EVENT_TYPES,
    HEADER_FIELDS,
    PAYLOAD_FIELDS,
    AgentEvent,
    ContentDelta,
    UnknownEvent,
)
from agentkit_loop.usage import Cost, ErrorInfo, ObserverStats, Usage
from agentkit_reporting.terminal import one_line
from agentkit_reporting.toml_source import nearest

__all__ = [
    "Expected",
    "FieldDifference",
    "Matching",
    "argument_differences",
    "arguments_text",
    "as_matching",
    "matching",
]

_OPENED = {"call": (ToolCallPart,), "error": (ErrorInfo,), "delta": typing.get_args(AnyDelta)}
"""Records of an event whose fields may be named as if they were the event's own; by field."""

_RECORDS = (Cost, Item, ObserverStats, Parent, ToolSpec, Usage)
"""Further records of events, which a predicate may look into."""

_NOTHING = object()
_MAX_TEXT = 160  # characters of an expectation as it is shown


@attrs.frozen
class FieldDifference:
    """Where an event is not what was expected. name: of the field; expected, was: both as they are shown."""

    name: str
    expected: str
    was: str

    def __str__(self) -> str:
        return f"{self.name}: expected {self.expected}, was {self.was}"


class Matching:
    """What a test expects of one event; made by `matching`.

    cls: its class, or of a ContentDelta that of its delta. fields: what is expected of each. predicate: what it must
    be true of.
    """

    def __init__(
        self,
        cls: type[AgentEvent | Delta] = AgentEvent,
        fields: Mapping[str, Any] | None = None,
        predicate: Callable[[AgentEvent], object] | None = None,
    ) -> None:
        __tracebackhide__ = True
        self.cls = cls
        self.fields = dict(fields or {})
        self.predicate = predicate
        known = _field_names(cls)
        for name in self.fields:
            if name not in known:
                raise ConfigurationError(
                    f"{cls.__name__} has no field {name!r}; {nearest(name, known) if known else 'name none'}"
                )

    def is_of_class(self, event: AgentEvent) -> bool:
        """Whether the event is of the class."""
        if issubclass(self.cls, Delta):
            return isinstance(event, ContentDelta) and isinstance(event.delta, self.cls)
        return isinstance(event, self.cls)

    def fits(self, event: AgentEvent) -> bool:
        """Whether the event is what is expected.

        A predicate that asks for what other events have, and this one has not, is not true of it; whatever else it
        raises is its author's, as for an attribute that no event has.
        """
        if not self.is_of_class(event):
            return False
        if any(not _equal(value, _value(event, name)) for name, value in self.fields.items()):
            return False
        try:
            return self.predicate is None or bool(self.predicate(event))
        except AttributeError as error:
            is_asked_of_event = isinstance(error.obj, (AgentEvent, msgspec.Struct))
            if is_asked_of_event and error.name not in _known_attributes():
                raise  # it would never be true, and so assert nothing
            return False

    def differences(self, event: AgentEvent) -> list[FieldDifference]:
        """Return what keeps an event of the class from being what is expected, field by field."""
        found = []
        for name, value in self.fields.items():
            was = _value(event, name)
            if not _equal(value, was):
                found.append(_difference(name, value, was))
        return found

    def __str__(self) -> str:
        return one_line(self._text(), _MAX_TEXT)

    def __repr__(self) -> str:
        return f"<{self}>"

    def _text(self) -> str:
        fields = ", ".join(f"{name}={_expected_text(value)}" for name, value in self.fields.items())
        name = "" if self.cls is AgentEvent and self.predicate is not None else self.cls.__name__
        predicate = "" if self.predicate is None else _name_of(self.predicate)
        return f"{name}({fields})" if fields else name or predicate


Expected: TypeAlias = type[AgentEvent] | type[Delta] | str | Matching | Callable[[Any], object]
"""What may be expected of one event: a class (of a delta: a ContentDelta that holds one), a wire name
(`"tool_call_requested"`), `matching(…)`, or a predicate."""


def matching(kind: type[AgentEvent | Delta] | str, /, **fields: Any) -> Matching:
    """Return an expectation: an event of a kind, with these fields; others may be anything.

    fields: by name, also those of the event's `call`, `error` or `delta`: `matching(ToolCallRequested, name="pay")`,
    and those that every event has (`session_id`, `turn_id`, …). A value is expected to be equal; of a record (a
    Usage, say) a dict names some of the fields. A function is called with the value, a class is what the value must
    be an instance of, a compiled pattern must be found in the text, `...` is anything but None.
    Raises ConfigurationError for a kind or field that there is not.
    """
    __tracebackhide__ = True
    return Matching(_class_of(kind), fields)


def as_matching(expected: Expected) -> Matching:
    """Return what was given in one of the ways as the one that all of them mean; raises ConfigurationError."""
    __tracebackhide__ = True
    if isinstance(expected, Matching):
        return expected
    if isinstance(expected, (str, type)):
        return Matching(_class_of(expected))
    if callable(expected):
        return Matching(predicate=expected)
    raise ConfigurationError(
        f"{shown(expected)} refused because it expects nothing of an event; give an event class, a wire name, "
        "matching(…), a predicate, or ... between others"
    )


def argument_differences(expected: Mapping[str, Any], given: Mapping[str, Any]) -> list[FieldDifference]:
    """Return where a call's arguments are not what was expected; those that nothing is expected of may be anything."""
    compared = ((name, value, given.get(name, _NOTHING)) for name, value in expected.items())
    return [_difference(name, value, was) for name, value, was in compared if not _equal(value, was)]


def arguments_text(arguments: Mapping[str, Any]) -> str:
    """Return what is expected of arguments in short: `amount=3, to=…`."""
    return one_line(
        ", ".join(f"{name}={_expected_text(value)}" for name, value in arguments.items()), _MAX_TEXT
    )


def _class_of(kind: object) -> type[AgentEvent | Delta]:
    __tracebackhide__ = True
    if isinstance(kind, str):
        if kind not in EVENT_TYPES:
            raise ConfigurationError(
                f"{kind!r} refused because no event has that wire name; {nearest(kind, EVENT_TYPES)}"
            )
        return EVENT_TYPES[kind]
    if isinstance(kind, type) and issubclass(kind, (AgentEvent, Delta)):
        return kind
    raise ConfigurationError(
        f"{shown(kind)} refused because it is no class of events; give one, such as ToolCallRequested"
    )


# --- fields


def _field_names(cls: type[AgentEvent | Delta]) -> set[str]:
    if issubclass(cls, Delta):
        return {"request_id", *HEADER_FIELDS, *cls.__struct_fields__}
    payload = PAYLOAD_FIELDS.get(cls, ())
    inner = {
        name for field in payload for record in _OPENED.get(field, ()) for name in record.__struct_fields__
    }
    return {*HEADER_FIELDS, *payload, *inner}


@functools.cache
def _known_attributes() -> frozenset[str]:
    """Return what some event, or a record in one, has."""
    records = (*_OPENED["call"], *_OPENED["error"], *_OPENED["delta"], *typing.get_args(AnyPart), *_RECORDS)
    fields = (name for record in records for name in record.__struct_fields__)
    classes = (*EVENT_TYPES.values(), UnknownEvent)
    return frozenset((*fields, *(name for cls in classes for name in dir(cls) if not name.startswith("_"))))


def _value(event: AgentEvent, name: str) -> Any:
    """Return the value of a field of the event, or of the record in it."""
    payload = PAYLOAD_FIELDS.get(type(event), ())
    if name in HEADER_FIELDS or name in payload:
        return getattr(event, name)
    for field in _OPENED:
        if field in payload and hasattr(getattr(event, field), name):
            return getattr(getattr(event, field), name)
    return _NOTHING


def _equal(expected: Any, was: Any) -> bool:
    if was is _NOTHING:
        return False
    if isinstance(expected, EllipsisType):
        return was is not None
    if isinstance(expected, type):
        return isinstance(was, expected) or bool(expected == was)  # some classes equal what they describe
    if isinstance(expected, re.Pattern):
        return isinstance(was, str) and expected.search(was) is not None
    if isinstance(expected, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return bool(expected(was))
    if isinstance(expected, dict) and (isinstance(was, msgspec.Struct) or attrs.has(type(was))):
        return all(_equal(value, getattr(was, name, _NOTHING)) for name, value in expected.items())
    if isinstance(expected, (bool, int, float)) and isinstance(was, bool) is not isinstance(expected, bool):
        return False  # in JSON, true is no number
    if isinstance(expected, list) and isinstance(was, tuple):
        was = list(was)
    return bool(expected == was)


def _difference(name: str, expected: Any, was: Any) -> FieldDifference:
    """Return a difference: of two values that can be looked into, the first place where they differ."""
    if was is _NOTHING:
        return FieldDifference(name, _expected_text(expected), "not there")
    if type(expected) is type(was) and isinstance(was, (str, dict, list)):
        found = first_difference(expected, was, name)
        if found is not None:
            return FieldDifference(one_line(found.path, _MAX_TEXT), found.recorded, found.now)
    return FieldDifference(name, _expected_text(expected), shown(was))


def _expected_text(value: Any) -> str:
    if isinstance(value, EllipsisType):
        return "..."
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, re.Pattern):
        return f"/{value.pattern}/"
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return _name_of(value)
    return shown(value)


def _name_of(function: Callable[..., object]) -> str:
    """Return what a function is called, with its place where it has no name of its own."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    if code is not None and name.endswith("<lambda>"):
        return f"the lambda in line {code.co_firstlineno} of {PurePath(code.co_filename).name}"
    return str(name)
