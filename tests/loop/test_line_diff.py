"""The diff of two texts: what it says turns the one into the other, as short as can be, at a bounded cost."""

from __future__ import annotations

import difflib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.line_diff import MAX_EDITS, diff_lines, lines_of

TEXTS = st.text(alphabet="ab\n\r", max_size=40) | st.lists(
    st.sampled_from(["one\n", "two\n", "\n", "three\r\n", "\u2028\x85\x0c\n"]), max_size=30
).map("".join)


def patched(old: str, hunks: list[str]) -> str:
    """Apply a unified diff as `patch` does, every line of the old text compared."""
    before, after = lines_of(old), list[str]()
    place = 0
    for line, follows in itertools.zip_longest(hunks, hunks[1:], fillvalue=""):
        text = line[1:] + ("" if follows.startswith("\\") else "\n")
        if line.startswith("@@"):
            start, _, count = line.split(" ")[1].removeprefix("-").partition(",")
            first = int(start) - (count != "0")
            after += before[place:first]
            place = first
        elif line.startswith("+"):
            after.append(text)
        elif not line.startswith("\\"):
            assert before[place] == text
            place += 1
            after += [text] if line.startswith(" ") else []
    return "".join(after + before[place:])


@given(old=TEXTS, new=TEXTS)
def test_a_diff_makes_the_new_text_of_the_old_one(old: str, new: str) -> None:
    diff = diff_lines(old, new)
    hunks = list(diff.unified())
    assert patched(old, hunks) == new
    assert [line[0] for line in hunks].count("+") == diff.added
    assert [line[0] for line in hunks].count("-") == diff.removed
    assert diff.added - diff.removed == len(lines_of(new)) - len(lines_of(old))


@given(old=TEXTS, new=TEXTS)
def test_no_diff_is_longer_than_that_of_the_standard_library(old: str, new: str) -> None:
    diff = diff_lines(old, new)
    theirs = list(difflib.ndiff(lines_of(old), lines_of(new)))
    assert diff.added <= sum(line.startswith("+ ") for line in theirs)
    assert diff.removed <= sum(line.startswith("- ") for line in theirs)


def test_hunks_are_those_of_diff_u() -> None:
    old = "".join(f"{number}\n" for number in range(1, 21))
    new = old.replace("3\n", "three\n", 1).replace("7\n", "", 1).replace("20\n", "20\nlast")
    assert list(diff_lines(old, new).unified()) == [
        "@@ -1,10 +1,9 @@",
        *(" 1", " 2", "-3", "+three", " 4", " 5", " 6", "-7", " 8", " 9", " 10"),
        "@@ -18,3 +17,4 @@",
        *(" 18", " 19", " 20", "+last", "\\ No newline at end of file"),
    ]
    assert list(diff_lines("", "x\n").unified()) == ["@@ -0,0 +1 @@", "+x"]
    assert list(diff_lines("x\ny\n", "").unified()) == ["@@ -1,2 +0,0 @@", "-x", "-y"]
    assert list(diff_lines("x\n", "x\n").unified()) == []


def test_texts_that_have_little_in_common_count_as_replaced() -> None:
    old = "first\n" + "".join(f"{number}\n" for number in range(4 * MAX_EDITS)) + "last\n"
    new = (
        "first\n" + "".join(f"{number if number % 3 else -1}\n" for number in range(4 * MAX_EDITS)) + "last\n"
    )
    diff = diff_lines(old, new)
    assert len(diff.blocks) == 1
    assert diff.added == diff.removed == 4 * MAX_EDITS
    assert patched(old, list(diff.unified())) == new


def test_two_changes_far_apart_in_a_long_text_are_two_changes() -> None:
    lines = [f"{number}\n" for number in range(100_000)]
    changed = [*lines[:10], "new\n", *lines[10:99_990], *lines[99_991:]]
    diff = diff_lines("".join(lines), "".join(changed))
    assert (diff.added, diff.removed, len(diff.blocks)) == (1, 1, 2)


def test_the_worst_texts_end_at_the_bound() -> None:
    old, new = "a\n" * 200_000, "a\nb\n" * 100_000
    diff = diff_lines(old, new)
    assert diff.added - diff.removed == 0
    assert patched(old, list(diff.unified())) == new
