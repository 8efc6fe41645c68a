"""Ids that sort by their time of making and do not collide: 48 bits of milliseconds, 100 of chance."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_id(prefix: str) -> str:
    """Return `prefix` and 30 characters; ids made later sort later, to the millisecond."""
    return f"{prefix}_{_base32(time.time_ns() // 1_000_000, 10)}{_base32(secrets.randbits(100), 20)}"


def _base32(number: int, width: int) -> str:
    digits = [_ALPHABET[(number >> (5 * place)) & 31] for place in range(width)]
    return "".join(reversed(digits))
