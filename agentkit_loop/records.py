"""Equality, hash and repr of attrs classes, which stand here once.

attrs makes and compiles these methods anew for each class, in more than half of the time that a class takes to make
(0.2 of 0.34 ms), and a program makes seventy of them as it begins. So a class that is not compared all the time
takes them from here and says `eq=False, repr=False`; what it says of single fields (`eq=`, `repr=`) holds.
"""

from __future__ import annotations

import reprlib
from typing import Any

import attrs

__all__ = ["FrozenRecord", "Record"]


class Record:
    """Base of an attrs class: equal where the class and all values are, and shown with its values; has no hash."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _values(self) == _values(other)

    __hash__: Any = None

    @reprlib.recursive_repr()  # of one that is in its own data
    def __repr__(self) -> str:
        cls: Any = type(self)
        shown = (field.name for field in attrs.fields(cls) if field.repr)
        return f"{cls.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


class FrozenRecord(Record):
    """A Record that does not change, so that it has a hash: that of its class and values."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash((self.__class__, _values(self)))


def _values(record: Any) -> tuple[Any, ...]:
    return tuple([getattr(record, field.name) for field in attrs.fields(record.__class__) if field.eq])
