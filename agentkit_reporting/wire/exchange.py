"""One request and its response while they pass: what is noted of them on the way, and nothing more.

This is the hot path: a chunk costs a look at a number and, up to the bound, a copy. All that takes time (masking,
encoding, writing) is done later, by another thread (`writing.py`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
from collections.abc import Callable
from typing import Any

import attrs

from agentkit_loop.ids import new_id
from agentkit_loop.models.current_request import CurrentRequest
from agentkit_reporting.wire.credentials import Headers

__all__ = ["Exchange", "SentRequest"]


@attrs.frozen(kw_only=True)
class SentRequest:
    """A request as far as it is known. content: its body; None where it is a stream, or not known. size: of it."""

    method: str
    url: str
    headers: Headers
    content: bytes | None
    size: int | None = None


class Exchange:
    """What is noted of one attempt.

    attempt: the SDK's, from 1. via: "middleware" or "transport". sent: the request as it left, where that is known
    only afterwards. outcome: None while it goes on. secrets: what is masked wherever it stands.
    """

    def __init__(
        self,
        *,
        most: int,
        attempt: int,
        via: str,
        event: CurrentRequest | None,
        now: dt.datetime,
        monotonic: Callable[[], float],
        told: Callable[[Exchange], None],
    ) -> None:
        self.id = new_id("wx")
        self.attempt = attempt
        self.via = via
        self.event = event
        self.started_at = now
        self.request: SentRequest | None = None
        self.sent: SentRequest | None = None
        self.secrets: frozenset[str] = frozenset()
        self.status: int | None = None
        self.http_version: str | None = None
        self.headers: Headers = ()
        self.is_unpacked = False  # the content encoding was undone before the body came here
        self.kept: bytearray | None = bytearray()  # None: given up, since too much waits to be written
        self.size = 0
        self.chunks = 0
        self.head_ms: float | None = None
        self.first_byte_ms: float | None = None
        self.duration_ms: float | None = None
        self.outcome: str | None = None
        self.error: BaseException | None = None
        self._room = most
        self._monotonic = monotonic
        self._started = monotonic()
        self._told = told
        self._ending = threading.RLock()  # re-entrant: a signal's handler may close what it interrupted
        self._pid = os.getpid()

    def passed_ms(self) -> float:
        """Return the time since the beginning."""
        return (self._monotonic() - self._started) * 1e3

    def note_head(self, status: int, headers: Headers, http_version: str | None) -> None:
        """Take note of the head of the response."""
        self.head_ms = self.passed_ms()
        self.status, self.headers, self.http_version = status, headers, http_version

    def note_chunk(self, chunk: Any) -> None:
        """Take note of a piece of the response's body; never raises."""
        try:
            if self.first_byte_ms is None and chunk:
                self.first_byte_ms = self.passed_ms()
            self.size += len(chunk)
            self.chunks += 1
            room = self._room
            if room > 0 and self.kept is not None:
                self.kept += chunk if len(chunk) <= room else chunk[:room]
                self._room = room - len(chunk)
        except Exception:  # noqa: BLE001 - no memory, a clock of the host's: the stream goes on, and its body is not told
            self.kept = None

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        """Take note of the end; the first one counts."""
        with self._ending:
            if self.outcome is not None or self._pid != os.getpid():  # a fork's child has a copy of it
                return
            self.outcome, self.error = outcome, error
            with contextlib.suppress(Exception):  # a clock of the host's
                self.duration_ms = self.passed_ms()
        self._told(self)

    def let_go(self) -> None:
        """Forget what was recorded: who keeps a response keeps the exchange, through its stream."""
        self.kept = self.request = self.sent = self.error = None
