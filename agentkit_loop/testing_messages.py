"""The provider's half of the Messages API for tests: what it refuses, and a scripted reply as its events.

Nothing here opens a socket; `testing_server` serves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from agentkit_loop.content import AnyPart, CustomPart, ReasoningPart, TextPart, ToolCallPart
from agentkit_loop.models.scripted import Reply
from agentkit_loop.usage import Usage

Event: TypeAlias = dict[str, Any]
"""An event of the stream; its `type` is also its name."""

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}", re.ASCII)
_CALL_ID = re.compile(r"[a-zA-Z0-9_-]+", re.ASCII)

MAX_CACHE_MARKS = 4

_STOP_REASONS = {
    "completed": "end_turn",
    "tool_call": "tool_use",
    "context_window_exceeded": "model_context_window_exceeded",
}


class _RefusedError(Exception):
    """The API refuses the request; the text is its sentence."""


def check_messages(body: object) -> str | None:
    """Return the sentence with which the API refuses a request's body, None for one that it takes."""
    try:
        _check_body(body)
    except _RefusedError as refusal:
        return str(refusal)
    return None


def _check_body(body: object) -> None:
    if not isinstance(body, dict):
        raise _RefusedError("Input should be a valid dictionary")
    for field in ("model", "max_tokens", "messages"):
        if field not in body:
            raise _RefusedError(f"{field}: Field required")
    if type(body["max_tokens"]) is not int or body["max_tokens"] < 1:
        raise _RefusedError("max_tokens: Input should be a valid integer, greater than or equal to 1")
    _check_tools(body.get("tools") or [])
    system = body.get("system") or []
    if not isinstance(system, str):
        for block in system:
            _check_text(block, "system")
    messages = _merged(body["messages"])
    _check_messages(messages)
    _check_cache(body, messages)


def _check_tools(tools: list[dict[str, Any]]) -> None:
    names: set[str] = set()
    for index, tool in enumerate(tools):
        name = tool.get("name")
        if not isinstance(name, str) or _TOOL_NAME.fullmatch(name) is None:
            raise _RefusedError(
                f"tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            )
        if name in names:
            raise _RefusedError("tools: Tool names must be unique.")
        names.add(name)
        provided = tool.get("type", "custom") != "custom"  # the provider's own tools have no schema
        if not provided and (tool.get("input_schema") or {}).get("type") != "object":
            raise _RefusedError(f"tools.{index}.custom.input_schema.type: Input should be 'object'")


def _merged(messages: object) -> list[dict[str, Any]]:
    """Return the messages as the API sees them: neighbours of one role are one, texts are blocks."""
    if not isinstance(messages, list) or not messages:
        raise _RefusedError("messages: at least one message is required")
    merged: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in {"user", "assistant"}:
            raise _RefusedError(f"messages.{index}.role: Input should be 'user' or 'assistant'")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list):
            raise _RefusedError(f"messages.{index}.content: Input should be a valid list")
        if not blocks:
            raise _RefusedError(
                f"messages.{index}: all messages must have non-empty content "
                "except for the optional final assistant message"
            )
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(blocks)
        else:
            merged.append({"role": role, "content": list(blocks)})
    return merged


def _check_messages(messages: list[dict[str, Any]]) -> None:
    if messages[0]["role"] != "user":
        raise _RefusedError('messages: first message must use the "user" role')
    seen: set[str] = set()
    for index, message in enumerate(messages):
        for place, block in enumerate(message["content"]):
            _check_block(block, message["role"], f"messages.{index}.content.{place}", seen)
        before = _calls(messages[index - 1]) if index else []
        _check_results(message, before, index)
    left = _calls(messages[-1])
    if left:
        raise _RefusedError(_unanswered(len(messages) - 1, left))
    last = messages[-1]["content"][-1]
    if (
        messages[-1]["role"] == "assistant"
        and last.get("type") == "text"
        and last["text"] != last["text"].rstrip()
    ):
        raise _RefusedError("messages: final assistant content cannot end with trailing whitespace")


