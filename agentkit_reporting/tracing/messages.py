"""Items and tools in the shapes of the GenAI conventions: messages with roles and parts, tool definitions.

The shapes are those of the JSON schemas beside the conventions (semantic-conventions-genai, gen-ai-input-messages.json,
gen-ai-output-messages.json, gen-ai-system-instructions.json, gen-ai-tool-definitions.json). The bytes of images, sound
and files are never in them: they are large, and no rule finds a secret in a picture.
"""

from __future__ import annotations

from typing import Any, Final

from agentkit_loop.content import (
    AnyPart,
    CustomPart,
    FilePart,
    ItemKind,
    MediaPart,
    ReasoningPart,
    StructuredPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
)

__all__ = ["has_bytes", "role_of", "shape_of", "tool_definition"]

_ROLES: Final[dict[str, str]] = {
    "assistant": "assistant",
    "tool": "tool",
    "system": "system",
    "developer": "system",
}


def role_of(kind: ItemKind) -> str:
    """Return the role of an item's message; what a host adds (context, notifications) the model reads as the user's."""
    return _ROLES.get(kind, "user")


def shape_of(part: AnyPart) -> dict[str, Any]:
    """Return a part as the conventions shape it."""
    match part:
        case TextPart():
            return {"type": "text", "content": part.text}
        case ReasoningPart():
            return {"type": "reasoning", "content": part.text}
        case ToolCallPart():
            arguments = part.input if part.cut is None else part.cut
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": arguments}
        case ToolResultPart():
            return {"type": "tool_call_response", "id": part.call_id, "response": part.output}
        case MediaPart():
            return _medium(part.media_type, part.url, part.media_type.partition("/")[0] or "image")
        case FilePart():
            if part.file_id is not None:
                told = {"type": "file", "mime_type": part.media_type, "modality": "document"}
                return {**told, "file_id": part.file_id}
            return _medium(part.media_type, part.url, "document")
        case StructuredPart():
            return {"type": "structured", "value": part.value}
        case CustomPart():
            return _block(part)


def has_bytes(part: AnyPart) -> bool:
    """Whether a part has bytes, which its shape leaves out."""
    return isinstance(part, (MediaPart, FilePart)) and (part.data is not None or _is_inline(part.url))


def tool_definition(spec: ToolSpec) -> dict[str, Any]:
    """Return what the model is told of a tool."""
    told: dict[str, Any] = {"type": "function", "name": spec.name}
    return {**told, "description": spec.description, "parameters": spec.input_schema}


def _medium(media_type: str, url: str | None, modality: str) -> dict[str, Any]:
    told: dict[str, Any] = {"mime_type": media_type, "modality": modality}
    if url is None or _is_inline(url):
        return {"type": "blob", **told, "content": ""}
    return {"type": "uri", **told, "uri": url}


def _is_inline(url: str | None) -> bool:
    return url is not None and url[:5].lower() == "data:"


def _block(part: CustomPart) -> dict[str, Any]:
    """Return a provider's own block: its server tools, a compaction; of any other nothing but its type."""
    block = part.value if isinstance(part.value, dict) else {}
    kind = block.get("type")
    kind = kind if isinstance(kind, str) and kind else "custom"
    if kind == "compaction":
        content = block.get("content")
        return {"type": kind, "content": content} if isinstance(content, str) else {"type": kind}
    if kind.endswith("tool_use"):
        name = str(block.get("name") or kind)
        details = {"type": name, "input": block.get("input")}
        return {"type": "server_tool_call", "id": _id(block, "id"), "name": name, "server_tool_call": details}
    if kind.endswith("tool_result"):
        details = {"type": kind, "content": block.get("content")}
        answered = _id(block, "tool_use_id")
        return {"type": "server_tool_call_response", "id": answered, "server_tool_call_response": details}
    return {"type": f"{part.provider}_{kind}"}


def _id(block: dict[str, Any], key: str) -> str | None:
    value = block.get(key)
    return value if isinstance(value, str) else None
