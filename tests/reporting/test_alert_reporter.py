"""AlertReporter: alerts live and replayed, who hears of them, failures and calls from inside, and its bounds."""

from __future__ import annotations

import io
import threading
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from agentkit_loop.agent import Agent
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, ObserverError
from agentkit_loop.events import AgentEvent, CustomEvent, ObserverFailed, TurnStarted
from agentkit_loop.observers import FailurePolicy
from agentkit_loop.testing import EventRecorder, Reply, ScriptedFailure, ScriptedModel
from agentkit_loop.usage import Usage
from agentkit_reporting import (
    Alert,
    AlertReporter,
    AlertRule,
    EventDispatcher,
    JsonlReporter,
    WebhookSink,
    forward_topics,
    read_events,
    slack_template,
)
from agentkit_reporting.alerts import judging
from tests.loop.scripts import Script, run_async, run_sync, scripts
from tests.reporting.alert_samples import Telling, at
from tests.reporting.hook_server import HookServer

MANY = (
    AlertRule("tool_calls", ">", 0, per="tool"),
    AlertRule("tool_calls", "==", 0, per="run"),
    AlertRule("tool_errors", ">", 0, per="turn"),
    AlertRule("tool_error_rate", ">=", "50%"),
    AlertRule("tool_latency_p95", ">=", 0, per=("run", "tool"), window="1h"),
    AlertRule("requests", ">=", 1, per="request"),
    AlertRule("request_errors", ">", 0, error_class="*"),
    AlertRule("retries", ">", 0, window="10s", for_="1ms"),
    AlertRule("model_latency_max", ">=", 0, per="model"),
    AlertRule("tokens", ">", 100, per="session"),
    AlertRule("cache_hit_rate", "<", "99%", per="run"),
    AlertRule("unpriced", ">", 0),
    AlertRule("turns", ">", 1, per="run"),
    AlertRule("turns", "<", 3, per="run"),
    AlertRule("runs_failed", ">", 0, per="agent"),
    AlertRule("failure_rate", ">", 0, cooldown="1s"),
    AlertRule("run_duration", ">=", 0, per="run"),
    AlertRule("approvals_waiting_ms", ">=", 0, per="tool"),
    AlertRule("compactions", ">", 0),
    AlertRule("max_tokens_finishes", ">", 0),
)


def told(reporter: AlertReporter, events: list[AgentEvent]) -> tuple[Alert, ...]:
    for event in events:
        reporter.handle_event(event)
    reporter.close()
    return reporter.alerts


@given(script=scripts)
@settings(deadline=None, max_examples=50)
def test_a_replayed_log_raises_the_alerts_that_were_raised_live(script: Script) -> None:
    log = io.BytesIO()
    live = AlertReporter(MANY)
    run_sync(script, live, JsonlReporter(log, deltas="none", redact=False))
    live.close()
    replayed = AlertReporter(MANY)
    assert told(replayed, list(read_events(io.BytesIO(log.getvalue())))) == live.alerts
    assert replayed.results == live.results


@given(script=scripts)
@settings(deadline=None, max_examples=20)
def test_the_asynchronous_driver_raises_the_same(script: Script) -> None:
    live = AlertReporter(MANY)
    outcome = run_async(script, live)
    live.close()
    assert told(AlertReporter(MANY), outcome.events) == live.alerts


def test_an_alert_is_raised_once_and_again_only_after_it_was_resolved() -> None:
    telling = Telling().begin(0)
    for seconds in (1, 2, 3):
        telling.call(seconds, 3_000)
    telling.call(70, 10).call(71, 3_000)
    rule = AlertRule("tool_latency_max", ">", "2s", per="tool", window="1m", name="slow")
    alerts = told(AlertReporter([rule]), telling.events)
    assert [(alert.state, alert.at, alert.value, alert.count) for alert in alerts] == [
        ("firing", at(1), 3_000, 1),
        ("resolved", at(70), 10, 1),
        ("firing", at(71), 3_000, 2),
    ]
    assert alerts[1].since == at(1)
    assert alerts[0].message == "slow: tool work: 3 s > 2 s"
    assert alerts[1].message == "slow: tool work: 10 ms, not > 2 s"


