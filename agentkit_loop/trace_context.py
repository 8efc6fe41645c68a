"""Trace context of runs: where a run's trace comes from, and ids that are the same each time they are derived.

A driver records in `RunStarted.metadata` whose child its run is, as `traceparent` (W3C Trace Context, version 00,
https://www.w3.org/TR/trace-context/), with `tracestate` where there is one: of the current OpenTelemetry span, else
of the environment's `TRACEPARENT`; for a sub-agent of the call that started it. Who makes spans of events, live or of
a log, takes the parent from there and from nowhere else, and derives the ids from session, run and number.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from agentkit_loop.late import late_pattern
from agentkit_loop.values import JSON

__all__ = [
    "TRACEPARENT",
    "TRACESTATE",
    "SpanIds",
    "SpanPlace",
    "call_span_id",
    "place_of",
    "place_of_call",
    "run_span_id",
    "span_id_of",
    "trace_id_of",
    "traced",
]

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

_FORM = late_pattern(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_SAMPLED = 0x01

_MOST = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15  # odd, so that no two numbers meet; about 2**64 by the golden ratio, so that ids spread

_NAMES = (TRACEPARENT, TRACESTATE)
_SIGN = r"[a-z0-9_*/-]"
_MEMBER = late_pattern(
    rf"([a-z]{_SIGN}{{0,255}}|[a-z0-9]{_SIGN}{{0,240}}@[a-z]{_SIGN}{{0,13}})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)
_MOST_MEMBERS = 32
_LONGEST_STATE = 2048  # characters; the specification asks for at least 512


class SpanPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A span that somebody else made or makes: trace_id (128 bits), span_id (64 bits), flags (bit 0: sampled).

    state: the `tracestate` that goes with it; valid by the specification, None for none.
    """

    trace_id: int
    span_id: int
    flags: int = _SAMPLED
    state: str | None = None

    @property
    def traceparent(self) -> str:
        """The place as a `traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags & 0xFF:02x}"

    def carried(self) -> dict[str, JSON]:
        """Return what says so in a run's metadata: `traceparent`, and `tracestate` where there is one."""
        told: dict[str, JSON] = {TRACEPARENT: self.traceparent}
        return told if self.state is None else {**told, TRACESTATE: self.state}


def place_of(metadata: Mapping[str, JSON]) -> SpanPlace | None:
    """Return the parent that a run's metadata names; None where it names none, or nothing that is valid."""
    given = metadata.get(TRACEPARENT)
    found = _FORM.fullmatch(given) if isinstance(given, str) else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    state = _state_of(metadata.get(TRACESTATE))
    return SpanPlace(trace_id=trace_id, span_id=span_id, flags=int(found[4], 16), state=state)


def trace_id_of(session_id: str, run_id: str) -> int:
    """Return the id of the trace that a run without a parent begins."""
    return _hashed(16, "trace", session_id, run_id)


class SpanIds:
    """The span ids of one run, for who needs many of them: what the run's names come to is worked out once."""

    __slots__ = ("_base", "_calls")

    def __init__(self, session_id: str, run_id: str) -> None:
        import hashlib  # noqa: PLC0415 - as above

        self._base = _hashed(8, "span", session_id, run_id)
        self._calls = hashlib.blake2b(_bytes("call", session_id, run_id, ""), digest_size=8)

    def of_event(self, seq: int) -> int:
        """Return the id of the span that the event with this number begins; each number has another."""
        return (self._base + seq * _STEP) & _MOST or 1  # a hash for each would cost ten times as much

    def of_call(self, call_id: str) -> int:
        """Return the id of a tool call's span."""
        hashed = self._calls.copy()
        hashed.update(_bytes(call_id))
        return _id_of(hashed.digest())


def span_id_of(session_id: str, run_id: str, seq: int) -> int:
    """Return the id of the span that the event with this number begins."""
    return SpanIds(session_id, run_id).of_event(seq)


def run_span_id(session_id: str, run_id: str) -> int:
    """Return the id of a run's span, which has to be known to what the run starts, and where it was read of.

    It is that of the first event of a session, whatever the number of its RunStarted: no span begins before that.
    """
    return span_id_of(session_id, run_id, 1)


def call_span_id(session_id: str, run_id: str, call_id: str) -> int:
    """Return the id of a tool call's span, which has to be known to the sub-agent behind it."""
    return SpanIds(session_id, run_id).of_call(call_id)


def place_of_call(metadata: Mapping[str, JSON], session_id: str, run_id: str, call_id: str) -> SpanPlace:
    """Return where the span of a call is, for what the call starts. metadata: of the call's run.

    call_id: empty for the run itself.
    """
    ids = (session_id, run_id)
    span_id = call_span_id(*ids, call_id) if call_id else run_span_id(*ids)
    above = place_of(metadata)
    if above is None:
        return SpanPlace(trace_id=trace_id_of(*ids), span_id=span_id)
    return msgspec.structs.replace(above, span_id=span_id)


def traced(metadata: Mapping[str, JSON], *, above: SpanPlace | None = None) -> dict[str, JSON]:
    """Return the metadata of a run that begins here, with the span whose child it is, where there is one.

    What the metadata name wins, as it may have come with a request. Where that is no valid `traceparent`, such as an
    empty text, the run begins a trace of its own; None counts as not given. above: what started the run, where that
    is known. Else it is the current OpenTelemetry span of this thread or task, else the environment's TRACEPARENT.
    OpenTelemetry is looked at only where somebody has loaded it: without that there is no current span.
    """
    own = {name: value for name, value in metadata.items() if name not in _NAMES}
    is_given = metadata.get(TRACEPARENT) is not None
    place = place_of(metadata) if is_given else above or _current() or _of_environment()
    return own if place is None else {**own, **place.carried()}


def _current() -> SpanPlace | None:
    trace = sys.modules.get("opentelemetry.trace")
    current: Any = getattr(trace, "get_current_span", None)  # None while another thread imports it
    if current is None:
        return None
    with contextlib.suppress(Exception):  # whatever implementation is loaded: the run begins all the same
        context = current().get_span_context()
        if context.is_valid:
            return SpanPlace(
                trace_id=context.trace_id,
                span_id=context.span_id,
                flags=int(context.trace_flags),
                state=_state_of(context.trace_state.to_header() if context.trace_state else None),
            )
    return None


def _of_environment() -> SpanPlace | None:
    given = {name: os.environ.get(name.upper(), "").strip() for name in _NAMES}
    return place_of(given) if given[TRACEPARENT] else None


def _state_of(given: object) -> str | None:
    """Return a `tracestate` as it is passed on; None for one that breaks the rules, which is dropped whole."""
    if not isinstance(given, str) or len(given) > _LONGEST_STATE:
        return None
    members = [member for each in given.split(",") if (member := each.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if not members or len(members) > _MOST_MEMBERS or len(keys) < len(members):
        return None
    return ",".join(members) if all(_MEMBER.fullmatch(member) for member in members) else None


def _hashed(size: int, *parts: str) -> int:
    import hashlib  # noqa: PLC0415 - 2 ms, of OpenSSL

    return _id_of(hashlib.blake2b(_bytes(*parts), digest_size=size).digest())


def _bytes(*parts: str) -> bytes:
    return "\0".join(parts).encode("utf-8", "surrogatepass")


def _id_of(digest: bytes) -> int:
    return int.from_bytes(digest) or 1  # zero is no valid id: one in 2**64 of all spans would have it
