"""Logs that do not fit together: which of their events count, and which are refused, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

from agentkit_loop.content import CommitPart, Item, Parent, TextPart
from agentkit_loop.errors import ConfigurationError, ResumeError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestStarted,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UnknownEvent,
    Warning,  # noqa: A004 - the event's name in the contract
)
from agentkit_loop.resuming import read_history
from agentkit_loop.testing import EventRecorder
from agentkit_reporting.codec import encode_event
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events
from tests.loop.crash_checks import go_on, on_and_on
from tests.loop.crash_runs import (
    CALLS,
    DONE,
    Scenario,
    World,
    drive,
    recorded,
    run,
    until,
)
from tests.rules import faults


def refusal(events: Iterable[AgentEvent], **options: Any) -> str:
    """Return the sentence with which a resume is refused; it has told nothing then."""
    world = World()
    seen = EventRecorder()
    with pytest.raises(ResumeError) as caught:
        world.agent([]).resume(events, replay_to=[seen], **options)
    assert world.events == seen.events == []
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- a process that was not dead after all


def taken_over() -> tuple[list[AgentEvent], list[AgentEvent], list[AgentEvent]]:
    """Return a session's beginning, what its process told after that, and what a resume told meanwhile."""
    whole = run(Scenario([CALLS, DONE])).events
    start = until(whole, ToolExecutionStarted)
    zombie = whole[len(start) :]
    resumed = go_on(start).after
    return start, zombie, resumed


def mixed(one: Sequence[AgentEvent], other: Sequence[AgentEvent]) -> list[AgentEvent]:
    """Return the events of both by turns."""
    left, right = list(one), list(other)
    both: list[AgentEvent] = []
    while left or right:
        both += left[:1] + right[:1]
        left, right = left[1:], right[1:]
    return both


def test_what_a_zombie_tells_is_superseded_wherever_it_stands() -> None:
    start, zombie, resumed = taken_over()
    alone = read_history([*start, *resumed]).state
    for log in (
        [*start, *zombie, *resumed],
        [*start, *resumed, *zombie],
        [*start, *mixed(zombie, resumed)],
        [*start, *mixed(resumed, zombie)],
        [*start, *zombie[:1], *resumed[:1], *zombie[1:2], *resumed[1:], *zombie[2:]],
        [*start, *resumed[:4], *zombie, *resumed[4:]],
        [*resumed, *start],
        [*start, *zombie[:1], *start, *resumed, *zombie],
    ):
        history = read_history(log)
        assert history.state == alone
        assert len(history.notes) == (0 if zombie[0] not in log else 1)
        again = go_on(log)
        chain = [*start, *resumed, *again.after]
        assert faults(chain) == []
        warned = [event for event in again.after if isinstance(event, Warning)]
        assert [event.code for event in warned] == ["resumed_with_doubt"] * len(history.notes)


def test_a_zombie_of_an_older_run_changes_nothing_later() -> None:
    start, zombie, resumed = taken_over()
    twice = go_on([*start, *resumed]).after
    log = [*start, *resumed, *mixed(twice, zombie)]
    assert read_history(log).state == read_history([*start, *resumed, *twice]).state


def test_two_resumes_of_one_crash_are_two_runs_at_once() -> None:
    start, _, one = taken_over()
    other = go_on(start).after
    log = [*start, *one, *other]
    text = refusal(log)
    assert text.startswith("session session: two runs at once, run_")
    assert text.endswith("; force it to go on with the one that started last")
    forced = read_history(log, force=True)
    assert forced.state == read_history([*start, *other]).state
    assert len(forced.notes) == 1


def test_one_session_id_used_for_two_sessions_is_refused() -> None:
    log = [*recorded("plain"), *recorded("plain")]
    assert "two runs at once" in refusal(log)
    assert read_history(log, force=True).state.run_id == log[-1].run_id


# --- logs that are refused


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    log.write_bytes(b"")
    assert refusal([]) == "the log holds no event; give the log of the session"
    assert refusal(read_events(log)) == "the log holds no event; give the log of the session"
    log.write_bytes(b'{"v":1,"seq":1,"ts"\n')
    assert refusal(read_events(log)).startswith(
        f"the log holds no event; give the log of the session; line 1 of {log} is no event ("
    )


