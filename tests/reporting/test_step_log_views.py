"""A step log is the same live, told directly and over a log; its figures are those of the file."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_loop.testing import EventRecorder, VirtualClock
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.percentiles import Percentiles
from agentkit_reporting.records.step_log import StepLog, StepRuns, ToolCallStep
from tests.loop.scripts import Script, run_sync, scripts
from tests.reporting.written_sessions import decisions, retries

quick = settings(deadline=None, max_examples=40)


def over(events: Iterable[AgentEvent], log: StepLog) -> StepLog:
    """Tell a log what another watched, after a trip through the codec."""
    for event in events:
        if isinstance(event, log.wants):
            log.handle_event(decode_event(encode_event(event)))
    return log


@given(script=scripts, name=st.sampled_from([None, "run-1"]))
@quick
def test_a_log_of_our_loop_is_equal_live_and_afterwards(script: Script, name: str | None) -> None:
    live = StepLog(None, name, metadata={"environment": "test"})
    events = run_sync(script, live).events
    later = over(events, StepLog(None, name, metadata={"environment": "test"}))
    assert (live.steps, live.headers) == (later.steps, later.headers)
    for run_id in {step.run_id for step in live.steps}:
        assert live.summarize(run_id) == later.summarize(run_id)
        assert [step.step for step in live.filter(run_id=run_id)] == [
            *range(1, len(live.filter(run_id=run_id)) + 1)
        ]


# --- a hand-written loop that tells everything as it happens, and one that records it afterwards

JSONS = st.none() | st.integers(-5, 5) | st.text(max_size=4) | st.lists(st.booleans(), max_size=2)
COUNTS = st.integers(0, 10**6)
DURATIONS = st.none() | st.integers(0, 9_000) | st.floats(0, 1e6)
REASONS = st.sampled_from(["tool_use", "end_turn", "max_tokens", "refusal", "some_word"])


@attrs.frozen
class Asked:
    model: str
    counts: dict[str, int]
    reason: str
    duration_ms: float | None
    error: str | None


@attrs.frozen
class Called:
    tool: str
    input: dict[str, Any]
    output: Any
    error: str | None
    duration_ms: float | None


FACTS = st.lists(
    st.builds(
        Asked,
        st.sampled_from(["m-1", "m-2"]),
        st.fixed_dictionaries(
            {"input_tokens": COUNTS, "output_tokens": COUNTS}, optional={"cache_read_input_tokens": COUNTS}
        ),
        REASONS,
        DURATIONS,
        st.none() | st.none() | st.text(max_size=3),
    )
    | st.builds(
        Called,
        st.sampled_from(["search", "read"]),
        st.dictionaries(st.text(max_size=3), JSONS, max_size=2),
        JSONS,
        st.none() | st.none() | st.text(max_size=3),
        DURATIONS,
    ),
    max_size=8,
)


def record_directly(log: StepLog, facts: list[Asked | Called]) -> None:
    for fact in facts:
        if isinstance(fact, Asked):
            log.record_llm_call(
                fact.model,
                usage=fact.counts,
                stop_reason=fact.reason,
                duration_ms=fact.duration_ms,
                error=fact.error,
            )
        else:
            log.record_tool_call(fact.tool, fact.input, fact.output, fact.error, fact.duration_ms)


def tell_as_it_happens(emitter: EventEmitter, facts: list[Asked | Called]) -> None:
    with emitter.run() as run:
        for fact in facts:
            if isinstance(fact, Asked):
                with run.model_call(fact.model) as call:
                    call.note_duration(fact.duration_ms)
                    if fact.error is None:
                        call.usage(fact.counts, stop_reason=fact.reason)
                    else:
                        call.fail(fact.error)
            else:
                with run.tool_call(fact.tool, fact.input) as body:
                    if fact.duration_ms is None:
                        body.note_unmeasured()
                    body.result(fact.output, error=fact.error, duration_ms=fact.duration_ms)


def timeless(log: StepLog) -> list[Any]:
    return [msgspec.structs.replace(step, ts=0.0) for step in log.steps]


@given(facts=FACTS)
@quick
def test_what_is_recorded_directly_told_live_and_read_from_a_log_is_equal(
    tmp_path_factory: pytest.TempPathFactory, facts: list[Asked | Called]
) -> None:
    path = tmp_path_factory.mktemp("steps") / "steps.jsonl"
    recorder = EventRecorder()
    with StepLog(path, "r", observers=[recorder], fsync="never") as direct:
        record_directly(direct, facts)
    live = StepLog(None, "r")
    with EventEmitter([live], session_id="r", run_id="r") as emitter:
        tell_as_it_happens(emitter, facts)
    offline = over(recorder.events, StepLog(None, "r"))
    assert timeless(direct) == timeless(live) == timeless(offline)
    assert direct.steps == offline.steps
    assert [step.step for step in direct.steps] == [*range(1, len(facts) + 1)]
    for step, fact in zip(direct.steps, facts, strict=True):
        assert step.duration_ms == fact.duration_ms
        assert step.error == fact.error
        if isinstance(fact, Called) and isinstance(step, ToolCallStep) and fact.error is None:
            assert step.output == fact.output
    if facts:
        read = StepLog.read(path, strict=True)
        assert (read.steps, read.headers, read.summarize()) == (
            direct.steps,
            direct.headers,
            direct.summarize(),
        )


@pytest.mark.parametrize("session", [decisions, retries], ids=["decisions", "retries"])
def test_refusals_retries_and_edits_are_told_for_what_they_are(session: Callable[..., None]) -> None:
    log = StepLog(None)
    session(log.handle_event)
    told = [
        (step.tool, step.input, step.status)
        if isinstance(step, ToolCallStep)
        else (step.stop_reason, step.error_class)
        for step in log.steps
    ]
    assert told == EXPECTED[session.__name__]


EXPECTED = {
    "decisions": [
        ("tool_use", None),
        ("delete", {"path": "build/tmp"}, "ok"),
        ("delete", {"path": "src"}, "denied"),
        ("open_issue", {"title": "Clean"}, "interrupted"),
    ],
    "retries": [(None, "stream_cut"), ("end_turn", None), (None, "overloaded")],
}


def test_a_log_on_a_shared_emitter_sees_what_the_host_tells_there_and_what_it_is_told_itself() -> None:
    log = StepLog(None, emitter=(emitter := EventEmitter(session_id="s", run_id="r")))
    with emitter.run(metadata={"environment": "test"}) as run:
        run.record_tool_call("told there")
        log.record_tool_call("told here")
    assert [getattr(step, "tool", None) for step in log.steps] == ["told there", "told here"]
    assert {(step.run_id, step.step) for step in log.steps} == {("r", 1), ("r", 2)}
    assert log.headers[0].metadata == {"environment": "test"}


def test_a_run_that_was_told_of_later_began_when_its_metadata_says() -> None:
    recorder = EventRecorder()
    clock = VirtualClock()
    with StepLog(None, "r", clock=clock, observers=[recorder]) as log:
        clock.sleep(3)
        log.record_tool_call("t")
    (started,) = recorder.of(RunStarted)
    assert started.timestamp.timestamp() - log.headers[0].ts == 3
    assert log.headers[0].metadata == {}
    for wrong in ("yesterday", 7, "2026-01-01T00:00:00", None):
        told = attrs.evolve(started, metadata={"began_at": wrong})
        over([told], later := StepLog(None))
        assert later.headers[0].ts == started.timestamp.timestamp()
        assert later.headers[0].metadata == {"began_at": wrong}


# --- percentiles


@given(st.lists(st.none() | st.floats(0, 1e9), max_size=60))
def test_percentiles_are_those_of_the_standard_library(values: list[float | None]) -> None:
    found = Percentiles.of(values)
    known = [value for value in values if value is not None]
    assert found.count == len(known)
    if len(known) < 2:
        assert (found.p50, found.p99) == ((known[0], known[0]) if known else (None, None))
        return
    cuts = statistics.quantiles(known, n=100, method="inclusive")
    assert (found.p50, found.p95, found.p99) == pytest.approx((cuts[49], cuts[94], cuts[98]))
    assert found.maximum == max(known)


# --- many runs


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Make three runs in two files, with durations that are known."""
    clock = VirtualClock()
    for name, environment, reasons in (("a", "prod", 1), ("b", "prod", 0), ("c", "test", 2)):
        file = tmp_path / ("one.jsonl" if name != "c" else "two.jsonl")
        with StepLog(file, name, metadata={"environment": environment}, clock=clock) as log:
            for number in range(3):
                clock.sleep(1)
                log.record_llm_call("m", 10, 5, "max_tokens" if number < reasons else "tool_use")
                log.record_tool_call("search", {"q": number}, "x" * 50, duration_ms=100 * (number + 1))
            if name == "b":
                log.record_tool_call("read", error="gone", duration_ms=3_000)
            clock.sleep(ord(name) - ord("a"))
            log.record_llm_call("m", 1, 1, "end_turn")
    return tmp_path


