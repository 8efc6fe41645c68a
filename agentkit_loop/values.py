r"""Values as JSON: every value in an event is converted once, here, in one documented form.

| what is handed over | what the event holds |
|---|---|
| str | itself; a lone surrogate becomes its escape, `\udcff` |
| int within 64 bits, finite float, bool, None, list, dict with str keys | itself |
| a larger int | `{"$int": "…"}`; beyond 2,000 bits in hexadecimal, `0x…` |
| integers and reals of other libraries | int and float; a Fraction: its text |
| nan, inf, -inf | `{"$float": "nan"}` |
| bytes, bytearray, memoryview | `{"$bytes": "<base64>"}` |
| set, frozenset | `{"$set": […]}`, sorted by their JSON |
| tuple, deque, other sequences and iterables that are not iterators | a list |
| datetime, date, time | its ISO text |
| timedelta | its seconds |
| Decimal, UUID, Path, UserString | its text |
| Enum | its value |
| dataclass, attrs class, msgspec Struct, pydantic model | a dict of its public fields |
| dict with int, float, bool or None as key | the key as JSON writes it |
| dict with any other key, or keys that would collide | `{"$map": [[key, value], …]}` |
| a dict key that begins with `$` | the key with a second `$` |
| one or more parts (an image from a tool) | `{"$parts": [part, …]}` |
| anything else, a cycle, or more than 100 levels | `{"$repr": "…"}`, at most 1,000 characters |

A value of more than 1,000,000 values (`range(10**12)`, lists that share lists that share lists) becomes one
`{"$repr": "…"}` as a whole, so that a conversion always ends.
"""

from __future__ import annotations

import base64
import collections
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import numbers
import operator
import os
import types
import uuid
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError

JSON: TypeAlias = Any
"""A JSON value: str without lone surrogates, finite number, bool, None, list or dict of them."""

MAX_DEPTH = 100
MAX_REPR = 1_000
MAX_VALUES = 1_000_000
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1  # what msgspec, and so the log, writes and reads as a number
_MAX_DECIMAL_BITS = 2_000  # below the least bound that Python may put on the decimal text of an int
_JSON_KINDS = frozenset({str, int, float, bool, type(None), dict, list})
_TEXTUAL = (decimal.Decimal, fractions.Fraction, uuid.UUID, collections.UserString)
_TIMES = (dt.datetime, dt.date, dt.time)
_NO_LISTS = (Iterator, type, types.GenericAlias)  # can be iterated, but are not what they give


def clean_text(text: str) -> str:
    """Return the text with every lone surrogate as its escape; other text comes back as it is."""
    plain = text if type(text) is str else str.__str__(text)  # a subclass may override what follows
    if plain.isascii():
        return plain
    return plain.encode("utf-8", "backslashreplace").decode("utf-8")


def to_json(value: object) -> JSON:
    """Convert any value to the documented JSON form. Never raises; not idempotent (see `$`)."""
    return _converted(value, escape=True)


def scrub_json(value: JSON) -> JSON:
    """Clean what is JSON by its meaning already (a model's input): as `to_json`, but `$` keys stay."""
    return _converted(value, escape=False)


def compact_json(value: JSON) -> str:
    """Return a JSON value as text without spaces."""
    return msgspec.json.encode(value).decode()


