"""Compaction: when a transcript is shortened, and by which strategies.

| strategy | what is lost |
|---|---|
| `DropReasoning` | the model's reasoning, but for the last answers |
| `DropFailedResults` | calls that failed, with their results |
| `KeepRecent` | everything older than the last items |
| `SummariseOlder` | the same, but for a summary that a model writes; costs a request |

A strategy says what stays, as a plan (`compaction_plans.py`), or that a model has to be asked first. It does
no I/O and changes no item. A plan that would break something is refused, and a strategy that raises changes
nothing; the transcript is then as before.

Several strategies are tried in order, each on the transcript as it is: the first whose plan brings enough
wins (no more than `max_items` items where there were more; otherwise at least a fifth less to send). So the
mild and cheap ones stand first, `SummariseOlder` near the end. Where none brings enough, the plan that
leaves the least is taken; where none has a plan, nothing changes.

A prompt cache holds as far as the transcript's beginning is kept: up to the first item that is dropped or
rewritten. Everything that a compaction changes is therefore paid for once, so that a rare compaction that
brings much is cheaper than a frequent one that brings little.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeAlias

import attrs
import msgspec

from agentkit_loop.compaction_plans import CompactionError, Plan, fault_of_plan
from agentkit_loop.compaction_strategies import (
    DropFailedResults,
    DropReasoning,
    KeepRecent,
    Strategy,
    SummariseOlder,
    SummaryWanted,
    check_count,
)
from agentkit_loop.content import (
    AnyPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    StructuredPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.records import FrozenRecord
from agentkit_loop.transcript import planned
from agentkit_loop.usage import ErrorInfo, error_text
from agentkit_loop.values import JSON, clean_text, safe_repr

__all__ = [
    "Compaction",
    "CompactionError",
    "CompactionOutcome",
    "DropFailedResults",
    "DropReasoning",
    "KeepRecent",
    "Plan",
    "Strategy",
    "SummariseOlder",
    "SummaryWanted",
    "attempts",
    "estimated_tokens",
    "fault_of_plan",
    "weight",
]

ENOUGH = 0.2
"""The share of what is sent that a strategy has to take away for the next one not to be tried: less is used
up within a few turns, and each compaction costs the prompt cache."""

BYTES_PER_TOKEN = 3.5
"""UTF-8 bytes of a token, about; see `estimated_tokens`."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Compaction(FrozenRecord):
    """When a transcript is shortened before a request, and how.

    strategy: one, or several that are tried in order (see the module's text). Triggers: max_items: more items
    than this. context_window: the model's, in tokens; max_share: this share of it, above 0 and at most 1, was
    the input of the last request. on_context_exceeded: the provider says that a request is too long; once a
    turn. Raises ConfigurationError for what cannot work.
    """

    strategy: Strategy | Sequence[Strategy]
    max_items: int | None = None
    context_window: int | None = None
    max_share: float = 0.8
    on_context_exceeded: bool = True

    def __attrs_post_init__(self) -> None:
        for word in ("max_items", "context_window"):
            if getattr(self, word) is not None:
                check_count(word, getattr(self, word))
        share: Any = self.max_share
        if type(share) not in {int, float} or not 0 < share <= 1:
            raise ConfigurationError(f"max_share={share!r} refused; give a share above 0 and at most 1")
        if self.max_items is None and self.context_window is None and not self.on_context_exceeded:
            raise ConfigurationError(
                "compaction that nothing triggers refused; give max_items=, context_window= or "
                "on_context_exceeded=True"
            )
        given: Any = self.strategies
        if not given or not all(_is_strategy(one) for one in given):
            raise ConfigurationError(
                f"strategy={safe_repr(self.strategy)} refused; give KeepRecent(…), SummariseOlder(…), another "
                "object with name and plan, or a list of them"
            )
        for one in given:
            kept = one.items if isinstance(one, KeepRecent) else getattr(one, "keep_items", None)
            if self.max_items is not None and isinstance(kept, int) and kept >= self.max_items:
                raise ConfigurationError(
                    f"{one!r} with max_items={self.max_items!r} refused because it would be due again at once; "
                    "let it keep fewer"
                )

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The strategies in the order in which they are tried."""
        given: Any = self.strategy
        return tuple(given) if isinstance(given, (list, tuple)) else (given,)

    def due(self, *, item_count: int, token_count: int | None) -> str | None:
        """Return why the transcript is to be shortened before the next request, None where it is not.

        token_count: all input tokens of the last request; None where they are unknown, or where the
        transcript was shortened since, so that they say nothing any more.
        """
        if self.max_items is not None and item_count > self.max_items:
            return f"{item_count} items, more than max_items={self.max_items}"
        window = self.context_window
        if window is not None and token_count is not None and token_count >= self.max_share * window:
            return f"{token_count} input tokens, at least {self.max_share:.0%} of context_window={window}"
        return None

    def is_enough(self, before: Sequence[Item], after: Sequence[Item]) -> bool:
        """Whether no further strategy is needed."""
        if self.max_items is not None and len(before) > self.max_items:
            return len(after) <= self.max_items
        return weight(after) <= (1 - ENOUGH) * weight(before)


def _is_strategy(given: object) -> bool:
    return isinstance(given, Strategy) and not isinstance(given, type) and isinstance(given.name, str)


class CompactionOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a compaction, as CompactionFinished tells it.

    strategy: the one whose plan is taken; where there is none, all that were tried, with commas between.
    plan: None where nothing changes. error: why, None with a plan. items: the transcript after the plan (new
    items have no id yet).
    """

    strategy: str
    plan: Plan | None
    error: ErrorInfo | None
    items: tuple[Item, ...]

    @property
    def token_count(self) -> int | None:
        """Return about how many input tokens the items are; see `estimated_tokens`."""
        return estimated_tokens(self.items)


