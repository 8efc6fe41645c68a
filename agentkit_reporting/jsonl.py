"""JsonlReporter: the log. Every event is one line, on its way to the file before the loop goes on."""

from __future__ import annotations

import collections
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentkit_loop.batches import DeltaBatch
from agentkit_loop.clock import Clock
from agentkit_loop.content import AppendBytes, AppendText
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, ContentDelta, is_redacted
from agentkit_loop.forks import Locked
from agentkit_loop.observers import BatchObserver
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.batch_lines import encode_batch
from agentkit_reporting.codec import encode_event, log_version
from agentkit_reporting.inner import ended_within
from agentkit_reporting.log.places import refuse_foreign, writable_path
from agentkit_reporting.log.segments import log_of
from agentkit_reporting.log.stream import StreamWriter
from agentkit_reporting.log.syncing import DEFAULT_FSYNC_INTERVAL_MS, FsyncPolicy, Syncing
from agentkit_reporting.log.write import LineWriter, LogWriter
from agentkit_reporting.process_ends import watch
from agentkit_reporting.redaction.redactor import Redaction, redactor_of

if TYPE_CHECKING:  # most logs are not rotated nor uploaded; what does that takes 5 ms to load
    from agentkit_reporting.log.remote import Remote, Uploads
    from agentkit_reporting.log.rotate import Rotation

