"""A small terminal of the tests' own: it takes what was printed and says what else than text was in it."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator

ATTACKS = {
    "window title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "hyperlink": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "clear screen": "\x1b[2J\x1b[3J\x1b[H",
    "colours of its own": "\x1b[31;1mred\x1b[0m \x1b[8mhidden",
    "cursor": "\x1b[1A\x1b[2K\x1b[999D",
    "mouse and paste modes": "\x1b[?1000h\x1b[?2004h",
    "answerback": "\x1b[6n\x1b[c\x05",
    "device control string": "\x1bP+q544e\x1b\\\x90q\x9c",
    "application command, privacy message": "\x1b_x\x1b\\\x1b^y\x1b\\",
    "full reset": "\x1bc",
    "C1 CSI": "\x9b2J",
    "C1 OSC": "\x9d0;owned\x9c",
    "character set": "\x0e\x1b(0\x0f",
    "carriage return over a line": "safe\rEVIL",
    "backspaces": "safe\b\b\b\bEVIL",
    "bidi override": "\u202egpj.exe\u202c \u2066x\u2069 \u200f\u061c",
    "zero width": "pass\u200bword\ufeff\u2060",
    "tags": "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "variation selectors": "x\ufe0f\ufe01\U000e0141\U000e0142",
    "line separators": "a\u2028b\u2029c\x85d",
    "lone surrogates": "\ud800\udc9b\udcff",
    "combining flood": "\u0336" * 3 + "x" + "\u0336" * 200,
    "joiners": "pass\u200cword\u200d\u200d",
    "fillers": "x\u3164\u115f\u1160\uffa0\u034f",
    "nul and delete": "\x00\x7f",
}

_OWN_COLOURS = re.compile(r"\x1b\[(0|1|2|31|32|33|36)m")
_MOST_MARKS = 8
_LOOKS_LIKE_NOTHING = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"


def controls_in(printed: str, *, colour: bool = False) -> list[str]:
    """Return what is in the output that would control a terminal or hide there; colour: ours may be in it."""
    found: list[str] = []
    marks, before = _MOST_MARKS, ""
    text = _OWN_COLOURS.sub("", printed) if colour else printed
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        if category[0] == "M":
            marks += 1
            hides = character in _LOOKS_LIKE_NOTHING or _hides(character, before)
            if marks > _MOST_MARKS or hides:
                found.append(f"{character!a} behind {before!a}")
        elif character in "\u200c\u200d":
            following = text[place + 1 : place + 2]
            joined = (
                before and following and min(before, following) > "\u0600" and following not in "\u200c\u200d"
            )
            if not joined:
                found.append(f"{character!a} behind {before!a}")
        elif character in _LOOKS_LIKE_NOTHING or (category[0] in "CZ" and not _is_plain(character, category)):
            found.append(repr(character))
        else:
            marks = _MOST_MARKS if character == "\n" else 0
        before = character
    return found


def _hides(character: str, before: str) -> bool:
    if not ("\ufe00" <= character <= "\ufe0f" or character >= "\U000e0100"):
        return False
    return (
        character not in "\ufe0e\ufe0f"
        or (before.isalpha() and before < "\u2000")
        or before in ("", " ", "\n")
    )


def _is_plain(character: str, category: str) -> bool:
    return character in "\n\t" or category == "Zs"


def all_characters(size: int) -> Iterator[str]:
    """Yield every code point there is, so many at once."""
    for first in range(0, sys.maxunicode + 1, size):
        yield "".join(map(chr, range(first, min(first + size, sys.maxunicode + 1))))
