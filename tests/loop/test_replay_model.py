"""ReplayModel: what a recorded request got, and where a request differs from it."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Any

import attrs
import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendText, BeginPart, CommitPart, Item, TextPart, ToolSpec
from agentkit_loop.errors import ModelError, ModelRequestError, ReplayMismatchError, ResumeError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    ModelRequestFailed,
    ModelRequestStarted,
    UsageUpdated,
)
from agentkit_loop.models.protocol import Answer, Model, ModelRequest, UsageReport
from agentkit_loop.models.replay import CUT_SHORT, ReplayModel
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.retry import Retry
from agentkit_loop.testing import EventRecorder, Reply, ScriptedFailure, ScriptedModel, VirtualClock
from agentkit_loop.usage import Usage
from tests.loop.crash_runs import World, recorded

USAGE = Usage(input_tokens=10, output_tokens=4)


def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


def session(*replies: Any, prompts: tuple[str, ...] = ("go",), **options: Any) -> list[AgentEvent]:
    """Return the events of a session with these replies."""
    recorder, clock = EventRecorder(), VirtualClock()
    agent = Agent(
        ScriptedModel(replies, clock=clock),
        observers=[recorder],
        retry=Retry(max_attempts=2),
        clock=clock,
        **options,
    )
    try:
        with agent.start(session_id="session") as driver:
            for prompt in prompts:
                driver.run(prompt)
    except ModelError:
        pass
    return recorder.events


def asked(text: str = "go", *, number: int = 1, **fields: Any) -> ModelRequest:
    given: dict[str, Any] = {
        "request_id": f"request-{number}",
        "purpose": "turn",
        "system": None,
        "tools": (),
        "items": (Item.user(text),),
        "parameters": {},
    }
    return ModelRequest(**{**given, **fields})


def heard(model: ReplayModel, request: ModelRequest, *, asynchronous: bool) -> list[Any]:
    if not asynchronous:
        return list(model.stream(request))

    async def main() -> list[Any]:
        return [signal async for signal in model.astream(request)]

    return asyncio.run(main())


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_it_is_a_model_with_the_recorded_name_parameters_and_no_prices() -> None:
    model = ReplayModel(session("hello", parameters={"effort": "low"}))
    assert isinstance(model, Model)
    assert (model.name, model.parameters, model.prices) == ("scripted", {"effort": "low"}, None)


def test_a_request_gets_the_recorded_deltas_usage_and_answer(asynchronous: bool) -> None:
    model = ReplayModel(session(Reply(text="hello you", usage=USAGE, chunk_chars=5)))
    assert heard(model, asked(), asynchronous=asynchronous) == [
        UsageReport(usage=Usage(input_tokens=10, output_tokens=0), model="scripted"),
        BeginPart("0", "text"),
        AppendText("0", "hello"),
        AppendText("0", " you"),
        CommitPart("0", TextPart(text="hello you")),
        Answer(finish_reason="completed", usage=USAGE, response_model="scripted"),
    ]


def test_a_log_without_previews_gives_none(asynchronous: bool) -> None:
    events = [
        event
        for event in session(Reply(text="hello you", chunk_chars=5))
        if not (isinstance(event, ContentDelta) and isinstance(event.delta, AppendText))
    ]
    kinds = [type(signal) for signal in heard(ReplayModel(events), asked(), asynchronous=asynchronous)]
    assert kinds == [BeginPart, CommitPart, Answer]


def test_a_recorded_failure_is_raised_with_its_class_and_pause(asynchronous: bool) -> None:
    failure = ScriptedFailure(error_class="rate_limited", retry_after_ms=5.0, message="slow down")
    model = ReplayModel(session(Reply(fail=failure), "hello"))
    with pytest.raises(ModelRequestError, match="slow down") as caught:
        heard(model, asked(), asynchronous=asynchronous)
    assert (caught.value.error_class, caught.value.retry_after_ms) == ("rate_limited", 5.0)
    assert heard(model, asked(number=2), asynchronous=asynchronous)[-1].finish_reason == "completed"


def test_a_request_that_was_cut_says_so_where_nobody_cuts_it(asynchronous: bool) -> None:
    model = ReplayModel(recorded("cancelled at 11"))
    world = World()
    agent = world.agent([], system="be kind")
    agent.model = model
    with pytest.raises(ModelError, match=CUT_SHORT[:40]):
        asyncio.run(agent.arun("a")) if asynchronous else agent.run("a")


# --- in an agent


def test_an_agent_with_the_recorded_input_tells_the_recorded_answers_and_costs() -> None:
    rates = PriceTable({"scripted": Rates(input=Decimal(1), output=Decimal(2))}, source="mine")
    events = session(Reply(text="hello", usage=USAGE), prices=rates)
    again = EventRecorder()
    agent = Agent(ReplayModel(events), observers=[again])
    assert agent.run("go").text == "hello"
    costs = [event.cost for event in events if isinstance(event, UsageUpdated)]
    assert [event.cost for event in again.of(UsageUpdated)] == costs
    assert costs[-1] is not None


def test_an_agent_stops_with_the_difference() -> None:
    model = ReplayModel(session("hello"))
    with pytest.raises(ModelError, match=r"messages\[0\].content\[0\].text: recorded 'go', now 'stay'"):
        Agent(model).run("stay")
    assert isinstance(model.mismatch, ReplayMismatchError)
    assert model.mismatch.path == "messages[0].content[0].text"


def test_the_rest_of_a_session_is_replayed_after_a_resume_from_its_beginning() -> None:
    events = session("one", "two", prompts=("a", "b"))
    until = next(n for n, event in enumerate(events) if event.type == "turn_finished") + 1
    agent = Agent(ReplayModel(events))
    with agent.resume(events[:until]) as driver:
        assert driver.run("b").text == "two"


# --- differences


SPEC = ToolSpec(name="add", description="Add two numbers.", input_schema={"type": "object"})


@pytest.mark.parametrize(
    ("fields", "path", "recorded_value", "now"),
    [
        ({"items": (Item.user("stay"),)}, "messages[0].content[0].text", "'go'", "'stay'"),
        ({"items": (Item.user("go", "on"),)}, "messages[0].content[1]", "nothing", "{'type': 'text'"),
        ({"items": ()}, "messages[0].content[0].text", "'go'", "'(no content)'"),
        ({"items": (Item.user("go"), Item.assistant("x"))}, "messages[1]", "nothing", "{'role'"),
        ({"items": (Item(kind="system", parts=()), Item.user("go"))}, "items", "1 items", "2 items"),
        ({"system": "be kind"}, "system", "None", "'be kind'"),
        ({"tools": (SPEC,)}, "tools.add", "nothing", "{'name'"),
        ({"parameters": {"effort": "low"}}, "parameters.effort", "nothing", "'low'"),
        ({"purpose": "compaction"}, "purpose", "'turn'", "'compaction'"),
    ],
)
def test_the_first_difference_is_told_with_its_path_and_both_values(
    fields: dict[str, Any], path: str, recorded_value: str, now: str, asynchronous: bool
) -> None:
    model = ReplayModel(session("hello"))
    with pytest.raises(ReplayMismatchError) as caught:
        heard(model, asked(**fields), asynchronous=asynchronous)
    found = caught.value
    assert (found.path, found.recorded, found.now[: len(now)]) == (path, recorded_value, now)
    assert str(found) == f"{found.path}: recorded {found.recorded}, now {found.now}"
    assert not found.retryable


def test_a_request_that_was_never_made_is_a_difference(asynchronous: bool) -> None:
    model = ReplayModel(session("hello"))
    with pytest.raises(ReplayMismatchError, match="request-2: recorded nothing, now a request of 1 items"):
        heard(model, asked(number=2), asynchronous=asynchronous)


def test_what_is_shown_of_long_and_hostile_texts_is_bounded_and_printable() -> None:
    long = "x" * 100_000 + "\x1b[2J\u202e"
    model = ReplayModel(session("hello", prompts=(long + "one",)))
    with pytest.raises(ReplayMismatchError) as caught:
        list(model.stream(asked(long + "two")))
    assert caught.value.recorded.endswith("\\x1b[2J\\u202eone'")
    assert caught.value.now.endswith("\\x1b[2J\\u202etwo'")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_ids_of_items_are_no_difference() -> None:
    model = ReplayModel(session("hello"))
    items = (Item(kind="user", parts=(TextPart(text="go"),), id="mine"),)
    assert list(model.stream(asked(items=items)))


def test_numbers_and_booleans_are_told_apart() -> None:
    model = ReplayModel(session("hello", parameters={"n": 1}))
    for value, shown in ((True, "True"), (1.0, "1.0"), ("1", "'1'")):
        with pytest.raises(ReplayMismatchError, match=f"parameters.n: recorded 1, now {shown}"):
            list(model.stream(asked(parameters={"n": value})))


def test_a_log_that_was_redacted_has_other_digests_and_is_compared_as_it_is() -> None:
    events = [masked(event) for event in session("one", "two", "three", prompts=("a", "b", "c"))]
    with Agent(ReplayModel(events)).start(session_id="session") as driver:
        assert [driver.run(prompt).text for prompt in "abc"] == ["one", "two", "three"]
    with Agent(ReplayModel(events)).start(session_id="session") as driver:
        driver.run("a")
        with pytest.raises(ModelError, match=r"messages\[2\].content\[0\].text: recorded 'b', now 'x'"):
            driver.run("x")


def masked(event: AgentEvent) -> AgentEvent:
    """Say of an event that something in it was masked, so that no digest is the recorded one."""
    if isinstance(event, ModelRequestStarted):
        return attrs.evolve(event, digests={"messages": "of the unmasked"}, unknown_fields={"redactions": 1})
    return event


# --- logs that cannot be replayed


def test_a_log_of_several_sessions_wants_to_know_which() -> None:
    events = session("hello")
    other = [attrs.evolve(event, session_id="other") for event in events]
    with pytest.raises(ResumeError, match="say which by session_id"):
        ReplayModel([*events, *other])
    assert ReplayModel([*events, *other], session_id="other").recording.session_id == "other"


def test_no_event_is_refused() -> None:
    with pytest.raises(ResumeError, match="no event"):
        ReplayModel([])


def test_a_gap_that_is_no_preview_is_refused() -> None:
    events = session("hello")
    with pytest.raises(ResumeError, match="missing"):
        ReplayModel([*events[:2], *events[3:]])


def test_a_request_that_a_crash_left_open_fails_as_the_resume_told() -> None:
    events = session(Reply(text="hello", chunk_chars=2))
    open_request = [event for event in events if event.seq <= 6]
    world = World()
    agent = world.agent(["again"])
    with agent.resume(open_request) as driver:
        while driver.next().__class__.__name__ != "Finished":
            pass
    told = [*open_request, *world.events]
    assert [event.error_class for event in told if isinstance(event, ModelRequestFailed)] == ["process_ended"]
    model = ReplayModel(told)
    with pytest.raises(ModelRequestError) as caught:
        list(model.stream(asked()))
    assert caught.value.error_class == "process_ended"


NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_recorded_costs_know_nothing_before_they_are_told() -> None:
    rates = PriceTable({"scripted": Rates(input=Decimal(1), output=Decimal(2))}, source="mine")
    model = ReplayModel(session(Reply(text="hello", usage=USAGE), prices=rates))
    assert model.prices is not None
    assert model.prices.cost("m", USAGE, NOW) is None
    list(model.stream(asked()))
    cost = model.prices.cost("m", USAGE, NOW)
    assert cost is not None
    assert cost.amount == Decimal("0.000018")
