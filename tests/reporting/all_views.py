"""All views of one stream at once, and what each of them says of tokens, costs and calls."""

from __future__ import annotations

import io
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.observers import Observer
from agentkit_reporting import (
    AuditLedger,
    CostLedger,
    EventDispatcher,
    InvocationMetricsCollector,
    JsonlReporter,
    PrometheusMetrics,
    SessionProfiler,
    StdoutReporter,
    StepLog,
    ToolRecorder,
    TranscriptReporter,
    UsageReporter,
    UsageStore,
)
from agentkit_reporting.records.report import RunReport
from agentkit_reporting.records.step_records import LlmCallStep

_COUNTS = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens")


class AllViews:
    """One of each view, in a directory of their own."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.log = place / "run.jsonl"
        self.page = io.StringIO()
        self.usage = UsageReporter()
        self.tools = ToolRecorder(place / "tools.jsonl")
        self.profiler = SessionProfiler(place / "sessions.jsonl")
        self.store = UsageStore(place / "usage.jsonl")
        self.ledger = AuditLedger(place / "decisions.jsonl")
        self.steps = StepLog(place / "steps.jsonl", fsync="never")
        self.metrics = InvocationMetricsCollector(place / "metrics")
        self.prometheus = PrometheusMetrics()
        self.dispatcher = EventDispatcher()
        self.topics: list[tuple[str, dict[str, Any]]] = []
        self.dispatcher.subscribe("agent.**", self._note)
        self.scraped = PrometheusMetrics()
        self.dispatcher.subscribe("agent.**", self.scraped)
        self.costs, self.report = CostLedger(), RunReport()
        self.observers: list[Any] = [
            JsonlReporter(self.log, fsync="never", redact=False),
            StdoutReporter(self.page, colour=False, width=80, verbose=True),
            TranscriptReporter(),
            self.usage,
            self.tools,
            self.profiler,
            self.store,
            self.ledger,
            self.steps,
            self.metrics,
            self.prometheus,
            self.dispatcher,
        ]

    def all(self) -> list[Observer]:
        """The observers, and what the command line makes of a log."""
        return [*self.observers, self.costs, self.report.take]

    def told(self, events: Iterable[AgentEvent]) -> AllViews:
        """Give them a log."""
        for event in events:
            told = event.delta if isinstance(event, ContentDelta) else event
            for observer in self.observers:
                if (
                    not observer.wants
                    or isinstance(event, observer.wants)
                    or isinstance(told, observer.wants)
                ):
                    observer.handle_event(event)
            if isinstance(event, self.costs.wants):
                self.costs.handle_event(event)
            self.report.take(event)
        return self

    def close(self) -> AllViews:
        """Close them."""
        for observer in self.observers:
            observer.close()
        return self

    def said(self) -> dict[str, Any]:
        """All that they say."""
        return {
            "page": self.page.getvalue(),
            "log": self.log.read_bytes(),
            "tools": self.tools.records(),
            "sessions": self.profiler.records,
            "entries": self.store.entries(),
            "decisions": {each: self.ledger.get_trace(each) for each in self.ledger.session_ids},
            "steps": (self.steps.headers, self.steps.steps),
            "metrics": self.metrics.get_all(),
            "report": self.report.metrics(),
            "prometheus": self.prometheus.text(),
            "scraped": self.scraped.text(),
            "topics": self.topics,
            "usage": self.usage.total,
        }

    def files(self) -> dict[str, bytes]:
        """What is in the files of records."""
        return {path.name: path.read_bytes() for path in sorted(self.log.parent.rglob("*.jsonl"))}

    def tokens(self) -> dict[str, dict[str, int]]:
        """What each view says was used, by kind; unknown as 0."""
        return {
            "UsageReporter": _of(self.usage.total.usage),
            "CostLedger": _sum(_of(each.usage) for each in self.costs.entries()),
            "UsageStore": _sum(_of(each.usage) for each in self.store.entries()),
            "StepLog": _sum(_of(each) for each in self.steps.steps if isinstance(each, LlmCallStep)),
            "PrometheusMetrics": _scraped(self.prometheus),
            "PrometheusMetrics, subscribed": _scraped(self.scraped),
            "SessionProfiler": _sum(
                {
                    "cached_input_tokens": each.cached_input_tokens or 0,
                    "cache_write_input_tokens": each.cache_write_input_tokens or 0,
                    "output_tokens": each.total_output_tokens or 0,
                    "input_tokens": (each.total_input_tokens or 0)
                    - (each.cached_input_tokens or 0)
                    - (each.cache_write_input_tokens or 0),
                }
                for each in self.profiler.records
            ),
            "InvocationMetricsCollector": _sum(
                {
                    "input_tokens": each.input_tokens or 0,
                    "cached_input_tokens": each.cached_tokens or 0,
                    "cache_write_input_tokens": each.cache_write_tokens or 0,
                    "output_tokens": each.output_tokens or 0,
                }
                for each in self.metrics.get_all()
            ),
            "report": _sum(
                {
                    "input_tokens": each.input_tokens or 0,
                    "cached_input_tokens": each.cached_tokens or 0,
                    "cache_write_input_tokens": each.cache_write_tokens or 0,
                    "output_tokens": each.output_tokens or 0,
                }
                for each in self.report.metrics()
            ),
        }

    def _note(self, payload: Any) -> None:
        self.topics.append((payload.topic, dict(payload)))

    def money(self) -> dict[str, Decimal]:
        """What each view says was spent, in USD; unknown as 0."""
        completed = [each for topic, each in self.topics if topic == "agent.session_complete"]
        return {
            "UsageReporter": self.usage.total.costs.get("USD", Decimal(0)),
            "CostLedger": _added(each.cost.amount for each in self.costs.entries() if each.cost is not None),
            "UsageStore": self.store.total_cost() or Decimal(0),
            "StepLog": _added(
                Decimal(each.cost or 0) for each in self.steps.steps if isinstance(each, LlmCallStep)
            ),
            "SessionProfiler": _added(each.total_cost_usd for each in self.profiler.records),
            "InvocationMetricsCollector": _added(each.cost for each in self.metrics.get_all()),
            "report": _added(each.cost for each in self.report.metrics()),
            "session_complete": _added(Decimal(each["costs"].get("USD", 0)) for each in completed),
        }

    def calls(self) -> dict[str, tuple[int, int]]:
        """How many requests to the model, and calls of tools, each view tells of."""
        return {
            "StepLog": (len(self.steps.filter(type="llm_call")), len(self.steps.filter(type="tool_call"))),
            "SessionProfiler, ToolRecorder": (
                sum(each.calls for each in self.profiler.records),
                len(self.tools.records()),
            ),
            "PrometheusMetrics": (
                _count(self.prometheus, "agentkit_requests_total"),
                _count(self.prometheus, "agentkit_tool_calls_total"),
            ),
            "EventDispatcher": (
                sum(topic == "agent.model_request_started" for topic, _ in self.topics),
                sum(topic == "agent.tool_result_received" for topic, _ in self.topics),
            ),
        }


def _of(usage: Any) -> dict[str, int]:
    return {name: getattr(usage, name) or 0 for name in _COUNTS}


def _sum(all_: Iterable[dict[str, int]]) -> dict[str, int]:
    total = dict.fromkeys(_COUNTS, 0)
    for each in all_:
        for name in _COUNTS:
            total[name] += each[name]
    return total


def _added(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((each for each in amounts if each is not None), Decimal(0))


def _count(metrics: PrometheusMetrics, name: str) -> int:
    lines = [line for line in metrics.text().splitlines() if line.startswith(f"{name}{{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)


def _scraped(metrics: PrometheusMetrics) -> dict[str, int]:
    total = dict.fromkeys(_COUNTS, 0)
    kinds = {"input": 0, "cached_input": 1, "cache_write": 2, "output": 3}
    for line in metrics.text().splitlines():
        if line.startswith("agentkit_tokens_total{"):
            kind = line.split('kind="')[1].split('"')[0]
            total[_COUNTS[kinds[kind]]] += int(float(line.rsplit(" ", 1)[1]))
    return total
