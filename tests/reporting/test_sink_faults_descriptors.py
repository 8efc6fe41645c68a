"""A log's descriptor that other code closes: no line lands in somebody else's file, and none is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agentkit_loop.errors import LogError
from agentkit_reporting import JsonlReporter, Rotation, account_of
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.stream import StreamWriter
from agentkit_reporting.log.write import LogWriter
from tests.reporting.numbered_lines import LENGTH, note, record, seqs, written
from tests.reporting.sink_runs import descriptors_of

RUN = [sys.executable, "-c"]


class Foreign:
    """A file of somebody else, which got the number of a descriptor."""

    def __init__(self, path: Path, number: int, flags: int = os.O_WRONLY) -> None:
        self.path = path
        path.write_bytes(b"theirs")
        fd = os.open(path, flags)
        os.close(number)
        os.dup2(fd, number)
        os.close(fd)
        self.number = number

    def is_untouched(self) -> bool:
        os.fstat(self.number)  # raises where it was closed
        return self.path.read_bytes() == b"theirs"

    def close(self) -> None:
        os.close(self.number)


def number_of(path: Path) -> int:
    (number,) = descriptors_of(path)
    return number


SETTINGS = {"plain": None, "rotating": Rotation(max_bytes=2 * LENGTH, compress=None)}


@pytest.mark.parametrize("rotation", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("act", ["write", "flush", "close"])
def test_a_number_that_is_another_files_is_neither_written_nor_closed(
    act: str, rotation: Rotation | None, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path, rotation=rotation)
    writer.write(record(1))
    foreign = Foreign(tmp_path / "foreign", number_of(path))
    acts: dict[str, Callable[[], object]] = {
        "write": lambda: writer.write(record(2)),
        "flush": writer.flush,
        "close": writer.close,
    }
    with contextlib.suppress(LogError):
        acts[act]()
    assert foreign.is_untouched()
    if act != "close":
        writer.write(record(3))
    with contextlib.suppress(LogError):
        writer.close()
    assert foreign.is_untouched()
    assert seqs(path, strict=True) == {"write": [1, 2, 3], "flush": [1, 3], "close": [1]}[act]
    foreign.close()


def test_it_is_told_once_by_the_next_flush(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "run.jsonl")
    writer.write(record(1))
    os.close(number_of(writer.path))
    writer.write(record(2))
    with pytest.raises(LogError, match="descriptor of the log was closed by other code"):
        writer.flush()
    writer.flush()
    assert writer.syncs >= 1
    writer.close()


def test_a_log_that_somebody_else_opened_under_the_number_is_not_taken_for_ours(tmp_path: Path) -> None:
    # The same file, but at its beginning, where a line would overwrite another.
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path)
    writer.write(record(1))
    number = number_of(path)
    fd = os.open(path, os.O_WRONLY)
    os.dup2(fd, number)
    os.close(fd)
    writer.write(record(2))
    with contextlib.suppress(LogError):
        writer.close()
    os.close(number)
    assert seqs(path, strict=True) == [1, 2]


def test_of_many_logs_whose_descriptors_are_all_closed_each_goes_on_in_its_own(tmp_path: Path) -> None:
    reporter = JsonlReporter(tmp_path, per="session", fsync="never")
    sessions = [f"s{number}" for number in range(40)]
    for session in sessions:
        reporter.handle_event(note(1, session))
    numbers = [number_of(tmp_path / f"{session}.jsonl") for session in sessions]
    assert min(numbers) >= 512
    for number in numbers:
        os.close(number)
    for session in reversed(sessions):  # so that each gets the number of another
        reporter.handle_event(note(2, session))
    for session in sessions:
        reporter.handle_event(note(3, session))
    with pytest.raises(LogError, match="closed by other code"):
        reporter.close()
    for session in sessions:
        events = list(read_events(tmp_path / f"{session}.jsonl", strict=True))
        assert [(event.session_id, event.seq) for event in events] == [
            (session, 1),
            (session, 2),
            (session, 3),
        ]
    assert account_of(reporter).delivered == 120


def test_code_that_closes_and_opens_files_while_lines_are_written_never_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = LogWriter(path, fsync="never")
    writer.write(record(1))
    done = threading.Event()
    foreign = tmp_path / "foreign"
    foreign.touch()

    def close_and_open() -> None:
        while not done.is_set():
            for number in descriptors_of(path):
                with contextlib.suppress(OSError):
                    os.close(number)
            held = [os.open(foreign, os.O_WRONLY | os.O_APPEND) for _ in range(20)]
            for number in held:
                os.close(number)

    thread = threading.Thread(target=close_and_open)
    thread.start()
    acknowledged = []
    for number in range(2, 2_000):
        with contextlib.suppress(LogError):
            writer.write(record(number))
            acknowledged.append(number)
    done.set()
    thread.join()
    with contextlib.suppress(LogError):
        writer.close()
    assert foreign.read_bytes() == b""
    found = set(seqs(path, strict=True))
    assert found >= set(acknowledged)
    assert len(acknowledged) > 1_900


def test_under_a_low_limit_of_open_files_lines_are_written_and_another_file_is_spared(tmp_path: Path) -> None:
    program = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from agentkit_reporting.log.write import LogWriter, LogError
writer = LogWriter(sys.argv[1]); writer.write(b"one")
(number,) = [int(name) for name in os.listdir("/dev/fd") if os.path.realpath(f"/dev/fd/{name}") == sys.argv[1]]
os.close(number)
assert os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT) == number < 64
writer.write(b"two")
try: writer.close()
except LogError as error: print(error)
os.write(number, b"theirs")
"""
    path, foreign = tmp_path.resolve() / "run.jsonl", tmp_path / "foreign"
    told = subprocess.run([*RUN, program, path, foreign], capture_output=True, text=True, check=True).stdout
    assert "closed by other code" in told
    assert path.read_bytes() == b"one\ntwo\n"
    assert foreign.read_bytes() == b"theirs"


