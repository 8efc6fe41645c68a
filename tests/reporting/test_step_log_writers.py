"""Step logs that several threads and processes write at once: numbers without gaps, in the order of the file."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.records.step_log import StepLog, ToolCallStep

ROOT = Path(__file__).parent.parent.parent
THREADS, PROCESSES, COUNT = 8, 4, 40

WRITER = """
import sys
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.records.step_log import StepLog

path, own, count, max_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rotation = Rotation(max_bytes=max_bytes) if max_bytes else None
with (
    StepLog(path, "shared", metadata={"of": "all"}, rotation=rotation) as shared,
    StepLog(path, own, metadata={"of": own}, rotation=rotation) as mine,
):
    for number in range(count):
        shared.record_tool_call("work", {"by": own, "number": number}, duration_ms=number)
        mine.record_llm_call("m", number, 1, "end_turn")
        assert mine.steps[-1].step == number + 1
    assert len(shared.steps) == count
"""


def at_once(*acts: Callable[[], object]) -> None:
    """Do everything at the same time, each on a thread."""
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work(log: StepLog, name: str, count: int = COUNT) -> None:
    for number in range(count):
        log.record_tool_call("work", {"by": name, "number": number}, duration_ms=number)


def test_threads_number_without_gaps_and_the_memory_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    log = StepLog(path, "r", rotation=Rotation(max_bytes=20_000))
    at_once(*(functools.partial(work, log, f"t{number}") for number in range(THREADS)))
    assert log.close()
    assert [step.step for step in log.steps] == [*range(1, THREADS * COUNT + 1)]
    read = StepLog.read(path, strict=True)
    assert (read.steps, read.summarize()) == (log.steps, log.summarize())


def test_a_session_a_thread_and_one_log_for_all(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    logs = [StepLog(path, f"run-{number}") for number in range(THREADS)]
    at_once(*(functools.partial(work, log, "t") for log in logs))
    assert all(log.close() for log in logs)
    runs = StepLog.runs(path, strict=True)
    assert {run_id: [step.step for step in run.steps] for run_id, run in runs.items()} == {
        f"run-{number}": [*range(1, COUNT + 1)] for number in range(THREADS)
    }
    assert all(len(run.headers) == 1 for run in runs.values())


@pytest.mark.parametrize("max_bytes", [0, 15_000])
def test_threads_and_processes_number_without_gaps_in_the_order_of_the_file(
    tmp_path: Path, max_bytes: int
) -> None:
    path = tmp_path / "steps.jsonl"
    arguments = [[str(path), f"p{number}", str(COUNT), str(max_bytes)] for number in range(PROCESSES)]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, *each], cwd=ROOT) for each in arguments]
    log = StepLog(path, "shared", rotation=Rotation(max_bytes=max_bytes) if max_bytes else None)
    names = [f"t{number}" for number in range(THREADS)]
    at_once(*(functools.partial(work, log, name, COUNT // 4) for name in names))
    assert log.close()
    assert [writer.wait(60) for writer in writers] == [0] * PROCESSES
    runs = StepLog.runs(path, payloads=True, strict=True)
    calls = [step for step in runs["shared"].steps if isinstance(step, ToolCallStep)]
    assert [step.step for step in calls] == [*range(1, PROCESSES * COUNT + THREADS * (COUNT // 4) + 1)]
    assert [step for step in calls if step.input["by"] in names] == list(log.steps)
    for number in range(PROCESSES):
        own = f"p{number}"
        assert [step.step for step in runs[own].steps] == [*range(1, COUNT + 1)]
        assert runs[own].metadata == {"of": own}
        assert [step.input["number"] for step in calls if step.input["by"] == own] == [*range(COUNT)]
    assert runs.summaries["shared"].tool_call_count == len(calls)


def test_a_process_that_is_killed_leaves_whole_steps_that_the_next_counts_on(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    program = WRITER.replace("assert len(shared.steps) == count", "import os; os._exit(9)")
    writer = subprocess.run(
        [sys.executable, "-c", program, str(path), "p", "5", "0"], cwd=ROOT, check=False, timeout=60
    )
    assert writer.returncode == 9
    with StepLog(path, "shared") as log:
        log.record_tool_call("work")
    assert [step.step for step in log.steps] == [6]
    assert [step.step for step in StepLog.read(path, "shared", strict=True).steps] == [1, 2, 3, 4, 5, 6]
