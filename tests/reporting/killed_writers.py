"""A program for test_rotation_crashes: writers that are killed, and what the next writer and readers find.

Every round is a child of this process, forked after all imports, so that hundreds take seconds.

    python -m tests.reporting.killed_writers steps DIRECTORY [all]     dies before each line of code that rotates
    python -m tests.reporting.killed_writers moments DIRECTORY ROUNDS     dies at random moments
"""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from agentkit_reporting.jsonl import JsonlReporter
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import PACKED_SUFFIXES
from agentkit_reporting.log.write import LogWriter
from tests.reporting.numbered_lines import LENGTH, note, record

ROTATING = ("rotate.py", "upkeep.py", "packing.py")
ALL = (*ROTATING, "locks.py", "write.py", "syncing.py", "segments.py")
LINES = 3
SMALL = Rotation(max_bytes=LENGTH, keep=100)


class Steps:
    """Kills this process before the n-th line of the code that rotates, counted over all threads."""

    def __init__(self, number: int, files: tuple[str, ...]) -> None:
        self._left = number
        self._files = files

    def trace(self, frame: FrameType, kind: str, value: Any) -> Any:
        del value
        if Path(frame.f_code.co_filename).name not in self._files:
            return None
        if kind == "line":
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


def in_child(act: Callable[[int], None]) -> tuple[int, int]:
    """Do something in a child; return its id and the end of a pipe that gets what `act` writes there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    act(writing)
    os._exit(0)


def acknowledged(reading: int) -> int:
    """Return how many bytes came before the other end went."""
    count = 0
    while block := os.read(reading, 65_536):
        count += len(block)
    os.close(reading)
    return count


def require(truth: bool, *what: object) -> None:
    if not truth:
        raise SystemExit(f"not as it must be: {what}")


def killed_at(step: int, path: Path, files: tuple[str, ...]) -> bool:
    """Write some lines, rotating and packing, killed at a step; return whether it came so far."""

    def write(acknowledge: int) -> None:
        steps = Steps(step, files)
        threading.settrace(steps.trace)
        sys.settrace(steps.trace)
        writer = LogWriter(path, fsync="never", rotation=SMALL)
        for number in range(1, LINES + 1):
            writer.write(record(number))
            os.write(acknowledge, b".")
        writer.close()

    child, reading = in_child(write)
    count = acknowledged(reading)
    was_killed = os.waitpid(child, 0)[1] != 0
    found = [event.seq for event in read_events(path, strict=True)] if count else []
    require(found in ([*range(1, count + 1)], [*range(1, count + 2)]) or not count, step, count, found)
    with LogWriter(path, fsync="never", rotation=SMALL) as writer:
        writer.write(record(9))
    found = [event.seq for event in read_events(path, strict=True)]
    require(found[-1] == 9, step, found)
    require(found[:-1] in ([*range(1, count + 1)], [*range(1, count + 2)]), step, count, found)
    left = [each.name for each in path.parent.iterdir() if each.name not in (path.name, ".run.jsonl.lock")]
    require(all(name.endswith(PACKED_SUFFIXES[0]) for name in left), step, left)
    return was_killed


def all_steps(directory: Path, files: tuple[str, ...]) -> None:
    step = 0
    while killed_at(step, directory / "run.jsonl", files):
        shutil.rmtree(directory)
        step += 1
    print(step)  # noqa: T201 - what the test reads


def random_moments(directory: Path, rounds: int) -> None:
    chance = random.Random(rounds)  # noqa: S311 - moments, not secrets
    path = directory / "run.jsonl"
    rotation = Rotation(max_bytes=50 * LENGTH, keep=100_000)
    counts: dict[str, int] = {}
    for number in range(rounds):

        def write(acknowledge: int, session: str = f"s{number}") -> None:
            reporter = JsonlReporter(path, fsync="always", rotation=rotation)
            seq = 0
            while True:
                seq += 1
                reporter.handle_event(note(seq, session))
                os.write(acknowledge, b".")

        child, reading = in_child(write)
        select.select([reading], [], [])  # it has begun
        time.sleep(chance.uniform(0, 0.02))  # any moment is right: nothing is waited for
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        counts[f"s{number}"] = acknowledged(reading)
        if number % 10 == 0 or number == rounds - 1:
            check(path, counts)
    reader = read_events(path)
    total = sum(1 for _ in reader)
    print(rounds, sum(counts.values()), total, reader.bad_count)  # noqa: T201 - what the test reads


def check(path: Path, counts: dict[str, int]) -> None:
    """Require that each session is there without a gap, at least as far as it was acknowledged."""
    last: dict[str, int] = {}
    for event in read_events(path):
        require(event.seq == last.get(event.session_id, 0) + 1, event.session_id, event.seq)
        last[event.session_id] = event.seq
    for session, count in counts.items():
        require(count <= last[session] <= count + 1, session, count, last[session])


if __name__ == "__main__":
    if sys.argv[1] == "steps":
        all_steps(Path(sys.argv[2]), ALL if sys.argv[3:] else ROTATING)
    else:
        random_moments(Path(sys.argv[2]), int(sys.argv[3]))
