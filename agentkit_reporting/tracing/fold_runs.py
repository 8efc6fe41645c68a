"""A run that has not ended: its span, the spans in it that are open, and the times of them.

Within a run time does not go back: a clock that is set while it runs makes no span end before it began, and none
reach beyond the run's. Where a thing was told late, as all at once, its duration says when it began; not before its
run. What a resume tells under the id of a run that crashed, perhaps days after, ends nothing later than the last that
the run itself told.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal, TypeAlias

import attrs

from agentkit_loop.content import ToolSpec
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    ModelRequestFailed,
    ObserverFailed,
    RunFailed,
    RunStarted,
    ToolCatalogChanged,
    ToolResultReceived,
)
from agentkit_loop.trace_context import SpanIds
from agentkit_loop.usage import PROCESS_ENDED
from agentkit_reporting.tracing.attribute import Facts
from agentkit_reporting.tracing.conventions import Profile
from agentkit_reporting.tracing.facts import labels_of
from agentkit_reporting.tracing.spans import AttributeValue, Span

__all__ = [
    "CLOSING_KINDS",
    "Beginning",
    "OpenRun",
    "Teller",
    "epoch_ns",
    "teller_of",
]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST_NS = 2**63 - 1  # in the year 2262: a log may tell of the year 9999, a span cannot
_MOST_KNOWN, _LONGEST_KEY = 256, 512
_LONGEST_MS = 1e12  # thirty years: a log may say that a call took 1e300 ms


def epoch_ns(moment: dt.datetime) -> int:
    """Return nanoseconds since 1970, from 0 to 2**63 - 1; a log's times are exact to a microsecond."""
    since = moment - _EPOCH
    ns = ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    return ns if 0 <= ns <= _LATEST_NS else min(max(ns, 0), _LATEST_NS)


@attrs.frozen
class Beginning:
    """What all requests to a model, or all calls of a tool, begin with: name, attributes and labels of their spans."""

    name: str
    attributes: dict[str, AttributeValue]
    labels: dict[str, str]


@attrs.define(eq=False)
class OpenRun:
    """A run that has not ended.

    started: its beginning, without its transcript. ids: of its spans. last_at: the latest time that it told. last_seq:
    the number of the last event. shared: what each of its spans tells, under the profile's names. parameters: of its
    requests, by the keys of the table. specs: its tools. requests, calls: those that are open, by id. held: calls that
    were closed without a measured end, each with the time of that, as long as it is not clear who did: the run or a
    resume. is_recovered: a resume did. is_compacted: its history was made shorter while it ran. finish_reason: of its
    last exchange. known: what was worked out once: by model and purpose, and by the name of a tool.
    """

    span: Span
    started: RunStarted
    ids: SpanIds
    last_at: dt.datetime
    last_seq: int
    shared: dict[str, AttributeValue]
    parameters: Facts = attrs.field(factory=dict)
    specs: dict[str, ToolSpec] = attrs.field(factory=dict)
    requests: dict[str, Span] = attrs.field(factory=dict)
    calls: dict[str, Span] = attrs.field(factory=dict)
    held: list[tuple[Span, dt.datetime]] = attrs.field(factory=list)
    is_recovered: bool = False
    is_compacted: bool = False
    finish_reason: str | None = None
    known: dict[str | tuple[str, str], Beginning] = attrs.field(factory=dict)

    @property
    def open_count(self) -> int:
        """How many spans of it are open, its own among them."""
        return 1 + len(self.requests) + len(self.calls) + len(self.held)

    @property
    def last_ns(self) -> int:
        """The latest time that it told, as spans have times."""
        return epoch_ns(self.last_at)

    def advance(self, moment: dt.datetime) -> None:
        """Take note of the time of an event, unless a resume tells it."""
        if moment > self.last_at and not self.is_recovered:
            self.last_at = moment

    def note_tools(self, event: ToolCatalogChanged) -> None:
        """Take note that the model is told of other tools from now on."""
        for name in event.removed:
            self.specs.pop(name, None)
        self.specs.update((spec.name, spec) for spec in (*event.added, *event.changed))
        self.known.clear()

    def remember(self, key: str | tuple[str, str], name: str, facts: Facts, profile: Profile) -> Beginning:
        """Work out what spans begin with, and keep it. name: of the spans. facts: what the events tell of them."""
        beginning = Beginning(name, {**self.shared, **profile.named(facts)}, labels_of(facts))
        if len(self.known) >= _MOST_KNOWN:  # a log may name any number of models
            self.known.clear()
        if len(key if isinstance(key, str) else key[0] + key[1]) <= _LONGEST_KEY:
            self.known[key] = beginning
        return beginning

    def child(
        self,
        operation: Literal["chat", "execute_tool"],
        beginning: Beginning,
        span_id: int,
        attributes: dict[str, AttributeValue],
    ) -> Span:
        """Return a span in this run that begins now."""
        run = self.span
        return Span(
            operation,
            beginning.name,
            run.trace_id,
            span_id,
            run,
            self.last_ns,
            run.session_id,
            run.run_id,
            attributes,
            beginning.labels,
            run.share,
        )

    def end(self, span: Span, duration_ms: float | None = None) -> None:
        """End a span in this run, or its own, at the last time that the run told.

        duration_ms: what the event says that ends it. One that was told late began when that says, within the run.
        Late: it took more than twice what lies between its events. What was told as it happened stays where it began,
        as the spans below it have heard by then, though a clock that is being set right counts a little less.
        """
        span.end_ns = end_ns = epoch_ns(self.last_at)
        if duration_ms is not None and 0 < duration_ms < _LONGEST_MS:
            took_ns = int(duration_ms * 1_000_000)
            if took_ns > 2 * (end_ns - span.start_ns):
                span.start_ns = max(end_ns - took_ns, self.span.start_ns)


Teller: TypeAlias = Literal["run", "resume", "either"]
"""Who told an event under a run's id."""

CLOSING_KINDS: Final = frozenset(
    {ModelRequestFailed, CompactionFinished, ToolResultReceived, RunFailed, ObserverFailed}
)
"""The events by which a resume closes what a crash left open, and what comes of them; all others are the run's own."""


def teller_of(event: AgentEvent) -> Teller:
    """Return who told one of the CLOSING_KINDS: a resume was not there to measure, and says that the process ended.

    Of a call that was interrupted either may have told; of an observer's failure too, while such a call is held.
    """
    match event:
        case ModelRequestFailed(error_class="process_ended", duration_ms=None):
            return "resume"
        case CompactionFinished(error=error) if error is not None and error.type == PROCESS_ENDED.type:
            return "resume"
        case RunFailed(error=error, duration_ms=None) if error.type == PROCESS_ENDED.type:
            return "resume"
        case ToolResultReceived(interrupted=True, not_started=False, duration_ms=None) | ObserverFailed():
            return "either"
        case _:
            return "run"
