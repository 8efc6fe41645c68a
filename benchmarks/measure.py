"""Interleaved timing: what all benchmarks share."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import attrs


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table. ours_us, reference_us: CPU a piece, microseconds. bound: the ratio allowed."""

    name: str
    reference: str
    ours_us: float
    reference_us: float
    bound: float | None = None

    @property
    def ratio(self) -> float:
        """Ours over the reference."""
        return self.ours_us / self.reference_us


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
    ours()
    reference()
    mine: list[float] = []
    theirs: list[float] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            mine.append(_cpu(ours))
            theirs.append(_cpu(reference))
    finally:
        gc.enable()
    return Row(
        name=name,
        reference=against,
        ours_us=statistics.median(mine) / pieces * 1e6,
        reference_us=statistics.median(theirs) / pieces * 1e6,
        bound=bound,
    )


def _cpu(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before
