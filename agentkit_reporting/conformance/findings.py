"""What a check of a log finds: faults, and what the log has of each session."""

from __future__ import annotations

import attrs

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


@attrs.frozen(kw_only=True)
class SessionCheck:
    """What a log has of one session.

    last_seq: the number of its last event. present: how many of those up to it are there. unlogged: previews
    that were not written, which is harmless. missing: others. not_counted: events that do not count, since a
    run went on before them, or since they are wrong. redactions: events that a redaction changed. open_run:
    the run that has no end, because it crashed or still goes on. is_judged: not by its numbers alone.
    """

    session_id: str
    runs: int
    last_seq: int
    present: int
    unlogged: int
    missing: int
    not_counted: int
    redactions: int
    open_run: str | None
    parent: Parent | None
    faults: int
    is_judged: bool

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing but previews that were not written."""
        return self.missing == 0

    def __str__(self) -> str:
        said = "complete" if self.is_complete else "incomplete"
        notes = [
            f"{self.missing:,} missing" if self.missing else "",
            f"{self.unlogged:,} previews not logged" if self.unlogged else "",
        ]
        told = ", ".join(note for note in notes if note)
        return f"{said}: {self.present} of {self.last_seq}" + (f" ({told})" if told else "")


@attrs.frozen(kw_only=True)
class Conformance:
    """What a check found. faults: the first 1,000, in the order of the log; fault_count: all of them.

    bad_count: lines that are no event; each is a fault. newer_version: the highest version above our own in the
    log: what it says in its own ways is not judged.
    """

    faults: tuple[Fault, ...]
    fault_count: int
    sessions: tuple[SessionCheck, ...]
    bad_count: int
    newer_version: int | None

    @property
    def is_sound(self) -> bool:
        """Whether no rule is broken."""
        return self.fault_count == 0
