"""The rules of the transcript: what joins and when, input, compaction; folded here a second time.

Of an item only its id, a fingerprint of its content and the ids of its calls and results are kept, so that a long
session's texts are not held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from agentkit_loop.content import AnyPart, Item, ReasoningPart, ToolCallPart, ToolResultPart
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    PlanStep,
    RunStarted,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_reporting.conformance.book import Book
from agentkit_reporting.conformance.digests import MessageDigests, Step, body_of

_OWN_ID = re.compile(r"item-([0-9]{1,18})")
"""The ids that the transcript itself gives: to answers and results."""


_FEW = 8  # items that are not worth packing

_Pairs: TypeAlias = tuple[list[str], list[str]]
"""The ids of the calls in an item, and of the results."""

_Notes: TypeAlias = tuple[list[str], list[str], dict[str, int], dict[str, _Pairs]]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Notes).decode


class TranscriptRules:
    """Folds the transcript, and compares counts and plans with it."""

    __slots__ = (
        "_bodies",
        "_book",
        "_contents",
        "_items",
        "_messages",
        "_missing",
        "_numbered",
        "_packed",
        "_pairs",
        "_round",
        "_unpacked",
        "_waiting",
    )

    def __init__(self, book: Book, messages: MessageDigests) -> None:
        self._book = book
        self._messages = messages
        self._bodies: list[bytes] = []  # of what waits, for its digests
        self._items: list[str] = []  # their ids
        self._waiting: list[str] = []
        self._contents: dict[str, int] = {}  # fingerprints of items and of what waits, by id
        self._pairs: dict[str, _Pairs] = {}  # of the items that have calls or results
        self._round: dict[str, ToolResultPart | None] = {}  # by call, in call order; None: not in yet
        self._missing = 0  # results of the round
        self._packed: bytes | None = None  # all of these between two runs, a tenth of their size
        self._unpacked = 0  # how many items there were when the last run began; packed where many have come
        self._numbered = 0  # the highest `item-N` so far

    def accept(self, event: RunStarted | InputAccepted) -> None:
        """Judge input, or the transcript that a run begins with, and let it join."""
        book = self._book
        if self._packed is not None:
            self._unpack(self._packed)
        sound = True
        bodies: list[bytes] = []
        for item in event.items:
            sound = sound and bool(item.id) and item.id not in self._contents
            bodies.append(self._note_item(item))
        book.need(event, sound, "items without ids of their own")
        ids = [item.id for item in event.items]
        if isinstance(event, InputAccepted):
            book.need(event, bool(ids), "no items")
            book.need(event, not book.approvals, "an approval is open")
            self._waiting.extend(ids)
            self._bodies.extend(bodies)
            self._settle()
        else:
            self._items.extend(ids)
            for body in bodies:
                self._messages.join(body)

    def _note_item(self, item: Item) -> bytes:
        """Keep what an item is, apart from its place; return what of it is for digests."""
        if item.id.startswith("item-"):
            found = _OWN_ID.fullmatch(item.id)
            if found is not None:
                self._numbered = max(self._numbered, int(found[1]))
        pairs: _Pairs = ([], [])
        for part in item.parts:
            if part.__class__ is ToolCallPart:
                pairs[0].append(part.id)
            elif part.__class__ is ToolResultPart:
                pairs[1].append(part.call_id)
        if pairs[0] or pairs[1]:
            self._pairs[item.id] = pairs
        body = body_of(item.kind, item.parts)
        self._contents[item.id] = hash((body, *pairs[0], *pairs[1]))
        return body

    def ask(self, event: ModelRequestStarted) -> None:
        """Judge how many items a request of a turn sends."""
        if event.purpose == "turn":
            self._count(event, event.message_count)

    def answer(self, event: ModelRequestFinished) -> None:
        """Let an answer join, as far as it was committed."""
        asked = self._book.requests.get(event.request_id)
        if asked is not None and asked.parts and asked.purpose == "turn":
            parts = asked.committed
            calls = [part.id for part in asked.calls] if asked.has_calls else []
            if event.finish_reason == "cancelled":
                parts = [part for part in parts if not isinstance(part, ToolCallPart)]
                parts = [part for part in parts if not isinstance(part, ReasoningPart) or _is_signed(part)]
                calls = []
            if parts:
                self._add("assistant", parts, calls, ())
            self._round = dict.fromkeys(calls)
            self._missing = len(self._round)
        self._close(event)

    def fail(self, event: ModelRequestFailed) -> None:
        """Let what waited for the request join."""
        self._close(event)

    def _close(self, event: ModelRequestFinished | ModelRequestFailed) -> None:
        asked = self._book.requests.get(event.request_id)
        if asked is not None and asked.status != "open":
            asked.parts = {}  # nobody looks at them again
        self._settle()

    def result(self, event: ToolResultReceived) -> None:
        """Let the results of a round join, once the last is in."""
        if self._round.get(event.call_id, event) is not None:
            return  # of no open call, which is another rule's matter
        self._round[event.call_id] = ToolResultPart(
            call_id=event.call_id, name=event.name, output=event.output, is_error=event.is_error
        )
        self._missing -= 1
        if self._missing == 0:
            for result in self._round.values():
                if result is not None:
                    self._add("tool", (result,), (), (result.call_id,))
            self._round = {}
            self._settle()

    def turn_end(self, event: TurnFinished) -> None:
        """Judge how many items an exchange leaves."""
        self._count(event, event.item_count)

    def compact(self, event: CompactionStarted) -> None:
        """Judge the beginning of a compaction."""
        book = self._book
        book.need(event, not book.compacting, "a compaction is open")
        book.need(event, book.request is None, "a request is open")
        book.need(event, not book.open_calls, "a round is open")
        book.compacting = True
        self._count(event, event.item_count)

    def compacted(self, event: CompactionFinished) -> None:
        """Judge the end of a compaction, and its plan."""
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

    def run_end(self, event: AgentEvent) -> None:
        """Pack what is known until the session goes on, if it ever does."""
        del event
        self._messages.rest()
        grown = len(self._items) - self._unpacked
        if self._packed is None and not self._round and grown >= max(_FEW, self._unpacked // 8):
            self._packed = _pack((self._items, self._waiting, self._contents, self._pairs))
            self._items, self._waiting, self._contents, self._pairs = [], [], {}, {}

    def _unpack(self, packed: bytes) -> None:
        self._packed = None
        self._items, self._waiting, self._contents, self._pairs = _unpack(packed)
        self._unpacked = len(self._items)

    # --- the fold

    def _count(self, event: AgentEvent, told: int) -> None:
        own = len(self._items)
        if told != own:
            self._book.fault(event, f"tells {told} items, the transcript has {own}")

    def _add(self, kind: str, parts: Sequence[AnyPart], calls: Sequence[str], results: Sequence[str]) -> None:
        """Let an item join that the transcript itself makes."""
        self._numbered += 1
        item_id = f"item-{self._numbered}"
        body = body_of(kind, parts)
        self._contents[item_id] = hash((body, *calls, *results))
        if calls or results:
            self._pairs[item_id] = (list(calls), list(results))
        self._items.append(item_id)
        self._messages.join(body)

    def _settle(self) -> None:
        book = self._book
        if self._waiting and book.request is None and not self._round and not book.compacting:
            self._items.extend(self._waiting)
            for body in self._bodies:
                self._messages.join(body)
            self._waiting, self._bodies = [], []

    # --- plans

    def _plan(self, event: CompactionFinished, plan: tuple[PlanStep, ...]) -> None:
        book, items = self._book, self._items
        new: list[str] = []
        kept = bytearray(len(items))  # 1 where an old item is kept
        last, twice = 0, False
        torn = self._torn(items)
        steps: list[Step] = []
        for step in plan:
            if isinstance(step, Item):
                old = self._contents.get(step.id)
                steps.append(self._note_item(step))
                book.need(event, old != self._contents[step.id], "the plan tells a kept item again")
                new.append(step.id)
                continue
            first, end = step
            sound = 0 <= first <= end <= len(items)
            book.need(event, sound, "the range {} to {} is not in {} items", first, end, len(items))
            first, end = max(0, first), min(end, len(items))
            if first < last:
                twice = twice or kept.find(1, first, end) >= 0
            if not twice:
                kept[first:end] = b"\1" * max(0, end - first)
            new.extend(items[max(first, last) : end])  # none twice, whatever is told
            steps.append((max(first, last), max(first, last, end)))
            last = max(last, end)
        book.need(event, not twice, "the plan keeps an item twice")
        sound = "" not in new and len(set(new)) == len(new)
        book.need(event, sound, "items without ids of their own")
        book.need(event, self._torn(new) <= torn, "the plan tears a call from its result")
        self._items = new
        self._messages.plan(steps)
        there = {*new, *self._waiting}
        self._contents = {item_id: self._contents[item_id] for item_id in there}
        self._pairs = {item_id: pairs for item_id, pairs in self._pairs.items() if item_id in there}

    def _torn(self, items: Iterable[str]) -> set[str]:
        """Return the ids of calls without their result after them, and of results without their call before."""
        torn: set[str] = set()
        for item_id in items:
            calls, results = self._pairs.get(item_id, ((), ()))
            torn.update(calls)
            for call_id in results:
                torn ^= {call_id}  # with its call, the pair is whole
        return torn


def _is_signed(part: ReasoningPart) -> bool:
    return part.signature is not None or part.redacted is not None


JUDGES: Mapping[type[AgentEvent], Callable[[Any, Any], None]] = {
    RunStarted: TranscriptRules.accept,
    **dict.fromkeys(RUN_ENDS, TranscriptRules.run_end),
    InputAccepted: TranscriptRules.accept,
    ModelRequestStarted: TranscriptRules.ask,
    ModelRequestFinished: TranscriptRules.answer,
    ModelRequestFailed: TranscriptRules.fail,
    ToolResultReceived: TranscriptRules.result,
    TurnFinished: TranscriptRules.turn_end,
    CompactionStarted: TranscriptRules.compact,
    CompactionFinished: TranscriptRules.compacted,
}
"""Which rule looks at which class of events."""
