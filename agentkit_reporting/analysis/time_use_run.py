"""The time of one run while it is told: what is open, what is over, and how it is divided in the end."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping

import attrs

from agentkit_loop.events import ModelRequestFinished
from agentkit_reporting.analysis.time_use_sweep import PARTS, Span, divided

__all__ = ["OpenRun", "RunTime", "ToolTime"]

_MICROSECOND = dt.timedelta(microseconds=1)
_MOST_SPANS = 2_048  # of an open run, unless something is open for longer; what is older is divided for good
_KEPT_SPANS = 512
_CLOCK_US = 1_000_000  # by which the timestamps and a measured duration may differ, and a hundredth of it
_LONGEST_US = 10**17  # a log may say that a call took 1e300 ms


@attrs.frozen(kw_only=True)
class ToolTime:
    """The calls of one tool in one run.

    wall_us: of the run's wall clock, as it is divided. busy_us: of all bodies, each by itself, so that parallel calls
    count each. calls: that started. is_least: one had not ended when the process did: lower bounds.
    """

    name: str
    wall_us: int
    busy_us: int
    calls: int
    is_least: bool = False


@attrs.frozen(kw_only=True)
class RunTime:
    """Where the time of a run went; all times in whole microseconds.

    outcome: `completed`, `suspended`, `failed`, `cancelled`; `crashed`, where a resume closed it, and `open`, where no
    end is in the log: both count up to their last event. duration_us: as the end tells it (monotonic), else by the
    timestamps; the time between a run and the one that goes on with its session is of neither. number: which of its
    session's runs it is, from 1; None where the log does not say. since_us: from the last that the run before told to
    its beginning, by the timestamps; None where it goes on from none that is in the log. left_open: what a person was
    still asked at its end, as `approval pay(amount=3)`; awaited: what the run before had left open. parts: by the names
    of PARTS, each of them there; they add up to duration_us. least: parts in which something had not ended when the
    process did, or of which nobody told how long it took: lower bounds. observers_us: what the observers took by
    their own statistics, None where the end tells none; they are called in between everything else, so `parts` has
    of it only what fits into the time that is nobody else's. observers: by name. tools: those that took most of the
    wall clock first. is_whole: its beginning is in the log. clock_off_us: by how much the timestamps say more or
    less than the measured duration, 0 where they agree: then the clock was set or the machine slept, and the
    division is not sure. parent_session: of a sub-agent's run, whose time is also in its parent's tool.
    """

    session_id: str
    run_id: str
    agent: str
    model: str
    started: dt.datetime
    outcome: str
    duration_us: int
    parts: Mapping[str, int]
    least: frozenset[str]
    observers_us: int | None
    observers: Mapping[str, int]
    tools: tuple[ToolTime, ...]
    requests: int
    failed_requests: int
    approvals: int
    is_whole: bool
    clock_off_us: int
    parent_session: str | None
    number: int | None = None
    since_us: int | None = None
    left_open: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()

    @property
    def has_end(self) -> bool:
        """Whether all of it is in the log; else its figures are lower bounds."""
        return self.outcome not in ("crashed", "open") and self.is_whole

    @property
    def day(self) -> str:
        """The day on which it began, UTC."""
        return self.started.date().isoformat()


@attrs.define
class _Request:
    begin: int
    purpose: str
    first_content: int | None = None


@attrs.define
class _Execution:
    begin: int
    name: str
    closed: int | None = None  # when its end was told, by whom is not clear yet


@attrs.define
class _ToolSum:
    busy_us: int = 0
    calls: int = 0
    is_least: bool = False


class OpenRun:
    """A run that has not ended. Keeps the newest spans; what is older is divided already."""

    def __init__(self, started: dt.datetime, *, is_whole: bool) -> None:
        self.started = started
        self.last_seq = 0
        self.is_whole = is_whole
        self.agent = self.model = ""
        self.parent_session: str | None = None
        self.number: int | None = None
        self.since_us: int | None = None
        self.left_open: tuple[str, ...] = ()
        self.awaited: tuple[str, ...] = ()
        self.requests = self.failed_requests = self.approvals = 0
        self.worked_until = started  # of the events that the run's own process told
        self.open_requests: dict[str, _Request] = {}
        self._executions: dict[str, _Execution] = {}
        self._closed: list[str] = []  # those whose end was told, by whom is not clear yet
        self._waits: dict[tuple[str, str], int] = {}  # by part and id
        self._begun: dict[str, int] = {}  # compaction, retry, idle: what there is one of at a time
        self._tools: dict[str, _ToolSum] = {}
        self._least: set[str] = set()
        self._spans: list[Span] = []
        self._most_spans = _MOST_SPANS
        self._until = 0  # up to here it is divided for good
        self._divided: Counter[tuple[str, str]] = Counter()
        self.begin("idle", 0)

    def at(self, moment: dt.datetime) -> int:
        """Return a moment as microseconds since the run began."""
        return (moment - self.started) // _MICROSECOND

    # --- what there is one of

    def begin(self, part: str, now: int) -> None:
        """Note that a part begins, unless it has."""
        self._begun.setdefault(part, now)

    def end(self, part: str, now: int) -> None:
        """Note that a part ends, if it has begun."""
        begun = self._begun.pop(part, None)
        if begun is not None:
            self._note(Span(begun, now, part))

    # --- requests

    def ask(self, request_id: str, purpose: str, now: int) -> None:
        """Note that a request begins."""
        self.requests += 1
        self.open_requests[request_id] = _Request(now, purpose)

    def answer(self, event: ModelRequestFinished, now: int) -> None:
        """Note that a request has ended as it should, or was cancelled."""
        request = self.open_requests.pop(event.request_id, None)
        begin, end = _placed(now if request is None else request.begin, now, event.duration_ms)
        if request is not None and request.purpose == "compaction":
            self._note(Span(begin, end, "compaction"))
            return
        content = microseconds(event.first_content_ms)
        if content is not None:
            first = min(begin + content, end)
        elif request is not None and request.first_content is not None:
            first = min(max(begin, request.first_content), end)
        elif event.finish_reason == "cancelled":
            first = end  # nothing had come yet
        else:
            first = begin
            self._least.add("first_token")  # it was not streamed: nobody knows when the answer began
        self._note(Span(begin, first, "first_token"))
        self._note(Span(first, end, "generation"))

    def fail(self, request_id: str, now: int, duration_ms: float | None) -> None:
        """Note that a request failed."""
        request = self.open_requests.pop(request_id, None)
        self.failed_requests += 1
        begin, end = _placed(now if request is None else request.begin, now, duration_ms)
        of_compaction = request is not None and request.purpose == "compaction"
        self._note(Span(begin, end, "compaction" if of_compaction else "retry"))

    # --- bodies of tools

    def start_body(self, call_id: str, name: str, now: int) -> None:
        """Note that a body starts."""
        self._end_body(call_id, now, None, counts=False)  # of an attempt before, if nobody ended it
        self._executions[call_id] = _Execution(now, name)

    def end_body(
        self, call_id: str, now: int, duration_ms: float | None, *, counts: bool = True
    ) -> float | None:
        """Note the end of a body; return how long it ran, in ms. counts: False where it is to start again."""
        return self._end_body(call_id, now, duration_ms, counts=counts)

    def close_body(self, call_id: str, now: int) -> None:
        """Note that a call was closed before its body ended: by its own process, or by a resume long after."""
        if call_id in self._executions:
            self._executions[call_id].closed = now
            self._closed.append(call_id)

    def told_body(self, name: str, now: int, duration_ms: float) -> float | None:
        """Note a call that is told afterwards, with no word of its beginning; return how long it ran, in ms."""
        self._executions[""] = _Execution(now, name)
        return self._end_body("", now, duration_ms, counts=True)

    def runs_body(self, call_id: str) -> bool:
        """Whether the body of a call runs."""
        return call_id in self._executions

    def settle(self) -> None:
        """Take the closed calls as ended when it was told: the run's own process told it, since it told more."""
        closed, self._closed = self._closed, []
        for call_id in closed:
            execution = self._executions.get(call_id)
            if execution is not None and execution.closed is not None:
                self._end_body(call_id, execution.closed, None, counts=True)

    def _end_body(self, call_id: str, now: int, duration_ms: float | None, *, counts: bool) -> float | None:
        execution = self._executions.pop(call_id, None)
        if execution is None:
            return None
        begin, end = _placed(execution.begin, now, duration_ms)
        self._note(Span(begin, end, "tools", execution.name))
        told = self._tools.setdefault(execution.name, _ToolSum())
        told.busy_us += end - begin
        told.calls += counts
        return (end - begin) / 1_000

    # --- people

    def wait(self, part: str, which: str, now: int) -> None:
        """Note that a person is asked: for an approval or for credentials."""
        self._waits.setdefault((part, which), now)

    def stop_waiting(self, part: str, which: str, now: int) -> None:
        """Note the answer; what was asked in an earlier run was waited for from the beginning of this one."""
        self._note(Span(self._waits.pop((part, which), 0), now, part))

    # --- dividing

    def _note(self, span: Span) -> None:
        if span.end > span.begin:
            self._spans.append(span)
            if len(self._spans) > self._most_spans:
                self._divide_older()
                # What is open for long, or a clock that was set back, keeps many: not to be divided at each.
                self._most_spans = max(_MOST_SPANS, 2 * len(self._spans))

    def _divide_older(self) -> None:
        """Divide what is older than the newest spans and everything that is open."""
        begun = sorted(span.begin for span in self._spans)
        open_ones = [each.begin for each in self.open_requests.values()]
        open_ones += [each.begin for each in self._executions.values()]
        border = min((begun[-_KEPT_SPANS], *open_ones, *self._waits.values(), *self._begun.values()))
        if border > self._until:
            self._divided += divided(self._spans, self._until, border)
            self._until = border
            self._spans = [span for span in self._spans if span.end > border]

    def whole(
        self,
        place: tuple[str, str],
        outcome: str,
        told_ms: float | None,
        observers: Mapping[str, float] | None,
    ) -> RunTime:
        """Return the run as it is now; it can go on after that. told_ms: its duration, None where nobody told."""
        spent = self.at(self.worked_until)
        told = microseconds(told_ms) if self.is_whole else None
        total = spent if told is None or told < self._until else told
        tools = {name: attrs.evolve(each) for name, each in self._tools.items()}
        least = set(self._least)
        cut = outcome in ("crashed", "open")
        spans = [*self._spans, *self._open_spans(total, tools, least if cut else set())]
        parts = self._divided + divided(spans, self._until, total)
        by_part = dict.fromkeys(PARTS, 0)
        for (part, _), us in parts.items():
            by_part[part] += us
        left = total - sum(by_part.values())
        by_name = {name: microseconds(ms) or 0 for name, ms in (observers or {}).items()}
        observers_us = None if observers is None else sum(by_name.values())
        by_part["observers"] = min(left, observers_us or 0)
        by_part["loop"] = left - by_part["observers"]
        off = spent - total
        found = [
            ToolTime(
                name=name,
                wall_us=parts["tools", name],
                busy_us=each.busy_us,
                calls=each.calls,
                is_least=each.is_least,
            )
            for name, each in tools.items()
        ]
        return RunTime(
            session_id=place[0],
            run_id=place[1],
            agent=self.agent,
            model=self.model,
            started=self.started,
            outcome=outcome,
            duration_us=total,
            parts=by_part,
            least=frozenset(least),
            observers_us=observers_us,
            observers=by_name,
            tools=tuple(sorted(found, key=lambda each: (-each.wall_us, -each.busy_us, each.name))),
            requests=self.requests,
            failed_requests=self.failed_requests,
            approvals=self.approvals,
            is_whole=self.is_whole,
            clock_off_us=off if abs(off) > _CLOCK_US + total // 100 else 0,
            parent_session=self.parent_session,
            number=self.number,
            since_us=self.since_us,
            left_open=self.left_open,
            awaited=self.awaited,
        )

    def _open_spans(self, total: int, tools: dict[str, _ToolSum], least: set[str]) -> list[Span]:
        """Return what is open as if it ended with the run; note in `least` whose end nobody told."""
        spans = [Span(begun, total, part) for part, begun in self._begun.items()]
        spans += [Span(begun, total, part) for (part, _), begun in self._waits.items()]
        least.update({"compaction", "retry"} & {*self._begun})
        for request in self.open_requests.values():
            if request.purpose == "compaction":
                spans.append(Span(request.begin, total, "compaction"))
                least.add("compaction")
                continue
            first = total if request.first_content is None else request.first_content
            spans += [Span(request.begin, first, "first_token"), Span(first, total, "generation")]
            least.add("first_token" if request.first_content is None else "generation")
        for execution in self._executions.values():
            end = total if execution.closed is None else min(execution.closed, total)
            spans.append(Span(execution.begin, end, "tools", execution.name))
            told = tools.setdefault(execution.name, _ToolSum())
            told.busy_us += max(0, end - execution.begin)
            told.calls += 1
            told.is_least = True
            least.add("tools")
        return [span for span in spans if span.end > span.begin]


def microseconds(duration_ms: float | None) -> int | None:
    """Return a duration in whole microseconds; None where nobody told, or what no duration is."""
    if duration_ms is None or not math.isfinite(duration_ms) or not 0 <= duration_ms * 1_000 <= _LONGEST_US:
        return None
    return round(duration_ms * 1_000)


def _placed(begin: int, now: int, duration_ms: float | None) -> tuple[int, int]:
    """Return from when to when something ran that is told to have ended now.

    It began when that was told, and ended after as long as it took: its end may be told late. What is told afterwards,
    beginning and end together, ended now.
    """
    took = microseconds(duration_ms)
    if took is None:
        return begin, max(begin, now)
    begin = min(begin, now - took)
    return begin, begin + took
