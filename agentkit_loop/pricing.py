"""What tokens cost: rates, and what a usage costs at them. A price list is anything with a `cost` method.

All arithmetic is in Decimal and exact, whatever decimal context the host has set.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.records import FrozenRecord
from agentkit_loop.usage import Cost, Usage, error_text

_EXACT = decimal.Context(prec=100)
_MILLION = Decimal(1_000_000)
_THOUSAND = Decimal(1_000)
_ZERO = Decimal(0)

MAX_RATE = Decimal(1_000_000)
"""A rate above this many units of currency for a million tokens is a mistake of the one who wrote it."""


class Pricing(Protocol):
    """Tells what a request cost."""

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        """Return the cost of the usage at the prices of that moment; None where no price is known."""


def _checked(rates: Rates, attribute: attrs.Attribute[Any], rate: object) -> None:
    del rates
    if rate is None and attribute.default is None:
        return
    if not isinstance(rate, Decimal) or not rate.is_finite() or not 0 <= rate <= MAX_RATE:
        raise ConfigurationError(
            f"rate {attribute.name}={rate!r} refused; give a Decimal from 0 to {MAX_RATE:,}, for a million tokens"
        )


_CHECKED = attrs.field(validator=_checked)
_OPTIONAL = attrs.field(default=None, validator=_checked)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Rates(FrozenRecord):
    """Prices of one model, in `currency` for a million tokens of each kind.

    cached_input, cache_write and cache_write_1h default to the provider's usual share of `input`: 0.1,
    1.25 and 2 times (Anthropic's documentation of prompt caching). web_search: for a thousand searches;
    without it a request that searched has no cost. above: other rates for requests with more input tokens
    than a number, by that number; they hold for all tokens of such a request.
    """

    input: Decimal = _CHECKED
    output: Decimal = _CHECKED
    cached_input: Decimal | None = _OPTIONAL
    cache_write: Decimal | None = _OPTIONAL
    cache_write_1h: Decimal | None = _OPTIONAL
    web_search: Decimal | None = _OPTIONAL
    currency: str = "USD"
    above: Mapping[int, Rates] = attrs.field(factory=dict)

    def for_input(self, tokens: int) -> Rates:
        """Return the rates of a request with so many input tokens, of all kinds."""
        reached = [start for start in self.above if tokens > start]
        return self.above[max(reached)] if reached else self

    def scaled(self, factor: Decimal) -> Rates:
        """Return the rates with every token price times a factor; searches keep theirs."""
        tokens: dict[str, Any] = {
            name: None if getattr(self, name) is None else _EXACT.multiply(getattr(self, name), factor)
            for name in _TOKEN_RATES
        }
        above = {start: rates.scaled(factor) for start, rates in self.above.items()}
        return attrs.evolve(self, **tokens, above=above)

    def components(self, usage: Usage) -> dict[str, Decimal]:
        """Return the amount for each kind of token that was used, at the rates for that many input tokens."""
        at = self.for_input(usage.total_input_tokens or 0)
        rates = {
            "input": at.input,
            "cached_input": _or_share(at.cached_input, at.input, "0.1"),
            "cache_write": _or_share(at.cache_write, at.input, "1.25"),
            "cache_write_1h": _or_share(at.cache_write_1h, at.input, "2"),
            "output": at.output,
        }
        return {kind: _amount(count, rates[kind], _MILLION) for kind, count in _counts(usage).items()}


_TOKEN_RATES = ("input", "output", "cached_input", "cache_write", "cache_write_1h")


class PriceTable:
    """A price list of one's own: rates by model name. source: what each Cost says of it."""

    def __init__(self, rates: Mapping[str, Rates], *, source: str) -> None:
        self._rates = dict(rates)
        self._source = source

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        """Return the exact cost; None for an unknown model or where nothing is known to be billed."""
        return priced(model, usage, self._rates.get, source=self._source, at=at)


def priced(
    model: str, usage: Usage, rates_of: Callable[[str], Rates | None], *, source: str, at: dt.datetime
) -> Cost | None:
    """Return what a usage costs: the sum over its samplings, and its searches.

    rates_of: the rates of a model, None where it has none. None where something was billed and has no rate,
    or nothing is known to be billed. A count that nobody told bills nothing, so that what is known of a request
    that broke off is counted: then the cost is a lower bound. Components of a sampling by another model are
    named `kind:model`.
    """
    rates = rates_of(model)
    if rates is None or usage.total_tokens is None:
        return None
    components: dict[str, Decimal] = {}
    for sampling in samplings(usage):
        at_rates = rates if sampling.model in {None, model} else rates_of(sampling.model or model)
        if at_rates is None or at_rates.currency != rates.currency:
            return None
        for kind, amount in at_rates.components(sampling.usage).items():
            name = _component(kind, sampling.model, model)
            components[name] = _EXACT.add(components.get(name, _ZERO), amount)
    searched = searches(usage)
    if searched:
        if rates.web_search is None:
            return None
        components["web_search"] = _amount(searched, rates.web_search, _THOUSAND)
    return Cost(
        amount=total(components.values()),
        currency=rates.currency,
        components=components,
        source=source,
        priced_at=at,
    )


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Add amounts exactly."""
    amount = _ZERO
    for each in amounts:
        amount = _EXACT.add(amount, each)
    return amount


def cost_or_why(prices: Pricing, model: str, usage: Usage, at: dt.datetime) -> tuple[Cost | None, str | None]:
    """Return what a usage costs, or why that is not known; a price list that fails must not cost the answer."""
    try:
        cost = prices.cost(model, usage, at)
    except Exception as error:  # noqa: BLE001 - a host's own price list may raise anything
        return None, f"the price list failed for {model!r} ({type(error).__name__}: {error_text(error)})"
    return cost, None if cost is not None else f"no price is known for {model!r}; its cost stays unknown"


def billed(model: str, usage: Usage) -> dict[str, int]:
    """Return how many tokens, and searches, each component of a cost is for; named as `priced` names them."""
    counts: dict[str, int] = {}
    for sampling in samplings(usage):
        for kind, count in _counts(sampling.usage).items():
            name = _component(kind, sampling.model, model)
            counts[name] = counts.get(name, 0) + count
    searched = searches(usage)
    return {**counts, "web_search": searched} if searched else counts


def searches(usage: Usage) -> int:
    """Return how many web searches the provider ran and bills, by its own usage object."""
    used = (usage.raw or {}).get("server_tool_use")
    return _count(used, "web_search_requests") or 0 if isinstance(used, dict) else 0


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a request's usage that is priced by itself. model: None for the request's own."""

    model: str | None
    usage: Usage


def samplings(usage: Usage) -> list[Sampling]:
    """Return the usage as the samplings that it is a sum of.

    One request may sample more than once: in a loop with the provider's own tools, for a compaction, by an
    advisor or a fallback of another model. `iterations` of the provider's usage object lists them
    (the SDK's `BetaIterationsUsage`), and prices by input length hold for each. What the list leaves out is
    one more; a list that says more than the usage does not belong to it and is not used.
    """
    told = (usage.raw or {}).get("iterations")
    if told is None:  # as most often
        return [Sampling(model=None, usage=usage)]
    entries = [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
    answered = answering_model(entries)
    listed = [_sampling(entry) for entry in entries if not _is_declined(entry, answered)]
    if not listed:
        return [Sampling(model=None, usage=usage)]
    listed = _with_long_writes(listed, usage.cache_write_1h_input_tokens or 0)
    rest: dict[str, Any] = {}
    for name in _PRICED:
        left = (getattr(usage, name) or 0) - sum(getattr(part.usage, name) or 0 for part in listed)
        if left < 0:
            return [Sampling(model=None, usage=usage)]
        rest[name] = left
    return [*listed, Sampling(model=None, usage=Usage(**rest))] if any(rest.values()) else listed


_PRICED = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "output_tokens",
)


def answering_model(entries: Sequence[dict[str, Any]]) -> object:
    """Return the `model` of the entry of `iterations` that made the answer, None where none did."""
    kinds = ("message", "fallback_message")  # a tuple: a server may write anything, also what has no hash
    return next((entry.get("model") for entry in reversed(entries) if entry.get("type") in kinds), None)


def _is_declined(entry: dict[str, Any], answered: object) -> bool:
    """Whether an entry is of a model that declined before it said anything, which is not billed."""
    if entry.get("type") != "message" or _count(entry, "output_tokens"):
        return False
    return bool(entry.get("model") != answered)


def _with_long_writes(listed: list[Sampling], long_writes: int) -> list[Sampling]:
    """Spread the one-hour writes that the whole tells over the entries that do not split theirs."""
    left = long_writes - sum(part.usage.cache_write_1h_input_tokens or 0 for part in listed)
    spread = []
    for part in listed:
        usage = part.usage
        if usage.cache_write_1h_input_tokens is None and usage.cache_write_input_tokens and left > 0:
            share = min(left, usage.cache_write_input_tokens)
            left -= share
            usage = msgspec.structs.replace(usage, cache_write_1h_input_tokens=share)
        spread.append(Sampling(model=part.model, usage=usage))
    return spread


def _sampling(entry: dict[str, Any]) -> Sampling:
    model, split = entry.get("model"), entry.get("cache_creation")
    return Sampling(
        model=model if isinstance(model, str) and model else None,
        usage=Usage(
            input_tokens=_count(entry, "input_tokens"),
            cached_input_tokens=_count(entry, "cache_read_input_tokens"),
            cache_write_input_tokens=_count(entry, "cache_creation_input_tokens"),
            cache_write_1h_input_tokens=_count(split, "ephemeral_1h_input_tokens"),
            output_tokens=_count(entry, "output_tokens"),
        ),
    )


def _count(told: object, name: str) -> int | None:
    count = told.get(name) if isinstance(told, dict) else None
    return count if type(count) is int and count >= 0 else None


def _counts(usage: Usage) -> dict[str, int]:
    """Return the tokens by the kind that is billed, without those that were not used."""
    long_writes = usage.cache_write_1h_input_tokens or 0
    counts = {
        "input": usage.input_tokens or 0,
        "cached_input": usage.cached_input_tokens or 0,
        # More one-hour writes than writes is the provider's slip: then all of them were for one hour.
        "cache_write": max(0, (usage.cache_write_input_tokens or 0) - long_writes),
        "cache_write_1h": long_writes,
        "output": usage.output_tokens or 0,
    }
    return {kind: count for kind, count in counts.items() if count}


def _component(kind: str, sampled: str | None, model: str) -> str:
    return kind if sampled in {None, model} else f"{kind}:{sampled}"


def _or_share(rate: Decimal | None, of: Decimal, share: str) -> Decimal:
    return _EXACT.multiply(of, Decimal(share)) if rate is None else rate


def _amount(count: int, rate: Decimal, per: Decimal) -> Decimal:
    return _EXACT.divide(_EXACT.multiply(Decimal(count), rate), per)
