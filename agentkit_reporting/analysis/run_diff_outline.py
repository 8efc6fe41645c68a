"""A session as a diff sees it: what it was set to, what it was given, what it said and called, and what it took.

Contents are kept packed, with a digest to compare them by: a session of 100 MB has an outline of a few.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import zlib
from collections import Counter
from decimal import Decimal

import attrs
import msgspec

from agentkit_loop.content import Parent
from agentkit_loop.usage import Usage
from agentkit_loop.values import JSON
from agentkit_reporting.analysis.run_diff_values import same

__all__ = [
    "MAX_CONTENT_BYTES",
    "Content",
    "GivenInput",
    "ModelAnswer",
    "Outline",
    "ToolUse",
    "is_same",
    "known_ms",
]

MAX_CONTENT_BYTES = 2**20
"""Of a value's JSON; of a longer one only the digest is kept, and of a text its beginning."""

_KEPT_TEXT = 2**16  # characters of a text that is longer than that
_MOST_MS = 1e15
_PLAIN_BYTES = 256  # what is shorter is not worth packing


class Content:
    """A JSON value, packed. digest: of its canonical JSON. size: of that, bytes. is_whole: the value is all there."""

    __slots__ = ("_packed", "digest", "is_whole", "size")

    def __init__(self, value: JSON) -> None:
        encoded = msgspec.json.encode(value, order="deterministic")
        self.digest = hashlib.blake2b(encoded, digest_size=16).digest()
        self.size = len(encoded)
        self.is_whole = self.size <= MAX_CONTENT_BYTES
        if not self.is_whole:
            encoded = msgspec.json.encode(value[:_KEPT_TEXT] if isinstance(value, str) else None)
        elif isinstance(value, dict):  # is shown in the order in which it was told
            encoded = msgspec.json.encode(value)
        self._packed = encoded if len(encoded) <= _PLAIN_BYTES else zlib.compress(encoded, 1)

    @property
    def value(self) -> JSON:
        """The value; of one that is not whole the beginning of its text, or None."""
        plain = self._packed[:1] != b"\x78"  # no JSON begins so, and what zlib packs always does
        return msgspec.json.decode(self._packed if plain else zlib.decompress(self._packed))


def known_ms(duration_ms: float | None) -> float | None:
    """Return a duration that a log tells; None for what is none: less than nothing, or more than 30,000 years."""
    return duration_ms if duration_ms is not None and 0 <= duration_ms < _MOST_MS else None


def is_same(before: Content | None, after: Content | None) -> bool:
    """Whether two contents are equal where nothing is masked."""
    if before is None or after is None:
        return before is after
    if before.digest == after.digest:
        return True
    return before.is_whole and after.is_whole and same(before.value, after.value)


@attrs.frozen(kw_only=True)
class GivenInput:
    """Input of the session. text: what it says, or its parts where it is not text alone. turn_id: it came after."""

    turn_id: str | None
    seq: int
    text: Content


@attrs.frozen(kw_only=True)
class ModelAnswer:
    """An answer of the model. text: its text, reasoning left out; None where the log does not tell it."""

    turn_id: str | None
    seq: int
    text: Content | None
    finish_reason: str


@attrs.define(kw_only=True)
class ToolUse:
    """A call of a tool.

    arguments: as it ran, so with what an approval changed. result: what the model saw; None while there is none.
    outcome: ok, error, denied, not_started, interrupted or open. error: type and message of the exception.
    """

    tool: str
    turn_id: str | None
    seq: int
    call_id: str
    arguments: Content
    edited: bool = False
    result: Content | None = None
    outcome: str = "open"
    error: str = ""
    duration_ms: float | None = None


@attrs.define(kw_only=True)
class Outline:
    """One session.

    settings: system prompt, tools, parameters and so on, by name, as the first run was started. answers of compactions
    are left out of `steps`, which are in order. finish_reasons: of the exchanges. outcomes: of the runs, `open`: no end
    was told. exchange_is_open: the last exchange has no end. began: when its first event was told. counts: of what
    happened, by the name of a metric. unknown_usage: finished requests that told no usage. unpriced: those
    without a cost. redacted: events in which something was masked. is_whole: an event log told it, and not a step log,
    which knows of no text, setting and input.
    """

    session_id: str
    agent: str = ""
    models: dict[str, None] = attrs.field(factory=dict)
    parent: Parent | None = None
    settings: dict[str, Content] = attrs.field(factory=dict)
    steps: list[GivenInput | ModelAnswer | ToolUse] = attrs.field(factory=list)
    finish_reasons: list[str] = attrs.field(factory=list)
    outcomes: list[str] = attrs.field(factory=list)
    exchange_is_open: bool = False
    began: dt.datetime | None = None
    failures: list[str] = attrs.field(factory=list)
    counts: Counter[str] = attrs.field(factory=Counter)
    usage: Usage = attrs.field(factory=Usage)
    costs: dict[str, Decimal] = attrs.field(factory=dict)
    unknown_usage: int = 0
    unpriced: int = 0
    duration_ms: float | None = None
    model_ms: float | None = None
    redacted: int = 0
    is_whole: bool = True

    @property
    def open_runs(self) -> int | None:
        """How many runs have no end: a crash, or one that goes on still. None where only steps were told."""
        return self.outcomes.count("open") if self.is_whole else None

    @property
    def calls(self) -> list[ToolUse]:
        """The calls of tools, in order."""
        return [step for step in self.steps if isinstance(step, ToolUse)]

    @property
    def answers(self) -> list[ModelAnswer]:
        """The answers, in order."""
        return [step for step in self.steps if isinstance(step, ModelAnswer)]

    @property
    def inputs(self) -> list[GivenInput]:
        """What it was given, in order."""
        return [step for step in self.steps if isinstance(step, GivenInput)]
