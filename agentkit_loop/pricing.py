"""What tokens cost: a price list is anything with a `cost` method."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Protocol

import attrs

from agentkit_loop.usage import Cost, Usage

_MILLION = Decimal(1_000_000)


class Pricing(Protocol):
    """Tells what a request cost."""

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        """Return the cost of the usage at the prices of that moment; None where no price is known."""


@attrs.frozen(kw_only=True)
class Rates:
    """Prices of one model, in `currency` for a million tokens of each kind.

    cached_input, cache_write and cache_write_1h default to the provider's usual share of `input`: 0.1,
    1.25 and 2 times (Anthropic's documentation of prompt caching).
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    currency: str = "USD"


class PriceTable:
    """A price list of one's own: rates by model name. source: what each Cost says of it."""

    def __init__(self, rates: Mapping[str, Rates], *, source: str) -> None:
        self._rates = dict(rates)
        self._source = source

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        """Return the exact cost; None for an unknown model or where nothing is known to be billed."""
        rates = self._rates.get(model)
        if rates is None or usage.total_tokens is None:
            return None
        long_writes = usage.cache_write_1h_input_tokens or 0
        short_writes = (usage.cache_write_input_tokens or 0) - long_writes
        billed = {
            "input": (usage.input_tokens or 0, rates.input),
            "cached_input": (
                usage.cached_input_tokens or 0,
                rates.cached_input if rates.cached_input is not None else rates.input * Decimal("0.1"),
            ),
            "cache_write": (
                short_writes,
                rates.cache_write if rates.cache_write is not None else rates.input * Decimal("1.25"),
            ),
            "cache_write_1h": (
                long_writes,
                rates.cache_write_1h if rates.cache_write_1h is not None else rates.input * 2,
            ),
            "output": (usage.output_tokens or 0, rates.output),
        }
        components = {name: count * rate / _MILLION for name, (count, rate) in billed.items() if count}
        return Cost(
            amount=sum(components.values(), Decimal(0)),
            currency=rates.currency,
            components=components,
            source=self._source,
            priced_at=at,
        )
