"""The content of a conversation: parts, items, deltas, and the description of a tool.

All are frozen msgspec Structs; a part is told apart by `kind`, a delta by `type`. Values inside are JSON
already (see values.py). Defaults are left out on the wire.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypeVar, get_args

import msgspec

from agentkit_loop.values import JSON, clean_text, scrub_json

ItemKind: TypeAlias = Literal["system", "developer", "user", "assistant", "tool", "context", "notification"]
ITEM_KINDS: tuple[str, ...] = get_args(ItemKind)

FINISH_REASONS = (
    "completed",
    "tool_call",
    "max_tokens",
    "stop_sequence",
    "refusal",
    "context_window_exceeded",
    "pause_turn",
    "cancelled",
    "limit",
    "error",
)
"""Known finish reasons. A request may end with a provider's own word that is not among them."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """A piece of an item; see its subclasses."""


class TextPart(Part, frozen=True, kw_only=True, tag="text"):
    """Text.

    extra: what else the provider's block holds (citations), sent back as it came; the same in the other
    parts that have it.
    """

    text: str
    extra: dict[str, JSON] | None = None


class ReasoningPart(Part, frozen=True, kw_only=True, tag="reasoning"):
    """The model's reasoning.

    text: what may be shown. signature: the provider's proof, sent back untouched. redacted: opaque
    data in place of text. A part with neither signature nor redacted is not sent back. extra: as in
    TextPart.
    """

    text: str
    signature: str | None = None
    redacted: str | None = None
    extra: dict[str, JSON] | None = None


class ToolCallPart(Part, frozen=True, kw_only=True, tag="tool_call"):
    """The model asks for a tool.

    id: unique in the session. input: the arguments by name. cut: the raw text of an input that did not
    end or parse; then input is empty. wire_id: the provider's id where ours had to differ (`id~2`).
    extra: as in TextPart (which of the provider's own tools made the call).
    """

    id: str
    name: str
    input: dict[str, JSON]
    cut: str | None = None
    wire_id: str | None = None
    extra: dict[str, JSON] | None = None


class ToolResultPart(Part, frozen=True, kw_only=True, tag="tool_result"):
    """The answer to a call: `output` is exactly what the model sees, text or any JSON value."""

    call_id: str
    name: str
    output: JSON
    is_error: bool = False


class MediaPart(Part, frozen=True, kw_only=True, tag="media"):
    """An image or sound: `data` as base64 text, or a `url`. media_type: as in `image/png`."""

    media_type: str
    data: str | None = None
    url: str | None = None


class FilePart(Part, frozen=True, kw_only=True, tag="file"):
    """A document: `data` as base64 text, a `url`, or the provider's `file_id`."""

    name: str
    media_type: str
    data: str | None = None
    url: str | None = None
    file_id: str | None = None


class StructuredPart(Part, frozen=True, kw_only=True, tag="structured"):
    """A JSON value that is meant as data, not as text."""

    value: JSON


class CustomPart(Part, frozen=True, kw_only=True, tag="custom"):
    """A provider's own block, kept verbatim for the way back. provider: whose; value: the block."""

    provider: str
    value: JSON


AnyPart: TypeAlias = (
    TextPart
    | ReasoningPart
    | ToolCallPart
    | ToolResultPart
    | MediaPart
    | FilePart
    | StructuredPart
    | CustomPart
)
"""Every kind of part; the union that is written and read."""

PartKind: TypeAlias = Literal[
    "text", "reasoning", "tool_call", "tool_result", "media", "file", "structured", "custom"
]


def part_kind(part: AnyPart) -> PartKind:
    """Return the kind that BeginPart tells of a part."""
    match part:
        case TextPart():
            return "text"
        case ReasoningPart():
            return "reasoning"
        case ToolCallPart():
            return "tool_call"
        case ToolResultPart():
            return "tool_result"
        case MediaPart():
            return "media"
        case FilePart():
            return "file"
        case StructuredPart():
            return "structured"
        case CustomPart():
            return "custom"


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the transcript. id: unique in the session; empty until the session gives one."""

    kind: ItemKind
    parts: tuple[AnyPart, ...]
    id: str = ""

    @classmethod
    def user(cls, *content: str | AnyPart) -> Item:
        """Make a user item of texts and parts."""
        return cls(kind="user", parts=tuple(_as_part(piece) for piece in content))

    @classmethod
    def assistant(cls, *content: str | AnyPart) -> Item:
        """Make an assistant item of texts and parts, for a preloaded transcript."""
        return cls(kind="assistant", parts=tuple(_as_part(piece) for piece in content))

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """The tool calls among the parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))


def _as_part(piece: str | AnyPart) -> AnyPart:
    return TextPart(text=clean_text(piece)) if isinstance(piece, str) else piece


class Delta(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """A fragment while streaming; see its subclasses. part_id: unique within its request."""


# `gc=False`: text alone is in no cycle, so that most of what a log holds wakes no garbage collector.
class BeginPart(Delta, frozen=True, tag="begin_part", gc=False):
    """A part begins; its place among the parts is decided here."""

    part_id: str
    kind: PartKind


class AppendText(Delta, frozen=True, tag="append_text", gc=False):
    """Text came; a preview of what CommitPart will say. For a tool call: a piece of the input's JSON."""

    part_id: str
    chunk: str


class AppendBytes(Delta, frozen=True, tag="append_bytes", gc=False):
    """Bytes came; base64 on the wire."""

    part_id: str
    chunk: bytes


class CommitPart(Delta, frozen=True, tag="commit_part"):
    """The part is whole: the one place where its content is told."""

    part_id: str
    part: AnyPart


AnyDelta: TypeAlias = BeginPart | AppendText | AppendBytes | CommitPart
"""Every kind of delta; the union that is written and read."""


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as the model is told of it. input_schema: JSON Schema of an object."""

    name: str
    description: str
    input_schema: dict[str, JSON]


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sub-agent's session comes from: the session, run and call that started it."""

    session_id: str
    run_id: str
    call_id: str


_Record = TypeVar("_Record", bound=msgspec.Struct)


def clean_record(record: _Record) -> _Record:
    """Return the record with nothing in it that JSON cannot hold; the same object where it was clean."""
    dirty = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        cleaned = _clean(value)
        if cleaned is not value and cleaned != value:
            dirty[name] = cleaned
    return msgspec.structs.replace(record, **dirty) if dirty else record


def _clean(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return clean_record(value)
    if isinstance(value, tuple):
        return tuple(_clean(member) for member in value)
    # What is left (bytes, amounts, times) has a type of its own on the wire.
    return scrub_json(value) if isinstance(value, (str, dict, list, float)) else value


def clean_part(part: AnyPart) -> AnyPart:
    """Return the part with nothing in it that JSON cannot hold; the same object where it was clean."""
    return clean_record(part)


def clean_item(item: Item) -> Item:
    """Return the item with every part clean; the same object where all were."""
    parts = tuple(clean_part(part) for part in item.parts)
    if all(new is old for new, old in zip(parts, item.parts, strict=True)):
        return item
    return msgspec.structs.replace(item, parts=parts)
