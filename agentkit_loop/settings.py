"""The machine's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from agentkit_loop.content import Parent, ToolSpec
from agentkit_loop.events import ToolCatalogChanged
from agentkit_loop.limits import Limits
from agentkit_loop.permissions import Policy
from agentkit_loop.records import FrozenRecord
from agentkit_loop.retry import Retry
from agentkit_loop.tools import Tool
from agentkit_loop.values import JSON

if TYPE_CHECKING:
    from agentkit_loop.compaction import Compaction

GRACE_S = 2.0
"""How long bodies that run may go on at the end; those of a sub-agent have a little less."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class LoopSettings(FrozenRecord):
    """The machine's configuration.

    tools: by name. parameters: further request parameters, JSON. model_parameters: what the model sends
    besides by itself, for the record. max_parallel_tools: bodies at once. policy: says which calls run. parent:
    who started this sub-agent. grace_s: seconds that bodies may go on when an exchange is cancelled or the host
    leaves; then they are abandoned.
    """

    agent_name: str
    model: str
    system: str | None
    tools: dict[str, Tool[..., Any]]
    parameters: dict[str, JSON]
    model_parameters: dict[str, JSON]
    retry: Retry
    max_parallel_tools: int
    metadata: dict[str, JSON]
    policy: Policy | None = None
    limits: Limits | None = None
    compaction: Compaction | None = None
    parent: Parent | None = None
    grace_s: float = GRACE_S


class Catalog:
    """The tools of a session, which a host may change between turns.

    tools: by name, as calls find them now. wanted: those from the next request on.
    """

    def __init__(self, tools: dict[str, Tool[..., Any]]) -> None:
        self.tools = self.wanted = dict(tools)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told of the tools."""
        return tuple(tool.spec for tool in self.tools.values())

    def change(self) -> ToolCatalogChanged | None:
        """Take over the tools that are wanted; return the event where the model would see a difference."""
        if self.wanted is self.tools:
            return None
        before = {spec.name: spec for spec in self.specs}
        # Those that stay keep their places: another order would be another prompt, and no event says so.
        self.tools = self.wanted = {
            **{name: self.wanted[name] for name in self.tools if name in self.wanted},
            **self.wanted,
        }
        after = {spec.name: spec for spec in self.specs}
        added = tuple(spec for name, spec in after.items() if name not in before)
        removed = tuple(name for name in before if name not in after)
        changed = tuple(spec for name, spec in after.items() if name in before and before[name] != spec)
        if not (added or removed or changed):
            return None
        return ToolCatalogChanged(added=added, removed=removed, changed=changed)
