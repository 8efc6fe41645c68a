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

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeAlias, get_args

import attrs

from agentkit_loop import events as ev
from agentkit_loop.events import AgentEvent
from agentkit_loop.trace_context import (
    SpanPlace,
    call_span_id,
    place_of,
    place_of_call,
    run_span_id,
    span_id_of,
    trace_id_of,
)
from agentkit_reporting.records.settled_requests import outcome_of
from agentkit_reporting.tracing.conventions import Profile, profile_of
from agentkit_reporting.tracing.facts import parameter_facts, request_facts, run_facts, tool_facts
from agentkit_reporting.tracing.fold_moments import MOMENTS, Told, add_moment, tool_error
from agentkit_reporting.tracing.fold_runs import (
    CLOSING_KINDS,
    OpenRequest,
    OpenRun,
    epoch_ns,
    teller_of,
    told_of_cut,
    told_usage,
)
from agentkit_reporting.tracing.own_attributes import OWN_ATTRIBUTES, brief_text, plain_value
from agentkit_reporting.tracing.spans import STATUS, AttributeValue, ContentSource, Span, SpanSink

__all__ = ["SPAN_EVENTS", "SpanFold"]

# Names of our own, the same under each profile, that every request or call tells: written without the table's way.
_TURN, _REQUEST, _ATTEMPT, _TOOL_ATTEMPT = (
    OWN_ATTRIBUTES[key][0] for key in ("turn", "request.id", "request.attempt", "tool.attempt")
)
_RESULT: Final = ev.ToolResultReceived  # looked at for each event
_SHARED: Final = ("conversation", "agent.name", "run.id")  # what each span of a run tells
_RunEnd: TypeAlias = ev.RunFinished | ev.RunFailed | ev.RunCancelled
_OfCall: TypeAlias = (
    ev.ApprovalRequired | ev.ApprovalResolved | ev.AuthRequired | ev.AuthResolved | ev.ToolExecutionProgress
)


