"""Untrusted text never controls a terminal, and printable text is never changed."""

from __future__ import annotations

import io
import itertools
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_reporting.page import TerminalStream, colour_wanted
from agentkit_reporting.terminal import (
    VisibleChunks,
    aligned,
    brief,
    brief_arguments,
    clipped,
    columns_of,
    duration_text,
    one_line,
    visible,
)

ATTACKS = {
    "window title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "hyperlink": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "clear screen": "\x1b[2J\x1b[H",
    "device control string": "\x1bP+q544e\x1b\\",
    "full reset": "\x1bc",
    "C1 CSI": "\x9b2J",
    "C1 OSC": "\x9d0;owned\x9c",
    "bell, backspace, vertical tab, form feed": "\x07\x08\x0b\x0c",
    "carriage return over a line": "safe\rEVIL",
    "bidi override": "\u202egpj.exe\u202c",
    "bidi isolate": "\u2066x\u2069",
    "zero width": "pass\u200bword\ufeff",
    "tags": "\U000e0041\U000e0042",
    "line separators": "a\u2028b\u2029c\x85d",
    "private use": "\ue000\U000f0000",
    "variation selectors": "x\ufe0f\ufe01\U000e0141\U000e0142",
    "combining flood": "x" + "\u0336" * 200,
    "joiners": "pass\u200cword\u200d\u200d",
    "fillers": "x\u3164\u115f\u1160\uffa0\u034f",
    "surrogate": "\udcff",
    "nul and delete": "\x00\x7f",
}
anything = st.text(st.characters()) | st.text(
    st.sampled_from("ab\r\n\t\x1b\u202e\u200c\u200dé漢\u00a0\u0301\u094d\u0915\u06cc👩❤🏽\ufe0f\u20e31\u3164")
)


JOINERS = "\u200c\u200d"


def harmless(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" + JOINERS or unicodedata.category(c) == "Zs" for c in text)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_on_the_terminal_is_shown_instead_of_carried_out(attack: str) -> None:
    shown = visible(f"before {attack} after")
    assert harmless(shown)
    assert "\\" in shown


LOOKS_LIKE_NOTHING = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
SELECTORS = {*map(chr, (0x180B, 0x180C, 0x180D, 0x180F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))}


def escape(character: str) -> str:
    code = ord(character)
    digits = "x" if code < 0x100 else "u" if code < 0x10000 else "U"
    return f"\\{digits}{code:0{ {'x': 2, 'u': 4, 'U': 8}[digits] }x}"


def test_every_code_point_is_shown_or_stays_by_its_category() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        hidden = (hidden and character not in "\n\t") or character in LOOKS_LIKE_NOTHING
        alone = hidden or unicodedata.category(character)[0] == "M"
        behind = hidden or character in SELECTORS
        assert visible(character) == (escape(character) if alone else character)
        assert visible(f"x{character}") == "x" + (escape(character) if behind else character)


def test_escapes_read_as_python_writes_them() -> None:
    assert visible("\x1b \x9b \u202e \U000e0041") == r"\x1b \x9b \u202e \U000e0041"


def test_printable_text_stays_as_it_is() -> None:
    text = "naïve\tcafé e\u0301 漢字 🙂\ufe0f עברית \u00a0 \\x1b\n"
    assert visible(text) == text


READABLE = {
    "emoji of several": "👩\u200d💻 👨\u200d👩\u200d👧 👩🏽\u200d🚀",
    "emoji with a selector": "❤\ufe0f\u200d🔥 1\ufe0f\u20e3 ☎\ufe0e",
    "Persian": "می\u200cخواهم",  # noqa: RUF001 - letters of Persian
    "Hindi": "क्\u200dष हिन्दी",
    "Malayalam": "അവൻ പറഞ്ഞു",
    "Hebrew with points": "שָׁלוֹם עֲלֵיכֶם",
    "Tibetan": "བསྒྲུབས་",
    "Vietnamese, decomposed": "Vie\u0323\u0302t",
    "Mongolian": "ᠠ\u180bᠨ",
}


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE.keys())
def test_what_people_write_stays_readable(text: str) -> None:
    assert visible(text) == text
    assert visible(visible(text)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pass\u200dword", "pass\\u200dword"),  # between letters that are never joined
        ("rm\u200c -rf", "rm\\u200c -rf"),
        ("👩\u200d", "👩\\u200d"),  # joins nothing
        ("👩\u200dx", "👩\\u200dx"),
        ("👩\u200d\u200d💻", "👩\\u200d\\u200d💻"),  # the second would be hidden
        ("می\u200c\u200cخ", "می\\u200c\\u200cخ"),
        ("👩\u200c💻", "👩\\u200c💻"),
        ("x\ufe0f", "x\\ufe0f"),  # chooses nothing
        ("❤\ufe0f\ufe0f", "❤\ufe0f\\ufe0f"),
        ("葛\U000e0100", "葛\\U000e0100"),
        ("a" + "\u0301" * 10, "a" + "\u0301" * 8 + "\\u0301" * 2),
        ("\u0338x", "\\u0338x"),  # it would be drawn over what stands before
        ("a\n\u0338", "a\n\\u0338"),
        ("\x1b\u0338", "\\x1b\\u0338"),
        ("a\u3164b", "a\\u3164b"),
    ],
)
def test_what_is_not_seen_or_covers_something_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


def test_a_cut_text_does_not_end_with_a_joiner() -> None:
    text = "👩\u200d💻" * 20
    for columns in range(20, 40):
        line = one_line(text, columns)
        assert visible(line) == line


def test_a_carriage_return_before_a_newline_is_a_newline_and_alone_it_is_shown() -> None:
    assert visible("a\r\nb\rc\r\r\nd\r") == "a\nb\\x0dc\\x0d\nd\\x0d"


@given(anything)
def test_whatever_comes_in_nothing_harmful_comes_out(text: str) -> None:
    assert harmless(visible(text))
    assert visible(visible(text)) == visible(text)


@given(anything, st.lists(st.integers(0, 20)))
def test_text_in_chunks_is_shown_as_the_whole(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    chunks = VisibleChunks()
    pieces = [chunks.add(text[start:end]) for start, end in itertools.pairwise(edges)]
    assert "".join(pieces) + chunks.end() == visible(text)


def cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me") or character in JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@given(anything, st.integers(20, 60))
def test_one_line_is_one_line_that_fits(text: str, columns: int) -> None:
    line = one_line(text, columns)
    assert harmless(line)
    assert "\n" not in line
    assert "\t" not in line
    assert sum(map(cells, line)) <= columns


def test_one_line_says_where_it_was_cut() -> None:
    assert one_line("one\n  two\r\n three", 40) == "one two three"
    assert one_line("x" * 30, 20) == "x" * 19 + "…"
    assert one_line(" " * 10_000_000 + "x", 20) == "…"
    assert one_line("x" * 30, 20, "...") == "x" * 17 + "..."
    assert clipped("漢" * 20, 20) == "漢" * 9 + "…"


def test_signs_that_a_selector_makes_wide_are_counted_as_wide() -> None:
    hearts = "❤\ufe0f" * 20  # two columns each where they are drawn as emoji
    assert columns_of(hearts) == 40
    assert clipped(hearts, 20) == "❤\ufe0f" * 9 + "…"
    assert columns_of("a漢e\u0301👩") == 6


def test_columns_of_a_table_stay_below_one_another_whatever_is_in_them() -> None:
    rows = [("漢字", "1", "e\u0301"), ("abc", "22", "❤\ufe0f")]
    first, second = aligned(rows).split("\n")
    assert first == "漢字   1  " + " e\u0301"
    assert second == "abc   22  ❤\ufe0f"


def test_values_are_shown_by_their_beginning() -> None:
    assert brief({"a": [1, 2.5, None, True], "b": "x"}, 80) == '{"a": [1, 2.5, null, true], "b": "x"}'
    assert brief_arguments({"path": "a.py", "limit": 3}, 80) == '(path="a.py", limit=3)'
    assert brief_arguments({}, 80) == "()"
    assert len(brief({"k" * 1_000_000: "v" * 1_000_000}, 40)) < 200
    assert len(brief([[["x" * 1_000_000] * 1_000] * 1_000], 40)) < 200


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (None, ""),
        (0.0, "0 ms"),
        (0.2, "<1 ms"),
        (12.4, "12 ms"),
        (999.6, "1.0 s"),
        (4_240.0, "4.2 s"),
        (59_970.0, "1 min 00 s"),
        (125_000.0, "2 min 05 s"),
        (3_725_000.0, "1 h 02 min"),
    ],
)
def test_durations_are_told_in_the_unit_that_people_would_use(duration_ms: float | None, text: str) -> None:
    assert duration_text(duration_ms) == text


