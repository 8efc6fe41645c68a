"""The spans of a log, one after another as they end, and in batches that a receiver takes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from agentkit_loop.content import AppendText
from agentkit_loop.events import AgentEvent, ContentDelta, RunStarted
from agentkit_loop.trace_context import SpanPlace
from agentkit_reporting.tracing.conventions import Profile
from agentkit_reporting.tracing.fold import SpanFold
from agentkit_reporting.tracing.spans import AttributeValue, ContentSource, Span

__all__ = ["BATCH_BYTES", "BATCH_SPANS", "LogSpan", "batches_of", "spans_of"]

BATCH_SPANS = 512
"""Most spans of a batch: as many as OpenTelemetry's batch processor sends by default."""

BATCH_BYTES = 4 * 2**20
"""What a batch may about take: far below what collectors refuse (20 MiB). A single span may take more."""

_SPAN_BYTES = 160  # ids, times and frames of a span beside its texts, about
_PAIR_BYTES = 24  # the frame of an attribute


@attrs.frozen
class LogSpan:
    """A span that is over, as it is exported.

    is_parent_remote: whether its parent is a span of another process, as far as a log can tell: one that is named by
    the run's metadata, unless that is the call of the agent above. trace_state: valid, "" where there is none.
    """

    span: Span
    is_parent_remote: bool
    trace_state: str


def spans_of(
    events: Iterable[AgentEvent],
    *,
    profile: Profile | None = None,
    content: ContentSource | None = None,
    tell_unplaced: Callable[[int], object] | None = None,
) -> Iterator[LogSpan]:
    """Yield the spans of events, each when it is over; what is still open after the last event ends there.

    profile: under whose names attributes stand. content: who knows what was said; None tells none of it.
    tell_unplaced: is told at the end of how many events no span tells, since they are of no open run. Sessions may be
    interleaved; of each, the events come in order. Holds open spans only.
    """
    fold = SpanFold(profile=profile, content=content)
    sub_agents: set[tuple[str, str]] = set()
    for event in events:
        if event.__class__ is ContentDelta and (content is None or event.delta.__class__ is AppendText):
            continue  # two thirds of a log, and no span tells of them
        if isinstance(event, RunStarted) and event.parent is not None:
            sub_agents.add((event.session_id, event.run_id))
        for span in fold.take(event):
            yield _exported(span, sub_agents)
    for span in fold.close():
        yield _exported(span, sub_agents)
    if tell_unplaced is not None:
        tell_unplaced(fold.unplaced)


def batches_of(spans: Iterable[LogSpan]) -> Iterator[list[LogSpan]]:
    """Yield the spans in batches of at most BATCH_SPANS and about BATCH_BYTES."""
    batch: list[LogSpan] = []
    size = 0
    for each in spans:
        needed = _size(each.span)
        if batch and (len(batch) == BATCH_SPANS or size + needed > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += needed
    if batch:
        yield batch


def _exported(span: Span, sub_agents: set[tuple[str, str]]) -> LogSpan:
    is_sub_agent = span.operation == "invoke_agent" and (span.session_id, span.run_id) in sub_agents
    if is_sub_agent:
        sub_agents.discard((span.session_id, span.run_id))
    return LogSpan(span, isinstance(span.parent, SpanPlace) and not is_sub_agent, _trace_state(span))


def _trace_state(span: Span) -> str:
    """Return the state that the root's parent had: within a trace it goes down unchanged."""
    above: Span | SpanPlace | None = span
    while isinstance(above, Span):
        above = above.parent
    return "" if above is None else above.state or ""


def _size(span: Span) -> int:
    size = _SPAN_BYTES + len(span.name) + len(span.error or "") + _size_of(span.attributes)
    for event in span.events:
        size += _SPAN_BYTES + len(event.name) + _size_of(event.attributes)
    return size


def _size_of(attributes: Mapping[str, AttributeValue]) -> int:
    size = 0
    for name, value in attributes.items():
        size += _PAIR_BYTES + len(name)
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, tuple):
            size += sum(map(len, value)) + _PAIR_BYTES * len(value)
    return size
