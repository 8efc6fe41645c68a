"""One event through the log, usage and transcript, against other ways to write the same fields (DESIGN section 9).

Ours, structlog, logging and loguru write a line of JSON for each and flush it; a span carries the fields as
attributes, and its exporter counts it and throws it away. Before the time counts, each must have written every
event, and the last one with these fields.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from agentkit_loop.content import AppendText
from agentkit_loop.emitter import EventEmitter
from agentkit_reporting import JsonlReporter, TranscriptReporter, UsageReporter
from benchmarks.measure import Row, interleave

__all__ = ["DELTA", "Told", "Way", "check", "versions", "written"]

PIECES = 10_000
DELTA = AppendText("0", "a dozen chars")
EVENT = "content_delta"
STRUCTLOG_BOUND = 0.75
"""What DESIGN section 9 allows; the other references have no bound."""

_PAYLOAD = {"request_id": "request-1", "delta": {"type": "append_text", "part_id": "0", "chunk": DELTA.chunk}}
_SHOWN = ("structlog", "orjson", "loguru", "opentelemetry-sdk")

Told: TypeAlias = tuple[int, dict[str, Any]]
"""How many events were written, and the fields of the last, without its number and time."""


@attrs.frozen
class Way:
    """One of the ways. write: so many events, timed. told: what it wrote since it was made, not timed."""

    name: str
    write: Callable[[int], object]
    told: Callable[[], Told]
    bound: float | None = None


def versions() -> dict[str, str]:
    """Return the versions of the references."""
    return {name: importlib.metadata.version(name) for name in _SHOWN}


def written(rounds: int, pieces: int = PIECES) -> list[Row]:
    """Return a row against each of the references."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = stack.enter_context(contextlib.closing(JsonlReporter(folder / "ours.jsonl")))
        emitter = EventEmitter([log, UsageReporter(), TranscriptReporter()])
        ids = {"session_id": emitter.session_id, "run_id": emitter.run_id}
        ours = Way("ours", lambda count: _write_ours(emitter, count), lambda: _lines(folder / "ours.jsonl"))
        opened = (_structlog, _logging, _loguru)
        references = [stack.enter_context(way(folder / way.__name__, ids)) for way in opened]
        references.append(stack.enter_context(_spans(ids)))
        ways = [ours, *references]
        mine, *theirs = interleave([_bound(way, pieces) for way in ways], rounds)
        check(ways, (rounds + 1) * pieces, {"v": 1, **ids, "turn_id": None, "payload": _PAYLOAD})
        return [
            Row.of("log + usage + transcript", mine, spent, against=way.name, pieces=pieces, bound=way.bound)
            for way, spent in zip(references, theirs, strict=True)
        ]


def check(ways: Sequence[Way], count: int, fields: dict[str, Any]) -> None:
    """Raise AssertionError unless each wrote so many events, the last with these fields."""
    for way in ways:
        if (told := way.told()) != (count, fields):
            raise AssertionError(f"{way.name}: wrote {told}, not {(count, fields)}")


def _bound(way: Way, pieces: int) -> Callable[[], object]:
    return lambda: way.write(pieces)


def _write_ours(emitter: EventEmitter, count: int) -> None:
    tell = emitter.tell_delta
    for _ in range(count):
        tell("request-1", DELTA)


# Each reference below makes its fields where it writes, as code that logs does: a helper's call would count.


def _lines(path: Path, fields_of: Callable[[Any], dict[str, Any]] = dict) -> Told:
    count, line = 0, b"{}"
    with path.open("rb") as lines:
        for count, line in enumerate(lines, 1):  # noqa: B007 - the last is what is wanted
            pass
    fields = fields_of(json.loads(line))
    return count, {name: fields.get(name) for name in ("v", "session_id", "run_id", "turn_id", "payload")}


