"""Attributes that no convention has a name for: names of our own, the same under each profile.

Here are the limits of the texts too: names and words of models, tools and hosts stand on one line and end somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from agentkit_loop.values import JSON
from agentkit_reporting.terminal import one_line
from agentkit_reporting.tracing.spans import LARGEST_INTEGER, SMALLEST_INTEGER

__all__ = ["OWN_ATTRIBUTES", "OwnKind", "brief_text", "brief_texts", "plain_value"]

OwnKind: TypeAlias = Literal["string", "int", "double", "boolean", "string[]", "any"]
"""The type of a value; `any`: in the unit of what it is about, a number or a text."""

OWN_ATTRIBUTES: Final[Mapping[str, tuple[str, OwnKind]]] = {
    "run.id": ("agentkit.run_id", "string"),
    "run.outcome": ("agentkit.run.outcome", "string"),
    "run.finish_reason": ("agentkit.run.finish_reason", "string"),
    "run.resumed": ("agentkit.run.resumed_run", "string"),
    "run.forked_from": ("agentkit.run.forked_from", "string"),
    "turn": ("agentkit.turn_id", "string"),
    "request.id": ("agentkit.request_id", "string"),
    "request.attempt": ("agentkit.request.attempt", "int"),
    "request.purpose": ("agentkit.request.purpose", "string"),
    "retry_after_ms": ("agentkit.request.retry_after_ms", "double"),
    "cost.currency": ("agentkit.cost.currency", "string"),
    "tool.attempt": ("agentkit.tool.attempt", "int"),
    "tool.edited": ("agentkit.tool.edited", "boolean"),
    "tool.interrupted": ("agentkit.tool.interrupted", "boolean"),
    "tool.not_started": ("agentkit.tool.not_started", "boolean"),
    "dropped_events": ("agentkit.dropped_events", "int"),
    "retry.delay_ms": ("agentkit.retry.delay_ms", "double"),
    "retry.next_attempt": ("agentkit.retry.next_attempt", "int"),
    "approval.id": ("agentkit.approval.id", "string"),
    "approval.approved": ("agentkit.approval.approved", "boolean"),
    "approval.edited": ("agentkit.approval.edited", "boolean"),
    "auth.id": ("agentkit.auth.id", "string"),
    "auth.provider": ("agentkit.auth.provider", "string"),
    "auth.outcome": ("agentkit.auth.outcome", "string"),
    "compaction.reason": ("agentkit.compaction.reason", "string"),
    "compaction.strategy": ("agentkit.compaction.strategy", "string"),
    "compaction.item_count": ("agentkit.compaction.item_count", "int"),
    "compaction.token_count": ("agentkit.compaction.token_count", "int"),
    "budget.limit": ("agentkit.budget.limit", "string"),
    "budget.used": ("agentkit.budget.used", "any"),
    "budget.allowed": ("agentkit.budget.allowed", "any"),
    "warning.code": ("agentkit.warning.code", "string"),
    "observer.name": ("agentkit.observer.name", "string"),
    "observer.event_seq": ("agentkit.observer.event_seq", "int"),
    "observer.disabled": ("agentkit.observer.disabled", "boolean"),
    "progress.fraction": ("agentkit.progress.fraction", "double"),
    "custom.name": ("agentkit.custom.name", "string"),
    "tools.added": ("agentkit.tools.added", "string[]"),
    "tools.removed": ("agentkit.tools.removed", "string[]"),
    "tools.changed": ("agentkit.tools.changed", "string[]"),
}
"""Name and type of the value, by the keys of the table."""

_LONGEST = 256  # characters of a text
_MOST = 32  # texts of a list


def brief_text(text: str) -> str:
    """Return a text on one line, visible and of limited length: most are returned as they are."""
    if len(text) <= _LONGEST and text.isprintable():
        return text
    return one_line(text, _LONGEST)


def brief_texts(texts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the first of the texts, each on one line; None for none."""
    return tuple(brief_text(each) for each in texts[:_MOST]) or None


def plain_value(value: JSON) -> str | bool | int | float | None:
    """Return a JSON value as an attribute can be: numbers in 64 bits, texts on one line, the rest as such a text."""
    if value is None or (value.__class__ is int and SMALLEST_INTEGER <= value <= LARGEST_INTEGER):
        return value  # most of what is told
    if isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return max(SMALLEST_INTEGER, min(value, LARGEST_INTEGER))
    return brief_text(value if isinstance(value, str) else str(value))
