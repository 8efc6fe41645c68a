"""`agentkit cost`: what the requests of logs cost, component by component, and what today's table says."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import click

from agentkit_reporting.cli.drawing import left_out_columns
from agentkit_reporting.cli.reading import own_prices, tell_of_bad_lines, whisper
from agentkit_reporting.cli.session_option import session_option
from agentkit_reporting.ledger import DIMENSIONS, CostComponent, CostLedger, LedgerGroup, grouped
from agentkit_reporting.log.read import read_events
from agentkit_reporting.terminal import aligned, counted, json_text, one_line

_NAME_COLUMNS = 40
_SHORTEST_NAME = 8
_SESSION_END = 6  # characters of a session's id that stand before its turns and requests
_IDS = ("session", "run", "turn", "request")
_KINDS = ("input", "cached_input", "cache_write", "cache_write_1h", "output", "web_search")


@click.command("cost")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@click.option(
    "--by",
    multiple=True,
    metavar="DIMENSION",
    help=f"Group by {', '.join(DIMENSIONS)} or metadata.NAME; may be given again.  [default: model]",
)
@session_option()
@click.option(
    "--explain", is_flag=True, help="Show every component: how many, at which rate, by which table."
)
@click.option(
    "--reprice", is_flag=True, help="Beside it, what today's price table says for the same requests."
)
@click.option(
    "--prices",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Price list whose prices win when pricing again; default: AGENTKIT_PRICES, else prices.toml if there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; amounts are strings, exact.")
@click.option("--strict", is_flag=True, help="Stop at the first bad line.")
def command(
    logs: tuple[str, ...],
    *,
    by: tuple[str, ...],
    session_id: str | None,
    explain: bool,
    reprice: bool,
    prices: Path | None,
    as_json: bool,
    strict: bool,
) -> int:
    """Say what the requests in LOG… cost: files, directories, globs, or - for stdin.

    The cost is the one that was told when the request was made, at that day's prices. A request whose price
    was not known has none and is counted as unpriced; --reprice may know it.
    """
    by = by or ("model",)
    reader = read_events(list(logs), strict=strict)
    ledger = CostLedger()
    ledger.groups(by)  # what is no dimension is refused before a long log is read
    seen = False
    for event in reader:
        if session_id is None or event.session_id.endswith(session_id):
            ledger.handle_event(event)
            seen = True
    groups = ledger.groups(by)
    tell_of_bad_lines(reader)
    if not groups:
        whisper(_nothing(", ".join(logs), None if seen else session_id))
        return 1
    again = _groups_again(ledger, by, prices) if reprice or prices is not None else None
    if as_json:
        sys.stdout.write(json_text(_as_json(by, groups, again)) + "\n")
        return 0
    names = _names(by, groups)
    table, left_out = _table(by, names, groups, again)
    too_narrow = [left_out_columns(left_out)] if left_out else []
    click.echo("\n".join((table, *too_narrow, *_notes(_sum(groups), again))))
    if explain:
        for name, group in zip(names, groups, strict=True):
            click.echo("\n" + _explained("  ".join(name), group, _anew(group, again)))
    return 0


def _nothing(place: str, session_id: str | None) -> str:
    if session_id is not None:
        return f"no event of session {session_id} in {place}; give the end of an id that is in it"
    return f"no usage in {place}; give a log of a run that asked a model"


@attrs.frozen
class _Again:
    """The same entries at today's table."""

    groups: dict[tuple[str, ...], LedgerGroup]
    source: str


def _groups_again(ledger: CostLedger, by: tuple[str, ...], given: Path | None) -> _Again:
    from agentkit_loop.price_book import PriceBook  # noqa: PLC0415 - only where prices are asked for

    book = PriceBook(own_prices(given))
    book.load()  # which also refuses an alias that leads nowhere
    anew = list(ledger.repriced(book))
    # Grouped by the entries' own values, so that a group by `source` meets itself.
    keys = [entry.key(by) for entry in ledger.entries()]
    sources = dict.fromkeys(entry.cost.source for entry in anew if entry.cost is not None)
    return _Again(grouped(zip(keys, anew, strict=True)), ", ".join(sources) or "no table")


# --- for people

_HEAD = ("requests", "input", "cached", "written", "output", "cost")
_LEAVES = (4, 3, 2, 1, 0)
"""Places in _HEAD that a narrow terminal goes without, in this order; never a cost."""

_Row = tuple[str, ...]


