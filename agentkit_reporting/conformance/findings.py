"""What a check of a log finds: faults, and what the log has of each session."""

from __future__ import annotations

import attrs
import msgspec

from agentkit_loop.content import Parent


@attrs.define
class Fault:
    """One broken rule. seq, type: of the event, None for a line that is none. more: others that are like it.

    session_id, type and text may be anything that a log holds; who prints them makes them visible.
    """

    path: str
    line: int
    text: str
    session_id: str | None = None
    seq: int | None = None
    type: str | None = None
    more: int = 0

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}: "
        if self.session_id is not None:
            where += f"session {self.session_id}, event {self.seq} ({self.type}): "
        return f"{where}{self.text}" + (f" (and {self.more:,} more like it)" if self.more else "")


class SessionCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What a log has of one session.

    last_seq: the number of its last event. present: how many of those up to it are there. unlogged: previews
    that were not written, which is harmless. missing: others. removed: those
    before the first one, which the log's retention took away. not_counted: events that do not count, since a
    run went on before them, or since they are wrong. redactions: events that a redaction changed. open_run:
    the run that has no end, because it crashed or still goes on. is_judged: not by its numbers alone.
    """

    session_id: str
    runs: int
    last_seq: int
    present: int
    unlogged: int
    missing: int
    removed: int
    not_counted: int
    redactions: int
    open_run: str | None
    parent: Parent | None
    faults: int
    is_judged: bool

    @property
    def is_complete(self) -> bool:
        """Whether its last run has ended, and nothing is missing but previews that were not written."""
        return self.missing == 0 and self.removed == 0 and self.open_run is None

    def __str__(self) -> str:
        return _completeness(
            self.present,
            self.last_seq,
            self.missing,
            self.unlogged,
            is_open=self.open_run is not None,
            removed=self.removed,
        )


def _completeness(present: int, of: int, missing: int, unlogged: int, *, is_open: bool, removed: int) -> str:
    """Return what a log says of itself: `complete: 412 of 412`, or `412 of 412 so far` where a run has no end."""
    said = "incomplete: " if missing else "" if is_open or removed else "complete: "
    so_far = " so far" if is_open and not missing else ""
    previews = "preview" if unlogged == 1 else "previews"
    notes = [
        f"{missing:,} missing" if missing else "",
        f"{unlogged:,} {previews} not logged" if unlogged else "",
        f"{removed:,} removed by retention" if removed else "",
    ]
    told = ", ".join(note for note in notes if note)
    return f"{said}{present:,} of {of:,}{so_far}" + (f" ({told})" if told else "")


@attrs.frozen(kw_only=True)
class Conformance:
    """What a check found. faults: the first 1,000, in the order of the log; fault_count: all of them.

    bad_count: lines that are no event; each is a fault. newer_version: the highest version above our own in the
    log: what it says in its own ways is not judged. left_out: files of other records beside the logs, which hold no
    event and are not judged.
    """

    faults: tuple[Fault, ...]
    fault_count: int
    sessions: tuple[SessionCheck, ...]
    bad_count: int
    newer_version: int | None
    left_out: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether no rule is broken."""
        return self.fault_count == 0

    @property
    def is_complete(self) -> bool:
        """Whether every session is complete."""
        return all(session.is_complete for session in self.sessions)

    def __str__(self) -> str:
        sessions, count = self.sessions, self.fault_count
        faults = f"{count:,} fault{'' if count == 1 else 's'}; " if count else ""
        return faults + _completeness(
            sum(session.present for session in sessions),
            sum(session.last_seq for session in sessions),
            sum(session.missing for session in sessions),
            sum(session.unlogged for session in sessions),
            removed=sum(session.removed for session in sessions),
            is_open=any(session.open_run is not None for session in sessions),
        )
