"""Where the prompt cache was lost: which request's prefix stopped matching, what changed, and what it cost.

Judged request by request against the one before it in the session that told what it used. Every session is a chain of
its own, a sub-agent's too; a fork goes on from its origin's, where the log holds that. Requests of compactions ask
something else each time: they are counted, and not judged.

What a break cost: the cache held what the request before had read from it and written to it. What of that was not
read again was lost, as far as the new request is that long (after a compaction, which shortens, that is the most that
it can be). Lost tokens were written again, or read fresh where the request wrote less; their cost is that, less
what reading them from the cache would have cost. All by the rates that the log records; nothing is assumed.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Mapping
from typing import Any

import attrs

from agentkit_loop.content import BeginPart, CommitPart, ToolSpec
from agentkit_loop.digest import MessageChain
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    ContentDelta,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCatalogChanged,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.forks import Locked
from agentkit_loop.observers import LoopObserver
from agentkit_loop.state import FORKED_FROM
from agentkit_reporting.analysis.cache_breaks_causes import (
    LIFE_S,
    BreakCause,
    Edits,
    RunSettings,
    SentRequest,
    changes,
)
from agentkit_reporting.analysis.cache_breaks_items import SentItems
from agentkit_reporting.analysis.cache_breaks_money import Counted, RatesSeen, charge_of
from agentkit_reporting.analysis.cache_breaks_requests import (
    CacheRequest,
    CacheSession,
    Settled,
    priced_session,
)
from agentkit_reporting.conformance.fingerprints import fingerprint

__all__ = ["CacheBreaks"]

_REMEMBERED = 100  # requests of a session from which a fork can go on
_DEFAULT_LIFE = "5m"  # the provider's, where a run tells none


@attrs.define(kw_only=True)
class _Open:
    """A request that has not ended."""

    event: ModelRequestStarted
    sent: SentRequest | None  # None: of a compaction
    edits: Edits
    report: UsageUpdated | None = None


@attrs.define
class _Before:
    """The request that the next one is judged against, and what the cache held after it."""

    sent: SentRequest
    held: int | None
    is_exact: bool  # else it held that or more
    life: str


@attrs.define
class _Session:
    last_seq: int = 0
    runs: set[str] = attrs.field(factory=set)
    agent: str = ""
    parent_session: str | None = None
    settings: RunSettings = attrs.field(factory=lambda: RunSettings(run_id="", parameters={}, tools={}))
    items: SentItems = attrs.field(factory=SentItems)
    before: _Before | None = None
    fork_holds: bool | None = None
    open: dict[str, _Open] = attrs.field(factory=dict)
    settled: list[Settled] = attrs.field(factory=list)
    past: collections.deque[_Before] = attrs.field(factory=lambda: collections.deque(maxlen=_REMEMBERED))


class CacheBreaks(LoopObserver, Locked):
    """Says of each request what it read from the prompt cache, and why not: `sessions()`.

    Keeps about 3 kB for each request, 16 bytes for each item of a transcript, and 4 MB of the newest items of a
    session that is open.
    """

    wants = (
        RunStarted,
        InputAccepted,
        BeginPart,
        CommitPart,
        ModelRequestStarted,
        UsageUpdated,
        ModelRequestFinished,
        ModelRequestFailed,
        ToolResultReceived,
        ToolCatalogChanged,
        CompactionStarted,
        CompactionFinished,
        RunFinished,
        RunFailed,
        RunCancelled,
    )

    _KINDS = tuple(each for each in wants if issubclass(each, AgentEvent))

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[str, _Session] = {}
        self._rates = RatesSeen()

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event."""
        with self._lock:
            self._take(event)

    def sessions(self) -> tuple[CacheSession, ...]:
        """Return the sessions that asked a model, in the order in which they were first told of."""
        with self._lock:
            return tuple(
                priced_session(session_id, session.agent, session.parent_session, requests, self._rates)
                for session_id, session in self._sessions.items()
                if (requests := [*session.settled, *self._unfinished(session)])
            )

    def _unfinished(self, session: _Session) -> list[Settled]:
        """Return the requests that have no end so far, as they are."""
        return [self._settled(session, asked, failed=True) for asked in session.open.values()]

    def _take(self, event: AgentEvent) -> None:
        if not isinstance(event, (*self._KINDS, ContentDelta)):
            return  # of a log: what is not told live tells nothing here
        session = self._sessions.get(event.session_id)
        if session is None:
            session = self._sessions[sys.intern(event.session_id)] = _Session()
        if not _counts(session, event):
            return
        if isinstance(event, RunStarted):
            self._start(session, event)
        session.items.apply(event)
        match event:
            case ToolCatalogChanged():
                tools = {
                    name: each for name, each in session.settings.tools.items() if name not in event.removed
                }
                tools |= _hashes((*event.changed, *event.added))
                session.settings = attrs.evolve(session.settings, tools=tools)
            case ModelRequestStarted():
                self._ask(session, event)
            case UsageUpdated() if event.request_id in session.open:
                session.open[event.request_id].report = event
            case ModelRequestFinished() | ModelRequestFailed() if event.request_id in session.open:
                self._settle(session, session.open.pop(event.request_id), event)
            case RunFinished() | RunFailed() | RunCancelled():
                session.items.rest()
            case _:
                pass

    def _start(self, session: _Session, event: RunStarted) -> None:
        session.agent = event.agent_name
        session.parent_session = None if event.parent is None else event.parent.session_id
        session.settings = RunSettings(
            run_id=event.run_id, parameters=event.parameters, tools=_hashes(event.tools)
        )
        session.open.clear()
        if event.resumed_run is not None:
            return
        session.items, session.before, session.fork_holds = SentItems(), None, None
        origin = event.metadata.get(FORKED_FROM)
        if isinstance(origin, dict):
            self._go_on_from(session, event, origin)

    def _go_on_from(self, session: _Session, event: RunStarted, origin: Mapping[str, Any]) -> None:
        """Judge a fork's first request against the last one of its origin, where that is known."""
        of, at = self._sessions.get(str(origin.get("session_id"))), origin.get("seq")
        past = (
            [] if of is None or not isinstance(at, int) else [each for each in of.past if each.sent.seq <= at]
        )
        if past:
            session.before = past[-1]
            sent = past[-1].sent
            ours = MessageChain().of(event.items[: sent.count])
            session.fork_holds = ours == sent.digests.get("messages") and sent.count <= len(event.items)

    def _ask(self, session: _Session, event: ModelRequestStarted) -> None:
        sent, edits = None, Edits()
        if event.purpose == "turn":
            items = session.items
            sent = SentRequest(
                session_id=sys.intern(event.session_id),
                seq=event.seq,
                at=event.timestamp,
                model=sys.intern(event.model),
                count=event.message_count,
                digests=_interned(event.digests),
                fits=items.fits(event.digests.get("messages", "")),
                settings=session.settings,
            )
            edits = Edits(
                kept=items.kept,
                edited=items.edited,
                first_masked=items.first_masked,
                fork_holds=session.fork_holds,
            )
        session.open[event.request_id] = _Open(event=event, sent=sent, edits=edits)

    def _settle(
        self, session: _Session, asked: _Open, end: ModelRequestFinished | ModelRequestFailed
    ) -> None:
        report, sent = asked.report, asked.sent
        settled = self._settled(session, asked, failed=isinstance(end, ModelRequestFailed))
        counted = settled.counted
        session.settled.append(settled)
        if report is not None and report.cost is not None:
            self._rates.note(settled.request.model, settled.currency, settled.charges)
        if sent is None or (settled.request.failed and counted.total is None):
            return  # whether the cache has seen it is not known
        life = session.settings.life or ("1h" if counted.written_1h else None)
        if life is None:
            life = session.before.life if session.before else _DEFAULT_LIFE
        session.before = _Before(sent, counted.left_in_cache, counted.is_told, life)
        session.past.append(session.before)
        session.fork_holds = None
        session.items.mark()

    def _settled(self, session: _Session, asked: _Open, *, failed: bool) -> Settled:
        event, report = asked.event, asked.report
        counted = Counted.of(None if report is None else report.usage)
        before = session.before
        causes: tuple[BreakCause, ...] = ()
        lost: int | None = 0
        gap_s: float | None = None
        if asked.sent is None:
            verdict = "compaction"
        elif failed and counted.total is None:
            verdict = "failed"
        elif before is None:
            verdict = "off" if session.settings.life == "off" else "first"
        else:
            gap_s = (asked.sent.at - before.sent.at).total_seconds()
            lost = _lost(before.held, counted)
            verdict, causes = _judged(before, asked.sent, asked.edits, gap_s, lost, counted.cached)
            if not causes:
                lost = 0
            elif lost == 0 and not before.is_exact:
                lost = None  # the cache may have held more than was read from it before
        model = event.model if report is None else report.model
        cost = None if report is None else report.cost
        usage = None if report is None else report.usage
        return Settled(
            request=CacheRequest(
                session_id=sys.intern(event.session_id),
                run_id=sys.intern(event.run_id),
                turn_id=None if event.turn_id is None else sys.intern(event.turn_id),
                request_id=sys.intern(event.request_id),
                timestamp=event.timestamp,
                model=sys.intern(model),
                cached_tokens=counted.cached,
                written_tokens=counted.written,
                fresh_tokens=counted.fresh,
                verdict=verdict,
                causes=causes,
                gap_s=gap_s,
                lost_tokens=lost,
                failed=failed,
                is_verified=bool(asked.sent and asked.sent.fits and (before is None or before.sent.fits)),
            ),
            counted=counted,
            currency="" if cost is None else sys.intern(cost.currency),
            charges={} if usage is None else charge_of(model, usage, cost),
        )