@pytest.mark.parametrize(
    ("argument", "environ", "terminal", "wanted"),
    [
        (None, {}, True, True),
        (None, {}, False, False),
        (None, {"NO_COLOR": ""}, True, True),
        (None, {"NO_COLOR": "1"}, True, False),
        (None, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        (None, {"FORCE_COLOR": "1"}, False, True),
        (None, {"FORCE_COLOR": "0"}, False, False),
        (None, {"FORCE_COLOR": ""}, False, False),
        (None, {"TERM": "dumb"}, True, False),
        (None, {"TERM": "dumb", "FORCE_COLOR": "1"}, True, False),
        (None, {"TTY_COMPATIBLE": "1"}, False, True),
        (None, {"TTY_COMPATIBLE": "0"}, True, False),
        (True, {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
        (False, {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_an_argument_wins_over_the_environment_and_that_over_the_terminal(
    argument: bool | None,
    environ: dict[str, str],
    terminal: bool,
    wanted: bool,
) -> None:
    assert colour_wanted(argument, environ, is_terminal=terminal) is wanted


def test_a_piece_of_a_line_stays_on_its_line_and_is_bounded() -> None:
    out = TerminalStream(io.StringIO(), colour=True, width=None)
    out.open()
    line = out.line((("bad", "a\nb\tc\x1b[0m"), ("", "x" * 5_000)))
    assert line == f"\x1b[31ma b c\\x1b[0m\x1b[0m{'x' * 4_000}… (5,000 characters)\n"
