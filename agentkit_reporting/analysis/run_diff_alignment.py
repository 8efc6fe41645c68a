"""Two sequences side by side: what both have, in order, by a longest common subsequence.

J. W. Hunt and T. G. Szymanski, "A fast algorithm for computing longest common subsequences" (1977): a walk over the
pairs of places that hold the same, each with a search among the ends of subsequences. What both begin and end with is
matched before. Up to MAX_MATCHES such pairs the result is of maximal length. Beyond that, an element is compared with
those occurrences of the same one alone whose number is near its own (the fifth with the third to the seventh, say): a
common subsequence still, at a bounded cost, and perhaps a shorter one.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeAlias

__all__ = ["MAX_MATCHES", "Place", "aligned", "common_subsequence"]

MAX_MATCHES = 1_000_000
"""Pairs of places with the same element up to which the longest is looked for; about a second."""

Place: TypeAlias = "tuple[int | None, int | None]"
"""A place in each of two sequences, from 0; None: only the other has it."""

_Chain: TypeAlias = "tuple[int, int, _Chain] | None"


def common_subsequence(
    a: Sequence[Hashable], b: Sequence[Hashable], *, max_matches: int = MAX_MATCHES
) -> list[tuple[int, int]]:
    """Return the pairs of places of a common subsequence, rising in both; of maximal length within the bound.

    max_matches: see MAX_MATCHES.
    """
    start = _common(zip(a, b, strict=False))
    rest = min(len(a), len(b)) - start
    end = _common(itertools.islice(zip(reversed(a), reversed(b), strict=False), rest))
    inner = _longest(a[start : len(a) - end], b[start : len(b) - end], max_matches)
    return [
        *((place, place) for place in range(start)),
        *((start + x, start + y) for x, y in inner),
        *((len(a) - back, len(b) - back) for back in range(end, 0, -1)),
    ]


def aligned(
    a: Sequence[tuple[Hashable, Hashable]],
    b: Sequence[tuple[Hashable, Hashable]],
    *,
    max_matches: int = MAX_MATCHES,
) -> Iterator[Place]:
    """Yield all places of two sequences in order, those that belong together as one pair.

    a, b: of each element what it is, and what kind it is of. Equal elements are matched first; between these, elements
    of one kind. What only the first has stands before what only the second has.
    """
    last_x = last_y = 0
    exact = common_subsequence([each[0] for each in a], [each[0] for each in b], max_matches=max_matches)
    for x, y in (*exact, (len(a), len(b))):
        kinds_a, kinds_b = [each[1] for each in a[last_x:x]], [each[1] for each in b[last_y:y]]
        alike = common_subsequence(kinds_a, kinds_b, max_matches=max_matches)
        matched = [(last_x + one, last_y + other) for one, other in alike]
        for to_x, to_y in (*matched, (x, y)):
            yield from ((place, None) for place in range(last_x, to_x))
            yield from ((None, place) for place in range(last_y, to_y))
            if (to_x, to_y) != (x, y):
                yield to_x, to_y
                last_x, last_y = to_x + 1, to_y + 1
        if x < len(a):
            yield x, y
        last_x, last_y = x + 1, y + 1


def _common(pairs: Iterator[tuple[Hashable, Hashable]]) -> int:
    """Count the pairs that are equal before the first that is not."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _longest(a: Sequence[Hashable], b: Sequence[Hashable], max_matches: int) -> list[tuple[int, int]]:
    """Return a longest common subsequence of what is left."""
    places: dict[Hashable, list[int]] = {}
    for y, element in enumerate(b):
        places.setdefault(element, []).append(y)
    band = _band(a, places, max_matches)
    met: dict[Hashable, int] = {}  # how often each element of `a` was met
    ends: list[int] = []  # ends[k]: the first place in b where a subsequence of k + 1 pairs can end
    chains: list[_Chain] = []
    for x, element in enumerate(a):
        found = places.get(element)
        if found is None:
            continue
        number = met[element] = met.get(element, -1) + 1
        near = found if band is None else found[max(0, number - band) : number + band + 1]
        for y in reversed(near):  # from the right, so that no two of them follow each other
            length = bisect.bisect_left(ends, y)
            if length < len(ends) and ends[length] == y:
                continue
            chain = (x, y, chains[length - 1] if length else None)
            if length == len(ends):
                ends.append(y)
                chains.append(chain)
            else:
                ends[length], chains[length] = y, chain
    return _unchained(chains[-1]) if chains else []


def _band(a: Sequence[Hashable], places: dict[Hashable, list[int]], max_matches: int) -> int | None:
    """Return how far apart the numbers of occurrences may be that are compared; None for any."""
    if sum(len(places.get(element, ())) for element in a) <= max_matches:
        return None
    return max(max_matches // len(a) // 2, 1)


def _unchained(chain: _Chain) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while chain is not None:
        x, y, chain = chain
        found.append((x, y))
    return found[::-1]