def _counts(session: _Session, event: AgentEvent) -> bool:
    """Whether an event is neither of a file given twice nor of a run that another one had gone on from."""
    if isinstance(event, RunStarted):
        is_new = event.run_id not in session.runs
        session.runs.add(event.run_id)
    else:
        is_new = event.seq > session.last_seq and event.run_id in {session.settings.run_id, ""}
        is_new = is_new or not session.runs  # its beginning is not in the log
    if is_new:
        session.last_seq = event.seq
    return is_new


def _judged(
    before: _Before, now: SentRequest, edits: Edits, gap_s: float, lost: int | None, cached: int | None
) -> tuple[str, tuple[BreakCause, ...]]:
    """Return what is to be said of a request, and why."""
    if before.sent.settings.life == now.settings.life == "off":
        return "off", ()
    causes = changes(before.sent, now, edits)
    if lost == 0 and before.is_exact:
        # Most settings do not belong to the prefix; which do, is the provider's word. And a fork's items may be told
        # masked, so that the log cannot say whether they are its origin's.
        causes = tuple(
            cause
            for cause in causes
            if cause.what != "settings" and (cause.what, cause.by) != ("messages", "fork")
        )
    if causes:
        return "break", causes
    if lost == 0:
        return ("held" if before.held or cached else "empty"), ()
    if gap_s > LIFE_S[before.life]:
        return "break", (BreakCause(what="expired", detail=before.life),)
    return ("unknown", ()) if lost is None else ("missed", (BreakCause(what="missed"),))


def _lost(held: int | None, counted: Counted) -> int | None:
    """Return how many tokens the cache held that were not read from it; None where that is not known."""
    total = counted.total
    if held == 0:
        return 0
    if held is None or counted.cached is None or total is None:
        return None
    return max(0, min(held, total) - counted.cached)


def _interned(digests: Mapping[str, str]) -> dict[str, str]:
    """Return digests with what many requests have in common held once."""
    return {
        sys.intern(name): told if name == "messages" else sys.intern(told) for name, told in digests.items()
    }


def _hashes(tools: tuple[ToolSpec, ...]) -> dict[str, int]:
    return {sys.intern(tool.name): fingerprint(tool) for tool in tools}
