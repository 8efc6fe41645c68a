r"""Text that a terminal may be given: visible, harmless, and as short as there is room.

Text from models, tools and logs never controls a terminal, and hides nothing: whatever is not printable is shown
as an escape (`\x1b`, `\u202e`). That covers control characters (C0 but newline and tab, DEL, C1), bidi controls,
zero-width and all other format characters, tags, line and paragraph separators, surrogates, private-use and
unassigned code points. Of what Unicode calls printable, these are shown too: letters that look like nothing
(Hangul fillers), variation selectors that choose no emoji, and combining marks without a letter of the same text
before them, or more than eight on one (they would be drawn over our own signs and over other lines).

Joiners (ZWJ, ZWNJ) are zero-width, and yet Persian, Hindi and many an emoji cannot be read without them. One stays
where it does its work: between two emoji, or between two letters or marks of a script that is written with it.
Anywhere else, and so in every word, path and command of ASCII, it is shown.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

import msgspec

from agentkit_loop.late import late_pattern
from agentkit_loop.values import JSON

# --- visible text

MOST_MARKS = 8
"""Combining marks that a letter may carry; Tibetan and pointed Hebrew need up to six."""

_NOT_PLAIN = re.compile(r"[^\n\t -~]+")
_JOINERS = "\u200c\u200d"

# Printable characters whose neighbours must be looked at: marks, and letters that look like nothing. Whole blocks
# are named; what else they hold only takes the slower way. Latin, Greek, Cyrillic, Kana, Hangul and Han are left out.
_DELICATE = late_pattern(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u10ff\u115f\u1160\u135d-\u135f\u1700-\u1dff\u20d0-\u20ff"
    "\u2cef-\u2cf1\u2d7f-\u2dff\u302a-\u302f\u3099\u309a\u3164\ua66f-\uabff\ufb1e\ufe00-\ufe0f"
    "\ufe20-\ufe2f\uffa0\U00010100-\U0001bfff\U0001cf00-\U0001efff\U000e0100-\U000e01ef]"
)
_LOOKS_LIKE_NOTHING = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_JOINED_SCRIPTS = late_pattern(
    # Arabic, Syriac, N'Ko and their neighbours; the scripts of India; Myanmar; Khmer and Mongolian
    "[\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc]"
)
_EMOJI_SELECTORS = "\ufe0e\ufe0f"
_MONGOLIAN_SELECTORS = "\u180b\u180c\u180d\u180f"


def visible(text: str) -> str:
    """Return the text with every character that is not printable as its escape; CRLF becomes newline."""
    if text.isprintable() and (text.isascii() or not _DELICATE.search(text)):
        return text
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    return _NOT_PLAIN.sub(_escape_run, text)


def _escape_run(match: re.Match[str]) -> str:
    """Return a run of characters beyond printable ASCII, each as it may be shown."""
    run = match.group()
    if run.isprintable() and not _DELICATE.search(run):
        return run
    before = match.string[match.start() - 1] if match.start() else "\n"
    shown: list[str] = []
    marks = (
        0 if before != "\n" else MOST_MARKS
    )  # on the letter before; without one, as if there were too many
    for place, character in enumerate(run):
        following = run[place + 1] if place + 1 < len(run) else ""
        if not _is_shown(character, before, following, marks):
            shown.append(_escape(character))
            before, marks = "", MOST_MARKS
            continue
        shown.append(character)
        marks = marks + 1 if _is_attached(character) else 0
        before = character
    return "".join(shown)


def _is_shown(character: str, before: str, following: str, marks: int) -> bool:
    """Whether a character may be shown as it is, behind `before` ("": an escape) with so many marks on it."""
    if character in _JOINERS:
        room = 2 if _is_mark(following) else 1
        return marks + room <= MOST_MARKS and _joins(character, before, following)
    if character in _LOOKS_LIKE_NOTHING:
        return False
    category = unicodedata.category(character)
    if category[0] == "M":
        return marks < MOST_MARKS and (not _is_selector(character) or _selects(character, before))
    return character.isprintable() or category == "Zs"


def _is_mark(character: str) -> bool:
    return bool(character) and unicodedata.category(character)[0] == "M"


def _is_attached(character: str) -> bool:
    """Whether a character stands on the one before it: a mark or a joiner."""
    return character in _JOINERS or _is_mark(character)


def _joins(joiner: str, before: str, following: str) -> bool:
    """Whether a joiner does its work between these two."""
    if not before or not following or following in _LOOKS_LIKE_NOTHING or _is_selector(following):
        return False
    if _JOINED_SCRIPTS.match(before) and _JOINED_SCRIPTS.match(following):
        return unicodedata.category(before)[0] in "LM" and unicodedata.category(following)[0] in "LM"
    return joiner == "\u200d" and (before == "\ufe0f" or _is_emoji(before)) and _is_emoji(following)


def _is_emoji(character: str) -> bool:
    return character >= "\u2190" and unicodedata.category(character) in ("So", "Sm", "Sk")


def _is_selector(character: str) -> bool:
    return (
        "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
        or character in _MONGOLIAN_SELECTORS
    )


def _selects(selector: str, before: str) -> bool:
    """Whether a variation selector chooses between two forms of the character before; others only hide there."""
    if selector in _EMOJI_SELECTORS:
        return (
            before in "#*0123456789\u00a9\u00ae" or "\u203c" <= before <= "\u3299" or before >= "\U0001f000"
        )
    return selector in _MONGOLIAN_SELECTORS and "\u1820" <= before <= "\u18aa"


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:  # noqa: PLR2004 - the escapes of Python: two, four or eight digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - as above


class VisibleChunks:
    """`visible` for text that comes in chunks, however it is split.

    For any split: the joined results of `add`, and of `end` after them, are `visible` of the whole. A carriage
    return or a joiner at the end of a chunk waits until it is known what follows.
    """

    def __init__(self) -> None:
        self._held = ""
        self._before = ""  # what was shown last, before it was made visible

    def add(self, chunk: str) -> str:
        """Return what can be shown now."""
        if not self._held and chunk.isprintable() and (chunk.isascii() or not _DELICATE.search(chunk)):
            if chunk:
                self._before = chunk
            return chunk
        chunk = self._held + chunk
        self._held = chunk[-1] if chunk and chunk[-1] in "\r\u200c\u200d" else ""
        return self._show(chunk[:-1] if self._held else chunk)

    def end(self) -> str:
        """Return what was held back; the next chunk is of another text."""
        held, self._held = self._held, ""
        shown = self._show(held)
        self._before = ""
        return shown

    def _show(self, chunk: str) -> str:
        if not chunk:
            return ""
        before = _tail(self._before)
        self._before = before + chunk
        return visible(self._before)[len(visible(before)) :] if before else visible(chunk)


def _tail(text: str) -> str:
    """Return as much of a text's end as decides how what follows it is shown."""
    start = len(text) - 1
    lowest = max(0, start - MOST_MARKS - 1)  # beyond it, marks are too many as well as without a letter
    while start > lowest and _is_attached(text[start]):
        start -= 1
    return text[max(0, start) :]


