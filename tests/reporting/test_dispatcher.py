"""The dispatcher on the emitter's thread: order, isolation, the boundary, handles; both ways of dispatch alike."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.errors import ConfigurationError, HostError, IllegalMoveError
from agentkit_loop.testing import VirtualClock
from agentkit_reporting import DispatchFailure, EventDispatcher, PayloadError, TopicPayload
from tests.reporting.topics import AT, Taken, payload

BOTH = pytest.mark.parametrize("background", [False, True], ids=["in front", "behind"])


@BOTH
def test_handlers_are_called_in_the_order_of_registration(*, background: bool) -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[TopicPayload], None]:
        return lambda given: order.append(name + given.topic)

    with EventDispatcher(async_dispatch=background) as dispatcher:
        for name, pattern in (("1", "a.**"), ("2", "a.b"), ("3", "*.b"), ("4", "a.*"), ("5", "c")):
            dispatcher.subscribe(pattern, noting(name))
        dispatcher.emit("a.b", payload())
        dispatcher.emit("c", payload())
    assert order == ["1a.b", "2a.b", "3a.b", "4a.b", "5c"]


@BOTH
def test_a_handlers_error_reaches_the_callback_and_nobody_else(*, background: bool) -> None:
    failures: list[DispatchFailure] = []
    before, after = Taken(), Taken()

    def fails(given: TopicPayload) -> None:
        raise KeyError(given["number"])

    dispatcher = EventDispatcher(async_dispatch=background, on_error=failures.append)
    for handler in (before, fails, after):
        dispatcher.subscribe("a.*", handler)
    for number in range(3):
        dispatcher.emit("a.b", payload(number))
    assert dispatcher.close(30.0) is False
    assert before == after == [0, 1, 2]
    assert [(each.topic, each.pattern, each.session_id, repr(each.error)) for each in failures] == [
        ("a.b", "a.*", "ses-1", f"KeyError({number})") for number in range(3)
    ]
    assert "fails" in failures[0].handler
    assert str(dispatcher.account()) == "incomplete: 0 of 3 (3 failed)"
    assert [(each.delivered, each.failed) for each in dispatcher.subscriptions] == [(3, 0), (0, 3), (3, 0)]


@BOTH
def test_without_a_callback_an_error_is_logged_once_of_each_kind(
    caplog: pytest.LogCaptureFixture, *, background: bool
) -> None:
    def fails(given: TopicPayload) -> None:
        raise (KeyError if given["number"] == 2 else ValueError)("\x1b[2J")

    with EventDispatcher(async_dispatch=background) as dispatcher:
        dispatcher.subscribe("a", fails)
        for number in range(4):
            dispatcher.emit("a", payload(number))
    assert len(caplog.records) == 2
    assert "\x1b" not in caplog.text


def test_a_callback_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: object) -> None:
        raise ValueError("here")

    dispatcher, taken = EventDispatcher(on_error=fails), Taken()
    dispatcher.subscribe("a", fails)
    dispatcher.subscribe("a", taken)
    dispatcher.emit("a", payload())
    assert taken == [0]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@BOTH
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_reaches_the_emitter_after_the_others_were_called(
    kind: type[BaseException], *, background: bool
) -> None:
    def interrupts(given: TopicPayload) -> None:
        if not given["number"]:
            raise kind

    dispatcher, taken = EventDispatcher(async_dispatch=background), Taken()
    dispatcher.subscribe("a", interrupts)
    dispatcher.subscribe("a", taken)
    with pytest.raises(kind):
        dispatcher.emit("a", payload(0))
        dispatcher.flush(30.0)
    dispatcher.emit("a", payload(1))
    assert dispatcher.close(30.0) is False
    assert taken == [0, 1]


# --- the boundary


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"session_id": "s"},
        {"timestamp": AT},
        {"session_id": "", "timestamp": AT},
        {"session_id": None, "timestamp": AT},
        {"session_id": 7, "timestamp": AT},
        {"sessionId": "s", "timestamp": AT},
        {"session_id": "s", "timestamp": ""},
        {"session_id": "s", "timestamp": "yesterday"},
        {"session_id": "s", "timestamp": "2026-05-24T18:40:00"},
        {"session_id": "s", "timestamp": dt.datetime(2026, 5, 24)},  # noqa: DTZ001 - that is what is refused
        {"session_id": "s", "timestamp": True},
        {"session_id": "s", "timestamp": float("nan")},
        {"session_id": "s", "timestamp": 1_779_648_000_000},  # milliseconds
        {"session_id": "s", "timestamp": -(10.0**18)},
        {"session_id": "s", "timestamp": ["sk-secret"]},
        {"session_id": "s", "timestamp": AT, (1, 2): "a key that is no name"},
        [("session_id", "s")],
        "text",
        None,
    ],
    ids=repr,
)
@BOTH
def test_a_payload_without_session_id_and_timestamp_is_refused(given: Any, *, background: bool) -> None:
    dispatcher, taken = EventDispatcher(async_dispatch=background), Taken()
    dispatcher.subscribe("**", taken)
    with pytest.raises(PayloadError, match=r"^payload .* refused; give [^\n]+$") as refused:
        dispatcher.emit("a", given)
    assert isinstance(refused.value, (ValueError, ConfigurationError))
    assert isinstance(refused.value, HostError)
    assert "secret" not in str(refused.value)
    assert dispatcher.close(30.0) is True
    assert taken == []


def test_a_number_that_python_will_not_write_is_refused_as_any_other() -> None:
    with pytest.raises(PayloadError, match="timestamp=<int> refused"):
        EventDispatcher().emit("a", {"session_id": "s", "timestamp": 10**5_000})


@pytest.mark.parametrize(
    "moment", [AT, dt.datetime(2026, 5, 24, tzinfo=dt.UTC), 1_779_648_000, 1_779_648_000.5], ids=repr
)
def test_a_time_may_be_a_moment_its_text_or_unix_seconds(moment: Any) -> None:
    got: list[Any] = []
    dispatcher = EventDispatcher()
    dispatcher.subscribe("a", lambda given: got.append(given["timestamp"]))
    dispatcher.emit("a", {"session_id": "s", "timestamp": moment})
    assert got == [moment.isoformat() if isinstance(moment, dt.datetime) else moment]


def test_a_dispatcher_that_stamps_gives_the_time_that_is_missing_and_no_other() -> None:
    got: list[TopicPayload] = []
    dispatcher = EventDispatcher(stamp=True, clock=VirtualClock())
    dispatcher.subscribe("a", got.append)
    given = {"session_id": "s"}
    dispatcher.emit("a", given)
    dispatcher.emit("a", payload())
    assert [each["timestamp"] for each in got] == ["2026-01-01T00:00:00+00:00", AT]
    assert given == {"session_id": "s"}
    with pytest.raises(PayloadError):
        dispatcher.emit("a", {"timestamp": AT})


@BOTH
def test_no_handler_sees_what_another_or_the_emitter_does_to_the_payload(*, background: bool) -> None:
    got: list[Any] = []

    def spoils(given: TopicPayload) -> None:
        given["args"]["list"].append("spoilt")
        given.clear()

    with EventDispatcher(async_dispatch=background) as dispatcher:
        dispatcher.subscribe("a", spoils)
        dispatcher.subscribe("a", lambda given: got.append(dict(given)))
        mine = payload(args={"list": [1, b"\x00", {2}]})
        dispatcher.emit("a", mine)
        mine["args"]["list"].clear()
    assert got == [payload(args={"list": [1, {"$bytes": "AA=="}, {"$set": [2]}]})]


# --- handles


@BOTH
def test_once_is_once(*, background: bool) -> None:
    dispatcher, taken = EventDispatcher(async_dispatch=background), Taken()
    subscription = dispatcher.subscribe("a", taken, once=True)
    for number in range(3):
        dispatcher.emit("a", payload(number))
    assert dispatcher.close(30.0)
    assert taken == [0]
    assert not subscription.is_active


def test_once_is_once_from_many_threads() -> None:
    dispatcher, taken = EventDispatcher(), Taken()
    start = threading.Barrier(8)

    def emits() -> None:
        start.wait()
        for number in range(50):
            dispatcher.emit("a", payload(number))

    for _ in range(20):
        dispatcher.subscribe("a", taken, once=True)
    threads = [threading.Thread(target=emits) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 20
    assert dispatcher.account().received == 400
    assert dispatcher.close(30.0)


def test_a_handle_unsubscribes_also_as_a_context_and_twice() -> None:
    dispatcher, taken = EventDispatcher(), Taken()
    with dispatcher.subscribe("a", taken) as subscription:
        dispatcher.emit("a", payload(1))
        assert dispatcher.subscriptions == (subscription,)
    dispatcher.emit("a", payload(2))
    subscription.unsubscribe()
    assert taken == [1]
    assert not dispatcher.subscriptions
    assert repr(subscription) == "<Subscription 'a' -> Taken, ended>"


def test_a_decorated_function_is_subscribed_and_still_itself() -> None:
    dispatcher, got = EventDispatcher(), []

    @dispatcher.on("agent.*", once=True)
    def handler(given: TopicPayload) -> str:
        got.append(given.topic)
        return "still"

    dispatcher.emit("agent.started", payload())
    dispatcher.emit("agent.started", payload())
    assert got == ["agent.started"]
    assert handler(TopicPayload(payload())) == "still"


def test_what_a_handler_emits_comes_after_what_it_was_called_with() -> None:
    dispatcher, order = EventDispatcher(), []

    def again(given: TopicPayload) -> None:
        order.append(("first", given.topic))
        if given.topic == "a":
            dispatcher.emit("b", payload())

    dispatcher.subscribe("*", again)
    dispatcher.subscribe("*", lambda given: order.append(("second", given.topic)))
    dispatcher.emit("a", payload())
    assert order == [("first", "a"), ("second", "a"), ("first", "b"), ("second", "b")]
    assert dispatcher.account().is_complete


def test_a_handler_may_subscribe_and_unsubscribe() -> None:
    dispatcher, late, gone = EventDispatcher(), Taken(), Taken()

    def changes(_: TopicPayload) -> None:
        subscription.unsubscribe()
        dispatcher.subscribe("a", late)

    dispatcher.subscribe("a", changes, once=True)
    subscription = dispatcher.subscribe("a", gone)
    dispatcher.emit("a", payload(1))
    dispatcher.emit("a", payload(2))
    assert (late, gone) == ([2], [])


@BOTH
def test_a_closed_dispatcher_refuses_and_counts(*, background: bool) -> None:
    dispatcher, taken = EventDispatcher(async_dispatch=background), Taken()
    dispatcher.subscribe("a", taken)
    dispatcher.emit("a", payload(1))
    assert dispatcher.close(30.0) is True
    assert dispatcher.close(30.0) is True
    with pytest.raises(IllegalMoveError, match="make a new EventDispatcher"):
        dispatcher.emit("a", payload(2))
    with pytest.raises(IllegalMoveError, match="make a new EventDispatcher"):
        dispatcher.subscribe("a", taken)
    assert taken == [1]
    assert str(dispatcher.account()) == "incomplete: 1 of 2 (1 failed)"
    assert dispatcher.close(30.0) is False


@pytest.mark.parametrize(
    "options",
    [
        {"max_queue": 0},
        {"max_queue": 1.5},
        {"overflow": "drop_deltas"},
        {"overflow": "wait"},
        {"replay": -1},
        {"replay": None},
    ],
    ids=repr,
)
def test_wrong_options_are_refused_with_one_sentence(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"refused[^\n]*; (give|use) [^\n]+$"):
        EventDispatcher(**options)


NAMES = st.sampled_from(["a", "a.b", "a.b.c", "b", "b.c"])
PATTERNS = st.sampled_from(["a", "a.*", "a.**", "**", "*.b", "b.c", "*"])


@given(st.lists(PATTERNS, max_size=5), st.lists(NAMES, max_size=12))
def test_dispatch_in_front_and_behind_give_the_same(patterns: list[str], topics: list[str]) -> None:
    def told(*, background: bool) -> list[Taken]:
        got = [Taken() for _ in patterns]
        with EventDispatcher(async_dispatch=background) as dispatcher:
            for pattern, mine in zip(patterns, got, strict=True):
                dispatcher.subscribe(pattern, mine)
            for number, topic in enumerate(topics):
                dispatcher.emit(topic, payload(number))
        assert dispatcher.account().is_complete
        assert dispatcher.account().received == len(topics)
        return got

    assert told(background=False) == told(background=True)


def test_a_payload_that_lacks_both_is_told_both_and_how() -> None:
    with pytest.raises(PayloadError) as refused:
        EventDispatcher().emit("my.thing", {"a": 1})
    said = str(refused.value)
    assert '{"session_id": …, "timestamp": …}' in said
    assert "stamp=True" in said
    with pytest.raises(PayloadError, match="session_id=None"):
        EventDispatcher(stamp=True).emit("my.thing", {"a": 1})


def test_the_handler_of_a_wildcard_learns_the_topic_from_the_payload() -> None:
    got: list[tuple[str, Any]] = []
    dispatcher = EventDispatcher()
    dispatcher.subscribe("a.*", lambda given: got.append((given.topic, given.alias_of)))
    dispatcher.emit("a.b", payload())
    dispatcher.emit("a.c", payload())
    assert got == [("a.b", None), ("a.c", None)]
