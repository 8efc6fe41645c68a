"""The rules of requests: each opens once and ends once, what is streamed into it, and what it used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentkit_loop.content import AnyPart, AppendBytes, BeginPart, CommitPart, ToolCallPart
from agentkit_loop.errors import ERROR_CLASSES
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    CompactionFinished,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunStarted,
    ToolCatalogChanged,
    TurnStarted,
    UsageUpdated,
    is_redacted,
)
from agentkit_reporting.conformance.book import Asked, Book
from agentkit_reporting.conformance.fingerprints import encoded, fingerprint, shared

_DIGESTS = frozenset({"tools", "system", "settings", "messages"})
_PURPOSES = frozenset({"turn", "compaction"})


class RequestRules:
    """Looks at requests, their deltas and usage, and at the catalog of tools that they are sent with."""

    __slots__ = ("_book", "_call_ids", "_compacted", "_digest", "_failed", "catalog")

    def __init__(self, book: Book) -> None:
        self._book = book
        self._failed: dict[str, Asked] = {}  # by purpose: the last one, while its turn has no answer
        self._compacted = False  # since the last failed request of a turn
        self._call_ids: dict[int, None] = {}  # fingerprints of all that were ever seen in the session
        self.catalog: dict[str, bytes] = {}  # the tools that the model was last told of, by name, as JSON
        self._digest: str | None = None  # of the tools as the run last sent them

    def run(self, event: RunStarted) -> None:
        """Note the tools, and the calls of a transcript that was there before."""
        for item in event.items:
            self._call_ids.update(dict.fromkeys([fingerprint(call.id) for call in item.calls]))
        self.catalog = {spec.name: shared(encoded(spec)) for spec in event.tools}
        self._digest = None

    def run_end(self, event: AgentEvent) -> None:
        """Forget the tools: the next run tells its own."""
        del event
        self.catalog = {}

    def turn(self, event: TurnStarted) -> None:
        """Forget the failed requests of the turn before."""
        del event
        self._failed.clear()

    def compacted(self, event: CompactionFinished) -> None:
        """Note that what failed may be asked anew."""
        del event
        self._compacted = True

    def was_told(self, call_id: str) -> bool:
        """Whether the session has seen the call before."""
        return fingerprint(call_id) in self._call_ids

    def note_call(self, call_id: str) -> None:
        """Note a call that no answer asks for."""
        self._call_ids[fingerprint(call_id)] = None

    def _ending(self, event: ModelRequestFinished | ModelRequestFailed) -> Asked | None:
        """Return the request that ends, None where it is not open."""
        asked = self._book.requests.get(event.request_id)
        status = None if asked is None else asked.status
        return asked if self._book.need(event, status == "open", "request is {}", status) else None

    def retry(self, event: ModelRequestRetrying) -> None:
        """Judge the announcement of a further attempt."""
        book = self._book
        asked = book.requests.get(event.request_id)
        if asked is None or asked.status != "failed" or self._failed.get(asked.purpose) is not asked:
            status = None if asked is None else asked.status
            book.fault(event, f"request is {status}, or not the last")
            return
        book.need(event, asked.retry is None, "the retry was told before")
        book.need(event, event.next_attempt == asked.attempt + 1, "attempts do not count up")
        asked.retry = event.next_attempt

    def start(self, event: ModelRequestStarted) -> None:
        """Judge the beginning of a request."""
        book = self._book
        book.request_count += 1
        # Without `need`, as in all that stands in every turn: a call that finds nothing is most of its cost.
        if event.request_id != f"request-{book.request_count}":
            book.fault(event, "request ids do not count on")
        if book.request is not None:
            book.fault(event, "another request is open")
        if book.open_calls:
            book.fault(event, "the round is not complete")
        if event.purpose not in _PURPOSES:
            book.fault(event, f"purpose is {event.purpose}")
        if (event.purpose == "compaction") is not book.compacting:
            book.fault(event, f"{event.purpose} while compacting is {book.compacting}")
        if event.digests.keys() != _DIGESTS:
            book.fault(event, "not the four digests")
        if event.attempt != 1 or self._failed:
            self._attempt(event)
        if event.purpose == "turn":
            digest = event.digests.get("tools")
            if self._digest not in (None, digest):
                book.fault(event, "other tools than before, and no ToolCatalogChanged")
            self._digest = digest
            self._compacted = False
        asked = Asked(
            id=event.request_id,
            attempt=event.attempt,
            purpose=event.purpose,
            run_id=event.run_id,
            exchange=None if book.exchange is None else book.exchanges,
        )
        book.open_request(asked)

    def _attempt(self, event: ModelRequestStarted) -> None:
        book = self._book
        failed = self._failed.pop(event.purpose, None)
        if failed is None:
            possible = {1}
        elif failed.run_id != book.run_id or self._compacted or event.purpose == "compaction":
            # Asked again after a resume or a compaction, or by a strategy as it likes: counted on, or anew.
            possible = {1, failed.attempt + 1} if failed.retry is None else {1, failed.retry}
        elif book.need(event, failed.retry is not None, "{} failed, and no retry was told", failed.id):
            possible = {failed.attempt + 1}
        else:
            return
        if event.attempt not in possible:
            book.fault(event, f"attempt is none of {sorted(possible)}")

    def finish(self, event: ModelRequestFinished) -> None:
        """Judge how a request finished."""
        book = self._book
        asked = self._ending(event)
        if asked is None:
            return
        if event.finish_reason == "cancelled":
            asked.status = "cut"
        else:
            asked.status = "finished"
            if asked.finals != 1:
                book.fault(event, "not exactly one final usage")
            if asked.is_in_part:
                book.fault(event, "a part was never committed")
        book.close_request(asked)

    def fail(self, event: ModelRequestFailed) -> None:
        """Judge how a request failed."""
        book = self._book
        asked = self._ending(event)
        if asked is None:
            return
        book.need(event, event.error_class in ERROR_CLASSES, "class is {}", event.error_class)
        # A process may end between the last word on usage and the end of the request.
        lone = asked.finals == 0 or event.error_class == "process_ended"
        book.need(event, lone, "a failed request has a final usage")
        asked.status = "failed"
        self._failed[asked.purpose] = asked
        book.close_request(asked)

    def _open(self, event: UsageUpdated | ContentDelta) -> Asked | None:
        asked = self._book.requests.get(event.request_id)
        if asked is not None and asked.status == "open":
            return asked
        self._book.fault(event, "request is not open")
        return None

    def use(self, event: UsageUpdated) -> None:
        """Judge a report of what a request used so far."""
        asked = self._open(event)
        if asked is not None:
            if asked.finals:
                self._book.fault(event, "after the final usage")
            asked.finals += event.final
            asked.usage = event.usage

    def delta(self, event: ContentDelta) -> None:
        """Judge a fragment; whole calls are noted."""
        asked = self._open(event)
        if asked is None:
            return
        book, parts, part_id = self._book, asked.parts, event.delta.part_id
        shown = parts.get(part_id)
        if event.delta.__class__ is BeginPart:
            if shown is not None:
                book.fault(event, "part began twice")
            parts[part_id] = 0
            return
        if not isinstance(shown, int):
            book.fault(event, "part is not open")
        match event.delta:
            case CommitPart(part=part):
                self._commit(event, asked, part)
            case AppendBytes(chunk=chunk) if isinstance(shown, int):
                parts[part_id] = shown + len(chunk)
            case _:
                pass

    def _commit(self, event: ContentDelta, asked: Asked, part: AnyPart) -> None:
        """Keep a whole part of an answer."""
        book, part_id, is_masked = self._book, event.delta.part_id, is_redacted(event)
        shown = asked.parts.get(part_id)
        if shown.__class__ is int and shown:
            book.previewed = event.run_id
        asked.parts[part_id] = part
        asked.masked = asked.masked or is_masked
        if asked.holes is not None and isinstance(shown, int):
            asked.holes.commit(part_id, part, shown, is_masked=is_masked)
        if isinstance(part, ToolCallPart):
            asked.has_calls = True
            book.need(event, not self.was_told(part.id), "call id told before")
            self._call_ids[fingerprint(part.id)] = None
            book.need(event, part.cut is None or not part.input, "a cut call has an input")

    def change(self, event: ToolCatalogChanged) -> None:
        """Judge a change of the tools."""
        book = self._book
        book.need(event, book.request is None, "a request is open")
        book.need(event, not book.open_calls, "a round is open")
        added = {spec.name: encoded(spec) for spec in event.added}
        changed = {spec.name: encoded(spec) for spec in event.changed}
        names = [*(spec.name for spec in (*event.added, *event.changed)), *event.removed]
        book.need(event, bool(names), "nothing changed")
        book.need(event, len(set(names)) == len(names), "a name twice")
        new = not added.keys() & self.catalog.keys()
        book.need(event, new, "added what was there")
        removed = set(event.removed)
        there = removed <= self.catalog.keys() and changed.keys() <= self.catalog.keys()
        book.need(event, there, "removed or changed what was not there")
        differ = all(self.catalog.get(name) != spec for name, spec in changed.items())
        book.need(event, differ, "changed to what it was")
        kept = {name: spec for name, spec in self.catalog.items() if name not in removed}
        self.catalog = kept | added | changed
        self._digest = None


JUDGES: Mapping[type[AgentEvent], Callable[[Any, Any], None]] = {
    RunStarted: RequestRules.run,
    **dict.fromkeys(RUN_ENDS, RequestRules.run_end),
    TurnStarted: RequestRules.turn,
    CompactionFinished: RequestRules.compacted,
    ModelRequestStarted: RequestRules.start,
    ModelRequestRetrying: RequestRules.retry,
    ModelRequestFinished: RequestRules.finish,
    ModelRequestFailed: RequestRules.fail,
    UsageUpdated: RequestRules.use,
    ContentDelta: RequestRules.delta,
    ToolCatalogChanged: RequestRules.change,
}
"""Which rule looks at which class of events."""
