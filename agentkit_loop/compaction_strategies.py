"""The strategies of compaction: what each keeps of a transcript, as a plan (`compaction_plans.py`).

They do no I/O and change no item. What may not be touched, none touches: each checks its own plan.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import attrs
import msgspec

from agentkit_loop.compaction_plans import (
    CompactionError,
    Plan,
    answers,
    fault_of_plan,
    is_aside,
    message_start,
    plan_of,
    safe_cuts,
    unanswered_from,
)
from agentkit_loop.content import (
    AnyPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.models.protocol import Model
from agentkit_loop.records import FrozenRecord
from agentkit_loop.values import clean_text

INSTRUCTION = """\
The conversation above is about to be replaced by a summary that you write now. Whoever continues has only \
this summary and the most recent messages, which you may not see here. Keep, in this order: what the user \
asked for, in the user's own words where they matter; decisions and their reasons; what was done and found \
(names, paths, numbers, errors exactly as they were); what is still open. Leave out pleasantries and what was \
superseded. Call no tool. Answer with the summary alone."""
"""What `SummariseOlder` asks the model where it is given no other instruction."""

HEADING = "Summary of the conversation so far, whose older part was removed to save room:"
"""First line of the item that stands for what was summarised."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SummaryWanted(FrozenRecord):
    """A model has to be asked before there is a plan.

    items: the transcript of that request, ended by a user item with the instruction. model: who is asked,
    None for the agent's own: with the agent's own system prompt and tools (providers refuse calls and results
    without them), so that the request reads what the prompt cache holds. Another model is asked with `system`
    and without tools. before, after: the steps of the plan around the new item. heading: its first line.
    """

    items: tuple[Item, ...]
    system: str | None = None
    model: Model | None = None
    before: Plan = ()
    after: Plan = ()
    heading: str = HEADING

    def finish(self, text: str) -> Plan:
        """Return the plan, given the model's answer; raises CompactionError for an empty one."""
        summary = clean_text(text).strip()
        if not summary:
            raise CompactionError("the model's summary is empty; another instruction= or model= may give one")
        return (*self.before, Item.user(f"{self.heading}\n\n{summary}"), *self.after)


