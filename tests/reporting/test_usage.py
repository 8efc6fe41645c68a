"""Tokens and cost: what is added, what is replaced, and what nobody knows."""

from __future__ import annotations

import copy
import datetime as dt
import threading
from decimal import Decimal
from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.events import (
    AgentEvent,
    ModelRequestFailed,
    ModelRequestFinished,
    RunFinished,
    TurnFinished,
    UsageUpdated,
)
from agentkit_loop.usage import Cost, ErrorInfo, Usage
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.usage import UsageReporter, UsageTotals, cost_text, token_texts

NOON = dt.datetime(2026, 5, 24, 12, tzinfo=dt.UTC)


def price(amount: str, currency: str = "USD") -> Cost:
    return Cost(amount=Decimal(amount), currency=currency, components={}, source="test", priced_at=NOON)


def report(
    request_id: str = "request-1",
    usage: Usage | None = None,
    cost: Cost | None = None,
    *,
    final: bool = True,
    session_id: str = "s",
    turn_id: str | None = "turn-1",
    model: str = "m",
    seq: int = 1,
) -> UsageUpdated:
    return UsageUpdated(
        request_id=request_id,
        model=model,
        usage=usage or Usage(),
        cost=cost,
        final=final,
        session_id=session_id,
        run_id="r",
        turn_id=turn_id,
        seq=seq,
        timestamp=NOON,
    )


def finished(request_id: str = "request-1") -> ModelRequestFinished:
    return ModelRequestFinished(request_id=request_id, finish_reason="completed", session_id="s", seq=2)


def after(*events: AgentEvent, keep_requests: bool = True) -> UsageReporter:
    reporter = UsageReporter(keep_requests=keep_requests)
    for event in events:
        reporter.handle_event(event)
    return reporter


counts = st.none() | st.integers(0, 10**9)
usages = st.builds(
    Usage,
    input_tokens=counts,
    cached_input_tokens=counts,
    cache_write_input_tokens=counts,
    cache_write_1h_input_tokens=counts,
    output_tokens=counts,
    reasoning_tokens=counts,
    raw=st.none() | st.just({"service_tier": "standard"}),
)
costs = st.none() | st.builds(
    price,
    st.decimals("0", "1e9", places=9).map(str),
    st.sampled_from(["USD", "EUR"]),
)
reports = st.builds(
    report,
    st.sampled_from(["request-1", "request-2", "request-3"]),
    usages,
    costs,
    final=st.booleans(),
    session_id=st.sampled_from(["a", "b"]),
    turn_id=st.sampled_from([None, "turn-1", "turn-2"]),
    model=st.sampled_from(["m", "n"]),
)
histories = st.lists(reports, max_size=20)


def test_later_snapshots_of_a_request_replace_the_earlier_ones() -> None:
    reporter = after(
        report(usage=Usage(input_tokens=10, output_tokens=0), final=False),
        report(usage=Usage(input_tokens=10, output_tokens=5)),
    )
    assert reporter.total.usage == Usage(input_tokens=10, output_tokens=5)
    assert reporter.total.requests == 1


def test_of_reports_read_out_of_order_the_last_one_told_counts() -> None:
    usage = UsageReporter()
    usage.handle_event(report(usage=Usage(input_tokens=10, output_tokens=9), seq=5))
    usage.handle_event(report(usage=Usage(input_tokens=10, output_tokens=1), seq=3, final=False))
    assert usage.total.usage == Usage(input_tokens=10, output_tokens=9)
    assert usage.total.provisional_requests == 0


def test_the_sums_that_turns_and_runs_repeat_are_not_added() -> None:
    used = Usage(input_tokens=10, output_tokens=5)
    three = [report(f"request-{number}", used, price("0.01")) for number in (1, 2, 3)]
    repeated = Usage(input_tokens=30, output_tokens=15)
    ends = (
        TurnFinished(finish_reason="completed", usage=repeated, item_count=2, session_id="s", seq=9),
        RunFinished(outcome="completed", usage=repeated, session_id="s", seq=10),
    )
    reporter = after(*three, *ends)
    assert reporter.total == UsageTotals(usage=repeated, costs={"USD": Decimal("0.03")}, requests=3)


