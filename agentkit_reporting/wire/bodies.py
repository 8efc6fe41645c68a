"""A body as it is recorded: decoded, its secrets masked, bounded, with a mark for whatever is not as it was sent.

A body is text: JSON and event streams stay letter for letter as they were sent, unless something in them was masked;
then they are written anew. What is no text is base64. A field that is missing says that there is nothing to say:

    size      bytes that passed, as they were on the wire
    text      what was kept of it; encoding: "base64" where that is no text
    cut       bytes left out at the end: the body is longer than the bound, or its last event was not whole
    masked    how many secrets were masked in it
    packed    the content encoding that was undone, such as "gzip"
    withheld  why nothing of it was kept
"""

from __future__ import annotations

import base64
import contextlib
import functools
import re
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from agentkit_loop.values import JSON
from agentkit_reporting.redaction.redactor import Redactor
from agentkit_reporting.wire.event_streams import Chain, scrub_events, unambiguous

__all__ = ["Body", "Redactors", "body_record", "masked_text"]

Body: TypeAlias = dict[str, JSON]
"""As the module's docstring says."""

Redactors: TypeAlias = Sequence[Redactor]
"""What masks, one after the other."""

_BLOCK = 4_096  # bytes that are unpacked at once, so that a bomb is noticed
_JSON = re.compile(r"[ \t\r\n]*[\[{\"]")
_STREAM = re.compile(r"data:|(?:(?:(?:event|id|retry):|:)[^\r\n]*[\r\n]+)+data:")  # where no header says so
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_MARK = "\ufeff"  # of the byte order, before a text
_TEXTS = ("text/", "json", "xml", "javascript", "form-urlencoded", "event-stream")


def body_record(
    kept: bytes, size: int | None, headers: dict[str, str], redactors: Redactors, most: int
) -> Body:
    """Return the record of a body.

    kept: its beginning, raw. size: of all that passed; None where kept is all of it. headers: by name in lower case.
    most: bytes that are recorded. Raises what a rule of the host's does.
    """
    size = len(kept) if size is None else size
    told: Body = {"size": size}
    if not size:
        return told
    whole = size == len(kept)
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding and encoding != "identity":
        unpacked, is_all = _unpacked(kept, encoding, most)
        if unpacked is None:
            return {**told, "withheld": f"content encoding {encoding!r} could not be undone"}
        kept, whole = unpacked, whole and is_all
        told["packed"] = encoding
    if len(kept) > most:
        kept, whole = kept[:most], False
    kind = headers.get("content-type", "").lower()
    text, left = _decoded(kept, kind, whole=whole)
    if text is None:
        return {**told, **_binary(kept, size, redactors, whole=whole)}
    scrubbed, masked, dropped = _scrubbed(text, kind, redactors, whole=whole)
    told["text"] = scrubbed
    if not whole or dropped:
        exact = (
            not masked and "packed" not in told
        )  # else what was left out cannot be told from what was changed
        left_out = size - len(scrubbed.encode()) if exact else size - len(kept) + left + dropped
        told["cut"] = max(left_out, 0)
    if masked:
        told["masked"] = masked
    return told


def masked_text(text: str, redactors: Redactors) -> str:
    """Return a short text, such as an address or an error's, without its secrets."""
    return functools.reduce(lambda told, redactor: redactor.text(told), redactors, text)


def _unpacked(kept: bytes, encoding: str, most: int) -> tuple[bytes | None, bool]:
    """Return the beginning of what was packed and whether it is all; None where it cannot be unpacked."""
    import httpx2  # noqa: PLC0415 - it is there where anything was captured; takes a tenth of a second

    blocks = (kept[place : place + _BLOCK] for place in range(0, len(kept), _BLOCK))
    response = httpx2.Response(200, headers={"content-encoding": encoding}, content=blocks)
    out = bytearray()
    try:
        for piece in response.iter_bytes():
            out += piece
            if len(out) > most:
                return bytes(out[:most]), False
    except httpx2.DecodingError:
        return (bytes(out), False) if out else (None, False)
    return (None, False) if bytes(out) == kept and out else (bytes(out), True)


def _decoded(kept: bytes, kind: str, *, whole: bool) -> tuple[str | None, int]:
    """Return the body as text and how many bytes of half a character were left out; None where it is no text."""
    try:
        return kept.decode(), 0
    except UnicodeDecodeError as error:
        if not whole and len(kept) - error.start < 4:  # noqa: PLR2004 - bytes of the longest character
            return kept[: error.start].decode(), len(kept) - error.start
    if any(each in kind for each in _TEXTS):
        return kept.decode("utf-8", "replace"), 0
    return None, 0


def _binary(kept: bytes, size: int, redactors: Redactors, *, whole: bool) -> Body:
    # Each byte as a character: a secret is ASCII, and what is none comes back byte for byte.
    text = kept.decode("latin-1")
    told, masked = Chain(redactors).feed(text, is_last=whole)
    found: Body = {"text": base64.b64encode(told.encode("latin-1")).decode(), "encoding": "base64"}
    if not whole:
        found["cut"] = size - len(kept)
    if masked:
        found["masked"] = masked
    return found


def _scrubbed(text: str, kind: str, redactors: Redactors, *, whole: bool) -> tuple[str, int, int]:
    """Return a text without its secrets, how many were masked, and how many bytes more were left out."""
    if text.startswith(_MARK):
        told, masked, dropped = _scrubbed(text[1:], kind, redactors, whole=whole)
        return _MARK + told, masked, dropped
    if "event-stream" in kind or _STREAM.match(text):
        told, masked, dropped = scrub_events(text, redactors, whole=whole)
        if told or not whole:
            return told, masked, dropped
    if whole:
        return *_whole(text, redactors), 0
    told, masked = Chain(redactors, is_json=_JSON.match(text) is not None).feed(text)
    return told, masked, 0


def _whole(text: str, redactors: Redactors) -> tuple[str, int]:
    is_json = _JSON.match(text) is not None
    try:
        value = unambiguous(text) if is_json else None
    except ValueError:
        return _lines(text, redactors)
    if not is_json:
        return _whole_text(text, redactors)
    told = functools.reduce(lambda value, redactor: redactor.value(value), redactors, value)
    if told is value or told == value:
        return text, 0
    return msgspec.json.encode(told).decode(), _differences(value, told)


def _lines(text: str, redactors: Redactors) -> tuple[str, int]:
    """Return what begins as JSON without being it, line by line where each is a value of its own."""
    lines = _LINE.findall(text)
    if len(lines) > 1:
        with contextlib.suppress(ValueError):
            unambiguous(lines[0])
            told = [_whole(line, redactors) for line in lines]
            return "".join(line for line, _ in told), sum(masked for _, masked in told)
    masked = 0
    for redactor in redactors:
        told_text, found = redactor.json_text(text)
        if found:
            text, masked = told_text, masked + found
    return text, masked


def _whole_text(text: str, redactors: Redactors) -> tuple[str, int]:
    masked = 0
    for redactor in redactors:
        text, found = redactor.stream().feed(text, is_last=True)
        masked += len(found)
    return text, masked


def _differences(value: JSON, told: JSON) -> int:
    """Return in how many places a value was changed."""
    if isinstance(value, dict) and isinstance(told, dict) and len(value) == len(told):
        # A key with a secret in it has another name now, at the same place.
        pairs = zip(value.items(), told.items(), strict=True)
        return sum((old != new) + _differences(a, b) for (old, a), (new, b) in pairs)
    if isinstance(value, list) and isinstance(told, list) and len(value) == len(told):
        return sum(map(_differences, value, told))
    return int(value != told)