def _table(by: _Row, names: list[_Row], groups: list[LedgerGroup], again: _Again | None) -> tuple[str, _Row]:
    """Return the table, and the heads of the columns that it goes without."""
    heads = [tuple(one_line(dimension, _NAME_COLUMNS, "~") for dimension in by), *names]
    rows = [(*_HEAD, *(("today", "difference") if again else ()))]
    rows.extend(_figures_row(group, _anew(group, again)) for group in groups)
    if len(groups) > 1:
        heads.append(("total", *("" for _ in by[1:])))
        rows.append(_figures_row(_sum(groups), _sum(again.groups.values()) if again else None))
    shown = rows[0]
    if sys.stdout.isatty():
        heads, rows = _fitted(by, heads, rows, shutil.get_terminal_size().columns)
    left_out = tuple(name for name in shown if name not in rows[0])
    return aligned([(*head, *row) for head, row in zip(heads, rows, strict=True)], left=len(by)), left_out


def _fitted(by: _Row, heads: list[_Row], rows: list[_Row], columns: int) -> tuple[list[_Row], list[_Row]]:
    """Return the table as it fits: shorter names first, then fewer columns of tokens."""
    kept, widths = rows, _widths(heads)
    for left_out in range(len(_LEAVES) + 1):
        places = [place for place in range(len(rows[0])) if place not in _LEAVES[:left_out]]
        kept = [tuple(row[place] for place in places) for row in rows]
        room = columns - sum(2 + width for width in _widths(kept)) - 2 * (len(by) - 1)
        widths = _shares(_widths(heads), room)
        if sum(widths) <= room:
            break
    return [
        tuple(
            _short(name, width, keep_end=dimension in _IDS and row > 0)
            for dimension, name, width in zip(by, head, widths, strict=True)
        )
        for row, head in enumerate(heads)
    ], kept


