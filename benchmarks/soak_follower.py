"""The reader of the soak: follows the log in a process of its own and counts what it finds.

`python -m benchmarks.soak_follower LOG` prints a line of JSON every second and, once it was told on its standard input
how many events there are, when it has read them all. Sessions are named by worker and number, and the events of each
are numbered: with one pair of numbers a worker it knows of every event whether one before it was lost, and whether it
was read before.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path

import attrs
import msgspec

from agentkit_loop.events import AgentEvent, RunFinished
from agentkit_reporting import encode_event, read_events
from agentkit_reporting.log.read import LogReader
from benchmarks.soak_sessions import SECRET

PATIENCE_S = 60.0
"""How long it waits at the end for an event that does not come."""

_SECRET = SECRET[-20:].encode()
_PAGE = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen(kw_only=True)
class Process:
    """What a process holds. rss: bytes."""

    rss: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Process:
        """Look at this process."""
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return cls(
            rss=resident * _PAGE,
            descriptors=len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - less the one that looks
            threads=threading.active_count(),
        )


@attrs.define(kw_only=True)
class Counts:
    """What was found in the log so far. bad: lines that are no events, and segments that went unread."""

    read: int = 0
    lost: int = 0
    doubled: int = 0
    masked: int = 0
    leaked: int = 0
    sessions: int = 0
    bad: int = 0
    process: Process = attrs.Factory(Process.now)


class Follower:
    """Counts events, which it must get in the order of each worker."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._places: dict[
            str, tuple[int, int]
        ] = {}  # by worker: the session, and the event of it, that was last

    def take(self, event: AgentEvent) -> None:
        """Count one event."""
        counts = self.counts
        counts.read += 1
        worker, _, number_text = event.session_id.partition("-")
        number = int(number_text)
        session, seq = self._places.get(worker, (1, 0))
        if number < session or (number == session and event.seq <= seq):
            counts.doubled += 1
            return
        # Of a session that did not end, and of one that never came, nobody knows how many events are missing: one.
        counts.lost += event.seq - 1 - seq if number == session else event.seq - 1 + number - session
        is_last = isinstance(event, RunFinished)
        counts.sessions += is_last
        self._places[worker] = (number + 1, 0) if is_last else (number, event.seq)
        if event.unknown_fields is not None and "redactions" in event.unknown_fields:
            counts.masked += 1
        if event.type == "content_delta" and _SECRET in encode_event(event):
            counts.leaked += 1


def _end(reader: LogReader, follower: Follower) -> None:
    """Close the reader when it has read as many events as standard input says, or none for long."""
    expected = int(sys.stdin.readline() or "0")
    seen, since = -1, time.monotonic()
    while follower.counts.read < expected and time.monotonic() - since < PATIENCE_S:
        if follower.counts.read != seen:
            seen, since = follower.counts.read, time.monotonic()
        time.sleep(0.05)
    time.sleep(1.0)  # what is doubled comes after that
    reader.close()


def main(log: str) -> None:
    """Follow the log."""
    reader, follower = read_events(log, follow=True), Follower()
    threading.Thread(target=_end, args=(reader, follower), daemon=True).start()
    due = time.monotonic()
    for event in reader:
        follower.take(event)
        if time.monotonic() >= due:
            due = time.monotonic() + 1.0
            _tell(reader, follower)
    _tell(reader, follower)


def _tell(reader: LogReader, follower: Follower) -> None:
    follower.counts.bad = reader.bad_count
    follower.counts.process = Process.now()
    sys.stdout.write(msgspec.json.encode(follower.counts).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