def _check_cache(body: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """Check the cache markers: how many there are, where they stand, how long they hold."""
    marked: list[tuple[str, dict[str, Any]]] = []
    for field in ("tools", "system"):
        blocks = body.get(field) or []
        marked += _marked(blocks if isinstance(blocks, list) else [], field)
    for index, message in enumerate(messages):
        marked += _marked(message["content"], f"messages.{index}.content")
    count = len(marked) + (body.get("cache_control") is not None)
    if count > MAX_CACHE_MARKS:
        raise _RefusedError(
            f"A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {count}."
        )
    is_short = False
    for place, block in marked:
        mark, kind = block["cache_control"], block.get("type")
        if kind in {"thinking", "redacted_thinking"}:
            raise _RefusedError(f"{place}.{kind}.cache_control: Extra inputs are not permitted")
        if kind == "text" and not block.get("text"):
            raise _RefusedError(f"{place}.text: cache_control cannot be set for empty text blocks")
        if mark.get("type") != "ephemeral" or mark.get("ttl", "5m") not in {"5m", "1h"}:
            raise _RefusedError(f"{place}.cache_control: Input should be 'ephemeral', for '5m' or '1h'")
        if block.get("defer_loading"):
            raise _RefusedError(f"{place}: tools with defer_loading=true cannot use prompt caching")
        if mark.get("ttl") == "1h" and is_short:
            raise _RefusedError(
                f"{place}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, "
                "`system`, `messages`."
            )
        is_short = is_short or mark.get("ttl") != "1h"


def _marked(blocks: list[Any], place: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the blocks with a cache marker, those inside of results too, and where they stand."""
    found: list[tuple[str, dict[str, Any]]] = []
    for index, block in enumerate(blocks):
        inner = block.get("content") if block.get("type") == "tool_result" else None
        if isinstance(inner, list):
            found += _marked(inner, f"{place}.{index}.content")
        if block.get("cache_control") is not None:
            found.append((f"{place}.{index}", block))
    return found


def _check_block(block: object, role: str, place: str, seen: set[str]) -> None:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise _RefusedError(f"{place}.type: Field required")
    kind = block["type"]
    if kind == "text":
        _check_text(block, "messages")
    elif kind == "thinking" and not isinstance(block.get("signature"), str):
        raise _RefusedError(f"{place}.thinking.signature: Field required")
    elif kind in {"tool_use", "thinking", "redacted_thinking"} and role != "assistant":
        raise _RefusedError(f"{place}: `{kind}` blocks can only be in `assistant` messages")
    elif kind == "tool_result" and role != "user":
        raise _RefusedError(f"{place}: `tool_result` blocks can only be in `user` messages")
    if kind == "tool_use":
        _check_call(block, place, seen)
    elif kind == "tool_result":
        _check_output(block, place)


def _check_text(block: dict[str, Any], place: str) -> None:
    text = block.get("text")
    if not isinstance(text, str) or not text:
        raise _RefusedError(f"{place}: text content blocks must be non-empty")
    if not text.strip():
        raise _RefusedError(f"{place}: text content blocks must contain non-whitespace text")


def _check_call(block: dict[str, Any], place: str, seen: set[str]) -> None:
    call_id = block.get("id")
    if not isinstance(call_id, str) or _CALL_ID.fullmatch(call_id) is None:
        raise _RefusedError(f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if call_id in seen:
        raise _RefusedError(f"{place}: `tool_use` ids must be unique")
    seen.add(call_id)
    if not isinstance(block.get("input"), dict):
        raise _RefusedError(f"{place}.tool_use.input: Input should be a valid dictionary")


def _check_output(block: dict[str, Any], place: str) -> None:
    content = block.get("content")
    if block.get("is_error") and not content:
        raise _RefusedError(f"{place}.tool_result: content cannot be empty if `is_error` is true")
    for inner in content if isinstance(content, list) else []:
        if inner.get("type") == "text":
            _check_text(inner, "messages")


def _check_results(message: dict[str, Any], calls: list[str], index: int) -> None:
    answered: list[str] = []
    leading = True
    for place, block in enumerate(message["content"]):
        if block["type"] != "tool_result":
            leading = False
            continue
        call_id = block.get("tool_use_id")
        if call_id not in calls:
            raise _RefusedError(
                f"messages.{index}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{call_id}. Each `tool_result` block must have a corresponding `tool_use` block in the "
                "previous message."
            )
        if call_id in answered:
            raise _RefusedError(
                f"messages.{index}.content.{place}: each tool_use must have a single result. "
                f"Found multiple `tool_result` blocks with id: {call_id}"
            )
        if leading:
            answered.append(call_id)
    missing = [call_id for call_id in calls if call_id not in answered]
    if missing:
        raise _RefusedError(_unanswered(index - 1, missing))


def _calls(message: dict[str, Any]) -> list[str]:
    return [block["id"] for block in message["content"] if block.get("type") == "tool_use"]


def _unanswered(index: int, calls: list[str]) -> str:
    return (
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(calls)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
        "next message."
    )


def reply_events(reply: Reply, *, model: str = "scripted", number: int = 1) -> list[Event]:
    """Return the events of a scripted reply, failure and delays aside. number: the request's, for ids."""
    usage = _wire_usage(reply.usage)
    start = {**usage, "output_tokens": 1} if usage else {}
    message: Event = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": start,
    }
    events: list[Event] = [{"type": "message_start", "message": message}]
    for index, part in enumerate(_parts(reply, number)):
        events.extend(_block_events(index, part, reply.chunk_chars))
    if not reply.ends:
        return events
    reason = reply.finish_reason or ("tool_call" if reply.calls else "completed")
    delta = {"stop_reason": _STOP_REASONS.get(reason, reason), "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": usage})
    events.append({"type": "message_stop"})
    return events


