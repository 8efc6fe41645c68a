"""Two runs side by side: what counts as a difference, and what does not."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendText, BeginPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, ModelError
from agentkit_loop.events import AgentEvent, ContentDelta, ModelRequestStarted, RunStarted, ToolResultReceived
from agentkit_loop.steps import ApprovalRequest
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedFailure, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting import (
    RunDiff,
    StepLog,
    UsageReporter,
    decode_event,
    diff_runs,
    encode_event,
    read_events,
)
from tests.cli.sample_logs import write_broken, write_fixed
from tests.loop.crash_checks import go_on
from tests.loop.crash_runs import SCENARIOS, recorded
from tests.loop.families import agent, calls, says
from tests.strategies import event_lists

ANSWER = Reply(text="Done.", usage=Usage(input_tokens=10, output_tokens=5))


def asks(name: str, text: str = "", **arguments: Any) -> Reply:
    """Return an answer that calls one tool."""
    return Reply(text=text, calls=(ScriptedCall(name=name, input=arguments),), usage=Usage(input_tokens=10))


def events_of(replies: Sequence[Reply], *, prompt: str = "go", **settings: Any) -> list[AgentEvent]:
    """Return the events of a run with two tools."""

    @tool
    def search(query: str, limit: int = 10) -> dict[str, object]:
        """Search."""
        return {"query": query, "found": list(range(min(limit, 3)))}

    @tool
    def fail(why: str) -> str:
        """Fail."""
        raise ValueError(why)

    seen = EventRecorder()
    given: dict[str, Any] = {"tools": [search, fail], "observers": [seen], **settings}
    with contextlib.suppress(ModelError), Agent(ScriptedModel(replies), **given) as made:
        made.run(prompt)
    return list(seen.events)


def signs(diff: RunDiff) -> str:
    return "".join(pair.sign for pair in diff.calls)


def count(diff: RunDiff, name: str) -> Any:
    found = diff.metric(name)
    assert found is not None
    return found.after


def test_two_runs_of_one_script_are_equal_whatever_their_ids_and_times() -> None:
    replies = [asks("search", query="a"), asks("fail", why="b"), ANSWER]
    diff = diff_runs(events_of(replies), events_of(replies))
    assert diff.is_equal
    assert diff.figures_differ == ()
    assert (diff.divergence, diff.call_divergence, signs(diff)) == (None, None, "==")
    assert diff.before.session_id != diff.after.session_id


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)  # whole events are slow to draw
@given(event_lists())
def test_whatever_a_log_says_it_is_equal_to_itself(events: list[AgentEvent]) -> None:
    try:
        diff = diff_runs(events, events)
    except ConfigurationError:  # no event
        return
    assert diff.is_equal
    assert diff.figures_differ == ()


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_a_diff_the_other_way_round_has_as_many_differences(a: list[str], b: list[str]) -> None:
    one = [*_told(a)]
    other = [*_told(b)]
    there, back = diff_runs(one, other), diff_runs(other, one)
    assert count(there, "calls_differ") == count(back, "calls_differ")
    assert signs(there).count("=") == signs(back).count("=")
    assert there.is_equal == back.is_equal == (a == b)


def _told(names: Sequence[str]) -> list[AgentEvent]:
    seen = EventRecorder()
    with EventEmitter([seen]).run(agent_name="by hand", model="m") as run:
        for name in names:
            run.record_tool_call(name, {"n": 1}, "ok")
    return list(seen.events)


def test_calls_of_one_tool_are_paired_and_their_arguments_told_path_by_path() -> None:
    before = [
        asks("search", query="a"),
        asks("search", query="b", limit=2),
        asks("search", query="c"),
        ANSWER,
    ]
    after = [asks("search", query="a"), asks("search", query="B", limit=2), asks("search", query="c"), ANSWER]
    diff = diff_runs(events_of(before), events_of(after))
    assert signs(diff) == "=~="
    changed = diff.calls[1]
    assert changed.arguments is not None
    assert [(each.path, each.before, each.after) for each in changed.arguments.values] == [
        ("query", "'b'", "'B'")
    ]
    assert changed.result is not None
    assert [each.path for each in changed.result.values] == ["query"]
    assert (count(diff, "calls_differ"), count(diff, "results_differ")) == (1, 1)
    assert diff.divergence is not None
    assert (diff.divergence.kind, diff.divergence.before_turn) == ("call", "turn-2")
    assert diff.divergence.before == 'called search(query="b", limit=2)'
    assert diff.divergence.after == 'called search(query="B", limit=2)'


def test_a_call_that_only_one_side_has_shifts_nothing() -> None:
    before = [asks("search", query="a"), asks("search", query="b"), ANSWER]
    after = [asks("fail", why="x"), asks("search", query="a"), asks("search", query="b"), ANSWER]
    diff = diff_runs(events_of(before), events_of(after))
    assert signs(diff) == "+=="
    assert [(each.name, each.before, each.after) for each in diff.metrics if each.name == "calls.fail"] == [
        ("calls.fail", 0, 1)
    ]
    assert (count(diff, "errors"), count(diff, "failed_calls")) == (1, 1)


def test_a_result_that_differs_alone_is_seen_with_its_outcome() -> None:
    events = events_of([asks("search", query="a"), ANSWER])
    other = [
        attrs.evolve(event, output="broken", is_error=True)
        if isinstance(event, ToolResultReceived)
        else event
        for event in events
    ]
    diff = diff_runs(events, other)
    assert signs(diff) == "~"
    assert diff.calls[0].arguments is None
    assert diff.calls[0].outcome_differs
    assert diff.divergence is not None
    assert (diff.divergence.kind, diff.call_divergence) == ("result", None)


def test_answers_inputs_and_settings_are_compared() -> None:
    before = events_of([Reply(text="All 41 tests pass.")], prompt="test it", system="Be brief.")
    after = events_of([Reply(text="All 42 tests pass.")], prompt="test it!", system="Be long.", tools=[])
    diff = diff_runs(before, after)
    assert [each.name for each in diff.settings] == ["system", "tools"]
    assert (count(diff, "text_differs"), count(diff, "input_differs")) == (1, 1)
    assert diff.final is not None
    assert diff.final.change is not None
    assert diff.final.change.text is not None
    assert [piece for piece in diff.final.change.text.pieces if piece[0] in "-+"] == [
        ("-", "41 "),
        ("+", "42 "),
    ]
    assert diff.divergence is not None
    assert diff.divergence.kind == "input"


def test_previews_that_one_log_lacks_are_no_difference() -> None:
    events = events_of([asks("search", "First a search.", query="a"), ANSWER])
    previews = (AppendText, BeginPart)
    bare = [
        each for each in events if not (isinstance(each, ContentDelta) and isinstance(each.delta, previews))
    ]
    assert len(bare) < len(events)
    diff = diff_runs(events, bare)
    assert diff.is_equal
    assert diff.figures_differ == ()


def test_what_is_masked_is_equal_to_anything_and_said_so() -> None:
    events = events_of([asks("search", query="password hunter2"), ANSWER])
    masked = [decode_event(encode_event(each).replace(b"hunter2", b"[redacted:secret]")) for each in events]
    for one, other in ((events, masked), (masked, events)):
        diff = diff_runs(one, other)
        assert diff.is_equal
        assert signs(diff) == "="
        assert diff.masked == 2  # the arguments, and the result that repeats them


def test_a_log_that_is_given_twice_counts_once() -> None:
    events = events_of([asks("search", query="a"), ANSWER])
    diff = diff_runs(events, [*events, *events])
    assert diff.is_equal
    assert diff.figures_differ == ()


def test_a_resumed_session_is_compared_over_its_runs_and_without_what_was_superseded() -> None:
    whole = events_of([asks("search", query="a"), asks("search", query="b"), ANSWER])
    place = next(n for n, each in enumerate(whole) if isinstance(each, ToolResultReceived))
    start = next(each for each in whole if isinstance(each, RunStarted))
    again = attrs.evolve(
        start,
        run_id="run-2",
        resumed_run=start.run_id,
        resumed_after=whole[place].seq,
        seq=whole[place].seq + 1,
    )
    rest = [attrs.evolve(each, run_id="run-2", seq=each.seq + 1) for each in whole[place + 1 :]]
    resumed = [*whole[: place + 1], again, *rest]
    diff = diff_runs(whole, resumed)
    assert signs(diff) == "=="
    assert [each.sign for each in diff.answers] == ["=", "=", "="]
    late = [*whole[:-4], again, *rest]  # the first process was not dead, and told on
    assert signs(diff_runs(resumed, late)) == "=="
    assert count(diff_runs(resumed, late), "text_differs") == 0


@pytest.mark.parametrize("where", ["behind", "before", "among"])
@pytest.mark.parametrize("name", ["plain", "tools", "retries"])
def test_what_a_process_told_that_was_not_dead_is_no_difference_wherever_it_stands(
    name: str, where: str
) -> None:
    events = recorded(name)
    for end in range(3, len(events) - 1, 4):
        resumed = go_on(events[:end], **SCENARIOS[name].options).events
        old, new = events[end:], resumed[end:]
        if any(isinstance(event, RunStarted) for event in old):
            continue
        log = [*resumed, *old]
        if where == "before":
            log = [*events[:end], *old, *new]
        elif where == "among":
            pairs = itertools.zip_longest(old, new)
            log = [*events[:end], *(event for pair in pairs for event in pair if event is not None)]
        diff = diff_runs(resumed, log)
        assert diff.is_equal, (end, diff.divergence)


@pytest.mark.parametrize("is_behind", [True, False])
def test_what_was_used_is_what_the_usage_reporter_adds_up_also_of_two_processes(is_behind: bool) -> None:
    events = recorded("plain")
    started = next(n for n, event in enumerate(events) if isinstance(event, ModelRequestStarted))
    resumed = go_on(events[:started], **SCENARIOS["plain"].options).events
    old, new = events[started:], resumed[started:]
    log = [*events[:started], *new, *old] if is_behind else [*events[:started], *old, *new]
    usage = UsageReporter()
    for event in log:
        usage.handle_event(event)
    assert count(diff_runs(resumed, log), "tokens") == usage.total.usage.total_tokens


def test_the_answer_of_a_run_that_failed_behind_a_call_is_not_its_final_one() -> None:
    cut = events_of(
        [
            asks("search", "I look.", query="a"),
            Reply(fail=ScriptedFailure(error_class="invalid_request", message="no")),
        ]
    )
    final = diff_runs(events_of([asks("search", "I look.", query="a"), ANSWER]), cut).final
    assert final is not None
    assert (final.sign, final.after) == ("-", None)


def test_arguments_are_shown_in_the_order_in_which_they_were_given() -> None:
    (call,) = diff_runs(
        events_of([asks("search", query="a", limit=2), ANSWER]),
        events_of([asks("search", limit=2, query="a"), ANSWER]),
    ).calls
    assert call.sign == "="
    assert call.before is not None
    assert call.before.arguments == '(query="a", limit=2)'


def test_a_session_that_waited_for_an_approval_in_between_is_equal_to_one_that_ran_through() -> None:
    @tool(approval=True)
    def pay(amount: int) -> int:
        """Pay."""
        return amount

    replies = [asks("pay", amount=3), ANSWER]
    through, halted = EventRecorder(), EventRecorder()
    with Agent(ScriptedModel(replies), tools=[pay], observers=[through], approve=lambda _: True) as made:
        made.run("go")
    with Agent(ScriptedModel(replies), tools=[pay], observers=[halted]) as made:
        assert made.run("go").status == "suspended"
    with (
        Agent(ScriptedModel(replies[1:]), tools=[pay], observers=[halted]) as made,
        made.resume(list(halted.events)) as driver,
    ):
        for step in driver:
            if isinstance(step, ApprovalRequest):
                step.approve()
    diff = diff_runs(through.events, halted.events)
    assert diff.is_equal
    assert diff.figures_differ == ("runs",)


def test_sub_agents_count_in_the_figures_and_are_compared_behind_their_calls() -> None:
    def family(answer: str, tokens: int) -> list[AgentEvent]:
        seen = EventRecorder()
        child = agent("child", [calls("helper_tool", n=1), says(answer, tokens=tokens)], tools=[_helper()])
        parent = agent(
            "parent",
            [calls("child", prompt="go", tokens=2), says("done")],
            tools=[child.as_tool(description="Help.")],
            observers=[seen],
        )
        parent.run("go")
        return list(seen.events)

    diff = diff_runs(family("yes", 3), family("no", 30))
    assert (diff.before.agent, diff.before.children) == ("parent", 1)
    cost = diff.metric("cost")
    assert cost is not None
    assert (cost.before, cost.after, cost.change) == (Decimal(5), Decimal(32), Decimal(27))
    ((name, child),) = diff.children
    assert (name, child.before.agent, child.is_equal) == ("child", "child", False)
    assert count(child, "text_differs") == 1
    assert count(diff, "text_differs") == 1
    assert not diff.is_equal
    assert count(diff, "calls") == 2


def _helper() -> Any:
    @tool
    def helper_tool(n: int) -> int:
        """Count."""
        return n

    return helper_tool


def test_a_log_of_several_sessions_needs_to_know_which() -> None:
    one, other = events_of([ANSWER]), events_of([asks("search", query="a"), ANSWER])
    both = [*one, *other]
    with pytest.raises(
        ConfigurationError, match=r"before refused because it holds 2 sessions: .*; say which one"
    ):
        diff_runs(both, one)
    names = [events[0].session_id for events in (one, other)]
    diff = diff_runs(both, both, session_before=names[0], session_after=names[1][-8:])
    assert signs(diff) == "+"
    with pytest.raises(ConfigurationError, match="session 'nobody' of after refused; it holds"):
        diff_runs(one, one, session_after="nobody")
    with pytest.raises(ConfigurationError, match="before refused because it holds no event"):
        diff_runs([], one)
    path: Any = "run.jsonl"
    with pytest.raises(ConfigurationError, match="is a path; give its events"):
        diff_runs(path, one)


def test_unknown_is_not_zero_and_a_lower_bound_is_told_as_one() -> None:
    priced = events_of([says("hi", tokens=3)])
    diff = diff_runs(priced, priced)
    cost = diff.metric("cost")
    assert cost is not None
    assert (cost.before, cost.change, cost.before_at_least) == (None, None, True)
    silent = events_of([Reply(text="hi")])
    tokens = diff_runs(priced, silent).metric("tokens")
    assert tokens is not None
    assert (tokens.before, tokens.after) == (3, None)


def test_step_logs_are_compared_by_their_calls_and_figures(tmp_path: Path) -> None:
    logs = []
    for number, write in enumerate((write_fixed, write_broken)):
        events, steps = tmp_path / f"{number}.jsonl", tmp_path / f"steps-{number}.jsonl"
        write(events)
        with StepLog(steps) as log:
            for event in read_events(events):
                log.handle_event(event)
        logs.append((list(read_events(events)), StepLog.read(steps)))
    (fixed, fixed_steps), (broken, broken_steps) = logs
    by_events, by_steps = diff_runs(fixed, broken), diff_runs(fixed_steps, broken_steps)
    assert sorted(signs(by_steps)) == sorted(signs(by_events))
    for name in ("cost", "tokens", "turns", "requests", "retries", "calls", "errors", "tool_time"):
        one, other = by_events.metric(name), by_steps.metric(name)
        assert one is not None
        assert other is not None
        if name != "errors":  # that a run failed is not in its steps
            assert (one.before, one.after) == (other.before, other.after), name
    mixed = diff_runs(fixed, fixed_steps)
    assert (mixed.is_equal, mixed.settings, mixed.divergence) == (True, (), None)
