"""The tools of a replay: they have the schema of the real ones, and the log says what they did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from agentkit_loop.content import ToolSpec
from agentkit_loop.differences import has_mask
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import ToolCatalogChanged
from agentkit_loop.open_calls import Call
from agentkit_loop.tool_arguments import Arguments
from agentkit_loop.tools import Tool
from agentkit_loop.values import JSON


@attrs.frozen(kw_only=True)
class _Recorded:
    """Takes every input: the log says what became of it."""

    input_schema: dict[str, JSON]
    takes_context: str | None = None

    def decode(self, value: JSON, /) -> dict[str, Any]:
        """Return no arguments; no body gets them."""
        del value
        return {}


@attrs.frozen(kw_only=True)
class _Masked:
    """Takes what the real arguments take, and what a redaction made of it."""

    real: Arguments

    @property
    def input_schema(self) -> dict[str, JSON]:
        return self.real.input_schema

    @property
    def takes_context(self) -> str | None:
        return self.real.takes_context

    def decode(self, value: JSON, /) -> dict[str, Any]:
        """Return the arguments; none for an input with a mask in it."""
        return {} if has_mask(value) else self.real.decode(value)


class StandIns:
    """Makes the catalogs of a replay.

    tools: the agent's, by name; None where the agent is rebuilt from the log. live: whether their bodies run.
    is_rebuilt: whether nothing but the log says what the agent was.
    """

    def __init__(self, tools: Mapping[str, Tool[..., Any]] | None, *, live: bool) -> None:
        self.is_rebuilt = tools is None
        self._tools = dict(tools or {})
        self._live = live
        self._of_the_log: set[str] = set()

    def catalog(self, specs: Iterable[ToolSpec], idempotent: frozenset[str]) -> dict[str, Tool[..., Any]]:
        """Return the tools that a run begins with: the agent's, else those of the log.

        specs: what the log says of them. idempotent: names of those that ran again after a crash.
        """
        if not self.is_rebuilt:
            return {name: self._own(tool) for name, tool in self._tools.items()}
        return {spec.name: _recorded(spec, idempotent=spec.name in idempotent) for spec in specs}

    def changed(
        self, tools: Mapping[str, Tool[..., Any]], event: ToolCatalogChanged
    ) -> dict[str, Tool[..., Any]]:
        """Return the tools after the host changed them; what the agent does not have is the log's."""
        after = {name: tool for name, tool in tools.items() if name not in event.removed}
        for spec in (*event.changed, *event.added):
            own = self._tools.get(spec.name)
            if own is not None and own.spec == spec:
                after[spec.name] = self._own(own)
            else:
                self._of_the_log.add(spec.name)
                after[spec.name] = _recorded(spec, idempotent=False)
        return after

    def judges(self, call: Call | None) -> bool:
        """Whether the log alone says if a call may run: its tool is the log's, or its input is masked."""
        if call is None:
            return False
        return self.is_rebuilt or call.part.name in self._of_the_log or has_mask(call.part.input)

    def live(self, name: str) -> Tool[..., Any] | None:
        """Return the tool whose body is to run; None for one that the log stands in for."""
        tool = self._tools.get(name)
        if not self._live or tool is None or tool.is_agent or name in self._of_the_log:
            return None  # an agent behind a tool would ask a model
        return tool

    def _own(self, tool: Tool[..., Any]) -> Tool[..., Any]:
        # Whether an attempt took too long is recorded.
        return attrs.evolve(tool, arguments=_Masked(real=tool.arguments), timeout_s=None)


def _recorded(spec: ToolSpec, *, idempotent: bool) -> Tool[..., Any]:
    return Tool(
        name=spec.name,
        description=spec.description,
        function=_not_run,
        arguments=_Recorded(input_schema=spec.input_schema),
        idempotent=idempotent,
    )


def _not_run() -> None:
    raise ConfigurationError("a recorded tool has no body; give the agent and live_tools=True")