def _widths(rows: Sequence[_Row]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _shares(widths: list[int], room: int) -> list[int]:
    """Return narrower columns that fit the room, the widest cut first, none below the shortest name."""
    shares = list(widths)
    while sum(shares) > room and max(shares) > _SHORTEST_NAME:
        shares[shares.index(max(shares))] -= 1
    return shares


def _short(name: str, width: int, *, keep_end: bool) -> str:
    if len(name) <= width:
        return name
    return f"~{name[len(name) - width + 1 :]}" if keep_end else f"{name[: width - 1]}~"


def _notes(whole: LedgerGroup, again: _Again | None) -> list[str]:
    """Return what is to be known of the table, each a line below it."""
    notes = [f"today: {one_line(again.source, 200)}"] if again else []
    if whole.provisional:
        notes.append(_provisional(whole))
    if whole.unpriced and not again:
        have = "has" if whole.unpriced == 1 else "have"
        told = counted(whole.unpriced, "request")
        notes.append(f"{told} {have} no price; --prices FILE, or --reprice, may know {_them(whole.unpriced)}")
    return notes


def _them(number: int) -> str:
    return "it" if number == 1 else "them"


def _provisional(group: LedgerGroup) -> str:
    return f"{counted(group.provisional, 'request')} by a last report that was not final: a lower bound"


def _anew(group: LedgerGroup, again: _Again | None) -> LedgerGroup | None:
    return None if again is None else again.groups[group.key]


def _names(by: _Row, groups: list[LedgerGroup]) -> list[_Row]:
    """Return the keys as people read them: of a turn's or request's session as much as tells it apart."""
    ended = {} if "session" in by else _session_ends(by, groups)

    def name(dimension: str, value: str) -> str:
        if dimension in {"turn", "request"} and "session" not in by:
            session, _, value = value.rpartition("/")
            value = f"{ended[session]}{value or '-'}"
        if dimension not in _IDS:
            return one_line(value, _NAME_COLUMNS, "~") or "-"
        end = one_line(value[-2 * _NAME_COLUMNS :], 20 * _NAME_COLUMNS)
        return _short(end, _NAME_COLUMNS, keep_end=True) or "-"

    return [tuple(map(name, by, group.key)) for group in groups]


def _session_ends(by: _Row, groups: list[LedgerGroup]) -> dict[str, str]:
    """Return what stands before the turns of each session: nothing where there is one session alone."""
    sessions = {
        value.rpartition("/")[0]
        for group in groups
        for dimension, value in zip(by, group.key, strict=True)
        if dimension in {"turn", "request"}
    }
    if len(sessions) < 2:  # noqa: PLR2004 - one alone needs no name
        return dict.fromkeys(sessions, "")
    end = _SESSION_END
    while end < _NAME_COLUMNS and len({session[-end:] for session in sessions}) < len(sessions):
        end += 1
    return {each: f"~{each[-end:]}/" if len(each) > end else f"{each}/" for each in sessions}


def _figures_row(group: LedgerGroup, anew: LedgerGroup | None) -> _Row:
    usage = group.usage
    counts = (
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.cache_write_input_tokens,
        usage.output_tokens,
    )
    figures = ("?" if count is None else f"{count:,}" for count in counts)
    compared = () if anew is None else (_costs(anew), _difference(group, anew))
    return (f"{group.requests:,}", *figures, _costs(group), *compared)


def _costs(group: LedgerGroup) -> str:
    texts = [_exact(amount, currency) for currency, amount in sorted(group.costs.items())]
    if group.unpriced:
        texts.append(f"{group.unpriced:,} unpriced")
    return " + ".join(texts)


def _difference(group: LedgerGroup, anew: LedgerGroup) -> str:
    if group.unpriced or anew.unpriced:
        return "?"  # the two are not over the same requests
    currencies = sorted({*group.costs, *anew.costs})
    zero = Decimal(0)
    changes = {each: anew.costs.get(each, zero) - group.costs.get(each, zero) for each in currencies}
    texts = [
        f"{'+' if change > 0 else ''}{_exact(change, each)}" for each, change in changes.items() if change
    ]
    return " ".join(texts) or "none"


def _explained(title: str, group: LedgerGroup, anew: LedgerGroup | None) -> str:
    lines = [f"{title}: {counted(group.requests, 'request')}, {_costs(group)}", *_bill(group, "  ")]
    if group.provisional:
        lines.append(f"  {_provisional(group)}")
    if anew is not None:
        lines.extend((f"  today's table: {_costs(anew)}", *_bill(anew, "    ")))
    return "\n".join(lines)


def _bill(group: LedgerGroup, indent: str) -> list[str]:
    """Return the components at their rates, and where the rates are from."""
    lines = []
    for currency, components in sorted(group.components.items()):
        rows = [
            (
                f"{indent}{one_line(name, _NAME_COLUMNS, '~')}",
                f"{component.count:,}",
                f"x {_rate(name, component, currency)}",
                _exact(component.amount, currency),
            )
            for name, component in sorted(components.items(), key=_place)
        ]
        if rows:
            lines.append(aligned(rows))
    for source, requests in group.sources.items():
        lines.append(f"{indent}{counted(requests, 'request')} by {one_line(source, 200)}")
    if group.priced_on:
        first, last = min(group.priced_on), max(group.priced_on)
        lines.append(f"{indent}at the prices of {first}" + (f" to {last}" if last != first else ""))
    if group.unpriced:
        lines.append(f"{indent}{counted(group.unpriced, 'request')} without a cost: no price was known")
    return lines


def _place(named: tuple[str, CostComponent]) -> tuple[str, int]:
    """Order components as they are billed; those of another model after the request's own."""
    kind, _, model = named[0].partition(":")
    return model, _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


def _rate(name: str, component: CostComponent, currency: str) -> str:
    """Return the rate that was paid, marked as an average where there was more than one."""
    per, word = (1_000, "a thousand") if name == "web_search" else (1_000_000, "a million")
    if not component.count:
        return "?"
    rate = f"{component.amount * per / component.count:,.6f}".rstrip("0")
    whole, _, decimals = rate.partition(".")
    average = "avg " if component.several_rates else ""
    return f"{average}{_in(currency, f'{whole}.{decimals:0<2}')} {word}"


def _exact(amount: Decimal, currency: str) -> str:
    """Return an amount with six decimals, so that components add up to what is shown as their sum."""
    sign, figure = ("-" if amount < 0 else ""), f"{abs(amount):,.6f}"
    return f"{sign}{_in(currency, figure)}"


def _in(currency: str, figure: str) -> str:
    return f"${figure}" if currency == "USD" else f"{figure} {one_line(currency, 8, '~')}"


def _sum(groups: Iterable[LedgerGroup]) -> LedgerGroup:
    summed = LedgerGroup(key=())
    for group in groups:
        summed.join(group)
    return summed


# --- for programs


def _as_json(by: tuple[str, ...], groups: list[LedgerGroup], again: _Again | None) -> dict[str, Any]:
    def told(group: LedgerGroup, anew: LedgerGroup | None) -> dict[str, Any]:
        repriced = {} if anew is None else {"today": _figures(anew)}
        return {"usage": group.usage, **_figures(group), **repriced}

    whole = _sum(again.groups.values()) if again else None
    return {
        "by": by,
        "groups": [
            {"key": dict(zip(by, group.key, strict=True)), **told(group, _anew(group, again))}
            for group in groups
        ],
        "total": told(_sum(groups), whole),
    }


def _figures(group: LedgerGroup) -> dict[str, Any]:
    return {
        "requests": group.requests,
        "unpriced": group.unpriced,
        "provisional": group.provisional,
        "costs": group.costs,
        "components": {
            currency: {
                name: {"count": component.count, "amount": component.amount}
                for name, component in components.items()
            }
            for currency, components in group.components.items()
        },
        "sources": group.sources,
    }
