"""A report of lines is that of their events, whatever stands between the deltas of a request."""

from __future__ import annotations

import datetime as dt
import gc
import itertools
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit_loop import events as ev
from agentkit_loop.content import AppendText, ToolCallPart
from agentkit_loop.events import AgentEvent
from agentkit_loop.stamping import stamp
from agentkit_loop.usage import Cost, ErrorInfo, Usage
from agentkit_reporting import encode_event, read_events
from agentkit_reporting.cli.reading import seldom_collected
from agentkit_reporting.records.ended_runs import RunFold
from agentkit_reporting.records.report import RunReport
from tests.reporting.test_wanted_events import reports_of, told_by

BEGIN = dt.datetime(2026, 5, 24, 18, 40, tzinfo=dt.UTC)
ERROR = ErrorInfo(type="ProcessEnded", message="it ended")


def delta(request_id: str = "request-1") -> AgentEvent:
    return ev.ContentDelta(request_id=request_id, delta=AppendText("0", "so "))


def usage(request_id: str, model: str, amount: str | None, *, final: bool = True) -> AgentEvent:
    cost = None
    if amount is not None:
        cost = Cost(amount=Decimal(amount), currency="USD", components={}, source="prices", priced_at=BEGIN)
    used = Usage(input_tokens=10, output_tokens=5)
    return ev.UsageUpdated(request_id=request_id, model=model, usage=used, cost=cost, final=final)


def asked(request_id: str, model: str) -> AgentEvent:
    return ev.ModelRequestStarted(
        request_id=request_id, attempt=1, purpose="turn", model=model, message_count=1, digests={}
    )


def finished(request_id: str) -> AgentEvent:
    return ev.ModelRequestFinished(
        request_id=request_id,
        finish_reason="completed",
        response_id="message",
        response_model="model",
        first_content_ms=1.0,
        duration_ms=20.0,
    )


def failed(request_id: str) -> AgentEvent:
    return ev.ModelRequestFailed(
        request_id=request_id, error=ERROR, error_class="overloaded", duration_ms=None
    )


def started(agent: str) -> AgentEvent:
    return ev.RunStarted(agent_name=agent, model="model", system="", tools=(), metadata={"phase": "build"})


def stamped(
    told: Sequence[tuple[AgentEvent, str, str, int]], *, gap_after: int | None = None
) -> list[AgentEvent]:
    """Stamp events of session, run and millisecond; after so many of them a number of each session is missing."""
    numbers: dict[str, int] = {}
    for place, (event, session_id, run_id, at_ms) in enumerate(told):
        numbers[session_id] = numbers.get(session_id, 0) + (2 if place == gap_after else 1)
        stamp(event, session_id, run_id, None, numbers[session_id], BEGIN + dt.timedelta(milliseconds=at_ms))
    return [event for event, *_ in told]


def write(path: Path, told: Sequence[AgentEvent | bytes]) -> None:
    lines = [each if isinstance(each, bytes) else encode_event(each) for each in told]
    path.write_bytes(b"\n".join(lines) + b"\n")


def report_of(path: Path) -> RunReport:
    report = RunReport()
    for lines in read_events(path).blocks():
        report.take_lines(lines)
    return report


def durations(report: RunReport) -> dict[str, float]:
    """Return how long each run took, by its id."""
    return {metric.invocation_id: metric.duration_ms for metric in report.metrics()}


def broken_off() -> AgentEvent:
    """Return the end of a run where nobody was there to measure."""
    return ev.RunFailed(error=ERROR, usage=Usage(), duration_ms=None)


