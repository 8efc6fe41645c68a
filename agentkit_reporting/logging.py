"""LoggingReporter: events as records of the standard `logging`, with levels and structured fields."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from agentkit_loop import events as ev
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent
from agentkit_loop.observers import EventKind, LoopObserver
from agentkit_loop.usage import ErrorInfo
from agentkit_reporting.accounting import Account, Tally
from agentkit_reporting.process_ends import watch
from agentkit_reporting.terminal import brief, one_line

DEFAULT_LOGGER = "agentkit.events"

DEFAULT_LEVELS: Final[Mapping[type[AgentEvent], int]] = MappingProxyType(
    {
        ev.RunStarted: logging.INFO,
        ev.TurnStarted: logging.DEBUG,
        ev.TurnFinished: logging.INFO,
        ev.RunFinished: logging.INFO,
        ev.CancelRequested: logging.WARNING,
        ev.RunFailed: logging.ERROR,
        ev.RunCancelled: logging.WARNING,
        ev.InputAccepted: logging.INFO,
        ev.ModelRequestStarted: logging.DEBUG,
        ev.ModelRequestRetrying: logging.WARNING,
        ev.ModelRequestFinished: logging.DEBUG,
        ev.ModelRequestFailed: logging.WARNING,
        ev.ToolCallRequested: logging.DEBUG,
        ev.ToolExecutionStarted: logging.INFO,
        ev.ToolExecutionProgress: logging.DEBUG,
        ev.ToolResultReceived: logging.INFO,
        ev.ToolCatalogChanged: logging.INFO,
        ev.ApprovalRequired: logging.INFO,
        ev.ApprovalResolved: logging.INFO,
        ev.AuthRequired: logging.INFO,
        ev.AuthResolved: logging.INFO,
        ev.CompactionStarted: logging.DEBUG,
        ev.CompactionFinished: logging.INFO,
        ev.UsageUpdated: logging.DEBUG,
        ev.BudgetWarning: logging.WARNING,
        ev.BudgetExceeded: logging.WARNING,
        ev.Warning: logging.WARNING,
        ev.ObserverFailed: logging.WARNING,
        ev.CustomEvent: logging.DEBUG,
        ev.UnknownEvent: logging.DEBUG,
    }
)
"""The level of each class of events; ContentDelta, the text as it comes, has none. What is here as INFO and tells of
an error (`is_error`, `error`) is a WARNING."""

_FIELDS: Final[Mapping[type[AgentEvent], tuple[str, ...]]] = {
    ev.RunStarted: ("agent_name", "model", "resumed_run"),
    ev.TurnStarted: ("index",),
    ev.TurnFinished: ("finish_reason", "item_count", "duration_ms"),
    ev.RunFinished: ("outcome", "duration_ms", "open_approvals", "open_auths"),
    ev.CancelRequested: ("reason", "by"),
    ev.RunFailed: ("error", "duration_ms"),
    ev.RunCancelled: ("reason", "duration_ms"),
    ev.ContentDelta: ("request_id",),
    ev.ModelRequestStarted: ("request_id", "attempt", "purpose", "model", "message_count"),
    ev.ModelRequestRetrying: ("request_id", "delay_ms", "next_attempt"),
    ev.ModelRequestFinished: (
        "request_id",
        "finish_reason",
        "response_id",
        "response_model",
        "first_content_ms",
        "duration_ms",
    ),
    ev.ModelRequestFailed: ("request_id", "error_class", "error", "retry_after_ms", "duration_ms"),
    ev.ToolCallRequested: ("request_id",),
    ev.ToolExecutionStarted: ("call_id", "name", "attempt", "edited"),
    ev.ToolExecutionProgress: ("call_id", "message", "fraction"),
    ev.ToolResultReceived: (
        "call_id",
        "name",
        "is_error",
        "not_started",
        "denied",
        "interrupted",
        "duration_ms",
        "error",
    ),
    ev.ApprovalRequired: ("approval_id", "call_id", "reason"),
    ev.ApprovalResolved: ("approval_id", "call_id", "approved", "by", "reason", "edited"),
    ev.AuthRequired: ("auth_id", "call_id", "provider", "scopes"),
    ev.AuthResolved: ("auth_id", "call_id", "outcome"),
    ev.CompactionStarted: ("reason", "item_count", "token_count"),
    ev.CompactionFinished: ("strategy", "item_count", "token_count", "error"),
    ev.UsageUpdated: ("request_id", "model", "final"),
    ev.BudgetWarning: ("limit", "used", "allowed"),
    ev.BudgetExceeded: ("limit", "used", "allowed"),
    ev.Warning: ("code", "message"),
    ev.ObserverFailed: ("observer", "event_seq", "error", "disabled"),
    ev.CustomEvent: ("name",),
}
"""What a record says of each class: who, what and how long, never what was said, asked, answered or handed over."""

_RENAMED: Final[Mapping[type[AgentEvent], Mapping[str, str]]] = {
    ev.ToolExecutionStarted: {"name": "tool_name"},
    ev.ToolResultReceived: {"name": "tool_name"},
    ev.ToolExecutionProgress: {"message": "progress"},
    ev.Warning: {"message": "warning"},
    ev.CustomEvent: {"name": "event_name"},
}
"""Fields whose names a LogRecord has taken."""

_LONGEST_TEXT = 300  # characters of a field

_counts = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens")


class LoggingReporter(LoopObserver):
    """Gives each event to one logger, as a record that says who, what and how long.

    logger: the logger, or its name. levels: by class of events, over DEFAULT_LEVELS; None leaves a class out,
    and ContentDelta may be put in. What the logger does not take costs a look at its level.

    The record's time is the event's. Its `extra` has `event` (the wire name), `session_id`, `run_id`, `turn_id`,
    `seq` and the class's own fields (`tool_name`, `duration_ms`, …), which stand in its text too. Contents of the
    conversation are not in it. Texts of models, tools and errors are on one line, bounded, with everything that is
    not printable escaped; secrets in them are not looked for: put a RedactingReporter around it for that.
    """

    def __init__(
        self,
        logger: logging.Logger | str = DEFAULT_LOGGER,
        *,
        levels: Mapping[type[AgentEvent], int | None] | None = None,
    ) -> None:
        self.logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        if not isinstance(self.logger, logging.Logger):
            raise ConfigurationError(f"logger={logger!r} refused because it is none; give one, or its name")
        merged: dict[type[AgentEvent], int | None] = {**DEFAULT_LEVELS, **(levels or {})}
        self._levels = {cls: _checked(cls, level) for cls, level in merged.items() if level is not None}
        self.wants: tuple[EventKind, ...] = tuple(self._levels)  # type: ignore[misc] # of this one observer
        self._is_on: Callable[[int], bool] = self.logger.isEnabledFor
        self.begin_anew()
        watch(self, at_exit=False)

    def begin_anew(self) -> None:
        """Count from zero: this is a forked child."""
        self._received, self._failed = Tally(), Tally()

    def handle_event(self, event: AgentEvent) -> None:
        """Log one event, if the logger takes its level."""
        level = self._levels.get(event.__class__)
        if level is None:
            return
        if level == logging.INFO and (getattr(event, "is_error", False) or getattr(event, "error", None)):
            level = logging.WARNING
        self._received.add()
        if not self._is_on(level):
            return
        try:
            self._log(event, level)
        except BaseException:
            self._failed.add()
            raise

    def _log(self, event: AgentEvent, level: int) -> None:
        fields = _fields(event)
        wire_name = one_line(event.type, _LONGEST_TEXT)  # of an unknown event it is whatever a log says
        text = " ".join((wire_name, *(f"{name}={value}" for name, value in fields.items())))
        extra = {
            "event": wire_name,
            "session_id": one_line(event.session_id, _LONGEST_TEXT),
            "run_id": one_line(event.run_id, _LONGEST_TEXT),
            "turn_id": None if event.turn_id is None else one_line(event.turn_id, _LONGEST_TEXT),
            "seq": event.seq,
            **fields,
        }
        record = self.logger.makeRecord(
            self.logger.name, level, "agentkit", 0, "%s", (text,), None, None, extra
        )
        record.created = event.timestamp.timestamp()
        record.msecs = event.timestamp.microsecond // 1_000
        self.logger.handle(record)

    def account(self) -> Account:
        """Return what became of the events; one below the logger's level counts as delivered."""
        failed, received = self._failed.value, self._received.value
        return Account(
            name=type(self).__name__, received=received, delivered=received - failed, failed=failed
        )

    def flush(self, timeout_s: float | None = None) -> bool:
        """Flush the handlers of the logger and of those above it; whether every event was logged."""
        del timeout_s  # the handlers know none
        self.hand_over()
        return not self.account().lost

    def hand_over(self) -> bool:
        """Flush around the end of a run; that events were lost before is told with those."""
        logger: logging.Logger | None = self.logger
        while logger is not None:
            for handler in logger.handlers:
                handler.flush()
            logger = logger.parent if logger.propagate else None
        return True

    def close(self, timeout_s: float | None = None) -> bool:
        """Flush; the handlers belong to who made them. Return whether every event was logged."""
        return self.flush(timeout_s)


