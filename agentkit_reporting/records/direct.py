"""The direct use of a view: what a hand-written loop tells it becomes events, and the view makes its records of those.

So a record never has two makers: live, told directly and read from a log, it comes from `handle_event`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.observers import FailurePolicy, LoopObserver, Observer, log_error
from agentkit_loop.scopes import RunScope
from agentkit_reporting.process_ends import watch
from agentkit_reporting.records.recent_runs import RecentRuns

__all__ = ["DirectView"]

logger = logging.getLogger(__name__)

_REMEMBERED = 100  # sessions whose run has ended


class DirectView(LoopObserver):
    """An observer that can also be told directly, of any number of sessions, from any thread.

    emitter: the host's, which then tells what is said here, to this view among others (it is registered there if
    it is not); every session is that emitter's. Without one each session gets an emitter of its own, with this view
    and `observers`. policy: what becomes of their failures, the view's own among them; a failing disk stops no agent,
    nor does it at the end of a `with`, unless policy is FAIL_FAST.

    Views that are told of one session and share a log share an `emitter` too, and are then told each thing once: with
    emitters of their own both number their events from 1, and `agentkit check` and a resume refuse such a log.
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
        self._is_registered = False  # by itself
        self.begin_anew()
        watch(self, at_exit=False)
        if emitter is not None:
            if self._observers:
                raise ConfigurationError(
                    "observers= refused beside emitter=; register them with that emitter"
                )
            if not self._is_observer_of(emitter):
                emitter.add_observer(self)
                self._is_registered = True

    def _is_observer_of(self, emitter: EventEmitter) -> bool:
        return any(observer is self for observer in emitter.observers)

    def run_of(self, session_id: str | None = None, **fields: Any) -> RunScope:
        """Return the session's open run; where none is open, tell the beginning of one.

        fields: what `EventEmitter.run` takes, for the latter case. Raises ConfigurationError where another session's
        id is given than the host's emitter has; IllegalMoveError in an observer of that emitter, for the latter case.
        """
        emitter, key = self._emitter, session_id
        if emitter is None:
            emitter = self._emitter_of(session_id)
        elif session_id not in (None, emitter.session_id):
            raise ConfigurationError(
                f"session {session_id!r} refused because emitter= tells {emitter.session_id!r}; "
                "give that one, or leave emitter= out"
            )
        run = emitter.open_run
        if run is not None:
            return run
        with (
            emitter.together()
        ):  # before the lock of ours: an observer, called under this one, may call the view
            run = emitter.open_run
            if run is None:
                run = emitter.run(**fields)
                with self._runs_lock:
                    self._forget_ended()
                    self._runs[key or emitter.session_id] = run
                run.__enter__()
        return run

    def begin_use(self, session_id: str, **fields: Any) -> RunScope:
        """Return the session's open run as `run_of` does, in use until `end_use`.

        Of the runs that nobody uses the one that was used longest ago ends where there are too many; what it told is
        forced to the disk when the view is flushed, and whoever tells now does not wait for that.
        """
        for unused in self._recent.begin(session_id):
            with self._runs_lock:
                run = self._runs.get(unused)
            if run is not None and run.is_open:
                run.end()
        return self.run_of(session_id, **fields)

    def end_use(self, session_id: str) -> None:
        """Take note that one use of a session's run is over."""
        self._recent.end(session_id)

    def _emitter_of(self, session_id: str | None) -> EventEmitter:
        """Return the session's own emitter."""
        if session_id is None:
            raise ConfigurationError("session_id=None refused; give the session's id, or an emitter=")
        with self._runs_lock:
            emitter = self._emitters.get(session_id)
            if emitter is None:
                emitter = self._emitters[session_id] = EventEmitter(
                    (self, *self._observers),
                    session_id=session_id,
                    run_id=session_id,
                    policy=self._policy,
                    clock=self._clock,
                )
            elif emitter.open_run is None and session_id in self._runs:
                self._runs[session_id] = self._runs.pop(
                    session_id
                )  # used again: not the next to be forgotten
            return emitter

    def _forget_ended(self) -> None:
        """Keep of ended runs the last ones only, by which a session that is told of again counts on."""
        ended = [key for key, run in self._runs.items() if not run.is_open]
        for key in ended[: -_REMEMBERED or None]:
            del self._runs[key]
            self._emitters.pop(key, None)

    def begin_anew(self) -> None:
        """Begin without runs: the view is new, or this is a forked child, whose parent ends those that are open."""
        self._runs: dict[str, RunScope] = {}  # the last that was opened here, by session
        self._emitters: dict[str, EventEmitter] = {}  # by session, where the host has none
        self._runs_lock = threading.RLock()
        self._recent = RecentRuns()

    def end_run(self, session_id: str | None = None, error: BaseException | None = None) -> None:
        """Tell the end of the session's run that was opened here: finished, or as the error says; twice is harmless."""
        with self._runs_lock:
            key = session_id if self._emitter is None or session_id is not None else self._emitter.session_id
            run = None if key is None else self._runs.get(key)
        if run is not None and run.is_open:
            run.__exit__(None if error is None else type(error), error, None)

    def close(self) -> bool | None:
        """Tell the end of every run that was opened here; twice is harmless.

        A view that registered itself with the host's emitter is told nothing more by it.
        """
        with self._runs_lock:
            open_here = list(self._runs)
        for session_id in open_here:
            self.end_run(session_id)
        emitter = self._emitter
        if emitter is not None and self._is_registered:
            self._is_registered = False
            if self._is_observer_of(emitter):
                emitter.remove_observer(self)
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
        try:
            self.close()
        except LogError as failure:
            if self._policy is FailurePolicy.FAIL_FAST:
                raise
            log_error(logger, f"{type(self).__name__} could not be closed well: {failure}", failure)
