"""What tokens cost by the recorded rates: amount and count of each kind, exact; unknown where none was recorded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal

import attrs

from agentkit_loop.pricing import billed
from agentkit_loop.usage import EXACT_SUMS, Cost, Usage, can_be_added

__all__ = ["Charge", "Counted", "RatesSeen", "charge_of"]

Charge = tuple[Decimal, int]
"""What so many tokens of a kind cost."""


def charge_of(model: str, usage: Usage, cost: Cost | None) -> dict[str, Charge]:
    """Return what each kind of token cost, as the request's cost tells it, with how many there were."""
    if cost is None:
        return {}
    counts = billed(model, usage)
    return {
        sys.intern(kind): (amount, counts[kind])
        for kind, amount in cost.components.items()
        if counts.get(kind) and can_be_added(amount)
    }


class RatesSeen:
    """The last rate of each kind that was recorded, by model and currency."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[str, Charge]] = {}

    def note(self, model: str, currency: str, charges: Mapping[str, Charge]) -> None:
        """Keep the rates of a request."""
        self._seen.setdefault((model, currency), {}).update(charges)

    def amount(
        self, tokens: int, kind: str, model: str, currency: str, own: Mapping[str, Charge]
    ) -> Decimal | None:
        """Return what so many tokens of a kind cost: by the request's own rate, else by the last recorded one."""
        if not tokens:
            return Decimal(0)
        charge = own.get(kind) or self._seen.get((model, currency), {}).get(kind)
        if charge is None:
            return None
        return EXACT_SUMS.divide(EXACT_SUMS.multiply(charge[0], Decimal(tokens)), Decimal(charge[1]))


@attrs.frozen(kw_only=True)
class Counted:
    """The tokens of a request's input. written: five-minute and one-hour writes together. None is unknown."""

    cached: int | None
    written: int | None
    written_1h: int
    fresh: int | None

    @classmethod
    def of(cls, usage: Usage | None) -> Counted:
        """Return those of a usage."""
        if usage is None:
            return cls(cached=None, written=None, written_1h=0, fresh=None)
        return cls(
            cached=usage.cached_input_tokens,
            written=usage.cache_write_input_tokens,
            written_1h=min(usage.cache_write_1h_input_tokens or 0, usage.cache_write_input_tokens or 0),
            fresh=usage.input_tokens,
        )

    @property
    def total(self) -> int | None:
        """All of them; None where none is known."""
        known = [count for count in (self.cached, self.written, self.fresh) if count is not None]
        return sum(known) if known else None

    @property
    def is_told(self) -> bool:
        """Whether both are known, what was read from the cache and what was written to it."""
        return self.cached is not None and self.written is not None

    @property
    def left_in_cache(self) -> int | None:
        """What the cache holds after the request; at least what was written where nobody told what was read from it.

        None where neither was told.
        """
        if self.cached is None:
            return self.written or None
        return self.cached + (self.written or 0)
