"""What remote storage has of a log: a small file beside it, `.run.jsonl.remote`.

It is there before the first segment is, and names the log: by a random id, so that no two logs share an object,
whatever their paths and hosts are called, and so that what is uploaded twice gets the same name. Who copies a log with
this file, to go on with both, removes it from the copy: they would write over each other's objects. As long as it is
there no segment is removed that remote storage does not have, whoever cleans up; who wants that no more removes it.
"""

from __future__ import annotations

import contextlib
import errno
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
class Begun:
    """What was uploaded of a file that may grow: of the one that is written, of a segment that somebody has open.

    number, suffix: of the segment whose name it has there. size: how many bytes it was. head: a digest of what it
    begins with.
    """

    number: int
    suffix: str
    size: int
    head: str


@attrs.frozen
class Uploaded:
    """What remote storage has. id: the log's own. numbers: of the segments, whole. begun: of what is not."""

    id: str
    numbers: frozenset[int] = frozenset()
    begun: tuple[Begun, ...] = ()

    def begun_of(self, number: int) -> Begun | None:
        """Return what was uploaded of a file that may grow, None for nothing."""
        return next((each for each in self.begun if each.number == number), None)


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
    is written over; and so is the file itself where the disk is full, not whole then if a crash comes.
    """
    place = note_path(log)
    unfinished = place.with_name(f"{place.name}.{'' if is_alone else secrets.token_hex(4)}.tmp")
    text = msgspec.json.encode(uploaded, order="deterministic") + b"\n"
    try:
        _write_whole(text, place, unfinished, is_new=is_new, is_alone=is_alone)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not is_alone:
            raise
        _write_over(text, place)  # what may be removed then makes room


def _write_over(text: bytes, place: Path) -> None:
    with place.open("r+b", buffering=0) as file:
        file.write(text)
        file.truncate()


def _write_whole(text: bytes, place: Path, unfinished: Path, *, is_new: bool, is_alone: bool) -> None:
    if is_alone:
        unfinished.unlink(missing_ok=True)
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            make_private(fd)
            file.write(text)
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
