"""From events to spans: `invoke_agent` for a run, and in it `chat` for each request, `execute_tool` for each call.

Everything is taken from the events: so spans that are made live and spans of a log that is read next week are equal.

- A run's span is from RunStarted to its end; where a resume closes it after a crash, to the last that it told itself. A
  run that goes on is another span, in a trace of its own unless its metadata name a parent.
- A request's span is one attempt; it alone has usage and cost: no sum counts a token twice.
- A call's span is from its first ToolExecutionStarted in the run to its result: time that a person took to approve is
  before it, credentials are asked for within it. A call that never ran is a moment on the run, and no span.
- Whatever was started is ended: by its own end, else by its run's, else, where the log has no more, by `close()` with
  the last time that its run told; then it is `unfinished`.
- What is told twice, as by a log with doubled lines or by an observer that is registered twice, counts once: the
  numbers of a run's events rise.
- What is told under a run's id after its end, as by a process that was taken for dead, or of a run whose beginning is
  not among the events, is superseded or without a place: it gives no span and is counted. So the sum over spans is
  what UsageReporter adds up, less what such a process used after a resume had ended its spans, which no sink can open
  again: those tokens were billed, and UsageReporter alone has them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeAlias, get_args

import attrs
import msgspec

from agentkit_loop import events as ev
from agentkit_loop.events import AgentEvent
from agentkit_loop.trace_context import SpanIds, SpanPlace, place_of, place_of_call, run_span_id, trace_id_of
from agentkit_loop.usage import can_be_added
from agentkit_reporting.records.settled_requests import outcome_of
from agentkit_reporting.tracing.attribute import Facts
from agentkit_reporting.tracing.conventions import Profile, profile_of
from agentkit_reporting.tracing.facts import labels_of, parameter_facts, request_facts, run_facts, tool_facts
from agentkit_reporting.tracing.fold_moments import MOMENTS, add_moment, tool_error
from agentkit_reporting.tracing.fold_runs import (
    CLOSING_KINDS,
    Beginning,
    OpenRun,
    epoch_ns,
    teller_of,
)
from agentkit_reporting.tracing.own_attributes import OWN_ATTRIBUTES, brief_text, plain_value
from agentkit_reporting.tracing.spans import STATUS, AttributeValue, ContentSource, Share, Span

__all__ = ["SPAN_EVENTS", "SpanFold"]

# Names of our own, the same under each profile, that every request or call tells: written without the table's way.
_TURN, _REQUEST = (OWN_ATTRIBUTES[key][0] for key in ("turn", "request.id"))
_RESULT: Final = ev.ToolResultReceived  # looked at for each event
_SHARED: Final = ("conversation", "agent.name", "run.id")  # what each span of a run tells
_RunEnd: TypeAlias = ev.RunFinished | ev.RunFailed | ev.RunCancelled
_OfCall: TypeAlias = (
    ev.ApprovalRequired | ev.ApprovalResolved | ev.AuthRequired | ev.AuthResolved | ev.ToolExecutionProgress
)


class SpanFold:
    """Turns events of any number of sessions into spans; returns each once, when it is over.

    One session's events come from one thread, in order; different sessions' may come from different ones. Keeps a few
    kB for each run that is open, nothing of one that is over. profile: how attributes are called. content: what was
    said; None leaves it out, and the text of errors with it.
    """

    def __init__(self, *, profile: Profile | None = None, content: ContentSource | None = None) -> None:
        self._profile = profile or profile_of()
        self._streamed = self._profile.named({"request.stream": True})
        self._call_id = self._profile.names_of("tool.call_id")
        self._finished_by = functools.lru_cache(64)(functools.partial(_named_reason, self._profile))
        self._content = content
        self._runs: dict[tuple[str, str], OpenRun] = {}
        self._unplaced = 0

    @property
    def open_count(self) -> int:
        """How many spans have begun and are not over; of runs of which only metrics are told there are none."""
        return sum(run.open_count for run in list(self._runs.values()) if run.span.share != "metrics")

    @property
    def unplaced(self) -> int:
        """How many of the SPAN_EVENTS were of no open run, or told before, or ended what had not begun.

        Exact for one thread.
        """
        return self._unplaced

    def take(self, event: AgentEvent) -> Sequence[Span]:
        """Take an event; return the spans that are over with it, children before parents.

        What is not one of SPAN_EVENTS is for the content alone.
        """
        kind = type(event)
        act = self._ACTS.get(kind)
        if act is None and kind is ev.RunStarted:
            return self.begin(event)  # type: ignore[arg-type] # it was looked at
        if self._content is not None:
            self._content.take(event)
        if act is None:
            return ()
        run = self._runs.get((event.session_id, event.run_id))
        if run is None:
            self._unplaced += 1
            return ()
        seq = event.seq
        if seq > run.last_seq:
            run.last_seq = seq
        elif seq:  # it was told before; without a number by who tells no other either
            self._unplaced += 1
            return ()
        if run.held or (kind in CLOSING_KINDS and (kind is not _RESULT or event.interrupted)):  # type: ignore[attr-defined] # a result has it
            return [*self._settled(run, event), *act(self, run, event)]
        at = event.timestamp
        if at > run.last_at and not run.is_recovered:  # as `advance` does; for most events of all
            run.last_at = at
        return act(self, run, event)

    def close(self) -> Sequence[Span]:
        """End every span that is still open, at the last time that its run told; return them, children before parents.

        What was said in them is let go of.
        """
        if self._content is not None:
            self._content.close()
        return [span for run in reversed(list(self._runs.values())) for span in self._ended(run, None)]

    def span_of_request(self, session_id: str, run_id: str, request_id: str) -> Span | None:
        """Return a request's span while it is open; None where only its run's metrics are told."""
        run = self._runs.get((session_id, run_id))
        return None if run is None or run.span.share == "metrics" else run.requests.get(request_id)

    # --- runs

    def begin(self, event: ev.RunStarted, share: Share = "all") -> Sequence[Span]:
        """Take the beginning of a run, as `take` does. share: what of it is told here; each of its spans says so."""
        if self._content is not None:
            self._content.take(event)
        session, run_id = event.session_id, event.run_id
        if (session, run_id) in self._runs:
            self._unplaced += 1  # told twice
            return ()
        superseded = self.supersede(event)
        parent = self._parent_of(event)
        facts = run_facts(event)
        agent = facts["agent.name"]
        span = Span(
            operation="invoke_agent",
            name=f"invoke_agent {agent}" if agent else "invoke_agent",
            trace_id=trace_id_of(session, run_id) if parent is None else parent.trace_id,
            span_id=run_span_id(session, run_id),
            parent=parent,
            start_ns=epoch_ns(event.timestamp),
            session_id=session,
            run_id=run_id,
            attributes=self._profile.named({**facts, **self._said(event)}),
            labels=labels_of(facts),
            share=share,
        )
        self._runs[session, run_id] = OpenRun(
            span=span,
            started=attrs.evolve(event, items=(), tools=(), system=None),
            ids=SpanIds(session, run_id),
            last_at=event.timestamp,
            last_seq=event.seq,
            shared=self._profile.named({key: facts[key] for key in _SHARED}),
            parameters=parameter_facts(event.parameters),
            specs={spec.name: spec for spec in event.tools},
        )
        return superseded

    def supersede(self, event: ev.RunStarted) -> Sequence[Span]:
        """End the run that another goes on from, which somebody else may tell; return the spans that are over."""
        earlier = None if event.resumed_run is None else self._runs.get((event.session_id, event.resumed_run))
        return () if earlier is None else self._ended(earlier, None)

    def _parent_of(self, event: ev.RunStarted) -> Span | SpanPlace | None:
        """Return what the run is a child of: the place that its metadata name, as our own span where that is open.

        Without one in the metadata, as in logs of earlier versions, a sub-agent's is what its parent's ids come to.
        """
        place, of = place_of(event.metadata), event.parent
        if of is None:
            return place
        above = self._runs.get((of.session_id, of.run_id))
        if place is None:
            place = place_of_call({}, of.session_id, of.run_id, of.call_id)
            if above is not None:
                place = msgspec.structs.replace(place, trace_id=above.span.trace_id)
        if above is not None and above.span.share == "metrics":
            return place  # who makes its spans is another
        ours = None if above is None else above.calls.get(of.call_id) if of.call_id else above.span
        is_there = ours is not None and (ours.trace_id, ours.span_id) == (place.trace_id, place.span_id)
        return ours if is_there else place

    def _ended(self, run: OpenRun, event: _RunEnd | None) -> Sequence[Span]:
        """End a run and what is open in it; return the spans, its own last. event: None where its end is missing."""
        ended = self._released(run)
        for request in run.requests.values():
            ended.append(self._cut(request, run))
        for call in run.calls.values():
            told: Facts = {"unfinished": True}
            if isinstance(event, ev.RunFailed):  # to be called again by who goes on with the session
                call.error = told["error"] = "interrupted"
            self._add(call, told)
            ended.append(self._over(call, run))
        told = {"run.finish_reason": run.finish_reason, "unfinished": None if event else True}
        if event is not None:
            run.span.is_finished, run.span.duration_ms = True, event.duration_ms
            told["run.outcome"] = outcome_of(event)
            if isinstance(event, ev.RunFailed):
                told["error"] = run.span.error = brief_text(event.error.type)
            told.update(self._said(event))
        self._add(run.span, told)
        del self._runs[run.span.session_id, run.span.run_id]
        return [*ended, self._over(run.span, run)]

    def _note_exchange(self, run: OpenRun, event: ev.TurnFinished) -> Sequence[Span]:
        run.finish_reason = brief_text(event.finish_reason)
        return ()

    def _settled(self, run: OpenRun, event: AgentEvent) -> list[Span]:
        """Find out who told an event, the run or a resume; return the calls that waited for that, which end with it."""
        teller = teller_of(event)
        if teller == "either" and (run.held or not isinstance(event, ev.ObserverFailed)):
            return []
        if teller == "resume":
            run.is_recovered = True
        released = self._released(run)
        run.advance(event.timestamp)
        return released

    def _released(self, run: OpenRun) -> list[Span]:
        """End the calls that are held; return them."""
        held, run.held = run.held, []
        ended = []
        for span, moment in held:
            run.advance(moment)
            ended.append(self._over(span, run))
        return ended

    # --- requests

    def _request_begins(self, run: OpenRun, event: ev.ModelRequestStarted) -> Sequence[Span]:
        earlier = run.requests.get(event.request_id)
        known = run.known.get((event.model, event.purpose)) or self._know_request(run, event)
        attributes = known.attributes.copy()
        if event.turn_id is not None:
            attributes[_TURN] = brief_text(event.turn_id)
        attributes[_REQUEST] = brief_text(event.request_id)
        if event.attempt != 1:
            self._profile.named({"request.attempt": plain_value(event.attempt)}, attributes)
        if run.is_compacted and event.purpose == "turn":
            self._profile.named({"compacted": True}, attributes)
        if self._content is not None:
            self._profile.named(self._said(event), attributes)
        run.requests[event.request_id] = run.child("chat", known, run.ids.of_event(event.seq), attributes)
        if earlier is None:
            return ()
        return (self._cut(earlier, run),)

    def _know_request(self, run: OpenRun, event: ev.ModelRequestStarted) -> Beginning:
        facts = {**request_facts(event, run.started, run.parameters), "request.attempt": 1}
        model = facts["request.model"]
        name = f"chat {model}" if model else "chat"
        return run.remember((event.model, event.purpose), name, facts, self._profile)

    def _note_usage(self, run: OpenRun, event: ev.UsageUpdated) -> Sequence[Span]:
        request = run.requests.get(event.request_id)
        if request is None:
            self._unplaced += 1
            return ()
        request.usage, request.cost = event.usage, event.cost
        if not event.final:  # not its last word, as a stream tells it
            request.attributes.update(self._streamed)
        return ()

    def _request_ends(
        self, run: OpenRun, event: ev.ModelRequestFinished | ev.ModelRequestFailed
    ) -> Sequence[Span]:
        request = run.requests.pop(event.request_id, None)
        if request is None:
            self._unplaced += 1
            return ()
        request.is_finished, request.duration_ms = True, event.duration_ms
        self._used(request)
        told: Facts = {}
        if isinstance(event, ev.ModelRequestFailed):
            told["error"] = request.error = brief_text(event.error_class)
            told["retry_after_ms"] = event.retry_after_ms
            if event.error_class == "stream_cut":
                request.attributes.update(self._streamed)
        else:
            request.attributes.update(self._finished_by(brief_text(event.finish_reason)))
            if event.response_id is not None:
                told["response.id"] = brief_text(event.response_id)
            if event.response_model is not None:
                told["response.model"] = request.response_model = brief_text(event.response_model)
            if event.first_content_ms is not None:
                request.first_content_ms = event.first_content_ms
                told["time_to_first_chunk"] = event.first_content_ms / 1000
                request.attributes.update(self._streamed)
        if self._content is None:
            self._profile.named(told, request.attributes)
        else:
            self._add(request, {**told, **self._said(event)})
        return (self._over(request, run, event.duration_ms),)

    def _cut(self, request: Span, run: OpenRun) -> Span:
        """End a request whose own end is missing."""
        self._used(request)
        self._add(request, {"unfinished": True})
        return self._over(request, run)

    def _used(self, request: Span) -> None:
        """Tell what a request used and cost."""
        if request.usage is not None:
            self._profile.name_usage(request.usage, request.attributes)
        cost = request.cost
        if cost is not None and can_be_added(cost.amount):
            told: Facts = {"cost": float(cost.amount), "cost.currency": brief_text(cost.currency)}
            self._profile.named(told, request.attributes)

    # --- calls

    def _call_begins(self, run: OpenRun, event: ev.ToolExecutionStarted) -> Sequence[Span]:
        span = run.calls.get(event.call_id)
        if span is not None:  # once more: the credentials are there that it asked for
            self._add(span, {"tool.attempt": event.attempt})
            return ()
        known = run.known.get(event.name) or self._know_call(run, event)
        attributes = known.attributes.copy()
        for name in self._call_id:
            attributes[name] = brief_text(event.call_id)
        if event.attempt != 1 or event.edited or self._content is not None:
            told: Facts = {"tool.attempt": plain_value(event.attempt), "tool.edited": event.edited or None}
            self._profile.named({**told, **self._said(event)}, attributes)
        if event.turn_id is not None:
            attributes[_TURN] = brief_text(event.turn_id)
        span_id = run.ids.of_call(event.call_id)
        run.calls[event.call_id] = run.child("execute_tool", known, span_id, attributes)
        return ()

    def _know_call(self, run: OpenRun, event: ev.ToolExecutionStarted) -> Beginning:
        agent = brief_text(run.started.agent_name) or None
        facts = {**tool_facts(event.name, run.specs), "agent.name": agent, "tool.attempt": 1}
        name = facts["tool.name"]
        return run.remember(
            event.name, f"execute_tool {name}" if name else "execute_tool", facts, self._profile
        )

    def _call_ends(self, run: OpenRun, event: ev.ToolResultReceived) -> Sequence[Span]:
        span = run.calls.pop(event.call_id, None)
        if span is None:  # it never ran, or in an earlier run
            told: Facts = {}
            if event.name not in run.specs:  # of no tool: a word of the model's
                if run.specs and tool_error(event) == "not_started":
                    told["error"] = "unknown_tool"
                event = attrs.evolve(event, name="")
            add_moment(run.span, event, run.last_ns, self._profile, told)
            return ()
        span.is_finished, span.duration_ms = True, event.duration_ms
        is_held = event.interrupted and event.duration_ms is None
        if event.interrupted or event.is_error or self._content is not None:
            told = {"tool.interrupted": event.interrupted or None}
            if event.is_error:
                told["error"] = span.error = tool_error(event)
            told.update(self._said(event))
            self._add(span, told)
        if is_held:
            run.held.append((span, max(event.timestamp, run.last_at)))
            return ()
        return (self._over(span, run, event.duration_ms),)

    # --- moments

    def _note(self, run: OpenRun, event: AgentEvent) -> Sequence[Span]:
        add_moment(run.span, event, run.last_ns, self._profile)
        return ()

    def _note_tools(self, run: OpenRun, event: ev.ToolCatalogChanged) -> Sequence[Span]:
        run.note_tools(event)
        return self._note(run, event)

    def _note_compaction(self, run: OpenRun, event: ev.CompactionFinished) -> Sequence[Span]:
        run.is_compacted = run.is_compacted or event.plan is not None
        return self._note(run, event)

    def _note_of_call(self, run: OpenRun, event: _OfCall) -> Sequence[Span]:
        add_moment(run.calls.get(event.call_id, run.span), event, run.last_ns, self._profile)
        return ()

    # --- spans

    def _said(self, event: AgentEvent) -> Facts:
        return {} if self._content is None else dict(self._content.told_by(event))

    def _add(self, span: Span, told: Facts) -> None:
        if STATUS in told:
            text = told.pop(STATUS)
            span.error = str(text) if span.error is not None and text else span.error
        self._profile.named(told, span.attributes)

    def _over(self, span: Span, run: OpenRun, duration_ms: float | None = None) -> Span:
        if span.dropped_events:
            self._add(span, {"dropped_events": span.dropped_events})
        run.end(span, duration_ms)  # the last of all: what has an end is changed no more
        return span

    # --- which event does what

    _ACTS: ClassVar[Mapping[type[AgentEvent], Callable[[SpanFold, OpenRun, Any], Sequence[Span]]]] = {
        **dict.fromkeys(MOMENTS, _note),
        **dict.fromkeys(get_args(_OfCall), _note_of_call),
        ev.ToolCatalogChanged: _note_tools,
        ev.CompactionFinished: _note_compaction,
        ev.TurnFinished: _note_exchange,
        ev.ModelRequestStarted: _request_begins,
        ev.UsageUpdated: _note_usage,
        ev.ModelRequestFinished: _request_ends,
        ev.ModelRequestFailed: _request_ends,
        ev.ToolExecutionStarted: _call_begins,
        ev.ToolResultReceived: _call_ends,
        ev.RunFinished: _ended,
        ev.RunFailed: _ended,
        ev.RunCancelled: _ended,
    }


def _named_reason(profile: Profile, reason: str) -> dict[str, AttributeValue]:
    return profile.named({"finish_reasons": (reason,)})


SPAN_EVENTS: Final[tuple[type[AgentEvent], ...]] = (ev.RunStarted, *SpanFold._ACTS)  # noqa: SLF001 - of this module
"""The events that spans are made of, for a reporter's `wants`; content needs more."""
