"""What events measure: a sample for each call, request, run and so on, as it ends; and which runs and turns are over.

Every figure is the events' own. A request counts once, as it ends, with its last report of usage and under the model
that was billed; one that failed counts too, and one whose run ended before it.
"""

from __future__ import annotations

import collections
import datetime as dt
from typing import NamedTuple, TypeVar

import attrs

from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    CompactionFinished,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    ObserverFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
)
from agentkit_loop.usage import Cost, Usage
from agentkit_reporting.records.ended_runs import UNDONE
from agentkit_reporting.records.settled_requests import OpenRequests, SettledRequest

__all__ = [
    "MEASURED",
    "Approval",
    "Call",
    "Compaction",
    "EndedRun",
    "Exchange",
    "Labels",
    "ObserverFailure",
    "Request",
    "Retry",
    "Sample",
    "Sampler",
    "Spending",
    "Told",
    "Turn",
    "UnendedRun",
]

MEASURED: tuple[type[AgentEvent], ...] = (
    RunStarted,
    TurnStarted,
    TurnFinished,
    ModelRequestStarted,
    ModelRequestRetrying,
    ModelRequestFinished,
    ModelRequestFailed,
    UsageUpdated,
    ToolCallRequested,
    ToolResultReceived,
    ApprovalRequired,
    ApprovalResolved,
    CompactionFinished,
    ObserverFailed,
    *RUN_ENDS,
)
"""The events that are looked at; the time of each moves windows on."""

K = TypeVar("K")
V = TypeVar("V")

_MOST_OPEN = 100_000
"""Runs, calls and approvals without an end that are remembered; logs that broke off leave such."""

_MOST_RUNS = 10_000  # whose last number is remembered, to leave out what is told a second time


class Labels(NamedTuple):
    """What a sample belongs to; empty where it belongs to none. call, request, turn: within the session."""

    session: str
    run: str
    turn: str
    agent: str
    tool: str = ""
    model: str = ""
    call: str = ""
    request: str = ""
    error_class: str = ""


@attrs.frozen(kw_only=True)
class Sample:
    """Something that was measured; base of all samples."""

    labels: Labels


@attrs.frozen(kw_only=True)
class Call(Sample):
    """A call of a tool has its result. duration_ms: of its body, None where none ran."""

    duration_ms: float | None
    failed: bool
    denied: bool


@attrs.frozen(kw_only=True)
class Request(Sample):
    """A request has ended. duration_ms, first_content_ms: None for one that failed."""

    duration_ms: float | None
    first_content_ms: float | None
    failed: bool


@attrs.frozen(kw_only=True)
class Spending(Sample):
    """What a request used, as its last report says."""

    usage: Usage
    cost: Cost | None


@attrs.frozen(kw_only=True)
class Retry(Sample):
    """A failed request will be made again."""


@attrs.frozen(kw_only=True)
class Turn(Sample):
    """A turn has begun."""


@attrs.frozen(kw_only=True)
class Exchange(Sample):
    """An exchange has ended."""

    finish_reason: str


@attrs.frozen(kw_only=True)
class EndedRun(Sample):
    """A run has ended. cancelled: it neither failed nor did well."""

    duration_ms: float | None
    failed: bool
    cancelled: bool


@attrs.frozen(kw_only=True)
class Approval(Sample):
    """A question was answered, or still waits at the end. wait_ms: between the times of the two events, else so far."""

    wait_ms: float
    is_open: bool = False


@attrs.frozen(kw_only=True)
class UnendedRun(Sample):
    """A run that has no end: it crashed, or is still going on. began: None where its beginning was not told."""

    began: dt.datetime | None


@attrs.frozen(kw_only=True)
class Compaction(Sample):
    """A transcript was shortened, or could not be."""

    failed: bool


@attrs.frozen(kw_only=True)
class ObserverFailure(Sample):
    """An observer raised."""


