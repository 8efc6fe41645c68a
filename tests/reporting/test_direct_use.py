"""What all views share that can be told directly: runs by session, over threads, forks and failing disks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import IllegalMoveError, LogError
from agentkit_loop.events import AgentEvent, CustomEvent
from agentkit_loop.observers import FailurePolicy
from agentkit_loop.testing import EventRecorder
from agentkit_reporting.records.audit import AuditLedger
from agentkit_reporting.records.recent_runs import MOST_OPEN_RUNS
from agentkit_reporting.records.step_log import StepLog
from tests.reporting.sink_runs import descriptors_of

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

LONG_S = 20.0  # what a thread that is stuck is waited for


def test_an_observer_that_tells_a_view_while_another_thread_opens_the_run_blocks_nobody() -> None:
    inside, opening = threading.Event(), threading.Event()
    refused: list[IllegalMoveError] = []

    def nosy(event: AgentEvent) -> None:
        if isinstance(event, CustomEvent):
            inside.set()
            opening.wait(LONG_S)
            with pytest.raises(IllegalMoveError) as caught:
                log.record_tool_call("from_an_observer")
            refused.append(caught.value)

    emitter = EventEmitter([nosy])
    log = StepLog(None, emitter=emitter)

    def open_run() -> None:
        inside.wait(LONG_S)
        opening.set()
        log.record_tool_call("from_a_thread")

    threads = [
        threading.Thread(target=emitter.emit, args=(CustomEvent(name="note", data=None),), daemon=True),
        threading.Thread(target=open_run, daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert not any(thread.is_alive() for thread in threads)
    assert len(refused) == len(log.steps) == 1


def test_threads_that_begin_a_session_at_once_share_its_run() -> None:
    recorder = EventRecorder()
    ledger = AuditLedger(observers=[recorder])
    ready = threading.Barrier(8)

    def begin(name: str) -> None:
        for session in range(30):
            ready.wait(LONG_S)
            ledger.log(f"ses-{session}", step=0, type="reasoning", detail=name)

    threads = [threading.Thread(target=begin, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    assert recorder.types.count("run_started") == recorder.types.count("run_finished") == 30
    traces = [ledger.get_trace(session_id) for session_id in ledger.session_ids]
    assert all([entry.evidence_seq for entry in trace] == [*range(2, 10)] for trace in traces)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[StepLog]:
    """A log that four threads tell of steps, with pauses in which another process gets its turn at the file."""
    log, is_over = StepLog(tmp_path / "steps.jsonl", "r", fsync="never"), threading.Event()

    def tell() -> None:
        while not is_over.wait(0.001):
            log.record_tool_call("parent")

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield log
    is_over.set()
    for thread in threads:
        thread.join()


def test_a_forked_child_tells_on_whatever_its_parents_threads_were_doing(
    busy: StepLog, tmp_path: Path
) -> None:
    for number in range(15):
        child = os.fork()
        if not child:
            told = threading.Thread(target=busy.record_tool_call, args=("child", {"number": number}))
            told.daemon = True
            told.start()
            told.join(LONG_S)
            os._exit(told.is_alive())
        assert os.waitpid(child, 0)[1] == 0
    steps = StepLog.read(tmp_path / "steps.jsonl", strict=True).filter(tool="child")
    assert [getattr(step, "input", None) for step in steps] == [{"number": each} for each in range(15)]


def test_the_steps_of_a_parent_and_its_forked_children_have_one_numbering(
    busy: StepLog, tmp_path: Path
) -> None:
    for _ in range(5):
        child = os.fork()
        if not child:
            signal.alarm(20)  # whom a lock keeps for ever
            busy.record_tool_call("child")
            busy.record_tool_call("child")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    busy.record_tool_call("last")
    read = StepLog.read(tmp_path / "steps.jsonl", strict=True)
    assert [step.step for step in read.steps] == [*range(1, len(read.steps) + 1)]
    assert len(read.filter(tool="child")) == 10


def test_sessions_that_nobody_ends_do_not_stay_open_for_ever() -> None:
    recorder = EventRecorder()
    ledger = AuditLedger(observers=[recorder])
    count = MOST_OPEN_RUNS + 50
    for number in range(count):
        ledger.log(f"ses-{number}", step=0, type="reasoning", detail="first")
    assert recorder.types.count("run_finished") == 50
    ledger.log("ses-0", step=1, type="final_response", detail="again")
    assert [(entry.step, entry.detail) for entry in ledger.get_trace("ses-0")] == [(0, "first"), (1, "again")]
    ledger.close()
    assert recorder.types.count("run_started") == recorder.types.count("run_finished") == count + 1


def test_a_with_that_ends_badly_logs_it_and_raises_only_under_fail_fast(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "steps.jsonl"
    emitter = EventEmitter()
    with emitter.run() as run:
        with StepLog(path, emitter=emitter) as log:
            log.record_tool_call("t")
            for held in descriptors_of(path):
                os.close(held)
        assert run.is_open
    assert "StepLog could not be closed well: " in caplog.text
    assert "was closed by other code" in caplog.text
    emitter = EventEmitter()
    with (
        pytest.raises(LogError, match="was closed by other code"),
        emitter.run(),
        StepLog(path, emitter=emitter, policy=FailurePolicy.FAIL_FAST) as log,
    ):
        log.record_tool_call("t")
        for held in descriptors_of(path):
            os.close(held)


def test_in_a_child_of_a_fork_only_its_own_runs_are_ended(tmp_path: Path) -> None:
    recorder = EventRecorder()
    log = StepLog(tmp_path / "steps.jsonl", "r", observers=[recorder])
    log.record_tool_call("parent")
    child = os.fork()
    if not child:
        log.close()
        os._exit("run_finished" in recorder.types)
    assert os.waitpid(child, 0)[1] == 0
    log.record_tool_call("parent")
    assert log.close()
    assert recorder.types.count("run_finished") == 1
    assert [step.step for step in StepLog.read(tmp_path / "steps.jsonl", strict=True).steps] == [1, 2]


def test_two_views_of_one_emitter_are_closed_each_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    emitter, registered = EventEmitter(), StepLog(None)
    emitter.add_observer(registered)
    log, ledger = StepLog(None, emitter=emitter), AuditLedger(None, emitter=emitter)
    with emitter.run() as run:
        log.record_tool_call("t")
        assert log.close()
        run.record_tool_call("t", {})
        ledger.log(emitter.session_id, step=0, type="reasoning", detail="because")
        assert log.close()
        assert ledger.close()
        assert run.is_open
    assert (len(log.steps), len(registered.steps)) == (1, 2)
    assert len(ledger.get_trace(emitter.session_id)) == 1
    assert emitter.observers == (registered,)
    assert not caplog.records
