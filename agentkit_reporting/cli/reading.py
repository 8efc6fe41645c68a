"""What commands share: the host's price list, and what is said beside the data."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from agentkit_loop.errors import ConfigurationError, ResumeError
from agentkit_loop.events import AgentEvent
from agentkit_reporting.log.read import BadLine, LogReader
from agentkit_reporting.terminal import counted, visible

_MAX_TOLD = 5  # bad lines that are named; the rest is counted

_MAX_NAMED = 5  # sessions that are named in a refusal

_NEAR = Path("prices.toml")

_REMEDIES = {"say which by session_id": "say which by --session", ", or force it": ", or --force"}
"""What errors name in Python's words, and what it is here."""


class KeptEvents:
    """The events of a log, read once and kept; and what its reader says of it."""

    def __init__(self, reader: LogReader) -> None:
        self._events: list[tuple[AgentEvent, int]] = [(event, reader.bad_count) for event in reader]
        self.bad_count = 0
        self.newer_version, self.bad = reader.newer_version, reader.bad

    def __iter__(self) -> Iterator[AgentEvent]:
        for event, bad_count in self._events:
            self.bad_count = bad_count  # counted anew, as if read: it matters what stands before which event
            yield event

    @property
    def is_empty(self) -> bool:
        """Whether there is no event."""
        return not self._events

    def holds(self, session_id: str) -> bool:
        """Whether there is an event of this session."""
        return any(event.session_id == session_id for event, _ in self._events)

    def session_of(self, given: str | None) -> str | None:
        """Return the session whose id ends so, as it is given where there is none; raises ConfigurationError."""
        ids = dict.fromkeys(event.session_id for event, _ in self._events)
        if given is None or given in ids:
            return given
        found = [session_id for session_id in ids if session_id.endswith(given)]
        if len(found) > 1:
            more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
            raise ConfigurationError(
                f"--session {given!r} refused because several ids end so: {', '.join(found[:_MAX_NAMED])}{more}; "
                "give more of it"
            )
        return found[0] if found else given


class ReaderGoneError(BrokenPipeError):
    """Nobody reads the output any more, and yet there is an exit code to give. code: that one."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


@contextlib.contextmanager
def in_words_of_options() -> Iterator[None]:
    """Say of a session that cannot be read back which option would help."""
    try:
        yield
    except ResumeError as error:
        text = str(error)
        for remedy, ours in _REMEDIES.items():
            text = text.replace(remedy, ours) if text.endswith(remedy) else text
        raise ResumeError(text) from error


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """Let the garbage collector look a hundred times less often: what is read makes no cycles and is soon gone.

    It saves a fortieth of a long reading. What is there at the end counts as old: to look through it takes a hundredth.
    """
    youngest, *others = gc.get_threshold()
    gc.set_threshold(100 * youngest, *others)
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else it would let go what somebody else froze
            gc.freeze()
            gc.unfreeze()
        gc.set_threshold(youngest, *others)


def own_prices(given: Path | None) -> Path | None:
    """Return the host's price list: the one given, else AGENTKIT_PRICES, else ./prices.toml if it is there."""
    named = given or os.environ.get("AGENTKIT_PRICES")
    if named:
        return Path(named)
    return _NEAR if _NEAR.is_file() else None


def tell_of_bad_lines(reader: LogReader) -> None:
    """Say on stderr what was skipped and what is not understood; of a file without any event the first line only.

    Files of other records beside logs are named, and not line by line.
    """
    left_out = reader.left_out if reader.line else ()
    bad = [each for each in reader.bad if each.path not in left_out]
    tell_of_skipped(
        bad if reader.line else bad[:1],
        reader.bad_count - reader.left_out_count if reader.line else 0,
        left_out=left_out,
        newer_version=reader.newer_version,
    )


def tell_of_skipped(
    bad: Sequence[BadLine], count: int, *, left_out: Sequence[str], newer_version: int | None
) -> None:
    """Say on stderr which lines are bad, the first of `count`; which files were left out; that a log is newer."""
    if left_out:
        whisper(left_out_text(left_out))
    for each in bad[:_MAX_TOLD]:
        whisper(f"skipped {each.path}:{each.line}: {each.reason}")
    if count > _MAX_TOLD:
        whisper(f"skipped {count} bad lines in all")
    if newer_version is not None:
        whisper(f"the log is of a newer version ({newer_version}); what is not known here is shown by name")


def left_out_text(paths: Sequence[str]) -> str:
    """Say which files hold records of another kind, no log, and were left out."""
    names = ", ".join(Path(path).name for path in paths[:_MAX_TOLD])
    more = f" and {len(paths) - _MAX_TOLD:,} more" if len(paths) > _MAX_TOLD else ""
    return f"left out {counted(len(paths), 'file')} of other records: {names}{more}"


def whisper(text: str) -> None:
    """Say something on stderr that is not the data."""
    sys.stderr.write(f"agentkit: {visible(text)}\n")
