"""The items of a session as far as the prompt cache cares: how many of the first are what they were, and their digest.

Of an item its kind and 16 bytes stay (see `MessageDigests`), not its content.
"""

from __future__ import annotations

from typing import get_args

from agentkit_loop.content import AppendBytes, AppendText, Item, ItemKind
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    ContentDelta,
    InputAccepted,
    PlanStep,
    ToolResultReceived,
    is_redacted,
)
from agentkit_loop.transcript import Transcript
from agentkit_reporting.conformance.digests import MessageDigests, Step, body_of

__all__ = ["SentItems"]

_PREVIEWS = (AppendText, AppendBytes)
_TELL_ITEMS = (InputAccepted, ContentDelta, ToolResultReceived, CompactionFinished)
_EMPTY = {kind: Item(kind=kind, parts=()) for kind in get_args(ItemKind)}


class SentItems:
    """The transcript of a session, without its content.

    kept: of how many items a compaction left the beginning as it was since `mark`; None where there was none.
    edited: the kind of the first item behind it as it was. first_masked: the place of the first item that the log
    tells masked, None where there is none.
    """

    def __init__(self) -> None:
        self._transcript = Transcript()
        self._digests = MessageDigests()
        self._joined = 0
        self.kept: int | None = None
        self.edited: str | None = None
        self.first_masked: int | None = None

    def mark(self) -> None:
        """Count what is kept from now on."""
        self.kept = self.edited = None

    def rest(self) -> None:
        """Give back memory between two runs."""
        self._digests.rest()

    def fits(self, told: str) -> bool | None:
        """Whether a request sent just what the log tells; None where that cannot be said."""
        if not self._digests.is_known:
            self._digests.believe(told)
            return None
        return self._digests.of_all() == told

    def apply(self, event: AgentEvent) -> None:
        """Take one event."""
        if isinstance(event, ContentDelta) and isinstance(event.delta, _PREVIEWS):
            return
        if self.first_masked is None and isinstance(event, _TELL_ITEMS) and is_redacted(event):
            self.first_masked = len(self._transcript.items)
        plan = event.plan if isinstance(event, CompactionFinished) else None
        if plan is not None:
            self._joined = self._shorten(plan)
        self._transcript.apply(event)
        items = self._transcript.items
        if plan is not None:
            items[: self._joined] = [_EMPTY[item.kind] for item in items[: self._joined]]
        for place in range(self._joined, len(items)):
            item = items[place]
            self._digests.join(body_of(item.kind, item.parts))
            items[place] = _EMPTY[item.kind]
        self._joined = len(items)

    def _shorten(self, plan: tuple[PlanStep, ...]) -> int:
        """Take over a plan; return how many items it leaves."""
        items = self._transcript.items
        steps: list[Step] = []
        last = kept = left = 0
        for step in plan:
            if isinstance(step, Item):
                steps.append(body_of(step.kind, step.parts))
                left += 1
                continue
            first, end = max(step[0], last), min(step[1], len(items))
            if first >= end:
                continue
            if first == kept == left:
                kept = end
            steps.append((first, end))
            left += end - first
            last = end
        self._digests.plan(steps)
        if self.kept is None or kept < self.kept:
            self.kept = kept
            self.edited = items[kept].kind if kept < len(items) else None
        return left
