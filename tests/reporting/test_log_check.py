"""Whole logs under the rules: honest ones pass, and whatever was done to one is told with its place."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.content import AnyDelta, AppendText, BeginPart, CommitPart, Parent, TextPart
from agentkit_loop.errors import LogError
from agentkit_loop.events import AgentEvent, ContentDelta, RunStarted
from agentkit_reporting.codec import encode_event
from agentkit_reporting.conformance.check import MAX_KEPT_FAULTS, check_log
from agentkit_reporting.conformance.findings import Conformance
from tests.loop.scripts import Script, run_sync, scripts
from tests.rules_cases import Case
from tests.rules_told import ENDED, Told
from tests.test_rules_of_control import CASES, told


def lines(events: Iterable[AgentEvent]) -> bytes:
    return b"".join(encode_event(event) + b"\n" for event in events)


def check(events: Iterable[AgentEvent]) -> Conformance:
    return check_log(io.BytesIO(lines(events)))


def texts(found: Conformance) -> list[str]:
    return [str(fault) for fault in found.faults]


def of_session(events: Iterable[AgentEvent], session_id: str) -> list[AgentEvent]:
    return [attrs.evolve(event, session_id=session_id) for event in events]


def streamed(told: Told, chunks: int = 3) -> Told:
    """Tell one part with previews."""
    part_id = f"part-{len(told.events)}"
    pieces: list[AnyDelta] = [BeginPart(part_id, "text"), *[AppendText(part_id, "ab") for _ in range(chunks)]]
    for piece in (*pieces, CommitPart(part_id, TextPart(text="ab" * chunks))):
        told.tell(ContentDelta(request_id=told.request_id, delta=piece))
    return told


def two_answers() -> list[AgentEvent]:
    told = streamed(Told().asked()).answer().finish().say().turn().ask()
    return streamed(told).answer().finish().leave().events


# --- honest logs

OTHERWISE = {
    "numbers_have_no_gaps",
    "there_is_one_session",
    "events_belong_to_the_open_run",
    "a_run_begins_with_run_started",
    "one_run_at_a_time",
    "run_ids_are_not_used_again",
    "credentials_are_resolved_or_cancelled",
    "a_purpose_is_known",
}
"""Rules whose breach is told in other words: of numbers, of runs, or of a line that is no event."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_log_that_keeps_a_rule_is_sound_and_one_that_breaks_it_is_told_with_its_event(case: Case) -> None:
    assert check(told(case, broken=False)).is_sound
    broken = told(case, broken=True)
    found = check(broken)
    if case.rule == "times_are_utc":
        assert found.is_sound  # a log has no other times: its writer and its reader see to that
        return
    if case.rule in OTHERWISE:
        assert not found.is_sound
        return
    (fault,) = found.faults
    named = next(event for event in broken if event.seq == fault.seq)
    assert fault.type == named.type
    assert str(fault).startswith(
        f"<BytesIO>:{fault.line}: session session, event {fault.seq} ({fault.type}): "
    )


@given(script=scripts)
@settings(deadline=None, max_examples=100)
def test_every_run_of_the_loop_writes_a_sound_log(script: Script) -> None:
    events = run_sync(script).events
    found = check(events)
    assert texts(found) == []
    (session,) = found.sessions
    assert str(session) == f"complete: {len(events)} of {len(events)}"
    previews = [e for e in events if isinstance(e, ContentDelta) and isinstance(e.delta, AppendText)]
    without = check(event for event in events if event not in previews)
    assert texts(without) == []
    assert without.sessions[0].unlogged == len(previews)


def test_sessions_may_be_mixed_in_one_log() -> None:
    one, two = of_session(two_answers(), "a"), of_session(two_answers(), "b")
    found = check(itertools.chain.from_iterable(zip(one, two, strict=True)))
    assert found.is_sound
    assert [session.session_id for session in found.sessions] == ["a", "b"]


