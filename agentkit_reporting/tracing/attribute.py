"""A row of the table of attributes: what spans tell, how it is called under each profile, where that is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from agentkit_reporting.tracing.spans import AttributeValue

__all__ = ["OPERATIONS", "OWN", "Attribute", "Facts", "Level", "Operation", "Shape", "Told", "ValueKind"]

Operation: TypeAlias = Literal["invoke_agent", "chat", "execute_tool"]
OPERATIONS: Final[tuple[Operation, ...]] = ("invoke_agent", "chat", "execute_tool")

Level: TypeAlias = Literal["required", "conditionally_required", "recommended", "opt_in", "own"]
"""How strongly the conventions want it (https://opentelemetry.io/docs/specs/semconv/general/attribute-requirement-level/);
`own`: they have no name for it."""

ValueKind: TypeAlias = Literal["string", "int", "double", "boolean", "string[]", "json", "any"]
"""The type of the value. `json`: a JSON text. `any`: a text as it is, anything else as a JSON text."""

Told: TypeAlias = Mapping[str, AttributeValue | None]
"""What is told of a span at once, by the keys of the table; None is left out."""

Facts: TypeAlias = dict[str, AttributeValue | None]
"""The same, while it is put together."""

Shape: TypeAlias = Callable[[AttributeValue, Told], Mapping[str, AttributeValue]]
"""Makes further attributes of a value, where a profile wants it in a form of its own."""

OWN: Final = "agentkit."
"""How names that are ours begin; they are the same under every profile."""


@attrs.frozen
class Attribute:
    """One thing that spans tell.

    key: how the fold calls it. names: by profile; without names it is left out, but for those of ours. level: how
    strongly the conventions want it, operations: of which spans. kind: the value's type. source: where that is
    written. converts: by profile, what becomes of the value under the names. shapes: by profile, what else is made.
    """

    key: str
    names: Mapping[str, tuple[str, ...]]
    level: Level = "own"
    operations: tuple[Operation, ...] = OPERATIONS
    kind: ValueKind = "string"
    source: str = "agentkit"
    converts: Mapping[str, Callable[[AttributeValue], AttributeValue | None]] = attrs.field(factory=dict)
    shapes: Mapping[str, Shape] = attrs.field(factory=dict)

    def names_under(self, profile: str) -> tuple[str, ...]:
        """Return its names under one profile."""
        if profile in self.names:
            return self.names[profile]
        return tuple(name for name in self.names.get("genai", ()) if name.startswith(OWN))
