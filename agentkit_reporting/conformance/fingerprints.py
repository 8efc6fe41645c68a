"""Short notes of what was told, to find it again without keeping it."""

from __future__ import annotations

import functools

import msgspec

_encode = msgspec.json.Encoder().encode


def fingerprint(value: object) -> int:
    """Return a number of 64 bits that equal values share, within this process.

    value: text, or anything that msgspec can write. Two different values share one by accident only, one in
    2**64; Python's own hash of text is keyed anew for each process, so that no log can be made to fit.
    """
    if isinstance(value, str):
        return hash(value)
    return hash(encoded(value) or repr(type(value)))  # what no JSON holds is taken as equal


def encoded(value: object) -> bytes:
    """Return the value's JSON; nothing for a number that no JSON holds, or what is nested too deeply."""
    try:
        return _encode(value)
    except (OverflowError, RecursionError, TypeError, ValueError):
        return b""


@functools.lru_cache(maxsize=1_000)
def shared(body: bytes) -> bytes:
    """Return the same object for equal bytes: the sessions of a log mostly have the same tools."""
    return body
