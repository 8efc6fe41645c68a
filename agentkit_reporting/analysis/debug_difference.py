"""What differs between two debug replays: fields with both values, and steps that one of them lacks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from agentkit_loop.values import JSON
from agentkit_reporting.analysis.debug_step import DebugStep
from agentkit_reporting.terminal import brief, one_line

__all__ = ["DebugDifference", "FieldChange", "MissingStep", "difference_of"]

_MOST_PAIRS = (
    4_000_000  # of steps between the first and the last difference; beyond it steps match by their place
)
_SHOWN = 60
_COMPARED = ("kind", "tool", "turn_id", "status")
_NOT_COMPARED = frozenset(
    {
        "digests",
        "first_content_ms",
        "metadata",
        "observers",
        "parent",
        "response_id",
        "resumed_after",
        "resumed_run",
    }
)
"""Facts that are other in every run, or follow from others."""

_Facts: TypeAlias = Callable[[int], Mapping[str, JSON]]
"""Returns the facts of a step by its index."""


@attrs.frozen(kw_only=True)
class FieldChange:
    """A field that a step has otherwise in the other replay.

    before_number, after_number: of the step in each. field: `status`, or a fact's name, with the way into it
    (`input.path`). before, after: the values, as JSON.
    """

    before_number: int
    after_number: int
    field: str
    before: JSON
    after: JSON

    def __str__(self) -> str:
        before, after = (one_line(brief(value, _SHOWN), _SHOWN) for value in (self.before, self.after))
        return f"step {self.before_number}: {self.field}: {before} -> {after}"


@attrs.frozen(kw_only=True)
class MissingStep:
    """A step that one replay has and the other has not. missing_in: `after`, the other one, or `before`."""

    step: DebugStep
    missing_in: Literal["before", "after"]

    def __str__(self) -> str:
        word = "only before" if self.missing_in == "after" else "only after"
        return f"step {self.step.number}: {word}: {self.step.kind} {one_line(self.step.title, _SHOWN)}"


@attrs.frozen(kw_only=True)
class DebugDifference:
    """What differs, in the order of the steps. `before` is the replay that was asked, `after` the other one."""

    changes: tuple[FieldChange, ...] = ()
    missing: tuple[MissingStep, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not self.changes and not self.missing

    def __bool__(self) -> bool:
        return not self.is_empty

    def __str__(self) -> str:
        return "\n".join(map(str, (*self.changes, *self.missing))) or "no difference"


def difference_of(
    before: Sequence[DebugStep], after: Sequence[DebugStep], facts_before: _Facts, facts_after: _Facts
) -> DebugDifference:
    """Compare the steps; facts are asked for by index, one pair at a time."""
    places = {step.number: index for index, step in enumerate(before)}
    other_places = {step.number: index for index, step in enumerate(after)}
    changes: list[FieldChange] = []
    missing: list[MissingStep] = []
    for one, other in _pairs(before, after):
        if one is None:
            if other is not None:
                missing.append(MissingStep(step=other, missing_in="before"))
        elif other is None:
            missing.append(MissingStep(step=one, missing_in="after"))
        else:
            changes += _changes(
                one, other, facts_before(places[one.number]), facts_after(other_places[other.number])
            )
    return DebugDifference(changes=tuple(changes), missing=tuple(missing))


def _pairs(
    before: Sequence[DebugStep], after: Sequence[DebugStep]
) -> Iterator[tuple[DebugStep | None, DebugStep | None]]:
    """Yield what belongs together, None where one side has nothing."""
    keys = [(step.kind, step.tool) for step in before]
    other_keys = [(step.kind, step.tool) for step in after]
    shorter = min(len(keys), len(other_keys))
    first = next((n for n in range(shorter) if keys[n] != other_keys[n]), shorter)
    rest = shorter - first
    last = next((n for n in range(rest) if keys[-1 - n] != other_keys[-1 - n]), rest)
    yield from zip(before[:first], after[:first], strict=True)
    one, other = before[first : len(before) - last], after[first : len(after) - last]
    yield from _matched(one, other)
    if last:
        yield from zip(before[-last:], after[-last:], strict=True)


def _matched(
    before: Sequence[DebugStep], after: Sequence[DebugStep]
) -> Iterator[tuple[DebugStep | None, DebugStep | None]]:
    if not before or not after or len(before) * len(after) > _MOST_PAIRS:
        for place in range(max(len(before), len(after))):
            yield (
                before[place] if place < len(before) else None,
                after[place] if place < len(after) else None,
            )
        return
    keys = [(step.kind, step.tool) for step in before]
    other_keys = [(step.kind, step.tool) for step in after]
    matcher = difflib.SequenceMatcher(None, keys, other_keys, autojunk=False)
    for word, one, one_end, other, other_end in matcher.get_opcodes():
        if word == "equal" or (word == "replace" and one_end - one == other_end - other):
            yield from zip(before[one:one_end], after[other:other_end], strict=True)
        else:
            yield from ((step, None) for step in before[one:one_end])
            yield from ((None, step) for step in after[other:other_end])


def _changes(
    one: DebugStep, other: DebugStep, facts: Mapping[str, Any], other_facts: Mapping[str, Any]
) -> Iterator[FieldChange]:
    names = [*_COMPARED, *(("duration_ms",) if one.is_edited or other.is_edited else ())]
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names]
    pairs += [
        (name, facts.get(name), other_facts.get(name))
        for name in dict.fromkeys((*facts, *other_facts))
        if name not in _NOT_COMPARED
    ]
    if all(value == other_value for _, value, other_value in pairs):
        pairs.append(("title", one.title, other.title))  # which somebody edited
    for name, value, other_value in pairs:
        for field, was, is_now in _within(name, value, other_value):
            yield FieldChange(
                before_number=one.number, after_number=other.number, field=field, before=was, after=is_now
            )


def _within(field: str, before: Any, after: Any) -> Iterator[tuple[str, JSON, JSON]]:
    """Yield where within a value the two differ."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            yield from _within(f"{field}.{key}", before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _within(f"{field}[{place}]", one, other)
    else:
        yield field, before, after
