"""Short notes of what was told, to find it again without keeping it."""

from __future__ import annotations

import msgspec

_encode = msgspec.json.Encoder().encode


def fingerprint(value: object) -> int:
    """Return a number of 64 bits that equal values share, within this process.

    value: text, or anything that msgspec can write. Two different values share one by accident only, one in
    2**64; Python's own hash of text is keyed anew for each process, so that no log can be made to fit.
    """
    if isinstance(value, str):
        return hash(value)
    try:
        return hash(_encode(value))
    except (OverflowError, RecursionError, TypeError, ValueError):
        return hash(repr(type(value)))  # a number that no JSON holds, or nested too deeply: taken as equal