def test_a_child_of_a_fork_writes_on_with_the_descriptor_that_it_shares(tmp_path: Path) -> None:
    program = """
import os, sys
from agentkit_reporting import JsonlReporter, account_of
from tests.reporting.numbered_lines import note
reporter = JsonlReporter(sys.argv[1])
reporter.handle_event(note(1))
child = os.fork()
if child == 0:
    reporter.handle_event(note(2)); reporter.close(); print(account_of(reporter), flush=True); os._exit(0)
os.waitpid(child, 0)
reporter.handle_event(note(3))
reporter.close()
print(account_of(reporter))
"""
    path = tmp_path / "run.jsonl"
    told = subprocess.run([*RUN, program, path], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["complete: 1 of 1", "complete: 2 of 2"]
    assert seqs(path, strict=True) == [1, 2, 3]


def test_packed_segments_and_later_numbers_are_right_after_a_descriptor_was_lost(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with contextlib.suppress(LogError), LogWriter(path, rotation=Rotation(max_bytes=3 * LENGTH)) as writer:
        for number in range(1, 10):
            writer.write(record(number))
            if number in (2, 5):
                os.close(number_of(path))
    assert seqs(path, strict=True) == list(range(1, 10))
    written(path, 9)


# --- streams


def test_a_stream_whose_number_is_another_files_is_refused_and_nothing_lands_there(tmp_path: Path) -> None:
    with (tmp_path / "own").open("wb") as stream:
        writer = StreamWriter(stream)
        writer.write(b"one")
        foreign = Foreign(tmp_path / "foreign", stream.fileno())
        with pytest.raises(LogError, match="another file's by now"):
            writer.write(b"two")
        with pytest.raises(LogError, match="another file's by now"):
            writer.flush()
        assert foreign.is_untouched()
    assert (tmp_path / "own").read_bytes() == b"one\n"


def test_a_standard_stream_that_is_redirected_on_purpose_is_followed(tmp_path: Path) -> None:
    program = """
import os, sys
from agentkit_reporting import JsonlReporter
from tests.reporting.numbered_lines import note
reporter = JsonlReporter("-")
reporter.handle_event(note(1))
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 1)
reporter.handle_event(note(2))
reporter.close()
"""
    path = tmp_path / "later.jsonl"
    before = subprocess.run([*RUN, program, path], capture_output=True, check=True).stdout
    assert before == record(1) + b"\n"
    assert seqs(path) == [2]