_Attempts: TypeAlias = Generator[SummaryWanted, str, CompactionOutcome]


def attempts(compaction: Compaction, items: Sequence[Item]) -> _Attempts:
    """Try the strategies; yields what a model has to be asked, takes its answer, returns the outcome.

    The model's failure is thrown in where its answer was wanted; the next strategy is then tried. Never
    raises an Exception of a strategy. Closing it early gives up.
    """
    before = tuple(items)
    best: CompactionOutcome | None = None
    failures: list[tuple[str, Exception]] = []
    for strategy in compaction.strategies:
        try:
            plan: object = strategy.plan(before)
            if isinstance(plan, SummaryWanted):
                plan = plan.finish((yield plan))
            outcome = _judged(strategy.name, before, plan)
        except Exception as error:  # noqa: BLE001 - a host's strategy may raise anything
            failures.append((_name_of(strategy), error))
            continue
        if compaction.is_enough(before, outcome.items):
            return outcome
        if best is None or _size(outcome.items) < _size(best.items):
            best = outcome
    return best or _nothing_done(before, failures)


def _judged(name: str, before: tuple[Item, ...], plan: Any) -> CompactionOutcome:
    """Return what a plan leads to; raises CompactionError for one that is refused."""
    fault = fault_of_plan(before, plan)
    if fault is not None:
        raise CompactionError(fault)
    after = tuple(planned(list(before), plan))
    if len(after) >= len(before) and weight(after) >= weight(before):
        raise CompactionError("plan refused that leaves as much as there was; keep less")
    return CompactionOutcome(strategy=clean_text(name), plan=plan, error=None, items=after)


def _nothing_done(items: tuple[Item, ...], failures: Sequence[tuple[str, Exception]]) -> CompactionOutcome:
    error = ErrorInfo.of(failures[-1][1])
    if len(failures) > 1:
        told = "; ".join(f"{name}: {error_text(failure)}" for name, failure in failures)
        error = msgspec.structs.replace(error, message=told)
    return CompactionOutcome(
        strategy=", ".join(name for name, _ in failures), plan=None, error=error, items=items
    )


def _name_of(strategy: Strategy) -> str:
    try:
        return clean_text(strategy.name)
    except Exception:  # noqa: BLE001 - a host's property may raise anything
        return type(strategy).__name__


def _size(items: Sequence[Item]) -> tuple[int, int]:
    return weight(items), len(items)


# --- how much it is


def weight(items: Iterable[Item]) -> int:
    """Return how much the items make of a request: bytes of UTF-8, without what is not sent back."""
    return sum(_weight(part) for item in items for part in item.parts)


def estimated_tokens(items: Iterable[Item]) -> int | None:
    """Return about how many input tokens the items are, without the system prompt and the tools.

    The provider's own rule of thumb (its glossary): a token is about 3.5 English characters. Counted are
    bytes of UTF-8 instead, since scripts whose characters take two or three bytes need more tokens a
    character. Good for orders of magnitude: code and numbers give more, and so do newer tokenizers.
    None where something is sent whose tokens do not follow from its length: images, documents, hidden
    reasoning, a provider's own blocks.
    """
    listed = list(items)
    if any(_is_opaque(part) for item in listed for part in item.parts):
        return None
    return math.ceil(weight(listed) / BYTES_PER_TOKEN)


def _weight(part: AnyPart) -> int:
    match part:
        case TextPart():
            return _length(part.text)
        case ReasoningPart():
            is_sent = part.signature is not None or part.redacted is not None
            return _length(part.text) + _length(part.redacted or "") if is_sent else 0
        case ToolCallPart():
            return _length(part.name) + len(msgspec.json.encode(part.input))
        case ToolResultPart():
            return (
                _length(part.output)
                if isinstance(part.output, str)
                else len(msgspec.json.encode(part.output))
            )
        case MediaPart() | FilePart():
            return _length(part.data or part.url or "")
        case StructuredPart() | CustomPart():
            return len(msgspec.json.encode(part.value))


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _is_opaque(part: AnyPart) -> bool:
    match part:
        case MediaPart() | FilePart() | CustomPart():
            return True
        case ReasoningPart():
            return part.redacted is not None
        case ToolResultPart():
            return _has_media(part.output)
        case _:
            return False


def _has_media(output: JSON) -> bool:
    match output:
        case {"$parts": list(parts)}:
            plain = {"text", "structured"}
            return not all(isinstance(part, dict) and part.get("kind") in plain for part in parts)
        case _:
            return False
