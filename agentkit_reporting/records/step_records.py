"""The records of a step log: what a line of it says, and how a line that was read becomes one again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from agentkit_loop.values import JSON

__all__ = ["LlmCallStep", "Step", "StepHeader", "ToolCallStep", "ToolStatus", "record_of", "step_of"]

ToolStatus: TypeAlias = Literal["ok", "error", "denied", "not_started", "interrupted"]
"""How a call of a tool ended: with a result, with an error, refused, never begun, or cut short."""


class StepHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run is: the first record of a file, and of each run in it.

    metadata: the host's own (agent version, task type, environment, …). ts: when the run began, unix seconds.
    agent_name, model, session_id: of the run. parent_run_id: who started it. resumed_run: which it goes on from.
    """

    run_id: str
    type: Literal["header"]
    metadata: dict[str, JSON]
    ts: float
    agent_name: str = ""
    model: str = ""
    session_id: str = ""
    parent_run_id: str | None = None
    resumed_run: str | None = None


class LlmCallStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to the model that is over.

    step: its number in the run, from 1. model: which answered. input_tokens: those billed as fresh; None, as of
    every count, is unknown. stop_reason: the API's word; None without an answer, or where it is unknown.
    duration_ms: monotonic, None where nobody measured. ts: when it ended, unix seconds.

    Written only where known: tokens read from the cache and written to it (those that live one hour are a part of
    them), reasoning tokens (a part of output_tokens), cost (exact, as text) and its currency, first_content_ms since
    the request began, and of one that failed error, its type, first 3 frames and class (`overloaded`, …). attempt: from
    2. purpose: `compaction`. is_provisional: the counts are not the provider's last word. session_id, turn_id,
    request_id: of the events.
    """

    run_id: str
    step: int
    type: Literal["llm_call"]
    model: str
    input_tokens: int | None
    output_tokens: int | None
    stop_reason: str | None
    duration_ms: float | None
    ts: float
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_write_1h_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: str | None = None
    currency: str | None = None
    first_content_ms: float | None = None
    error: str | None = None
    error_type: str | None = None
    error_frames: tuple[str, ...] = ()
    error_class: str | None = None
    attempt: int = 1
    purpose: str = "turn"
    is_provisional: bool = False
    session_id: str = ""
    turn_id: str | None = None
    request_id: str = ""


class ToolCallStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a tool that is over.

    input: the arguments by name, as edited by an approval. output: what the model was shown; None where that was the
    error and nothing else. error: what went wrong, be it an empty text; None: nothing did. duration_ms: of the tool's
    body, monotonic, None where nobody measured. ts: when it ended, unix seconds.

    Written only where known: the exception's type and first 3 frames, innermost first; status, where it is not `ok`;
    session_id, turn_id, call_id: of the events.
    """

    run_id: str
    step: int
    type: Literal["tool_call"]
    tool: str
    input: dict[str, JSON]
    output: JSON
    error: str | None
    duration_ms: float | None
    ts: float
    error_type: str | None = None
    error_frames: tuple[str, ...] = ()
    status: ToolStatus = "ok"
    session_id: str = ""
    turn_id: str | None = None
    call_id: str = ""


Step: TypeAlias = LlmCallStep | ToolCallStep
"""A record that has a number."""

_KINDS: dict[object, Any] = {"header": StepHeader, "llm_call": LlmCallStep, "tool_call": ToolCallStep}
_EMPTY: dict[str, Any] = {"metadata": {}, "input": {}, "model": "", "tool": "", "ts": 0.0}
"""What stands for a field that a record must have, and has not or not as it should be."""


def record_of(made: StepHeader | Step) -> dict[str, JSON]:
    """Return a record as it is written; facts that are not known are left out."""
    told: dict[str, JSON] = msgspec.to_builtins(made)
    return told


def step_of(record: Mapping[str, Any]) -> StepHeader | Step | None:
    """Return what a record that was read says; None for one that is none of a step log.

    A field that is not what it should be, as a rule of redaction may leave one, is taken as unknown.
    """
    kind = _KINDS.get(record.get("type")) if isinstance(record.get("type"), str) else None
    if kind is None or not isinstance(record.get("run_id"), str):
        return None
    if kind is not StepHeader and type(record.get("step")) is not int:
        return None
    try:
        made: StepHeader | Step = msgspec.convert(dict(record), kind)
    except msgspec.ValidationError:
        fields = {}
        for field in msgspec.structs.fields(kind):
            value = record.get(field.name)
            try:
                fields[field.name] = msgspec.convert(value, field.type)
            except msgspec.ValidationError:
                if field.required:
                    fields[field.name] = _EMPTY.get(field.name)
        made = kind(**fields)
    return made
