"""ToolRecorder: one record of every call of a tool, made of the events that tell it.

recorder = ToolRecorder("logs/tools.jsonl")
search = recorder.instrument("search_web", search_web)       # or @recorder.tool, @recorder.tool("name")
"""

from __future__ import annotations

import collections
import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, ParamSpec, TypeVar, overload

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import AgentKitError, ConfigurationError, ObserverError
from agentkit_loop.events import AgentEvent, ToolCallRequested, ToolExecutionStarted, ToolResultReceived
from agentkit_loop.ids import new_id
from agentkit_loop.observers import FailurePolicy, Observer
from agentkit_loop.scope_records import AsJson
from agentkit_loop.scopes import RunScope
from agentkit_loop.tool_context import RunningCall, running
from agentkit_loop.values import JSON
from agentkit_reporting.accounting import Account
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.sources import Source
from agentkit_reporting.records.direct import DirectView
from agentkit_reporting.records.instrumenting import watched, watched_name
from agentkit_reporting.records.open_telling import OpenTelling
from agentkit_reporting.records.reading import RecordReader, read_records
from agentkit_reporting.records.session_context import current_session
from agentkit_reporting.records.store import RecordStore
from agentkit_reporting.records.tool_records import DEFAULT_PREVIEW_CHARS, Allowed, CallRules, ToolRecord
from agentkit_reporting.redaction.redactor import Redaction