MAX_OPEN_SESSIONS = 64
"""With per="session": how many files are held open; the one written longest ago makes room."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class JsonlReporter(BatchObserver):
    """Writes every event as one line of JSON.

    target: a file, appended to; with per="session" a directory, one file a session; an open stream, text
    or binary, which stays open; "-" for standard output. deltas: "none" leaves out the appended text and
    bytes, which are previews: the begin and the whole content of each part stay. rotation: when a file is
    begun anew, packed and removed (`Rotation`). redact: secrets are masked in what is written: True, the secret
    rules; rules of one's own (`["secrets", "email"]`); a Redactor; False, none. remote: where the files are
    uploaded to, such as "s3://bucket/prefix", each segment when it is rotated (every 16 MiB and, while
    lines come, every 5 minutes unless `rotation` says else), the rest on `close`; see
    `agentkit_reporting.log.remote.Remote`. fsync, fsync_interval_ms, clock: see
    `agentkit_reporting.log.write.LogWriter`.

    Raises LogError for a path that cannot work or a file that holds something else, at once, and from `handle_event`
    for an event that could not be written whole; RedactionError for one that could not be scrubbed, which is not
    written. May be shared by sessions and threads.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | Any,
        *,
        deltas: Literal["all", "none"] = "all",
        per: Literal["session"] | None = None,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        clock: Clock | None = None,
        rotation: Rotation | None = None,
        redact: Redaction = True,
        remote: str | None = None,
    ) -> None:
        if deltas not in ("all", "none"):
            raise ConfigurationError(
                f"deltas={deltas!r} refused because it is no choice; use 'all' or 'none'"
            )
        if per not in (None, "session"):
            raise ConfigurationError(f"per={per!r} refused because it is no choice; use 'session' or None")
        sync: dict[str, Any] = {"fsync": fsync, "fsync_interval_ms": fsync_interval_ms, "clock": clock}
        self._remote = None if remote is None else _remote_at(remote)
        self.path: Path | None = None
        """The file, or the directory of files; None for a stream."""
        self._without_previews = deltas == "none"
        self.redactor = redactor_of(redact)
        """What scrubs each event before it is written; None for none."""
        self._redact = None if self.redactor is None else self.redactor.event
        self._files: _SessionFiles | None = None
        self._sink: LineWriter | _SessionFiles
        if per == "session":
            self._sink = self._files = _SessionFiles(target, sync, rotation, self._remote)
            self.path = self._files.directory
        elif isinstance(target, (str, os.PathLike)) and target != "-":
            self._sink = writer = _log_writer(target, rotation=rotation, remote=self._remote, **sync)
            self.path = writer.path
        else:
            if remote is not None:
                raise ConfigurationError("remote refused because a stream has no files; give a path")
            if rotation is not None:
                raise ConfigurationError("rotation refused because a stream has no segments; give a path")
            self._sink = StreamWriter(sys.stdout if target == "-" else target, **sync)
        # Looked up once: for every chunk.
        self._write = self._sink.write if isinstance(self._sink, LineWriter) else None
        self.begin_anew()
        watch(self, at_exit=False)

    def path_of(self, session_id: str) -> Path | None:
        """Return the file that the events of a session go to; None for a stream."""
        return self.path if self._files is None else self._files.path_of(session_id)

    def handle_event(self, event: AgentEvent) -> None:
        """Write one event."""
        if (
            self._without_previews
            and isinstance(event, ContentDelta)
            and isinstance(event.delta, (AppendText, AppendBytes))
        ):
            return
        try:
            told = event if self._redact is None else self._redact(event)
            if self._write is not None:
                self._write(encode_event(told))
            elif self._files is not None:
                self._files.write(told.session_id, encode_event(told))
        except BaseException:
            self._failed.add()
            if not isinstance(event, AgentEvent):
                raise ConfigurationError(
                    f"{type(event).__name__} refused because it is no event; give an AgentEvent"
                ) from None
            raise
        if told is not event and is_redacted(told):
            self._redacted.add()

    def handle_batch(self, batch: DeltaBatch) -> list[tuple[AgentEvent, Exception]]:
        """Write pieces of a text that came together, each a line; return those it failed on, and with what.

        With one write. Where a piece is to be masked, or the file is to be looked at, they are written one by one.
        """
        failures: list[tuple[AgentEvent, Exception]] = []
        left = 0 if self._without_previews else len(batch)
        try:
            if left:
                left -= self._written_together(batch)
            for event in batch.events()[len(batch) - left :] if left else ():
                left -= 1
                try:
                    self.handle_event(event)
                except Exception as error:  # noqa: BLE001 - the next one may be written
                    failures.append((event, error))
        except BaseException:
            for _ in range(left):
                self._failed.add()
            raise
        return failures

    def _written_together(self, batch: DeltaBatch) -> int:
        """Write pieces that need no mask with one write; return how many, from the first, are written."""
        session_id, part_id, redactor = batch.session_id, batch.part_id, self.redactor
        try:
            if redactor is not None and not redactor.passes(session_id, part_id, "".join(batch.chunks)):
                return 0
            block = encode_batch(batch)
        except Exception:  # noqa: BLE001 - one by one they say what is wrong
            return 0
        written = len(batch)  # also where an exception comes in between: what may be out is taken note of
        try:
            if isinstance(self._sink, LogWriter):
                written = self._sink.write_together(block, len(batch))
            elif self._files is not None:
                written = self._files.write_together(session_id, block, len(batch))
            else:
                written = 0
        finally:
            if redactor is not None and written:
                redactor.pass_on(session_id, part_id, "".join(batch.chunks[:written]))
        return written

    def account(self) -> Account:
        """Return what became of the events; previews that are left out on purpose are in no count."""
        failed = self._failed.value + self._sink.removed_lines - self._removed_before
        written = self._sink.lines - self._written_before
        return Account(
            name=type(self).__name__,
            received=written + failed,
            delivered=written,
            failed=failed,
            redacted=self._redacted.value,
        )

    def begin_anew(self) -> None:
        """Forget what was counted: this is a forked child."""
        self._failed, self._redacted = Tally(), Tally()
        self._written_before, self._removed_before = self._sink.lines, self._sink.removed_lines

    def flush(self, timeout_s: float | None = None) -> bool:
        """Force what was written to the disk, unless fsync is "never"; return whether every event so far is in it.

        timeout_s: None waits for the disk without a bound. Raises LogError.
        """
        return ended_within(timeout_s, self, "flush", self._sink.flush) and not self.account().lost

    def hand_over(self) -> bool:
        """Flush around the end of a run; that events were lost before is told with those. Raises LogError."""
        self._sink.flush()
        return True

    def close(self, timeout_s: float | None = None) -> bool:
        """Flush and close what was opened here; return whether every event was written. Twice is harmless.

        With remote storage, whether everything arrived there as well; that it did not is logged, and the next reporter
        on the same file tries again. timeout_s: None waits for the disk without a bound, 30 s for remote storage.
        Raises LogError.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            went_well = ended_within(timeout_s, self, "close", self._sink.close)
        finally:
            has_arrived = self._remote is None or self._remote.uploaded_by(until)
        return has_arrived and went_well and self.account().is_complete

    def uploads(self) -> Uploads | None:
        """Return what became of the files in remote storage; None without one."""
        return None if self._remote is None else self._remote.uploads()


class _SessionFiles(Locked):
    """One file a session in a directory; of very many sessions the last 64 stay open."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        sync: dict[str, Any],
        rotation: Rotation | None,
        remote: Remote | None,
    ) -> None:
        super().__init__()
        self.directory = writable_path(directory, directory=True)
        self._options = {**sync, "rotation": rotation, "remote": remote}
        Syncing(**sync)  # a wrong option is refused now, not at the first event
        if rotation is not None:
            from agentkit_reporting.log.rotate import Rotator  # noqa: PLC0415 - most logs are not rotated

            Rotator(self.directory / "any.jsonl", rotation, sync["clock"] or Clock())
        self._open: collections.OrderedDict[str, LogWriter] = collections.OrderedDict()
        self._closed = False
        self._lines_of_closed = self._removed_of_closed = 0
        self._trouble: LogError | None = None  # with a file that made room for another, until it is told

    @property
    def lines(self) -> int:
        """How many lines were written whole; waits for no write, which may hang."""
        return self._lines_of_closed + sum(writer.lines for writer in list(self._open.values()))

    @property
    def removed_lines(self) -> int:
        """How many went with files that were removed."""
        return self._removed_of_closed + sum(writer.removed_lines for writer in list(self._open.values()))

    def path_of(self, session_id: str) -> Path:
        return self.directory / f"{_file_stem(session_id)}.jsonl"

    def write(self, session_id: str, line: bytes) -> None:
        with self._lock:
            if self._closed:
                raise LogError(
                    "event refused while the reporter is closed; make a new one", path=str(self.directory)
                )
            writer = self._open.get(session_id)
            if writer is None:
                writer = self._open[session_id] = _log_writer(self.path_of(session_id), **self._options)
                if len(self._open) > MAX_OPEN_SESSIONS:
                    self._make_room()
            else:
                self._open.move_to_end(session_id)
            writer.write(line)

    def write_together(self, session_id: str, block: bytes, count: int) -> int:
        """Do as LogWriter does, with a file that is open."""
        with self._lock:
            writer = self._open.get(session_id)
            if writer is None:
                return 0
            self._open.move_to_end(session_id)
            return writer.write_together(block, count)

    def _make_room(self) -> None:
        """Close the file written longest ago; what goes wrong there is no fault of the one that is written now."""
        session_id, writer = next(iter(self._open.items()))
        try:
            writer.close(wait=False)
        except LogError as error:
            self._trouble = error
        finally:
            self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        writer = self._open.pop(session_id)
        self._lines_of_closed += writer.lines
        self._removed_of_closed += writer.removed_lines

    def flush(self) -> None:
        with self._lock:
            self._each(LogWriter.flush, list(self._open.values()))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            try:
                self._each(LogWriter.close, list(self._open.values()))
            finally:
                for session_id in list(self._open):
                    self._forget(session_id)

    def _each(self, act: Callable[[LogWriter], None], writers: list[LogWriter]) -> None:
        """Do it with every file, whatever goes wrong with one; raises the first LogError."""
        first, self._trouble = self._trouble, None
        for writer in writers:
            try:
                act(writer)
            except LogError as error:
                first = first or error
        if first is not None:
            raise first


def _remote_at(url: str) -> Remote:
    from agentkit_reporting.log.remote import Remote  # noqa: PLC0415 - most logs are not uploaded

    return Remote(url)


def _log_writer(path: str | os.PathLike[str], **options: Any) -> LogWriter:
    """Return what appends to a log; raises LogError also for a file that is none."""
    writer = LogWriter(path, **options)
    refuse_foreign(writer.path, b'{"v":', "events", is_ours=lambda line: log_version(line) is not None)
    return writer


def _file_stem(session_id: str) -> str:
    """Return a file name that only an id of plain characters chooses; `~` marks one made of a hash.

    An id that would be taken for the number of another session's segment chooses none either.
    """
    if _PLAIN_ID.fullmatch(session_id) and log_of(Path(f"{session_id}.jsonl")) is None:
        return session_id
    import hashlib  # noqa: PLC0415 - 2 ms, of OpenSSL

    digest = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', session_id)[:40]}~{digest}"