class SpanFold:
    """Turns events of any number of sessions into spans, and gives each to `sink` when it is over.

    One session's events come from one thread, in order; different sessions' may come from different ones. Keeps a few
    kB for each run that is open, nothing of one that is over. profile: how attributes are called. content: what was
    said; None leaves it out, and the text of errors with it.
    """

    def __init__(
        self, sink: SpanSink, *, profile: Profile | None = None, content: ContentSource | None = None
    ) -> None:
        self._sink = sink
        self._profile = profile or profile_of()
        self._content = content
        self._runs: dict[tuple[str, str], OpenRun] = {}
        self._unplaced = 0

    @property
    def open_count(self) -> int:
        """How many spans have begun and are not over."""
        return sum(run.open_count for run in list(self._runs.values()))

    @property
    def unplaced(self) -> int:
        """How many of the SPAN_EVENTS were of no open run, or told before, or ended what had not begun.

        Exact for one thread.
        """
        return self._unplaced

    def take(self, event: AgentEvent) -> None:
        """Take an event; what is not one of SPAN_EVENTS is for the content alone."""
        if self._content is not None:
            self._content.take(event)
        kind = type(event)
        act = self._ACTS.get(kind)
        if act is None:
            if kind is ev.RunStarted:
                self._begin(event)  # type: ignore[arg-type] # its class was just looked at
            return
        run = self._runs.get((event.session_id, event.run_id))
        if run is None:
            self._unplaced += 1
            return
        seq = event.seq
        if seq > run.last_seq:
            run.last_seq = seq
        elif seq:  # it was told before; without a number by who tells no other either
            self._unplaced += 1
            return
        if run.held or (kind in CLOSING_KINDS and (kind is not _RESULT or event.interrupted)):  # type: ignore[attr-defined] # a result has it
            try:
                self._give(self._settled(run, event))
            finally:
                act(self, run, event)
        else:
            ns = epoch_ns(event.timestamp)
            if ns > run.last_ns and not run.is_recovered:  # as `advance` does; for most events of all
                run.last_ns = ns
            act(self, run, event)

    def close(self) -> None:
        """End every span that is still open, at the last time that its run told; children before parents.

        What was said in them is let go of.
        """
        ended = [span for run in reversed(list(self._runs.values())) for span in self._ended(run, None)]
        if self._content is not None:
            self._content.close()
        self._give(ended)

    def span_of_request(self, session_id: str, run_id: str, request_id: str) -> Span | None:
        """Return a request's span while it is open."""
        run = self._runs.get((session_id, run_id))
        request = None if run is None else run.requests.get(request_id)
        return None if request is None else request.span

    # --- runs

    def _begin(self, event: ev.RunStarted) -> None:
        session, run_id = event.session_id, event.run_id
        if (session, run_id) in self._runs:
            self._unplaced += 1  # told twice
            return
        earlier = None if event.resumed_run is None else self._runs.get((session, event.resumed_run))
        superseded = [] if earlier is None else self._ended(earlier, None)
        parent, ns = self._parent_of(event), epoch_ns(event.timestamp)
        facts = run_facts(event)
        agent = facts["agent.name"]
        span = Span(
            operation="invoke_agent",
            name=f"invoke_agent {agent}" if agent else "invoke_agent",
            trace_id=trace_id_of(session, run_id) if parent is None else parent.trace_id,
            span_id=run_span_id(session, run_id),
            parent=parent,
            start_ns=ns,
            session_id=session,
            run_id=run_id,
            attributes=self._profile.named({**facts, **self._said(event)}),
        )
        self._runs[session, run_id] = OpenRun(
            span=span,
            started=attrs.evolve(event, items=(), tools=(), system=None),
            last_ns=ns,
            last_seq=event.seq,
            shared=self._profile.named({key: facts[key] for key in _SHARED}),
            parameters=parameter_facts(event.parameters),
            specs={spec.name: spec for spec in event.tools},
        )
        self._give(superseded)

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
                place = attrs.evolve(place, trace_id=above.span.trace_id)
        ours = None if above is None else above.calls.get(of.call_id) if of.call_id else above.span
        is_there = ours is not None and (ours.trace_id, ours.span_id) == (place.trace_id, place.span_id)
        return ours if is_there else place

    def _end_run(self, run: OpenRun, event: _RunEnd) -> None:
        self._give(self._ended(run, event))

    def _ended(self, run: OpenRun, event: _RunEnd | None) -> list[Span]:
        """End a run and what is open in it; return the spans, its own last. event: None where its end is missing."""
        ended = self._released(run)
        for request in run.requests.values():
            self._add(request.span, {"unfinished": True, **told_of_cut(request)})
            ended.append(self._over(request.span, run))
        for call in run.calls.values():
            told: Told = {"unfinished": True}
            if isinstance(event, ev.RunFailed):  # to be called again by who goes on with the session
                call.error = told["error"] = "interrupted"
            self._add(call, told)
            ended.append(self._over(call, run))
        told = {"run.finish_reason": run.finish_reason, "unfinished": None if event else True}
        if event is not None:
            told["run.outcome"] = outcome_of(event)
            if isinstance(event, ev.RunFailed):
                told["error"] = run.span.error = brief_text(event.error.type)
            told.update(self._said(event))
        self._add(run.span, told)
        del self._runs[run.span.session_id, run.span.run_id]
        return [*ended, self._over(run.span, run)]

    def _note_exchange(self, run: OpenRun, event: ev.TurnFinished) -> None:
        run.finish_reason = brief_text(event.finish_reason)

    def _settled(self, run: OpenRun, event: AgentEvent) -> list[Span]:
        """Find out who told an event, the run or a resume; return the calls that waited for that, which end with it."""
        teller = teller_of(event)
        if teller == "either" and (run.held or not isinstance(event, ev.ObserverFailed)):
            return []
        if teller == "resume":
            run.is_recovered = True
        released = self._released(run)
        run.advance(epoch_ns(event.timestamp))
        return released

    def _released(self, run: OpenRun) -> list[Span]:
        """End the calls that are held; return them."""
        held, run.held = run.held, []
        ended = []
        for span, ns in held:
            run.advance(ns)
            ended.append(self._over(span, run))
        return ended

    # --- requests

    def _request_begins(self, run: OpenRun, event: ev.ModelRequestStarted) -> None:
        earlier = run.requests.get(event.request_id)
        model = brief_text(event.model or run.started.model)
        known = run.known.get(("chat", model, event.purpose)) or self._know_request(run, event, model)
        attributes = known.copy()
        if event.turn_id is not None:
            attributes[_TURN] = brief_text(event.turn_id)
        attributes[_REQUEST] = brief_text(event.request_id)
        attempt = plain_value(event.attempt)
        if attempt is not None:
            attributes[_ATTEMPT] = attempt
        if run.is_compacted and event.purpose == "turn":
            self._profile.named({"compacted": True}, attributes)
        if self._content is not None:
            self._profile.named(self._said(event), attributes)
        span_id = span_id_of(event.session_id, event.run_id, event.seq)
        run.requests[event.request_id] = OpenRequest(
            run.child("chat", model, span_id=span_id, attributes=attributes)
        )
        if earlier is not None:  # its end is missing
            self._add(earlier.span, {"unfinished": True, **told_of_cut(earlier)})
            self._finish(earlier.span, run)

    def _know_request(
        self, run: OpenRun, event: ev.ModelRequestStarted, model: str
    ) -> dict[str, AttributeValue]:
        facts = request_facts(event, run.started, run.parameters)
        return run.remember(("chat", model, event.purpose), self._profile.named(facts))

    def _note_usage(self, run: OpenRun, event: ev.UsageUpdated) -> None:
        request = run.requests.get(event.request_id)
        if request is None:
            self._unplaced += 1
            return
        request.usage, request.cost = event.usage, event.cost
        request.is_streaming = request.is_streaming or not event.final

    def _request_ends(self, run: OpenRun, event: ev.ModelRequestFinished | ev.ModelRequestFailed) -> None:
        request = run.requests.pop(event.request_id, None)
        if request is None:
            self._unplaced += 1
            return
        span = request.span
        run.begin_earlier(span, event.duration_ms)
        if isinstance(event, ev.ModelRequestFailed):
            told = told_of_cut(request, event.error_class)
            told["error"] = span.error = brief_text(event.error_class)
            told["retry_after_ms"] = event.retry_after_ms
        else:
            told = told_usage(request)
            reason = brief_text(event.finish_reason)
            known = run.known.get(("ended", reason)) or run.remember(
                ("ended", reason), self._profile.named({"finish_reasons": (reason,)})
            )
            span.attributes.update(known)
            if event.response_id is not None:
                told["response.id"] = brief_text(event.response_id)
            if event.response_model is not None:
                told["response.model"] = brief_text(event.response_model)
            if event.first_content_ms is not None:
                told["time_to_first_chunk"] = event.first_content_ms / 1000
                told["request.stream"] = True
        if self._content is not None:
            told.update(self._said(event))
        self._add(span, told)
        self._finish(span, run)

    # --- calls

    def _call_begins(self, run: OpenRun, event: ev.ToolExecutionStarted) -> None:
        span = run.calls.get(event.call_id)
        if span is not None:  # once more: the credentials are there that it asked for
            self._add(span, {"tool.attempt": event.attempt})
            return
        name = brief_text(event.name)
        known = run.known.get(("execute_tool", name))
        if known is None:
            facts = self._profile.named(tool_facts(event.name, run.specs))
            known = run.remember(("execute_tool", name), facts)
        told: Told = {"tool.call_id": brief_text(event.call_id)}
        if event.edited:
            told["tool.edited"] = True
        if self._content is not None:
            told.update(self._said(event))
        attributes = self._profile.named(told, known.copy())
        if event.turn_id is not None:
            attributes[_TURN] = brief_text(event.turn_id)
        attempt = plain_value(event.attempt)
        if attempt is not None:
            attributes[_TOOL_ATTEMPT] = attempt
        span_id = call_span_id(event.session_id, event.run_id, event.call_id)
        run.calls[event.call_id] = run.child("execute_tool", name, span_id=span_id, attributes=attributes)

    def _call_ends(self, run: OpenRun, event: ev.ToolResultReceived) -> None:
        span = run.calls.pop(event.call_id, None)
        if span is None:  # it never ran, or in an earlier run
            told: Told = {}
            if event.name not in run.specs:  # of no tool: a word of the model's
                if run.specs and tool_error(event) == "not_started":
                    told["error"] = "unknown_tool"
                event = attrs.evolve(event, name="")
            add_moment(run.span, event, run.last_ns, self._profile, told)
            return
        run.begin_earlier(span, event.duration_ms)
        is_held = event.interrupted and event.duration_ms is None
        if event.interrupted or event.is_error or self._content is not None:
            told = {"tool.interrupted": event.interrupted or None}
            if event.is_error:
                told["error"] = span.error = tool_error(event)
            told.update(self._said(event))
            self._add(span, told)
        if is_held:
            run.held.append((span, epoch_ns(event.timestamp)))
        else:
            self._finish(span, run)

    # --- moments

    def _note(self, run: OpenRun, event: AgentEvent) -> None:
        add_moment(run.span, event, run.last_ns, self._profile)

    def _note_tools(self, run: OpenRun, event: ev.ToolCatalogChanged) -> None:
        run.note_tools(event)
        self._note(run, event)

    def _note_compaction(self, run: OpenRun, event: ev.CompactionFinished) -> None:
        run.is_compacted = run.is_compacted or event.plan is not None
        self._note(run, event)

    def _note_of_call(self, run: OpenRun, event: _OfCall) -> None:
        span = run.calls.get(event.call_id, run.span)
        add_moment(span, event, run.last_ns, self._profile)

    # --- spans

    def _said(self, event: AgentEvent) -> Told:
        return {} if self._content is None else dict(self._content.told_by(event))

    def _add(self, span: Span, told: Told) -> None:
        if STATUS in told:
            text = told.pop(STATUS)
            span.error = str(text) if span.error is not None and text else span.error
        self._profile.named(told, span.attributes)

    def _over(self, span: Span, run: OpenRun) -> Span:
        if span.dropped_events:
            self._add(span, {"dropped_events": span.dropped_events})
        span.end_ns = run.last_ns
        return span

    def _finish(self, span: Span, run: OpenRun) -> None:
        span.end_ns = run.last_ns
        self._sink.take(self._over(span, run) if span.dropped_events else span)

    def _give(self, spans: list[Span]) -> None:
        """Give spans that are over to the sink, each of them, whatever it says of one before."""
        failed: Exception | None = None
        for span in spans:
            try:
                self._sink.take(span)
            except Exception as error:  # noqa: BLE001 - the sink's own, raised again below
                failed = failed or error
        if failed is not None:
            raise failed

    # --- which event does what

    _ACTS: ClassVar[Mapping[type[AgentEvent], Callable[[SpanFold, OpenRun, Any], None]]] = {
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
        ev.RunFinished: _end_run,
        ev.RunFailed: _end_run,
        ev.RunCancelled: _end_run,
    }

    wants: ClassVar[tuple[type[AgentEvent], ...]] = (ev.RunStarted, *_ACTS)
    """The events that spans are made of."""


SPAN_EVENTS: Final[tuple[type[AgentEvent], ...]] = SpanFold.wants
"""The events that spans are made of, for a reporter's `wants`; content needs more."""
