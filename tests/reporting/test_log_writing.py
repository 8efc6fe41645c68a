"""Writing lines: whole, appended, private, forced to the disk when asked, and never two on one line."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.clock import Clock
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_reporting.log.read import read_events
from agentkit_reporting.log.stream import StreamWriter
from agentkit_reporting.log.syncing import FsyncPolicy
from agentkit_reporting.log.write import LogWriter
from agentkit_reporting.records.store import RecordStore

RUN = [sys.executable, "-c"]


class HandClock(Clock):
    """A clock that stands still until somebody moves it."""

    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- the file


def test_lines_are_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"old\n")
    with LogWriter(path) as writer:
        writer.write(b"one")
        assert path.read_bytes() == b"old\none\n"  # it has left the process already
        writer.write(b"two")
    assert path.read_bytes() == b"old\none\ntwo\n"
    assert (writer.lines, writer.short_writes) == (2, 0)


def test_nothing_is_touched_before_the_first_line(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "new" / "a.jsonl")
    writer.flush()
    assert list(tmp_path.iterdir()) == []
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_files_and_directories_are_private(tmp_path: Path) -> None:
    path = tmp_path / "x" / "y" / "a.jsonl"
    with LogWriter(path) as writer:
        writer.write(b"one")
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700


def test_a_file_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.touch()
    path.chmod(0o640)
    with LogWriter(path) as writer:
        writer.write(b"one")
    assert mode(path) == 0o640


def test_the_path_stays_when_the_process_changes_its_directory(tmp_path: Path) -> None:
    program = (
        "import os; from agentkit_reporting.log.write import LogWriter\n"
        "w = LogWriter('a.jsonl'); os.mkdir('sub'); os.chdir('sub'); w.write(b'one')"
    )
    subprocess.run([*RUN, program], cwd=tmp_path, check=True)
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\n"


def test_a_torn_tail_is_closed_with_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'whole\n{"v":1,"se')
    with LogWriter(path) as writer:
        writer.write(b"one")
        writer.write(b"two")
    assert path.read_bytes() == b'whole\n{"v":1,"se\none\ntwo\n'


def test_closing_twice_is_harmless_and_a_line_after_it_is_refused(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "a.jsonl")
    writer.write(b"one")
    writer.close()
    writer.close()
    writer.flush()
    with pytest.raises(LogError, match="writer is closed"):
        writer.write(b"two")
    assert writer.path.read_bytes() == b"one\n"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("directory", "it is a directory"),
        ("new/", "it is a directory"),
        ("file/a.jsonl", "no directory"),
        ("file/deeper/a.jsonl", "no directory"),
        ("x" * 300, "file name too long"),
        ("nul\0", "names no file"),
    ],
)
def test_a_path_that_cannot_work_is_refused_at_once(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match=sentence) as refusal:
        LogWriter(f"{tmp_path}/{name}")
    assert "\n" not in str(refusal.value)


def test_an_empty_path_and_no_path_are_refused() -> None:
    with pytest.raises(LogError, match="names no file"):
        LogWriter("")
    with pytest.raises(ConfigurationError, match="no path"):
        LogWriter(5)  # type: ignore[arg-type] # the point of the test


def test_a_path_that_may_not_be_written_is_refused_at_once() -> None:
    # Asked as another user where the tests run as one who may do everything.
    program = (
        "import os, sys; from agentkit_reporting.log.write import LogWriter, LogError\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "for name in sys.argv[1:]:\n"
        "    try: LogWriter(name)\n"
        "    except LogError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        (here / "locked.jsonl").touch(mode=0o444)
        here.chmod(0o555)
        paths = [here / "locked.jsonl", here / "new.jsonl", here / "deep" / "new.jsonl"]
        result = subprocess.run([*RUN, program, *paths], capture_output=True, text=True, check=True)
        here.chmod(0o700)
    assert result.stdout.count("give another path") == 3


# --- what goes wrong


def test_a_full_disk_is_told_and_the_next_line_is_tried_again() -> None:
    writer = LogWriter("/dev/full")
    for _ in range(2):
        with pytest.raises(LogError, match="no space left on device"):
            writer.write(b"one")
    assert writer.lines == 0
    writer.close()


def test_a_line_that_was_cut_by_a_limit_is_closed_and_the_next_ones_are_whole(tmp_path: Path) -> None:
    program = """