def _fields(event: AgentEvent) -> dict[str, Any]:
    cls = type(event)
    renamed = _RENAMED.get(cls, {})
    fields: dict[str, Any] = {}
    for name in _FIELDS.get(cls, ()):
        value = getattr(event, name)
        if value is None or value == ():
            continue
        if isinstance(value, ErrorInfo):
            fields["error_type"] = one_line(value.type, _LONGEST_TEXT)
            fields["error_message"] = one_line(value.message, _LONGEST_TEXT)
        else:
            fields[renamed.get(name, name)] = _plain(value)
    match event:
        case ev.ToolCallRequested(call=call):
            fields["call_id"], fields["tool_name"] = _plain(call.id), _plain(call.name)
        case ev.UsageUpdated(usage=usage, cost=cost):
            fields.update({name: count for name in _counts if (count := getattr(usage, name)) is not None})
            if cost is not None:
                fields["cost"], fields["currency"] = str(cost.amount), _plain(cost.currency)
        case ev.InputAccepted(items=items):
            fields["items"] = len(items)
        case ev.ToolCatalogChanged():
            for change in ("added", "removed", "changed"):
                fields[change] = len(getattr(event, change))
        case _:
            pass
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value, _LONGEST_TEXT)
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, tuple):
        return ", ".join(one_line(str(member), _LONGEST_TEXT) for member in value[:20])
    return one_line(brief(value, _LONGEST_TEXT), _LONGEST_TEXT)


def _checked(cls: object, level: object) -> int:
    if not (isinstance(cls, type) and issubclass(cls, AgentEvent)):
        raise ConfigurationError(f"levels of {cls!r} refused because it is no class of events; give one")
    if isinstance(level, bool) or not isinstance(level, int):
        raise ConfigurationError(
            f"level {level!r} of {cls.__name__} refused because it is no number; use one of logging's, such as "
            "logging.INFO"
        )
    return level
