"""BEHAVIOUR "Compaction" in a run: when, by whom, what fails, and what the prompt cache keeps."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agentkit_loop.compaction import Compaction, KeepRecent, SummariseOlder
from agentkit_loop.errors import ModelError
from agentkit_loop.events import (
    CompactionFinished,
    CompactionStarted,
    ModelRequestFailed,
    ModelRequestRetrying,
    ModelRequestStarted,
    TurnFinished,
    TurnStarted,
    UsageUpdated,
)
from agentkit_loop.models.anthropic_wire import wire_body
from agentkit_loop.retry import Retry
from agentkit_loop.testing import Reply, ScriptedFailure, ScriptedModel, check_messages
from agentkit_loop.usage import Usage
from tests.loop.hosts import Opened, Run, asking, both, call


def add(a: int = 1, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


ROUND = asking(call("add"))
SPINE = (
    TurnStarted,
    CompactionStarted,
    CompactionFinished,
    ModelRequestStarted,
    ModelRequestFailed,
    TurnFinished,
)


def purposes(run: Run) -> list[str]:
    return [event.purpose for event in run.of(ModelRequestStarted)]


def provider_takes(run: Run) -> None:
    """Every request of a turn is one that the provider's rules allow."""
    for request in run.model.requests:
        body = {"model": "m", "max_tokens": 9, **wire_body(request)}
        assert check_messages(body) is None, request.request_id


# --- when


@both
def test_more_items_than_allowed_are_shortened_before_the_next_request(opened: Opened) -> None:
    run = Run(
        [ROUND, ROUND, ROUND, "done"],
        tools=[add],
        compaction=Compaction(strategy=KeepRecent(items=2), max_items=4),
    )
    with opened(run) as host:
        assert host.run("go").text == "done"
    started, again = run.of(CompactionStarted)
    finished, _ = run.of(CompactionFinished)
    assert again.reason == started.reason
    assert (started.item_count, started.reason) == (5, "5 items, more than max_items=4")
    assert (finished.strategy, finished.item_count, finished.error) == ("keep_recent", 3, None)
    assert [len(request.items) for request in run.model.requests] == [1, 3, 3, 3]
    assert finished.token_count is not None
    assert run.told(*SPINE)[4:8] == [
        "turn_started",
        "compaction_started",
        "compaction_finished",
        "model_request_started",
    ]
    provider_takes(run)
    assert run.faults == []


@both
def test_a_share_of_the_window_triggers_by_the_tokens_of_the_last_request(opened: Opened) -> None:
    used = Usage(input_tokens=50, cached_input_tokens=25, output_tokens=1)
    run = Run(
        [
            msgspec.structs.replace(ROUND, usage=used),
            msgspec.structs.replace(ROUND, usage=None),
            ROUND,
            "done",
        ],
        tools=[add],
        compaction=Compaction(strategy=KeepRecent(items=1), context_window=100, max_share=0.75),
    )
    with opened(run) as host:
        assert host.run("go").text == "done"
    (started,) = run.of(
        CompactionStarted
    )  # the requests after it reported nothing: nothing is known any more
    assert started.token_count == 75
    assert started.reason == "75 input tokens, at least 75% of context_window=100"
    assert run.faults == []


@both
def test_nothing_is_due_without_a_trigger(opened: Opened) -> None:
    run = Run([ROUND, "done"], tools=[add], compaction=Compaction(strategy=KeepRecent(items=1), max_items=50))
    with opened(run) as host:
        host.run("go")
    assert run.of(CompactionStarted) == []


@both
def test_an_exceeded_context_is_shortened_and_the_request_made_again(opened: Opened) -> None:
    refused = Reply(fail=ScriptedFailure(error_class="context_exceeded"))
    run = Run(
        [ROUND, ROUND, refused, "done"], tools=[add], compaction=Compaction(strategy=KeepRecent(items=2))
    )
    with opened(run) as host:
        assert host.run("go").text == "done"
    assert run.of(CompactionStarted)[0].reason == "context_exceeded"
    assert run.told(*SPINE)[-5:] == [
        "model_request_failed",
        "compaction_started",
        "compaction_finished",
        "model_request_started",
        "turn_finished",
    ]
    assert len(run.of(TurnStarted)) == 3  # all of it in one turn
    assert run.of(ModelRequestStarted)[-1].attempt == 1
    assert [len(request.items) for request in run.model.requests] == [1, 3, 5, 3]
    provider_takes(run)
    assert run.faults == []


@both
@pytest.mark.parametrize("when", ["again", "off", "unable", "none"])
def test_a_context_that_stays_exceeded_fails_the_exchange(opened: Opened, when: str) -> None:
    refused = Reply(fail=ScriptedFailure(error_class="context_exceeded"))
    compaction = {
        "again": Compaction(strategy=KeepRecent(items=2)),
        "off": Compaction(strategy=KeepRecent(items=2), max_items=50, on_context_exceeded=False),
        "unable": Compaction(strategy=KeepRecent(items=40)),
        "none": None,
    }[when]
    run = Run([ROUND, ROUND, refused, refused], tools=[add], compaction=compaction)
    with pytest.raises(ModelError, match="context_exceeded"), opened(run) as host:
        host.run("go")
    assert len(run.of(CompactionStarted)) == (when in {"again", "unable"})
    assert len(run.of(ModelRequestFailed)) == 1 + (when == "again")
    assert run.faults == []