# --- files


def test_a_session_in_several_files_is_one_whatever_their_order(tmp_path: Path) -> None:
    events = Told().answered().leave().run().say().turn().ask().write().answer().finish().leave().events
    cut = next(place for place, event in enumerate(events) if place and isinstance(event, RunStarted))
    (tmp_path / "z.jsonl").write_bytes(lines(events[:cut]))
    (tmp_path / "a.jsonl").write_bytes(lines(events[cut:]))
    for names in ("za", "az", "aza"):
        found = check_log([tmp_path / f"{name}.jsonl" for name in names])
        assert texts(found) == []
        assert [session.runs for session in found.sessions] == [2]


def child_events(call_id: str) -> list[AgentEvent]:
    told = Told()
    told.run(parent=Parent(session_id="session", run_id="run-1", call_id=call_id))
    return of_session(told.say().turn().ask().write().answer().finish().leave().events, "child")


def test_a_sub_agent_may_have_a_file_of_its_own_and_stands_behind_a_call(tmp_path: Path) -> None:
    parent = Told().called().start("call-1").result("call-1").turn().ask().answer().finish().leave().events
    (tmp_path / "parent.jsonl").write_bytes(lines(parent))
    child = tmp_path / "child.jsonl"
    child.write_bytes(lines(child_events("call-1")))
    assert texts(check_log(tmp_path)) == []
    assert texts(check_log(child)) == []  # its parent may be elsewhere
    child.write_bytes(lines(child_events("call-7")))
    said = f"{child}:1: session child, event 1 (run_started): its parent's session has no call call-7"
    assert texts(check_log(tmp_path)) == [said]
    strange = attrs.evolve(
        child_events("call-1")[0], parent=Parent(session_id="session", run_id="x", call_id="c")
    )  # type: ignore[call-arg] # a RunStarted
    child.write_bytes(lines([strange]))
    assert texts(check_log(tmp_path))[0].endswith("its parent's session has no run x")


def test_what_is_no_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no such file"):
        check_log(tmp_path / "none.jsonl")


# --- numbers


def test_a_lost_event_is_one_fault_and_says_that_the_rest_cannot_be_judged() -> None:
    events = two_answers()
    found = check([*events[:3], *events[5:]])
    said = "events 4 to 5 are missing; what follows in the session is judged by its numbers alone"
    assert [fault.text for fault in found.faults] == [said]
    assert str(found.sessions[0]) == f"incomplete: {len(events) - 2} of {len(events)} (2 missing)"
    assert not found.sessions[0].is_judged


def test_a_log_that_lost_its_beginning_says_so() -> None:
    found = check(two_answers()[4:])
    (fault,) = found.faults
    assert fault.text == "begins without events 1 to 4; the session is judged by its numbers alone"


def test_a_line_that_was_written_twice_is_told() -> None:
    events = two_answers()
    (fault,) = check([*events[:6], events[5], *events[6:]]).faults
    assert (fault.line, fault.seq, fault.text) == (7, 6, "its number was told before")


def test_a_whole_log_written_twice_is_one_fault_with_its_number() -> None:
    events = two_answers()
    (fault,) = check([*events, *events]).faults
    assert str(fault).endswith(f"its number was told before (and {len(events) - 1} more like it)")


def test_lines_that_changed_places_are_told() -> None:
    events = two_answers()
    events[4], events[5] = events[5], events[4]
    found = check(events)
    assert [fault.text.partition(";")[0] for fault in found.faults] == [
        "event 5 is missing",
        "stands behind later events",
    ]


def test_a_gap_beside_a_torn_line_is_never_taken_for_previews() -> None:
    events = Told().asked()
    whole = streamed(events).answer().finish().leave().events
    place = next(
        n for n, e in enumerate(whole) if isinstance(e, ContentDelta) and isinstance(e.delta, AppendText)
    )
    log = lines(whole[:place]) + b'{"v":1,"seq":\n' + lines(whole[place + 3 :])
    found = check_log(io.BytesIO(log))
    assert [fault.line for fault in found.faults] == [place + 1, place + 2]
    assert found.faults[1].text == f"events {place + 1} to {place + 3} are missing"


