"""A span as the events tell it: ids, times, attributes.

No OpenTelemetry in here, so that a log is turned into spans without it; `api_spans.py` makes them with its API,
`otlp.py`, `otlp_json.py` and `perfetto.py` write them.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import attrs

from agentkit_loop.trace_context import SpanPlace

__all__ = ["AttributeValue", "Span", "SpanEvent", "SpanSink"]

AttributeValue: TypeAlias = str | bool | int | float | tuple[str, ...]
"""What an attribute may be; a tuple of texts is an array. Anything deeper is JSON in a text."""


@attrs.frozen
class SpanEvent:
    """A moment within a span. ns: since 1970, UTC."""

    name: str
    ns: int
    attributes: dict[str, AttributeValue]


@attrs.define(eq=False)
class Span:
    """One span, mutable until it is given to a sink.

    operation: `invoke_agent`, `chat` or `execute_tool`. kind: `internal` or `client`. parent: another span of ours that
    is not over, or a place elsewhere, or None for the root of a trace. start_ns, end_ns: since 1970, UTC. error: None
    for a span without an error, else a short text; then `error.type` is among the attributes. sink: what a sink keeps
    of a span that is not over, as its children need it.
    """

    operation: Literal["invoke_agent", "chat", "execute_tool"]
    name: str
    trace_id: int
    span_id: int
    parent: Span | SpanPlace | None
    start_ns: int
    session_id: str
    run_id: str
    kind: Literal["internal", "client"] = "internal"
    end_ns: int = 0
    attributes: dict[str, AttributeValue] = attrs.field(factory=dict)
    events: list[SpanEvent] = attrs.field(factory=list)
    error: str | None = None
    sink: object = None

    @property
    def parent_id(self) -> int | None:
        """The parent's span id."""
        return None if self.parent is None else self.parent.span_id


class SpanSink(Protocol):
    """What spans are given to, each once, when it is over; so children come before their parents."""

    def take(self, span: Span) -> None:
        """Take a span that is over."""
