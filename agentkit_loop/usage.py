"""What a request used, what it cost, and what went wrong: the small records that ride on events."""

from __future__ import annotations

import datetime as dt
import decimal
import operator
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from agentkit_loop.errors import ModelRequestError
from agentkit_loop.values import JSON, clean_text

_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "output_tokens",
    "reasoning_tokens",
)


_counts_of = operator.attrgetter(*_COUNTS)


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one request, or a sum over several. None is unknown, never zero.

    input_tokens, cached_input_tokens (read from the provider's cache) and cache_write_input_tokens
    are disjoint, as the provider bills them. cache_write_1h_input_tokens is the part of the writes
    that lives one hour. output_tokens includes reasoning_tokens. raw is the provider's own object,
    kept for what has no field here (service tier, server tools, iterations); a sum has none.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_write_1h_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: dict[str, JSON] | None = None

    @property
    def total_input_tokens(self) -> int | None:
        """All input tokens: fresh, cached and written to the cache; None if none of them is known."""
        fresh, cached, written = self.input_tokens, self.cached_input_tokens, self.cache_write_input_tokens
        if fresh is None or cached is None or written is None:
            return _sum(fresh, cached, written)
        return fresh + cached + written  # asked for with each request by each who counts

    @property
    def total_tokens(self) -> int | None:
        """All input and output tokens; None if none of them is known."""
        return _sum(self.total_input_tokens, self.output_tokens)

    def __add__(self, other: Usage) -> Usage:
        """Add field by field; a count that only one side knows is that side's."""
        return Usage.total((self, other))

    @classmethod
    def total(cls, usages: Iterable[Usage]) -> Usage:
        """Add any number of usages; an empty sum knows nothing."""
        # All of them at once, a field at a time: a sum of two for each would make an object for each.
        counts = [*map(_counts_of, usages)]
        if not counts:
            return cls()
        # `filter` leaves out what is not known, and zeros, without a step for each; so a sum of 0 is looked at again.
        fresh, cached, written, written_1h, output, reasoning = [
            sum(filter(None, column)) or (None if column.count(None) == len(column) else 0)
            for column in zip(*counts, strict=True)
        ]
        return cls(
            input_tokens=fresh,
            cached_input_tokens=cached,
            cache_write_input_tokens=written,
            cache_write_1h_input_tokens=written_1h,
            output_tokens=output,
            reasoning_tokens=reasoning,
        )


def _sum(*counts: int | None) -> int | None:
    if None not in counts:
        return sum(counts)  # type: ignore[arg-type] # none of them is None
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one request cost.

    amount: a sum of `components`, exact; of the counts that are known, so where the usage leaves one out (None)
    it is a lower bound. currency: ISO 4217. components: amount by what was billed
    (`input`, `cached_input`, `cache_write`, `output`, …). source: which price table, with its version.
    priced_at: the moment whose prices were used.
    """

    amount: Decimal
    currency: str
    components: dict[str, Decimal]
    source: str
    priced_at: dt.datetime


def child_usage(usage: Usage, costs: dict[str, Decimal]) -> Usage:
    """Return what a sub-agent used as its parent's call tells it: the counts, and in `raw` the costs as text."""
    told = {currency: str(amount) for currency, amount in costs.items()}
    return msgspec.structs.replace(usage, raw={"costs": told} if told else None)


def child_costs(usage: Usage) -> dict[str, Decimal]:
    """Return the costs that `child_usage` told; what cannot be added is left out."""
    told = (usage.raw or {}).get("costs")
    costs: dict[str, Decimal] = {}
    for currency, text in told.items() if isinstance(told, dict) else ():
        try:
            amount = Decimal(text)
        except (ArithmeticError, TypeError, ValueError):
            continue
        if can_be_added(amount):
            costs[currency] = amount
    return costs


EXACT_SUMS = decimal.Context(prec=200)
"""Adds amounts that `can_be_added`, whatever context the host has set; wide enough that taking back what was added
leaves exactly what was there before."""

_MOST_DIGITS = 30  # before the point; no request costs as much


def can_be_added(amount: Decimal) -> bool:
    """Whether an amount leaves a sum usable; a log may hold NaN or 9E+999999."""
    # Half of what comparing it to two bounds takes. Zero may have any exponent.
    return amount.is_finite() and (amount.adjusted() < _MOST_DIGITS or not amount)


def clean_cost(cost: Cost) -> Cost:
    """Return a host's cost with clean texts; its amounts are numbers of a type of their own, also in JSON."""
    return Cost(
        amount=cost.amount,
        currency=clean_text(cost.currency),
        components={clean_text(name): amount for name, amount in cost.components.items()},
        source=clean_text(cost.source),
        priced_at=cost.priced_at,
    )


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An error as data.

    type: the class's name. message: its text. frames: the innermost three calls, innermost first, as
    `file:line in function`, without source lines. retryable: whether trying again may help.
    """

    type: str
    message: str
    frames: tuple[str, ...] = ()
    retryable: bool = False

    @classmethod
    def of(cls, error: BaseException, *, retryable: bool | None = None) -> ErrorInfo:
        """Describe an exception; `retryable` overrides what the exception itself says."""
        if retryable is None:
            retryable = isinstance(error, ModelRequestError) and error.retryable
        return cls(
            type=type(error).__name__,
            message=error_text(error),
            frames=_first_frames(error),
            retryable=retryable,
        )


PROCESS_ENDED = ErrorInfo(type="ProcessEnded", message="the process ended before this did", retryable=True)
"""What a recovery says of the work that a crash left open."""


def error_text(error: BaseException) -> str:
    """Return the text of an exception, its class name where it has none, never raising."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything
        text = ""
    return clean_text(text) or type(error).__name__


def _first_frames(error: BaseException) -> tuple[str, ...]:
    import traceback  # noqa: PLC0415 - most programs have no error to tell

    frames = traceback.extract_tb(error.__traceback__)[-3:]
    # The last two components say which file; the rest of the path is a fact about the machine.
    return tuple(
        clean_text(
            f"{'/'.join(frame.filename.replace(chr(92), '/').split('/')[-2:])}:{frame.lineno} in {frame.name}"
        )
        for frame in reversed(frames)
    )


class ObserverStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the loop counted for one observer in a run.

    handled: events it was given. failed: those on which it raised. dropped: events it says it dropped.
    time_ms: wall clock inside its `handle_event`, monotonic.
    """

    name: str
    handled: int
    failed: int
    dropped: int
    time_ms: float
