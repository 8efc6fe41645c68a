"""`python -m benchmarks [NAME…] [--quick] [--json] [--save]`."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import sys

import click

from benchmarks.table import Measured, kept, measured, print_table, save

NAMES = ("emit", "loop", "tracing", "peers", "growth", "reading", "start")
ROUNDS, QUICK_ROUNDS = 11, 3
_NEEDED = {
    "emit": ("structlog", "orjson", "loguru", "opentelemetry.sdk"),
    "tracing": ("opentelemetry.sdk",),
    "reading": ("duckdb",),
}
"""What benchmarks measure against, and the extra `bench` has."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option(
    "--save",
    "is_kept",
    is_flag=True,
    help="Keep them in benchmarks/results.json and RESULTS.md, each benchmark as soon as it is done.",
)
def main(names: tuple[str, ...], *, quick: bool, as_json: bool, is_kept: bool) -> None:
    """Run the benchmarks, all or those named, and print the table of each when it is done.

    ratio: of the medians of all rounds. paired: the median of each round's ratio. Exits 1 where both are more than
    what is allowed, 130 after Ctrl-C.
    """
    chosen = names or NAMES
    _check(chosen, is_kept=is_kept)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Greek letters loses no result
    found: list[Measured] = []
    try:
        for name in dict.fromkeys(chosen):
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            found.append(_results(name, QUICK_ROUNDS if quick else ROUNDS))
            if is_kept:
                save(found[-1], NAMES)
            if not as_json:
                print_table(found[-1])
    except KeyboardInterrupt:
        done = ", ".join(each.name for each in found) or "nothing"
        print(f"interrupted; {done} was measured", file=sys.stderr)
        sys.stdout.flush()
        os._exit(130)  # threads and processes of what was interrupted are not waited for
    if as_json:
        print(json.dumps([each.to_dict() for each in found], indent=2))
    if is_kept:
        print("kept; `python -m tests.test_docs` puts them into the README", file=sys.stderr)
    sys.exit(any(row.is_missed for each in found for row in each.rows))


def _check(names: tuple[str, ...], *, is_kept: bool) -> None:
    """Refuse what would fail after minutes."""
    missing = {module for name in names for module in _NEEDED.get(name, ()) if not _is_there(module)}
    if missing:
        raise click.UsageError(
            f"{', '.join(sorted(missing))} not found; run `pip install -c constraints.txt -e '.[bench]'` in a checkout"
        )
    try:
        if is_kept:
            kept()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False


def _results(name: str, rounds: int) -> Measured:
    benchmark = importlib.import_module(f"benchmarks.{name}")
    rows = benchmark.rows(rounds)
    return measured(name, rows, getattr(benchmark, "versions", dict)())


if __name__ == "__main__":
    main()