def test_missing_counts_are_unknown_and_not_zero() -> None:
    reporter = after(report("request-1", Usage(output_tokens=5)), report("request-2", Usage(output_tokens=0)))
    total = reporter.total
    assert total.usage == Usage(output_tokens=5)
    assert total.usage.input_tokens is None
    assert total.costs == {}
    assert total.unpriced_requests == 2


def test_a_count_that_a_later_report_does_not_know_is_unknown_again() -> None:
    reporter = after(report(usage=Usage(input_tokens=3), cost=price("1"), final=False), report())
    assert reporter.total == UsageTotals(requests=1, unpriced_requests=1)


def test_two_currencies_are_two_totals() -> None:
    reporter = after(
        report("request-1", cost=price("1.5")),
        report("request-2", cost=price("2", "EUR")),
        report("request-3", cost=price("0.25")),
    )
    assert reporter.total.costs == {"USD": Decimal("1.75"), "EUR": Decimal(2)}


def test_requests_of_one_id_in_two_sessions_are_two() -> None:
    used = Usage(input_tokens=1)
    reporter = after(report(usage=used, session_id="a"), report(usage=used, session_id="b"))
    assert reporter.total.requests == 2
    assert {name: total.usage for name, total in reporter.by_session.items()} == {"a": used, "b": used}


def test_a_failed_request_keeps_its_provisional_usage_and_counts() -> None:
    failed = ModelRequestFailed(
        request_id="request-1",
        error=ErrorInfo(type="E", message="cut"),
        error_class="stream_cut",
        session_id="s",
        seq=2,
    )
    provisional = report(usage=Usage(input_tokens=10), cost=price("0.5"), final=False)
    for keep_requests in (True, False):
        reporter = after(provisional, failed, keep_requests=keep_requests)
        assert reporter.total.usage == Usage(input_tokens=10)
        assert reporter.total.costs == {"USD": Decimal("0.5")}
        assert reporter.total.provisional_requests == 1


def test_a_request_billed_to_another_model_or_turn_leaves_nothing_behind() -> None:
    reporter = after(
        report(usage=Usage(input_tokens=7), model="asked", turn_id=None, final=False),
        report(usage=Usage(input_tokens=9), model="billed"),
    )
    assert list(reporter.by_model) == ["billed"]
    assert list(reporter.by_turn) == [("s", "turn-1")]


def test_a_request_can_be_looked_up() -> None:
    reporter = after(report(usage=Usage(input_tokens=7, raw={"tier": "x"}), cost=price("0.5")), finished())
    request = reporter.request("s", "request-1")
    assert request is not None
    assert (request.turn_id, request.model, request.final) == ("turn-1", "m", True)
    assert (request.usage, request.amount, request.currency) == (
        Usage(input_tokens=7),
        Decimal("0.5"),
        "USD",
    )
    assert reporter.request("s", "request-2") is None
    assert reporter.request("t", "request-1") is None


def test_an_amount_that_is_no_number_does_not_eat_the_sum() -> None:
    reporter = after(report("request-1", cost=price("NaN")), report("request-2", cost=price("1")))
    assert reporter.total.costs == {"USD": Decimal(1)}
    assert reporter.total.unpriced_requests == 1


@given(histories)
def test_turns_models_sessions_and_requests_add_up_to_the_total(history: list[UsageUpdated]) -> None:
    reporter = after(*history)
    latest = {(event.session_id, event.request_id): event for event in history}
    alone = [after(event).total for event in latest.values()]
    for views in (alone, reporter.by_turn.values(), reporter.by_model.values(), reporter.by_session.values()):
        assert reduce(add, views, UsageTotals()) == reporter.total
    assert reporter.total.usage == Usage.total(event.usage for event in latest.values())


@given(histories)
def test_forgetting_finished_requests_changes_no_total(history: list[UsageUpdated]) -> None:
    latest = {(event.session_id, event.request_id): event for event in history}
    once = [
        event for event in history if not event.final or event is latest[event.session_id, event.request_id]
    ]
    kept, forgetting = after(*once), after(*once, keep_requests=False)
    assert forgetting.total == kept.total
    assert forgetting.by_model == kept.by_model
    assert forgetting.by_session == kept.by_session
    assert all(not request.final for request in forgetting.requests())


