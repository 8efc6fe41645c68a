"""Which reporter tells a run to a provider: the first that hears of it, where several share the provider.

A sub-agent's observers are its own and those of the agent above it. Where each agent was given a reporter, both hear of
its runs, and both would make the same spans, under the same ids, and count the same tokens.
"""

from __future__ import annotations

import weakref
from typing import Final

from agentkit_loop.forks import Locked

__all__ = ["RunClaims"]

_MOST_RUNS: Final = 512  # of a provider: one that is over is remembered too, as another may hear of it later


class RunClaims(Locked):
    """Who tells which runs, by provider; keeps neither alive."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: weakref.WeakKeyDictionary[object, dict[tuple[str, str], weakref.ref[object]]] = (
            weakref.WeakKeyDictionary()
        )

    def claim(self, provider: object, run: tuple[str, str], owner: object) -> bool:
        """Claim a run for an owner; whether it is its own now, which it is not where another one has it."""
        with self._lock:
            try:
                claims = self._claims.setdefault(provider, {})
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
