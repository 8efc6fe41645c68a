"""JSON texts of at most so many bytes: what is too long is cut within its texts, never within a character or the JSON.

A cut text says at its end how many characters of it are missing. The cost is that of the value that is given, and never
of what was given before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

__all__ = ["Fitted", "fitted_part", "fitted_parts", "fitted_text", "fitted_value", "joined"]

_CONTENTS: Final = ("content", "arguments", "response", "value", "description")
"""The keys of a part under which a text may stand in place of what was there."""

_TOO_DEEP: Final = "[left out: nested too deeply]"

_FEWEST = 48
"""Bytes: in less there is no room for anything of a text and for saying that it was cut."""


@attrs.frozen
class Fitted:
    """A JSON text, or a plain one. is_cut: whether something of the value is missing."""

    text: str
    is_cut: bool = False

    @property
    def size(self) -> int:
        """Bytes in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


def fitted_text(text: str, most_bytes: int) -> Fitted | None:
    """Return a plain text; one that is too long without its end, None without room."""
    if len(text) <= most_bytes and len(text.encode()) <= most_bytes:
        return Fitted(text)
    shortened = _shortened(text, most_bytes, _plain_size)
    return None if shortened is None else Fitted(shortened, is_cut=True)


def fitted_value(value: Any, most_bytes: int) -> Fitted | None:
    """Return a value as JSON; one that is too long as a JSON string with the beginning of it, None without room."""
    encoded = _encoded(value)
    if encoded is None:
        return _as_cut(fitted_value(_TOO_DEEP, most_bytes))
    if len(encoded) <= most_bytes:
        return Fitted(encoded.decode())
    text = _shortened(value if isinstance(value, str) else encoded.decode(), most_bytes)
    return None if text is None else Fitted(msgspec.json.encode(text).decode(), is_cut=True)


def fitted_part(part: Mapping[str, Any], most_bytes: int) -> Fitted | None:
    """Return a part of a message as JSON; where it is too long its content is cut; None without room for the rest."""
    encoded = _encoded(part)
    if encoded is not None and len(encoded) <= most_bytes:
        return Fitted(encoded.decode())
    key = next((name for name in _CONTENTS if name in part), None)
    if key is None:
        return None
    if encoded is None:
        return None if part[key] == _TOO_DEEP else _as_cut(fitted_part({**part, key: _TOO_DEEP}, most_bytes))
    value = part[key]
    room = most_bytes - len(msgspec.json.encode({**part, key: ""})) + 2
    text = _shortened(value if isinstance(value, str) else msgspec.json.encode(value).decode(), room)
    if text is None:
        return None
    return Fitted(msgspec.json.encode({**part, key: text}).decode(), is_cut=True)


def fitted_parts(parts: Sequence[Mapping[str, Any]], most_bytes: int) -> Fitted:
    """Return parts as a JSON array: short ones whole, the others cut to equal shares of the room that is left."""
    if not parts:
        return Fitted("[]")
    room = most_bytes - 2 - len(parts)
    whole = [fitted_part(part, max(room // len(parts), 0)) for part in parts]
    is_short = [fitted is not None and not fitted.is_cut for fitted in whole]
    left = room - sum(fitted.size for fitted, short in zip(whole, is_short, strict=True) if fitted and short)
    long = is_short.count(False)
    told: list[Fitted] = []
    is_cut = False
    for part, fitted, short in zip(parts, whole, is_short, strict=True):
        kept = fitted if short else fitted_part(part, max(left // long, 0))
        is_cut = is_cut or kept is None or kept.is_cut
        if kept is not None:
            told.append(kept)
    return Fitted(joined(told), is_cut)


def joined(members: Iterable[Fitted]) -> str:
    """Return JSON texts as one array."""
    return f"[{','.join(member.text for member in members)}]"


def _encoded(value: Any) -> bytes | None:
    """Return a value as JSON; None where it is nested too deeply: an event may have more levels than the stack."""
    try:
        return msgspec.json.encode(value)
    except RecursionError:
        return None


def _as_cut(fitted: Fitted | None) -> Fitted | None:
    return None if fitted is None else attrs.evolve(fitted, is_cut=True)


def _json_size(text: str) -> int:
    return len(msgspec.json.encode(text))


def _plain_size(text: str) -> int:
    return len(text.encode())


def _shortened(text: str, most_bytes: int, size_of: Callable[[str], int] = _json_size) -> str | None:
    """Return the beginning of a text of at most so many bytes, by default as a JSON string; None for too few."""
    if most_bytes < _FEWEST:
        return None
    kept = min(len(text), most_bytes)
    while True:
        shortened = f"{text[:kept]}… [{len(text) - kept} characters left out]"
        size = size_of(shortened)
        if size <= most_bytes:
            return shortened
        # A character has up to six bytes, as an escape in JSON, so this comes down in few steps.
        kept = max(0, min(kept - (size - most_bytes) // 6 - 1, kept * most_bytes // size))
