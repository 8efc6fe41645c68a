"""SessionProfiler: what each session used, cost and took, as one record when it ends.

profiler = SessionProfiler("logs/sessions.jsonl")
with profiler.session(session_id, model="claude-sonnet-5-5") as span:      # `async with` does as well
    span.record(client.messages.create(**request))
"""

from __future__ import annotations

import collections
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Literal

import attrs

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    RUN_ENDS,
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunStarted,
    UsageUpdated,
)
from agentkit_loop.ids import new_id
from agentkit_loop.observers import FailurePolicy, Observer
from agentkit_loop.pricing import Pricing
from agentkit_reporting.accounting import Account
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.records.direct import DirectView
from agentkit_reporting.records.session_budget import BudgetNotice, SessionBudget, budget_of
from agentkit_reporting.records.session_span import SessionSpan
from agentkit_reporting.records.session_summary import USD, SessionSummary, SummaryFold
from agentkit_reporting.records.store import RecordStore
from agentkit_reporting.redaction.redactor import Redaction

__all__ = ["SessionProfiler"]

logger = logging.getLogger(__name__)

DEFAULT_KEEP = 10_000
"""Summaries that a profiler keeps in memory; older ones make room, and stay in its file."""

_REMEMBERED = 1_000  # ended sessions whose budget is remembered, should they go on


@attrs.define
class _Allowance:
    """What a session used in its earlier runs, and what was told of its budget."""

    cost: Decimal = Decimal(0)
    tokens: int = 0
    told: set[tuple[str, bool]] = attrs.field(factory=set)


