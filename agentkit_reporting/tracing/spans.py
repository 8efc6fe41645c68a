"""A span as the events tell it: ids, times, attributes.

No OpenTelemetry in here, so that a log is turned into spans without it; `api_spans.py` makes them with its API,
`otlp.py`, `otlp_json.py` and `perfetto.py` write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias

import attrs

from agentkit_loop.events import AgentEvent
from agentkit_loop.trace_context import SpanPlace
from agentkit_loop.usage import Cost, Usage

__all__ = [
    "LARGEST_INTEGER",
    "SMALLEST_INTEGER",
    "STATUS",
    "AttributeValue",
    "ContentSource",
    "Share",
    "Span",
    "SpanEvent",
]

AttributeValue: TypeAlias = str | bool | int | float | tuple[str, ...]
"""What an attribute may be; a tuple of texts is an array. Anything deeper is JSON in a text."""

Share: TypeAlias = Literal["all", "spans", "metrics"]
"""What is told of a run: both, or only one where another reporter tells the other to the same place."""

SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**63 - 1
"""What a whole number of an attribute can be: OTLP gives it 64 bits. Receivers refuse what holds another."""

STATUS: Final = "status"
"""Under this key a ContentSource tells the text of an error, for the span's status; it is no attribute."""


@attrs.frozen
class SpanEvent:
    """A moment within a span. ns: since 1970, UTC."""

    name: str
    ns: int
    attributes: dict[str, AttributeValue]


@attrs.define(eq=False)
class Span:
    """One span, mutable until it is over.

    parent: another span of ours, or a place elsewhere, or None for the root of a trace; one of ours is not over, but
    for a sub-agent that ends after its call, as a log may tell. start_ns, end_ns: since 1970, UTC. events: the moments
    within it, dropped_events: how many found no room (fold_moments.py). error: None for a span without an error, else a
    short text; then `error.type` is among the attributes.

    What was measured of it (metrics.py): labels, of each measurement, shared with other spans; is_finished: its own end
    was told; duration_ms, first_content_ms: None where nobody measured; response_model, usage, cost: of a request, what
    was told last.

    share: what of its run is told. made, within: what is kept with it by who makes spans of it (api_spans.py).
    """

    operation: Literal["invoke_agent", "chat", "execute_tool"]
    name: str
    trace_id: int
    span_id: int
    parent: Span | SpanPlace | None
    start_ns: int
    session_id: str
    run_id: str
    attributes: dict[str, AttributeValue]
    labels: Mapping[str, str]
    share: Share = "all"
    end_ns: int = 0
    events: Sequence[SpanEvent] = ()
    dropped_events: int = 0
    error: str | None = None
    is_finished: bool = False
    duration_ms: float | None = None
    first_content_ms: float | None = None
    response_model: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    made: object = None
    within: object = None

    @property
    def kind(self) -> Literal["internal", "client"]:
        """The kind that the conventions want: `client` for a request, which goes to somebody else's service."""
        return "client" if self.operation == "chat" else "internal"

    @property
    def parent_id(self) -> int | None:
        """The parent's span id."""
        return None if self.parent is None else self.parent.span_id


class ContentSource(Protocol):
    """Who knows what was said, as far as spans may tell it (content.py)."""

    def take(self, event: AgentEvent) -> None:
        """Take an event, every one, before it becomes part of a span."""

    def told_by(self, event: AgentEvent) -> Mapping[str, AttributeValue | None]:
        """Return what the span tells that this event begins or ends, by the keys of the table."""

    def close(self) -> None:
        """Let go of what was said in runs that have not ended."""
