"""Pieces of a text that came with one read of the stream, as one: what observers that take them together are told.

A read of a socket often holds many events of a stream. Each piece is an event of its own, with its own number, however
it is told; but one time for all of them is the truth, and one look for secrets, one line's head and one write to
the log cost a fraction of as many (`python -m benchmarks loop`, "whole"). See `BatchObserver`.
"""

from __future__ import annotations

import datetime as dt

from agentkit_loop.content import AppendText
from agentkit_loop.events import ContentDelta
from agentkit_loop.stamping import make_delta

__all__ = ["DeltaBatch"]


class DeltaBatch:
    """Events that follow each other and differ in nothing but their numbers and pieces: all are AppendText of one part.

    seq: of the first; the others count on. chunks: the pieces, at least one. All else is as in each of the events.
    """

    __slots__ = ("chunks", "part_id", "request_id", "run_id", "seq", "session_id", "timestamp", "turn_id")

    def __init__(
        self,
        session_id: str,
        run_id: str,
        turn_id: str | None,
        seq: int,
        timestamp: dt.datetime,
        *,
        request_id: str,
        part_id: str,
        chunks: list[str],
    ) -> None:
        self.session_id = session_id
        self.run_id = run_id
        self.turn_id = turn_id
        self.seq = seq
        self.timestamp = timestamp
        self.request_id = request_id
        self.part_id = part_id
        self.chunks = chunks

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def last_seq(self) -> int:
        """The number of the last event."""
        return self.seq + len(self.chunks) - 1

    def event(self, number: int, chunk: str) -> ContentDelta:
        """Return the event of so many from 0, or one like it with another piece."""
        return make_delta(
            self.request_id,
            AppendText(self.part_id, chunk),
            self.session_id,
            self.run_id,
            self.turn_id,
            self.seq + number,
            self.timestamp,
        )

    def events(self) -> list[ContentDelta]:
        """Return the events, in order."""
        return [self.event(number, chunk) for number, chunk in enumerate(self.chunks)]
