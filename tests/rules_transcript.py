"""The rules of the transcript: what joins and when, input, compaction; folded here a second time.

The fold of the package (`agentkit_loop.transcript`) is what is compared.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

from agentkit_loop.content import Item, ReasoningPart, ToolCallPart, ToolResultPart
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunStarted,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.transcript import Transcript
from tests.rules_book import CLOSING, Book

_JOINING = (TurnFinished, CompactionFinished, *CLOSING)
"""Events at which the two folds are compared."""


class TranscriptRules:
    """Folds the transcript, and compares counts, plans and the package's own fold with it."""

    def __init__(self, book: Book, fold: Transcript) -> None:
        self._book = book
        self._fold = fold
        self._items: list[Item] = []  # without ids
        self._waiting: list[Item] = []
        self._round: dict[str, ToolResultPart | None] = {}
        self._old: list[Item] = []  # with ids: the transcript before the event

    def take(self, event: AgentEvent) -> None:
        """Judge one event."""
        book = self._book
        self._old = self._fold.items
        match event:
            case RunStarted() | InputAccepted():
                self._accept(event)
            case ModelRequestStarted() if event.purpose == "turn":
                self._count(event, event.message_count)
            case ModelRequestFinished():
                self._answer(event)
            case ModelRequestFailed():
                self._settle()
            case ToolResultReceived():
                self._result(event)
            case TurnFinished():
                self._count(event, event.item_count)
            case CompactionStarted():
                book.need(event, not book.compacting, "a compaction is open")
                book.need(event, book.request is None, "a request is open")
                book.need(event, not book.open_calls, "a round is open")
                book.compacting = True
                self._count(event, event.item_count)
            case CompactionFinished():
                self._compact(event)
            case _:
                pass
        self._fold.apply(event)
        if isinstance(event, _JOINING):
            told = [(item.kind, item.parts) for item in self._fold.items]
            own = [(item.kind, item.parts) for item in self._items]
            book.need(event, told == own, "the transcript is not the fold of the events")
        if isinstance(event, (TurnFinished, *CLOSING)):
            self._ids(event, self._fold.items)

    def _count(self, event: AgentEvent, told: int) -> None:
        own = len(self._items)
        self._book.need(event, told == own, f"tells {told} items, the transcript has {own}")

    def _ids(self, event: AgentEvent, items: Iterable[Item]) -> None:
        ids = collections.Counter(item.id for item in items)
        sound = "" not in ids and all(count == 1 for count in ids.values())
        self._book.need(event, sound, "items without ids of their own")

    def _accept(self, event: RunStarted | InputAccepted) -> None:
        book = self._book
        self._ids(event, (*self._old, *self._fold.waiting, *event.items))
        if isinstance(event, InputAccepted):
            book.need(event, bool(event.items), "no items")
            book.need(event, not book.approvals, "an approval is open")
            self._waiting.extend(event.items)
            self._settle()
        else:
            self._items.extend(event.items)

    def _settle(self) -> None:
        book = self._book
        if book.request is None and not self._round and not book.compacting:
            self._items.extend(self._waiting)
            self._waiting = []

    def _answer(self, event: ModelRequestFinished) -> None:
        asked = self._book.requests.get(event.request_id)
        if asked is not None and asked.purpose == "turn":
            parts = [part for part in asked.parts.values() if part is not None]
            if event.finish_reason == "cancelled":
                parts = [part for part in parts if not isinstance(part, ToolCallPart)]
                parts = [part for part in parts if not isinstance(part, ReasoningPart) or _is_signed(part)]
            if parts:
                self._items.append(Item(kind="assistant", parts=tuple(parts)))
            self._round = {part.id: None for part in parts if isinstance(part, ToolCallPart)}
        self._settle()

    def _result(self, event: ToolResultReceived) -> None:
        if self._round.get(event.call_id, event) is not None:
            return  # of no open call, which is another rule's matter
        self._round[event.call_id] = ToolResultPart(
            call_id=event.call_id, name=event.name, output=event.output, is_error=event.is_error
        )
        results = [result for result in self._round.values() if result is not None]
        if len(results) == len(self._round):
            self._items.extend(Item(kind="tool", parts=(result,)) for result in results)
            self._round = {}
            self._settle()

    def _compact(self, event: CompactionFinished) -> None:
        book = self._book
        book.need(event, book.compacting, "no compaction is open")
        book.need(event, book.request is None, "a request is open")
        failed = event.plan is None
        book.need(event, failed is (event.error is not None), "a plan and an error, or neither")
        if event.plan is not None:
            self._plan(event, event.plan)
        # Whether input that waited is counted already is left open.
        if event.item_count != len(self._items) + len(self._waiting):
            self._count(event, event.item_count)
        book.compacting = False
        self._settle()

    def _plan(self, event: CompactionFinished, plan: tuple[tuple[int, int] | Item, ...]) -> None:
        book, items = self._book, self._items
        new: list[Item] = []
        kept: list[int] = []
        told: list[Item] = []
        for step in plan:
            if isinstance(step, Item):
                book.need(event, step not in self._old, "the plan tells a kept item again")
                new.append(step)
                told.append(step)
                continue
            first, end = step
            sound = 0 <= first <= end <= len(items)
            book.need(event, sound, f"the range {first} to {end} is not in {len(items)} items")
            places = range(max(0, first), min(end, len(items)))
            last = max(kept, default=-1)
            new.extend(items[place] for place in places if place > last)  # none twice, whatever is told
            kept.extend(places)
        book.need(event, len(set(kept)) == len(kept), "the plan keeps an item twice")
        self._ids(event, (*(self._old[place] for place in set(kept) if place < len(self._old)), *told))
        book.need(event, _torn(new) <= _torn(items), "the plan tears a call from its result")
        self._items = new


def _is_signed(part: ReasoningPart) -> bool:
    return part.signature is not None or part.redacted is not None


def _torn(items: list[Item]) -> set[str]:
    """Return the ids of calls without their result after them, and of results without their call before."""
    torn: set[str] = set()
    for item in items:
        for part in item.parts:
            if isinstance(part, ToolCallPart):
                torn.add(part.id)
            elif isinstance(part, ToolResultPart):
                torn ^= {part.call_id}  # with its call, the pair is whole
    return torn