import resource, sys
from agentkit_loop.errors import LogError
from agentkit_reporting.log.write import LogWriter
from agentkit_reporting.records.store import RecordStore
writer = LogWriter(sys.argv[1])
writer.write(b"a" * 60)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        writer.write(b"b" * 60)
    except LogError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.write(b"c" * 60)
writer.write(b"d" * 60)
print(writer.lines, writer.short_writes)
"""
    path = tmp_path / "a.jsonl"
    result = subprocess.run([*RUN, program, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [f"{path}: line could not be written: file too large"] * 2 + ["3 1"]
    assert path.read_bytes().split(b"\n") == [b"a" * 60, b"b" * 39, b"c" * 60, b"d" * 60, b""]


def test_a_removed_directory_does_not_disturb_the_writer_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.jsonl"
    writer = LogWriter(path)
    writer.write(b"one")
    path.unlink()
    path.parent.rmdir()
    writer.write(b"two")
    with pytest.raises(LogError, match=r"log was removed while it was written, and its lines with it$"):
        writer.close()
    assert (writer.lines, writer.removed_lines) == (0, 2)
    writer.close()


def test_what_went_with_a_removed_log_counts_as_lost_and_what_another_process_wrote_does_not(
    tmp_path: Path,
) -> None:
    store = RecordStore(tmp_path / "a.jsonl")
    for _ in range(2):
        store.append({"a": 1})
    store.path.unlink()
    with pytest.raises(LogError, match="removed while it was written"):
        store.flush()
    assert str(store.account()) == "incomplete: 0 of 2 (2 failed)"
    store.append({"a": 2})
    assert str(store.account()) == "incomplete: 1 of 3 (2 failed)"
    child = os.fork()
    if not child:
        store.append({"a": 3})
        store.path.unlink()
        with contextlib.suppress(LogError):
            store.flush()
        os._exit(str(store.account()) != "incomplete: 0 of 1 (1 failed)")
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(LogError, match="removed while it was written"):
        store.close()
    assert not store.close()
    assert str(store.account()) == "incomplete: 0 of 3 (3 failed)"


def test_a_directory_that_vanished_before_the_first_line_is_made_again(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "sub" / "a.jsonl")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub").rmdir()
    with writer:
        writer.write(b"one")
    assert writer.path.read_bytes() == b"one\n"


def test_a_descriptor_that_somebody_else_closed_is_told_and_no_line_is_lost(tmp_path: Path) -> None:
    program = (
        "import os, sys; from agentkit_reporting.log.write import LogWriter, LogError\n"
        "w = LogWriter(sys.argv[1]); w.write(b'one'); os.closerange(3, 4096); w.write(b'two')\n"
        "for _ in range(2):\n"
        "    try: w.flush()\n"
        "    except LogError as error: print(error)"
    )
    path = tmp_path / "a.jsonl"
    result = subprocess.run([*RUN, program, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout.count("was closed by other code") == 1
    assert path.read_bytes() == b"one\ntwo\n"


# --- many writers

CROWD = """
import sys, threading, os
from agentkit_reporting.log.write import LogWriter
from agentkit_reporting.records.store import RecordStore
path, process = sys.argv[1:]
shared = LogWriter(path)
def run(thread):
    writer = shared if thread % 2 else LogWriter(path)
    for number in range(40):
        head = f"{process} {thread} {number} ".encode()
        writer.write(head + b"x" * (number * 300))
threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_eight_threads_in_four_processes_lose_and_mix_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    crowd = [subprocess.Popen([*RUN, CROWD, str(path), str(number)]) for number in range(4)]
    assert [process.wait() for process in crowd] == [0] * 4
    seen: dict[tuple[bytes, bytes], int] = {}
    # A writer that opens while another is in the middle of a line takes that for a torn tail: a blank line.
    for line in filter(None, path.read_bytes().split(b"\n")):
        process, thread, number, rest = line.split(b" ")
        assert rest == b"x" * (int(number) * 300)
        assert int(number) == seen.get((process, thread), -1) + 1  # each thread's own order
        seen[process, thread] = int(number)
    assert list(seen.values()) == [39] * 32


def test_a_child_after_a_fork_writes_on_though_the_lock_was_held(tmp_path: Path) -> None:
    program = """
import os, sys, threading
from agentkit_reporting.log.write import LogWriter
from agentkit_reporting.records.store import RecordStore
writer = LogWriter(sys.argv[1])
writer.write(b"parent")
held, done = threading.Event(), threading.Event()
def hold():
    with writer._lock:
        held.set(); done.wait()
thread = threading.Thread(target=hold); thread.start(); held.wait()
child = os.fork()
if child == 0:
    writer.write(b"child"); writer.close(); os._exit(0)
os.waitpid(child, 0)
done.set(); thread.join()
writer.write(b"parent again")
"""
    path = tmp_path / "a.jsonl"
    subprocess.run([*RUN, program, str(path)], check=True, timeout=30)
    assert path.read_bytes() == b"parent\nchild\nparent again\n"


def test_threads_that_close_while_others_write_meet_no_foreign_descriptor(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "a.jsonl")
    refused = threading.Event()

    def write() -> None:
        while not refused.is_set():
            try:
                writer.write(b"line")
            except LogError:
                refused.set()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    writer.close()
    for thread in threads:
        thread.join()
    content = writer.path.read_bytes() if writer.path.exists() else b""
    assert content == b"line\n" * writer.lines


# --- fsync


def test_every_line_is_synced_when_asked(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "a.jsonl", fsync="always") as writer:
        for _ in range(3):
            writer.write(b"one")
        writer.flush()
    assert writer.syncs == 3


def test_no_line_is_synced_when_not_wanted(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "a.jsonl", fsync="never") as writer:
        writer.write(b"one")
        writer.flush()
    assert writer.syncs == 0


def test_lines_are_synced_once_the_oldest_has_waited_its_time(tmp_path: Path) -> None:
    clock = HandClock()
    with LogWriter(tmp_path / "a.jsonl", fsync_interval_ms=500, clock=clock) as writer:
        writer.write(b"one")
        clock.seconds += 0.4
        writer.write(b"two")
        assert writer.syncs == 0
        clock.seconds += 0.2
        writer.write(b"three")
        assert writer.syncs == 1
        clock.seconds += 60
        writer.write(b"four")  # the first of a new group
        assert writer.syncs == 1
        writer.flush()
        assert writer.syncs == 2
        writer.flush()  # nothing waits
        assert writer.syncs == 2
        writer.write(b"five")
    assert writer.syncs == 3


def test_what_is_no_file_is_not_synced() -> None:
    with LogWriter(os.devnull, fsync="always") as writer:
        writer.write(b"one")
    assert (writer.lines, writer.syncs) == (1, 0)


@pytest.mark.parametrize("fsync", ["", "sometimes", None])
def test_an_unknown_sync_policy_is_refused(tmp_path: Path, fsync: Any) -> None:
    with pytest.raises(ConfigurationError, match="use one of never, interval, always"):
        LogWriter(tmp_path / "a", fsync=fsync)


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf")])
def test_an_impossible_interval_is_refused(tmp_path: Path, interval: float) -> None:
    with pytest.raises(ConfigurationError, match="milliseconds above 0"):
        LogWriter(tmp_path / "a", fsync_interval_ms=interval)


# --- streams


