"""StepLog: what an agent did, step by step: one record a request and a call of a tool, one line each.

log = StepLog("logs/agent-steps.jsonl", run_id="run-abc123", metadata={"environment": "prod"})
log.record_llm_call(model="claude-sonnet-5", input_tokens=1200, output_tokens=340, stop_reason="tool_use")
log.record_tool_call(tool="search", input={"query": "Q3"}, output={"results": []}, duration_ms=240)
log.summarize().total_tokens

On our loop it is an observer, and so it is over a log: `for event in read_events(path): log.handle_event(event)`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from agentkit_loop.clock import Clock
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import EventKind, FailurePolicy, Observer
from agentkit_loop.scopes import RunScope
from agentkit_loop.usage import ErrorInfo
from agentkit_loop.values import JSON, clean_text, safe_repr, to_json
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.sources import Source
from agentkit_reporting.log.syncing import DEFAULT_FSYNC_INTERVAL_MS, FsyncPolicy
from agentkit_reporting.records.reading import read_records
from agentkit_reporting.records.recorded import RecordedView
from agentkit_reporting.records.step_fold import BEGAN_AT, StepFold
from agentkit_reporting.records.step_records import (
    LlmCallStep,
    Step,
    StepHeader,
    ToolCallStep,
    record_of,
    step_of,
)
from agentkit_reporting.records.step_runs import RunSteps, StepRuns, by_run, read_steps, summarized
from agentkit_reporting.records.step_summary import (
    StepSummary,
    matching,
    refuse_other_filters,
)
from agentkit_reporting.redaction.redactor import Redaction
from agentkit_reporting.timestamps import utc_text

__all__ = [
    "LlmCallStep",
    "RunSteps",
    "StepHeader",
    "StepLog",
    "StepRuns",
    "StepSummary",
    "ToolCallStep",
]


class StepLog(RecordedView):
    """Keeps a record of each step of a run, in memory and in a file that others may write to as well.

    path: the file, or its address in remote storage, such as "s3://bucket/logs/"; None keeps steps in memory only.
    run_id: what the records call the run, whatever else is told of;
    None: each event's own run. metadata: what the run's header says, beside the run's own metadata. The other
    arguments: see `RecordedView`.

    Steps of a run count 1, 2, 3 … in the order of the file, over threads, processes and segments; where the file has
    steps of that run already, it is counted on. `steps` has those that were told here, about 1 KB each beside their
    inputs and outputs, until they are forgotten; `read` has all. The header is the first record of a file, of each
    segment, and of each run; a log with a run_id and no metadata that goes on with a run adds none where the file has
    it. `summarize()` is of what was told here, `StepLog.read(path, run_id).summarize()` of all in the file.

    An event that is told twice is two steps: a log that observes is not to be given the events of the same run again.

    Told directly, the run begins with the making of the log and ends with `close` or the `with`.
    """

    wants: ClassVar[tuple[EventKind, ...]] = StepFold.wants
    file_name: ClassVar[str] = "steps.jsonl"

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        run_id: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
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
        name: Any = run_id
        if name is not None and (not isinstance(name, str) or not name):
            raise ConfigurationError(f"run_id={name!r} refused; give a text that is not empty, or None")
        self.run_id = None if run_id is None else clean_text(run_id)
        """What the records call the run; None: what the events call it."""
        given: JSON = to_json({} if metadata is None else metadata)
        if not isinstance(given, dict) or "$map" in given:
            raise ConfigurationError(f"metadata={metadata!r} refused; give a mapping with text keys")
        self.metadata: dict[str, JSON] = given
        self._began_at = utc_text((clock or Clock()).now())
        self._headers: list[StepHeader] = []
        self._found: list[StepHeader] | None = (
            None  # of this run in the file before; None until that was looked for
        )
        self._steps: list[Step] = []
        self._numbers: dict[str, int] = {}  # the last of each run, where there is no file to say it
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
        shown = given if self.redactor is None else self.redactor.value(given)
        self._fold = StepFold(self.run_id, shown)

    # --- what the host tells

    def record_llm_call(
        self,
        model: str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        stop_reason: str | None = None,
        duration_ms: float | None = None,
        *,
        usage: object = None,
        response: object = None,
        cost: object = None,
        error: BaseException | ErrorInfo | str | None = None,
    ) -> None:
        """Tell of a request to the model that is over.

        stop_reason: as the API says it; None is unknown, and told as such. usage: the SDK's, a Usage, or a mapping
        with the API's names: all kinds of tokens, in place of the two counts. response: the SDK's Message, which says
        model, usage and stop reason; one that was told already is not told again. cost: in USD, or a Cost; else the
        prices of the loop say it. error: there was no answer. Raises LogError after `close`, ConfigurationError.
        """
        counts: dict[str, Any] = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        for name, count in counts.items():
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
                raise ConfigurationError(
                    f"{name}={safe_repr(count)} refused; give an int of at least 0, or None"
                )
        self._run().record_model_call(
            response,
            model=model,
            usage=counts if usage is None else usage,
            stop_reason=stop_reason,
            duration_ms=duration_ms,
            cost=cost,
            error=error,
        )

    def record_tool_call(
        self,
        tool: str,
        input: object = None,  # noqa: A002 - the record's field
        output: object = None,
        error: BaseException | ErrorInfo | str | None = None,
        duration_ms: float | None = None,
    ) -> None:
        """Tell of a call of a tool that is over.

        input: the arguments by name. error: an exception, whose type and first 3 frames are kept, or a text; an empty
        one is an error too. Raises LogError after `close`, ConfigurationError.
        """
        self._run().record_tool_call(tool, input, output, error=error, duration_ms=duration_ms)

    def _run(self) -> RunScope:
        """Return the run that is told of directly, open."""
        self._refuse_closed()
        if self._emitter is not None:
            return self.run_of(metadata=self.metadata)
        if self.run_id is None:
            raise ConfigurationError(
                "step refused because run_id is None; make the log with one, or an emitter="
            )
        return self.run_of(self.run_id, metadata={**self.metadata, BEGAN_AT: self._began_at})

    # --- from events

    def _take(self, event: AgentEvent) -> None:
        made = self._fold.take(event)
        if made is None:
            return
        is_redacted = self._fold.is_redacted
        record = record_of(made)
        if isinstance(made, StepHeader):
            there = self._header_there(made)
            shown = record if there is None else record_of(there)
            self._write(
                lambda store: store.append_header(shown, is_there=there is not None),
                is_redacted=is_redacted and there is None,
            )
            self._headers.append(made)
            return
        run_id = made.run_id
        number = self._write(
            lambda store: store.append_numbered(lambda step: {**record, "step": step}, run_id=run_id),
            is_redacted=is_redacted,
        )
        if number is None:
            number = self._numbers[run_id] = self._numbers.get(run_id, 0) + 1
        self._steps.append(msgspec.structs.replace(made, step=number))

    def _header_there(self, made: StepHeader) -> StepHeader | None:
        """Return the header of the log's own run in the file that says all that this one would; None for none."""
        if self.run_id is None or made.metadata or self.path is None:
            return None
        if self._found is None:
            self._found = []
            with (
                contextlib.suppress(LogError),
                read_records(self.path, type="header") as reader,
            ):  # no file yet
                found = (step_of(record) for record in reader)
                self._found += [
                    each for each in found if isinstance(each, StepHeader) and each.run_id == self.run_id
                ]
        alike = (each for each in self._found if _without_time(each) == _without_time(made))
        return next(alike, None)

    # --- what is there

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that were told here, in order."""
        with self._lock:
            return tuple(self._steps)

    @property
    def headers(self) -> tuple[StepHeader, ...]:
        """What was told of runs, in order."""
        with self._lock:
            return tuple(self._headers)

    def filter(self, **which: Any) -> tuple[Step, ...]:
        """Return the steps that are as asked: `type=`, `tool=`, `stop_reason="max_tokens"`, `errors=True`, ….

        Raises ConfigurationError for what is no filter; see `agentkit_reporting.records.step_summary.matching`.
        """
        refuse_other_filters(which)
        return matching(self.steps, **which)

    def summarize(self, run_id: str | None = None) -> StepSummary:
        """Return the figures of a run as told here so far, without reading the file.

        What the file had of it before is not in them: `StepLog.read(path, run_id).summarize()` is of all.
        run_id: by default the log's own, or the only one. Raises ConfigurationError where that is open.
        """
        with self._lock:
            return summarized(run_id or self.run_id, self._headers, self._steps)

    def forget(self, run_id: str) -> None:
        """Free the memory of a run's steps; in the file they stay. Without a file its numbers begin at 1 again."""
        with self._lock:
            self._headers = [each for each in self._headers if each.run_id != run_id]
            self._steps = [each for each in self._steps if each.run_id != run_id]
            self._numbers.pop(run_id, None)

    # --- from files

    @staticmethod
    def read(source: Source, run_id: str | None = None, *, strict: bool = False) -> RunSteps:
        """Return the steps of files, those of one run or of all; `summarize()` and `filter()` as here.

        source: what `read_records` takes. strict: the first bad line raises LogError instead of being counted. Raises
        LogError for what cannot be read.
        """
        return read_steps(source, run_id=run_id, strict=strict)

    @staticmethod
    def runs(source: Source, *, payloads: bool = False, strict: bool = False) -> StepRuns:
        """Return the runs of files, by id: a summary each, filters, latencies over all of them.

        payloads: keep the inputs and outputs of tools too, which no figure needs. The rest: see `read`.
        """
        return by_run(read_steps(source, payloads=payloads, strict=strict))


def _without_time(header: StepHeader) -> StepHeader:
    """Return what a header says of a run beside its metadata and when it began."""
    return msgspec.structs.replace(header, metadata={}, ts=0.0)
