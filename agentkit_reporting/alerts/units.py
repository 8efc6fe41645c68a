"""Thresholds and measured values with their units: `2s`, `10%`, `$0.50`, `200k`; from text, and to it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.terminal import one_line

__all__ = [
    "FORMS",
    "USD",
    "Amount",
    "Unit",
    "parsed_duration_ms",
    "parsed_threshold",
    "quantity_text",
    "threshold_text",
]

Unit: TypeAlias = Literal["ms", "share", "money", "count", "tokens"]
"""What a metric is measured in: ms; a share, 0 to 1; money in one currency; a number of things; tokens."""

Amount: TypeAlias = int | float | Decimal
"""A value in its unit: float for ms and shares, Decimal for money, int for the rest."""

USD = "USD"

FORMS: dict[Unit, str] = {
    "ms": 'a duration such as "2s", "500ms" or "1m30s", or a number of ms',
    "share": 'a share such as "10%", or a number from 0 to 1',
    "money": 'an amount such as "$0.50" or "0.50 EUR", or a number of USD',
    "count": "a whole number",
    "tokens": 'a number of tokens, which may be written "200k" or "1.5M"',
}
"""How a threshold is written, by unit; refusals and the help are made of it."""

MOST_DURATION_MS = 366 * 86_400_000.0
_MOST = 10**15
_MOST_SIGNS = 40  # of a number that somebody wrote

_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"(?:{_NUMBER}\s*(?:ms|s|min|m|h|d)\s*)+", re.ASCII)
_DURATION_PART = re.compile(rf"({_NUMBER})\s*(ms|s|min|m|h|d)", re.ASCII)
_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_MONEY = re.compile(rf"(?:\$\s*({_NUMBER})|({_NUMBER})\s*([A-Z]{{3}}))", re.ASCII)
_PERCENT = re.compile(rf"({_NUMBER})\s*%", re.ASCII)
_COUNT = re.compile(rf"({_NUMBER})\s*([kM]?)", re.ASCII)
_SECOND_MS, _MINUTE_MS = 1_000, 60_000
_SMALL = Decimal("0.0001")
_LARGE = Decimal(10) ** 12  # beyond this an amount is written with an exponent, not with all its digits


def parsed_duration_ms(text: object) -> float:
    """Return how long a text says, in ms: `5m`, `1h30m`, `500ms`; raises ConfigurationError."""
    if isinstance(text, str) and len(text) <= _MOST_SIGNS and _DURATION.fullmatch(text.strip()):
        parts = _DURATION_PART.findall(text)
        found_ms = float(sum(Decimal(number) * _MS[unit] for number, unit in parts))
        if 0 < found_ms <= MOST_DURATION_MS:
            return found_ms
    raise ConfigurationError(f'{_shown(text)} refused; give a duration above 0 such as "5m", "90s" or "1h"')


def parsed_threshold(value: object, unit: Unit) -> tuple[Amount, str | None]:
    """Return a threshold in its unit, and the currency of money; raises ConfigurationError."""
    given = _as_decimal(value)
    found = _of_number(given, unit) if given is not None else _of_text(value, unit)
    if found is None or found[0] > _MOST:
        raise ConfigurationError(f"{_shown(value)} refused; give {FORMS[unit]}")
    return found


def _as_decimal(value: object) -> Decimal | None:
    """Return what is a number; one that is none in TOML's eyes is written without a unit, in text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    if isinstance(value, int) and abs(value) > _MOST:
        return Decimal(-1)  # refused, as what is below 0
    text = str(value).strip()
    if len(text) > _MOST_SIGNS or not text.isascii():
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() and abs(found) <= _MOST else Decimal(-1)


def _of_number(given: Decimal, unit: Unit) -> tuple[Amount, str | None] | None:
    if given < 0 or (unit == "share" and given > 1):
        return None
    if unit == "money":
        return given, USD
    if unit in ("ms", "share"):
        return float(given), None
    return (int(given), None) if given == int(given) else None