def test_runs_of_many_files_are_found_filtered_and_measured(many: Path) -> None:
    runs = StepLog.runs(many)
    assert list(runs) == ["a", "b", "c"]
    assert {run_id: summary.duration_ms for run_id, summary in runs.summaries.items()} == {
        "a": 3_000, "b": 4_000, "c": 5_000
    }  # fmt: skip
    assert list(runs.filter(stop_reason="max_tokens")) == ["a", "c"]
    assert list(runs.filter(stop_reason="max_tokens", metadata={"environment": "prod"})) == ["a"]
    assert list(runs.filter(errors=True)) == ["b"]
    assert list(runs.filter(metadata={"environment": "moon"})) == []
    durations = runs.run_duration_ms
    assert (durations.count, durations.p50, durations.maximum) == (3, 4_000, 5_000)
    latencies = [100, 200, 300] * 3 + [3_000]
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    found = runs.tool_latency_ms
    assert (found.count, found.p50, found.p95, found.p99) == pytest.approx((10, cuts[49], cuts[94], cuts[98]))
    assert not any(
        step.input for step in runs["a"].filter(type="tool_call") if isinstance(step, ToolCallStep)
    )
    with pytest.raises(ConfigurationError, match="no filter"):
        runs.filter(colour="red")


def test_steps_are_filtered_by_what_they_are(many: Path) -> None:
    steps = StepLog.read(many, "b")
    assert [step.step for step in steps.filter(tool="read")] == [7]
    assert [step.step for step in steps.filter(tool=["read", "search"], errors=False)] == [2, 4, 6]
    assert [step.step for step in steps.filter(type="llm_call", stop_reason="end_turn")] == [8]
    assert steps.filter(model="m", type="tool_call") == ()
    assert steps.summarize().tools["search"] == {
        "calls": 3, "errors": 0, "p50_ms": 200, "p95_ms": 290, "p99_ms": 298
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match="name one"):
        StepLog.read(many).summarize()