__all__ = ["ToolRecorder"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_KEEP = 10_000
"""Records that a recorder keeps in memory; older ones make room, and stay in its file."""

_MOST_OPEN = 10_000  # calls whose result is awaited; a cut log has some that never get one

_Key = tuple[str, str, str]


class ToolRecorder(DirectView):
    """Records calls of tools: those of loops that it observes, of logs that it is given, of functions it instruments.

    store_path: a file of records, one JSON object a line, or its address (see RecordStore); None keeps them in memory
    only. redact, allow: what of a call is shown, before anything is stored or told; see CallRules and
    Allowed. preview_chars: of a result. remote, rotation: of the file, see RecordStore. on_record: called with each
    record. keep: how many records stay in memory. emitter, observers, policy, clock: see DirectView; session_id: see
    `watch`.

    May be shared by sessions and threads. No trouble of the recorder's reaches a tool; it is logged, and counted in
    `account()`. Only where the host chose FAIL_FAST ObserverError does, in place of the tool's result.
    """

    wants: ClassVar[tuple[type[AgentEvent], ...]] = (
        ToolCallRequested,
        ToolExecutionStarted,
        ToolResultReceived,
    )

    def __init__(
        self,
        store_path: str | os.PathLike[str] | None = None,
        *,
        redact: Redaction = True,
        allow: Allowed | None = None,
        preview_chars: int = DEFAULT_PREVIEW_CHARS,
        remote: str | None = None,
        rotation: Rotation | None = None,
        emitter: EventEmitter | None = None,
        observers: Iterable[Observer] = (),
        policy: FailurePolicy = FailurePolicy.LOG,
        session_id: str | None = None,
        on_record: Callable[[ToolRecord], object] | None = None,
        keep: int = DEFAULT_KEEP,
        clock: Clock | None = None,
    ) -> None:
        if store_path is None and (rotation is not None or remote is not None):
            name = "rotation" if remote is None else "remote"
            raise ConfigurationError(f"{name} refused because nothing is stored; give store_path=")
        if keep < 0:
            raise ConfigurationError(f"keep={keep!r} refused; give how many records stay in memory")
        self._rules = CallRules(redact, allow, preview_chars)
        # Scrubbed before it comes there: what a record shows is cut, and a secret that is cut is none to a rule.
        self._store = (
            None
            if store_path is None
            else RecordStore(
                store_path,
                rotation=rotation,
                redact=False,
                clock=clock,
                remote=remote,
                file_name="tools.jsonl",
            )
        )
        self._on_record = on_record
        self._session_id = session_id
        self._open: dict[_Key, dict[str, JSON]] = {}  # arguments by call
        self._told_here: set[_Key] = set()
        self._records: collections.deque[ToolRecord] = collections.deque(maxlen=keep)
        self._logged: set[str] = set()
        self._closed = False
        super().__init__(emitter=emitter, observers=observers, policy=policy, clock=clock)

    def begin_anew(self) -> None:
        """Begin with no calls counted and no session of its own: this is a new recorder, or a forked child."""
        super().begin_anew()
        self._lock = threading.RLock()
        self._made = self._missed = 0
        self._own_session: str | None = None

    # --- functions

    def instrument(self, name: str, fn: Callable[P, R]) -> Callable[P, R]:
        """Return a function of the same kind, signature and text that does what `fn` does and is recorded.

        name: of the tool. fn: sync, async, a generator of either kind (its latency and preview are of its iteration,
        from the first item that is asked for); a method, partial, callable object, static or class method, a Tool.
        Arguments are recorded by name as they were given, without `self`, defaults and a ToolContext. Raises
        ConfigurationError.

        What runs as the body of a call that this recorder is told of anyway, by our loop or within
        `run.tool_call(…)`, under the same name, tells nothing again. A thread that the host starts in there has to be
        given the context for that: `asyncio.to_thread`, or `contextvars.copy_context().run`.
        """
        if not name:
            raise ConfigurationError(f"name={name!r} refused; give the tool's name")
        return watched(self, name, fn)

    @overload
    def tool(self, fn: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def tool(self, name: str | None = None, /) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def tool(self, fn: Any = None, /) -> Any:
        """Decorate a function: `@recorder.tool`, or `@recorder.tool("name")`; see `instrument`."""
        if fn is None or isinstance(fn, str):
            return lambda found: self.instrument(fn or watched_name(found), found)
        return self.instrument(watched_name(fn), fn)

    def watch(
        self, name: str, arguments: Callable[[], dict[str, JSON]], *, detached: bool = False
    ) -> OpenTelling | None:
        """Tell that a call begins; return what tells its end, None where somebody else tells this call.

        The call belongs to the session of the recorder's `session_id`, else to that of its emitter, else to the
        current one (see `current_session`), else to that of the call in whose body it runs, else to one of the
        recorder's own.
        """
        around = running.get()
        if self._closed or (around is not None and around.name == name and self._is_told(around)):
            return None
        session_id = None
        try:
            given = self._rules.told_arguments(name, arguments())
            session_id = self._session(around)
            scope = self._run(session_id).tool_call(name, AsJson(given))
            telling = OpenTelling(self, session_id, scope, self._rules)
            telling.begin(detached=detached)
        except BaseException as error:
            if session_id is not None:
                self.end_use(session_id)
            if isinstance(error, ObserverError) or not isinstance(error, Exception):
                raise
            self.note_missed(error)  # whatever it is, the tool is to run
            return None
        return telling

    def _session(self, around: RunningCall | None) -> str:
        """Return the session that a call belongs to."""
        if self._emitter is not None:
            return self._emitter.session_id
        session_id = self._session_id or current_session()
        if session_id is None and around is not None:
            session_id = around.session_id
        if session_id is None:
            with self._lock:
                if self._own_session is None:
                    self._own_session = new_id("ses")
                session_id = self._own_session
        return session_id

    def _run(self, session_id: str) -> RunScope:
        """Return its open run; it is used until `note_ended`."""
        if self._emitter is not None:
            return self.run_of()
        return self.begin_use(session_id, prices=None)

    def _is_told(self, call: RunningCall) -> bool:
        key = call[:3]
        return key in self._open and key not in self._told_here

    def note_begun(self, call: _Key) -> None:
        """Take note of a call that was told here."""
        self._told_here.add(call)

    def note_ended(self, session_id: str, call: _Key | None) -> None:
        """Take note that it is over."""
        self.end_use(session_id)
        if call is not None:
            self._told_here.discard(call)

    def note_missed(self, error: Exception) -> None:
        """Take note of a call, or its end, that could not be told."""
        kind = type(error).__name__
        with self._lock:
            self._missed += 1
            is_new = kind not in self._logged
            self._logged.add(kind)
        if is_new:
            # The text of a foreign error may quote what was to be masked.
            logger.warning("a call was not recorded: %s", error if isinstance(error, AgentKitError) else kind)

    # --- events

    def handle_event(self, event: AgentEvent) -> None:
        """Take one event of a call; its result makes the record."""
        match self._rules.event(event):
            case ToolCallRequested(call=call):
                self._note_arguments((event.session_id, event.run_id, call.id), call.name, call.input)
            case ToolExecutionStarted(call_id=call_id, name=name, input=changed) if changed is not None:
                self._note_arguments((event.session_id, event.run_id, call_id), name, changed)
            case ToolResultReceived() as result:
                with self._lock:
                    record = self._rules.record(result, self._take_arguments(result))
                    self._made += 1
                    if self._store is not None:
                        self._store.append(record, is_json=True)
                    self._records.append(record)
                if self._on_record is not None:
                    self._on_record(record)
            case _:
                pass

    def _note_arguments(self, key: _Key, name: str, given: dict[str, JSON]) -> None:
        shown = self._rules.arguments(name, given)
        with self._lock:
            self._open[key] = shown
            if len(self._open) > _MOST_OPEN:
                del self._open[next(iter(self._open))]

    def _take_arguments(self, event: ToolResultReceived) -> dict[str, JSON]:
        key = (event.session_id, event.run_id, event.call_id)
        if key not in self._open:  # asked for in an earlier run of the session
            same = [each for each in self._open if each[0] == key[0] and each[2] == key[2]]
            key = same[-1] if same else key
        return self._open.pop(key, {})

    # --- what came of it

    def records(self) -> list[ToolRecord]:
        """Return the last records, oldest first: at most `keep` of them, about 1 kB each; the file has all."""
        with self._lock:
            return list(self._records)

    @staticmethod
    def read(source: Source, *, strict: bool = False) -> RecordReader:
        """Return the records of a file with its rotated segments, as dicts; see `read_records`."""
        return read_records(source, strict=strict)

    def account(self) -> Account:
        """Return what became of the calls; `failed` are those that could not be told or stored."""
        with self._lock:
            made, missed = self._made, self._missed
            stored = made if self._store is None else self._store.account().delivered
        return Account(
            name=type(self).__name__,
            received=made + missed,
            delivered=stored,
            failed=missed + made - stored,
        )

    def flush(self, timeout_s: float | None = None) -> bool:
        """Force what was stored to the disk; return whether every record is there. Raises LogError."""
        return self._store is None or self._store.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """End the runs that were opened here and close the file; functions go on unrecorded. Twice is harmless."""
        self._closed = True
        super().close()
        return self._store is None or self._store.close(timeout_s)