def test_an_alert_as_json_says_everything_of_it() -> None:
    rule = AlertRule(
        "cost",
        ">",
        "$0.05",
        per="run",
        severity="error",
        message="${where}: ${value} of ${model}, ${tool}; $$",
    )
    telling = Telling().begin(0).request(1).request(2, cost="0.0401")
    (alert,) = told(AlertReporter([rule]), telling.events)
    assert alert.as_json() == {
        "session_id": "s",
        "timestamp": "2026-05-24T18:40:02.000000Z",
        "rule": "cost > $0.05 per run",
        "severity": "error",
        "state": "firing",
        "metric": "cost",
        "op": ">",
        "value": "0.0501",
        "threshold": "0.05",
        "unit": "money",
        "currency": "USD",
        "group": {"run": "r"},
        "count": 2,
        "window_ms": None,
        "since": "2026-05-24T18:40:02.000000Z",
        "run_id": "r",
        "turn_id": None,
        "message": "run r: $0.0501 of billed, -; $",
    }


def test_hostile_names_stay_text_in_an_alert() -> None:
    telling = Telling().begin(0).call(1, 5_000, tool="\x1b]0;x\x07${value}\n${rule}")
    rule = AlertRule("tool_latency_max", ">", 1, per="tool", message="${tool} and ${where}")
    (alert,) = told(AlertReporter([rule]), telling.events)
    assert alert.message.isprintable()
    assert "${value}" in alert.message
    assert alert.where.isprintable()


def test_what_is_judged_at_the_end_waits_for_its_run_or_for_the_close() -> None:
    never = AlertRule("tool_calls", "==", 0, tool="run_tests", per="run", name="never tested")
    whole = AlertRule("tool_calls", "<", 5, name="few calls")
    telling = Telling().begin(0).call(1, tool="run_tests").end(2)
    telling.begin(3, run="r-2").call(4, tool="other").end(5, run="r-2")
    reporter = AlertReporter([never, whole])
    for event in telling.events:
        reporter.handle_event(event)
    assert [(alert.rule, alert.run_id, alert.at) for alert in reporter.alerts] == [
        ("never tested", "r-2", at(5))
    ]
    reporter.close()
    reporter.close()
    assert [(alert.rule, alert.value) for alert in reporter.alerts] == [("never tested", 0), ("few calls", 2)]


def test_an_unknown_value_is_never_zero() -> None:
    rules = [
        AlertRule("cost", "<", "$1", per="run"),
        AlertRule("tool_latency_p95", "<", 1),
        AlertRule("cache_hit_rate", "<", "1%"),
    ]
    telling = Telling().begin(0).call(1, None).request(2, cost=None, usage=Usage(output_tokens=1)).end(3)
    reporter = AlertReporter(rules)
    assert told(reporter, telling.events) == ()
    assert [(result.judged, result.worst) for result in reporter.results] == [(0, None)] * 3


def test_each_currency_is_judged_by_itself() -> None:
    rules = [AlertRule("cost", ">", "0.05 EUR"), AlertRule("cost", ">", "$0.05")]
    telling = Telling().begin(0).request(1, cost="0.04", currency="EUR").request(2, cost="0.04")
    telling.request(3, cost="0.02", currency="EUR")
    (alert,) = told(AlertReporter(rules), telling.events)
    assert (alert.rule, alert.value, alert.count) == ("cost > 0.05 EUR", Decimal("0.06"), 2)


def test_an_error_class_chooses_what_is_an_error_and_not_what_is_a_request() -> None:
    log = io.BytesIO()
    rule = AlertRule("request_error_rate", ">=", "100%", error_class="rate_*")
    other = AlertRule("request_error_rate", ">=", "100%", error_class="overloaded")
    reporter = AlertReporter([rule, other])
    replies = [
        Reply(fail=ScriptedFailure(error_class="overloaded", message="x", after_chunks=0)),
        Reply(text="a"),
    ]
    with Agent(ScriptedModel(replies), observers=[reporter, JsonlReporter(log)]) as agent:
        agent.run("hi")
    assert [(alert.rule, alert.state) for alert in reporter.alerts] == [
        (other.name, "firing"),
        (other.name, "resolved"),
    ]


# --- who hears of them


