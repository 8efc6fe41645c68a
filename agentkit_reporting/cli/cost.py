"""`agentkit cost`: what the requests of logs cost, component by component, and what today's table says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import click
import msgspec

from agentkit_reporting.cli.reading import tell_of_bad_lines, whisper
from agentkit_reporting.ledger import DIMENSIONS, CostComponent, CostLedger, LedgerGroup
from agentkit_reporting.log.read import read_events
from agentkit_reporting.terminal import aligned, one_line

_NAME_COLUMNS = 40
_KINDS = ("input", "cached_input", "cache_write", "cache_write_1h", "output", "web_search")
_NEAR = Path("prices.toml")


@click.command("cost")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…")
@click.option(
    "--by",
    multiple=True,
    metavar="DIMENSION",
    help=f"Group by {', '.join(DIMENSIONS)} or metadata.NAME; may be given again.  [default: model]",
)
@click.option("--session", "session_id", metavar="ID", help="Only this session; the end of an id is enough.")
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
    for event in reader:
        if session_id is None or event.session_id.endswith(session_id):
            ledger.handle_event(event)
    groups = ledger.groups(by)
    tell_of_bad_lines(reader)
    if not groups:
        whisper(f"no usage in {', '.join(logs)}; give a log of a run that asked a model")
        return 1
    again = _groups_again(ledger, by, prices) if reprice or prices is not None else None
    if as_json:
        sys.stdout.write(msgspec.json.encode(_as_json(by, groups, again)).decode() + "\n")
        return 0
    click.echo(_table(by, groups, again))
    if explain:
        for group in groups:
            click.echo("\n" + _explained(group, again))
    return 0


@attrs.frozen
class _Again:
    """The same entries at today's table."""

    groups: dict[tuple[str, ...], LedgerGroup]
    source: str


def _groups_again(ledger: CostLedger, by: tuple[str, ...], given: Path | None) -> _Again:
    from agentkit_loop.price_book import PriceBook  # noqa: PLC0415 - only where prices are asked for

    own = given or os.environ.get("AGENTKIT_PRICES") or (_NEAR if _NEAR.is_file() else None)
    book = PriceBook(own)
    # Grouped by the entries' own values, so that a group by `source` meets itself.
    groups: dict[tuple[str, ...], LedgerGroup] = {}
    sources: dict[str, None] = {}
    for entry, anew in zip(ledger.entries(), ledger.repriced(book), strict=True):
        key = tuple(entry.value(dimension) for dimension in by)
        groups.setdefault(key, LedgerGroup(key=key)).add(anew)
        if anew.cost is not None:
            sources[anew.cost.source] = None
    return _Again(groups, ", ".join(sources) or "no table")


# --- for people

_HEAD = ("requests", "input", "cached", "written", "output", "cost")


def _table(by: tuple[str, ...], groups: list[LedgerGroup], again: _Again | None) -> str:
    rows = [(*by, *_HEAD, *(("today", "difference") if again else ()))]
    rows.extend(_row(_names(group), group, _anew(group, again)) for group in groups)
    if len(groups) > 1:
        names = ("total", *("" for _ in by[1:]))
        rows.append(_row(names, _sum(groups), _sum(again.groups.values()) if again else None))
    table = aligned(rows, left=len(by))
    return f"{table}\ntoday: {one_line(again.source, 200)}" if again else table


def _anew(group: LedgerGroup, again: _Again | None) -> LedgerGroup | None:
    return None if again is None else again.groups[group.key]


def _names(group: LedgerGroup) -> tuple[str, ...]:
    return tuple(one_line(value, _NAME_COLUMNS, "~") or "-" for value in group.key)


def _row(names: tuple[str, ...], group: LedgerGroup, anew: LedgerGroup | None) -> tuple[str, ...]:
    usage = group.usage
    counts = (
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.cache_write_input_tokens,
        usage.output_tokens,
    )
    figures = ("?" if count is None else f"{count:,}" for count in counts)
    compared = () if anew is None else (_costs(anew), _difference(group, anew))
    return (*names, f"{group.requests:,}", *figures, _costs(group), *compared)


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


def _explained(group: LedgerGroup, again: _Again | None) -> str:
    title = "  ".join(name for name in _names(group))
    lines = [f"{title}: {_count(group.requests, 'request')}, {_costs(group)}"]
    for currency, components in sorted(group.components.items()):
        rows = [
            (
                f"  {one_line(name, _NAME_COLUMNS, '~')}",
                f"{component.count:,}",
                f"x {_rate(name, component, currency)}",
                _exact(component.amount, currency),
            )
            for name, component in sorted(components.items(), key=_place)
        ]
        if rows:
            lines.append(aligned(rows))
    for source, requests in group.sources.items():
        lines.append(f"  {_count(requests, 'request')} by {one_line(source, 120)}")
    if group.priced_on:
        first, last = min(group.priced_on), max(group.priced_on)
        lines.append(f"  at the prices of {first}" + (f" to {last}" if last != first else ""))
    if group.unpriced:
        lines.append(f"  {_count(group.unpriced, 'request')} without a cost: no price was known")
    if group.provisional:
        lines.append(f"  {_count(group.provisional, 'request')} by a last report that was not final")
    if again:
        lines.append(f"  today's table: {_costs(again.groups[group.key])}")
    return "\n".join(lines)


def _place(named: tuple[str, CostComponent]) -> tuple[str, int]:
    """Order components as they are billed; those of another model after the request's own."""
    kind, _, model = named[0].partition(":")
    return model, _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


def _rate(name: str, component: CostComponent, currency: str) -> str:
    """Return the rate that was paid, on the average where there was more than one."""
    per, word = (1_000, "a thousand") if name == "web_search" else (1_000_000, "a million")
    if not component.count:
        return "?"
    rate = f"{component.amount * per / component.count:,.6f}".rstrip("0")
    whole, _, decimals = rate.partition(".")
    return f"{_in(currency, f'{whole}.{decimals:0<2}')} {word}"


def _exact(amount: Decimal, currency: str) -> str:
    """Return an amount with six decimals, so that components add up to what is shown as their sum."""
    sign, figure = ("-" if amount < 0 else ""), f"{abs(amount):,.6f}"
    return f"{sign}{_in(currency, figure)}"


def _in(currency: str, figure: str) -> str:
    return f"${figure}" if currency == "USD" else f"{figure} {one_line(currency, 8, '~')}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
            currency: {name: attrs.asdict(component) for name, component in components.items()}
            for currency, components in group.components.items()
        },
        "sources": group.sources,
    }