@given(histories, st.integers(0, 20))
def test_the_same_events_give_an_equal_view_live_replayed_and_in_two_halves(
    history: list[UsageUpdated], cut: int
) -> None:
    live = after(*history)
    halves = after(*history[:cut])
    for event in history[cut:]:
        halves.handle_event(event)
    assert halves == live
    assert after(*(decode_event(encode_event(event)) for event in history)) == live


@given(histories)
def test_costs_are_exact_after_any_replacement(history: list[UsageUpdated]) -> None:
    everything = after(report("big", cost=price("1e28")), report("small", cost=price("1e-28")), *history)
    for request_id in ("big", "small"):
        everything.handle_event(report(request_id))
    assert everything.total.costs == after(*history).total.costs


def test_different_events_give_different_views() -> None:
    assert after(report()) != after(report(usage=Usage(input_tokens=1)))
    assert after(report()) != after()
    assert after() != object()
    with pytest.raises(TypeError, match="unhashable"):
        hash(after())


def test_what_was_returned_does_not_change_later() -> None:
    reporter = after(report("request-1", Usage(input_tokens=1), price("1")))
    taken = (reporter.total, reporter.by_model, reporter.by_session, reporter.by_turn)
    before = copy.deepcopy(taken)
    for _ in reporter.requests():
        reporter.handle_event(report("request-2", Usage(input_tokens=1), price("1")))
    assert taken == before
    taken[0].costs["USD"] = Decimal(99)
    assert reporter.total.costs == {"USD": Decimal(2)}


def test_sessions_in_threads_lose_nothing() -> None:
    reporter = UsageReporter()

    def run(session_id: str) -> None:
        for number in range(500):
            for final in (False, True):
                event = report(f"request-{number}", Usage(input_tokens=2), session_id=session_id, final=final)
                reporter.handle_event(event)
            assert reporter.total.requests

    threads = [threading.Thread(target=run, args=(f"s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reporter.total.usage == Usage(input_tokens=4_000)
    assert {total.usage.input_tokens for total in reporter.by_session.values()} == {1_000}


def test_it_asks_for_the_events_that_it_needs_only() -> None:
    assert set(UsageReporter.wants) == {UsageUpdated, ModelRequestFinished, ModelRequestFailed}


def test_tokens_and_costs_in_words() -> None:
    assert token_texts(Usage()) == ("tokens unknown",)
    assert token_texts(Usage(output_tokens=5)) == ("5 out",)
    used = Usage(
        input_tokens=1_000,
        cached_input_tokens=512,
        cache_write_input_tokens=8,
        output_tokens=56,
        reasoning_tokens=20,
    )
    assert token_texts(used) == ("1,520 in (512 cached, 8 written)", "56 out (20 reasoning)")
    assert cost_text(UsageTotals()) == ""
    assert cost_text(UsageTotals(requests=1, unpriced_requests=1)) == "cost unknown"
    for amount, text in {
        "0": "$0.00",
        "0.00001234": "$1.2e-5",
        "0.0123": "$0.0123",
        "12.5": "$12.50",
        "1e999999": "$1.000e+999999",
    }.items():
        assert cost_text(UsageTotals(requests=1, costs={"USD": Decimal(amount)})) == text
    mixed = UsageTotals(requests=3, unpriced_requests=1, costs={"USD": Decimal(1), "E\x1b[": Decimal(2)})
    assert cost_text(mixed) == "$1.00 + 2.00 E\\x1b[ + 1 unpriced"


def test_the_table_shows_each_model_and_the_total() -> None:
    used = Usage(input_tokens=1_200, cached_input_tokens=800, output_tokens=56)
    reporter = after(
        report("request-1", used, price("0.0049"), model="claude-sonnet-5"),
        report("request-2", Usage(output_tokens=7), model="evil\x1b[2J"),
    )
    assert reporter.render().split("\n") == [
        "model            requests  input  cached  written  output  reasoning                  cost",
        "claude-sonnet-5         1  1,200     800        ?      56          ?               $0.0049",
        "evil\\x1b[2J             1      ?       ?        ?       7          ?          cost unknown",
        "total                   2  1,200     800        ?      63          ?  $0.0049 + 1 unpriced",
    ]
    assert "total" not in after(report()).render()