# --- runs


def test_an_open_run_is_told_and_is_no_fault() -> None:
    found = check(Told().asked().events)
    assert found.is_sound
    assert found.sessions[0].open_run == "run-1"


def test_a_session_id_that_was_used_again_is_told_and_both_sessions_are_judged() -> None:
    first = two_answers()
    second = [attrs.evolve(event, run_id="other") for event in two_answers()]
    found = check([*first, *second])
    (fault,) = found.faults
    assert (fault.seq, fault.line) == (1, len(first) + 1)
    assert fault.text == "the session's id was used before, and its numbers begin again"
    assert [str(session) for session in found.sessions] == [f"complete: {len(first)} of {len(first)}"] * 2
    assert [session.not_counted for session in found.sessions] == [0, 0]
    mixed = check(itertools.chain.from_iterable(zip(first, second, strict=True)))
    assert [fault.seq for fault in mixed.faults] == [1]  # also where both go on at once
    assert [str(session) for session in mixed.sessions] == [f"complete: {len(first)} of {len(first)}"] * 2


def superseding() -> tuple[list[AgentEvent], list[AgentEvent], int]:
    """Return a run that went on, the same session as a resume has it, and how many events they share."""
    alive = (
        Told().asked().write().answer().finish().say().turn().ask().write().answer().finish().leave().events
    )
    resumed = Told().asked().fail("process_ended").break_run(ENDED).run().ask().write().answer().finish()
    shared = len(Told().asked().events)
    return alive, resumed.leave().events, shared


