"""One usage store of many threads and processes: nothing is lost, and each sees what the others appended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

from agentkit_reporting import UsageStore

ROOT = Path(__file__).parent.parent.parent
WRITER = """
import sys, threading
from agentkit_reporting import UsageStore

path, name = sys.argv[1:]
with UsageStore(path, prices=None) as store:
    def work(number):
        for _ in range(20):
            store.record(run_id=f"{name}-{number}", input_tokens=1, cost="0.1")
            store.record(run_id="shared", input_tokens=1, cost="0.1")
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def test_eight_threads_of_four_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], env=environment)
        for number in range(4)
    ]
    watching = UsageStore(path)
    seen = [watching.totals().requests]
    while any(writer.poll() is None for writer in writers):
        seen.append(watching.totals().requests)
    assert [writer.wait() for writer in writers] == [0] * 4
    assert seen == sorted(seen)
    assert watching.total_cost() == UsageStore(path).total_cost() == 128
    assert watching.totals().requests == 1_280
    assert watching.cost_for_run("shared") == 64
    assert len(watching.by_run()) == 33
    assert watching.bad_count == 0


def test_threads_may_record_and_ask_at_once(tmp_path: Path) -> None:
    store = UsageStore(tmp_path / "usage.jsonl", prices=None)
    troubles: list[str] = []

    def work(name: str) -> None:
        for number in range(1, 26):
            store.record(run_id=name, cost="0.1")
            if store.cost_for_run(name) != number * Decimal("0.1"):
                troubles.append(name)

    threads = [threading.Thread(target=work, args=(f"r{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert store.total_cost() == 20


def test_very_many_runs_do_not_stay_open(tmp_path: Path) -> None:
    ended: list[str] = []
    store = UsageStore(
        tmp_path / "usage.jsonl",
        prices=None,
        observers=[lambda event: ended.append(event.session_id) if event.type == "run_finished" else None],
    )
    for number in range(220):
        store.record(run_id=f"r{number}", cost=1)
    assert len(ended) == 20
    store.record(run_id="r0", cost=1)  # which goes on, under the same name
    assert store.cost_for_run("r0") == 2
    assert store.close()
    assert len(ended) == 221
