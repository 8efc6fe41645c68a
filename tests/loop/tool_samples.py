"""What the tests of tools share: types that arguments have, a few functions and tools, a context."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Annotated, Any

import attrs
import msgspec
import pytest

from agentkit_loop.tool_arguments import ToolInputError
from agentkit_loop.tool_context import ToolContext, ToolSignal
from agentkit_loop.tools import tool


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


@attrs.define
class Point:
    x: int
    y: float = 0.0
    label: Annotated[str, msgspec.Meta(description="a caption")] = ""


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)


def search(query: str, limit: int = 5, *, exact: bool = False) -> None: ...


@tool
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@tool(name="slow-add", description="Add, some time", timeout_s=2, max_output_chars=50, idempotent=True)
async def add_later(a: int, b: int = 1) -> int:
    """Not this."""
    return a + b


def context(signals: list[ToolSignal] | None = None) -> ToolContext:
    sent: list[ToolSignal] = [] if signals is None else signals
    return ToolContext(sent.append, call_id="call-1", session_id="s", run_id="r", turn_id="turn-1", attempt=2)


def refused(function: Callable[..., Any], value: Any) -> str:
    with pytest.raises(ToolInputError) as caught:
        tool(function).bind(value)
    return str(caught.value)
