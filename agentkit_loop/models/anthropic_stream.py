"""The answer of the Messages API, read from its bytes: chunks in, the loop's model signals out.

`AnswerReader` holds no connection and waits for nothing, so the synchronous and the asynchronous model share
it. A failure that comes inside a chunk is kept in `failure`, because what was readable before it is to be
told first.

Kinds of block and delta that have no part of their own, today's and tomorrow's, are kept in a CustomPart as
they came: the block of `content_block_start`, into which its deltas are folded (texts append, lists extend,
pieces of JSON are parsed at the block's end, other values replace).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec

from agentkit_loop.content import (
    AnyPart,
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    PartKind,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.errors import ModelRequestError
from agentkit_loop.models.anthropic_failures import stream_error
from agentkit_loop.models.anthropic_usage import merge_usage, read_usage
from agentkit_loop.models.anthropic_wire import CUT_PROVIDER, PROVIDER
from agentkit_loop.models.protocol import Answer, ModelSignal, UsageReport
from agentkit_loop.models.sse import SSEDecoder
from agentkit_loop.values import JSON, scrub_json

FINISH_REASONS = {
    "end_turn": "completed",
    "tool_use": "tool_call",
    "model_context_window_exceeded": "context_window_exceeded",
}
"""Stop reasons that the loop calls by another name; every other word is kept."""


class _Text(msgspec.Struct, tag="text_delta", tag_field="type", gc=False):
    text: str


class _Thinking(msgspec.Struct, tag="thinking_delta", tag_field="type", gc=False):
    thinking: str


class _InputJson(msgspec.Struct, tag="input_json_delta", tag_field="type", gc=False):
    partial_json: str


class _BlockDelta(msgspec.Struct, tag="content_block_delta", tag_field="type", gc=False):
    """The one event that comes for every piece of the answer, so the only one with a type of its own."""

    index: int
    delta: _Text | _Thinking | _InputJson


_decode_delta = msgspec.json.Decoder(_BlockDelta).decode
_decode_any = msgspec.json.Decoder().decode


class _Block:
    """A content block that has begun: what its start said, and the pieces that came since."""

    __slots__ = ("begun", "kind", "part_id", "pieces")

    def __init__(self, index: int, begun: dict[str, JSON]) -> None:
        self.part_id = str(index)
        self.begun = begun
        self.kind = _part_kind(begun)
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
            if field == "signature":
                self.begun[field] = value  # told once and whole, as the SDK has it too
            elif isinstance(value, str) and (present is None or isinstance(present, str)):
                self.pieces.setdefault(field, []).append(value)
            elif isinstance(value, list) and isinstance(present, list):
                present.extend(value)
            else:
                self.begun[field] = value

    def part(self, *, ended: bool) -> AnyPart:
        """Return the part that the block is."""
        if self.kind == "text":
            extra = {key: value for key, value in self.begun.items() if key not in _TEXT_KEYS}
            extra = {key: value for key, value in extra.items() if value is not None}
            extra.update({key: self.joined(key) for key in self.pieces if key != "text"})
            return TextPart(text=self.joined("text"), extra=extra or None)
        if self.kind == "reasoning":
            if self.begun["type"] == "redacted_thinking":
                return ReasoningPart(text="", redacted=self.joined("data"))
            return ReasoningPart(
                text=self.joined("thinking"),
                # The signature proves the whole text: half of the text has none.
                signature=(self.joined("signature") or None) if ended else None,
            )
        if self.kind == "tool_call":
            return self._call(ended=ended)
        return self._custom(ended=ended)

    def _call(self, *, ended: bool) -> ToolCallPart:
        raw = "".join(self.pieces.get("partial_json", ()))
        given = self.begun.get("input")
        parsed = given if not raw and ended and isinstance(given, dict) else _parse_input(raw)
        whole = ended and parsed is not None
        return ToolCallPart(
            id=self.begun["id"],
            name=self.begun["name"],
            input=parsed if whole and parsed is not None else {},
            cut=None if whole else raw,
        )

    def _custom(self, *, ended: bool) -> CustomPart:
        value = dict(self.begun)
        for field in self.pieces:
            if field != "partial_json":
                value[field] = self.joined(field)
        raw = "".join(self.pieces.get("partial_json", ()))
        if raw:
            try:
                value["input"] = _loads(raw.encode())
            except (ValueError, RecursionError):
                value["partial_json"] = raw
                ended = False
        return CustomPart(provider=PROVIDER if ended else CUT_PROVIDER, value=value)


_TEXT_KEYS = frozenset({"type", "text"})


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


class AnswerReader:
    """Reads one answer: `feed` it every chunk, call `end` when the bytes end, then ask for the `result`.

    answer: the end of the stream, None before it. failure: what went wrong inside the stream; to be raised
    after the signals of the chunk that it came in.
    """

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.failure: ModelRequestError | None = None
        self._sse = SSEDecoder()
        self._blocks: dict[int, _Block] = {}
        self._begun: set[int] = set()
        self._usage: dict[str, JSON] = {}
        self._reported: dict[str, JSON] = {}
        self._message: dict[str, JSON] = {}
        self._started = False
        self._heard = False  # any event at all, so that the bytes were an event stream
        self._stop_reason: str | None = None

    def feed(self, chunk: bytes) -> list[ModelSignal]:
        """Take the next bytes and return what they say; after the end or a failure nothing any more."""
        signals: list[ModelSignal] = []
        for name, raw in self._sse.feed(chunk):
            if self.answer is not None or self.failure is not None:
                break
            try:
                event = _decode_delta(raw)
            except (ValueError, RecursionError):  # another event, another delta, or bytes that need mending
                self._guarded(name, raw, signals)
                continue
            block = self._blocks.get(event.index)
            if block is None:
                self.failure = _malformed(f"a delta for block {event.index}, which is not open")
                break
            delta: Any = event.delta  # of one class out of three, so that there is no other attribute to fear
            if delta.__class__ is _Text:
                field, text = "text", delta.text
            elif delta.__class__ is _InputJson:
                field, text = "partial_json", delta.partial_json
            else:
                field, text = "thinking", delta.thinking
            if not text:
                continue
            pieces = block.pieces.get(field)
            if pieces is None:
                pieces = block.pieces[field] = []
            pieces.append(text)
            if _PREVIEWED.get(block.kind) == field:
                signals.append(AppendText(block.part_id, text))
        return signals

    def check(self) -> None:
        """Raise the failure that came inside the stream, if one did."""
        if self.failure is not None:
            raise self.failure

    def end(self) -> None:
        """Take note that no more bytes come; raises ModelRequestError where the answer is not whole."""
        if self.answer is not None:
            return
        if self._heard:
            raise ModelRequestError(CUT, error_class="stream_cut")
        if self._sse.unfinished:
            raise ModelRequestError(NOT_A_STREAM, error_class="other")
        raise ModelRequestError(EMPTY, error_class="stream_cut")

    def result(self) -> Answer:
        """Return the answer; raises ModelRequestError as `end` does."""
        self.end()
        assert self.answer is not None  # noqa: S101 - `end` has looked
        return self.answer

    def unreported(self) -> list[ModelSignal]:
        """Return the usage that came and was not told yet; for a stream that breaks."""
        if self._usage == self._reported:
            return []
        self._reported = self._usage
        return [UsageReport(usage=read_usage(self._usage), model=self._model())]

    def _guarded(self, name: bytes, raw: bytes, signals: list[ModelSignal]) -> None:
        self._heard = True
        try:
            if name == b"error":  # by its name alone: a gateway's data may be of any shape
                raise stream_error(_error_body(raw))
            self._take(_salvage(raw), signals)
        except ModelRequestError as error:
            self.failure = error
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            self.failure = _malformed(f"an event that is none of the Messages API's, {_shown(raw)!r}")

    def _take(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        match event["type"]:
            case "message_start":
                self._on_message_start(event, signals)
            case "content_block_start":
                self._on_block_start(event, signals)
            case "content_block_delta":
                self._on_block_delta(event, signals)
            case "content_block_stop":
                self._on_block_stop(event, signals)
            case "message_delta":
                self._on_message_delta(event)
            case "message_stop":
                self._on_message_stop(signals)
            case "error":
                raise stream_error(event)
            case _:
                pass  # a ping, or an event that this version does not know: nothing that it could say

    def _model(self) -> str | None:
        model = self._message.get("model")
        return model if isinstance(model, str) and model else None

    def _on_message_start(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        if self._started:
            raise _malformed("a second message_start")
        self._started = True
        message = event["message"]
        self._message = {key: message.get(key) for key in ("id", "model")}
        self._usage = merge_usage({}, message.get("usage"))
        signals.extend(self.unreported())

    def _on_block_start(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        index, begun = event["index"], event["content_block"]
        if not isinstance(index, int) or not isinstance(begun, dict):
            raise _malformed(f"a block without an index or content, {index!r}")
        if index in self._begun:
            raise _malformed(f"block {index} twice")
        self._begun.add(index)
        block = self._blocks[index] = _Block(index, begun)
        signals.append(BeginPart(block.part_id, block.kind))
        field = _PREVIEWED.get(block.kind)
        if field is not None and block.joined(field):
            signals.append(AppendText(block.part_id, block.joined(field)))

    def _on_block_delta(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        block = self._blocks.get(event["index"])
        if block is None:
            raise _malformed(f"a delta for block {event['index']!r}, which is not open")
        delta = event["delta"]
        block.fold(delta)
        text = delta.get(_PREVIEWED.get(block.kind, ""))
        if isinstance(text, str) and text:
            signals.append(AppendText(block.part_id, text))

    def _on_block_stop(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        block = self._blocks.pop(event["index"], None)
        if block is None:
            raise _malformed(f"the end of block {event['index']!r}, which is not open")
        signals.append(CommitPart(block.part_id, block.part(ended=True)))

    def _on_message_delta(self, event: dict[str, Any]) -> None:
        # Its usage is told with the answer, or before a failure.
        reason = (event.get("delta") or {}).get("stop_reason")
        if isinstance(reason, str):
            self._stop_reason = reason
        self._usage = merge_usage(self._usage, event.get("usage"))

    def _on_message_stop(self, signals: list[ModelSignal]) -> None:
        # Blocks that are open still were cut by max_tokens.
        signals.extend(CommitPart(block.part_id, block.part(ended=False)) for block in self._blocks.values())
        self._blocks.clear()
        response_id = self._message.get("id")
        reason = self._stop_reason or "end_turn"
        self.answer = Answer(
            finish_reason=FINISH_REASONS.get(reason, reason),
            usage=read_usage(self._usage) if self._usage else None,
            response_id=response_id if isinstance(response_id, str) else None,
            response_model=self._model(),
        )


_PREVIEWED: dict[PartKind | str, str] = {"text": "text", "reasoning": "thinking", "tool_call": "partial_json"}
"""Which field of a block is streamed to observers, by kind of part."""

CUT = "the stream ended before its message_stop; another attempt may succeed"
EMPTY = "the server answered 200 without a single event; another attempt may succeed"
NOT_A_STREAM = "the server answered 200 with something that is no event stream; check base_url"


def _malformed(what: str) -> ModelRequestError:
    return ModelRequestError(f"the provider's stream held {what}", error_class="server")


def _shown(raw: bytes) -> str:
    return raw[:120].decode("utf-8", "replace")


def _loads(raw: bytes) -> JSON:
    """Decode JSON; what msgspec refuses and the grammar allows (a lone surrogate) is mended."""
    try:
        return _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return scrub_json(json.loads(raw.decode("utf-8", "replace"), parse_constant=_refuse))


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _salvage(raw: bytes) -> dict[str, Any]:
    """Decode an event of any type; bytes that are not UTF-8 become U+FFFD, the rest is kept."""
    event = _loads(raw)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise _malformed(f"an event without a type, {_shown(raw)!r}")
    return event


def _error_body(raw: bytes) -> JSON:
    """Return what an error event says: its JSON, or its text where it is none."""
    try:
        return _loads(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace")


def _parse_input(raw: str) -> dict[str, JSON] | None:
    """Return a tool's input, None where the text is no JSON object. No text at all is an empty object."""
    if not raw:
        return {}
    try:
        value = _loads(raw.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