@contextlib.contextmanager
def _structlog(path: Path, ids: dict[str, str]) -> Iterator[Way]:
    import orjson  # noqa: PLC0415 - a reference that only this needs
    import structlog  # noqa: PLC0415 - as above

    session_id, run_id = ids.values()
    with path.open("wb") as file:
        logger = structlog.wrap_logger(
            structlog.BytesLogger(file),  # which flushes each
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            cache_logger_on_first_use=True,
        )

        def write(count: int) -> None:
            for seq in range(count):
                logger.info(
                    EVENT,
                    v=1,
                    seq=seq,
                    session_id=session_id,
                    run_id=run_id,
                    turn_id=None,
                    payload={
                        "request_id": "request-1",
                        "delta": {"type": "append_text", "part_id": "0", "chunk": DELTA.chunk},
                    },
                )

        yield Way("structlog + orjson, flushed", write, lambda: _lines(path), STRUCTLOG_BOUND)


class _JsonFormatter(logging.Formatter):
    """A line of JSON for a record, as people write one: the time, what was said, and the fields given with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        ts = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat()
        return json.dumps({"ts": ts, "type": record.getMessage(), **record.__dict__["fields"]})


@contextlib.contextmanager
def _logging(path: Path, ids: dict[str, str]) -> Iterator[Way]:
    session_id, run_id = ids.values()
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.FileHandler(path)  # which flushes each
    handler.setFormatter(_JsonFormatter())
    logger.addHandler(handler)

    def write(count: int) -> None:
        for seq in range(count):
            fields = {
                "v": 1,
                "seq": seq,
                "session_id": session_id,
                "run_id": run_id,
                "turn_id": None,
                "payload": {
                    "request_id": "request-1",
                    "delta": {"type": "append_text", "part_id": "0", "chunk": DELTA.chunk},
                },
            }
            logger.info(EVENT, extra={"fields": fields})

    try:
        yield Way("logging + JSON formatter, flushed", write, lambda: _lines(path))
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def _loguru(path: Path, ids: dict[str, str]) -> Iterator[Way]:
    from loguru import logger  # noqa: PLC0415 - a reference that only this needs

    session_id, run_id = ids.values()
    logger.remove()  # it begins with one that writes to standard error
    number = logger.add(path, serialize=True, format="{message}")  # which flushes each

    def write(count: int) -> None:
        for seq in range(count):
            logger.bind(
                v=1,
                seq=seq,
                session_id=session_id,
                run_id=run_id,
                turn_id=None,
                payload={
                    "request_id": "request-1",
                    "delta": {"type": "append_text", "part_id": "0", "chunk": DELTA.chunk},
                },
            ).info(EVENT)

    try:
        yield Way(
            "loguru, serialize to a file", write, lambda: _lines(path, lambda line: line["record"]["extra"])
        )
    finally:
        logger.remove(number)


@contextlib.contextmanager
def _spans(ids: dict[str, str]) -> Iterator[Way]:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - as above
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    class Discarding(SpanExporter):
        count = 0
        last: ReadableSpan

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            self.count += len(spans)
            self.last = spans[-1]
            return SpanExportResult.SUCCESS

    session_id, run_id = ids.values()
    exporter = Discarding()
    provider = TracerProvider(shutdown_on_exit=False)
    # A queue that is long enough for all: one that is full throws spans away, which would cost less.
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=PIECES))
    tracer = provider.get_tracer(__name__)

    def write(count: int) -> None:
        for seq in range(count):
            attributes: dict[str, str | int] = {
                "v": 1,
                "seq": seq,
                "session_id": session_id,
                "run_id": run_id,
                "request_id": "request-1",
                "type": "append_text",
                "part_id": "0",
                "chunk": DELTA.chunk,
            }
            tracer.start_span(EVENT, attributes=attributes).end()
        provider.force_flush()

    def told() -> Told:
        flat = dict(exporter.last.attributes or {})
        delta = {name: flat[name] for name in ("type", "part_id", "chunk")}
        payload = {"request_id": flat["request_id"], "delta": delta}
        fields = {name: flat.get(name) for name in ("v", "session_id", "run_id", "turn_id")}
        return exporter.count, {**fields, "payload": payload}

    try:
        yield Way("OpenTelemetry span, 8 attributes, batched", write, told)
    finally:
        provider.shutdown()
