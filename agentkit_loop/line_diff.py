"""What differs between two texts, line by line, as a unified diff.

E. W. Myers, "An O(ND) difference algorithm and its variations" (1986): the shortest way from one to the
other, at a cost of their length times their difference. Both are bounded here, which difflib's cost, cubic
in the worst case, is not: beyond MAX_EDITS or MAX_STEPS everything between the first and the last difference
counts as replaced. Lines end at the byte newline alone.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import attrs

MAX_EDITS = 1_000
"""Lines removed and added up to which the shortest way is looked for."""

MAX_STEPS = 1_000_000
"""Pairs of lines that are compared for it; about half a second."""

CONTEXT = 3
"""Lines shown before and behind a change, as `diff -u` does."""

_Stretch: TypeAlias = tuple[int, int, int]
_Chain: TypeAlias = "tuple[_Stretch, _Chain] | None"

_NO_NEWLINE = "\\ No newline at end of file"


@attrs.frozen
class Block:
    """Lines old_start to old_end (before it) became new_start to new_end; counted from 0."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


@attrs.frozen
class LineDiff:
    """Two texts as lines, each with its newline, and the blocks in which they differ, in order."""

    old: Sequence[str]
    new: Sequence[str]
    blocks: Sequence[Block]

    @property
    def added(self) -> int:
        """Lines of the new text that are not the old one's."""
        return sum(block.new_end - block.new_start for block in self.blocks)

    @property
    def removed(self) -> int:
        """Lines of the old text that are gone."""
        return sum(block.old_end - block.old_start for block in self.blocks)

    def unified(self) -> Iterator[str]:
        """Yield the hunks of a unified diff, line by line without newlines."""
        for hunk in self._hunks():
            first, last = hunk[0], hunk[-1]
            old_start, new_start = max(first.old_start - CONTEXT, 0), max(first.new_start - CONTEXT, 0)
            old_end = min(last.old_end + CONTEXT, len(self.old))
            new_end = min(last.new_end + CONTEXT, len(self.new))
            yield f"@@ -{_extent(old_start, old_end)} +{_extent(new_start, new_end)} @@"
            place = old_start
            for block in hunk:
                yield from _marked(" ", self.old, place, block.old_start)
                yield from _marked("-", self.old, block.old_start, block.old_end)
                yield from _marked("+", self.new, block.new_start, block.new_end)
                place = block.old_end
            yield from _marked(" ", self.old, place, old_end)

    def _hunks(self) -> Iterator[list[Block]]:
        """Yield blocks that are so near each other that their context meets."""
        hunk: list[Block] = []
        for block in self.blocks:
            if hunk and block.old_start - hunk[-1].old_end > 2 * CONTEXT:
                yield hunk
                hunk = []
            hunk.append(block)
        if hunk:
            yield hunk


def lines_of(text: str) -> list[str]:
    """Return the lines, each with its newline; the last may have none."""
    return list(io.StringIO(text, newline="\n"))


def diff_lines(old: str, new: str) -> LineDiff:
    """Compare two texts."""
    before, after = lines_of(old), lines_of(new)
    numbers: dict[str, int] = {}  # a number for each different line: compared often, hashed once
    a = [numbers.setdefault(line, len(numbers)) for line in before]
    b = [numbers.setdefault(line, len(numbers)) for line in after]
    start = _common(zip(a, b, strict=False))
    rest = min(len(a), len(b)) - start
    end = min(_common(zip(reversed(a), reversed(b), strict=False)), rest)
    inner_a, inner_b = a[start : len(a) - end], b[start : len(b) - end]
    blocks = [
        Block(start + old_start, start + old_end, start + new_start, start + new_end)
        for old_start, old_end, new_start, new_end in _blocks(inner_a, inner_b)
    ]
    return LineDiff(before, after, blocks)


def _common(pairs: Iterable[tuple[int, int]]) -> int:
    """Count the pairs that are equal before the first that is not."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _blocks(a: list[int], b: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the stretches between those that are the same."""
    if not a and not b:
        return
    x = y = 0
    for same_x, same_y, length in (*_same(a, b), (len(a), len(b), 0)):
        if (same_x, same_y) != (x, y):
            yield x, same_x, y, same_y
        x, y = same_x + length, same_y + length


def _same(a: list[int], b: list[int]) -> list[_Stretch]:
    """Return the stretches that both have, as (place in a, place in b, length); none beyond the bounds.

    furthest[k]: for the diagonal x - y = k, the largest x reached with so many edits, and the stretches on
    the way there as a chain of (stretch, chain before).
    """
    if not a or not b:
        return []
    furthest: dict[int, tuple[int, _Chain]] = {1: (0, None)}
    steps = 0
    for edits in range(min(len(a) + len(b), MAX_EDITS) + 1):
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and furthest[k - 1][0] < furthest[k + 1][0])
            x, chain = furthest[k + 1] if down else furthest[k - 1]
            x += not down
            start = x
            while x < len(a) and 0 <= x - k < len(b) and a[x] == b[x - k]:
                x += 1
            if x > start:
                chain = ((start, start - k, x - start), chain)
            if x >= len(a) and x - k >= len(b):
                return _unchained(chain)
            furthest[k] = (x, chain)
            steps += 1 + x - start
            if steps > MAX_STEPS:
                return []
    return []


def _unchained(chain: _Chain) -> list[_Stretch]:
    found: list[_Stretch] = []
    while chain is not None:
        stretch, chain = chain
        found.append(stretch)
    return found[::-1]


def _extent(start: int, end: int) -> str:
    """Return lines as a hunk's header has them; an empty range names the line before it."""
    count = end - start
    if count == 1:
        return f"{start + 1}"
    return f"{start + 1 if count else start},{count}"


def _marked(mark: str, lines: Sequence[str], start: int, end: int) -> Iterator[str]:
    for place in range(start, end):
        line = lines[place]
        yield mark + line.removesuffix("\n")
        if not line.endswith("\n"):
            yield _NO_NEWLINE
