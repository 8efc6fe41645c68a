"""One content block of a streamed answer: what its start said, the deltas since, and the part that it is.

Kinds of block and delta that have no part of their own, today's and tomorrow's, are kept in a CustomPart as
they came: the block of `content_block_start`, into which its deltas are folded (texts append, lists extend,
pieces of JSON are parsed at the block's end, other values replace). What a text, a reasoning or a call holds
beside its own fields is kept the same way, in the part's `extra`.
"""

from __future__ import annotations

import json
from typing import NoReturn

import msgspec

from agentkit_loop.content import AnyPart, CustomPart, PartKind, ReasoningPart, TextPart, ToolCallPart
from agentkit_loop.models.anthropic_wire import CUT_PROVIDER, PROVIDER
from agentkit_loop.values import JSON, scrub_json

_INPUT = "partial_json"  # the pieces of an input; no field of the block itself
_PREVIEWED: dict[PartKind, str] = {"text": "text", "reasoning": "thinking", "tool_call": _INPUT}
_TEXT_KEYS = frozenset({"type", "text"})
_THINKING_KEYS = frozenset({"type", "thinking", "signature"})
_REDACTED_KEYS = frozenset({"type", "data"})
_CALL_KEYS = frozenset({"type", "id", "name", "input", _INPUT})


class OpenBlock:
    """A content block that has begun.

    pieces: the texts that came since, by field, not joined yet. preview: the field that is streamed to
    observers, None for a block that is told only when it ends.
    """

    __slots__ = ("begun", "kind", "part_id", "pieces", "preview")

    def __init__(self, index: int, begun: dict[str, JSON]) -> None:
        self.part_id = str(index)
        self.begun = begun
        self.kind = _part_kind(begun)
        self.preview = _PREVIEWED.get(self.kind)
        self.pieces: dict[str, list[str]] = {}

    def joined(self, field: str) -> str:
        """Return the text of a field: what the start said and all pieces."""
        begun = self.begun.get(field)
        return "".join((begun if isinstance(begun, str) else "", *self.pieces.get(field, ())))

    def fold(self, delta: dict[str, JSON]) -> None:
        """Take a delta of any kind."""
        if delta.get("type") == "citations_delta" and "citation" in delta:
            delta = {"citations": [delta["citation"]]}
        for field, value in delta.items():
            present = self.begun.get(field)
            if field == "type":
                continue
            if field == "signature":  # told once and whole, as the SDK has it too
                self._replace(field, value)
            elif isinstance(value, str) and (present is None or isinstance(present, str)):
                self.pieces.setdefault(field, []).append(value)
            elif isinstance(value, list) and isinstance(present, list):
                present.extend(value)
            else:
                self._replace(field, value)

    def _replace(self, field: str, value: JSON) -> None:
        self.begun[field] = value
        self.pieces.pop(field, None)

    def part(self, *, ended: bool) -> AnyPart:
        """Return the part that the block is. ended: whether the provider said so, else it was cut."""
        if self.kind == "text":
            return TextPart(text=self.joined("text"), extra=self._extra(_TEXT_KEYS))
        if self.kind == "reasoning":
            if self.begun["type"] == "redacted_thinking":
                return ReasoningPart(text="", redacted=self.joined("data"), extra=self._extra(_REDACTED_KEYS))
            return ReasoningPart(
                text=self.joined("thinking"),
                # The signature proves the whole text: half of the text has none.
                signature=(self.joined("signature") or None) if ended else None,
                extra=self._extra(_THINKING_KEYS),
            )
        if self.kind == "tool_call":
            return self._call(ended=ended)
        return self._custom(ended=ended)

    def _extra(self, own: frozenset[str]) -> dict[str, JSON] | None:
        """Return every field that the part has no place for, as it came."""
        extra = {field: value for field, value in self.begun.items() if field not in own}
        extra.update({field: self.joined(field) for field in self.pieces if field not in own})
        return extra or None

    def _call(self, *, ended: bool) -> ToolCallPart:
        raw = "".join(self.pieces.get(_INPUT, ()))
        given = self.begun.get("input")
        parsed = given if not raw and ended and isinstance(given, dict) else _parse_input(raw)
        whole = ended and parsed is not None
        return ToolCallPart(
            id=self.begun["id"],
            name=self.begun["name"],
            input=parsed if whole and parsed is not None else {},
            cut=None if whole else raw,
            extra=self._extra(_CALL_KEYS),
        )

    def _custom(self, *, ended: bool) -> CustomPart:
        value = dict(self.begun)
        for field in self.pieces:
            if field != _INPUT:
                value[field] = self.joined(field)
        raw = "".join(self.pieces.get(_INPUT, ()))
        if raw:
            try:
                value["input"] = loads(raw.encode())
            except (ValueError, RecursionError):
                value[_INPUT] = raw
                ended = False
        return CustomPart(provider=PROVIDER if ended else CUT_PROVIDER, value=value)


_decode_any = msgspec.json.Decoder().decode


def loads(raw: bytes) -> JSON:
    """Decode JSON; what msgspec refuses and the grammar allows (a lone surrogate) is mended.

    Bytes that are not UTF-8 become U+FFFD. Raises ValueError or RecursionError for what is no JSON.
    """
    try:
        return _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return scrub_json(json.loads(raw.decode("utf-8", "replace"), parse_constant=_refuse))


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _parse_input(raw: str) -> dict[str, JSON] | None:
    """Return a tool's input, None where the text is no JSON object. No text at all is an empty object."""
    if not raw:
        return {}
    try:
        value = loads(raw.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _part_kind(begun: dict[str, JSON]) -> PartKind:
    match begun:
        case {"type": "text"}:
            return "text"
        case {"type": "thinking"}:
            return "reasoning"
        case {"type": "redacted_thinking", "data": str()}:
            return "reasoning"
        case {"type": "tool_use", "id": str(), "name": str()}:
            return "tool_call"
        case _:
            return "custom"
