"""Webhooks against a real server: retries, dead and slow endpoints, closing within a bound, no secret anywhere."""

from __future__ import annotations

import threading
from typing import Any

import prometheus_client
import pytest
import tenacity

from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_reporting import EventDispatcher, WebhookSink, pagerduty_template, slack_template
from agentkit_reporting.records.webhook import WebhookError
from tests.reporting.hook_server import Answer, HookServer
from tests.reporting.topics import payload

SECRET = "sk-token"  # noqa: S105 - a secret is what these tests look for


def sink_of(url: str, **options: Any) -> WebhookSink:
    return WebhookSink(url, **{"backoff_s": 0.001, "timeout_s": 20.0, "close_timeout_s": 30.0, **options})


@pytest.mark.parametrize("background", [False, True], ids=["in front", "behind"])
def test_a_subscribed_sink_posts_every_payload_in_order(*, background: bool) -> None:
    with HookServer() as server:
        sink = sink_of(server.url, headers={"Authorization": "Bearer x"})
        with EventDispatcher(async_dispatch=background) as dispatcher:
            dispatcher.subscribe("a.*", sink)
            for number in range(5):
                dispatcher.emit("a.b", payload(number))
        assert server.bodies == [{"topic": "a.b", "payload": payload(number)} for number in range(5)]
        assert server.sent[0].path == "/services/T0/sk-token"
        assert server.sent[0].headers["Authorization"] == "Bearer x"
        assert server.sent[0].headers["Content-Type"] == "application/json"
    assert str(sink.account()) == "complete: 5 of 5"
    assert dispatcher.account().is_complete
    with pytest.raises(IllegalMoveError, match="make a new one"):
        sink(payload())


@pytest.mark.parametrize("status", [500, 503, 408, 425, 429, 0])
def test_what_fails_in_passing_is_tried_again(status: int) -> None:
    with HookServer(Answer(status), Answer(status)) as server, sink_of(server.url) as sink:
        sink(payload())
        assert sink.flush() is True
        assert len(server.sent) == 3
    assert sink.account().delivered == 1
    assert sink.last_error is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_what_will_not_get_better_is_given_up_at_once(status: int) -> None:
    with HookServer(Answer(status)) as server, sink_of(server.url) as sink:
        sink(payload(1))
        sink(payload(2))
        assert sink.flush() is False
        assert len(server.sent) == 2
    assert str(sink.account()) == "incomplete: 1 of 2 (1 failed)"
    assert (sink.last_error or "").endswith(f" answered {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with HookServer() as other, HookServer(Answer(status, {"Location": other.url})) as server:
        with sink_of(server.url, headers={"Authorization": SECRET}) as sink:
            sink(payload())
        assert len(server.sent) == 1
        assert other.sent == []
    assert sink.account().failed == 1


def test_attempts_end() -> None:
    with HookServer(*[Answer(500)] * 9) as server:
        with sink_of(server.url, attempts=3) as sink:
            sink(payload())
        assert len(server.sent) == 3
    assert str(sink.account()) == "incomplete: 0 of 1 (1 failed)"


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("0", 0.5),
        ("7", 7.0),
        ("900", 60.0),
        ("9" * 10, 60.0),
        ("9" * 400, 60.0),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0.5),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 60.0),
        ("Fri Jan  1 00:00:00 2100", 60.0),
        ("Fri, 01 Jan 99999 00:00:00 GMT", 0.5),
        ("soon", 0.5),
        ("-5", 0.5),
        ("\u0663", 0.5),
        ("", 0.5),
    ],
)
def test_retry_after_is_honoured_up_to_a_cap_and_never_hurries(said: str, waits: float) -> None:
    from email.message import Message  # noqa: PLC0415 - for this one test

    poster = sink_of("http://127.0.0.1:9/", backoff_s=0.5)._poster
    headers = Message()
    headers["Retry-After"] = said
    error = WebhookError("x", is_passing=True, retry_after_s=poster._retry_after_s(headers))
    attempt = tenacity.RetryCallState(poster._retrying, None, (), {})
    attempt.set_exception((WebhookError, error, None))
    pause_s = poster._pause_s(attempt)
    assert pause_s == waits if waits > 1.0 else waits <= pause_s <= 2 * waits  # as much again is chance


def test_a_server_that_asks_for_an_hour_is_asked_again_after_the_cap() -> None:
    answers = [Answer(429, {"Retry-After": "3600"}), Answer(503, {"Retry-After": "0"})]
    with HookServer(*answers) as server, sink_of(server.url, max_retry_after_s=0.002) as sink:
        sink(payload())
        assert sink.flush() is True
    assert sink.account().delivered == 1


