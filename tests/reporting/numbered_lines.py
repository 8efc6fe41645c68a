"""Numbered events for tests of files: sessions whose events say in which order they were written."""

from __future__ import annotations

import datetime as dt
import io
import os
from pathlib import Path
from typing import Any

from agentkit_loop.events import AgentEvent, CustomEvent
from agentkit_loop.stamping import stamp
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.write import LogWriter

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - what is made in it is a private directory
MEMORY = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
"""Where files that are forced to the disk by the hundred cost nothing; None: where temporary files are."""

MOMENT = dt.datetime(2026, 5, 24, 18, 40, 0, 123456, tzinfo=dt.UTC)


def note(seq: int, session: str = "s", data: Any = None) -> AgentEvent:
    event = CustomEvent(name="note", data=data)
    stamp(event, session, "r", None, seq, MOMENT)
    return event


def record(seq: int, session: str = "s", data: Any = None) -> bytes:
    return encode_event(note(seq, session, data))


def lines(*seqs: int, session: str = "s") -> bytes:
    return b"".join(record(seq, session) + b"\n" for seq in seqs)


def seqs(source: Any, **options: Any) -> list[int]:
    return [event.seq for event in read_events(source, **options)]


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir() if not each.name.endswith(".lock"))


def files(directory: Path) -> list[list[int]]:
    """Return what each file holds by itself."""
    return [seqs(io.BytesIO((directory / name).read_bytes())) for name in names(directory)]


def written(path: Path, *numbers: int, **options: Any) -> None:
    with LogWriter(path, **options) as writer:
        for number in numbers:
            writer.write(record(number))


LENGTH = len(record(1)) + 1
"""Bytes of a line up to number 9, with its end."""