def slow_calls(count: int = 2) -> list[AgentEvent]:
    telling = Telling().begin(0)
    for number in range(count):
        telling.call(number + 1, 5_000, tool=f"tool-{number}")
    return telling.events


SLOW = AlertRule("tool_latency_p95", ">", "2s", per="tool", name="slow")


def test_alerts_reach_a_webhook_by_a_dispatcher() -> None:
    with HookServer() as server:
        sink = WebhookSink(server.url, template=slack_template("*${severity}* ${message}"))
        with EventDispatcher() as dispatcher:
            dispatcher.subscribe("alert.*", sink)
            reporter = AlertReporter([SLOW], dispatcher=dispatcher)
            for event in slow_calls(1):
                reporter.handle_event(event)
        assert [body["text"] for body in server.bodies] == ["*warning* slow: tool tool-0: 5 s &gt; 2 s"]


def test_a_dispatcher_that_observes_the_loop_and_forwards_to_its_log_gets_each_alert_once() -> None:
    dispatcher, recorder = EventDispatcher(), EventRecorder()
    topics: list[str] = []
    dispatcher.subscribe("alert.**", lambda payload: topics.append(payload.topic))
    reporter = AlertReporter([AlertRule("turns", ">", 0, per="run", name="any")], dispatcher=dispatcher)
    emitter = EventEmitter([reporter, dispatcher, recorder])
    forward_topics(dispatcher, emitter, "alert.**")
    emitter.emit(TurnStarted(index=1))
    assert topics == ["alert.firing"]
    (custom,) = [event for event in recorder.events if isinstance(event, CustomEvent)]
    assert isinstance(custom.data, dict)
    assert custom.data["topic"] == "alert.firing"


@pytest.mark.parametrize("policy", list(FailurePolicy), ids=lambda policy: policy.value)
def test_what_a_callback_raises_is_judged_by_the_loops_policy_and_loses_no_alert(
    policy: FailurePolicy,
) -> None:
    heard: list[Alert] = []

    def hear(alert: Alert) -> None:
        heard.append(alert)
        raise ValueError("the pager is off")

    rules = [AlertRule("requests", ">", 0, name="one"), AlertRule("turns", ">", 0, name="two")]
    reporter, recorder = AlertReporter(rules, on_alert=hear), EventRecorder()
    agent = Agent(ScriptedModel(["a", "b"]), observers=[reporter, recorder], failure_policy=policy)
    if policy is FailurePolicy.FAIL_FAST:
        with pytest.raises(ObserverError, match="observer AlertReporter failed on event") as caught:
            agent.run("hi")
        assert str(caught.value.__cause__) == "the pager is off"
        return
    agent.run("hi")
    assert [alert.rule for alert in heard] == ["two", "one"]
    failures = [event for event in recorder.events if isinstance(event, ObserverFailed)]
    assert len(failures) == (0 if policy is FailurePolicy.IGNORE else 1)


def test_a_callback_may_tell_events_and_each_alert_is_told_in_order() -> None:
    heard: list[str] = []
    first, second = slow_calls(2)[1:]

    def hear(alert: Alert) -> None:
        heard.append(f"{alert.where} begun")
        if alert.where == "tool tool-0":
            reporter.handle_event(second)
        heard.append(f"{alert.where} ended")

    reporter = AlertReporter([SLOW], on_alert=hear)
    reporter.handle_event(first)
    assert heard == ["tool tool-0 begun", "tool tool-0 ended", "tool tool-1 begun", "tool tool-1 ended"]


def test_an_interrupt_in_a_callback_passes_and_the_next_alerts_are_told() -> None:
    heard: list[str] = []

    def hear(alert: Alert) -> None:
        heard.append(alert.where)
        if len(heard) == 1:
            raise KeyboardInterrupt

    reporter = AlertReporter([SLOW], on_alert=hear)
    begun, first, second = slow_calls(2)
    reporter.handle_event(begun)
    with pytest.raises(KeyboardInterrupt):
        reporter.handle_event(first)
    reporter.handle_event(second)
    assert heard == ["tool tool-0", "tool tool-1"]


