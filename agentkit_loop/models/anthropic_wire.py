"""A request of the loop as the body of a Messages API request.

What the API refuses shapes the rules (its sentences are in `agentkit_loop.testing_server.check_messages`):
roles alternate, so neighbours of one role are one message; results stand first in the message after their
calls; no text is empty; ids of calls are unique and of plain characters. Blocks that the API gave come back
as they came.
"""

from __future__ import annotations

import base64
import binascii
import operator
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from agentkit_loop.content import (
    AnyPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    StructuredPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
)
from agentkit_loop.models.protocol import ModelRequest
from agentkit_loop.values import JSON, compact_json

Block: TypeAlias = dict[str, Any]
"""A content block as the API has it."""

MARK = "cache_control"
"""The key of a block that the provider's prompt cache is to end at; see anthropic_cache."""

PROVIDER = "anthropic"
"""`CustomPart.provider` of blocks that go back as they are."""

CUT_PROVIDER = "anthropic-cut"
"""`CustomPart.provider` of blocks that did not end; kept for people, never sent back."""

NO_CONTENT = "(no content)"
"""Stands where the API wants a text and there is none."""

_DIGITS = re.compile(r"-?[0-9]{19,700}")
_ILLEGAL_ID = re.compile(r"[^a-zA-Z0-9_-]")
_decode_parts = msgspec.json.Decoder(list[AnyPart]).decode


def wire_body(request: ModelRequest, messages: WireMessages | None = None) -> dict[str, Any]:
    """Return `messages`, and `system` and `tools` where there are any. messages: of the session's last request.

    Its lists are the caller's, and the last message; the other messages, and all blocks, are not to be changed.
    """
    messages = messages or WireMessages()
    body: dict[str, Any] = {"messages": messages.of(request.items)}
    texts = [request.system or "", *messages.instructions]
    system = [_text(text) for text in texts if text.strip()]
    if system:
        body["system"] = system
    if request.tools:
        body["tools"] = [wire_tool(tool) for tool in request.tools]
    return body


def wire_tool(tool: ToolSpec) -> Block:
    """Return a tool as the API is told of it."""
    told: Block = {"name": tool.name, "input_schema": tool.input_schema}
    if tool.description:
        told["description"] = tool.description
    return told


