"""What it costs to read a log of a million events: as events, as totals, and as a report beside DuckDB."""

from __future__ import annotations

import importlib.metadata
import json
import math
import statistics
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import msgspec

from agentkit_loop.events import EVENT_TYPES, PAYLOAD_FIELDS, AgentEvent
from agentkit_reporting import UsageReporter, read_events
from benchmarks.emit import Envelope
from benchmarks.measure import Row, interleave, with_bytecode
from benchmarks.reading_log import write_log

EVENTS = 1_000_000
DUCKDB = "DuckDB, the same figures in one SQL"
_SHARES = ("p50", "p95", "p99")


def rows(rounds: int, *, events: int = EVENTS) -> list[Row]:
    """Return the table's rows, of a log of so many events or a few more."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "sessions.jsonl"
        count = write_log(log, events)
        return [decoded(log, count, rounds), counted(log, count, rounds), *reported(log, count, rounds)]


def versions() -> dict[str, str]:
    """Return the version of the other side."""
    return {"duckdb": importlib.metadata.version("duckdb")}


def decoded(log: Path, events: int, rounds: int) -> Row:
    """Read a log into typed events, against msgspec: a Struct envelope, the payload by its type into attrs."""
    envelope = msgspec.json.Decoder(Envelope).decode
    payloads = {name: msgspec.json.Decoder(_payload(cls)).decode for name, cls in EVENT_TYPES.items()}
    seen = [0, 0]

    def ours() -> None:
        number = 0
        for number, _ in enumerate(read_events(log), 1):  # noqa: B007 - how many there were
            pass
        seen[0] = number

    def reference() -> None:
        number = 0
        with log.open("rb") as file:
            for number, line in enumerate(file, 1):  # noqa: B007 - how many there were
                header = envelope(line)
                payloads[header.type](header.payload)
        seen[1] = number

    def check(number: int) -> None:
        _same(seen[number] == events, f"read {seen[number]} of {events} events")

    mine, theirs = interleave([ours, reference], rounds, check=check)
    against = "msgspec, Struct envelope, attrs payload"
    return Row.of("read_events, an event", mine, theirs, against=against, pieces=events, bound=1.5)


def counted(log: Path, events: int, rounds: int) -> Row:
    """Add up tokens and cost of all events, against reading them alone."""
    totals: list[UsageReporter] = []

    def ours() -> None:
        usage = UsageReporter()
        for event in read_events(log):
            usage.handle_event(event)
        totals[:] = [usage]

    def reference() -> None:
        for _ in read_events(log):
            pass

    def check(number: int) -> None:
        if number == 0:
            again = UsageReporter()
            for event in read_events(log, wants=UsageReporter.wants):
                again.handle_event(event)
            _same(totals.pop() == again, "the totals of all events differ from those of the events wanted")

    mine, theirs = interleave([ours, reference], rounds, check=check)
    return Row.of(
        "UsageReporter, an event", mine, theirs, against="read_events alone", pieces=events, bound=1.6
    )


def reported(log: Path, events: int, rounds: int) -> list[Row]:
    """Report on a log, against DuckDB; each in a process of its own, with its start.

    Bytecode is kept, as it is of what is installed; a first round, which does not count, makes it.
    """
    used: dict[str, list[tuple[float, float]]] = {"report": [], "duckdb": []}
    for timed in (False, *[True] * rounds):
        told = {}
        for side, taken in used.items():
            told[side], cost = run_side(side, log)
            if timed:
                taken.append(cost)
        check_alike(told["report"], told["duckdb"])
    seconds, sizes = ([[each[place] for each in taken] for taken in used.values()] for place in (0, 1))
    time = Row.of("agentkit report, an event", *seconds, against=DUCKDB, pieces=events, bound=1.5)
    memory = Row(
        name="agentkit report, most memory",
        reference=DUCKDB,
        ours=statistics.median(sizes[0]),
        theirs=statistics.median(sizes[1]),
        unit="MB",
        bound=0.34,
        paired=statistics.median(mine / theirs for mine, theirs in zip(*sizes, strict=True)),
        rounds=rounds,
    )
    return [time, memory]


def run_side(side: str, log: Path) -> tuple[dict[str, Any], tuple[float, float]]:
    """Return the figures of one side, and the CPU seconds and megabytes that its process took."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reading_sides", side, str(log)],
        capture_output=True,
        text=True,
        check=True,
        env=with_bytecode(log.parent / "bytecode"),
    )
    used = json.loads(done.stderr.splitlines()[-1])
    return json.loads(done.stdout), (used["cpu_s"], used["peak_mb"])


