"""Which session of a source a debug replay is of, and what else was there."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterable
from typing import Any

import attrs
import msgspec

from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_loop.values import safe_repr
from agentkit_reporting.analysis.debug_records import SessionRecords, record_in
from agentkit_reporting.analysis.debug_session import SessionEvents
from agentkit_reporting.analysis.listed_session import ListedSession, SessionList
from agentkit_reporting.log.read import BadLine, LogReader
from agentkit_reporting.records.reading import behind_torn
from agentkit_reporting.records.step_records import LlmCallStep, StepHeader, ToolCallStep

__all__ = ["Found", "NoSuchSessionError", "NothingToReplayError", "found_in_memory", "found_in_reader"]

_MOST_NAMED = 5


class NothingToReplayError(LogError):
    """A log holds no event and no record of a step log."""


class NoSuchSessionError(ConfigurationError):
    """No session, or more than one, is the one that was asked for."""


@attrs.frozen(kw_only=True)
class Found:
    """A session, and what else its source held.

    others: ids of the other sessions. listed: all sessions, in the order of their first events. bad, bad_count: lines
    that are neither events nor records. left_out: files of other records, whose lines are not counted as bad.
    newer_version: of the log, where it is above our own.
    """

    session: SessionEvents | SessionRecords
    others: tuple[str, ...] = ()
    listed: tuple[ListedSession, ...] = ()
    left_out: tuple[str, ...] = ()
    bad: tuple[BadLine, ...] = ()
    bad_count: int = 0
    newer_version: int | None = None


class _Sessions:
    """Gathers the sessions that may be meant.

    asked: an id or the end of one; None for the one that began last, sub-agents of others aside. Of those that cannot
    be meant nothing is kept but a line.
    """

    def __init__(self, asked: str | None) -> None:
        self._asked = asked
        self.names: dict[str, None] = {}
        self._list = SessionList()
        self._latest: tuple[bool, dt.datetime] | None = None  # not a child's; when it began
        self._events: dict[str, SessionEvents] = {}
        self._records: dict[str, SessionRecords] = {}

    @property
    def has_events(self) -> bool:
        return bool(self._events or self.names)

    def take(self, event: AgentEvent, path: str = "") -> None:
        """Take the next event of the source."""
        session_id = event.session_id
        self._list.take(event)
        if session_id not in self.names:
            self.names[session_id] = None
            if self._may_be_meant(event):
                self._events[session_id] = SessionEvents(session_id)
                self._events[session_id].path = path
        known = self._events.get(session_id)
        if known is not None:
            known.take(event)

    def _may_be_meant(self, first: AgentEvent) -> bool:
        """Whether a session is to be kept, by its first event; of those that began before it, none is."""
        if self._asked is not None:
            return first.session_id.endswith(self._asked)
        is_child = type(first) is RunStarted and first.parent is not None
        rank = (not is_child, first.timestamp)
        if self._latest is not None and rank < self._latest:
            return False
        self._latest = rank
        self._events.clear()
        return True

    def take_record(self, made: StepHeader | LlmCallStep | ToolCallStep, path: str = "") -> None:
        """Take the next record of a step log; they count where there is no event."""
        known = self._records.get(made.run_id)
        if known is None:
            known = self._records[made.run_id] = SessionRecords(made.run_id)
            known.path = path
        known.take(made)

    def chosen(self) -> tuple[SessionEvents | SessionRecords, tuple[str, ...]]:
        """Return the session that is meant, and the names of the others. Raises ConfigurationError."""
        names = list(self.names or self._records)
        candidates: dict[str, Any] = dict(self._events) if self.names else dict(self._records)
        if not names:
            raise ConfigurationError(
                "nothing to replay because no event and no record of a step log is there; give a log of a run"
            )
        asked = self._asked
        if asked is not None and asked not in candidates:
            found = [name for name in candidates if name.endswith(asked)]
            if len(found) != 1:
                what = "several ids end so" if found else "no id there ends so"
                raise NoSuchSessionError(
                    f"session {asked!r} refused because {what}: {_named(found or names)}; give one of them"
                )
            asked = found[0]
        if asked is None:
            asked = next(iter(self._events)) if self.names else self._last_run()
        name = asked
        session: SessionEvents | SessionRecords = candidates[name]
        if isinstance(session, SessionEvents):
            session.settle()
        return session, tuple(each for each in names if each != name)

    def _last_run(self) -> str:
        """Return the run of a step log that began last."""
        return max(reversed(self._records), key=lambda name: self._records[name].steps[0].time)

    def listed(self) -> tuple[ListedSession, ...]:
        """Return what a person knows the sessions by."""
        if self.names:
            return self._list.listed()
        return tuple(
            ListedSession(session_id=name, agent=each.agent, began=each.steps[0].time)
            for name, each in self._records.items()
        )


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(map(repr, names[:_MOST_NAMED])) + (f" and {more:,} more" if more > 0 else "")


def found_in_reader(reader: LogReader, events: Iterable[AgentEvent], asked: str | None) -> Found:
    """Read a source. events: the reader itself, or what shows how far it is."""
    sessions = _Sessions(asked)
    records = _RecordLines(sessions)
    reader.on_bad_line = records.take
    for event in events:
        sessions.take(event, reader.path)
    try:
        session, others = sessions.chosen()
    except ConfigurationError as error:
        if sessions.names or records.places or not reader.paths:
            raise
        first = reader.bad[0] if reader.bad else None
        place = reader.paths[0] if first is None else first.path
        text = str(error) if first is None else f"{error} (line {first.line}: {first.reason})"
        raise NothingToReplayError(text, path=place) from None
    with_records = {path for path, _ in records.places}
    left_out = tuple(path for path in reader.left_out if path not in with_records)
    bad = tuple(each for each in reader.bad if each.path not in left_out)
    bad_count = reader.bad_count - sum(reader.bad_by_path.get(path, 0) for path in left_out)
    if isinstance(session, SessionRecords):
        bad = tuple(each for each in bad if (each.path, each.line) not in records.places)
        bad_count -= records.count
    return Found(
        session=session,
        others=others,
        listed=sessions.listed(),
        bad=bad,
        bad_count=bad_count,
        left_out=left_out,
        newer_version=reader.newer_version,
    )


class _RecordLines:
    """The lines that are no events and are records of a step log."""

    def __init__(self, sessions: _Sessions) -> None:
        self._sessions = sessions
        self.count = 0
        self.places: set[tuple[str, int]] = set()

    def take(self, path: str, line: int, content: bytes) -> None:
        """Take a line that is no event."""
        if self._sessions.has_events:
            return
        made = None
        for piece in (content, None):
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                found = behind_torn(content) if piece is None else piece
                made = None if found is None else record_in(msgspec.json.decode(found))
            if made is not None:
                break
        if made is not None:
            self._sessions.take_record(made, path)
            self.count += 1
            self.places.add((path, line))


def found_in_memory(told: Iterable[object], asked: str | None) -> Found:
    """Take what is in memory already: events, or records of a step log, made or as JSON. Raises ConfigurationError."""
    sessions = _Sessions(asked)
    for each in told:
        if isinstance(each, AgentEvent):
            sessions.take(each)
            continue
        made = each if isinstance(each, (StepHeader, LlmCallStep, ToolCallStep)) else record_in(each)
        if made is None:
            what = "path; use DebugReplay.open(…)" if isinstance(told, (str, bytes)) else ""
            raise ConfigurationError(
                f"{safe_repr(each)[:80]} refused because it is no event and no record of a step log; "
                f"{what or 'give those, or a file by DebugReplay.open(…)'}"
            )
        sessions.take_record(made)
    session, others = sessions.chosen()
    return Found(session=session, others=others, listed=sessions.listed())