class Sip(io.RawIOBase):
    """A raw stream that takes seven bytes at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, rest: Any) -> int:
        self.taken += bytes(rest[:7])
        return min(7, len(rest))


class Stuck(Sip):
    """A raw stream that would block."""

    def write(self, rest: Any) -> None:  # type: ignore[override] # what a raw stream may return
        del rest


class Plain:
    """The least that counts as a stream."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.calls.append(line)


def test_a_stream_that_takes_pieces_gets_the_whole_line() -> None:
    stream = Sip()
    writer = StreamWriter(stream)
    writer.write(b"a line of some length")
    assert stream.taken == b"a line of some length\n"
    assert (writer.lines, writer.short_writes) == (1, 3)


def test_a_stream_that_would_block_is_told_and_the_line_is_closed() -> None:
    stream = Stuck()
    writer = StreamWriter(stream)
    with pytest.raises(LogError, match="temporarily unavailable"):
        writer.write(b"one")
    assert writer.lines == 0


def test_memory_and_plain_objects_are_streams() -> None:
    text, binary, plain = io.StringIO(), io.BytesIO(), Plain()
    for stream in (text, binary, plain):
        StreamWriter(stream).write("ä".encode())
    assert (text.getvalue(), binary.getvalue(), plain.calls) == ("ä\n", b"\xc3\xa4\n", [b"\xc3\xa4\n"])


@pytest.mark.parametrize("options", [{"mode": "w", "encoding": "ascii"}, {"mode": "wb"}])
def test_lines_stand_behind_what_an_open_file_held_back(tmp_path: Path, options: dict[str, Any]) -> None:
    with (tmp_path / "a").open(**options) as file:
        file.write(b"before " if "b" in options["mode"] else "before ")
        writer = StreamWriter(file)
        writer.write("ä".encode())
        assert (tmp_path / "a").read_bytes() == b"before \xc3\xa4\n"
        writer.flush()
        assert writer.syncs == 1
        writer.close()
        writer.close()
        assert not file.closed
        with pytest.raises(LogError, match="writer is closed"):
            writer.write(b"late")


def test_a_stream_that_was_closed_meanwhile_is_told() -> None:
    stream = io.BytesIO()
    writer = StreamWriter(stream)
    stream.close()
    with pytest.raises(LogError, match="closed"):
        writer.write(b"one")
    writer.flush()
    writer.close()


def test_what_is_no_open_stream_is_refused(tmp_path: Path) -> None:
    closed = io.BytesIO()
    closed.close()
    (tmp_path / "a").touch()
    with (tmp_path / "a").open("rb") as reading:
        for stream in (closed, reading, None, 5):
            with pytest.raises(LogError, match="no open stream for writing"):
                StreamWriter(stream)


def test_a_reader_that_went_away_is_told_each_time_and_leaves_nothing_for_the_exit() -> None:
    program = """
import sys
from agentkit_loop.errors import LogError
from agentkit_reporting.log.stream import StreamWriter
writer = StreamWriter(sys.stdout)
sys.stdin.readline()
told = []
for _ in range(100):
    try:
        writer.write(b"x" * 10_000)
    except LogError as error:
        told.append(str(error))
writer.flush()
writer.close()
sys.stderr.write(f"{len(told)} {set(told)}")
"""
    child = subprocess.Popen(
        [*RUN, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, told = child.communicate(b"go\n", timeout=30)
    assert child.returncode == 0
    assert told == b"100 {'<stdout>: line could not be written: broken pipe'}"


def test_policies_are_the_documented_ones(tmp_path: Path) -> None:
    policies: tuple[FsyncPolicy, ...] = ("never", "interval", "always")
    for policy in policies:
        with LogWriter(tmp_path / "a.jsonl", fsync=policy) as writer:
            writer.write(b"")
    assert list(read_events(tmp_path)) == []


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_the_name_of_a_packed_file_is_refused_since_lines_are_plain(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(LogError, match=f"lines are written plain; leave away '{suffix}'"):
        LogWriter(tmp_path / f"run.jsonl{suffix}")
