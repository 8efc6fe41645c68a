"""The machine's configuration."""

from __future__ import annotations

from typing import Any

import attrs

from agentkit_loop.retry import Retry
from agentkit_loop.tools import Tool
from agentkit_loop.values import JSON


@attrs.frozen(kw_only=True)
class LoopSettings:
    """The machine's configuration.

    tools: by name. parameters: further request parameters, JSON. model_parameters: what the model sends
    besides by itself, for the record. max_parallel_tools: bodies at once.
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
