"""prices.toml: a price list that a host writes, read and checked.

```toml
version = "2026-11-20"            # told in the source of every cost
currency = "USD"                  # of all rates, the default

[aliases]                         # a name that a gateway uses = the model whose prices hold
"fast" = "claude-haiku-5-5"

[models."claude-sonnet-5"]        # prices for a million tokens; a thousand for web_search
input = 2.00
output = 10.00
cached_input = 0.20               # left out: 0.1, 1.25 and 2 times `input`
cache_write = 2.50
cache_write_1h = 4.00
web_search = 10.00                # left out: a request that searched has no cost
above = [{ input_tokens = 200_000, input = 4.00, output = 15.00 }]
fast = { input = 4.00, output = 20.00 }   # where the provider tells speed "fast"
batch = { input = 1.00, output = 5.00 }   # left out: half of every token price
priority = { input = 3.00, output = 15.00 }   # left out: such a request has no cost

[[models."claude-opus-5"]]        # prices that changed: several tables, each from a day (UTC) on
from = 2026-03-13
input = 5.00
output = 25.00
```
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.pricing import MAX_RATE, Rates

Way = Literal["standard", "batch", "fast", "priority"]
"""How a request was served, as far as it has prices of its own."""

_RATES = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "web_search")
_TOP = ("version", "currency", "aliases", "models")
_MODEL = ("from", *_RATES, "above", "batch", "fast", "priority")

_CURRENCY = re.compile("[A-Z]{3}")  # ISO 4217

MAX_BYTES = 4_000_000
"""A larger file is no price list."""


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of a model from a day (UTC) on, by the way a request was served; None: from the beginning."""

    since: dt.date | None
    rates: Mapping[Way, Rates]


class PriceList(msgspec.Struct, frozen=True, kw_only=True):
    """A price list as read. source: what each cost says of it. models: periods, the latest last."""

    source: str
    aliases: Mapping[str, str]
    models: Mapping[str, tuple[Period, ...]]

    def rates(self, model: str, way: Way, at: dt.datetime) -> Rates | None:
        """Return the rates of a model at a moment; None where the list has none."""
        day = at.astimezone(dt.UTC).date()
        for period in reversed(self.models.get(model, ())):
            if period.since is None or period.since <= day:
                return period.rates.get(way)
        return None


def read_price_list(path: str | Path) -> PriceList:
    """Read a file; raises ConfigurationError that says which entry is wrong and what to write."""
    import tomllib  # noqa: PLC0415 - only where a list is read

    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(f"price list {str(path)!r} cannot be read ({reason})") from error
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(f"price list {str(path)!r} is larger than {MAX_BYTES:,} bytes")
    try:
        told = tomllib.loads(raw.decode(), parse_float=Decimal)
    except ValueError as error:
        raise ConfigurationError(f"price list {str(path)!r} is no TOML: {error}") from error
    import hashlib  # noqa: PLC0415 - 2 ms, of OpenSSL

    digest = hashlib.sha256(raw).hexdigest()[:12]
    try:
        return _price_list(told, path.name, digest)
    except ConfigurationError as error:
        raise ConfigurationError(f"price list {str(path)!r}: {error}") from error


def _price_list(told: dict[str, Any], name: str, digest: str) -> PriceList:
    _refuse_unknown(told, _TOP, "the file")
    version = told.get("version")
    if version is not None and not isinstance(version, str | int | dt.date):
        raise ConfigurationError(f"version = {version!r} refused; write text or a date")
    currency = told.get("currency", "USD")
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise ConfigurationError(f"currency = {currency!r} refused; write three letters such as 'USD'")
    models = _table(told.get("models", {}), "models")
    aliases = _table(told.get("aliases", {}), "aliases")
    for alias, model in aliases.items():
        if isinstance(model, dict):
            name = _whole_name(alias, model)
            raise ConfigurationError(
                f"aliases.{alias!r} is a table; put a name with dots in quotes: {name!r}"
            )
        if not isinstance(model, str):
            raise ConfigurationError(f"aliases.{alias!r} = {model!r} refused; write the name of a model")
    if not models and not aliases:
        raise ConfigurationError('there are no prices; write [models."NAME"] with input and output')
    return PriceList(
        source=f"{name} {version} sha256:{digest}" if version is not None else f"{name} sha256:{digest}",
        aliases={alias.lower(): model.lower() for alias, model in aliases.items()},
        models={model.lower(): _periods(entry, model, currency) for model, entry in models.items()},
    )


