"""What remote storage has of a log: a small file beside it, `.run.jsonl.remote`.

It is there before the first segment is, and names the log: by a random id, so that no two logs share an object,
whatever their paths and hosts are called, and so that what is uploaded twice gets the same name. As long as it is
there no segment is removed that remote storage does not have, whoever cleans up; who wants that no more removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
from pathlib import Path

import attrs
import msgspec

from agentkit_reporting.log.locks import make_private

_MAX_BYTES = 2**27  # more than all numbers that there are


@attrs.frozen
class Active:
    """What was uploaded of the file that is written.

    number, suffix: of the segment whose name it has there. size: how many bytes it was. head: a digest of what it
    begins with.
    """

    number: int
    suffix: str
    size: int
    head: str


@attrs.frozen
class Uploaded:
    """What remote storage has. id: the log's own. numbers: of the segments, whole. active: None before that."""

    id: str
    numbers: frozenset[int] = frozenset()
    active: Active | None = None


def note_path(log: Path) -> Path:
    """Return where that is written down."""
    return log.with_name(f".{log.name}.remote")


def read_uploaded(log: Path) -> Uploaded | None:
    """Return what remote storage has of a log; None for one that is not uploaded. Raises OSError.

    A file that says nothing says that it has no segment.
    """
    try:
        with note_path(log).open("rb") as file:
            text = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text, type=Uploaded)
    return Uploaded("")


def begin_uploaded(log: Path) -> Uploaded:
    """Return what remote storage has of a log, named if it was not; raises OSError."""
    while True:
        found = read_uploaded(log)
        if found is not None and found.id:
            return found
        write_uploaded(log, new_uploaded(), is_new=found is None)


def new_uploaded() -> Uploaded:
    """Return the beginning of a log that has nothing there."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:40].strip("-")  # for people
    return Uploaded(f"{host or 'host'}-{secrets.token_hex(8)}")


def write_uploaded(log: Path, uploaded: Uploaded, *, is_new: bool = False, is_alone: bool = False) -> None:
    """Write it down, whole or not at all; raises OSError.

    is_new: only where nothing is written yet. is_alone: nobody else does so now, so that what a crash left unfinished
    is written over.
    """
    place = note_path(log)
    unfinished = place.with_name(f"{place.name}.{'' if is_alone else secrets.token_hex(4)}.tmp")
    if is_alone:
        unfinished.unlink(missing_ok=True)
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            make_private(fd)
            file.write(msgspec.json.encode(uploaded, order="deterministic") + b"\n")
        if is_new:
            try:
                os.link(
                    unfinished, place
                )  # not a rename: another process may be quicker, and its id is the log's
            except OSError:
                if not place.exists():  # no links here
                    unfinished.rename(place)
        else:
            unfinished.rename(place)
    finally:
        unfinished.unlink(missing_ok=True)


def uploaded_numbers(log: Path) -> frozenset[int] | None:
    """Return the numbers of segments that remote storage has; None for a log that is not uploaded. Raises OSError."""
    found = read_uploaded(log)
    return None if found is None else found.numbers
