"""Webhooks against a real server: retries, dead and slow endpoints, closing within a bound, no secret anywhere."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import stamina

from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_reporting import EventDispatcher, WebhookSink, pagerduty_template, slack_template
from agentkit_reporting.records.webhook import WebhookError
from tests.reporting.hook_server import Answer, HookServer
from tests.reporting.topics import payload

SECRET = "sk-token"  # noqa: S105 - a secret is what these tests look for


@pytest.fixture(autouse=True)
def _without_hooks() -> Iterator[None]:
    """Have stamina log to nobody: its default prints through structlog where that is installed."""
    stamina.instrumentation.set_on_retry_hooks(())
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def sink_of(url: str, **options: Any) -> WebhookSink:
    return WebhookSink(url, **{"backoff_s": 0.001, "timeout_s": 20.0, "close_timeout_s": 30.0, **options})


def dead_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}/{SECRET}"


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
        ("0", 0.0),
        ("7", 7.0),
        ("900", 60.0),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 60.0),
        ("soon", None),
        ("-5", None),
        ("9" * 400, None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_retry_after_is_honoured_up_to_a_cap(said: str, waits: float | None) -> None:
    from email.message import Message  # noqa: PLC0415 - for this one test

    poster = sink_of("http://127.0.0.1:9/")._poster
    headers = Message()
    headers["Retry-After"] = said
    error = WebhookError("x", is_passing=True, retry_after_s=poster._retry_after_s(headers))
    assert poster._again(error) == (True if waits is None else waits)


def test_retry_after_of_a_server_is_waited_for_no_longer_than_the_cap() -> None:
    waits: list[float] = []

    class Hook:
        def __call__(self, details: stamina.instrumentation.RetryDetails) -> None:
            waits.append(details.wait_for)
            assert SECRET not in repr(details)

    stamina.instrumentation.set_on_retry_hooks([Hook()])
    answers = [Answer(429, {"Retry-After": "3600"}), Answer(503, {"Retry-After": "0"})]
    with HookServer(*answers) as server, sink_of(server.url, max_retry_after_s=0.002) as sink:
        sink(payload())
        assert sink.flush() is True
    assert waits == [0.002, 0.0]


# --- endpoints that do not answer


def test_a_dead_endpoint_is_given_up_and_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    sink = sink_of(dead_url(), attempts=2, headers={"Authorization": f"Bearer {SECRET}"})
    with EventDispatcher() as dispatcher:
        dispatcher.subscribe("a", sink)
        for number in range(3):
            dispatcher.emit("a", payload(number))
    assert str(sink.account()) == "incomplete: 0 of 3 (3 failed)"
    assert dispatcher.close() is False
    assert (sink.last_error or "").endswith("was not reached (ConnectionRefusedError)")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    for shown in (
        caplog.text,
        repr(sink),
        str(sink.last_error),
        str(sink.account()),
        repr(dispatcher.subscriptions),
    ):
        assert SECRET not in shown


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


def test_an_endpoint_that_answers_too_late_is_tried_again() -> None:
    again: list[str] = []

    class Hook:
        def __call__(self, details: stamina.instrumentation.RetryDetails) -> None:
            again.append(str(details.caused_by))

    stamina.instrumentation.set_on_retry_hooks([Hook()])
    with HookServer() as server:
        server.gate.clear()
        with sink_of(server.url, timeout_s=0.02, attempts=2) as sink:
            sink(payload())
    assert [text.endswith("was not reached (TimeoutError)") for text in again] == [True]
    assert sink.last_error == again[0]
    assert sink.account().failed == 1


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
    "options", [{"overflow": "block"}, {"overflow": "drop_deltas"}, {"attempts": 0}], ids=repr
)
def test_options_that_would_block_or_never_send_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError, match="refused"):
        WebhookSink("https://host/", **options)


def test_a_header_that_no_request_can_have_is_given_up_without_being_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with HookServer() as server, sink_of(server.url, headers={"X": f"{SECRET}\r\nY: z"}) as sink:
        sink(payload())
    assert sink.account().failed == 1
    assert SECRET not in caplog.text + str(sink.last_error)


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
    assert slack == {"text": "a: 1"}
    assert (pagerduty["routing_key"], pagerduty["event_action"]) == ("R0UT1NG", "trigger")
    assert pagerduty["payload"]["summary"] == "a in session ses-1"
    assert pagerduty["payload"]["custom_details"] == payload(2)
