"""What a hand-written loop tells after the fact: an answer, or a call, that is over already."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import attrs

from agentkit_loop.content import clean_record
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.models.anthropic_stream import FINISH_REASONS
from agentkit_loop.models.anthropic_usage import read_usage
from agentkit_loop.sdk_values import as_dict
from agentkit_loop.usage import Cost, ErrorInfo, Usage
from agentkit_loop.values import JSON, clean_text, safe_repr, to_json

HOST = "host"
"""The source of a cost that the host computed itself."""

_ANY_TIME = dt.datetime.min.replace(tzinfo=dt.UTC)


@attrs.frozen
class AsJson:
    """A value that is JSON already, `$` forms too, and is told as it is."""

    value: JSON


def usage_of(given: object) -> Usage:
    """Return counts: a Usage, the SDK's usage, or a mapping with the API's names; None is all unknown."""
    if given is None:
        return Usage()
    if isinstance(given, Usage):
        return given
    told = to_json(as_dict(given))
    return read_usage(told if isinstance(told, dict) else {})


def cost_of(given: object, now: dt.datetime) -> Cost | None:
    """Return a cost: a Cost, or an amount in USD; None is unknown. Raises ConfigurationError for what is no amount."""
    if given is None or isinstance(given, Cost):
        return given
    try:
        amount = Decimal(str(given)) if isinstance(given, (int, float, str, Decimal)) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or isinstance(given, bool):
        raise ConfigurationError(f"cost={safe_repr(given)} refused; give an amount in USD, or a Cost")
    return Cost(amount=amount, currency="USD", components={}, source=HOST, priced_at=now)


def finish_reason_of(stop_reason: object) -> str:
    """Return the API's stop reason by the name that the loop has for it; None is `unknown`."""
    told = "unknown" if stop_reason is None else clean_text(str(stop_reason))
    return FINISH_REASONS.get(told, told)


def duration_of(given: object) -> float | None:
    """Return a duration in milliseconds; None, or no finite number, is unknown.

    What is below zero, as of a clock that was set, took no time. Raises ConfigurationError for what is no number.
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float, Decimal)):
        raise ConfigurationError(f"duration_ms={safe_repr(given)} refused; give milliseconds, or None")
    took = float(given)
    return max(0.0, took) if math.isfinite(took) else None


def error_of(given: object) -> ErrorInfo | None:
    """Return an error as data: an exception, an ErrorInfo, or its text, which may be empty; None is none."""
    if given is None:
        return None
    if isinstance(given, ErrorInfo):
        return clean_record(given)
    if isinstance(given, BaseException):
        return ErrorInfo.of(given)
    if not isinstance(given, str):
        raise ConfigurationError(f"error={safe_repr(given)} refused; give an exception, its text, or None")
    return ErrorInfo(type="Error", message=clean_text(given))


def arguments_of(given: object) -> dict[str, Any]:
    """Return a call's arguments by name, as JSON; what is no mapping stands under `value`."""
    if given is None:
        return {}
    if isinstance(given, AsJson):
        return dict(given.value)
    told = to_json(given)
    return told if isinstance(given, Mapping) and isinstance(told, dict) else {"value": told}


def check_facts(usage: object, cost: object, error: object, duration_ms: object) -> None:
    """Refuse what cannot be told, before anything is; raises ConfigurationError."""
    usage_of(usage)
    cost_of(cost, _ANY_TIME)
    error_of(error)
    duration_of(duration_ms)