def check_alike(report: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise AssertionError unless both sides came to the same figures."""
    ours, theirs = _of_report(report), _of_duckdb(asked)
    _same(ours.keys() == theirs.keys(), f"the figures differ: {sorted(ours.keys() ^ theirs.keys())}")
    for key, value in ours.items():
        other = theirs[key]
        is_same = math.isclose(value, other) if isinstance(value, float) else value == other
        _same(is_same, f"{' '.join(key)}: {value} is {other} in the other")


def _same(is_same: bool, otherwise: str) -> None:  # noqa: FBT001 - what an `assert` takes
    if not is_same:
        raise AssertionError(otherwise)


_Figures = dict[tuple[str, ...], Any]


def _of_report(told: dict[str, Any]) -> _Figures:
    found: _Figures = {("parallel",): told["aggregate"]["peak_parallel_invocations"]}
    agents, phases, models, tools = (table["rows"] for table in told["tables"])
    for name, rows_ in (("model", models), ("tool", tools), ("agent", agents), ("phase", phases)):
        for row in rows_:
            _add(found, (name, row["key"][name]), row, [row["duration_ms"][share] for share in _SHARES])
            if "costs" in row:
                found[name, row["key"][name], "cost"] = Decimal(row["costs"]["USD"])
            for count, tokens in row.get("usage", {}).items():
                found[name, row["key"][name], count] = tokens
    whole = {
        "runs": told["aggregate"]["total_invocations"],
        "failed": sum(told["failures"].values()),
        "cancelled": told["cancelled"],
        "tokens": told["tokens"],
    }
    _add(found, ("all", ""), whole, [told["duration_ms"][share] for share in _SHARES])
    found["all", "", "cost"] = Decimal(told["costs"]["USD"])
    found |= {("retried", name): count for name, count in told["requests_retried"].items()}
    return found


def _of_duckdb(told: dict[str, Any]) -> _Figures:
    found: _Figures = {("parallel",): told["parallel"]}
    groups = [
        ("agent", each["agent"], each) if each["agent"] else ("phase", each["phase"], each)
        for each in told["groups"]
        if each["agent"] or each["phase"]
    ]
    groups += [("all", "", each) for each in told["groups"] if not (each["agent"] or each["phase"])]
    groups += [("model", each["key"], each) for each in told["models"]]
    groups += [("tool", each["key"], each) for each in told["tools"]]
    for name, key, each in groups:
        _add(found, (name, key), each, each["ms"])
        if "cost" in each:
            found[name, key, "cost"] = Decimal(each["cost"])
        for count in ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens"):
            if count in each:
                found[name, key, count] = each[count]
    found |= {("retried", each["key"]): each["requests"] for each in told["retried"]}
    return found


def _add(found: _Figures, place: tuple[str, str], row: dict[str, Any], shares: list[float]) -> None:
    for name in ("runs", "calls", "failed", "cancelled", "retried", "tokens"):
        # A table of runs counts retries of runs under another name, and tells of no retried requests.
        if name in row:
            found[*place, name] = row[name]
    found |= {(*place, share): value for share, value in zip(_SHARES, shares, strict=True)}


def _payload(cls: type[AgentEvent]) -> type[Any]:
    """Return an attrs class with the fields of an event's payload, and nothing else."""
    hints = typing.get_type_hints(cls)
    fields = attrs.fields_dict(cls)
    own: Callable[..., Any] = attrs.field
    told = {name: own(default=fields[name].default, type=hints[name]) for name in PAYLOAD_FIELDS[cls]}
    return attrs.make_class(f"{cls.__name__}Payload", told, kw_only=True)