@attrs.define
class Told:
    """What one event comes to.

    samples: in order. run_began, turn_began: whether one did, to which `here` belongs. ended_turn: of that session.
    run_ended: whether its run is over.
    """

    here: Labels
    samples: list[Sample] = attrs.Factory(list)
    run_began: bool = False
    turn_began: bool = False
    ended_turn: str | None = None
    run_ended: bool = False


@attrs.define
class _Run:
    agent: str = ""
    began: dt.datetime | None = None
    is_told: bool = False  # as one without an end
    finish_reason: str = ""
    retried: tuple[str, str] = ("", "")  # the request that failed last, and its model


@attrs.define
class _Question:
    at: dt.datetime
    labels: Labels
    is_told: bool = False  # as one that waits


class Sampler:
    """Takes events in order and returns what each measures; not for several threads at once."""

    def __init__(self) -> None:
        self._seen: collections.OrderedDict[tuple[str, str], int] = collections.OrderedDict()
        self._runs: dict[tuple[str, str], _Run] = {}
        self._ended: dict[tuple[str, str], None] = {}  # runs, of which something may come after their end
        self._turns: dict[str, str] = {}  # the open one of each session
        self._tools: dict[tuple[str, str], str] = {}  # of open calls
        self._asked: dict[tuple[str, str], _Question] = {}  # open approvals
        self._asked_for: dict[tuple[str, str], str] = {}  # the approval of a call
        self._requests = OpenRequests()

    def is_known(self, event: AgentEvent) -> bool:
        """Whether this was told before, as by a log and its copy; of the runs that were heard of last."""
        place = (event.session_id, event.run_id)
        last = self._seen.get(place, 0)
        if 0 < event.seq <= last:
            return True
        if last == 0:
            while len(self._seen) >= _MOST_RUNS:
                self._seen.popitem(last=False)
        elif next(reversed(self._seen)) != place:
            self._seen.move_to_end(place)
        self._seen[place] = event.seq
        return False

    def take(self, event: AgentEvent) -> Told:
        """Return what an event measures."""
        place = (event.session_id, event.run_id)
        run = self._runs.get(place)
        if run is None:
            run = _Run()
            _put(self._runs, place, run)
        if isinstance(event, RunStarted):
            run.agent, run.began = event.agent_name, event.timestamp
            self._ended.pop(place, None)
        here = Labels(event.session_id, event.run_id, event.turn_id or "", run.agent)
        told = Told(here, run_began=isinstance(event, RunStarted))
        for settled in self._requests.take(event):
            self._note_request(told, settled, run)
        self._note(told, event, run)
        if isinstance(event, RUN_ENDS):
            del self._runs[place]
            _put(self._ended, place, None)
            told.run_ended = True
        return told

    def unfinished(self, at: dt.datetime) -> list[Sample]:
        """Return what is open as nothing comes any more, each once: runs without an end, questions that wait.

        at: up to when these have waited.
        """
        found: list[Sample] = []
        for (session, run_id), run in self._runs.items():
            if run_id and not run.is_told and (session, run_id) not in self._ended:
                run.is_told = True
                found.append(UnendedRun(labels=Labels(session, run_id, "", run.agent), began=run.began))
        for question in self._asked.values():
            if not question.is_told:
                question.is_told = True
                wait_ms = _wait_ms(question.at, at)
                found.append(Approval(labels=question.labels, wait_ms=wait_ms, is_open=True))
        return found

    def _note_request(self, told: Told, settled: SettledRequest, run: _Run) -> None:
        end = settled.end
        failed = isinstance(end, ModelRequestFailed)
        labels = told.here._replace(
            model=settled.model,
            request="" if end is None else end.request_id,
            error_class=end.error_class if isinstance(end, ModelRequestFailed) else "",
        )
        if failed:
            run.retried = (labels.request, labels.model)
        if end is not None:
            is_whole = isinstance(end, ModelRequestFinished)
            told.samples.append(
                Request(
                    labels=labels,
                    duration_ms=end.duration_ms if is_whole else None,
                    first_content_ms=end.first_content_ms if isinstance(end, ModelRequestFinished) else None,
                    failed=failed,
                )
            )
        if settled.usage is not None:
            told.samples.append(Spending(labels=labels, usage=settled.usage, cost=settled.cost))

    def _note(self, told: Told, event: AgentEvent, run: _Run) -> None:
        here, session = told.here, event.session_id
        match event:
            case TurnStarted():
                told.ended_turn = self._turns.pop(session, None)
                told.turn_began = True
                if event.turn_id:
                    _put(self._turns, session, event.turn_id)
                told.samples.append(Turn(labels=here))
            case TurnFinished(finish_reason=reason):
                told.ended_turn = self._turns.pop(session, None)
                run.finish_reason = reason
                told.samples.append(Exchange(labels=here, finish_reason=reason))
            case ModelRequestRetrying():
                request, model = run.retried
                model = model if request == event.request_id else ""
                told.samples.append(Retry(labels=here._replace(request=event.request_id, model=model)))
            case CompactionFinished(error=error):
                told.samples.append(Compaction(labels=here, failed=error is not None))
            case ObserverFailed():
                told.samples.append(ObserverFailure(labels=here))
            case RunFinished() | RunFailed() | RunCancelled():
                told.ended_turn = self._turns.pop(session, None)
                told.samples.append(_ended(here, event, run))
            case _:
                self._note_call(told, event)

    def _note_call(self, told: Told, event: AgentEvent) -> None:
        here, session = told.here, event.session_id
        match event:
            case ToolCallRequested(call=call):
                _put(self._tools, (session, call.id), call.name)
            case ToolResultReceived():
                self._tools.pop((session, event.call_id), None)
                moot = self._asked_for.pop((session, event.call_id), None)
                self._asked.pop((session, moot or ""), None)  # nobody waits for an answer any more
                told.samples.append(
                    Call(
                        labels=here._replace(tool=event.name, call=event.call_id),
                        duration_ms=None if event.not_started else event.duration_ms,
                        failed=event.is_error,
                        denied=event.denied,
                    )
                )
            case ApprovalRequired():
                tool = self._tools.get((session, event.call_id), "")
                labels = here._replace(tool=tool, call=event.call_id)
                _put(self._asked, (session, event.approval_id), _Question(event.timestamp, labels))
                _put(self._asked_for, (session, event.call_id), event.approval_id)
            case ApprovalResolved():
                asked = self._asked.pop((session, event.approval_id), None)
                self._asked_for.pop((session, event.call_id), None)
                if asked is not None:
                    wait_ms = _wait_ms(asked.at, event.timestamp)
                    tool = self._tools.get((session, event.call_id), "")
                    told.samples.append(
                        Approval(labels=here._replace(tool=tool, call=event.call_id), wait_ms=wait_ms)
                    )
            case _:
                pass


def _wait_ms(since: dt.datetime, until: dt.datetime) -> float:
    return max(0.0, (until - since) / dt.timedelta(milliseconds=1))


def _put(kept: dict[K, V], key: K, value: V) -> None:
    """Keep a value; of too many the oldest makes room."""
    if len(kept) >= _MOST_OPEN and key not in kept:
        del kept[next(iter(kept))]
    kept[key] = value


def _ended(here: Labels, event: RunFinished | RunFailed | RunCancelled, run: _Run) -> EndedRun:
    """Return a run's end as `agentkit report` sees it: what an exchange's limit or error ended is no success."""
    cancelled = isinstance(event, RunCancelled)
    undone = isinstance(event, RunFailed) or run.finish_reason in UNDONE
    return EndedRun(
        labels=here._replace(turn=""),
        duration_ms=event.duration_ms,
        failed=undone and not cancelled,
        cancelled=cancelled,
    )
