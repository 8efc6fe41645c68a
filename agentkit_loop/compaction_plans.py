"""Plans of compaction: what a transcript may lose, where it may be cut, and why a plan is refused.

A plan is what `CompactionFinished.plan` holds: half-open ranges of the old transcript that are kept, and new
items, in order. What a plan must leave as it is follows from what providers refuse (the sentences are in
`agentkit_loop.testing_server.check_messages`; that on reasoning is the Messages API's "`thinking` blocks in
the latest assistant message cannot be modified"):

- a call and its result stay together, with nothing new between them; the same holds for the calls of the
  provider's own tools, which are custom parts;
- two answers never become one message: the second's reasoning would stand in the middle;
- no answer is the first message, unless one was so before ("first message must use the user role");
- what the model has not answered yet stays as it is, and behind everything new. Where that are results, the
  assistant message that asked for them belongs to it, and where the last answer is to be gone on from (the
  provider's `pause_turn`), that answer.

Nothing here does I/O, and nothing changes an item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from agentkit_loop.content import (
    AnyPart,
    CustomPart,
    Item,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from agentkit_loop.events.work import PlanStep
from agentkit_loop.values import safe_repr

Plan: TypeAlias = tuple[PlanStep, ...]
"""Half-open ranges `(first, end)` of the old transcript that are kept, and new items, in order."""

_ASIDE = frozenset({"system", "developer"})  # no messages: they neither part nor join those around them
_encode = msgspec.json.Encoder().encode
_decode_item = msgspec.json.Decoder(Item).decode

_Ref: TypeAlias = tuple[bool, bool, str]  # is it a result, is it of the provider's own tools, the call's id


class CompactionError(ValueError):
    """A strategy can do nothing with this transcript, or its plan is refused; one sentence says why."""


# --- what belongs together


def is_aside(item: Item) -> bool:
    """Whether the item is part of the system prompt and of no message."""
    return item.kind in _ASIDE


def message_start(items: Sequence[Item], index: int) -> int:
    """Return where the assistant message begins that the assistant item at `index` is part of.

    Neighbouring assistant items (after the provider's `pause_turn`) are one message.
    """
    start = index
    for before in range(index - 1, -1, -1):
        if items[before].kind == "assistant":
            start = before
        elif not is_aside(items[before]):
            break
    return start


def answers(items: Sequence[Item]) -> list[int]:
    """Return where the assistant items stand that reach the provider.

    An item of nothing but blank text, reasoning without proof and other providers' blocks is not sent. One of
    the provider's own blocks alone counts as not sent too, which keeps rather more than less.
    """
    return [i for i, item in enumerate(items) if item.kind == "assistant" and any(map(_is_sent, item.parts))]


def unanswered_from(items: Sequence[Item]) -> int:
    """Return from where on the transcript is for the model to answer, or to go on from, and stays as it is."""
    spoken = answers(items)
    last = spoken[-1] if spoken else -1
    waiting = [
        index
        for index in range(last + 1, len(items))
        if not is_aside(items[index]) and items[index].kind != "assistant"
    ]
    is_round = any(_has_results(items[index]) for index in waiting)
    if last >= 0 and (is_round or not waiting):
        return message_start(items, last)
    return waiting[0] if waiting else len(items)


def safe_cuts(items: Sequence[Item]) -> list[int]:
    """Return, rising from 0, before which items a transcript may be cut so that the rest stands alone.

    No call is parted from its result, no assistant message from its second half, and nothing unanswered is
    cut off.
    """
    end = unanswered_from(items)
    crossing = [0] * (len(items) + 2)  # by differences: how many pairs a cut before that item would part
    for asked, answered, _ in _pairs(items):
        crossing[asked + 1] += 1
        crossing[answered + 1] -= 1
    open_pairs = 0
    safe: list[int] = []
    before = ""  # kind of the last item that is part of a message
    for index in range(end + 1):
        open_pairs += crossing[index]
        kind = items[index].kind if index < len(items) else ""
        if open_pairs == 0 and not (before == "assistant" and kind in {"assistant", *_ASIDE}):
            safe.append(index)
        if kind not in _ASIDE:
            before = kind
    return safe


def plan_of(steps: Iterable[int | Item]) -> Plan:
    """Return the plan that keeps the old items of these numbers and has these new ones, in order."""
    plan: list[PlanStep] = []
    for step in steps:
        last = plan[-1] if plan else None
        if isinstance(step, Item):
            plan.append(step)
        elif isinstance(last, tuple) and last[1] == step:
            plan[-1] = (last[0], step + 1)
        else:
            plan.append((step, step + 1))
    return tuple(plan)


def _is_sent(part: AnyPart) -> bool:
    match part:
        case TextPart():
            return bool(part.text.strip())
        case ReasoningPart():
            return part.signature is not None or part.redacted is not None
        case _:
            return not isinstance(part, CustomPart)


def _refs(item: Item) -> Iterator[tuple[_Ref, AnyPart]]:
    """Yield what the item's parts ask and answer; of the provider's own blocks, by the fields of its API."""
    for part in item.parts:
        match part:
            case ToolCallPart():
                yield (False, False, part.id), part
            case ToolResultPart():
                yield (True, False, part.call_id), part
            case CustomPart(value={"tool_use_id": str(call_id)}):
                yield (True, True, call_id), part
            case CustomPart(value={"type": str(kind), "id": str(call_id)}) if kind.endswith("tool_use"):
                yield (False, True, call_id), part
            case _:
                pass


def _pairs(items: Sequence[Item]) -> Iterator[tuple[int, int, _Ref]]:
    """Yield, for each result, where its call and it stand, and the call; what is alone has no pair."""
    asked: dict[_Ref, int] = {}
    for index, item in enumerate(items):
        for (is_result, own, call_id), _ in _refs(item):
            call = (False, own, call_id)
            if not is_result:
                asked[call] = index
            elif call in asked:
                yield asked.pop(call), index, call


# --- why a plan is refused


class _Entry(msgspec.Struct, frozen=True):
    """An item of the new transcript. origin: the old item that it is or stands in for, None for neither."""

    item: Item
    origin: int | None
    is_kept: bool

    def holds(self, ref: _Ref) -> bool:
        """Whether the call or result is still there; a kept item holds all of its own."""
        return self.is_kept or any(ref == own for own, _ in _refs(self.item))


def fault_of_plan(items: Sequence[Item], plan: object) -> str | None:
    """Return why a plan for this transcript is refused, in one sentence; None for one that may be applied.

    New items: their id is empty (the session numbers them) or new; a new assistant item may hold calls only
    where it stands in for one old item, in its place, whose calls it holds unchanged; none holds results.
    """
    if not isinstance(plan, tuple):
        return f"plan {safe_repr(plan)} refused; give a tuple of ranges (first, end) and new items"
    fault = _shape_fault(len(items), plan) or _new_item_fault(items, plan)
    if fault is not None:
        return fault
    entries = _entries(items, plan)
    if isinstance(entries, str):
        return entries
    return (
        _order_fault(entries)
        or _pair_fault(items, entries)
        or _joined_fault(items, entries)
        or _unanswered_fault(items, entries)
        or _beginning_fault(items, entries)
        or _change_fault(items, entries)
    )


def _shape_fault(count: int, plan: tuple[Any, ...]) -> str | None:
    last = 0
    for step in plan:
        match step:
            case Item():
                continue
            case (int() as first, int() as end) if type(step) is tuple and bool not in map(type, step):
                if not 0 <= first < end <= count:
                    return f"range {step!r} refused; give first < end within the {count} items"
                if first < last:
                    return f"range {step!r} refused after one that ends at {last}; give ranges that rise"
                last = end
            case _:
                return f"plan step {safe_repr(step)} refused; give a range (first, end) or an Item"
    return None


def _new_item_fault(items: Sequence[Item], plan: tuple[PlanStep, ...]) -> str | None:
    taken = {item.id for item in items}
    for step in plan:
        if not isinstance(step, Item):
            continue
        if not _is_loggable(step):
            return (
                f"new item {_shortened(step)} refused; a log cannot hold it, only known kinds and JSON values"
            )
        if not step.parts:
            return f"new item {_shortened(step)} refused because it says nothing; give at least one part"
        if step.id and step.id in taken:
            return f"new item with the id {step.id!r} refused because it is taken; leave it empty"
        taken.add(step.id)
        if _asks(step) and (step.kind != "assistant" or _has_results(step)):
            return f"new item {_shortened(step)} refused; only assistant items hold calls, and none results"
    return None


def _shortened(item: Item) -> str:
    return safe_repr(item)[:200]


def _is_loggable(item: Item) -> bool:
    try:
        return _decode_item(_encode(item)) == item
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return False


def _entries(items: Sequence[Item], plan: tuple[PlanStep, ...]) -> list[_Entry] | str:
    """Return the new transcript, each item with the old one that it is or stands in for; or the fault."""
    owners: dict[_Ref, list[int]] = {}
    for index, item in enumerate(items):
        for ref, _ in _refs(item) if item.kind == "assistant" else ():
            owners.setdefault(ref, []).append(index)
    entries: list[_Entry] = []
    last = -1  # the old item that the last entry is or stands in for
    for step in plan:
        if not isinstance(step, Item):
            entries.extend(_Entry(items[index], index, is_kept=True) for index in range(*step))
        else:
            refs = list(_refs(step))
            found = [i for i in (owners.get(refs[0][0], ()) if refs else ()) if _holds_all(items[i], refs)]
            if refs and not found:
                return f"new item {_shortened(step)} refused; give calls of one old item, unchanged"
            # Ids are unique in a session; in a transcript that a host brought, the next in order is meant.
            origin = next((i for i in found if i > last), found[0]) if found else None
            entries.append(_Entry(step, origin, is_kept=False))
        last = max(last, *(entry.origin for entry in entries[-1:] if entry.origin is not None), -1)
    return entries


def _holds_all(old: Item, refs: list[tuple[_Ref, AnyPart]]) -> bool:
    return [pair for pair in _refs(old) if pair in refs] == refs


def _asks(item: Item) -> bool:
    return next(_refs(item), None) is not None


def _has_results(item: Item) -> bool:
    return any(isinstance(part, ToolResultPart) for part in item.parts)


def _order_fault(entries: Sequence[_Entry]) -> str | None:
    last = -1
    for entry in entries:
        if entry.origin is None:
            continue
        if entry.origin <= last:
            return f"new item in place of item {entry.origin} refused; put it where that was, and drop that"
        last = entry.origin
    return None


def _pair_fault(items: Sequence[Item], entries: Sequence[_Entry]) -> str | None:
    places = {entry.origin: place for place, entry in enumerate(entries) if entry.origin is not None}
    new_before = [0]
    for entry in entries:
        new_before.append(new_before[-1] + (entry.origin is None))
    for asked, answered, call in _pairs(items):
        here, there = places.get(asked), places.get(answered)
        has_call = here is not None and entries[here].holds(call)
        has_result = there is not None and entries[there].holds((True, *call[1:]))
        if has_call != has_result:
            kept, lost = ("call", "result") if has_call else ("result", "call")
            return f"plan refused that keeps the {kept} {call[2]!r} without its {lost}; keep both or neither"
        if here is not None and there is not None and has_call and new_before[there] > new_before[here + 1]:
            return f"new item between call {call[2]!r} and its result refused; put it before the call"
    return None


def _joined_fault(items: Sequence[Item], entries: Sequence[_Entry]) -> str | None:
    """Refuse what makes one message of two answers: the second's reasoning then stands in the middle."""
    messages: dict[int, int] = {}  # of each old assistant item: which message it is part of
    start: int | None = None
    for index, item in enumerate(items):
        if item.kind == "assistant":
            start = messages[index] = index if start is None else start
        elif not is_aside(item):
            start = None
    before: int | None = None
    for entry in entries:
        if entry.item.kind == "assistant":
            message = None if entry.origin is None else messages[entry.origin]
            if None not in {before, message} and before != message:
                return f"plan refused that leaves no input between two answers, before item {entry.origin}; keep it"
            before = message
        elif not is_aside(entry.item):
            before = None
    return None


def _unanswered_fault(items: Sequence[Item], entries: Sequence[_Entry]) -> str | None:
    if all(is_aside(entry.item) for entry in entries):
        return "plan refused that leaves the model nothing to answer; keep the last input"
    if all(is_aside(entry.item) or entry.item.kind == "assistant" for entry in entries):
        return "plan refused that leaves nothing but answers; keep the input or give a new user item"
    start = unanswered_from(items)
    kept = {entry.origin for entry in entries if entry.is_kept}
    for index in range(start, len(items)):
        if index not in kept and not is_aside(items[index]):
            return f"plan refused without item {index}, which is not answered yet; keep all from {start} on"
    before = ""
    reached = False
    for entry in entries:
        if entry.origin == start:
            reached = True
            if before == "assistant" and entry.item.kind == "assistant":
                return f"assistant item before item {start} refused, with which it would be one; drop it"
        if reached and not entry.is_kept:
            return f"new item behind item {start} refused, which is not answered yet; put it before"
        if not is_aside(entry.item):
            before = entry.item.kind
    return None


def _beginning_fault(items: Sequence[Item], entries: Sequence[_Entry]) -> str | None:
    """Refuse what makes the model speak first; a transcript that a host began so stays as it is."""
    if _answer_is_first([entry.item for entry in entries]) and not _answer_is_first(items):
        return "plan refused that begins with an answer; keep the input before it or give a new user item"
    return None


def _answer_is_first(items: Sequence[Item]) -> bool:
    """Whether the first message that reaches the provider is the assistant's; another's blocks may be sent."""
    for item in items:
        if item.kind == "assistant":
            if any(_is_sent(part) or isinstance(part, CustomPart) for part in item.parts):
                return True
        elif not is_aside(item):
            return False
    return False


def _change_fault(items: Sequence[Item], entries: Sequence[_Entry]) -> str | None:
    old = [(item.kind, item.parts) for item in items]
    if [(entry.item.kind, entry.item.parts) for entry in entries] == old:
        return "plan refused that changes nothing; raise CompactionError where nothing can be done"
    return None