def test_retries_print_nothing_and_touch_no_registry_of_the_process(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = prometheus_client.generate_latest()
    with HookServer(Answer(500), Answer(503)) as server, sink_of(server.url) as sink:
        sink(payload())
    assert sink.account().delivered == 1
    assert capfd.readouterr() == ("", "")
    assert prometheus_client.generate_latest().count(b"# HELP") == before.count(b"# HELP")


def test_close_breaks_off_the_pause_between_two_attempts() -> None:
    with HookServer(Answer(429, {"Retry-After": "3600"})) as server:
        sink = sink_of(server.url, max_retry_after_s=3600.0)
        sink(payload())
        server.entered.wait()
        assert sink.close(0.05) is False
        assert sink._delivery._ended.wait(30.0)
        assert len(server.sent) == 1
    assert sink.account().received == 1
    assert sink.account().delivered == 0


# --- endpoints that do not answer


def test_a_slow_endpoint_holds_up_nobody_and_what_finds_no_room_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with HookServer() as server:
        server.gate.clear()
        sink = sink_of(server.url, max_queue=2)
        dispatcher = EventDispatcher()
        dispatcher.subscribe("a", sink)
        dispatcher.emit("a", payload(0))
        server.entered.wait()
        for number in range(1, 6):
            dispatcher.emit("a", payload(number))  # would hang: the server has not answered
        assert sink.account().pending == 3
        assert sink.flush(0.0) is False
        server.gate.set()
        assert dispatcher.close() is False
        assert [body["payload"]["number"] for body in server.bodies] == [0, 1, 2]
    assert str(sink.account()) == "incomplete: 3 of 6 (3 dropped)"
    assert "127.0.0.1" in caplog.text
    assert SECRET not in caplog.text


def test_close_keeps_to_its_bound_and_gives_up_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    with HookServer() as server:
        server.gate.clear()
        sink = sink_of(server.url)
        for number in range(400):
            sink(payload(number))
        server.entered.wait()
        assert sink.close(0.01) is False
        server.gate.set()
        sink._delivery._ended.wait()
        account = sink.account()
        assert account.received == 400 == account.delivered + account.dropped + account.failed
        assert account.pending == 0
        assert len(server.sent) == 1
        assert sink.close() is False
    assert SECRET not in caplog.text


# --- what is refused


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://host/{SECRET}",
        f"file:///etc/{SECRET}",
        f"/{SECRET}",
        f"https:///{SECRET}",
        f"https://user:{SECRET}@host/",
        f"https://host:{SECRET}/",
        f"https://host/{SECRET}\r\nX: y",
        f"https://h o/{SECRET}",
        f"https://hö/{SECRET}",
        "",
        None,
    ],
    ids=repr,
)
def test_a_wrong_url_is_refused_and_not_shown(url: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"URL refused because .*; give https://host/path"
    ) as refused:
        WebhookSink(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"overflow": "block"},
        {"overflow": "drop_deltas"},
        {"attempts": 0},
        {"timeout_s": 0},
        {"timeout_s": None},
        {"timeout_s": float("nan")},
        {"backoff_s": -1},
        {"max_retry_after_s": float("inf")},
        {"close_timeout_s": -0.1},
    ],
    ids=repr,
)
def test_options_that_would_block_or_never_send_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError, match="refused"):
        WebhookSink("https://host/", **options)


@pytest.mark.parametrize(
    "headers",
    [{"X": f"{SECRET}\r\nY: z"}, {"X": f"{SECRET}\u20ac"}, {f"X {SECRET}": "z"}, {"": SECRET}, {"X": 1}],
    ids=["line end", "not latin-1", "space", "nothing", "number"],
)
def test_a_header_that_no_request_can_have_is_refused_and_not_shown(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"header.* refused; give") as refused:
        WebhookSink("https://host/", headers=headers)
    assert SECRET not in str(refused.value)


def test_many_threads_lose_nothing() -> None:
    with HookServer() as server, sink_of(server.url) as sink:

        def send(first: int) -> None:
            for step in range(10):
                sink(payload(first + step))

        threads = [threading.Thread(target=send, args=(first,)) for first in range(0, 80, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sink.close() is True
        assert sorted(body["payload"]["number"] for body in server.bodies) == list(range(80))


def test_slack_and_pagerduty_get_their_own_bodies() -> None:
    with HookServer() as server:
        with EventDispatcher() as dispatcher:
            dispatcher.subscribe("a", sink_of(server.url, template=slack_template("${topic}: ${number}")))
            dispatcher.emit("a", payload(1))
        with EventDispatcher() as dispatcher:
            dispatcher.subscribe("a", sink_of(server.url, template=pagerduty_template("R0UT1NG")))
            dispatcher.emit("a", payload(2))
        slack, pagerduty = server.bodies
    assert slack["text"] == "a: 1"
    assert (pagerduty["routing_key"], pagerduty["event_action"]) == ("R0UT1NG", "trigger")
    assert pagerduty["payload"]["summary"] == "a in session ses-1"
    assert pagerduty["payload"]["custom_details"] == payload(2)
