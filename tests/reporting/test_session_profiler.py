"""A profile of each session: every kind of token, cost and time, live, direct and over a log alike."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop import (
    Agent,
    AgentEvent,
    ConfigurationError,
    EventEmitter,
    FailurePolicy,
    IllegalMoveError,
    LoopObserver,
    ModelError,
    ObserverError,
    RunFinished,
    ScriptedFailure,
    ScriptedModel,
    Usage,
)
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.testing import EventRecorder, Reply, VirtualClock
from agentkit_loop.usage import Cost
from agentkit_reporting import (
    JsonlReporter,
    SessionProfiler,
    SessionSummary,
    UsageReporter,
    current_session,
    decode_event,
    encode_event,
    read_events,
)
from agentkit_reporting.records.store import read_records
from tests.rules import faults
from tests.strategies import event_lists

quick = settings(deadline=None, max_examples=60)

TABLE = PriceTable({"m": Rates(input=Decimal(1), output=Decimal(10))}, source="mine 1")
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 30,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    },
}


def offline(events: list[Any]) -> tuple[SessionSummary, ...]:
    profiler = SessionProfiler()
    for event in events:
        profiler.handle_event(decode_event(encode_event(event)))
    return profiler.records


def test_the_seeds_way_of_use_sums_up_calls_and_time(tmp_path: Path) -> None:
    clock, closed = VirtualClock(), list[SessionSummary]()
    path = tmp_path / "sessions.jsonl"
    profiler = SessionProfiler(path, closed.append, clock=clock)
    span = profiler.start_session("s1")
    assert (span.total_input_tokens, span.total_output_tokens, span.total_cost_usd) == (0, 0, Decimal(0))
    span.record_tokens(1_000, 50, 0.003)
    clock.advance(1.5)
    span.record_tokens(500, 10, Decimal("0.1"))
    assert (span.total_input_tokens, span.total_output_tokens, span.calls) == (1_500, 60, 2)
    assert span.total_cost_usd == Decimal("0.103")
    summary = span.close()
    assert span.close() == summary
    assert profiler.records == (summary,) == tuple(closed)
    assert summary is not None
    assert (summary.session_id, summary.run_id, summary.duration_ms) == ("s1", "s1", 1500)
    assert (summary.outcome, summary.error, summary.timestamp) == (
        "completed",
        None,
        "2026-01-01T00:00:01.500000Z",
    )
    assert profiler.close()
    (told,) = read_records(path, strict=True)
    assert list(told)[:3] == ["session_id", "run_id", "duration_ms"]
    assert (told["total_input_tokens"], told["total_cost_usd"]) == (1_500, "0.103")


def test_an_answer_of_the_sdk_counts_once_with_every_kind_of_token() -> None:
    profiler = SessionProfiler(prices=TABLE)
    with profiler.session("s") as span:
        span.record(MESSAGE)
        span.record(MESSAGE)
    (summary,) = profiler.records
    assert (summary.calls, summary.models) == (1, ("m",))
    assert (summary.total_input_tokens, summary.total_output_tokens) == (60, 5)
    assert (summary.cached_input_tokens, summary.cache_write_input_tokens) == (20, 30)
    assert summary.reasoning_tokens == 2
    assert summary.total_cost_usd == Decimal("0.0000995")  # 10 + 0.1 x 20 + 1.25 x 30 + 10 x 5


def test_what_is_unknown_is_not_zero_and_currencies_are_not_mixed() -> None:
    profiler = SessionProfiler(prices=None)
    with profiler.session("none"):
        pass
    with profiler.session("unknown") as span:
        span.record_tokens(None, 5)
    with profiler.session("mixed") as span:
        span.record_tokens(1, 1, "0.1")
        span.record_tokens(1, 1)
        euro = Cost(
            amount=Decimal("0.2"),
            currency="EUR",
            components={},
            source="mine",
            priced_at=VirtualClock().now(),
        )
        span.record_tokens(1, 1, euro)
    none, unknown, mixed = profiler.records
    assert (none.total_input_tokens, none.total_cost_usd, none.calls) == (0, Decimal(0), 0)
    assert (unknown.total_input_tokens, unknown.total_output_tokens, unknown.total_cost_usd) == (
        None,
        5,
        None,
    )
    assert (mixed.total_cost_usd, mixed.other_costs, mixed.unpriced_calls) == (
        Decimal("0.1"),
        {"EUR": Decimal("0.2")},
        1,
    )


def test_a_span_closes_with_what_left_it() -> None:
    profiler = SessionProfiler()

    async def fail() -> None:
        async with profiler.session("async") as span:
            span.record_tokens(1, 1, 0)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(fail())
    with pytest.raises(KeyboardInterrupt), profiler.session("stopped"):
        raise KeyboardInterrupt
    with profiler.session("open") as span:
        span.record({**MESSAGE, "stop_reason": "tool_use", "content": [CALL]})
    failed, stopped, suspended = profiler.records
    assert (failed.outcome, failed.total_input_tokens) == ("failed", 1)
    assert failed.error is not None
    assert (failed.error["type"], failed.error["message"]) == ("ValueError", "no")
    assert (stopped.outcome, suspended.outcome) == ("cancelled", "suspended")


CALL = {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {}}


def test_misuse_is_refused_and_changes_nothing() -> None:
    profiler = SessionProfiler()
    span = profiler.start_session("s")
    for bad in (-1, True, 1.5, "3"):
        with pytest.raises(ConfigurationError, match="input_tokens"):
            span.record_tokens(bad, 1)  # type: ignore[arg-type] # that is refused
    with pytest.raises(ConfigurationError, match="cost"):
        span.record_tokens(1, 1, "much")
    with pytest.raises(ConfigurationError, match="no answer"):
        span.record(None)
    with pytest.raises(ConfigurationError, match="is open"):
        profiler.start_session("s")
    assert (span.calls, span.total_cost_usd) == (0, Decimal(0))
    span.close()
    with pytest.raises(IllegalMoveError):
        span.record_tokens(1, 1)
    with profiler.session("s") as again:  # it goes on with another run
        assert again.calls == 0
    with pytest.raises(ConfigurationError, match="rotation"):
        SessionProfiler(rotation=object())  # type: ignore[arg-type] # that is refused


def test_an_agents_runs_are_summed_up_failed_requests_too(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    profiler, usage, told = SessionProfiler(), UsageReporter(), EventRecorder()
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
    agent = Agent(model, observers=[profiler, usage, told, JsonlReporter(path)], prices=TABLE)
    with pytest.raises(ModelError):
        agent.run("go")
    agent.run("go")
    again = SessionProfiler()
    for event in read_events(path):
        again.handle_event(event)
    assert again.records == profiler.records == offline(told.events)
    assert sum(each.failed_calls for each in profiler.records) == 1
    assert [each.outcome for each in profiler.records] == ["failed", "completed"]
    assert [each.total_input_tokens for each in profiler.records] == [100, 10]  # of the first what was told
    costs = [each.total_cost_usd or Decimal(0) for each in profiler.records]
    assert costs[1] == Decimal("0.00006")
    assert usage.total.costs["USD"] == sum(costs)


@quick
@given(event_lists(max_size=25))
def test_any_log_gives_the_summaries_that_its_events_gave_live(events: list[Any]) -> None:
    live = SessionProfiler()
    for event in events:
        live.handle_event(event)
    assert live.records == offline(events)


CALLS = st.lists(
    st.tuples(
        st.none() | st.integers(0, 10**9),
        st.none() | st.integers(0, 10**9),
        st.none() | st.decimals(0, 100, places=6),
    ),
    max_size=5,
)


@quick
@given(CALLS, st.sampled_from([None, ValueError("no"), KeyboardInterrupt()]))
def test_direct_use_keeps_the_contract_and_reads_the_same_from_a_log(
    calls: list[tuple[int | None, int | None, Decimal | None]], error: BaseException | None
) -> None:
    told, live = EventRecorder(), SessionProfiler()
    emitter = EventEmitter([told, live], session_id="s")
    direct = SessionProfiler(emitter=emitter, prices=TABLE)
    span = direct.start_session("s", model="m")
    for given_input, output, cost in calls:
        span.record_tokens(given_input, output, cost)
    running = span.summary
    span.close(error)
    assert faults(told.events) == []
    assert direct.records == live.records == offline(told.events)
    (summary,) = direct.records
    assert running is not None
    known = [count for count, _, _ in calls if count is not None]
    assert summary.total_input_tokens == (sum(known) if known or not calls else None)
    assert (summary.total_cost_usd, summary.calls) == (running.total_cost_usd, len(calls))
    if all(cost is not None for _, _, cost in calls):
        assert summary.total_cost_usd == sum((cost or Decimal(0) for _, _, cost in calls), Decimal(0))


def test_a_span_joins_the_run_of_a_shared_emitter_and_leaves_its_end_to_it() -> None:
    emitter = EventEmitter()
    with emitter.run(model="m", prices=TABLE) as run:
        profiler = SessionProfiler(emitter=emitter)  # which has not seen the beginning
        with profiler.session() as span:
            span.record(MESSAGE)
            with run.model_call() as call:
                call.record({**MESSAGE, "id": "msg_2"})
            span.record({**MESSAGE, "id": "msg_2"})  # told already
        open_records = len(profiler.records)
    (summary,) = profiler.records
    assert open_records == 0
    assert (summary.run_id, summary.calls, summary.outcome) == (run.run_id, 2, "completed")
    assert span.summary == summary


def test_concurrent_sessions_of_threads_and_tasks_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    profiler = SessionProfiler(path)

    def work(number: int) -> None:
        with profiler.session(f"thread {number}") as span:
            for _ in range(20):
                span.record_tokens(number, 1, number)

    async def task(number: int) -> None:
        async with profiler.session(f"task {number}") as span:
            for _ in range(20):
                await asyncio.sleep(0)
                span.record_tokens(number, 1, number)

    async def tasks() -> None:
        await asyncio.gather(*map(task, range(8)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    asyncio.run(tasks())
    assert profiler.close()
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert {each["session_id"]: each["total_input_tokens"] for each in told} == {
        f"{kind} {number}": 20 * number for kind in ("thread", "task") for number in range(8)
    }
    assert {each["session_id"]: Decimal(each["total_cost_usd"]) for each in told}["task 7"] == 140


def test_many_threads_may_record_in_one_span() -> None:
    profiler = SessionProfiler()
    span = profiler.start_session("s")

    def work() -> None:
        for _ in range(25):
            span.record_tokens(1, 2, "0.1")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    span.close()
    (summary,) = profiler.records
    assert (summary.calls, summary.total_input_tokens, summary.total_output_tokens) == (200, 200, 400)
    assert summary.total_cost_usd == 20


def test_closing_the_profiler_ends_what_is_open() -> None:
    profiler = SessionProfiler()
    spans = [profiler.start_session(f"s{number}") for number in range(3)]
    assert profiler.close()
    assert profiler.close()
    assert [each.session_id for each in profiler.records] == ["s0", "s1", "s2"]
    assert not any(span.is_open for span in spans)


def test_a_span_that_is_left_asynchronously_lets_the_event_loop_go_on() -> None:
    class SlowDisk(LoopObserver):
        def handle_event(self, event: AgentEvent) -> None:
            pass

        def flush(self) -> bool:
            went_on.append(goes_on.wait(30))
            return True

    async def go() -> None:
        async with profiler.session("s") as span:
            span.record_tokens(1, 2)
            asyncio.get_running_loop().call_soon(goes_on.set)  # once the loop has its turn
        assert not span.is_open
        assert current_session() == before

    before = current_session()
    went_on: list[bool] = []
    goes_on = threading.Event()
    profiler = SessionProfiler(observers=[SlowDisk()])
    asyncio.run(go())
    assert went_on == [True]
    assert [each.calls for each in profiler.records] == [1]


def test_a_session_whose_end_was_refused_by_an_observer_can_be_begun_again() -> None:
    class Refuses(LoopObserver):
        wants = (RunFinished,)

        def handle_event(self, event: AgentEvent) -> None:
            raise ValueError(event.type)

    profiler = SessionProfiler(observers=[Refuses()], policy=FailurePolicy.FAIL_FAST)
    span = profiler.start_session("s")
    with pytest.raises(ObserverError):
        span.close()
    assert not span.is_open
    assert len(profiler.records) == 1
    again = profiler.start_session("s")
    assert again.is_open
    again.close()
