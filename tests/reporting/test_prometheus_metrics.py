"""Metrics of runs at a real endpoint, read with the client's own parser: exact, bounded, each fact once."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from prometheus_client.parser import text_string_to_metric_families

from agentkit_loop import Agent, ScriptedModel
from agentkit_loop.errors import ConfigurationError, IllegalMoveError, ModelError
from agentkit_loop.events import (
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunFailed,
    ToolResultReceived,
    TurnFinished,
    UsageUpdated,
)
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting import (
    EventDispatcher,
    JsonlReporter,
    PrometheusMetrics,
    UsageReporter,
    decode_event,
    encode_event,
    read_events,
)
from agentkit_reporting.records.run_metrics import OTHER
from agentkit_reporting.records.settled_requests import OpenRequests
from tests.reporting.adapters import told
from tests.reporting.test_event_bridges import Prices, search
from tests.reporting.topics import payload
from tests.strategies import event_lists

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

USAGE = Usage(
    input_tokens=6, cached_input_tokens=100, cache_write_input_tokens=50, output_tokens=4, reasoning_tokens=3
)
ROUNDS = [
    Reply(
        calls=(
            ScriptedCall(name="search", input={"query": "x"}),
            ScriptedCall(name="nobody", input={}),
            ScriptedCall(name="breaks", input={}),
        ),
        usage=USAGE,
    ),
    Reply(text="Done.", usage=USAGE),
]
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def breaks() -> str:
    """Break."""
    raise ValueError("broken")


def agent_of(*observers: Any, replies: Any = None) -> Agent:
    return Agent(
        model=ScriptedModel(ROUNDS if replies is None else replies),
        tools=[search, breaks],
        observers=list(observers),
        prices=Prices(),
    )


def parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(address: str) -> Samples:
    with NO_PROXY.open(address, timeout=30.0) as response:
        return parsed(response.read().decode())


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


def fed(metrics: PrometheusMetrics, events: Iterable[AgentEvent]) -> PrometheusMetrics:
    for event in events:
        metrics.handle_event(event)
    return metrics


def test_a_run_is_scraped_from_the_endpoint() -> None:
    with PrometheusMetrics() as metrics:
        address = metrics.serve()
        assert address.startswith("http://127.0.0.1:")
        agent_of(metrics).run("go")
        samples = scraped(address)
    model = "scripted"
    assert value(samples, "agentkit_runs_total", outcome="completed") == 1
    assert value(samples, "agentkit_requests_total", model=model, outcome="tool_call") == 1
    assert value(samples, "agentkit_requests_total", model=model, outcome="completed") == 1
    for kind, count in (("input", 12), ("cached_input", 200), ("cache_write", 100), ("output", 8)):
        assert value(samples, "agentkit_tokens_total", model=model, kind=kind) == count
    assert value(samples, "agentkit_reasoning_tokens_total", model=model) == 6
    assert value(samples, "agentkit_cost_total", model=model, currency="USD") == 3.2
    assert value(samples, "agentkit_tool_calls_total", tool="search", status="ok") == 1
    assert value(samples, "agentkit_tool_calls_total", tool="breaks", status="error") == 1
    assert value(samples, "agentkit_tool_calls_total", tool="nobody", status="not_started") == 1
    assert value(samples, "agentkit_tool_duration_seconds_count", tool="search") == 1
    assert value(samples, "agentkit_tool_duration_seconds_bucket", tool="search", le="+Inf") == 1
    assert value(samples, "agentkit_tool_duration_seconds_count", tool="nobody") is None
    assert value(samples, "agentkit_run_duration_seconds_count", outcome="completed") == 1
    assert value(samples, "agentkit_request_duration_seconds_count", model=model) == 2


def test_failed_requests_and_runs_count_with_what_they_used() -> None:
    metrics, usage = PrometheusMetrics(), UsageReporter()
    cut = Reply(
        text="some words", usage=USAGE, fail=ScriptedFailure(error_class="invalid_request", after_chunks=1)
    )
    with pytest.raises(ModelError):
        agent_of(metrics, usage, replies=[cut]).run("go")
    samples = parsed(metrics.text())
    assert value(samples, "agentkit_runs_total", outcome="failed") == 1
    assert value(samples, "agentkit_requests_total", model="scripted", outcome="invalid_request") == 1
    assert tokens(samples) == (usage.total.usage.total_tokens or 0) > 0


def tokens(samples: Samples) -> float:
    return sum(count for (name, _), count in samples.items() if name == "agentkit_tokens_total")


def test_a_later_report_replaces_and_an_end_counts_once() -> None:
    def report(count: int, *, final: bool = False) -> UsageUpdated:
        return UsageUpdated(request_id="r", model="m", usage=Usage(output_tokens=count), final=final)

    def begin() -> ModelRequestStarted:
        return ModelRequestStarted(
            request_id="r", attempt=1, purpose="turn", model="asked", message_count=1, digests={}
        )

    child = ToolResultReceived(call_id="c", name="t", output="", child_usage=Usage(output_tokens=1_000))
    sums = TurnFinished(finish_reason="completed", usage=Usage(output_tokens=1_000), item_count=1)
    metrics = PrometheusMetrics()
    for event in told(begin(), report(1), report(5), child, sums):
        metrics.handle_event(event)
    assert tokens(parsed(metrics.text())) == 0  # it has not ended
    for event in told(report(9, final=True), ModelRequestFinished(request_id="r", finish_reason="completed")):
        metrics.handle_event(event)
    samples = parsed(metrics.text())
    assert tokens(samples) == 9
    assert value(samples, "agentkit_unpriced_requests_total", model="m") == 1
    error = ErrorInfo(type="E", message="")
    for event in told(
        begin(), report(3), ModelRequestFailed(request_id="r", error=error, error_class="timeout")
    ):
        metrics.handle_event(event)
    assert tokens(parsed(metrics.text())) == 12
    for event in told(begin(), report(4), RunFailed(error=error, usage=Usage())):
        metrics.handle_event(event)
    assert tokens(parsed(metrics.text())) == 16


@given(event_lists())
def test_an_observer_cannot_tell_live_from_replayed(events: list[AgentEvent]) -> None:
    live = fed(PrometheusMetrics(), events)
    assert live == fed(PrometheusMetrics(), [decode_event(encode_event(event)) for event in events])
    assert parsed(live.text()) is not None


@given(event_lists(session_id="a"), event_lists(session_id="b"))
def test_sessions_do_not_touch_each_other(first: list[AgentEvent], second: list[AgentEvent]) -> None:
    mixed = PrometheusMetrics()
    for pair in zip(first, second, strict=False):
        fed(mixed, pair)
    shorter = min(len(first), len(second))
    apart = fed(PrometheusMetrics(), [*first[:shorter], *second[:shorter]])
    assert {line for line in mixed.text().splitlines() if "_sum" not in line} == {
        line for line in apart.text().splitlines() if "_sum" not in line
    }


def test_a_log_gives_what_the_run_gave(tmp_path: Path) -> None:
    live, log = PrometheusMetrics(), JsonlReporter(tmp_path / "run.jsonl")
    agent_of(live, log).run("go")
    log.close()
    offline = fed(PrometheusMetrics(), read_events(tmp_path / "run.jsonl"))
    assert offline.text() == live.text()
    assert offline == live


@pytest.mark.parametrize("background", [False, True], ids=["in front", "behind"])
@pytest.mark.parametrize("pattern", ["agent.**", "**"])
def test_subscribed_to_a_dispatcher_it_counts_the_same(pattern: str, *, background: bool) -> None:
    subscribed, recorder = PrometheusMetrics(), EventRecorder()
    with EventDispatcher(async_dispatch=background) as dispatcher:
        dispatcher.subscribe(pattern, subscribed)
        dispatcher.subscribe("agent.tool_invoked", subscribed)
        agent_of(dispatcher, recorder).run("go")
    assert subscribed == fed(PrometheusMetrics(), recorder.events)


def test_what_a_dispatcher_is_told_directly_counts_by_its_topic() -> None:
    metrics, dispatcher = PrometheusMetrics(), EventDispatcher()
    dispatcher.subscribe("**", metrics)
    for _ in range(3):
        dispatcher.emit("billing.paid", payload())
    assert value(parsed(metrics.text()), "agentkit_topics_total", topic="billing.paid") == 3


def test_labels_are_bounded_whatever_a_model_calls_its_tools() -> None:
    metrics = PrometheusMetrics(max_label_values=3)
    awkward = 'a"b\\c\nd\u2028' + "x" * 1_000
    for name in (awkward, *(f"tool-{number}" for number in range(50))):
        for event in told(ToolResultReceived(call_id="c", name=name, output="", duration_ms=1.0)):
            metrics.handle_event(event)
    samples = parsed(metrics.text())
    named = {
        dict(labels)["tool"]: count
        for (name, labels), count in samples.items()
        if name == "agentkit_tool_calls_total"
    }
    assert named == {awkward[:100]: 1, "tool-0": 1, "tool-1": 1, OTHER: 48}


def test_no_sum_of_durations_goes_down() -> None:
    metrics = PrometheusMetrics()
    for duration_ms in (2_000.0, -9_000.0, None):
        for event in told(ToolResultReceived(call_id="c", name="t", output="", duration_ms=duration_ms)):
            metrics.handle_event(event)
    samples = parsed(metrics.text())
    assert value(samples, "agentkit_tool_duration_seconds_sum", tool="t") == 2
    assert value(samples, "agentkit_tool_duration_seconds_count", tool="t") == 1
    assert value(samples, "agentkit_tool_calls_total", tool="t", status="ok") == 3


def test_sessions_without_an_end_leave_nothing_once_their_requests_ended() -> None:
    requests = OpenRequests()
    for number in range(100):
        usage = UsageUpdated(request_id="r", model="m", usage=USAGE, final=True)
        ends = [ModelRequestFinished(request_id="r", finish_reason="end_turn") for _ in range(2)]
        for event in told(usage, *ends, session_id=f"ses-{number}"):
            requests.take(event)
    assert requests._open == {}


def test_eight_threads_count_exactly() -> None:
    metrics = PrometheusMetrics()
    threads = []
    for number in range(8):
        other = EventRecorder()
        agent_of(other).run(f"go {number}")
        threads.append(
            threading.Thread(target=lambda seen=other.events: [fed(metrics, seen) for _ in range(20)])
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples = parsed(metrics.text())
    assert value(samples, "agentkit_runs_total", outcome="completed") == 160
    assert Decimal(str(value(samples, "agentkit_cost_total", model="scripted", currency="USD"))) == 512


# --- the endpoint


def test_an_endpoint_is_closed_and_opened_again_and_the_default_registry_untouched() -> None:
    before = prometheus_client.generate_latest()
    metrics = PrometheusMetrics()
    address = metrics.serve()
    with pytest.raises(IllegalMoveError, match="close it first"):
        metrics.serve()
    port = int(address.rsplit(":", 1)[1].split("/")[0])
    metrics.close()
    metrics.close()
    with socket.socket() as free:
        assert free.connect_ex(("127.0.0.1", port)) != 0
    assert scraped(metrics.serve()) == {}
    metrics.close()
    families = [line.split(" ")[2] for line in before.decode().splitlines() if line.startswith("# TYPE")]
    assert not any(name.startswith("agentkit") for name in families)


@pytest.mark.parametrize("bound", [0, -1, 1.5, None])
def test_a_bound_that_is_none_is_refused(bound: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_label_values=.* refused"):
        PrometheusMetrics(max_label_values=bound)


def test_a_forked_child_counts_on_and_leaves_the_endpoint_to_its_parent() -> None:
    program = """
import os
from agentkit_reporting import EventDispatcher, PrometheusMetrics
from tests.reporting.test_prometheus_metrics import scraped, value, parsed
from tests.reporting.topics import payload
metrics, dispatcher = PrometheusMetrics(), EventDispatcher()
dispatcher.subscribe("**", metrics)
address = metrics.serve()
dispatcher.emit("a", payload())
child = os.fork()
dispatcher.emit("a", payload())
if child == 0:
    well = value(parsed(metrics.text()), "agentkit_topics_total", topic="a") == 2 and metrics.serve() != address
    os._exit(0 if well else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert value(scraped(address), "agentkit_topics_total", topic="a") == 2
metrics.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
