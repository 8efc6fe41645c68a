"""Events of which nothing may be told, since they could not be redacted: the same facts without what was said."""

from __future__ import annotations

from typing import Final

import attrs
import msgspec

from agentkit_loop import events as ev
from agentkit_loop.content import CommitPart, Item, TextPart
from agentkit_loop.events import AgentEvent

__all__ = ["LEFT_OUT", "without_content"]

LEFT_OUT: Final = "[left out: it could not be redacted]"

_HIDDEN: Final = TextPart(text=LEFT_OUT)


def without_content(event: AgentEvent) -> AgentEvent:
    """Return an event with nothing of what was said in it; as it is where nothing was, but for texts of errors."""
    match event:
        case ev.RunStarted():
            items = _hidden(event.items)
            return attrs.evolve(event, system=None, tools=(), parameters={}, items=items, metadata={})
        case ev.InputAccepted():
            return attrs.evolve(event, items=_hidden(event.items))
        case ev.ContentDelta(delta=CommitPart(part_id)):
            return attrs.evolve(event, delta=CommitPart(part_id, _HIDDEN))
        case ev.ToolCallRequested():
            return attrs.evolve(event, call=msgspec.structs.replace(event.call, input={}, cut=LEFT_OUT))
        case ev.ToolExecutionStarted() | ev.ApprovalResolved():
            return attrs.evolve(event, input=None)
        case ev.ToolResultReceived():
            return attrs.evolve(event, output=LEFT_OUT)
        case ev.ToolCatalogChanged():
            return attrs.evolve(event, added=(), changed=())
        case ev.CompactionFinished(plan=plan) if plan is not None:
            steps = tuple(_hidden((step,))[0] if isinstance(step, Item) else step for step in plan)
            return attrs.evolve(event, plan=steps)
        case _:
            return event


def _hidden(items: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple(msgspec.structs.replace(item, parts=(_HIDDEN,)) for item in items)
