"""A broken sink, by itself and behind every adapter: the run is as if it were not there, and it is told once."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import AgentEvent, CustomEvent, ObserverFailed
from agentkit_loop.observers import FailurePolicy, LoopObserver
from agentkit_loop.testing import EventRecorder
from agentkit_reporting import JsonlReporter, Rotation, StdoutReporter, account_of
from agentkit_reporting.inner import ReportingAdapter
from agentkit_reporting.jsonl import MAX_OPEN_SESSIONS
from agentkit_reporting.log.read import read_events
from tests.reporting.adapters import note, quiet
from tests.reporting.sink_runs import (
    WRAPS,
    Breaking,
    Play,
    agent_of,
    descriptors_of,
    essence,
    on_thread_and_loop,
    undisturbed,
)
from tests.reporting.test_stdout_sinks import full_disk

Faulty = Callable[[Path], tuple[Breaking, Callable[[], object]]]
"""Makes a sink that breaks during the first run, and what makes the fault go away."""


class Raising(LoopObserver):
    """Raises whatever it is asked."""

    def handle_event(self, event: AgentEvent) -> None:
        raise ValueError(f"on {event.seq}")

    def flush(self) -> None:
        raise ValueError("in flush")

    def close(self) -> None:
        raise ValueError("in close")


def raises_each_time(directory: Path) -> tuple[Breaking, Callable[[], object]]:
    return Breaking(Raising(), {1: directory.exists}), directory.exists


def reader_gone(_: Path) -> tuple[Breaking, Callable[[], object]]:
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "wb", buffering=0)
    return Breaking(JsonlReporter(stream), {20: lambda: os.close(read_end)}), stream.close


def full_terminal(_: Path) -> tuple[Breaking, Callable[[], object]]:
    stream = full_disk()
    return Breaking(StdoutReporter(cast("TextIO", stream)), {}), stream.close


def full_device(directory: Path) -> tuple[Breaking, Callable[[], object]]:
    return Breaking(JsonlReporter("/dev/full"), {1: directory.exists}), directory.exists


def descriptor_closed(directory: Path) -> tuple[Breaking, Callable[[], object]]:
    path = directory / "logs" / "run.jsonl"

    def close_all() -> None:
        for fd in descriptors_of(path):
            os.close(fd)

    return Breaking(JsonlReporter(path), {20: close_all}), directory.exists


def directory_removed(directory: Path) -> tuple[Breaking, Callable[[], object]]:
    path = directory / "logs" / "run.jsonl"
    return Breaking(JsonlReporter(path), {20: lambda: shutil.rmtree(path.parent)}), directory.exists


def sessions_directory_removed(directory: Path) -> tuple[Breaking, Callable[[], object]]:
    logs = directory / "logs"
    return Breaking(JsonlReporter(logs, per="session"), {20: lambda: shutil.rmtree(logs)}), directory.exists


def rotated_directory_removed(directory: Path) -> tuple[Breaking, Callable[[], object]]:
    path = directory / "logs" / "run.jsonl"
    # Not packed: whether that is under way when the directory goes, and fails as well, is a matter of luck.
    reporter = JsonlReporter(path, rotation=Rotation(max_bytes=1_000, compress=None))
    return Breaking(reporter, {20: lambda: shutil.rmtree(path.parent, ignore_errors=True)}), directory.exists


def directory_became_a_file(directory: Path) -> tuple[Breaking, Callable[[], object]]:
    logs = directory / "logs"

    def replace() -> None:
        shutil.rmtree(logs, ignore_errors=True)
        logs.touch()

    return Breaking(JsonlReporter(logs, per="session"), {1: replace}), logs.unlink


FAULTS: dict[str, Faulty] = {
    made.__name__: made
    for made in (
        raises_each_time,
        reader_gone,
        full_terminal,
        full_device,
        descriptor_closed,
        directory_removed,
        sessions_directory_removed,
        rotated_directory_removed,
        directory_became_a_file,
    )
}


@on_thread_and_loop
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_result_is_the_same_the_fault_is_logged_once_and_the_next_session_is_in_the_log(
    fault: str, wrap: str, play: Play, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink, heal = FAULTS[fault](tmp_path)
    recorder = EventRecorder()
    observer = WRAPS[wrap](sink)
    with agent_of(observer, recorder, runs=2) as agent:
        first = play(agent)
        if isinstance(observer, ReportingAdapter):
            observer.flush(30.0)  # no run waits for a channel, and the fault is the first run's
        heal()
        second = play(agent)
    assert essence(first) == essence(second) == undisturbed(play)
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1, caplog.text

    for result in (first, second):
        told = [each for each in recorder.of(ObserverFailed) if each.session_id == result.session_id]
        assert len(told) <= 1
    if (tmp_path / "logs").exists():
        logged, told = (
            [each for each in events if each.session_id == second.session_id]
            for events in (list(read_events(tmp_path / "logs", strict=True)), recorder.events)
        )
        assert logged == told


@pytest.mark.parametrize("wrap", WRAPS)
def test_no_line_is_lost_where_somebody_else_closes_the_descriptor_between_two(
    wrap: str, tmp_path: Path
) -> None:
    sink, _ = descriptor_closed(tmp_path)
    recorder = EventRecorder()
    with quiet(), agent_of(WRAPS[wrap](sink), recorder) as agent:
        agent.run("go")
    assert list(read_events(tmp_path / "logs", strict=True)) == recorder.events
    assert str(account_of(sink.sink)) == f"complete: {len(recorder.events)} of {len(recorder.events)}"


@pytest.mark.parametrize("policy", [FailurePolicy.IGNORE, FailurePolicy.ACCUMULATE])
def test_under_other_policies_a_sink_that_always_raises_is_not_logged_with_its_events(
    policy: FailurePolicy, caplog: pytest.LogCaptureFixture
) -> None:
    with agent_of(Raising(), failure_policy=policy) as agent:
        agent.run("go")
    logged = [each.getMessage() for each in caplog.records]
    # What a flush raises is in no list of errors, so that under ACCUMULATE it is logged, once.
    expected = (
        [] if policy is FailurePolicy.IGNORE else ["observer Raising failed in flush: ValueError: in flush"]
    )
    assert logged == expected


def test_a_sink_that_broke_went_well_for_a_run_and_broke_again_is_logged_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = [True, False, True, True]

    class Moody(LoopObserver):
        def handle_event(self, event: AgentEvent) -> None:
            if broken[0]:
                raise OSError(f"no space for {event.type}")

    with agent_of(Moody(), runs=len(broken)) as agent:
        while broken:
            agent.run("go")
            broken.pop(0)
    assert [each.getMessage().split(" (")[0] for each in caplog.records] == [
        "observer Moody failed on event 1"
    ] * 2


def test_kinds_of_errors_are_told_each(caplog: pytest.LogCaptureFixture) -> None:
    class Various(Raising):
        def flush(self) -> None:
            raise OSError("in flush")

        def close(self) -> None:
            raise KeyError("in close")

    with agent_of(Various()) as agent:
        agent.run("go")
    assert [each.getMessage().split(":")[0] for each in caplog.records] == [
        "observer Various failed on event 1 (run_started)",
        "observer Various failed in flush",
        "observer Various failed in close",
    ]


@pytest.mark.parametrize("wrap", WRAPS)
def test_memory_stays_flat_around_a_sink_that_always_raises(wrap: str) -> None:
    def tell(emitter: EventEmitter, count: int) -> int:
        for _ in range(count):
            emitter.emit(CustomEvent(name="note", data="x" * 100))
        emitter.flush()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    with quiet():
        emitter = EventEmitter([WRAPS[wrap](Raising())])
        tracemalloc.start()
        try:
            before = tell(emitter, 3_000)
            grown = tell(emitter, 6_000) - before
        finally:
            tracemalloc.stop()
        emitter.close()
    assert grown < 300_000  # fifty bytes an event; one kept with its error takes thousands


def test_of_files_of_sessions_one_that_is_broken_keeps_no_other_from_being_written_flushed_and_closed(
    tmp_path: Path,
) -> None:
    reporter = JsonlReporter(tmp_path, per="session", fsync="always")
    emitters = {name: EventEmitter([reporter], session_id=name) for name in ("a", "b", "c")}
    for emitter in emitters.values():
        emitter.emit(note())
    (tmp_path / "a.jsonl").unlink()
    with quiet():
        assert not emitters["b"].flush()  # which tells of a
        assert emitters["b"].hand_over()
        (tmp_path / "b.jsonl").unlink()
        # All others make room for these, also the broken one.
        for number in range(MAX_OPEN_SESSIONS):
            EventEmitter([reporter], session_id=f"s{number}").emit(note())
        told: list[Any] = []
        for method in (reporter.flush, reporter.close):
            try:
                method()
            except Exception as error:  # noqa: BLE001 - what is told is the point
                told.append(str(error))
    assert account_of(reporter).delivered == 1 + MAX_OPEN_SESSIONS
    assert account_of(reporter).failed == 2
    assert descriptors_of(tmp_path / "c.jsonl") == descriptors_of(tmp_path / "s63.jsonl") == []
