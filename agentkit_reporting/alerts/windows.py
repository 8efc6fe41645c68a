"""What many samples come to, over all of them or over a window that slides by the events' own time.

A window of length w holds at the time t the samples of (t - w, t]. Up to MOST_KEPT samples it is exact. Beyond that a
percentile is one of the last MOST_KEPT, with or without a window; of counts, sums and shares neighbours are put
together two by two, so that some leave a window late, by at most the time between the neighbours; and of falling
values the lowest may count for the highest until as late. Without a window these are exact for any number.
"""

from __future__ import annotations

import bisect
import collections
import operator
from collections.abc import Callable
from typing import Any, Protocol

from agentkit_loop.usage import EXACT_SUMS
from agentkit_reporting.alerts.metrics import Metric, Worth
from agentkit_reporting.alerts.units import Amount
from agentkit_reporting.percentiles import percentile_of_ordered

__all__ = ["MOST_KEPT", "Tally", "tally_for"]

MOST_KEPT = 10_000
"""Samples that are kept of a group."""


class Tally(Protocol):
    """Samples of one group. Times are whole microseconds and never go back."""

    @property
    def count(self) -> int:
        """How many samples it holds."""

    def add(self, at_us: int, worth: Worth) -> None:
        """Take a sample."""

    def slide(self, limit_us: int) -> None:
        """Forget what was measured up to that time; only where there is a window."""

    def value(self) -> Amount | None:
        """Return what they come to; None where nothing is known."""

    @property
    def oldest_us(self) -> int | None:
        """When the first one was measured that a window may forget."""


def tally_for(metric: Metric, *, windowed: bool) -> Tally:
    """Return an empty tally for a metric."""
    if metric.kind == "percentile":
        return _Ranked(metric.percent)
    if metric.kind == "highest":
        return _Highest(windowed=windowed)
    return _Sums(metric, windowed=windowed)


class _Sums:
    """A count, a sum or a share: parts, and wholes where it is a share."""

    def __init__(self, metric: Metric, *, windowed: bool) -> None:
        self.count = 0
        self._kind = metric.kind
        exact = metric.unit == "money"
        self._plus: Callable[[Any, Any], Any] = EXACT_SUMS.add if exact else operator.add
        self._minus: Callable[[Any, Any], Any] = EXACT_SUMS.subtract if exact else operator.sub
        self._part: Any = 0
        self._whole = 0
        self._entries: collections.deque[tuple[int, int, Any, int]] | None = (
            collections.deque() if windowed else None
        )

    def add(self, at_us: int, worth: Worth) -> None:
        part, whole = worth if self._kind == "share" else (worth, 0)
        self.count += 1
        self._part = self._plus(self._part, part)
        self._whole += whole
        entries = self._entries
        if entries is None:
            return
        if len(entries) >= MOST_KEPT:
            self._put_together(entries)
        entries.append((at_us, 1, part, whole))

    def _put_together(self, entries: collections.deque[tuple[int, int, Any, int]]) -> None:
        old = list(entries)
        entries.clear()
        for first, second in zip(old[::2], old[1::2], strict=False):
            entries.append(
                (second[0], first[1] + second[1], self._plus(first[2], second[2]), first[3] + second[3])
            )
        entries.extend(old[len(old) // 2 * 2 :])

    def slide(self, limit_us: int) -> None:
        entries = self._entries
        while entries and entries[0][0] <= limit_us:
            _, count, part, whole = entries.popleft()
            self.count -= count
            self._part = self._minus(self._part, part)
            self._whole -= whole

    def value(self) -> Amount | None:
        found: Amount = self._part
        if self._kind == "share":
            return found / self._whole if self._whole else None
        return found if self.count or self._kind == "count" else None

    @property
    def oldest_us(self) -> int | None:
        return self._entries[0][0] if self._entries else None


class _Ranked:
    """A percentile of the last samples."""

    def __init__(self, percent: float) -> None:
        self._percent = percent
        self._entries: collections.deque[tuple[int, float]] = collections.deque()
        self._ordered: list[float] = []

    @property
    def count(self) -> int:
        return len(self._ordered)

    def add(self, at_us: int, worth: Worth) -> None:
        if len(self._entries) >= MOST_KEPT:
            self._forget_oldest()
        self._entries.append((at_us, worth))
        bisect.insort(self._ordered, worth)

    def _forget_oldest(self) -> None:
        _, value = self._entries.popleft()
        del self._ordered[bisect.bisect_left(self._ordered, value)]

    def slide(self, limit_us: int) -> None:
        while self._entries and self._entries[0][0] <= limit_us:
            self._forget_oldest()

    def value(self) -> Amount | None:
        return percentile_of_ordered(self._ordered, self._percent)

    @property
    def oldest_us(self) -> int | None:
        return self._entries[0][0] if self._entries else None


class _Highest:
    """The highest of the samples: of a window only those are kept that no later one is above."""

    def __init__(self, *, windowed: bool) -> None:
        self._highest: float | None = None
        self._falling: collections.deque[tuple[int, float]] | None = collections.deque() if windowed else None
        self._times = collections.deque[tuple[int, int]]()  # of a window: how many samples, by time
        self.count = 0

    def add(self, at_us: int, worth: Worth) -> None:
        self.count += 1
        falling = self._falling
        if falling is None:
            self._highest = worth if self._highest is None else max(self._highest, worth)
            return
        while falling and falling[-1][1] <= worth:
            falling.pop()
        if len(falling) >= MOST_KEPT:
            worth = falling.pop()[1]
        falling.append((at_us, worth))
        before = self._times.pop()[1] if len(self._times) >= MOST_KEPT else 0
        self._times.append((at_us, before + 1))

    def slide(self, limit_us: int) -> None:
        while self._times and self._times[0][0] <= limit_us:
            self.count -= self._times.popleft()[1]
        while self._falling and self._falling[0][0] <= limit_us:
            self._falling.popleft()

    def value(self) -> Amount | None:
        if self._falling is None:
            return self._highest
        return self._falling[0][1] if self._falling else None

    @property
    def oldest_us(self) -> int | None:
        return self._times[0][0] if self._times else None