def test_sessions_of_several_threads_share_a_reporter() -> None:
    heard: list[Alert] = []
    reporter = AlertReporter([AlertRule("tool_calls", ">", 49, per="session")], on_alert=heard.append)

    def tell(session: str) -> None:
        telling = Telling().begin(0, session=session)
        for number in range(100):
            telling.call(number, session=session)
        for event in telling.events:
            reporter.handle_event(event)

    threads = [threading.Thread(target=tell, args=(f"s-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(alert.session_id for alert in heard) == ["s-0", "s-1", "s-2", "s-3"]


# --- bounds and refusals


def test_groups_are_bounded_and_those_of_runs_go_with_them() -> None:
    per_run = AlertRule("tool_calls", ">", 1_000, per="run")
    per_tool = AlertRule("tool_calls", ">", 1_000, per="tool")
    reporter = AlertReporter([per_run, per_tool])
    telling = Telling()
    for number in range(judging.MOST_GROUPS + 10):
        run = f"r-{number}"
        telling.begin(number, run=run).call(number, tool=f"t-{number}", run=run).end(number, run=run)
    for event in telling.events:
        reporter.handle_event(event)
    of_runs, of_tools = reporter._evaluation._judges
    assert (len(of_runs._groups), len(of_runs._scoped)) == (0, 0)
    assert len(of_tools._groups) == judging.MOST_GROUPS


def test_of_groups_that_made_room_nothing_is_kept() -> None:
    rules = [
        AlertRule("tool_calls", ">", 1_000, per="tool", window="1h"),
        AlertRule("tool_calls", ">", 1_000, per=["run", "tool"]),
    ]
    reporter = AlertReporter(rules)
    telling = Telling().begin(0)
    for number in range(3 * judging.MOST_GROUPS):
        telling.call(number / 1_000, tool=f"t-{number}")
    for event in telling.events:
        reporter.handle_event(event)
    windowed, of_run = reporter._evaluation._judges
    assert len(windowed._groups) == len(of_run._groups) == judging.MOST_GROUPS
    assert len(windowed._wakes) <= 2 * judging.MOST_GROUPS
    assert [len(members) for members in of_run._scoped.values()] == [judging.MOST_GROUPS]


def test_names_in_alerts_are_without_secrets_also_where_they_are_cut() -> None:
    key = "sk-ant-api03-" + "A1b2C3d4" * 12
    telling = Telling().begin(0, agent=f"{'a' * 40}-{key}").call(1, tool=key)
    rule = AlertRule("tool_calls", ">", 0, per=["agent", "tool"])
    for redact, is_shown in ((True, False), (False, True)):
        (alert,) = told(AlertReporter([rule], redact=redact), telling.events)
        assert (key[:20] in repr(alert)) is is_shown


def test_a_window_that_is_empty_leaves_nothing() -> None:
    rule = AlertRule("tool_calls", ">", 0, per="call")
    windowed = AlertRule("tool_calls", ">", 0, per=("run", "tool"), window="1s", cooldown="2s")
    reporter = AlertReporter([rule, windowed])
    telling = Telling()
    for number in range(100):
        telling.call(number, tool=f"t-{number}")
    for event in telling.begin(1_000).events:
        reporter.handle_event(event)
    momentary, sliding = reporter._evaluation._judges
    assert not momentary._groups
    assert not sliding._groups
    assert not sliding._scoped
    assert not sliding._wakes


@pytest.mark.parametrize(
    ("rules", "more", "said"),
    [
        ([], {}, "no rule refused; give one"),
        ([SLOW, SLOW], {}, "two rules of the name 'slow' refused; give each its own"),
        ([SLOW], {"keep": -1}, "keep=-1 refused; give how many alerts are kept, 0 or more"),
        ([SLOW], {"topic": "a.*"}, "topic 'a.*' refused; wildcards are for subscribers, give one name"),
        ("none.toml", {}, "none.toml: cannot be read: No such file or directory; check the path"),
    ],
)
def test_what_makes_no_reporter_is_refused(rules: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AlertReporter(rules, **more)
    assert str(caught.value) == said


def test_a_reporter_keeps_as_many_alerts_as_it_is_told_to() -> None:
    assert [alert.where for alert in told(AlertReporter([SLOW], keep=1), slow_calls(3))] == ["tool tool-2"]
    assert AlertReporter([SLOW], keep=0).alerts == ()
