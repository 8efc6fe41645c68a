"""The rules of digests: what a request says it sent is what the log tells before it.

The four digests of a request are made here a second time, from the log alone: of the tools, the system prompt and
the settings as the run told them, and of the messages, chained item by item, without ids. They differ where a log
was edited after it was written. Judged only as long as nothing of the session is masked, missing or in doubt.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from agentkit_loop.content import AnyPart, ToolCallPart, ToolResultPart
from agentkit_loop.events import AgentEvent, ModelRequestStarted, RunStarted, ToolCatalogChanged, UnknownEvent
from agentkit_reporting.conformance.book import Book
from agentkit_reporting.conformance.fingerprints import encoded

_SIZE = 16  # bytes of a digest; 32 hex digits
_MOST_HELD = 4 * 2**20  # bytes of the newest items of an open run, which a compaction may keep
_MOST_AT_REST = 16 * 2**10  # the same between two runs
_WITH_IDS = frozenset({ToolCallPart, ToolResultPart})
_NAMES = {"tools": "tools", "system": "a system prompt", "settings": "settings"}

Step: TypeAlias = tuple[int, int] | bytes
"""A step of a compaction's plan: a range of items that stay, or the body of a new one."""


def body_of(kind: str, parts: Sequence[AnyPart]) -> bytes:
    """Return an item as its digest covers it, without ids; nothing where JSON cannot hold it."""
    bare = encoded(parts if not any(part.__class__ in _WITH_IDS for part in parts) else [*map(_bare, parts)])
    return (
        b'{"kind":"%b","parts":%b}' % (kind.encode(), bare) if bare else b""
    )  # a kind is one of a few words


def _bare(part: AnyPart) -> AnyPart:
    if isinstance(part, ToolCallPart):
        return msgspec.structs.replace(part, id="", wire_id=None)
    return msgspec.structs.replace(part, call_id="") if isinstance(part, ToolResultPart) else part


