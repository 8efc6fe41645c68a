"""The chunked body of an HTTP/1.1 response, read past the layers above: a tenth of what they take for a chunk.

A server that streams sends each event as a chunk of its own (RFC 9112, section 7.1), and the client's layers pull each
through a dozen frames of generators and the protocol's parser: 1,400 steps of the interpreter, 24 µs of CPU where each
comes by itself (`python -m benchmarks loop`, "paced"). So the head of a response goes to the parser, and of a
chunked body what stands before its last chunk goes straight to who reads it; then the parser goes on with the last
chunk, as if the body had been empty, and the connection is used again as ever.

Nothing is judged here: from what is not exactly a chunk in its plainest form (an extension, a trailer, something
malformed) the parser reads on, and says what is wrong. A body that nobody reads past it is the parser's as a whole.
"""

from __future__ import annotations

import re

__all__ = ["READ_BYTES", "BodyReader", "is_http2"]

READ_BYTES = 64 * 1024
"""How much is read at once, at most; as httpcore2 does."""

_HTTP2 = b"PRI "  # how a connection of HTTP/2 begins (RFC 9113, 3.4), and no request of HTTP/1.1
_MOST_HEAD = 64 * 1024
_MOST_DIGITS = 8
_LONGEST_LINE = _MOST_DIGITS + 2
_END_OF_HEAD = re.compile(rb"\n\r?\n")  # as the parser looks for it: a line may end in LF alone
_HAS_BODY = re.compile(rb"HTTP/1\.1 (?!204|304)[2-5]\d\d ")
_IS_INTERIM = re.compile(rb"HTTP/1\.1 1\d\d ")
_IS_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_PART_OF_LINE = re.compile(rb"[0-9A-Fa-f]{0,8}\r?")


class BodyReader:
    """Where one connection stands, by what was read of it, in order.

    is_past: whether a chunked body is to be read here, of which the parser was given nothing; set to False, its bytes
    are the parser's. kept: bytes that were read and given to nobody; the parser's where `is_past` is False. failure:
    what a read of the body raised, to be set by who read: the parser's layers tell it.
    """

    def __init__(self) -> None:
        self.is_past = False
        self.kept = b""
        self.failure: Exception | None = None
        self._head: bytes | None = None  # what came of a response's head; None: none is awaited
        self._rest = 0  # bytes of a chunk's data that are still to come
        self._in_chunk = False  # the line end behind a chunk's data is still to come

    def begin(self) -> None:
        """Take note that a request is written: what comes next is the head of its response."""
        self.is_past, self.kept, self.failure = False, b"", None
        self._head, self._rest, self._in_chunk = b"", 0, False

    def hand_over(self) -> bytes:
        """Return what is kept, for the parser, which reads the body from here on."""
        kept, self.kept, self.is_past = self.kept, b"", False
        return kept

    def held(self) -> bytes | None:
        """Return what the parser is given without a read, None where that is nothing; raises `failure`, once."""
        if self.kept:
            return self.hand_over()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return None

    def feed(self, data: bytes) -> bytes:
        """Return what the parser is to be given of the next bytes, which were read for it; the rest is kept."""
        self.is_past = False
        if self._head is None:
            return data
        before = self._head
        head = before + data
        start = 0
        while (end := _END_OF_HEAD.search(head, start)) and _IS_INTERIM.match(head, start):
            start = end.end()  # 100 Continue and its like: the response is still to come
        if end is None:
            self._head = head[start:] if len(head) - start < _MOST_HEAD else None
            return data
        self._head = None
        if not _HAS_BODY.match(head, start) or not _IS_CHUNKED.search(head, start, end.start() + 1):
            return data
        body = end.end()
        self.is_past, self.kept = True, head[body:]
        return data[: body - len(before)]

    def take(self, data: bytes) -> bytes:
        """Return what of the body is in the next bytes and in what was kept; `is_past` says whether it goes on."""
        if self.kept:
            data, self.kept = self.kept + data, b""
        elif not self._in_chunk:
            # One whole chunk, as most reads of a slow stream are: a third of the work of what follows.
            end = data.find(b"\r\n", 0, _LONGEST_LINE)
            if end > 0 and data.endswith(b"\r\n") and len(data) - end - 4 == _size_of(data[:end]) > 0:
                return data[end + 2 : -2]
        pieces: list[bytes] = []
        at = 0
        if self._rest:
            pieces.append(data[: self._rest])
            at = len(pieces[0])
            self._rest -= at
        while not self._rest:
            if self._in_chunk:
                after = data[at : at + 2]
                if after != b"\r\n":
                    may_come = b"\r\n".startswith(after)
                    # With a line end in front, which begins no chunk, the parser refuses what is malformed.
                    self._keep(after if may_come else b"\r\n" + data[at:], goes_on=may_come)
                    break
                at += 2
                self._in_chunk = False
            end = data.find(b"\r\n", at, at + _LONGEST_LINE)
            size = _size_of(data[at:end]) if end >= 0 else 0
            if not size:
                rest = data[at:]
                self._keep(rest, goes_on=end < 0 and bool(_PART_OF_LINE.fullmatch(rest)))
                break
            begin = end + 2
            pieces.append(data[begin : begin + size])
            at = begin + len(pieces[-1])
            self._rest, self._in_chunk = begin + size - at, True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _keep(self, rest: bytes, *, goes_on: bool) -> None:
        self.kept, self.is_past = rest, goes_on


def _size_of(line: bytes) -> int:
    """Return the size that a chunk's line says; 0 for the last one, and for what is no plain size."""
    return int(line, 16) if _SIZE.fullmatch(line) else 0


def is_http2(first_written: bytes) -> bool:
    """Whether a connection speaks HTTP/2, which has no chunks, by what is written to it first."""
    return bytes(first_written[: len(_HTTP2)]) == _HTTP2