@pytest.mark.parametrize(
    ("between", "lasted_ms"),
    [
        ([(delta(), 10), (delta(), 20), (delta(), 30)], 30),
        ([(delta(), 10), (ev.TurnStarted(index=2), 20), (delta(), 15)], 20),
        ([(delta(), 40), (delta(), 20), (delta(), 30)], 40),  # a clock that was set back
        ([(delta(), 10), (usage("request-1", "model", None), 50), (delta(), 30)], 50),
        ([(delta(), 10), (failed("request-1"), 60), (delta(), 30)], 30),  # what a resume tells is no work
    ],
)
def test_a_run_whose_end_tells_no_duration_lasts_to_its_latest_work(
    between: list[tuple[AgentEvent, int]], lasted_ms: int, tmp_path: Path
) -> None:
    told = [(started("coder"), 0), *between, (broken_off(), 90)]
    write(tmp_path / "log.jsonl", stamped([(event, "s", "r", at_ms) for event, at_ms in told]))
    assert durations(report_of(tmp_path / "log.jsonl")) == {"r": lasted_ms}


def test_deltas_of_two_sessions_by_turns_count_for_their_own_runs(tmp_path: Path) -> None:
    places = (
        ("s", "r"),
        ("t", "r"),
        ("t", "q"),
    )  # a run is told apart by its session too, and the other way round
    told = [(started("coder"), *place, 0) for place in places]
    told += [(delta(), *place, 10 * number) for number in range(1, 4) for place in places]
    told += [(delta(), "t", "q", 70), (delta(), "s", "r", 50)]
    told += [(broken_off(), *place, 90) for place in places]
    write(tmp_path / "log.jsonl", stamped(told))
    full, narrow = reports_of(tmp_path / "log.jsonl")
    assert list(told_by(narrow)) == list(told_by(full))
    lasted = {(each.invocation_id, each.duration_ms) for each in narrow.metrics()}
    assert lasted == {("r", 50.0), ("q", 70.0)}  # the first that ended of two runs of one id


def test_a_delta_of_another_session_is_no_work_of_a_run_of_the_same_id(tmp_path: Path) -> None:
    told = [(started("coder"), "t", 0), (started("coder"), "s", 5), (delta(), "s", 10), (delta(), "t", 80)]
    told += [(broken_off(), "s", 90), (broken_off(), "t", 95)]
    write(tmp_path / "log.jsonl", stamped([(event, session, "r", at_ms) for event, session, at_ms in told]))
    assert durations(report_of(tmp_path / "log.jsonl")) == {"r": 5.0}


def test_a_delta_begins_a_run_of_which_only_a_fact_of_the_host_was_told_before(tmp_path: Path) -> None:
    told = [(ev.CustomEvent(name="mark", data=1), 0), (delta(), 10), (delta(), 80), (started("coder"), 20)]
    told += [(broken_off(), 90)]
    write(tmp_path / "log.jsonl", stamped([(event, "s", "r", at_ms) for event, at_ms in told]))
    assert durations(report_of(tmp_path / "log.jsonl")) == {"r": 60.0}