class SessionProfiler(DirectView):
    """Sums up sessions: those of loops that it observes, of logs that it is given, and its own spans.

    path: a file of summaries, one JSON object a line, or its address in remote storage (see RecordStore); None keeps
    them in memory only. on_close: called with each
    summary. budget: of each session, a SessionBudget or an amount in USD. on_budget: called with a BudgetNotice once
    a session when `warn_share` of a budget is used, and once when all of it is; what it raises is logged, and goes no
    further. The profiler observes and does not steer: to stop, let `on_budget` set a flag that the loop looks at, or
    call `driver.cancel(…)`, which is allowed there (our own loop has Limits for it). prices: what the requests of
    spans cost, as of `EventEmitter.run`; live and over logs the cost is what the events say. remote, rotation,
    redact: of the file, see there. keep: how many summaries stay in memory. emitter, observers, policy, clock: see
    DirectView.

    A child's session has a summary of its own, and nothing of it is in its parent's.
    """

    wants: ClassVar[tuple[type[AgentEvent], ...]] = (
        RunStarted,
        ModelRequestStarted,
        UsageUpdated,
        ModelRequestFinished,
        ModelRequestFailed,
        *RUN_ENDS,
    )

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        on_close: Callable[[SessionSummary], object] | None = None,
        *,
        budget: SessionBudget | Decimal | float | str | None = None,
        on_budget: Callable[[BudgetNotice], object] | None = None,
        prices: Pricing | Literal["default"] | None = "default",
        emitter: EventEmitter | None = None,
        observers: Iterable[Observer] = (),
        policy: FailurePolicy = FailurePolicy.LOG,
        remote: str | None = None,
        rotation: Rotation | None = None,
        redact: Redaction = True,
        keep: int = DEFAULT_KEEP,
        clock: Clock | None = None,
    ) -> None:
        if path is None and (rotation is not None or remote is not None):
            name = "rotation" if remote is None else "remote"
            raise ConfigurationError(f"{name} refused because nothing is stored; give a path")
        if on_budget is not None and budget is None:
            raise ConfigurationError("on_budget refused because there is no budget; give budget= too")
        self._budget = budget_of(budget)
        self._on_budget = on_budget
        self._on_close = on_close
        self._prices = prices
        self._store = (
            None
            if path is None
            else RecordStore(
                path,
                rotation=rotation,
                redact=redact,
                clock=clock,
                remote=remote,
                file_name="sessions.jsonl",
            )
        )
        self._allowances: collections.OrderedDict[str, _Allowance] = collections.OrderedDict()
        self._records: collections.deque[SessionSummary] = collections.deque(maxlen=keep)
        super().__init__(emitter=emitter, observers=observers, policy=policy, clock=clock)

    def begin_anew(self) -> None:
        """Begin without sessions: the profiler is new, or this is a forked child, whose parent sums up those."""
        super().begin_anew()
        self._lock = threading.RLock()
        self._open: dict[str, SummaryFold] = {}  # by session
        self._made = 0
        self._spans: dict[str, SessionSpan | None] = {}  # those that are open; None for one that begins

    # --- spans

    def start_session(
        self,
        session_id: str | None = None,
        *,
        model: str = "",
        agent_name: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> SessionSpan:
        """Begin a session of a hand-written loop and return its span, which is to be closed.

        session_id: None for a new one, or that of `emitter=`. model: the one that is asked where a call does not say
        it; without a model nothing has a price. Until it is closed the session is the calling context's current one.
        Where the emitter has an open run the span joins it, and does not end it. Raises ConfigurationError for a
        session that is open here already.
        """
        if session_id is None:
            session_id = new_id("ses") if self._emitter is None else self._emitter.session_id
        with self._lock:
            if session_id in self._spans:
                raise ConfigurationError(f"session {session_id!r} refused because it is open; close its span")
            self._spans[session_id] = None
        try:
            # Without the lock, which who tells events takes, with the emitter's.
            run = self.run_of(
                session_id, model=model, agent_name=agent_name, metadata=metadata, prices=self._prices
            )
        except BaseException:
            del self._spans[session_id]
            raise
        span = self._spans[session_id] = SessionSpan(self, run)
        return span

    def session(
        self,
        session_id: str | None = None,
        *,
        model: str = "",
        agent_name: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> SessionSpan:
        """Do as `start_session`, to be used as `with profiler.session(…) as span:`, or `async with`."""
        return self.start_session(session_id, model=model, agent_name=agent_name, metadata=metadata)

    async def aend_run(self, session_id: str, error: BaseException | None) -> None:
        """Do as `end_run`; what was told is forced to the disk by another thread, and the event loop goes on."""
        with self._runs_lock:
            run = self._runs.get(session_id)
        if run is not None and run.is_open:
            await run.__aexit__(None if error is None else type(error), error, None)

    def note_closed(self, session_id: str) -> None:
        """Take note that a span is closed, and its session may be begun again."""
        with self._lock:
            self._spans.pop(session_id, None)

    # --- events

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event; the end of a run makes its summary."""
        summaries: list[SessionSummary] = []
        notices: list[BudgetNotice] = []
        with self._lock:
            if isinstance(event, RunStarted):
                broken = self._open.pop(event.session_id, None)
                if broken is not None:  # a log without its end
                    summaries.append(broken.summary())
                self._open[event.session_id] = SummaryFold(event)
            else:
                fold = self._open.get(event.session_id)
                if fold is None:  # its beginning was not seen
                    if not isinstance(event, (ModelRequestStarted, UsageUpdated)):
                        return
                    fold = self._open[event.session_id] = SummaryFold(event)
                fold.apply(event)
                if self._budget is not None:
                    notices = self._noticed(event, fold, self._budget)
                if isinstance(event, RUN_ENDS):
                    del self._open[event.session_id]
                    summaries.append(fold.summary())
            for summary in summaries:
                self._records.append(summary)
                self._made += 1
        for notice in notices:
            self._notify(notice)
        self._publish(summaries)

    def _publish(self, summaries: list[SessionSummary]) -> None:
        for summary in summaries:
            try:
                if self._store is not None:
                    self._store.append(summary)
            finally:
                if self._on_close is not None:
                    self._on_close(summary)

    def _noticed(self, event: AgentEvent, fold: SummaryFold, budget: SessionBudget) -> list[BudgetNotice]:
        """Return what is to be told of the session's budget now."""
        if not isinstance(event, (UsageUpdated, *RUN_ENDS)):
            return []
        session_id = event.session_id
        allowance = self._allowances.setdefault(session_id, _Allowance())
        self._allowances.move_to_end(session_id)
        usage, costs, _ = fold.spent()
        cost = allowance.cost + costs.get(USD, Decimal(0))
        tokens = allowance.tokens + (usage.total_tokens or 0)
        if isinstance(event, RUN_ENDS):
            allowance.cost, allowance.tokens = cost, tokens
            while len(self._allowances) > _REMEMBERED + len(self._open):
                self._allowances.popitem(last=False)
            return []
        found = budget.notices(session_id, event.run_id, cost, tokens)
        fresh = [notice for key, notice in found if key not in allowance.told]
        allowance.told.update(key for key, _ in found)
        return fresh

    def _notify(self, notice: BudgetNotice) -> None:
        if self._on_budget is None:
            return
        try:
            self._on_budget(notice)
        except Exception:
            logger.exception("on_budget failed for session %s", notice.session_id)

    # --- what came of it

    @property
    def records(self) -> tuple[SessionSummary, ...]:
        """The last summaries, in the order in which their runs ended: at most `keep` of them, about 1 kB each."""
        with self._lock:
            return tuple(self._records)

    def running(self, session_id: str) -> SessionSummary | None:
        """Return what a session's open run used so far; None where none is open."""
        with self._lock:
            fold = self._open.get(session_id)
            return None if fold is None else fold.summary()

    def summary_of(self, run_id: str) -> SessionSummary | None:
        """Return the summary of a run that has ended and is kept in memory."""
        with self._lock:
            return next((each for each in reversed(self._records) if each.run_id == run_id), None)

    def account(self) -> Account:
        """Return what became of the summaries: those that were stored, or kept where there is no file."""
        name = type(self).__name__
        if self._store is not None:
            return attrs.evolve(self._store.account(), name=name)
        return Account(name=name, received=self._made, delivered=self._made)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Force what was stored to the disk; return whether every summary is there. Raises LogError."""
        return self._store is None or self._store.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """End the sessions that were begun here and close the file. Twice is harmless."""
        with self._lock:
            spans = list(self._spans.values())
        for span in spans:
            if span is not None:
                span.close()
        super().close()
        return self._store is None or self._store.close(timeout_s)
