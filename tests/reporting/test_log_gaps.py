"""What a check says of events that are missing: previews that were not logged, and others."""

from __future__ import annotations

import threading
from pathlib import Path

import attrs

from agentkit_loop.content import AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.observers import LoopObserver
from agentkit_reporting import ChannelReporter, JsonlReporter
from agentkit_reporting.conformance.check import check_log
from tests.reporting.test_log_check import check, streamed, two_answers
from tests.rules_told import Told


def test_previews_that_were_not_logged_are_no_fault() -> None:
    events = two_answers()
    is_preview = [isinstance(e, ContentDelta) and isinstance(e.delta, AppendText) for e in events]
    without = [event for event, preview in zip(events, is_preview, strict=True) if not preview]
    found = check(without)
    assert found.is_sound
    said = f"complete: {len(without)} of {len(events)} (6 previews not logged)"
    assert str(found.sessions[0]) == said


def test_previews_that_are_missing_where_the_run_shows_others_are_told_as_what_they_are() -> None:
    events = two_answers()
    previews = [
        place
        for place, event in enumerate(events)
        if isinstance(event, ContentDelta) and isinstance(event.delta, AppendText)
    ]
    for place in previews:
        found = check([*events[:place], *events[place + 1 :]])
        (fault,) = found.faults
        assert (fault.seq, fault.line) == (place + 2, place + 1)
        said = "they can be previews, which the run shows elsewhere: dropped or lost"
        assert fault.text == f"event {place + 1} is missing; {said}"
        assert str(found.sessions[0]) == f"incomplete: {len(events) - 1} of {len(events)} (1 missing)"
        assert found.sessions[0].is_judged
    (fault,) = check(event for place, event in enumerate(events) if place not in previews[1:]).faults
    first, last = previews[1] + 1, previews[2] + 1
    assert fault.text.startswith(f"events {first} to {last} are missing, and 3 more in the run; they can be")


def test_more_missing_than_can_be_previews_is_told_where_it_is_missing() -> None:
    told = Told().asked()
    part_id, pieces = "part", ["ab", "cd", "ef"]
    told.tell(ContentDelta(request_id=told.request_id, delta=BeginPart(part_id, "text")))
    for piece in pieces:
        told.tell(ContentDelta(request_id=told.request_id, delta=AppendText(part_id, piece))).use()
    told.tell(ContentDelta(request_id=told.request_id, delta=CommitPart(part_id, TextPart(text="abcdef"))))
    events = told.answer().finish().leave().events
    usages = [place for place, event in enumerate(events) if event.type == "usage_updated"][1:4]

    found = check([event for place, event in enumerate(events) if place != usages[1]])
    (fault,) = found.faults
    assert (fault.seq, fault.line) == (usages[1] + 2, usages[1] + 1)
    assert fault.text == f"event {usages[1] + 1} is missing; the whole text is there"
    assert str(found.sessions[0]).endswith("(1 missing)")
    assert found.sessions[0].is_judged

    # Five are gone, and with them two characters.
    left = [event for place, event in enumerate(events) if not usages[0] <= place <= usages[2] - 2]
    left = [event for event in left if event is not events[usages[2]]]
    first = usages[0] + 1
    (fault,) = check(left).faults
    said = f"events {first} to {first + 2} are missing, and 1 more before the request ends; only 2 can be previews"
    assert fault.text == said


def test_a_gap_that_hides_the_end_of_a_part_is_never_taken_for_previews() -> None:
    events = two_answers()
    commit = next(
        n for n, e in enumerate(events) if isinstance(e, ContentDelta) and isinstance(e.delta, CommitPart)
    )
    finished = next(n for n, e in enumerate(events) if e.type == "model_request_finished")
    found = check([*events[: commit - 1], *events[finished:]])
    said = [fault.text for fault in found.faults]
    assert (
        f"events {commit} to {finished} are missing; not only previews, since the end of a part is among them"
        in said
    )
    assert found.sessions[0].missing == finished - commit + 1
    end = len(events) - 1
    found = check([*events[: commit - 1], *events[end:]])
    assert found.sessions[0].missing == end - commit + 1


def test_what_is_missing_of_a_request_that_outlives_its_run_is_counted_once() -> None:
    told = streamed(Told().asked())
    events = told.leave().run().answer().finish().leave().events
    place = next(n for n, e in enumerate(events) if isinstance(e, ContentDelta)) + 1
    commit = next(
        n for n, e in enumerate(events) if isinstance(e, ContentDelta) and isinstance(e.delta, CommitPart)
    )
    (session,) = check([*events[:place], *events[place + 1 : commit], *events[commit + 1 :]]).sessions
    assert (session.missing + session.unlogged, session.unlogged >= 0) == (2, True)


def test_a_log_behind_a_channel_that_dropped_previews_says_no_less_than_the_channel(tmp_path: Path) -> None:
    class Gated(LoopObserver):
        def __init__(self, inner: JsonlReporter) -> None:
            self.inner = inner
            self.opened = threading.Event()

        def handle_event(self, event: AgentEvent) -> None:
            self.opened.wait()
            self.inner.handle_event(event)

    log = JsonlReporter(tmp_path / "run.jsonl", redact=False)
    gated = Gated(log)
    channel = ChannelReporter.threaded(gated, maxsize=12)
    for event in (events := two_answers()):
        channel.handle_event(event)
        if event is events[-8]:
            gated.opened.set()  # the first answer had no room for its previews
    assert not channel.close()
    log.close()
    found = check_log(tmp_path / "run.jsonl")
    (fault,) = found.faults
    assert "they can be previews" in fault.text
    assert found.sessions[0].missing == channel.account().lost == channel.account().dropped > 0


def test_a_log_whose_ids_are_empty_is_counted_as_any_other() -> None:
    events = [attrs.evolve(event, session_id="", run_id="") for event in two_answers()]
    assert check(events).is_sound
    found = check([events[5], events[2], events[7]])
    assert [fault.text for fault in found.faults] == [
        "begins without events 1 to 5; the session is judged by its numbers alone",
        "stands behind later events",
        "more is missing before it",
    ]
    assert str(found.sessions[0]) == "incomplete: 2 of 8 (6 missing)"
