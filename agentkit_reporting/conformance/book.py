"""What the rules know of a session so far, from its events alone.

Independent of the loop's own folds (its state and its transcript), which these rules judge. What is closed is
forgotten: the book of a long session is no longer than what is open in it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

from agentkit_loop.content import AnyPart, ReasoningPart, TextPart, ToolCallPart
from agentkit_loop.events import (
    EVENT_TYPES,
    AgentEvent,
    ApprovalResolved,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    UnknownEvent,
)
from agentkit_loop.usage import ErrorInfo, Usage

EVENT_CLASSES: tuple[type[AgentEvent], ...] = (*EVENT_TYPES.values(), UnknownEvent)
"""Every class that an event of a log can have."""

RunEnd: TypeAlias = RunFinished | RunFailed | RunCancelled

OfRequest: TypeAlias = ModelRequestStarted | ModelRequestFinished | ModelRequestFailed | ModelRequestRetrying
OfCall: TypeAlias = ToolCallRequested | ToolExecutionStarted | ToolExecutionProgress | ToolResultReceived

Teller: TypeAlias = Callable[[AgentEvent, str], None]
"""Takes an event that breaks a rule, and what is wrong with it."""

_REMEMBERED = 64  # requests that ended, so that a fault can say how


@dataclasses.dataclass(slots=True)
class Asked:
    """A request. status: open, finished, cut (finished as cancelled), failed. retry: the attempt announced.

    parts: of one that has begun and is not committed, how many characters its previews have shown; empty once the
    request has ended. has_calls: some of them are calls. masked: a redaction changed one of them. holes: where
    events are missing inside open parts, None where none are.
    """

    id: str
    attempt: int
    purpose: str
    run_id: str
    exchange: int | None  # its number
    status: str = "open"
    retry: int | None = None
    finals: int = 0
    usage: Usage | None = None
    masked: bool = False
    has_calls: bool = False
    holes: Holes | None = None
    parts: dict[str, AnyPart | int] = dataclasses.field(default_factory=dict)

    @property
    def is_in_part(self) -> bool:
        """Whether a part has begun and is not committed."""
        return any(part.__class__ is int for part in self.parts.values())

    @property
    def committed(self) -> list[AnyPart]:
        """The parts that were committed, in order of their beginning."""
        return [part for part in self.parts.values() if not isinstance(part, int)]

    @property
    def calls(self) -> list[ToolCallPart]:
        """The calls that were committed, in order of their beginning."""
        return [part for part in self.parts.values() if isinstance(part, ToolCallPart)]


class Holes:
    """Events that are missing inside the open parts of a request: previews that were not logged, or others.

    judge: takes how many of them can be no previews, at the request's end. missing: how many there are. Each
    preview that is not there leaves at least one character of its part's text unshown.
    """

    __slots__ = ("_parts", "hide_more", "judge", "missing", "unshown")

    def __init__(self, judge: Callable[[Holes], None]) -> None:
        self.judge = judge
        self.missing = 0
        self.hide_more = False  # the end of a part, or of the request, is among them
        self.unshown: float = 0  # characters, as far as is known; infinite where nobody can say
        self._parts: set[str] = set()  # those that were open, and are not committed

    def add(self, asked: Asked, missing: int) -> None:
        """Note some that are missing."""
        self.missing += missing
        self._parts.update(name for name, part in asked.parts.items() if part.__class__ is int)

    def commit(self, part_id: str, part: AnyPart, shown: int, *, is_masked: bool) -> None:
        """Note how much of a part was not shown. Of what is no text, or was changed, nobody can say."""
        if part_id in self._parts:
            self._parts.remove(part_id)
            told = isinstance(part, (TextPart, ReasoningPart)) and not is_masked
            self.unshown += max(0, len(part.text) - shown) if told else math.inf  # type: ignore[union-attr] # `told`

    def end(self, *, is_whole: bool) -> None:
        """Judge them, since the request has ended; is_whole: with its last part committed."""
        if self._parts and is_whole:
            self.unshown, self.hide_more = 0, True
        elif self._parts:
            self.unshown = math.inf  # of a part that was cut, nobody knows the whole
        if self.missing > self.unshown:
            self.judge(self)
        self.missing, self.unshown, self.hide_more = 0, 0, False  # the request may go on behind its run's end
        self._parts.clear()


@dataclasses.dataclass(slots=True)
class Called:
    """A call of a finished answer.

    place: in its round. status: committed, requested, running (its body), waiting (for credentials), ready (to
    start again, the credentials came), orphan (its body ran when the process ended), refused (no credentials),
    answered. approval, auth: id of the open one. decision: the last that was made. edits: every edited input so
    far. asked_in: the run that last asked for a decision. wins: decided before the cancel, so it may still
    start. masked: a redaction changed its input somewhere.
    """

    part: ToolCallPart
    request_id: str
    reason: str | None
    place: int
    masked: bool = False
    status: str = "committed"
    attempts: int = 0
    approval: str | None = None
    decision: ApprovalResolved | None = None
    edits: tuple[object, ...] = ()
    asked_in: str | None = None
    auth: str | None = None
    wins: bool = False

    @property
    def is_own(self) -> bool:
        """Whether no model asked for it."""
        return not self.request_id

    @property
    def may_wait(self) -> bool:
        """Whether it may stay open over a suspended run: it waits for a person, or did before."""
        decided = self.asked_in is not None and self.status == "requested"
        return decided or self.status in {"waiting", "ready", "refused", "orphan"}


@dataclasses.dataclass(slots=True)
class Exchange:
    """The open exchange. run_id: where it began. index: of its turn. answer: why its last answer ended.

    asked_calls: whether that answer has calls. turn_run: the run of its turn's beginning. answered: whether
    its turn has its answer. cut_in: the run in which a request of it was last cut.
    """

    run_id: str | None
    index: int = 0
    answer: str | None = None
    asked_calls: bool = False
    turn_run: str | None = None
    answered: bool = False
    cut_in: str | None = None
    exceeded: set[str] = dataclasses.field(default_factory=set)  # limits


class Spent:
    """A sum of usages, count by count; None where nobody told that count."""

    __slots__ = ("cached", "input", "output", "reasoning", "written", "written_1h")

    def __init__(self) -> None:
        self.input: int | None = None
        self.cached: int | None = None
        self.written: int | None = None
        self.written_1h: int | None = None
        self.output: int | None = None
        self.reasoning: int | None = None

    def add(self, usage: Usage) -> None:
        """Add what one request used."""
        # Spelled out, since a log has two sums for each request: a loop over names takes four times as long.
        if (count := usage.input_tokens) is not None:
            self.input = count + (self.input or 0)
        if (count := usage.cached_input_tokens) is not None:
            self.cached = count + (self.cached or 0)
        if (count := usage.cache_write_input_tokens) is not None:
            self.written = count + (self.written or 0)
        if (count := usage.cache_write_1h_input_tokens) is not None:
            self.written_1h = count + (self.written_1h or 0)
        if (count := usage.output_tokens) is not None:
            self.output = count + (self.output or 0)
        if (count := usage.reasoning_tokens) is not None:
            self.reasoning = count + (self.reasoning or 0)

    def is_told_by(self, usage: Usage) -> bool:
        """Whether the usage is this sum."""
        return (
            usage.input_tokens == self.input
            and usage.output_tokens == self.output
            and usage.cached_input_tokens == self.cached
            and usage.cache_write_input_tokens == self.written
            and usage.cache_write_1h_input_tokens == self.written_1h
            and usage.reasoning_tokens == self.reasoning
            and usage.raw is None  # a sum is nobody's own report
        )


class Book:
    """The facts of a session that more than one area of the rules looks at."""

    __slots__ = (
        "approvals", "auths", "broken", "calls", "cancelling", "compacting", "cut", "exchange", "exchanges",
        "first_run", "is_doubted", "last_run", "last_turn_id", "may_be_doubted", "of_exchange", "of_run",
        "open_calls", "own_calls", "previewed", "request", "request_count", "requests", "round", "run_id",
        "runs", "seq", "tell", "turn_id", "turns", "unasked",
    )  # fmt: skip

    def __init__(self, tell: Teller) -> None:
        self.tell = tell
        self.is_doubted = False  # something is masked, missing, unknown or wrong: the texts may be others
        self.may_be_doubted: Callable[[], bool] = bool  # asked before a text is called another
        self.seq = 0  # of the last event
        self.run_id: str | None = None  # of the open run
        self.runs: dict[str, None] = {}  # before the last one
        self.first_run: str | None = None
        self.last_run: str | None = None
        self.previewed: str | None = None  # the last run that told a preview
        self.turns = 0
        self.turn_id: str | None = None  # of the open exchange
        self.last_turn_id = "turn-0"
        self.exchanges = 0
        self.exchange: Exchange | None = None  # the open one
        self.cancelling = False  # from CancelRequested to the exchange's end
        self.cut = False  # something was cut, so that nothing starts before the exchange or the run has ended
        self.broken: str | None = None  # the exchange's end says that the run ends too, and how
        self.compacting = False
        self.request_count = 0
        self.requests: dict[str, Asked] = {}  # the open one and the last that ended
        self.request: Asked | None = None  # the open one
        self.calls: dict[str, Called] = {}  # of the last answer, and what is open of others
        self.round: list[str] = []  # calls of the last answer that were not told as requested, the last first
        self.open_calls: dict[str, Called] = {}
        self.own_calls: dict[str, Called] = {}  # open ones that no model asked for
        self.approvals: dict[str, str] = {}  # the open ones, with their calls
        self.auths: dict[str, str] = {}  # the same
        self.unasked = False  # input, or a failed request, that no request has answered
        self.of_run = Spent()  # the sum over the open run's requests that ended
        self.of_exchange = Spent()  # the same of the open exchange, over its runs

    def fault(self, event: AgentEvent, text: str) -> None:
        """Tell what is wrong with the event."""
        self.is_doubted = True
        self.tell(event, text)

    def need(self, event: AgentEvent, claim: bool, text: str, *values: object) -> bool:  # noqa: FBT001 - the claim is what it is about
        """Tell a fault unless the claim holds; return the claim. values: for the `{}` in the text."""
        if not claim:
            self.fault(event, text.format(*values) if values else text)
        return claim

    def open_request(self, asked: Asked) -> None:
        """Note a request as the open one; of those that ended, the last few are kept."""
        self.requests[asked.id] = self.request = asked
        if len(self.requests) > _REMEMBERED:
            del self.requests[next(iter(self.requests))]

    def close_request(self, asked: Asked) -> None:
        """Add up what a request used that has ended."""
        self._add(asked)
        if asked.status != "finished":
            self.note_previews(asked)
        self.request = None
        if asked.holes is not None:
            asked.holes.end(is_whole=asked.status == "finished")

    def note_previews(self, asked: Asked) -> None:
        """Note whether parts that are not committed were shown."""
        for part in asked.parts.values():
            if part.__class__ is int and part:
                self.previewed = asked.run_id

    def rest(self) -> None:
        """Forget what the end of a run leaves closed."""
        self.run_id = None
        self.of_run = Spent()
        self.requests = {} if self.request is None else {self.request.id: self.request}
        self.calls = self.open_calls.copy()
        self.round = [call_id for call_id in self.round if call_id in self.calls]

    def _add(self, asked: Asked) -> None:
        if asked.usage is not None:
            if asked.run_id == self.run_id:
                self.of_run.add(asked.usage)
            if asked.exchange == self.exchanges:
                self.of_exchange.add(asked.usage)
            asked.usage = None  # added once

    def told_as_run(self, usage: Usage) -> bool:
        """Whether the usage is the sum over the open run's requests."""
        if self.request is not None:
            self._add(self.request)  # that it is open is another rule's matter
        return self.of_run.is_told_by(usage)

    def told_as_exchange(self, usage: Usage) -> bool:
        """Whether the usage is the sum over the open exchange's requests, over its runs."""
        if self.request is not None:
            self._add(self.request)
        return self.of_exchange.is_told_by(usage)


def tells_process_end(error: ErrorInfo) -> bool:
    """Whether the error says `process_ended`; an error's type is a class's name, so the spelling is free."""
    return error.type.replace("_", "").lower() == "processended"