def _of_text(value: object, unit: Unit) -> tuple[Amount, str | None] | None:
    if not isinstance(value, str) or len(value) > _MOST_SIGNS:
        return None
    text = value.strip()
    if unit == "ms":
        return (parsed_duration_ms(text), None) if _DURATION.fullmatch(text) else None
    if unit == "share":
        percent = _PERCENT.fullmatch(text)
        return _of_number(Decimal(percent[1]) / 100, unit) if percent else None
    if unit == "money":
        money = _MONEY.fullmatch(text)
        return (Decimal(money[1] or money[2]), money[3] or USD) if money else None
    count = _COUNT.fullmatch(text) if unit == "tokens" else None
    return _of_number(Decimal(count[1]) * {"": 1, "k": 1_000, "M": 10**6}[count[2]], unit) if count else None


def _shown(value: object) -> str:
    if isinstance(value, (list, dict)):
        return f"a {'list' if isinstance(value, list) else 'table'}"
    return one_line(repr(value)[:200], 60)


# --- for people


def quantity_text(value: Amount | None, unit: Unit, currency: str | None = None) -> str:
    """Return a value for people: `2.5 s`, `12.5%`, `$0.04`, `1,234`; `-` for none."""
    if value is None:
        return "-"
    return _text_of(value, unit, currency, 1)


def threshold_text(value: Amount, threshold: Amount, unit: Unit, currency: str | None) -> tuple[str, str]:
    """Return both for people, with as many digits as it takes to see that they differ."""
    digits = 1
    limit = _text_of(threshold, unit, currency, 1)
    while digits < 9:  # noqa: PLR2004 - a float's digits end
        found = _text_of(value, unit, currency, digits)
        limit = _text_of(threshold, unit, currency, digits)
        if found != limit or value == threshold:
            return found, limit
        digits += 1
    return str(value), str(threshold)


def _text_of(value: Amount, unit: Unit, currency: str | None, digits: int) -> str:
    texts: dict[Unit, Callable[[Any, int], str]] = {
        "ms": _duration,
        "share": lambda share, more: f"{_trimmed(share * 100, more)}%",
        "money": lambda amount, more: _money(Decimal(amount), currency or USD, more),
        "count": lambda count, _: f"{count:,}",
        "tokens": lambda count, _: f"{count:,}",
    }
    return texts[unit](value, digits)


def _duration(duration_ms: float, digits: int) -> str:
    if abs(duration_ms) > _MOST:  # which a log may say
        return f"{duration_ms:.3e} ms"
    if duration_ms < _SECOND_MS:
        return f"{_trimmed(duration_ms, digits - 1)} ms"
    if duration_ms < _MINUTE_MS:
        return f"{_trimmed(duration_ms / _SECOND_MS, digits)} s"
    seconds = duration_ms / _SECOND_MS
    if digits == 1:
        seconds = math.floor(seconds + 0.5)
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    told = _trimmed(rest, digits - 1)
    left = f" {told} s" if told != "0" else ""
    if hours:
        return f"{hours:,} h {minutes} min{left}" if minutes or left else f"{hours:,} h"
    return f"{minutes} min{left}"


def _trimmed(number: float, digits: int) -> str:
    text = f"{number:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _money(amount: Decimal, currency: str, digits: int) -> str:
    if abs(amount) >= _LARGE:
        figure = f"{amount:.3e}"
    elif abs(amount) >= _SMALL or not amount:
        figure = f"{amount:,.{digits + (1 if abs(amount) >= 1 else 3)}f}"
        whole, _, rest = figure.partition(".")
        figure = f"{whole}.{rest.rstrip('0'):0<2}"
    else:
        figure = f"{amount:.{digits}e}"
    return f"${figure}" if currency == USD else f"{figure} {one_line(currency, 8, '~')}"
