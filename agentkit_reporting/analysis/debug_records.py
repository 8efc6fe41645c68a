"""One run of a step log as a debug replay has it: a step for each record, and what had been used by when."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from agentkit_loop.events import UNTOLD, UsageUpdated
from agentkit_loop.usage import Cost, Usage
from agentkit_reporting.analysis.debug_session import RecordedUsage
from agentkit_reporting.analysis.debug_step import DebugStep
from agentkit_reporting.analysis.debug_store import LineStore
from agentkit_reporting.analysis.debug_titles import title_of
from agentkit_reporting.records.step_records import LlmCallStep, Step, StepHeader, record_of, step_of
from agentkit_reporting.usage import UsageTotals

__all__ = ["SessionRecords", "record_in"]

_FACTS_LEFT_OUT = ("run_id", "step", "type", "ts", "duration_ms", "tool", "status", "turn_id")
"""What of a record the step itself says."""

_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "output_tokens",
    "reasoning_tokens",
)


class SessionRecords:
    """A run of a step log. Take all its records in the order of the file."""

    is_event_log = False

    def __init__(self, run_id: str) -> None:
        self.session_id = run_id
        self.store = LineStore()
        self.steps: list[DebugStep] = []
        self.path = ""
        """The file of its first record, where it was read from one."""
        self._headers: list[StepHeader] = []
        self._usage = RecordedUsage()

    def take(self, made: StepHeader | Step) -> None:
        """Take the run's next record; a header that a segment repeats is no step."""
        if isinstance(made, StepHeader):
            if made in self._headers:
                return
            self._headers.append(made)
        self.store.append(msgspec.json.encode(record_of(made)))
        count = len(self.store)
        if isinstance(made, LlmCallStep):
            used = _used(made)
            if used is not None:
                self._usage.note(used, count)
        self.steps.append(_step(made, count))

    @property
    def agent(self) -> str:
        """The agent by its name; "" where no header tells it."""
        return next((header.agent_name for header in self._headers if header.agent_name), "")

    def cut(self, count: int) -> int:
        """Return how many records there were when so many steps were over."""
        return count

    def totals(self, count: int) -> UsageTotals:
        """Return what had been used when so many steps were over."""
        return self._usage.at(count)

    def facts(self, number: int) -> dict[str, Any]:
        """Return what a record says beside what its step does."""
        for _, line in self.store.lines(number - 1, number):
            made = step_of(msgspec.json.decode(line))
            return {} if made is None else _facts(made)
        return {}

    def step_at(self, place: int) -> int:
        """Return the number of a record's step."""
        return place + 1

    def texts_at(self, line: bytes) -> list[Any]:
        """Return the values of a record, without the names of its fields and its ids."""
        record = msgspec.json.decode(line)
        return [value for name, value in record.items() if not name.endswith("_id") and name != "type"]


def _facts(made: StepHeader | Step) -> dict[str, Any]:
    return {
        field.name: getattr(made, field.name)
        for field in msgspec.structs.fields(type(made))
        if field.name not in _FACTS_LEFT_OUT
    }


def _step(made: StepHeader | Step, number: int) -> DebugStep:
    kind, status, tool = "run_started", "ok", None
    if isinstance(made, LlmCallStep):
        kind, status = "model_request", "ok" if made.error is None else "failed"
        status = "cancelled" if made.stop_reason == "cancelled" else status
    elif not isinstance(made, StepHeader):
        kind, tool = "tool_call", made.tool
        status = (
            "failed" if made.status == "error" or (made.status == "ok" and made.error is not None) else ""
        )
        status = status or made.status
    seq = 0 if isinstance(made, StepHeader) else made.step
    return DebugStep(
        number=number,
        kind=kind,
        title=title_of(kind, tool, status, _facts(made)),
        status=status,
        run_id=made.run_id,
        first_seq=seq,
        last_seq=seq,
        time=_time_of(made),
        tool=tool,
        turn_id=None if isinstance(made, StepHeader) else made.turn_id,
        duration_ms=None if isinstance(made, StepHeader) else made.duration_ms,
    )


def _time_of(made: StepHeader | Step) -> dt.datetime:
    try:
        return dt.datetime.fromtimestamp(made.ts, dt.UTC)
    except (OverflowError, OSError, ValueError):  # somebody wrote it into a log
        return UNTOLD


def _used(made: LlmCallStep) -> UsageUpdated | None:
    """Return what a request used as an event would tell it; None where the record tells nothing of it."""
    counts = {name: getattr(made, name) for name in _COUNTS}
    if made.cost is None and all(count is None for count in counts.values()):
        return None
    return UsageUpdated(
        session_id=made.run_id,
        run_id=made.run_id,
        turn_id=made.turn_id,
        seq=made.step,
        timestamp=_time_of(made),
        request_id=f"{made.step}",
        model=made.model,
        usage=Usage(**counts),
        cost=_cost(made),
        final=not made.is_provisional,
    )


def _cost(made: LlmCallStep) -> Cost | None:
    if made.cost is None or made.currency is None:
        return None
    try:
        amount = Decimal(made.cost)
    except decimal.InvalidOperation:  # a record that somebody else wrote
        return None
    return Cost(
        amount=amount, currency=made.currency, components={}, source="step log", priced_at=_time_of(made)
    )


def record_in(value: object) -> StepHeader | Step | None:
    """Return the record of a step log that a decoded line is; None for anything else."""
    return step_of(value) if isinstance(value, Mapping) else None
