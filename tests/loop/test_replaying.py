"""A replay is the recorded session again: equal events, or the first place where it differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendBytes, AppendText
from agentkit_loop.differences import first_difference, has_mask, is_mask
from agentkit_loop.errors import ConfigurationError, ObserverError, ResumeError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestStarted,
    RunStarted,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
)
from agentkit_loop.limits import Limits
from agentkit_loop.recordings import named_event
from agentkit_loop.replaying import ReplayResult, areplay, comparable, replay
from agentkit_loop.testing import EventRecorder, ScriptedModel
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.usage import UsageReporter
from tests.loop.crash_checks import go_on
from tests.loop.crash_runs import (
    DONE,
    SCENARIOS,
    World,
    agreeable,
    call,
    drive,
    recorded,
    run,
    said,
)
from tests.loop.scripts import Script, make_agent, run_async, run_sync, scripts

Replay = Callable[..., ReplayResult]


def replay_async(*given: Any, **options: Any) -> ReplayResult:
    return asyncio.run(areplay(*given, **options))


@pytest.fixture(params=[replay, replay_async], ids=["sync", "async"])
def replayed(request: pytest.FixtureRequest) -> Replay:
    return request.param  # type: ignore[no-any-return] # one of the two


def check_equal(result: ReplayResult, events: Sequence[AgentEvent]) -> None:
    assert result.mismatch is None, str(result.mismatch)
    assert [comparable(event) for event in result.events] == [comparable(event) for event in events]


def agent_of(name: str) -> Agent:
    """Return the agent of a scenario; its model is never asked."""
    return World().agent([], **SCENARIOS[name].options)


# --- the same


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_path_comes_out_as_it_was_recorded(name: str, replayed: Replay) -> None:
    events = recorded(name)
    check_equal(replayed(agent_of(name), events), events)


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_agent_rebuilt_from_the_log_is_enough(name: str) -> None:
    events = recorded(name)
    check_equal(replay(None, events), events)


@settings(max_examples=60)
@given(scripts)
def test_random_sessions_of_both_drivers_come_out_as_they_were_recorded(script: Script) -> None:
    for driven in (run_sync, run_async):
        events = driven(script).events
        check_equal(replay(make_agent(script)[0], events), events)
        check_equal(replay(None, events), events)


@pytest.mark.parametrize("name", ["tools at once", "approved", "compacted", "retries", "pending"])
def test_a_session_that_crashed_anywhere_and_was_resumed_comes_out_the_same(name: str) -> None:
    events = recorded(name)
    for end in range(1, len(events)):
        went = go_on(events[:end], **SCENARIOS[name].options)
        check_equal(replay(agent_of(name), went.events), went.events)
        check_equal(replay(None, went.events), went.events)


@pytest.mark.parametrize("name", ["plain", "approved", "compacted", "cut stream"])
def test_the_log_of_a_process_that_died_comes_out_up_to_there(name: str) -> None:
    events = recorded(name)
    for end in range(1, len(events)):
        check_equal(replay(agent_of(name), events[:end]), events[:end])


def test_a_fork_is_a_session_of_its_own() -> None:
    events = recorded("tools")
    world = World()
    with world.agent([DONE]).fork(events, at=20, session_id="fork") as driver:
        drive(driver)
    check_equal(replay(World().agent([]), world.events), world.events)


def test_the_event_of_a_session_behind_a_call_is_not_needed(replayed: Replay) -> None:
    asked: list[str] = []

    def answer(request: Any) -> str:
        asked.append(request.request_id)
        return "from the child"

    child = Agent(ScriptedModel(answer), name="child")
    world = World()
    options = {"tools": [child.as_tool(description="Ask it.")]}
    with world.agent([said(call("child", prompt="x")), DONE], **options).start(session_id="root") as driver:
        drive(driver, agreeable, "go")
    events = [event for event in world.events if event.session_id == "root"]
    assert asked == ["request-1"]
    result = replayed(World().agent([], **options), world.events, live_tools=True)
    check_equal(result, events)
    assert asked == ["request-1"]  # the agent behind the call is not run


def test_a_log_without_previews_comes_out_without_them() -> None:
    for name in ("tools", "cancelled at 11", "cut stream", "interrupted"):
        events = [event for event in recorded(name) if not is_preview(event)]
        for agent in (agent_of(name), None):
            check_equal(replay(agent, events), events)


def is_preview(event: AgentEvent) -> bool:
    return isinstance(event, ContentDelta) and isinstance(event.delta, (AppendText, AppendBytes))


# --- what it tells


def test_observers_see_the_recorded_times_durations_and_costs() -> None:
    events = recorded("approved")
    live, again = UsageReporter(), UsageReporter()
    for event in events:
        live.handle_event(event)
    recorder = EventRecorder()
    result = replay(agent_of("approved"), events, observers=[again, recorder])
    assert again.render() == live.render()
    assert tuple(recorder.events) == result.events
    assert [event.timestamp for event in recorder.events] == [event.timestamp for event in events]
    durations = [event.duration_ms for event in events if isinstance(event, ToolResultReceived)]
    assert [event.duration_ms for event in recorder.of(ToolResultReceived)] == durations
    assert {event.run_id for event in recorder.events}.isdisjoint({event.run_id for event in events})


def test_the_agents_own_observers_are_told_nothing() -> None:
    world = World()
    assert replay(world.agent([]), recorded("tools")).is_equal
    assert (world.events, world.bodies) == ([], [])


def test_what_an_observer_raises_ends_the_replay() -> None:
    def fail(event: AgentEvent) -> None:
        raise ValueError(f"broken by {event.type}")

    with pytest.raises(ObserverError, match="failed on event 1"):
        replay(None, recorded("plain"), observers=[fail])


def test_only_what_may_differ_is_blank() -> None:
    first, second = run(SCENARIOS["approved"]).events, run(SCENARIOS["approved"]).events
    assert [comparable(event) for event in first] == [comparable(event) for event in second]
    started = first[0]
    assert isinstance(started, RunStarted)
    assert comparable(started) != comparable(attrs.evolve(started, agent_name="other"))
    assert comparable(started) == comparable(attrs.evolve(started, run_id="other"))
    finished = next(event for event in first if isinstance(event, TurnFinished))
    assert comparable(finished) == comparable(attrs.evolve(finished, duration_ms=1e9))
    assert comparable(finished) != comparable(attrs.evolve(finished, item_count=99))


# --- what differs


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"system": "be unkind"}, "system: recorded 'be kind', now 'be unkind'"),
        ({"parameters": {"effort": "low"}}, "parameters.effort: recorded nothing, now 'low'"),
        ({"name": "other"}, "events[1].agent_name: recorded 'crashing', now 'other'"),
    ],
)
def test_another_configuration_is_found_with_its_path_and_both_values(
    options: dict[str, Any], difference: str, replayed: Replay
) -> None:
    result = replayed(World().agent([], **options), recorded("tools"))
    assert str(result.mismatch) == difference
    assert not result.is_equal


def test_other_words_of_a_tool_are_found_in_the_first_request() -> None:
    def work(*, fails: bool = False) -> str:
        """Work twice."""
        return f"worked {fails}"

    tools = [tool(work), *World().tools()[1:]]
    result = replay(World().agent([], tools=tools), recorded("tools"))
    assert str(result.mismatch) == "tools.work.description: recorded 'Work once.', now 'Work twice.'"
    assert isinstance(result.events[-1], ModelRequestStarted)


def test_another_order_of_the_tools_is_a_difference() -> None:
    result = replay(World().agent([], tools=World().tools()[::-1]), recorded("tools"))
    assert str(result.mismatch) == "tools[0]: recorded 'work', now 'login'"


def test_a_stricter_limit_is_found_where_it_ends_the_exchange() -> None:
    result = replay(World().agent([], limits=Limits(max_turns=1)), recorded("tools"))
    assert str(result.mismatch).endswith(": recorded turn_started, now budget_exceeded")


def test_an_event_of_another_kind_is_named_with_its_tool_and_call() -> None:
    events = recorded("tools")
    started = next(event for event in events if isinstance(event, ToolExecutionStarted))
    asking = [attrs.evolve(made, approval=True) for made in World().tools()]
    found = replay(World().agent([], tools=asking), events).mismatch
    assert found is not None
    assert str(found).startswith(
        f"event {started.seq}: recorded tool_execution_started ({started.name}, {started.call_id}), "
        "now approval_required"
    )
    assert found.path == f"events[{started.seq}].type"
    assert found.recorded == named_event(started, events)


def test_a_result_that_was_edited_in_the_log_is_refused() -> None:
    events = recorded("tools")
    events = [
        attrs.evolve(event, output="something else") if isinstance(event, ToolResultReceived) else event
        for event in events
    ]
    with pytest.raises(ResumeError, match="does not fit the transcript"):
        replay(None, events)


def test_an_end_that_does_not_follow_is_found() -> None:
    events = recorded("plain")
    edited = [
        attrs.evolve(event, item_count=7) if isinstance(event, TurnFinished) else event for event in events
    ]
    place = next(event.seq for event in events if isinstance(event, TurnFinished))
    assert str(replay(None, edited).mismatch) == f"events[{place}].item_count: recorded 7, now 2"


def test_a_gap_is_refused() -> None:
    events = recorded("tools")
    with pytest.raises(ResumeError, match="missing"):
        replay(None, [*events[:5], *events[6:]])


# --- tools that really run


def look_of(answers: Iterable[str], *, asynchronous: bool) -> Any:
    left = iter(answers)

    def look(what: str = "") -> str:
        """Look."""
        del what
        return next(left)

    async def alook(what: str = "") -> str:
        """Look."""
        await asyncio.sleep(0)
        return look(what)

    return tool(alook if asynchronous else look, name="look", description="Look.")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_live_tools_that_say_the_same_are_equal(replayed: Replay, asynchronous: bool) -> None:
    events = looked(["a", "b"])
    agent = World().agent([], tools=[look_of("ab", asynchronous=asynchronous)])
    check_equal(replayed(agent, events, live_tools=True), events)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_first_live_result_that_differs_shows_in_the_next_request(
    replayed: Replay, asynchronous: bool
) -> None:
    agent = World().agent([], tools=[look_of(["a", "c"], asynchronous=asynchronous)])
    result = replayed(agent, looked(["a", "b"]), live_tools=True)
    assert str(result.mismatch) == "messages[4].content[0].content: recorded 'b', now 'c'"
    assert [event.output for event in result.events if isinstance(event, ToolResultReceived)] == ["a", "c"]


def looked(answers: list[str]) -> list[AgentEvent]:
    world = World()
    replies = [*(said(call("look")) for _ in answers), DONE]
    with world.agent(replies, tools=[look_of(answers, asynchronous=False)]).start() as driver:
        drive(driver, agreeable, "go")
    return world.events


def test_live_tools_get_a_placeholder_for_a_credential() -> None:
    events = recorded("approved")
    world = World()
    check_equal(replay(world.agent([]), events, live_tools=True), events)
    assert ("login", "call-4", 2) in world.bodies
    assert not any(b"swordfish" in repr(event).encode() for event in events)


def test_a_live_tool_that_takes_too_long_is_answered_as_the_loop_does() -> None:
    events = looked(["a"])

    def look(context: ToolContext, what: str = "") -> str:
        """Look."""
        del what
        context.wait_cancelled(60)
        return "late"

    slow = tool(look, description="Look.", timeout_s=0.01)
    result = replay(World().agent([], tools=[slow]), events, live_tools=True)
    assert "did not finish within 0.01 seconds" in str(result.mismatch)


def test_live_tools_need_an_agent() -> None:
    with pytest.raises(ConfigurationError, match="give the one that has the tools"):
        replay(None, recorded("plain"), live_tools=True)


def test_no_body_runs_unless_it_is_asked_for() -> None:
    world = World()
    assert replay(world.agent([]), recorded("tools at once")).is_equal is False  # one body at a time
    assert replay(agent_of("tools at once"), recorded("tools at once")).is_equal
    assert world.bodies == []


# --- redacted logs


def test_a_mask_is_equal_to_anything() -> None:
    assert is_mask("[redacted]")
    assert is_mask("[redacted:api_key]")
    assert not is_mask("x [redacted]")
    assert not is_mask(None)
    assert has_mask({"a": ["x [redacted] y"]})
    for now in ("", "x", 1, None, {"a": 1}):
        assert first_difference({"a": "[redacted:key]"}, {"a": now}) is None
    for now in ("key=abc, on", "key=, on"):
        assert first_difference("key=[redacted], on", now) is None
    for now in ("key=abc", "kex=abc, on", ", on", "key, on"):
        assert first_difference("key=[redacted], on", now) is not None
    assert first_difference("a[redacted]b[redacted]c", "a-b-b-c") is None
    assert first_difference("a[redacted]b[redacted]c", "a--c") is not None


def test_a_redacted_log_is_replayed_with_its_masks() -> None:
    for agent in (World().agent([], system="be kind to 4711"), None):
        result = replay(agent, [redacted(event) for event in secret_session()])
        assert result.is_equal, str(result.mismatch)
    other = World().agent([], system="be unkind to 4711")
    found = replay(other, [redacted(event) for event in secret_session()]).mismatch
    assert str(found) == "system: recorded 'be kind to [redacted:pin]', now 'be unkind to 4711'"


def secret_session() -> list[AgentEvent]:
    world = World()
    calls = said(call("gated", what="pin 4711"), text="I use 4711. ")
    with world.agent([calls, DONE], system="be kind to 4711").start("the pin is 4711") as driver:
        drive(driver)
    return world.events


def redacted(event: AgentEvent) -> AgentEvent:
    """Mask a secret wherever it stands in an event, as the log of a later version does."""
    line = encode_event(event)
    masked = line.replace(b"4711", b"[redacted:pin]")
    if masked == line:
        return event
    return attrs.evolve(decode_event(masked), unknown_fields={"redactions": 1})
