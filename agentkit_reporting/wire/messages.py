"""The message that a stream of the Messages API makes, in the form in which it comes without streaming."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from agentkit_loop.models.sse import SSEDecoder

__all__ = ["StreamedMessage", "stream_error", "streamed_message"]

_ERROR_LINE = re.compile(
    r"^event: ?error\r?$", re.MULTILINE
)  # what was said has no line of its own: it is JSON
_PIECES = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


class StreamedMessage:
    """A stream read. message: what came of it, None where no message began. is_whole: whether it said its end.

    errors: what `error` events say. others: how many events are none of a message.
    """

    def __init__(self) -> None:
        self.message: dict[str, Any] | None = None
        self.is_whole = False
        self.errors: list[Any] = []
        self.others = 0
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}

    def take(self, event: dict[str, Any]) -> None:
        """Take the next event."""
        match event:
            case {"type": "message_start", "message": dict(message)}:
                self.message = dict(message)
            case {"type": "content_block_start", "index": int(index), "content_block": dict(block)}:
                self._blocks[index] = dict(block)
            case {"type": "content_block_delta", "index": int(index), "delta": dict(delta)}:
                self._add(index, delta)
            case {"type": "message_delta"}:
                self._close(event)
            case {"type": "message_stop"}:
                self.is_whole = True
            case {"type": "error"}:
                self.errors.append(event.get("error"))
            case {"type": "content_block_stop" | "ping"}:
                pass
            case _:
                self.others += 1

    def _add(self, index: int, delta: dict[str, Any]) -> None:
        field = _PIECES.get(str(delta.get("type")))
        piece = delta.get(field or "")
        if field is not None and isinstance(piece, str):
            self._pieces.setdefault((index, field), []).append(piece)
        elif isinstance(delta.get("citation"), dict):
            block = self._blocks.setdefault(index, {})
            before = block.get("citations")
            block["citations"] = [*(before if isinstance(before, list) else ()), delta["citation"]]
        else:
            self.others += 1

    def _close(self, event: dict[str, Any]) -> None:
        message = self.message = self.message or {}
        delta, usage = event.get("delta"), event.get("usage")
        message.update(delta if isinstance(delta, dict) else {})
        if isinstance(usage, dict):
            before = message.get("usage")
            message["usage"] = {**(before if isinstance(before, dict) else {}), **usage}

    def finish(self) -> None:
        """Put the pieces into their blocks, and the blocks into the message."""
        for (index, field), pieces in self._pieces.items():
            block, text = self._blocks.setdefault(index, {"type": "?"}), "".join(pieces)
            if field != "partial_json":
                before = block.get(field)
                block[field] = (before if isinstance(before, str) else "") + text
                continue
            try:
                block["input"] = msgspec.json.decode(text or "{}")
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                block["partial_json"] = text  # it did not end
        if self._blocks:
            self.message = self.message or {}
        if self.message is not None:
            self.message["content"] = [block for _, block in sorted(self._blocks.items())]


def streamed_message(text: str) -> StreamedMessage | None:
    """Return what a stream of events says, None for a text that is none."""
    events = SSEDecoder().feed(text.encode("utf-8", "replace"))
    if not events:
        return None
    found = StreamedMessage()
    for _, data in events:
        try:
            event = msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            event = None
        if isinstance(event, dict):
            found.take(event)
        else:
            found.others += 1
    found.finish()
    return found


def stream_error(text: str) -> str | None:
    """Return the type of the error by which the server ended a stream, as `overloaded_error`; None where it did not."""
    begun = _ERROR_LINE.search(text)
    found = None if begun is None else streamed_message(text[begun.start() :])
    if found is None or not found.errors:
        return None
    error = found.errors[0]
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) and kind else "error"
