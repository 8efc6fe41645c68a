"""BEHAVIOUR 41: compactions that fail, are cancelled or meet a limit, and what a session keeps of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from agentkit_loop.compaction import Compaction, KeepRecent, Plan, SummariseOlder, SummaryWanted
from agentkit_loop.content import Item
from agentkit_loop.events import (
    BudgetExceeded,
    CancelRequested,
    CompactionFinished,
    CompactionStarted,
    ModelRequestFinished,
    ModelRequestRetrying,
    TurnFinished,
    TurnStarted,
)
from agentkit_loop.limits import Limits
from agentkit_loop.models.anthropic_wire import wire_body
from agentkit_loop.testing import Reply, ScriptedFailure
from agentkit_loop.usage import Usage
from tests.loop.hosts import Opened, Run, both
from tests.loop.test_compacting import ROUND, add, provider_takes, purposes


class Broken:
    """A strategy of a host that does not work."""

    name = "broken"

    def __init__(self, made: Any) -> None:
        self.made = made

    def plan(self, items: Sequence[Item], /) -> Plan | SummaryWanted:
        assert len(items) > 4  # what is due
        if isinstance(self.made, Exception):
            raise self.made
        made: Plan = self.made
        return made


@both
@pytest.mark.parametrize(
    "made",
    [
        ValueError("no idea"),
        ((0, 2),),
        ((4, 5),),
        ((0, 99),),
        ((0, 5), (0, 5)),
        (),
        None,
        "all",
        (3,),
        ((0, 5),),
        SummaryWanted(items=("text",)),  # type: ignore[arg-type] # no Item is the point
        SummaryWanted(items=(), model="small"),  # type: ignore[arg-type] # the same
    ],
)
def test_a_strategy_that_fails_or_would_break_a_pair_changes_nothing(opened: Opened, made: Any) -> None:
    run = Run([ROUND, ROUND, "done"], tools=[add], compaction=Compaction(strategy=Broken(made), max_items=4))
    with opened(run) as host:
        assert host.run("go").text == "done"
    (finished,) = run.of(CompactionFinished)
    assert (finished.plan, finished.item_count, finished.strategy) == (None, 5, "broken")
    assert finished.error is not None
    assert purposes(run) == ["turn"] * 3
    assert run.faults == []


@both
def test_what_did_not_help_is_tried_again_no_more_often_than_once_a_turn(opened: Opened) -> None:
    run = Run(
        [ROUND, ROUND, ROUND, "done"],
        tools=[add],
        compaction=Compaction(strategy=Broken(ValueError("no idea")), max_items=2),
    )
    with opened(run) as host:
        assert host.run("go").text == "done"
    assert 1 <= len(run.of(CompactionStarted)) <= len(run.of(TurnStarted)) - 1
    assert run.faults == []


# --- cancels and limits


@both
def test_a_cancel_in_the_middle_closes_the_compaction(opened: Opened) -> None:
    run = Run(
        [ROUND, ROUND, Reply(text="the story so far", chunk_chars=4), "as ever", "as ever"],
        tools=[add],
        compaction=Compaction(strategy=SummariseOlder(keep_items=2), max_items=4),
    )
    with opened(run) as host:
        told: list[int] = []

        def cancel(event: Any) -> None:
            if event.type == "content_delta" and event.request_id == "request-3" and not told:
                told.append(event.seq)
                host.cancel()

        host.add_observer(cancel)
        assert host.run("go").finish_reason == "cancelled"
        assert len(host.transcript.items) == 5
        host.remove_observer(cancel)
        assert host.run("and now").text == "as ever"
    assert run.told(CancelRequested, CompactionFinished, TurnFinished)[:3] == [
        "cancel_requested",
        "compaction_finished",
        "turn_finished",
    ]
    cut = [event for event in run.of(ModelRequestFinished) if event.finish_reason == "cancelled"]
    assert [event.request_id for event in cut] == ["request-3"]
    assert run.faults == []


@both
def test_a_cancel_between_two_attempts_of_a_summary_closes_it(opened: Opened) -> None:
    run = Run(
        [ROUND, ROUND, Reply(fail=ScriptedFailure()), "never"],
        tools=[add],
        compaction=Compaction(strategy=SummariseOlder(keep_items=2), max_items=4),
    )
    with opened(run) as host:
        host.add_observer(lambda event: host.cancel() if isinstance(event, ModelRequestRetrying) else None)
        assert host.run("go").finish_reason == "cancelled"
    (finished,) = run.of(CompactionFinished)
    assert finished.plan is None
    assert run.faults == []


@both
def test_a_limit_that_a_first_summary_used_up_is_told_before_the_next_one(opened: Opened) -> None:
    dear = Reply(text=" ", usage=Usage(input_tokens=100, output_tokens=0))
    strategies = [SummariseOlder(keep_items=2), SummariseOlder(keep_items=3)]
    run = Run(
        [ROUND, ROUND, dear, "never"],
        tools=[add],
        limits=Limits(max_tokens=100),
        compaction=Compaction(strategy=strategies, max_items=4),
    )
    with opened(run) as host:
        assert host.run("go").finish_reason == "limit"
    assert len(run.of(BudgetExceeded)) == 1
    assert purposes(run) == ["turn", "turn", "compaction"]
    assert run.faults == []


# --- over a session


@both
def test_the_transcript_follows_over_many_turns_and_a_resume(opened: Opened) -> None:
    run = Run(
        [*([ROUND] * 7), "one", *([ROUND] * 3), "two"],
        tools=[add],
        compaction=Compaction(strategy=KeepRecent(items=3), max_items=5),
    )
    with opened(run) as host:
        assert host.run("go").text == "one"
    resume = run.agent.resume if opened.__name__ == "sync_host" else run.agent.aresume
    events = list(run.recorder.events)
    with opened(run, make=lambda: resume(events)) as host:
        assert host.run("and now").text == "two"
    assert len(run.of(CompactionFinished)) > 2
    assert max(len(request.items) for request in run.model.requests) <= 5
    provider_takes(run)
    assert run.faults == []


@both
def test_what_stands_before_the_first_change_stays_byte_for_byte(opened: Opened) -> None:
    run = Run([ROUND] * 6 + ["done"], tools=[add], system="be kind")
    with opened(run) as host:
        host.run("go")
    sent = [msgspec.json.encode(wire_body(request)["messages"]) for request in run.model.requests]
    for shorter, longer in itertools.pairwise(sent):
        assert longer.startswith(shorter[:-1])


@both
def test_input_that_waits_during_a_compaction_joins_after_it(opened: Opened) -> None:
    run = Run(
        [ROUND, ROUND, "the story", "done", "and that"],
        tools=[add],
        compaction=Compaction(strategy=SummariseOlder(keep_items=2), max_items=4),
    )
    with opened(run) as host:
        host.add_observer(lambda event: host.submit("more") if event.type == "compaction_started" else None)
        host.run("go")
        assert "more" in [item.text for item in host.transcript.items]
    provider_takes(run)
    assert run.faults == []
