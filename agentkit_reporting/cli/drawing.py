"""What commands draw with: tables that fit a terminal's width, lines in styles, Markdown that nothing breaks out of.

Text of logs is made visible here; what it says of styles, markup and Markdown counts for nothing.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import attrs

from agentkit_reporting.page import STYLES, colour_wanted
from agentkit_reporting.terminal import columns_of, duration_text, one_line

__all__ = [
    "NAME_COLUMNS",
    "WIDTH",
    "Cell",
    "Pieces",
    "Table",
    "brief_duration",
    "can_draw",
    "drawn",
    "escaped",
    "grid",
    "left_out_columns",
    "markdown_table",
    "money_text",
    "named",
    "short_count",
    "styled_line",
]

WIDTH = 80
"""Columns where there is no terminal and COLUMNS says nothing."""

_MOST_EXACT, _LEAST_EXACT = Decimal(1_000), Decimal("0.0000005")  # as amounts are rounded
_ANY_WIDTH = 10_000

NAME_COLUMNS = 60
"""Of a name in a table."""
_LEAST_NAME = 8
_MINUTE_MS = 59_950  # as it is rounded
_MOST_HOURS = 100  # beyond are days
_MOST_DAYS_WITH_HOURS = 100
_MOST_DAYS = 100_000

Cell: TypeAlias = "str | tuple[str, str]"
"""A text, or a style of `page.STYLES` and a text."""

Pieces: TypeAlias = Sequence[Cell]
"""A line, piece by piece."""


@attrs.frozen
class Table:
    """Rows of cells; the first `names` columns are names, to the left, and may be cut; the rest are figures.

    leaves: heads of the columns that a narrow terminal goes without, in this order. whole: heads of names such as ids,
    which are cut only where leaving others out did not help.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    names: int
    leaves: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


def drawn(draw: Callable[[Any], None], *, any_width: bool = False) -> str:
    """Return what is printed on a console of rich that is like stdout: its width and colour, 80 columns without one.

    draw: is given the console. any_width: without a terminal nothing is cut, since a program may read it.
    """
    from rich.console import Console  # noqa: PLC0415 - only where something is printed

    is_terminal = sys.stdout.isatty()
    colour = colour_wanted(None, os.environ, is_terminal=is_terminal)
    width = None if is_terminal or os.environ.get("COLUMNS") else WIDTH
    if any_width and not is_terminal:
        width = _ANY_WIDTH
    console = Console(
        file=sys.stdout,
        width=width,
        color_system="standard" if colour else None,
        force_terminal=colour,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as captured:
        draw(console)
    return "\n".join(line.rstrip() for line in captured.get().split("\n"))


def styled_line(pieces: Pieces) -> Any:
    """Return a line of pieces for a console of rich; each is text of ours or was made visible before."""
    from rich.text import Text  # noqa: PLC0415 - only where something is printed

    line = Text()
    for piece in pieces:
        style, text = ("", piece) if isinstance(piece, str) else piece
        line.append(text, style=STYLES.get(style, ""))
    return line


def grid(table: Table, columns: int, *, tells_left_out: bool = False) -> Any:
    """Return a table that fits: a narrow terminal goes without the columns that it `leaves`, and has shorter names.

    tells_left_out: name them on a line below.
    """
    from rich.console import Group  # noqa: PLC0415 - only where something is printed
    from rich.table import Table as Grid  # noqa: PLC0415 - only where something is printed
    from rich.text import Text  # noqa: PLC0415 - the same

    cells = [[_text_of(cell).replace(" + ", "\n+ ") for cell in row] for row in (table.head, *table.rows)]
    places, widths = _fitting(table, cells, columns)
    drawing = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place in places:
        drawing.add_column(
            Text(table.head[place]),
            justify="left" if place < table.names else "right",
            no_wrap=True,
            overflow="ellipsis",
            width=widths[place],
        )
    for row, texts in zip(table.rows, cells[1:], strict=True):
        drawing.add_row(*(Text(texts[place], style=_style_of(row[place])) for place in places))
    left_out = left_out_columns(name for place, name in enumerate(table.head) if place not in places)
    if left_out and tells_left_out:
        return Group(drawing, Text(left_out, style=STYLES["dim"]))
    return drawing


def left_out_columns(names: Iterable[str]) -> str:
    """Say which columns a table goes without; nothing where there are none."""
    told = ", ".join(names)
    return f"too narrow for: {told}; a wider terminal, or --json, has them" if told else ""


def _fitting(table: Table, cells: list[list[str]], columns: int) -> tuple[list[int], list[int]]:
    """Return which columns of a table are shown, and the width of each of its columns."""
    places = list(range(len(table.head)))
    widths = [max(columns_of(line) for row in cells for line in row[place].split("\n")) for place in places]
    may_be_cut = [place < table.names and name not in table.whole for place, name in enumerate(table.head)]
    least = [min(width, _LEAST_NAME) if may_be_cut[place] else width for place, width in enumerate(widths)]
    for name in table.leaves:
        if sum(least[place] + 2 for place in places) - 2 > columns and name in table.head:
            places.remove(table.head.index(name))
    while sum(widths[place] + 2 for place in places) - 2 > columns:
        names = [place for place in places if place < table.names]
        widest = max(names, key=lambda place: widths[place], default=None)
        if widest is None or widths[widest] <= _LEAST_NAME:
            break
        widths[widest] -= 1
    return places, widths


def _text_of(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[1]


def _style_of(cell: Cell) -> str:
    return "" if isinstance(cell, str) else STYLES.get(cell[0], "")


def can_draw(signs: str) -> bool:
    """Whether stdout can show these signs."""
    try:
        signs.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


# --- Markdown

_MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~&@$]|:(?=/)|\.(?=[A-Za-z]))")


