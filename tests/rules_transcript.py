"""The transcript folded a second time, with its whole content, and the package's own fold compared with it."""

from __future__ import annotations

import collections

from agentkit_loop.content import (
    AnyPart,
    BeginPart,
    CommitPart,
    Item,
    ReasoningPart,
    ToolCallPart,
    ToolResultPart,
)
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunStarted,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.transcript import Transcript
from agentkit_reporting.conformance.book import Teller

_JOINING = (TurnFinished, CompactionFinished, *RUN_ENDS)
"""Events at which the two folds are compared."""


class FoldRules:
    """Folds the transcript, and compares the package's own fold with it."""

    def __init__(self, tell: Teller, fold: Transcript) -> None:
        self._tell = tell
        self._fold = fold
        self._items: list[Item] = []  # without ids
        self._waiting: list[Item] = []
        self._round: dict[str, ToolResultPart | None] = {}
        self._request = ""  # the open one
        self._purpose = "turn"
        self._parts: dict[str, AnyPart | None] = {}
        self._compacting = False

    def take(self, event: AgentEvent) -> None:
        """Fold one event into both, and compare."""
        match event:
            case RunStarted():
                self._items.extend(event.items)
            case InputAccepted():
                self._waiting.extend(event.items)
                self._settle()
            case ModelRequestStarted():
                self._request, self._purpose, self._parts = event.request_id, event.purpose, {}
            case ContentDelta() if event.request_id == self._request:
                self._delta(event)
            case ModelRequestFinished() | ModelRequestFailed() if event.request_id == self._request:
                self._close(event)
            case ToolResultReceived():
                self._result(event)
            case CompactionStarted():
                self._compacting = True
            case CompactionFinished():
                self._compact(event)
            case _:
                pass
        self._fold.apply(event)
        if isinstance(event, _JOINING):
            self._compare(event)

    def _compare(self, event: AgentEvent) -> None:
        told = [(item.kind, item.parts) for item in self._fold.items]
        if told != [(item.kind, item.parts) for item in self._items]:
            self._tell(event, "the transcript is not the fold of the events")
        ids = collections.Counter(item.id for item in self._fold.items)
        if not isinstance(event, CompactionFinished) and any(count > 1 for count in ids.values()):
            self._tell(event, "two items of the fold have one id")

    def _settle(self) -> None:
        if not self._request and not self._round and not self._compacting:
            self._items.extend(self._waiting)
            self._waiting = []

    def _delta(self, event: ContentDelta) -> None:
        match event.delta:
            case BeginPart(part_id):
                self._parts[part_id] = None
            case CommitPart(part_id, part):
                self._parts[part_id] = part
            case _:
                pass

    def _close(self, event: ModelRequestFinished | ModelRequestFailed) -> None:
        parts = [part for part in self._parts.values() if part is not None]
        if isinstance(event, ModelRequestFailed) or self._purpose != "turn":
            parts = []
        elif event.finish_reason == "cancelled":
            parts = [part for part in parts if not isinstance(part, ToolCallPart)]
            parts = [part for part in parts if not isinstance(part, ReasoningPart) or _is_signed(part)]
        if parts:
            self._items.append(Item(kind="assistant", parts=tuple(parts)))
        self._round = {part.id: None for part in parts if isinstance(part, ToolCallPart)} or self._round
        self._request = ""
        self._settle()

    def _result(self, event: ToolResultReceived) -> None:
        if self._round.get(event.call_id, event) is not None:
            return  # of no open call
        self._round[event.call_id] = ToolResultPart(
            call_id=event.call_id, name=event.name, output=event.output, is_error=event.is_error
        )
        results = [result for result in self._round.values() if result is not None]
        if len(results) == len(self._round):
            self._items.extend(Item(kind="tool", parts=(result,)) for result in results)
            self._round = {}
            self._settle()

    def _compact(self, event: CompactionFinished) -> None:
        if event.plan is not None:
            items, self._items = self._items, []
            last = -1
            for step in event.plan:
                if isinstance(step, Item):
                    self._items.append(step)
                    continue
                places = range(max(0, step[0]), min(step[1], len(items)))
                self._items.extend(items[place] for place in places if place > last)  # none twice
                last = max([last, *places])
        self._compacting = False
        self._settle()


def _is_signed(part: ReasoningPart) -> bool:
    return part.signature is not None or part.redacted is not None
