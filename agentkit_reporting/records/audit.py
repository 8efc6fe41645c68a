"""AuditLedger: why the agent did what it did: its decisions, each with its evidence, per session.

ledger = AuditLedger("logs/decisions.jsonl", rotation=Rotation(max_bytes=100_000_000, keep_age_s=90 * 86_400))
agent = Agent(model, observers=[ledger])                       # reasons, selections, approvals, limits by themselves
ledger.log("ses-1", step=0, type="reasoning", detail="…")      # in a hand-written loop
ledger.get_trace("ses-1")
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import EventKind, FailurePolicy, Observer
from agentkit_loop.values import safe_repr
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.sources import Source
from agentkit_reporting.log.syncing import DEFAULT_FSYNC_INTERVAL_MS, FsyncPolicy
from agentkit_reporting.records.decisions import DecisionEntry, DecisionFold
from agentkit_reporting.records.reading import read_records
from agentkit_reporting.records.recorded import RecordedView
from agentkit_reporting.records.store import RecordStore
from agentkit_reporting.redaction.redactor import Redaction

__all__ = ["AuditLedger", "DecisionEntry", "DecisionTrail"]

_FIELDS = ("step", "type", "detail", "metadata")


class DecisionTrail:
    """Decisions by session, in order. bad_count: lines that were no decisions, where it was read."""

    def __init__(self) -> None:
        self._entries: dict[str, list[DecisionEntry]] = {}
        self.bad_count = 0

    @property
    def session_ids(self) -> tuple[str, ...]:
        """The sessions, in the order in which they were met."""
        return tuple(self._entries)

    def get_trace(self, session_id: str) -> list[DecisionEntry]:
        """Return the decisions of a session; none of one that is not known."""
        return list(self._entries.get(session_id, ()))

    def add(self, entry: DecisionEntry) -> None:
        """Take an entry; one that amends another stands in its place."""
        entries = self._entries.setdefault(entry.session_id, [])
        if entry.amends:
            key = (entry.run_id, entry.evidence_seq, entry.type)
            for place in range(len(entries) - 1, -1, -1):
                other = entries[place]
                if (other.run_id, other.evidence_seq, other.type) == key:
                    entries[place] = entry
                    return
        entries.append(entry)

    def forget(self, session_id: str) -> None:
        """Free the memory of a session's decisions."""
        self._entries.pop(session_id, None)


class AuditLedger(RecordedView):
    """Keeps the decisions of sessions, in memory and in a file.

    path: the file, one JSON object a line, or its address in remote storage; None keeps them in memory only. rotation:
    with it retention. The other arguments: see `RecordedView`.

    Entries come of the events by themselves, and of `log`. What a host says with `log` of a step, in a run that tells
    its requests and calls as well, is no second entry: it replaces the first one of that step and type that the
    events made, with tool selections the one whose tool it names. Evidence, basis and metadata of that stay, its
    detail under `metadata["evidence"]` where it differs. In the file that is a further line, which `amends`.

    In memory an entry takes about 1 KB beside its words, which are bounded; entries stay until `forget`.
    """

    wants: ClassVar[tuple[EventKind, ...]] = DecisionFold.wants
    file_name: ClassVar[str] = "decisions.jsonl"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        remote: str | None = None,
        rotation: Rotation | None = None,
        redact: Redaction = True,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        emitter: EventEmitter | None = None,
        observers: Iterable[Observer] = (),
        policy: FailurePolicy = FailurePolicy.LOG,
        clock: Clock | None = None,
    ) -> None:
        self._fold = DecisionFold()
        self._trail = DecisionTrail()
        super().__init__(
            path,
            remote=remote,
            rotation=rotation,
            redact=redact,
            fsync=fsync,
            fsync_interval_ms=fsync_interval_ms,
            emitter=emitter,
            observers=observers,
            policy=policy,
            clock=clock,
        )

    def log(
        self,
        session_id: str,
        entry: Mapping[str, Any] | None = None,
        *,
        step: int | None = None,
        type: str | None = None,  # noqa: A002 - the entry's field
        detail: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell a decision.

        entry: the other arguments as a mapping, in place of them. step: by default the number of the turn within its
        exchange, from 0. type: `tool_selection`, `reasoning`, `final_response`, or a word of one's own. The session's
        run, if nobody else tells it, begins here and ends with `end_run(session_id)` or `close`, or when 200 other
        sessions were told of since; told of again, the session has a further run. Raises ConfigurationError for a
        decision without type or detail; LogError after `close`.
        """
        given: Any = entry
        if given is not None:
            if not isinstance(given, Mapping) or (step, type, detail, metadata) != (None,) * 4:
                raise ConfigurationError(
                    f"{safe_repr(given)} refused; give a mapping, or step=, type=, detail= and metadata="
                )
            unknown = [key for key in given if key not in _FIELDS]
            if unknown:
                raise ConfigurationError(
                    f"{unknown[0]!r} refused because it is no field; use {', '.join(_FIELDS)}"
                )
            step, type, detail, metadata = (given.get(name) for name in _FIELDS)  # noqa: A001 - as above
        if not isinstance(type, str) or not type or not isinstance(detail, str):
            raise ConfigurationError(
                f"decision type={type!r} detail={safe_repr(detail)} refused; give both as text"
            )
        if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
            raise ConfigurationError(f"step={step!r} refused; give a whole number, or None for the turn's")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise ConfigurationError(f"metadata={safe_repr(metadata)} refused; give a mapping, or None")
        self._refuse_closed()
        if self._emitter is not None:
            self.run_of(session_id).decision(type, detail, step=step, metadata=metadata)
            return
        try:
            self.begin_use(session_id).decision(type, detail, step=step, metadata=metadata)
        finally:
            self.end_use(session_id)

    def _take(self, event: AgentEvent) -> None:
        for entry, is_redacted in self._fold.take(event):
            record = msgspec.to_builtins(entry)
            self._write(functools.partial(RecordStore.append, record=record), is_redacted=is_redacted)
            self._trail.add(entry)

    @property
    def session_ids(self) -> tuple[str, ...]:
        """The sessions with decisions, in the order in which they were met."""
        with self._lock:
            return self._trail.session_ids

    def get_trace(self, session_id: str) -> list[DecisionEntry]:
        """Return the decisions of a session that were told here, in order; none of one that is not known."""
        with self._lock:
            return self._trail.get_trace(session_id)

    def forget(self, session_id: str) -> None:
        """Free the memory of a session's decisions; in the file they stay."""
        with self._lock:
            self._trail.forget(session_id)
            self._fold.forget(session_id)

    @staticmethod
    def read(source: Source, *, strict: bool = False) -> DecisionTrail:
        """Return the decisions of files; `get_trace(session_id)` as here.

        source: what `read_records` takes. strict: the first bad line raises LogError instead of being counted. Raises
        LogError for what cannot be read.
        """
        trail = DecisionTrail()
        others = 0
        with read_records(source, strict=strict) as reader:
            for record in reader:
                try:
                    trail.add(msgspec.convert(record, DecisionEntry))
                except msgspec.ValidationError:
                    others += 1
            trail.bad_count = reader.bad_count + others
        return trail
