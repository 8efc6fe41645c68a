"""Interleaved timing: what all benchmarks share."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence

import attrs


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table.

    ours_us, reference_us: microseconds a piece, of CPU unless `reference` says otherwise. bound: the ratio
    allowed.
    """

    name: str
    reference: str
    ours_us: float
    reference_us: float
    bound: float | None = None

    @property
    def ratio(self) -> float:
        """Ours over the reference."""
        return self.ours_us / self.reference_us


def interleave(
    ways: Sequence[Callable[[], object]],
    rounds: int,
    *,
    check: Callable[[int], object] | None = None,
) -> list[float]:
    """Run all in turns (A B C A B C …), after a first time that does not count; return the medians, seconds.

    What is measured is the CPU time of this process, without the garbage collector's. check: called after
    each run with the number of its way, not timed.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    for timed in (False, *[True] * rounds):
        for number, way in enumerate(ways):
            gc.collect()
            gc.disable()
            try:
                before = time.process_time()
                way()
                spent = time.process_time() - before
            finally:
                gc.enable()
            if timed:
                seconds[number].append(spent)
            if check is not None:
                check(number)
    return [statistics.median(each) for each in seconds]


def compare(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    against: str,
    bound: float | None = None,
    pieces: int = 1,
    rounds: int = 11,
) -> Row:
    """Time both in turns and return the medians of CPU time a piece; each call does `pieces` of them."""
    mine, theirs = interleave([ours, reference], rounds)
    return Row(
        name=name,
        reference=against,
        ours_us=mine / pieces * 1e6,
        reference_us=theirs / pieces * 1e6,
        bound=bound,
    )
