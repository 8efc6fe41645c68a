"""Where the prompt cache is lost: each cause is found, named and priced, from what the log tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

import attrs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from agentkit_loop.agent import Agent
from agentkit_loop.compaction import Compaction, Plan
from agentkit_loop.compaction_strategies import SummariseOlder
from agentkit_loop.content import Item
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, ModelRequestStarted
from agentkit_loop.testing import (
    EventRecorder,
    Reply,
    ScriptedCall,
    ScriptedFailure,
    ScriptedModel,
    VirtualClock,
)
from agentkit_loop.usage import Usage
from agentkit_reporting import (
    BreakCause,
    CacheBreaks,
    CacheRequest,
    CacheSession,
    decode_event,
    encode_event,
    read_events,
)
from agentkit_reporting.analysis.cache_breaks_requests import total_of
from tests.cli.cache_samples import (
    HELD,
    LOST,
    PRICES,
    SECRET,
    START,
    Conversation,
    read_file,
    search,
    used,
    write_all,
    write_compaction,
    write_gap,
    write_missed,
    write_resumed,
    write_tools,
)
from tests.strategies import event_lists


def sessions_of(events: Iterable[AgentEvent]) -> dict[str, CacheSession]:
    breaks = CacheBreaks()
    for event in events:
        breaks.handle_event(event)
    return {session.session_id: session for session in breaks.sessions()}


def requests_of(log: Path, session_id: str) -> tuple[CacheRequest, ...]:
    return sessions_of(read_events(log))[session_id].requests


def verdicts(requests: Iterable[CacheRequest]) -> list[str]:
    return [request.verdict for request in requests]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def test_tools_that_change_break_the_cache_and_are_named(log: Path) -> None:
    write_tools(log)
    requests = requests_of(log, "tools-1")
    assert verdicts(requests) == ["first", "held", "break", "break"]
    assert requests[2].causes == (BreakCause(what="tools", detail="+search"),)
    assert requests[3].causes == (BreakCause(what="tools", detail="-search ~read_file"),)
    assert all(request.is_verified for request in requests)


def test_what_a_break_costs_is_what_was_paid_again_less_what_reading_costs(log: Path) -> None:
    write_tools(log)
    broken = requests_of(log, "tools-1")[2]
    assert broken.lost_tokens == 2_300
    # All of it was written again, at 3.75 a million where reading costs 0.30.
    assert (broken.lost_cost, broken.currency) == (
        Decimal(2_300) * (Decimal("3.75") - Decimal("0.30")) / 10**6,
        "USD",
    )


def test_the_same_tools_in_another_order_are_another_prefix(log: Path) -> None:
    told = Conversation(log, "order-1")
    told.begin(*HELD, tools=[read_file, search])
    told.resume(LOST, tools=[search, read_file])
    cause = requests_of(log, "order-1")[2].causes[0]
    assert cause == BreakCause(what="tools", by="resume", detail="reordered")


def test_a_compaction_breaks_the_cache_at_the_first_item_that_it_takes_away(log: Path) -> None:
    write_compaction(log)
    requests = requests_of(log, "compact-1")
    assert verdicts(requests) == ["first", "held", "held", "break"]
    assert requests[3].causes == (BreakCause(what="messages", by="compaction", detail="user item", item=1),)
    # After it the request is shorter than what the cache held: no more than its own length was lost.
    assert requests[3].lost_tokens == 740
    assert all(request.is_verified for request in requests)


class ShortenThird:
    """A strategy that puts another item in place of the third."""

    name = "shorten_third"

    def plan(self, items: Sequence[Item], /) -> Plan:
        return ((0, 2), Item.user("in short"), (3, len(items)))


def test_an_item_that_is_replaced_in_its_place_is_named_and_what_stands_before_it_holds(log: Path) -> None:
    compaction = Compaction(strategy=ShortenThird(), max_items=6)
    Conversation(log, "s").begin(*HELD, used(2_300, 200, 20), used(1_200, 1_100, 40), compaction=compaction)
    requests = requests_of(log, "s")
    assert requests[3].causes == (BreakCause(what="messages", by="compaction", detail="user item", item=3),)
    assert (requests[3].lost_tokens, requests[3].is_verified) == (1_140, True)


def test_the_request_of_a_compaction_is_counted_and_not_judged(log: Path) -> None:
    compaction = Compaction(strategy=SummariseOlder(keep_items=1), max_items=4)
    talk, usages = Conversation(log, "s"), (*HELD, used(2_300, 0, 60), used(900, 100, 20))
    with talk.agent(usages, compaction=compaction) as agent, agent.start(session_id="s") as driver:
        talk.ask(driver, 3)
    told = sessions_of(read_events(log))["s"]
    assert verdicts(told.requests) == ["first", "held", "compaction", "break"]
    assert told.requests[3].causes[0].by == "compaction"
    assert told.totals.cached_tokens == 2_000 + 2_300 + 900


def test_a_longer_pause_than_the_cache_lives_is_told_as_that(log: Path) -> None:
    write_gap(log)
    broken = requests_of(log, "gap-1")[2]
    assert (broken.verdict, broken.gap_s) == ("break", 420.0)
    assert broken.causes == (BreakCause(what="expired", detail="5m"),)


def test_a_pause_is_no_break_where_the_cache_was_read_all_the_same_or_lives_an_hour(log: Path) -> None:
    for session_id, life, usage in (("read", "5m", used(2_300, 90, 30)), ("hour", "1h", LOST)):
        told = Conversation(log, session_id)
        with (
            told.agent((*HELD, usage), parameters={"cache": life}) as agent,
            agent.start(session_id=session_id) as driver,
        ):
            told.ask(driver, 2)
            told.clock.sleep(600)
            told.ask(driver, 1)
    found = sessions_of(read_events(log))
    assert verdicts(found["read"].requests) == ["first", "held", "held"]
    assert verdicts(found["hour"].requests) == ["first", "held", "missed"]


def test_less_read_though_the_prefix_matched_is_a_class_of_its_own(log: Path) -> None:
    write_missed(log)
    session = sessions_of(read_events(log))["missed-1"]
    assert verdicts(session.requests) == ["first", "held", "missed"]
    assert (session.totals.breaks, session.totals.misses, session.totals.lost_tokens) == (0, 1, 2_300)
    assert session.requests[2].is_verified


def test_another_system_prompt_after_a_resume_is_told(log: Path) -> None:
    write_resumed(log, "s", system="Be brief.")
    assert requests_of(log, "s")[2].causes == (BreakCause(what="system", by="resume"),)


def test_a_resume_that_changes_nothing_holds(log: Path) -> None:
    write_resumed(log, "s", usage=used(2_300, 100, 20))
    requests = requests_of(log, "s")
    assert verdicts(requests) == ["first", "held", "held"]
    assert all(request.is_verified for request in requests)


def test_another_model_loses_the_cache_and_its_cost_is_unknown_until_it_reads_from_its_own(log: Path) -> None:
    write_resumed(log, "s", model="claude-opus-5")
    broken = requests_of(log, "s")[2]
    assert broken.causes == (
        BreakCause(what="model", by="resume", detail="claude-sonnet-5 -> claude-opus-5"),
    )
    assert (broken.lost_tokens, broken.lost_cost) == (2_300, None)
    assert "no rate" in broken.unknown
    Conversation(log, "s").resume(used(2_400, 100, 20), model="claude-opus-5")
    assert requests_of(log, "s")[2].lost_cost == Decimal(2_300) * (Decimal("7.5") - Decimal("0.6")) / 10**6


def test_settings_break_the_cache_only_where_less_was_read(log: Path) -> None:
    write_resumed(log, "thinking", parameters={"cache": "5m", "thinking": 5})
    write_resumed(log, "tokens", parameters={"cache": "5m", "max_tokens": 5}, usage=used(2_300, 100, 20))
    found = sessions_of(read_events(log))
    assert found["thinking"].requests[2].causes == (
        BreakCause(what="settings", by="resume", detail="thinking"),
    )
    assert verdicts(found["tokens"].requests) == ["first", "held", "held"]


def test_a_cache_that_is_turned_off_is_told_once(log: Path) -> None:
    write_resumed(log, "s", parameters={"cache": None}, usage=used(0, 0, 2_400))
    Conversation(log, "s").resume(used(0, 0, 2_500), parameters={"cache": None})
    requests = requests_of(log, "s")
    assert verdicts(requests) == ["first", "held", "break", "off"]
    assert requests[2].causes == (BreakCause(what="cache_off", by="resume"),)
    assert requests[2].lost_cost == Decimal(2_300) * (Decimal(3) - Decimal("0.30")) / 10**6


def test_a_resume_from_a_redacted_log_sends_masked_items_and_so_breaks_the_cache(log: Path) -> None:
    told = Conversation(log, "s")
    with told.agent(HELD) as agent, agent.start(session_id="s") as driver:
        told.ask(driver, 1)
        told.ask(driver, 1, prompt=f"the key is {SECRET}")
    told.resume(LOST)
    requests = requests_of(log, "s")
    assert SECRET not in log.read_text()
    assert [request.is_verified for request in requests] == [True, False, False]
    assert requests[2].causes == (BreakCause(what="messages", by="redaction", item=3),)


def test_masked_content_alone_is_no_break(log: Path) -> None:
    told = Conversation(log, "s")
    usages = (*HELD, used(2_300, 100, 20))
    with told.agent(usages) as agent, agent.start(session_id="s") as driver:
        told.ask(driver, 1)
        told.ask(driver, 1, prompt=f"the key is {SECRET}")
        told.ask(driver, 1)
    requests = requests_of(log, "s")
    assert verdicts(requests) == ["first", "held", "held"]
    assert not requests[2].is_verified


def test_a_fork_goes_on_from_the_chain_of_its_origin(log: Path) -> None:
    write_missed(log, "origin")
    later = VirtualClock(START)
    later.sleep(60)
    Conversation(log, "origin", later).fork("same", used(2_400, 100, 2))
    Conversation(log, "origin", later).fork("other", LOST, system="Be brief.")
    found = sessions_of(read_events(log))
    assert verdicts(found["same"].requests) == ["held"]
    assert found["other"].requests[0].causes == (BreakCause(what="system", by="fork"),)


def test_a_fork_of_an_earlier_point_is_judged_against_the_request_before_it(log: Path) -> None:
    write_missed(log, "origin")
    second = [event for event in read_events(log) if isinstance(event, ModelRequestStarted)][1]
    later = VirtualClock(START)
    later.sleep(60)
    Conversation(log, "origin", later).fork("early", used(2_000, 90, 3), at=second.seq - 1)
    assert verdicts(sessions_of(read_events(log))["early"].requests) == ["held"]


def test_a_fork_whose_items_the_log_masks_is_no_break_where_everything_was_read(log: Path) -> None:
    told, live = Conversation(log, "origin"), EventRecorder()
    with told.agent(HELD) as agent, agent.start(session_id="origin") as driver:
        driver.add_observer(live)
        told.ask(driver, 1, prompt=f"the key is {SECRET}")
        told.ask(driver, 1)
    begun = next(read_events(log))
    for session_id, usage in (("same", used(2_300, 100, 20)), ("lost", LOST)):
        with (
            told.agent([usage]) as agent,
            agent.fork([begun, *live.events], session_id=session_id) as driver,
        ):
            told.ask(driver, 1)
    found = sessions_of(read_events(log))
    assert SECRET not in log.read_text()
    assert verdicts(found["same"].requests) == ["held"]
    assert found["lost"].requests[0].causes == (BreakCause(what="messages", by="fork"),)


def test_nothing_is_held_by_a_cache_that_was_never_written(log: Path) -> None:
    Conversation(log, "s").begin(used(0, 0, 100), used(0, 0, 200), used(0, 250, 60), used(250, 50, 60))
    assert verdicts(requests_of(log, "s")) == ["first", "empty", "empty", "held"]


def test_what_the_provider_did_not_tell_is_unknown_and_never_zero(log: Path) -> None:
    write_resumed(log, "s", usage=None, system="Be brief.")
    Conversation(log, "quiet").begin(None, Usage(input_tokens=5, output_tokens=1))
    found = sessions_of(read_events(log))
    broken = found["s"].requests[2]
    assert (broken.verdict, broken.lost_tokens, broken.lost_cost) == ("break", None, None)
    assert found["s"].totals.lost_unknown == 1
    assert verdicts(found["quiet"].requests) == ["first", "unknown"]
    assert found["quiet"].totals.uncounted == 2


def test_what_was_written_is_held_also_where_nobody_told_what_was_read(log: Path) -> None:
    wrote = Usage(input_tokens=100, cache_write_input_tokens=2_000, output_tokens=1)
    Conversation(log, "s").begin(wrote, used(2_000, 0, 120), wrote, used(500, 0, 2_000))
    found = sessions_of(read_events(log))["s"]
    assert verdicts(found.requests) == ["first", "held", "unknown", "missed"]
    assert found.requests[3].lost_tokens == 1_500
    assert found.totals.uncounted == 2
    assert found.totals.cached_share == 2_500 / 4_620  # of the two that told it


def test_a_share_that_nobody_told_is_unknown(log: Path) -> None:
    Conversation(log, "s").begin(*[Usage(input_tokens=100, output_tokens=1)] * 3)
    totals = sessions_of(read_events(log))["s"].totals
    assert (totals.cached_share, totals.uncounted, totals.fresh_tokens) == (None, 3, 300)


def test_a_provider_that_tells_no_writes_leaves_open_what_a_break_lost(log: Path) -> None:
    told = Conversation(log, "s")
    told.begin(Usage(input_tokens=200, cached_input_tokens=0), Usage(input_tokens=20, cached_input_tokens=0))
    told.resume(Usage(input_tokens=250, cached_input_tokens=0), system="Be brief.")
    requests = requests_of(log, "s")
    assert verdicts(requests) == ["first", "empty", "break"]
    assert requests[2].lost_tokens is None


def test_a_failed_request_is_not_judged_and_the_next_one_is_judged_against_the_one_before() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    replies = [
        Reply(text="one", usage=HELD[0]),
        Reply(fail=ScriptedFailure()),
        Reply(text="two", usage=HELD[1]),
    ]
    with (
        Agent(ScriptedModel(replies, clock=clock), observers=[events], clock=clock) as agent,
        agent.start(session_id="s") as driver,
    ):
        driver.run("one")
        driver.run("two")
    assert verdicts(sessions_of(events.events)["s"].requests) == ["first", "failed", "held"]


def test_a_sub_agent_is_a_chain_of_its_own() -> None:
    clock, events = VirtualClock(START), EventRecorder()
    child = Agent(ScriptedModel([Reply(text="found", usage=used(0, 50, 1))], clock=clock), name="finder")
    call = Reply(calls=(ScriptedCall(name="finder", input={"prompt": "look"}),), usage=HELD[0])
    model = ScriptedModel([call, Reply(text="done", usage=HELD[1])], clock=clock)
    with Agent(model, tools=[child.as_tool(description="Finds.")], observers=[events], clock=clock) as agent:
        root = agent.run("go").session_id
    found = sessions_of(events.events)
    assert verdicts(found.pop(root).requests) == ["first", "held"]
    ((session_id, of_child),) = found.items()
    assert (verdicts(of_child.requests), of_child.parent_session) == (["first"], root)
    assert session_id != root


def test_a_hand_written_loop_is_judged_as_well() -> None:
    events = EventRecorder()
    with EventEmitter([events], session_id="s", clock=VirtualClock(START)).run(
        model="m", prices=PRICES
    ) as run:
        for usage in (*HELD, LOST):
            run.input("and then?")
            run.record_model_call(model="claude-sonnet-5", usage=usage, stop_reason="end_turn")
    assert verdicts(sessions_of(events.events)["s"].requests) == ["first", "held", "missed"]


def test_what_the_cache_saved_is_what_reading_saved_less_what_writing_cost(log: Path) -> None:
    Conversation(log, "s").begin(*HELD)
    totals = sessions_of(read_events(log))["s"].totals
    saved = (2_000 * (Decimal(3) - Decimal("0.30")) - 2_300 * (Decimal("3.75") - 3)) / 10**6
    assert totals.saved_costs == {"USD": saved}
    assert totals.cached_share == 2_000 / 4_420


def test_a_request_without_an_end_is_told_as_it_stands(log: Path) -> None:
    Conversation(log, "s").begin(*HELD)
    events = list(read_events(log))
    place = max(n for n, event in enumerate(events) if isinstance(event, ModelRequestStarted))
    assert verdicts(sessions_of(events[: place + 1])["s"].requests) == ["first", "failed"]


def test_a_file_that_is_given_twice_counts_once(log: Path) -> None:
    write_all(log)
    events = list(read_events(log))
    assert sessions_of([*events, *events]) == sessions_of(events)


def test_digests_suffice_where_content_was_left_out(log: Path) -> None:
    write_tools(log)
    write_compaction(log)
    lines = log.read_text(encoding="utf-8").replace("and then?", "#").replace("answer", "#").splitlines()
    events = [decode_event(line.encode()) for line in lines]
    found, whole = sessions_of(events), sessions_of(read_events(log))
    for session_id, session in whole.items():
        told = found[session_id].requests
        assert verdicts(told) == verdicts(session.requests)
        assert [each.causes for each in told] == [each.causes for each in session.requests]
        assert not any(each.is_verified for each in told)


def test_live_is_replayed_and_sessions_may_be_interleaved(log: Path) -> None:
    write_all(log)
    events = list(read_events(log))
    whole = sessions_of(events)
    assert sessions_of(decode_event(encode_event(event)) for event in events) == whole
    interleaved = sorted(events, key=lambda event: (event.seq, event.session_id))
    assert sessions_of(interleaved) == whole
    total = total_of(whole.values())
    assert (total.breaks, total.misses, total.requests) == (5, 1, 17)


def in_one_run(events: list[AgentEvent]) -> list[AgentEvent]:
    return [attrs.evolve(event, run_id="run") for event in events]


@given(event_lists(max_size=12) | event_lists(max_size=12).map(in_one_run))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_events_are_taken_and_live_is_replayed(events: list[AgentEvent]) -> None:
    found = sessions_of(events)
    assert sessions_of(decode_event(encode_event(event)) for event in events) == found
    for session in found.values():
        assert session.totals.requests == len(session.requests)
        assert all(request.lost_tokens is None or request.lost_tokens >= 0 for request in session.requests)
        msgspec.json.encode([request.causes for request in session.requests])
