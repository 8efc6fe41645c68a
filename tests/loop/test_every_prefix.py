"""A process may end at any event: whatever is left of its log, the session goes on and keeps every rule."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent, RunStarted, ToolExecutionStarted, ToolResultReceived, TurnStarted
from agentkit_loop.resuming import read_history
from agentkit_loop.state import LoopState
from agentkit_loop.testing import ScriptedModel
from agentkit_reporting.codec import encode_event
from agentkit_reporting.log.read import read_events
from tests.loop.crash_checks import IDEMPOTENT, go_on, resumed_of, what_is_wrong
from tests.loop.crash_runs import SCENARIOS, Host, agreeable, recorded, refusing
from tests.loop.scripts import Script, run_async, run_sync, scripts
from tests.rules import faults


def wrong_prefixes(name: str, *, asynchronous: bool, host: Host) -> dict[int, list[str]]:
    """Cut a scenario's session after each event, go on, and return what is wrong by the place of the cut."""
    events = recorded(name)
    assert faults(events) == []
    options = SCENARIOS[name].options
    found: dict[int, list[str]] = {}
    for end in range(1, len(events) + 1):
        wrong = what_is_wrong(go_on(events[:end], asynchronous=asynchronous, host=host, **options))
        if wrong:
            found[end] = wrong
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_session_goes_on_from_every_prefix(name: str) -> None:
    assert wrong_prefixes(name, asynchronous=False, host=agreeable) == {}


@pytest.mark.parametrize("name", ["tools", "approved", "compacted", "retries", "cancelled at 30"])
def test_a_session_goes_on_from_every_prefix_on_an_event_loop(name: str) -> None:
    assert wrong_prefixes(name, asynchronous=True, host=agreeable) == {}


@pytest.mark.parametrize("name", ["approved", "pending twice", "approved, then cancelled"])
def test_a_host_may_refuse_what_was_approved_before_the_crash(name: str) -> None:
    assert wrong_prefixes(name, asynchronous=False, host=refusing) == {}


@pytest.mark.parametrize("name", ["tools", "approved", "compacted", "interrupted in a round"])
def test_a_resume_may_be_cut_as_well(name: str) -> None:
    events = recorded(name)
    options = SCENARIOS[name].options
    for end in range(1, len(events) + 1, 5):
        once = go_on(events[:end], **options).events
        for again in range(end + 1, len(once) + 1, 3):
            went = go_on(once[:again], **options)
            assert what_is_wrong(went) == []


@pytest.mark.parametrize("name", ["tools", "pending twice", "compacted"])
def test_a_suspended_session_is_as_good_as_a_cut_one(name: str) -> None:
    """Folding what a resume told gives the state that it went on with."""
    events = recorded(name)
    for end in range(1, len(events) + 1):
        folded = LoopState()
        for event in events[:end]:
            folded.apply(event)
        assert read_history(events[:end]).state == folded


def test_ids_count_on_and_nothing_is_told_twice() -> None:
    events = recorded("approved")
    for end in range(1, len(events) + 1):
        told = go_on(events[:end]).events
        assert [event.seq for event in told] == list(range(1, len(told) + 1))
        assert len({event.run_id for event in told}) == 1 + len(resumed_of(told))
        turns = [event.turn_id for event in told if isinstance(event, TurnStarted)]
        assert turns == [f"turn-{number}" for number in range(1, len(turns) + 1)]
        for field in ("approval_id", "auth_id"):
            asked = [getattr(event, field) for event in told if event.type == f"{field[:-3]}_required"]
            assert asked == [f"{field[:-3]}-{number}" for number in range(1, len(asked) + 1)]
        results = [event.call_id for event in told if isinstance(event, ToolResultReceived)]
        assert len(set(results)) == len(results)


def test_a_cut_at_any_byte_loses_no_more_than_its_line() -> None:
    lines = [encode_event(event) + b"\n" for event in recorded("tools")]
    whole = b"".join(lines)
    step = 7  # every byte of a log of 20 kB would take a minute
    ends = sorted({*range(len(lines[0]), len(whole), step), *(len(whole) - byte for byte in range(40))})
    before = -1
    for end in ends:
        complete = (
            whole[: end + 1].count(b"\n") if whole[end : end + 1] == b"\n" else whole[:end].count(b"\n")
        )
        reader = read_events(io.BytesIO(whole[:end]))
        assert read_history(reader).state.seq == complete
        if complete != before:
            assert what_is_wrong(go_on(list(read_events(io.BytesIO(whole[:end]))))) == []
            before = complete


def _is_sound(told: Sequence[AgentEvent]) -> None:
    """Check a chain of runs that needs no more than its events to be judged."""
    assert faults(told) == []
    starts: dict[str, int] = {}
    for event in told:
        if isinstance(event, ToolExecutionStarted):
            starts[event.call_id] = starts.get(event.call_id, 0) + 1
            assert starts[event.call_id] == 1 or event.name in IDEMPOTENT


def _go_on_with_script(events: Sequence[AgentEvent]) -> list[AgentEvent]:
    """Go on with a session of a random script, whose tools this process does not have any more."""
    told = list(events)
    agent = Agent(ScriptedModel(lambda _: "That is all."), observers=[told.append])
    with agent.resume(list(events)) as driver:
        for _ in driver:
            pass
        driver.run("more")
    return told


@settings(max_examples=60, deadline=None)
@given(script=scripts, asynchronous=st.booleans(), cuts=st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_random_sessions_go_on_from_anywhere(script: Script, asynchronous: bool, cuts: list[float]) -> None:
    events: list[AgentEvent] = (run_async if asynchronous else run_sync)(script).events
    for cut in cuts:
        events = events[: max(1, round(cut * len(events)))]
        assert isinstance(events[0], RunStarted)
        events = _go_on_with_script(events)
        _is_sound(events)
