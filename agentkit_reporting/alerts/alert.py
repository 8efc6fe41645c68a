"""Alert: what is told when a rule begins to fire, and when it is resolved."""

from __future__ import annotations

import datetime as dt
import logging
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import attrs

from agentkit_loop.values import JSON
from agentkit_reporting.alerts.units import Amount, Unit, quantity_text, threshold_text
from agentkit_reporting.terminal import one_line
from agentkit_reporting.timestamps import utc_text

__all__ = ["Alert", "AlertState", "Severity", "log_alert"]

AlertState: TypeAlias = Literal["firing", "resolved"]
Severity: TypeAlias = Literal["critical", "error", "warning", "info"]

_NAME_COLUMNS = 60


@attrs.frozen(kw_only=True)
class Alert:
    """A rule fires for a group, or does no longer.

    rule, severity, metric, op: the rule's. state: firing, or resolved after that. value: what was measured, None where
    nothing is left in the window; threshold: what the rule compares it with; both in `unit`: ms, share (0 to 1),
    money (in `currency`), count or tokens. group: what it is about, by dimension; empty for everything. count:
    samples behind the value. window_ms: None for no window. at: the time of the event at which it was raised. since:
    when the condition began to hold. session_id, run_id, turn_id: of the group's last sample. message: the rule's
    template, filled in; visible text on one line.
    """

    rule: str
    severity: Severity
    state: AlertState
    metric: str
    op: str
    value: Amount | None
    threshold: Amount
    unit: Unit
    currency: str | None = None
    group: dict[str, str]
    count: int
    window_ms: float | None = None
    at: dt.datetime
    since: dt.datetime
    session_id: str
    run_id: str
    turn_id: str | None = None
    message: str

    @property
    def where(self) -> str:
        """The group for people: `tool run_tests`; `all` for everything. Visible, on one line."""
        return where_text(self.group)

    @property
    def comparison(self) -> str:
        """What was measured against the threshold: `2.5 s > 2 s`; of a resolved one `0.4 s, not > 2 s`."""
        if self.value is None:
            return f"no data, not {self.op} {quantity_text(self.threshold, self.unit, self.currency)}"
        value, threshold = threshold_text(self.value, self.threshold, self.unit, self.currency)
        return f"{value}{' ' if self.state == 'firing' else ', not '}{self.op} {threshold}"

    def as_json(self) -> dict[str, JSON]:
        """Return the fields as JSON, `at` as `timestamp`; times are ISO text, amounts of money exact text."""
        told: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in attrs.fields(type(self)) if field.name != "at"
        }
        told["value"], told["threshold"] = json_amount(self.value), json_amount(self.threshold)
        told["group"] = dict(self.group)
        told["since"] = utc_text(self.since)
        return {"session_id": told.pop("session_id"), "timestamp": utc_text(self.at), **told}


def where_text(group: dict[str, str]) -> str:
    """Return a group for people: `tool run_tests`; `all` for everything."""
    return (
        ", ".join(f"{name} {one_line(value, _NAME_COLUMNS) or '-'}" for name, value in group.items()) or "all"
    )


def json_amount(value: Amount | None) -> JSON:
    """Return a value for JSON: exact text for money, a number otherwise."""
    return str(value) if isinstance(value, Decimal) else value


_LEVELS: dict[Severity, int] = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
}


def log_alert(alert: Alert) -> None:
    """Log an alert as `agentkit.alerts`: what fires at the level of its severity, what is resolved as info."""
    level = _LEVELS[alert.severity] if alert.state == "firing" else logging.INFO
    logging.getLogger("agentkit.alerts").log(
        level, "%s: %s", alert.state, alert.message, extra={"alert": alert.as_json()}
    )
