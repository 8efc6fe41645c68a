"""`python -m benchmarks [NAME…] [--quick] [--json]`."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import sys

import attrs
import click

from benchmarks.measure import Row

NAMES = ("emit", "loop", "tracing")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--quick", is_flag=True, help="Three rounds instead of eleven.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def main(names: tuple[str, ...], *, quick: bool, as_json: bool) -> None:
    """Run the benchmarks and print one table.

    ratio: of the medians of all rounds. paired: the median of each round's ratio. Exits 1 where a bound is
    missed by both.
    """
    rows: list[Row] = []
    for name in names or NAMES:
        rows.extend(importlib.import_module(f"benchmarks.{name}").rows(3 if quick else 11))
    if as_json:
        print(json.dumps([{**attrs.asdict(row), "ratio": row.ratio} for row in rows], indent=2))
        return
    versions = {name: importlib.metadata.version(name) for name in ("attrs", "msgspec", "anthropic")}
    print(
        f"Python {platform.python_version()}, {', '.join(f'{k} {v}' for k, v in versions.items())}; CPU, medians"
    )
    print(f"{'what':<36}{'ours µs':>10}{'ref. µs':>10}{'ratio':>8}{'paired':>8}{'bound':>8}  reference")
    for row in rows:
        paired, bound = ("" if value is None else f"{value:.2f}" for value in (row.paired, row.bound))
        times = f"{row.ours_us:>10.3f}{row.reference_us:>10.3f}"
        print(f"{row.name:<36}{times}{row.ratio:>8.2f}{paired:>8}{bound:>8}  {row.reference}")
    sys.exit(any(row.is_missed for row in rows))


main()
