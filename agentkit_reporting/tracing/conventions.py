"""The attributes of spans, in one table: what we tell, and how it is called under each profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from agentkit_reporting.tracing.own_attributes import OWN_ATTRIBUTES
from agentkit_reporting.tracing.spans import AttributeValue

__all__ = ["ATTRIBUTES", "CONVENTIONS_VERSION", "Attribute", "Profile", "profile_of"]

CONVENTIONS_VERSION: Final = "1.41.1"
"""Version of the semantic conventions that the names of the profile `genai` follow."""


@attrs.frozen
class Attribute:
    """One thing that spans tell. key: how the fold calls it. names: by profile; without names it is left out."""

    key: str
    names: Mapping[str, tuple[str, ...]]


ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    Attribute("operation", {"genai": ("gen_ai.operation.name",)}),
    Attribute("provider", {"genai": ("gen_ai.provider.name",)}),
    Attribute("conversation", {"genai": ("gen_ai.conversation.id",)}),
    Attribute("agent.name", {"genai": ("gen_ai.agent.name",)}),
    Attribute("request.model", {"genai": ("gen_ai.request.model",)}),
    Attribute("response.model", {"genai": ("gen_ai.response.model",)}),
    Attribute("response.id", {"genai": ("gen_ai.response.id",)}),
    Attribute("finish_reasons", {"genai": ("gen_ai.response.finish_reasons",)}),
    Attribute("time_to_first_chunk", {"genai": ("gen_ai.response.time_to_first_chunk",)}),
    Attribute("usage.input", {"genai": ("gen_ai.usage.input_tokens",)}),
    Attribute("usage.output", {"genai": ("gen_ai.usage.output_tokens",)}),
    Attribute("usage.cache_read", {"genai": ("gen_ai.usage.cache_read.input_tokens",)}),
    Attribute(
        "usage.cache_write",
        {"genai": ("gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens")},
    ),
    Attribute("usage.reasoning", {"genai": ("gen_ai.usage.reasoning.output_tokens",)}),
    Attribute("tool.name", {"genai": ("gen_ai.tool.name",)}),
    Attribute("tool.call_id", {"genai": ("gen_ai.tool.call.id",)}),
    Attribute("error", {"genai": ("error.type",)}),
    Attribute("cost", {"genai": ("agentkit.cost.amount",)}),
    Attribute("unfinished", {"genai": ("agentkit.unfinished",)}),
    Attribute("tool.type", {"genai": ("gen_ai.tool.type",)}),
    Attribute("tool.description", {"genai": ("gen_ai.tool.description",)}),
    Attribute("request.max_tokens", {"genai": ("gen_ai.request.max_tokens",)}),
    Attribute("request.stream", {"genai": ("gen_ai.request.stream",)}),
    *(Attribute(key, {"genai": (name,)}) for key, (name, _) in OWN_ATTRIBUTES.items()),
)


class Profile:
    """The names of one profile."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._names = {each.key: each.names.get(name, ()) for each in ATTRIBUTES}

    def named(self, told: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
        """Return what is told under this profile's names; what is None is left out. Raises KeyError for no key."""
        return {name: value for key, value in told.items() if value is not None for name in self._names[key]}


def profile_of(name: str = "genai") -> Profile:
    """Return a profile by its name."""
    return Profile(name)
