"""Spans as trace events, which ui.perfetto.dev and speedscope open.

The form is the Trace Event Format's JSON: a process for each session, in it a track for each run, named by its
agent, and further tracks where calls ran at the same time, since the slices of a track must nest. Arrows lead from a
call to the agent behind it. What importers do with it was read in Perfetto's trace processor and in speedscope: of
overlapping slices Perfetto drops one; speedscope loses a slice without a duration that begins where another ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import attrs

from agentkit_reporting.terminal import json_text
from agentkit_reporting.tracing.log_spans import LogSpan
from agentkit_reporting.tracing.spans import Span

__all__ = ["perfetto_texts"]

_MOST_REMEMBERED = 16_384
"""Calls, and sub-agents whose call is still to come: beyond that arrows are missing, and memory stays flat."""

_MOST_MOVED_US = 1_000
"""How much later a slice may be shown than it began, where the one before it is a little too long."""

_T = TypeVar("_T")


def perfetto_texts(spans: Iterable[LogSpan]) -> Iterator[str]:
    """Yield the pieces of the file, in printable ASCII; nothing where there are no spans.

    Holds the slices of open runs, and for each session its number and the names of its agents.
    """
    tracks = _Tracks()
    begun = False
    for each in spans:
        for text in tracks.take(each):
            yield ",\n" if begun else '{"displayTimeUnit":"ms","traceEvents":[\n'
            yield text
            begun = True
    if begun:
        yield "\n]}\n"


@attrs.define
class _Slice:
    """A span as it is drawn. start, end: microseconds since 1970, one apart at least. rest: its name and arguments."""

    operation: str
    span_id: int
    start: int
    end: int
    rest: str
    instants: list[tuple[int, str]]


@attrs.frozen
class _Place:
    """Where an arrow begins or ends."""

    pid: int
    tid: int
    ts: int


class _Tracks:
    """Gives each slice its track."""

    def __init__(self) -> None:
        self._last_id = 0
        self._pids: dict[str, int] = {}
        self._agents_shown: set[tuple[int, str]] = set()  # in which process a track is named by which agent
        self._open: dict[tuple[str, str], list[_Slice]] = {}
        self._calls: dict[int, _Place] = {}
        self._agents: dict[int, list[tuple[int, _Place]]] = {}  # by the call's span, which is still to come

    def take(self, exported: LogSpan) -> Iterator[str]:
        """Take a span, children before parents; yield the events of a run when it is over."""
        span = exported.span
        run = (span.session_id, span.run_id)
        if span.operation != "invoke_agent":
            self._open.setdefault(run, []).append(_slice(span))
            return
        above: Span | object = span
        runs: list[Span] = []
        while isinstance(above, Span):
            if above.operation == "invoke_agent":
                runs.append(above)
            above = above.parent
        for each in reversed(runs):
            yield from self._process(each)
        pid = self._pids[span.session_id]
        whole = _slice(span)
        placed, lanes = _placed(whole, self._open.pop(run, []))
        tids = [self._new_id() for _ in range(lanes)]
        shown = self._track_name(pid, span)
        for lane, tid in enumerate(tids):
            name = f"{shown} · parallel {lane + 1}" if lane else shown
            yield from _named("thread", pid, tid, name, tid)
        for lane, each_slice in placed:
            yield from _drawn(each_slice, pid, tids[lane])
            if each_slice.operation == "execute_tool":
                yield from self._call(each_slice.span_id, _Place(pid, tids[lane], each_slice.start))
        if span.parent_id is not None and not exported.is_parent_remote:
            yield from self._agent(span.parent_id, span.span_id, _Place(pid, tids[0], whole.start))

    def _new_id(self) -> int:
        self._last_id += 1
        return (
            self._last_id
        )  # one count for processes and tracks: importers take equal numbers for a main thread

    def _process(self, run: Span) -> Iterator[str]:
        if run.session_id not in self._pids:
            pid = self._pids[run.session_id] = self._new_id()
            yield from _named("process", pid, 0, f"{_agent_of(run)} {run.session_id}".strip(), pid)

    def _track_name(self, pid: int, run: Span) -> str:
        """Return the agent's name; with the run's id where a track of the session has that name already."""
        agent = _agent_of(run)
        if agent and (pid, agent) not in self._agents_shown:
            self._agents_shown.add((pid, agent))
            return agent
        return f"{agent} {run.run_id}".strip()

    def _call(self, span_id: int, place: _Place) -> Iterator[str]:
        for agent_id, agent in self._agents.pop(span_id, ()):
            yield from _arrow(agent_id, place, agent)
        _remember(self._calls, span_id, place)

    def _agent(self, call_id: int, span_id: int, place: _Place) -> Iterator[str]:
        call = self._calls.get(call_id)
        if call is not None:
            yield from _arrow(span_id, call, place)
        else:
            _remember(self._agents, call_id, [*self._agents.get(call_id, ()), (span_id, place)])


def _agent_of(run: Span) -> str:
    return run.name.removeprefix("invoke_agent").strip()


def _remember(known: dict[int, _T], key: int, value: _T) -> None:
    if len(known) >= _MOST_REMEMBERED:
        del known[next(iter(known))]
    known[key] = value


def _slice(span: Span) -> _Slice:
    start = span.start_ns // 1_000
    told = {**span.attributes, **({} if span.error is None else {"error": span.error})}
    told["trace_id"], told["span_id"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    return _Slice(
        span.operation,
        span.span_id,
        start,
        max(span.end_ns // 1_000, start + 1),
        f'"name":{json_text(span.name)},"cat":"{span.operation}","args":{json_text(told)}',
        [
            (event.ns // 1_000, f'"name":{json_text(event.name)},"args":{json_text(event.attributes)}')
            for event in span.events
        ],
    )


def _placed(run: _Slice, children: list[_Slice]) -> tuple[list[tuple[int, _Slice]], int]:
    """Return each slice with its lane, a run before what is in it; and how many lanes there are."""
    placed = [(0, run)]
    ends = [run.start]
    for child in sorted(children, key=lambda each: (each.start, each.end)):
        lane = next((lane for lane, end in enumerate(ends) if _fits(child, end)), len(ends))
        if lane == len(ends):
            ends.append(child.start)
        child.start = max(child.start, ends[lane])
        child.end = max(child.end, child.start + 1)
        ends[lane] = child.end
        placed.append((lane, child))
    run.end = max(run.end, ends[0])
    return placed, len(ends)


def _fits(child: _Slice, end: int) -> bool:
    """Whether a slice can follow one that ends then: at once, or where it is moved by so little that nobody sees it.

    Durations are measured by another clock than events, so that of two that follow each other one may reach into the
    other by some microseconds.
    """
    duration, overlap = child.end - child.start, end - child.start
    return overlap <= 0 or (overlap <= _MOST_MOVED_US and (overlap * 10 <= duration or duration == 1))


def _drawn(slice_: _Slice, pid: int, tid: int) -> Iterator[str]:
    place = f'"pid":{pid},"tid":{tid}'
    yield f'{{"ph":"X","ts":{slice_.start},"dur":{slice_.end - slice_.start},{place},{slice_.rest}}}'
    for ts, rest in slice_.instants:
        yield f'{{"ph":"i","s":"t","ts":{ts},{place},{rest}}}'


def _named(kind: str, pid: int, tid: int, name: str, order: int) -> Iterator[str]:
    place = f'"ph":"M","pid":{pid},"tid":{tid}'
    yield f'{{{place},"name":"{kind}_name","args":{{"name":{json_text(name)}}}}}'
    yield f'{{{place},"name":"{kind}_sort_index","args":{{"sort_index":{order}}}}}'


def _arrow(span_id: int, call: _Place, agent: _Place) -> Iterator[str]:
    for phase, place in (("s", call), ("f", agent)):
        ends = ',"bp":"e"' if phase == "f" else ""
        yield (
            f'{{"ph":"{phase}","id":"{span_id:016x}","ts":{place.ts},"pid":{place.pid},"tid":{place.tid},'
            f'"name":"sub-agent","cat":"sub-agent"{ends}}}'
        )