def test_files_that_hold_anything_else_are_read_as_far_as_they_are_step_logs(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with StepLog(path, "r") as log:
        log.record_tool_call("t", duration_ms=5)
    whole = json.loads(path.read_text().splitlines()[1])
    strange: list[Any] = [
        {**whole, "step": "one"},
        {**whole, "run_id": None},
        {**whole, "type": ["tool_call"]},
        {**whole, "type": "note"},
        {**whole, "step": 2, "duration_ms": "[redacted:card]", "tool": 5, "input": []},
        {"run_id": "r", "step": 3, "type": "llm_call"},
        {"run_id": "r", "type": "header"},
        {**whole, "step": 4, "type": "llm_call", "cost": "1E-999999", "currency": "USD", "ts": 1e300},
        {**whole, "step": 5, "type": "llm_call", "cost": "lots", "currency": "USD", "input_tokens": 10**30},
    ]
    random.Random(1).shuffle(strange)  # noqa: S311 - no secret
    path.write_text(
        path.read_text() + "not a record\n" + "".join(json.dumps(each) + "\n" for each in strange)
    )
    read = StepLog.read(path)
    assert sorted(step.step for step in read.steps) == [1, 2, 3, 4, 5]
    assert (read.bad_count, read.summarize().tool_call_count) == (1, 2)
    assert read.filter(tool="t")[0] == log.steps[0]
    with pytest.raises(LogError):
        StepLog.read(path, strict=True)
    with pytest.raises(LogError):
        StepLog.read(tmp_path / "nothing.jsonl")
    assert isinstance(StepLog.runs(path), StepRuns)
