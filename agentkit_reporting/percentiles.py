"""Percentiles of measured durations: one definition for every view, report and rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

__all__ = ["Percentiles", "percentile", "percentile_of_ordered"]

_WHOLE = 100


@attrs.frozen(kw_only=True)
class Percentiles:
    """How long something took, in ms. count: how many were measured; without any the rest is None.

    A percentile lies between the two nearest values, in proportion (linear interpolation, the lowest value being p0 and
    the highest p100): what `statistics.quantiles(…, method="inclusive")` and numpy's default give.
    """

    count: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    maximum: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Percentiles:
        """Return those of the values that are known."""
        known = sorted(float(value) for value in values if value is not None and math.isfinite(value))
        if not known:
            return cls()
        return cls(
            count=len(known),
            p50=_between(known, 50),
            p95=_between(known, 95),
            p99=_between(known, 99),
            maximum=known[-1],
        )


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Return one percentile, 0 to 100, of finite values, as `Percentiles` defines it; None of none."""
    return percentile_of_ordered(sorted(values), percent)


def percentile_of_ordered(ordered: Sequence[float], percent: float) -> float | None:
    """Do as `percentile` of values that are in order already, the lowest first, without a look at most of them."""
    return _between(ordered, percent) if ordered else None


def _between(ordered: Sequence[float], percent: float) -> float:
    whole, part = divmod((len(ordered) - 1) * percent, _WHOLE)
    below = ordered[int(whole)]
    if not part:
        return below
    return (below * (_WHOLE - part) + ordered[int(whole) + 1] * part) / _WHOLE
