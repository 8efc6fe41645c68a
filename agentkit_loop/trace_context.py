"""Trace context of runs: where a run's trace comes from, and ids that are the same each time they are derived.

A driver records in `RunStarted.metadata` whose child its run is, as `traceparent` (W3C Trace Context, version 00,
https://www.w3.org/TR/trace-context/), with `tracestate` where there is one: of the current OpenTelemetry span, else
of the environment's `TRACEPARENT`; for a sub-agent of the call that started it. Who makes spans of events, live or of
a log, takes the parent from there and from nowhere else, and derives the ids from session, run and number.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping

import attrs

from agentkit_loop.values import JSON

__all__ = [
    "TRACEPARENT",
    "TRACESTATE",
    "SpanPlace",
    "call_span_id",
    "place_of",
    "recorded",
    "span_id_of",
    "trace_id_of",
]

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_SAMPLED = 0x01


@attrs.frozen(kw_only=True)
class SpanPlace:
    """A span that somebody else made or makes: trace_id (128 bits), span_id (64 bits), flags (bit 0: sampled)."""

    trace_id: int
    span_id: int
    flags: int = _SAMPLED
    state: str | None = None

    @property
    def traceparent(self) -> str:
        """The place as a `traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags & 0xFF:02x}"


def place_of(metadata: Mapping[str, JSON]) -> SpanPlace | None:
    """Return the parent that a run's metadata names; None where it names none, or nothing that is valid."""
    given = metadata.get(TRACEPARENT)
    found = _FORM.fullmatch(given) if isinstance(given, str) else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    state = metadata.get(TRACESTATE)
    return SpanPlace(
        trace_id=trace_id,
        span_id=span_id,
        flags=int(found[4], 16),
        state=state if isinstance(state, str) else None,
    )


def trace_id_of(session_id: str, run_id: str) -> int:
    """Return the id of the trace that a run without a parent begins."""
    return _hashed(16, "trace", session_id, run_id)


def span_id_of(session_id: str, run_id: str, seq: int) -> int:
    """Return the id of the span that the event with this number begins."""
    return _hashed(8, "span", session_id, run_id, str(seq))


def call_span_id(session_id: str, run_id: str, call_id: str) -> int:
    """Return the id of a tool call's span, which has to be known to the sub-agent behind it."""
    return _hashed(8, "call", session_id, run_id, call_id)


def recorded(metadata: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return what a run that begins here adds to its metadata: nothing where that names a parent already.

    Looks at OpenTelemetry only where somebody has loaded it: without that there is no current span.
    """
    if TRACEPARENT in metadata:
        return {}
    current = _current()
    if current:
        return current
    told: dict[str, JSON] = {}
    for name in (TRACEPARENT, TRACESTATE):
        value = os.environ.get(name.upper())
        if value:
            told[name] = value.strip()
    return told if place_of(told) is not None else {}


def _current() -> dict[str, JSON]:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    place = SpanPlace(trace_id=context.trace_id, span_id=context.span_id, flags=int(context.trace_flags))
    told: dict[str, JSON] = {TRACEPARENT: place.traceparent}
    state = context.trace_state.to_header() if context.trace_state else ""
    return {**told, TRACESTATE: state} if state else told


def _hashed(size: int, *parts: str) -> int:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    # Zero is no valid id: one in 2**64 of all spans would have it.
    return int.from_bytes(hashlib.blake2b(text, digest_size=size).digest()) or 1
