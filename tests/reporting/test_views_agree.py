"""All views of one stream: each says the same live, told through an emitter, and over the log; and so do their sums."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ModelError
from agentkit_loop.events import ModelRequestStarted, ToolResultReceived
from agentkit_loop.retry import Retry
from agentkit_loop.steps import ApprovalRequest, AuthRequest, Step
from agentkit_loop.testing import EventRecorder, Reply, ScriptedFailure, VirtualClock
from agentkit_loop.tools import tool
from agentkit_reporting import (
    AuditLedger,
    JsonlReporter,
    SessionProfiler,
    StepLog,
    ToolRecorder,
    UsageStore,
    read_events,
)
from tests.loop.families import agent, both, calls, cost_of, drive, says, used
from tests.loop.scripts import Script, run_async, run_sync, scripts
from tests.reporting.all_views import AllViews
from tests.rules import faults

quick = settings(deadline=None, max_examples=12)


def assert_agreement(live: AllViews, recorder: EventRecorder) -> None:
    """Hold the views to the events, to each other, and to those that read the log."""
    live.close()
    offline = AllViews(live.log.parent.parent / "offline").told(read_events(live.log)).close()
    for view, told in live.said().items():
        assert offline.said()[view] == told, view
    assert offline.files() == live.files()
    for view, tokens in live.tokens().items():
        assert tokens == live.tokens()["UsageReporter"], view
    assert live.money() == dict.fromkeys(live.money(), cost_of(recorder.events))
    asked = sum(isinstance(event, ModelRequestStarted) for event in recorder.events)
    answered = sum(isinstance(event, ToolResultReceived) for event in recorder.events)
    assert live.calls() == dict.fromkeys(live.calls(), (asked, answered))


@given(script=scripts)
@quick
def test_whatever_our_loop_does_all_views_agree(script: Script) -> None:
    with tempfile.TemporaryDirectory() as place:
        live, recorder = AllViews(Path(place, "live")), EventRecorder()
        (run_async if script.asynchronous else run_sync)(script, *live.all(), recorder)
        assert_agreement(live, recorder)


@both
def test_a_family_with_retries_and_approvals_is_added_up_alike(tmp_path: Path, on_loop: bool) -> None:
    live, recorder = AllViews(tmp_path / "live"), EventRecorder()
    gated = tool(lambda: "done", name="gated", description="g", approval=True)
    again = Reply(text="no", usage=used(3), fail=ScriptedFailure(error_class="overloaded", after_chunks=1))
    child = agent("child", [calls("gated", tokens=5), says("seen", tokens=7)], tools=[gated])
    parent = agent(
        "parent",
        [again, calls("child", "gated", tokens=11, prompt="p"), says("end", tokens=13)],
        tools=[child.as_tool(description="helps"), gated],
        observers=[*live.all(), recorder],
        retry=Retry(max_attempts=2, base_ms=0),
        clock=VirtualClock(),
    )

    def answer(_: object, step: Step) -> None:
        assert isinstance(step, ApprovalRequest | AuthRequest)
        if isinstance(step, ApprovalRequest):
            step.approve(by="ann")

    assert drive(parent, answer, on_loop=on_loop).text == "end"
    assert cost_of(recorder.events) == 3 + 5 + 7 + 11 + 13
    assert_agreement(live, recorder)


def test_a_run_that_fails_for_good_is_added_up_alike(tmp_path: Path) -> None:
    live, recorder = AllViews(tmp_path / "live"), EventRecorder()
    broken = Reply(text="no", usage=used(3), fail=ScriptedFailure(error_class="auth", after_chunks=1))
    with pytest.raises(ModelError):
        agent("a", [broken], observers=[*live.all(), recorder], clock=VirtualClock()).run("go")
    assert_agreement(live, recorder)


COUNTS = st.integers(0, 10_000)
REQUESTS = st.lists(
    st.tuples(COUNTS, COUNTS, st.none() | st.decimals(0, 9, places=4), st.booleans()), max_size=4
)
TOOLS = st.lists(st.sampled_from(["search", "fetch"]), max_size=3)


@given(requests=REQUESTS, tools=TOOLS, ending=st.sampled_from([None, ValueError, KeyboardInterrupt]))
@quick
def test_whatever_a_hand_written_loop_tells_all_views_agree(
    requests: list[tuple[int, int, Decimal | None, bool]],
    tools: list[str],
    ending: type[BaseException] | None,
) -> None:
    with tempfile.TemporaryDirectory() as place:
        live, recorder = AllViews(Path(place, "live")), EventRecorder()
        emitter = EventEmitter([*live.all(), recorder])
        try:
            with emitter.run(model="m", metadata={"phase": 1}, prices=None) as run:
                for fresh, out, cost, fails in requests:
                    usage = {"input_tokens": fresh, "output_tokens": out}
                    error = "cut" if fails else None
                    run.record_model_call(usage=usage, cost=cost, error=error, stop_reason=None)
                for name in tools:
                    run.record_tool_call(name, {"q": 1}, "found")
                if tools:
                    with run.child(model="m") as inner:
                        inner.record_model_call(usage={"input_tokens": 1, "output_tokens": 1}, cost="0.5")
                run.decision("reasoning", "because")
                if ending is not None:
                    raise ending
        except (ValueError, KeyboardInterrupt):
            assert ending is not None
        assert_agreement(live, recorder)


def test_views_that_are_told_directly_share_a_log_by_one_emitter(tmp_path: Path) -> None:
    log, recorder = JsonlReporter(tmp_path / "run.jsonl"), EventRecorder()
    emitter = EventEmitter([log, recorder], session_id="run-1", run_id="run-1")
    profiler = SessionProfiler(tmp_path / "sessions.jsonl", emitter=emitter)
    tools = ToolRecorder(tmp_path / "tools.jsonl", emitter=emitter)
    ledger = AuditLedger(tmp_path / "decisions.jsonl", emitter=emitter)
    store = UsageStore(tmp_path / "usage.jsonl", emitter=emitter)
    steps = StepLog(tmp_path / "steps.jsonl", "run-1", emitter=emitter)
    search = tools.instrument("search", lambda query: f"{query}: found")
    with profiler.session("run-1") as span, steps, ledger, store, tools:
        span.record_tokens(10, 5, cost="0.25")
        ledger.log("run-1", type="reasoning", detail="because")
        steps.record_llm_call("m", 20, 6, cost="0.5")
        search("Q3")
        store.record("run-1", model="m", input_tokens=1, output_tokens=1, cost="0.125")
        assert (span.calls, span.total_cost_usd) == (3, Decimal("0.875"))
        assert store.cost_for_run("run-1") == Decimal("0.875")
        assert len(steps.filter(type="llm_call")) == 3
        assert len(steps.filter(type="tool_call")) == 1
        assert [each.tool_name for each in tools.records()] == ["search"]
        assert "because" in [each.detail for each in ledger.get_trace("run-1")]
    log.close()
    told = list(read_events(tmp_path / "run.jsonl"))
    assert faults(told) == faults(recorder.events) == []
    assert [event.seq for event in told] == [*range(1, len(told) + 1)]


@pytest.mark.parametrize("name", [None, "sessions.jsonl"])
def test_what_became_of_summaries_is_accounted_for(name: str | None, tmp_path: Path) -> None:
    profiler = SessionProfiler(None if name is None else tmp_path / name)
    for _ in range(2):
        with profiler.session("s"):
            pass
    assert profiler.close()
    account = profiler.account()
    assert (account.name, account.received, account.is_complete) == ("SessionProfiler", 2, True)
