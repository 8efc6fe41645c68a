"""What an event costs: made, stamped, told, encoded, written, and read back (DESIGN section 9)."""

from __future__ import annotations

import datetime as dt
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import attrs
import msgspec

from agentkit_loop.content import AppendText
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.observers import LoopObserver
from agentkit_loop.stamping import make_delta, stamp
from agentkit_reporting import JsonlReporter, decode_event, encode_event
from benchmarks.event_peers import DELTA, versions, written
from benchmarks.measure import Row, compare

__all__ = ["rows", "versions"]

LOGGER = logging.getLogger(__name__)
PIECES = 20_000
NOW = dt.datetime(2026, 5, 24, 18, 40, 0, 123456, tzinfo=dt.UTC)


class Nothing(LoopObserver):
    """An observer that does nothing."""

    def handle_event(self, event: AgentEvent) -> None:
        """Do nothing."""


def rows(rounds: int) -> list[Row]:
    """Return the table's rows."""
    return [dispatch(rounds), *representation(rounds), write_floor(rounds), *written(rounds), decoded(rounds)]


def dispatch(rounds: int) -> Row:
    """Create, stamp and dispatch to three observers; against a function that calls three bound methods."""
    emitter = EventEmitter([Nothing(), Nothing(), Nothing()])
    handlers = [Nothing().handle_event for _ in range(3)]
    event: Any = make_delta("request-1", DELTA, "s", "r", "turn-1", 1, NOW)

    def call_all(event: AgentEvent) -> None:
        for handle in handlers:
            try:
                handle(event)
            except Exception:
                LOGGER.exception("an observer failed")

    def ours() -> None:
        tell = emitter.tell_delta
        for _ in range(PIECES):
            tell("request-1", DELTA)

    def reference() -> None:
        for _ in range(PIECES):
            call_all(event)

    return compare(
        "make, stamp, dispatch to 3",
        ours,
        reference,
        against="3 bound methods, each in try/except",
        bound=8.0,
        pieces=PIECES,
        rounds=rounds,
    )


def representation(rounds: int) -> list[Row]:
    """Ways to get a stamped event, against an attrs class that is made with its header at once."""

    def at_once() -> None:
        for number in range(PIECES):
            ContentDelta(
                session_id="s",
                run_id="r",
                turn_id="t",
                seq=number,
                timestamp=NOW,
                request_id="q",
                delta=DELTA,
            )

    def by_twin() -> None:
        for number in range(PIECES):
            make_delta("q", DELTA, "s", "r", "t", number, NOW)

    def stamped() -> None:
        for number in range(PIECES):
            stamp(ContentDelta(request_id="q", delta=DELTA), "s", "r", "t", number, NOW)

    def evolved() -> None:
        for number in range(PIECES):
            attrs.evolve(
                ContentDelta(request_id="q", delta=DELTA),
                session_id="s",
                run_id="r",
                turn_id="t",
                seq=number,
                timestamp=NOW,
            )

    ways = {
        "event by its twin (deltas)": by_twin,
        "event made, then stamped": stamped,
        "event, attrs.evolve": evolved,
    }
    return [
        compare(name, way, at_once, against="attrs.frozen, header at once", pieces=PIECES, rounds=rounds)
        for name, way in ways.items()
    ]


class Envelope(msgspec.Struct):
    """A line of a log as the reference decodes it: the header, and the payload still as text."""

    v: int
    seq: int
    ts: dt.datetime
    type: str
    session_id: str
    run_id: str
    turn_id: str | None
    payload: msgspec.Raw


@attrs.define
class _Payload:
    request_id: str
    delta: AppendText


def decoded(rounds: int) -> Row:
    """Decode a line into a typed event, against msgspec: a Struct envelope, the payload by its type into attrs."""
    line = encode_event(make_delta("request-1", DELTA, "ses_1", "run_1", "turn-1", 1, NOW))
    envelope = msgspec.json.Decoder(Envelope).decode
    payloads = {"content_delta": msgspec.json.Decoder(_Payload).decode}

    def ours() -> None:
        for _ in range(PIECES):
            decode_event(line)

    def reference() -> None:
        for _ in range(PIECES):
            header = envelope(line)
            payloads[header.type](header.payload)

    return compare(
        "decode a line",
        ours,
        reference,
        against="msgspec, Struct envelope, attrs payload",
        bound=1.5,
        pieces=PIECES,
        rounds=rounds,
    )


def write_floor(rounds: int) -> Row:
    """Write one line, against a bare write of the same bytes."""
    line = encode_event(make_delta("request-1", DELTA, "ses_1", "run_1", "turn-1", 1, NOW)) + b"\n"
    with tempfile.TemporaryDirectory() as folder:
        descriptor = os.open(Path(folder) / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        log = JsonlReporter(Path(folder) / "ours.jsonl")
        event = make_delta("request-1", DELTA, "ses_1", "run_1", "turn-1", 1, NOW)

        def ours() -> None:
            for _ in range(PIECES):
                log.handle_event(event)

        def reference() -> None:
            for _ in range(PIECES):
                os.write(descriptor, line)

        row = compare(
            "one line of the log", ours, reference, against="os.write", pieces=PIECES, rounds=rounds
        )
        log.close()
        os.close(descriptor)
        return row