@pytest.mark.parametrize(
    ("requests", "by_model", "whole"),
    [
        (  # all of one model: with a cost, with none, and one that failed before it told anything
            [
                asked("1", "a"),
                usage("1", "a", "0.5"),
                finished("1"),
                asked("2", "a"),
                usage("2", "a", None),
                finished("2"),
                asked("3", "a"),
                failed("3"),
            ],
            {"a": (3, 1, "0.5", 2, 0, 20)},
            ("0.5", 1, 1),
        ),
        (  # one that did not end counts as well
            [asked("1", "a"), usage("1", "a", "0.5", final=False)],
            {"a": (1, 0, "0.5", 0, 1, 10)},
            ("0.5", 0, 1),
        ),
        (
            [
                asked("1", "a"),
                usage("1", "a", "0.5"),
                finished("1"),
                asked("2", "b"),
                usage("2", "b", "0.25"),
                finished("2"),
            ],
            {"a": (1, 0, "0.5", 0, 0, 10), "b": (1, 0, "0.25", 0, 0, 10)},
            ("0.75", 0, 0),
        ),
        (  # one whose beginning is in no log
            [asked("1", "a"), usage("1", "a", "0.5"), finished("1"), finished("2")],
            {"a": (1, 0, "0.5", 0, 0, 10), "": (1, 0, None, 1, 0, None)},
            ("0.5", 0, 1),
        ),
    ],
)
def test_what_requests_of_a_run_come_to_by_model_and_in_all(
    requests: list[AgentEvent],
    by_model: dict[str, tuple[int, int, str | None, int, int, int | None]],
    whole: tuple[str, int, int],
    tmp_path: Path,
) -> None:
    told = [started("coder"), *requests, broken_off()]
    write(tmp_path / "log.jsonl", stamped([(event, "s", "r", at) for at, event in enumerate(told)]))
    report = report_of(tmp_path / "log.jsonl")
    found = {}
    for (model,), each in report.requests.items():
        cost = each.money.amounts.get("USD")
        text = None if cost is None else str(cost)
        money = (text, each.money.unknown, each.money.least)
        found[model] = (each.calls, each.failed, *money, each.usage.input_tokens)
    assert found == by_model
    of_run = report.runs(())[()].money
    assert (str(of_run.amounts["USD"]), of_run.unknown, of_run.least) == whole


def test_a_number_that_is_missing_changes_nothing(tmp_path: Path) -> None:
    found = []
    for gap_after in (None, 2, 3):
        told = [(started("coder"), 0), *((delta(), 10 * each) for each in range(1, 6)), (broken_off(), 90)]
        events = stamped([(event, "s", "r", at_ms) for event, at_ms in told], gap_after=gap_after)
        write(tmp_path / "log.jsonl", events)
        found.append(list(told_by(report_of(tmp_path / "log.jsonl"))))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"v":1,"seq":4,"ts":"2026-05-24T18:40:00.5Z","type":"content_delta"',
        (
            b'{"v":1,"seq":4,"ts":"2026-05-24T18:40:00.5Z","type":"content_delta","session_id":"s","run_id":"r",'
            b'"turn_id":null,"payload":{"request_id":1,"delta":{"type":"append_text","part_id":"0","chunk":"so"}}}'
        ),
        b"no event",
    ],
)
def test_a_bad_line_among_deltas_is_told_and_the_rest_counts(bad: bytes, tmp_path: Path) -> None:
    told = [(started("coder"), 0), *((delta(), 10 * each) for each in range(1, 6)), (broken_off(), 90)]
    events = stamped([(event, "s", "r", at_ms) for event, at_ms in told])
    write(tmp_path / "good.jsonl", events)
    write(tmp_path / "bad.jsonl", [*events[:3], bad, *events[3:]])
    reader, report = read_events(tmp_path / "bad.jsonl"), RunReport()
    for lines in reader.blocks():
        report.take_lines(lines)
    assert [each.line for each in reader.bad] == [4]
    assert report.events == len(events)
    assert list(told_by(report)) == list(told_by(report_of(tmp_path / "good.jsonl")))


def others(request_id: str, model: str) -> st.SearchStrategy[AgentEvent]:
    """Return what may stand between two deltas of a request."""
    look = ToolCallPart(id="call", name="look", input={})
    kinds: tuple[st.SearchStrategy[AgentEvent], ...] = (
        st.builds(lambda: ev.TurnStarted(index=1)),
        st.builds(
            lambda amount: usage(request_id, model, amount, final=False),
            st.sampled_from((None, "0.25", "NaN")),
        ),
        st.builds(lambda: ev.ToolCallRequested(request_id=request_id, call=look)),
        st.builds(
            lambda taken_ms: ev.ToolResultReceived(
                call_id="call", name="look", output="", duration_ms=taken_ms
            ),
            st.sampled_from((None, 3.0)),
        ),
        st.builds(lambda: ev.CustomEvent(name="mark", data=1)),
    )
    return st.one_of(kinds)


