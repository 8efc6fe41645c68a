"""The answer of the Messages API, read from its bytes: chunks in, the loop's model signals out.

`AnswerReader` holds no connection and waits for nothing, so the synchronous and the asynchronous model share
it. A failure that comes inside a chunk is kept in `failure`, because what was readable before it is to be
told first.
"""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from agentkit_loop.content import AppendText, BeginPart, CommitPart
from agentkit_loop.errors import ModelRequestError
from agentkit_loop.models.anthropic_blocks import OpenBlock, loads
from agentkit_loop.models.anthropic_failures import StreamSource, stream_error
from agentkit_loop.models.anthropic_usage import fallback_model, merge_usage, read_usage
from agentkit_loop.models.protocol import Answer, ModelSignal, UsageReport
from agentkit_loop.models.sse import MAX_EVENT_BYTES, SSEDecoder, SSEvent
from agentkit_loop.values import JSON

FINISH_REASONS = {
    "end_turn": "completed",
    "tool_use": "tool_call",
    "model_context_window_exceeded": "context_window_exceeded",
}
"""Stop reasons that the loop calls by another name; every other word is kept, also one that nobody knows."""


class _Text(msgspec.Struct, tag="text_delta", tag_field="type", gc=False):
    text: str


class _Thinking(msgspec.Struct, tag="thinking_delta", tag_field="type", gc=False):
    thinking: str


class _InputJson(msgspec.Struct, tag="input_json_delta", tag_field="type", gc=False):
    partial_json: str


class _Delta(msgspec.Struct, tag="content_block_delta", tag_field="type", gc=False):
    index: int


class _BlockDelta(_Delta, gc=False):
    """The one event that comes for every piece of the answer, so the only one with a type of its own."""

    delta: _Text | _Thinking | _InputJson


_DELTA = b"content_block_delta"
_DELTA_START = b"event: " + _DELTA + b"\ndata: "
_RUN = 4  # deltas from which on they are worth to be taken at once


# One decoder of all kinds: one of a single kind would take a delta that does not say its kind.
_decode_deltas = msgspec.json.Decoder(_BlockDelta).decode_lines
_RUNS: dict[type[Any], tuple[str, Callable[[Any], str]]] = {
    _Text: ("text", operator.attrgetter("text")),
    _InputJson: ("partial_json", operator.attrgetter("partial_json")),
    _Thinking: ("thinking", operator.attrgetter("thinking")),
}
"""Of each kind: its field, and what its text is."""
_delta_of = operator.attrgetter("delta")
_index_of = operator.attrgetter("index")

_decode_delta = msgspec.json.Decoder(_BlockDelta).decode