def copy_json(value: JSON) -> JSON:
    """Copy a JSON value deeply; for what is handed to code that may change it."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy_json(item) for item in value]
    return value


def safe_repr(value: object) -> str:
    """Return `repr(value)`, bounded to 1,000 characters, also where `__repr__` itself fails."""
    try:
        text = str.__str__(repr(value))
    except Exception as error:  # noqa: BLE001 - a foreign __repr__ may raise anything
        text = f"<{_type_name(value)}: repr failed with {_type_name(error)}>"
    return clean_text(text if len(text) <= MAX_REPR else text[: MAX_REPR - 1] + "…")


def _type_name(value: object) -> str:
    return clean_text(type.__dict__["__name__"].__get__(type(value)))  # past what a metaclass may define


class _TooManyValuesError(Exception):
    """The walk has met MAX_VALUES values and gives up."""


def _converted(value: object, *, escape: bool) -> JSON:
    if type(value) is str:
        return clean_text(value)
    try:
        return _Conversion(escape=escape).convert(value, MAX_DEPTH)
    except _TooManyValuesError:
        return {"$repr": f"<{_type_name(value)} of more than {MAX_VALUES:,} values>"}


class _Conversion:
    """One walk over a value.

    `seen` holds the containers that are open, so that a cycle is noticed; `left` counts down the values.
    """

    def __init__(self, *, escape: bool) -> None:
        self._escape = escape
        self._seen: set[int] = set()
        self._left = MAX_VALUES

    def convert(self, value: object, depth: int) -> JSON:
        self._count(1)
        return self._counted(value, depth)

    def _count(self, number: int) -> None:
        self._left -= number
        if self._left < 0:
            raise _TooManyValuesError

    def _counted(self, value: object, depth: int) -> JSON:
        if value is None or value is True or value is False:
            return value
        kind = type(value)
        # What most values are, before all that they may be.
        if kind is str:
            return clean_text(value)  # type: ignore[arg-type] # its type is str
        if kind is int and _INT_MIN <= value <= _INT_MAX:  # type: ignore[operator] # its type is int
            return value
        try:
            if isinstance(value, enum.Enum):
                return self.convert(value.value, depth)
            plain = None if kind is dict or kind is list else _scalar(value)
            return self._guarded(value, depth) if plain is None else plain
        except _TooManyValuesError:
            raise
        except Exception:  # noqa: BLE001 - foreign __class__, __iter__, keys and properties may raise anything
            return {"$repr": safe_repr(value)}

    def _guarded(self, value: object, depth: int) -> JSON:
        if depth == 0:
            return {"$repr": f"<{_type_name(value)} nested too deeply>"}
        if id(value) in self._seen:
            return {"$repr": f"<{_type_name(value)} that contains itself>"}
        self._seen.add(id(value))
        try:
            return self._container(value, depth - 1)
        finally:
            self._seen.discard(id(value))

    def _container(self, value: object, depth: int) -> JSON:
        if type(value) is dict:
            return self._dict(value, depth)
        if type(value) is list and (not value or type(value[0]) in _JSON_KINDS):  # so not of parts alone
            return self._list(value, depth)
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, AbstractSet):
            members = [self.convert(member, depth) for member in value]
            return {"$set": sorted(members, key=msgspec.json.encode)}
        parts = _parts(value)
        if parts is not None:
            return {"$parts": [self._part(part, depth) for part in parts]}
        fields = _fields(value)
        if fields is not None:
            return self._mapping(fields, depth)
        if isinstance(value, Iterable) and not isinstance(value, _NO_LISTS):
            return [self.convert(member, depth) for member in value]
        return {"$repr": safe_repr(value)}

    # Here what most members are is looked at without a call for each, half of the cost.

    def _list(self, values: list[Any], depth: int) -> JSON:
        self._count(len(values))
        return [
            member
            if ((kind := type(member)) is str and member.isascii())
            or member is None
            or kind is bool
            or (kind is int and _INT_MIN <= member <= _INT_MAX)
            or (kind is float and math.isfinite(member))
            else self._counted(member, depth)
            for member in values
        ]

    def _dict(self, values: dict[Any, Any], depth: int) -> JSON:
        left = self._left
        self._count(len(values))
        result: dict[str | None, JSON] = {}
        for key, member in values.items():
            name = key if type(key) is str and key.isascii() and key[:1] != "$" else self._key(key)
            result[name] = (
                member
                if ((kind := type(member)) is str and member.isascii())
                or member is None
                or kind is bool
                or (kind is int and _INT_MIN <= member <= _INT_MAX)
                or (kind is float and math.isfinite(member))
                else self._counted(member, depth)
            )
        if None in result or len(result) < len(values):  # a key that is none, or some that collide
            self._left = left
            return self._mapping(values, depth)
        return result

    def _part(self, part: Any, depth: int) -> JSON:
        """Return a part as it is written, with clean content; its own `$` keys stay, as in an item."""
        escape, self._escape = self._escape, False
        try:
            fields = {name: self.convert(getattr(part, name), depth) for name in part.__struct_fields__}
        finally:
            self._escape = escape
        return msgspec.to_builtins(msgspec.structs.replace(part, **fields))

    def _mapping(self, mapping: Mapping[Any, Any], depth: int) -> JSON:
        result: dict[str, JSON] = {}
        for key, value in mapping.items():
            name = self._key(key)
            if name is None or name in result:
                pairs = [[self.convert(k, depth), self.convert(v, depth)] for k, v in mapping.items()]
                return {"$map": pairs}
            result[name] = self.convert(value, depth)
        return result

    def _key(self, key: object) -> str | None:
        plain = key.value if type(key) is not str and isinstance(key, enum.Enum) else key
        if isinstance(plain, str):
            text = clean_text(plain)
            return "$" + text if self._escape and text.startswith("$") else text
        if isinstance(plain, int) and int.bit_length(plain) > _MAX_DECIMAL_BITS:
            return None
        if plain is None or isinstance(plain, (bool, int, float)):
            return json.dumps(plain)
        return None


def _scalar(value: object) -> JSON | None:
    """Return the JSON of a value that has no members, None for what may be a container."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        # by way of memoryview: one with gaps has to be copied before it can be encoded
        return {"$bytes": base64.b64encode(memoryview(value).tobytes()).decode("ascii")}
    if isinstance(value, dt.timedelta):
        return dt.timedelta.total_seconds(value)
    number = _number(value)
    return _text(value) if number is None else number


