"""The rules of the event contract (DESIGN section 3) as one check over the events of a session."""

from __future__ import annotations

import collections
import datetime as dt
import math
from collections.abc import Sequence

import msgspec

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart, ToolCallPart
from agentkit_loop.events import (
    PAYLOAD_FIELDS,
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionProgress,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
)

CLOSING = (RunFinished, RunFailed, RunCancelled)


class Rules:
    """Walks the events once; `faults` says what is wrong, one line each."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._seq = 0
        self._run: str | None = None
        self._turns: set[str | None] = set()
        self._exchange = False
        self._requests: dict[str, str] = {}  # id: open, finished, failed
        self._final: collections.Counter[str] = collections.Counter()
        self._content: set[str] = set()
        self._parts: dict[tuple[str, str], str] = {}
        self._committed: dict[str, list[ToolCallPart]] = collections.defaultdict(list)
        self._call_ids: set[str] = set()
        self._calls: dict[str, str] = {}  # id: requested, started, answered
        self._expected: set[str] = set()
        self._compacting = False
        self._pending_input = False

    def walk(self, events: Sequence[AgentEvent], *, closed: bool = True) -> list[str]:
        for event in events:
            self._header(event)
            self._event(event)
        if closed:
            self._closed(events)
        return self.faults

    def _fault(self, event: AgentEvent, text: str) -> None:
        self.faults.append(f"{event.seq} {event.type}: {text}")

    def _need(self, event: AgentEvent, claim: bool, text: str) -> None:
        if not claim:
            self._fault(event, text)

    def _header(self, event: AgentEvent) -> None:
        self._need(event, event.seq == self._seq + 1, f"follows {self._seq}")
        self._seq = event.seq
        self._need(event, event.timestamp.utcoffset() == dt.timedelta(0), "time is not UTC")
        if self._run is not None:
            self._need(event, event.run_id == self._run, "another run")
        else:
            self._need(event, isinstance(event, RunStarted), "before RunStarted")

    def _event(self, event: AgentEvent) -> None:
        match event:
            case RunStarted():
                self._run = event.run_id
            case InputAccepted():
                self._pending_input = True
                ids = [item.id for item in event.items]
                self._need(event, all(ids) and len(set(ids)) == len(ids), "items without ids of their own")
            case TurnStarted() | TurnFinished():
                self._turn(event)
            case (
                ModelRequestStarted() | ModelRequestFinished() | ModelRequestFailed() | ModelRequestRetrying()
            ):
                self._request(event)
            case UsageUpdated():
                self._usage(event)
            case ContentDelta():
                self._delta(event)
            case (
                ToolCallRequested() | ToolExecutionStarted() | ToolExecutionProgress() | ToolResultReceived()
            ):
                self._call(event)
            case CompactionStarted() | CompactionFinished():
                self._need(event, self._compacting is isinstance(event, CompactionFinished), "unpaired")
                self._compacting = isinstance(event, CompactionStarted)
            case RunFinished() | RunFailed() | RunCancelled():
                self._need(event, "open" not in self._requests.values(), "a request is open")
                self._need(event, not self._open_calls(), "a call is open")
                suspended = isinstance(event, RunFinished) and event.outcome == "suspended"
                self._need(event, suspended or not self._exchange, "an exchange is open")
                self._run = None
            case _:
                pass

    def _turn(self, event: TurnStarted | TurnFinished) -> None:
        self._need(event, not self._open_calls(), "a call is open")
        self._need(event, "open" not in self._requests.values(), "a request is open")
        if isinstance(event, TurnStarted):
            self._need(event, event.turn_id not in self._turns, "turn id told before")
            self._need(event, event.turn_id == f"turn-{len(self._turns) + 1}", "turn ids do not count on")
            self._turns.add(event.turn_id)
            self._exchange = True
        else:
            self._need(event, self._exchange, "no exchange is open")
            self._need(event, event.turn_id in self._turns, "its turn was not started")
            self._exchange = False

    def _request(
        self, event: ModelRequestStarted | ModelRequestFinished | ModelRequestFailed | ModelRequestRetrying
    ) -> None:
        known = self._requests.get(event.request_id)
        match event:
            case ModelRequestStarted():
                self._need(event, known is None, "request id told before")
                self._need(event, "open" not in self._requests.values(), "another request is open")
                self._need(event, not self._open_calls(), "the round is not complete")
                self._need(event, self._exchange, "outside an exchange")
                self._requests[event.request_id] = "open"
            case ModelRequestFinished():
                self._need(event, known == "open", f"request is {known}")
                if event.finish_reason != "cancelled":
                    self._need(event, self._final[event.request_id] == 1, "not exactly one final usage")
                    self._expected.update(part.id for part in self._committed[event.request_id])
                self._requests[event.request_id] = "finished"
            case ModelRequestFailed():
                self._need(event, known == "open", f"request is {known}")
                self._need(event, self._final[event.request_id] == 0, "a failed request has a final usage")
                self._requests[event.request_id] = "failed"
            case ModelRequestRetrying():
                self._need(event, known == "failed", f"request is {known}")

    def _usage(self, event: UsageUpdated) -> None:
        self._need(event, self._requests.get(event.request_id) == "open", "request is not open")
        self._final[event.request_id] += event.final

    def _delta(self, event: ContentDelta) -> None:
        self._need(event, self._requests.get(event.request_id) == "open", "request is not open")
        key = (event.request_id, event.delta.part_id)
        known = self._parts.get(key)
        match event.delta:
            case BeginPart():
                self._need(event, known is None, "part began twice")
                self._parts[key] = "begun"
            case AppendText() | AppendBytes():
                self._need(event, known == "begun", f"part is {known}")
            case CommitPart(part=part):
                self._need(event, known == "begun", f"part is {known}")
                self._parts[key] = "committed"
                if isinstance(part, ToolCallPart):
                    self._need(event, part.id not in self._call_ids, "call id told before")
                    self._call_ids.add(part.id)
                    self._committed[event.request_id].append(part)

    def _call(
        self, event: ToolCallRequested | ToolExecutionStarted | ToolExecutionProgress | ToolResultReceived
    ) -> None:
        call_id = event.call.id if isinstance(event, ToolCallRequested) else event.call_id
        known = self._calls.get(call_id)
        match event:
            case ToolCallRequested():
                self._need(event, known is None, "requested twice")
                self._need(event, call_id in self._expected, "no finished request asked for it")
                self._need(event, event.call in self._committed[event.request_id], "not what was committed")
                self._calls[call_id] = "requested"
            case ToolExecutionStarted():
                self._need(event, known == "requested", f"call is {known}")
                self._calls[call_id] = "started"
            case ToolExecutionProgress():
                self._need(event, known == "started", f"call is {known}")
            case ToolResultReceived():
                self._need(
                    event, known == ("requested" if event.not_started else "started"), f"call is {known}"
                )
                self._calls[call_id] = "answered"

    def _open_calls(self) -> list[str]:
        told = [call_id for call_id, state in self._calls.items() if state != "answered"]
        return told + [call_id for call_id in self._expected if call_id not in self._calls]

    def _closed(self, events: Sequence[AgentEvent]) -> None:
        if not events:
            return
        last = events[-1]
        self._need(last, isinstance(last, CLOSING), "the log ends with an open run")
        self._need(last, sum(isinstance(event, CLOSING) for event in events) == 1, "not one closing event")


def faults(events: Sequence[AgentEvent], *, closed: bool = True) -> list[str]:
    """Return what is wrong with the events of a session with one run."""
    return Rules().walk(events, closed=closed)


def is_json(value: object) -> bool:
    """Whether the value is JSON as the contract wants it."""
    match value:
        case None | bool():
            return True
        case str():
            return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace").isascii() or not any(
                0xD800 <= ord(character) <= 0xDFFF for character in value
            )
        case int():
            return True
        case float():
            return math.isfinite(value)
        case list():
            return all(is_json(member) for member in value)
        case dict():
            return all(
                isinstance(key, str) and is_json(key) and is_json(member) for key, member in value.items()
            )
        case _:
            return False


def payload_is_json(event: AgentEvent) -> bool:
    """Whether every free value in the event is JSON, and every typed one survives being written as JSON."""
    for name in PAYLOAD_FIELDS[type(event)]:
        value = getattr(event, name)
        if value is None or isinstance(value, (dict, list, str, int, float)):
            if not is_json(value):
                return False
        elif not is_json(msgspec.json.decode(msgspec.json.encode(value))):
            return False
    return True
