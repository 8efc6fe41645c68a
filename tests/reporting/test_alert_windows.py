"""Alerts over windows of event time against the same found naively: everything again after every event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.events import ToolResultReceived
from agentkit_reporting import Alert, AlertReporter, AlertRule
from agentkit_reporting.alerts.metrics import METRICS
from agentkit_reporting.alerts.windows import MOST_KEPT, tally_for
from tests.reporting.alert_samples import Said, Telling, naive_alerts

quick = settings(deadline=None, max_examples=200)

thresholds: dict[str, list[float]] = {
    "tool_latency_p50": [0, 10, 50],
    "tool_latency_p95": [10, 90],
    "tool_latency_max": [50, 99],
    "tool_calls": [0, 1, 3],
    "tool_errors": [0, 1],
    "tool_error_rate": [0, 0.25, 0.5, 1],
}


@st.composite
def rules(draw: st.DrawFn) -> AlertRule:
    metric = draw(st.sampled_from(sorted(thresholds)))
    window = draw(st.sampled_from([None, "1s", "5s", "20s"]))
    grows = METRICS[metric].grows
    ops = [">", ">="] if grows and window else [">", ">=", "<", "<=", "=="]
    return AlertRule(
        metric,
        draw(st.sampled_from(ops)),
        draw(st.sampled_from(thresholds[metric])),
        per=draw(st.sampled_from([(), "tool", "session", ("session", "tool")])),
        window=window,
        when="always",
        min_count=draw(st.sampled_from([0, 1, 2, 5])),
        for_=draw(st.sampled_from([None, None, "1s", "4s"])),
        cooldown=draw(st.sampled_from([None, None, "3s", "30s"])),
    )


calls = st.tuples(
    st.integers(-3, 8),  # seconds since the one before; clocks are set back at times
    st.sampled_from([None, 0, 10, 20, 50, 51, 90, 99, 100]),
    st.sampled_from(["read", "write"]),
    st.booleans(),
    st.sampled_from(["s-1", "s-2"]),
)


def told(drawn: list[tuple[Any, ...]]) -> list[ToolResultReceived]:
    telling, seconds = Telling(), 0.0
    for step, duration_ms, tool, failed, session in drawn:
        seconds += step
        telling.call(seconds, duration_ms, tool=tool, failed=failed, session=session)
    return [event for event in telling.events if isinstance(event, ToolResultReceived)]


def said(alert: Alert) -> Said:
    return Said(alert.state, tuple(alert.group.values()), alert.value, alert.count, alert.at)


@given(rule=rules(), drawn=st.lists(calls, max_size=30))
@quick
def test_alerts_are_those_of_a_naive_recomputation_after_each_event(
    rule: AlertRule, drawn: list[tuple[Any, ...]]
) -> None:
    events = told(drawn)
    reporter = AlertReporter([rule])
    found: list[Said] = []
    for event in events:
        before = len(reporter.alerts)
        reporter.handle_event(event)
        found += sorted(map(said, reporter.alerts[before:]), key=lambda each: each.group)
    naive = sorted(naive_alerts(events, rule), key=lambda each: (each.at, each.group))
    assert sorted(found, key=lambda each: (each.at, each.group)) == naive


@pytest.mark.parametrize("wait", [None, "1s"])
def test_a_group_whose_empty_window_is_alerted_of_fires_once(wait: str | None) -> None:
    rule = AlertRule("tool_calls", ">=", 0, per="tool", window="1s", when="always", for_=wait)
    steps = [(0, "write"), (1, "read"), (1, "read"), (1, "read"), (1, "write")]
    reporter = AlertReporter([rule])
    for event in told([(seconds, None, tool, False, "s-1") for seconds, tool in steps]):
        reporter.handle_event(event)
    assert [alert.state for alert in reporter.alerts if alert.group == {"tool": "write"}] == ["firing"]


@given(rule=rules(), drawn=st.lists(calls, max_size=30), cut=st.integers(0, 30))
@quick
def test_what_is_told_twice_counts_once(rule: AlertRule, drawn: list[tuple[Any, ...]], cut: int) -> None:
    events = told(drawn)
    once, twice = AlertReporter([rule]), AlertReporter([rule])
    for event in events:
        once.handle_event(event)
    for event in [*events[:cut], *events[:cut], *events]:
        twice.handle_event(event)
    assert once.alerts == twice.alerts
    assert once.results == twice.results


def test_a_window_of_very_many_samples_keeps_sums_exact_and_lets_neighbours_leave_together() -> None:
    tally = tally_for(METRICS["tool_calls"], windowed=True)
    for at_us in range(5 * MOST_KEPT):
        tally.add(at_us, 1)
    assert (tally.value(), tally.count) == (5 * MOST_KEPT, 5 * MOST_KEPT)
    tally.slide(4 * MOST_KEPT)
    assert MOST_KEPT - 1 <= tally.count <= MOST_KEPT + 16
    tally.slide(5 * MOST_KEPT)
    assert (tally.value(), tally.count, tally.oldest_us) == (0, 0, None)


def test_a_percentile_is_of_the_last_samples_and_the_highest_of_all() -> None:
    ranked, highest = (
        tally_for(METRICS[name], windowed=False) for name in ("tool_latency_p50", "tool_latency_max")
    )
    for at_us in range(3 * MOST_KEPT):
        worth = float(max(0, 2 * MOST_KEPT - at_us))
        ranked.add(at_us, worth)
        highest.add(at_us, worth)
    assert (ranked.value(), ranked.count) == (0, MOST_KEPT)
    assert highest.value() == 2 * MOST_KEPT


def test_the_highest_of_a_window_stays_bounded_and_is_never_below_the_truth() -> None:
    tally = tally_for(METRICS["tool_latency_max"], windowed=True)
    for at_us in range(3 * MOST_KEPT):
        tally.add(at_us, float(3 * MOST_KEPT - at_us))
    assert tally.count == 3 * MOST_KEPT
    tally.slide(2 * MOST_KEPT)
    value = tally.value()
    assert value is not None
    assert value >= MOST_KEPT - 1
    tally.slide(3 * MOST_KEPT)
    assert (tally.value(), tally.count) == (None, 0)
