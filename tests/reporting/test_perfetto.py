"""Trace events: what Perfetto and speedscope need of a file to draw every slice of it."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given

from agentkit_reporting.tracing.log_spans import LogSpan, spans_of
from agentkit_reporting.tracing.perfetto import perfetto_texts
from agentkit_reporting.tracing.spans import Span
from tests.reporting.span_samples import NAMES, T0, exported, family, orders, runs, span

US = 1_000


def drawn(spans: Iterable[LogSpan]) -> list[dict[str, Any]]:
    """Return the events of the file."""
    told: list[dict[str, Any]] = json.loads("".join(perfetto_texts(spans)))["traceEvents"]
    return told


def slices(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == "X"]


def check_form(events: list[dict[str, Any]]) -> None:
    """Require what both importers need: numbers, names of all tracks, and that the slices of each track nest."""
    names = collections.Counter(
        (event["name"], event["pid"], event["tid"]) for event in events if event["ph"] == "M"
    )
    assert set(names.values()) == {1}
    tracks: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in events:
        assert event["ph"] in set("MXisf")
        assert isinstance(event["name"], str)
        assert type(event["pid"]) is int
        assert type(event["tid"]) is int
        assert event["ph"] == "M" or type(event["ts"]) is int
        assert ("process_name", event["pid"], 0) in names
        assert event["ph"] == "M" or ("thread_name", event["pid"], event["tid"]) in names
        if event["ph"] == "X":
            assert type(event["dur"]) is int
            assert event["dur"] >= 1
            tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    for track in tracks.values():
        check_nesting(track)
        check_queues(track)


def check_nesting(track: list[dict[str, Any]]) -> None:
    """Require what Perfetto's trace processor does, in the file's order where slices begin at once."""
    open_ends: list[int] = []
    for event in sorted(track, key=lambda event: event["ts"]):
        while open_ends and open_ends[-1] <= event["ts"]:
            open_ends.pop()
        end = event["ts"] + event["dur"]
        assert not open_ends or end <= open_ends[-1], event
        open_ends.append(end)


def check_queues(track: list[dict[str, Any]]) -> None:
    """Require what speedscope does: slices become two queues, of beginnings and of ends, which must fit a stack."""
    in_order = sorted(track, key=lambda event: (event["ts"], -event["dur"]))
    begins = collections.deque((event["ts"], event["args"]["span_id"]) for event in in_order)
    ends = sorted(
        ((event["ts"] + event["dur"], event["args"]["span_id"]) for event in in_order), key=lambda end: end[0]
    )
    stack: list[str] = []
    while begins or ends:
        if begins and (begins[0][0] < ends[0][0] or begins[0] == ends[0]):
            stack.append(begins.popleft()[1])
            continue
        at_once = [end for end in ends if end[0] == ends[0][0]]
        end = next((each for each in at_once if each[1] == stack[-1]), at_once[0])
        ends.remove(end)
        assert stack.pop() == end[1]
    assert not stack


@given(runs())
def test_every_span_is_a_slice_and_the_slices_of_a_track_nest(spans: list[LogSpan]) -> None:
    events = drawn(spans)
    check_form(events)
    assert sorted(event["args"]["span_id"] for event in slices(events)) == sorted(
        f"{each.span.span_id:016x}" for each in spans
    )
    assert sum(event["ph"] == "i" for event in events) == sum(len(each.span.events) for each in spans)
    for event in slices(events):
        (one,) = [each.span for each in spans if f"{each.span.span_id:016x}" == event["args"]["span_id"]]
        assert 0 <= event["ts"] - one.start_ns // US <= 1_000
    assert events == drawn(spans)


def test_the_text_is_printable_ascii_and_nothing_comes_of_nothing() -> None:
    text = "".join(perfetto_texts(exported(span(name="a\u2028\x1b[2J", attributes={"x": "\x9b€"}))))
    assert all(" " <= each <= "~" or each == "\n" for each in text)
    assert list(perfetto_texts([])) == []


def test_calls_at_the_same_time_have_tracks_of_their_own_and_others_share_the_runs() -> None:
    run = span(number=1, end_ns=T0 + 100_000_000)
    calls = [
        span("execute_tool", number=number, parent=run, start_ns=T0 + start * US, end_ns=T0 + end * US)
        for number, start, end in ((2, 10, 5_000), (3, 20, 9_000), (4, 5_000, 8_000), (5, 9_000, 9_500))
    ]
    events = slices(drawn(exported(*calls, run)))
    lanes = {int(event["args"]["span_id"], 16): event["tid"] for event in events}
    assert lanes[1] == lanes[2] == lanes[4] == lanes[5] != lanes[3]


def test_a_slice_that_reaches_a_little_into_the_one_before_is_moved_and_not_put_aside() -> None:
    run = span(number=1, end_ns=T0 + 100_000_000)
    tool = span("execute_tool", number=2, parent=run, start_ns=T0, end_ns=T0 + 1_000 * US)
    chat = span("chat", number=3, parent=run, start_ns=T0 + 990 * US, end_ns=T0 + 5_000 * US)
    shown = {event["name"]: event for event in slices(drawn(exported(tool, chat, run)))}
    assert shown["chat"]["tid"] == shown["execute_tool"]["tid"]
    assert (shown["chat"]["ts"] - T0 // US, shown["chat"]["dur"]) == (1_000, 4_000)


def test_slices_without_a_duration_get_the_shortest_one() -> None:
    run = span(number=1, end_ns=T0)
    spans = [span("chat", number=number, parent=run, end_ns=T0) for number in (2, 3)]
    events = drawn(exported(*spans, run))
    check_form(events)
    assert [event["dur"] for event in slices(events)] == [2, 1, 1]
    assert len({event["tid"] for event in slices(events)}) == 1


@pytest.mark.parametrize("order", [0, 1, 2], ids=["as-it-came", "parent-first", "children-first"])
def test_arrows_lead_from_calls_to_the_agents_behind_them(order: int) -> None:
    events = drawn(spans_of(orders(family())[order]))
    check_form(events)
    begins = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    agents = {event["args"]["span_id"]: event for event in slices(events) if event["cat"] == "invoke_agent"}
    assert set(begins) == set(ends) == {key for key, event in agents.items() if event["name"][-4:] != "boss"}
    for key, end in ends.items():
        assert end["bp"] == "e"
        assert (end["pid"], end["tid"], end["ts"]) == tuple(
            agents[key][name] for name in ("pid", "tid", "ts")
        )
        name = agents[key]["name"].removeprefix("invoke_agent ")
        (call,) = [event for event in slices(events) if event["name"] == f"execute_tool {name}"]
        begin = begins[key]
        assert (begin["pid"], begin["tid"], begin["ts"]) == (call["pid"], call["tid"], call["ts"])
        assert begin["ts"] <= end["ts"]


def test_a_session_is_a_process_named_by_its_agent_and_parents_come_before_children() -> None:
    events = family()
    told = [event for event in drawn(spans_of(events)) if event["name"] == "process_name"]
    in_order = [event["args"]["name"] for event in sorted(told, key=lambda event: event["pid"])]
    agents = [name.split()[0] for name in in_order]
    assert (agents[0], sorted(agents[1:])) == ("boss", sorted(NAMES))
    assert {name.split()[1] for name in in_order} == {event.session_id for event in events}


def test_a_track_has_the_agents_name_and_the_runs_id_only_where_two_would_be_equal() -> None:
    def run(number: int, name: str, session: str) -> Span:
        return span(number=number, name=name, session_id=session, run_id=f"run-{number}")

    made = [
        run(1, "invoke_agent analyst", "s"),
        run(2, "invoke_agent analyst", "s"),
        run(3, "invoke_agent analyst", "t"),
        run(4, "invoke_agent", "t"),
    ]
    names = [each["args"]["name"] for each in drawn(exported(*made)) if each["name"] == "thread_name"]
    assert names == ["analyst", "analyst run-2", "analyst", "run-4"]


def test_a_further_track_of_a_run_is_named_by_its_agent_too() -> None:
    run = span(name="invoke_agent analyst")
    calls = [span("execute_tool", number=number, parent=run) for number in (2, 3)]
    names = [each["args"]["name"] for each in drawn(exported(*calls, run)) if each["name"] == "thread_name"]
    assert names == ["analyst", "analyst · parallel 2"]
