"""How two values and texts differ: path by path, line by line, word by word, within bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_reporting.analysis.run_diff_outline import MAX_CONTENT_BYTES, Content, is_same
from agentkit_reporting.analysis.run_diff_parts import changes
from agentkit_reporting.analysis.run_diff_values import (
    MAX_CHANGES,
    MAX_LINES,
    same,
    text_change,
    value_changes,
)

# Few different values, so that two of them are often alike in part.
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 1.0, "", "a", "b", "a\nb\n", "a\nc\n", "[redacted:key]", "é\u2028"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)


def test_every_path_that_differs_is_told_and_what_is_missing_is_nothing() -> None:
    before = {"a": {"b": [1, 2]}, "gone": True, "kept": 1}
    after = {"a": {"b": [1, 3, 4]}, "kept": 1, "new": None}
    found, is_cut = value_changes(before, after)
    assert [(each.path, each.before, each.after) for each in found] == [
        ("a.b[1]", "2", "3"),
        ("a.b[2]", "nothing", "4"),
        ("gone", "True", "nothing"),
        ("new", "nothing", "None"),
    ]
    assert not is_cut


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[redacted:key]", {"any": "thing"}),
        ("Bearer [redacted] end", "Bearer s3cret end"),
        ({"token": "[redacted]"}, {"token": 5}),
    ],
    ids=["whole", "piece", "within"],
)
def test_a_mask_is_equal_to_anything_on_either_side(before: Any, after: Any) -> None:
    assert same(before, after)
    assert same(after, before)
    assert is_same(Content(before), Content(after))


@pytest.mark.parametrize(
    ("before", "after"), [(1, 1.0), (1, True), (0, False), ("1", 1), (None, 0)], ids=repr
)
def test_values_of_different_types_differ(before: Any, after: Any) -> None:
    assert not same(before, after)
    assert not is_same(Content(before), Content(after))


def test_the_order_of_keys_is_no_difference() -> None:
    assert Content({"a": 1, "b": 2}).digest == Content({"b": 2, "a": 1}).digest


@settings(deadline=None)
@given(VALUES)
def test_a_content_gives_back_what_it_was_made_of(value: Any) -> None:
    assert Content(value).value == value
    assert changes(Content(value), Content(value)) is None


@settings(deadline=None)
@given(VALUES, VALUES)
def test_values_differ_where_and_only_where_a_change_is_told(before: Any, after: Any) -> None:
    told = changes(Content(before), Content(after))
    assert (told is None) == is_same(Content(before), Content(after))
    assert (changes(Content(after), Content(before)) is None) == (told is None)


def test_texts_of_lines_are_told_by_lines_and_others_by_words() -> None:
    lines = text_change("one\ntwo\nthree\n", "one\n2\nthree\n")
    assert lines is not None
    assert (lines.unit, lines.removed, lines.added) == ("line", 1, 1)
    assert [piece for piece in lines.pieces if piece[0] in "-+"] == [("-", "two"), ("+", "2")]
    words = text_change("all 41 tests pass", "all 42 tests pass")
    assert words is not None
    assert words.pieces == ((" ", "all "), ("-", "41 "), ("+", "42 "), (" ", "tests pass"))
    assert text_change("the same", "the same") is None


def test_a_text_of_lines_within_a_value_is_told_by_lines() -> None:
    (found,), _ = value_changes({"content": "a\nb\nc\n"}, {"content": "a\nB\nc\n"})
    assert found.text is not None
    assert (found.path, found.text.removed, found.text.added) == ("content", 1, 1)


def test_what_is_told_is_bounded_and_says_so() -> None:
    found, is_cut = value_changes(list(range(500)), list(range(1, 501)))
    assert (len(found), is_cut) == (MAX_CHANGES, True)
    text = text_change("".join(f"{n}\n" for n in range(9_000)), "".join(f"x{n}\n" for n in range(9_000)))
    assert text is not None
    assert (len(text.pieces), text.is_cut, text.removed) == (MAX_LINES, True, 9_000)


def test_of_what_is_too_long_only_that_it_differs_is_told() -> None:
    long = "x" * (MAX_CONTENT_BYTES + 1)
    told = changes(Content(long), Content(long + "y"))
    assert told is not None
    assert told.is_cut
    assert "too long" in told.values[0].path
    assert changes(Content(long), Content(long)) is None
    assert Content(long).value.startswith("xxx")


def test_a_last_line_without_its_newline_is_told_where_it_differs_alone() -> None:
    both_lack, one_lacks = text_change("a\nb", "a\nc"), text_change("a\nb", "a\nb\n")
    assert both_lack is not None
    assert one_lacks is not None
    assert [sign for sign, _ in both_lack.pieces] == ["@", " ", "-", "+"]
    assert "\\" in [sign for sign, _ in one_lacks.pieces]