def test_a_path_in_place_of_events_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^'logs/run.jsonl' is a path; give its events, "):
        World().agent([]).resume("logs/run.jsonl")  # type: ignore[arg-type] # that is the point


def test_a_log_of_another_session_is_refused() -> None:
    assert refusal(recorded("plain"), session_id="other") == (
        "the log holds no session 'other'; it holds the session session"
    )


def renamed(events: Sequence[AgentEvent], session_id: str, parent: Parent | None = None) -> list[AgentEvent]:
    """Return the events as another session's, a sub-agent's where there is a parent."""
    others = [attrs.evolve(event, session_id=session_id) for event in events]
    return [attrs.evolve(others[0], parent=parent), *others[1:]]  # type: ignore[call-arg] # a RunStarted


def test_a_log_of_two_sessions_asks_which() -> None:
    log = mixed(recorded("plain"), renamed(recorded("tools"), "second"))
    assert refusal(log) == "the log holds the sessions session, second; say which by session_id"
    assert read_history(log, session_id="second").state.session_id == "second"


def test_sub_agents_in_the_log_are_left_alone_and_can_be_named() -> None:
    events = recorded("tools")
    parent = Parent(session_id="session", run_id=events[0].run_id, call_id="call-1")
    child = renamed(recorded("retries"), "child", parent)
    log = mixed(events, child)
    assert read_history(log).state == read_history(events).state
    assert read_history(log, session_id="child").state == read_history(child).state
    assert refusal(child[1:]).startswith("session child: event 1 is missing")
    with World().agent([DONE]).resume(log, session_id="child") as driver:
        assert driver.run("go on").text == "All done."


def test_the_same_log_twice_counts_once(tmp_path: Path) -> None:
    events = recorded("tools")
    assert read_history([*events, *events]) == read_history(events)
    log = tmp_path / "run.jsonl"
    reporter = JsonlReporter(log)
    for event in events:
        reporter.handle_event(event)
    assert read_history(read_events([log, log])) == read_history(events)


def test_files_in_another_order_are_the_same_log() -> None:
    events = recorded("failed")
    second = next(event.seq for event in events[1:] if isinstance(event, RunStarted)) - 1
    assert read_history([*events[second:], *events[:second]]).state == read_history(events).state


def test_a_gap_is_refused_and_named() -> None:
    events = recorded("tools")
    for place in (0, 1, 20, len(events) - 2):
        log = [*events[:place], *events[place + 1 :]]
        assert refusal(log).startswith(f"session session: event {place + 1} is missing")
        assert refusal(log, force=True).endswith("; only a whole log can be gone on with")
    assert "events 4 to 9 are missing" in refusal([*events[:3], *events[9:]])