def test_what_a_run_told_after_a_resume_is_superseded_and_no_fault() -> None:
    alive, resumed, shared = superseding()
    found = check([*resumed, *alive[shared:]])
    assert texts(found) == []
    (session,) = found.sessions
    assert (str(session), session.not_counted) == (
        f"complete: {len(resumed)} of {len(resumed)}",
        len(alive) - shared,
    )


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_what_stands_before_the_resume_that_supersedes_it_is_left_out_too(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alive, resumed, shared = superseding()
    old, new = alive[shared:], resumed[shared:]
    log = alive[:shared]
    while old or new:  # any order in which two processes may have written
        take = data.draw(st.booleans()) if old and new else bool(old)
        log.append((old if take else new).pop(0))
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    path.write_bytes(lines(log))
    found = check_log(path)
    assert texts(found) == []
    (session,) = found.sessions
    assert (session.runs, session.last_seq, session.missing) == (2, len(resumed), 0)
    assert session.is_judged


def test_a_pipe_that_would_have_to_be_read_twice_is_refused() -> None:
    alive, resumed, shared = superseding()
    (fault,) = check([*alive, *resumed[shared:]]).faults
    assert fault.text == (
        "session session: a run went on from before event 6, which was told before it in the log; a pipe cannot be "
        "read twice: give the file"
    )


def test_two_runs_that_go_on_from_one_are_told() -> None:
    before = Told().answered().leave()
    length = len(before.events)
    one = Told().answered().leave().run().say().turn().ask().write().answer().finish().leave().events
    other = [attrs.evolve(event, run_id="run-3") for event in one[length:]]
    other[0] = attrs.evolve(other[0], run_id="run-3")
    for rest in (
        [*one[length:], *other],
        itertools.chain.from_iterable(zip(one[length:], other, strict=True)),
    ):
        (fault,) = check([*before.events, *rest]).faults
        assert fault.text == "two runs at once: run-1 was gone on from before, by run-2 at last"
        assert fault.seq == length + 1


# --- lines, versions, redactions


def test_bad_lines_are_faults_with_their_places() -> None:
    events = two_answers()
    log = lines(events[:3]) + b"no json\n" + lines(events[3:]) + b'{"v":1,"seq":99'
    found = check_log(io.BytesIO(log))
    assert [(fault.line, fault.session_id) for fault in found.faults] == [(4, None), (len(events) + 2, None)]
    assert found.bad_count == 2


def test_a_newer_version_is_told_and_what_is_unknown_is_judged_by_its_header() -> None:
    events = lines(two_answers()).split(b"\n")
    new = json.loads(events[2])
    new |= {"v": 2, "type": "of_tomorrow", "seq": 3, "payload": {"x": 1}}
    rest = [json.loads(line) for line in events[2:-1]]
    shifted = [json.dumps(line | {"seq": line["seq"] + 1}).encode() for line in rest]
    log = b"\n".join([*events[:2], json.dumps(new | {"turn_id": None}).encode(), *shifted])
    found = check_log(io.BytesIO(log))
    assert (texts(found), found.newer_version) == ([], 2)


def redacted(event: AgentEvent) -> AgentEvent:
    return attrs.evolve(event, unknown_fields={"redactions": 1})


def test_redactions_are_counted_and_what_they_mask_need_not_be_equal() -> None:
    events = Told().called(input={"key": "secret"}).start("call-1").result("call-1").events
    assert check(events).is_sound
    masked = [redacted(event) if event.type == "tool_call_requested" else event for event in events]
    place = next(n for n, event in enumerate(masked) if event.type == "tool_call_requested")
    call: Any = masked[place]
    other = type(call.call)(id="call-1", name="work", input={"key": "[redacted]"})
    masked[place] = attrs.evolve(call, call=other)
    found = check(masked)
    assert (texts(found), found.sessions[0].redactions) == ([], 1)
    masked[place] = attrs.evolve(masked[place], unknown_fields=None)
    assert check(masked).faults[0].text == "not what was committed"


# --- hostile logs


def test_faults_are_kept_up_to_a_bound_and_counted_beyond_it() -> None:
    log = encode_event(Told().run().events[0]) + b"\n" + b"x\n" * (MAX_KEPT_FAULTS + 500)
    found = check_log(io.BytesIO(log))
    assert (len(found.faults), found.fault_count) == (MAX_KEPT_FAULTS, MAX_KEPT_FAULTS + 500)


@given(st.binary(max_size=400))
def test_any_bytes_are_judged_without_an_error(content: bytes) -> None:
    check_log(io.BytesIO(content))


hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(deadline=None, max_examples=400)
def test_a_log_with_any_field_changed_is_judged_without_an_error(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    records = [json.loads(encode_event(event)) for event in told(case, broken=data.draw(st.booleans()))]
    for _ in range(data.draw(st.integers(1, 4))):
        record = data.draw(st.sampled_from(records))
        target = data.draw(st.sampled_from([record, record["payload"]]))
        if isinstance(target, dict) and target:
            target[data.draw(st.sampled_from(sorted(target)))] = data.draw(hostile)
    order = data.draw(st.permutations(records)) if data.draw(st.booleans()) else records
    check_log(io.BytesIO(b"\n".join(json.dumps(record).encode() for record in order)))


@pytest.mark.parametrize(
    "used", ["NaN", "sNaN", "1e999999", "Infinity", 10**400, -1, "9" * 5_000, True, None]
)
def test_figures_of_a_limit_that_cannot_be_compared_are_told(used: Any) -> None:
    event = {"limit": "max_tokens", "used": used, "allowed": 10}
    events = [json.loads(encode_event(event)) for event in Told().run().events]
    events.append(events[0] | {"seq": 2, "type": "budget_warning", "payload": event})
    text = "\n".join(json.dumps(each) for each in events)
    (fault,) = check_log(io.BytesIO(text.encode())).faults
    assert "no numbers" in fault.text or "not that much" in fault.text