def one_line(text: str, columns: int, mark: str = "…") -> str:
    """Return the beginning of the text, visible, on one line of at most `columns`; `mark` where it was cut.

    Looks at the beginning only, whatever the length of the text.
    """
    head = text[: 4 * columns]
    # Once more, since a mark may have lost the space that it stood on.
    line = visible(" ".join(visible(head.rstrip("\r")).split()))
    if len(head) < len(text):
        line += mark
    return clipped(line, columns, mark)


def clipped(text: str, columns: int, mark: str = "…") -> str:
    """Return visible text cut to at most `columns` of a terminal, with `mark` at its end where it was cut."""
    if len(text) <= columns and text.isascii():
        return text
    room, used, fitting = columns - len(mark), 0, 0
    for place, character in enumerate(text):
        used += _cells(character)
        if used > columns:
            if text[fitting] == "\ufe0f":
                fitting = max(fitting - 1, 1)  # with the sign that it is for, on the next row
            return text[:fitting].rstrip(_JOINERS) + mark
        if used <= room:
            fitting = place + 1
    return text


def columns_of(text: str) -> int:
    """Return how many columns of a terminal visible text takes on one line."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if character.isascii() or character == "\ufe0f":  # which makes an emoji, of two columns, of a sign of one
        return 1
    if unicodedata.category(character) in ("Mn", "Me") or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# --- values in short


def json_text(value: object) -> str:
    r"""Return a value as JSON in printable ASCII, so that nothing in it reaches a terminal.

    value: whatever msgspec can write. What is not printable ASCII is in strings, where `\uXXXX` says the same. A
    byte of a file's name that is no UTF-8 is in it as Python has it (`\udcff`), so that the name can be used again.
    """
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), separators=(",", ":"))
    return _NOT_ASCII.sub(_json_escape, text)


_NOT_ASCII = re.compile("[^ -~]")


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1] if match.group() != "\x7f" else "\\u007f"


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 request`, `1,234 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a table of cells that are clean already: the first `left` columns flush left, others right."""
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]

    def padded(place: int, cell: str) -> str:
        padding = " " * (widths[place] - columns_of(cell))
        return cell + padding if place < left else padding + cell

    return "\n".join(
        "  ".join(padded(place, cell) for place, cell in enumerate(row)).rstrip() for row in rows
    )