def test_a_line_that_was_torn_in_the_middle_is_named(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    lines = [encode_event(event) for event in recorded("tools")]
    lines[11] = lines[11][:40]
    log.write_bytes(b"\n".join(lines) + b"\n")
    text = refusal(read_events(log))
    assert text.startswith("session session: event 12 is missing")
    assert f"; line 12 of {log} is no event (" in text


def test_a_torn_tail_is_no_hindrance_and_stays_one_bad_line(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    lines = [encode_event(event) for event in recorded("tools")]
    log.write_bytes(b"\n".join(lines[:30]) + b"\n" + lines[30][:50])
    with World().agent(on_and_on, JsonlReporter(log)).resume(read_events(log)) as driver:
        drive(driver)
    reader = read_events(log)
    assert faults(list(reader)) == []
    assert reader.bad_count == 1


def test_a_newer_version_is_refused_unless_forced(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    lines = [encode_event(event) for event in recorded("plain")]
    log.write_bytes(b"\n".join(lines).replace(b'{"v":1,', b'{"v":2,') + b"\n")
    assert refusal(read_events(log)) == ("the log is of a newer version (2); use that version, or force it")
    assert read_history(read_events(log), force=True).state.seq == len(lines)


def test_an_event_of_an_unknown_kind_is_refused_unless_forced() -> None:
    events = recorded("plain")
    unknown = UnknownEvent(
        session_id="session", run_id=events[0].run_id, turn_id=None, seq=2, type="later", payload={}
    )
    log = [events[0], unknown, *(attrs.evolve(event, seq=event.seq + 1) for event in events[1:])]
    text = refusal(log)
    assert text.startswith("session session: event 2 (later) is of no kind that this version knows")
    history = read_history(log, force=True)
    assert history.notes == (text.removesuffix(", or force it"),)


def test_an_event_that_was_never_told_is_refused() -> None:
    events = [*recorded("plain"), CustomEvent(name="note", session_id="session")]
    assert refusal(events) == "session session: an event without a number; it was never told"


# --- logs that were edited


def edited(
    events: Sequence[AgentEvent], kind: type[AgentEvent], number: int, **fields: Any
) -> list[AgentEvent]:
    """Return the events with fields of the nth of a class changed."""
    place = len(until(events, kind, number)) - 1
    return [*events[:place], attrs.evolve(events[place], **fields), *events[place + 1 :]]


def without(events: Sequence[AgentEvent], kind: type[AgentEvent], number: int = 1) -> list[AgentEvent]:
    """Return the events without the nth of a class, numbered anew."""
    place = len(until(events, kind, number)) - 1
    left = [*events[:place], *events[place + 1 :]]
    return [attrs.evolve(event, seq=seq) for seq, event in enumerate(left, 1)]


def test_a_changed_text_is_refused_unless_forced() -> None:
    events = recorded("tools")
    item = Item(kind="user", parts=(TextPart(text="something else"),), id="item-1")
    text = refusal(log := edited(events, InputAccepted, 1, items=(item,)))
    place = len(until(events, ModelRequestStarted))
    assert text == (
        f"session session: event {place} (model_request_started) does not fit the transcript before it; "
        "the log was edited after it was written, or force it"
    )
    history = read_history(log, force=True)
    assert history.state.transcript.items[0] == item
    assert history.notes == (text.removesuffix(", or force it"),)


def test_a_changed_answer_and_a_changed_result_are_refused() -> None:
    events = recorded("tools")
    commits = [
        event for event in events if isinstance(event, ContentDelta) and isinstance(event.delta, CommitPart)
    ]
    for commit in commits[:2]:
        assert isinstance(commit.delta, CommitPart)
        part = msgspec.structs.replace(commit.delta.part, text="not what it said")
        delta = CommitPart(commit.delta.part_id, part)
        log = [attrs.evolve(event, delta=delta) if event is commit else event for event in events]
        assert "does not fit the transcript before it" in refusal(log)
    assert "does not fit the transcript" in refusal(edited(events, ToolResultReceived, 1, output="other"))


@pytest.mark.parametrize(
    "kind",
    [
        InputAccepted,
        TurnStarted,
        ModelRequestStarted,
        ToolExecutionStarted,
        ToolResultReceived,
        TurnFinished,
    ],
)
def test_a_removed_event_is_noticed_though_the_rest_was_numbered_anew(kind: type[AgentEvent]) -> None:
    events = go_on(recorded("tools")).events
    text = refusal(without(events, kind))
    assert text.startswith("session session: event ")
    assert "does not f" in text  # follow from, or fit the transcript


def test_an_edited_call_id_is_refused() -> None:
    events = recorded("tools")
    for kind in (ToolExecutionStarted, ToolResultReceived):
        text = refusal(edited(events, kind, 1, call_id="call-9"), force=True)
        assert text.endswith("does not follow from those before it; the log was edited or is not whole"), text
    requested = next(event for event in events if isinstance(event, ToolCallRequested))
    other = msgspec.structs.replace(requested.call, id="call-9")
    assert "does not follow" in refusal(edited(events, ToolCallRequested, 1, call=other))


def test_an_event_that_stands_twice_with_two_contents_is_refused() -> None:
    events = recorded("tools")
    log = [*events, attrs.evolve(events[1], turn_id="turn-9")]
    assert refusal(log, force=True) == (
        "session session: event 2 stands in the log twice and says two things; "
        "the log was edited after it was written"
    )


def test_a_resume_that_goes_on_from_elsewhere_is_refused() -> None:
    events = recorded("failed")
    second = next(event for event in events[1:] if isinstance(event, RunStarted))
    for fields in ({"resumed_after": 3}, {"resumed_run": "run_other"}):
        log = [attrs.evolve(event, **fields) if event is second else event for event in events]
        assert f"event {second.seq} (run_started) does not follow from those before it" in refusal(log)
