"""A scripted model of a log: the recorded answers in their order, for an agent that may be another by now."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.compaction import Compaction
from agentkit_loop.compaction_strategies import SummariseOlder
from agentkit_loop.content import AppendText, CustomPart, ReasoningPart, TextPart, ToolCallPart
from agentkit_loop.errors import ConfigurationError, ModelError, ResumeError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ToolCallRequested,
    UsageUpdated,
)
from agentkit_loop.models.recorded_replies import BROKEN_OFF, read_replies
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.retry import Retry
from agentkit_loop.testing import (
    EventRecorder,
    Reply,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    VirtualClock,
)
from agentkit_loop.tools import tool
from agentkit_loop.usage import Usage
from agentkit_reporting import ContentRedactor, Redactor, decode_event, encode_event
from agentkit_reporting.testing.golden_logs import log_differences
from tests.loop.scripts import replies as any_replies

USAGE = Usage(input_tokens=9, cached_input_tokens=4, output_tokens=7, reasoning_tokens=2)
ANSWERS = [
    Reply(
        reasoning="Add.",
        signature="sig",
        text="I add.",
        calls=(ScriptedCall(name="add", input={"a": 1, "b": 2}, id="toolu_1"),),
        usage=USAGE,
    ),
    Reply(text="so far and no further", fail=ScriptedFailure(after_chunks=1), usage=USAGE),
    Reply(text="Three.", usage=USAGE),
]


@tool
def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


@tool
def work(note: str = "") -> str:
    """Work."""
    return note


def session(
    model: ScriptedModel, *, prompts: tuple[str, ...] = ("go",), asynchronous: bool = False, **settings: Any
) -> list[AgentEvent]:
    """Return what a session tells, also where the model fails in the end."""
    recorder = EventRecorder()
    given: dict[str, Any] = {"tools": [add, work], "retry": Retry(max_attempts=2), "clock": VirtualClock()}
    agent = Agent(model, observers=[recorder], max_parallel_tools=1, **{**given, **settings})

    async def drive() -> None:
        async with agent.astart() as driver:
            for prompt in prompts:
                await driver.run(prompt)

    try:
        if asynchronous:
            asyncio.run(drive())
        else:
            with agent.start() as driver:
                for prompt in prompts:
                    driver.run(prompt)
    except ModelError:
        pass
    return recorder.events


def calls_of(events: list[AgentEvent]) -> list[str]:
    return [event.call.id for event in events if isinstance(event, ToolCallRequested)]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_the_recorded_answers_come_again(asynchronous: bool) -> None:
    told = session(ScriptedModel(ANSWERS))
    again = session(ScriptedModel.from_log(told), asynchronous=asynchronous)
    assert list(log_differences(told, again)) == []
    assert calls_of(again) == ["toolu_1"]


@settings(deadline=None, max_examples=60)
@given(st.lists(any_replies, min_size=1, max_size=5), st.integers(1, 2))
def test_a_random_session_comes_again_apart_from_times_and_ids(script: list[Reply], exchanges: int) -> None:
    whole = [msgspec.structs.replace(reply, delay_s=0.0) for reply in script]
    prompts = ("go",) * exchanges
    told = session(ScriptedModel(whole), prompts=prompts)
    read = [decode_event(encode_event(event)) for event in told]
    without_end = _until_the_script_ended(read)
    again = session(ScriptedModel.from_log(read), prompts=prompts)
    assert [str(each) for each in log_differences(without_end, _until_the_script_ended(again))] == []


def _until_the_script_ended(events: list[AgentEvent]) -> list[AgentEvent]:
    """Return the events before the request for which no reply was left."""
    for place, event in enumerate(events):
        if isinstance(event, ModelRequestFailed) and "has no reply" in event.error.message:
            return events[:place]
    return events


def test_replies_are_in_words_where_these_say_all() -> None:
    replies = read_replies(session(ScriptedModel(ANSWERS))).answers
    assert [reply.text for reply in replies] == ["I add.", "", "Three."]
    assert (replies[0].reasoning, replies[0].signature) == ("Add.", "sig")
    assert replies[0].calls == ANSWERS[0].calls
    assert [reply.usage for reply in replies] == [USAGE, None, USAGE]
    assert replies[1].fail == ScriptedFailure(after_chunks=1)
    assert replies[1].first_usage == Usage(input_tokens=9, cached_input_tokens=4, output_tokens=0)


def test_parts_that_words_do_not_say_come_whole_and_in_order() -> None:
    parts = (
        TextPart(text="first", extra={"citations": []}),
        ReasoningPart(text="", redacted="opaque"),
        CustomPart(provider="anthropic", value={"type": "server_tool_use"}),
        ToolCallPart(id="toolu_9", name="add", input={"a": 1}, extra={"caller": "code"}),
        TextPart(text="last"),
    )
    told = session(ScriptedModel([Reply(parts=parts, finish_reason="tool_call"), "done"]))
    assert read_replies(told).answers[0].parts == parts
    fresh = session(ScriptedModel.from_log(told, ids="fresh"))
    assert calls_of(fresh) == ["call-1"]
    assert list(log_differences(told, fresh)) == []


def test_another_agent_gets_the_answers_without_a_comparison() -> None:
    told = session(ScriptedModel(ANSWERS))
    again = session(ScriptedModel.from_log(told), prompts=("something else",), system="Be brief.")
    assert [event.type for event in again] == [event.type for event in told]


def test_an_id_that_was_renamed_is_the_providers_again() -> None:
    same = Reply(calls=(ScriptedCall(name="add", input={"a": 1}, id="same"),))
    told = session(ScriptedModel([same, same, "done"]))
    assert calls_of(told) == ["same", "same~2"]
    again = session(ScriptedModel.from_log(told))
    assert calls_of(again) == ["same", "same~2"]
    assert list(log_differences(told, again)) == []


def test_a_request_too_many_says_that_the_log_has_no_more() -> None:
    told = session(ScriptedModel(["one"]))
    failed = session(ScriptedModel.from_log(told), prompts=("go", "go on"))[-3]
    assert isinstance(failed, ModelRequestFailed)
    assert failed.error_class == "invalid_request"
    assert re.fullmatch(
        r"the log of session \w+ has no reply for request 2; ask less often, or record it anew",
        failed.error.message,
    )


def test_costs_are_the_recorded_ones() -> None:
    prices = PriceTable({"scripted": Rates(input=Decimal(3), output=Decimal(15))}, source="samples")
    told = session(ScriptedModel(ANSWERS), prices=prices)
    again = session(ScriptedModel.from_log(told))
    costs = [[event.cost for event in events if isinstance(event, UsageUpdated)] for events in (told, again)]
    assert [cost and cost.amount for cost in costs[0]] == [cost and cost.amount for cost in costs[1]]
    assert costs[0][0] is not None
    assert ScriptedModel.from_log(session(ScriptedModel(ANSWERS))).prices is None


def test_the_name_is_the_recorded_models_or_another() -> None:
    told = session(ScriptedModel(["one"], name="claude-sonnet-5"))
    assert ScriptedModel.from_log(told).name == "claude-sonnet-5"
    assert ScriptedModel.from_log(told, name="other").name == "other"


def test_a_summary_is_given_to_a_compaction_only() -> None:
    compaction = Compaction(strategy=SummariseOlder(keep_items=1), max_items=4)
    told = session(
        ScriptedModel(lambda request: "a summary" if request.purpose == "compaction" else "an answer"),
        prompts=("one", "two", "three"),
        compaction=compaction,
    )
    script = read_replies(told)
    assert {reply.text for reply in script.answers} == {"an answer"}
    assert {reply.text for reply in script.summaries} == {"a summary"}
    again = session(ScriptedModel.from_log(told), prompts=("one", "two", "three"))
    assert len([event for event in again if event.type == "model_request_finished"]) == 3
    same = session(ScriptedModel.from_log(told), prompts=("one", "two", "three"), compaction=compaction)
    assert list(log_differences(told, same)) == []


def test_a_cancelled_request_fails_after_what_came_of_it() -> None:
    recorder = EventRecorder()
    drivers: list[Any] = []

    def cancel(event: AgentEvent) -> None:
        if isinstance(event, ContentDelta) and isinstance(event.delta, AppendText):
            drivers[0].cancel("enough")

    agent = Agent(ScriptedModel(["a long answer that nobody waits for"]), observers=[recorder, cancel])
    with agent.start() as driver:
        drivers.append(driver)
        driver.run("go")
    (reply,) = read_replies(recorder.events).answers
    assert reply.fail is not None
    assert (reply.fail.error_class, reply.fail.message) == ("other", BROKEN_OFF)
    assert reply.parts == (TextPart(text="a long answe"),)


def test_an_answer_that_the_end_of_the_log_cuts_is_broken_off() -> None:
    told = session(ScriptedModel([Reply(text="so far and no further")]))
    cut = told[
        : next(place for place, event in enumerate(told) if event.type == "model_request_finished") - 2
    ]
    (reply,) = read_replies(cut).answers
    assert reply.fail is not None
    assert (reply.fail.error_class, reply.fail.message) == ("other", BROKEN_OFF)
    failed = session(ScriptedModel.from_log(cut))
    assert any(isinstance(event, ModelRequestFailed) for event in failed)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: ScriptedModel.from_log([]), ResumeError, "no event"),
        (lambda: ScriptedModel.from_log("run.jsonl"), ConfigurationError, "read_events('run.jsonl')"),  # type: ignore[arg-type] # the point
        (
            lambda: ScriptedModel.from_log([], ids="new"),  # type: ignore[arg-type] # the point
            ConfigurationError,
            "use 'recorded' or 'fresh'",
        ),
        (
            lambda: ScriptedModel.from_log(session(ScriptedModel(["one"])), session_id="none"),
            ResumeError,
            "none",
        ),
    ],
    ids=["nothing", "path", "ids", "session"],
)
def test_what_is_no_recorded_session_is_refused(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        make()


def test_the_loop_reads_no_file() -> None:
    source = Path(__file__).parent.parent.parent / "agentkit_loop" / "models" / "recorded_replies.py"
    assert "open(" not in source.read_text(encoding="utf-8")


def told_by(answers: list[Reply]) -> list[AgentEvent]:
    events = EventRecorder()
    with Agent(ScriptedModel(answers), tools=[add], observers=[events]) as agent:
        agent.run("go")
    return list(events.events)


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_a_log_without_content_is_no_script(content: Any) -> None:
    redactor = ContentRedactor(content)
    told = [redactor.event(event) for event in told_by([Reply(text="Three.")])]
    with pytest.raises(ConfigurationError, match="was written without content"):
        ScriptedModel.from_log(told)


def test_masks_in_answers_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    secret = "sk-ant-" + "api03-" + "Zq7Xw2Lp9Kd4Rt6Vb8Nm1Hs3Jf5Gc0" * 3
    redactor = Redactor()
    told = [redactor.event(event) for event in told_by([Reply(text=f"The key is {secret}.")])]
    ScriptedModel.from_log(told)
    (record,) = caplog.records
    assert "is redacted: the model answers with masks" in record.message
