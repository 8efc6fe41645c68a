"""What a report adds up, and in which order it is told: money, requests and calls, runs."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TypeAlias

import attrs

from agentkit_loop.usage import EXACT_SUMS, Usage
from agentkit_reporting.records.request_report import Report

__all__ = ["CallFigures", "Key", "Money", "RunFigures", "in_order", "sort_key"]

Key: TypeAlias = tuple[str, ...]
"""What a row of a table is of."""

_ZERO = Decimal(0)
_MOST_KEPT = 1_000


@attrs.define
class Money:
    """Amounts by currency, exact. unknown: how many runs, or requests, have no known cost.

    least: how many requests did not tell all that they used (their last report was not final, or of a run whose cost
    is known otherwise they told none): where there are some, the amounts are a lower bound.
    """

    amounts: dict[str, Decimal] = attrs.field(factory=dict)
    unknown: int = 0
    least: int = 0

    def add(self, amounts: dict[str, Decimal], unknown: int = 0, least: int = 0) -> None:
        """Add amounts, a number of unknown ones, and of requests that did not tell all."""
        self.unknown += unknown
        self.least += least
        for currency, amount in amounts.items():
            self.add_amount(currency, amount)

    def add_amount(self, currency: str, amount: Decimal) -> None:
        """Add an amount."""
        self.amounts[currency] = EXACT_SUMS.add(self.amounts.get(currency, _ZERO), amount)

    def bill(self, reports: Iterable[Report | None]) -> None:
        """Add the costs of requests; None: it told no usage, and so its cost is unknown."""
        amounts, add = self.amounts, EXACT_SUMS.add
        for report in reports:
            cost = None if report is None else report.cost
            if report is None or cost is None:
                self.unknown += 1
                continue
            if not report.final:
                self.least += 1
            currency = cost.currency
            amounts[currency] = add(amounts.get(currency, _ZERO), cost.amount)


@attrs.define
class CallFigures:
    """Requests to a model, or calls of a tool, that belong together. failed: those that ended in an error.

    durations_ms: of calls of a tool, and of the requests that were finished: one that failed says nothing of how long
    an answer takes. usage, money: of requests; one that told no usage has an unknown cost.
    """

    calls: int = 0
    failed: int = 0
    retried: int = 0
    durations_ms: array[float] = attrs.field(factory=lambda: array("d"))
    money: Money = attrs.field(factory=Money)
    _usages: list[Usage] = attrs.field(factory=list)

    @property
    def usage(self) -> Usage:
        """What all used that told it."""
        self._usages = [Usage.total(self._usages)]
        return self._usages[0]

    def use(self, usages: Iterable[Usage]) -> None:
        """Add what requests used. They are added up when somebody asks, a thousand at a time: a sum is an object."""
        self._usages.extend(usages)
        if len(self._usages) > _MOST_KEPT:
            self._usages = [Usage.total(self._usages)]

    def note(self, duration_ms: float | None, *, failed: bool = False) -> None:
        """Count one; duration_ms: None where that is not known, or is not to count."""
        self.calls += 1
        self.failed += failed
        if duration_ms is not None and math.isfinite(duration_ms):
            self.durations_ms.append(duration_ms)

    def copied(self) -> CallFigures:
        """Return figures of their own, to which others can be added; their durations are shared."""
        money = attrs.evolve(self.money, amounts=dict(self.money.amounts))
        return attrs.evolve(self, money=money, usages=list(self._usages))


@attrs.define
class RunFigures:
    """Runs that belong together. retries: those that are no first attempt; infra_retries: for infrastructure's sake.

    runs: that ended; open: that have no end, of which only tokens, cached_tokens and money count. cancelled, suspended:
    neither successes nor failed (the metric of a suspended run says that it did well; it goes on). tokens,
    cached_tokens: of those that are known; None where none is. session_id: of the last run, where it is known.
    """

    runs: int = 0
    open: int = 0
    failed: int = 0
    cancelled: int = 0
    suspended: int = 0
    retries: int = 0
    infra_retries: int = 0
    durations_ms: list[float] = attrs.field(factory=list)
    tokens: int | None = None
    cached_tokens: int | None = None
    money: Money = attrs.field(factory=Money)
    session_id: str = ""

    def bill(self, tokens: int | None, cached_tokens: int | None, cost: Money) -> None:
        """Add what a run used and cost."""
        if tokens is not None:
            self.tokens = (self.tokens or 0) + tokens
        if cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + cached_tokens
        self.money.add(cost.amounts, cost.unknown, cost.least)


def sort_key(key: Key) -> tuple[tuple[int, int, str], ...]:
    """Order keys: numbers by their value, before text."""
    return tuple(
        (0, int(each), "") if each.isascii() and each.isdecimal() and len(each) < 16 else (1, 0, each)  # noqa: PLR2004 - no id of digits
        for each in key
    )


def in_order(figures: Mapping[Key, CallFigures]) -> Iterable[tuple[Key, CallFigures]]:
    """Return figures in order of their keys."""
    return sorted(figures.items(), key=lambda each: sort_key(each[0]))
