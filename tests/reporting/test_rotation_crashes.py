"""Writers of a rotating log that are killed, that fork, and that are many: no line is lost, none is there twice.

AGENTKIT_FULL=1 runs all of it: 500 kills, 4 times 50,000 events, every line of the code; a tenth otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import segment_path, segments_of
from agentkit_reporting.log.write import LogWriter
from tests.reporting.numbered_lines import LENGTH, MEMORY, lines, names, record, seqs

FULL = "AGENTKIT_FULL" in os.environ
ROOT = Path(__file__).parent.parent.parent
RUN = [sys.executable, "-c"]


def printed(*arguments: str) -> list[int]:
    program = [sys.executable, "-m", "tests.reporting.killed_writers", *arguments]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return [int(number) for number in result.stdout.split()]


def test_a_writer_killed_before_any_line_of_the_code_that_rotates_loses_and_doubles_nothing() -> None:
    # Hundreds of forced writes would tell nothing about a process that is killed.
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        (steps,) = printed("steps", f"{place}/logs", *(["all"] if FULL else []))
    assert steps > 100


def test_every_acknowledged_event_is_read_back_after_kills_at_random_moments(tmp_path: Path) -> None:
    rounds, acknowledged, read, bad = printed("moments", str(tmp_path / "logs"), "500" if FULL else "50")
    assert rounds <= acknowledged <= read <= acknowledged + rounds
    assert bad <= rounds


WRITER = """
import sys
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.events import CustomEvent
from agentkit_reporting import JsonlReporter, Rotation
path, name, count, max_bytes = sys.argv[1:]
reporter = JsonlReporter(path, rotation=Rotation(max_bytes=int(max_bytes)))
emitter = EventEmitter([reporter], session_id=name, run_id="r")
for number in range(int(count)):
    emitter.emit(CustomEvent(name="note", data=number))
reporter.close()
"""


def test_four_processes_write_one_rotating_log_and_a_follower_reads_each_event_once_in_order(
    tmp_path: Path,
) -> None:
    count = 50_000 if FULL else 5_000
    path = tmp_path / "run.jsonl"
    options = [str(path), "{}", str(count), str(count * 10)]
    crowd = [
        subprocess.Popen([*RUN, WRITER, *(each.format(f"s{number}") for each in options)])
        for number in range(4)
    ]
    last = dict.fromkeys(("s0", "s1", "s2", "s3"), 0)
    with read_events(tmp_path, follow=True, strict=True) as reader:
        for event in reader:
            assert event.seq == last[event.session_id] + 1
            last[event.session_id] = event.seq
            if all(seq == count for seq in last.values()):
                break
    assert [process.wait() for process in crowd] == [0] * 4
    kinds = {each.suffix for each in segments_of(path)}
    assert kinds == {".gz"}
    assert len(segments_of(path)) > 10
    afterwards = dict.fromkeys(last, 0)
    for event in read_events(path, strict=True):
        assert event.seq == afterwards[event.session_id] + 1
        afterwards[event.session_id] = event.seq
    assert afterwards == last


def test_a_child_of_a_fork_writes_on_and_holds_no_segment_of_its_parent(tmp_path: Path) -> None:
    program = """
import os, sys
from agentkit_reporting import Rotation
from agentkit_reporting.log.write import LogWriter
from tests.reporting.numbered_lines import record
writer = LogWriter(sys.argv[1], rotation=Rotation(max_bytes=1_000))
for number in range(1, 31): writer.write(record(number, "before"))
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.close(writing)
    os.read(reading, 1)  # until the parent has gone on and packed what it held
    for number in range(1, 31): writer.write(record(number, "child"))
    writer.close()
    os._exit(0)
for number in range(1, 31): writer.write(record(number, "parent"))
writer.close()
print([name for name in sorted(os.listdir(os.path.dirname(sys.argv[1]))) if name.endswith(".jsonl")])
os.close(writing)
sys.exit(os.waitpid(child, 0)[1])
"""
    path = tmp_path / "run.jsonl"
    result = subprocess.run(
        [*RUN, program, str(path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "['run.jsonl']"
    last: dict[str, int] = {}
    for event in read_events(path, strict=True):
        assert event.seq == last.get(event.session_id, 0) + 1
        last[event.session_id] = event.seq
    assert last == {"before": 30, "parent": 30, "child": 30}


# --- what a crash leaves


def test_of_a_segment_that_is_there_plain_and_packed_one_is_read_and_the_next_writer_removes_the_other(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.jsonl"
    rotation = Rotation(max_bytes=2 * LENGTH)
    with LogWriter(path, rotation=rotation) as writer:
        for number in range(1, 6):
            writer.write(record(number))
    segment_path(path, 1).write_bytes(lines(1, 2))
    segment_path(path, 2).write_bytes(lines(3, 4))
    segment_path(path, 2, ".gz").write_bytes(b"\x1f\x8b cut short")
    assert seqs(path, strict=True) == [1, 2, 3, 4, 5]
    with LogWriter(path, rotation=rotation) as writer:
        writer.write(record(6))
    assert names(tmp_path) == ["run.000001.jsonl.gz", "run.000002.jsonl.gz", "run.jsonl"]
    assert seqs(path, strict=True) == [1, 2, 3, 4, 5, 6]


def test_unfinished_files_are_removed_and_only_those(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    others = [".run.notes.tmp", ".other.000001.jsonl.gz.tmp"]
    for name in [".run.000001.jsonl.gz.tmp", ".run.000007.jsonl.zst.tmp", *others]:
        (tmp_path / name).write_bytes(b"half")
    with LogWriter(path, rotation=Rotation(max_bytes=LENGTH)) as writer:
        for number in (1, 2, 3):
            writer.write(record(number))
    assert [name for name in names(tmp_path) if name.endswith(".tmp")] == sorted(others)
    assert seqs(path, strict=True) == [1, 2, 3]
