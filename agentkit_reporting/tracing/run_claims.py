"""Which reporter tells a run to a place: the first that hears of it, where several have the same.

The place is a provider of the host's, or where a delivery of our own sends to: each reporter has a delivery of its own.

A sub-agent's observers are its own and those of the agent above it. Where each agent was given a reporter, both hear of
its runs, and both would make the same spans, under the same ids, and count the same tokens.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from typing import Final

from agentkit_loop.forks import Locked

__all__ = ["Destination", "RunClaims", "destination_of"]

_MOST_RUNS: Final = 512  # of a place: one that is over is remembered too, as another may hear of it later


class RunClaims(Locked):
    """Who tells which runs, by place; keeps neither alive."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: weakref.WeakKeyDictionary[object, dict[tuple[str, str], weakref.ref[object]]] = (
            weakref.WeakKeyDictionary()
        )

    def claim(self, place: object, run: tuple[str, str], owner: object) -> bool:
        """Claim a run for an owner; whether it is its own now, which it is not where another one has it."""
        with self._lock:
            try:
                claims = self._claims.setdefault(place, {})
            except TypeError:  # a provider of another kind, that cannot be referred to weakly
                return True
            held = claims.get(run)
            other = None if held is None else held()
            if other is not None and other is not owner:
                return False
            claims[run] = weakref.ref(owner)
            if len(claims) > _MOST_RUNS:
                del claims[next(iter(claims))]
            return True

    def release(self, owner: object) -> None:
        """Forget the claims of one that tells nothing any more."""
        with self._lock:
            for claims in self._claims.values():
                for run in [run for run, held in claims.items() if held() in (None, owner)]:
                    del claims[run]


class Destination:
    """Where something is sent; who sends to the same has the same object. Shows neither address nor headers."""


class _Destinations(Locked):
    """The destinations that somebody has."""

    def __init__(self) -> None:
        super().__init__()
        self._held: weakref.WeakValueDictionary[bytes, Destination] = weakref.WeakValueDictionary()

    def of(self, digest: bytes) -> Destination:
        """Return the destination of a digest, made where nobody has it."""
        with self._lock:
            found = self._held.get(digest)
            if found is None:
                self._held[digest] = found = Destination()
            return found


_destinations = _Destinations()


def destination_of(address: str, headers: Mapping[str, str]) -> Destination:
    """Return where requests to an address with these headers go: they may say whose, as an API key does.

    The names of headers are the same in any case and order.
    """
    told = sorted((name.lower(), value) for name, value in headers.items())
    return _destinations.of(hashlib.sha256(repr((address, told)).encode("utf-8", "surrogatepass")).digest())
