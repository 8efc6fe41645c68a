"""The ledger: one entry a request, grouped as asked, explained and priced again."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import attrs
import pytest
from hypothesis import given

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, RunStarted, UsageUpdated
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.usage import Cost, Usage
from agentkit_reporting import CostLedger, LedgerGroup, UsageReporter, decode_event, encode_event
from tests.strategies import event_lists

AT = dt.datetime(2026, 5, 24, 23, 30, tzinfo=dt.UTC)
TABLE = PriceTable({"m": Rates(input=Decimal(1), output=Decimal(10))}, source="mine 1")


def usage_event(request: str, usage: Usage, *, final: bool = True, **more: object) -> UsageUpdated:
    at = more.pop("timestamp", AT)
    assert isinstance(at, dt.datetime)
    model = str(more.pop("model", "m"))
    fields: dict[str, object] = {
        "session_id": "s",
        "run_id": "r",
        "turn_id": "turn-1",
        "seq": 1,
        "cost": TABLE.cost(model, usage, at),
        **more,
    }
    return UsageUpdated(
        request_id=request,
        model=model,
        usage=usage,
        final=final,
        timestamp=at,
        **fields,  # type: ignore[arg-type] # of many types
    )


def started(run: str, agent: str, **metadata: object) -> RunStarted:
    return RunStarted(
        agent_name=agent,
        model="m",
        system=None,
        tools=(),
        parameters={},
        items=(),
        run_id=run,
        session_id="s",
        turn_id=None,
        seq=1,
        timestamp=AT,
        metadata=metadata,
    )


def ledger_of(*events: AgentEvent) -> CostLedger:
    ledger = CostLedger()
    for event in events:
        ledger.handle_event(event)
    return ledger


def test_a_later_report_of_a_request_replaces_the_earlier_one() -> None:
    ledger = ledger_of(
        usage_event("q1", Usage(input_tokens=10), final=False),
        usage_event("q1", Usage(input_tokens=10, output_tokens=5)),
    )
    (entry,) = ledger.entries()
    assert entry.usage.output_tokens == 5
    assert entry.final


def test_a_group_explains_its_cost_by_component() -> None:
    ledger = ledger_of(
        usage_event("q1", Usage(input_tokens=1_000_000, output_tokens=100_000)),
        usage_event("q2", Usage(input_tokens=500_000), final=False),
        usage_event("q3", Usage(input_tokens=7), model="unknown"),
    )
    known, unknown = ledger.groups()
    assert known.key == ("m",)
    assert known.costs == {"USD": Decimal("2.5")}
    components = {name: (part.count, part.amount) for name, part in known.components["USD"].items()}
    assert components == {"input": (1_500_000, Decimal("1.5")), "output": (100_000, Decimal(1))}
    assert (known.requests, known.unpriced, known.provisional) == (2, 0, 1)
    assert known.sources == {"mine 1": 2}
    assert known.priced_on == {"2026-05-24"}
    assert (unknown.requests, unknown.unpriced, unknown.costs) == (1, 1, {})


def test_searches_and_other_models_parts_are_components_of_their_own() -> None:
    table = PriceTable(
        {
            "m": Rates(input=Decimal(1), output=Decimal(1), web_search=Decimal(10)),
            "wise": Rates(input=Decimal(2), output=Decimal(2)),
        },
        source="mine",
    )
    raw = {
        "server_tool_use": {"web_search_requests": 2},
        "iterations": [
            {"type": "advisor_message", "model": "wise", "input_tokens": 300, "output_tokens": 0},
            {"type": "message", "input_tokens": 700, "output_tokens": 0},
        ],
    }
    usage = Usage(input_tokens=1_000, output_tokens=0, raw=raw)
    (group,) = ledger_of(usage_event("q", usage, cost=table.cost("m", usage, AT))).groups()
    components = {name: (part.count, part.amount) for name, part in group.components["USD"].items()}
    assert components == {
        "input:wise": (300, Decimal("0.0006")),
        "input": (700, Decimal("0.0007")),
        "web_search": (2, Decimal("0.02")),
    }


def test_entries_are_grouped_by_what_one_asks_for() -> None:
    east = dt.timezone(dt.timedelta(hours=2))
    ledger = ledger_of(
        started("r1", "fixer", task="bugs", tier=2),
        usage_event("q1", Usage(input_tokens=1), run_id="r1"),
        usage_event("q2", Usage(input_tokens=1), run_id="r1", turn_id=None),
        usage_event(
            "q3", Usage(input_tokens=1), run_id="r2", timestamp=dt.datetime(2026, 5, 25, 1, tzinfo=east)
        ),
    )

    def keys(*by: str) -> list[tuple[str, ...]]:
        return [group.key for group in ledger.groups(by)]

    assert keys("agent") == [("fixer",), ("",)]
    assert keys("turn") == [("s/turn-1",), ("s/",)]
    assert keys("day") == [("2026-05-24",)]  # in UTC
    assert keys("metadata.task", "run") == [("bugs", "r1"), ("", "r2")]
    assert keys("metadata.tier") == [("2",), ("",)]
    assert keys("request", "session", "source", "model")[0] == ("q1", "s", "mine 1", "m")
    assert keys("session", "turn") == [("s", "turn-1"), ("s", "")]
    assert keys() == [()]


def test_turns_and_requests_of_two_sessions_are_two_groups() -> None:
    ledger = ledger_of(
        *(usage_event("req-1", Usage(input_tokens=1), session_id=session) for session in ("one", "two"))
    )
    for dimension, value in (("turn", "turn-1"), ("request", "req-1")):
        keys = [group.key for group in ledger.groups([dimension])]
        assert keys == [(f"one/{value}",), (f"two/{value}",)]
        assert [group.key for group in ledger.groups([dimension, "session"])] == [
            (value, "one"),
            (value, "two"),
        ]


@pytest.mark.parametrize("events", [(), (usage_event("q", Usage(input_tokens=1)),)])
def test_what_is_no_dimension_is_refused_whether_there_are_entries_or_not(
    events: tuple[UsageUpdated, ...],
) -> None:
    ledger = ledger_of(*events)
    for wrong in ("modle", "metadata.", ""):
        with pytest.raises(ConfigurationError, match="give model, agent"):
            ledger.groups([wrong])
    with pytest.raises(ConfigurationError, match=r"by='model' refused; give a list of .* \['model'\]"):
        ledger.groups("model")


def test_a_component_says_whether_it_was_billed_at_several_rates() -> None:
    table = PriceTable(
        {name: Rates(input=Decimal(rate), output=Decimal(3)) for name, rate in (("m", 1), ("dear", 2))},
        source="mine",
    )
    events = [
        usage_event(f"q{n}", usage, model=model, cost=table.cost(model, usage, AT))
        for n, (model, usage) in enumerate(
            [
                ("m", Usage(input_tokens=7, output_tokens=1)),
                ("m", Usage(input_tokens=9)),
                ("dear", Usage(input_tokens=3, output_tokens=8)),
            ]
        )
    ]
    ledger = ledger_of(*events)
    (together,) = ledger.groups([])
    joined = LedgerGroup(key=())
    for group in ledger.groups():
        assert not any(part.several_rates for part in group.components["USD"].values())
        joined.join(group)
    for group in (together, joined):
        averaged = {name: part.several_rates for name, part in group.components["USD"].items()}
        assert averaged == {"input": True, "output": False}
    assert together.components["USD"]["output"].rate == Decimal("0.000003")


def test_pricing_again_takes_the_time_of_the_request_and_leaves_the_ledger_as_it_was() -> None:
    class Dated:
        def cost(self, model: str, usage: Usage, at: dt.datetime) -> Cost | None:
            del model, usage
            return Cost(amount=Decimal(at.day), currency="EUR", components={}, source="dated", priced_at=at)

    ledger = ledger_of(usage_event("q1", Usage(input_tokens=1_000_000)))
    (anew,) = ledger.groups(prices=Dated())
    assert anew.costs == {"EUR": Decimal(24)}
    (group,) = ledger.groups()
    assert group.costs == {"USD": Decimal(1)}


def test_a_cost_that_is_no_number_counts_as_none() -> None:
    bad = Cost(amount=Decimal("NaN"), currency="USD", components={}, source="x", priced_at=AT)
    (group,) = ledger_of(usage_event("q", Usage(input_tokens=1), cost=bad)).groups()
    assert (group.unpriced, group.costs) == (1, {})


def test_joined_groups_are_the_group_of_all() -> None:
    events = [
        usage_event(f"q{n}", Usage(input_tokens=n, output_tokens=1), turn_id=f"turn-{n % 3}")
        for n in range(9)
    ]
    ledger = ledger_of(*events)
    joined = LedgerGroup(key=())
    for group in ledger.groups(["turn"]):
        joined.join(group)
    assert [attrs.asdict(joined)] == [attrs.asdict(group) for group in ledger.groups([])]


@given(event_lists())
def test_the_ledger_of_any_events_equals_its_replay_and_sums_to_what_the_usage_reporter_says(
    events: list[AgentEvent],
) -> None:
    live, replayed, usage = CostLedger(), CostLedger(), UsageReporter()
    for event in events:
        live.handle_event(event)
        usage.handle_event(event)
        replayed.handle_event(decode_event(encode_event(event)))
    assert live == replayed
    groups = live.groups([])
    assert (groups[0].costs if groups else {}) == usage.total.costs
    assert sum(group.requests for group in groups) == usage.total.requests


def test_a_cost_that_a_hand_written_loop_emits_keeps_its_amounts() -> None:
    seen: list[AgentEvent] = []
    ledger = CostLedger()
    emitter = EventEmitter([ledger, seen.append])
    usage = Usage(input_tokens=1_000, output_tokens=100)
    emitter.emit(
        UsageUpdated(request_id="q", model="m", usage=usage, cost=TABLE.cost("m", usage, AT), final=True)
    )
    (event,) = seen
    assert isinstance(event, UsageUpdated)
    assert event.cost == TABLE.cost("m", usage, AT)
    (group,) = ledger.groups()
    assert group.costs == {"USD": Decimal("0.002")}
    assert decode_event(encode_event(event)) == event


def test_an_older_copy_of_a_log_takes_nothing_back() -> None:
    first = usage_event("q1", Usage(input_tokens=10), final=False, seq=3)
    last = usage_event("q1", Usage(input_tokens=10, output_tokens=5), seq=7)
    for events in ((first, last), (first, last, first), (last, first)):
        (entry,) = ledger_of(*events).entries()
        assert entry.final


def test_a_cost_beyond_all_measure_counts_as_none() -> None:
    bad = Cost(amount=Decimal("9E+999999"), currency="USD", components={}, source="x", priced_at=AT)
    (group,) = ledger_of(usage_event("q", Usage(input_tokens=1), cost=bad)).groups()
    assert (group.unpriced, group.costs) == (1, {})
