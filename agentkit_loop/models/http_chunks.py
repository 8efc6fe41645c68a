"""Chunks of an HTTP/1.1 response that came together, as one: what the layers above do for a chunk they do once.

A server that streams sends each event as a chunk of its own (RFC 9112, section 7.1), and the client's layers take 8 µs
for each: a dozen frames of generators, an event of the protocol's parser. Where the network was faster than the reader,
many came with one read. They are told as one chunk of the same bytes, so the body is the same, byte for byte; for a
chunk that came alone nothing changes.

Nothing is held back, and nothing is judged here: what is not exactly a chunk in its plainest form (an extension, a
trailer, something malformed) is passed on as it came, and so is all that follows it.
"""

from __future__ import annotations

import re

__all__ = ["ChunkMerger", "is_http2"]

_HTTP2 = b"PRI "  # how a connection of HTTP/2 begins (RFC 9113, 3.4), and no request of HTTP/1.1
_MOST_HEAD = 64 * 1024
_MOST_DIGITS = 8
_LONGEST_LINE = _MOST_DIGITS + 2
_END_OF_HEAD = b"\r\n\r\n"
_IS_FINAL = re.compile(rb"HTTP/1\.1 [2-5]\d\d ")
_IS_INTERIM = re.compile(rb"HTTP/1\.1 1\d\d ")
_IS_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


class ChunkMerger:
    """Give it what is read of one connection, in order; it returns the same with chunks merged. Holds nothing back."""

    def __init__(self) -> None:
        self._head: bytes | None = None  # what came of a response's head; None: what comes is passed on
        self._in_body = False
        self._rest = 0  # bytes of a chunk, its line end included, that are still to come
        self._line = b""  # how the line of a chunk's size began

    def begin(self) -> None:
        """Take note that a request is written: what comes next is the head of its response."""
        self._head, self._in_body, self._rest, self._line = b"", False, 0, b""

    def feed(self, data: bytes) -> bytes:
        """Return what is to be told of the next bytes."""
        if self._in_body:
            return self._merged(data, 0)
        return data if self._head is None else self._after_head(data)

    def _after_head(self, data: bytes) -> bytes:
        """Look for the end of the head, and merge what comes behind it."""
        before = self._head or b""
        head = before + data
        start = 0
        while (end := head.find(_END_OF_HEAD, start)) >= 0 and _IS_INTERIM.match(head, start):
            start = end + len(_END_OF_HEAD)  # 100 Continue and its like: the response is still to come
        if end < 0:
            self._head = head[start:] if len(head) - start < _MOST_HEAD else None
            return data
        self._head = None
        body = end + len(_END_OF_HEAD)
        if not _IS_FINAL.match(head, start) or not _IS_CHUNKED.search(head, start, end + 2):
            return data
        self._in_body = True
        return self._merged(data, body - len(before))

    def _merged(self, data: bytes, at: int) -> bytes:
        """Return the data with the chunks from `at` on merged, as far as they are whole."""
        if self._line:
            return self._with_line(data, at)
        if self._rest:
            taken = min(self._rest, len(data) - at)
            self._rest -= taken
            at += taken
        begin, pieces = at, []
        while at < len(data):
            end = data.find(b"\r\n", at, at + _LONGEST_LINE)
            size = _size_of(data[at:end]) if end >= 0 else None
            if size is None:
                self._stop_at(data[at:])
                break
            after = end + 2 + size + 2
            if after > len(data):
                self._rest = after - len(data)
                break
            if data[after - 2 : after] != b"\r\n":
                self._in_body = False
                break
            pieces.append(data[end + 2 : after - 2])
            at = after
        if len(pieces) < 2:  # noqa: PLR2004 - one is as it was
            return data
        body = b"".join(pieces)
        return b"%b%x\r\n%b\r\n%b" % (data[:begin], len(body), body, data[at:])

    def _with_line(self, data: bytes, at: int) -> bytes:
        """Go on after the line of a chunk's size that came in pieces, whose beginning was told already."""
        known, self._line = self._line, b""
        line = known + data[at : at + _LONGEST_LINE]
        end = line.find(b"\r\n")
        size = _size_of(line[:end]) if end >= 0 else None
        if size is None:
            self._stop_at(line if end < 0 else data)
            return data
        self._rest = end + 2 - len(known) + size + 2
        return self._merged(data, at)

    def _stop_at(self, rest: bytes) -> None:
        """Keep how the line of a size began, to go on with it; merge no more of this response where it is none."""
        digits = rest.removesuffix(b"\r")
        self._in_body = len(digits) <= _MOST_DIGITS and (not digits or bool(_SIZE.fullmatch(digits)))
        self._line = rest if self._in_body else b""


def _size_of(line: bytes) -> int | None:
    """Return the size that a chunk's line says; None for the last one, of 0 bytes, and for what is no plain size."""
    return (int(line, 16) or None) if _SIZE.fullmatch(line) else None


def is_http2(first_written: bytes) -> bool:
    """Whether a connection speaks HTTP/2, which has no chunks, by what is written to it first."""
    return bytes(first_written[: len(_HTTP2)]) == _HTTP2
