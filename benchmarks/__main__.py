"""`python -m benchmarks [NAME…] [--quick] [--json] [--save]`."""

from __future__ import annotations

import importlib
import json
import sys

import attrs
import click

from benchmarks.measure import Row
from benchmarks.table import printed, run_on, save

NAMES = ("emit", "loop", "tracing", "peers", "growth", "reading", "start")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--quick", is_flag=True, help="Three rounds instead of eleven.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--save", "is_kept", is_flag=True, help="Keep them in benchmarks/results.json and RESULTS.md.")
def main(names: tuple[str, ...], *, quick: bool, as_json: bool, is_kept: bool) -> None:
    """Run the benchmarks and print one table.

    ratio: of the medians of all rounds. paired: the median of each round's ratio. Exits 1 where a bound is
    missed by both.
    """
    rows: dict[str, list[Row]] = {}
    versions: dict[str, str] = {}
    for name in names or NAMES:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        rows[name] = benchmark.rows(3 if quick else 11)
        versions |= getattr(benchmark, "versions", dict)()
    results = run_on(rows, versions)
    if is_kept:
        save(results)
    told = attrs.asdict(results)
    for name, of_one in rows.items():
        told["rows"][name] = [{**attrs.asdict(row), "ratio": row.ratio} for row in of_one]
    print(json.dumps(told, indent=2) if as_json else printed(results))
    sys.exit(any(row.is_missed for of_one in rows.values() for row in of_one))


main()
