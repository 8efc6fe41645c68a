"""A step that says something else than what was recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.values import safe_repr, to_json
from agentkit_reporting.analysis.debug_step import DebugStep
from agentkit_reporting.analysis.debug_titles import TITLE_COLUMNS, title_of
from agentkit_reporting.terminal import one_line
from agentkit_reporting.toml_source import nearest

__all__ = ["STATUSES", "edited_step"]

STATUSES = ("ok", "failed", "denied", "not_started", "interrupted", "cancelled", "waiting", "open")
"""How a step can have ended."""

_OF_THE_STEP = ("title", "tool", "status", "duration_ms")
"""What an edit may change beside the facts."""


def edited_step(
    step: DebugStep, facts: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[DebugStep, dict[str, Any]]:
    """Return the step and its facts with the changes in them. Raises ConfigurationError for what a step has not."""
    if not changes:
        raise ConfigurationError(
            f"edit of step {step.number} refused because it changes nothing; give one of "
            f"{', '.join(sorted({*facts, *_OF_THE_STEP}))}"
        )
    for name in changes:
        if name not in facts and name not in _OF_THE_STEP:
            raise ConfigurationError(
                f"field {name!r} refused because step {step.number}, a {step.kind}, has none; "
                f"{nearest(name, {*facts, *_OF_THE_STEP})}"
            )
    own = {name: value for name, value in changes.items() if name in _OF_THE_STEP}
    told = {**facts, **{name: to_json(value) for name, value in changes.items() if name not in own}}
    _check(own)
    fresh = attrs.evolve(step, is_edited=True, **own)
    if "title" in own:
        title = one_line(own["title"], TITLE_COLUMNS)
    else:
        title = title_of(fresh.kind, fresh.tool, fresh.status, told)
    return attrs.evolve(fresh, title=title), told


def _check(own: Mapping[str, Any]) -> None:
    """Refuse values that no step has."""
    if "title" in own and not isinstance(own["title"], str):
        raise ConfigurationError(f"title={safe_repr(own['title'])} refused; give a text")
    if "tool" in own and not (own["tool"] is None or isinstance(own["tool"], str)):
        raise ConfigurationError(f"tool={safe_repr(own['tool'])} refused; give a name, or None")
    if "status" in own and own["status"] not in STATUSES:
        raise ConfigurationError(
            f"status={safe_repr(own['status'])} refused; {nearest(str(own['status']), STATUSES)}"
        )
    duration = own.get("duration_ms")
    if duration is not None and (
        isinstance(duration, bool)
        or not isinstance(duration, (int, float))
        or not math.isfinite(duration)
        or duration < 0
    ):
        raise ConfigurationError(
            f"duration_ms={safe_repr(duration)} refused; give milliseconds of at least 0, or None"
        )
