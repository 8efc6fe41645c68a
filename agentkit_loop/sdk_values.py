"""What the provider's SDK gives and takes, as the values of events: answers, streams, messages, tools.

Its objects are told by what they have (`to_dict`, `type`), and plain dicts of the same shape do as well; the SDK
itself is never imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any

from agentkit_loop.content import AnyPart, CustomPart, Item, Part, TextPart, ToolCallPart, ToolSpec
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.models.anthropic_wire import PROVIDER
from agentkit_loop.tools import Tool, as_tool
from agentkit_loop.values import JSON, clean_text, safe_repr, to_json

_ADDED = frozenset({"text", "thinking", "signature", "citation", "input_json", "compaction"})
"""Events of the SDK's helper: what it has read so far, told again with each piece."""

_PREVIEWS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def as_dict(value: object) -> dict[str, Any]:
    """Return an object of the SDK, or a mapping, as a dict; raises ConfigurationError for anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    to_dict = getattr(value, "to_dict", None) or getattr(value, "model_dump", None)
    given = to_dict() if callable(to_dict) else None
    if not isinstance(given, dict):
        raise ConfigurationError(
            f"{safe_repr(value)} refused; give an object of the SDK, or a dict of its shape"
        )
    return given


def piece_of(event: Any) -> tuple[int, str, str] | None:
    """Return block, field and text of a piece of what is streamed, as of the SDK; None for all else."""
    if getattr(event, "type", None) != "content_block_delta":
        return None
    delta = event.delta
    field = _PREVIEWS.get(getattr(delta, "type", ""))
    return None if field is None else (event.index, field, getattr(delta, field))


def stream_event(event: object) -> dict[str, Any] | None:
    """Return one event of a stream as a dict; None for what the SDK's helper adds, which says nothing new.

    Of ends the helper repeats what has ended; that is left out.
    """
    found: Any = event
    kind = getattr(event, "type", None)
    if kind in _ADDED:
        return None
    if kind == "content_block_stop":
        return {"type": kind, "index": found.index}
    return {"type": kind} if kind == "message_stop" else as_dict(event)


def answer_events(message: object) -> Iterator[dict[str, Any]]:
    """Yield an answer that came whole (a `Message`, or the raw response of one) as the stream that it could have been.

    Raises ConfigurationError for anything else.
    """
    whole = answer_of(message)
    blocks = whole["content"] or ()
    usage = whole.get("usage")
    yield {"type": "message_start", "message": {**whole, "content": [], "usage": usage}}
    for index, block in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": as_dict(block)}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": whole.get("stop_reason"), "stop_details": whole.get("stop_details")}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


def answer_of(given: object) -> dict[str, Any]:
    """Return an answer that came whole as a dict of its shape; raises ConfigurationError for anything else."""
    is_raw = hasattr(given, "http_response") and not inspect.iscoroutinefunction(
        getattr(given, "parse", None)
    )
    found: Any = given.parse() if is_raw else given  # type: ignore[attr-defined] # of `with_raw_response`
    try:
        whole = as_dict(found)
    except ConfigurationError:
        whole = {}
    if not isinstance(whole.get("content", ""), (list, tuple, NoneType)):
        raise ConfigurationError(
            f"{safe_repr(given)} refused because it has no content; give the SDK's Message, its stream to "
            "call.stream(…), or tell its usage alone"
        )
    return whole


def input_items(content: object) -> tuple[Item, ...]:
    """Return what a user says as items: text, a message param, content blocks, parts or Items."""
    if isinstance(content, Item):
        return (content,)
    if isinstance(content, Mapping) and "content" in content:
        content = content["content"]
    if isinstance(content, str):
        content = [content] if content else []
    if not isinstance(content, Iterable) or isinstance(content, (bytes, Mapping)):
        raise ConfigurationError(
            f"{safe_repr(content)} refused; give text, a message, content blocks or Items"
        )
    items: list[Item] = []
    parts: list[AnyPart] = []
    for piece in content:
        if isinstance(piece, Item):
            items.append(piece)
        else:
            parts.append(_input_part(piece))
    return (Item(kind="user", parts=tuple(parts)), *items) if parts else tuple(items)


def last_message(messages: list[object] | None) -> tuple[list[tuple[str, object, bool]], list[object]]:
    """Return what the last of the messages that are sent says, if it is the user's.

    First the results of calls in it, each with the call's id, its output and whether it is an error; then the rest.
    """
    results: list[tuple[str, object, bool]] = []
    said: list[object] = []
    last = messages[-1] if messages else None
    message = as_dict(last) if last is not None and not isinstance(last, str) else {"content": last}
    content = message.get("content") if message.get("role", "user") == "user" else None
    for block in [content] if isinstance(content, str) else content or ():
        told = block if isinstance(block, Mapping) else {}
        if told.get("type") == "tool_result":
            results.append((str(told.get("tool_use_id")), told.get("content"), told.get("is_error") is True))
        else:
            said.append(block)
    return results, said


def _input_part(piece: Any) -> AnyPart:
    if isinstance(piece, str):
        return TextPart(text=clean_text(piece))
    if isinstance(piece, Part):
        return piece  # type: ignore[return-value] # all kinds of part are in the union
    block = as_dict(piece)
    text = block.get("text")
    if block.get("type") == "text" and isinstance(text, str):
        extra = {key: to_json(value) for key, value in block.items() if key not in ("type", "text")}
        return TextPart(text=clean_text(text), extra=extra or None)
    return CustomPart(provider=PROVIDER, value=to_json(block))


def call_of(block: object) -> tuple[str, str, dict[str, JSON]]:
    """Return id, name and input of a `tool_use` block, a ToolCallPart, or (name, input, id)."""
    if isinstance(block, ToolCallPart):
        return block.wire_id or block.id, block.name, block.input
    given = as_dict(block)
    call_id, name, arguments = given.get("id"), given.get("name"), given.get("input")
    if not isinstance(call_id, str) or not isinstance(name, str):
        raise ConfigurationError(f"{safe_repr(block)} refused because it is no call; give a tool_use block")
    told = to_json(arguments)
    return clean_text(call_id), clean_text(name), told if isinstance(told, dict) else {}


def system_text(given: object) -> str | None:
    """Return a system prompt as text: that of the API's blocks, a paragraph each; what says none is None."""
    if not given:
        return None
    if isinstance(given, str):
        return given
    blocks = given if isinstance(given, Iterable) and not isinstance(given, (bytes, Mapping)) else [given]
    return "\n\n".join(str(as_dict(block).get("text", "")) for block in blocks)


def tool_specs(tools: Iterable[object]) -> tuple[ToolSpec, ...]:
    """Return what the model is told of tools: the API's dicts, the SDK's tools, ToolSpecs, Tools or functions."""
    return tuple(_tool_spec(each) for each in tools or ())  # the SDK's own word for none is false


def _tool_spec(given: Any) -> ToolSpec:
    if isinstance(given, ToolSpec):
        return given
    if isinstance(given, Tool) or (callable(given) and not hasattr(given, "to_dict")):
        return as_tool(given).spec
    told = as_dict(given)
    schema = to_json(told.get("input_schema") or {})
    return ToolSpec(
        name=clean_text(str(told.get("name", ""))),
        description=clean_text(str(told.get("description", ""))),
        input_schema=schema if isinstance(schema, dict) else {},
    )
