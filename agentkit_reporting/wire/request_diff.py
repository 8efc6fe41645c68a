"""What differs between two requests: headers by name, the JSON of the bodies path by path, long texts line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from agentkit_loop.line_diff import diff_lines
from agentkit_reporting.wire.reading import WireExchange, headers_of

__all__ = ["MISSING", "RequestDifference", "request_differences"]


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING: Any = _Missing()
"""In place of a value that is on one side alone."""

_LONG = 160  # characters of both from which on texts of one line are compared by lines too
_DEEPEST = 500


@attrs.frozen
class RequestDifference:
    """One difference. path: such as `headers.accept` or `body.messages[2].content`. lines: of two long texts."""

    path: str
    before: Any
    after: Any
    lines: tuple[str, ...] = ()


def request_differences(before: WireExchange, after: WireExchange) -> Iterator[RequestDifference]:
    """Yield what differs, in the order of the first request."""
    a, b = before.sent, after.sent
    for name in ("method", "url"):
        yield from _compared(name, a.get(name), b.get(name))
    yield from _compared("headers", _by_name(headers_of(a)), _by_name(headers_of(b)))
    body, other = before.request_body, after.request_body
    old, new = body.json(), other.json()
    if old is None or new is None:
        old, new = body.text, other.text
    yield from _compared("body", old, new)


def _by_name(headers: list[tuple[str, str]]) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, value in headers:
        low = name.lower()
        told[low] = f"{told[low]}, {value}" if low in told else value
    return told


def _compared(path: str, old: Any, new: Any, depth: int = 0) -> Iterator[RequestDifference]:
    if old == new and type(old) is type(new):
        return
    if isinstance(old, dict) and isinstance(new, dict) and depth < _DEEPEST:
        for key in dict.fromkeys((*old, *new)):
            place = f"{path}.{key}" if key.isidentifier() or "-" in key else f"{path}[{key!r}]"
            yield from _compared(place, old.get(key, MISSING), new.get(key, MISSING), depth + 1)
    elif isinstance(old, list) and isinstance(new, list) and depth < _DEEPEST:
        yield from _compared_lists(path, old, new, depth)
    elif isinstance(old, str) and isinstance(new, str) and _is_long(old + new):
        yield RequestDifference(path, old, new, tuple(diff_lines(old, new).unified()))
    else:
        yield RequestDifference(path, old, new)


def _compared_lists(path: str, old: list[Any], new: list[Any], depth: int) -> Iterator[RequestDifference]:
    """Compare two lists, less what they begin and end with alike; what is left pairwise, by the old one's places."""
    start = _alike(old, new)
    end = min(_alike(old[::-1], new[::-1]), len(old) - start, len(new) - start)
    left, right = old[start : len(old) - end], new[start : len(new) - end]
    for place in range(max(len(left), len(right))):
        a = left[place] if place < len(left) else MISSING
        b = right[place] if place < len(right) else MISSING
        yield from _compared(f"{path}[{start + place}]", a, b, depth + 1)


def _is_long(text: str) -> bool:
    return "\n" in text or len(text) > _LONG


def _alike(old: Sequence[Any], new: Sequence[Any]) -> int:
    count = 0
    for a, b in zip(old, new, strict=False):
        if a != b:
            break
        count += 1
    return count
