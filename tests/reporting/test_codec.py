"""An event and its line: what is written, what comes back, and what is refused in which words."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.content import AppendBytes, AppendText, Item
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    EVENT_TYPES,
    PAYLOAD_FIELDS,
    AgentEvent,
    CompactionFinished,
    ContentDelta,
    CustomEvent,
    ToolCallRequested,
    TurnStarted,
    UnknownEvent,
    UsageUpdated,
)
from agentkit_loop.stamping import stamp
from agentkit_loop.values import MAX_DEPTH
from agentkit_reporting.codec import DecodeError, decode_event, encode_event, log_version
from tests.strategies import events, events_of

KEYS = ["v", "seq", "ts", "type", "session_id", "run_id", "turn_id", "payload"]
MOMENT = dt.datetime(2026, 5, 24, 18, 40, 0, 123456, tzinfo=dt.UTC)
LINE = (
    b'{"v":1,"seq":12,"ts":"2026-05-24T18:40:00.123456Z","type":"turn_started","session_id":"s",'
    b'"run_id":"r","turn_id":"turn-1","payload":{"index":3}}'
)


def told(event: AgentEvent, timestamp: dt.datetime = MOMENT) -> AgentEvent:
    stamp(event, "s", "r", "turn-1", 12, timestamp)
    return event


def changed(**changes: Any) -> bytes:
    record = json.loads(LINE) | changes
    return json.dumps({key: value for key, value in record.items() if value is not ...}).encode()


@pytest.mark.parametrize("cls", [*EVENT_TYPES.values(), UnknownEvent], ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_every_event_comes_back_as_it_was(cls: type[AgentEvent], data: st.DataObject) -> None:
    event = data.draw(events_of(cls))
    line = encode_event(event)
    back = decode_event(line)
    assert back == event
    assert type(back) is cls
    assert encode_event(back) == line


@given(events())
def test_a_line_is_one_object_with_its_keys_in_order(event: AgentEvent) -> None:
    line = encode_event(event)
    assert b"\n" not in line
    record = json.loads(line)
    assert list(record) == KEYS
    assert len(record["ts"]) == len("2026-05-24T18:40:00.123456Z")
    if not isinstance(event, UnknownEvent):
        assert tuple(record["payload"]) == PAYLOAD_FIELDS[type(event)]


@given(events())
def test_text_and_bytes_with_white_space_around_are_read_alike(event: AgentEvent) -> None:
    line = encode_event(event)
    assert decode_event(line.decode()) == decode_event(b" " + line + b"\r\n") == event


def test_the_line_is_the_documented_one() -> None:
    assert encode_event(told(TurnStarted(index=3))) == LINE


def test_bytes_of_a_delta_are_base64() -> None:
    event = told(ContentDelta(request_id="q", delta=AppendBytes("p", b"\xff\x00")))
    assert b'"chunk":"/wA="' in encode_event(event)
    assert decode_event(encode_event(event)) == event


def test_a_plan_holds_ranges_and_items() -> None:
    plan = ((0, 2), Item.user("summary"), (5, 9))
    event = told(CompactionFinished(strategy="keep", plan=plan, item_count=7))
    assert decode_event(encode_event(event)) == event


def test_a_time_on_the_second_is_written_with_six_digits() -> None:
    line = encode_event(told(TurnStarted(index=1), MOMENT.replace(microsecond=0)))
    assert b'"2026-05-24T18:40:00.000000Z"' in line


def test_a_time_of_another_zone_is_written_and_read_as_utc() -> None:
    abroad = MOMENT.astimezone(dt.timezone(dt.timedelta(hours=5)))
    assert encode_event(told(TurnStarted(index=3), abroad)) == LINE
    back = decode_event(LINE.replace(b"18:40:00.123456Z", b"20:40:00.123456+02:00"))
    assert back == decode_event(LINE)
    assert back.timestamp.tzinfo is dt.UTC


def test_an_event_that_was_not_told_is_not_written() -> None:
    with pytest.raises(ConfigurationError, match="not told yet"):
        encode_event(TurnStarted(index=1))


def test_a_time_without_zone_is_not_written() -> None:
    with pytest.raises(ConfigurationError, match="no zone"):
        encode_event(told(TurnStarted(index=1), MOMENT.replace(tzinfo=None, microsecond=0)))
    with pytest.raises(ConfigurationError, match="no zone"):
        encode_event(told(TurnStarted(index=1), MOMENT.replace(tzinfo=None)))


def test_what_is_no_event_class_is_not_written() -> None:
    with pytest.raises(ConfigurationError, match="no event class"):
        encode_event(AgentEvent())


def test_an_unknown_type_is_kept_and_written_back_unchanged() -> None:
    line = LINE.replace(b"turn_started", b"turn_paused")
    event = decode_event(line)
    assert isinstance(event, UnknownEvent)
    assert (event.type, event.payload) == ("turn_paused", {"index": 3})
    assert encode_event(event) == line


def test_unknown_payload_fields_are_kept_and_written_back() -> None:
    line = LINE.replace(b'"index":3', b'"index":3,"mood":["good",{"x":1}]')
    event = decode_event(line)
    assert event == attrs.evolve(decode_event(LINE), unknown_fields={"mood": ["good", {"x": 1}]})
    assert encode_event(event) == line


@given(events_of(*EVENT_TYPES.values()))
def test_what_a_newer_writer_added_survives_every_class(event: AgentEvent) -> None:
    line = encode_event(event)[:-2] + b',"new field":{"x":[1,null]}}}'
    back = decode_event(line)
    assert back.unknown_fields == {"new field": {"x": [1, None]}}
    assert attrs.evolve(back, unknown_fields=None) == event
    assert encode_event(back) == line


def test_a_missing_field_takes_its_default() -> None:
    event = decode_event(LINE.replace(b"turn_started", b"custom_event").replace(b'"index":3', b'"name":"n"'))
    assert event == told(CustomEvent(name="n"))


@pytest.mark.parametrize("version", [1, 2])
def test_unknown_keys_inside_a_record_are_kept_where_the_line_is_read_slowly(version: int) -> None:
    # A line of a newer version, or one with an unknown payload field, is compared key by key.
    call = b'{"kind":"tool_call","id":"c","name":"n","input":{"free":1},"caller":"x"}'
    more = b',"added":null' if version == 1 else b""
    payload = b'{"request_id":"q","call":' + call + more + b"}"
    line = LINE.replace(b'{"index":3}', payload).replace(b"turn_started", b"tool_call_requested")
    event = decode_event(line.replace(b'"v":1', b'"v":%d' % version))
    assert isinstance(event, ToolCallRequested)
    assert event.call.input == {"free": 1}
    assert event.unknown_fields is not None
    assert event.unknown_fields["call"]["caller"] == "x"
    assert encode_event(event) == line


def test_nothing_is_kept_twice_where_a_newer_line_has_nothing_unknown() -> None:
    assert decode_event(changed(v=2)) == decode_event(LINE)


def test_the_version_of_a_line_can_be_asked_for() -> None:
    assert log_version(LINE) == 1
    assert log_version(changed(v=7)) == 7
    assert log_version(b"torn") is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "truncated"),
        (b"nonsense", "line refused because JSON is malformed"),
        (b"[1]", "expected `object`, got `array`"),
        (LINE[:-20], "truncated"),
        (LINE + LINE, "trailing characters"),
        (LINE.replace(b":3", b":NaN"), "malformed"),
        (LINE.replace(b'"s"', b'"\xff"'), "not UTF-8"),
        (LINE.replace(b'"index"', b'"\xff"'), "not UTF-8"),
        (LINE.replace(b":3", b":" + b"[" * 100_000), "too deeply"),
        (changed(seq=...), "missing required field `seq`"),
        (changed(turn_id=...), "missing required field `turn_id`"),
        (changed(v=...), "missing required field `v`"),
        (changed(v=0), ">= 1"),
        (changed(seq=0), ">= 1 - at `$.seq`"),
        (changed(seq="1"), "expected `int`, got `str` - at `$.seq`"),
        (changed(session_id=None), "expected `str`, got `null` - at `$.session_id`"),
        (changed(ts="2026-05-24T18:40:00"), "timezone"),
        (changed(ts="yesterday"), "invalid RFC3339"),
        (
            changed(payload=[1]),
            "turn_started refused because expected `object`, got `array` - at `$.payload`",
        ),
        (changed(payload={}), "missing required field `index` - at `$.payload`"),
        (changed(payload={"index": "x"}), "expected `int`, got `str` - at `$.payload.index`"),
        (changed(payload={"index": "x", "more": 1}), "expected `int`, got `str` - at `$.payload.index`"),
        (
            changed(payload={"items": [{"kind": "it's \nsecret", "parts": []}]}, type="input_accepted"),
            "input_accepted refused because invalid enum value - at `$.payload.items[0].kind`",
        ),
        (changed(type="newer", payload=3), "newer refused because expected `object`"),
    ],
)
def test_a_bad_line_is_refused_in_one_sentence(line: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_event(line)
    assert reason in str(refusal.value)
    assert str(refusal.value).isprintable()


@given(st.integers(1, 200_000))
def test_nesting_is_read_or_refused_whatever_its_depth(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    line = LINE.replace(b"turn_started", b"custom_event").replace(
        b'"index":3', b'"name":"n","data":' + nested
    )
    try:
        assert encode_event(decode_event(line)) == line
    except DecodeError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 - either outcome is right
        assert depth > MAX_DEPTH


def test_a_text_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(DecodeError, match="not UTF-8"):
        decode_event(LINE.decode().replace('"s"', '"\ud800"'))


def test_a_reason_never_carries_what_controls_a_terminal() -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_event(changed(type="\x1b]0;owned\x07\u202e" * 100, payload=1))
    assert "\\x1b" in str(refusal.value)
    assert len(refusal.value.reason) < 2_000


def test_the_last_of_two_equal_keys_counts() -> None:
    assert decode_event(LINE.replace(b'"seq":12', b'"seq":9,"seq":12')) == decode_event(LINE)


@given(st.binary(max_size=60) | st.text(max_size=60), st.integers(0, len(LINE)), st.integers(0, len(LINE)))
def test_whatever_is_read_gives_an_event_or_a_decode_error(junk: bytes | str, start: int, end: int) -> None:
    middle = junk if isinstance(junk, bytes) else junk.encode("utf-8", "surrogatepass")
    try:
        assert isinstance(decode_event(LINE[:start] + middle + LINE[end:]), AgentEvent)
    except DecodeError as error:
        assert str(error)  # noqa: PT017 - either outcome is right


@given(events_of(ContentDelta, UsageUpdated, CustomEvent, ToolCallRequested), st.data())
def test_no_prefix_of_a_line_is_an_event(event: AgentEvent, data: st.DataObject) -> None:
    line = encode_event(event)
    with pytest.raises(DecodeError):
        decode_event(line[: data.draw(st.integers(0, len(line) - 1))])


def test_a_delta_that_was_read_is_frozen_like_every_other() -> None:
    event = decode_event(encode_event(told(ContentDelta(request_id="q", delta=AppendText("p", "x")))))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.seq = 5  # type: ignore[misc] # the point of the test