def whole_message(events: Iterable[Event]) -> dict[str, Any]:
    """Return the message that the events of a whole stream tell."""
    message: dict[str, Any] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = {**event["message"], "content": []}
            case "content_block_start":
                message["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                _fold(message["content"][event["index"]], event["delta"])
            case "content_block_stop" if "partial_json" in message["content"][event["index"]]:
                block = message["content"][event["index"]]
                block["input"] = msgspec.json.decode(block.pop("partial_json") or "{}")
            case "message_delta":
                message |= event["delta"]
                message["usage"] = {**message["usage"], **event["usage"]}
            case _:
                pass
    return message


def _fold(block: dict[str, Any], delta: dict[str, Any]) -> None:
    for field, text in delta.items():
        if field != "type":
            block[field] = block.get(field, "") + text


def _parts(reply: Reply, number: int) -> Iterator[AnyPart]:
    if reply.reasoning:
        yield ReasoningPart(text=reply.reasoning, signature=reply.signature or "signed")
    if reply.text:
        yield TextPart(text=reply.text)
    yield from reply.parts
    for index, call in enumerate(reply.calls, start=1):
        yield ToolCallPart(
            id=call.id or f"toolu_{number}_{index}", name=call.name, input=call.input, cut=call.cut
        )


def _block_events(index: int, part: AnyPart, size: int) -> Iterator[Event]:
    match part:
        case TextPart():
            begun: Event = {"type": "text", "text": "", **(part.extra or {})}
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(part.text, size)]
        case ReasoningPart(redacted=str()):
            begun, deltas = {"type": "redacted_thinking", "data": part.redacted, **(part.extra or {})}, []
        case ReasoningPart():
            begun = {"type": "thinking", "thinking": "", "signature": "", **(part.extra or {})}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(part.text, size)]
            deltas.append({"type": "signature_delta", "signature": part.signature or ""})
        case ToolCallPart():
            begun = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}, **(part.extra or {})}
            raw = part.cut if part.cut is not None else msgspec.json.encode(part.input).decode()
            deltas = [
                {"type": "input_json_delta", "partial_json": piece} for piece in ("", *_pieces(raw, size))
            ]
        case CustomPart():
            begun, deltas = part.value, []
        case _:
            begun, deltas = {"type": "text", "text": f"({type(part).__name__})"}, []
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _wire_usage(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    if usage.raw is not None:
        return dict(usage.raw)
    told: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "cache_creation_input_tokens": usage.cache_write_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.cache_write_1h_input_tokens is not None:
        short = (usage.cache_write_input_tokens or 0) - usage.cache_write_1h_input_tokens
        told["cache_creation"] = {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_input_tokens,
        }
    if usage.reasoning_tokens is not None:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return {name: count for name, count in told.items() if count is not None}
