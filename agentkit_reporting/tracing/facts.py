"""What events say of a span beyond its ids and times, by the keys of the table: the run, its parameters, its tools.

Everything is read from the events. A log is an input that anybody may have written: a value of another type than the
conventions name is left out. Descriptions are free texts, told whether content is or not: without secrets.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agentkit_loop.content import ToolSpec
from agentkit_loop.events import ModelRequestStarted, RunStarted
from agentkit_loop.values import JSON
from agentkit_reporting.tracing.attribute import Facts, Told
from agentkit_reporting.tracing.own_attributes import brief_text
from agentkit_reporting.tracing.provider_names import provider_of
from agentkit_reporting.tracing.spans import LARGEST_INTEGER, SMALLEST_INTEGER

if TYPE_CHECKING:
    from agentkit_reporting.redaction.redactor import Redactor

__all__ = ["labels_of", "parameter_facts", "request_facts", "run_facts", "tool_facts"]

# The conventions' word for a tool that the agent's own process runs, as all of ours do.
_TOOL_TYPE: Final = "function"
_LABELS: Final = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "request.model": "gen_ai.request.model",
    "tool.name": "gen_ai.tool.name",
    "tool.type": "gen_ai.tool.type",
    "agent.name": "gen_ai.agent.name",
}
_INTEGERS = ("max_tokens", "seed", "top_k")
_NUMBERS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_LONGEST_DESCRIPTION = 4_096  # that are looked at; the table cuts what is told
_MOST_STOPS, _LONGEST_STOP = 16, 256
_OUTPUT_TYPES = {
    "json": "json",
    "json_object": "json",
    "json_schema": "json",
    "text": "text",
    "image": "image",
    "speech": "speech",
}


def run_facts(event: RunStarted) -> Facts:
    """Return what the beginning of a run says of its `invoke_agent` span.

    The agent's id, version and description are the host's own words: `agent_id`, `agent_version`,
    `agent_description` of its metadata.
    """
    return {
        "conversation": brief_text(event.session_id) or None,
        "agent.name": brief_text(event.agent_name) or None,
        "run.id": brief_text(event.run_id),
        "operation": "invoke_agent",
        "provider": provider_of(event.model, event.metadata),
        "agent.id": _text(event.metadata.get("agent_id")),
        "agent.version": _text(event.metadata.get("agent_version")),
        "agent.description": _description(event.metadata.get("agent_description")),
        "request.model": brief_text(event.model) or None,
        **_of_agents(parameter_facts(event.parameters)),
        "run.resumed": None if event.resumed_run is None else brief_text(event.resumed_run),
        "run.forked_from": _forked_from(event),
    }


def request_facts(event: ModelRequestStarted, started: RunStarted, parameters: Told) -> Facts:
    """Return what the beginning of a request says of its `chat` span.

    started: of the request's run. parameters: `parameter_facts` of that, made once for each run. A compaction's
    request has settings of its own, which no event tells.
    """
    return {
        "operation": "chat",
        "provider": provider_of(event.model or started.model, started.metadata),
        "request.model": brief_text(event.model or started.model) or None,
        **(parameters if event.purpose == "turn" else {}),
        "request.purpose": event.purpose,
    }


def tool_facts(name: str, specs: Mapping[str, ToolSpec]) -> Facts:
    """Return what is known of a tool. specs: what the model was told of, by name."""
    spec = specs.get(name)
    return {
        "operation": "execute_tool",
        "tool.name": brief_text(name),
        "tool.type": _TOOL_TYPE,
        "tool.description": _description(spec.description) if spec is not None else None,
    }


def parameter_facts(parameters: Mapping[str, JSON]) -> Facts:
    """Return what the parameters of requests say; what is not there, or of another type, is None or left out."""
    plain: dict[str, Any] = {}
    for name in _INTEGERS:
        value = parameters.get(name)
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and SMALLEST_INTEGER <= value <= LARGEST_INTEGER
        ):
            plain[name] = value
    for name in _NUMBERS:
        value = parameters.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            plain[name] = _double(value)
    stops = parameters.get("stop_sequences", parameters.get("stop"))
    stops = [stops] if isinstance(stops, str) else stops
    if isinstance(stops, list) and stops and all(isinstance(stop, str) for stop in stops):
        plain["stop_sequences"] = tuple(stop[:_LONGEST_STOP] for stop in stops[:_MOST_STOPS])
    told: Facts = {f"request.{name}": value for name, value in plain.items() if value is not None}
    choices = parameters.get("n")
    if isinstance(choices, int) and not isinstance(choices, bool) and choices != 1:
        told["request.choice.count"] = choices
    told["request.reasoning_level"] = _reasoning_level(parameters)
    told["output.type"] = _output_type(parameters)
    if parameters.get("stream") is True:
        told["request.stream"] = True
    if plain:
        told["request.parameters"] = msgspec.json.encode(plain).decode()
    return told


def labels_of(facts: Told) -> dict[str, str]:
    """Return what a span's measurements are told apart by: attributes of the conventions, under any profile."""
    named = ((name, facts.get(key)) for key, name in _LABELS.items())
    return {name: value for name, value in named if isinstance(value, str) and value}


def _forked_from(event: RunStarted) -> str | None:
    """Return the session that this one was forked from, as the driver tells it."""
    origin = event.metadata.get("forked_from")
    session = origin.get("session_id") if isinstance(origin, dict) else None
    return brief_text(session) if isinstance(session, str) else None


def _of_agents(told: Told) -> Facts:
    """Return the parameters that the conventions have for an `invoke_agent` span as well."""
    return {
        key: value
        for key, value in told.items()
        if key not in ("request.top_k", "request.reasoning_level", "request.parameters", "request.stream")
    }


def _reasoning_level(parameters: Mapping[str, JSON]) -> str | None:
    """Return how hard the model is asked to think: `output_config.effort`, `reasoning.effort`, `reasoning_effort`."""
    for outer in ("output_config", "reasoning"):
        inner = parameters.get(outer)
        if isinstance(inner, dict) and _text(inner.get("effort")) is not None:
            return _text(inner.get("effort"))
    return _text(parameters.get("reasoning_effort"))


def _output_type(parameters: Mapping[str, JSON]) -> str | None:
    """Return what kind of output was asked for, where a format was."""
    config = parameters.get("output_config")
    inner = config.get("format") if isinstance(config, dict) else None
    for given in (inner, parameters.get("output_format"), parameters.get("response_format")):
        kind = given.get("type") if isinstance(given, dict) else given
        if isinstance(kind, str) and kind in _OUTPUT_TYPES:
            return _OUTPUT_TYPES[kind]
    return None


def _double(value: float) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _description(value: JSON) -> str | None:
    return _redactor().text(value[:_LONGEST_DESCRIPTION]) if isinstance(value, str) and value else None


@functools.cache
def _redactor() -> Redactor:
    from agentkit_reporting.redaction.redactor import (  # noqa: PLC0415 - not where no description is told
        Redactor,
    )

    return Redactor()


def _text(value: JSON) -> str | None:
    return brief_text(value) if isinstance(value, str) and value else None
