"""InvocationMetric: one invocation of an agent as a record, and its form as a line of JSON."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.usage import can_be_added
from agentkit_loop.values import JSON, safe_repr

Phase: TypeAlias = int | float | str | None
"""The number or the name of a phase; None where nobody said."""

INFRASTRUCTURE_ERRORS = frozenset(
    {"rate_limited", "overloaded", "timeout", "connection", "server", "stream_cut", "process_ended"}
)
"""The error classes of a request (DESIGN.md section 3) for which the agent's code and input are not to blame."""


INTERRUPTED = 130
"""The exit code of a process that Ctrl-C ended, and of a run that was cancelled."""


def _refusal(name: str, value: object, wanted: str) -> ConfigurationError:
    return ConfigurationError(f"{name}={safe_repr(value)[:200]} of a metric refused; give {wanted}")


def _text(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    del instance
    if not isinstance(value, str):
        raise _refusal(field.name, value, "text")


def _id(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    _text(instance, field, value)
    if not value:
        raise _refusal(field.name, value, "text that is not empty")


def _text_or_none(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _text(instance, field, value)


def _phase(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    del instance
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (is_number or value is None or isinstance(value, str)):
        raise _refusal(field.name, value, "a number, a name or None")


def _whole(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    del instance
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= _TOO_MANY:
        raise _refusal(field.name, value, "a whole number")


def _count(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None or (type(value) is int and 0 <= value < _TOO_MANY):  # as most often; each call costs
        return
    _whole(instance, field, value)
    if isinstance(value, int) and value < 0:
        raise _refusal(field.name, value, "a count of 0 or more")


def _attempt(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    _whole(instance, field, value)
    if isinstance(value, int) and value < 1:
        raise _refusal(field.name, value, "1 for the first try")


def _duration(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    del instance
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < _LONGEST_MS:  # type: ignore[operator] # it is a number
        raise _refusal(field.name, value, "milliseconds, 0 or more")


def _truth(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    del instance
    if not isinstance(value, bool):
        raise _refusal(field.name, value, "True or False")


def _amount(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    del instance
    if value is not None and not (isinstance(value, Decimal) and can_be_added(value)):
        raise _refusal(field.name, value, "an amount in USD, or None where it is not known")


def _moment(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    del instance
    try:
        fits = moment_of(value).year in _YEARS  # type: ignore[arg-type] # what is no text is refused
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise _refusal(field.name, value, "an ISO 8601 time such as '2026-05-24T18:40:00.123Z'")


def _exact(value: object) -> object:
    """Return a number as the Decimal of its own digits: 0.1 is a tenth."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return value
    try:
        return Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return value  # refused by the validator


_LONGEST_MS = 1e13  # three hundred years
_TOO_MANY = 2**63
_YEARS = range(1970, 3_000)


@attrs.frozen(kw_only=True)
class InvocationMetric:
    """One invocation of an agent. Raises ConfigurationError for values that it cannot have.

    invocation_id: unique; the run's id where it was made of a run. agent: its name. phase: number or name of the
    stage. task_id: the task within the phase; attempts of one task have the same agent, phase and task_id.
    duration_ms: wall clock. tokens: all of them, None where none is known. input_tokens, cached_tokens (read from the
    provider's cache), cache_write_tokens and output_tokens are disjoint; reasoning_tokens are a part of the output.
    cost: in USD; None is unknown, never zero. It may be given as a number or text and is kept as an exact Decimal.
    exit_code: 0, 1 after an error, 130 interrupted, or a process's own. success: whether it did what it was for.
    attempt: 1 for the first try. output_parsed: whether the output could be read as what was asked for. model, tier:
    which was used. timestamp: when it started, ISO 8601; without an offset it is UTC. error_class: of the
    infrastructure's fault that it failed by; None after an error of code or input. premium_requests: as the provider
    counts them. derived: whether it was made of a run's events; one that the host recorded under the same id wins.
    """

    invocation_id: str = attrs.field(validator=_id)
    agent: str = attrs.field(validator=_text)
    phase: Phase = attrs.field(default=None, validator=_phase)
    task_id: str | None = attrs.field(default=None, validator=_text_or_none)
    duration_ms: float = attrs.field(validator=_duration)
    tokens: int | None = attrs.field(default=None, validator=_count)
    input_tokens: int | None = attrs.field(default=None, validator=_count)
    output_tokens: int | None = attrs.field(default=None, validator=_count)
    cached_tokens: int | None = attrs.field(default=None, validator=_count)
    cost: Decimal | None = attrs.field(default=None, converter=_exact, validator=_amount)
    exit_code: int = attrs.field(default=0, validator=_whole)
    success: bool = attrs.field(default=True, validator=_truth)
    attempt: int = attrs.field(default=1, validator=_attempt)
    output_parsed: bool = attrs.field(default=True, validator=_truth)
    model: str | None = attrs.field(default=None, validator=_text_or_none)
    tier: str | None = attrs.field(default=None, validator=_text_or_none)
    timestamp: str = attrs.field(validator=_moment)
    error_class: str | None = attrs.field(default=None, validator=_text_or_none)
    premium_requests: int | None = attrs.field(default=None, validator=_count)
    cache_write_tokens: int | None = attrs.field(default=None, validator=_count)
    reasoning_tokens: int | None = attrs.field(default=None, validator=_count)
    derived: bool = attrs.field(default=False, validator=_truth)

    @property
    def task(self) -> tuple[str, Phase, str | None]:
        """What its attempts have in common: agent, phase and task_id."""
        return self.agent, self.phase, self.task_id

    @functools.cached_property  # who reports on it asks some ten times, and each time it would be read from the text
    def started_us(self) -> int:
        """When it started: microseconds since 1970, UTC."""
        return (moment_of(self.timestamp) - _EPOCH) // _MICROSECOND

    @property
    def ended_us(self) -> int:
        """When it ended, in the same way."""
        return self.started_us + round(self.duration_ms * 1_000)

    def as_record(self) -> dict[str, JSON]:
        """Return it as JSON, its keys in the order of the fields.

        What the seed calls optional is left out where it is not known; `phase`, `tokens` and `cost` are null then.
        cost: a number, or text where a number of JSON (a double) would not hold it exactly.
        """
        record: dict[str, JSON] = {}
        for field in attrs.fields(InvocationMetric):
            value = getattr(self, field.name)
            if field.name == "cost":
                value = _number(value)
            if field.name == "derived" and not value:
                continue
            if value is not None or field.name in _ALWAYS:
                record[field.name] = value
        return record

    @classmethod
    def of_record(cls, record: object) -> InvocationMetric:
        """Return the metric that a record holds; keys that are not known are left out.

        Raises ConfigurationError, also where a key that every record has is missing.
        """
        if not isinstance(record, Mapping):
            raise ConfigurationError(
                f"metric {safe_repr(record)[:200]} refused; give an object with its fields"
            )
        missing = [name for name in _ALWAYS if name not in record]
        if missing:
            raise ConfigurationError(
                f"metric without {', '.join(map(repr, missing))} refused; give it all of them"
            )
        return cls(**{name: record[name] for name in _NAMES if name in record})


_ALWAYS = (
    "invocation_id",
    "agent",
    "phase",
    "duration_ms",
    "tokens",
    "cost",
    "exit_code",
    "success",
    "attempt",
    "output_parsed",
    "timestamp",
)
_NAMES = tuple(field.name for field in attrs.fields(InvocationMetric))
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def moment_of(timestamp: str) -> dt.datetime:
    """Return the moment that an ISO 8601 text names, UTC; raises ValueError and OverflowError."""
    moment = dt.datetime.fromisoformat(timestamp)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC)


def _number(amount: Decimal | None) -> float | int | str | None:
    if amount is None:
        return None
    if amount == amount.to_integral_value() and abs(amount) < 2**53:
        return int(amount)
    near = float(amount)
    return near if Decimal(repr(near)) == amount else str(amount)


__all__ = ["INFRASTRUCTURE_ERRORS", "InvocationMetric", "Phase", "moment_of"]
