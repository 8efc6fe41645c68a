"""Two sequences side by side: a longest common subsequence, held to the textbook's table."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_reporting.analysis.run_diff_alignment import aligned, common_subsequence

LETTERS = st.lists(st.sampled_from("abcd"), max_size=14)
KINDS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("xy")).map(lambda each: (each, each[1])), max_size=12
)


def longest(a: list[str], b: list[str]) -> int:
    """Return the length of a longest common subsequence, by the textbook's table."""
    row = [0] * (len(b) + 1)
    for one in a:
        above = row
        row = [0]
        for place, other in enumerate(b):
            row.append(above[place] + 1 if one == other else max(above[place + 1], row[place]))
    return row[-1]


def is_common(a: list[str], b: list[str], pairs: list[tuple[int, int]]) -> bool:
    """Whether pairs of places rise in both and hold the same."""
    rises = all(x < u and y < v for (x, y), (u, v) in itertools.pairwise(pairs))
    return rises and all(a[x] == b[y] for x, y in pairs)


@settings(deadline=None)
@given(LETTERS, LETTERS)
def test_it_is_common_to_both_and_none_is_longer(a: list[str], b: list[str]) -> None:
    found = common_subsequence(a, b)
    assert is_common(a, b, found)
    assert len(found) == longest(a, b)


@settings(deadline=None)
@given(LETTERS, LETTERS)
def test_which_one_is_first_does_not_change_its_length(a: list[str], b: list[str]) -> None:
    assert len(common_subsequence(a, b)) == len(common_subsequence(b, a))


@settings(deadline=None)
@given(LETTERS, LETTERS, st.integers(1, 40))
def test_beyond_the_bound_it_is_common_still(a: list[str], b: list[str], most: int) -> None:
    assert is_common(a, b, common_subsequence(a, b, max_matches=most))


@settings(deadline=None)
@given(LETTERS)
def test_what_is_equal_is_matched_whole_whatever_the_bound(a: list[str]) -> None:
    assert common_subsequence(a, a, max_matches=1) == [(place, place) for place in range(len(a))]


@pytest.mark.parametrize("most", [10, 1_000_000], ids=["beyond the bound", "within"])
def test_one_that_is_missing_costs_no_other_its_match(most: int) -> None:
    a = [f"call {n % 40}" for n in range(400)]
    b = [each for n, each in enumerate(a) if n != 200]
    assert len(common_subsequence(a, b, max_matches=most)) == 399


def test_a_hundred_thousand_alike_are_aligned_within_the_bound() -> None:
    a = ["x", *["same"] * 100_000, "y"]
    b = ["z", *["same"] * 100_001, "w"]
    assert len(common_subsequence(a, b)) == 100_000


@settings(deadline=None)
@given(KINDS, KINDS)
def test_alignment_tells_every_place_once_in_order_and_pairs_one_kind_only(
    a: list[tuple[object, str]], b: list[tuple[object, str]]
) -> None:
    found = list(aligned(a, b))
    assert [x for x, _ in found if x is not None] == list(range(len(a)))
    assert [y for _, y in found if y is not None] == list(range(len(b)))
    assert all(a[x][1] == b[y][1] for x, y in found if x is not None and y is not None)
    exact = sum(x is not None and y is not None and a[x][0] == b[y][0] for x, y in found)
    assert exact >= len(common_subsequence([each[0] for each in a], [each[0] for each in b]))


def test_between_what_both_have_those_of_one_kind_are_paired_in_order() -> None:
    a = [("read a", "read"), ("test", "test"), ("read b", "read"), ("edit", "edit")]
    b = [("read x", "read"), ("test", "test"), ("read c", "read"), ("stop", "stop")]
    assert list(aligned(a, b)) == [(0, 0), (1, 1), (2, 2), (3, None), (None, 3)]
