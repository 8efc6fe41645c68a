"""Events for the tests of alerts, and what a rule says of them, found again from the beginning after each."""

from __future__ import annotations

import datetime as dt
import itertools
import operator
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import attrs

from agentkit_loop.events import (
    AgentEvent,
    ModelRequestFinished,
    ModelRequestStarted,
    RunFinished,
    RunStarted,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.usage import Cost, Usage
from agentkit_reporting import AlertRule
from agentkit_reporting.percentiles import percentile

START = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)
OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}


def at(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


class Telling:
    """Tells the events of any number of sessions, at the times that are asked for."""

    def __init__(self) -> None:
        self.events: list[AgentEvent] = []
        self._seqs: dict[str, int] = {}
        self._ids = itertools.count(1)

    def tell(self, event: AgentEvent, seconds: float, session: str = "s", run: str = "r") -> Telling:
        seq = self._seqs[session] = self._seqs.get(session, 0) + 1
        header: dict[str, Any] = {"session_id": session, "run_id": run, "seq": seq, "timestamp": at(seconds)}
        self.events.append(attrs.evolve(event, **header))
        return self

    def begin(self, seconds: float, session: str = "s", run: str = "r", agent: str = "a") -> Telling:
        return self.tell(RunStarted(agent_name=agent, model="m"), seconds, session, run)

    def end(self, seconds: float, session: str = "s", run: str = "r", took_ms: float = 1_000) -> Telling:
        ended = RunFinished(outcome="completed", usage=Usage(), duration_ms=took_ms)
        return self.tell(ended, seconds, session, run)

    def call(
        self,
        seconds: float,
        duration_ms: float | None = 100,
        *,
        tool: str = "work",
        failed: bool = False,
        session: str = "s",
        run: str = "r",
    ) -> Telling:
        result = ToolResultReceived(
            call_id=f"call-{next(self._ids)}", name=tool, output="", is_error=failed, duration_ms=duration_ms
        )
        return self.tell(result, seconds, session, run)

    def request(
        self,
        seconds: float,
        *,
        cost: str | None = "0.01",
        currency: str = "USD",
        usage: Usage | None = None,
        duration_ms: float = 500,
        session: str = "s",
        run: str = "r",
        **ended: Any,
    ) -> Telling:
        """Tell a whole request: a report that is replaced, then the last one."""
        request_id = f"request-{next(self._ids)}"
        started = ModelRequestStarted(
            request_id=request_id, attempt=1, purpose="turn", model="m", message_count=1, digests={}
        )
        price = None
        if cost is not None:
            price = Cost(
                amount=Decimal(cost), currency=currency, components={}, source="t", priced_at=at(seconds)
            )
        used = usage or Usage(input_tokens=10, output_tokens=5)
        early = UsageUpdated(request_id=request_id, model="billed", usage=Usage(input_tokens=9_999))
        last = UsageUpdated(request_id=request_id, model="billed", usage=used, cost=price, final=True)
        finished = ModelRequestFinished(
            request_id=request_id, finish_reason="completed", duration_ms=duration_ms, **ended
        )
        for event in (started, early, last, finished):
            self.tell(event, seconds, session, run)
        return self


class Said(NamedTuple):
    """What matters of an alert."""

    state: str
    group: tuple[str, ...]
    value: Any
    samples: int
    at: dt.datetime


def naive_alerts(events: Sequence[ToolResultReceived], rule: AlertRule) -> list[Said]:
    """Return the alerts of a rule over calls, with everything recomputed after each event."""
    said: list[Said] = []
    states: dict[tuple[str, ...], dict[str, Any]] = {}
    seen: list[tuple[float, ToolResultReceived]] = []
    now = -1e18
    for event in events:
        now = max(now, (event.timestamp - START).total_seconds())
        seen.append((now, event))
        groups = list(dict.fromkeys(_group(each, rule) for _, each in seen if _worth(each, rule) is not None))
        for group in groups:
            inside = [
                _worth(each, rule)
                for when, each in seen
                if _group(each, rule) == group
                and _worth(each, rule) is not None
                and (rule.window_ms is None or when > now - rule.window_ms / 1_000)
            ]
            value = _value(inside, rule) if len(inside) >= rule.min_count else None
            state = states.setdefault(group, {"state": "quiet", "fired": None})
            if value is None or not OPERATORS[rule.op](value, rule.threshold):
                if state["state"] == "firing":
                    said.append(Said("resolved", group, _value(inside, rule), len(inside), event.timestamp))
                state["state"] = "quiet"
                continue
            if state["state"] == "quiet":
                state.update(state="pending", since=now)
            due = state["since"] + rule.for_ms / 1_000 if state["state"] == "pending" else None
            if due is not None and state["fired"] is not None:
                due = max(due, state["fired"] + rule.cooldown_ms / 1_000)
            if due is not None and now >= due:
                state.update(state="firing", fired=now)
                said.append(Said("firing", group, value, len(inside), event.timestamp))
    return said


def _group(event: ToolResultReceived, rule: AlertRule) -> tuple[str, ...]:
    names = {"tool": event.name, "session": event.session_id}
    return tuple(names[name] for name in rule.per)


def _worth(event: ToolResultReceived, rule: AlertRule) -> Any:
    if rule.metric.name.startswith("tool_latency"):
        return event.duration_ms
    if rule.metric.name == "tool_errors":
        return int(event.is_error)
    return (int(event.is_error), 1) if rule.metric.name == "tool_error_rate" else 1


def _value(worths: list[Any], rule: AlertRule) -> Any:
    name = rule.metric.name
    if name in ("tool_calls", "tool_errors"):
        return sum(worths)
    if not worths:
        return None
    if name == "tool_error_rate":
        return sum(part for part, _ in worths) / len(worths)
    return max(worths) if name.endswith("_max") else percentile(worths, rule.metric.percent)
