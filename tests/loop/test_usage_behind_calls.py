"""What the agents behind open calls used: a log says so wherever it is cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import attrs
import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import Parent
from agentkit_loop.events import (
    AgentEvent,
    RunStarted,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.resuming import read_history
from agentkit_loop.retry import Retry
from agentkit_loop.state import Spent
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedFailure, ScriptedModel
from agentkit_loop.usage import Cost, Usage, child_costs
from agentkit_reporting.codec import decode_event, encode_event

PRICES = PriceTable({"scripted": Rates(input=Decimal(1_000), output=Decimal(1_000))}, source="test")


def reply(used: int, *calls: str) -> Reply:
    """Return a reply that used so many tokens, with calls of the agents of these names."""
    return Reply(
        text="so",
        calls=tuple(ScriptedCall(name=name, input={"prompt": "go"}) for name in calls),
        usage=Usage(input_tokens=used, output_tokens=1),
    )


def agent(name: str, *replies: Reply, below: Sequence[Agent] = (), **options: object) -> Agent:
    tools = [each.as_tool(description="helps") for each in below]
    return Agent(
        ScriptedModel(list(replies)),
        name=name,
        tools=tools,
        prices=PRICES,
        retry=Retry(max_attempts=2, base_ms=1),
        **options,  # type: ignore[arg-type] # observers and the like
    )


def session() -> list[AgentEvent]:
    """Return the log of a session with two agents behind a round of calls, one with an agent of its own."""
    deep = agent("deep", Reply(fail=ScriptedFailure()), reply(1_000), reply(2_000))
    one = agent("one", reply(10, "deep"), reply(20, "deep"), reply(30), below=[deep])
    other = agent("other", reply(100), reply(200))
    recorder = EventRecorder()
    root = agent(
        "root",
        reply(10_000, "one", "other"),
        reply(20_000, "other"),
        reply(30_000),
        below=[one, other],
        observers=[recorder],
        max_parallel_tools=1,
    )
    with root.start("go", session_id="root") as driver:
        driver.run()
    return [decode_event(encode_event(event)) for event in recorder.events]


def all_told(events: Iterable[AgentEvent]) -> Spent:
    """Return the sum over all requests of all sessions."""
    last = {
        (event.session_id, event.request_id): event for event in events if isinstance(event, UsageUpdated)
    }
    spent = Spent()
    for event in last.values():
        spent.add(event.usage, event.cost)
    return spent


def test_what_is_open_and_what_was_told_are_all_that_was_used_wherever_a_log_is_cut() -> None:
    events = session()
    checked = 0
    for end in range(1, len(events) + 1):
        told = events[:end]
        history = read_history(told)
        open_calls = {call_id for call_id, call in history.state.calls.items() if not call.answered}
        assert set(history.child_usage) <= open_calls
        if history.state.request is not None:
            continue  # what an open request used is counted when it ends
        spent = Spent(history.state.session_spent.usage, dict(history.state.session_spent.costs))
        for used in history.child_usage.values():
            spent.add_child(used)
            checked += 1
        expected = all_told(told)
        assert spent.usage.total_tokens == expected.usage.total_tokens
        assert spent.costs == expected.costs
    assert checked > 20


def open_at(events: list[AgentEvent], call: str = "call-1") -> list[AgentEvent]:
    """Return the events up to the result of a call of the root."""
    end = next(
        place
        for place, event in enumerate(events)
        if isinstance(event, ToolResultReceived) and (event.session_id, event.call_id) == ("root", call)
    )
    return events[:end]


def test_it_is_told_as_a_result_tells_it() -> None:
    events = session()
    told = open_at(events)
    (used,) = read_history(told).child_usage.values()
    result = events[len(told)]
    assert isinstance(result, ToolResultReceived)
    assert used == result.child_usage
    assert set(child_costs(used)) == {"USD"}


def test_a_log_given_twice_and_one_out_of_order_count_once() -> None:
    told = open_at(session())
    expected = read_history(told).child_usage
    assert expected
    assert read_history([*told, *told]).child_usage == expected
    by_session = sorted(told, key=lambda event: event.session_id != "root")
    assert read_history(by_session).child_usage == expected
    assert read_history([*by_session[40:], *by_session[:40]]).child_usage == expected


def test_a_child_that_went_on_by_itself_counts_with_what_it_used_then() -> None:
    told = open_at(session())
    child = next(
        event.session_id
        for event in told
        if isinstance(event, RunStarted) and event.parent is not None and event.parent.session_id == "root"
    )
    before = read_history(told).child_usage["call-1"]
    recorder = EventRecorder()
    again = agent("one", reply(5_000), observers=[recorder])
    with again.resume(told, session_id=child) as driver:
        driver.run("more")
    after = read_history([*told, *recorder.events], session_id="root").child_usage["call-1"]
    assert after.total_tokens == (before.total_tokens or 0) + 5_001


def test_a_call_with_a_result_has_no_entry_also_in_the_middle_of_a_log() -> None:
    events = session()
    assert read_history(events).child_usage == {}
    root = [event for event in open_at(events) if event.session_id == "root"]
    history = read_history(events, at=root[-1].seq)
    assert set(history.child_usage) == {"call-1", "call-2"}  # what was told behind both, whenever it was
    assert set(read_history(events, at=root[-1].seq + 1).child_usage) == {"call-2"}


def test_a_session_without_children_has_nothing() -> None:
    events = [event for event in open_at(session()) if event.session_id == "root"]
    assert read_history(events).child_usage == {}


def cost(amount: str) -> Cost:
    now = session_start().timestamp
    return Cost(amount=Decimal(amount), currency="USD", components={}, source="x", priced_at=now)


def session_start() -> RunStarted:
    first = session()[0]
    assert isinstance(first, RunStarted)
    return first


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "9E+999999", "-5"])
def test_an_amount_that_no_price_list_gives_is_not_counted(amount: str) -> None:
    told = open_at(session())
    edited = [
        attrs.evolve(event, cost=cost(amount))
        if isinstance(event, UsageUpdated) and event.session_id != "root"
        else event
        for event in told
    ]
    (used,) = read_history(edited).child_usage.values()
    assert child_costs(used) == {}
    assert used.total_tokens == next(iter(read_history(told).child_usage.values())).total_tokens


def test_sessions_that_name_each_other_as_parents_are_met_once() -> None:
    told = open_at(session())
    starts = [event for event in told if isinstance(event, RunStarted) and event.parent is not None]
    one, deep = starts[0].session_id, starts[1].session_id
    strangers = [
        attrs.evolve(event, parent=Parent(session_id=deep, run_id="r", call_id="call-1"))
        if isinstance(event, RunStarted) and event.session_id == one
        else event
        for event in told
    ]
    assert read_history(strangers, session_id="root").child_usage == {}
