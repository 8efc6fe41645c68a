"""Server-sent events from bytes, split at any place: the incremental half of an SSE client.

The rules are those of the HTML standard ("Interpreting an event stream"): a line ends at CR, LF or CRLF, an
event at an empty line, several `data` lines are joined by LF, a line that begins with a colon is a comment,
a byte order mark at the very start is dropped, and an event without data is none. `id` and `retry` mean
nothing to a request that is not reconnected, so they are ignored. What is not ended by an empty line when
the stream ends is no event. An event that has not ended after MAX_EVENT_BYTES never will: from then on
nothing is kept.
"""

from __future__ import annotations

from typing import TypeAlias

SSEvent: TypeAlias = tuple[bytes, bytes]
"""The event's name, `b""` where it has none, and its data."""

MAX_EVENT_BYTES = 64 * 2**20
"""How much of one event is waited for: twice the 32 MB that the Messages API takes as a whole request."""

_BOM = b"\xef\xbb\xbf"
_END = b"\n\n"
_LF = 10  # as a number it is found seven times as fast in a short text as b"\n" is
_SHORT = 400  # bytes from which on it is worth while to look for runs
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
        ended = self._ended(chunk)
        return _events(ended) if ended else []

    def feed_runs(self, chunk: bytes, start: bytes) -> list[SSEvent | list[bytes]]:
        """Do as `feed` does, but return the data of events that follow each other and begin with `start` as one list.

        start: as in `lone_data`. The bytes are split where such events begin, so that nothing is done for each of
        them: a sixth of the cost.
        """
        ended = self._ended(chunk)
        if not ended:
            return []
        if len(ended) < _SHORT:  # of two or three events, where each by itself is a third cheaper
            return [*_events(ended)]
        first, *pieces = (_END + ended).split(_END + start)
        found: list[SSEvent | list[bytes]] = [*_events(first[len(_END) :])]
        begin = 0
        for end in [place for place, piece in enumerate(pieces) if _LF in piece]:
            # The last of a run has the events of other kinds behind it; one of several lines is in no run.
            data, _, others = pieces[end].partition(_END)
            is_whole = b"\n" not in data
            run = pieces[begin:end]
            if is_whole:
                run.append(data)
            if run:
                found.append(run)
            found += _events(others if is_whole else start + pieces[end])
            begin = end + 1
        if begin < len(pieces):
            found.append(pieces[begin:])
        return found

    def _ended(self, chunk: bytes) -> bytes:
        """Take the next bytes and return the events that they complete, without the end of the last."""
        if self.overflowed:
            return b""
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_plain_lines(chunk)
        rest = self._rest
        if _END not in chunk and not (chunk[:1] == b"\n" and rest[-1:] == b"\n"):
            # An empty first line is an end too, but of nothing: it may stay in front of the next event.
            self._keep(chunk)
            return b""
        if rest:
            chunk = bytes(rest) + chunk
            rest.clear()
        events, _, unfinished = chunk.rpartition(_END)
        self._between = not self._after_cr
        if unfinished:
            self._keep(unfinished)
        if self._at_start:
            self._at_start = False
            events = events.removeprefix(_BOM)
        return events

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


def _events(ended: bytes) -> list[SSEvent]:
    """Return events of their bytes, without the end of the last."""
    events: list[SSEvent] = []
    for block in ended.split(_END):
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
