"""Server-sent events without their secrets, those too that were split over several events of a stream.

The text of a block comes in pieces, and a secret may lie over two of them. So the pieces of each block are one text
here, as they are to whoever reads them: it is looked at whole first, and where nothing was found the stream stays
letter for letter as it came. Else it is written anew, piece by piece, with what was held back in an event of its own.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from agentkit_loop.models.sse import SSEDecoder, SSEvent
from agentkit_reporting.redaction.json_stream import JsonStream
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.redaction.text_stream import TextStream

__all__ = ["Chain", "scrub_events", "unambiguous"]

_OTHER_LINE = re.compile(r"^(?!data:)[^\r\n]+|(?<=[\r\n])(?!data:)[^\r\n]+")
_JSON_FIELD = "partial_json"
_DELTA = b"content_block_delta"
_FIELDS_OF_DELTA = 3  # type, index and delta
_FIELDS_OF_PIECE = 2  # type and text

_Event = tuple[SSEvent, Any]  # as it came, and its data where that is JSON


def scrub_events(text: str, redactors: Sequence[Redactor], *, whole: bool) -> tuple[str, int, int]:
    """Return an event stream without secrets, how many were masked, and bytes left out at its end.

    whole: whether it was kept to its end; where not, the last event is left out unless it is whole, and of each text
    what may be the beginning of a secret.
    """
    raw = text.encode()
    end = _end_of_events(raw)
    events = [(event, _data(event[1])) for event in SSEDecoder().feed(raw[:end] if end else raw)]
    dropped = len(raw) - end
    if not events:
        return "", 0, len(raw)
    is_whole = whole and _ends_all(events)
    if is_whole and _is_plain(events, raw[:end].decode(), redactors):
        return raw[:end].decode(), 0, dropped
    writer = _Rewriter(redactors)
    told = "".join(map(writer.event, events))
    return told, max(writer.masked, int(is_whole)), dropped


def _end_of_events(raw: bytes) -> int:
    """Return where the last event that is whole ends."""
    return max(
        (raw.rfind(mark) + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if mark in raw), default=0
    )


def unambiguous(text: str | bytes) -> Any:
    """Return what JSON says; raises ValueError where it is none, or a name in an object comes twice.

    Of two values of one name a reader sees one, and whoever looks for secrets might see the other.
    """
    try:
        value = msgspec.json.decode(text)
        _decode_once(text if isinstance(text, str) else text.decode())
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(type(error).__name__) from None  # its own text may quote what it read
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a name comes twice")
    return told


_decode_once = json.JSONDecoder(object_pairs_hook=_once).decode


def _data(data: bytes) -> Any:
    try:
        return unambiguous(data)
    except ValueError:
        return None


def _piece(data: Any) -> tuple[int, str, str] | None:
    """Return block, field and text of a piece of a block, None for all else."""
    if not isinstance(data, dict) or data.get("type") != "content_block_delta":
        return None
    delta, index = data.get("delta"), data.get("index")
    if not isinstance(delta, dict) or not isinstance(index, int):
        return None
    for field, text in delta.items():  # of a kind that is not known yet, too
        if field != "type" and isinstance(text, str):
            return index, field, text
    return None


def _ends_all(events: list[_Event]) -> bool:
    """Whether no block is open at the end: then no text can end within a secret."""
    is_open: set[Any] = set()
    for _, data in events:
        if isinstance(data, dict):
            if data.get("type") == "content_block_delta":
                is_open.add(data.get("index"))
            elif data.get("type") == "content_block_stop":
                is_open.discard(data.get("index"))
    return not is_open


def _is_plain(events: list[_Event], text: str, redactors: Sequence[Redactor]) -> bool:
    """Whether nothing in the events, nor in the blocks that their pieces make, is masked."""
    blocks: dict[tuple[Any, str], list[str]] = {}
    rest: list[Any] = list(dict.fromkeys(_OTHER_LINE.findall(text)))  # names, ids, comments
    for (name, data), value in events:
        found = _piece(value)
        if found is not None:
            blocks.setdefault(found[:2], []).append(found[2])
            if name == _DELTA and len(value) == _FIELDS_OF_DELTA and len(value["delta"]) == _FIELDS_OF_PIECE:
                continue  # all of it is in the block: most of a stream
        if value is not None:
            rest.append(value)
        elif _has_secret(data.decode("utf-8", "replace"), redactors):
            return False
    joined = {place: "".join(pieces) for place, pieces in blocks.items()}
    for (_, field), block in joined.items():
        rest.append(block)
        if field == _JSON_FIELD and _has_secret(block, redactors):
            return False
    return all(redactor.value(rest) == rest for redactor in redactors)


def _has_secret(text: str, redactors: Sequence[Redactor]) -> bool:
    """Whether something is masked in what may be JSON."""
    return any(redactor.json_text(text)[1] for redactor in redactors)


class _Rewriter:
    """Writes events anew. masked: how many secrets were masked so far."""

    def __init__(self, redactors: Sequence[Redactor]) -> None:
        self.masked = 0
        self._redactors = redactors
        self._open: dict[
            int, tuple[str, str, Chain]
        ] = {}  # by block: kind of its pieces, their field, stream

    def event(self, event: _Event) -> str:
        """Return one event, with another before it where a block ends that held something back."""
        (name, raw), data = event
        if data is None:
            return _written(name, self._unclear(raw.decode("utf-8", "replace")))
        before = ""
        found = _piece(data)
        if found is not None:
            index, field, text = found
            kind = data["delta"]["type"]
            if index in self._open and self._open[index][1] != field:
                before = self._end(index)
            if index not in self._open:
                self._open[index] = kind, field, Chain(self._redactors, is_json=field == _JSON_FIELD)
            told_text, masked = self._open[index][2].feed(text)
            self.masked += masked
            data = self._whole({**data, "delta": {**data["delta"], field: ""}})
            data["delta"] = {**data["delta"], field: told_text}
            return before + _written(name, data)
        if isinstance(data, dict) and data.get("type") == "content_block_stop":
            before = self._end(data.get("index"))
        return before + _written(name, self._whole(data))

    def _end(self, index: Any) -> str:
        """Return an event with what the pieces of a block held back, empty where they did not."""
        opened = self._open.pop(index, None)
        if opened is None:
            return ""
        kind, field, chain = opened
        rest, masked = chain.feed("", is_last=True)
        self.masked += masked
        if not rest:
            return ""
        data = {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: rest}}
        return _written(b"content_block_delta", data)

    def _unclear(self, text: str) -> str:
        for redactor in self._redactors:
            told, masked = redactor.json_text(text)
            if masked:
                text, self.masked = told, self.masked + masked
        return text

    def _whole(self, value: Any) -> Any:
        told = functools.reduce(lambda value, redactor: redactor.value(value), self._redactors, value)
        self.masked += told is not value and told != value
        return told


class Chain:
    """The pieces of one text through several redactors, one after the other."""

    def __init__(self, redactors: Sequence[Redactor], *, is_json: bool = False) -> None:
        self._streams: list[TextStream | JsonStream] = [each.stream(is_json=is_json) for each in redactors]
        self._redactors = redactors

    def feed(self, piece: str, *, is_last: bool = False) -> tuple[str, int]:
        """Take the next piece; return what may go out, and how many masks are in it."""
        masked = 0
        for place, stream in enumerate(self._streams):
            told, found = stream.feed(piece, is_last=is_last)
            if isinstance(stream, JsonStream) and stream.is_broken:
                told += self._as_text(place, stream, is_last=is_last, found=found)
            piece, masked = told, masked + len(found)
        return piece, masked

    def _as_text(self, place: int, stream: JsonStream, *, is_last: bool, found: list[str]) -> str:
        """Go on with what ceased to be JSON as a text; nothing of it where it stands under a secret's name."""
        if stream.hides:
            return ""
        # Within a string its text goes on: a secret may have begun in it.
        plain = stream.broken_text or self._redactors[place].stream()
        self._streams[place] = plain
        told, more = plain.feed(stream.rest, is_last=is_last)
        found += more
        return told


def _written(name: bytes, data: Any) -> str:
    raw = data.encode() if isinstance(data, str) else msgspec.json.encode(data)
    lines = [b"event: " + name] if name else []
    lines += [b"data: " + line for line in raw.split(b"\n")]
    return b"\n".join((*lines, b"", b"")).decode("utf-8", "replace")
