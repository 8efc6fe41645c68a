"""What the OpenInference profile wants in a form of its own: span kinds, totals, messages flattened into attributes.

Written after its specification (https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md).
A message becomes an attribute for each of its fields (`llm.input_messages.0.message.role`). OpenTelemetry's SDK keeps
128 attributes of a span and drops the rest, so what is flattened is bounded: of the input the newest messages. The
whole, as far as it was told, stands in `input.value` and `output.value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agentkit_reporting.tracing.attribute import Told
from agentkit_reporting.tracing.provider_names import openinference_provider, openinference_system
from agentkit_reporting.tracing.spans import LARGEST_INTEGER, AttributeValue

__all__ = [
    "agent_input",
    "agent_output",
    "flat_definitions",
    "flat_input",
    "flat_output",
    "operation_name",
    "provider_and_system",
    "span_kind",
    "tool_input",
    "tool_output",
    "total_tokens",
]

_KINDS: Final[Mapping[str, str]] = {"invoke_agent": "AGENT", "chat": "LLM", "execute_tool": "TOOL"}
_MOST_OF_INPUT, _MOST_OF_OUTPUT, _MOST_TOOLS = 32, 16, 8  # attributes
_JSON: Final = "application/json"


def span_kind(operation: AttributeValue) -> AttributeValue | None:
    """Return `openinference.span.kind` of an operation."""
    return _KINDS.get(str(operation))


def operation_name(operation: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    """Return the operation under the GenAI conventions' name too: by that spans of agents are found anywhere."""
    return {"gen_ai.operation.name": operation}


def provider_and_system(provider: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    """Return who hosts the model, and the family of its interface."""
    system = openinference_system(str(provider))
    told: dict[str, AttributeValue] = {"llm.provider": openinference_provider(str(provider))}
    return told if system is None else {**told, "llm.system": system}


def total_tokens(output: AttributeValue, told: Told) -> Mapping[str, AttributeValue]:
    """Return all tokens of a request, where those of the input are told too; no sum that no receiver could take."""
    given = told.get("usage.input")
    if not isinstance(output, int) or not isinstance(given, int) or given + output > LARGEST_INTEGER:
        return {}
    return {"llm.token_count.total": given + output}


def tool_input(arguments: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    """Return a tool call's arguments."""
    return {"tool.parameters": arguments, "input.value": arguments, "input.mime_type": _JSON}


def tool_output(result: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    """Return a tool call's result: a text, or JSON."""
    is_json = isinstance(_decoded(result), (dict, list))
    return {"output.value": result, "output.mime_type": _JSON if is_json else "text/plain"}


def agent_input(messages: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    """Return what a run was given."""
    return _as_value("input", messages)


def agent_output(messages: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    """Return what a run answered."""
    return _as_value("output", messages)


def flat_input(messages: AttributeValue, told: Told) -> Mapping[str, AttributeValue]:
    """Return the input of a request: the system prompt as the first message, then the newest that there is room for."""
    flat: dict[str, AttributeValue] = {"input.value": messages, "input.mime_type": _JSON}
    system = "".join(_texts(_decoded(told.get("system"))))
    first = [{"role": "system", "parts": [{"type": "text", "content": system}]}] if system else []
    room = _MOST_OF_INPUT - 2 * len(first)
    newest: list[dict[str, Any]] = []
    for message in reversed(_objects(_decoded(messages))):
        room -= len(_flat_message("", message))
        if room < 0:
            break
        newest.append(message)
    for index, message in enumerate([*first, *reversed(newest)]):
        flat.update(_flat_message(f"llm.input_messages.{index}", message))
    return flat


def flat_output(messages: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    """Return the answer to a request."""
    flat: dict[str, AttributeValue] = {"output.value": messages, "output.mime_type": _JSON}
    told: dict[str, AttributeValue] = {}
    for index, message in enumerate(_objects(_decoded(messages))):
        told.update(_flat_message(f"llm.output_messages.{index}", message))
    return {**flat, **dict(list(told.items())[:_MOST_OF_OUTPUT])}


def flat_definitions(definitions: AttributeValue, _: Told) -> Mapping[str, AttributeValue]:
    """Return what the model is told of its tools, the first of them."""
    flat: dict[str, AttributeValue] = {}
    for index, tool in enumerate(_objects(_decoded(definitions))[:_MOST_TOOLS]):
        function = {name: tool[name] for name in ("name", "description", "parameters") if name in tool}
        told = {"type": "function", "function": function}
        flat[f"llm.tools.{index}.tool.json_schema"] = msgspec.json.encode(told).decode()
    return flat


def _flat_message(base: str, message: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Return one message as attributes: texts together, calls one by one, and of a result whose it is."""
    flat: dict[str, AttributeValue] = {f"{base}.message.role": str(message.get("role", ""))}
    texts: list[str] = []
    calls = 0
    for part in _objects(message.get("parts")):
        match part.get("type"):
            case "tool_call":
                call = f"{base}.message.tool_calls.{calls}.tool_call"
                flat[f"{call}.id"] = str(part.get("id") or "")
                flat[f"{call}.function.name"] = str(part.get("name") or "")
                flat[f"{call}.function.arguments"] = _text_of(part.get("arguments"))
                calls += 1
            case "tool_call_response":
                flat[f"{base}.message.tool_call_id"] = str(part.get("id") or "")
                texts.append(_text_of(part.get("response")))
            case "text":
                texts.append(str(part.get("content") or ""))
            case _:
                pass  # reasoning and media stand in `input.value` and `output.value`
    if texts:
        flat[f"{base}.message.content"] = "\n".join(texts)
    return flat


def _as_value(side: str, messages: AttributeValue) -> Mapping[str, AttributeValue]:
    """Return messages as what a person reads where they are texts alone, else as they are."""
    found = _objects(_decoded(messages))
    parts = [part for message in found for part in _objects(message.get("parts"))]
    if parts and all(part.get("type") == "text" for part in parts):
        return {f"{side}.value": "\n".join(_texts(parts)), f"{side}.mime_type": "text/plain"}
    return {f"{side}.value": messages, f"{side}.mime_type": _JSON}


def _decoded(text: AttributeValue | None) -> Any:
    if not isinstance(text, str):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [member for member in value if isinstance(member, dict)] if isinstance(value, list) else []


def _texts(parts: Any) -> list[str]:
    return [str(part.get("content") or "") for part in _objects(parts) if part.get("type") == "text"]


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
