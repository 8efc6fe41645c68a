"""A debug replay goes over every event of a session, forwards and back, and knows at each point what was true there."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendBytes, AppendText
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.testing import ScriptedModel
from agentkit_loop.tools import tool
from agentkit_reporting import DebugReplay, JsonlReporter, UsageReporter, encode_event, read_events
from agentkit_reporting.analysis.debug_store import LineStore
from agentkit_reporting.analysis.debug_titles import TITLE_COLUMNS
from agentkit_reporting.cli.debug_page import DebugPage
from agentkit_reporting.page import Glyphs, TerminalStream
from agentkit_reporting.terminal import columns_of
from tests.cli.sample_logs import write_broken, write_fixed
from tests.loop.crash_runs import SCENARIOS, recorded
from tests.loop.scripts import Script, run_sync, scripts
from tests.reporting.debug_folds import expected, facts_of, last_event
from tests.strategies import event_lists

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def kinds(replay: DebugReplay) -> list[str]:
    return [step.kind for step in replay]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    write_fixed(path)
    return path


# --- what a step is


def test_the_steps_are_the_moments_of_a_session_and_each_says_what_it_is(log: Path) -> None:
    replay = DebugReplay.open(log)
    calls = [step for step in replay if step.kind == "tool_call"]
    assert [step.tool for step in calls] == ["read_file", "edit_file", "run_tests"]
    assert calls[0].duration_ms == 40
    assert calls[0].title.startswith('read_file(path="parser.py") -> # parser.py def parse')
    assert [step.kind for step in replay][:4] == ["run_started", "input", "turn", "model_request"]
    assert [step.title for step in replay if step.kind == "approval"][1:] == ["approved, edit_file"]
    failed = next(step for step in replay if step.status == "failed")
    assert (failed.kind, failed.title) == ("model_request", "overloaded: the model is overloaded")
    assert [step.number for step in replay] == list(range(1, len(replay) + 1))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_event_is_of_one_step_and_no_preview_is_a_step(name: str) -> None:
    events = recorded(name)
    replay = DebugReplay(events)
    stored = [
        event
        for event in events
        if not (isinstance(event, ContentDelta) and isinstance(event.delta, (AppendText, AppendBytes)))
    ]
    assert [event.seq for event in replay.events()] == [event.seq for event in stored]
    assert replay[-1].last_seq == events[-1].seq
    assert all(step.first_seq <= step.last_seq for step in replay)
    ends = [last_event(events, step) for step in replay if not step.is_superseded]
    assert ends == sorted(ends)


def test_the_content_of_a_step_is_what_was_said_and_given(log: Path) -> None:
    replay = DebugReplay.open(log)
    answered = replay.content(3)
    assert [part["kind"] for part in answered["parts"]] == ["reasoning", "text", "tool_call"]
    call = next(place for place, step in enumerate(replay) if step.tool == "read_file")
    assert replay.content(call)["input"] == {"path": "parser.py"}
    assert str(replay.content(call)["output"]).startswith("# parser.py")


# --- going through it


@settings(max_examples=25, deadline=None)
@given(script=scripts, data=st.data())
def test_seeking_anywhere_is_stepping_there_from_the_beginning(script: Script, data: st.DataObject) -> None:
    events = run_sync(script).events
    replay = DebugReplay(events)
    place = data.draw(st.integers(0, len(replay)))
    replay.seek(place)
    stepped = DebugReplay(events)
    for _ in range(place):
        stepped.state()
        assert stepped.step() is not None
    assert replay.state() == stepped.state()
    assert replay.current == stepped.current


@settings(max_examples=25, deadline=None)
@given(script=scripts, data=st.data())
def test_the_state_at_each_point_is_the_fold_of_all_before_it(script: Script, data: st.DataObject) -> None:
    events = run_sync(script).events
    replay = DebugReplay(events)
    for number in data.draw(st.lists(st.integers(1, len(replay)), max_size=12)):
        prefix = events[: last_event(events, replay[number - 1]) + 1]
        assert facts_of(replay.state_after(number)) == expected(prefix)


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_every_scenario_the_state_at_each_point_is_the_fold_of_all_before_it(name: str) -> None:
    events = recorded(name)
    replay = DebugReplay(events)
    for step in replay:
        assert facts_of(replay.state_after(step.number)) == expected(events[: last_event(events, step) + 1])
        assert replay.state_after(step.number).misfits == 0


@settings(max_examples=25, deadline=None)
@given(script=scripts, data=st.data())
def test_a_step_back_after_a_step_is_where_one_was(script: Script, data: st.DataObject) -> None:
    replay = DebugReplay(run_sync(script).events)
    replay.seek(data.draw(st.integers(0, len(replay) - 1)))
    position, state = replay.position, replay.state()
    went = replay.step()
    assert replay.back() == went
    assert (replay.position, replay.state()) == (position, state)


def test_at_both_ends_there_is_nothing_more(log: Path) -> None:
    replay = DebugReplay.open(log)
    assert replay.back() is None
    assert replay.current is None
    replay.seek(len(replay))
    assert replay.step() is None
    assert replay.current == replay[-1]
    replay.reset()
    assert (replay.position, replay.state().seq, replay.state().transcript) == (0, 0, ())


def test_seeking_to_the_length_is_legal_and_past_it_an_index_error(log: Path) -> None:
    replay = DebugReplay.open(log)
    replay.seek(len(replay))
    for wrong in (len(replay) + 1, -len(replay) - 1):
        with pytest.raises(IndexError, match="refused; give"):
            replay.seek(wrong)
    assert replay.position == len(replay)
    replay.seek(-1)
    assert replay.position == len(replay) - 1
    with pytest.raises(IndexError):
        replay[len(replay)]


def test_the_totals_at_the_end_are_those_of_the_usage_reporter(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    write_fixed(log)
    write_broken(log)
    usage = UsageReporter()
    for event in read_events(log):
        usage.handle_event(event)
    for session_id in ("fix-1", "fix-2"):
        replay = DebugReplay.open(log, session_id)
        assert replay.state_after(len(replay)).totals == usage.by_session[session_id]


# --- filters and search


def test_a_filter_goes_over_the_steps_that_match_and_the_state_is_of_all_before(log: Path) -> None:
    whole = DebugReplay.open(log)
    calls = whole.filter(kind="tool_call", tool=["run_tests", "edit_file"])
    assert [step.tool for step in calls] == ["edit_file", "run_tests"]
    assert (len(calls), calls.position, len(whole.filter(tool="nobody"))) == (2, 0, 0)
    went = calls.step()
    assert went is not None
    assert calls.state() == whole.state_after(went.number)
    assert len(calls.state().transcript) == 5
    calls.seek(2)
    with pytest.raises(IndexError):
        calls.seek(3)
    assert calls.filter(tool="run_tests")[0].tool == "run_tests"
    calls.seek_number(went.number + 1)
    assert calls.current == calls[1]


def test_a_kind_may_be_called_as_step_logs_do_and_an_unknown_one_is_refused(log: Path) -> None:
    replay = DebugReplay.open(log)
    assert kinds(replay.filter(kind="llm_call")) == ["model_request"] * 5
    with pytest.raises(ConfigurationError, match="did you mean 'tool_call'"):
        replay.filter(kind="toolcall")


def test_a_search_finds_what_titles_and_contents_say_whatever_the_case(log: Path) -> None:
    replay = DebugReplay.open(log)
    found = replay.search("EACH.strip")
    assert {replay[index].tool or replay[index].kind for index in found} == {"edit_file", "model_request"}
    for name in ("nowhere", "finish_reason", "input_tokens", "request-1", "fix-1"):
        assert replay.search(name) == (), name
    assert [replay[index].kind for index in replay.search("overloaded")] == ["model_request"]
    assert len(replay.filter(kind="tool_call").search("parser.py")) == 2
    with pytest.raises(ConfigurationError, match="empty"):
        replay.search("")


def test_a_search_looks_through_quotes_newlines_and_letters_of_all_scripts() -> None:
    @tool
    def say(text: str) -> str:
        """Say."""
        return f'he said "{text}"\nund GRÜSSE aus 東京'

    events: list[AgentEvent] = []
    with Agent(
        ScriptedModel([{"calls": [{"name": "say", "input": {"text": "x"}}]}, "ok"]),
        tools=[say],
        observers=[events.append],
    ) as agent:
        agent.run("go")
    replay = DebugReplay(events)
    for text in ('said "x"', '"\nund', "grüsse", "東京"):
        assert [replay[index].kind for index in replay.search(text)] == ["tool_call"], text


# --- editing and comparing


def test_an_edit_gives_another_replay_and_leaves_this_one(log: Path) -> None:
    replay = DebugReplay.open(log)
    place = next(place for place, step in enumerate(replay) if step.tool == "read_file")
    before = list(replay)
    edited = replay.edit(place, output="other text", status="failed")
    assert list(replay) == before
    assert not replay.is_edited
    assert (edited[place].is_edited, edited[place].is_stale) == (True, False)
    assert edited[place].title.endswith("failed -> other text")
    assert [step.is_stale for step in edited] == [step.number > place + 1 for step in edited]
    assert edited.content(place)["output"] == "other text"
    assert not edited.state_after(place).is_stale
    assert edited.state_after(place + 1).is_stale
    assert edited.search("other text") == (place,)


def test_any_fact_can_be_edited_whatever_its_name(log: Path) -> None:
    replay = DebugReplay.open(log)
    turn = next(index for index, step in enumerate(replay) if step.kind == "turn")
    assert replay.edit(turn, index=7).content(turn)["index"] == 7


def test_the_content_of_a_step_is_json_to_its_last_list(log: Path) -> None:
    replay = DebugReplay.open(log)
    for index in range(len(replay)):
        content = replay.content(index)
        assert json.loads(json.dumps(content)) == content


def test_a_second_edit_keeps_the_first_and_staleness_begins_at_the_earlier_one(log: Path) -> None:
    replay = DebugReplay.open(log)
    twice = replay.edit(6, status="denied").edit(3, model="another")
    assert [place for place, step in enumerate(twice) if step.is_edited] == [3, 6]
    assert twice[4].is_stale
    assert not twice[3].is_stale


def test_a_field_that_a_step_does_not_have_is_refused_with_the_nearest_right_one(log: Path) -> None:
    replay = DebugReplay.open(log)
    place = next(place for place, step in enumerate(replay) if step.tool == "read_file")
    with pytest.raises(ConfigurationError, match="did you mean 'output'"):
        replay.edit(place, outptu="x")
    for wrong in ({"status": "fine"}, {"duration_ms": -1}, {"duration_ms": True}, {"title": 3}, {"tool": 3}):
        with pytest.raises(ConfigurationError, match="refused"):
            replay.edit(place, **wrong)
    with pytest.raises(ConfigurationError, match="changes nothing"):
        replay.edit(place)
    with pytest.raises(IndexError):
        replay.edit(len(replay), status="ok")


def test_a_difference_names_field_before_and_after(log: Path) -> None:
    replay = DebugReplay.open(log)
    place = next(place for place, step in enumerate(replay) if step.tool == "read_file")
    edited = replay.edit(place, input={"path": "lexer.py"}, duration_ms=3.0)
    difference = replay.difference(edited)
    assert [(each.field, each.before, each.after) for each in difference.changes] == [
        ("duration_ms", 40.0, 3.0),
        ("input.path", "parser.py", "lexer.py"),
    ]
    assert difference.changes[0].before_number == place + 1
    assert "input.path" in str(difference)
    assert not replay.difference(DebugReplay.open(log))
    titled = replay.difference(replay.edit(place, title="mine"))
    assert [each.field for each in titled.changes] == ["title"]


def test_a_difference_names_missing_steps_on_either_side(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    write_fixed(log)
    write_broken(log)
    one, other = DebugReplay.open(log, "fix-1"), DebugReplay.open(log, "fix-2")
    there, back = one.difference(other), other.difference(one)
    gone = [each.step.kind for each in there.missing if each.missing_in == "after"]
    assert gone.count("approval") == 2
    assert [each.step for each in there.missing if each.missing_in == "after"] == [
        each.step for each in back.missing if each.missing_in == "before"
    ]
    assert "only before: approval" in str(there)


# --- sources


def test_a_packed_log_and_the_events_in_memory_give_the_same_steps(log: Path) -> None:
    packed = log.with_name("packed.jsonl.gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    steps = list(DebugReplay.open(log))
    assert list(DebugReplay.open(packed)) == list(DebugReplay(read_events(log))) == steps


def test_a_log_without_previews_has_the_same_steps_and_states(tmp_path: Path) -> None:
    events = recorded("tools")
    reporter = JsonlReporter(tmp_path / "none.jsonl", deltas="none")
    for event in events:
        reporter.handle_event(event)
    reporter.close()
    bare, whole = DebugReplay.open(tmp_path / "none.jsonl"), DebugReplay(events)
    assert list(bare) == list(whole)
    for number in range(len(whole) + 1):
        assert bare.state_after(number) == whole.state_after(number)


def test_of_several_sessions_the_last_is_taken_or_the_one_whose_id_ends_so(tmp_path: Path) -> None:
    log = tmp_path / "two.jsonl"
    write_fixed(log)
    write_broken(log)
    last = DebugReplay.open(log)
    assert (last.session_id, last.other_sessions) == ("fix-2", ("fix-1",))
    assert [(each.agent, each.outcome) for each in last.sessions] == [
        ("fixer", "completed"),
        ("fixer", "failed"),
    ]
    assert DebugReplay.open(log, "-1").session_id == "fix-1"
    with pytest.raises(ConfigurationError, match="no id there ends so: 'fix-1', 'fix-2'"):
        DebugReplay.open(log, "fix-3")
    with pytest.raises(ConfigurationError, match="no id there ends so"):
        DebugReplay.open(log, "x")


def test_a_torn_log_is_replayed_and_says_what_was_bad(log: Path) -> None:
    log.write_bytes(b"no json\n" + log.read_bytes()[:-40])
    replay = DebugReplay.open(log)
    assert (replay.bad_count, replay.bad[0].line) == (2, 1)
    assert replay[-1].kind == "exchange_ended"
    with pytest.raises(LogError, match=r"run\.jsonl:1"):
        DebugReplay.open(log, strict=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_log_that_was_cut_anywhere_is_replayed_as_far_as_it_goes(name: str) -> None:
    events = recorded(name)
    for end in range(1, len(events), 11):
        replay = DebugReplay(events[:end])
        assert facts_of(replay.state_after(len(replay))) == expected(events[:end])
        last = max(step.last_seq for step in replay)
        assert last == end


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_log_without_its_beginning_is_replayed_as_far_as_it_can_be_understood(name: str) -> None:
    events = recorded(name)
    for begin in range(1, len(events), 17):
        replay = DebugReplay(events[begin:])
        replay.seek(len(replay))
        assert replay.state().seq == events[-1].seq
        assert replay.search("x") is not None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe garbage\n", b"\n\n", b"{}\n"])
def test_a_file_with_nothing_to_replay_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.jsonl").write_bytes(content)
    with pytest.raises(LogError, match=r"empty\.jsonl: nothing to replay because .*; give a log"):
        DebugReplay.open(tmp_path / "empty.jsonl")


def test_what_is_neither_event_nor_record_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"DebugReplay.open\('run.jsonl'\)"):
        DebugReplay("run.jsonl")
    with pytest.raises(ConfigurationError, match="no event and no record"):
        DebugReplay([{"type": "note"}])
    with pytest.raises(ConfigurationError, match="nothing to replay"):
        DebugReplay([])


@settings(max_examples=40, deadline=None)
@given(events=event_lists(max_size=12))
def test_events_that_make_no_sense_together_are_replayed_all_the_same(events: list[AgentEvent]) -> None:
    if not events:
        return
    replay = DebugReplay(events)
    page, out = DebugPage(replay, 80, Glyphs()), TerminalStream(io.StringIO(), colour=False, width=80)
    for place, step in enumerate(replay):
        state = replay.state_after(step.number)
        lines = [page.row(step), *page.head(step, len(replay)), *page.facts(replay.content(place))]
        lines += [*page.state(state, is_event_log=True), *page.transcript(state)]
        for line in lines:
            shown = out.line(line)
            assert _CONTROLS.findall(shown) == ["\n"]
            assert columns_of(shown[:-1]) <= 80 + 20  # a status or a mark may stand behind a narrow title
        assert not _CONTROLS.search(step.title)
        assert len(step.title) <= TITLE_COLUMNS
        assert replay.edit(place, status="ok").difference(replay) is not None
        assert replay.search(step.title[:3] or "x") is not None
    assert sum(1 for _ in replay.events()) <= len(events)


# --- many lines


def test_a_long_session_is_found_again_from_copies_on_the_way() -> None:
    big = "word " * 4_000
    events: list[AgentEvent] = []

    @tool
    def read() -> str:
        """Read."""
        return f"{len(events)} {big}"

    replies = [{"calls": [{"name": "read", "input": {}}]} for _ in range(300)]
    with Agent(ScriptedModel([*replies, "done"]), tools=[read], observers=[events.append]) as agent:
        agent.run("go")
    replay = DebugReplay(events)
    order = [(7 * number) % len(replay) for number in range(0, len(replay), 37)]
    for number in [len(replay), *order]:
        last = replay[number - 1].last_seq if number else 0
        assert facts_of(replay.state_after(number)) == expected(events[:last]) or not number


@given(lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b""))), data=st.data())
def test_a_store_gives_back_its_lines(lines: list[bytes], data: st.DataObject) -> None:
    many = [line * 3_000 for line in lines]
    store = LineStore()
    for line in many:
        store.append(line)
    first = data.draw(st.integers(0, len(many)))
    assert [line for _, line in store.lines(first, len(many))] == many[first:]
    assert [line for _, block in store.blocks() for line in block] == many


def test_encoding_is_what_a_log_has(log: Path) -> None:
    lines = log.read_bytes().splitlines()
    kept = {encode_event(event) for event in DebugReplay.open(log).events()}
    assert kept <= set(lines)
