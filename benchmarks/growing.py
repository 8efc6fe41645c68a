"""Rows of growth: what a piece costs in a large piece of work, over what it costs in a small one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import attrs

from benchmarks.measure import Row, interleave

FLAT = 1.3
"""How much more a piece may cost in the large: what is linear stays near 1, what is quadratic is at 10 or 100."""


@attrs.frozen(kw_only=True)
class Load:
    """Work of one size. name: the size. pieces: what its cost is divided by. play: the work, timed.

    check: raises unless it was done rightly; called after each run, not timed. times: how often a round does it,
    so that work of a millisecond is not measured alone.
    """

    name: str
    pieces: int
    play: Callable[[], object]
    check: Callable[[], object]
    times: int = 1

    def run(self) -> None:
        """Do the work of a round."""
        for _ in range(self.times):
            self.play()


def grown(name: str, loads: Sequence[Load], rounds: int, *, bound: float | None = FLAT) -> list[Row]:
    """Run all in turns; return a row for each but the first, which is what the others are held against."""
    seconds = interleave([load.run for load in loads], rounds, check=lambda number: loads[number].check())
    costs = [
        [spent / load.pieces / load.times for spent in of_load]
        for load, of_load in zip(loads, seconds, strict=True)
    ]
    return [
        Row.of(
            f"{name}, {load.name}",
            cost,
            costs[0],
            against=f"the same, {loads[0].name}",
            pieces=1,
            bound=bound,
        )
        for load, cost in zip(loads[1:], costs[1:], strict=True)
    ]


def sizes_row(
    name: str, large: Sequence[float], small: Sequence[float], *, against: str, unit: str, bound: float | None
) -> Row:
    """Return the row of sizes that are no time: of memory, in `unit`."""
    return Row(
        name=name,
        reference=against,
        ours=statistics.median(large),
        theirs=statistics.median(small),
        unit=unit,
        bound=bound,
        rounds=len(large),
    )


def require(found: object, wanted: object, what: str) -> None:
    """Raise AssertionError unless what was found is what was wanted."""
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}")