def _number(value: object) -> JSON | None:
    if isinstance(value, (int, numbers.Integral)):
        return _integer(int.__index__(operator.index(value)))
    if isinstance(value, (float, numbers.Real)) and not isinstance(value, fractions.Fraction):
        real = float.__float__(value if isinstance(value, float) else float(value))
        return real if math.isfinite(real) else {"$float": str(real)}
    return None


def _integer(number: int) -> JSON:
    if _INT_MIN <= number <= _INT_MAX:
        return number
    return {"$int": str(number) if number.bit_length() <= _MAX_DECIMAL_BITS else hex(number)}


def _text(value: object) -> str | None:
    if isinstance(value, _TIMES):
        text = value.isoformat()
    elif isinstance(value, _TEXTUAL):
        text = str(value)
    elif isinstance(value, os.PathLike):
        text = os.fsdecode(value)
    else:
        return None
    return clean_text(text)


def _parts(value: object) -> tuple[Any, ...] | None:
    """Return the parts where a tool hands over a part, or a non-empty list of nothing else."""
    from agentkit_loop.content import Part  # noqa: PLC0415 - content describes itself in terms of values

    if isinstance(value, Part):
        return (value,)
    if isinstance(value, (list, tuple)) and value and all(isinstance(member, Part) for member in value):
        return tuple(value)
    return None


def _fields(value: object) -> dict[str, Any] | None:
    """Return the public fields of a record-like object, None for what is not one."""
    kind: Any = type(value)
    if attrs.has(kind):
        names = [field.name for field in attrs.fields(kind)]
    elif hasattr(kind, "__dataclass_fields__"):
        names = list(kind.__dataclass_fields__)
    elif isinstance(value, msgspec.Struct):
        names = list(value.__struct_fields__)
    elif hasattr(kind, "model_fields"):
        names = list(kind.model_fields)
    else:
        return None
    return {name: getattr(value, name) for name in names if not name.startswith("_")}


def checked_id(name: str, given: object) -> str:
    """Return an id of the host's; raises ConfigurationError for what is none."""
    if not isinstance(given, str) or not given:
        raise ConfigurationError(f"{name}={given!r} is no id; give text, or None for a new one")
    return clean_text(given)