def brief(value: JSON, room: int) -> str:
    """Return the beginning of a value's JSON, about `room` characters, without a look at the rest."""
    sketch = _Sketch(room)
    sketch.draw(value)
    return "".join(sketch.pieces)


def brief_arguments(arguments: dict[str, JSON], room: int) -> str:
    """Return the beginning of a call's arguments as Python would write them: `(path="a.py", limit=10)`."""
    sketch = _Sketch(room)
    sketch.put("(")
    sketch.members(((f"{key[:room]}=", value) for key, value in arguments.items()))
    sketch.put(")")
    return "".join(sketch.pieces)


class _Sketch:
    """Draws until its room is used up; each level of nesting uses some, so that depth is bounded too."""

    def __init__(self, room: int) -> None:
        self.left = room
        self.pieces: list[str] = []

    def put(self, text: str) -> None:
        self.pieces.append(text)
        self.left -= len(text)

    def draw(self, value: JSON) -> None:
        if self.left <= 0:
            return
        if isinstance(value, dict):
            self.put("{")
            self.members(
                (json.dumps(key[: self.left], ensure_ascii=False) + ": ", value[key]) for key in value
            )
            self.put("}")
        elif isinstance(value, list):
            self.put("[")
            self.members(("", member) for member in value)
            self.put("]")
        elif isinstance(value, str):
            self.put(json.dumps(value[: self.left], ensure_ascii=False))
        else:
            self.put(json.dumps(value))

    def members(self, named: Iterable[tuple[str, JSON]]) -> None:
        first = True
        for name, value in named:
            if self.left <= 0:
                return
            self.put(name if first else f", {name}")
            self.draw(value)
            first = False


def duration_text(duration_ms: float | None) -> str:
    """Return a duration for people, `12 ms`, `4.2 s`, `2 min 05 s`; empty where nobody measured."""
    if duration_ms is None:
        return ""
    if 0 < duration_ms < 0.5:  # noqa: PLR2004 - what would round to nothing
        return "<1 ms"
    if duration_ms < 999.5:  # noqa: PLR2004 - a second
        return f"{duration_ms:.0f} ms"
    if duration_ms < 59_950:  # noqa: PLR2004 - a minute
        return f"{duration_ms / 1_000:.1f} s"
    minutes, seconds = divmod(round(duration_ms / 1_000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
