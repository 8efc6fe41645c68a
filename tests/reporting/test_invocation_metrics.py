"""InvocationMetricsCollector (BEHAVIOUR.md 67): append-only, in order, each record of the file exactly once."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import AgentEvent, CustomEvent, RunFinished, RunStarted
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import (
    InvocationMetric,
    InvocationMetricsCollector,
    JsonlReporter,
    check_log,
    read_events,
)
from tests.reporting.metric_samples import METRICS, metric
from tests.rules import faults


class KeptWarnings:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def warning(self, message: str, /, *args: object) -> None:
        self.told.append(message % args if args else message)


def lines_of(collector: InvocationMetricsCollector) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in collector.path.read_bytes().splitlines()]


def test_a_metric_is_in_memory_and_in_the_file_at_once(tmp_path: Path) -> None:
    collector = InvocationMetricsCollector(tmp_path / "metrics")
    first, second = metric(1), metric(2, task_id="t", premium_requests=2)
    collector.record(first)
    collector.record(second.as_record())
    assert collector.get_all() == [first, second]
    assert (collector.get_count(), collector.checkpoint_count()) == (2, 2)
    assert lines_of(collector) == [first.as_record(), second.as_record()]
    assert list(lines_of(collector)[1])[:4] == ["invocation_id", "agent", "phase", "task_id"]
    assert collector.compute_aggregate().total_invocations == 2
    assert (collector.path.stat().st_mode & 0o777, collector.path.parent.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )


def test_what_is_no_metric_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    collector = InvocationMetricsCollector(tmp_path)
    for bad in ({"invocation_id": "x"}, 7, {**metric().as_record(), "attempt": 0}):
        with pytest.raises(ConfigurationError):
            collector.record(bad)  # type: ignore[arg-type] # the point
    assert collector.get_all() == []
    assert not collector.path.exists()


def test_what_cannot_be_written_is_not_in_memory_and_the_caller_hears_of_it(tmp_path: Path) -> None:
    collector = InvocationMetricsCollector(tmp_path)
    collector.record(metric(1))
    collector.close()
    collector.close()
    with pytest.raises(LogError):
        collector.record(metric(2))
    assert collector.get_all() == [metric(1)]


def test_each_record_is_told_as_an_event_in_a_run_of_the_collectors_own(tmp_path: Path) -> None:
    told: list[AgentEvent] = []
    log = tmp_path / "log.jsonl"
    with InvocationMetricsCollector(tmp_path, observers=[told.append, JsonlReporter(log)]) as collector:
        collector.record(metric(1))
        collector.record(metric(2))
    collector.close()
    assert [type(event) for event in told] == [RunStarted, CustomEvent, CustomEvent, RunFinished]
    assert [(event.name, event.data) for event in told if isinstance(event, CustomEvent)] == [
        ("metric_recorded", {"metric": metric(number).as_record()}) for number in (1, 2)
    ]
    assert check_log(log).faults == ()
    assert collector.get_all() == [metric(1), metric(2)]


def test_an_emitter_without_an_open_run_gets_one(tmp_path: Path) -> None:
    recorder = EventRecorder()
    with (
        EventEmitter([recorder]) as emitter,
        InvocationMetricsCollector(tmp_path, emitter=emitter) as collector,
    ):
        collector.record(metric(1))
    assert faults(recorder.events) == []
    assert collector.get_all() == [metric(1)]


def test_an_observer_that_fails_is_logged_and_no_record_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(event: AgentEvent) -> None:
        raise ValueError(event.type)

    with InvocationMetricsCollector(tmp_path, observers=[failing]) as collector:
        collector.record(metric(1))
    assert collector.get_all() == [metric(1)]
    assert "failing" in caplog.text


def test_a_shared_emitter_tells_them_in_its_own_session(tmp_path: Path) -> None:
    told: list[AgentEvent] = []
    emitter = EventEmitter([told.append], session_id="ses_shared")
    collector = InvocationMetricsCollector(tmp_path, emitter=emitter)
    with emitter.run(agent_name="own"):
        collector.record(metric(1))
    assert {event.session_id for event in told} == {"ses_shared"}
    assert collector.get_all() == [metric(1)]  # a run that only carried it is no invocation


def test_a_malformed_event_is_skipped_with_a_warning(tmp_path: Path) -> None:
    logger = KeptWarnings()
    collector = InvocationMetricsCollector(tmp_path, logger)
    bad: list[Any] = [None, {}, {"metric": {}}, {"metric": [1]}]
    for data in bad:
        EventEmitter([collector]).emit(CustomEvent(name="metric_recorded", data=data))
    assert collector.get_all() == []
    assert len(logger.told) == 4


@pytest.mark.parametrize("known", [0, 1, 2, 3])
def test_after_loading_memory_has_each_record_of_the_file_once(tmp_path: Path, known: int) -> None:
    before = InvocationMetricsCollector(tmp_path)
    for number in range(3):
        before.record(metric(number))
    after = InvocationMetricsCollector(tmp_path)
    after.load_from_disk(known)
    assert after.get_all() == [metric(0), metric(1), metric(2)]
    after.record(metric(3))
    own = after.get_all()
    after.load_from_disk(known)
    assert after.get_all() == own
    assert all(new is old for new, old in zip(after.get_all()[:known], own[:known], strict=True))
    before.load_from_disk(3)
    assert before.get_count() == 4


def test_a_count_beyond_the_file_is_refused_with_both_numbers(tmp_path: Path) -> None:
    collector = InvocationMetricsCollector(tmp_path)
    with pytest.raises(ConfigurationError, match=r"skip_count=1 .* holds 0 records"):
        collector.load_from_disk(1)
    collector.record(metric(1))
    with pytest.raises(ConfigurationError, match=r"skip_count=5 .* holds 1 records; give at most 1"):
        collector.load_from_disk(5)
    assert collector.get_all() == [metric(1)]
    for bad in (-1, True, "1"):
        with pytest.raises(ConfigurationError, match=r"skip_count=.* refused"):
            collector.load_from_disk(bad)  # type: ignore[arg-type] # the point


def test_malformed_lines_are_skipped_with_a_warning_and_not_counted(tmp_path: Path) -> None:
    writer = InvocationMetricsCollector(tmp_path)
    writer.record(metric(1))
    writer.close()
    with writer.path.open("ab") as file:
        file.write(b'not json\n{"invocation_id":"x"}\n\xff\n[1]\n{"torn": ')
    with InvocationMetricsCollector(tmp_path) as more:
        more.record(metric(2))
    logger = KeptWarnings()
    collector = InvocationMetricsCollector(tmp_path, logger)
    assert collector.checkpoint_count() == 2
    assert logger.told == []
    collector.load_from_disk(1)
    assert collector.get_all() == [metric(1), metric(2)]
    assert len(logger.told) == 5
    assert all("\n" not in told for told in logger.told)


def test_many_malformed_lines_are_counted(tmp_path: Path) -> None:
    collector = InvocationMetricsCollector(tmp_path, logger := KeptWarnings())
    collector.path.write_bytes(b"x\n" * 2_000)
    collector.load_from_disk()
    assert len(logger.told) == 21
    assert logger.told[-1] == "skipped 1980 more malformed lines"


@settings(max_examples=30)  # each writes a file and reads it
@given(st.lists(METRICS, max_size=8), st.integers(0, 8))
def test_whatever_is_recorded_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory, metrics: list[InvocationMetric], known: int
) -> None:
    folder = tmp_path_factory.mktemp("metrics")
    with InvocationMetricsCollector(folder) as collector:
        for each in metrics:
            collector.record(each)
        assert collector.get_all() == metrics
    loaded = InvocationMetricsCollector(folder)
    loaded.load_from_disk(min(known, len(metrics)))
    assert loaded.get_all() == metrics
    assert loaded.compute_aggregate() == collector.compute_aggregate()


def test_direct_live_and_offline_use_agree(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    live = InvocationMetricsCollector(tmp_path / "live")
    direct = InvocationMetricsCollector(tmp_path / "direct", observers=[live, JsonlReporter(log)])
    for number in range(5):
        direct.record(metric(number))
    offline = InvocationMetricsCollector(tmp_path / "offline")
    for event in read_events(log):
        offline.handle_event(event)
    assert direct.get_all() == live.get_all() == offline.get_all() == [metric(number) for number in range(5)]
    assert lines_of(direct) == lines_of(live) == lines_of(offline)


def test_tasks_write_each_in_its_own_order(tmp_path: Path) -> None:
    collector = InvocationMetricsCollector(tmp_path)

    async def work(task: int) -> None:
        for number in range(10):
            await collector.arecord(metric(number, task_id=f"{task}"))

    async def main() -> None:
        await asyncio.gather(*(work(task) for task in range(5)))

    asyncio.run(main())
    recorded = collector.get_all()
    assert [each.as_record() for each in recorded] == lines_of(collector)
    for task in range(5):
        own = [each.invocation_id for each in recorded if each.task_id == f"{task}"]
        assert own == [f"inv-{number}" for number in range(10)]


def _record_some(folder: Path, worker: int) -> None:
    with InvocationMetricsCollector(folder) as collector:
        for number in range(25):
            collector.record(metric(number, task_id=f"{worker}"))


def test_threads_and_processes_append_to_one_file(tmp_path: Path) -> None:
    shared = InvocationMetricsCollector(tmp_path)
    with multiprocessing.get_context("spawn").Pool(4) as pool, ThreadPoolExecutor(8) as threads:
        others = pool.starmap_async(_record_some, [(tmp_path, worker) for worker in range(4)])
        own = [
            threads.submit(shared.record, metric(number, task_id=f"thread {thread}"))
            for thread in range(8)
            for number in range(25)
        ]
        for each in own:
            each.result()
        others.get()
    assert (shared.get_count(), shared.checkpoint_count()) == (200, 300)
    shared.load_from_disk(200)
    assert shared.get_count() == 300
    assert len({(each.task_id, each.invocation_id) for each in shared.get_all()}) == 300
    for worker in range(4):
        numbers = [each.invocation_id for each in shared.get_all() if each.task_id == f"{worker}"]
        assert numbers == [f"inv-{number}" for number in range(25)]
