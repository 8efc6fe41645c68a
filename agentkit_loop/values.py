"""Values as JSON: every value in an event is converted once, here, in one documented form.

| what is handed over | what the event holds |
|---|---|
| str | itself; a lone surrogate becomes its escape, `\\udcff` |
| int within 64 bits, finite float, bool, None, list, dict with str keys | itself |
| a larger int | `{"$int": "…"}` |
| nan, inf, -inf | `{"$float": "nan"}` |
| bytes, bytearray, memoryview | `{"$bytes": "<base64>"}` |
| set, frozenset | `{"$set": […]}`, sorted by their JSON |
| tuple, deque, other sequences and iterables that are not iterators | a list |
| datetime, date, time | its ISO text |
| timedelta | its seconds |
| Decimal, UUID, Path | its text |
| Enum | its value |
| dataclass, attrs class, msgspec Struct, pydantic model | a dict of its public fields |
| dict with int, float, bool or None as key | the key as JSON writes it |
| dict with any other key, or keys that would collide | `{"$map": [[key, value], …]}` |
| a dict key that begins with `$` | the key with a second `$` |
| one or more parts (an image from a tool) | `{"$parts": [part, …]}` |
| anything else, a cycle, or more than 100 levels | `{"$repr": "…"}`, at most 1,000 characters |
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

import attrs
import msgspec

JSON: TypeAlias = Any
"""A JSON value: str without lone surrogates, finite number, bool, None, list or dict of them."""

MAX_DEPTH = 100
MAX_REPR = 1_000
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1  # what msgspec, and so the log, writes and reads as a number
_TEXTUAL = (decimal.Decimal, uuid.UUID, os.PathLike)
_TIMES = (dt.datetime, dt.date, dt.time)


def clean_text(text: str) -> str:
    """Return the text with every lone surrogate as its escape; other text comes back as it is."""
    if text.isascii():
        return text if type(text) is str else str.__str__(text)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def to_json(value: object) -> JSON:
    """Convert any value to the documented JSON form. Never raises; not idempotent (see `$`)."""
    return _Conversion(escape=True).convert(value, MAX_DEPTH)


def scrub_json(value: JSON) -> JSON:
    """Clean what is JSON by its meaning already (a model's input): as `to_json`, but `$` keys stay."""
    if type(value) is str:
        return clean_text(value)
    return _Conversion(escape=False).convert(value, MAX_DEPTH)


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
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a foreign __repr__ may raise anything
        text = f"<{type(value).__name__}: repr failed with {type(error).__name__}>"
    return clean_text(text if len(text) <= MAX_REPR else text[: MAX_REPR - 1] + "…")


class _Conversion:
    """One walk over a value. `seen` holds the containers that are open, so that a cycle is noticed."""

    def __init__(self, *, escape: bool) -> None:
        self._escape = escape
        self._seen: set[int] = set()

    def convert(self, value: object, depth: int) -> JSON:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, enum.Enum):
            return self.convert(value.value, depth)
        if isinstance(value, str):
            return clean_text(value)
        if isinstance(value, int):
            number = int(value)
            return number if _INT_MIN <= number <= _INT_MAX else {"$int": str(number)}
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": str(float(value))}
        plain = _scalar(value)
        return self._guarded(value, depth) if plain is None else plain

    def _guarded(self, value: object, depth: int) -> JSON:
        if depth == 0:
            return {"$repr": f"<{type(value).__name__} nested too deeply>"}
        if id(value) in self._seen:
            return {"$repr": f"<{type(value).__name__} that contains itself>"}
        self._seen.add(id(value))
        try:
            return self._container(value, depth - 1)
        except Exception:  # noqa: BLE001 - foreign __iter__, keys and properties may raise anything
            return {"$repr": safe_repr(value)}
        finally:
            self._seen.discard(id(value))

    def _container(self, value: object, depth: int) -> JSON:
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, AbstractSet):
            members = [self.convert(member, depth) for member in value]
            return {"$set": sorted(members, key=msgspec.json.encode)}
        parts = _parts(value)
        if parts is not None:
            return {"$parts": parts}
        fields = _fields(value)
        if fields is not None:
            return self._mapping(fields, depth)
        if isinstance(value, Iterable) and not isinstance(value, Iterator):
            return [self.convert(member, depth) for member in value]
        return {"$repr": safe_repr(value)}

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
        plain = key.value if isinstance(key, enum.Enum) else key
        if isinstance(plain, str):
            return clean_text("$" + plain if self._escape and plain.startswith("$") else plain)
        if plain is None or isinstance(plain, (bool, int, float)):
            return json.dumps(plain)
        return None


def _scalar(value: object) -> JSON | None:
    """Return the JSON of a value that has no members, None for what may be a container."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, _TIMES):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, _TEXTUAL):
        try:
            text = os.fsdecode(value) if isinstance(value, os.PathLike) else str(value)
        except Exception:  # noqa: BLE001 - a foreign __fspath__ may raise anything
            return {"$repr": safe_repr(value)}
        return clean_text(text)
    return None


def _parts(value: object) -> JSON | None:
    """Return the parts as JSON where a tool hands over a part, or a non-empty list of nothing else."""
    from agentkit_loop.content import Part  # noqa: PLC0415 - content describes itself in terms of values

    if isinstance(value, Part):
        return [msgspec.to_builtins(value)]
    if isinstance(value, (list, tuple)) and value and all(isinstance(member, Part) for member in value):
        return [msgspec.to_builtins(member) for member in value]
    return None


def _fields(value: object) -> dict[str, Any] | None:
    """Return the public fields of a record-like object, None for what is not one."""
    if isinstance(value, type):
        return None
    if attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value))]
    elif hasattr(type(value), "__dataclass_fields__"):
        names = list(type(value).__dataclass_fields__)
    elif isinstance(value, msgspec.Struct):
        names = list(value.__struct_fields__)
    elif hasattr(type(value), "model_fields"):
        names = list(type(value).model_fields)
    else:
        return None
    return {name: getattr(value, name) for name in names if not name.startswith("_")}
