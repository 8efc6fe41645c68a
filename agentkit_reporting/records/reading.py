"""Records as they are read back: from a store's file with its segments, many files, a directory, a stream."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Collection, Generator, Iterator
from types import TracebackType
from typing import Any, Self

import msgspec

from agentkit_loop.clock import Clock
from agentkit_reporting.log.lines import Batch, Reading
from agentkit_reporting.log.packing import MAX_UNPACKED_BYTES
from agentkit_reporting.log.read import MAX_LINE_BYTES, BadLine, BadLines, all_batches
from agentkit_reporting.log.sources import Source, Sources

_BEHIND_TORN = re.compile(
    rb'(?<![:,\[])\{"'
)  # within a record, as it is written, an object stands behind one of these
_MAX_TRIES = 1_000  # bounds the work that a hostile line can make

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read_records(
    source: Source,
    *,
    type: str | Collection[str] | None = None,  # noqa: A002 - the field's name
    strict: bool = False,
) -> RecordReader:
    """Return the records of a store, one pass, in the order of the files and of their lines.

    source: what `read_events` takes: a file with its rotated segments before it, a packed file, a directory, a glob
    pattern, an open file, "-" for standard input, or several of these. type: those records only whose field `type`
    is this, or one of these. A header is a record like others. strict: the first bad line raises LogError with path
    and line, instead of being skipped and counted. Raises LogError for what does not exist or cannot be read.
    """
    bad = BadLines(strict=strict)
    reading = Reading(MAX_LINE_BYTES, MAX_UNPACKED_BYTES, bad.note, Clock().sleep)
    inputs = Sources(source, reading, waiting=False).take_new()
    types = None if type is None else ((type,) if isinstance(type, str) else tuple(type))
    return RecordReader(all_batches(inputs), bad, types, paths=tuple(each.name for each in inputs))


class RecordReader:
    """The records of a store: iterate over it, once. Made by `read_records`. paths: what is read."""

    def __init__(
        self,
        batches: Generator[Batch],
        bad: BadLines,
        types: tuple[str, ...] | None,
        *,
        paths: tuple[str, ...],
    ) -> None:
        self.paths = paths
        self._bad = bad
        self._records = _records(batches, types)

    def __repr__(self) -> str:
        lines = "line" if self.bad_count == 1 else "lines"
        bad = f", {self.bad_count} bad {lines} so far" if self.bad_count else ""
        return (
            f"<RecordReader of {', '.join(map(repr, self.paths[:3]))}{', …' if self.paths[3:] else ''}{bad}>"
        )

    @property
    def bad(self) -> tuple[BadLine, ...]:
        """The bad lines met so far, the first 1,000 of them."""
        return tuple(self._bad.kept)

    @property
    def bad_count(self) -> int:
        """How many bad lines were met so far."""
        return self._bad.count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._records

    def __next__(self) -> dict[str, Any]:
        return next(self._records)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files that are being read; the reading is over then. At the end it happens by itself."""
        self._records.close()


def _records(batches: Generator[Batch], types: tuple[str, ...] | None) -> Generator[dict[str, Any]]:
    with contextlib.closing(batches):
        for source, first, lines in batches:
            for number, line in enumerate(lines, first):
                if not line or line.isspace():
                    continue
                try:
                    record = _decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    found = behind_torn(line)
                    reason = f"not a record: {error}"
                    source.note(number, reason if found is None else f"{reason}; a whole one found behind it")
                    if found is None:
                        continue
                    record = _decode(found)
                if types is None or record.get("type") in types:
                    yield record


def behind_torn(line: bytes) -> bytes | None:
    """Return the whole record at the end of a line that begins with a torn one, None where there is none.

    A process that died within a line leaves it without its end, and one that has the file open goes on behind it.
    """
    for match in itertools.islice(_BEHIND_TORN.finditer(line, 1), _MAX_TRIES):
        piece = line[match.start() :]
        try:
            _decode(piece)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        return piece
    return None
