r"""Text that a terminal may be given: visible, harmless, and as short as there is room.

Text from models, tools and logs never controls a terminal: whatever is not printable is shown as an
escape (`\x1b`, `\u202e`). That covers control characters (C0 but newline and tab, DEL, C1), bidi controls,
zero-width and all other format characters, line and paragraph separators, surrogates, private-use and
unassigned code points. Printable text stays as it is, combining marks too. The price: an emoji that is
joined of several by U+200D falls apart, with a visible `\u200d` in between.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

from agentkit_loop.values import JSON

# --- visible text

_NOT_PLAIN = re.compile(r"[^\n\t -~]+")


def visible(text: str) -> str:
    """Return the text with every character that is not printable as its escape; CRLF becomes newline."""
    if text.isprintable():
        return text
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    return _NOT_PLAIN.sub(_escape_run, text)


def _escape_run(match: re.Match[str]) -> str:
    run = match.group()
    return run if run.isprintable() else "".join(map(_shown, run))


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if code < 0x100:  # noqa: PLR2004 - the escapes of Python: two, four or eight digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - as above


class VisibleChunks:
    """`visible` for text that comes in chunks: a CRLF that is split between two of them stays one newline.

    For any split: the joined results of `add`, and of `end` after them, are `visible` of the whole.
    """

    def __init__(self) -> None:
        self._held = ""  # a CR at the end of a chunk, until it is known what follows

    def add(self, chunk: str) -> str:
        """Return what can be shown now."""
        if not self._held and chunk.isprintable():
            return chunk
        chunk = self._held + chunk
        self._held = "\r" if chunk.endswith("\r") else ""
        return visible(chunk[:-1] if self._held else chunk)

    def end(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return visible(held)


def one_line(text: str, columns: int, mark: str = "…") -> str:
    """Return the beginning of the text, visible, on one line of at most `columns`; `mark` where it was cut.

    Looks at the beginning only, whatever the length of the text.
    """
    head = text[: 4 * columns]
    line = " ".join(visible(head.rstrip("\r")).split())
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
            return text[:fitting] + mark
        if used <= room:
            fitting = place + 1
    return text


def _cells(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# --- values in short


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 request`, `1,234 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a table of cells that are clean already: the first `left` columns flush left, others right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
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
