"""`agentkit wire`: what went over the wire, as WireCapture recorded it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import click

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.cli.drawing import Cell, Pieces, drawn, grid, styled_line
from agentkit_reporting.cli.reading import whisper
from agentkit_reporting.cli.session_option import session_option
from agentkit_reporting.cli.wire_views import (
    difference_lines,
    exchange_lines,
    exchange_table,
    list_row,
    response_message,
    summary_json,
)
from agentkit_reporting.records.reading import RecordReader, read_records
from agentkit_reporting.terminal import counted, json_text, one_line
from agentkit_reporting.wire.curl import curl_command
from agentkit_reporting.wire.reading import WIRE_TYPES, WireExchange, read_exchanges
from agentkit_reporting.wire.request_diff import MISSING, RequestDifference, request_differences

T = TypeVar("T")

_MAX_TOLD = 5  # bad lines, sessions and the like that are named
_LONGEST_ID = 100


@click.command("wire")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--request", "wanted", metavar="ID|N", help="Show these whole: by number, or by the end of an id."
)
@click.option("--raw", is_flag=True, help="Bodies as they were recorded.")
@click.option("--curl", "as_curl", is_flag=True, help="Print commands that send the requests again.")
@click.option("--diff", "pair", nargs=2, metavar="A B", help="Compare two requests, by number or id.")
@session_option()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    files: tuple[str, ...],
    *,
    wanted: str | None,
    raw: bool,
    as_curl: bool,
    pair: tuple[str, str] | None,
    session_id: str | None,
    as_json: bool,
) -> int:
    """Show the requests that WireCapture recorded in FILE…: files, directories, globs, or - for stdin.

    Without options: a line for each exchange, in order of time. `try` is the attempt that its events count, 2.3 the
    third that the SDK made of the second by itself; without events it is the SDK's.

    A command of --curl takes its credential from ANTHROPIC_API_KEY, or else from ANTHROPIC_AUTH_TOKEN where it was
    sent as a bearer, and sends it to the address that the record names; what was masked or cut is said before it.
    """
    if pair is not None and (wanted is not None or as_curl or raw):
        raise click.UsageError("--diff goes with none of --request, --curl and --raw")
    if raw and wanted is None:
        raise click.UsageError("--raw goes with --request")
    with read_records(list(files), type=WIRE_TYPES) as reader:
        choice = _Choice(session_id, (wanted,) if wanted is not None else pair)
        found = choice.of(read_exchanges(reader))
        if pair is not None:
            shown = _show_difference(list(found), pair, as_json=as_json)
        elif as_curl:
            shown = _show_curl(found, as_json=as_json)
        elif wanted is not None:
            shown = _show_whole(found, raw=raw, as_json=as_json)
        else:
            shown = _show_list(found, as_json=as_json)
        _tell_bad(reader)
    if shown:
        return 0
    missing = choice.missing(", ".join(files))
    if missing is not None:
        whisper(missing)
    return 1


class _Choice:
    """Which exchanges are asked for: of a session, by their names; and what there was, where one was not found."""

    def __init__(self, session_id: str | None, names: Iterable[str] | None) -> None:
        self._session_id = session_id
        self._names = None if names is None else tuple(names)
        self._unfound = list(self._names or ())
        self._numbers: list[int] = []  # of that session
        self._sessions: dict[str, None] = {}  # the first of them
        self._count = 0

    def of(self, exchanges: Iterable[WireExchange]) -> Iterator[WireExchange]:
        """Yield those that are asked for."""
        for exchange in exchanges:
            self._count += 1
            session = exchange.text("session_id") or ""
            if session and len(self._sessions) <= _MAX_TOLD:
                self._sessions[session] = None
            if self._session_id is not None and not session.endswith(self._session_id):
                continue
            self._numbers.append(exchange.number)
            if self._names is None:
                yield exchange
            elif any(map(exchange.goes_by, self._names)):
                self._unfound = [name for name in self._unfound if not exchange.goes_by(name)]
                yield exchange

    def missing(self, files: str) -> str | None:
        """Return what is not there, and what to ask for; None where all was found."""
        if not self._count:
            return f"no exchange in {files}; give a file written by WireCapture"
        if not self._numbers:
            known = ", ".join(one_line(each, _LONGEST_ID) for each in [*self._sessions][:_MAX_TOLD])
            more = ", …" if len(self._sessions) > _MAX_TOLD else ""
            hint = f"give one of {known}{more}, or the end of one" if known else "no exchange there is of one"
            return f"no session {self._session_id} in {files}; {hint}"
        if not self._unfound:
            return None
        place = files if self._session_id is None else f"session {self._session_id} of {files}"
        names, known = " or ".join(self._unfound), _ranges(sorted(self._numbers))
        return f"no exchange {names} in {place}; give {known}, or the end of an id"


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers in words: `1 to 4, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    told = [str(first) if first == last else f"{first} to {last}" for first, last in runs[:_MAX_TOLD]]
    return ", ".join([*told, "…"] if len(runs) > _MAX_TOLD else told)


def _by_time(placed: Iterable[tuple[int, str, T]]) -> list[T]:
    """Return in order of time what is given with its number and its time; what has none stays behind the one before."""
    latest, timed = "", []
    for number, at, each in sorted(placed, key=lambda one: one[0]):
        latest = at or latest
        timed.append((latest, number, each))
    return [each for _, _, each in sorted(timed, key=lambda one: one[:2])]


def _show_list(found: Iterable[WireExchange], *, as_json: bool) -> bool:
    """Print a line for each; their bodies are let go of one by one."""
    if as_json:
        told = _by_time((each.number, each.text("ts") or "", summary_json(each)) for each in found)
        sys.stdout.write(f"{json_text({'exchanges': told})}\n")
        return bool(told)
    rows: list[tuple[Cell, ...]] = _by_time(
        (each.number, each.text("ts") or "", list_row(each)) for each in found
    )
    if rows:
        table = exchange_table(rows)
        sys.stdout.write(drawn(lambda console: console.print(grid(table, console.width))))
        sys.stdout.flush()
        whisper(counted(len(rows), "exchange"))
    return bool(rows)


def _show_whole(found: Iterable[WireExchange], *, raw: bool, as_json: bool) -> bool:
    each: list[WireExchange] = _by_time((one.number, one.text("ts") or "", one) for one in found)
    if as_json:
        told = [
            {
                **summary_json(one),
                "request": one.sent,
                "response": one.response,
                "message": response_message(one.response_body),
            }
            for one in each
        ]
        sys.stdout.write(f"{json_text({'exchanges': told})}\n")
        return bool(told)
    for place, one in enumerate(each):
        if place:
            sys.stdout.write("\n")
        _print(exchange_lines(one, raw=raw))
    return bool(each)


def _show_curl(found: Iterable[WireExchange], *, as_json: bool) -> bool:
    commands = []
    for exchange in found:
        try:
            told = curl_command(exchange)
        except ConfigurationError as error:
            whisper(f"exchange {exchange.number}: {error}")
            continue
        commands.append(
            {"number": exchange.number, "curl": told.text, "lacks": told.lacks, "remarks": told.remarks}
        )
        if not as_json:
            sys.stdout.write(f"# exchange {exchange.number}\n{told}\n")
        for lack in told.lacks:
            whisper(f"exchange {exchange.number}: {lack}")
    if as_json:
        sys.stdout.write(f"{json_text({'commands': commands})}\n")
    return bool(commands)


def _show_difference(found: list[WireExchange], pair: tuple[str, str], *, as_json: bool) -> bool:
    sides = []
    for name in pair:
        named = [each for each in found if each.goes_by(name)]
        if len(named) > 1:
            numbers = ", ".join(str(each.number) for each in named[:_MAX_TOLD])
            raise ConfigurationError(
                f"--diff {name!r} refused because several go by it; give one of {numbers}, …"
            )
        sides += named
    if len(sides) < len(pair):
        return False
    before, after = sides
    differences = list(request_differences(before, after))
    if as_json:
        told = {
            "before": before.number,
            "after": after.number,
            "differences": list(map(_as_json, differences)),
        }
        sys.stdout.write(f"{json_text(told)}\n")
        return True
    _print(difference_lines(before, after, differences))
    if not differences:
        whisper("the two requests are equal")
    return True


def _as_json(difference: RequestDifference) -> dict[str, Any]:
    told: dict[str, Any] = {"path": difference.path}
    if difference.before is not MISSING:
        told["before"] = difference.before
    if difference.after is not MISSING:
        told["after"] = difference.after
    return told


def _print(lines: Iterable[Pieces]) -> None:
    def draw(console: Any) -> None:
        say: Callable[..., None] = console.print
        for pieces in lines:
            say(styled_line(pieces), soft_wrap=True)

    sys.stdout.write(drawn(draw, any_width=True))


def _tell_bad(reader: RecordReader) -> None:
    for bad in reader.bad[:_MAX_TOLD]:
        whisper(f"skipped {bad.path}:{bad.line}: {bad.reason}")
    if reader.bad_count > _MAX_TOLD:
        whisper(f"skipped {reader.bad_count} bad lines in all")
