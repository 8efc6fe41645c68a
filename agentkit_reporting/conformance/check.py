"""A whole log under every rule: all sessions in it, sub-agents and the runs of resumes too.

One pass over the log; a second one only where a process that was taken for dead had written on, before the resume
that supersedes it. Whatever the bytes are, nothing is raised but LogError for what cannot be read at all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from agentkit_loop.content import Parent
from agentkit_loop.errors import LogError
from agentkit_loop.events import AgentEvent, RunStarted, is_redacted
from agentkit_reporting.conformance.findings import Conformance, Fault, SessionCheck
from agentkit_reporting.conformance.numbers import Numbers, Place, Rewind, Verdict
from agentkit_reporting.conformance.session import SessionRules
from agentkit_reporting.log.read import MAX_KEPT_BAD, LogReader, read_events
from agentkit_reporting.log.segments import is_trimmed, log_of
from agentkit_reporting.log.sources import Source

MAX_KEPT_FAULTS = 1_000
"""How many faults are kept with their places; the rest is only counted."""

_MOST_TEXT = 400  # characters of a fault: it may quote ids and names that a log made up
_MOST_LIVES = 8  # sessions of one id that are followed at once

_Rewinds: TypeAlias = dict[tuple[str, int], tuple[Rewind, ...]]
"""By session id, and how often the id had been used before."""


def check_log(source: Source) -> Conformance:
    """Judge a log by every rule of the contract: files, directories, patterns, open files, or "-".

    A session may be spread over several files, and sub-agents may have files of their own. Of several files
    that are given by name, those that begin with the same session are read in the order of its numbers, and
    one that is given twice is read once.

    Raises LogError for what does not exist, cannot be read or holds no log.
    """
    source = _ordered(source)
    first = _Pass(read_events(source), {})
    first.run()
    rewinds = first.rewinds()
    if not rewinds:
        return first.result()
    if not _can_be_read_again(source):
        first.refuse(rewinds)
        return first.result()
    second = _Pass(read_events(source), rewinds)
    second.run()
    return second.result()


# --- the files


def _can_be_read_again(source: object) -> bool:
    if isinstance(source, (str, os.PathLike)):
        # A pipe may have a name too (/dev/fd/63); what does not exist is a pattern.
        place = Path(source)
        return source != "-" and (place.is_file() or place.is_dir() or not place.exists())
    return isinstance(source, Sequence) and all(map(_can_be_read_again, source))


def _ordered(source: Source) -> Source:
    """Return several files in the order in which they continue one another, each once."""
    if isinstance(source, (str, bytes, os.PathLike)) or hasattr(source, "read"):
        return source
    if not isinstance(source, Iterable):
        return source  # refused by the reader
    given = list({_identity(each): each for each in source}.values())
    if len(given) == 1:
        return given
    groups: dict[str, list[tuple[int, int]]] = {}  # by session: its number in a file, and the file's place
    for place, each in enumerate(given):
        event = _first_event(each)
        if event is not None:
            groups.setdefault(event.session_id, []).append((event.seq, place))
    ordered = given.copy()
    for group in groups.values():
        places = [place for _, place in group]
        for place, (_, taken) in zip(places, sorted(group), strict=True):
            ordered[place] = given[taken]
    return ordered


def _identity(source: object) -> object:
    if isinstance(source, (str, os.PathLike)) and source != "-":
        return os.path.realpath(source)
    return id(source)


def _first_event(source: Any) -> AgentEvent | None:
    """Return what a file begins with; None for a directory, a pipe, or what cannot be read."""
    if not isinstance(source, (str, os.PathLike)) or not Path(source).is_file():
        return None
    with contextlib.suppress(LogError), read_events(source) as reader:
        return next(iter(reader), None)
    return None


# --- one pass


class _Session:
    """A session under judgement.

    life: how often its id had been used before. child: its first beginning as a sub-agent. take_next: of its rules.
    """

    __slots__ = (
        "_owner",
        "before",
        "child",
        "faults",
        "id",
        "life",
        "numbers",
        "redactions",
        "rules",
        "take_next",
    )

    def __init__(self, session_id: str, owner: _Pass, before: _Session | None, rewinds: _Rewinds) -> None:
        self.id = session_id
        self.before = before
        self.life: int = 0 if before is None else before.life + 1
        self.faults = 0
        self.redactions = 0
        self.child: tuple[RunStarted, Parent, Place] | None = None
        self._owner = owner
        self.rules = SessionRules(self.tell)
        self.rules.book.may_be_doubted = self._may_be_doubted
        self.take_next = self.rules.take_next
        ahead = rewinds.get((session_id, self.life), ())
        self.numbers = Numbers(self.rules.book, self.rules.runs, self.tell, ahead)
        self.numbers.is_trimmed = owner.is_trimmed

    def tell(self, event: AgentEvent, text: str, place: Place | None = None) -> None:
        """Hear of a fault."""
        self.rules.book.is_doubted = True
        self._owner.tell(self, event, text, place)

    def _may_be_doubted(self) -> bool:
        """Whether the log says, in ways that are not known here, more than was read; or two processes wrote it."""
        return self._owner.is_newer or self.numbers.is_doubtful

    def forget_oldest(self) -> None:
        """Cut the chain of sessions with this id, so that a log cannot make it long."""
        session = self
        for _ in range(_MOST_LIVES):
            if session.before is None:
                return
            session = session.before
        session.before = None


class _Pass:
    """Reads a log once."""

    def __init__(self, reader: LogReader, rewinds: _Rewinds) -> None:
        self._reader = reader
        self._rewinds = rewinds
        self._sessions: dict[str, _Session] = {}  # the last of each id
        self._all: list[_Session] = []
        self._faults: list[Fault] = []
        self._fault_count = 0
        self._alike: dict[tuple[int, str], Fault] = {}  # the faults that are kept, by session and text
        self._bad: list[Fault] = []  # lines that are no events, as many as the reader keeps
        self._bad_told = 0
        self._paths: set[str] = set()  # of what has events
        self._trimmed: dict[Path, bool] = {}  # by log

    def run(self) -> None:
        """Judge everything that is there."""
        reader, sessions = self._reader, self._sessions
        get = sessions.get
        path = ""
        for event in reader:
            if reader.path is not path:
                path = reader.path
                self._paths.add(path)
            bad_count = reader.bad_count
            if bad_count != self._bad_told:
                self._tell_bad()
            session = get(event.session_id)
            if session is not None and session.take_next(event):
                numbers = session.numbers
                numbers.count += 1
                numbers.bad_count = bad_count
            else:
                session = self._place(session or self._begin(event.session_id, None), event)
            if event.unknown_fields is not None and session is not None and is_redacted(event):
                session.redactions += 1
                session.rules.book.is_doubted = True
        self._tell_bad()
        for session in self._all:
            session.numbers.settle()
        self._judge_children()

    @property
    def is_newer(self) -> bool:
        """Whether a line of a newer version was met."""
        return self._reader.newer_version is not None

    def is_trimmed(self, path: str) -> bool:
        """Whether the first segments of the log that a file belongs to are gone: its retention removed them."""
        log = log_of(Path(path)) or Path(path)
        if log not in self._trimmed:
            self._trimmed[log] = is_trimmed(log)
        return self._trimmed[log]

    def rewinds(self) -> _Rewinds:
        """Return what a second pass has to leave out."""
        return {
            (session.id, session.life): session.numbers.rewinds
            for session in self._all
            if session.numbers.rewinds
        }

    def refuse(self, rewinds: _Rewinds) -> None:
        """Tell that there can be no second pass."""
        for (session_id, _), found in rewinds.items():
            text = (
                f"session {session_id}: a run went on from before event {found[0].seq}, which was told before it in "
                "the log; a pipe cannot be read twice: give the file"
            )
            self._keep(Fault(self._reader.path, self._reader.line, text))

    def result(self) -> Conformance:
        """Return what was found."""
        # A log alone is judged; where there is none, what was given is refused.
        left_out = self._reader.left_out if self._all else ()
        order = {path: place for place, path in enumerate(self._reader.paths)}
        # Of a file without any event that is said once, and not of each line.
        foreign = {
            path: count
            for path, count in self._reader.bad_by_path.items()
            if count > 1 and path not in self._paths and path not in left_out
        }
        faults = [*self._faults, *(bad for bad in self._bad if bad.path not in {*foreign, *left_out})]
        first = {bad.path: bad for bad in reversed(self._bad)}
        for path, count in foreign.items():
            said = f"; the first: {first[path].text}" if path in first else ""
            faults.append(Fault(path, 1, f"none of its {count:,} lines is an event{said}"))
        of_records = self._reader.left_out_count if left_out else 0
        faults.sort(key=lambda fault: (*_place_of(fault.path, order), fault.line))
        return Conformance(
            faults=tuple(faults),
            fault_count=self._fault_count + len(foreign) - sum(foreign.values()) - of_records,
            sessions=tuple(map(_checked, self._all)),
            bad_count=self._reader.bad_count - of_records,
            newer_version=self._reader.newer_version,
            left_out=left_out,
        )

    # --- events

    def _begin(self, session_id: str, before: _Session | None) -> _Session:
        session = _Session(session_id, self, before, self._rewinds)
        session.forget_oldest()
        self._sessions[session_id] = session
        self._all.append(session)
        return session

    def _place(self, last: _Session, event: AgentEvent) -> _Session | None:
        """Judge an event that is not simply the next one; return the session in which it counts, None where in none."""
        place = (self._reader.path, self._reader.line)
        session: _Session | None = last if last.before is not None else None
        while session is not None and not session.numbers.knows(event.run_id):
            session = session.before  # of one that had the id before
        session = session or last
        verdict = session.numbers.take(event, self._reader.bad_count, place)
        if verdict is Verdict.BEGINS_ANEW:
            self.tell(last, event, "the session's id was used before, and its numbers begin again")
            session = self._begin(event.session_id, last)
            verdict = session.numbers.take(event, self._reader.bad_count, place)
        if verdict is not Verdict.COUNTS:
            return None
        if isinstance(event, RunStarted) and event.parent is not None and session.child is None:
            session.child = (event, event.parent, place)
        if session.numbers.is_blind:
            return None
        if not session.take_next(event):
            session.rules.header(event)
            session.rules.judge(event)
        return session

    def _judge_children(self) -> None:
        """Look for the call that a sub-agent says it stands behind, where its parent is in the log."""
        children = [(session, *session.child) for session in self._all if session.child is not None]
        by_id: dict[str, list[_Session]] = {}
        for session in self._all if children else ():
            by_id.setdefault(session.id, []).append(session)
        for session, event, parent, place in children:
            parents = by_id.get(parent.session_id, [])
            if not parents or any(each.numbers.is_blind for each in parents):
                continue
            of_run = [each for each in parents if each.numbers.knows(parent.run_id)]
            if not of_run:
                self.tell(session, event, f"its parent's session has no run {parent.run_id}", place)
            elif not any(each.rules.told_call(parent.call_id) for each in of_run):
                self.tell(session, event, f"its parent's session has no call {parent.call_id}", place)

    # --- faults

    def tell(self, session: _Session, event: AgentEvent, text: str, place: Place | None = None) -> None:
        """Hear of a fault."""
        session.faults += 1
        known = self._alike.get((id(session), text))
        if known is not None:
            known.more += 1
            self._fault_count += 1
            return
        path, line = place or (self._reader.path, self._reader.line)
        short = text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
        fault = Fault(path, line, short, session.id, event.seq, event.type)
        if self._keep(fault):
            self._alike[id(session), text] = fault

    def _keep(self, fault: Fault) -> bool:
        self._fault_count += 1
        if len(self._faults) >= MAX_KEPT_FAULTS:
            return False
        self._faults.append(fault)
        return True

    def _tell_bad(self) -> None:
        """Tell the lines that were met since the last event and are none."""
        told, self._bad_told = self._bad_told, self._reader.bad_count
        kept = self._reader.bad[told:] if told < MAX_KEPT_BAD else ()
        self._bad += [Fault(bad.path, bad.line, bad.reason) for bad in kept]
        self._fault_count += self._bad_told - told


def _place_of(path: str, order: dict[str, int]) -> tuple[int, bool, str]:
    """Return where a file was read: segments come before the log that they belong to, in their order."""
    if path in order:
        return (order[path], True, path)
    log = log_of(Path(path))
    return (order.get(str(log), len(order)), False, path)


def _checked(session: _Session) -> SessionCheck:
    numbers, book = session.numbers, session.rules.book
    present = numbers.last - numbers.missing - numbers.unlogged - numbers.removed
    return SessionCheck(
        session_id=session.id,
        runs=numbers.runs,
        last_seq=numbers.last,
        present=present,
        unlogged=numbers.unlogged,
        missing=numbers.missing,
        removed=numbers.removed,
        not_counted=numbers.count - present,
        redactions=session.redactions,
        open_run=None if numbers.is_blind else book.run_id,
        parent=session.child[1] if session.child is not None else None,
        faults=session.faults,
        is_judged=not numbers.is_blind,
    )
