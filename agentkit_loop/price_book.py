"""PriceBook: what the provider's models cost, by the tables of genai-prices and by a list of one's own.

The tables come with the installed package; nothing is fetched. They are loaded on first use (about 0.1 s).
What the tables leave out follows Anthropic's pricing documentation: a batch costs half of every token price,
inference in the US alone ("inference_geo": "us") 1.1 times, web searches neither the one nor the other.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.forks import Locked
from agentkit_loop.late import late_pattern
from agentkit_loop.price_list import PriceList, Way, read_price_list
from agentkit_loop.pricing import Rates, priced
from agentkit_loop.usage import Cost, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

US_ONLY = Decimal("1.1")
BATCH = Decimal("0.5")

_PRICE_KEYS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "web_searches_kcount": "web_search",
}
"""Names of genai-prices by ours. Its other keys (audio, images) are for what no usage here counts."""

_CONTEXT = late_pattern(r"\[\w+\]$")  # claude-sonnet-4-5[1m], as coding tools write it
_VERSION = late_pattern(r"-v\d+(:\d+)?$")  # …-v1:0, of Bedrock
_REGION = late_pattern(r"^([a-z]{2,10}\.)?anthropic\.")  # us.anthropic.…, of Bedrock
_VARIANT = late_pattern(r":[a-z-]+$")  # …:thinking, of OpenRouter
_DATE = late_pattern(r"[-@](20\d{6}|20\d{2}-\d{2}-\d{2}|latest|default)$")


class PriceBook(Locked):
    """Prices at the moment of each request, offline.

    own: a prices.toml (see `agentkit_loop.price_list`), whose prices win. Names are found with prefixes and
    dates of gateways and clouds (`anthropic/…`, `us.anthropic.…-v1:0`, `…-20250929`, `…@20250929`,
    `…-latest`); a prefix that names a reseller whose prices are known has the reseller's. Without a prefix
    only Anthropic's own models are known, so that a local model is not billed at someone's price. The source
    of a cost says by which alias of the own list the tables were asked. Safe to be shared by threads. Raises
    ConfigurationError for a list that cannot be read; `load` checks its aliases.
    """

    def __init__(self, own: str | Path | None = None) -> None:
        super().__init__()
        self._own: PriceList | None = None if own is None else read_price_list(own)
        self._tables: Any = None
        self._source = ""
        self._rates: dict[tuple[str, Way, Decimal, dt.datetime], _Priced | None] = {}

    def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
        """Return the exact cost, with its source; None where a price is missing."""
        served = _served(usage)
        if served is None or len(model) > MAX_NAME:
            return None
        way, factor = served
        main = self._priced(model, way, factor, at)
        if main is None:
            return None

        def rates_of(name: str) -> Rates | None:
            found = main if name == model else self._priced(name, way, factor, at)
            return None if found is None else found.rates

        notes: list[str] = [way] if way != "standard" else []
        if factor != 1:
            notes.append(f"us inference x{factor}")
        source = main.source + (f" ({', '.join(notes)})" if notes else "")
        return priced(model, usage, rates_of, source=source, at=at)

    def rates(self, model: str, at: dt.datetime) -> Rates | None:
        """Return the standard rates of a model at a moment; None where it is unknown."""
        found = self._priced(model, "standard", Decimal(1), at)
        return None if found is None else found.rates

    @property
    def is_prepared(self) -> bool:
        """Whether the tables are loaded."""
        return self._tables is not None

    def prepare(self) -> None:
        """Load the tables, some tenths of a second, so that the first request is not measured with it."""
        self._load_tables()

    def load(self) -> None:
        """Load the tables now, else the first price asked for does, and check the own list's aliases.

        Raises ConfigurationError for an alias of a model that neither the list nor the tables know. Without
        this check what has such a name has no price.
        """
        self._load_tables()
        own = self._own
        if own is None:
            return
        for alias, model in own.aliases.items():
            if model not in own.models and self._find(model) is None:
                raise ConfigurationError(
                    f"aliases.{alias!r} = {model!r} of {own.source} refused;"
                    " write a model of the list or one that genai-prices knows"
                )

    def _load_tables(self) -> None:
        with self._lock:
            if self._tables is None:
                # On first use, see the module's text.
                import importlib.metadata  # noqa: PLC0415

                from genai_prices import data_snapshot  # noqa: PLC0415

                self._source = f"genai-prices {importlib.metadata.version('genai-prices')}"
                self._tables = data_snapshot.get_snapshot()

    def _priced(self, model: str, way: Way, factor: Decimal, at: dt.datetime) -> _Priced | None:
        # Prices change at a minute of a day at the finest.
        key = (model, way, factor, at.astimezone(dt.UTC).replace(second=0, microsecond=0))
        remembered = self._rates
        if key in remembered:
            return remembered[key]
        standing = self._look_up(model, way, at)
        if standing is not None and factor != 1:
            standing = msgspec.structs.replace(standing, rates=standing.rates.scaled(factor))
        with self._lock:
            if len(self._rates) >= MAX_REMEMBERED:
                self._rates = {}
            self._rates[key] = standing
        return standing

    def _look_up(self, model: str, way: Way, at: dt.datetime) -> _Priced | None:
        spelt = spellings(model)
        own = self._own
        names = spelt if own is None else [own.aliases.get(name, name) for name in spelt]
        if own is not None:
            for name in names:
                rates = own.rates(name, way, at)
                if rates is not None:
                    return _Priced(rates, own.source)
        for written, name in zip(spelt, names, strict=True):
            found = self._find(name)
            if found is not None:
                rates = _table_rates(*found, way, at)
                alias = f", as {name} by {own.source}" if own is not None and name != written else ""
                return None if rates is None else _Priced(rates, self._source + alias)
        return None

    def _find(self, name: str) -> tuple[Provider, ModelInfo] | None:
        self._load_tables()
        for provider, rest in _sellers(name):
            try:
                found: tuple[Provider, ModelInfo] = self._tables.find_provider_model(
                    rest, None, provider, None
                )
            except LookupError:
                continue
            return found
        return None


MAX_REMEMBERED = 10_000
"""Rates remembered by model and day; names come from servers, so that there is a bound."""

MAX_NAME = 300
"""Characters of the longest name that is looked up."""


class _Priced(msgspec.Struct, frozen=True):
    rates: Rates
    source: str


def spellings(model: str) -> list[str]:
    """Return the names under which a model may be listed, the given one first."""
    names = [model.strip().lower()]
    for pattern in (_CONTEXT, _VARIANT, _VERSION, _DATE):
        names.append(pattern.sub("", names[-1]))
    tails = [_REGION.sub("", name.rsplit("/", 1)[-1]) for name in names]
    return list(dict.fromkeys(name for name in (*names, *tails) if name))


def _sellers(name: str) -> list[tuple[str, str]]:
    """Return who may sell a model of that name, and its name there."""
    prefix, slash, rest = name.partition("/")
    if slash:
        return [(prefix, rest)]
    if _REGION.match(name):
        return [("aws", name)]
    return [("anthropic", name)]


def _served(usage: Usage) -> tuple[Way, Decimal] | None:
    """Return how the provider says that it served the request; None for a way that has no known price."""
    raw = usage.raw or {}
    fast, batch = raw.get("speed") == "fast", raw.get("service_tier") == "batch"
    factor = US_ONLY if raw.get("inference_geo") == "us" else Decimal(1)
    if fast and batch:
        return None
    if raw.get("service_tier") == "priority":  # bought beforehand, so that no list price holds
        return None if fast else ("priority", factor)
    return ("fast" if fast else "batch" if batch else "standard"), factor


def _table_rates(provider: Provider, model: ModelInfo, way: Way, at: dt.datetime) -> Rates | None:
    standard = model.get_prices(at)
    shares = provider.id == _ANTHROPIC
    if way == "standard":
        return _rates(standard, shares=shares)
    context = _CONTEXTS.get(way)
    if context is not None and any(model is own for own in provider.models):
        variant = model.get_prices(at, context)
        if variant != standard:
            return _rates(variant, shares=shares)
    rates = _rates(standard, shares=shares)
    return rates.scaled(BATCH) if way == "batch" and shares and rates is not None else None


_ANTHROPIC = "anthropic"
_CONTEXTS = {"batch": {"processing": "batch"}, "fast": {"speed": "fast"}}
"""What genai-prices calls the ways that it has prices for."""


def _rates(told: ModelPrice, *, shares: bool) -> Rates | None:
    """Return prices of the table as rates; None where input or output have none.

    shares: whether what a table leaves out of the cache has Anthropic's share of the input price; elsewhere
    it is billed as input, as the tables' own calculator does.
    """
    prices = {ours: getattr(told, theirs) for theirs, ours in _PRICE_KEYS.items()}
    if not shares:
        for name, instead in (
            ("cached_input", "input"),
            ("cache_write", "input"),
            ("cache_write_1h", "cache_write"),
        ):
            prices[name] = prices[instead] if prices[name] is None else prices[name]
    starts = {tier.start for price in prices.values() if hasattr(price, "tiers") for tier in price.tiers}
    # Tiers name the first step where a rate differs; between two steps each price has its own.
    base = _step(prices, 0)
    if base["input"] is None or base["output"] is None:
        return None
    return Rates(**base, above={start: Rates(**_step(prices, start + 1)) for start in sorted(starts)})


def _step(prices: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Return the prices of a request with so many input tokens."""
    step = {}
    for name, price in prices.items():
        step[name] = price
        if hasattr(price, "tiers"):
            reached = [tier.price for tier in price.tiers if tokens > tier.start]
            step[name] = reached[-1] if reached else price.base
    return step
