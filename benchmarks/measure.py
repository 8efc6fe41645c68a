"""Interleaved timing: what all benchmarks share."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table.

    ours, theirs: a piece, in `unit`; microseconds of CPU unless that or `reference` says otherwise; medians. paired:
    the median of the ratios of each round, None where there were no rounds. bound: the ratio allowed, None where a row
    only tells. rounds: how often each was measured.
    """

    name: str
    reference: str
    ours: float
    theirs: float
    unit: str = "µs"
    bound: float | None = None
    paired: float | None = None
    rounds: int = 1

    @classmethod
    def of(
        cls,
        name: str,
        ours: Sequence[float],
        reference: Sequence[float],
        *,
        against: str,
        pieces: int,
        bound: float | None = None,
    ) -> Row:
        """Make a line of the seconds that each round took for so many pieces."""
        return cls(
            name=name,
            reference=against,
            ours=statistics.median(ours) / pieces * 1e6,
            theirs=statistics.median(reference) / pieces * 1e6,
            bound=bound,
            rounds=len(ours),
            paired=statistics.median(mine / theirs for mine, theirs in zip(ours, reference, strict=True)),
        )

    @property
    def ratio(self) -> float:
        """Ours over the reference, of the medians."""
        return self.ours / self.theirs

    @property
    def is_missed(self) -> bool:
        """Whether the bound is missed by both ratios.

        A machine that others use too is at times half as fast for a second. Where that hits the rounds of one
        side, the ratio of the medians says more of the machine than of the code; where it hits within rounds,
        the paired one does.
        """
        ratios = [self.ratio] if self.paired is None else [self.ratio, self.paired]
        return self.bound is not None and min(ratios) > self.bound

    @property
    def verdict(self) -> str:
        """`met` or `missed`; empty where there is no bound."""
        return "" if self.bound is None else "missed" if self.is_missed else "met"


def interleave(
    ways: Sequence[Callable[[], object]],
    rounds: int,
    *,
    check: Callable[[int], object] | None = None,
) -> list[list[float]]:
    """Run all in turns (A B C A B C …), after a first time that does not count; return the seconds of each.

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
    return seconds


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
    """Time both in turns and return the line of CPU time a piece; each call does `pieces` of them."""
    mine, theirs = interleave([ours, reference], rounds)
    return Row.of(name, mine, theirs, against=against, pieces=pieces, bound=bound)


def with_bytecode(folder: Path | str) -> dict[str, str]:
    """Return an environment for processes that keep bytecode, in this folder, as it is kept of what is installed."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment
