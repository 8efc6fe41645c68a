"""The direct use of a view: what a hand-written loop tells it becomes events, and the view makes its records of those.

So a record never has two makers: live, told directly and read from a log, it comes from `handle_event`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.observers import FailurePolicy, LoopObserver, Observer
from agentkit_loop.scopes import RunScope

__all__ = ["DirectView"]

_REMEMBERED = 100  # sessions whose run has ended


class DirectView(LoopObserver):
    """An observer that can also be told directly, of any number of sessions, from any thread.

    emitter: the host's, which then tells what is said here, to this view among others (it is registered there if
    it is not); every session is that emitter's. Without one each session gets an emitter of its own, with this view
    and `observers`. policy: what becomes of their failures, the view's own among them; a failing disk stops no agent.
    """

    def __init__(
        self,
        *,
        emitter: EventEmitter | None = None,
        observers: Iterable[Observer] = (),
        policy: FailurePolicy = FailurePolicy.LOG,
        clock: Clock | None = None,
    ) -> None:
        self._emitter = emitter
        self._observers = tuple(observers)
        self._policy = policy
        self._clock = clock
        self._runs: dict[str, RunScope] = {}  # those that were opened here, by session
        self._runs_lock = threading.RLock()
        if emitter is not None:
            if self._observers:
                raise ConfigurationError(
                    "observers= refused beside emitter=; register them with that emitter"
                )
            if not any(observer is self for observer in emitter.observers):
                emitter.add_observer(self)

    def run_of(self, session_id: str | None = None, **fields: Any) -> RunScope:
        """Return the session's open run; where none is open, tell the beginning of one.

        fields: what `EventEmitter.run` takes, for the latter case. Raises ConfigurationError where another session's
        id is given than the host's emitter has.
        """
        with self._runs_lock:
            if self._emitter is not None and session_id not in (None, self._emitter.session_id):
                raise ConfigurationError(
                    f"session {session_id!r} refused because emitter= tells {self._emitter.session_id!r}; "
                    "give that one, or leave emitter= out"
                )
            key = session_id if self._emitter is None else self._emitter.session_id
            if self._emitter is not None and self._emitter.open_run is not None:
                return self._emitter.open_run
            if key is None:
                raise ConfigurationError("session_id=None refused; give the session's id, or an emitter=")
            run = self._runs.get(key)
            if run is None or not run.is_open:
                run = self._emitter_of(key).run(**fields)
                self._forget_ended()
                self._runs[key] = run
                run.__enter__()
            return run

    def _forget_ended(self) -> None:
        """Keep of ended runs the last ones only, by which a session that is told of again counts on."""
        ended = [key for key, run in self._runs.items() if not run.is_open]
        for key in ended[: -_REMEMBERED or None]:
            del self._runs[key]

    def _emitter_of(self, session_id: str) -> EventEmitter:
        if self._emitter is not None:
            return self._emitter
        known = self._runs.get(session_id)
        if known is not None:
            return known.emitter
        return EventEmitter(
            (self, *self._observers),
            session_id=session_id,
            run_id=session_id,
            policy=self._policy,
            clock=self._clock,
        )

    def end_run(self, session_id: str | None = None, error: BaseException | None = None) -> None:
        """Tell the end of the session's run that was opened here: finished, or as the error says; twice is harmless."""
        with self._runs_lock:
            key = session_id if self._emitter is None or session_id is not None else self._emitter.session_id
            run = None if key is None else self._runs.get(key)
        if run is not None and run.is_open:
            run.__exit__(None if error is None else type(error), error, None)

    def close(self) -> bool | None:
        """Tell the end of every run that was opened here; twice is harmless."""
        with self._runs_lock:
            open_here = list(self._runs)
        for session_id in open_here:
            self.end_run(session_id)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._runs_lock:
            open_here = list(self._runs)
        for session_id in open_here:
            self.end_run(session_id, error)
        self.close()
