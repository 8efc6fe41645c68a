"""What a request told of its usage, as sums take it."""

from __future__ import annotations

from typing import Protocol

import attrs

from agentkit_loop.usage import Cost, Usage, can_be_added

__all__ = ["Report", "summable"]


class Report(Protocol):
    """What a request told of its usage last: the event, or what its line holds. cost: only what can be added."""

    @property
    def request_id(self) -> str:
        """See UsageUpdated."""

    @property
    def model(self) -> str:
        """See UsageUpdated."""

    @property
    def usage(self) -> Usage:
        """See UsageUpdated."""

    @property
    def cost(self) -> Cost | None:
        """See UsageUpdated."""

    @property
    def final(self) -> bool:
        """See UsageUpdated."""


@attrs.frozen
class _Unpriced:
    """A report whose cost cannot be added."""

    request_id: str
    model: str
    usage: Usage
    final: bool
    cost: None = None


def summable(report: Report) -> Report:
    """Return a report whose cost can be added to others; without it where it cannot: a log may hold NaN."""
    cost = report.cost
    if cost is None:
        return report
    for amount in cost.components.values():  # a loop: `all` makes an object more for each report
        if not can_be_added(amount):
            return _unpriced(report)
    return report if can_be_added(cost.amount) else _unpriced(report)


def _unpriced(report: Report) -> Report:
    return _Unpriced(report.request_id, report.model, report.usage, report.final)