def _periods(entry: object, model: str, currency: str) -> tuple[Period, ...]:
    place = f"models.{model!r}"
    tables = entry if isinstance(entry, list) else [entry]
    for table in tables:
        _refuse_dots(table, model)
    periods = [_period(_table(table, place), place, currency) for table in tables]
    days = [period.since or dt.date.min for period in periods]
    if len(set(days)) < len(days):
        raise ConfigurationError(f"{place} has two tables from the same day; give each its own `from`")
    return tuple(sorted(periods, key=lambda period: period.since or dt.date.min))


def _period(table: dict[str, Any], place: str, currency: str) -> Period:
    _refuse_unknown(table, _MODEL, place)
    since = table.get("from")
    if since is not None and (not isinstance(since, dt.date) or isinstance(since, dt.datetime)):
        raise ConfigurationError(f"{place}.from = {since!r} refused; write a day such as 2026-03-13")
    standard = _rates(table, place, currency)
    ways: dict[Way, Rates] = {"standard": standard, "batch": standard.scaled(Decimal("0.5"))}
    for way in ("batch", "fast", "priority"):
        if way in table:
            told = _table(table[way], f"{place}.{way}")
            _refuse_unknown(told, (*_RATES, "above"), f"{place}.{way}")
            rates = _rates(told, f"{place}.{way}", currency)
            ways[way] = (
                rates if rates.web_search is not None else attrs.evolve(rates, web_search=standard.web_search)
            )
    return Period(since=since, rates=ways)


def _rates(table: dict[str, Any], place: str, currency: str) -> Rates:
    rates: dict[str, Any] = {name: _rate(table, name, place) for name in _RATES}
    for name in ("input", "output"):
        if rates[name] is None:
            raise ConfigurationError(f"{place} has no `{name}`; write the price of a million tokens")
    above = table.get("above", [])
    if not isinstance(above, list):
        raise ConfigurationError(f"{place}.above = {above!r} refused; write a list of tables")
    steps: dict[int, Rates] = {}
    for number, step in enumerate(above, start=1):
        where = f"{place}.above, entry {number}"
        told = _table(step, where)
        _refuse_unknown(told, ("input_tokens", *_RATES), where)
        if "input_tokens" not in told:
            raise ConfigurationError(f"{where} has no `input_tokens`; write above how many the rates hold")
        start = told["input_tokens"]
        if type(start) is not int or start < 1 or start in steps:
            raise ConfigurationError(f"{where}: input_tokens = {start!r} refused; write a number of its own")
        # A search costs the same in a long request, where nothing else is said.
        steps[start] = _rates({"web_search": table.get("web_search"), **told, "above": []}, where, currency)
    return Rates(**rates, currency=currency, above=steps)


def _rate(table: dict[str, Any], name: str, place: str) -> Decimal | None:
    rate = table.get(name)
    if rate is None:
        return None
    if type(rate) is int:
        rate = Decimal(rate)
    if not isinstance(rate, Decimal):
        raise ConfigurationError(f"{place}.{name} = {rate!r} refused; write a number without quotes")
    if not rate.is_finite() or not 0 <= rate <= MAX_RATE:
        raise ConfigurationError(
            f"{place}.{name} = {_written(rate)} refused; write a price from 0 to {MAX_RATE:,}"
        )
    return rate


def _table(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{place} = {_written(value)} refused; write a table")
    return value


def _written(value: object) -> str:
    """Return a value as the file has it, a number without Python's name for its type."""
    return str(value).lower() if isinstance(value, Decimal) else repr(value)


def _refuse_dots(table: object, model: str) -> None:
    """Refuse `[models.claude-sonnet-5.5]`, which TOML reads as a table `5` in `claude-sonnet-5`."""
    for name, inner in table.items() if isinstance(table, dict) else ():
        first = inner[0] if isinstance(inner, list) and inner else inner
        if name not in _MODEL and isinstance(first, dict):
            whole = _whole_name(f"{model}.{name}", first)
            raise ConfigurationError(
                f"models.{model!r} has a table {name!r}, which is none of {', '.join(_MODEL)};"
                f" put a name with dots in quotes: [models.{whole!r}]"
            )


def _whole_name(beginning: str, table: dict[str, Any]) -> str:
    """Return the name that dots without quotes have split into tables within tables."""
    while len(table) == 1 and not set(table) & set(_MODEL):
        ((name, inner),) = table.items()
        beginning = f"{beginning}.{name}"
        if not isinstance(inner, dict):
            break
        table = inner
    return beginning


def _refuse_unknown(table: dict[str, Any], known: tuple[str, ...], place: str) -> None:
    for name in table:
        if name not in known:
            raise ConfigurationError(f"{place} has {name!r}, which is none of {', '.join(known)}")
