"""What events say of a span beyond its ids and times, by the keys of the table: the run, its parameters, its tools."""

from __future__ import annotations

from collections.abc import Mapping

from agentkit_loop.content import ToolSpec
from agentkit_loop.events import ModelRequestStarted, RunStarted
from agentkit_loop.values import JSON
from agentkit_reporting.tracing.spans import AttributeValue

__all__ = ["parameter_facts", "request_facts", "run_facts", "tool_facts"]


def run_facts(event: RunStarted) -> dict[str, AttributeValue | None]:
    """Return what the beginning of a run says of its `invoke_agent` span."""
    return {
        "operation": "invoke_agent",
        "provider": "anthropic",
        "conversation": event.session_id or None,
        "agent.name": event.agent_name or None,
        "request.model": event.model or None,
    }


def request_facts(
    event: ModelRequestStarted, started: RunStarted, parameters: Mapping[str, AttributeValue | None]
) -> dict[str, AttributeValue | None]:
    """Return what the beginning of a request says of its `chat` span; parameters: `parameter_facts` of its run."""
    return {
        "operation": "chat",
        "provider": "anthropic",
        "conversation": event.session_id or None,
        "request.model": event.model or started.model or None,
        **parameters,
    }


def tool_facts(name: str, call_id: str, specs: Mapping[str, ToolSpec]) -> dict[str, AttributeValue | None]:
    """Return what is known of a call's tool. specs: what the model was told of, by name."""
    spec = specs.get(name)
    return {
        "operation": "execute_tool",
        "tool.name": name,
        "tool.call_id": call_id or None,
        "tool.type": "function",
        "tool.description": (spec.description or None) if spec is not None else None,
    }


def parameter_facts(parameters: Mapping[str, JSON]) -> dict[str, AttributeValue | None]:
    """Return what the parameters of a run's requests say."""
    limit = parameters.get("max_tokens")
    return {"request.max_tokens": limit} if isinstance(limit, int) else {}
