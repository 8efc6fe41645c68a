"""Logs that no run told: a plan that makes a transcript grow, an item that is there twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
import pytest

from agentkit_loop.content import Item
from agentkit_loop.errors import ResumeError
from agentkit_loop.events import (
    AgentEvent,
    CompactionFinished,
    CompactionStarted,
    CustomEvent,
    InputAccepted,
    RunStarted,
    TurnStarted,
)
from agentkit_loop.resuming import read_history
from agentkit_loop.transcript import planned, ranges_rise
from agentkit_reporting.transcript import TranscriptReporter
from tests.loop.crash_checks import go_on, what_is_wrong
from tests.loop.crash_runs import DONE, World, drive, recorded, until


def refusal(events: Sequence[AgentEvent], **options: Any) -> str:
    """Return the sentence with which a resume and a fork are refused."""
    said = []
    for going_on in (World().agent([DONE]).resume, World().agent([DONE]).fork):
        with pytest.raises(ResumeError) as caught:
            going_on(events, **options if going_on.__name__ == "resume" else {})
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    return said[0]


def with_plans(*plans: Any) -> list[AgentEvent]:
    """Return a session with compactions of these plans before its first request."""
    events: list[AgentEvent] = list(until(recorded("plain"), TurnStarted))
    first = events[-1]
    for plan in plans:
        for event in (
            CompactionStarted(reason="items", item_count=1),
            CompactionFinished(strategy="s", plan=plan, item_count=1, error=None),
        ):
            header = {name: getattr(first, name) for name in ("session_id", "run_id", "turn_id", "timestamp")}
            events.append(attrs.evolve(event, seq=len(events) + 1, **header))
    return events


@pytest.mark.parametrize(
    "plan",
    [
        ((0, 1), (0, 1)),
        ((0, 2),),
        ((1, 2),),
        ((0, 0),),
        ((1, 0),),
        ((-1, 1),),
        ((0, -1),),
        ((0, 10**9),),
    ],
)
def test_a_plan_that_no_run_tells_is_refused(plan: Any) -> None:
    events = with_plans(plan)
    place = len(events)
    assert refusal(events, force=True) == (
        f"session session: event {place} (compaction_finished) does not follow from those before it; "
        "the log was edited or is not whole"
    )


def test_a_transcript_never_holds_more_than_the_log_told() -> None:
    view = TranscriptReporter()
    for event in with_plans(*[((0, 2**number), (0, 2**number), (0, -1)) for number in range(60)]):
        view.handle_event(event)
    assert len(view.items("session")) == 1


def test_a_plan_that_is_sound_keeps_its_ranges_in_order() -> None:
    items = [Item.user(str(number)) for number in range(6)]
    new = Item.user("new")
    for plan, rise, kept in (
        (((0, 2), new, (4, 6)), True, [*items[:2], new, *items[4:]]),
        (((0, 4), (2, 6)), False, items),
        (((4, 6), (0, 2)), False, items[4:]),
        ((new, new), True, [new, new]),
        ((), True, []),
    ):
        assert ranges_rise(6, plan) is rise
        assert planned(items, plan) == kept


def test_a_compaction_that_was_not_begun_or_twice_is_refused() -> None:
    events = with_plans(((0, 1),))
    for place in (-2, -1):
        left = [*events[:place], *events[place:][1:]]
        log = [attrs.evolve(event, seq=seq) for seq, event in enumerate(left, 1)]
        if place == -2:
            assert "does not follow" in refusal(log)
        else:
            again = attrs.evolve(log[-1], seq=len(log) + 1)
            assert "does not follow" in refusal([*log, again])


def renamed(event: AgentEvent, item_id: str) -> AgentEvent:
    """Return an event that brings items, with the id of its first one changed."""
    assert isinstance(event, (InputAccepted, RunStarted))
    first, *others = event.items
    return attrs.evolve(event, items=(msgspec.structs.replace(first, id=item_id), *others))


@pytest.mark.parametrize("item_id", ["item-1", "item-2", "item-3"])
def test_an_item_with_the_id_of_another_is_refused_by_resume_and_fork(item_id: str) -> None:
    events = recorded("plain")
    place = len(until(events, InputAccepted, 2)) - 1
    log = [*events[:place], renamed(events[place], item_id), *events[place + 1 :]]
    if item_id == "item-3":  # its own
        assert read_history(log).state == read_history(events).state
        return
    assert refusal(log, force=True) == (
        f"session session: event {place + 1} (input_accepted) brings a second item of the id {item_id!r}; "
        "the log was edited after it was written"
    )


def test_an_item_that_stands_twice_in_one_event_or_in_a_plan_is_refused() -> None:
    events = recorded("plain")
    first = events[1]
    assert isinstance(first, InputAccepted)
    twice = attrs.evolve(first, items=(*first.items, *first.items))
    assert "brings a second item of the id 'item-1'" in refusal([events[0], twice, *events[2:]])
    told = msgspec.structs.replace(Item.user("new"), id="item-1")
    assert "brings a second item of the id 'item-1'" in refusal(with_plans(((0, 1), told)))
    waiting = recorded("interjected anywhere")
    place = len(until(waiting, InputAccepted, 2)) - 1
    again = attrs.evolve(renamed(waiting[place], "mine"), seq=place + 2)
    log = [*waiting[:place], renamed(waiting[place], "mine"), again]
    assert "brings a second item of the id 'mine'" in refusal(log)


def test_a_hosts_own_ids_may_be_used_again_once_their_items_are_gone() -> None:
    item = msgspec.structs.replace(Item.user("mine"), id="mine")
    events = recorded("compacted")
    gone = next(
        event.seq for event in events if isinstance(event, CompactionFinished) and event.plan is not None
    )
    went = go_on([renamed(event, "mine") if event.seq == 2 else event for event in events[:gone]])
    assert what_is_wrong(went) == []
    world = World(events=list(went.events))
    with world.agent(lambda _: DONE).resume(went.events) as driver:
        driver.submit(item)
        drive(driver)
    assert read_history(world.events).state.transcript.items == driver.transcript.items


def test_nothing_is_offered_that_cannot_be_done() -> None:
    events = recorded("tools")
    item = msgspec.structs.replace(Item.user("something else"), id="item-1")
    first = events[1]
    assert isinstance(first, InputAccepted)
    log = [events[0], attrs.evolve(first, items=(item,)), *events[2:]]
    for force, offered in ((None, False), (False, True)):
        for broken in (log, [*events, *recorded("tools")]):
            with pytest.raises(ResumeError) as caught:
                read_history(broken, force=force)
            assert ("force" in str(caught.value)) is offered
    with pytest.raises(ResumeError) as caught:
        World().agent([]).fork(log)
    assert "force" not in str(caught.value)


def test_a_long_log_of_a_hosts_own_ids_is_read_in_one_pass() -> None:
    """How long it takes is measured elsewhere; quadratic work would not end within the suite."""
    events = recorded("nothing")[:1]
    first = events[0]
    header = {name: getattr(first, name) for name in ("session_id", "run_id", "turn_id", "timestamp")}
    for seq in range(2, 30_002):
        item = msgspec.structs.replace(Item.user("x"), id=f"mine-{seq}")
        events.append(attrs.evolve(InputAccepted(items=(item,)), seq=seq, **header))
    assert len(read_history(events).state.transcript.items) == 30_000
    again = attrs.evolve(events[-1], seq=30_002)
    assert "brings a second item of the id 'mine-30001'" in refusal([*events, again])


def test_one_number_told_very_often_is_refused_at_once() -> None:
    first = recorded("nothing")[0]
    header = {name: getattr(first, name) for name in ("session_id", "run_id", "turn_id", "timestamp")}
    told = [attrs.evolve(CustomEvent(name=str(number)), seq=1, **header) for number in range(30_000)]
    assert "event 1 stands in the log twice and says two things" in refusal([first, *told])
