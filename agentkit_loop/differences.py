"""Where two JSON values differ first; a mask of redaction in the recorded one is equal to anything.

A redacted log has masks in place of what was secret: `[redacted]` or `[redacted:KIND]`, alone or within a
text. What is replayed from it has them too, or the real thing.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import msgspec

from agentkit_loop.values import safe_repr

MASK = re.compile(r"\[redacted(?::[^\[\]\s]{1,64})?\]")
"""What stands in a redacted log for what was taken out; a whole value or a piece of a text."""

NOTHING = "nothing"
"""Shown where one of the sides has no value."""

_SHOWN = 60  # characters of a text that are shown from a little before the first difference on
_BEFORE = 20
_SHOWN_REPR = 120


class Difference(msgspec.Struct, frozen=True):
    """The first place where two values differ. recorded, now: both sides as they are shown."""

    path: str
    recorded: str
    now: str


class _Missing:
    """What a side has that has nothing there."""

    def __repr__(self) -> str:
        return NOTHING


_MISSING = _Missing()


def is_mask(value: object) -> bool:
    """Whether a value as a whole is a mask."""
    return isinstance(value, str) and MASK.fullmatch(value) is not None


def has_mask(value: object) -> bool:
    """Whether there is a mask anywhere in a JSON value."""
    if isinstance(value, str):
        return MASK.search(value) is not None
    if isinstance(value, dict):
        return any(has_mask(key) or has_mask(member) for key, member in value.items())
    return isinstance(value, (list, tuple)) and any(has_mask(member) for member in value)


def first_difference(recorded: Any, now: Any, path: str = "") -> Difference | None:
    """Return the first difference of two JSON values, in their order; None where they are equal."""
    if recorded is now or is_mask(recorded):
        return None
    if isinstance(recorded, str) and isinstance(now, str):
        return None if _fits(recorded, now) else Difference(path, *_shown_texts(recorded, now))
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in (*recorded, *(key for key in now if key not in recorded)):
            inner = f"{path}.{key}" if path else str(key)
            found = first_difference(recorded.get(key, _MISSING), now.get(key, _MISSING), inner)
            if found is not None:
                return found
        return None
    if isinstance(recorded, (list, tuple)) and isinstance(now, (list, tuple)):
        pairs = itertools.zip_longest(recorded, now, fillvalue=_MISSING)
        found_in = (first_difference(old, new, f"{path}[{n}]") for n, (old, new) in enumerate(pairs))
        return next((found for found in found_in if found is not None), None)
    if type(recorded) is type(now) and recorded == now:
        return None  # of one type: 1, 1.0 and True are three values in JSON
    return Difference(path, shown(recorded), shown(now))


def shown(value: object) -> str:
    """Return a value as a difference shows it: printable and bounded."""
    text = safe_repr(value)
    return text if len(text) <= _SHOWN_REPR else text[: _SHOWN_REPR - 1] + "…"


def _fits(recorded: str, now: str) -> bool:
    """Whether a text is the recorded one, with anything where that has masks."""
    if recorded == now:
        return True
    head, *rest = MASK.split(recorded)
    if not rest:
        return False
    tail = rest.pop()
    if len(now) < len(head) + len(tail) or not (now.startswith(head) and now.endswith(tail)):
        return False
    at, end = len(head), len(now) - len(tail)
    for piece in rest:
        found = now.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _shown_texts(recorded: str, now: str) -> tuple[str, str]:
    """Return two texts as they are shown: from a little before the first character that differs."""
    pairs = enumerate(zip(recorded, now, strict=False))
    at = next((n for n, (old, new) in pairs if old != new), min(len(recorded), len(now)))
    start = max(0, at - _BEFORE) if max(len(recorded), len(now)) > _SHOWN else 0
    return _excerpt(recorded, start), _excerpt(now, start)


def _excerpt(text: str, start: int) -> str:
    head, tail = "…" if start else "", "…" if len(text) > start + _SHOWN else ""
    return safe_repr(f"{head}{text[start : start + _SHOWN]}{tail}")