class AnswerReader:
    """Reads one answer: `feed` it every chunk, call `end` when the bytes end, then ask for the `result`.

    answer: the end of the stream, None before it. failure: what went wrong inside the stream; to be raised
    after the signals of the chunk that it came in. is_over: whether one of both came. source: who answered,
    to be set once it is known.
    """

    def __init__(self) -> None:
        self.source = StreamSource()
        self.answer: Answer | None = None
        self.failure: ModelRequestError | None = None
        self.is_over = False
        self._sse = SSEDecoder()
        self._blocks: dict[int, OpenBlock] = {}
        self._begun: set[int] = set()
        self._usage: dict[str, JSON] = {}
        self._reported: dict[str, JSON] = {}
        self._message: dict[str, JSON] = {}
        self._started = False
        self._heard = False  # any event at all, so that the bytes were an event stream
        self._unfinished_since: float | None = None  # when an event began that has not ended, monotonic
        self._head = b""  # how the bytes began, until an event is heard
        self._stop_reason: str | None = None
        self._stop_details: dict[str, JSON] | None = None

    def feed(self, chunk: bytes) -> list[ModelSignal]:
        """Take the next bytes and return what they say; after the end or a failure nothing any more."""
        signals: list[ModelSignal] = []
        if self.is_over:
            return signals
        lone = self._sse.lone_data(chunk, _DELTA_START)
        events: list[SSEvent | list[bytes]]
        events = self._sse.feed_runs(chunk, _DELTA_START) if lone is None else [(_DELTA, lone)]
        if not events:
            self._look(chunk)
        elif lone is None:
            self._unfinished_since = None
        self._feed(events, signals)
        return signals

    def _feed(self, events: Iterable[SSEvent | list[bytes]], signals: list[ModelSignal]) -> bool:
        """Take events, of which a list is the data of deltas; return whether the answer goes on."""
        for each in events:
            if each.__class__ is list:
                run: list[Any] = each
                is_taken = len(run) >= _RUN and self._took_run(run, signals)
                if is_taken or self._feed([(_DELTA, raw) for raw in run], signals):
                    continue
                return False
            name, raw = each
            try:
                event = _decode_delta(raw)
                block = self._blocks[event.index]
            except (ValueError, RecursionError, KeyError):
                # Another event, another delta, bytes that need mending, or a block that is not open.
                if self._guarded(name, raw, signals):
                    continue
                return False
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
            if block.preview == field:
                signals.append(AppendText(block.part_id, text))
        return True

    def _took_run(self, run: list[bytes], signals: list[ModelSignal]) -> bool:
        """Take deltas of one kind and block at once, a quarter of the cost; False, and nothing taken, for others.

        run: the data of each, without ends of line.
        """
        lines, count = b"\n".join(run), len(run)
        if lines.count(b"}\n{") != count - 1:  # so that no value goes on in another line
            return False
        try:
            events = _decode_deltas(lines)
        except (ValueError, RecursionError):
            return False
        deltas = list(map(_delta_of, events))
        kinds = set(map(type, deltas))
        block = self._blocks.get(events[0].index) if len(events) == count else None
        if block is None or len(kinds) != 1 or len(set(map(_index_of, events))) != 1:
            return False
        field, text_of = _RUNS[kinds.pop()]
        texts = list(filter(None, map(text_of, deltas)))
        if texts:
            block.pieces.setdefault(field, []).extend(texts)
        if block.preview == field:
            signals += map(AppendText, itertools.repeat(block.part_id), texts)
        return True

    def take(self, event: dict[str, Any]) -> list[ModelSignal]:
        """Take one event that somebody else has read, and return what it says; a failure stands in `failure`."""
        signals: list[ModelSignal] = []
        if self.is_over:
            return signals
        try:
            self._take(event, signals)
        except ModelRequestError as error:
            self._fail(error)
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            self._fail(_malformed(f"an event that is none of the Messages API's, {str(event)[:120]!r}"))
        return signals

    def piece(self, index: int, field: str, text: object) -> AppendText | None:
        """Take a piece of a block as `take` does, the short way; None, and nothing taken, where it is none to tell."""
        block = self._blocks.get(index)
        if self.is_over or block is None or block.preview != field or not text or type(text) is not str:
            return None
        block.pieces.setdefault(field, []).append(text)
        return AppendText(block.part_id, text)

    def check(self) -> None:
        """Raise the failure that came inside the stream, if one did."""
        if self.failure is not None:
            raise self.failure

    def end(self) -> None:
        """Take note that no more bytes come; raises ModelRequestError where the answer is not whole."""
        if self.answer is not None:
            return
        if self._sse.overflowed:
            raise ModelRequestError(TOO_LONG, error_class="other")
        if self._heard or self._may_be_stream():
            raise ModelRequestError(CUT, error_class="stream_cut")
        if self._head.strip():
            raise self._no_stream()
        raise ModelRequestError(
            f"{self.source.answered} and nothing in it; {AGAIN}", error_class="stream_cut"
        )

    def result(self) -> Answer:
        """Return the answer; raises ModelRequestError as `end` does."""
        self.end()
        assert self.answer is not None  # noqa: S101 - `end` has looked
        return self.answer

    def unreported(self) -> list[ModelSignal]:
        """Return the usage that came and was not told yet: at the start, and where a stream breaks."""
        if self._usage == self._reported:
            return []
        self._reported = self._usage
        return [UsageReport(usage=read_usage(self._usage), model=self._model())]

    def _look(self, chunk: bytes) -> None:
        """Look at bytes that ended no event: whether they ever will, and whether they are a stream at all."""
        if self._sse.overflowed:
            self._fail(ModelRequestError(TOO_LONG, error_class="other"))
        elif self._is_late():
            self._fail(ModelRequestError(f"{DRIPS} of {self.source.timeout_s:g} s", error_class="timeout"))
        elif not self._heard:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
            # One that does not say that it is one may be a page of any length, so it is told of at once.
            full = len(self._head) == HEAD_BYTES and bool(self._head.strip())
            if full and not self.source.is_declared and not self._may_be_stream():
                self._fail(self._no_stream())

    def _is_late(self) -> bool:
        """Whether an event takes longer than a silence may: drops keep a transport's own timeout waiting."""
        now = time.monotonic()
        if self._unfinished_since is None:
            self._unfinished_since = now
        timeout_s = self.source.timeout_s
        return timeout_s is not None and now - self._unfinished_since > timeout_s

    def _fail(self, failure: ModelRequestError) -> None:
        self.failure, self.is_over = failure, True

    def _may_be_stream(self) -> bool:
        """Whether the bytes began as an event stream does: with a comment or the name of a field."""
        head = self._head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
        return bool(head) and any(head.startswith(field) or field.startswith(head) for field in _FIELDS)

    def _no_stream(self) -> ModelRequestError:
        text = f"{self.source.answered}, which is no event stream: {_shown(self._head.strip())!r}; check base_url"
        return ModelRequestError(text, error_class="other")

    def _guarded(self, name: bytes, raw: bytes, signals: list[ModelSignal]) -> bool:
        """Take an event of any kind; return whether the answer goes on after it."""
        self._heard = True
        try:
            if name == b"error":  # by its name alone: a gateway's data may be of any shape
                raise stream_error(_error_body(raw))
            self._take(_salvage(raw), signals)
        except ModelRequestError as error:
            self._fail(error)
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            self._fail(_malformed(f"an event that is none of the Messages API's, {_shown(raw)!r}"))
        return not self.is_over

    def _take(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        kind = event["type"]
        if kind in _INSIDE and not self._started:
            raise _malformed(f"a {kind} before its message_start")
        match kind:
            case "message_start":
                self._on_message_start(event, signals)
            case "content_block_start":
                self._on_block_start(event, signals)
            case "content_block_delta":
                self._on_block_delta(event, signals)
            case "content_block_stop":
                self._on_block_stop(event, signals)
            case "message_delta":
                self._on_message_delta(event, signals)
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
        block = self._blocks[index] = OpenBlock(index, begun)
        signals.append(BeginPart(block.part_id, block.kind))
        if block.preview is not None and (text := block.joined(block.preview)):
            signals.append(AppendText(block.part_id, text))

    def _on_block_delta(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        block = self._blocks.get(event["index"])
        if block is None:
            raise _malformed(f"a delta for block {event['index']!r}, which is not open")
        delta = event["delta"]
        block.fold(delta)
        text = delta.get(block.preview)
        if isinstance(text, str) and text:
            signals.append(AppendText(block.part_id, text))

    def _on_block_stop(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        block = self._blocks.pop(event["index"], None)
        if block is None:
            raise _malformed(f"the end of block {event['index']!r}, which is not open")
        signals.append(CommitPart(block.part_id, block.part(ended=True)))

    def _on_message_delta(self, event: dict[str, Any], signals: list[ModelSignal]) -> None:
        delta = event.get("delta")
        if isinstance(delta, dict):
            reason, details = delta.get("stop_reason"), delta.get("stop_details")
            if isinstance(reason, str):
                self._stop_reason = reason
            if isinstance(details, dict):
                self._stop_details = details
        # Its usage is told with the answer, or before a failure …
        self._usage = merge_usage(self._usage, event.get("usage"))
        model = fallback_model(self._usage)
        if model is not None and model != self._message.get("model"):
            # … but at once where another model than the one told so far is billed for it.
            self._message["model"] = model
            signals.extend(self.unreported())

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
            stop_details=self._stop_details,
        )
        self.is_over = True


HEAD_BYTES = 200
"""How many of the first bytes are kept until an event is heard."""

_FIELDS = (b":", b"event", b"data", b"id", b"retry")

AGAIN = "another attempt may succeed"
CUT = f"the stream ended before its message_stop; {AGAIN}"
DRIPS = "the server sent bytes, but no whole event within the timeout"
TOO_LONG = (
    f"the server sent more than {MAX_EVENT_BYTES // 2**20} MB without an end of the event; check base_url"
)

_INSIDE = frozenset(
    {"content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
)
"""Events that belong to a message, so that one has to have begun."""


def _malformed(what: str) -> ModelRequestError:
    return ModelRequestError(f"the provider's stream held {what}", error_class="server")


def _shown(raw: bytes) -> str:
    return raw[:120].decode("utf-8", "replace")


def _salvage(raw: bytes) -> dict[str, Any]:
    """Decode an event of any type; bytes that are not UTF-8 become U+FFFD, the rest is kept."""
    event = loads(raw)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise _malformed(f"an event without a type, {_shown(raw)!r}")
    return event


def _error_body(raw: bytes) -> JSON:
    """Return what an error event says: its JSON, or its text where it is none."""
    try:
        return loads(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace")
