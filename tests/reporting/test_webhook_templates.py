"""Bodies of webhooks: values in their places, whatever is in them; nothing leaves its place."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given

from agentkit_loop.errors import ConfigurationError
from agentkit_reporting import WebhookTemplate, pagerduty_template, slack_template
from tests.reporting.topics import AT, payload
from tests.strategies import json_objects, json_values


def filled(template: Any, given: dict[str, Any], topic: str = "a.b") -> Any:
    template = template if isinstance(template, WebhookTemplate) else WebhookTemplate(template)
    return msgspec.json.decode(template.filled(topic, given))


@given(json_values(), json_objects())
def test_a_value_is_itself_in_its_place_and_moves_nothing_else(value: Any, others: dict[str, Any]) -> None:
    given = {**others, "value": value}
    body = {"whole": "${value}", "all": "${payload}", "text": "<${value}>", "fixed": [1, {"x": "y"}]}
    got = filled(body, given)
    assert got["whole"] == value
    assert got["all"] == given
    assert got["fixed"] == [1, {"x": "y"}]
    assert got.keys() == body.keys()
    assert got["text"].startswith("<")
    assert got["text"].endswith(">")


def test_a_template_may_be_the_text_of_json() -> None:
    assert filled(
        '{"t": "${topic}", "n": "${number}", "d": "$$5 ${args.q.r} ${args.z}"}',
        payload(3, args={"q": {"r": 1}}),
    ) == {
        "t": "a.b",
        "n": 3,
        "d": "$5 1 ?",
    }


def test_what_is_not_there_is_null_and_in_text_a_question_mark() -> None:
    assert filled(["${nothing}", "${number.x}", "a ${nothing}", "$ ${"], payload()) == [
        None,
        None,
        "a ?",
        "$ ${",
    ]


def test_a_placeholder_in_a_value_is_not_filled_again() -> None:
    assert filled({"a": "${x}", "b": "- ${x}"}, {"x": "${y}", "y": "secret"}) == {"a": "${y}", "b": "- ${y}"}


@pytest.mark.parametrize("text", ["{", '{"a": ${x}}', "no"], ids=repr)
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no JSON refused; give a JSON value"):
        WebhookTemplate(text)


def test_text_of_a_payload_is_no_markup_in_slack() -> None:
    got = filled(slack_template("<https://x|run> ${who}"), {"who": "<!channel> & <@U1>"})
    assert got == {
        "text": "<https://x|run> &lt;!channel&gt; &amp; &lt;@U1&gt;",
        "unfurl_links": False,
        "unfurl_media": False,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [("<!channel>", "&lt;!channel&gt;"), (3, "3"), ({"a": "<"}, '{"a":"&lt;"}'), ("", "?"), (None, "?")],
    ids=repr,
)
def test_a_placeholder_alone_is_text_where_text_has_to_be(value: Any, text: str) -> None:
    assert filled(slack_template("${who}"), {"who": value})["text"] == text
    got = filled(pagerduty_template("k", summary="${who}", dedup_key="${who}"), {"who": value})
    assert {type(got[part]) for part in ("dedup_key", "routing_key")} == {str}
    assert got["payload"]["summary"] == got["dedup_key"]
    assert got["payload"]["source"] == "?"


def test_no_text_of_a_payload_is_longer_than_its_place() -> None:
    long = {"session_id": "<" * 5_000, "timestamp": 1, "a": "é" * 5_000}
    many = "${a} ${session_id} " * 20
    assert len(filled(slack_template(many), long)["text"]) == 40_000
    got = filled(pagerduty_template("k", summary=many, dedup_key=many), long)
    assert (len(got["payload"]["summary"]), len(got["dedup_key"])) == (1_024, 255)


def test_details_that_pagerduty_would_not_take_are_shortened_value_by_value() -> None:
    given = {"session_id": "s", "timestamp": 1, "text": "é" * 400_000, "items": [{"x": 1}] * 9, "n": 1}
    details = filled(pagerduty_template("k"), given)["payload"]["custom_details"]
    assert details == {**given, "text": "é" * 199 + "…"}
    wild = {
        "session_id": "s",
        "timestamp": 1,
        **{"\U0001f600" * 999 + str(n): ["é" * 999] for n in range(2_000)},
    }
    assert len(pagerduty_template("k").filled("a", wild)) < 512_000


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (AT, "2026-05-24T18:40:00.000000Z"),
        (1_779_648_000, "2026-05-24T18:40:00.000000Z"),
        ("2026-05-24T20:40:00+02:00", "2026-05-24T18:40:00.000000Z"),
        (10**30, None),
        (None, None),
    ],
    ids=repr,
)
def test_pagerduty_gets_the_time_as_text(moment: Any, text: str | None) -> None:
    got = filled(pagerduty_template("key$${x}"), {"session_id": "s" * 2_000, "timestamp": moment})
    assert got["payload"]["timestamp"] == text
    assert got["routing_key"] == "key$${x}"
    assert len(got["payload"]["summary"]) <= 1_024
    assert len(got["dedup_key"]) <= 255


def test_a_template_shows_nothing_of_itself() -> None:
    assert repr(pagerduty_template("R0UT1NG")) == "<WebhookTemplate>"


@pytest.mark.parametrize("given", [{"routing_key": ""}, {"routing_key": "k", "severity": "bad"}], ids=repr)
def test_what_pagerduty_refuses_is_refused_here(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"refused; (give|PagerDuty)"):
        pagerduty_template(**given)


def test_a_payload_of_any_values_is_converted() -> None:
    moment = dt.datetime(2026, 5, 24, tzinfo=dt.UTC)
    assert filled({"at": "${at}", "x": "${x}"}, {"at": moment, "x": {1}, "y": object()})["x"] in (
        [1],
        {"$set": [1]},
    )


def test_an_alert_says_what_it_is_about_in_slack_and_pagerduty() -> None:
    alert = payload(rule="slow", state="firing", threshold=2_000, message="slow: tool search: 2.5 s > 2 s")
    slack = msgspec.json.decode(slack_template().filled("alert.firing", alert))
    assert slack["text"].endswith(": slow: tool search: 2.5 s &gt; 2 s")
    page = msgspec.json.decode(pagerduty_template("key").filled("alert.firing", alert))
    assert page["payload"]["summary"].endswith(": slow: tool search: 2.5 s > 2 s")
    other = msgspec.json.decode(slack_template().filled("order.placed", payload(message="zebra")))
    assert "zebra" not in other["text"]


def alert_payload(state: str, **fields: Any) -> dict[str, Any]:
    given = {
        "session_id": "s",
        "rule": "slow",
        "state": state,
        "message": "slow: 3 s > 2 s",
        "threshold": 2_000.0,
    }
    return {**given, "group": {"tool": "grep"}, **fields}


def test_a_resolved_alert_resolves_the_incident_that_its_firing_triggered() -> None:
    template = pagerduty_template("k")
    fired = filled(template, alert_payload("firing"), "alert.firing")
    over = filled(template, alert_payload("resolved", session_id="t", message="x"), "alert.resolved")
    assert (fired["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert fired["dedup_key"] == over["dedup_key"] == "agentkit:slow:tool=grep"
    other = filled(template, {"session_id": "s", "state": "resolved", "rule": "slow"}, "agent.error")
    assert (other["event_action"], other["dedup_key"]) == ("trigger", "agentkit:s")


def test_rules_and_groups_have_incidents_of_their_own() -> None:
    long = "x" * 300
    given = [
        alert_payload("firing"),
        alert_payload("firing", rule="other"),
        alert_payload("firing", group={}),
        alert_payload("firing", group={"tool": "sed"}),
        alert_payload("firing", group={"run": "r"}),
        alert_payload("firing", group={"run": "r"}, session_id="t"),
        alert_payload("firing", group={"session": "t", "run": "r"}),
        alert_payload("firing", group={"tool": f"{long}a"}),
        alert_payload("firing", group={"tool": f"{long}b"}),
    ]
    keys = [filled(pagerduty_template("k"), each)["dedup_key"] for each in given]
    assert len(set(keys)) == len(given) - 1  # the same run of the same session, named in two ways
    assert keys[5] == keys[6] == "agentkit:slow:session=t:run=r"
    assert max(map(len, keys)) <= 255
    assert filled(["${incident}", "${event_action}"], given[0]) == ["slow:tool=grep", "trigger"]