def ends() -> st.SearchStrategy[list[AgentEvent]]:
    """Return how a run ends, if it does; it may go on behind its end."""
    durations_ms = st.sampled_from((None, 70.0))
    failures = st.builds(
        lambda lasted_ms: [ev.RunFailed(error=ERROR, usage=Usage(), duration_ms=lasted_ms)], durations_ms
    )
    successes = st.builds(
        lambda lasted_ms, goes_on: [
            ev.RunFinished(outcome="completed", usage=Usage(), duration_ms=lasted_ms),
            *([delta(), finished("late")] if goes_on else []),
        ],
        durations_ms,
        st.booleans(),
    )
    return st.one_of(st.builds(list), failures, successes)


@st.composite
def kinds_of_a_run(draw: st.DrawFn, agent: str) -> list[AgentEvent]:
    """Return what a run tells: requests to one model or two, deltas with other kinds between them."""
    told = [started(agent)] if draw(st.booleans()) else []
    for number in range(draw(st.integers(0, 3))):
        request_id, model = f"request-{number}", draw(st.sampled_from(("one", "one", "other")))
        told += [asked(request_id, model)] if draw(st.booleans()) else []
        pieces: list[AgentEvent] = [delta(request_id) for _ in range(draw(st.integers(0, 4)))]
        for other in draw(st.lists(others(request_id, model), max_size=3)):
            pieces.insert(draw(st.integers(0, len(pieces))), other)
        told += pieces
        told += [usage(request_id, model, "0.5")] if draw(st.booleans()) else []
        told += draw(st.sampled_from(([finished(request_id)], [failed(request_id)], [])))
    return told + draw(ends())


@st.composite
def logs(draw: st.DrawFn) -> list[AgentEvent]:
    """Return the events of two or three runs of two sessions by turns, on a clock that may be set back."""
    places = draw(st.permutations((("s", "r"), ("t", "r"), ("t", "q"))))[: draw(st.integers(1, 3))]
    left = [(place, iter(draw(kinds_of_a_run(f"agent-{number}")))) for number, place in enumerate(places)]
    told: list[tuple[AgentEvent, str, str, int]] = []
    at_ms = 0
    while left:
        number = draw(st.integers(0, len(left) - 1))
        place, rest = left[number]
        few = list(itertools.islice(rest, draw(st.integers(1, 6))))
        if not few:
            del left[number]
        for event in few:
            at_ms += draw(st.sampled_from((1, 7, -30)))
            told.append((event, *place, at_ms))
    return stamped(told, gap_after=draw(st.none() | st.integers(0, 20)))


def metrics_of(events: Sequence[AgentEvent]) -> Iterator[str]:
    """Yield the metrics of runs as the fold of events makes them, the first of each id."""
    fold, known = RunFold(), set[str]()
    for event in events:
        ended = fold.take(event)
        if ended is not None and ended.metric.invocation_id not in known:
            known.add(ended.metric.invocation_id)
            yield repr(ended.metric)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=logs(), bad_at=st.none() | st.integers(0, 30))
def test_a_report_of_runs_by_turns_is_the_same_from_lines_and_from_events(
    events: list[AgentEvent], bad_at: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    lines: list[AgentEvent | bytes] = [*events]
    if bad_at is not None:
        lines.insert(bad_at, b'{"torn')
    write(path, lines)
    full, narrow = reports_of(path)
    assert narrow.events == full.events == len(events)
    assert list(told_by(narrow)) == list(told_by(full))
    assert sorted(map(repr, narrow.metrics())) == sorted(metrics_of(events))


def test_what_somebody_froze_stays_frozen_and_the_garbage_collector_as_it_was() -> None:
    thresholds = gc.get_threshold()
    with seldom_collected():
        assert gc.get_threshold() == (100 * thresholds[0], *thresholds[1:])
    assert (gc.get_threshold(), gc.get_freeze_count()) == (thresholds, 0)
    gc.freeze()
    try:
        with seldom_collected():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
