"""A step of a debug replay: what a person steps through, and the words for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting.toml_source import nearest

__all__ = ["KINDS", "DebugStep", "kinds_of"]

KINDS = (
    "run_started",
    "input",
    "turn",
    "model_request",
    "retry",
    "approval",
    "auth",
    "tool_call",
    "tools_changed",
    "compaction",
    "cancel",
    "budget",
    "warning",
    "observer_failed",
    "custom",
    "unknown",
    "exchange_ended",
    "run_ended",
)
"""What a step can be. A step log has three of them: run_started (its header), model_request, tool_call."""

_OTHER_NAMES = {"header": "run_started", "llm_call": "model_request"}
"""What step logs call a kind; understood wherever a kind is asked for."""


@attrs.frozen(kw_only=True)
class DebugStep:
    """One step, as it was when it was over.

    number: from 1, in the order in which steps ended. kind: one of KINDS. tool: the tool of a call, of an approval
    or of a request for credentials. status: ok, failed, denied, not_started, interrupted, cancelled, waiting (of a
    question, of a call whose question has no answer, of a suspended run), or open: no end was told. title: one visible
    line, bounded. time: of its first event. duration_ms: as the log tells it, None where nobody measured. first_seq,
    last_seq: of its events; those of other steps may lie between. In a step log both are the record's own number, 0
    for a header.

    is_superseded: told by a run after another one had gone on from it, so it changes no state. is_edited: by
    `DebugReplay.edit`. is_stale: it comes after an edited one, so it may not have happened like this.
    """

    number: int
    kind: str
    title: str
    status: str
    run_id: str
    first_seq: int
    last_seq: int
    time: dt.datetime
    tool: str | None = None
    turn_id: str | None = None
    duration_ms: float | None = None
    is_superseded: bool = False
    is_edited: bool = False
    is_stale: bool = False

    @property
    def is_trouble(self) -> bool:
        """Whether it did not go well, or has no end; a question alone is none."""
        if self.status == "waiting":
            return self.kind in ("tool_call", "run_ended")
        return self.status != "ok"


def kinds_of(asked: str | Collection[str]) -> frozenset[str]:
    """Return the kinds that were asked for, one or several; raises ConfigurationError for what is none."""
    names = (asked,) if isinstance(asked, str) else tuple(asked)
    for name in names:
        if name not in KINDS and name not in _OTHER_NAMES:
            raise ConfigurationError(f"kind {name!r} refused; {nearest(str(name), KINDS)}")
    return frozenset(_OTHER_NAMES.get(name, name) for name in names)
