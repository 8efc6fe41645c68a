"""Where the time of runs went: first token, generation, each tool, people, retries, compaction, observers, the loop.

Everything is read from the events, their durations and timestamps; `time_use_sweep` says how what overlaps is divided.
"""

from __future__ import annotations

import datetime as dt
import sys
from array import array
from collections.abc import Mapping

import attrs

from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    AuthRequired,
    AuthResolved,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.forks import Locked
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.analysis.time_use_run import OpenRun, RunTime

__all__ = ["TimeUse"]

_MOST_ASKED = 200  # characters of what a person was asked
_PROCESS_ENDED = "ProcessEnded"  # the type of the error by which a resume closes what a crash left open
_WORK = (
    InputAccepted,
    TurnStarted,
    ModelRequestStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    ApprovalResolved,
    AuthResolved,
    CompactionStarted,
)
"""The events with which a run is idle no longer."""


@attrs.define
class _Session:
    """What a session's next run is told of those before. asked: what people were asked and have not answered, by id."""

    number: int | None = 0  # of its last run; None where that is not known
    last_run: str = ""
    until: dt.datetime | None = None  # the last that the run before told
    asked: dict[str, str] = attrs.field(factory=dict)


class TimeUse(LoopObserver, Locked):
    """Says of each run where its time went: `runs()`. Watch with it, or give it the events of a log.

    Keeps about 2 kB for each run and 8 bytes for each call of a tool; of an open run its newest 2,048 spans, and all
    since the beginning of what is open.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[tuple[str, str], OpenRun] = {}
        self._ended: dict[tuple[str, str], RunTime] = {}
        self._bodies: dict[str, array[float]] = {}
        self._sessions: dict[str, _Session] = {}

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event."""
        with self._lock:
            self._take(event)

    def runs(self) -> tuple[RunTime, ...]:
        """Return every run, in the order in which they began; those without an end as they are now."""
        with self._lock:
            found = [*self._ended.values()]
            found += [run.whole(place, "open", None, None) for place, run in self._open.items()]
        return tuple(sorted(found, key=lambda run: (run.started, run.session_id, run.run_id)))

    def bodies_ms(self) -> Mapping[str, tuple[float, ...]]:
        """Return how long each body of each tool ran that ended, in ms, by the tool's name."""
        with self._lock:
            return {name: tuple(each) for name, each in self._bodies.items()}

    def _take(self, event: AgentEvent) -> None:
        place = (event.session_id, event.run_id)
        run = self._open.get(place)
        if run is None:
            if not event.run_id or place in self._ended:
                return
            run = OpenRun(event.timestamp, is_whole=isinstance(event, RunStarted))
            self._open[sys.intern(place[0]), sys.intern(place[1])] = run
        is_end = isinstance(event, RUN_ENDS)
        if event.seq <= run.last_seq and not is_end:
            return  # of a file that was given twice
        run.last_seq = event.seq
        if isinstance(event, ContentDelta):
            request = run.open_requests.get(event.request_id)
            if request is not None and request.first_content is None:
                request.first_content = run.at(event.timestamp)
            run.worked_until = max(run.worked_until, event.timestamp)
            return
        if not _is_of_recovery(event):
            run.worked_until = max(run.worked_until, event.timestamp)
            run.settle()
        now = run.at(event.timestamp)
        if isinstance(event, _WORK):
            run.end("idle", now)
        if isinstance(event, RUN_ENDS):
            self._end(place, run, event)
        else:
            self._note(run, event, now)

    def _note(self, run: OpenRun, event: AgentEvent, now: int) -> None:
        match event:
            case RunStarted():
                run.agent, run.model = sys.intern(event.agent_name), sys.intern(event.model)
                run.parent_session = None if event.parent is None else event.parent.session_id
                self._note_start(run, event)
            case TurnFinished():
                run.end("retry", now)
                run.begin("idle", now)
            case ModelRequestStarted():
                run.end("retry", now)
                run.ask(event.request_id, event.purpose, now)
            case ModelRequestFinished():
                run.answer(event, now)
            case ModelRequestFailed() if not _is_of_recovery(event):
                run.fail(event.request_id, now, event.duration_ms)
            case ModelRequestRetrying():
                run.begin("retry", now)
            case CompactionStarted():
                run.begin("compaction", now)
            case CompactionFinished() if not _is_of_recovery(event):
                run.end("compaction", now)
            case _:
                self._note_call(run, event, now)

    def _note_start(self, run: OpenRun, event: RunStarted) -> None:
        """Note which of its session's runs it is, and what was waited for before it."""
        session = self._sessions.setdefault(sys.intern(event.session_id), _Session())
        if session.number is not None:
            is_unknown = session.number == 0 and event.resumed_run is not None
            session.number = None if is_unknown else session.number + 1
        run.number = session.number
        before = self._open.get((event.session_id, event.resumed_run or ""))  # a crash that nobody closed
        if before is not None:
            session.until = before.worked_until
        elif session.last_run != event.resumed_run:
            session.until = None
        if event.resumed_run is not None and session.until is not None:
            run.since_us = max(0, (event.timestamp - session.until) // dt.timedelta(microseconds=1))
            run.awaited = tuple(session.asked.values())
        else:
            session.asked.clear()

    def _note_call(self, run: OpenRun, event: AgentEvent, now: int) -> None:
        match event:
            case ToolExecutionStarted():
                run.start_body(event.call_id, sys.intern(event.name), now)
            case ToolResultReceived() if _is_of_recovery(event):
                run.close_body(event.call_id, now)
            case ToolResultReceived():
                self._end_body(run, event, now)
            case ApprovalRequired():
                run.approvals += 1
                self._ask(event, event.approval_id, f"approval {event.summary}")
                run.wait("approval", event.approval_id, now)
            case ApprovalResolved():
                run.stop_waiting("approval", event.approval_id, now)
                self._answered(event, event.approval_id)
            case AuthRequired():
                run.end_body(event.call_id, now, None, counts=False)
                run.wait("auth", event.auth_id, now)
                self._ask(event, event.auth_id, f"credentials of {event.provider}")
            case AuthResolved():
                run.stop_waiting("auth", event.auth_id, now)
                self._answered(event, event.auth_id)
            case _:
                pass

    def _ask(self, event: AgentEvent, which: str, what: str) -> None:
        session = self._sessions.setdefault(sys.intern(event.session_id), _Session(number=None))
        session.asked[which] = what[:_MOST_ASKED]

    def _answered(self, event: AgentEvent, which: str) -> None:
        if event.session_id in self._sessions:
            self._sessions[event.session_id].asked.pop(which, None)

    def _end_body(self, run: OpenRun, event: ToolResultReceived, now: int) -> None:
        name = sys.intern(event.name)
        took_ms: float | None
        if not run.runs_body(event.call_id) and event.duration_ms is not None:
            took_ms = run.told_body(name, now, event.duration_ms)
        else:
            took_ms = run.end_body(event.call_id, now, event.duration_ms)
        if took_ms is not None:
            self._bodies.setdefault(name, array("d")).append(took_ms)

    def _end(
        self, place: tuple[str, str], run: OpenRun, event: RunFinished | RunFailed | RunCancelled
    ) -> None:
        observers = None
        outcome = "cancelled" if isinstance(event, RunCancelled) else "failed"
        if isinstance(event, RunFinished):
            outcome = event.outcome
            observers = _observers(event) or None
            for approval_id in event.open_approvals:
                run.wait("approval", approval_id, 0)
            for auth_id in event.open_auths:
                run.wait("auth", auth_id, 0)
        elif _is_of_recovery(event):
            outcome = "crashed"
        session = self._sessions.setdefault(sys.intern(event.session_id), _Session(number=None))
        session.last_run, session.until = sys.intern(event.run_id), run.worked_until
        if outcome == "suspended":
            run.left_open = tuple(session.asked.values())
        del self._open[place]
        self._ended[place] = run.whole(place, outcome, event.duration_ms, observers)


def _observers(event: RunFinished) -> dict[str, float]:
    times_ms: dict[str, float] = {}
    for each in event.observers:
        times_ms[each.name] = times_ms.get(each.name, 0.0) + each.time_ms
    return times_ms


def _is_of_recovery(event: AgentEvent) -> bool:
    """Whether a resume may have told the event, under the id of a run whose process had ended."""
    match event:
        case ModelRequestFailed():
            return event.error_class == "process_ended" and event.duration_ms is None
        case CompactionFinished():
            return event.error is not None and event.error.type == _PROCESS_ENDED
        case ToolResultReceived():
            return event.interrupted and event.duration_ms is None
        case RunFailed():
            return event.error.type == _PROCESS_ENDED and event.duration_ms is None
        case _:
            return isinstance(event, ObserverFailed)
