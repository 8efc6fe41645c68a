"""Requests to the model: what comes before one, how it is made again, and the compaction that makes room for it.

Before each request its session's limits are looked at, then a changed catalog is told, then a compaction that
is due; all of them after the TurnStarted of its turn. Retries, and a request again after a compaction, stay in
their turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentkit_loop.compacting import Compacting
from agentkit_loop.digest import MessageChain, fixed_digests
from agentkit_loop.errors import RETRYABLE_CLASSES, IllegalMoveError
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    ModelRequestRetrying,
    ModelRequestStarted,
)
from agentkit_loop.limits import Above, limit_event
from agentkit_loop.models.protocol import Model, ModelRequest
from agentkit_loop.moves import GiveUp, Move, Wait
from agentkit_loop.purse import Purse
from agentkit_loop.settings import Catalog, LoopSettings
from agentkit_loop.state import Failure, LoopState
from agentkit_loop.streaming import OpenRequest
from agentkit_loop.values import clean_text

if TYPE_CHECKING:
    from agentkit_loop.compaction import SummaryWanted


class Requests:
    """Decides about requests. open: the one that is open. parameters: what is told of each.

    run_started: when the run began, in seconds, monotonic. purse: of a session with agents behind its calls, or
    that is one.
    """

    def __init__(self, settings: LoopSettings, catalog: Catalog, state: LoopState) -> None:
        self.settings = settings
        self.catalog = catalog
        self.state = state
        self.open = OpenRequest(state)
        self.parameters = {**settings.model_parameters, **settings.parameters}
        self.run_started: float | None = None
        self.purse: Purse | None = None
        self._compacting = Compacting(settings.compaction, state)
        self._retry_at: float | None = None
        self._chain = MessageChain()
        self._kept: dict[Any, Any] = {}  # by the adapter, for the next request
        self._digests = self._fixed_digests()

    def ask(self, now: float) -> AgentEvent:
        """Return what comes before the first request of a turn, then the request."""
        first = self.over(now, self.state.turn_index - 1) or self._changed_catalog() or self._compacting.due()
        return first or self._request(1, now)

    def model_request(self) -> ModelRequest:
        """Return the open request as the model is to get it."""
        request = self.state.request
        if request is None:
            raise IllegalMoveError("request", self.state.phase.value, "a request must have been told")
        state = self.state
        ids: dict[str, Any] = {
            "session_id": state.session_id,
            "run_id": state.run_id,
            "turn_id": state.turn_id,
        }
        wanted = self._compacting.wanted if request.purpose == "compaction" else None
        if wanted is not None and wanted.model is not None:
            return ModelRequest(
                request_id=request.id,
                purpose=request.purpose,
                system=wanted.system,
                tools=(),
                items=wanted.items,
                parameters={},
                attempt=request.attempt,
                **ids,
            )
        # The agent's own model is asked for a summary with the same beginning as ever, so that its cache holds.
        return ModelRequest(
            request_id=request.id,
            purpose=request.purpose,
            system=self.settings.system,
            tools=self.catalog.specs,
            items=tuple(self.state.transcript.items) if wanted is None else wanted.items,
            parameters=self.settings.parameters,
            attempt=request.attempt,
            kept=self._kept,
            **ids,
        )

    @property
    def model(self) -> Model | None:
        """The model that the open request is for; None for the agent's own."""
        wanted, request = self._compacting.wanted, self.state.request
        of_compaction = wanted is not None and request is not None and request.purpose == "compaction"
        return wanted.model if of_compaction and wanted is not None else None

    def over(self, now: float, turns: int) -> AgentEvent | None:
        """Return what is to be told of a limit before a request; turns: answered ones of the exchange."""
        limits, purse = self.settings.limits, self.purse
        if purse is None:
            if limits is None:
                return None
            spent, above = self.state.session_spent, list[Above]()
        else:
            spent, above = purse.spent(), purse.above()
        return limit_event(
            limits, self.state, turns=turns, seconds=self.seconds(now), spent=spent, above=above
        )

    def seconds(self, now: float) -> float:
        """Return how long the run has been open."""
        return 0.0 if self.run_started is None else now - self.run_started

    def _changed_catalog(self) -> AgentEvent | None:
        changed = self.catalog.change()
        if changed is not None:
            self._digests = self._fixed_digests()
        return changed

    def _fixed_digests(self) -> dict[str, str]:
        settings = {"model": self.settings.model, **self.parameters}
        return fixed_digests(self.catalog.specs, self.settings.system, settings)

    def compact(self, now: float) -> AgentEvent:
        """Go on with the open compaction."""
        if not self._compacting.asked:
            return self._compacted(self._compacting.next(), now)
        text = "".join(self.open.committed)
        return self._compacted(self._compacting.answered(text, self.open.finish_reason), now)

    def _compacted(self, move: SummaryWanted | CompactionFinished, now: float) -> AgentEvent:
        if isinstance(move, CompactionFinished):
            return move
        return self.over(now, self.state.turn_index - 1) or self._request(1, now, wanted=move)

    def _request(
        self, attempt: int, now: float, *, wanted: SummaryWanted | None = None
    ) -> ModelRequestStarted:
        self.open.begin(now)
        self._retry_at = None
        request_id = f"request-{self.state.requests + 1}"
        if wanted is not None:
            self._compacting.asked = True
            model, fixed = self.settings.model, self._digests
            if wanted.model is not None:
                model = clean_text(wanted.model.name)
                fixed = fixed_digests((), wanted.system, {"model": model})
            return ModelRequestStarted(
                request_id=request_id,
                attempt=attempt,
                purpose="compaction",
                model=model,
                message_count=len(wanted.items),
                digests={**fixed, "messages": MessageChain().of(wanted.items)},
            )
        items = self.state.transcript.items
        return ModelRequestStarted(
            request_id=request_id,
            attempt=attempt,
            purpose="turn",
            model=self.settings.model,
            message_count=len(items),
            digests={**self._digests, "messages": self._chain.of(items)},
        )

    def after_failure(self, now: float) -> AgentEvent | GiveUp:
        """Return what follows a failed request: another attempt, a compaction, or the end."""
        failure = self.state.failure
        assert failure is not None  # noqa: S101 - the phase says so
        retry = self.settings.retry
        if failure.error_class not in RETRYABLE_CLASSES or failure.attempt >= retry.max_attempts:
            return self._after_last_failure(failure, now)
        seed = f"{self.state.session_id}/{failure.request_id}"
        delay = retry.delay_ms(failure.attempt, failure.retry_after_ms, seed)
        self._retry_at = now + delay / 1e3
        return ModelRequestRetrying(
            request_id=failure.request_id, delay_ms=delay, next_attempt=failure.attempt + 1
        )

    def _after_last_failure(self, failure: Failure, now: float) -> AgentEvent | GiveUp:
        """Return what follows a failure that no other attempt mends."""
        if failure.purpose == "compaction":
            asked = self._compacting.asked
            return self._compacted(
                self._compacting.failed(failure) if asked else self._compacting.next(), now
            )
        started: CompactionStarted | None = None
        if failure.error_class == "context_exceeded" and not self.state.transcript.compacting:
            started = self._compacting.after_refusal()
        return started or GiveUp(failure)

    def back_off(self, now: float) -> Move:
        """Return the next attempt, or until when to wait for it."""
        failure = self.state.failure
        assert failure is not None  # noqa: S101 - the phase says so
        retry_at = self._retry_at
        if retry_at is not None and now < retry_at:
            return Wait(retry_at)
        wanted = self._compacting.wanted if failure.purpose == "compaction" else None
        over = self.over(now, self.state.turn_index - 1)
        return over or self._request(failure.attempt + 1, now, wanted=wanted)
