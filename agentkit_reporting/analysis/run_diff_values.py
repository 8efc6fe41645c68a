"""How two values or texts differ: path by path, line by line, word by word; always bounded.

A mask of redaction is equal to anything. So are two texts of which one has masks and fits the other around them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import attrs

from agentkit_loop.differences import NOTHING, first_difference, is_mask, shown
from agentkit_loop.line_diff import Block, LineDiff, lines_of
from agentkit_loop.values import JSON
from agentkit_reporting.analysis.run_diff_alignment import common_subsequence

__all__ = ["MAX_CHANGES", "MAX_LINES", "TextChange", "ValueChange", "same", "text_change", "value_changes"]

MAX_CHANGES = 50
"""Differences within one pair of values that are told; that there are more is said."""

MAX_LINES = 60
"""Lines of a text's difference, or stretches of words, that are told."""

MAX_COLUMNS = 400
"""Characters of one such line."""

_MAX_MATCHES = 20_000
"""Pairs of equal lines that are looked at; some milliseconds. Logs hold thousands of texts that differ altogether, for
which the cost of `diff_lines`, which rises with the difference, would be half a second each."""

_WORDS = re.compile(r"\S+\s*|\s+")


@attrs.frozen(kw_only=True)
class TextChange:
    """How a text differs.

    unit: `line` or `word`. removed, added: how many lines or words. pieces: stretches in order, each with its sign:
    " " both have it, "-" the first, "+" the second; lines are the hunks of a unified diff, whose other lines begin with
    "@" and a backslash. is_cut: there is more than is told.
    """

    unit: str
    removed: int
    added: int
    pieces: tuple[tuple[str, str], ...]
    is_cut: bool = False


@attrs.frozen(kw_only=True)
class ValueChange:
    """Where two values differ. path: `a.b[2]`, "" for the whole. before, after: as they are shown, bounded.

    text: how, where both are texts of several lines.
    """

    path: str
    before: str
    after: str
    text: TextChange | None = None


class _Missing:
    """What stands where one side has nothing."""

    def __repr__(self) -> str:
        return NOTHING


_MISSING = _Missing()


def same(before: JSON, after: JSON) -> bool:
    """Whether two values are equal where nothing is masked."""
    return next(_leaves(before, after, ""), None) is None


def value_changes(before: JSON, after: JSON, path: str = "") -> tuple[tuple[ValueChange, ...], bool]:
    """Return where two values differ, MAX_CHANGES at most, and whether there is more."""
    found = tuple(itertools.islice(_leaves(before, after, path), MAX_CHANGES + 1))
    return tuple(_change(*each) for each in found[:MAX_CHANGES]), len(found) > MAX_CHANGES


def text_change(before: str, after: str) -> TextChange | None:
    """Return how two texts differ; None where they do not. By lines where one has several, else by words."""
    if same(before, after):
        return None
    return _by_lines(before, after) if "\n" in before or "\n" in after else _by_words(before, after)


def _leaves(before: JSON, after: JSON, path: str) -> Iterator[tuple[str, JSON, JSON]]:
    if before is after or is_mask(before) or is_mask(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in (*before, *(key for key in after if key not in before)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _leaves(before.get(key, _MISSING), after.get(key, _MISSING), inner)
    elif isinstance(before, list) and isinstance(after, list):
        pairs = itertools.zip_longest(before, after, fillvalue=_MISSING)
        for number, (old, new) in enumerate(pairs):
            yield from _leaves(old, new, f"{path}[{number}]")
    elif isinstance(before, str) and isinstance(after, str):
        if first_difference(before, after) is not None and first_difference(after, before) is not None:
            yield path, before, after
    elif type(before) is not type(after) or before != after:
        yield path, before, after


def _change(path: str, before: JSON, after: JSON) -> ValueChange:
    if not (isinstance(before, str) and isinstance(after, str)):
        return ValueChange(path=path, before=shown(before), after=shown(after))
    found = first_difference(before, after)
    told = (found.recorded, found.now) if found else (shown(before), shown(after))
    has_lines = "\n" in before.strip("\n") or "\n" in after.strip("\n")
    text = _by_lines(before, after) if has_lines else None
    return ValueChange(path=path, before=told[0], after=told[1], text=text)


def _by_lines(before: str, after: str) -> TextChange:
    found = _line_diff(lines_of(before), lines_of(after))
    told = found.unified()
    if before.endswith("\n") == after.endswith("\n"):  # that both lack the last newline is no difference
        told = (line for line in told if not line.startswith("\\"))
    lines = list(itertools.islice(told, MAX_LINES + 1))
    pieces = tuple((line[:1], line[1 : MAX_COLUMNS + 1]) for line in lines[:MAX_LINES])
    is_cut = len(lines) > MAX_LINES or any(len(line) > MAX_COLUMNS + 1 for line in lines)
    return TextChange(unit="line", removed=found.removed, added=found.added, pieces=pieces, is_cut=is_cut)


def _by_words(before: str, after: str) -> TextChange:
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    # What is between words belongs to the word before, and is no difference.
    found = _line_diff([each.strip() for each in old], [each.strip() for each in new])
    pieces: list[tuple[str, str]] = []
    place = 0
    for block in found.blocks:
        pieces.append((" ", "".join(old[place : block.old_start])))
        pieces.append(("-", "".join(old[block.old_start : block.old_end])))
        pieces.append(("+", "".join(new[block.new_start : block.new_end])))
        place = block.old_end
    pieces.append((" ", "".join(old[place:])))
    pieces = [(sign, text) for sign, text in pieces if text]
    is_cut = len(pieces) > MAX_LINES or any(len(text) > MAX_COLUMNS for sign, text in pieces if sign != " ")
    told = tuple(
        (sign, _middle_cut(text) if sign == " " else text[:MAX_COLUMNS]) for sign, text in pieces[:MAX_LINES]
    )
    return TextChange(unit="word", removed=found.removed, added=found.added, pieces=told, is_cut=is_cut)


def _line_diff(old: list[str], new: list[str]) -> LineDiff:
    """Compare two texts, line by line or word by word."""
    blocks: list[Block] = []
    x = y = 0
    for same_x, same_y in (*common_subsequence(old, new, max_matches=_MAX_MATCHES), (len(old), len(new))):
        if (same_x, same_y) != (x, y):
            blocks.append(Block(x, same_x, y, same_y))
        x, y = same_x + 1, same_y + 1
    return LineDiff(old, new, blocks)


def _middle_cut(text: str) -> str:
    """Return what both have without its middle, where it is long: the words next to a change say where it is."""
    half = MAX_COLUMNS // 8
    return text if len(text) <= 2 * half else f"{text[:half]} … {text[-half:]}"