# --- a summary


@both
def test_a_summary_of_the_agents_own_model_reads_the_same_prefix(opened: Opened) -> None:
    used = Usage(input_tokens=5, output_tokens=2)
    run = Run(
        [ROUND, ROUND, Reply(text="the story so far", usage=used), "done"],
        tools=[add],
        system="be kind",
        parameters={"temperature": 1},
        compaction=Compaction(strategy=SummariseOlder(keep_items=2), max_items=4),
    )
    with opened(run) as host:
        result = host.run("go")
        assert (result.text, result.usage) == ("done", used)
        summary = host.transcript.items[0]
        assert summary.kind == "user"
        assert summary.text.endswith("the story so far")
        assert [item.kind for item in host.transcript.items] == ["user", "assistant", "tool", "assistant"]
        assert len({item.id for item in host.transcript.items}) == 4
    assert purposes(run) == ["turn", "turn", "compaction", "turn"]
    before, asked, after = run.model.requests[1:]
    assert (asked.purpose, asked.system, asked.tools, asked.parameters) == (
        "compaction",
        before.system,
        before.tools,
        before.parameters,
    )
    assert asked.items[:-1] == before.items[: len(asked.items) - 1]
    assert after.system == "be kind"
    digests = [event.digests for event in run.of(ModelRequestStarted)]
    assert len({(d["tools"], d["system"], d["settings"]) for d in digests}) == 1
    assert [event.request_id for event in run.of(UsageUpdated)].count("request-3") == 2
    provider_takes(run)
    assert run.faults == []


@both
def test_another_model_may_write_the_summary(opened: Opened) -> None:
    other = ScriptedModel(["told by another"], name="small")
    run = Run(
        [ROUND, ROUND, "done"],
        tools=[add],
        system="be kind",
        parameters={"temperature": 1},
        compaction=Compaction(strategy=SummariseOlder(keep_items=2, model=other), max_items=4),
    )
    with opened(run) as host:
        assert host.run("go").text == "done"
        assert "told by another" in host.transcript.items[0].text
    assert [event.model for event in run.of(ModelRequestStarted)] == [
        "scripted",
        "scripted",
        "small",
        "scripted",
    ]
    (asked,) = other.requests
    assert (asked.tools, asked.parameters, asked.system) == ((), {}, None)
    assert run.faults == []


@both
def test_a_summary_request_is_made_again_as_others_are(opened: Opened) -> None:
    failing = Reply(text="the st", fail=ScriptedFailure(after_chunks=1, error_class="overloaded"))
    run = Run(
        [ROUND, ROUND, failing, "the story", "done"],
        tools=[add],
        retry=Retry(max_attempts=2),
        compaction=Compaction(strategy=SummariseOlder(keep_items=2), max_items=4),
    )
    with opened(run) as host:
        assert host.run("go").text == "done"
        assert host.transcript.items[0].text.endswith("the story")
    asked = [event for event in run.of(ModelRequestStarted) if event.purpose == "compaction"]
    assert [event.attempt for event in asked] == [1, 2]
    assert len(run.of(ModelRequestRetrying)) == 1
    assert run.faults == []


FAILING: list[Any] = [
    Reply(fail=ScriptedFailure(error_class="invalid_request", message="no")),
    Reply(text="cut", finish_reason="max_tokens"),
    Reply(text=" \n"),
    asking(call("add"), text="I had better add"),
    Reply(text="", finish_reason="refusal"),
]


@both
@pytest.mark.parametrize("reply", FAILING)
def test_a_summary_that_fails_leaves_the_transcript_and_the_turn_goes_on(
    opened: Opened, reply: Reply
) -> None:
    run = Run(
        [ROUND, ROUND, reply, "done"],
        tools=[add],
        compaction=Compaction(strategy=SummariseOlder(keep_items=2), max_items=4),
    )
    with opened(run) as host:
        assert host.run("go").text == "done"
    (finished,) = run.of(CompactionFinished)
    assert (finished.plan, finished.strategy, finished.item_count) == (None, "summarise_older", 5)
    assert finished.error is not None
    assert [len(request.items) for request in run.model.requests if request.purpose == "turn"] == [1, 3, 5]
    assert run.faults == []


@both
def test_after_a_failed_summary_the_next_strategy_is_tried(opened: Opened) -> None:
    run = Run(
        [ROUND, ROUND, FAILING[0], "done"],
        tools=[add],
        compaction=Compaction(strategy=[SummariseOlder(keep_items=2), KeepRecent(items=2)], max_items=4),
    )
    with opened(run) as host:
        assert host.run("go").text == "done"
    (finished,) = run.of(CompactionFinished)
    assert (finished.strategy, finished.error, finished.item_count) == ("keep_recent", None, 3)
    assert run.faults == []
