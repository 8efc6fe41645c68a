"""A usage store: exact sums of what requests used and cost, unknown told from zero, live, direct and offline alike."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop import Agent, ConfigurationError, EventEmitter, ScriptedFailure, ScriptedModel, Usage
from agentkit_loop.errors import ModelError
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.testing import EventRecorder, Reply, VirtualClock
from agentkit_loop.usage import Cost
from agentkit_reporting import (
    JsonlReporter,
    Rotation,
    UsageEntry,
    UsageReporter,
    UsageStore,
    decode_event,
    encode_event,
    read_events,
)
from tests.rules import faults
from tests.strategies import event_lists

quick = settings(deadline=None, max_examples=60)

TABLE = PriceTable({"m": Rates(input=Decimal(1), output=Decimal(10))}, source="mine 1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.jsonl"


def test_costs_are_summed_up_by_run_exactly(path: Path) -> None:
    with UsageStore(path, prices=TABLE) as store:
        assert store.total_cost() == 0
        for _ in range(10):
            store.record(run_id="a", model="m", cost=0.1)
        store.record(run_id="b", model="m", input_tokens=1_000, output_tokens=100)
        store.record(run_id="b", model="m", usage={"input_tokens": 1, "cache_read_input_tokens": 10})
        assert store.cost_for_run("a") == 1
        assert store.cost_for_run("b") == Decimal("0.002002")
        assert store.total_cost() == Decimal("1.002002")
        assert store.cost_for_run("nobody") == 0
        assert store.for_run("b").usage.cached_input_tokens == 10
        assert list(store.by_run()) == ["a", "b"]
    assert store.total_cost() == Decimal("1.002002")  # a closed one can be asked


def test_an_unknown_cost_is_not_zero_and_each_currency_is_a_total_of_its_own(path: Path) -> None:
    euro = Cost(
        amount=Decimal("0.2"), currency="EUR", components={}, source="mine", priced_at=VirtualClock().now()
    )
    with UsageStore(path, prices=None) as store:
        store.record(run_id="unknown", model="m", input_tokens=1)
        assert store.total_cost() is None
        store.record(run_id="free", cost=0)
        store.record(run_id="euro", cost=euro)
        assert (store.total_cost(), store.total_cost("EUR")) == (Decimal(0), Decimal("0.2"))
        assert (store.cost_for_run("unknown"), store.cost_for_run("free")) == (None, Decimal(0))
        assert (store.cost_for_run("euro"), store.cost_for_run("euro", "EUR")) == (None, Decimal("0.2"))
        totals = store.totals()
    assert (totals.requests, totals.unpriced_requests) == (3, 1)
    assert totals.costs == {"USD": 0, "EUR": Decimal("0.2")}
    assert totals.usage == Usage(input_tokens=1)


def test_what_came_since_a_moment_is_asked_the_same_questions(path: Path) -> None:
    clock = VirtualClock(dt.datetime(2026, 5, 24, 22, 30, tzinfo=dt.UTC))
    with UsageStore(path, prices=TABLE, clock=clock) as store:
        for hour in range(4):
            store.record(run_id=f"r{hour}", model=f"m{hour % 2}", input_tokens=1, cost=1)
            clock.advance(3600)
        assert [store.since(hours=hours).total_cost() for hours in (0, 1, 1.5, 2, 99)] == [0, 1, 1, 2, 4]
        assert store.since(days=1).total_cost() == 4
        view = store.since(dt.datetime(2026, 5, 25, tzinfo=dt.UTC))
        assert list(view.by_run()) == ["r2", "r3"]
        assert view.cost_for_run("r0") == 0
        assert {name: totals.requests for name, totals in store.by_day().items()} == {
            "2026-05-24": 2,
            "2026-05-25": 2,
        }
        assert list(store.by_model()) == ["m0", "m1"]
        store.record(run_id="late", cost=5)
        assert view.total_cost() == 7  # the moment is fixed, what is there is not


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.record(),
        lambda store: store.record(run_id=""),
        lambda store: store.record(run_id="a", input_tokens=-1),
        lambda store: store.record(run_id="a", usage=Usage(), input_tokens=1),
        lambda store: store.record(run_id="a", usage=3),
        lambda store: store.record(run_id="a", cost="much"),
        lambda store: store.since(),
        lambda store: store.since(hours=-1),
        lambda store: store.since(hours=float("nan")),
        lambda store: store.since(dt.datetime(2026, 1, 1)),  # noqa: DTZ001 - that is refused
    ],
    ids=["no run", "empty run", "count", "both", "usage", "cost", "no moment", "negative", "nan", "naive"],
)
def test_misuse_is_refused_and_stores_nothing(path: Path, act: Any) -> None:
    store = UsageStore(path)
    with pytest.raises(ConfigurationError):
        act(store)
    assert store.entries() == []


def test_since_ever_is_all(path: Path) -> None:
    store = UsageStore(path)
    store.record(run_id="a", cost=1)
    assert store.since(hours=1e30).total_cost() == 1


def test_an_agents_requests_are_stored_once_failed_ones_by_their_last_report(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    store, usage = UsageStore(tmp_path / "live.jsonl"), UsageReporter()
    model = ScriptedModel(
        [
            Reply(
                text="I begin",
                chunk_chars=3,
                usage=Usage(input_tokens=100, output_tokens=7),
                fail=ScriptedFailure(error_class="invalid_request", after_chunks=1),
            ),
            Reply(text="one", usage=Usage(input_tokens=10, output_tokens=5)),
        ],
        name="m",
    )
    agent = Agent(model, observers=[store, usage, JsonlReporter(log)], prices=TABLE)
    with pytest.raises(ModelError):
        agent.run("go")
    result = agent.run("go")
    assert store.totals() == usage.total
    assert store.cost_for_run(result.session_id) == Decimal("0.00006")
    again = UsageStore(tmp_path / "offline.jsonl")
    for event in read_events(log):
        again.handle_event(event)
    assert again.entries() == store.entries()


@quick
@given(event_lists(max_size=25))
def test_any_log_gives_the_entries_that_its_events_gave_live(
    tmp_path_factory: Any, events: list[Any]
) -> None:
    place = tmp_path_factory.mktemp("stores")
    with UsageStore(place / "live.jsonl") as live, UsageStore(place / "offline.jsonl") as offline:
        for event in events:
            live.handle_event(event)
            offline.handle_event(decode_event(encode_event(event)))
    assert live.entries() == offline.entries()
    assert live.bad_count == 0


AMOUNTS = st.none() | st.decimals(0, 10**9, places=12)
CALLS = st.lists(
    st.tuples(st.sampled_from("ab"), st.none() | st.integers(0, 10**12), st.none() | AMOUNTS), max_size=6
)


@quick
@given(CALLS)
def test_direct_use_keeps_the_contract_and_sums_are_exact(
    tmp_path_factory: Any, calls: list[tuple[str, int | None, Decimal | None]]
) -> None:
    place = tmp_path_factory.mktemp("store") / "usage.jsonl"
    told = {name: EventRecorder() for name in "ab"}
    with UsageStore(
        place, prices=None, observers=[lambda event: told[event.session_id].handle_event(event)]
    ) as store:
        for run, tokens, cost in calls:
            store.record(run_id=run, model="m", input_tokens=tokens, cost=cost)
    for name in "ab":
        assert faults(told[name].events) == []
        costs = [cost for run, _, cost in calls if run == name and cost is not None]
        made = [run for run, _, _ in calls if run == name]
        expected = sum(costs, Decimal(0)) if costs or not made else None
        assert store.cost_for_run(name) == expected
        counts = [tokens for run, tokens, _ in calls if run == name and tokens is not None]
        assert store.for_run(name).usage.input_tokens == (sum(counts) if counts else None)
    with UsageStore(place.parent / "again.jsonl") as again:
        for name in "ab":
            for event in told[name].events:
                again.handle_event(event)
    assert sorted(map(repr, again.entries())) == sorted(map(repr, store.entries()))


def test_one_emitter_tells_its_run_to_the_store(path: Path) -> None:
    emitter = EventEmitter()
    store = UsageStore(path, emitter=emitter, prices=TABLE)
    with emitter.run(model="m", prices=TABLE) as run:
        store.record(input_tokens=1_000_000)
        store.record(run_id=run.run_id, input_tokens=1_000_000)
        with pytest.raises(ConfigurationError, match="refused because emitter="):
            store.record(run_id="other")
    assert store.cost_for_run(run.run_id) == 2


def test_a_request_of_a_log_that_breaks_off_is_stored_by_its_last_report(tmp_path: Path) -> None:
    told = EventRecorder()
    with EventEmitter([told]) as emitter, emitter.run(model="m") as run:
        run.record_model_call(usage=Usage(input_tokens=7))
    cut = [event for event in told.events if event.type in ("run_started", "usage_updated")]
    with UsageStore(tmp_path / "usage.jsonl") as store:
        for event in cut:
            store.handle_event(event)
    assert store.totals().usage.input_tokens == 7


def test_bad_lines_are_counted_and_no_part_of_a_sum(path: Path) -> None:
    with UsageStore(path) as store:
        store.record(run_id="a", cost=1)
    good = json.loads(path.read_text())
    bad: list[Any] = [
        "no json",
        json.dumps({**good, "cost": "NaN"}),
        json.dumps({**good, "cost": "1e99999"}),
        json.dumps({**good, "cost": [1]}),
        json.dumps({**good, "timestamp": "yesterday"}),
        json.dumps({**good, "timestamp": "2026-01-01T00:00:00"}),
        json.dumps({**good, "input_tokens": -1}),
        json.dumps({**good, "output_tokens": True}),
        json.dumps({**good, "model": None}),
        json.dumps([good]),
    ]
    with path.open("a") as file:
        file.write("\n".join(bad) + "\n" + '{"torn' + json.dumps(good) + "\n")
    again = UsageStore(path)
    assert again.total_cost() == 2
    assert again.bad_count == len(bad)


def test_entries_of_rotated_segments_are_counted_once(path: Path) -> None:
    with UsageStore(path, rotation=Rotation(max_bytes=1_000, compress=None)) as store:
        for _ in range(20):
            store.record(run_id="a", cost="0.1")
            store.total_cost()
    assert store.total_cost() == UsageStore(path).total_cost() == 2


def test_an_entry_is_stored_in_the_order_of_its_fields(path: Path) -> None:
    with UsageStore(path) as store:
        store.record(run_id="a", model="m", input_tokens=1, cost="0.10")
    told = json.loads(path.read_text())
    assert list(told) == [field.name for field in UsageEntry.__attrs_attrs__]
    assert (told["cost"], told["currency"], told["source"]) == ("0.10", "USD", "host")
