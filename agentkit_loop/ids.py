"""Ids that sort by their time of making and do not collide: 60 bits of time, 100 of chance."""

from __future__ import annotations

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_TICKS = 1_024  # of a millisecond: two characters more than the milliseconds take

_lock = threading.Lock()
_last = 0
_watches_fork = False


def new_id(prefix: str) -> str:
    """Return `prefix` and 32 characters, of which the last 20 (100 bits) are chance.

    As text, an id sorts after all that this process made before it, and after those of others that were made more
    than a microsecond earlier, as far as their clocks agree.
    """
    return f"{prefix}_{_base32(_tick(), 12)}{_base32(int.from_bytes(os.urandom(13), 'big') >> 4, 20)}"


def _tick() -> int:
    """Return the time in 1,024ths of a millisecond, or the next number where that was given already."""
    global _last, _watches_fork  # noqa: PLW0603 - what is monotonic within a process is one for all of it
    if not _watches_fork:
        _watches_fork = True
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
    with _lock:
        _last = tick = max(_last + 1, time.time_ns() * _TICKS // 1_000_000)
    return tick


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it at the fork
    _lock = threading.Lock()


def _base32(number: int, width: int) -> str:
    digits = [_ALPHABET[(number >> (5 * place)) & 31] for place in range(width)]
    return "".join(reversed(digits))
