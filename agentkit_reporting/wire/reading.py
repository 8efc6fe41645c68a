"""What a capture recorded, read back: exchanges, put together of their two records, one at a time.

Files are input that anybody may have written: a field that is missing or of another type says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import msgspec

from agentkit_reporting.wire.messages import stream_error

__all__ = ["EMPTY", "WIRE_TYPES", "RecordedBody", "WireExchange", "headers_of", "read_exchanges"]

WIRE_TYPES = ("wire_request", "wire_response")

EMPTY: Mapping[str, Any] = {}

_MOST_OPEN = 1_000  # requests that wait for their response; beyond, the oldest has none


@attrs.frozen
class RecordedBody:
    """A body as it was recorded; see `wire/bodies.py`. text: None where nothing of it is there."""

    text: str | None
    size: int | None
    cut: int = 0
    masked: int = 0
    encoding: str | None = None
    packed: str | None = None
    withheld: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RecordedBody:
        """Return the body of a record."""
        found = record.get("body")
        body: Mapping[str, Any] = found if isinstance(found, Mapping) else {"withheld": "it is not there"}
        text = _text(body.get("text"))
        if text is None and body.get("size") == 0:
            text = ""
        return cls(
            text=text,
            size=_count(body.get("size")),
            cut=_count(body.get("cut")) or 0,
            masked=_count(body.get("masked")) or 0,
            encoding=_text(body.get("encoding")),
            packed=_text(body.get("packed")),
            withheld=_text(body.get("withheld")),
        )

    def json(self) -> Any:
        """Return what the JSON of it says, None where it is none or not whole."""
        if self.text is None or self.encoding is not None:
            return None
        try:
            return msgspec.json.decode(self.text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None


@attrs.frozen
class WireExchange:
    """One exchange. number: from 1, in the order of the requests that were read. response: None where none is told."""

    number: int
    request: Mapping[str, Any]
    response: Mapping[str, Any] | None

    def text(self, name: str) -> str | None:
        """Return a text of either record, None where neither has it."""
        for record in (self.request, self.response or EMPTY):
            if (found := _text(record.get(name))) is not None:
                return found
        return None

    @property
    def status(self) -> int | None:
        """The status of the response."""
        return _count((self.response or EMPTY).get("status"))

    @property
    def attempt(self) -> int | None:
        """Which attempt of the SDK it was."""
        return _count(self.request.get("attempt"))

    @property
    def request_attempt(self) -> int | None:
        """Which attempt of the loop it was, as its events count them; None where it is of none."""
        return _count(self.request.get("request_attempt"))

    @property
    def stream_error(self) -> str | None:
        """The type of the error by which the server ended a stream that had begun well; None where it did not."""
        body = self.response_body
        if self.response is None or body.text is None or body.encoding is not None:
            return None
        return stream_error(body.text)

    @property
    def outcome(self) -> str:
        """How it ended, in a word."""
        return "no response" if self.response is None else _text(self.response.get("outcome")) or "?"

    def ms(self, name: str) -> float | None:
        """Return a time of the response."""
        found = (self.response or EMPTY).get(name)
        return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None

    @property
    def error(self) -> Mapping[str, Any]:
        """What it failed with, empty where it did not."""
        found = (self.response or EMPTY).get("error")
        return found if isinstance(found, Mapping) else EMPTY

    @property
    def sent(self) -> Mapping[str, Any]:
        """The request as it left, as far as it is known."""
        found = (self.response or EMPTY).get("sent")
        return {**self.request, **found} if isinstance(found, Mapping) else self.request

    @property
    def request_body(self) -> RecordedBody:
        """What was sent."""
        return RecordedBody.of(self.sent)

    @property
    def response_body(self) -> RecordedBody:
        """What came."""
        return RecordedBody.of(self.response or EMPTY)

    def goes_by(self, name: str) -> bool:
        """Whether it has this number, or one of its ids is this or ends so."""
        if name.isascii() and name.isdecimal():
            return int(name) == self.number
        ids = (self.text("id"), self.text("request_id"), self.text("provider_request_id"))
        return any(found is not None and found.endswith(name) for found in ids)


def headers_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the headers of a record."""
    found = record.get("headers")
    pairs = found if isinstance(found, list) else ()
    return [
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, str) for each in pair)  # noqa: PLR2004 - a name and a value
    ]


def read_exchanges(records: Iterable[Mapping[str, Any]]) -> Iterator[WireExchange]:
    """Yield exchanges as they end, and at the end those without a response, by number."""
    is_open: dict[str, tuple[int, Mapping[str, Any]]] = {}
    number = 0
    for record in records:
        identity = _text(record.get("id")) or ""
        if record.get("type") == "wire_request":
            number += 1
            if identity in is_open:
                yield WireExchange(*is_open.pop(identity), None)
            is_open[identity] = number, record
            if len(is_open) > _MOST_OPEN:
                yield WireExchange(*is_open.pop(next(iter(is_open))), None)
            continue
        asked = is_open.pop(identity, None)
        if asked is None:  # its request was in a file that is not here
            number += 1
            asked = number, EMPTY
        yield WireExchange(*asked, record)
    for left in is_open.values():
        yield WireExchange(*left, None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
