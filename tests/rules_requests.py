"""The rules of requests: each opens once and ends once, what is streamed into it, and what it used."""

from __future__ import annotations

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart, ToolCallPart, ToolSpec
from agentkit_loop.errors import ERROR_CLASSES
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestRetrying,
    ModelRequestStarted,
    RunStarted,
    ToolCatalogChanged,
    TurnStarted,
    UsageUpdated,
)
from tests.rules_book import OF_REQUEST, Asked, Book, OfRequest

DIGESTS = {"tools", "system", "settings", "messages"}


class RequestRules:
    """Looks at requests, their deltas and usage, and at the catalog of tools that they are sent with."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._failed: dict[str, Asked] = {}  # by purpose: the last one, while its turn has no answer
        self._compacted = False  # since the last failed request of a turn
        self._call_ids: set[str] = set()  # ever seen in the session
        self._catalog: dict[str, ToolSpec] = {}
        self._digest: str | None = None  # of the tools as the run last sent them

    @property
    def catalog(self) -> dict[str, ToolSpec]:
        """The tools that the model was last told of, by name."""
        return self._catalog

    def take(self, event: AgentEvent) -> None:
        """Judge one event."""
        match event:
            case RunStarted():
                self._call_ids.update(call.id for item in event.items for call in item.calls)
                self._catalog = {spec.name: spec for spec in event.tools}
                self._digest = None
            case TurnStarted():
                self._failed.clear()
            case UsageUpdated():
                self._use(event)
            case ContentDelta():
                self._delta(event)
            case ToolCatalogChanged():
                self._change(event)
            case _ if isinstance(event, OF_REQUEST):
                self._request(event)
            case _:
                self._compacted = self._compacted or event.type == "compaction_finished"

    def _request(self, event: OfRequest) -> None:
        book = self._book
        asked = book.requests.get(event.request_id)
        status = None if asked is None else asked.status
        match event:
            case ModelRequestStarted():
                self._start(event)
            case ModelRequestFinished():
                if book.need(event, status == "open", f"request is {status}") and asked is not None:
                    self._finish(event, asked)
            case ModelRequestFailed():
                if book.need(event, status == "open", f"request is {status}") and asked is not None:
                    self._fail(event, asked)
            case ModelRequestRetrying():
                last = self._failed.get(asked.purpose) if asked is not None else None
                if book.need(
                    event, status == "failed" and last is asked, f"request is {status}, or not the last"
                ):
                    assert asked is not None  # it has a status
                    book.need(event, asked.retry is None, "the retry was told before")
                    book.need(event, event.next_attempt == asked.attempt + 1, "attempts do not count up")
                    asked.retry = event.next_attempt

    def _start(self, event: ModelRequestStarted) -> None:
        book = self._book
        number = len(book.requests) + 1
        book.need(event, event.request_id == f"request-{number}", "request ids do not count on")
        book.need(event, book.request is None, "another request is open")
        book.need(event, not book.open_calls, "the round is not complete")
        book.need(event, event.purpose in {"turn", "compaction"}, f"purpose is {event.purpose}")
        inside = (event.purpose == "compaction") is book.compacting
        book.need(event, inside, f"{event.purpose} while compacting is {book.compacting}")
        book.need(event, set(event.digests) == DIGESTS, "not the four digests")
        self._attempt(event)
        if event.purpose == "turn":
            told = self._digest in {None, event.digests.get("tools")}
            book.need(event, told, "other tools than before, and no ToolCatalogChanged")
            self._digest = event.digests.get("tools")
            self._compacted = False
        asked = Asked(
            id=event.request_id,
            attempt=event.attempt,
            purpose=event.purpose,
            run_id=event.run_id,
            exchange=None if book.exchange is None else book.exchanges,
        )
        book.requests[event.request_id] = book.request = asked

    def _attempt(self, event: ModelRequestStarted) -> None:
        book = self._book
        failed = self._failed.pop(event.purpose, None)
        if failed is None:
            possible = {1}
        elif failed.run_id != book.run_id or self._compacted or event.purpose == "compaction":
            # Asked again after a resume or a compaction, or by a strategy as it likes: counted on, or anew.
            possible = {1, failed.attempt + 1} if failed.retry is None else {1, failed.retry}
        elif book.need(event, failed.retry is not None, f"{failed.id} failed, and no retry was told"):
            possible = {failed.attempt + 1}
        else:
            return
        book.need(event, event.attempt in possible, f"attempt is none of {sorted(possible)}")

    def _finish(self, event: ModelRequestFinished, asked: Asked) -> None:
        book = self._book
        if event.finish_reason == "cancelled":
            asked.status = "cut"
        else:
            asked.status = "finished"
            book.need(event, asked.finals == 1, "not exactly one final usage")
            book.need(event, None not in asked.parts.values(), "a part was never committed")
        asked.reason = event.finish_reason
        book.request = None

    def _fail(self, event: ModelRequestFailed, asked: Asked) -> None:
        book = self._book
        book.need(event, event.error_class in ERROR_CLASSES, f"class is {event.error_class}")
        # A process may end between the last word on usage and the end of the request.
        lone = asked.finals == 0 or event.error_class == "process_ended"
        book.need(event, lone, "a failed request has a final usage")
        asked.status = "failed"
        self._failed[asked.purpose] = asked
        book.request = None

    def _open(self, event: UsageUpdated | ContentDelta) -> Asked | None:
        asked = self._book.requests.get(event.request_id)
        is_open = asked is not None and asked.status == "open"
        return asked if self._book.need(event, is_open, "request is not open") else None

    def _use(self, event: UsageUpdated) -> None:
        asked = self._open(event)
        if asked is not None:
            self._book.need(event, asked.finals == 0, "after the final usage")
            asked.finals += event.final
            asked.usage = event.usage

    def _delta(self, event: ContentDelta) -> None:
        asked = self._open(event)
        if asked is None:
            return
        book, parts, part_id = self._book, asked.parts, event.delta.part_id
        begun = part_id in parts and parts[part_id] is None
        match event.delta:
            case BeginPart():
                book.need(event, part_id not in parts, "part began twice")
                parts[part_id] = None
            case AppendText() | AppendBytes():
                book.need(event, begun, "part is not open")
            case CommitPart(part=part):
                book.need(event, begun, "part is not open")
                parts[part_id] = part
                if isinstance(part, ToolCallPart):
                    book.need(event, part.id not in self._call_ids, "call id told before")
                    self._call_ids.add(part.id)
                    book.need(event, part.cut is None or not part.input, "a cut call has an input")

    def _change(self, event: ToolCatalogChanged) -> None:
        book = self._book
        book.need(event, book.request is None, "a request is open")
        book.need(event, not book.open_calls, "a round is open")
        added = {spec.name: spec for spec in event.added}
        changed = {spec.name: spec for spec in event.changed}
        names = [*(spec.name for spec in (*event.added, *event.changed)), *event.removed]
        book.need(event, bool(names), "nothing changed")
        book.need(event, len(set(names)) == len(names), "a name twice")
        new = not added.keys() & self._catalog.keys()
        book.need(event, new, "added what was there")
        there = set(event.removed) <= self._catalog.keys() and changed.keys() <= self._catalog.keys()
        book.need(event, there, "removed or changed what was not there")
        differ = all(self._catalog.get(name) != spec for name, spec in changed.items())
        book.need(event, differ, "changed to what it was")
        kept = {name: spec for name, spec in self._catalog.items() if name not in event.removed}
        self._catalog = kept | added | changed
        self._digest = None
