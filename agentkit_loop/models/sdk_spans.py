"""Who makes spans in place of the provider's SDK, which makes its own whenever a tracer provider is set.

A TracingReporter says here that it stands in; a model looks here before a request. Nothing of OpenTelemetry is loaded.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

__all__ = ["SpanKeeper", "keepers", "stand_in", "withdraw"]


class SpanKeeper(Protocol):
    """Who makes spans of requests."""

    @property
    def tracer_provider(self) -> Any:
        """The OpenTelemetry TracerProvider that its spans are made with."""

    def place_of_request(self, session_id: str, run_id: str, request_id: str) -> Any:
        """Return the OpenTelemetry Context in which this request's span is the parent; None if it has none."""


def stand_in(keeper: SpanKeeper) -> None:
    """Say that this one makes the spans of requests from now on, as long as it lives."""
    _keepers.add(keeper)


def withdraw(keeper: SpanKeeper) -> None:
    """Say that it makes no more; twice is harmless."""
    _keepers.discard(keeper)


def keepers() -> tuple[SpanKeeper, ...]:
    """Return who stands in now."""
    return tuple(_keepers)


_keepers: weakref.WeakSet[SpanKeeper] = weakref.WeakSet()