@runtime_checkable
class Strategy(Protocol):
    """Says what a transcript may lose. name: as `CompactionFinished` tells it."""

    @property
    def name(self) -> str:
        """Snake case, unlike the others of one agent."""

    def plan(self, items: Sequence[Item], /) -> Plan | SummaryWanted:
        """Return what stays; without I/O. Whatever it raises is told, and the next strategy is tried."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class DropReasoning(FrozenRecord):
    """Drops the model's reasoning, but for that of its last answers.

    keep_last: how many of the last assistant items keep theirs, at least 1. The last assistant message keeps
    it in any case, and a message of several items keeps or loses it as a whole: a provider that waits for
    results refuses a last answer whose reasoning is not as it was. An item of nothing else goes.
    """

    name: ClassVar[str] = "drop_reasoning"
    keep_last: int = 1

    def __attrs_post_init__(self) -> None:
        check_count("keep_last", self.keep_last)

    def plan(self, items: Sequence[Item], /) -> Plan:
        """Return the plan; raises CompactionError where there is nothing to drop."""
        spoken = answers(items)[-self.keep_last :]
        border = min(unanswered_from(items), message_start(items, spoken[0]) if spoken else len(items))
        steps: list[int | Item] = []
        dropped = False
        for index, item in enumerate(items):
            parts = tuple(part for part in item.parts if not isinstance(part, ReasoningPart))
            if index >= border or item.kind != "assistant" or len(parts) == len(item.parts):
                steps.append(index)
                continue
            dropped = True
            if parts:
                steps.append(Item(kind="assistant", parts=parts))
        if not dropped:
            raise CompactionError("no answer but the last ones holds reasoning; another strategy may help")
        return _sound(items, plan_of(steps))


@attrs.frozen(eq=False, repr=False)
class DropFailedResults(FrozenRecord):
    """Drops calls that failed, with their results; never those of the last round.

    An answer whose calls all failed goes as a whole, with the text and reasoning around them, unless it
    also holds something else (a provider's own blocks, media): then it stays. Denied and interrupted calls
    are failed ones too, so the model may ask for them again.
    """

    name: ClassVar[str] = "drop_failed_results"

    def plan(self, items: Sequence[Item], /) -> Plan:
        """Return the plan; raises CompactionError where there is nothing to drop."""
        rounds = [index for index, item in enumerate(items) if item.calls]
        border = min(unanswered_from(items), rounds[-1] if rounds else 0)
        dropped: set[int] = set()
        steps: list[int | Item] = []
        before = ""  # kind of the last item that stays and is part of a message
        for index, item in enumerate(items):
            failed = _failed_results(items, index) if index < border else {}
            left = tuple(p for p in item.parts if not (isinstance(p, ToolCallPart) and p.id in failed))
            step: int | Item | None = index
            if failed and any(isinstance(part, ToolCallPart) for part in left):
                step = Item(kind="assistant", parts=left)
            elif failed and all(isinstance(part, (TextPart, ReasoningPart)) for part in left):
                behind = _next_kind(items, index + 1, failed.values())
                step = index if before == behind == "assistant" else None  # two answers would become one
            if step != index:
                dropped.update(failed.values())
            if step is not None and index not in dropped:
                steps.append(step)
                before = before if is_aside(item) else item.kind
        if not dropped:
            raise CompactionError("no call before the last round failed; another strategy may help")
        return _sound(items, plan_of(steps))


def _failed_results(items: Sequence[Item], index: int) -> dict[str, int]:
    """Return where the failed results of a round stand, by call; only those in an item of their own."""
    calls = {call.id for call in items[index].calls}
    failed: dict[str, int] = {}
    if not calls:
        return failed
    for place in range(index + 1, len(items)):
        match items[place]:
            case Item(kind="assistant"):
                break
            case Item(parts=(ToolResultPart(call_id=call_id, is_error=True),)) if call_id in calls:
                failed[call_id] = place
            case _:
                pass
    return failed


def _next_kind(items: Sequence[Item], start: int, without: Collection[int]) -> str:
    """Return the kind of the first item from `start` on that is part of a message and not left out."""
    left = (
        items[at].kind for at in range(start, len(items)) if at not in without and not is_aside(items[at])
    )
    return next(left, "")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class KeepRecent(FrozenRecord):
    """Keeps the last items, and of the older ones those of the system prompt and `context` items.

    items: how many of the last ones are kept, at least 1; fewer where the cut would part what belongs
    together, more where more than that is not answered yet. Where that begins in the middle of an exchange,
    the input of that exchange is kept too, so that the model still reads what it was asked. Everything else
    that is older is lost: earlier exchanges, and the earlier rounds of this one.
    """

    name: ClassVar[str] = "keep_recent"
    items: int = 20

    def __attrs_post_init__(self) -> None:
        check_count("items", self.items)

    def plan(self, items: Sequence[Item], /) -> Plan:
        """Return the plan; raises CompactionError where there is nothing to drop."""
        cut = _cut(items, self.items)
        kept = {index for index in range(cut) if is_aside(items[index]) or items[index].kind == "context"}
        if not any(item.kind == "user" for item in _first_message(items, cut)):
            kept.update(_last_input(items, cut))
        if len(kept) == cut:
            raise CompactionError("nothing older than the recent items can go; a smaller items= may help")
        return _sound(items, plan_of([*sorted(kept), *range(cut, len(items))]))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SummariseOlder(FrozenRecord):
    """Replaces everything older than the last items by a summary that a model writes, as a user item.

    keep_items: how many of the last items are kept as they are, at least 1; see `KeepRecent.items`. model:
    who writes it, None for the agent's own (which reads the older part from the prompt cache; another gets it
    as text, without reasoning and media). instruction: what it is asked. Items of the system prompt are kept;
    an earlier summary is summarised with the rest.
    """

    name: ClassVar[str] = "summarise_older"
    keep_items: int = 10
    model: Model | None = None
    instruction: str = INSTRUCTION

    def __attrs_post_init__(self) -> None:
        check_count("keep_items", self.keep_items)
        instruction: Any = self.instruction
        if not isinstance(instruction, str) or not instruction.strip():
            raise ConfigurationError(f"instruction={instruction!r} refused; give the text to ask with")
        model: Any = self.model
        if not (model is None or isinstance(model, Model)):
            raise ConfigurationError(f"model={model!r} refused; give a model, or None for the agent's own")

    def plan(self, items: Sequence[Item], /) -> SummaryWanted:
        """Return what to ask; raises CompactionError where there is too little to summarise."""
        cut = _cut(items, self.keep_items)
        kept = [index for index in range(cut) if is_aside(items[index])]
        if cut - len(kept) < 2:  # noqa: PLR2004 - one item is not made fewer by a summary
            raise CompactionError("nothing older than the recent items; a smaller keep_items= may help")
        older = tuple(items[:cut])
        instruction = clean_text(self.instruction)
        if self.model is None:
            request = (*older, Item.user(instruction))
        else:
            request = (Item.user(f"{_as_lines(older)}\n\n{instruction}"),)
        after = plan_of(range(cut, len(items)))
        wanted = SummaryWanted(items=request, model=self.model, before=plan_of(kept), after=after)
        _sound(items, wanted.finish("a summary"))
        return wanted


def _sound(items: Sequence[Item], plan: Plan) -> Plan:
    """Return the plan; raises CompactionError for one that would be refused (a host's odd transcript)."""
    fault = fault_of_plan(items, plan)
    if fault is not None:
        raise CompactionError(fault)
    return plan


def check_count(word: str, count: Any) -> None:
    """Raise ConfigurationError for an option that is no number of at least 1."""
    if type(count) is not int or count < 1:
        raise ConfigurationError(f"{word}={count!r} refused; give a number of at least 1")


def _cut(items: Sequence[Item], keep: int) -> int:
    """Return before which item to cut, so that at most `keep` are left where that can be."""
    cuts = safe_cuts(items)
    return next((cut for cut in cuts if cut >= len(items) - keep), cuts[-1])


def _first_message(items: Sequence[Item], start: int) -> list[Item]:
    """Return the items of the first message from `start` on, where it is not the assistant's."""
    found: list[Item] = []
    for item in items[start:]:
        if item.kind == "assistant":
            break
        found.append(item)
    return found


def _last_input(items: Sequence[Item], end: int) -> list[int]:
    """Return where the last input before `end` stands: its last user items in a row, and what is among them."""
    found: list[int] = []
    for index in range(end - 1, -1, -1):
        kind = items[index].kind
        if kind == "user" or (found and kind in {"context", "notification"}):
            found.append(index)
        elif found and not is_aside(items[index]):
            break
    return found


def _as_lines(items: Sequence[Item]) -> str:
    """Return items as JSON, one a line, which no text in them can forge; without reasoning and media."""
    told = (
        Item(kind=item.kind, parts=tuple(_told(part) for part in item.parts if _is_told(part)))
        for item in items
    )
    return "\n".join(msgspec.json.encode(item).decode() for item in told if item.parts)


def _is_told(part: AnyPart) -> bool:
    return not isinstance(part, (ReasoningPart, CustomPart))


def _told(part: AnyPart) -> AnyPart:
    match part:
        case FilePart():
            return TextPart(text=f"({part.media_type} {part.name!r})")
        case MediaPart():
            return TextPart(text=f"({part.media_type})")
        case ToolResultPart(output={"$parts": _}):
            return msgspec.structs.replace(part, output="(parts that are not shown here)")
        case _:
            return part
