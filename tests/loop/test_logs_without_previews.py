"""Logs that were written with `deltas="none"`: gone on with as any other, and only their own gaps are taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import pytest

from agentkit_loop.content import AppendBytes, AppendText, BeginPart, CommitPart
from agentkit_loop.errors import ResumeError
from agentkit_loop.events import AgentEvent, ContentDelta, ModelRequestFinished, RunStarted
from agentkit_loop.recordings import MAX_GAPS, read_recording
from agentkit_loop.resuming import read_history
from agentkit_reporting.codec import encode_event
from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events
from agentkit_reporting.transcript import TranscriptReporter
from tests.loop.crash_checks import go_on, on_and_on
from tests.loop.crash_runs import SCENARIOS, World, drive, recorded, until

BETWEEN = {"usage_updated", "cancel_requested", "input_accepted"}
"""What these sessions tell while a part is open: it looks like a preview where it is missing."""


def is_preview(event: AgentEvent) -> bool:
    return isinstance(event, ContentDelta) and isinstance(event.delta, (AppendText, AppendBytes))


def without_previews(events: Iterable[AgentEvent]) -> list[AgentEvent]:
    return [event for event in events if not is_preview(event)]


def refusal(events: Iterable[AgentEvent]) -> str:
    with pytest.raises(ResumeError) as caught:
        read_history(events)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def missing(event: AgentEvent) -> str:
    return f"session session: event {event.seq} is missing"


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_state_is_that_of_the_whole_log_wherever_it_was_cut(name: str) -> None:
    events = recorded(name)
    for end, last in enumerate(events, 1):
        if not is_preview(last):
            history = read_history(without_previews(events[:end]))
            assert history == read_history(events[:end])


@pytest.mark.parametrize("name", ["tools", "retries", "compacted", "cancelled at 11", "pending twice"])
def test_a_session_goes_on_in_its_own_log_from_every_prefix(name: str, tmp_path: Path) -> None:
    events = recorded(name)
    written = without_previews(events)
    for end in range(1, len(written) + 1, 3):
        log = tmp_path / f"{end}.jsonl"
        log.write_bytes(b"".join(encode_event(event) + b"\n" for event in written[:end]))
        for _ in range(2):
            before = list(read_events(log))
            world = World()
            view = TranscriptReporter()
            agent = world.agent(on_and_on, JsonlReporter(log, deltas="none"), view, **SCENARIOS[name].options)
            with agent.resume(read_events(log), replay_to=[view]) as driver:
                drive(driver)
                drive(driver, lambda *_: True, "more")
                items = driver.transcript.items
            assert world.events[0].seq == before[-1].seq + 1
            assert view.of("session").items == items
            assert read_history(read_events(log)).state.transcript.items == items


def test_a_run_with_previews_may_follow_one_without() -> None:
    events = without_previews(recorded("tools"))[:9]
    went = go_on(events, **SCENARIOS["tools"].options)
    assert any(is_preview(event) for event in went.after)
    assert read_history(went.events).state.transcript.items == went.items
    place = next(place for place, event in enumerate(went.events) if place > 9 and is_preview(event))
    cut = [*went.events[:place], *went.events[place + 1 :]]
    assert refusal(cut).startswith(missing(went.events[place]))


def test_a_fork_begins_anywhere_also_at_what_is_missing() -> None:
    events = recorded("tools")
    log = without_previews(events)
    for at in range(1, len(events) + 1):
        whole, bare = World(), World()
        with whole.agent(on_and_on).fork(events, at=at) as one, bare.agent(on_and_on).fork(log, at=at) as two:
            assert one.transcript.items == two.transcript.items
    with pytest.raises(ResumeError, match=f"the events 1 to {events[-1].seq}$"):
        World().agent([]).fork(log, at=events[-1].seq + 1)


@pytest.mark.parametrize("name", ["tools", "interjected anywhere", "cancelled at 11", "compacted", "retries"])
def test_whatever_else_is_missing_is_refused(name: str) -> None:
    log = without_previews(recorded(name))
    begun: set[str] = set()
    items = read_history(log).state.transcript.items
    for place, event in enumerate(log[:-1]):
        in_part = bool(begun)
        match event:
            case ContentDelta(delta=BeginPart(part_id)):
                begun.add(part_id)
            case ContentDelta(delta=CommitPart(part_id)):
                begun.discard(part_id)
            case _ if event.type.startswith("model_request"):
                begun.clear()
            case _:
                pass
        left = [*log[:place], *log[place + 1 :]]
        if in_part and event.type in BETWEEN - {"input_accepted"}:
            assert read_history(left).state.transcript.items == items
        else:
            assert refusal(left).startswith("session session: event")


def test_a_part_whose_end_is_missing_is_refused_though_nothing_follows() -> None:
    log = without_previews(recorded("plain"))
    commits = [e for e in log if isinstance(e, ContentDelta) and isinstance(e.delta, CommitPart)]
    for commit in commits:
        assert "missing; only a whole log can be gone on with" in refusal(
            event for event in log if event is not commit
        )


def test_a_preview_that_is_missing_among_others_is_refused() -> None:
    events = recorded("plain")
    previews = [event for event in events if is_preview(event)]
    assert len(previews) > 1
    for preview in previews:
        assert refusal(event for event in events if event is not preview).startswith(missing(preview))


def test_a_gap_up_to_another_run_is_refused() -> None:
    log = without_previews(recorded("failed"))
    second = next(place for place, event in enumerate(log) if place and isinstance(event, RunStarted))
    started = log[second]
    assert isinstance(started, RunStarted)
    assert started.resumed_after is not None
    moved = attrs.evolve(started, seq=started.seq + 1, resumed_after=started.resumed_after + 1)
    assert refusal([*log[:second], moved]).startswith(f"session session: event {started.seq} is missing")


def lines_of(events: Sequence[AgentEvent]) -> list[bytes]:
    return [encode_event(event) for event in events]


def test_a_broken_line_in_place_of_previews_is_refused_and_named(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    events = without_previews(recorded("plain"))
    commit = next(
        place
        for place, e in enumerate(events)
        if isinstance(e, ContentDelta) and isinstance(e.delta, CommitPart)
    )
    lines = lines_of(events)
    lines.insert(commit, b'{"v":1,"seq":7,"ts":"20')
    log.write_bytes(b"\n".join(lines) + b"\n")
    text = refusal(read_events(log))
    assert "missing; only a whole log" in text
    assert f"; line {commit + 1} of {log} is no event (" in text


def test_a_torn_tail_is_no_hindrance(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    lines = lines_of(without_previews(recorded("tools")))
    log.write_bytes(b"\n".join(lines[:15]) + b"\n" + lines[15][:50])
    for _ in range(3):
        reporter = JsonlReporter(log, deltas="none")
        with World().agent(on_and_on, reporter).resume(read_events(log)) as driver:
            drive(driver)
            drive(driver, lambda *_: True, "more")
    reader = read_events(log)
    assert read_history(reader).state.exchange_is_open is False
    assert reader.bad_count == 1


def test_two_logs_of_one_session_make_it_whole() -> None:
    events = recorded("tools")
    log = without_previews(events)
    for both in ([*log, *events], [*events, *log], [*log, *log]):
        assert read_history(both) == read_history(events)
    half = len(log) // 2
    assert read_history([*log[half:], *log[:half]]).state == read_history(events).state


def test_what_a_zombie_tells_is_superseded_without_previews_too() -> None:
    whole = recorded("tools")
    start = until(whole, ModelRequestFinished)
    resumed = without_previews(go_on(start).after)
    zombie = without_previews(whole[len(start) :])
    start = without_previews(start)
    alone = read_history([*start, *resumed]).state
    assert read_history([*start, *zombie, *resumed]).state == alone
    assert read_history([*start, *resumed, *zombie]).state == alone


def test_a_gap_of_any_length_costs_nothing() -> None:
    log = without_previews(recorded("plain"))
    place = next(place for place, event in enumerate(log) if isinstance(event, ContentDelta)) + 1
    far = [*log[:place], *(attrs.evolve(event, seq=event.seq + 10**12) for event in log[place:])]
    assert read_history(far).state.seq == log[-1].seq + 10**12
    with pytest.raises(ResumeError, match=rf"previews are missing; a replay takes {MAX_GAPS:,} at most$"):
        read_recording(far)
    stranger = attrs.evolve(log[-1], run_id="run_other", seq=10**12)
    assert "is missing" in refusal([*log, stranger]) or "are missing" in refusal([*log, stranger])