_REFERENCES = re.compile(r"\\(@(?=\w)|#(?=\d))")
"""What GitHub and GitLab take for a person or an issue also behind a backslash; an empty comment parts them."""


def markdown_table(table: Table) -> str:
    """Return a table as Markdown, its title as a heading, if it has one."""
    lines = [f"## {table.title}", ""] if table.title else []
    lines.append(_line(table.head))
    lines.append(_line("---" if place < table.names else "--:" for place in range(len(table.head))))
    lines += [_line(escaped(_text_of(cell)) for cell in row) for row in table.rows]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return a line of text as Markdown that shows it and does nothing else."""
    return _REFERENCES.sub(r"\1<!-- -->", _MARKDOWN_SIGNS.sub(r"\\\1", text))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


# --- words


def named(text: str, columns: int = NAME_COLUMNS) -> str:
    """Return a name as a cell shows it: visible, on one line, bounded; a dash for an empty one."""
    return one_line(text, columns) or "-"


def brief_duration(duration_ms: float | None) -> str:
    """Return a duration in at most seven characters: `12 ms`, `4.2 s`, `2m 05s`, `3h 07m`, `12d 03h`, `1,200d`.

    A dash for none, and for what no time can be: less than nothing, or endless.
    """
    if duration_ms is None or not 0 <= duration_ms < math.inf:
        return "-"
    if duration_ms < _MINUTE_MS:
        return duration_text(duration_ms)
    minutes, seconds = divmod(round(duration_ms / 1_000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours < _MOST_HOURS:
        return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {seconds:02}s"
    days, hours = divmod(hours, 24)
    if days < _MOST_DAYS_WITH_HOURS:
        return f"{days}d {hours:02}h"
    return f"{days:,}d" if days < _MOST_DAYS else f"{float(days):.0e}d"


def money_text(amount: Decimal, currency: str) -> str:
    """Return an amount with its currency: `$0.012500`, `1,250.00 EUR`; what six decimals cannot show as `1.0e-08`."""
    size = abs(amount)
    figure = f"{size:,.6f}" if size < _MOST_EXACT else f"{size:,.2f}"
    if 0 < size < _LEAST_EXACT:
        figure = f"{size:.1e}"
    sign = "-" if amount < 0 else ""
    return f"{sign}${figure}" if currency == "USD" else f"{sign}{figure} {one_line(currency, 8, '~')}"


def short_count(number: int | None) -> str:
    """Return a count in at most six characters: 9,999, 101k, 2.3M; a question mark for an unknown one."""
    if number is None:
        return "?"
    for limit, unit, name in (
        (10_000, 1, ""),
        (1_000_000, 1_000, "k"),
        (10**9, 10**6, "M"),
        (10**12, 10**9, "G"),
    ):
        if number < limit:
            return f"{number / unit:,.0f}{name}" if unit < 10**6 else f"{number / unit:,.1f}{name}"
    return f"{number:.1e}"
