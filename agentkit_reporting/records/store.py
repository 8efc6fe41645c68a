"""RecordStore: where records are kept, one JSON object a line; and how they are read back.

store = RecordStore("logs/steps.jsonl", header={"type": "header", "run_id": "r1"})
store.append({"run_id": "r1", "type": "note"})
store.append_numbered(lambda step: StepRecord(run_id="r1", step=step, …), run_id="r1")
for record in read_records("logs/steps.jsonl"): …
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias

import attrs
import msgspec

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError, RedactionError
from agentkit_loop.values import JSON, clean_text, scrub_json
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.inner import ended_within
from agentkit_reporting.log.places import is_address, refuse_foreign
from agentkit_reporting.log.remote import Remote, Uploads
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.spool import SPOOL_ROTATION, file_at, spooled
from agentkit_reporting.log.syncing import DEFAULT_FSYNC_INTERVAL_MS, FsyncPolicy
from agentkit_reporting.log.write import LogWriter
from agentkit_reporting.process_ends import watch
from agentkit_reporting.records.numbering import Numbering
from agentkit_reporting.records.reading import RecordReader, read_records
from agentkit_reporting.redaction.redactor import Redaction, Redactor, redactor_of

__all__ = ["Record", "RecordReader", "RecordStore", "read_records"]

Record: TypeAlias = Any
"""What can be appended: a mapping with text keys, a msgspec Struct, an attrs class's or dataclass's instance."""

_NAMING_FIELDS = (
    "type",
    "seq",
    "step",
    "ts",
    "timestamp",
    "session_id",
    "run_id",
    "turn_id",
    "request_id",
    "call_id",
)
_LONGEST_NAME = 200  # characters of an id; what is longer names nothing

_encode = msgspec.json.Encoder().encode


class RecordStore:
    """Appends records to a file, several threads and processes at a time: each is there once, whole, or not at all.

    path: the file, made with its directories (0600, 0700) at the first record; `~` is the home directory. Or an
    address such as "s3://bucket/logs/steps.jsonl": `log/spool.py` says where the file is until it is uploaded, rotated
    every 16 MiB and every 5 minutes unless `rotation` says else.
    header: the first line of each new file, and so of each segment, since segments are read one by one and removed
    too; written once, also where several processes that give one begin a file at the same time. rotation: when the
    file is begun anew, packed and removed. redact: secrets are masked before anything is stored: True, the secret
    rules; rules of one's own; a Redactor; False, none. Names and times of the record itself (its type, ids, numbers,
    `ts`) stay. remote: where the files are uploaded to, such as "s3://bucket/prefix": each segment when it is
    rotated (every 16 MiB and, while lines come, every 5 minutes unless `rotation` says else), the rest on `close`;
    see `agentkit_reporting.log.remote.Remote`. file_name: what the file is called where `path` is the address of a
    directory. fsync, fsync_interval_ms, clock: see
    `agentkit_reporting.log.write.LogWriter`.

    Fields keep their order. Values that are no JSON are converted in the form that `agentkit_loop.values` documents;
    what is JSON, as all values of events are, stays as it is, `$` forms too. Raises LogError for a path that cannot
    work or a file that holds something else, at once; ConfigurationError for options that are none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        header: Record | None = None,
        rotation: Rotation | None = None,
        redact: Redaction = True,
        fsync: FsyncPolicy = "interval",
        fsync_interval_ms: float = DEFAULT_FSYNC_INTERVAL_MS,
        clock: Clock | None = None,
        remote: str | None = None,
        file_name: str = "records.jsonl",
    ) -> None:
        self.redactor: Redactor | None = redactor_of(redact)
        """What scrubs each record before it is stored; None for none."""
        first_line = None if header is None else _encode(self._scrubbed(fields_of(header))[0])
        if isinstance(path, str) and is_address(path):
            path, remote = spooled(file_at(path, file_name), remote)
            rotation = SPOOL_ROTATION if rotation is None else rotation
        self._remote = None if remote is None else Remote(remote)
        self._writer = LogWriter(
            path,
            fsync=fsync,
            fsync_interval_ms=fsync_interval_ms,
            clock=clock,
            rotation=rotation,
            header=first_line,
            remote=self._remote,
        )
        self.path = self._writer.path
        refuse_foreign(self.path, b'{"', "records")
        self.begin_anew()
        watch(self, at_exit=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, record: Record, *, is_json: bool = False) -> None:
        """Write one record; it has left the process when this returns.

        is_json: all its values are clean JSON already, as those of events are, and need not be gone through.
        Before anything is written raises ConfigurationError for what is no record, RedactionError for one that could
        not be scrubbed, LogError once the store is closed; LogError also where it did not get out whole.
        """
        try:
            told, is_redacted = self._scrubbed(fields_of(record, is_json=is_json))
            self._writer.write(_encode(told))
        except BaseException:
            self._failed.add()
            raise
        if is_redacted:
            self._redacted.add()

    def append_header(self, record: Record, *, is_there: bool = False) -> None:
        """Write a record that says what others are of: first in a file that is empty, and in each that begins later.

        is_there: the file has it already, so that it is written in those only that begin later.
        Several processes that begin a file at the same time each write theirs, one of them first. Raises as `append`.
        """
        try:
            told, is_redacted = self._scrubbed(fields_of(record))
            line = _encode(told)
            with self._writer.in_turn():
                if not is_there:
                    self._writer.write(line)
                self._writer.header = line
        except BaseException:
            self._failed.add()
            raise
        if is_redacted and not is_there:
            self._redacted.add()

    def append_numbered(
        self,
        make: Callable[[int], Record],
        *,
        run_id: str,
        by: str = "run_id",
        field: str = "step",
    ) -> int:
        """Write the record that `make` returns for the next number of its run; return the number.

        Numbers count 1, 2, 3 … for each run, without gaps and in the order of the file, over all threads, processes
        and segments that write so: each waits for its turn, which a process that dies gives back. What others wrote
        since the last time is read first, at the first time the whole file. by: the field that names the run, in which
        the record must have `run_id`; field: the one in which it must have the number.

        `make` is called within the turn, so it should be quick; where it raises nothing is written and the number is
        free. Raises as `append` does, LogError where another process holds the turn for more than ten seconds; after
        that almost at once, until it gives it back. Numbers go on from what is there: a run whose records were all
        removed by retention begins at 1 in a new process.
        """
        try:
            numbering = self._numbering(by, field)
            with self._writer.in_turn():
                number, is_redacted = self._append_next(make, numbering, run_id, by, field)
        except BaseException:
            self._failed.add()
            raise
        if is_redacted:
            self._redacted.add()
        return number

    def _numbering(self, by: str, field: str) -> Numbering:
        """Return the numbers of these fields, what is in the file already among them."""
        with self._catching_up:
            numbering = self._numberings.get((by, field))
            if numbering is None:
                numbering = Numbering(self.path, by, field)
                numbering.catch_up()
                self._numberings[by, field] = numbering
            return numbering

    def _append_next(
        self, make: Callable[[int], Record], numbering: Numbering, run_id: str, by: str, field: str
    ) -> tuple[int, bool]:
        """Write the next record of a run, which has its turn; return its number and whether anything was masked."""
        number = numbering.next(run_id, self._writer.mark())
        record = fields_of(make(number))
        if record.get(by) != run_id or record.get(field) != number:
            raise ConfigurationError(
                f"record numbered {record.get(field)!r} of run {record.get(by)!r} refused; "
                f"give it {field}={number} and {by}={run_id!r}"
            )
        told, is_redacted = self._scrubbed(record, by, field)
        self._writer.write(_encode(told))
        numbering.given(run_id, number, self._writer.mark())
        return number, is_redacted

    def account(self) -> Account:
        """Return what became of the records."""
        failed = self._failed.value + self._writer.removed_lines - self._removed_before
        written = self._writer.lines - self._written_before
        return Account(
            name=type(self).__name__,
            received=written + failed,
            delivered=written,
            failed=failed,
            redacted=self._redacted.value,
        )

    def begin_anew(self) -> None:
        """Forget what was counted, and how far the numbers were read, with new locks: this is a forked child."""
        self._catching_up = threading.RLock()
        self._numberings: dict[tuple[str, str], Numbering] = {}
        self._failed, self._redacted = Tally(), Tally()
        self._written_before, self._removed_before = self._writer.lines, self._writer.removed_lines

    def flush(self, timeout_s: float | None = None) -> bool:
        """Force what was written to the disk, unless fsync is "never"; return whether every record so far is in it.

        timeout_s: None waits for the disk without a bound. Raises LogError.
        """
        return ended_within(timeout_s, self, "flush", self._writer.flush) and not self.account().lost

    def close(self, timeout_s: float | None = None) -> bool:
        """Flush and close; return whether every record was written. Twice is harmless.

        With remote storage, whether everything arrived there as well; that it did not is logged, and the next store
        on the same file tries again. timeout_s: None waits for the disk without a bound, 30 s for remote storage.
        Raises LogError.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            went_well = ended_within(timeout_s, self, "close", self._close)
        finally:
            has_arrived = self._remote is None or self._remote.uploaded_by(until)
        return has_arrived and went_well and self.account().is_complete

    def uploads(self) -> Uploads | None:
        """Return what became of the files in remote storage; None without one."""
        return None if self._remote is None else self._remote.uploads()

    def _close(self) -> None:
        try:
            self._writer.close()
        finally:
            for numbering in self._numberings.values():
                numbering.close()

    def _scrubbed(self, record: dict[str, JSON], *naming: str) -> tuple[dict[str, JSON], bool]:
        """Return the record without its secrets, and whether anything was masked; raises RedactionError."""
        if self.redactor is None:
            return record, False
        try:
            told = self.redactor.value(record)
        except Exception as error:  # noqa: BLE001 - a pattern of the host's, a value nested too deeply
            kind = type(error).__name__
        else:
            if told is record:
                return record, False
            for name in (*_NAMING_FIELDS, *naming):
                if name in told and _names(record.get(name)):
                    told[name] = record[name]
            return told, told != record
        # Here, and not above: the error's own text, which may quote the secret, is not to hang on ours.
        raise RedactionError(
            f"record withheld because scrubbing it raised {kind}; mend the rules, or store it with redact=False"
        )


def refuse_address(path: object) -> None:
    """Raise ConfigurationError for an address in remote storage, where the records are asked for and so kept here."""
    if isinstance(path, str) and is_address(path):
        raise ConfigurationError(
            f"{path!r} refused because what is asked stays here; give a path, and remote="
        )


def fields_of(record: Record, *, is_json: bool = False) -> dict[str, JSON]:
    """Return what a record says, by field, as JSON; raises ConfigurationError for what is no record."""
    names: Any
    if isinstance(record, Mapping):
        for key in record:
            if not isinstance(key, str):
                raise ConfigurationError(f"record with the key {key!r} refused; give text as keys")
        return {clean_text(key): scrub_json(value) for key, value in record.items()}
    if isinstance(record, msgspec.Struct):
        names = record.__struct_fields__
    elif not isinstance(record, type) and attrs.has(type(record)):
        names = [each.name for each in attrs.fields(type(record))]
    elif not isinstance(record, type) and dataclasses.is_dataclass(record):
        names = [each.name for each in dataclasses.fields(record)]
    else:
        raise ConfigurationError(
            f"{type(record).__name__} refused because it is no record; give a mapping or an attrs class's instance"
        )
    shown = [name for name in names if not name.startswith("_")]
    if is_json:
        return {name: getattr(record, name) for name in shown}
    return {name: scrub_json(getattr(record, name)) for name in shown}


def _names(value: object) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= _LONGEST_NAME)