class MessageDigests:
    """The chained digest of a transcript: that of n items is a hash of that of n - 1 and of the nth.

    Of an item no more than 16 bytes stay; only of the newest also what was hashed, since a compaction that keeps
    an item behind a new one makes its link anew. Where that is gone, the next digest that is told is believed.
    """

    __slots__ = ("_believed", "_bodies", "_count", "_held", "_links", "is_known")

    def __init__(self) -> None:
        self._count = 0  # items
        self._links = bytearray()  # of the first 1, 2, 3 … items that were hashed
        self._believed = 0  # links up to this one, and without it, are not known
        self._bodies: list[bytes] = []  # of the newest items
        self._held = 0  # their size
        self.is_known = True

    def join(self, body: bytes) -> None:
        """Add an item."""
        self._count += 1
        self._bodies.append(body)
        self._held += len(body)
        if not body:
            self.is_known = False
        if self._held > _MOST_HELD:
            self._forget(_MOST_HELD // 2)

    def of_all(self) -> str:
        """Return the digest of all items; costs what joined since the last call."""
        links = self._links
        new = self._count - len(links) // _SIZE
        last = links[-_SIZE:].hex()
        for body in self._bodies[-new:] if new else ():
            link = hashlib.blake2b(last.encode() + body, digest_size=_SIZE)
            last = link.hexdigest()
            links += link.digest()
        return last

    def believe(self, told: str) -> None:
        """Go on from a digest of all items, since it cannot be made here."""
        try:
            link = bytes.fromhex(told)
        except ValueError:
            return
        if len(link) == _SIZE and self._count:
            self._links = bytearray(_SIZE * (self._count - 1)) + link
            self._believed, self.is_known = self._count, True

    def rest(self) -> None:
        """Give back memory between two runs."""
        if self._held > _MOST_AT_REST:
            self._forget(_MOST_AT_REST)

    def _forget(self, most: int) -> None:
        """Forget the oldest items, so that no more than `most` bytes are held."""
        if self.is_known:
            self.of_all()
        place = 0
        while self._held > most:
            self._held -= len(self._bodies[place])
            place += 1
        del self._bodies[:place]

    def plan(self, steps: Sequence[Step]) -> None:
        """Take over what a compaction leaves."""
        first = steps[0] if steps else b""
        same = 0 if isinstance(first, bytes) or first[0] else min(first[1], len(self._links) // _SIZE)
        if same < self._believed:
            same = 0
        gone = self._count - len(self._bodies)
        new: list[bytes] = []
        for step in steps:
            if isinstance(step, bytes):
                new.append(step)
            else:
                new.extend(self._bodies[n - gone] if n >= gone else b"" for n in range(*step))
        self.is_known = self.is_known and all(new[same:])
        self._count, self._believed = len(new), min(self._believed, same)
        del self._links[_SIZE * same :]
        forgotten = max((place + 1 for place, body in enumerate(new) if not body), default=0)
        self._bodies = new[forgotten:]
        self._held = sum(map(len, self._bodies))


class DigestRules:
    """Compares the digests that a request tells with those of what the log tells.

    catalog: gives the tools as the run last told them, as JSON, in their order.
    """

    __slots__ = ("_book", "_catalog", "_fixed", "_messages", "_settings", "_system")

    def __init__(
        self, book: Book, messages: MessageDigests, catalog: Callable[[], Mapping[str, bytes]]
    ) -> None:
        self._book = book
        self._messages = messages
        self._catalog = catalog
        self._system: str | None = None
        self._settings = b""
        self._fixed: Mapping[str, str] = {}  # of tools, system and settings; empty: not made yet

    def run(self, event: RunStarted) -> None:
        """Take over what a run tells of its requests."""
        self._system = event.system
        self._settings = encoded({"model": event.model, **event.parameters})
        self._fixed = {}

    def change(self, event: ToolCatalogChanged) -> None:
        """Note that the tools are others."""
        del event
        self._fixed = {}

    def unknown(self, event: AgentEvent) -> None:
        """Note that something was told that is not understood here."""
        del event
        self._book.is_doubted = True

    def ask(self, event: ModelRequestStarted) -> None:
        """Judge the digests of a request of a turn; what a compaction sends is its strategy's own."""
        book = self._book
        if book.is_doubted or event.purpose != "turn":
            return
        told, messages = event.digests, self._messages
        if not messages.is_known:
            messages.believe(told.get("messages", ""))
        elif told.get("messages") != messages.of_all() and not book.may_be_doubted():
            book.fault(
                event, "does not fit the transcript before it; the log was edited after it was written"
            )
        fixed = self._fixed or self._made()
        for name, digest in fixed.items():
            if told.get(name) != digest and not book.may_be_doubted():
                what = _NAMES[name]
                book.fault(
                    event, f"sent {what} that the log does not tell; the log was edited after it was written"
                )

    def _made(self) -> Mapping[str, str]:
        """Return the digests of what stays the same from request to request."""
        self._fixed = _fixed_digests(tuple(self._catalog().values()), self._system, self._settings)
        return self._fixed


@functools.lru_cache(maxsize=100)
def _fixed_digests(specs: tuple[bytes, ...], system: str | None, settings: bytes) -> Mapping[str, str]:
    """Return the digests that many sessions of a log have in common, as far as they can be made."""
    tools = b"[%b]" % b",".join(specs) if all(specs) else b""
    bodies = {"tools": tools, "system": encoded(system), "settings": settings}
    return {
        name: hashlib.blake2b(body, digest_size=_SIZE).hexdigest() for name, body in bodies.items() if body
    }


JUDGES: Mapping[type[AgentEvent], Callable[[Any, Any], None]] = {
    RunStarted: DigestRules.run,
    ToolCatalogChanged: DigestRules.change,
    ModelRequestStarted: DigestRules.ask,
    UnknownEvent: DigestRules.unknown,
}
"""Which rule looks at which class of events."""
