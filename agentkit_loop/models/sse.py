"""Server-sent events from bytes, split at any place: the incremental half of an SSE client.

The rules are those of the HTML standard ("Interpreting an event stream"): a line ends at CR, LF or CRLF, an
event at an empty line, several `data` lines are joined by LF, a line that begins with a colon is a comment,
a byte order mark at the very start is dropped, and an event without data is none. `id` and `retry` mean
nothing to a request that is not reconnected, so they are ignored. What is not ended by an empty line when
the stream ends is no event. An event that has not ended after MAX_EVENT_BYTES never will: from then on
nothing is kept.
"""

from __future__ import annotations

import itertools
import operator
from typing import TypeAlias

SSEvent: TypeAlias = tuple[bytes, bytes]
"""The event's name, `b""` where it has none, and its data."""

MAX_EVENT_BYTES = 64 * 2**20
"""How much of one event is waited for: twice the 32 MB that the Messages API takes as a whole request."""

_BOM = b"\xef\xbb\xbf"
_END = b"\n\n"
_RUN = 4  # blocks from which on it is worth while to look for runs
_LINES = 3  # of an event: its name, its data, and the empty one that ends it


class SSEDecoder:
    """Give it the bytes as they come; it returns the events that they complete. Linear in the bytes.

    max_event_bytes: how much of an event that has not ended is kept. overflowed: whether one was longer; the
    rest of the stream is lost then, what was whole before it is not.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.overflowed = False
        self._max = max_event_bytes
        # What came of an event that has not ended; looked at once it has, so that one long event is not
        # searched and copied for every chunk of it.
        self._rest = bytearray()
        self._after_cr = False  # the last chunk ended in CR: an LF that comes first belongs to it
        self._at_start = True
        self._between = False  # surely between two events, after the first; looked at for every chunk

    def lone_data(self, chunk: bytes, start: bytes) -> bytes | None:
        """Return the data of a chunk that is one event and no more, as most chunks of a stream are.

        start: its first line and the `data: ` of its second. None for any other chunk, which is for `feed`;
        half the cost of that.
        """
        if (
            self._between
            and chunk.startswith(start)
            and chunk.endswith(_END)
            and chunk.count(b"\n") == _LINES
            and b"\r" not in chunk
        ):
            return chunk[len(start) : -2]
        return None

    def feed(self, chunk: bytes) -> list[SSEvent]:
        """Take the next bytes and return the events that they complete, in order."""
        return _events(self._blocks(chunk))

    def feed_runs(self, chunk: bytes, start: bytes) -> list[SSEvent | bytes]:
        """Do as `feed` does, but return the data of some events together, one a line.

        start: as in `lone_data`. Events that begin so and follow each other are told apart without a look at each,
        an eighth of the cost.
        """
        blocks = self._blocks(chunk)
        if len(blocks) < _RUN:
            return [*_events(blocks)]
        found: list[SSEvent | bytes] = []
        for is_run, each in itertools.groupby(blocks, operator.methodcaller("startswith", start)):
            run = list(each)
            together = b"\n".join(run) if is_run else b""
            if together.count(b"\n") == 2 * len(run) - 1:
                # Each has one end of line, that of its start: so the start stands nowhere else.
                found.append(together.replace(start, b""))
            else:
                found += _events(run)
        return found

    def _blocks(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the lines of each event that they complete."""
        if self.overflowed:
            return []
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_plain_lines(chunk)
        rest = self._rest
        if _END not in chunk and not (chunk[:1] == b"\n" and rest[-1:] == b"\n"):
            # An empty first line is an end too, but of nothing: it may stay in front of the next event.
            self._keep(chunk)
            return []
        if rest:
            chunk = bytes(rest) + chunk
            rest.clear()
        blocks = chunk.split(_END)
        unfinished = blocks.pop()
        self._between = not self._after_cr
        if unfinished:
            self._keep(unfinished)
        if self._at_start:
            self._at_start = False
            blocks[0] = blocks[0].removeprefix(_BOM)
        return blocks

    def _keep(self, piece: bytes) -> None:
        """Keep a piece of an event that has not ended."""
        self._between = False
        if len(self._rest) + len(piece) > self._max:
            self.overflowed = True
            self._rest.clear()
        else:
            self._rest += piece

    def _with_plain_lines(self, chunk: bytes) -> bytes:
        """Return the chunk with every line end as LF."""
        if not chunk:
            return chunk
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        self._after_cr = chunk[-1:] == b"\r"
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _events(blocks: list[bytes]) -> list[SSEvent]:
    """Return the events of their lines."""
    events: list[SSEvent] = []
    for block in blocks:
        # As servers send it, a name and one line of data: here, as a call would cost as much as the rest of it.
        if block[:7] == b"event: " and block.count(b"\n") == 1 and (at := block.find(b"\ndata: ")) > 0:
            events.append((block[7:at], block[at + 7 :]))
            continue
        event = _parse(block)
        if event is not None:
            events.append(event)
    return events


def _parse(block: bytes) -> SSEvent | None:
    """Return the event of its lines (LF only), None for one without data."""
    event, data = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event = value
    return (event, b"\n".join(data)) if data else None
