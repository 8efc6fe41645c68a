"""The transcript as a fold of the events; shared by the loop's state and by TranscriptReporter.

An assistant item joins when its request finishes; the results of a round join together, in call order,
when its last is in; input that arrives while something is open waits until nothing is. Appends are never
read: CommitPart alone tells content.
"""

from __future__ import annotations

import re

import attrs
import msgspec

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
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    PlanStep,
    RunStarted,
    ToolResultReceived,
)
from agentkit_loop.records import Record


@attrs.define(eq=False, repr=False)
class Transcript(Record):
    """The items of one session, and what is on its way to become one.

    items: what the model is shown. waiting: input that joins when nothing is open. open_calls: the calls
    of the open round in order, each with its result or None. request_id: the open request.
    """

    items: list[Item] = attrs.Factory(list)
    waiting: list[Item] = attrs.Factory(list)
    open_calls: dict[str, ToolResultPart | None] = attrs.Factory(dict)
    request_id: str | None = None
    compacting: bool = False
    _purpose: str = "turn"
    _parts: dict[str, AnyPart | None] = attrs.Factory(dict)  # of the open request, in order of beginning
    _numbered: int = 0  # the highest `item-N` given so far

    @property
    def open_round(self) -> tuple[ToolResultPart, ...]:
        """The results of the open round that are in, in call order; they are in no transcript yet."""
        return tuple(result for result in self.open_calls.values() if result is not None)

    @property
    def is_settled(self) -> bool:
        """Whether no request, round or compaction is open, so that input joins at once."""
        return self.request_id is None and not self.open_calls and not self.compacting

    def apply(self, event: AgentEvent) -> None:
        """Take one event; those that say nothing of the transcript change nothing."""
        match event:
            case ContentDelta(delta=BeginPart(part_id)) if event.request_id == self.request_id:
                self._parts[part_id] = None
            case ContentDelta(delta=CommitPart(part_id, part)) if event.request_id == self.request_id:
                self._parts[part_id] = part
            case RunStarted(items=items) | InputAccepted(items=items):
                self._accept(items, joins=isinstance(event, RunStarted) or self.is_settled)
            case ModelRequestStarted():
                self.request_id, self._purpose, self._parts = event.request_id, event.purpose, {}
            case ModelRequestFinished() if event.request_id == self.request_id:
                self._finish(event.finish_reason)
            case ModelRequestFailed() if event.request_id == self.request_id:
                self.request_id, self._parts = None, {}
                self._settle()
            case ToolResultReceived() if event.call_id in self.open_calls:
                self._answer(event)
            case CompactionStarted():
                self.compacting = True
            case CompactionFinished():
                self.compacting = False
                if event.plan is not None:
                    self._plan(event.plan)
                self._settle()
            case _:
                pass

    @property
    def numbered(self) -> int:
        """The highest N of an id `item-N` so far."""
        return self._numbered

    def _accept(self, items: tuple[Item, ...], *, joins: bool) -> None:
        for item in items:
            self._numbered = max(self._numbered, item_number(item))
        (self.items if joins else self.waiting).extend(items)

    def _plan(self, plan: tuple[PlanStep, ...]) -> None:
        new = [item_number(step) for step in plan if isinstance(step, Item)]
        self._numbered = max([self._numbered, *new])
        self.items = planned(self.items, plan)

    def _add(self, kind: str, parts: tuple[AnyPart, ...]) -> None:
        self.items.append(Item(kind=kind, parts=parts, id=f"item-{self._numbered + 1}"))  # type: ignore[arg-type] # two of the kinds
        self._numbered += 1

    def _finish(self, finish_reason: str) -> None:
        parts = tuple(part for part in self._parts.values() if part is not None)
        if finish_reason == "cancelled":
            parts = tuple(part for part in parts if _survives_a_cut(part))
        purpose = self._purpose
        self.request_id, self._parts = None, {}
        if purpose == "turn" and parts:
            self._add("assistant", parts)
            self.open_calls = {part.id: None for part in parts if isinstance(part, ToolCallPart)}
        self._settle()

    def _answer(self, event: ToolResultReceived) -> None:
        self.open_calls[event.call_id] = ToolResultPart(
            call_id=event.call_id, name=event.name, output=event.output, is_error=event.is_error
        )
        if None in self.open_calls.values():
            return
        results = self.open_round
        self.open_calls = {}
        for result in results:
            self._add("tool", (result,))
        self._settle()

    def _settle(self) -> None:
        if self.is_settled and self.waiting:
            self.items.extend(self.waiting)
            self.waiting = []


def item_number(item: Item) -> int:
    """Return N of an id `item-N`, 0 of any other."""
    found = re.fullmatch(r"item-([0-9]{1,18})", item.id)
    return int(found[1]) if found else 0


def ranges_rise(count: int, plan: tuple[PlanStep, ...]) -> bool:
    """Whether the kept ranges of a plan rise, none over another, within a transcript of `count` items."""
    last = 0
    for step in plan:
        if isinstance(step, Item):
            continue
        first, end = step
        if not last <= first < end <= count:
            return False
        last = end
    return True


def planned(items: list[Item], plan: tuple[PlanStep, ...]) -> list[Item]:
    """Return the transcript that a compaction's plan describes.

    Of a plan that no run tells (a log that someone edited), each old item is kept once at most: whatever a log
    says, a transcript has no more items than the log told.
    """
    result: list[Item] = []
    last = 0
    for step in plan:
        if isinstance(step, Item):
            result.append(step)
        else:
            first, end = max(step[0], last), min(step[1], len(items))
            result.extend(items[first:end])
            last = max(last, end)
    return result


def _survives_a_cut(part: AnyPart) -> bool:
    """Whether the part of a cut request may be sent back: no open call, no reasoning without proof."""
    if isinstance(part, ReasoningPart):
        return part.signature is not None or part.redacted is not None
    return not isinstance(part, ToolCallPart)


def without_ids(item: Item) -> Item:
    """Return the item with its own and its calls' ids empty: what a digest covers."""
    parts: list[AnyPart] = []
    for part in item.parts:
        if isinstance(part, ToolCallPart):
            parts.append(msgspec.structs.replace(part, id="", wire_id=None))
        elif isinstance(part, ToolResultPart):
            parts.append(msgspec.structs.replace(part, call_id=""))
        else:
            parts.append(part)
    return Item(kind=item.kind, parts=tuple(parts))
