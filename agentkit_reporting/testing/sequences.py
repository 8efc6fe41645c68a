"""Whether events follow an expected sequence with gaps, and where they do not.

An expectation looks at one event alone, so the parts between gaps need no search back and forth: of each part the
earliest place is as good as any other, and the last part has to stand at the end. Each expectation is asked of each
event once at most, for a part before the end; the cost is their product.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

import attrs

from agentkit_loop.events import AgentEvent
from agentkit_reporting.testing.expected import Matching

__all__ = ["Mismatch", "Step", "first_mismatch"]

Step = Matching | EllipsisType
"""One step of an expected sequence; `...` is any number of events, none included."""


@attrs.frozen(kw_only=True)
class Mismatch:
    """Where events stop following a sequence.

    step: the place of the expectation that nothing fits, from 0; the number of steps where events are left over.
    event: the place of the event that stands there instead, from 0; the number of events where they ended too
    early. start: from where on it was looked for. from_end: where it can stand in one place only, counted from the
    end: which it is, 1 for the last event; 0 elsewhere.
    """

    step: int
    event: int
    start: int
    from_end: int = 0


def first_mismatch(steps: Sequence[Step], events: Sequence[AgentEvent]) -> Mismatch | None:
    """Return where the events, all of them, stop following the steps; None where they follow."""
    parts, begins_with_gap, ends_with_gap = _parts(steps)
    if not parts:
        return None if begins_with_gap or not events else Mismatch(step=len(steps), event=0, start=0)
    at = 0
    for number, part in enumerate(parts):
        is_first, is_last = number == 0, number == len(parts) - 1
        if is_first and not begins_with_gap:
            length = _length_at(part, events, 0)
            if length < len(part):
                return Mismatch(step=part[length][0], event=length, start=0)
            at = length
            if is_last and not ends_with_gap and at < len(events):
                return Mismatch(step=len(steps), event=at, start=at)
        elif is_last and not ends_with_gap:
            return _at_the_end(part, events, at)
        else:
            found = _earliest(part, events, at)
            if isinstance(found, Mismatch):
                return found
            at = found + len(part)
    return None


_Part = list[tuple[int, Matching]]
"""Neighbours without a gap between them, each with its place among the steps."""


def _parts(steps: Sequence[Step]) -> tuple[list[_Part], bool, bool]:
    parts: list[_Part] = []
    open_part = False
    for place, step in enumerate(steps):
        if isinstance(step, EllipsisType):
            open_part = False
        elif open_part:
            parts[-1].append((place, step))
        else:
            parts.append([(place, step)])
            open_part = True
    begins = bool(steps) and isinstance(steps[0], EllipsisType)
    return parts, begins, bool(steps) and isinstance(steps[-1], EllipsisType)


def _length_at(part: _Part, events: Sequence[AgentEvent], at: int) -> int:
    """Return how many of the neighbours stand at a place, one after the other."""
    for length, (_, step) in enumerate(part):
        if at + length >= len(events) or not step.fits(events[at + length]):
            return length
    return len(part)


def _earliest(part: _Part, events: Sequence[AgentEvent], start: int) -> int | Mismatch:
    """Return the first place where all the neighbours stand; else how far it went at the best one."""
    best = Mismatch(step=part[0][0], event=len(events), start=start)
    most = 0
    for at in range(start, len(events)):
        length = _length_at(part, events, at)
        if length == len(part):
            return at
        if length > most:
            most = length
            best = Mismatch(step=part[length][0], event=at + length, start=start)
    return best


def _at_the_end(part: _Part, events: Sequence[AgentEvent], start: int) -> Mismatch | None:
    at = len(events) - len(part)
    if at < start:  # too few are left for all of them
        length = _length_at(part, events, start)
        if length == len(events) - start:
            return Mismatch(step=part[length][0], event=len(events), start=start)
        return Mismatch(step=part[length][0], event=start + length, start=start)
    length = _length_at(part, events, at)
    if length == len(part):
        return None
    return Mismatch(step=part[length][0], event=at + length, start=start, from_end=len(part) - length)
