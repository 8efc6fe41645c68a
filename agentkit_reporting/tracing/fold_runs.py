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

from agentkit_loop.closing import PROCESS_ENDED
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
from agentkit_loop.usage import Cost, Usage, can_be_added
from agentkit_reporting.tracing.fold_moments import Told
from agentkit_reporting.tracing.own_attributes import brief_text
from agentkit_reporting.tracing.spans import AttributeValue, Span

__all__ = [
    "CLOSING_KINDS",
    "OpenRequest",
    "OpenRun",
    "Teller",
    "epoch_ns",
    "teller_of",
    "told_of_cut",
    "told_usage",
]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST_NS = 2**63 - 1  # in the year 2262: a log may tell of the year 9999, a span cannot
_MOST_KNOWN = 256
_LONGEST_MS = 1e12  # thirty years: a log may say that a call took 1e300 ms


def epoch_ns(moment: dt.datetime) -> int:
    """Return nanoseconds since 1970, from 0 to 2**63 - 1; a log's times are exact to a microsecond."""
    since = moment - _EPOCH
    ns = ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    return ns if 0 <= ns <= _LATEST_NS else min(max(ns, 0), _LATEST_NS)


@attrs.define(eq=False)
class OpenRequest:
    """A request that has not ended.

    usage, cost: what it told last. is_streaming: it told usage that was not its last word, as a stream does.
    """

    span: Span
    usage: Usage | None = None
    cost: Cost | None = None
    is_streaming: bool = False


@attrs.define(eq=False)
class OpenRun:
    """A run that has not ended.

    started: its beginning, without its transcript. last_ns: the latest time that it told. last_seq: the number of the
    last event. shared: what each of its
    spans tells, under the profile's names. parameters: of its requests, by the keys of the table. specs: its tools.
    requests, calls: those that are open, by id. held: calls that were closed without a measured end, each with the
    time of that, as long as it is not clear who did: the run or a resume. is_recovered: a resume did. is_compacted: its
    history was made shorter while it ran. finish_reason: of its last exchange. known: what the spans of a model or a
    tool begin with, under the profile's names.
    """

    span: Span
    started: RunStarted
    last_ns: int
    last_seq: int
    shared: dict[str, AttributeValue]
    parameters: dict[str, AttributeValue | None] = attrs.field(factory=dict)
    specs: dict[str, ToolSpec] = attrs.field(factory=dict)
    requests: dict[str, OpenRequest] = attrs.field(factory=dict)
    calls: dict[str, Span] = attrs.field(factory=dict)
    held: list[tuple[Span, int]] = attrs.field(factory=list)
    is_recovered: bool = False
    is_compacted: bool = False
    finish_reason: str | None = None
    known: dict[tuple[str, ...], dict[str, AttributeValue]] = attrs.field(factory=dict)

    @property
    def open_count(self) -> int:
        """How many spans of it are open, its own among them."""
        return 1 + len(self.requests) + len(self.calls) + len(self.held)

    def advance(self, ns: int) -> None:
        """Take note of the time of an event, unless a resume tells it."""
        if ns > self.last_ns and not self.is_recovered:
            self.last_ns = ns

    def note_tools(self, event: ToolCatalogChanged) -> None:
        """Take note that the model is told of other tools from now on."""
        for name in event.removed:
            self.specs.pop(name, None)
        self.specs.update((spec.name, spec) for spec in (*event.added, *event.changed))
        self.known.clear()

    def remember(
        self, key: tuple[str, ...], attributes: dict[str, AttributeValue]
    ) -> dict[str, AttributeValue]:
        """Keep what the spans of a kind begin with; return it."""
        if len(self.known) >= _MOST_KNOWN:
            self.known.clear()  # a log may name any number of models
        self.known[key] = {**self.shared, **attributes}
        return self.known[key]

    def child(
        self,
        operation: Literal["chat", "execute_tool"],
        subject: str,
        *,
        span_id: int,
        attributes: dict[str, AttributeValue],
    ) -> Span:
        """Return a span in this run that begins now. subject: what its name tells beside the operation."""
        run = self.span
        return Span(
            operation,
            f"{operation} {subject}" if subject else operation,
            run.trace_id,
            span_id,
            run,
            self.last_ns,
            run.session_id,
            run.run_id,
            "client" if operation == "chat" else "internal",
            0,
            attributes,
        )

    def begin_earlier(self, span: Span, duration_ms: float | None) -> None:
        """Let a span that was told late, and ends now, begin when its duration says, within the run.

        Late: it took more than twice what lies between its events. What was told as it happened stays where it began,
        as the spans below it have heard by then, though a clock that is being set right counts a little less.
        """
        if duration_ms is not None and 0 < duration_ms < _LONGEST_MS:
            took_ns = duration_ms * 1_000_000
            if took_ns > 2 * (self.last_ns - span.start_ns):
                span.start_ns = max(self.last_ns - round(took_ns), self.span.start_ns)


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


def told_usage(request: OpenRequest) -> Told:
    """Return what a request used and cost, by the keys of the table; the input counts include the cached ones."""
    usage, cost = request.usage, request.cost
    told: Told = {}
    if usage is not None:
        told = {
            "usage.input": usage.total_input_tokens,
            "usage.output": usage.output_tokens,
            "usage.cache_read": usage.cached_input_tokens,
            "usage.cache_write": usage.cache_write_input_tokens,
            "usage.reasoning": usage.reasoning_tokens,
        }
    if cost is not None and can_be_added(cost.amount):
        told["cost"] = float(cost.amount)
        told["cost.currency"] = brief_text(cost.currency)
    return told


def told_of_cut(request: OpenRequest, error_class: str | None = None) -> Told:
    """Return the same of a request without an answer, and whether it was a stream, where that is known.

    error_class: of one that failed. Of an answer the time of its first content says so.
    """
    told = told_usage(request)
    if request.is_streaming or error_class == "stream_cut":
        told["request.stream"] = True
    return told
