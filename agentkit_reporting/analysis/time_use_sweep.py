"""How the wall clock of a run is divided: a sweep over spans that may overlap, after which no moment counts twice.

Every moment belongs to one span: of those that are open then, to the one of the first part in RANKS; of several of one
part, to the one that ends last, since the others are over before it and cost no time of their own (what a critical
path says); of those that end together, to the one that began first. All times are whole microseconds, so that the
parts of a run add up to its duration exactly.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["PARTS", "RANKS", "Span", "divided"]

PARTS = (
    "first_token",
    "generation",
    "tools",
    "approval",
    "auth",
    "retry",
    "compaction",
    "observers",
    "idle",
    "loop",
)
"""The parts of a run, in the order in which they are told.

first_token: from a request to the first content of its answer. generation: from there to its end. tools: bodies of
tools, sub-agents too. approval, auth: a person was waited for, and nothing else ran. retry: failed requests, and the
back-off after them. compaction: with the requests that it makes. observers: see `RunTime`. idle: between exchanges,
before the first and after the last; the host had asked for nothing. loop: what is left.
"""

RANKS = ("compaction", "generation", "first_token", "retry", "tools", "auth", "approval", "idle")
"""Which part a moment belongs to where several overlap: the first of these."""


class Span(NamedTuple):
    """Something that took time. begin, end: microseconds since the run began. name: of a tool, else ""."""

    begin: int
    end: int
    part: str
    name: str = ""


def divided(spans: Iterable[Span], first: int, last: int) -> Counter[tuple[str, str]]:
    """Return how many microseconds from `first` to `last` belong to each part and name; the rest to none."""
    within = sorted(
        (span for span in spans if min(span.end, last) > max(span.begin, first)), key=lambda span: span.begin
    )
    moments = sorted({min(max(each, first), last) for span in within for each in (span.begin, span.end)})
    found: Counter[tuple[str, str]] = Counter()
    running: list[tuple[int, int, int, str, str]] = []  # a heap: the one that the moment belongs to first
    place = 0
    for moment, following in itertools.pairwise(moments):
        while place < len(within) and within[place].begin <= moment:
            # As they are, not as far as they are within: a moment belongs to the same one wherever it is cut.
            begin, end, part, name = within[place]
            heapq.heappush(running, (RANKS.index(part), -end, begin, part, name))
            place += 1
        while running and -running[0][1] <= moment:
            heapq.heappop(running)
        if running:
            found[running[0][3:]] += following - moment
    return found