def wire_messages(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Return the transcript as messages; system and developer items are not among them."""
    return WireMessages().of(tuple(items))


class WireMessages:
    """The messages of a transcript that mostly grows: each request costs what it adds, not the whole history.

    An item stays as it was when it was sent first, also where somebody changes a dict of its parts later.
    may_hold_marks: whether any block may be marked for the cache, or hold one that is. instructions: the texts of its
    system and developer items.
    """

    def __init__(self) -> None:
        self.may_hold_marks = False
        self.instructions: list[str] = []
        self._items: tuple[Item, ...] = ()
        self._ids = _CallIds()
        self._whole: list[dict[str, Any]] = []  # messages that another one follows: never changed again
        self._last: dict[str, Any] | None = None  # the one that the next item may belong to

    def __reduce__(self) -> tuple[type[WireMessages], tuple[()]]:
        return type(self), ()  # a request that is copied or stored takes them not along

    @classmethod
    def taken(cls, request: ModelRequest) -> WireMessages:
        """Return those that are kept from the session's last request, or new ones; nobody else gets them meanwhile."""
        kept = None if request.kept is None else request.kept.pop(cls, None)
        return kept if isinstance(kept, cls) else cls()

    def keep(self, request: ModelRequest) -> None:
        """Put them back for the session's next request."""
        if request.kept is not None:
            request.kept[type(self)] = self

    def of(self, items: tuple[Item, ...]) -> list[dict[str, Any]]:
        """Return the messages of the items. The list is the caller's, and the last message; the others are shared."""
        before, self._items = self._items, ()  # nothing is kept of what an error leaves half made
        if len(before) > len(items) or not all(map(operator.is_, before, items)):
            before = ()
        if not before:
            self.__init__()  # type: ignore[misc] # everything anew
        for item in items[len(before) :]:
            if item.kind in {"system", "developer"}:
                self.instructions += map(_plain, item.parts)
            else:
                self._add(item)
        self._items = items
        last = self._last or {"role": "user", "content": []}
        last = _ended({"role": last["role"], "content": [*last["content"]]})
        if last["role"] == "assistant":
            _trim_prefill(last["content"])
        return [*self._whole, last]

    def _add(self, item: Item) -> None:
        role = "assistant" if item.kind == "assistant" else "user"
        blocks = [block for part in item.parts if (block := _block(part, role, self._ids)) is not None]
        self.may_hold_marks = self.may_hold_marks or any(map(may_hold_mark, blocks))
        last = self._last
        if role == "assistant":
            if last is not None and not last["content"]:
                last["content"].append(_text(NO_CONTENT))  # as it was sent to be answered
            if not blocks:
                return  # an assistant message without content is refused, and says nothing
        if last is not None and last["role"] == role:
            last["content"].extend(blocks)
            return
        if last is None and role == "assistant":
            last = {"role": "user", "content": []}  # the first message must be the user's
        if last is not None:
            self._whole.append(_ended(last))
        self._last = {"role": role, "content": blocks}


def _ended(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message as it is sent, changed in its place."""
    content = message["content"]
    if not content:
        content.append(_text(NO_CONTENT))
    if message["role"] == "user":
        content.sort(key=_after_results)
    return message


def may_hold_mark(block: Block) -> bool:
    """Whether a block is marked for the cache, or may have other blocks in it."""
    return MARK in block or "source" in block or block.get("content").__class__ is list


class _CallIds:
    """The ids of a transcript's calls: the provider's own where it can be, unique and legal in any case.

    The provider may repeat an id over turns, and refuses to see it twice; then ours, which is unique, goes.
    """

    def __init__(self) -> None:
        self._wire: dict[str, str] = {}
        self._taken: set[str] = set()

    def of_call(self, part: ToolCallPart) -> str:
        """Return the id of a call, and remember it for its result."""
        wire = _ILLEGAL_ID.sub("_", part.wire_id or part.id) or "call"
        if wire in self._taken:
            wire = _ILLEGAL_ID.sub("_", part.id)
        while wire in self._taken:
            wire += "_"
        self._taken.add(wire)
        self._wire[part.id] = wire
        return wire

    def of_result(self, part: ToolResultPart) -> str:
        """Return the id of the call that a result answers."""
        return self._wire.get(part.call_id) or _ILLEGAL_ID.sub("_", part.call_id)


def _plain(part: AnyPart) -> str:
    if isinstance(part, TextPart):
        return part.text
    return compact_json(part.value) if isinstance(part, StructuredPart) else ""


def _block(part: AnyPart, role: str, ids: _CallIds) -> Block | None:
    """Return the block of a part, None for one that is not sent."""
    match part:
        case TextPart():
            return _text(part.text, part.extra) if part.text.strip() else None
        case ReasoningPart():
            return _reasoning(part) if role == "assistant" else None
        case ToolCallPart():
            call: Block = {
                "type": "tool_use",
                "id": ids.of_call(part),
                "name": part.name,
                "input": _as_given(part.input),
            }
            return {**call, **(part.extra or {})}
        case ToolResultPart():
            return _result(part, ids)
        case StructuredPart():
            return _text(compact_json(part.value))
        case CustomPart():
            return (
                _as_given(part.value) if part.provider == PROVIDER and isinstance(part.value, dict) else None
            )
        case MediaPart() | FilePart():
            # Only users may show something; what an assistant made is named, so that the talk makes sense.
            return _shown(part) if role == "user" else _not_shown(part)


def _as_given(value: Any) -> Any:
    """Return a copy of what the provider gave with its large integers, which events hold as `{"$int": digits}`.

    A copy, since a host may change what it handed over: what is kept is to be what was looked at for marks.
    """
    if isinstance(value, list):
        return [_as_given(member) for member in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$int": str(digits)} if len(value) == 1 and _DIGITS.fullmatch(digits):
            return int(digits)
        case _ if any(isinstance(member, (dict, list)) for member in value.values()):
            return {name: _as_given(member) for name, member in value.items()}
        case _:
            return dict(value)


def _text(text: str, extra: dict[str, JSON] | None = None) -> Block:
    return {"type": "text", "text": text, **(extra or {})}


def _reasoning(part: ReasoningPart) -> Block | None:
    extra = part.extra or {}
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted, **extra}
    if part.signature is not None:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature, **extra}
    return None


def _result(part: ToolResultPart, ids: _CallIds) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": ids.of_result(part)}
    content = _output(part.output)
    if content:
        block["content"] = content
    elif part.is_error:
        block["content"] = NO_CONTENT  # an error without content is refused
    if part.is_error:
        block["is_error"] = True
    return block


def _output(output: JSON) -> str | list[Block]:
    if isinstance(output, str):
        return output if output.strip() else ""
    match output:
        case {"$parts": list(told)} if len(output) == 1:
            try:
                parts = _decode_parts(msgspec.json.encode(told))
            except msgspec.MsgspecError:
                return compact_json(output)
            return [block for part in parts if (block := _in_result(part)) is not None]
        case _:
            return compact_json(output)


def _in_result(part: AnyPart) -> Block | None:
    match part:
        case TextPart():
            return _text(part.text) if part.text.strip() else None
        case MediaPart() | FilePart():
            return _shown(part)
        case StructuredPart():
            return _text(compact_json(part.value))
        case CustomPart(value={"type": str()}) if part.provider == PROVIDER:
            return dict(part.value)
        case _:
            return _text(compact_json(msgspec.to_builtins(part)))


def _shown(part: MediaPart | FilePart) -> Block:
    """Return an image or document block, or a text that names what cannot be shown."""
    media_type = part.media_type.lower()
    kind = "image" if media_type.startswith("image/") else "document"
    source = _source(part, media_type)
    if source is None:
        return _not_shown(part)
    block: Block = {"type": kind, "source": source}
    if isinstance(part, FilePart) and part.name and kind == "document":
        block["title"] = part.name
    return block


def _source(part: MediaPart | FilePart, media_type: str) -> Block | None:
    if isinstance(part, FilePart) and part.file_id is not None:
        return {"type": "file", "file_id": part.file_id}
    is_image, is_pdf = media_type.startswith("image/"), media_type == "application/pdf"
    if part.url is not None:
        return {"type": "url", "url": part.url} if is_image or is_pdf else None
    if part.data is None:
        return None
    if is_image or is_pdf:
        return {"type": "base64", "media_type": media_type, "data": part.data}
    if media_type.startswith("text/") or media_type == "application/json":
        try:
            text = base64.b64decode(part.data, validate=True).decode("utf-8", "replace")
        except binascii.Error:
            return None
        return {"type": "text", "media_type": "text/plain", "data": text} if text.strip() else None
    return None


def _not_shown(part: MediaPart | FilePart) -> Block:
    name = f" {part.name!r}" if isinstance(part, FilePart) else ""
    return _text(f"({part.media_type}{name} is not shown here)")


def _after_results(block: Block) -> bool:
    return block.get("type") != "tool_result"


def _trim_prefill(content: list[Block]) -> None:
    """Take white space off the end of a last assistant message: the API refuses to continue from it."""
    block = content[-1]
    if block.get("type") == "text":
        content[-1] = {**block, "text": block["text"].rstrip()}
