"""SessionSpan: a session of a hand-written loop while it runs, and what it used so far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.forks import Locked
from agentkit_loop.scope_records import cost_of
from agentkit_loop.scopes import RunScope
from agentkit_loop.usage import Cost, Usage
from agentkit_loop.values import safe_repr
from agentkit_reporting.records.session_context import SessionPlace
from agentkit_reporting.records.session_summary import SessionSummary

if TYPE_CHECKING:
    from agentkit_reporting.records.profiler import SessionProfiler

__all__ = ["SessionSpan"]


class SessionSpan(Locked):
    """A session of a hand-written loop while it runs; made by `SessionProfiler.start_session`.

    A context manager, sync and async: left by an exception the session ends with it, as failed or cancelled. Its
    methods may be called from any thread.
    """

    def __init__(self, profiler: SessionProfiler, run: RunScope) -> None:
        super().__init__()
        self._profiler = profiler
        self.run = run
        """What tells the session: tools, decisions and streams can be told through it as well."""
        self._run_id = run.run_id
        self._is_ending = False
        self._place = SessionPlace(run.session_id)
        self._place.enter()
        self._last: SessionSummary | None = None

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._place.session_id

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return self._place.is_open

    # --- what it used

    def record_tokens(
        self,
        input: int | None,  # noqa: A002 - the seed's word
        output: int | None,
        cost: Cost | Decimal | float | str | None = None,
        *,
        cached: int | None = None,
        cache_write: int | None = None,
        reasoning: int | None = None,
        model: str | None = None,
    ) -> None:
        """Tell one request that is over, by its counts; None is unknown.

        input: tokens that were neither read from the cache (cached) nor written to it (cache_write), as the API
        counts. output: reasoning among them. cost: in USD or a Cost, where the host knows it; else the prices
        say it, for which a model has to be named. Raises ConfigurationError for what is no count or amount,
        IllegalMoveError once it is closed.
        """
        counts: dict[str, Any] = {
            "input_tokens": input,
            "output_tokens": output,
            "cached_input_tokens": cached,
            "cache_write_input_tokens": cache_write,
            "reasoning_tokens": reasoning,
        }
        for name, count in counts.items():
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
                raise ConfigurationError(
                    f"{name}={safe_repr(count)} refused; give an int of at least 0, or None"
                )
        self._refuse_closed()
        known = cost_of(cost, self.run.emitter.clock.now())  # refused before anything is told
        self.run.record_model_call(usage=Usage(**counts), cost=known, model=model)

    def record(self, response: object, *, duration_ms: float | None = None) -> None:
        """Tell a request by its answer, the SDK's Message: usage of every kind, model, stop reason, calls.

        A response that was told already, here or through the run, counts once. duration_ms: how long it took, where
        somebody measured. Raises ConfigurationError for what is no answer, IllegalMoveError once it is closed.
        """
        self._refuse_closed()
        if response is None:
            raise ConfigurationError(
                "None refused because it is no answer; give the SDK's Message, or its counts"
            )
        self.run.record_model_call(response, duration_ms=duration_ms)

    def _refuse_closed(self) -> None:
        if not self.is_open:
            raise IllegalMoveError("record", "closed", "start another session")

    # --- totals

    @property
    def summary(self) -> SessionSummary | None:
        """What the run used so far, or in all once it has ended; None where nobody tells the profiler of it."""
        found = self._profiler.running(self.session_id) if self._last is None else None
        if found is not None and found.run_id == self._run_id:
            return found
        if self._last is None:
            self._last = self._profiler.summary_of(self._run_id)
        return self._last

    @property
    def total_input_tokens(self) -> int | None:
        """Input tokens so far, cached ones and those written to the cache among them; None is unknown."""
        return None if self.summary is None else self.summary.total_input_tokens

    @property
    def total_output_tokens(self) -> int | None:
        """Output tokens so far; None is unknown."""
        return None if self.summary is None else self.summary.total_output_tokens

    @property
    def total_cost_usd(self) -> Decimal | None:
        """The cost so far in USD; None is unknown."""
        return None if self.summary is None else self.summary.total_cost_usd

    @property
    def calls(self) -> int:
        """Requests to the model so far."""
        return 0 if self.summary is None else self.summary.calls

    # --- the end

    def close(self, error: BaseException | None = None) -> SessionSummary | None:
        """End the session, with the error that ended it; twice is harmless. Returns its summary.

        Raises IllegalMoveError inside an observer, as in `on_budget`, and stays open: observers watch.
        """
        with self._lock:
            if self.is_open and not self._is_ending:
                with self._ending():
                    self._profiler.end_run(self.session_id, error)
        return self.summary

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """End the session inside: afterwards it is closed, but for a move that was refused."""
        self._is_ending = True
        try:
            yield
        except IllegalMoveError:
            self._is_ending = False
            raise
        except BaseException:
            self._leave()
            raise
        self._leave()

    def _leave(self) -> None:
        self._place.leave()
        self._profiler.note_closed(self.session_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            ends_here = self.is_open and not self._is_ending
            self._is_ending = self._is_ending or ends_here
        if ends_here:
            with self._ending():
                await self._profiler.aend_run(self.session_id, error)
