"""Digests of a request: what was sent, as short hashes, so that a difference is cheap to see.

The digest of the messages is chained: that of n items is a hash of that of n - 1 and the nth item, so a
request costs what it added. Ids, times and cache markers are not covered.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import msgspec

from agentkit_loop.content import Item, ToolSpec
from agentkit_loop.transcript import without_ids
from agentkit_loop.values import JSON

_SIZE = 16  # bytes; 32 hex digits
_encode = msgspec.json.Encoder().encode


def digest(value: JSON) -> str:
    """Return the hash of one value's JSON."""
    import hashlib  # noqa: PLC0415 - 2 ms, of OpenSSL; nothing of it before the first request

    return hashlib.blake2b(_encode(value), digest_size=_SIZE).hexdigest()


def fixed_digests(tools: tuple[ToolSpec, ...], system: str | None, settings: JSON) -> dict[str, str]:
    """Return the digests of what stays the same from request to request."""
    return {"tools": digest(tools), "system": digest(system), "settings": digest(settings)}


class MessageChain:
    """The chained digests of a transcript that mostly grows."""

    def __init__(self) -> None:
        import hashlib  # noqa: PLC0415 - as above

        self._last: Sequence[Item] | None = None  # what it was asked of last
        self._items: list[Item] = []
        self._links: list[str] = [""]  # _links[n] covers the first n items
        self._hash = hashlib.blake2b

    def of(self, items: Sequence[Item]) -> str:
        """Return the digest of the items; costs what differs from the last call.

        A list that is given again may have grown at its end, and is otherwise as it was.
        """
        kept = len(self._items)
        # A transcript appends to its list, and a compaction gives it another one. So the list of the last call needs
        # no look at what was in it then: 14 ns an item, with each request the whole history.
        if items is not self._last or kept > len(items):
            # Of any other, all are looked at: a compaction may change an item in its place and keep those behind it.
            if kept > len(items) or not all(map(operator.is_, self._items, items)):
                kept = self._common(items)
                del self._items[kept:], self._links[kept + 1 :]
            self._last = items
        for item in items[kept:]:
            link = self._hash(self._links[-1].encode(), digest_size=_SIZE)
            link.update(_encode(without_ids(item)))
            self._items.append(item)
            self._links.append(link.hexdigest())
        return self._links[-1]

    def _common(self, items: Sequence[Item]) -> int:
        common = 0
        for old, new in zip(self._items, items, strict=False):
            if old is not new:
                break
            common += 1
        return common
